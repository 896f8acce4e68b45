//! Page format: the bytes of a node, and what makes them valid.
//!
//! ```text
//! [header 16][prefix][slot 0]..[slot n-1] ..free.. [cell n-1]..[cell 0]
//! ```
//!
//! The prefix begins every key of the page and is stored once. Slot i belongs to row i, in the order of keys; its cell
//! holds what follows the prefix in the key (the suffix) and the value. A slot also has the first four suffix bytes as a
//! number, so that a search compares integers and looks into a cell once or twice.
//!
//! | offset | size | header field  | meaning                                           | valid                     |
//! |-------:|-----:|---------------|---------------------------------------------------|---------------------------|
//! |      0 |    4 | magic         | "SbdN"                                            | that                      |
//! |      4 |    1 | format        | version of this layout                            | 1                         |
//! |      5 |    1 | level         | 0 for a leaf, else one more than the children's   | 0..=250                   |
//! |      6 |    2 | count         | rows                                              | inner: at least 1         |
//! |      8 |    2 | prefix_bytes  | bytes of the prefix                               | 0 if no row has a key     |
//! |     10 |    2 | heap_bytes    | bytes of the cells, from the last one to the end  | the sum of the cells      |
//! |     12 |    2 | garbage_bytes | of these, bytes of cells without a slot           | 0 in an image             |
//! |     14 |    1 | node_shift    | log2 of the page's bytes                          | 12..=16, as the length is |
//! |     15 |    1 | reserved      |                                                   | 0                         |
//!
//! | offset | size | slot field    | meaning                                           | valid                     |
//! |-------:|-----:|---------------|---------------------------------------------------|---------------------------|
//! |      0 |    4 | head          | first four suffix bytes, the first one highest    | as the suffix; 0 beyond   |
//! |      4 |    2 | cell          | where the cell begins in the page                 | right before cell i-1     |
//! |      6 |    2 | suffix_bytes  | bytes of the suffix                               | key at most a quarter     |
//!
//! | offset | size | cell field    | meaning                                           | valid                     |
//! |-------:|-----:|---------------|---------------------------------------------------|---------------------------|
//! |      0 |    2 | value_bytes   | bytes of the value                                | leaf: at most an eighth; inner: 12 |
//! |      2 |    s | suffix        | suffix_bytes of them                              |                           |
//! |    2+s |    v | value         | value_bytes of them; inner: a `NodePtr`           | inner: an image's         |
//!
//! In an inner page row i points to the child that has the keys from key i up to key i+1; row 0 has no key (suffix
//! empty, head 0, and the prefix does not count for it): its child takes all that is smaller. Numbers are
//! little-endian. An image is valid if and only if all of the tables' last columns hold, its keys ascend strictly, the
//! cells touch one another in slot order down from the page's end, and the free bytes are zero. In memory cells may
//! stand in any order and leave garbage; [`Page::image`](super::Page::image) brings a page into the form of an image.
//!
//! Worked example: a leaf of 4096 bytes with the rows "apple" = "1" and "apply" = "22" has the prefix "appl" at 16, the
//! slots {0x65000000, 4092, 1} and {0x79000000, 4087, 1} at 20, the cells 01 00 'e' '1' at 4092 and 02 00 'y' '2' '2'
//! at 4087, heap_bytes 9, and free zeros from 36 to 4087.
//!
//! Limits: a key is at most a quarter of the page and a value an eighth, so two rows of the greatest size and the
//! header fit three quarters and a bit; why a split then always succeeds is told in `split.rs`.

use std::mem::{offset_of, size_of};

use seabed_types::{Malformed, NodePtr};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The smallest page, in bytes.
pub const NODE_BYTES_MIN: usize = 4096;
/// The largest page, in bytes: offsets in it are two bytes.
pub const NODE_BYTES_MAX: usize = 65536;
/// The version of the layout.
pub const FORMAT: u8 = 1;
/// Bytes before the prefix.
pub const HEADER_BYTES: usize = size_of::<Header>();
/// Bytes of a slot.
pub const SLOT_BYTES: usize = size_of::<Slot>();

/// Bytes of a cell before its suffix.
pub(super) const CELL_HEADER_BYTES: usize = 2;
/// Bytes that a row takes besides its suffix and value.
pub(super) const ROW_BYTES: usize = SLOT_BYTES + CELL_HEADER_BYTES;
/// The highest level of a node. Each level multiplies the rows by two at the least.
pub(crate) const LEVEL_MAX: u8 = 250;
const MAGIC: [u8; 4] = *b"SbdN";

/// The longest key that a page of `node_bytes` takes, in bytes.
pub const fn key_bytes_max(node_bytes: usize) -> usize {
    node_bytes / 4
}

/// The longest value that a leaf of `node_bytes` takes, in bytes.
pub const fn value_bytes_max(node_bytes: usize) -> usize {
    node_bytes / 8
}

/// The header of a page.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    magic: [u8; 4],
    format: u8,
    pub(super) level: u8,
    pub(super) count: U16,
    pub(super) prefix_bytes: U16,
    pub(super) heap_bytes: U16,
    pub(super) garbage_bytes: U16,
    node_shift: u8,
    reserved: u8,
}

const _: () = {
    assert!(size_of::<Header>() == 16);
    assert!(offset_of!(Header, format) == 4);
    assert!(offset_of!(Header, level) == 5);
    assert!(offset_of!(Header, count) == 6);
    assert!(offset_of!(Header, prefix_bytes) == 8);
    assert!(offset_of!(Header, heap_bytes) == 10);
    assert!(offset_of!(Header, garbage_bytes) == 12);
    assert!(offset_of!(Header, node_shift) == 14);
};

/// A row's place in a page.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Slot {
    pub(super) head: U32,
    pub(super) cell: U16,
    pub(super) suffix_bytes: U16,
}

const _: () = {
    assert!(size_of::<Slot>() == 8);
    assert!(offset_of!(Slot, cell) == 4);
    assert!(offset_of!(Slot, suffix_bytes) == 6);
    // Two rows of the greatest size fit a page of any size: the proof in split.rs needs no more.
    assert!(HEADER_BYTES + 2 * (ROW_BYTES + key_bytes_max(4096) + value_bytes_max(4096)) <= 4096);
    assert!(value_bytes_max(NODE_BYTES_MIN) >= NodePtr::BYTES);
};

impl Header {
    /// The header of an empty page.
    pub(super) fn new(node_bytes: usize, level: u8) -> Self {
        assert!(is_node_bytes(node_bytes), "a node has 4096 to 65536 bytes, a power of two");
        assert!(level <= LEVEL_MAX, "a tree is not that high");
        let node_shift = u8::try_from(node_bytes.trailing_zeros()).expect("at most 16");
        let zero = U16::ZERO;
        Self {
            magic: MAGIC,
            format: FORMAT,
            level,
            count: zero,
            prefix_bytes: zero,
            heap_bytes: zero,
            garbage_bytes: zero,
            node_shift,
            reserved: 0,
        }
    }
}

/// Whether a node may have this size.
pub(crate) const fn is_node_bytes(bytes: usize) -> bool {
    bytes.is_power_of_two() && bytes >= NODE_BYTES_MIN && bytes <= NODE_BYTES_MAX
}

/// The first four bytes of `suffix` as a number that compares as they do.
#[inline]
pub(super) fn head_of(suffix: &[u8]) -> u32 {
    if let Some(first) = suffix.first_chunk::<4>() {
        return u32::from_be_bytes(*first);
    }
    suffix.iter().enumerate().fold(0, |head, (i, byte)| head | u32::from(*byte) << (24 - 8 * i))
}

/// What a page must be: what was written, or what stands in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// Read from the device: as the module doc says.
    Image,
    /// In memory: cells in any order, garbage between them, children that are only in memory, any free bytes.
    Memory,
}

/// Checks everything that the use of a page relies on. Cost: one pass over slots and keys, one over the free bytes.
pub(super) fn validate(bytes: &[u8], form: Form) -> Result<(), Malformed> {
    let bad = |what, offset| Err(Malformed { what, offset });
    if !is_node_bytes(bytes.len()) {
        return bad("node size", 0);
    }
    let (header, _) =
        Header::read_from_prefix(bytes).or(Err(Malformed { what: "node header", offset: 0 }))?;
    check_header(&header, bytes.len())?;
    let count = usize::from(header.count.get());
    let prefix_bytes = usize::from(header.prefix_bytes.get());
    let slots_at = HEADER_BYTES + prefix_bytes;
    let heap_at = bytes.len() - usize::from(header.heap_bytes.get());
    let slots_end = slots_at + count * SLOT_BYTES;
    if slots_end > heap_at {
        return bad("node slots run into the cells", 6);
    }
    let slots = bytes.get(slots_at..slots_end).and_then(|slots| <[Slot]>::ref_from_bytes(slots).ok());
    let Some(slots) = slots else { return bad("node slots", slots_at) };
    let mut cells = Cells { bytes, heap_at, header: &header, end: bytes.len(), spans: Vec::new() };
    let mut before: Option<(u32, &[u8])> = None;
    for (index, slot) in slots.iter().enumerate() {
        let slot_at = slots_at + index * SLOT_BYTES;
        let suffix = cells.check(*slot, slot_at, form)?;
        if header.level > 0 && index == 0 {
            if !suffix.is_empty() {
                return bad("node first child has a key", slot_at);
            }
            continue;
        }
        let here = (slot.head.get(), suffix);
        if before.is_some_and(|before| before >= here) {
            return bad("node keys do not ascend", slot_at);
        }
        before = Some(here);
    }
    let free = bytes.get(slots_end..heap_at).unwrap_or_default();
    match form {
        Form::Image if header.garbage_bytes.get() != 0 => bad("node garbage", 12),
        Form::Image if cells.end != heap_at => bad("node heap size", 10),
        Form::Image if before.is_none() && prefix_bytes != 0 => bad("node prefix without a key", 8),
        Form::Image => match free.iter().position(|byte| *byte != 0) {
            Some(index) => bad("node free bytes not zero", slots_end + index),
            None => Ok(()),
        },
        Form::Memory => cells.check_spans(),
    }
}

fn check_header(header: &Header, node_bytes: usize) -> Result<(), Malformed> {
    let rules = [
        (header.magic == MAGIC, "node magic", 0),
        (header.format == FORMAT, "node format", 4),
        (header.level <= LEVEL_MAX, "node level", 5),
        (header.level == 0 || header.count.get() > 0, "node without children", 6),
        (usize::from(header.prefix_bytes.get()) <= key_bytes_max(node_bytes), "node prefix size", 8),
        (usize::from(header.heap_bytes.get()) <= node_bytes - HEADER_BYTES, "node heap size", 10),
        (header.garbage_bytes.get() <= header.heap_bytes.get(), "node garbage", 12),
        (u32::from(header.node_shift) == node_bytes.trailing_zeros(), "node size", 14),
        (header.reserved == 0, "node reserved byte", 15),
    ];
    match rules.iter().find(|(holds, ..)| !holds) {
        Some(&(_, what, offset)) => Err(Malformed { what, offset }),
        None => Ok(()),
    }
}

/// Checks cells one after the other.
struct Cells<'a> {
    bytes: &'a [u8],
    heap_at: usize,
    header: &'a Header,
    /// Where the next cell of an image ends.
    end: usize,
    /// Where the cells of a page in memory are.
    spans: Vec<(usize, usize)>,
}

impl<'a> Cells<'a> {
    /// The suffix in the cell of `slot`.
    fn check(&mut self, slot: Slot, slot_at: usize, form: Form) -> Result<&'a [u8], Malformed> {
        let malformed = |what, offset| Malformed { what, offset };
        let node_bytes = self.bytes.len();
        let cell = usize::from(slot.cell.get());
        let suffix_bytes = usize::from(slot.suffix_bytes.get());
        if cell < self.heap_at || cell + CELL_HEADER_BYTES + suffix_bytes > node_bytes {
            return Err(malformed("node cell out of range", slot_at + 4));
        }
        if usize::from(self.header.prefix_bytes.get()) + suffix_bytes > key_bytes_max(node_bytes) {
            return Err(malformed("node key too long", slot_at + 6));
        }
        let suffix_at = cell + CELL_HEADER_BYTES;
        let length = self.bytes.get(cell..suffix_at).and_then(|length| length.try_into().ok());
        let value_bytes = usize::from(u16::from_le_bytes(length.ok_or(malformed("node cell", cell))?));
        let value_at = suffix_at + suffix_bytes;
        let value = self.bytes.get(value_at..value_at + value_bytes).ok_or(malformed("node value", cell))?;
        if self.header.level == 0 && value_bytes > value_bytes_max(node_bytes) {
            return Err(malformed("node value too long", cell));
        }
        if self.header.level > 0 {
            let child: [u8; NodePtr::BYTES] = value.try_into().or(Err(malformed("node child size", cell)))?;
            if form == Form::Image && !NodePtr::from_bytes(child).is_image() {
                return Err(malformed("node child has no image", cell));
            }
        }
        match form {
            Form::Image if value_at + value_bytes != self.end => {
                return Err(malformed("node cells do not touch", slot_at + 4));
            }
            Form::Image => self.end = cell,
            Form::Memory => self.spans.push((cell, value_at + value_bytes)),
        }
        let suffix = self.bytes.get(suffix_at..value_at).ok_or(malformed("node suffix", cell))?;
        if slot.head.get() != head_of(suffix) {
            return Err(malformed("node head", slot_at));
        }
        Ok(suffix)
    }

    /// That no two cells overlap and the bytes between them are what counts as garbage.
    fn check_spans(mut self) -> Result<(), Malformed> {
        self.spans.sort_unstable();
        if self.spans.windows(2).any(|pair| pair[0].1 > pair[1].0) {
            return Err(Malformed { what: "node cells overlap", offset: self.heap_at });
        }
        let taken: usize = self.spans.iter().map(|(start, end)| end - start).sum();
        if taken + usize::from(self.header.garbage_bytes.get()) != self.bytes.len() - self.heap_at {
            return Err(Malformed { what: "node garbage", offset: 12 });
        }
        Ok(())
    }
}
