//! Rows: of each row the newest version that was found.
//!
//! A version is a value, or that the row is gone, and how old it is: a row of the checkpoint's trees is as of P, since their
//! images have all that came before; a row of a leaf that was found by its record is as of the checkpoint written before it,
//! a change as of its record. The newest counts, a patch on top of what there is. Where a tree was read, a key that is not
//! in it is gone, and older finds say nothing; below a lost node leaves do, each over all keys from its first to its last.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::DefaultHasher;
use std::ops::Bound;

use seabed_object::{Change, apply_patch};
use seabed_types::{Lsn, PoolId, SegmentId, ShardId, TreeKind};

use super::gather::Gathered;
use super::{ByRow, Checkpoint, Loss, RowKey};
use crate::Violation;
use crate::image::Source;
use crate::report::{Counts, Findings};
use crate::things::Things;
use crate::tree::{Lost, TreeRows};
use crate::walk::Pass;

/// A state of a row.
struct Version {
    as_of: Lsn,
    /// None: it is gone.
    value: Option<Vec<u8>>,
    /// It was patched, and what it was before is not known: what the patches do not name may be lost.
    is_partial: bool,
}

/// All rows.
#[derive(Default)]
pub(super) struct RowStore {
    rows: ByRow<Version>,
    /// Of trees that were read, as of when, and the intervals below nodes that were not.
    trees: BTreeMap<(PoolId, TreeKind), (Lsn, Vec<Lost>)>,
    /// As of when trees that no checkpoint names are known to be empty: all shards have one.
    others: Option<Lsn>,
}

impl RowStore {
    /// Takes the rows of a checkpoint's trees, as far as they can be read.
    pub(super) fn attach(
        &mut self,
        source: &Source<'_>,
        checkpoint: Option<&Checkpoint>,
        losses: &mut Vec<Loss>,
    ) {
        let Some(Checkpoint { body, .. }) = checkpoint else { return };
        self.others = Some(self.others.map_or(body.start, |others| others.min(body.start)));
        let (mut findings, mut counts) = (Findings::new(usize::MAX), Counts::default());
        let mut things = Things::new(SegmentId(u32::MAX), 0);
        let mut quiet = |_: &crate::Progress| {};
        let mut pass = Pass {
            source,
            findings: &mut findings,
            counts: &mut counts,
            things: &mut things,
            verify_data: false,
            nodes: BTreeSet::new(),
            live: BTreeMap::new(),
            lists: BTreeMap::new(),
            digest: DefaultHasher::new(),
            progress: &mut quiet,
        };
        for state in &body.collections {
            let pool = state.id.pool;
            for (tree, root) in TreeKind::ALL.into_iter().zip(state.roots) {
                let mut rows = TreeRows::new(state.id, tree, root, &[]);
                rows.lost = Some(Vec::new());
                while let Some((key, value)) = rows.next(&mut pass) {
                    let version = Version { as_of: body.start, value: Some(value), is_partial: false };
                    self.rows.insert((pool, tree, key), version);
                }
                let (_, lost) = self.trees.entry((pool, tree)).or_insert((body.start, Vec::new()));
                lost.extend(rows.lost.into_iter().flatten());
            }
        }
        let lost_nodes = findings.violations.into_iter().filter_map(|violation| {
            let Violation::Node { collection, tree, node, .. } = violation else { return None };
            Some(Loss::Node { pool: collection.pool, tree, node })
        });
        losses.extend(lost_nodes);
    }

    /// As of when a key is known from a tree that was read; none if its leaf was not.
    fn read_as_of(&self, (pool, tree, key): &RowKey) -> Option<Lsn> {
        let Some((as_of, lost)) = self.trees.get(&(*pool, *tree)) else { return self.others };
        let is_in = |(lower, upper): &Lost| key >= lower && upper.as_ref().is_none_or(|upper| key < upper);
        (!lost.iter().any(is_in)).then_some(*as_of)
    }

    /// Whether a row may have been lost with its leaf.
    pub(super) fn may_be_lost(&self, row: &RowKey) -> bool {
        self.read_as_of(row).is_none()
    }

    /// Whether there may have been rows, between these two of one tree, that were lost with their leaves.
    pub(super) fn may_lack(&self, (pool, tree, from): &RowKey, (.., to): &RowKey) -> bool {
        if from >= to {
            return false;
        }
        let Some((_, lost)) = self.trees.get(&(*pool, *tree)) else { return self.others.is_none() };
        lost.iter().any(|(lower, upper)| lower < to && upper.as_ref().is_none_or(|upper| from < upper))
    }

    /// What follows if a shard has no checkpoint: nothing is known of trees that none names.
    pub(super) fn without_checkpoint(&mut self) {
        self.others = None;
    }

    /// Takes leaves that were found by their records, where no tree was read. They come oldest first.
    pub(super) fn detached(&mut self, gathered: &Gathered, shard: ShardId) {
        for leaf in gathered.leaves.iter().filter(|leaf| leaf.shard == shard) {
            let (pool, tree, page) = (leaf.pool, leaf.tree, &leaf.page);
            let keys: Vec<Vec<u8>> = (0..page.len()).map(|index| page.key(index)).collect();
            let Some(last) = keys.last() else { continue };
            // What an older leaf had between its rows is gone.
            let range = (
                Bound::Included((pool, tree, leaf.lower.clone())),
                Bound::Included((pool, tree, last.clone())),
            );
            let older: Vec<RowKey> = if leaf.lower <= *last {
                self.rows.range(range).map(|(row, _)| row.clone()).collect()
            } else {
                Vec::new()
            };
            for row in older.into_iter().filter(|row| keys.binary_search(&row.2).is_err()) {
                if self.may_be_lost(&row) {
                    self.rows.insert(row, Version { as_of: leaf.age.0, value: None, is_partial: false });
                }
            }
            for (index, key) in keys.into_iter().enumerate() {
                let row = (pool, tree, key);
                if self.may_be_lost(&row) {
                    let value = Some(page.value(index).to_vec());
                    self.rows.insert(row, Version { as_of: leaf.age.0, value, is_partial: false });
                }
            }
        }
    }

    /// Takes the changes that the journal's records tell of.
    pub(super) fn deltas(
        &mut self,
        gathered: &Gathered,
        (shard, checkpoint): (ShardId, Option<&Checkpoint>),
        losses: &mut Vec<Loss>,
    ) {
        let Some(journal) = gathered.journals.get(&shard) else { return };
        let mut expected = checkpoint.map(|checkpoint| checkpoint.body.start);
        for (lsn, record) in journal {
            if let Some(first) = expected.filter(|expected| expected < lsn) {
                losses.push(Loss::Records { shard, first, end: *lsn });
            }
            expected = expected.map(|expected| expected.max(lsn.next()));
            for (row, change) in &record.deltas {
                self.change(row, change, *lsn);
            }
        }
        // What no slot and no record tells of cannot be missed.
        let proven = checkpoint.and_then(|checkpoint| checkpoint.cuts.iter().map(|cut| cut.lsn).max());
        if let (Some(first), Some(end)) = (expected, proven)
            && first < end
        {
            losses.push(Loss::Records { shard, first, end });
        }
    }

    fn change(&mut self, row: &RowKey, change: &Change, lsn: Lsn) {
        let known = self.rows.get(row);
        let read_as_of = self.read_as_of(row);
        if known.map(|version| version.as_of).max(read_as_of).is_some_and(|as_of| lsn < as_of) {
            return;
        }
        let old = known.and_then(|version| version.value.as_deref());
        let was_partial = known.is_some_and(|version| version.is_partial);
        let (value, is_partial) = match change {
            Change::Set(value) => (Some(value.clone()), false),
            Change::Gone => (None, false),
            Change::Patch(patch) => match apply_patch(old, patch) {
                Ok(value) => (value, was_partial || (known.is_none() && read_as_of.is_none())),
                Err(_) => return,
            },
        };
        self.rows.insert(row.clone(), Version { as_of: lsn, value, is_partial });
    }

    /// Calls `each` for the rows of a pool.
    pub(super) fn each_of(&self, pool: PoolId, mut each: impl FnMut(TreeKind, &[u8], &[u8])) {
        for ((_, tree, key), value, _) in self.range((pool, TreeKind::Names, Vec::new()), None) {
            each(*tree, key, value);
        }
    }

    /// The rows from one key on, of its pool and to before another, each with its value and whether that is partial.
    pub(super) fn range(
        &self,
        from: RowKey,
        to: Option<RowKey>,
    ) -> impl Iterator<Item = (&RowKey, &[u8], bool)> {
        let pool = from.0;
        let rows = self.rows.range((Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded)));
        let rows = rows.take_while(move |(row, _)| row.0 == pool);
        rows.filter_map(|(row, version)| Some((row, version.value.as_deref()?, version.is_partial)))
    }

    /// A row's value and whether it is partial.
    pub(super) fn value(&self, row: &RowKey) -> Option<(&[u8], bool)> {
        let version = self.rows.get(row)?;
        Some((version.value.as_deref()?, version.is_partial))
    }

    /// The pools that have rows.
    pub(super) fn pools(&self) -> BTreeSet<PoolId> {
        self.rows.keys().map(|(pool, ..)| *pool).collect()
    }
}
