//! Log: the check's own reading of a journal's window, from P to wherever the log ends.
//!
//! Record n is looked for behind record n - 1, else first in the segment that was claimed next; at a cut's lsn at the cut's
//! address. It belongs to the log if header and entries are valid and lsn, chain, incarnation, shard and stream are what
//! they must be, and its epoch is not older than the newest cut's. Where nothing valid stands the log ends, if nothing
//! proves that record n was durable once: no slot whose E or cut lies behind n, no later record of this log in the rest of
//! the segment or in the next claimed one. Else it is damaged. A last record that no slot proves must have sound data.
//!
//! What records say is added up here: deltas by row from P on; live bytes, tallies, claims and new collections from E
//! on (claims before E are in the checkpoint; they are kept too, the higher incarnation holds).
//!
//! Memory: the deltas of the window, one change per delta for patches, the last whole change of each row.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::ops::RangeInclusive;

use seabed_journal::{ChangeRef, CollectionId, DeltaRef, EntryRef, Tally};
use seabed_object::{Change, key};
use seabed_segment::{RecordHeader, SEGMENT_HEADER_BYTES, StreamKind, entries_of};
use seabed_types::{
    BLOCK_BYTES, Crc, Epoch, Incarnation, Lsn, Paddr, PoolId, SegmentId, ShardId, Term, TreeKind,
};

use crate::front::Base;
use crate::image::{Source, Window};
use crate::report::{Counts, Findings};
use crate::violation::RecordFault;
use crate::{Note, Torn, Violation};

/// The changes of rows that a window holds, per row in order, beginning with the last whole one if there is one.
pub(crate) type Pending = BTreeMap<(PoolId, TreeKind), BTreeMap<Vec<u8>, Vec<Change>>>;

/// A use of a segment that the log or a checkpoint names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Claim {
    pub(crate) incarnation: Incarnation,
    pub(crate) stream: StreamKind,
    pub(crate) shard: ShardId,
}

/// What the window says.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) pending: Pending,
    pub(crate) live: BTreeMap<SegmentId, i64>,
    pub(crate) tallies: BTreeMap<CollectionId, (u64, Tally)>,
    pub(crate) born: BTreeMap<CollectionId, Term>,
    pub(crate) claims: BTreeMap<SegmentId, Claim>,
    /// Segments that hold records of the window, or would take the next.
    pub(crate) segments: BTreeMap<SegmentId, Incarnation>,
    pub(crate) end: Lsn,
    pub(crate) end_at: Paddr,
    pub(crate) end_previous: Crc,
    /// The segment that was claimed for what comes then.
    pub(crate) next: Option<(SegmentId, Incarnation)>,
    pub(crate) torn: Option<Torn>,
    /// Acknowledged records are missing: nothing of the rows is known.
    pub(crate) is_damaged: bool,
    /// A delta could not be taken: sums over rows mean nothing.
    pub(crate) lacks_deltas: bool,
}

/// Where record n is expected, and what it must say.
#[derive(Clone, Copy)]
struct Expected {
    lsn: Lsn,
    at: Paddr,
    incarnation: Incarnation,
    previous: Crc,
    epoch: Epoch,
    next: Option<(SegmentId, Incarnation)>,
}

/// A record that is valid but maybe for its data.
struct Candidate {
    header: RecordHeader,
    entries: Vec<u8>,
    data_is_sound: bool,
}

/// Why a place holds no record n.
#[derive(Clone, Copy)]
enum Lacks {
    Unreadable,
    /// Nothing that calls itself record n.
    Other(&'static str),
    /// Record n, not whole.
    Torn(&'static str),
}

impl From<ErrorKind> for Lacks {
    fn from(_: ErrorKind) -> Self {
        Self::Unreadable
    }
}

/// Reads the window of a journal.
pub(crate) fn read(source: &Source<'_>, base: &Base, findings: &mut Findings, counts: &mut Counts) -> Log {
    let mut reader = Reader {
        base,
        source: *source,
        window: Window::new(*source),
        known: base.body.collections.iter().map(|collection| collection.id).collect(),
        log: Log::default(),
        findings,
        counts,
    };
    reader.claims_of_body();
    reader.run();
    reader.log
}

struct Reader<'a, 'b> {
    base: &'b Base,
    source: Source<'a>,
    window: Window<'a>,
    known: BTreeSet<CollectionId>,
    log: Log,
    findings: &'b mut Findings,
    counts: &'b mut Counts,
}

impl Reader<'_, '_> {
    fn claims_of_body(&mut self) {
        let body = &self.base.body;
        let journal = body.journal.iter().map(|segment| (segment.segment, segment.incarnation));
        let journal = journal
            .chain(body.next)
            .map(|(segment, incarnation)| (segment, incarnation, StreamKind::Journal));
        let used =
            body.segments.iter().filter_map(|state| Some((state.segment, state.incarnation, state.stream?)));
        for (segment, incarnation, stream) in used.chain(journal) {
            self.claimed(segment, incarnation, stream);
        }
    }

    fn claimed(&mut self, segment: SegmentId, incarnation: Incarnation, stream: StreamKind) {
        let claim = Claim { incarnation, stream, shard: self.base.shard };
        let known = self.log.claims.entry(segment).or_insert(claim);
        if known.incarnation < incarnation {
            *known = claim;
        }
    }

    fn run(&mut self) {
        let base = self.base;
        let body = &base.body;
        let first = body.journal.first().expect("a body that decodes names a journal segment");
        let second = body.journal.get(1).map(|segment| (segment.segment, segment.incarnation));
        let epoch = base.slot.cuts.iter().filter(|cut| cut.lsn < body.start).map(|cut| cut.epoch).max();
        let mut expected = Expected {
            lsn: body.start,
            at: body.start_at,
            incarnation: first.incarnation,
            previous: body.start_previous,
            epoch: epoch.unwrap_or_default(),
            next: second.or(body.next),
        };
        self.log.segments.insert(first.segment, first.incarnation);
        let mut last: Option<(Candidate, Expected)> = None;
        loop {
            for cut in base.slot.cuts.iter().filter(|cut| cut.lsn == expected.lsn) {
                expected.epoch = cut.epoch;
                if cut.at != expected.at {
                    (expected.at, expected.incarnation, expected.next) = (cut.at, cut.incarnation, None);
                    // The head of a mount in place is claimed by the slots, after all that the records before claim: a cut proves
                    // those.
                    if let Some((before, _)) = last.take() {
                        self.take(&before);
                    }
                    self.claimed(cut.at.segment, cut.incarnation, StreamKind::Journal);
                }
            }
            self.log.segments.insert(expected.at.segment, expected.incarnation);
            match self.find(expected) {
                Ok(candidate) => {
                    if let Some((before, _)) = last.take() {
                        self.take(&before);
                    }
                    let follows = self.behind(&candidate, expected);
                    last = Some((candidate, expected));
                    expected = follows;
                }
                Err(lacks) => {
                    self.end(expected, lacks, last);
                    return;
                }
            }
        }
    }

    /// Record n, behind the last one or first in the next segment.
    fn find(&mut self, expected: Expected) -> Result<Candidate, Lacks> {
        let here = self.candidate(expected, expected.at, expected.incarnation);
        let (Err(Lacks::Other(_) | Lacks::Torn(_)), Some((segment, incarnation))) = (&here, expected.next)
        else {
            return here;
        };
        match self.candidate(expected, Paddr::new(segment, SEGMENT_HEADER_BYTES), incarnation) {
            Err(Lacks::Other(_) | Lacks::Torn(_)) => here,
            next => next,
        }
    }

    fn candidate(
        &mut self,
        expected: Expected,
        at: Paddr,
        incarnation: Incarnation,
    ) -> Result<Candidate, Lacks> {
        let layout = self.source.layout;
        if !layout.contains(at, BLOCK_BYTES as u64) {
            return Err(Lacks::Other("the segment's end"));
        }
        let block = self.window.fetch(at, BLOCK_BYTES)?;
        let header = RecordHeader::decode(block, &self.source.identity, &layout, at)
            .map_err(|malformed| Lacks::Other(malformed.what))?;
        let place = header.place;
        let rules = [
            (place.shard == self.base.shard, "a record of another shard"),
            (place.stream == StreamKind::Journal, "a record of another stream"),
            (place.number == expected.lsn.0, "a record with another lsn"),
            (place.incarnation == incarnation, "a record of another use of the segment"),
            (place.epoch >= expected.epoch, "a record of an epoch that was cut off"),
            (place.previous == expected.previous, "a record of another chain"),
        ];
        if let Some((_, what)) = rules.iter().find(|(holds, _)| !holds) {
            return Err(Lacks::Other(what));
        }
        let record = self.window.fetch(at, header.record_bytes as usize)?;
        let entries = entries_of(&header, record).map_err(|malformed| Lacks::Torn(malformed.what))?;
        EntryRef::decode_all(&entries, |_| {}).map_err(|malformed| Lacks::Torn(malformed.what))?;
        let data_is_sound = header.data_is_sound(record);
        self.counts.bytes_verified += u64::from(header.record_bytes);
        Ok(Candidate { header, entries, data_is_sound })
    }

    /// Where the record behind `candidate` is expected.
    fn behind(&self, candidate: &Candidate, expected: Expected) -> Expected {
        let header = &candidate.header;
        let mut next = expected.next.filter(|_| header.at.segment == expected.at.segment);
        let decoded = EntryRef::decode_all(&candidate.entries, |entry| {
            if let EntryRef::Claim { segment, incarnation, stream: StreamKind::Journal, .. } = entry {
                next = Some((segment, incarnation)).filter(|_| self.source.layout.has_segment(segment));
            }
        });
        debug_assert!(decoded.is_ok(), "a candidate's entries decode");
        Expected {
            lsn: expected.lsn.next(),
            at: Paddr::new(header.at.segment, header.end()),
            incarnation: header.place.incarnation,
            previous: header.crc,
            epoch: expected.epoch,
            next,
        }
    }

    /// Decides about a place without a valid record, and about the record before it.
    fn end(&mut self, mut expected: Expected, lacks: Lacks, last: Option<(Candidate, Expected)>) {
        let (shard, lsn) = (self.base.shard, expected.lsn);
        let (what, is_torn) = match lacks {
            Lacks::Unreadable => ("cannot be read", false),
            Lacks::Other(what) => (what, false),
            Lacks::Torn(what) => (what, true),
        };
        let is_unreadable = matches!(lacks, Lacks::Unreadable);
        let mut torn = is_torn.then_some(Torn { at: expected.at, lsn, what });
        self.log.is_damaged = is_unreadable || lsn < self.base.proven || self.has_successor(expected);
        if self.log.is_damaged {
            self.findings.violation(Violation::JournalDamaged { shard, lsn, at: expected.at, what });
        }
        if let Some((candidate, before)) = last {
            if candidate.data_is_sound || before.lsn < self.base.proven || self.log.is_damaged {
                self.take(&candidate);
            } else {
                torn = Some(Torn {
                    at: candidate.header.at,
                    lsn: before.lsn,
                    what: "record: checksum of the data",
                });
                expected = before;
            }
        }
        if let (Some(torn), false) = (torn, self.log.is_damaged) {
            self.findings.note(Note::TornEnd { shard, torn });
            self.log.torn = Some(torn);
        }
        (self.log.end, self.log.end_at, self.log.end_previous) =
            (expected.lsn, expected.at, expected.previous);
        self.log.next = expected.next;
        if let Some((segment, incarnation)) = expected.next {
            self.log.segments.insert(segment, incarnation);
        }
    }

    /// Whether a later record of this log stands behind `expected` in its segment, or in the next claimed one.
    fn has_successor(&mut self, expected: Expected) -> bool {
        let here = (expected.at, expected.incarnation);
        let next = expected
            .next
            .map(|(segment, incarnation)| (Paddr::new(segment, SEGMENT_HEADER_BYTES), incarnation));
        let layout = self.source.layout;
        for (mut at, incarnation) in [Some(here), next].into_iter().flatten() {
            while layout.contains(at, BLOCK_BYTES as u64) {
                let Ok(block) = self.window.fetch(at, BLOCK_BYTES) else { return true };
                if let Ok(header) = RecordHeader::decode(block, &self.source.identity, &layout, at) {
                    let place = header.place;
                    if place.shard == self.base.shard
                        && place.stream == StreamKind::Journal
                        && place.incarnation == incarnation
                        && place.number > expected.lsn.0
                        && place.epoch >= expected.epoch
                    {
                        return true;
                    }
                }
                at = at.plus(SEGMENT_HEADER_BYTES);
            }
        }
        false
    }

    /// Adds up what a record of the log says.
    fn take(&mut self, candidate: &Candidate) {
        let Candidate { header, entries, data_is_sound } = candidate;
        let (shard, lsn, at) = (self.base.shard, Lsn(header.place.number), header.at);
        self.counts.records += 1;
        self.log.segments.insert(at.segment, header.place.incarnation);
        if !data_is_sound {
            self.findings.note(Note::RecordData { shard, lsn, at });
        }
        if header.place.epoch > self.base.epoch {
            let fault = RecordFault::Epoch;
            self.findings.violation(Violation::Record { shard, lsn, at, fault });
        }
        let first = at.offset + SEGMENT_HEADER_BYTES;
        let data = first..=first + header.pieces_bytes;
        let mut all = Vec::new();
        EntryRef::decode_all(entries, |entry| all.push(entry)).expect("a candidate's entries decode");
        // A record is one moment: its deltas may stand before the collection that it makes.
        let makes = |entry: &EntryRef<'_>| matches!(entry, EntryRef::NewCollection { .. });
        let (new, others): (Vec<_>, Vec<_>) = all.into_iter().partition(makes);
        for entry in new.into_iter().chain(others) {
            if let Err(fault) = self.entry(entry, lsn, &data) {
                self.findings.violation(Violation::Record { shard, lsn, at, fault });
            }
        }
    }

    fn entry(
        &mut self,
        entry: EntryRef<'_>,
        lsn: Lsn,
        data: &RangeInclusive<u32>,
    ) -> Result<(), RecordFault> {
        let is_new = lsn >= self.base.body.end;
        let layout = self.source.layout;
        match entry {
            EntryRef::Delta(delta) => {
                let taken = self.delta(&delta, data);
                self.log.lacks_deltas |= taken.is_err();
                taken
            }
            EntryRef::Live(changes) => {
                if changes.iter().any(|(segment, _)| !layout.has_segment(*segment)) {
                    return Err(RecordFault::LiveSegment);
                }
                for (segment, change) in changes.into_iter().filter(|_| is_new) {
                    let live = self.log.live.entry(segment).or_default();
                    *live = live.wrapping_add(change);
                }
                Ok(())
            }
            EntryRef::Tally { collection, next_id, change } => {
                if !self.known.contains(&collection) {
                    return Err(RecordFault::TallyCollection);
                }
                if is_new {
                    let (id, tally) = self.log.tallies.entry(collection).or_default();
                    *id = (*id).max(next_id);
                    tally.add(&change);
                }
                Ok(())
            }
            EntryRef::Claim { segment, incarnation, stream, .. } => {
                if !layout.has_segment(segment) {
                    return Err(RecordFault::ClaimSegment);
                }
                let claim = Claim { incarnation, stream, shard: self.base.shard };
                let known = self.log.claims.entry(segment).or_insert(claim);
                if incarnation < known.incarnation && is_new {
                    return Err(RecordFault::ClaimOlder);
                }
                if incarnation > known.incarnation {
                    *known = claim;
                }
                Ok(())
            }
            EntryRef::Seal { segment } if layout.has_segment(segment) => Ok(()),
            EntryRef::Seal { .. } => Err(RecordFault::SealSegment),
            EntryRef::NewCollection { collection, term } => {
                if is_new && !self.known.insert(collection) {
                    return Err(RecordFault::CollectionTwice);
                }
                if is_new {
                    self.log.born.insert(collection, term);
                }
                Ok(())
            }
        }
    }

    fn delta(&mut self, delta: &DeltaRef<'_>, data: &RangeInclusive<u32>) -> Result<(), RecordFault> {
        let outside = |(offset, bytes): &(u32, u32)| {
            *bytes == 0
                || offset.checked_add(*bytes).is_none_or(|end| end > *data.end())
                || offset < data.start()
        };
        if delta.pieces.iter().any(outside) {
            return Err(RecordFault::DeltaPiece);
        }
        let decoded = match delta.tree {
            TreeKind::Names => key::decode_names(delta.key).map(|_| ()),
            TreeKind::Bodies => key::decode_bodies(delta.key).map(|_| ()),
            TreeKind::Graves => key::decode_graves(delta.key).map(|_| ()),
        };
        decoded.map_err(|malformed| RecordFault::DeltaKey(malformed.what))?;
        let reversed = reversed_hash(delta.key);
        let least = CollectionId { pool: delta.pool, prefix: reversed, bits: u8::MAX };
        let owner = self.known.range(..=least).next_back();
        if !owner.is_some_and(|owner| owner.pool == delta.pool && owner.covers(reversed)) {
            return Err(RecordFault::DeltaCollection);
        }
        let rows = self.log.pending.entry((delta.pool, delta.tree)).or_default();
        let changes = rows.entry(delta.key.to_vec()).or_default();
        let change = match delta.change {
            ChangeRef::Set(value) => Change::Set(value.to_vec()),
            ChangeRef::Patch(patch) => Change::Patch(patch.to_vec()),
            ChangeRef::Gone => Change::Gone,
        };
        if !matches!(change, Change::Patch(_)) {
            changes.clear();
        }
        changes.push(change);
        Ok(())
    }
}

/// The bit-reversed hash that a key begins with; of a key too short for one, as far as it goes.
pub(crate) fn reversed_hash(key: &[u8]) -> u32 {
    let mut bytes = [0; 4];
    for (to, from) in bytes.iter_mut().zip(key) {
        *to = *from;
    }
    u32::from_be_bytes(bytes)
}
