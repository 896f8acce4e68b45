//! Key: how rows are named in the three trees, so that the order of bytes is the order that is meant.
//!
//! ```text
//! names   reversed hash (4, big-endian) ++ string(namespace) ++ string(name) ++ number(snap) ++ number(generation)
//! bodies  reversed hash ++ number(family) ++ kind (1) ++ position ++ number(number)
//!         position: extents number(offset / 64 KiB), attribute string(name), omap header nothing, omap string(key)
//! graves  reversed hash ++ number(family) ++ number(number)
//! ```
//! `number` is of [`number`], `string` of [`escape`]. The hash has its bits reversed, so that the objects whose hash ends
//! in given bits, a collection, are one interval. The versions of one position are neighbours.
//!
//! Worked example: the head of "a" with hash 0x80000001 is `80 00 00 01 | 00 00 | 61 00 00 | ff | ff`.
//!
//! Invariants: one row has one key; decoding refuses all other bytes and never panics.
//! Limits: a key is at most a quarter of a node (`limits.rs`).

pub mod escape;
pub mod number;

use bytes::Bytes;
use seabed_types::{Cursor, Malformed};
use smallvec::SmallVec;

use crate::id::ObjectId;

/// An encoded key; short ones need no allocation.
pub type KeyBuf = SmallVec<[u8; 64]>;

/// What a row of the bodies tree holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Kind {
    /// The chunks of 64 KiB of an object.
    Extents = 1,
    /// An attribute.
    Attribute = 2,
    /// The omap header.
    Header = 3,
    /// An omap pair.
    Omap = 4,
}

/// Where in an object a row of the bodies tree belongs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Position {
    /// The 64 KiB from this number times 64 KiB on.
    Extents(u64),
    /// The attribute of this name.
    Attribute(Bytes),
    /// The omap header.
    Header,
    /// The omap pair of this key.
    Omap(Bytes),
}

/// The numbers that a row of the bodies tree or of the graves tree is found by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Member {
    /// The object's hash.
    pub hash: u32,
    /// The object's family.
    pub family: u64,
    /// The member of the family.
    pub number: u64,
}

/// The key of an object's onode.
pub fn names(id: &ObjectId) -> KeyBuf {
    let mut key = KeyBuf::new();
    key.extend_from_slice(&id.hash.reverse_bits().to_be_bytes());
    escape::put(&mut key, &id.namespace);
    escape::put(&mut key, &id.name);
    number::put(&mut key, id.snap);
    number::put(&mut key, id.generation);
    key
}

/// Whose onode a key of the names tree names.
pub fn decode_names(key: &[u8]) -> Result<ObjectId, Malformed> {
    let mut cursor = Cursor::new(key);
    let hash = take_hash(&mut cursor)?;
    let namespace = bytes_of(escape::take(&mut cursor, "the namespace of a names key")?);
    let name = bytes_of(escape::take(&mut cursor, "the name of a names key")?);
    let snap = number::take(&mut cursor, "the snap of a names key")?;
    let generation = number::take(&mut cursor, "the generation of a names key")?;
    cursor.end("more after a names key")?;
    let id = ObjectId { hash, namespace, name, snap, generation };
    id.check().map_err(|_| Malformed { what: "a names key with a name that is not legal", offset: 4 })?;
    Ok(id)
}

/// The key of a row of the bodies tree.
pub fn bodies(member: Member, position: &Position) -> KeyBuf {
    match position {
        Position::Extents(row) => extents(member, *row),
        Position::Attribute(name) => named(member, Kind::Attribute, name),
        Position::Header => named(member, Kind::Header, &[]),
        Position::Omap(name) => named(member, Kind::Omap, name),
    }
}

/// The key of an extents row.
pub fn extents(member: Member, row: u64) -> KeyBuf {
    let mut key = extents_bound(member, row);
    number::put(&mut key, member.number);
    key
}

/// The key of an attribute, header or omap row; a header has no name.
pub fn named(member: Member, kind: Kind, name: &[u8]) -> KeyBuf {
    let mut key = named_bound(member, kind, name);
    number::put(&mut key, member.number);
    key
}

/// The lower bound of the extents rows from `row` on, of all members.
pub fn extents_bound(member: Member, row: u64) -> KeyBuf {
    let mut key = KeyBuf::new();
    put_kind(&mut key, member, Kind::Extents as u8);
    number::put(&mut key, row);
    key
}

/// The lower bound of the rows of a kind from `name` on, of all members.
pub fn named_bound(member: Member, kind: Kind, name: &[u8]) -> KeyBuf {
    let mut key = kind_bound(member, kind);
    if kind != Kind::Header {
        escape::put(&mut key, name);
    }
    key
}

/// The lower bound of all rows of a kind.
pub fn kind_bound(member: Member, kind: Kind) -> KeyBuf {
    let mut key = KeyBuf::new();
    put_kind(&mut key, member, kind as u8);
    key
}

/// The upper bound (exclusive) of all rows of a kind.
pub fn kind_end(member: Member, kind: Kind) -> KeyBuf {
    let mut key = KeyBuf::new();
    put_kind(&mut key, member, kind as u8 + 1);
    key
}

/// The lower bound of all rows of a family.
pub fn family_bound(member: Member) -> KeyBuf {
    let mut key = KeyBuf::new();
    put_family(&mut key, member);
    key
}

/// The upper bound (exclusive) of all rows of a family: no kind reaches 255.
pub fn family_end(member: Member) -> KeyBuf {
    let mut key = KeyBuf::new();
    put_kind(&mut key, member, u8::MAX);
    key
}

fn put_family(key: &mut KeyBuf, member: Member) {
    key.extend_from_slice(&member.hash.reverse_bits().to_be_bytes());
    number::put(key, member.family);
}

fn put_kind(key: &mut KeyBuf, member: Member, kind: u8) {
    put_family(key, member);
    key.push(kind);
}

/// Which row of the bodies tree a key names.
pub fn decode_bodies(key: &[u8]) -> Result<(Member, Position), Malformed> {
    let mut cursor = Cursor::new(key);
    let hash = take_hash(&mut cursor)?;
    let family = number::take(&mut cursor, "the family of a bodies key")?;
    let bad = cursor.malformed("the kind of a bodies key");
    let kind = Kind::try_from(cursor.u8(bad.what)?).map_err(|()| bad)?;
    let bad = cursor.malformed("the position of a bodies key");
    let position = match kind {
        Kind::Extents => Position::Extents(number::take(&mut cursor, bad.what)?),
        Kind::Attribute => Position::Attribute(bytes_of(escape::take(&mut cursor, bad.what)?)),
        Kind::Header => Position::Header,
        Kind::Omap => Position::Omap(bytes_of(escape::take(&mut cursor, bad.what)?)),
    };
    if !position.is_legal() {
        return Err(bad);
    }
    let number = number::take(&mut cursor, "the number of a bodies key")?;
    cursor.end("more after a bodies key")?;
    Ok((Member { hash, family, number }, position))
}

fn bytes_of(name: KeyBuf) -> Bytes {
    name.into_vec().into()
}

/// The key of a row of the graves tree.
pub fn graves(member: Member) -> KeyBuf {
    let mut key = family_bound(member);
    number::put(&mut key, member.number);
    key
}

/// Which row of the graves tree a key names.
pub fn decode_graves(key: &[u8]) -> Result<Member, Malformed> {
    let mut cursor = Cursor::new(key);
    let hash = take_hash(&mut cursor)?;
    let family = number::take(&mut cursor, "the family of a graves key")?;
    let number = number::take(&mut cursor, "the number of a graves key")?;
    cursor.end("more after a graves key")?;
    Ok(Member { hash, family, number })
}

/// The bounds, in every tree, of the objects whose hash ends in the low `bits` bits of `prefix`: a collection.
pub fn collection(prefix: u32, bits: u8) -> (KeyBuf, Option<KeyBuf>) {
    assert!(bits <= 32, "a hash has 32 bits");
    let bytes = |reversed: u32| KeyBuf::from_slice(&reversed.to_be_bytes());
    if bits == 0 {
        return (bytes(0), None);
    }
    let first = prefix.reverse_bits() & (u32::MAX << (32 - u32::from(bits)));
    (bytes(first), first.checked_add(1 << (32 - u32::from(bits))).map(bytes))
}

fn take_hash(cursor: &mut Cursor<'_>) -> Result<u32, Malformed> {
    Ok(u32::from_be_bytes(cursor.array("the hash of a key")?).reverse_bits())
}

impl Position {
    fn is_legal(&self) -> bool {
        match self {
            Self::Extents(row) => *row <= crate::limits::OBJECT_BYTES_MAX / crate::ROW_BYTES,
            Self::Attribute(name) => (1..=crate::limits::ATTRIBUTE_NAME_BYTES_MAX).contains(&name.len()),
            Self::Header => true,
            Self::Omap(name) => (1..=crate::limits::OMAP_KEY_BYTES_MAX).contains(&name.len()),
        }
    }
}

impl TryFrom<u8> for Kind {
    type Error = ();
    fn try_from(byte: u8) -> Result<Self, ()> {
        match byte {
            1 => Ok(Self::Extents),
            2 => Ok(Self::Attribute),
            3 => Ok(Self::Header),
            4 => Ok(Self::Omap),
            _ => Err(()),
        }
    }
}
