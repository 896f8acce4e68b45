//! Page: one node, searched and changed in place in the bytes that go to the device.
//!
//! A new row takes a slot in the middle of the slots and a cell below the lowest cell. A value is overwritten where it
//! stands if the new one is not longer. What is removed leaves garbage, which is taken back by building the page anew
//! when there is no free space in one piece, and before an image is taken. A key that does not begin with the page's
//! prefix also makes the page be built anew, with a shorter prefix; each building takes the longest prefix that there
//! is, so pages get theirs when they fill up.
//!
//! Invariants: 1. The bytes satisfy `format::validate` for their form: a page comes from `new`, `decode` or a change
//! here. 2. `compacted` means that they satisfy it as an image, but for children that are only in memory.
//! Cost: a search compares log2(rows) integers and a key or two. A change moves the slots behind its row; one in some
//! dozens builds the page anew (a copy of its rows, an allocation).
//! Limits: format.rs.   Not here: splitting and merging, in `page/split.rs` and `page/rebuild.rs`.

use std::cmp::Ordering;
use std::ops::Range;

use seabed_types::{Malformed, NodePtr};
use smallvec::SmallVec;
use zerocopy::FromBytes;
use zerocopy::little_endian::{U16, U32};

pub(crate) mod format;
mod rebuild;
mod split;

use format::{CELL_HEADER_BYTES, Form, HEADER_BYTES, Header, ROW_BYTES, SLOT_BYTES, Slot, head_of};

/// How far from its place a guess in a search may be to be of use: a cache line of slots to either side.
const GUESS_SLOTS: usize = 8;
/// Of so many rows whose heads are equal one is found by halving; of more by a guess first, as each step reads a cell.
const BISECTED_MAX: usize = 4;

/// A whole key, put together from prefix and suffix.
pub(crate) type KeyBuf = SmallVec<[u8; 64]>;

/// A node of a tree.
#[derive(Clone, Debug)]
pub struct Page {
    bytes: Box<[u8]>,
    compacted: bool,
    run: Run,
}

/// How many of the last inserted rows each stood right behind the one before: a stream of ascending keys. Kept in
/// memory only; it decides where a page is split, never what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Run {
    next: u16,
    count: u16,
}

impl Run {
    fn inserted(&mut self, at: usize) {
        let at = u16::try_from(at).expect("a page has fewer rows than bytes");
        self.count = if at == self.next { self.count.saturating_add(1) } else { 0 };
        self.next = at + 1;
    }
}

impl Page {
    /// A page without rows.
    pub fn new(node_bytes: usize, level: u8) -> Self {
        let mut page = Self { bytes: vec![0; node_bytes].into(), compacted: true, run: Run::default() };
        *page.header_mut() = Header::new(node_bytes, level);
        page
    }

    /// Takes the image of a node. Whatever the bytes are, what this accepts can be searched, changed and written
    /// without a panic and without reading another row's bytes.
    pub fn decode(bytes: Box<[u8]>) -> Result<Self, Malformed> {
        format::validate(&bytes, Form::Image)?;
        Ok(Self { bytes, compacted: true, run: Run::default() })
    }

    /// Checks the page in memory: what every operation relies on.
    pub fn validate(&self) -> Result<(), Malformed> {
        format::validate(&self.bytes, Form::Memory)
    }

    /// The bytes as they stand in memory.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes to write to the device: brings the page into the form that `decode` takes, and keeps it so.
    pub fn image(&mut self) -> &[u8] {
        if !self.compacted {
            let run = self.run;
            *self = self.rebuilt(None, 0);
            self.run = run;
        }
        debug_assert!(self.children().all(NodePtr::is_image), "children are written before their parent");
        &self.bytes
    }

    /// Bytes of the page.
    pub fn node_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// 0 for a leaf, else one more than the level of the children.
    #[inline]
    pub fn level(&self) -> u8 {
        self.header().level
    }

    /// Rows in the page; of an inner page the children.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.header().count.get())
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that header, prefix and rows take.
    pub fn used_bytes(&self) -> usize {
        self.slots_at() + self.row_bytes()
    }

    /// Bytes that row `index` takes.
    pub(crate) fn row_bytes_at(&self, index: usize) -> usize {
        SLOT_BYTES + self.cell_bytes(self.slots()[index])
    }

    /// Bytes that nothing takes, garbage included.
    pub fn free_bytes(&self) -> usize {
        self.node_bytes() - self.used_bytes()
    }

    /// What all keys begin with.
    #[inline]
    pub fn prefix(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..self.slots_at()]
    }

    /// The rest of key `index`; empty for the first child of an inner page, which has no key.
    #[inline]
    pub fn suffix(&self, index: usize) -> &[u8] {
        self.suffix_of(self.slots()[index])
    }

    /// Writes key `index` over `key`; nothing for the first child of an inner page.
    pub(crate) fn key_into(&self, index: usize, key: &mut KeyBuf) {
        key.clear();
        if index >= self.first_keyed() {
            key.extend_from_slice(self.prefix());
            key.extend_from_slice(self.suffix(index));
        }
    }

    /// Key `index`; empty for the first child of an inner page.
    pub fn key(&self, index: usize) -> Vec<u8> {
        let mut key = KeyBuf::new();
        self.key_into(index, &mut key);
        key.into_vec()
    }

    /// Compares key `index` with `key`. The first child of an inner page has none: it is less than all.
    pub fn compare_key(&self, index: usize, key: &[u8]) -> Ordering {
        if index < self.first_keyed() {
            return Ordering::Less;
        }
        let prefix = self.prefix();
        let front = prefix.len().min(key.len());
        prefix.cmp(&key[..front]).then_with(|| self.suffix(index).cmp(&key[front..]))
    }

    /// Value `index`.
    #[inline]
    pub fn value(&self, index: usize) -> &[u8] {
        let slot = &self.slots()[index];
        let at = usize::from(slot.cell.get());
        let value_at = at + CELL_HEADER_BYTES + usize::from(slot.suffix_bytes.get());
        &self.bytes[value_at..value_at + self.value_bytes_at(at)]
    }

    /// Value `index`, to be changed.
    pub(crate) fn value_mut(&mut self, index: usize) -> &mut [u8] {
        let slot = self.slots()[index];
        let at = usize::from(slot.cell.get());
        let value_at = at + CELL_HEADER_BYTES + usize::from(slot.suffix_bytes.get());
        let bytes = self.value_bytes_at(at);
        &mut self.bytes[value_at..value_at + bytes]
    }

    /// The pointer to child `index` of an inner page.
    #[inline]
    pub fn child(&self, index: usize) -> NodePtr {
        let slot = &self.slots()[index];
        let at = usize::from(slot.cell.get()) + CELL_HEADER_BYTES + usize::from(slot.suffix_bytes.get());
        let bytes = self.bytes[at..at + NodePtr::BYTES].try_into().expect("the slice has that length");
        NodePtr::from_bytes(bytes)
    }

    /// The pointers to the children; none for a leaf.
    pub fn children(&self) -> impl Iterator<Item = NodePtr> {
        let count = if self.level() > 0 { self.len() } else { 0 };
        (0..count).map(|index| self.child(index))
    }

    /// The row with `key`, or else the place where it would be.
    #[inline]
    pub fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let first = self.first_keyed();
        let (slots_at, count) = (self.slots_at(), self.len());
        let prefix = &self.bytes[HEADER_BYTES..slots_at];
        let Some(suffix) = key.strip_prefix(prefix) else {
            // All keys of the page are on one side of `key`.
            return Err(if key < prefix { first } else { count });
        };
        let slots = &self.slots()[first..];
        let alike = alike(slots, head_of(suffix));
        let at = first + alike.start;
        match self.search_alike(&slots[alike], suffix) {
            Ok(index) => Ok(at + index),
            Err(index) => Err(at + index),
        }
    }

    /// Whether `search` for `key` would say `found`, as far as this page alone can tell: of a place at an end it cannot.
    pub(crate) fn is_spot(&self, found: Result<usize, usize>, key: &[u8]) -> bool {
        let Some(suffix) = key.strip_prefix(self.prefix()) else { return false };
        match found {
            Ok(at) => at < self.len() && self.suffix(at) == suffix,
            Err(at) => {
                (1..self.len()).contains(&at) && self.suffix(at - 1) < suffix && suffix < self.suffix(at)
            }
        }
    }

    /// As `search`, among rows whose heads are that of `suffix`.
    #[inline]
    fn search_alike(&self, slots: &[Slot], suffix: &[u8]) -> Result<usize, usize> {
        let (mut begin, mut end) = (0, slots.len());
        if let ([first, .., last], true) = (slots, end > BISECTED_MAX) {
            let (first, last) = (self.suffix_of(*first), self.suffix_of(*last));
            // What comes to rows that ascend belongs behind them all.
            if suffix > last {
                return Err(end);
            }
            if suffix < first {
                return Err(0);
            }
            let guess = guess_alike(first, last, suffix, end);
            match self.suffix_of(slots[guess]).cmp(suffix) {
                Ordering::Equal => return Ok(guess),
                Ordering::Less => begin = guess + 1,
                Ordering::Greater => end = guess,
            }
        }
        let found = slots[begin..end].binary_search_by(|slot| self.suffix_of(*slot).cmp(suffix));
        found.map(|index| begin + index).map_err(|index| begin + index)
    }

    /// The child of an inner page that has `key`.
    #[inline]
    pub(crate) fn child_index(&self, key: &[u8]) -> usize {
        match self.search(key) {
            Ok(index) => index,
            Err(index) => index - 1,
        }
    }

    /// The last child of an inner page that may have keys smaller than `key`.
    pub(crate) fn child_index_below(&self, key: &[u8]) -> usize {
        let (Ok(index) | Err(index)) = self.search(key);
        index - 1
    }

    /// Whether `put` will find room.
    pub(crate) fn has_room(&self, found: Result<usize, usize>, key: &[u8], value: &[u8]) -> bool {
        let in_place = if let Ok(at) = found {
            let slot = self.slots()[at];
            let suffix_bytes = usize::from(slot.suffix_bytes.get());
            value.len() <= self.value_bytes_at(usize::from(slot.cell.get()))
                || self.gap_bytes() >= CELL_HEADER_BYTES + suffix_bytes + value.len()
        } else {
            let prefix = self.prefix();
            key.starts_with(prefix) && self.gap_bytes() >= ROW_BYTES + key.len() - prefix.len() + value.len()
        };
        in_place || self.fits_rebuilt(found, key, value)
    }

    /// Inserts a row or replaces its value; `found` is what `search` said. False if it does not fit: nothing changed,
    /// and the page is to be split.
    pub(crate) fn put(&mut self, found: Result<usize, usize>, key: &[u8], value: &[u8]) -> bool {
        let node_bytes = self.node_bytes();
        assert!(key.len() <= format::key_bytes_max(node_bytes), "the caller keeps to the limit of keys");
        assert!(
            value.len() <= format::value_bytes_max(node_bytes),
            "the caller keeps to the limit of values"
        );
        let done = match found {
            Ok(at) => self.replace_in_place(at, value),
            Err(at) => self.insert_in_place(at, key, value),
        };
        let done = done || self.put_by_rebuild(found, key, value);
        if let (true, Err(at)) = (done, found) {
            self.run.inserted(at);
        }
        done
    }

    /// Puts the pointer to a new child behind child `index - 1`. As `put`.
    pub(crate) fn put_child(&mut self, index: usize, key: &[u8], child: NodePtr) -> bool {
        debug_assert!(self.level() > 0, "only an inner page has children");
        self.put(Err(index), key, &child.to_bytes())
    }

    /// Points child `index` elsewhere.
    pub(crate) fn set_child(&mut self, index: usize, child: NodePtr) {
        assert!(self.level() > 0, "only an inner page has children");
        assert!(self.replace_in_place(index, &child.to_bytes()), "all pointers have the same length");
    }

    /// Removes row `index`. If it is the first child of an inner page, the next child takes its keys.
    pub(crate) fn remove(&mut self, index: usize) {
        let count = self.len();
        let slot = self.slots()[index];
        let cell_bytes = self.cell_bytes(slot);
        let begin = self.slots_at() + index * SLOT_BYTES;
        self.bytes.copy_within(begin + SLOT_BYTES..self.slots_at() + count * SLOT_BYTES, begin);
        self.header_mut().count = U16::new(u16_of(count - 1));
        self.add_garbage(cell_bytes);
        if index < self.first_keyed() && count > 1 {
            self.drop_key(0);
        }
        self.compacted = false;
    }

    /// Takes the key of row `index` away; the value stays.
    fn drop_key(&mut self, index: usize) {
        let slot = self.slots()[index];
        let suffix_bytes = usize::from(slot.suffix_bytes.get());
        let cell = usize::from(slot.cell.get());
        let moved = cell + suffix_bytes;
        self.bytes.copy_within(cell..cell + CELL_HEADER_BYTES, moved);
        let bare = Slot { head: U32::ZERO, cell: U16::new(u16_of(moved)), suffix_bytes: U16::ZERO };
        self.set_slot(index, bare);
        self.add_garbage(suffix_bytes);
    }

    fn replace_in_place(&mut self, at: usize, value: &[u8]) -> bool {
        let slot = self.slots()[at];
        let cell = usize::from(slot.cell.get());
        let value_at = cell + CELL_HEADER_BYTES + usize::from(slot.suffix_bytes.get());
        let old_bytes = self.value_bytes_at(cell);
        if value.len() <= old_bytes {
            self.bytes[value_at..value_at + value.len()].copy_from_slice(value);
            if value.len() < old_bytes {
                self.bytes[cell..cell + CELL_HEADER_BYTES]
                    .copy_from_slice(&u16_of(value.len()).to_le_bytes());
                self.add_garbage(old_bytes - value.len());
                self.compacted = false;
            }
            return true;
        }
        let suffix_bytes = usize::from(slot.suffix_bytes.get());
        let new_bytes = CELL_HEADER_BYTES + suffix_bytes + value.len();
        if self.gap_bytes() < new_bytes {
            return false;
        }
        let new_cell = self.node_bytes() - self.heap_bytes() - new_bytes;
        self.bytes.copy_within(value_at - suffix_bytes..value_at, new_cell + CELL_HEADER_BYTES);
        self.write_value(new_cell, suffix_bytes, value);
        self.set_slot(at, Slot { cell: U16::new(u16_of(new_cell)), ..slot });
        self.set_heap_bytes(self.heap_bytes() + new_bytes);
        self.add_garbage(CELL_HEADER_BYTES + suffix_bytes + old_bytes);
        self.compacted = false;
        true
    }

    fn insert_in_place(&mut self, at: usize, key: &[u8], value: &[u8]) -> bool {
        let Some(suffix) = key.strip_prefix(self.prefix()) else { return false };
        if self.gap_bytes() < ROW_BYTES + suffix.len() + value.len() {
            return false;
        }
        let count = self.len();
        let cell_bytes = CELL_HEADER_BYTES + suffix.len() + value.len();
        let cell = self.node_bytes() - self.heap_bytes() - cell_bytes;
        self.bytes[cell + CELL_HEADER_BYTES..][..suffix.len()].copy_from_slice(suffix);
        self.write_value(cell, suffix.len(), value);
        let begin = self.slots_at() + at * SLOT_BYTES;
        self.bytes.copy_within(begin..self.slots_at() + count * SLOT_BYTES, begin + SLOT_BYTES);
        self.header_mut().count = U16::new(u16_of(count + 1));
        self.set_heap_bytes(self.heap_bytes() + cell_bytes);
        let (cell, suffix_bytes) = (U16::new(u16_of(cell)), U16::new(u16_of(suffix.len())));
        self.set_slot(at, Slot { head: U32::new(head_of(suffix)), cell, suffix_bytes });
        self.compacted = false;
        true
    }

    /// The first row that has a key.
    #[inline]
    fn first_keyed(&self) -> usize {
        usize::from(self.level() > 0)
    }

    #[inline]
    fn header(&self) -> &Header {
        Header::ref_from_prefix(&self.bytes).expect("a page is longer than its header").0
    }

    fn header_mut(&mut self) -> &mut Header {
        Header::mut_from_prefix(&mut self.bytes).expect("a page is longer than its header").0
    }

    #[inline]
    fn slots_at(&self) -> usize {
        HEADER_BYTES + usize::from(self.header().prefix_bytes.get())
    }

    #[inline]
    fn slots(&self) -> &[Slot] {
        let bytes = &self.bytes[self.slots_at()..];
        <[Slot]>::ref_from_prefix_with_elems(bytes, self.len()).expect("the slots are in the page").0
    }

    fn set_slot(&mut self, index: usize, slot: Slot) {
        let (slots_at, count) = (self.slots_at(), self.len());
        let bytes = &mut self.bytes[slots_at..];
        <[Slot]>::mut_from_prefix_with_elems(bytes, count).expect("the slots are in the page").0[index] =
            slot;
    }

    #[inline]
    fn suffix_of(&self, slot: Slot) -> &[u8] {
        let at = usize::from(slot.cell.get()) + CELL_HEADER_BYTES;
        &self.bytes[at..at + usize::from(slot.suffix_bytes.get())]
    }

    #[inline]
    fn value_bytes_at(&self, cell: usize) -> usize {
        let bytes = self.bytes[cell..cell + CELL_HEADER_BYTES].try_into().expect("the slice has two bytes");
        usize::from(u16::from_le_bytes(bytes))
    }

    fn write_value(&mut self, cell: usize, suffix_bytes: usize, value: &[u8]) {
        self.bytes[cell..cell + CELL_HEADER_BYTES].copy_from_slice(&u16_of(value.len()).to_le_bytes());
        self.bytes[cell + CELL_HEADER_BYTES + suffix_bytes..][..value.len()].copy_from_slice(value);
    }

    fn cell_bytes(&self, slot: Slot) -> usize {
        let suffix_bytes = usize::from(slot.suffix_bytes.get());
        CELL_HEADER_BYTES + suffix_bytes + self.value_bytes_at(usize::from(slot.cell.get()))
    }

    fn heap_bytes(&self) -> usize {
        usize::from(self.header().heap_bytes.get())
    }

    fn set_heap_bytes(&mut self, bytes: usize) {
        self.header_mut().heap_bytes = U16::new(u16_of(bytes));
    }

    fn add_garbage(&mut self, bytes: usize) {
        let garbage = usize::from(self.header().garbage_bytes.get()) + bytes;
        debug_assert!(garbage <= self.heap_bytes(), "garbage is a part of the heap");
        self.header_mut().garbage_bytes = U16::new(u16_of(garbage));
    }

    /// Bytes of slots and cells.
    fn row_bytes(&self) -> usize {
        let garbage = usize::from(self.header().garbage_bytes.get());
        self.heap_bytes() - garbage + self.len() * SLOT_BYTES
    }

    /// Free bytes between slots and cells.
    fn gap_bytes(&self) -> usize {
        self.node_bytes() - self.heap_bytes() - self.slots_at() - self.len() * SLOT_BYTES
    }
}

/// The slots whose heads are `head`; an empty range where they would be.
#[inline]
fn alike(slots: &[Slot], head: u32) -> Range<usize> {
    let begin = lower_bound(slots, head);
    let count = match &slots[begin..] {
        [slot, next, ..] if slot.head.get() == head && next.head.get() == head => {
            slots[begin..].partition_point(|slot| slot.head.get() == head)
        }
        [slot, ..] if slot.head.get() == head => 1,
        _ => 0,
    };
    begin..begin + count
}

/// Where `head` would be if the heads between the first and the last slot were spread evenly; none where it is not among them.
#[inline]
fn guess_of(slots: &[Slot], head: u32) -> Option<usize> {
    let [first, .., last] = slots else { return None };
    let (first, last) = (first.head.get(), last.head.get());
    if head <= first || head > last {
        return None;
    }
    let guess = u64::from(head - first) * (slots.len() as u64 - 1) / u64::from(last - first);
    Some(usize::try_from(guess).expect("at most the last slot's index"))
}

/// Where the suffix of one of `count` rows would be if those between `first` and `last`, which begin alike, were spread evenly.
/// The rows of one object are often numbered without a gap, and then it is right.
fn guess_alike(first: &[u8], last: &[u8], suffix: &[u8], count: usize) -> usize {
    let common = first.iter().zip(last).take_while(|(first, last)| first == last).count();
    let number = |suffix: &[u8]| {
        let rest = suffix.get(common..).unwrap_or(&[]);
        let whole = rest.first_chunk().copied().unwrap_or_else(|| {
            let mut bytes = [0; 8];
            bytes[..rest.len()].copy_from_slice(rest);
            bytes
        });
        // Six bytes tell apart what the first does, and times the rows of a page they are a number still.
        u64::from_be_bytes(whole) >> 16
    };
    let (first, last, number) = (number(first), number(last), number(suffix));
    let guess = number.saturating_sub(first) * (count as u64 - 1) / last.saturating_sub(first).max(1);
    usize::try_from(guess).unwrap_or(usize::MAX).min(count - 1)
}

/// The first slot whose head is at least `head`.
///
/// Hashes come first in most keys, so the heads of a page are spread evenly, and a guess by proportion is mostly right
/// but for a few slots: they are in one or two cache lines, where halving from the middle would fetch four or five, one
/// after the other. If the guess is wrong, what is left of the slots is halved.
#[inline]
fn lower_bound(slots: &[Slot], head: u32) -> usize {
    let (mut begin, mut end) = (0, slots.len());
    if end > 4 * GUESS_SLOTS {
        let Some(guess) = guess_of(slots, head) else {
            return if head <= slots[0].head.get() { 0 } else { end };
        };
        let (low, high) = (guess.saturating_sub(GUESS_SLOTS), (guess + GUESS_SLOTS).min(end - 1));
        if slots[low].head.get() >= head {
            end = low;
        } else if slots[high].head.get() < head {
            begin = high + 1;
        } else {
            (begin, end) = (low + 1, high);
        }
    }
    begin + slots[begin..end].partition_point(|slot| slot.head.get() < head)
}

fn u16_of(number: usize) -> u16 {
    u16::try_from(number).expect("lengths and offsets in a page are under 64 KiB")
}

#[cfg(test)]
mod tests;
