//! Operations: what a transaction is made of, what it may be refused with, and the store's limits.

use super::Bytes;

/// How an object is expected to be used; kept, and nothing else.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Hint {
    /// Expected size; 0: unknown.
    pub object_bytes: u64,
    /// Usual size of a write; 0: unknown.
    pub write_bytes: u64,
    /// Ten bits.
    pub flags: u32,
}

/// What [`Op::Expect`] expects. All but `Absent` need the object to exist.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// It exists.
    Exists,
    /// It does not.
    Absent,
    /// It has so many bytes.
    Size(u64),
    /// Its attribute has this value, or does not exist.
    Attribute(Bytes, Option<Bytes>),
    /// Its omap key has this value, or does not exist.
    Omap(Bytes, Option<Bytes>),
}

/// One operation on one object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Make it, if it does not exist.
    Touch,
    /// Make it; it must not exist.
    Create,
    /// Put bytes at an offset; makes it. Without bytes: as `Touch`.
    Write(u64, Bytes),
    /// Put bytes at the end; makes it.
    Append(Bytes),
    /// Zeros from an offset, so many; makes it. None: as `Touch`.
    Zero(u64, u64),
    /// Set the size.
    Truncate(u64),
    /// Remove all of it; fine if it does not exist.
    Remove,
    /// Set attributes.
    SetAttributes(Vec<(Bytes, Bytes)>),
    /// Remove an attribute, if it is there.
    RemoveAttribute(Bytes),
    /// Set omap pairs.
    OmapInsert(Vec<(Bytes, Bytes)>),
    /// Remove omap keys, those that are there.
    OmapRemove(Vec<Bytes>),
    /// Remove the omap keys of an interval, its end not included.
    OmapRemoveRange(Bytes, Bytes),
    /// Remove the omap and its header.
    OmapClear,
    /// Set the omap header.
    OmapSetHeader(Bytes),
    /// Set the hint.
    SetHint(Hint),
    /// Refuse the transaction if this does not hold here.
    Expect(Condition),
}

/// Why an operation was refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Why {
    /// It breaks a rule whatever the state is: a limit, an overflow, an interval with its end first, two collections.
    Invalid,
    /// There is no such object (or pool).
    NotFound,
    /// There is one already.
    AlreadyExists,
    /// What was expected does not hold.
    PreconditionFailed,
}

/// A transaction was refused because of its operation number `op`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("operation {op}: {why:?}")]
pub struct Refusal {
    /// Index of the operation.
    pub op: usize,
    /// Why.
    pub why: Why,
}

/// Bounds of names, values and sizes. A store with small nodes or segments has smaller ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Longest name.
    pub name_bytes: usize,
    /// Longest namespace.
    pub namespace_bytes: usize,
    /// Longest attribute name.
    pub attribute_name_bytes: usize,
    /// Longest attribute value.
    pub attribute_bytes: usize,
    /// Longest omap header.
    pub header_bytes: usize,
    /// Longest omap key.
    pub omap_key_bytes: usize,
    /// Longest omap value.
    pub omap_value_bytes: usize,
    /// Largest object.
    pub object_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            name_bytes: 2048,
            namespace_bytes: 256,
            attribute_name_bytes: 256,
            attribute_bytes: 64 << 10,
            header_bytes: 64 << 10,
            omap_key_bytes: 2048,
            omap_value_bytes: 1 << 20,
            object_bytes: 1 << 50,
        }
    }
}
