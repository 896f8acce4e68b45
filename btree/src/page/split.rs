//! Split: where a page that is too full is divided, and the separator of the halves.
//!
//! The rows are those of the page with the one that did not fit. The weight of a row is what it takes under the page's
//! prefix. A cut before row i is possible if both sides fit a page: the rows without the new one under the prefix that
//! they have, the side with the new row under what that shares with the prefix.
//!
//! Of the possible cuts: 1. In a stream of ascending keys the one behind the rows that are there (at the right end), or
//! behind the new row, so that such a stream leaves full pages. 2. Else those whose larger side is at most a sixteenth of
//! a page above the best, and of these the one with the shortest separator: separators are the keys of inner pages.
//!
//! There always is a possible cut. Say N is the page's size, H the header's, p the prefix, C = N - H - p, m the greatest
//! weight. Rows that share the prefix (and replacements, always): without the new row they took at most C. Let the left
//! side be as many rows as fit C. The row that does not fit any more weighs at most m, so the right side weighs less
//! than C + m - (C - m) = 2m, and 2m <= 2 (10 + N/4 - p + N/8) <= C, as H + 20 <= N/4. Each side has a row, as m <= C and
//! the sum is over C. A new row that does not share the prefix is less than all rows with a key or greater than all: it
//! may stay alone, and the others stay as they are; in an inner page, where it is never the first child, it then is the
//! right side's first child (or the left side keeps the one child before it) and its key goes up as the separator.
//!
//! Cost: one pass over the slots, two pages built.

use super::format::{HEADER_BYTES, ROW_BYTES};
use super::rebuild::{Edit, Rows, build};
use super::{KeyBuf, Page, Run};

/// So many rows, each inserted right behind the one before, are a stream of ascending keys.
const RUN_MIN: u16 = 4;

/// What a split makes besides the left half, which stays in the page.
pub(crate) struct Split {
    /// Greater than all keys of the left half, at most the first of the right one.
    pub(crate) separator: KeyBuf,
    /// The page of the right half.
    pub(crate) right: Page,
    /// Whether the new row is in the right half.
    pub(crate) edited_right: bool,
}

impl Page {
    /// Divides the page, with a row for which `put` found no room.
    pub(crate) fn split(&mut self, found: Result<usize, usize>, key: &[u8], value: &[u8]) -> Split {
        let rows = Rows { page: self, edit: Some(Edit { found, key, value }) };
        let (count, edited) = (rows.len(), rows.edited().expect("the rows are edited"));
        let cut = choose(rows, edited);
        let (node_bytes, level) = (self.node_bytes(), self.level());
        let shared = rows.row(cut - 1).shared(&rows.row(cut));
        let right_row = rows.row(cut);
        // Suffixes are cut off where the lowest inner pages get their keys; those above only pass them on.
        let separator =
            if level == 0 { right_row.key_start(shared + 1) } else { right_row.key_start(usize::MAX) };
        let mut right = build(node_bytes, level, count - cut, |index| rows.row(cut + index), shared);
        let mut left = build(node_bytes, level, cut, |index| rows.row(index), shared);
        let edited_right = edited >= cut;
        if found.is_err() {
            let mut run = self.run;
            run.inserted(edited);
            if edited_right {
                right.run = Run { next: run.next - super::u16_of(cut), ..run };
            } else {
                left.run = run;
            }
        }
        *self = left;
        Split { separator, right, edited_right }
    }
}

/// The cut: rows before it go left.
fn choose(rows: Rows<'_>, edited: usize) -> usize {
    let cuts = possible_cuts(rows, edited);
    let run = rows.page.run;
    let inserted = rows.edit.is_some_and(|edit| edit.found.is_err());
    if inserted && run.count >= RUN_MIN - 1 && usize::from(run.next) == edited {
        let wanted = if edited + 1 == rows.len() { edited } else { edited + 1 };
        if cuts.iter().any(|cut| cut.index == wanted) {
            return wanted;
        }
    }
    let best = cuts.iter().map(|cut| cut.larger).min().expect("there always is a cut: see the module doc");
    let limit = best + rows.page.node_bytes() / 16;
    let near = cuts.iter().filter(|cut| cut.larger <= limit);
    near.min_by_key(|cut| (separator_bytes(rows, cut.index), cut.larger)).expect("the best cut is near").index
}

fn separator_bytes(rows: Rows<'_>, cut: usize) -> usize {
    if rows.page.level() > 0 {
        return rows.row(cut).key_bytes();
    }
    rows.row(cut - 1).shared(&rows.row(cut)) + 1
}

/// A cut where both sides fit.
struct Cut {
    index: usize,
    /// Bytes of the larger side, or somewhat more: its own prefix may be longer.
    larger: usize,
}

fn possible_cuts(rows: Rows<'_>, edited: usize) -> Vec<Cut> {
    let page = rows.page;
    let (first, count, node_bytes) = (page.first_keyed(), rows.len(), page.node_bytes());
    let prefix = page.prefix().len();
    let key = rows.edit.map_or(&[][..], |edit| edit.key);
    let edited_prefix = super::rebuild::shared(page.prefix(), key);
    // Bytes of a row without a prefix: whole keys, so that no number is negative.
    let weight = |index: usize| {
        let row = rows.row(index);
        ROW_BYTES + row.value.len() + if index < first { 0 } else { row.key_bytes() }
    };
    let side = |weight: usize, keyed: usize, has_edited: bool| {
        let prefix = if has_edited { edited_prefix } else { prefix };
        if keyed == 0 { HEADER_BYTES + weight } else { HEADER_BYTES + prefix + weight - keyed * prefix }
    };
    let total: usize = (0..count).map(weight).sum();
    let mut cuts = Vec::with_capacity(count);
    let mut left = 0;
    for index in 1..count {
        left += weight(index - 1);
        // The first child of an inner page loses its key, which goes up.
        let (right_keyed, lost) =
            if first == 1 { (count - index - 1, rows.row(index).key_bytes()) } else { (count - index, 0) };
        let left_bytes = side(left, index - first, edited < index);
        let right_bytes =
            side(total - left - lost, right_keyed, edited > index || (edited == index && first == 0));
        let larger = left_bytes.max(right_bytes);
        if larger <= node_bytes {
            cuts.push(Cut { index, larger });
        }
    }
    cuts
}
