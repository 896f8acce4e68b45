//! Frontier: what is durable at one moment, what is not yet, and hence which disks a power cut may leave.
//!
//! Each write that is neither covered by a completed flush nor itself durable is *uncovered*. A power cut leaves, sector
//! by sector, any of the contents that the sector had since its durable one, or garbage: the uncovered writes are laid
//! over the durable state in the order of their issue, each with some of its sectors (writes that overlap are never in
//! flight together, so among them the order of issue is the order in which they happened). A later durable content
//! hides earlier uncovered ones for good.
//!
//! The live disk keeps a frontier, and a walk through a trace makes the same one again, event by event.
//!
//! Invariants: 1. Uncovered writes are in the order of issue. 2. An uncovered write has at least one sector left.
//! Cost: an event O(uncovered), an image O(uncovered blocks) plus a clone of the durable state.

use std::collections::BTreeMap;
use std::rc::Rc;

use seabed_types::BLOCK_BYTES;

use super::blocks::{ALL_SECTORS, Block, Blocks, SECTOR_BYTES, block_index};
use super::fault::Cache;
use super::image::{DiskImage, offset_in_block};
use super::trace::{Event, FlushEnd, Sectors};

/// How a power cut chooses among what it may leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrashMode {
    /// Only what is durable.
    Durable,
    /// Every uncovered write is there, those in flight too.
    Everything,
    /// Every completed write is there and none in flight.
    Completed,
    /// Each write is there as a whole or not at all.
    Writes,
    /// Some writes are torn: each of their sectors is there or not.
    Sectors,
    /// As `Sectors`, and some sectors are garbage.
    Garbage,
}

impl CrashMode {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Durable, Self::Everything, Self::Completed, Self::Writes, Self::Sectors, Self::Garbage];

    /// Any of those that choose at random.
    pub fn random(rng: &mut fastrand::Rng) -> Self {
        [Self::Writes, Self::Sectors, Self::Garbage][rng.usize(..3)]
    }
}

/// How many crash states to make at one boundary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CrashPlan {
    /// Up to this many uncovered writes every subset of them is made.
    pub subsets_of_writes_max: usize,
    /// So many random states besides.
    pub random: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    InFlight,
    /// Completed as number .. of all completions.
    Completed(u64),
    /// A failed flush gave it up: visible, but no flush covers it.
    GivenUp,
}

/// A write that a power cut may take.
#[derive(Clone)]
pub(super) struct Uncovered {
    id: u64,
    first_block: u64,
    blocks: Rc<[Rc<Block>]>,
    sectors: Sectors,
    stage: Stage,
}

impl Uncovered {
    /// Calls with each block and those of its sectors that count.
    pub(super) fn each(&self, mut call: impl FnMut(u64, &Rc<Block>, u8)) {
        for (place, (index, block)) in (self.first_block..).zip(self.blocks.iter()).enumerate() {
            let mask = self.sectors.as_ref().map_or(ALL_SECTORS, |sectors| sectors[place]);
            if mask != 0 {
                call(index, block, mask);
            }
        }
    }

    fn lay_over(&self, blocks: &mut Blocks) {
        self.each(|index, block, mask| blocks.set_sectors(index, block, mask));
    }

    fn has_sectors(&self) -> bool {
        self.sectors.as_ref().is_none_or(|sectors| sectors.iter().any(|mask| *mask != 0))
    }

    fn keep(&mut self, landed: &Sectors) {
        let Some(landed) = landed else { return };
        let old = self.sectors.take();
        let keep = |(place, mask): (usize, &u8)| mask & old.as_ref().map_or(ALL_SECTORS, |old| old[place]);
        self.sectors = Some(landed.iter().enumerate().map(keep).collect());
    }

    fn overlaps(&self, first_block: u64, count: u64) -> bool {
        first_block < self.first_block + self.blocks.len() as u64 && self.first_block < first_block + count
    }

    /// Gives up the sectors that `newer` has.
    fn hide_under(&mut self, newer: &Self) {
        if !self.overlaps(newer.first_block, newer.blocks.len() as u64) {
            return;
        }
        let mut masks: Vec<u8> = match &self.sectors {
            Some(sectors) => sectors.to_vec(),
            None => vec![ALL_SECTORS; self.blocks.len()],
        };
        newer.each(|index, _, mask| {
            let place = index.checked_sub(self.first_block).and_then(|place| usize::try_from(place).ok());
            if let Some(mine) = place.and_then(|place| masks.get_mut(place)) {
                *mine &= !mask;
            }
        });
        self.sectors = Some(masks.into());
    }
}

/// See the module.
#[derive(Clone)]
pub struct Frontier {
    bytes: u64,
    durable: Blocks,
    uncovered: Vec<Uncovered>,
    /// Flushes in flight, and how many completions each of them covers.
    flushes: BTreeMap<u64, u64>,
    completions: u64,
}

impl Frontier {
    pub(super) fn new(base: &DiskImage) -> Self {
        Self {
            bytes: base.bytes,
            durable: base.durable.clone(),
            uncovered: base.cached.clone(),
            flushes: BTreeMap::new(),
            completions: 0,
        }
    }

    /// How many writes are uncovered, those in flight among them.
    pub fn uncovered_count(&self) -> usize {
        self.uncovered.len()
    }

    /// Whether a power cut now would leave all of these bytes as they are: nothing uncovered touches them.
    pub fn is_durable(&self, at: u64, bytes: u64) -> bool {
        let (first, end) = (block_index(at), block_index((at + bytes).next_multiple_of(BLOCK_BYTES as u64)));
        !self.uncovered.iter().any(|write| write.overlaps(first, end - first))
    }

    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::Change { id, first_block, blocks, sectors, .. } => {
                let (id, first_block, blocks, sectors) =
                    (*id, *first_block, Rc::clone(blocks), sectors.clone());
                let write = Uncovered { id, first_block, blocks, sectors, stage: Stage::InFlight };
                self.uncovered.extend(Some(write).filter(Uncovered::has_sectors));
            }
            Event::Changed { id, landed, durable, .. } => self.complete(*id, landed, *durable),
            Event::Flush { id } => {
                self.flushes.insert(*id, self.completions);
            }
            Event::Flushed { id, end } => {
                let covered = self.flushes.remove(id).expect("a flush ends after it began");
                self.end_flush(covered, end);
            }
            Event::Flip { at, bit } => self.flip(*at, *bit),
            Event::Read { .. } | Event::ReadDone { .. } | Event::Mark(_) => {}
        }
    }

    fn complete(&mut self, id: u64, landed: &Sectors, durable: bool) {
        self.completions += 1;
        let Some(place) =
            self.uncovered.iter().position(|write| write.id == id && write.stage == Stage::InFlight)
        else {
            return; // lost: it never had any sectors
        };
        self.uncovered[place].stage = Stage::Completed(self.completions);
        self.uncovered[place].keep(landed);
        if durable {
            self.settle(|write| write.id == id);
        }
        self.uncovered.retain(Uncovered::has_sectors);
    }

    fn end_flush(&mut self, completions: u64, end: &FlushEnd) {
        let covered = |write: &Uncovered| matches!(write.stage, Stage::Completed(at) if at <= completions);
        match end {
            FlushEnd::Done => self.settle(covered),
            FlushEnd::Lied | FlushEnd::Failed { cache: Cache::Kept, .. } => {}
            FlushEnd::Failed { cache: Cache::Lost, .. } => {
                let given_up = self.uncovered.iter_mut().filter(|write| covered(write));
                given_up.for_each(|write| write.stage = Stage::GivenUp);
            }
            FlushEnd::Failed { cache: Cache::Reverted, survivors, .. } => {
                let survivors: BTreeMap<u64, &Rc<[u8]>> =
                    survivors.iter().map(|(id, masks)| (*id, masks)).collect();
                for write in &mut self.uncovered {
                    if let Some(masks) = survivors.get(&write.id) {
                        write.keep(&Some(Rc::clone(masks)));
                    }
                }
                self.settle(|write| survivors.contains_key(&write.id));
            }
        }
    }

    /// Makes the chosen writes durable, oldest first; what lies under them is gone.
    fn settle(&mut self, chosen: impl Fn(&Uncovered) -> bool) {
        let mut kept: Vec<Uncovered> = Vec::with_capacity(self.uncovered.len());
        for write in std::mem::take(&mut self.uncovered) {
            if chosen(&write) {
                write.lay_over(&mut self.durable);
                for older in &mut kept {
                    older.hide_under(&write);
                }
            } else {
                kept.push(write);
            }
        }
        kept.retain(Uncovered::has_sectors);
        self.uncovered = kept;
    }

    fn flip(&mut self, at: u64, bit: u8) {
        let (index, offset) = (block_index(at), offset_in_block(at));
        let block = self.durable.get(index).map_or_else(Block::zeros, Rc::clone);
        self.durable.set(index, &block.flipped(offset, bit));
        for write in &mut self.uncovered {
            if write.overlaps(index, 1) && write.stage != Stage::InFlight {
                let place = usize::try_from(index - write.first_block).expect("within its blocks");
                let mut blocks: Vec<Rc<Block>> = write.blocks.to_vec();
                blocks[place] = blocks[place].flipped(offset, bit);
                write.blocks = blocks.into();
            }
        }
    }

    /// The ids and lengths in blocks of the writes that a flush issued as `flush` would cover.
    pub(super) fn covered_by(&self, flush: u64) -> Vec<(u64, usize)> {
        let completions = self.flushes[&flush];
        let covered = self.uncovered.iter().filter(|write| match write.stage {
            Stage::Completed(at) => at <= completions,
            Stage::InFlight | Stage::GivenUp => false,
        });
        covered.map(|write| (write.id, write.blocks.len())).collect()
    }

    /// The uncovered writes that are not in flight, laid over what is durable: what reads see.
    pub(super) fn visible(&self) -> Blocks {
        let mut visible = self.durable.clone();
        self.uncovered
            .iter()
            .filter(|write| write.stage != Stage::InFlight)
            .for_each(|w| w.lay_over(&mut visible));
        visible
    }

    fn image_of(&self, durable: Blocks) -> DiskImage {
        DiskImage { bytes: self.bytes, durable, cached: Vec::new() }
    }

    /// One disk that a power cut here may leave.
    pub fn crash_image(&self, mode: CrashMode, rng: &mut fastrand::Rng) -> DiskImage {
        let mut blocks = self.durable.clone();
        let share = [0.1, 0.5, 0.9][rng.usize(..3)];
        for write in &self.uncovered {
            let whole = match mode {
                CrashMode::Durable => false,
                CrashMode::Everything => true,
                CrashMode::Completed => write.stage != Stage::InFlight,
                CrashMode::Writes => rng.f64() < share,
                CrashMode::Sectors | CrashMode::Garbage => {
                    if rng.u8(..4) < 2 {
                        tear(write, mode, rng, &mut blocks);
                        continue;
                    }
                    rng.f64() < share
                }
            };
            if whole {
                write.lay_over(&mut blocks);
            }
        }
        self.image_of(blocks)
    }

    /// The disk with those uncovered writes, in the order of issue, whose bit is set; for up to 64 of them.
    pub fn subset_image(&self, writes: u64) -> DiskImage {
        let mut blocks = self.durable.clone();
        for (place, write) in self.uncovered.iter().enumerate() {
            if place < 64 && writes & 1 << place != 0 {
                write.lay_over(&mut blocks);
            }
        }
        self.image_of(blocks)
    }

    /// The states of a plan, without duplicates among them: nothing, everything, all that completed, every subset of
    /// the writes while these are few, and random ones.
    pub fn crash_images(&self, plan: CrashPlan, rng: &mut fastrand::Rng) -> Vec<DiskImage> {
        let fixed = [CrashMode::Durable, CrashMode::Everything, CrashMode::Completed];
        let mut images: Vec<DiskImage> = fixed.iter().map(|mode| self.crash_image(*mode, rng)).collect();
        let count = self.uncovered.len();
        if count <= plan.subsets_of_writes_max.min(20) {
            images.extend((0..1 << count).map(|writes| self.subset_image(writes)));
        }
        if count > 0 {
            images.extend((0..plan.random).map(|_| self.crash_image(CrashMode::random(rng), rng)));
        }
        let mut seen = std::collections::BTreeSet::new();
        images.retain(|image| seen.insert(image.hash()));
        images
    }

    /// A disk as a kill of the process leaves it: what completed is in the cache, a write in flight is there, torn or
    /// not there, and everything that no flush covered may still be taken by a power cut.
    pub fn killed_image(&self, rng: &mut fastrand::Rng) -> DiskImage {
        let mut cached = Vec::new();
        for write in &self.uncovered {
            let mut write = write.clone();
            if write.stage == Stage::InFlight {
                match rng.u8(..3) {
                    0 => continue,
                    1 => write.keep(&Some(write.blocks.iter().map(|_| random_sectors(rng)).collect())),
                    _ => {}
                }
                write.stage = Stage::Completed(0);
            }
            if let Stage::Completed(_) = write.stage {
                write.stage = Stage::Completed(0);
            }
            write.id = cached.len() as u64;
            cached.extend(Some(write).filter(Uncovered::has_sectors));
        }
        DiskImage { bytes: self.bytes, durable: self.durable.clone(), cached }
    }
}

/// Lays some sectors of `write` over `blocks`: most blocks as a whole or not at all, as a long write tears in few places.
fn tear(write: &Uncovered, mode: CrashMode, rng: &mut fastrand::Rng, blocks: &mut Blocks) {
    write.each(|index, block, mask| {
        match rng.u8(..4) {
            0 => {}
            1 => blocks.set_sectors(index, block, mask),
            _ => blocks.set_sectors(index, block, mask & random_sectors(rng)),
        }
        if mode == CrashMode::Garbage && rng.u8(..4) == 0 {
            let sector = rng.usize(..BLOCK_BYTES / SECTOR_BYTES);
            let garbage = garbage_over(block, sector, rng);
            blocks.set_sectors(index, &garbage, mask & 1 << sector);
        }
    });
}

/// One sector half written or of random bytes.
fn garbage_over(block: &Block, sector: usize, rng: &mut fastrand::Rng) -> Rc<Block> {
    let mut bytes = *block.bytes();
    let start = if rng.bool() { rng.usize(..SECTOR_BYTES) } else { 0 };
    rng.fill(&mut bytes[sector * SECTOR_BYTES + start..(sector + 1) * SECTOR_BYTES]);
    Block::new(&bytes)
}

/// Any sectors of a block.
pub(super) fn random_sectors(rng: &mut fastrand::Rng) -> u8 {
    rng.u8(..)
}

#[cfg(test)]
mod tests;
