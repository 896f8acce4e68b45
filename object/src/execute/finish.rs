//! Finish: turns the working states of a transaction's objects into row changes, new pieces, freed bytes and usage.
//!
//! Neighbouring new chunks of a row that come from neighbouring bytes of one source become one piece, up to the row's 16; a
//! chunk shorter than 4 KiB is a piece of its own, so that it can be packed. What a chunk or value pointed to before is
//! freed if it does not point there any more, so pieces that a later operation of the same transaction replaced never
//! come into being.

use seabed_types::TreeKind;

use super::object::{Before, Object, State};
use super::pairs::{NewValue, OldValue, ValueEdit};
use super::{Env, Outcome, Work};
use crate::ROW_CHUNKS;
use crate::edit::{ExtentsEdit, Slot, Sums, push_run};
use crate::effects::{Checksums, Edit, Effects, NewPiece, OnodeEdit, RowChange};
use crate::extents::FULL;
use crate::key::{self, KeyBuf, Kind, Member};
use crate::onode::{Parts, Text};
use crate::refusal::{Refusal, Refused};
use crate::usage::Usage;
use crate::value::{RowValue, varint_bytes};

/// The value of a graves row.
pub(crate) const GRAVE: [u8; 1] = [1];

impl Work<'_> {
    /// The effects, or why there are none.
    pub(crate) fn finish(self) -> Outcome {
        let Self { env, mut objects } = self;
        if env.absent {
            return Outcome::Absent;
        }
        let rows =
            objects.iter().flatten().map(|object| 2 + object.extents.len() + object.values.len()).sum();
        let mut effects =
            Effects { rows: Vec::with_capacity(rows), next_id: env.next_id, ..Effects::default() };
        for (index, object) in objects.iter_mut().enumerate() {
            let rows = effects.rows.len();
            if let Some(object) = object {
                object.finish(&env, &mut effects);
            }
            if effects.rows.len() > rows {
                effects.objects.push(index);
            }
        }
        let (bytes, max) = (effects.delta_bytes_max(), env.limits.record_bytes_max);
        if bytes > max {
            return Outcome::Refused(Refusal { op: env.op, why: Refused::too_many_changes(bytes, max) });
        }
        Outcome::Ready(effects)
    }
}

impl Object<'_> {
    fn finish(&mut self, env: &Env<'_>, effects: &mut Effects) {
        if let Some(member) = self.grave {
            effects.set_grave(member);
        }
        if let Some((member, bytes)) = self.adopted.filter(|_| !seabed_types::seeded!(82)) {
            effects.remove_grave(member, bytes);
        }
        if let (true, Some(before)) = (self.drops_extents, &self.before) {
            for (_, chunk) in before.extents.iter() {
                push_run(&mut effects.freed, chunk.at, u32::from(chunk.bytes));
            }
        }
        let extents = self.settle_extents(env);
        self.finish_onode(env, extents, effects);
        // An object that was removed has no rows left in its overlays.
        let Some(member) = self.exists().then(|| self.member()) else { return };
        let (was_inside, is_row) = (self.had.has(Parts::EXTENTS), self.parts().has(Parts::DATA));
        for (number, mut edit) in self.extents.drain() {
            if was_inside && number == 0 {
                if !is_row || edit.is_empty() {
                    // Nothing is left of them.
                    edit.push_freed(edit.had(), &mut effects.freed);
                    continue;
                }
                if seabed_types::seeded!(67) {
                    edit.push_freed(edit.had() & !edit.changed(), &mut effects.freed);
                }
                edit.move_out();
            }
            effects.push_extents(env, key::extents(member, number), edit);
        }
        for (key, edit) in self.values.drain() {
            effects.push_value(env, key, edit);
        }
    }

    /// Decides where the chunks of a small object are found; the edit of its extents if that stays in the onode.
    fn settle_extents(&mut self, env: &Env<'_>) -> Option<Box<ExtentsEdit>> {
        if !self.exists() || !self.parts().has(Parts::EXTENTS) {
            return None;
        }
        let edit = self.extents.take(&0)?;
        let head_bytes = match &self.state {
            State::Changed(onode) => onode.head_bytes(),
            State::Unknown | State::Absent | State::Seen(_) => {
                self.before.as_ref().map_or(0, |before| before.head().len())
            }
        };
        // An onode that nobody settled here may be longer than any that this program makes.
        let is_short = edit.value_bytes_max() <= env.limits.inline_extents_max
            && head_bytes <= env.limits.extents_head_max();
        if is_short && !edit.is_empty() {
            return Some(edit);
        }
        let is_empty = edit.is_empty();
        let onode = self.change();
        onode.parts = onode.parts.without(Parts::EXTENTS);
        if !is_empty {
            onode.parts = onode.parts.with(Parts::DATA).with(Parts::EVER);
        }
        self.extents.push(0, edit);
        None
    }

    /// The names row; `extents`: the change of those in the onode.
    fn finish_onode(&mut self, env: &Env<'_>, extents: Option<Box<ExtentsEdit>>, effects: &mut Effects) {
        let key_bytes = self.key.len();
        let usage_of = |value_bytes: usize, size: u64, allocated: u64| {
            Usage::of_onode(key_bytes + value_bytes, size, allocated)
        };
        let allocated = self.before.as_ref().map_or(0, |before| before.extents.stored_bytes());
        let before = self.before.as_ref().map(|before| usage_of(before.value.len(), before.size, allocated));
        let size = if self.exists() { self.size() } else { 0 };
        let mut value = match &self.state {
            State::Unknown => return,
            State::Absent => {
                if let Some(before) = before {
                    effects.usage = effects.usage.minus(before);
                    effects.push_seen(TreeKind::Names, std::mem::take(&mut self.key), Edit::Gone);
                }
                return;
            }
            State::Seen(_) if extents.is_none() => return,
            State::Seen(_) => self.before.as_ref().map(|before| before.head().to_vec()).unwrap_or_default(),
            State::Changed(onode) => onode.encode(extents.as_ref().map_or(0, |edit| edit.value_bytes_max())),
        };
        let changed = extents.as_ref().map_or(0, |edit| edit.changed());
        let Some(edit) = extents.filter(|_| changed != 0) else {
            // Extents that nobody touched stay as they are.
            let mut allocated_now = 0;
            if self.parts().has(Parts::EXTENTS) {
                value.extend_from_slice(self.before.as_ref().map_or(&[], |before| before.extents_bytes()));
                allocated_now = allocated;
            }
            assert!(value.len() <= env.limits.row_value_bytes_max(), "a settled onode fits its row");
            if self.before.as_ref().is_none_or(|before| before.value != value) {
                let after = usage_of(value.len(), size, allocated_now);
                effects.usage = effects.usage.plus(after).minus(before.unwrap_or_default());
                effects.push_seen(TreeKind::Names, std::mem::take(&mut self.key), Edit::Set(value));
            }
            return;
        };
        assert!(value.len() <= env.limits.extents_head_max(), "extents stay in short onodes only");
        edit.push_freed(changed, &mut effects.freed);
        effects.usage = effects.usage.minus(before.unwrap_or_default());
        let row = effects.rows.len();
        let extents = effects.place_pieces(env, row, edit);
        let edit = OnodeEdit { head: value, size, member: self.member(), extents };
        effects.push_seen(TreeKind::Names, std::mem::take(&mut self.key), Edit::Onode(edit));
    }
}

impl<'r> Before<'r> {
    /// The onode but for its extents.
    fn head(&self) -> &'r [u8] {
        &self.value[..self.value.len() - self.extents_len]
    }

    /// The extents, which come last.
    fn extents_bytes(&self) -> &'r [u8] {
        &self.value[self.value.len() - self.extents_len..]
    }
}

impl Effects {
    pub(crate) fn push(&mut self, tree: TreeKind, key: KeyBuf, edit: Edit) {
        self.rows.push(RowChange { tree, key, seen: false, edit });
    }

    /// As [`Self::push`], for a row that was looked up.
    fn push_seen(&mut self, tree: TreeKind, key: KeyBuf, edit: Edit) {
        self.rows.push(RowChange { tree, key, seen: true, edit });
    }

    /// Leaves the rows of a member to be freed.
    pub(crate) fn set_grave(&mut self, member: Member) {
        let key = key::graves(member);
        self.usage = self.usage.plus(Usage::of_grave(key.len() + GRAVE.len()));
        self.push(TreeKind::Graves, key, Edit::Set(GRAVE.to_vec()));
    }

    /// Takes a graves row of `value_bytes` bytes away.
    pub(crate) fn remove_grave(&mut self, member: Member, value_bytes: usize) {
        let key = key::graves(member);
        self.usage = self.usage.minus(Usage::of_grave(key.len() + value_bytes));
        self.push(TreeKind::Graves, key, Edit::Gone);
    }

    /// Adds the change of an extents row, if it is one: freed bytes, usage but for the new row's length, the row.
    pub(crate) fn push_extents_row(&mut self, key: KeyBuf, edit: Box<ExtentsEdit>) {
        if !edit.is_change() {
            return;
        }
        let changed = edit.changed();
        edit.push_freed(changed, &mut self.freed);
        let Sums { old_value_bytes, freed, placed } = edit.sums(changed);
        if old_value_bytes > 0 {
            let old = Usage::of_body(Kind::Extents, key.len() + old_value_bytes, 0);
            self.usage = self.usage.minus(old);
        }
        let (freed, placed) =
            (Usage::of_body(Kind::Extents, 0, freed), Usage::of_body(Kind::Extents, 0, placed));
        self.usage = self.usage.plus(placed).minus(freed);
        let edit = if edit.is_empty() { Edit::Gone } else { Edit::Extents(edit) };
        self.rows.push(RowChange { tree: TreeKind::Bodies, key, seen: old_value_bytes > 0, edit });
    }

    fn push_extents(&mut self, env: &Env<'_>, key: KeyBuf, edit: Box<ExtentsEdit>) {
        let edit = self.place_pieces(env, self.rows.len(), edit);
        self.push_extents_row(key, edit);
    }

    /// Makes pieces of an edit's new chunks; row number `row` will point to them.
    fn place_pieces(&mut self, env: &Env<'_>, row: usize, mut edit: Box<ExtentsEdit>) -> Box<ExtentsEdit> {
        let mut placed = 0;
        for index in edit.unplaced() {
            let (true, Slot::New { of, offset, bytes }) = (index >= placed, edit.slot(index)) else {
                continue;
            };
            let mut count = 1;
            if bytes == FULL {
                let next = |count: usize| Slot::New { of, offset: offset + count * usize::from(FULL), bytes };
                while index + count < ROW_CHUNKS && edit.slot(index + count) == next(count) {
                    count += 1;
                }
            }
            let end = offset + (count - 1) * usize::from(FULL) + usize::from(bytes);
            let piece = u32::try_from(self.pieces.len()).expect("fewer pieces than rows times chunks");
            let data = env.source_bytes(of).slice(offset..end);
            self.pieces.push(NewPiece { data, row, checksums: Checksums::Chunks });
            for chunk in 0..count {
                edit.set(index + chunk, Slot::New { of: piece, offset: chunk, bytes });
            }
            placed = index + count;
        }
        edit
    }

    fn push_value(&mut self, env: &Env<'_>, key: KeyBuf, edit: ValueEdit<'_>) {
        let ValueEdit { kind, old, new, seen } = edit;
        let usage_of = |key: &KeyBuf, row_bytes: usize, allocated: u64| {
            Usage::of_body(kind, key.len() + row_bytes, allocated)
        };
        let (edit, row_bytes, allocated) = match new {
            NewValue::Same => return,
            NewValue::Gone if old.is_none() => return,
            NewValue::Gone => (Edit::Gone, 0, 0),
            NewValue::Bytes(value) => self.new_value(env, value),
            NewValue::Stored(piece, _) => {
                let row_bytes = RowValue::Stored(piece).encoded_bytes();
                (Edit::Stored(piece), row_bytes, u64::from(piece.bytes))
            }
        };
        if let Some(OldValue { row_bytes, piece }) = old {
            let allocated = piece.map_or(0, |piece| u64::from(piece.bytes));
            self.usage = self.usage.minus(usage_of(&key, row_bytes, allocated));
            self.freed.extend(piece.map(|piece| (piece.at, piece.bytes)));
        }
        if edit != Edit::Gone {
            self.usage = self.usage.plus(usage_of(&key, row_bytes, allocated));
        }
        self.rows.push(RowChange { tree: TreeKind::Bodies, key, seen, edit });
    }

    /// The row, its length and the bytes it points to, for a value that is inline or becomes a piece.
    fn new_value(&mut self, env: &Env<'_>, value: Text<'_>) -> (Edit, usize, u64) {
        if value.len() <= env.limits.value_inline_max() {
            let row = RowValue::Inline(&value).encode();
            let row_bytes = row.len();
            return (Edit::Set(row), row_bytes, 0);
        }
        let bytes = u32::try_from(value.len()).expect("limits were checked");
        let (piece, row) = (self.pieces.len(), self.rows.len());
        self.pieces.push(NewPiece { data: value.to_bytes(), row, checksums: Checksums::Whole });
        (Edit::Piece { piece, bytes }, 1 + 8 + varint_bytes(u64::from(bytes)) + 4, u64::from(bytes))
    }
}
