//! Object id: what an object is called within its pool, and the hash that decides where it lives.
//!
//! The hash is fmix32(crc32c(le32(namespace length) ++ namespace ++ name)): the length keeps "a" + "bc" and "ab" + "c"
//! apart, and the finaliser of MurmurHash3 spreads what crc32c leaves linear. It may be given instead; objects of equal
//! hash stay in one collection for ever.

use std::cmp::Ordering;
use std::fmt;

use bytes::Bytes;
use seabed_types::Crc;

use crate::data::IntoData;
use crate::limits::{NAME_BYTES_MAX, NAMESPACE_BYTES_MAX};
use crate::refusal::Refused;

/// The name of an object relative to its pool. Ordered as listings are: by bit-reversed hash, namespace, name, snap,
/// generation.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ObjectId {
    /// Decides the collection.
    pub hash: u32,
    /// 0 to 256 bytes.
    pub namespace: Bytes,
    /// 1 to 2048 bytes.
    pub name: Bytes,
    /// `u64::MAX` is the head.
    pub snap: u64,
    /// `u64::MAX` is the head.
    pub generation: u64,
}

impl ObjectId {
    /// The head object of this name in the empty namespace.
    pub fn new(name: impl IntoData) -> Self {
        let name = name.into_data();
        Self {
            hash: hash_of(&[], &name),
            namespace: Bytes::new(),
            name,
            snap: u64::MAX,
            generation: u64::MAX,
        }
    }

    /// The object of the same name in this namespace; its hash is computed again.
    #[must_use]
    pub fn in_namespace(mut self, namespace: impl IntoData) -> Self {
        self.namespace = namespace.into_data();
        self.hash = hash_of(&self.namespace, &self.name);
        self
    }

    /// The same object with a hash of the caller's choice.
    #[must_use]
    pub fn with_hash(mut self, hash: u32) -> Self {
        self.hash = hash;
        self
    }

    /// The object of the same name and this snapshot.
    #[must_use]
    pub fn with_snap(mut self, snap: u64) -> Self {
        self.snap = snap;
        self
    }

    /// The object of the same name and this generation.
    #[must_use]
    pub fn with_generation(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    /// Whether the lengths are legal. [`crate::Limits::check_id`] also knows what small nodes allow.
    pub fn check(&self) -> Result<(), Refused> {
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX {
            return Err(Refused::Invalid { what: "a name has 1 to 2048 bytes" });
        }
        if self.namespace.len() > NAMESPACE_BYTES_MAX {
            return Err(Refused::Invalid { what: "a namespace has at most 256 bytes" });
        }
        Ok(())
    }
}

impl Ord for ObjectId {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.hash.reverse_bits().cmp(&other.hash.reverse_bits()))
            .then_with(|| self.namespace.cmp(&other.namespace))
            .then_with(|| self.name.cmp(&other.name))
            .then_with(|| self.snap.cmp(&other.snap))
            .then_with(|| self.generation.cmp(&other.generation))
    }
}

impl PartialOrd for ObjectId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The head object of this name in the empty namespace: whatever may be given as bytes may be given as a name.
impl<T: IntoData> From<T> for ObjectId {
    fn from(name: T) -> Self {
        Self::new(name)
    }
}

impl From<&ObjectId> for ObjectId {
    fn from(id: &ObjectId) -> Self {
        id.clone()
    }
}

/// For people: the name, with namespace, snapshot and generation where they are not the default, and the hash where it was
/// chosen by the caller. Bytes that are not printable UTF-8 are escaped.
impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.hash != hash_of(&self.namespace, &self.name) {
            write!(f, "{:08x}:", self.hash)?;
        }
        if !self.namespace.is_empty() {
            show(f, &self.namespace)?;
            f.write_str("/")?;
        }
        show(f, &self.name)?;
        if (self.snap, self.generation) != (u64::MAX, u64::MAX) {
            write!(f, "@{}.{}", self.snap, self.generation)?;
        }
        Ok(())
    }
}

fn show(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => f.write_str(text),
        _ => write!(f, "{}", bytes.escape_ascii()),
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}:", self.hash)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace.escape_ascii())?;
        }
        write!(f, "{}", self.name.escape_ascii())?;
        if (self.snap, self.generation) != (u64::MAX, u64::MAX) {
            write!(f, "@{}.{}", self.snap, self.generation)?;
        }
        Ok(())
    }
}

/// The hash that an object has unless another is given.
pub fn hash_of(namespace: &[u8], name: &[u8]) -> u32 {
    let bytes = u32::try_from(namespace.len()).unwrap_or(u32::MAX);
    finalise(Crc::of(&bytes.to_le_bytes()).append(namespace).append(name).0)
}

/// The finaliser of MurmurHash3 for 32 bits.
const fn finalise(mut hash: u32) -> u32 {
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_frozen() {
        assert_eq!(finalise(1), 0x514e_28b7, "the published vector of the finaliser");
        let vectors = [
            ("", "a", 0x66ad_03f7),
            ("", "cat.jpg", 0x74a7_940f),
            ("ns", "cat.jpg", 0x7f56_a923),
            ("a", "bc", 0x907a_d201),
            ("ab", "c", 0x8c2d_0032),
        ];
        for (namespace, name, hash) in vectors {
            assert_eq!(hash_of(namespace.as_bytes(), name.as_bytes()), hash, "{namespace}/{name}");
        }
    }

    /// `get(b"x")` did not compile: names of `&[u8; N]`, `Bytes` and `&String` had no conversion, although data had.
    #[test]
    fn a_name_is_given_like_data() {
        let cat = ObjectId::new("cat");
        assert_eq!(ObjectId::from("cat"), cat);
        assert_eq!(ObjectId::from(b"cat"), cat);
        assert_eq!(ObjectId::from(*b"cat"), cat);
        assert_eq!(ObjectId::from(&b"cat"[..]), cat);
        assert_eq!(ObjectId::from(Bytes::from_static(b"cat")), cat);
        assert_eq!(ObjectId::from(&Bytes::from_static(b"cat")), cat);
        assert_eq!(ObjectId::from("cat".to_owned()), cat);
        assert_eq!(ObjectId::from(&"cat".to_owned()), cat);
        assert_eq!(ObjectId::from(b"cat".to_vec()), cat);
        assert_eq!(ObjectId::from(&cat), cat);
    }

    #[test]
    fn it_is_shown_for_people() {
        let cat = ObjectId::new("cat.jpg");
        assert_eq!(cat.to_string(), "cat.jpg");
        assert_eq!(format!("{cat:?}"), "74a7940f:cat.jpg");
        assert_eq!(ObjectId::new("été").in_namespace("ns").to_string(), "ns/été");
        assert_eq!(ObjectId::new([0xff, b'\n']).to_string(), "\\xff\\n");
        assert_eq!(
            ObjectId::new("a").with_hash(7).with_snap(1).to_string(),
            format!("00000007:a@1.{}", u64::MAX)
        );
    }

    #[test]
    fn lengths() {
        assert!(ObjectId::new("a").check().is_ok());
        assert!(ObjectId::new(vec![0; 2048]).in_namespace(vec![0; 256]).check().is_ok());
        assert!(ObjectId::new("").check().is_err());
        assert!(ObjectId::new(vec![0; 2049]).check().is_err());
        assert!(ObjectId::new("a").in_namespace(vec![0; 257]).check().is_err());
    }
}
