//! Rebuild: makes a page from rows that come from one page, from one and a change, or from two.
//!
//! The rows are copied in order into a fresh, zeroed page under the longest prefix that they share, so the result has
//! the form of an image whatever the source looked like. A page with a single key has no measure for what the next keys
//! will share; it gets the length that the caller supposes.
//!
//! Cost: one allocation and one copy of the rows, some microseconds for 16 KiB.

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

use super::format::{self, CELL_HEADER_BYTES, HEADER_BYTES, ROW_BYTES, SLOT_BYTES, Slot, head_of};
use super::{KeyBuf, Page, Run, u16_of};

/// A row whose key is `front` and then `back`.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) front: &'a [u8],
    pub(super) back: &'a [u8],
    pub(super) value: &'a [u8],
}

impl Row<'_> {
    fn key(&self) -> KeyBuf {
        let mut key = KeyBuf::from_slice(self.front);
        key.extend_from_slice(self.back);
        key
    }

    pub(super) fn key_bytes(&self) -> usize {
        self.front.len() + self.back.len()
    }

    /// How many bytes two keys share at their beginnings.
    pub(super) fn shared(&self, other: &Self) -> usize {
        if self.front.len() == other.front.len() && self.front == other.front {
            return self.front.len() + shared(self.back, other.back);
        }
        shared(&self.key(), &other.key())
    }

    /// The first `count` bytes of the key.
    pub(super) fn key_start(&self, count: usize) -> KeyBuf {
        let mut key = self.key();
        key.truncate(count);
        key
    }
}

/// How many bytes `a` and `b` share at their beginnings.
pub(super) fn shared(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// A row to insert or replace while a page is built anew.
#[derive(Clone, Copy)]
pub(super) struct Edit<'a> {
    pub(super) found: Result<usize, usize>,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

/// The rows of a page as an edit leaves them.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) page: &'a Page,
    pub(super) edit: Option<Edit<'a>>,
}

impl<'a> Rows<'a> {
    pub(super) fn len(&self) -> usize {
        self.page.len() + usize::from(self.edit.is_some_and(|edit| edit.found.is_err()))
    }

    /// The row that the edit is about.
    pub(super) fn edited(&self) -> Option<usize> {
        self.edit.map(|edit| match edit.found {
            Ok(index) | Err(index) => index,
        })
    }

    pub(super) fn row(&self, index: usize) -> Row<'a> {
        let source = match self.edit {
            Some(Edit { found: Ok(at) | Err(at), key, value }) if at == index => {
                return Row { front: &[], back: key, value };
            }
            Some(Edit { found: Err(at), .. }) if at < index => index - 1,
            _ => index,
        };
        row_of(self.page, source)
    }
}

fn row_of(page: &Page, index: usize) -> Row<'_> {
    Row { front: page.prefix(), back: page.suffix(index), value: page.value(index) }
}

/// Builds a page row by row.
struct Builder {
    page: Page,
    prefix_bytes: usize,
    count: usize,
    heap_at: usize,
}

/// The page that holds `count` rows; `first` is the number of them that have no key.
pub(super) fn build<'a>(
    node_bytes: usize,
    level: u8,
    count: usize,
    row: impl Fn(usize) -> Row<'a>,
    supposed_prefix: usize,
) -> Page {
    let first = usize::from(level > 0);
    let mut page = Page::new(node_bytes, level);
    let mut prefix_bytes = 0;
    if count > first {
        let (low, high) = (row(first), row(count - 1));
        prefix_bytes =
            if count - first > 1 { low.shared(&high) } else { supposed_prefix.min(low.key_bytes()) };
        page.header_mut().prefix_bytes = U16::new(u16_of(prefix_bytes));
        page.bytes[HEADER_BYTES..][..prefix_bytes].copy_from_slice(&low.key_start(prefix_bytes));
    }
    let mut builder = Builder { page, prefix_bytes, count: 0, heap_at: node_bytes };
    for index in 0..count {
        builder.push(row(index), index >= first);
    }
    builder.finish()
}

impl Builder {
    fn push(&mut self, row: Row<'_>, keyed: bool) {
        let (bytes, prefix_bytes) = (&mut self.page.bytes, self.prefix_bytes);
        let (front, back) = match prefix_bytes.checked_sub(row.front.len()) {
            _ if !keyed => (&[][..], &[][..]),
            Some(more) => (&[][..], &row.back[more..]),
            None => (&row.front[prefix_bytes..], row.back),
        };
        let suffix_bytes = front.len() + back.len();
        let slot_at = HEADER_BYTES + prefix_bytes + self.count * SLOT_BYTES;
        let cell_bytes = CELL_HEADER_BYTES + suffix_bytes + row.value.len();
        assert!(self.heap_at >= slot_at + SLOT_BYTES + cell_bytes, "rows for a page fit it");
        self.heap_at -= cell_bytes;
        let cell = &mut bytes[self.heap_at..][..cell_bytes];
        let (length, rest) = cell.split_at_mut(CELL_HEADER_BYTES);
        length.copy_from_slice(&u16_of(row.value.len()).to_le_bytes());
        let (suffix, value) = rest.split_at_mut(suffix_bytes);
        suffix[..front.len()].copy_from_slice(front);
        suffix[front.len()..].copy_from_slice(back);
        value.copy_from_slice(row.value);
        let slot = Slot {
            head: U32::new(head_of(suffix)),
            cell: U16::new(u16_of(self.heap_at)),
            suffix_bytes: U16::new(u16_of(suffix_bytes)),
        };
        bytes[slot_at..slot_at + SLOT_BYTES].copy_from_slice(slot.as_bytes());
        self.count += 1;
    }

    fn finish(mut self) -> Page {
        let heap_bytes = self.page.node_bytes() - self.heap_at;
        let header = self.page.header_mut();
        header.count = U16::new(u16_of(self.count));
        header.heap_bytes = U16::new(u16_of(heap_bytes));
        debug_assert_eq!(self.page.validate(), Ok(()), "invariant 1 of page.rs");
        self.page
    }
}

impl Page {
    /// The same rows, as `edit` leaves them, in the form of an image.
    pub(super) fn rebuilt(&self, edit: Option<Edit<'_>>, supposed_prefix: usize) -> Self {
        let rows = Rows { page: self, edit };
        build(self.node_bytes(), self.level(), rows.len(), |index| rows.row(index), supposed_prefix)
    }

    /// Whether the rows fit a page with one inserted or replaced.
    pub(super) fn fits_rebuilt(&self, found: Result<usize, usize>, key: &[u8], value: &[u8]) -> bool {
        let rows = Rows { page: self, edit: Some(Edit { found, key, value }) };
        let (first, count) = (self.first_keyed(), rows.len());
        let prefix = if count > first + 1 { rows.row(first).shared(&rows.row(count - 1)) } else { 0 };
        let old = match found {
            Ok(index) => ROW_BYTES + self.prefix().len() + self.suffix(index).len() + self.value(index).len(),
            Err(_) => 0,
        };
        let whole = self.row_bytes_under(0) + ROW_BYTES + key.len() + value.len() - old;
        HEADER_BYTES + prefix + whole - (count - first) * prefix <= self.node_bytes()
    }

    /// `put` where the page must be built anew, if the rows fit at all.
    pub(super) fn put_by_rebuild(&mut self, found: Result<usize, usize>, key: &[u8], value: &[u8]) -> bool {
        if !self.fits_rebuilt(found, key, value) {
            return false;
        }
        let rebuilt = self.rebuilt(Some(Edit { found, key, value }), 0);
        *self = Self { run: self.run, ..rebuilt };
        true
    }

    /// Bytes that the rows would take under another prefix, which all keys begin with.
    fn row_bytes_under(&self, prefix_bytes: usize) -> usize {
        let keyed = self.len() - self.first_keyed().min(self.len());
        self.row_bytes() + keyed * self.prefix().len() - keyed * prefix_bytes
    }

    /// The rows of `left` and then those of `right`, whose keys are all greater, in one page; none if that would take
    /// over `bytes_max`. In an inner page the first child of `right` gets the key `separator`, which is what the parent
    /// has for `right`.
    pub(crate) fn merged(left: &Self, right: &Self, separator: &[u8], bytes_max: usize) -> Option<Self> {
        let (node_bytes, level) = (left.node_bytes(), left.level());
        let (count, left_count, first) = (left.len() + right.len(), left.len(), left.first_keyed());
        let row = |index: usize| match index.checked_sub(left_count) {
            None => row_of(left, index),
            Some(0) if first == 1 => Row { front: &[], back: separator, value: right.value(0) },
            Some(index) => row_of(right, index),
        };
        let keyed = count.saturating_sub(first);
        let prefix = if keyed > 1 { row(first).shared(&row(count - 1)) } else { 0 };
        let separator_bytes = if first == 1 { separator.len() } else { 0 };
        let whole = left.row_bytes_under(0) + right.row_bytes_under(0) + separator_bytes;
        if HEADER_BYTES + prefix + whole - keyed * prefix > bytes_max {
            return None;
        }
        let merged = build(node_bytes, level, count, row, 0);
        Some(Self { run: Run::default(), ..merged })
    }

    /// Whether all keys of `self` are below `separator` and all of `right` not: what a merge relies on.
    pub(crate) fn is_left_of(&self, right: &Self, separator: &[u8]) -> bool {
        use std::cmp::Ordering::Less;
        let first = self.first_keyed();
        let low = self.len() == first || self.compare_key(self.len() - 1, separator) == Less;
        let high = right.len() <= first || right.compare_key(first, separator) != Less;
        low && high && self.level() == right.level() && self.node_bytes() == right.node_bytes()
    }
}

const _: () = assert!(format::NODE_BYTES_MAX - HEADER_BYTES <= u16::MAX as usize);
