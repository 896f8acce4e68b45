//! Salvage: what can still be verified of a store whose superblocks, slots, trees or journal are damaged.
//!
//! Every stream is made of records that say where they are and list what they hold, so nothing but the records is needed:
//! 1. **Who it is** (`identity`): a superblock copy; without one, what the headers prove of the secret and the layout.
//! 2. **What was written** (`gather`): all segments are scanned for records, block by block: deltas of the journal, images of
//!    leaves, pieces of bulk data with the key of their row, parts of checkpoint bodies.
//! 3. **What counts** (`rows`): for each row its newest version. The trees of the newest checkpoint that can be read are
//!    walked as far as their nodes are sound; where a node is lost, leaves that were found by their records take its place,
//!    the newest that covers a key; then deltas, in the order of their lsns.
//! 4. **What it comes to** (`objects`): onodes with names, their rows, and each chunk that has the checksum of its row.
//!
//! No byte is given that its row's checksum, or the record that holds it, does not prove. What an object lacks is told as
//! holes. Nothing is written to the store.
//!
//! A leaf whose record has rotten bytes somewhere is taken if a pointer to it, address and checksum, stands in any inner
//! node or checkpoint body, sound or not: twelve bytes do not agree by chance.
//!
//! Limits: 1. Leaves do not say when they were written. Two of one place are told apart by the checkpoint bodies between
//! them, the claims of their segments, and the epoch; a row that is only in an older one may be out of date, and one that
//! was removed may come back. This concerns keys below lost nodes only, and deltas of the window put most of it right.
//! 2. Of a row that is lost everywhere a hole in an object cannot be told from bytes that are lost; both are told as lost.
//! 3. Pieces without a row are taken only where the record says all that the row would: a whole row of 64 KiB, or one that
//!    ends with its object. 4. Inventories tell nothing that is not verified by a row or a record, and are not read.
//! Cost: the device is read once and live data once more.   Memory: all rows of the store, and the deltas of all journal
//! segments: some hundred bytes for each object and each 64 KiB of data.

mod gather;
mod identity;
mod objects;
mod rows;

use std::collections::BTreeMap;
use std::io::ErrorKind;

use seabed_types::{Epoch, Lsn, NodePtr, PoolId, ShardId, TreeKind};

use crate::front;
use crate::image::Source;
use crate::pools::PoolNames;
use crate::report::{Counts, Findings};
use crate::{Image, Kind, Violation};

pub use objects::{Attribute, Data, Found, Hole};
use rows::RowStore;

/// Why nothing can be saved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SalvageError {
    /// There is no superblock, and no two headers that agree on what store this was.
    #[error("neither a superblock nor headers of a store are there")]
    NoStore,
}

/// Something that is lost, or only guessed at, beyond single objects.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Loss {
    /// No superblock was valid; identity and layout are those that the headers prove.
    Superblocks,
    /// A shard has no slot whose body can be read. The checkpoint is one that was found by its records, or none.
    Slots {
        /// Whose.
        shard: ShardId,
        /// Of which moment the checkpoint is that was found.
        checkpoint: Option<Lsn>,
    },
    /// A node of a tree cannot be read; what is below it was looked for elsewhere.
    Node {
        /// Of which pool.
        pool: PoolId,
        /// Which tree.
        tree: TreeKind,
        /// The pointer to it.
        node: NodePtr,
    },
    /// Records of the journal's window are not there: what they changed may be out of date.
    Records {
        /// Whose.
        shard: ShardId,
        /// The first one.
        first: Lsn,
        /// The one behind the last.
        end: Lsn,
    },
    /// Blocks of a segment cannot be read.
    Unreadable {
        /// How many segments.
        segments: usize,
        /// The last error.
        error: ErrorKind,
    },
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Superblocks => f.write_str("no superblock is valid; what the headers prove was used"),
            Self::Slots { shard, checkpoint: Some(end) } => {
                write!(f, "shard {shard}: no slot leads to a checkpoint; that of record {end} was found")
            }
            Self::Slots { shard, checkpoint: None } => write!(f, "shard {shard}: no checkpoint is left"),
            Self::Node { pool, tree, node } => {
                write!(f, "pool {pool}, {tree}: node {node} is lost; older leaves took its place")
            }
            Self::Records { shard, first, end } => {
                write!(f, "shard {shard}: records {first} up to {end} are lost; rows may be out of date")
            }
            Self::Unreadable { segments, error } => {
                write!(f, "blocks of {segments} segments cannot be read: {error}")
            }
        }
    }
}

/// What was found of a store.
pub struct Salvage<'a> {
    source: Source<'a>,
    rows: RowStore,
    pools: PoolNames,
    loose: gather::Loose,
    losses: Vec<Loss>,
}

impl std::fmt::Debug for Salvage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Salvage").field("losses", &self.losses).finish_non_exhaustive()
    }
}

impl<'a> Salvage<'a> {
    /// Looks for all that is left of the store in `image`. `progress` is told how many segments of how many were scanned.
    ///
    /// Errors: nothing says that there ever was a store.
    pub fn open(image: &'a dyn Image, progress: &mut dyn FnMut(u64, u64)) -> Result<Self, SalvageError> {
        let (superblock, is_known) = identity::find(image).ok_or(SalvageError::NoStore)?;
        let layout = superblock.layout;
        let source = Source::of(image, &superblock);
        let mut gathered = gather::gather(&source, progress);
        let mut losses = Vec::new();
        if !is_known {
            losses.push(Loss::Superblocks);
        }
        losses.extend(gathered.unreadable.map(|(segments, error)| Loss::Unreadable { segments, error }));
        let mut rows = RowStore::default();
        let mut has_all = true;
        for shard in (0..layout.shards).map(ShardId) {
            let checkpoint = checkpoint(&source, shard, &gathered, &mut losses);
            gathered.cut_off(shard, checkpoint.as_ref());
            rows.attach(&source, checkpoint.as_ref(), &mut losses);
            has_all &= checkpoint.is_some();
            if !has_all {
                rows.without_checkpoint();
            }
            rows.detached(&gathered, shard);
            rows.deltas(&gathered, (shard, checkpoint.as_ref()), &mut losses);
        }
        let mut pools = PoolNames::default();
        rows.each_of(crate::pools::SYSTEM_POOL, |tree, key, value| pools.learn(tree, key, value));
        Ok(Self { source, rows, pools, loose: gathered.loose, losses })
    }

    /// What is lost beyond single objects.
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// The superblock, as it is or as the headers prove it.
    pub fn store(&self) -> seabed_types::Uuid {
        self.source.identity.uuid
    }
}

/// A checkpoint that a slot names or that was found.
pub(crate) struct Checkpoint {
    body: seabed_journal::Body,
    /// What the slot says of the log, if there is one.
    cuts: Vec<seabed_journal::Cut>,
}

/// The newest checkpoint that can be read.
fn checkpoint(
    source: &Source<'_>,
    shard: ShardId,
    gathered: &gather::Gathered,
    losses: &mut Vec<Loss>,
) -> Option<Checkpoint> {
    let (mut findings, mut counts) = (Findings::new(usize::MAX), Counts::default());
    let front = front::front(source, shard, &mut findings, &mut counts);
    let slots: Vec<_> = [seabed_segment::SlotCopy::A, seabed_segment::SlotCopy::B]
        .into_iter()
        .filter_map(|which| front::slot(source, shard, which).ok())
        .collect();
    let newest_cuts = slots.iter().max_by_key(|slot| slot.sequence).map(|slot| slot.cuts.clone());
    let is_newest = |base: &front::Base| slots.iter().all(|slot| slot.sequence <= base.slot.sequence);
    let has_none =
        findings.violations.iter().any(|violation: &Violation| violation.kind() == Kind::NoCheckpoint);
    match front.base {
        Some(base) if !has_none && is_newest(&base) => {
            Some(Checkpoint { body: base.body, cuts: base.slot.cuts })
        }
        older => {
            let found = gathered.newest_body(shard);
            let best = found.into_iter().chain(older.map(|base| base.body)).max_by_key(|body| body.end);
            losses.push(Loss::Slots { shard, checkpoint: best.as_ref().map(|body| body.end) });
            best.map(|body| Checkpoint { body, cuts: newest_cuts.unwrap_or_default() })
        }
    }
}

/// The order of what was written: older first. Epochs order what has no lsn.
pub(crate) type Age = (Lsn, Epoch, u64);

/// A row's name.
pub(crate) type RowKey = (PoolId, TreeKind, Vec<u8>);

/// Values by row, for sums over them.
pub(crate) type ByRow<T> = BTreeMap<RowKey, T>;
