//! Address: a place on the device as {segment, byte offset}, and the pointers that carry a checksum with it.
//!
//! An address means the same to every shard. Segment n begins at device byte n * segment_bytes; segment 0 holds the
//! superblock copies and the first checkpoint slots, never data, so {0, _} is free to mean "only in memory" in
//! a [`NodePtr`].

use std::fmt;

use crate::Crc;

/// The number of a segment; 0 is the one that holds the superblock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct SegmentId(pub u32);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A byte's place on the device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Paddr {
    /// Which segment.
    pub segment: SegmentId,
    /// Bytes from the segment's start.
    pub offset: u32,
}

impl Paddr {
    /// The address `offset` bytes into `segment`.
    pub const fn new(segment: SegmentId, offset: u32) -> Self {
        Self { segment, offset }
    }

    /// The address that a byte offset on the device has in segments of `segment_bytes`.
    pub fn of_device_offset(at: u64, segment_bytes: u32) -> Self {
        let segment = u32::try_from(at / u64::from(segment_bytes)).unwrap_or(u32::MAX);
        let offset = u32::try_from(at % u64::from(segment_bytes)).expect("a remainder by a u32 fits a u32");
        Self::new(SegmentId(segment), offset)
    }

    /// The byte offset on the device, for segments of `segment_bytes`.
    pub const fn device_offset(self, segment_bytes: u32) -> u64 {
        self.segment.0 as u64 * segment_bytes as u64 + self.offset as u64
    }

    /// The address `bytes` further on in the same segment. The sum must fit a u32: addresses never leave their segment.
    #[must_use]
    pub const fn plus(self, bytes: u32) -> Self {
        Self { segment: self.segment, offset: self.offset + bytes }
    }

    /// Both halves in one integer, the segment in the high one.
    pub const fn to_u64(self) -> u64 {
        (self.segment.0 as u64) << 32 | self.offset as u64
    }

    /// The inverse of [`Paddr::to_u64`].
    #[expect(clippy::cast_possible_truncation, reason = "takes the two halves apart")]
    pub const fn from_u64(bits: u64) -> Self {
        Self::new(SegmentId((bits >> 32) as u32), bits as u32)
    }
}

impl fmt::Display for Paddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:#x}", self.segment, self.offset)
    }
}

/// A pointer to a tree node: where its image is and the image's checksum, or a number of a node that is only in memory.
///
/// With the checksum in the pointer a lost or misdirected write cannot verify, and a cache keyed by the pointer cannot
/// hit for a reused address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodePtr {
    /// Where the image begins; segment 0 says that there is none and `offset` numbers the node in memory.
    pub at: Paddr,
    /// The checksum of the image; 0 for a node that is only in memory.
    pub crc: Crc,
}

impl NodePtr {
    /// Bytes of the encoded form.
    pub const BYTES: usize = 12;

    /// A pointer to the image at `at`.
    pub fn image(at: Paddr, crc: Crc) -> Self {
        assert!(at.segment.0 != 0, "segment 0 holds no images");
        Self { at, crc }
    }

    /// A pointer to the node that memory knows as `number`.
    pub const fn memory(number: u32) -> Self {
        Self { at: Paddr::new(SegmentId(0), number), crc: Crc(0) }
    }

    /// Whether it points to an image on the device.
    pub const fn is_image(self) -> bool {
        self.at.segment.0 != 0
    }

    /// Segment, offset, checksum; each a little-endian u32.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..4].copy_from_slice(&self.at.segment.0.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.at.offset.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.crc.0.to_le_bytes());
        bytes
    }

    /// The inverse of [`NodePtr::to_bytes`]; any bytes are some pointer.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let word = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        Self { at: Paddr::new(SegmentId(word(0)), word(4)), crc: Crc(word(8)) }
    }
}

impl fmt::Display for NodePtr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_image() {
            write!(f, "{}#{:08x}", self.at, self.crc.0)
        } else {
            write!(f, "memory {}", self.at.offset)
        }
    }
}
