//! Rows: the current rows of a collection's tree: what was published, changed by what the journal's window says.
//!
//! Both come in the order of keys, so they are merged as they come. The changes of a row are applied one after the other:
//! those from the last whole one on are kept.
//!
//! Memory: one row.

use std::collections::btree_map;
use std::iter::Peekable;

use seabed_journal::CollectionId;
use seabed_object::{Change, apply_patch};
use seabed_types::{NodePtr, TreeKind};

use crate::log::Pending;
use crate::tree::TreeRows;
use crate::violation::{Row, Violation};
use crate::walk::Pass;

type Changes<'a> = Peekable<btree_map::Range<'a, Vec<u8>, Vec<Change>>>;

/// A row: key and value.
pub(crate) type KeyAndValue = (Vec<u8>, Vec<u8>);

/// The rows of one tree.
pub(crate) struct Rows<'a> {
    collection: CollectionId,
    tree: TreeKind,
    image: TreeRows,
    image_row: Option<KeyAndValue>,
    changes: Option<Changes<'a>>,
    /// The row that [`Rows::peek`] showed.
    peeked: Option<KeyAndValue>,
    is_whole: bool,
}

impl<'a> Rows<'a> {
    /// The rows of a collection's tree from the key `from` on.
    pub(crate) fn new(
        (collection, tree, root): (CollectionId, TreeKind, Option<NodePtr>),
        pending: &'a Pending,
        from: &[u8],
        pass: &mut Pass<'_>,
    ) -> Self {
        let first = collection.prefix.to_be_bytes().as_slice().max(from).to_vec();
        let width = 1u64 << (32 - u32::from(collection.bits));
        let end =
            u32::try_from(u64::from(collection.prefix) + width).ok().map(|end| end.to_be_bytes().to_vec());
        let changes = pending.get(&(collection.pool, tree)).map(|rows| {
            let range = match end {
                // A place behind the collection's end is an empty range.
                Some(end) => rows.range(first.min(end.clone())..end),
                None => rows.range(first..),
            };
            range.peekable()
        });
        let mut image = TreeRows::new(collection, tree, root, from);
        let image_row = image.next(pass);
        let mut rows = Self { collection, tree, image, image_row, changes, peeked: None, is_whole: true };
        rows.peeked = rows.merge(pass);
        rows
    }

    /// Whether all rows so far could be read.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole && self.image.is_whole
    }

    /// The next row's key.
    pub(crate) fn peek(&self) -> Option<&[u8]> {
        self.peeked.as_ref().map(|(key, _)| key.as_slice())
    }

    /// The next row.
    pub(crate) fn next(&mut self, pass: &mut Pass<'_>) -> Option<KeyAndValue> {
        let row = self.peeked.take()?;
        self.peeked = self.merge(pass);
        pass.counts.rows += 1;
        if !self.collection.covers(crate::log::reversed_hash(&row.0)) {
            let (row, collection) = (self.row(&row.0), self.collection);
            pass.findings.violation(Violation::RowOutside { row, collection });
        }
        Some(row)
    }

    /// A row of this tree, for a violation.
    pub(crate) fn row(&self, key: &[u8]) -> Row {
        Row { pool: self.collection.pool, tree: self.tree, key: key.to_vec() }
    }

    fn merge(&mut self, pass: &mut Pass<'_>) -> Option<KeyAndValue> {
        loop {
            let change = self.changes.as_mut().and_then(|changes| {
                let image_key = self.image_row.as_ref().map(|(key, _)| key);
                changes.next_if(|(key, _)| image_key.is_none_or(|image_key| *key <= image_key))
            });
            let Some((key, changes)) = change else {
                let row = self.image_row.take()?;
                self.image_row = self.image.next(pass);
                return Some(row);
            };
            let mut value = None;
            if self.image_row.as_ref().is_some_and(|(image_key, _)| image_key == key) {
                value = self.image_row.take().map(|(_, value)| value);
                self.image_row = self.image.next(pass);
            }
            pass.counts.pending += 1;
            match changed(value, changes) {
                Ok(Some(value)) => {
                    self.check_length(pass, key, &value);
                    return Some((key.clone(), value));
                }
                Ok(None) => {}
                Err(what) => {
                    self.is_whole = false;
                    pass.findings.violation(Violation::Patch { row: self.row(key), what });
                }
            }
        }
    }

    fn check_length(&self, pass: &mut Pass<'_>, key: &[u8], value: &[u8]) {
        let node_bytes = pass.source.layout.node_bytes as usize;
        let (key_bytes, value_bytes) = (key.len(), value.len());
        let fits = key_bytes <= seabed_btree::key_bytes_max(node_bytes)
            && value_bytes <= seabed_btree::value_bytes_max(node_bytes);
        if !fits {
            pass.findings.violation(Violation::RowTooLong { row: self.row(key), key_bytes, value_bytes });
        }
    }
}

/// A row's value after its changes; none: it is gone.
fn changed(mut value: Option<Vec<u8>>, changes: &[Change]) -> Result<Option<Vec<u8>>, &'static str> {
    for change in changes {
        value = match change {
            Change::Set(value) => Some(value.clone()),
            Change::Gone => None,
            Change::Patch(patch) => {
                apply_patch(value.as_deref(), patch).map_err(|malformed| malformed.what)?
            }
        };
    }
    Ok(value)
}
