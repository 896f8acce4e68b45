//! Store: a log-structured store of chunks, as far as cleaning sees one.
//!
//! Each chunk has an address, `segment * segment_chunks + index`. A write goes to the end of the open segment of its class and makes
//! the address before it dead. The cleaner copies chunk by chunk, as many after each write as [`Pacing`] says.
//!
//! Invariants: 1. A segment's live count is the number of chunks whose address is in it. 2. Every sealed segment but the victim
//! is a candidate.

use std::fmt;

use super::{CHUNK_BYTES, Geometry, Measured, Plan};
use crate::pacing::Needs;
use crate::{Candidates, Class, Classes, Clock, Facts, Levels, Pacing, Work};

const NOWHERE: u32 = u32::MAX;

/// Neither a free segment nor one that cleaning would gain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full {
    /// Segments in all.
    pub segments: usize,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no free segment of {} is left: too few for the open segments and the reserve",
            self.segments
        )
    }
}

impl std::error::Error for Full {}

#[derive(Clone, Copy, Debug)]
struct Segment {
    live: u32,
    written: u32,
    placed: Clock,
    class: Class,
}

impl Segment {
    fn facts(&self) -> Facts {
        Facts {
            live: u64::from(self.live) * CHUNK_BYTES,
            written: u64::from(self.written) * CHUNK_BYTES,
            placed: self.placed,
            class: self.class,
        }
    }
}

/// The victim that is being cleaned.
#[derive(Clone, Copy, Debug)]
struct Victim {
    segment: u32,
    /// The next of its chunks to look at.
    next: u32,
    to: Class,
}

/// See the module.
#[derive(Debug)]
pub struct Store {
    plan: Plan,
    segment_chunks: u32,
    /// By chunk.
    addresses: Vec<u32>,
    /// By address, the chunk that was written there.
    contents: Vec<u32>,
    segments: Vec<Segment>,
    free: Vec<u32>,
    /// By class: user data, cold user data, groups.
    open: Vec<Option<u32>>,
    candidates: Candidates,
    classes: Classes,
    pacing: Pacing,
    victim: Option<Victim>,
    written: u64,
    copied: u64,
    measuring: Option<Measuring>,
}

#[derive(Clone, Copy, Debug)]
struct Measuring {
    written: u64,
    copied: u64,
    window: (u64, u64),
    worst: u64,
    free_min: usize,
}

impl Store {
    /// An empty one.
    #[expect(clippy::cast_possible_truncation, reason = "addresses are u32, which is checked")]
    pub fn new(geometry: Geometry, plan: Plan, classes: Classes, seed: u64) -> Self {
        let segments = geometry.segments();
        let chunks = segments * geometry.segment_chunks;
        assert!(chunks < NOWHERE as usize, "addresses have 32 bits");
        assert!(geometry.chunks <= chunks, "the data fits");
        let segment_bytes = geometry.segment_chunks as u64 * CHUNK_BYTES;
        // What is left of the cleaner's open segments is not free to users; one more, so that there is always one to open.
        let reserve = (u64::from(classes.groups()) + u64::from(plan.separates_writes) + 1) * segment_bytes;
        let empty = Segment { live: 0, written: 0, placed: Clock(0), class: Class::Fresh };
        Self {
            plan,
            segment_chunks: geometry.segment_chunks as u32,
            addresses: vec![NOWHERE; geometry.chunks],
            contents: vec![NOWHERE; chunks],
            segments: vec![empty; segments],
            free: (0..segments as u32).rev().collect(),
            open: vec![None; 2 + usize::from(classes.groups())],
            candidates: Candidates::with_seed(seed),
            classes,
            pacing: Pacing::new(Levels::of(segments as u64, segment_bytes, reserve), segment_bytes),
            victim: None,
            written: 0,
            copied: 0,
            measuring: None,
        }
    }

    fn clock(&self) -> Clock {
        Clock(self.written * CHUNK_BYTES)
    }

    /// A user writes a chunk; then the cleaner does what that pays for.
    pub fn write(&mut self, chunk: usize) -> Result<(), Full> {
        self.written += 1;
        let before = self.addresses[chunk];
        let mut class = Class::Fresh;
        if before != NOWHERE {
            let index = before / self.segment_chunks;
            let segment = &mut self.segments[index as usize];
            let facts = segment.facts();
            segment.live -= 1;
            // Counts free an empty segment without the cleaner.
            if segment.live == 0 && self.candidates.remove(index) {
                self.free.push(index);
            }
            if self.plan.separates_writes {
                class = self.classes.of_user_write(Some(&facts), self.clock());
            }
        }
        self.place(chunk, class)?;
        self.pacing.after_write(CHUNK_BYTES, &Needs { free: self.free_bytes(), ..Needs::default() });
        self.work()?;
        self.note();
        Ok(())
    }

    /// Bytes of free segments and what is left of open ones.
    fn free_bytes(&self) -> u64 {
        let left = |open: &u32| u64::from(self.segment_chunks - self.segments[*open as usize].written);
        let open: u64 = self.open.iter().flatten().map(left).sum();
        (self.free.len() as u64 * u64::from(self.segment_chunks) + open) * CHUNK_BYTES
    }

    #[expect(clippy::cast_possible_truncation, reason = "chunks have 32 bits")]
    fn place(&mut self, chunk: usize, class: Class) -> Result<(), Full> {
        let stream = match class {
            Class::Fresh => 0,
            Class::FreshCold => 1,
            Class::Relocated(group) => 2 + usize::from(group),
        };
        let clock = self.clock();
        let open = if let Some(open) = self.open[stream] {
            open
        } else {
            let open = self.free.pop().ok_or(Full { segments: self.segments.len() })?;
            self.segments[open as usize] = Segment { live: 0, written: 0, placed: clock, class };
            self.open[stream] = Some(open);
            open
        };
        let segment = &mut self.segments[open as usize];
        let address = open * self.segment_chunks + segment.written;
        self.contents[address as usize] = chunk as u32;
        self.addresses[chunk] = address;
        segment.live += 1;
        segment.written += 1;
        if segment.written == self.segment_chunks {
            segment.placed = Clock(u64::midpoint(segment.placed.0, clock.0));
            self.open[stream] = None;
            self.candidates.insert(open);
        }
        Ok(())
    }

    /// Copies what the debt asks for, in whole chunks.
    fn work(&mut self) -> Result<(), Full> {
        while let Some((Work::Clean, bytes)) = self.pacing.next(|work| work == Work::Clean) {
            if bytes < CHUNK_BYTES {
                break;
            }
            let Some(victim) = self.victim.or_else(|| self.choose()) else {
                self.pacing.cancel(Work::Clean);
                break;
            };
            self.step(victim)?;
        }
        Ok(())
    }

    fn choose(&mut self) -> Option<Victim> {
        let clock = self.clock();
        let segments = &self.segments;
        let facts = |segment: u32| segments[segment as usize].facts();
        let choice = self.candidates.choose(self.plan.victims.policy(), clock, facts)?;
        self.candidates.remove(choice.segment);
        self.classes.note_victim(&choice.facts, clock);
        self.pacing.begin_victim(&choice.facts);
        Some(Victim { segment: choice.segment, next: 0, to: self.classes.class_for(choice.facts.class) })
    }

    /// Copies the next live chunk of a victim, or frees it.
    fn step(&mut self, mut victim: Victim) -> Result<(), Full> {
        while victim.next < self.segment_chunks {
            let address = victim.segment * self.segment_chunks + victim.next;
            victim.next += 1;
            let chunk = self.contents[address as usize] as usize;
            if self.addresses[chunk] == address {
                self.segments[victim.segment as usize].live -= 1;
                self.copied += 1;
                self.place(chunk, victim.to)?;
                self.pacing.paid(Work::Clean, CHUNK_BYTES);
                self.victim = Some(victim);
                return Ok(());
            }
        }
        assert_eq!(self.segments[victim.segment as usize].live, 0, "all that is live was copied");
        self.free.push(victim.segment);
        self.victim = None;
        self.pacing.end_victim();
        Ok(())
    }

    /// The steady state is reached.
    pub fn begin_measuring(&mut self) {
        self.measuring = Some(Measuring {
            written: self.written,
            copied: self.copied,
            window: (self.written, self.copied),
            worst: 0,
            free_min: self.free.len(),
        });
    }

    fn note(&mut self) {
        let Some(measuring) = &mut self.measuring else { return };
        measuring.free_min = measuring.free_min.min(self.free.len());
        if self.written - measuring.window.0 == u64::from(self.segment_chunks) {
            measuring.worst = measuring.worst.max(self.copied - measuring.window.1);
            measuring.window = (self.written, self.copied);
        }
    }

    /// What was seen since measuring began.
    #[expect(clippy::cast_precision_loss, reason = "ratios")]
    pub fn measured(&self) -> Measured {
        let since = self.measuring.map_or((0, 0), |measuring| (measuring.written, measuring.copied));
        let written = (self.written - since.0).max(1) as f64;
        Measured {
            write_amplification: 1.0 + (self.copied - since.1) as f64 / written,
            copies_worst: self.measuring.map_or(0, |measuring| measuring.worst) as f64
                / f64::from(self.segment_chunks),
            free_min: self.measuring.map_or(self.free.len(), |measuring| measuring.free_min),
        }
    }
}
