//! Gather: all records of all segments, of whatever use, and what they tell.
//!
//! A segment holds the records of its newest use, and behind them what is left of earlier ones: also those are taken, since
//! what is newest of a row is decided row by row. A record's header and entries must be sound; its data is verified by who
//! uses it: chunks by their rows, leaves by the record's checksum or by a pointer, bodies by their slots or the record's.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use seabed_btree::Page;
use seabed_journal::{Body, ChangeRef, EntryRef};
use seabed_object::Change;
use seabed_object::key::{self, Position};
use seabed_segment::{Listed, ListedWhat, RecordHeader, StreamKind};
use seabed_types::{Crc, Epoch, Incarnation, Lsn, NodePtr, Paddr, SegmentId, ShardId, TreeKind};

use super::{Age, ByRow, Checkpoint, RowKey};
use crate::image::Source;
use crate::records::{self, Taken, Wanted};

/// Pieces of bulk data by the row that should point to them, each with how old it is.
pub(super) type Loose = ByRow<(Age, Paddr, u32)>;

/// A record of a journal.
pub(super) struct JournalRecord {
    pub(super) epoch: Epoch,
    pub(super) data_is_sound: bool,
    pub(super) deltas: Vec<(RowKey, Change)>,
}

/// A leaf that a record lists.
pub(super) struct Leaf {
    pub(super) age: Age,
    pub(super) shard: ShardId,
    pub(super) pool: seabed_types::PoolId,
    pub(super) tree: TreeKind,
    pub(super) lower: Vec<u8>,
    pub(super) page: Page,
    /// The use of the segment that it is in.
    used: (SegmentId, Incarnation),
}

/// What was found.
#[derive(Default)]
pub(super) struct Gathered {
    /// Of each shard by lsn; of two with one lsn that of the later epoch.
    pub(super) journals: BTreeMap<ShardId, BTreeMap<Lsn, JournalRecord>>,
    /// The older first.
    pub(super) leaves: Vec<Leaf>,
    pub(super) loose: Loose,
    bodies: BTreeMap<(ShardId, Lsn), Vec<Body>>,
    pub(super) unreadable: Option<(usize, ErrorKind)>,
    /// When uses of segments were claimed.
    claims: BTreeMap<(SegmentId, Incarnation), Lsn>,
}

/// A leaf whose record was not sound as a whole, until a pointer to it is found.
struct Candidate {
    leaf: Leaf,
    crc: Crc,
}

/// The parts of a checkpoint's bodies by index, each as often as it was found.
type Parts = BTreeMap<u32, Vec<Vec<u8>>>;

/// What is found out of one segment after the other.
struct Gatherer<'a, 'b> {
    source: &'b Source<'a>,
    gathered: Gathered,
    parts: BTreeMap<(ShardId, Lsn), Parts>,
    candidates: BTreeMap<Paddr, Candidate>,
    /// Bytes of inner nodes and bodies, in which pointers are looked for.
    pointing: Vec<Vec<u8>>,
}

/// Scans all segments.
pub(super) fn gather(source: &Source<'_>, progress: &mut dyn FnMut(u64, u64)) -> Gathered {
    let mut gatherer = Gatherer {
        source,
        gathered: Gathered::default(),
        parts: BTreeMap::new(),
        candidates: BTreeMap::new(),
        pointing: Vec::new(),
    };
    let count = source.layout.segment_count();
    for (done, segment) in (0..).zip(source.layout.segments()) {
        progress(done, count);
        gatherer.segment(segment);
    }
    gatherer.join_bodies();
    gatherer.prove_candidates();
    let Gatherer { mut gathered, .. } = gatherer;
    gathered.date_leaves();
    gathered
}

impl Gatherer<'_, '_> {
    fn segment(&mut self, segment: SegmentId) {
        let wanted = Wanted { segment, incarnation: None, header_crc: None };
        // The checkpoint that was written last into each use of the segment so far.
        let mut written: BTreeMap<Incarnation, Lsn> = BTreeMap::new();
        let source = *self.source;
        let failed = records::scan(&source, wanted, |taken| match taken.header.place.stream {
            StreamKind::Journal => self.journal(&taken),
            StreamKind::Bulk | StreamKind::Nodes => {
                let Ok(all) = records::contents(&taken.header, &taken.entries) else { return };
                let since = written.get(&taken.header.place.incarnation).copied().unwrap_or_default();
                for listed in all {
                    if let ListedWhat::Body { lsn, .. } = listed.what {
                        let last = written.entry(taken.header.place.incarnation).or_default();
                        *last = (*last).max(lsn);
                    }
                    self.listed(&taken, since, listed);
                }
            }
        });
        if let Some(error) = failed {
            let known = self.gathered.unreadable.map_or(0, |(segments, _)| segments);
            self.gathered.unreadable = Some((known + 1, error));
        }
    }

    fn journal(&mut self, taken: &Taken) {
        let RecordHeader { place, .. } = taken.header;
        let lsn = Lsn(place.number);
        let mut deltas = Vec::new();
        let mut claims = Vec::new();
        let decoded = EntryRef::decode_all(&taken.entries, |entry| match entry {
            EntryRef::Delta(delta) => {
                let change = match delta.change {
                    ChangeRef::Set(value) => Change::Set(value.to_vec()),
                    ChangeRef::Patch(patch) => Change::Patch(patch.to_vec()),
                    ChangeRef::Gone => Change::Gone,
                };
                deltas.push(((delta.pool, delta.tree, delta.key.to_vec()), change));
            }
            EntryRef::Claim { segment, incarnation, .. } => claims.push((segment, incarnation)),
            EntryRef::Live(_)
            | EntryRef::Tally { .. }
            | EntryRef::Seal { .. }
            | EntryRef::NewCollection { .. } => {}
        });
        if decoded.is_err() {
            return;
        }
        for claim in claims {
            let known = self.gathered.claims.entry(claim).or_insert(lsn);
            *known = (*known).max(lsn);
        }
        let record = JournalRecord { epoch: place.epoch, data_is_sound: taken.data_is_sound, deltas };
        let journal = self.gathered.journals.entry(place.shard).or_default();
        let is_newer = journal.get(&lsn).is_none_or(|known| known.epoch <= record.epoch);
        if is_newer {
            journal.insert(lsn, record);
        }
    }

    /// Something that a record of the bulk or node stream lists.
    fn listed(&mut self, taken: &Taken, since: Lsn, listed: Listed) {
        let place = taken.header.place;
        let at = Paddr::new(taken.header.at.segment, listed.offset);
        if !self.source.layout.contains(at, u64::from(listed.bytes)) {
            return;
        }
        let age = (since, place.epoch, u64::from(place.incarnation.0) << 32 | place.number);
        match listed.what {
            ListedWhat::Piece { pool, key } => {
                if taken.data_is_sound && is_self_evident(&key) {
                    let row = (pool, TreeKind::Bodies, key);
                    let known = self.gathered.loose.get(&row).map(|(known, ..)| *known);
                    if known.is_none_or(|known| known <= age) {
                        self.gathered.loose.insert(row, (age, at, listed.bytes));
                    }
                }
            }
            ListedWhat::Body { lsn, index } => {
                let Ok(bytes) = self.source.read(at, listed.bytes as usize) else { return };
                self.pointing.push(bytes.clone());
                if taken.data_is_sound {
                    let parts = self.parts.entry((place.shard, lsn)).or_default();
                    parts.entry(index).or_default().push(bytes);
                }
            }
            ListedWhat::Image { pool, tree, level, first_key } => {
                let Ok(bytes) = self.source.read(at, listed.bytes as usize) else { return };
                if level > 0 {
                    self.pointing.push(bytes);
                    return;
                }
                let crc = Crc::of(&bytes);
                let Ok(page) = Page::decode(bytes.into()) else { return };
                let leaf = Leaf {
                    age,
                    shard: place.shard,
                    pool,
                    tree,
                    lower: first_key,
                    page,
                    used: (at.segment, place.incarnation),
                };
                if taken.data_is_sound {
                    self.gathered.leaves.push(leaf);
                } else {
                    self.candidates.insert(at, Candidate { leaf, crc });
                }
            }
        }
    }

    /// Bodies whose parts are all there.
    fn join_bodies(&mut self) {
        for (of, parts) in &self.parts {
            // Two copies are equal, or one of them is of a checkpoint that was not finished: each is tried alone.
            let copies = parts.values().map(Vec::len).max().unwrap_or(0);
            let is_gapless = (0..).zip(parts.keys()).all(|(expected, index)| expected == *index);
            for copy in (0..copies).filter(|_| is_gapless) {
                let joined = parts.values().filter_map(|part| part.get(copy).or(part.first()));
                let joined: Vec<u8> = joined.flatten().copied().collect();
                if let Ok(body) = Body::decode(&joined) {
                    self.gathered.bodies.entry(*of).or_default().push(body);
                }
            }
        }
    }

    /// Takes the candidates to which a pointer is found, wherever it stands.
    fn prove_candidates(&mut self) {
        let mut proven: BTreeSet<Paddr> = BTreeSet::new();
        for bytes in std::mem::take(&mut self.pointing) {
            for window in bytes.windows(NodePtr::BYTES) {
                let Ok(window) = <[u8; NodePtr::BYTES]>::try_from(window) else { continue };
                let pointer = NodePtr::from_bytes(window);
                if self.candidates.get(&pointer.at).is_some_and(|candidate| candidate.crc == pointer.crc) {
                    proven.insert(pointer.at);
                }
            }
        }
        let candidates = std::mem::take(&mut self.candidates);
        let proven = candidates.into_iter().filter(|(at, _)| proven.contains(at));
        self.gathered.leaves.extend(proven.map(|(_, candidate)| candidate.leaf));
    }
}

/// Whether a piece's key says all of where it belongs: that of a value does, and that of data if it fills its row.
fn is_self_evident(key: &[u8]) -> bool {
    key::decode_bodies(key).is_ok_and(|(_, position)| matches!(position, Position::Extents(_)))
}

impl Gathered {
    /// The newest body of a shard that was found by its records.
    pub(super) fn newest_body(&self, shard: ShardId) -> Option<Body> {
        let of_shard = self.bodies.range((shard, Lsn(0))..=(shard, Lsn(u64::MAX)));
        of_shard.flat_map(|(_, bodies)| bodies).max_by_key(|body| (body.end, body.epoch)).cloned()
    }

    /// Puts the leaves in order: a leaf is younger than the checkpoint written before it in its segment, and than the claim
    /// of that.
    fn date_leaves(&mut self) {
        for leaf in &mut self.leaves {
            let claimed = self.claims.get(&leaf.used).copied().unwrap_or_default();
            leaf.age.0 = leaf.age.0.max(claimed);
        }
        self.leaves.sort_by_key(|leaf| leaf.age);
    }

    /// Takes records out that a mount cut off, and a last one that was never whole.
    pub(super) fn cut_off(&mut self, shard: ShardId, checkpoint: Option<&Checkpoint>) {
        let Some(journal) = self.journals.get_mut(&shard) else { return };
        let cuts = checkpoint.map(|checkpoint| checkpoint.cuts.clone()).unwrap_or_default();
        // The first record of each epoch is behind what its mount cut off.
        let mut starts: BTreeMap<Epoch, Lsn> = cuts.iter().map(|cut| (cut.epoch, cut.lsn)).collect();
        for (lsn, record) in journal.iter() {
            starts.entry(record.epoch).or_insert(*lsn);
        }
        journal.retain(|lsn, record| {
            let later = starts.range(record.epoch..).filter(|(epoch, _)| **epoch > record.epoch);
            later.map(|(_, start)| *start).all(|start| *lsn < start)
        });
        if journal.last_key_value().is_some_and(|(_, record)| !record.data_is_sound) {
            journal.pop_last();
        }
    }
}
