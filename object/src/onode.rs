//! Onode: the value of a names row: what an object is, and inline whatever of it is small.
//!
//! ```text
//! tag u8 = 1 | flags varint | family varint | number varint | size varint
//! [hint: object bytes varint, write bytes varint, flags varint]              if flag 1
//! attribute count varint | [name string, value string] * count               pairs unless flag 4
//! omap count varint      | [key string, value string] * count                pairs unless flag 8
//! [omap header string]                                                       unless flag 16
//! [data string]                                                              unless flag 2 or 64
//! [extents of the first 64 KiB, to the end of the row]                       if flag 64
//! ```
//! A string is its length as a varint and the bytes. Flags: 1 has a hint; 2 data, 4 attributes, 8 omap, 16 omap header
//! are rows of the bodies tree; 32 something has been, so that removal must leave a grave; 64 the object has at most 64 KiB
//! and its one extents row is here. A part stays inline while its bytes here are at most 512 (an option) and the onode at
//! most an eighth of a node; then the largest part moves out. Extents stay while they have at most 96 bytes and all else 512. What has moved out comes back only when it becomes
//! empty or the object is replaced. Inline data is shorter than the size where the rest reads as zeros.
//!
//! Why extents are here: a small object that is put, replaced or removed is one row of one tree, and leaves no grave.
//! Lists of what records and segments hold name its pieces by the key that the extents row has or would have in the bodies
//! tree ([`identity_of`]): so a piece keeps its identity when its row moves out.
//!
//! Worked example: an empty object of family 5 is `01 00 05 00 00 00 00 00 00`.
//!
//! Invariants: 1. Pairs are sorted and distinct. 2. A part that is rows is not empty (count or size above 0), and flag 32
//! is set with it. 3. Inline data, and the extents here, end at or before the size. 4. One state has one encoding.
//! Not here: what extents and large values are (`extents.rs`, `value.rs`).

use std::ops::Deref;

use bytes::Bytes;
use seabed_types::{Cursor, Malformed, TreeKind, put_bytes, put_varint};
use smallvec::SmallVec;

use crate::extents::{Extents, HEAD_BYTES};
use crate::key::{self, KeyBuf, Member};
use crate::txn::{Hint, HintFlags};
use crate::value::varint_bytes;
use crate::{ROW_BYTES, ROW_CHUNKS, limits};

const TAG: u8 = 1;
const HINT: u64 = 1;
const DATA_ROWS: u64 = 2;
const ATTRIBUTE_ROWS: u64 = 4;
const OMAP_ROWS: u64 = 8;
const HEADER_ROW: u64 = 16;
const HAS_ROWS: u64 = 32;
const EXTENTS: u64 = 64;
const KNOWN: u64 = 127;

/// Most bytes of the tag of an onode, its numbers, and the lengths of header and data.
const NUMBERS_BYTES_MAX: usize = 1 + 11 * 10;

/// Most bytes of extents in an onode: as many as 64 KiB can have.
pub const EXTENTS_BYTES_MAX: usize = 231;
const _: () = assert!(EXTENTS_BYTES_MAX == HEAD_BYTES + ROW_CHUNKS * (8 + 2 + 4));

/// Where the parts of an object are: which of them are rows of the bodies tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Parts(u64);

impl Parts {
    /// The object's bytes.
    pub const DATA: Self = Self(DATA_ROWS);
    /// Its attributes.
    pub const ATTRIBUTES: Self = Self(ATTRIBUTE_ROWS);
    /// Its omap pairs.
    pub const OMAP: Self = Self(OMAP_ROWS);
    /// Its omap header.
    pub const HEADER: Self = Self(HEADER_ROW);
    /// It may have left rows, even if no part is rows now.
    pub const EVER: Self = Self(HAS_ROWS);
    /// The object's bytes are chunks, of which the onode has the extents.
    pub const EXTENTS: Self = Self(EXTENTS);
    /// The object's bytes are chunks.
    pub const CHUNKS: Self = Self(DATA_ROWS | EXTENTS);

    /// Whether one of `parts` is among these.
    pub const fn has(self, parts: Self) -> bool {
        self.0 & parts.0 != 0
    }

    /// These and `parts`.
    #[must_use]
    pub const fn with(self, parts: Self) -> Self {
        Self(self.0 | parts.0)
    }

    /// These without `parts`.
    #[must_use]
    pub const fn without(self, parts: Self) -> Self {
        Self(self.0 & !parts.0)
    }
}

/// A verified onode that still lies in its row.
#[derive(Clone, Copy, Debug)]
pub struct OnodeRef<'a> {
    /// Which parts are rows.
    pub parts: Parts,
    /// The family its rows are found by.
    pub family: u64,
    /// Its number in the family.
    pub number: u64,
    /// Bytes of the object.
    pub size: u64,
    /// What a client said of its use.
    pub hint: Hint,
    /// How many attributes it has.
    pub attribute_count: u64,
    /// How many omap pairs it has.
    pub omap_count: u64,
    /// The inline attributes.
    pub attributes: PairsRef<'a>,
    /// The inline omap pairs.
    pub omap: PairsRef<'a>,
    /// The inline omap header.
    pub header: &'a [u8],
    /// The inline data.
    pub data: &'a [u8],
    /// The extents of its first 64 KiB, as a row has them; empty if they are not here.
    pub extents: &'a [u8],
}

/// Verified inline pairs that still lie in their row.
#[derive(Clone, Copy, Debug)]
pub struct PairsRef<'a>(&'a [u8]);

impl<'a> PairsRef<'a> {
    /// The pairs in order.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut cursor = Cursor::new(self.0);
        std::iter::from_fn(move || Some((cursor.bytes("").ok()?, cursor.bytes("").ok()?)))
    }

    /// The value of `name`.
    pub fn find(self, name: &[u8]) -> Option<&'a [u8]> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

/// The bounds of a list of pairs.
struct PairLimits {
    name_bytes_max: usize,
    value_bytes_max: usize,
    what: &'static str,
}

const ATTRIBUTE_LIMITS: PairLimits = PairLimits {
    name_bytes_max: limits::ATTRIBUTE_NAME_BYTES_MAX,
    value_bytes_max: limits::ATTRIBUTE_BYTES_MAX,
    what: "the attributes of an onode",
};
const OMAP_LIMITS: PairLimits = PairLimits {
    name_bytes_max: limits::OMAP_KEY_BYTES_MAX,
    value_bytes_max: limits::OMAP_VALUE_BYTES_MAX,
    what: "the omap of an onode",
};

impl<'a> OnodeRef<'a> {
    /// Reads and verifies a names row's value.
    pub fn decode(value: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(value);
        let bad = cursor.malformed("the tag of an onode");
        if cursor.u8(bad.what)? != TAG {
            return Err(bad);
        }
        let bad = cursor.malformed("the flags of an onode");
        let flags = cursor.varint(bad.what)?;
        let parts = Parts(flags & !HINT);
        let are_rows = parts.without(Parts::EXTENTS);
        if flags & !KNOWN != 0
            || (are_rows != Parts::default() && !parts.has(Parts::EVER))
            || (parts.has(Parts::EXTENTS) && parts.has(Parts::DATA))
        {
            return Err(bad);
        }
        let family = cursor.varint("the family of an onode")?;
        let number = cursor.varint("the number of an onode")?;
        let bad = cursor.malformed("the size of an onode");
        let size = cursor.varint(bad.what)?;
        if size > limits::OBJECT_BYTES_MAX
            || (size == 0 && parts.has(Parts::DATA))
            || (size > ROW_BYTES && parts.has(Parts::EXTENTS))
        {
            return Err(bad);
        }
        let hint = if flags & HINT == 0 { Hint::default() } else { take_hint(&mut cursor)? };
        let (attribute_count, attributes) =
            take_pairs(&mut cursor, parts.has(Parts::ATTRIBUTES), &ATTRIBUTE_LIMITS)?;
        let (omap_count, omap) = take_pairs(&mut cursor, parts.has(Parts::OMAP), &OMAP_LIMITS)?;
        let bad = cursor.malformed("the omap header of an onode");
        let header = if parts.has(Parts::HEADER) { &[] } else { cursor.bytes(bad.what)? };
        if header.len() > limits::HEADER_BYTES_MAX {
            return Err(bad);
        }
        let bad = cursor.malformed("the data of an onode");
        let data = if parts.has(Parts::CHUNKS) { &[] } else { cursor.bytes(bad.what)? };
        if data.len() as u64 > size || data.len() > limits::INLINE_BYTES_LIMIT {
            return Err(bad);
        }
        let bad = cursor.malformed("the extents of an onode");
        let extents = if parts.has(Parts::EXTENTS) { cursor.take(cursor.left(), bad.what)? } else { &[] };
        if parts.has(Parts::EXTENTS) && !(1..=size).contains(&Extents::decode(extents)?.end_bytes()) {
            return Err(bad);
        }
        cursor.end("more after an onode")?;
        let (attributes, omap) = (PairsRef(attributes), PairsRef(omap));
        Ok(Self {
            parts,
            family,
            number,
            size,
            hint,
            attribute_count,
            omap_count,
            attributes,
            omap,
            header,
            data,
            extents,
        })
    }

    /// The extents of its first 64 KiB, if they are here.
    pub fn extents(&self) -> Result<Option<Extents>, Malformed> {
        if self.extents.is_empty() { Ok(None) } else { Extents::decode(self.extents).map(Some) }
    }

    /// The same, to be changed, but for its extents.
    pub(crate) fn to_onode(self) -> Onode<'a> {
        let pairs = |pairs: PairsRef<'a>, count| {
            let inline = pairs.iter().map(|(name, value)| (name, Text::Row(value))).collect();
            Pairs { inline, bytes: pairs.0.len(), count }
        };
        Onode {
            parts: self.parts,
            family: self.family,
            number: self.number,
            size: self.size,
            hint: self.hint,
            attributes: pairs(self.attributes, self.attribute_count),
            omap: pairs(self.omap, self.omap_count),
            header: Text::Row(self.header),
            data: self.data.to_vec(),
        }
    }
}

fn take_hint(cursor: &mut Cursor<'_>) -> Result<Hint, Malformed> {
    let bad = cursor.malformed("the hint of an onode");
    let (object_bytes, write_bytes) = (cursor.varint(bad.what)?, cursor.varint(bad.what)?);
    let hint = Hint { object_bytes, write_bytes, flags: HintFlags(cursor.varint_u32(bad.what)?) };
    if hint == Hint::default() || !hint.flags.is_known() { Err(bad) } else { Ok(hint) }
}

fn take_pairs<'a>(
    cursor: &mut Cursor<'a>,
    rows: bool,
    limits: &PairLimits,
) -> Result<(u64, &'a [u8]), Malformed> {
    let bad = cursor.malformed(limits.what);
    let count = cursor.varint(limits.what)?;
    if rows {
        return if count == 0 { Err(bad) } else { Ok((count, &[])) };
    }
    let mut pairs = cursor.clone();
    let start = cursor.offset();
    let mut last: &[u8] = &[];
    for _ in 0..count {
        let bad = cursor.malformed(limits.what);
        let (name, value) = (cursor.bytes(limits.what)?, cursor.bytes(limits.what)?);
        if name <= last || name.len() > limits.name_bytes_max || value.len() > limits.value_bytes_max {
            return Err(bad);
        }
        last = name;
    }
    Ok((count, pairs.take(cursor.offset() - start, limits.what)?))
}

/// Bytes of a row or of a transaction, which are not copied before it is clear what becomes of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Text<'r> {
    /// From an onode's row.
    Row(&'r [u8]),
    /// From the transaction.
    Given(&'r Bytes),
}

impl Text<'_> {
    /// Bytes of their own: shared with the transaction, or copied out of the row.
    pub(crate) fn to_bytes(self) -> Bytes {
        match self {
            Self::Row(bytes) => Bytes::copy_from_slice(bytes),
            Self::Given(bytes) => bytes.clone(),
        }
    }
}

impl Default for Text<'_> {
    fn default() -> Self {
        Self::Row(&[])
    }
}

impl Deref for Text<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Row(bytes) => bytes,
            Self::Given(bytes) => bytes,
        }
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text<'_> {}

/// Inline pairs by name.
type Inline<'r> = SmallVec<[(&'r [u8], Text<'r>); 2]>;

/// Attributes or omap pairs of an onode; inline ones are sorted by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Pairs<'r> {
    pub(crate) inline: Inline<'r>,
    /// Bytes that the inline pairs take in the onode.
    pub(crate) bytes: usize,
    /// How many there are, inline or as rows.
    pub(crate) count: u64,
}

impl<'r> Pairs<'r> {
    pub(crate) fn find(&self, name: &[u8]) -> Option<Text<'r>> {
        self.position(name).ok().map(|index| self.inline[index].1)
    }

    pub(crate) fn insert(&mut self, name: &'r [u8], value: &'r Bytes) {
        match self.position(name) {
            Ok(index) => {
                self.bytes -= pair_bytes(name, &self.inline[index].1);
                self.inline[index].1 = Text::Given(value);
            }
            Err(index) => {
                self.inline.insert(index, (name, Text::Given(value)));
                self.count += 1;
            }
        }
        self.bytes += pair_bytes(name, value);
    }

    /// Removes the inline pairs from `from` to before `to`.
    pub(crate) fn remove(&mut self, from: &[u8], to: Option<&[u8]>) {
        let start = self.inline.partition_point(|(name, _)| *name < from);
        let end = to.map_or(self.inline.len(), |to| self.inline.partition_point(|(name, _)| *name < to));
        for (name, value) in self.inline.drain(start..end) {
            self.bytes -= pair_bytes(name, &value);
            self.count -= 1;
        }
    }

    pub(crate) fn remove_one(&mut self, name: &[u8]) {
        if let Ok(index) = self.position(name) {
            let (name, value) = self.inline.remove(index);
            self.bytes -= pair_bytes(name, &value);
            self.count -= 1;
        }
    }

    /// Takes the inline pairs out, to be rows; the count stays.
    pub(crate) fn move_out(&mut self) -> Inline<'r> {
        self.bytes = 0;
        std::mem::take(&mut self.inline)
    }

    fn position(&self, name: &[u8]) -> Result<usize, usize> {
        self.inline.binary_search_by(|(known, _)| (*known).cmp(name))
    }

    fn put(&self, to: &mut Vec<u8>) {
        put_varint(to, self.count);
        for (name, value) in &self.inline {
            put_bytes(to, name);
            put_bytes(to, value);
        }
    }
}

fn pair_bytes(name: &[u8], value: &[u8]) -> usize {
    string_bytes(name.len()) + string_bytes(value.len())
}

fn string_bytes(bytes: usize) -> usize {
    varint_bytes(bytes as u64) + bytes
}

/// By which key a piece is listed that a row points to: by that of the row, or by that of the extents row that an onode has
/// inside.
pub fn identity_of(tree: TreeKind, key: &[u8], value: &[u8]) -> Result<KeyBuf, Malformed> {
    if tree != TreeKind::Names {
        return Ok(KeyBuf::from_slice(key));
    }
    let (id, onode) = (key::decode_names(key)?, OnodeRef::decode(value)?);
    Ok(key::extents(Member { hash: id.hash, family: onode.family, number: onode.number }, 0))
}

/// An onode that may be changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Onode<'r> {
    pub(crate) parts: Parts,
    pub(crate) family: u64,
    pub(crate) number: u64,
    pub(crate) size: u64,
    pub(crate) hint: Hint,
    pub(crate) attributes: Pairs<'r>,
    pub(crate) omap: Pairs<'r>,
    pub(crate) header: Text<'r>,
    pub(crate) data: Vec<u8>,
}

impl Onode<'_> {
    /// An empty object.
    pub(crate) fn new(family: u64) -> Self {
        Self {
            parts: Parts::default(),
            family,
            number: 0,
            size: 0,
            hint: Hint::default(),
            attributes: Pairs::default(),
            omap: Pairs::default(),
            header: Text::default(),
            data: Vec::new(),
        }
    }

    /// Bytes of the encoded onode; extents count as many as they may have.
    pub(crate) fn encoded_bytes(&self) -> usize {
        self.head_bytes() + if self.parts.has(Parts::EXTENTS) { EXTENTS_BYTES_MAX } else { 0 }
    }

    /// An upper bound of [`Self::head_bytes`], which costs less.
    pub(crate) fn head_bytes_max(&self) -> usize {
        NUMBERS_BYTES_MAX + self.attributes.bytes + self.omap.bytes + self.header.len() + self.data.len()
    }

    /// Bytes of the encoded onode without its extents.
    pub(crate) fn head_bytes(&self) -> usize {
        let numbers =
            [self.flags(), self.family, self.number, self.size, self.attributes.count, self.omap.count];
        let hint = [self.hint.object_bytes, self.hint.write_bytes, u64::from(self.hint.flags.0)];
        let hint = if self.has_hint() { hint.iter().map(|number| varint_bytes(*number)).sum() } else { 0 };
        1 + numbers.iter().map(|number| varint_bytes(*number)).sum::<usize>()
            + hint
            + self.attributes.bytes
            + self.omap.bytes
            + if self.parts.has(Parts::HEADER) { 0 } else { string_bytes(self.header.len()) }
            + if self.parts.has(Parts::CHUNKS) { 0 } else { string_bytes(self.data.len()) }
    }

    /// The row's value, but for the extents, which come last; with room for `more` bytes.
    pub(crate) fn encode(&self, more: usize) -> Vec<u8> {
        let mut value = Vec::with_capacity(self.head_bytes() + more);
        value.push(TAG);
        for number in [self.flags(), self.family, self.number, self.size] {
            put_varint(&mut value, number);
        }
        if self.has_hint() {
            put_varint(&mut value, self.hint.object_bytes);
            put_varint(&mut value, self.hint.write_bytes);
            put_varint(&mut value, u64::from(self.hint.flags.0));
        }
        self.attributes.put(&mut value);
        self.omap.put(&mut value);
        if !self.parts.has(Parts::HEADER) {
            put_bytes(&mut value, &self.header);
        }
        if !self.parts.has(Parts::CHUNKS) {
            put_bytes(&mut value, &self.data);
        }
        value
    }

    fn has_hint(&self) -> bool {
        self.hint != Hint::default()
    }

    fn flags(&self) -> u64 {
        self.parts.0 | if self.has_hint() { HINT } else { 0 }
    }
}

#[cfg(test)]
#[path = "onode/tests.rs"]
mod tests;
