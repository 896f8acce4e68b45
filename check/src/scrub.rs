//! Scrub: reads every byte that counts and compares it with its checksum, at a pace, and can be taken up again.
//!
//! In order: superblocks, slots, bodies and the journal's windows; then, collection by collection in the order of keys, the
//! nodes of all trees and the pieces of all rows, each with the checksum that its row has; then headers, seals and
//! inventories, segment by segment. A check looks for contradictions too; a scrub looks at bytes only, names the object and
//! the offset that is bad, and needs no list of what lives where: its memory is one path per tree, the window's changes,
//! and the onodes of one hash.
//!
//! After every row (the onodes of one hash that have extents count as one) it says where it is ([`Position`]) and asks whether
//! to go on. A later scrub that is given the position goes on there, whatever was written to the store between the two: the
//! order of keys does not change. What comes before the rows is little and is looked at every time.
//!
//! Cost: each live byte once; on taking up again the front, the windows, and one path of nodes.
//! Not here: the pace, which the caller keeps by waiting in [`Watch::read`]; repair.

mod rows;
mod segments;

use std::collections::BTreeMap;

use seabed_journal::CollectionId;
use seabed_segment::Superblock;
use seabed_types::{Paddr, PoolId, SegmentId, ShardId};

use crate::front::{self, Base};
use crate::image::Source;
use crate::log::{self, Claim, Log};
use crate::report::{Counts, Findings};
use crate::violation::PieceFault;
use crate::walk::{Counted, counted};
use crate::{CheckError, Image, Note, Violation};

/// How far a scrub is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Position {
    /// The rows of collections: of this one those with this key and behind it are to be done.
    Rows {
        /// Which collection.
        collection: CollectionId,
        /// A key of its trees, or the beginning of one.
        key: Vec<u8>,
    },
    /// The segments from this one on.
    Segments {
        /// Which.
        segment: SegmentId,
    },
}

/// Which of an object's bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Of {
    /// Its data.
    Data {
        /// From where on.
        offset: u64,
    },
    /// The attribute of this name.
    Attribute(Vec<u8>),
    /// The omap header.
    Header,
    /// The omap value of this key.
    Omap(Vec<u8>),
}

/// An object, as far as it is known which it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Whose {
    /// The pool's id.
    pub pool: PoolId,
    /// What the pool is called.
    pub pool_name: Option<Vec<u8>>,
    /// The object; none if it was removed and these bytes are not freed yet.
    pub object: Option<seabed_object::ObjectId>,
}

/// Something that is not what it was.
#[derive(Clone, PartialEq, Debug)]
pub enum Bad {
    /// Bytes of an object.
    Piece {
        /// Whose.
        whose: Whose,
        /// Which part of it.
        of: Of,
        /// Where they are.
        at: Paddr,
        /// How many.
        bytes: u32,
        /// What is wrong.
        fault: PieceFault,
    },
    /// Anything else.
    Other(Violation),
}

/// Whether to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Go {
    /// With what comes next.
    On,
    /// The scrub ends here, to be taken up later.
    Stop,
}

/// Who watches a scrub.
pub trait Watch {
    /// `bytes` more were verified; all before `position` is done.
    fn read(&mut self, bytes: u64, position: &Position) -> Go;
    /// Something is bad.
    fn bad(&mut self, bad: Bad);
    /// Something is missing that a mount does without: a crash may have left it so, and so may rot.
    fn note(&mut self, note: Note);
}

/// What a scrub is told before it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outlook {
    /// The store.
    pub superblock: Superblock,
    /// Live bytes by the counts of all shards: nodes and pieces.
    pub live_bytes: u64,
}

/// How a scrub ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// All was looked at.
    Done,
    /// The watcher stopped it.
    Stopped,
}

/// A shard whose log was read.
struct Shard {
    base: Base,
    log: Log,
}

/// Scrubs the store in `image`, which nobody may be using, from `from` on or from the beginning. `begin` is called once it is
/// known what there is to do.
///
/// Errors: there is no store in it that this program knows.
pub fn scrub(
    image: &dyn Image,
    from: Option<Position>,
    begin: &mut dyn FnMut(&Outlook),
    watch: &mut dyn Watch,
) -> Result<Ended, CheckError> {
    let mut findings = Findings::new(usize::MAX);
    let superblock = front::superblock(image, &mut findings)?;
    let layout = superblock.layout;
    let source = Source::of(image, &superblock);
    let mut counts = Counts::default();
    let mut shards = Vec::new();
    for shard in (0..layout.shards).map(ShardId) {
        let front = front::front(&source, shard, &mut findings, &mut counts);
        let Some(base) = front.base else { continue };
        let log = log::read(&source, &base, &mut findings, &mut counts);
        // A body that cannot be told from the newest one is verified with it; the older slot has its own.
        if !log.is_damaged {
            shards.push(Shard { base, log });
        }
    }
    let mut scrub = Scrub {
        source: &source,
        findings,
        counts,
        reported: 0,
        from: from.unwrap_or(Position::Rows { collection: CollectionId::whole(PoolId(0)), key: Vec::new() }),
        watch,
    };
    scrub.tell(|violation, _| Bad::Other(violation));
    let live_bytes = shards.iter().flat_map(live_of).fold(0, u64::saturating_add);
    begin(&Outlook { superblock, live_bytes });
    if scrub.step() == Go::Stop || scrub.rows(&shards) == Go::Stop || scrub.segments(&shards) == Go::Stop {
        return Ok(Ended::Stopped);
    }
    Ok(Ended::Done)
}

/// What a shard counts as live in each segment.
fn live_of(shard: &Shard) -> impl Iterator<Item = u64> + use<> {
    let mut live: BTreeMap<SegmentId, i64> =
        shard.base.body.segments.iter().map(|state| (state.segment, state.live)).collect();
    for (segment, change) in &shard.log.live {
        let live = live.entry(*segment).or_default();
        *live = live.wrapping_add(*change);
    }
    live.into_values().map(|live| u64::try_from(live).unwrap_or(0))
}

/// A scrub that goes on.
struct Scrub<'a> {
    source: &'a Source<'a>,
    findings: Findings,
    counts: Counts,
    /// How many of the verified bytes were told.
    reported: u64,
    /// All before this is done.
    from: Position,
    watch: &'a mut dyn Watch,
}

impl Scrub<'_> {
    /// Tells what was found since, and how far it is.
    fn step(&mut self) -> Go {
        let bytes = self.counts.bytes_verified - self.reported;
        self.reported = self.counts.bytes_verified;
        self.watch.read(bytes, &self.from)
    }

    fn tell(&mut self, name: impl Fn(Violation, &Self) -> Bad) {
        for violation in std::mem::take(&mut self.findings.violations) {
            let bad = name(violation, self);
            self.watch.bad(bad);
        }
        for note in std::mem::take(&mut self.findings.notes) {
            if matches!(note, Note::RecordData { .. } | Note::InventoryLost { .. }) {
                self.watch.note(note);
            }
        }
    }
}

/// The claims of all shards, the newest of each segment.
fn claims(shards: &[Shard]) -> BTreeMap<SegmentId, Claim> {
    let mut claims: BTreeMap<SegmentId, Claim> = BTreeMap::new();
    for (segment, claim) in shards.iter().flat_map(|shard| &shard.log.claims) {
        let known = claims.entry(*segment).or_insert(*claim);
        if known.incarnation < claim.incarnation {
            *known = *claim;
        }
    }
    claims
}

/// The collections of all shards in order, each with the shard that has it.
fn collections(shards: &[Shard]) -> Vec<(Counted, &Shard)> {
    let of_shard = |shard| -> Vec<_> { counted_of(shard).into_iter().map(|one| (one, shard)).collect() };
    let mut all: Vec<_> = shards.iter().flat_map(of_shard).collect();
    all.sort_by_key(|(counted, _)| counted.id);
    all
}

fn counted_of(shard: &Shard) -> Vec<Counted> {
    counted(&shard.base, &shard.log)
}
