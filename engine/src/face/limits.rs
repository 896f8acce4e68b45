//! Limits of a store as its users see them: what a name, a value, a transaction may have, and what always works.

use seabed_object::limits::{
    ATTRIBUTE_NAME_BYTES_MAX, NAME_BYTES_MAX, NAMESPACE_BYTES_MAX, OBJECT_BYTES_MAX, OMAP_KEY_BYTES_MAX,
};
use seabed_segment::Superblock;

use crate::operate::put::streams_max;
use crate::options::ShardOptions;
use crate::shard::mounted::limits_of;

/// Bytes of row changes that a transaction may have in every store whose segments have 1 MiB or more, which is every
/// store whose segment size was chosen by the size of its device. [`StoreLimits::row_change_bytes`] is what this store
/// takes.
pub const ROW_CHANGE_BYTES_GUARANTEED: usize = 240 << 10;

/// What a row of extents counts for at most, if all of its chunks are overwritten and each was somewhere else.
const OVERWRITTEN_ROW_BYTES: usize = 830;

/// The limits of a store. They depend on its geometry, chosen at format, and on its memory budget, and never change while it
/// is open. What exceeds one is rejected before any work: with [`crate::Error::TooLarge`], which names the limit, if it is
/// one of a transaction, else with [`crate::Refused::Invalid`]. Objects, and attributes and omap pairs of an object, have no
/// limit on their number but the space of the store.
///
/// Row changes are counted as follows: 80 bytes and the key for each row, and its value if that has at most
/// `value_inline_bytes`. The rows of a transaction are: the onode of each object (its key is the name and the namespace and
/// up to 24 bytes, its value at most an eighth of a node); each attribute and omap pair that is set or removed, unless all of
/// the object's fit its onode (its key is the name or key and up to 24 bytes); one for each 64 KiB of an object of which
/// bytes change, 830 bytes at most in all. Zero bytes of names and keys take up to one and a half bytes. A chunk of 4 KiB of
/// which a write covers a part counts with 4 KiB more. Whole chunks and longer values do not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct StoreLimits {
    /// Bytes of an object's name.
    pub name_bytes: usize,
    /// Bytes of its namespace.
    pub namespace_bytes: usize,
    /// Bytes of an attribute's name.
    pub attribute_name_bytes: usize,
    /// Bytes of an attribute's value.
    pub attribute_bytes: usize,
    /// Bytes of an omap key.
    pub omap_key_bytes: usize,
    /// Bytes of an omap value.
    pub omap_value_bytes: usize,
    /// Bytes of an omap header.
    pub omap_header_bytes: usize,
    /// Bytes of an encoded name or key: with nodes under 16 KiB this is less than the longest ones take.
    pub key_bytes: usize,
    /// Bytes of a value that is stored in its row; a longer one is stored like data.
    pub value_inline_bytes: usize,
    /// Bytes of an object.
    pub object_bytes: u64,
    /// Operations of a transaction, and pairs and keys in them.
    pub transaction_items: usize,
    /// Bytes of row changes of a transaction, at least [`ROW_CHANGE_BYTES_GUARANTEED`] with segments of 1 MiB or more.
    pub row_change_bytes: usize,
    /// Bytes of data that a transaction may always write into objects that exist, in one range of whole rows of 64 KiB, if it
    /// does little else; usually about three times as many fit. Data of an
    /// object that the transaction makes or replaces has no limit but the space of the store, if the writes to the object
    /// are in the order of their offsets and do not overlap, and no operation but those writes changes its bytes.
    pub overwrite_bytes: u64,
    /// Streaming puts that are open at a time.
    pub streams: usize,
}

impl StoreLimits {
    pub(crate) fn of(superblock: &Superblock, options: &ShardOptions) -> Self {
        let limits = limits_of(superblock, options);
        Self {
            name_bytes: NAME_BYTES_MAX,
            namespace_bytes: NAMESPACE_BYTES_MAX,
            attribute_name_bytes: ATTRIBUTE_NAME_BYTES_MAX,
            attribute_bytes: limits.attribute_bytes_max(),
            omap_key_bytes: OMAP_KEY_BYTES_MAX,
            omap_value_bytes: limits.omap_value_bytes_max(),
            omap_header_bytes: limits.header_bytes_max(),
            key_bytes: limits.key_bytes_max(),
            value_inline_bytes: limits.value_inline_max(),
            object_bytes: OBJECT_BYTES_MAX,
            transaction_items: limits.items_max(),
            row_change_bytes: limits.record_bytes_max,
            overwrite_bytes: (limits.record_bytes_max / OVERWRITTEN_ROW_BYTES).saturating_sub(1) as u64
                * seabed_object::ROW_BYTES,
            streams: streams_max(options.memory_bytes),
        }
    }
}
