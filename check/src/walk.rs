//! Walk: from the slots of each shard over its log and its trees to the segments that all of it lies in.
//!
//! Per shard: the newest slot's body and the log from its P give collections, rows, counts. The rows are walked; what they
//! add up to must be what is counted. Then the same once more from the older slot alone, if that is another: either slot
//! must open the store (rule C3), to the same rows if its log ends in the same record. At last the segments, for all
//! shards together, in as many ranges as the memory asks for ([`Things`]).
//!
//! What depends on something that could not be read is not compared: a shard whose log is damaged is not walked, sums
//! of a collection with a node or row that is not sound are not compared, nor are live bytes of its shard.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};

use seabed_journal::{CollectionId, Roots, Tally};
use seabed_segment::{Listed, ListedWhat};
use seabed_types::{Crc, Incarnation, Lsn, Paddr, SegmentId, ShardId, Term};

use crate::collection;
use crate::front::{self, Base, Front};
use crate::image::Source;
use crate::log::{self, Claim, Log};
use crate::report::{CollectionReport, Counts, Findings, Report, ShardReport};
use crate::segments::Segments;
use crate::things::{Thing, Things, What};
use crate::{CheckError, Image, Options, Phase, Progress, Violation};

/// What the walk of a shard's rows reads with and adds to.
pub(crate) struct Pass<'a> {
    pub(crate) source: &'a Source<'a>,
    pub(crate) findings: &'a mut Findings,
    pub(crate) counts: &'a mut Counts,
    pub(crate) things: &'a mut Things,
    /// Whether pieces are read and verified.
    pub(crate) verify_data: bool,
    /// Images that were visited.
    pub(crate) nodes: BTreeSet<Paddr>,
    /// Live bytes that were found, by segment.
    pub(crate) live: BTreeMap<SegmentId, i64>,
    /// Live things by their segment, as an inventory lists them, of the segments that were asked for.
    pub(crate) lists: BTreeMap<SegmentId, Vec<Listed>>,
    /// Of all rows.
    pub(crate) digest: DefaultHasher,
    pub(crate) progress: &'a mut dyn FnMut(&Progress),
}

impl Pass<'_> {
    /// Lists a live thing, if its segment's are asked for.
    pub(crate) fn list(&mut self, at: Paddr, bytes: u32, what: impl FnOnce() -> ListedWhat) {
        if let Some(list) = self.lists.get_mut(&at.segment) {
            list.push(Listed { offset: at.offset, bytes, what: what() });
        }
    }

    pub(crate) fn report_progress(&mut self) {
        (self.progress)(&Progress { phase: Phase::Rows, done: self.counts.rows, of: None });
    }
}

/// A collection as checkpoint and log name it.
#[derive(Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) id: CollectionId,
    pub(crate) term: Term,
    pub(crate) next_id: u64,
    pub(crate) tally: Tally,
    pub(crate) roots: Roots,
}

/// What the rows of a shard came to.
struct Walked {
    digest: u64,
    /// Where the log ended: lsn and chain.
    end: (Lsn, Crc),
    collections: Vec<CollectionReport>,
    /// Whether all rows could be read.
    is_whole: bool,
}

/// Checks an image.
pub(crate) fn check(
    image: &dyn Image,
    options: &Options,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Report, CheckError> {
    let mut findings = Findings::new(options.findings_max);
    let superblock = front::superblock(image, &mut findings)?;
    let layout = superblock.layout;
    let source = Source::of(image, &superblock);
    let things = Things::new(layout.first_segment(), options.memory_bytes);
    let mut check = Check {
        source: &source,
        options,
        findings,
        counts: Counts::default(),
        things,
        claims: BTreeMap::new(),
        windows: BTreeMap::new(),
        shards: Vec::new(),
        collections: Vec::new(),
        logs: Vec::new(),
    };
    for shard in (0..layout.shards).map(ShardId) {
        check.shard(shard, progress);
    }
    check.overlapping_collections();
    check.segments(progress);
    let Check { findings, counts, shards, collections, .. } = check;
    let Findings { violations, violations_left_out, notes, notes_left_out, .. } = findings;
    Ok(Report {
        superblock,
        violations,
        violations_left_out,
        notes,
        notes_left_out,
        counts,
        shards,
        collections,
    })
}

/// A check that goes on.
struct Check<'a> {
    source: &'a Source<'a>,
    options: &'a Options,
    findings: Findings,
    counts: Counts,
    things: Things,
    claims: BTreeMap<SegmentId, Claim>,
    windows: BTreeMap<SegmentId, Incarnation>,
    shards: Vec<ShardReport>,
    collections: Vec<CollectionReport>,
    /// For walking the rows again.
    logs: Vec<(Front, Log)>,
}

impl Check<'_> {
    fn shard(&mut self, shard: ShardId, progress: &mut dyn FnMut(&Progress)) {
        let front = front::front(self.source, shard, &mut self.findings, &mut self.counts);
        let Some(base) = &front.base else { return };
        progress(&Progress {
            phase: Phase::Journal,
            done: u64::from(shard.0),
            of: Some(u64::from(self.source.layout.shards)),
        });
        let log = log::read(self.source, base, &mut self.findings, &mut self.counts);
        self.claim(&log);
        let is_damaged = log.is_damaged;
        self.shards.push(ShardReport {
            shard,
            slot: base.which,
            epoch: base.epoch,
            start: base.body.start,
            checkpoint: base.body.end,
            end: log.end,
            end_at: log.end_at,
            torn: log.torn,
            whole: !is_damaged,
        });
        put_parts(&mut self.things, &front);
        if is_damaged {
            return;
        }
        let mut pass = Pass {
            source: self.source,
            findings: &mut self.findings,
            counts: &mut self.counts,
            things: &mut self.things,
            verify_data: self.options.data,
            nodes: BTreeSet::new(),
            live: BTreeMap::new(),
            lists: BTreeMap::new(),
            digest: DefaultHasher::new(),
            progress,
        };
        let walked = walk(&mut pass, base, &log);
        self.collections.extend(&walked.collections);
        if self.options.older_slots {
            self.older(&front, &walked);
        }
        self.logs.push((front, log));
    }

    fn claim(&mut self, log: &Log) {
        for (segment, claim) in &log.claims {
            let known = self.claims.entry(*segment).or_insert(*claim);
            if known.incarnation < claim.incarnation {
                *known = *claim;
            }
        }
        self.windows.extend(&log.segments);
    }

    /// Walks the shard once more, from its older slot.
    fn older(&mut self, front: &Front, newer: &Walked) {
        let Some(base) = &front.older else { return };
        let mut findings = Findings::new(self.options.findings_max);
        let mut counts = Counts::default();
        let log = log::read(self.source, base, &mut findings, &mut counts);
        if !log.is_damaged {
            let mut things = Things::new(SegmentId(u32::MAX), 0);
            let mut pass = Pass {
                source: self.source,
                findings: &mut findings,
                counts: &mut counts,
                things: &mut things,
                verify_data: false,
                nodes: BTreeSet::new(),
                live: BTreeMap::new(),
                lists: BTreeMap::new(),
                digest: DefaultHasher::new(),
                progress: &mut |_| {},
            };
            let walked = walk(&mut pass, base, &log);
            let both = walked.is_whole && newer.is_whole && walked.end == newer.end;
            if both && walked.digest != newer.digest {
                self.findings.violation(Violation::SlotsDisagree { shard: base.shard });
            }
        }
        for violation in findings.violations {
            if !self.findings.violations.contains(&violation) {
                let violation = Box::new(violation);
                self.findings.violation(Violation::OlderSlot { which: base.which, violation });
            }
        }
        // The segments that it needs may not be reused either.
        for (segment, incarnation) in log.segments {
            self.windows.entry(segment).or_insert(incarnation);
        }
    }

    fn overlapping_collections(&mut self) {
        let mut ids: Vec<CollectionId> = self.collections.iter().map(|report| report.collection).collect();
        ids.sort_unstable();
        for pair in ids.windows(2) {
            let [first, second] = *pair else { continue };
            if first.pool == second.pool && (first.covers(second.prefix) || second.covers(first.prefix)) {
                self.findings.violation(Violation::CollectionsOverlap { first, second });
            }
        }
    }

    fn segments(&mut self, progress: &mut dyn FnMut(&Progress)) {
        // Of a segment that nobody names there is nothing to say, and an image may claim to have very many.
        let mut done = 0;
        loop {
            let claimed = self.claims.keys().copied().filter(|segment| self.things.covers(*segment));
            let named: BTreeSet<SegmentId> = claimed.chain(self.things.segments()).collect();
            for segment in named {
                let segments = Segments {
                    source: self.source,
                    claims: &self.claims,
                    windows: &self.windows,
                    scan_records: self.options.records,
                };
                let things = self.things.take(segment);
                segments.check(segment, &things, &mut self.findings, &mut self.counts.segments);
                done += 1;
                let of = Some(self.claims.len() as u64);
                progress(&Progress { phase: Phase::Segments, done, of });
            }
            let Some(things) = self.things.next() else { break };
            self.things = things;
            self.list_again();
        }
        let claimed = self.claims.keys().filter(|segment| self.source.layout.has_segment(**segment)).count();
        self.counts.segments.unclaimed = self.source.layout.segment_count() - claimed as u64;
    }

    /// Walks all rows again, for the things of the next range of segments.
    fn list_again(&mut self) {
        let (mut findings, mut counts) = (Findings::new(0), Counts::default());
        for (front, log) in &self.logs {
            put_parts(&mut self.things, front);
            let Some(base) = &front.base else { continue };
            let mut pass = Pass {
                source: self.source,
                findings: &mut findings,
                counts: &mut counts,
                things: &mut self.things,
                verify_data: false,
                nodes: BTreeSet::new(),
                live: BTreeMap::new(),
                lists: BTreeMap::new(),
                digest: DefaultHasher::new(),
                progress: &mut |_| {},
            };
            walk(&mut pass, base, log);
        }
    }
}

/// What lives in these segments by the rows and roots of a shard, as inventories list it.
pub(crate) fn live_lists(
    source: &Source<'_>,
    base: &Base,
    log: &Log,
    segments: impl IntoIterator<Item = SegmentId>,
) -> BTreeMap<SegmentId, Vec<Listed>> {
    let (mut findings, mut counts) = (Findings::new(0), Counts::default());
    let mut pass = Pass {
        source,
        findings: &mut findings,
        counts: &mut counts,
        things: &mut Things::new(SegmentId(u32::MAX), 0),
        verify_data: false,
        nodes: BTreeSet::new(),
        live: BTreeMap::new(),
        lists: segments.into_iter().map(|segment| (segment, Vec::new())).collect(),
        digest: DefaultHasher::new(),
        progress: &mut |_| {},
    };
    walk(&mut pass, base, log);
    pass.lists
}

fn put_parts(things: &mut Things, front: &Front) {
    for (part, end, index) in &front.parts {
        let index = u32::try_from(*index).unwrap_or(u32::MAX);
        let thing = Thing { offset: part.at.offset, bytes: part.bytes, what: What::Body(*end, index) };
        things.put(part.at.segment, thing);
    }
}

/// Walks the rows of a shard and compares what they add up to with what is counted.
fn walk(pass: &mut Pass<'_>, base: &Base, log: &Log) -> Walked {
    let mut collections = Vec::new();
    for counted in counted(base, log) {
        pass.report_progress();
        let sum = collection::walk(pass, counted.id, counted.next_id, &counted.roots, log);
        if sum.is_whole && sum.usage != counted.tally {
            let (collection, counted, found) = (counted.id, counted.tally, sum.usage);
            pass.findings.violation(Violation::Tally { collection, counted, found });
        }
        collections.push(CollectionReport {
            collection: counted.id,
            shard: base.shard,
            term: counted.term,
            next_id: counted.next_id,
            usage: sum.usage,
            whole: sum.is_whole,
        });
    }
    let is_whole = collections.iter().all(|collection| collection.whole) && !log.lacks_deltas;
    if is_whole {
        compare_live(pass, base, log);
    }
    Walked { digest: pass.digest.finish(), end: (log.end, log.end_previous), collections, is_whole }
}

/// The collections of the checkpoint and those that came since, with all that was counted since.
pub(crate) fn counted(base: &Base, log: &Log) -> Vec<Counted> {
    let old = base.body.collections.iter().map(|state| Counted {
        id: state.id,
        term: state.term,
        next_id: state.next_id,
        tally: state.tally,
        roots: state.roots,
    });
    let born = log.born.iter().map(|(id, term)| Counted {
        id: *id,
        term: *term,
        next_id: 1,
        tally: Tally::default(),
        roots: Roots::default(),
    });
    let mut all: Vec<Counted> = old.chain(born).collect();
    for collection in &mut all {
        if let Some((next_id, change)) = log.tallies.get(&collection.id) {
            collection.next_id = collection.next_id.max(*next_id);
            collection.tally.add(change);
        }
    }
    all
}

fn compare_live(pass: &mut Pass<'_>, base: &Base, log: &Log) {
    let mut counted: BTreeMap<SegmentId, i64> =
        base.body.segments.iter().map(|state| (state.segment, state.live)).collect();
    for (segment, change) in &log.live {
        let live = counted.entry(*segment).or_default();
        *live = live.wrapping_add(*change);
    }
    let found = std::mem::take(&mut pass.live);
    let segments: BTreeSet<SegmentId> = counted.keys().chain(found.keys()).copied().collect();
    for segment in segments {
        let of = |live: &BTreeMap<SegmentId, i64>| live.get(&segment).copied().unwrap_or_default();
        let (counted, found) = (of(&counted), of(&found));
        if counted != found {
            pass.findings.violation(Violation::Live { shard: base.shard, segment, counted, found });
        }
    }
}
