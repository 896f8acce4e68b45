//! Faults: what exactly is wrong with a thing, one variant for each rule that it can break.

use std::fmt;
use std::io::ErrorKind;

use seabed_types::Crc;

/// A part of an object whose rows an onode counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CountedPart {
    /// Its bytes; an onode that keeps them inline has no extents row.
    Data,
    /// Its attributes.
    Attributes,
    /// Its omap header.
    Header,
    /// Its omap pairs.
    Omap,
}

/// What lists the contents of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListedBy {
    /// The inventory that its seal block names.
    Inventory,
    /// Its records.
    Records,
}

/// What is wrong with a part of a checkpoint body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PartFault {
    /// It has no bytes, or more than a record takes.
    Length,
    /// It lies outside of the segments.
    Outside,
    /// It cannot be read.
    Unreadable(ErrorKind),
    /// Its bytes are not those that the slot names.
    Checksum(Crc),
}

/// What a checkpoint body, or the slot that names it, says that none may say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyFault {
    /// A copy without parts.
    Empty,
    /// Its bytes are as they were written and are no body.
    Malformed(&'static str),
    /// It ends elsewhere than its slot says.
    End,
    /// It is of a newer epoch than its slot.
    Epoch,
    /// It names a segment that there is not.
    Segment,
    /// It names segments twice or not in order.
    SegmentOrder,
    /// It names collections twice or not in order.
    CollectionOrder,
    /// Its window begins outside of its first journal segment.
    Start,
    /// The slot names no cut, so no head.
    NoCut,
    /// A cut is of a newer epoch than the slot.
    CutEpoch,
}

/// What a valid record says that none may say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordFault {
    /// It is of a newer epoch than any slot.
    Epoch,
    /// Live bytes of a segment that there is not.
    LiveSegment,
    /// Counts of a collection that there is not.
    TallyCollection,
    /// A claim of a segment that there is not.
    ClaimSegment,
    /// A claim of a segment under an older incarnation.
    ClaimOlder,
    /// A seal of a segment that there is not.
    SealSegment,
    /// A new collection that there is already.
    CollectionTwice,
    /// A delta with a piece outside of the record.
    DeltaPiece,
    /// A delta whose key does not decode.
    DeltaKey(&'static str),
    /// A delta of a collection that there is not.
    DeltaCollection,
}

/// What a sound inventory says that none may say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InventoryFault {
    /// It does not decode.
    Malformed(&'static str),
    /// It has another number of entries than its seal says.
    Count,
    /// It has an entry outside of the records.
    Outside,
}

/// What is wrong with a tree node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeFault {
    /// The pointer leads out of the segments, or not to a block.
    Pointer,
    /// It cannot be read.
    Unreadable(ErrorKind),
    /// Its bytes are not those that the pointer names: a lost or misdirected write, or rot.
    Checksum(Crc),
    /// Its bytes are as they were written and are no page.
    Malformed(&'static str),
    /// Its level is not one below its parent's: (expected, found).
    Level(u8, u8),
    /// It has a key outside of the interval that its parent gives.
    Interval,
    /// Another parent points to it too.
    Twice,
    /// It is a leaf without rows.
    Empty,
}

/// What is wrong with bytes that a row points to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PieceFault {
    /// The pointer leads out of the segments.
    Pointer,
    /// They cannot be read.
    Unreadable(ErrorKind),
    /// They are not those that the row names.
    Checksum(Crc),
}

impl fmt::Display for NodeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pointer => f.write_str("the pointer leads nowhere"),
            Self::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Self::Checksum(found) => write!(f, "checksum {found}"),
            Self::Malformed(what) => f.write_str(what),
            Self::Level(expected, found) => write!(f, "level {found}, must be {expected}"),
            Self::Interval => f.write_str("a key outside of the interval that the parent gives"),
            Self::Twice => f.write_str("is a child for the second time"),
            Self::Empty => f.write_str("a leaf without rows"),
        }
    }
}

impl fmt::Display for PieceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pointer => f.write_str("outside of the segments"),
            Self::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Self::Checksum(found) => write!(f, "checksum {found}"),
        }
    }
}

impl fmt::Display for PartFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("its length is that of no record"),
            Self::Outside => f.write_str("outside of the segments"),
            Self::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Self::Checksum(found) => write!(f, "checksum {found}"),
        }
    }
}

impl fmt::Display for BodyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a copy of the body without parts",
            Self::Malformed(what) => what,
            Self::End => "its checkpoint ends elsewhere than its slot says",
            Self::Epoch => "its body has a newer epoch",
            Self::Segment => "its body names a segment that there is not",
            Self::SegmentOrder => "its body names segments twice or not in order",
            Self::CollectionOrder => "its body names collections twice or not in order",
            Self::Start => "its window begins outside of its first journal segment",
            Self::NoCut => "it names no cut, so no head",
            Self::CutEpoch => "a cut has a newer epoch",
        })
    }
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Epoch => "of a newer epoch than any slot",
            Self::LiveSegment => "live bytes of a segment that there is not",
            Self::TallyCollection => "counts of a collection that there is not",
            Self::ClaimSegment => "a claim of a segment that there is not",
            Self::ClaimOlder => "a claim of a segment under an older incarnation",
            Self::SealSegment => "a seal of a segment that there is not",
            Self::CollectionTwice => "a new collection that there is already",
            Self::DeltaPiece => "a delta with a piece outside of its record",
            Self::DeltaKey(what) => return write!(f, "a delta's key: {what}"),
            Self::DeltaCollection => "a delta of a collection that there is not",
        })
    }
}

impl fmt::Display for InventoryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed(what) => what,
            Self::Count => "another number of entries than its seal says",
            Self::Outside => "an entry outside of the records",
        })
    }
}
