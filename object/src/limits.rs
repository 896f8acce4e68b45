//! Limits: every bound on names, keys and values, from the geometry of the store.
//!
//! Two bounds come from the tree: an encoded key is at most a quarter of a node, a row's value at most an eighth. With
//! nodes of 16 KiB or more every name and omap key that the object model allows fits (asserted below); with smaller nodes
//! the encoded length decides. The worst case of the encoding is one and a half bytes per byte (`key/escape.rs`).
//!
//! Limits: names 1..=2048 bytes, namespaces 0..=256, attribute names 1..=256, omap keys 1..=2048; attribute values and the
//! omap header 64 KiB, omap values 1 MiB, and no value over an eighth of a segment; an object 1 PiB.

use seabed_types::CHUNK_BYTES;

use crate::id::ObjectId;
use crate::key::{self, escape};
use crate::onode::EXTENTS_BYTES_MAX;
use crate::refusal::{Refusal, Refused};
use crate::txn::Transaction;

/// Longest object name.
pub const NAME_BYTES_MAX: usize = 2048;
/// Longest namespace.
pub const NAMESPACE_BYTES_MAX: usize = 256;
/// Longest attribute name.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 256;
/// Longest attribute value.
pub const ATTRIBUTE_BYTES_MAX: usize = 64 * 1024;
/// Longest omap key.
pub const OMAP_KEY_BYTES_MAX: usize = 2048;
/// Longest omap value.
pub const OMAP_VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Longest omap header.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Largest object.
pub const OBJECT_BYTES_MAX: u64 = 1 << 50;
/// Most bytes of an object's data that an onode may hold inline, whatever the options say.
pub const INLINE_BYTES_LIMIT: usize = 4096;

/// Most bytes of extents that stay in an onode by default: 64 KiB in one piece take 79.
pub const INLINE_EXTENTS_BYTES: usize = 96;

/// Most bytes of an onode that has extents, besides these.
const EXTENTS_HEAD_BYTES: usize = 512;

/// Longest encoded number (`key/number.rs`).
const NUMBER_BYTES_MAX: usize = 9;
/// Nodes from this size on take every legal name and key.
const NODE_BYTES_FOR_ALL_NAMES: usize = 16 * 1024;

const _: () = {
    let names = 4
        + escape::bytes_max(NAMESPACE_BYTES_MAX)
        + escape::bytes_max(NAME_BYTES_MAX)
        + NUMBER_BYTES_MAX
        + NUMBER_BYTES_MAX;
    assert!(names <= NODE_BYTES_FOR_ALL_NAMES / 4);
    let omap = 4 + NUMBER_BYTES_MAX + 1 + escape::bytes_max(OMAP_KEY_BYTES_MAX) + NUMBER_BYTES_MAX;
    assert!(omap <= NODE_BYTES_FOR_ALL_NAMES / 4);
    let attribute = 4 + NUMBER_BYTES_MAX + 1 + escape::bytes_max(ATTRIBUTE_NAME_BYTES_MAX) + NUMBER_BYTES_MAX;
    assert!(attribute <= 4096 / 4, "every attribute name fits the smallest node");
};

/// The bounds of a store, from its geometry and options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of a tree node.
    pub node_bytes: usize,
    /// Bytes of a segment.
    pub segment_bytes: usize,
    /// Most bytes of row changes that a record takes.
    pub record_bytes_max: usize,
    /// Most bytes of an object's data, attributes, omap or omap header, each, that stay in its onode.
    pub inline_bytes_max: usize,
    /// Most bytes of extents that stay in an onode; 0 if the store's format has them as rows only.
    pub inline_extents_max: usize,
}

impl Limits {
    /// The bounds for a geometry, with the default options.
    pub fn new(node_bytes: usize, segment_bytes: usize) -> Self {
        assert!(node_bytes >= 4096, "an eighth of a node holds an onode without inline parts");
        let record_bytes_max = (segment_bytes / 4).min(1024 * 1024);
        Self {
            node_bytes,
            segment_bytes,
            record_bytes_max,
            inline_bytes_max: 512,
            inline_extents_max: INLINE_EXTENTS_BYTES,
        }
    }

    /// Most items of a transaction: its operations, and the pairs and keys in them. That many take a record's row changes at
    /// least, if each is a row of its own.
    pub const fn items_max(&self) -> usize {
        self.record_bytes_max / crate::execute::CHANGE_BYTES_MIN
    }

    /// Whole chunks that fit half a record of the store's segments: the other half is for its header and lists.
    pub fn part_bytes_max(&self) -> usize {
        (self.record_bytes_max / 2 / CHUNK_BYTES * CHUNK_BYTES).max(CHUNK_BYTES)
    }

    /// Extents rows whose changes fit half a record.
    pub fn rows_per_record(&self) -> usize {
        let key = 4 + 2 * NUMBER_BYTES_MAX + 1 + NUMBER_BYTES_MAX;
        let row = crate::edit::row_change_bytes(key) + crate::ROW_CHUNKS * crate::edit::CHUNK_CHANGE_BYTES;
        (self.record_bytes_max / 2 / row).max(1)
    }

    /// Whether a transaction may have so much in it, by a look at its operations alone. What passes may still be too large,
    /// if it meets more rows than it names.
    pub fn check_items(&self, txn: &Transaction) -> Result<(), Refusal> {
        let (mut items, max) = (0, self.items_max());
        for (op, operation) in txn.operations().iter().enumerate() {
            items += operation.op.items();
            if items > max {
                let (size, max) = (items as u64, max as u64);
                let what = "operations, pairs and keys of a transaction";
                return Err(Refusal { op, why: Refused::TooLarge { what, size, max } });
            }
        }
        Ok(())
    }

    /// Most bytes of an encoded key.
    pub const fn key_bytes_max(&self) -> usize {
        self.node_bytes / 4
    }

    /// Most bytes of a row's encoded value.
    pub const fn row_value_bytes_max(&self) -> usize {
        self.node_bytes / 8
    }

    /// Most bytes of an onode besides its extents: with more it has none, as each write of a chunk logs all of it.
    pub(crate) const fn extents_head_max(&self) -> usize {
        let room = self.row_value_bytes_max() - EXTENTS_BYTES_MAX;
        if room < EXTENTS_HEAD_BYTES { room } else { EXTENTS_HEAD_BYTES }
    }

    /// Most bytes of an attribute, omap or header value that stay in its row; a longer one is a piece of its own.
    pub const fn value_inline_max(&self) -> usize {
        self.row_value_bytes_max() - crate::value::INLINE_OVERHEAD
    }

    /// Most bytes of an onode's inline data.
    pub fn data_inline_max(&self) -> usize {
        self.inline_bytes_max.min(INLINE_BYTES_LIMIT)
    }

    /// Most bytes of an attribute's value.
    pub fn attribute_bytes_max(&self) -> usize {
        ATTRIBUTE_BYTES_MAX.min(self.segment_bytes / 8)
    }

    /// Most bytes of an omap value.
    pub fn omap_value_bytes_max(&self) -> usize {
        OMAP_VALUE_BYTES_MAX.min(self.segment_bytes / 8)
    }

    /// Most bytes of an omap header.
    pub fn header_bytes_max(&self) -> usize {
        HEADER_BYTES_MAX.min(self.segment_bytes / 8)
    }

    /// Whether an object may have this name.
    pub fn check_id(&self, id: &ObjectId) -> Result<(), Refused> {
        id.check()?;
        self.check_names_key(&key::names(id))
    }

    /// Whether a key of the names tree is short enough.
    pub(crate) fn check_names_key(&self, key: &[u8]) -> Result<(), Refused> {
        self.check_key(key.len(), "the name and namespace are too long for the node size")
    }

    /// Whether an attribute may have this name.
    pub fn check_attribute_name(&self, name: &[u8]) -> Result<(), Refused> {
        match name.len() {
            1..=ATTRIBUTE_NAME_BYTES_MAX => Ok(()),
            _ => Err(Refused::Invalid { what: "an attribute's name has 1 to 256 bytes" }),
        }
    }

    /// Whether the omap may have this key.
    pub fn check_omap_key(&self, name: &[u8]) -> Result<(), Refused> {
        match name.len() {
            1..=OMAP_KEY_BYTES_MAX => {}
            _ => return Err(Refused::Invalid { what: "an omap key has 1 to 2048 bytes" }),
        }
        let others = 4 + NUMBER_BYTES_MAX + 1 + NUMBER_BYTES_MAX;
        self.check_key(others + escape::encoded_bytes(name), "the omap key is too long for the node size")
    }

    /// Whether an object may end here; `None` is an end past 2^64.
    pub fn check_size(&self, end: Option<u64>) -> Result<u64, Refused> {
        match end {
            None => Err(Refused::Invalid { what: "offset and length overflow" }),
            Some(end) if end > OBJECT_BYTES_MAX => {
                Err(Refused::Invalid { what: "an object has at most 2^50 bytes" })
            }
            Some(end) => Ok(end),
        }
    }

    fn check_key(&self, bytes: usize, what: &'static str) -> Result<(), Refused> {
        if bytes <= self.key_bytes_max() { Ok(()) } else { Err(Refused::Invalid { what }) }
    }
}
