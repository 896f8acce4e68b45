//! Object id: the full name of an object in its pool, its hash, and the order of listings.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Shared bytes: names, keys, values.
pub type Bytes = Arc<[u8]>;

/// See the module. `snap` and `generation` of the head object are `u64::MAX`.
#[derive(Clone, PartialEq, Eq)]
pub struct ObjectId {
    /// Decides the collection and leads the order.
    pub hash: u32,
    /// 0 to 256 bytes.
    pub namespace: Bytes,
    /// 1 to 2048 bytes.
    pub name: Bytes,
    /// Snapshot.
    pub snap: u64,
    /// Generation.
    pub generation: u64,
}

impl ObjectId {
    /// The head object `name` of the empty namespace.
    pub fn new(name: impl AsRef<[u8]>) -> Self {
        Self::in_namespace([], name)
    }

    /// The head object `name` of `namespace`.
    pub fn in_namespace(namespace: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> Self {
        let (namespace, name) = (namespace.as_ref(), name.as_ref());
        Self {
            hash: hash_of(namespace, name),
            namespace: namespace.into(),
            name: name.into(),
            snap: u64::MAX,
            generation: u64::MAX,
        }
    }

    /// The same with a hash of the caller's choice.
    #[must_use]
    pub fn with_hash(self, hash: u32) -> Self {
        Self { hash, ..self }
    }

    /// The same at another snapshot and generation.
    #[must_use]
    pub fn at(self, snap: u64, generation: u64) -> Self {
        Self { snap, generation, ..self }
    }

    fn order(&self) -> (u32, &[u8], &[u8], u64, u64) {
        (self.hash.reverse_bits(), &self.namespace, &self.name, self.snap, self.generation)
    }

    /// The first `bits` bits of the reversed hash: which of 2^bits collections it is in.
    pub fn collection(&self, bits: u32) -> u32 {
        self.hash.reverse_bits().checked_shr(32 - bits).unwrap_or(0)
    }
}

impl Ord for ObjectId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for ObjectId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (namespace, name) = (self.namespace.escape_ascii(), self.name.escape_ascii());
        write!(f, "{:08x}:{namespace}/{name}@{}.{}", self.hash, self.snap, self.generation)
    }
}

/// The hash that an object has unless another is given.
pub fn hash_of(namespace: &[u8], name: &[u8]) -> u32 {
    let length = u32::try_from(namespace.len()).expect("far under 4 GiB").to_le_bytes();
    let mut hash = crc32c(length.iter().chain(namespace).chain(name));
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

/// Crc32c, bit by bit, as its definition has it.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}
