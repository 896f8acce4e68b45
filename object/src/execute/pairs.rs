//! Pairs: attributes, omap and omap header, which are small values by name; and the conditions on them.
//!
//! Attributes and omap work alike: pairs are inline in the onode, or each is a row of the bodies tree and the onode counts
//! them. A change of a row looks the old one up, for the count, the usage and the piece that it may free.

use bytes::Bytes;
use seabed_types::TreeKind;

use super::object::{Object, State};
use super::{Env, Halt};
use crate::key::{self, KeyBuf, Kind};
use crate::onode::{Parts, Text};
use crate::refusal::Refused;
use crate::txn::Condition;
use crate::value::RowValue;
use crate::view::PieceRef;

/// A value row before and after.
#[derive(Debug)]
pub(crate) struct ValueEdit<'r> {
    pub(super) kind: Kind,
    pub(super) old: Option<OldValue>,
    pub(super) new: NewValue<'r>,
    /// It was looked up.
    pub(super) seen: bool,
}

/// What is freed when a value row changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct OldValue {
    pub(super) row_bytes: usize,
    pub(super) piece: Option<PieceRef>,
}

#[derive(Clone, Debug)]
pub(super) enum NewValue<'r> {
    /// Looked up, and not changed.
    Same,
    Gone,
    Bytes(Text<'r>),
    /// Stored before the transaction: where, and the bytes.
    Stored(PieceRef, &'r Bytes),
}

impl ValueEdit<'_> {
    fn new(kind: Kind, old: Option<OldValue>, seen: bool) -> Self {
        Self { kind, old, new: NewValue::Same, seen }
    }

    fn is_there(&self) -> bool {
        match self.new {
            NewValue::Same => self.old.is_some(),
            NewValue::Gone => false,
            NewValue::Bytes(_) | NewValue::Stored(..) => true,
        }
    }

    /// Removes the row; whether there was one.
    fn remove(&mut self) -> bool {
        let was_there = self.is_there();
        if was_there {
            self.new = NewValue::Gone;
        }
        was_there
    }
}

impl OldValue {
    fn decode(value: &[u8]) -> Result<Self, Halt> {
        Ok(Self { row_bytes: value.len(), piece: RowValue::decode(value)?.piece() })
    }
}

/// The kind of the rows of attributes or omap pairs.
fn kind_of(part: Parts) -> Kind {
    if part == Parts::ATTRIBUTES { Kind::Attribute } else { Kind::Omap }
}

/// The part that a value row belongs to.
fn part_of(kind: Kind) -> Parts {
    match kind {
        Kind::Extents => Parts::DATA,
        Kind::Attribute => Parts::ATTRIBUTES,
        Kind::Header => Parts::HEADER,
        Kind::Omap => Parts::OMAP,
    }
}

impl<'r> Object<'r> {
    pub(crate) fn set_attrs(&mut self, env: &mut Env<'r>, pairs: &'r [(Bytes, Bytes)]) -> Result<(), Halt> {
        for (name, value) in pairs {
            env.limits.check_attribute_name(name)?;
            if value.len() > env.limits.attribute_bytes_max() {
                return Err(
                    Refused::Invalid { what: "an attribute over 64 KiB or an eighth of a segment" }.into()
                );
            }
        }
        self.must_exist()?;
        self.insert_pairs(env, Parts::ATTRIBUTES, pairs)
    }

    pub(super) fn omap_insert(&mut self, env: &mut Env<'r>, pairs: &'r [(Bytes, Bytes)]) -> Result<(), Halt> {
        for (key, value) in pairs {
            env.limits.check_omap_key(key)?;
            if value.len() > env.limits.omap_value_bytes_max() {
                return Err(
                    Refused::Invalid { what: "an omap value over 1 MiB or an eighth of a segment" }.into()
                );
            }
        }
        self.must_exist()?;
        self.insert_pairs(env, Parts::OMAP, pairs)
    }

    pub(super) fn remove_attr(&mut self, env: &mut Env<'r>, name: &Bytes) -> Result<(), Halt> {
        env.limits.check_attribute_name(name)?;
        self.must_exist()?;
        self.remove_pair(env, Parts::ATTRIBUTES, name)
    }

    pub(super) fn omap_remove(&mut self, env: &mut Env<'r>, keys: &[Bytes]) -> Result<(), Halt> {
        for key in keys {
            env.limits.check_omap_key(key)?;
        }
        self.must_exist()?;
        keys.iter().try_for_each(|key| self.remove_pair(env, Parts::OMAP, key))
    }

    pub(super) fn omap_remove_range(
        &mut self,
        env: &mut Env<'r>,
        from: &Bytes,
        to: &Bytes,
    ) -> Result<(), Halt> {
        if from > to {
            return Err(Refused::Invalid { what: "an interval that ends before it begins" }.into());
        }
        self.must_exist()?;
        self.remove_omap(env, from, Some(to))
    }

    pub(super) fn omap_clear(&mut self, env: &mut Env<'r>) -> Result<(), Halt> {
        self.must_exist()?;
        self.remove_omap(env, &[], None)?;
        self.omap_set_header(env, Text::default())
    }

    pub(super) fn omap_set_header(&mut self, env: &mut Env<'r>, header: Text<'r>) -> Result<(), Halt> {
        if header.len() > env.limits.header_bytes_max() {
            return Err(
                Refused::Invalid { what: "an omap header over 64 KiB or an eighth of a segment" }.into()
            );
        }
        self.must_exist()?;
        if self.parts().has(Parts::HEADER) {
            let row = self.value_row(env, Kind::Header, &[])?;
            let edit = self.values.at(row);
            if header.is_empty() {
                edit.new = NewValue::Gone;
                let onode = self.change();
                onode.parts = onode.parts.without(Parts::HEADER);
            } else {
                edit.new = NewValue::Bytes(header);
            }
            // The onode has an empty header again, which is a byte.
            return self.settle(env);
        }
        self.change().header = header;
        if header.len() > env.limits.inline_bytes_max {
            self.move_header_out(env)?;
        }
        self.settle(env)
    }

    pub(super) fn expect(&mut self, env: &mut Env<'r>, condition: &Condition) -> Result<(), Halt> {
        match condition {
            Condition::Attr { name, .. } => env.limits.check_attribute_name(name)?,
            Condition::Omap { key, .. } => env.limits.check_omap_key(key)?,
            Condition::Exists | Condition::Absent | Condition::Size(_) => {}
        }
        let holds = match condition {
            Condition::Absent => !self.exists(),
            _ if !self.exists() => false,
            Condition::Exists => true,
            Condition::Size(size) => self.size() == *size,
            Condition::Attr { name, value } => {
                self.has_value(env, Parts::ATTRIBUTES, name, value.as_ref())?
            }
            Condition::Omap { key, value } => self.has_value(env, Parts::OMAP, key, value.as_ref())?,
        };
        if holds { Ok(()) } else { Err(Refused::PreconditionFailed.into()) }
    }

    fn insert_pairs(
        &mut self,
        env: &mut Env<'r>,
        part: Parts,
        pairs: &'r [(Bytes, Bytes)],
    ) -> Result<(), Halt> {
        let mut stored = env.stored(self.member().family)?.iter().peekable();
        for (index, (name, value)) in pairs.iter().enumerate() {
            let stored = stored.next_if(|stored| stored.from == index);
            if !self.parts().has(part) && stored.is_none() {
                let list = self.change_pairs(part);
                list.insert(name, value);
                if list.bytes > env.limits.inline_bytes_max {
                    self.move_pairs_out(env, part)?;
                }
                continue;
            }
            if !self.parts().has(part) {
                self.move_pairs_out(env, part)?;
            }
            let row = self.value_row(env, kind_of(part), name)?;
            let edit = self.values.at(row);
            let was_there = edit.is_there();
            edit.new = match stored {
                None => NewValue::Bytes(Text::Given(value)),
                Some(stored) => {
                    let crc = stored.crcs.first().copied().ok_or(Halt::Stale)?;
                    NewValue::Stored(PieceRef { at: stored.at, bytes: stored.bytes, crc }, value)
                }
            };
            if !was_there {
                let pairs = self.change_pairs(part);
                let Some(count) = pairs.count.checked_add(1) else {
                    return Err(Halt::Corrupt {
                        at: None,
                        what: "an onode counts more rows than there can be",
                    });
                };
                pairs.count = count;
            }
        }
        self.settle(env)
    }

    fn remove_pair(&mut self, env: &mut Env<'r>, part: Parts, name: &Bytes) -> Result<(), Halt> {
        if !self.parts().has(part) {
            let is_there = match &self.state {
                State::Seen(onode) => {
                    let pairs = if part == Parts::ATTRIBUTES { onode.attributes } else { onode.omap };
                    pairs.find(name).is_some()
                }
                State::Changed(_) | State::Absent | State::Unknown => true,
            };
            if is_there {
                self.change_pairs(part).remove_one(name);
            }
            return Ok(());
        }
        let row = self.value_row(env, kind_of(part), name)?;
        let edit = self.values.at(row);
        if edit.remove() { self.uncount(env, part) } else { Ok(()) }
    }

    /// Removes the omap pairs from `from` to before `to`.
    fn remove_omap(&mut self, env: &mut Env<'r>, from: &[u8], to: Option<&[u8]>) -> Result<(), Halt> {
        if !self.parts().has(Parts::OMAP) {
            self.change().omap.remove(from, to);
            return Ok(());
        }
        let member = self.member();
        let start = key::named_bound(member, Kind::Omap, from);
        let end: KeyBuf = match to {
            Some(to) => key::named_bound(member, Kind::Omap, to),
            None => key::kind_end(member, Kind::Omap),
        };
        if self.had.has(Parts::OMAP) {
            let values = &mut self.values;
            let mut add = |env: &mut Env<'r>, key: &[u8], value: &[u8]| {
                if key::decode_bodies(key)?.0 != member {
                    return Err(Halt::Corrupt { at: None, what: "an omap row of another member" });
                }
                let key = KeyBuf::from_slice(key);
                if values.find(&key).is_none() {
                    env.charge()?;
                    values.push(key, ValueEdit::new(Kind::Omap, Some(OldValue::decode(value)?), true));
                }
                Ok(())
            };
            env.visit(&start, &end, &mut add)?;
        }
        // Keys order as names do, and all rows of the overlay are of this member.
        let inside = self.values.iter_mut().filter(|(key, _)| **key >= start && **key < end);
        let removed = inside.map(|(_, edit)| edit.remove()).filter(|removed| *removed).count();
        for _ in 0..removed {
            self.uncount(env, Parts::OMAP)?;
        }
        Ok(())
    }

    /// Whether a pair has this value; `None`: whether there is no such pair.
    fn has_value(
        &mut self,
        env: &mut Env<'r>,
        part: Parts,
        name: &Bytes,
        expected: Option<&Bytes>,
    ) -> Result<bool, Halt> {
        let is_expected = |value: Option<&[u8]>| value == expected.map(|expected| &expected[..]);
        if !self.parts().has(part) {
            if let State::Seen(onode) = &self.state {
                let pairs = if part == Parts::ATTRIBUTES { onode.attributes } else { onode.omap };
                return Ok(is_expected(pairs.find(name)));
            }
            let value = self.change_pairs(part).find(name);
            return Ok(is_expected(value.as_deref()));
        }
        let key = key::named(self.member(), kind_of(part), name);
        match self.values.find_row(&key).map(|edit| &edit.new) {
            Some(NewValue::Gone) => return Ok(expected.is_none()),
            Some(NewValue::Bytes(value)) => return Ok(is_expected(Some(value))),
            Some(NewValue::Stored(_, value)) => return Ok(is_expected(Some(value))),
            Some(NewValue::Same) | None => {}
        }
        if !self.had.has(part) {
            return Ok(expected.is_none());
        }
        match env.row(TreeKind::Bodies, &key)?.map(RowValue::decode).transpose()? {
            None => Ok(expected.is_none()),
            Some(RowValue::Inline(value)) => Ok(is_expected(Some(value))),
            Some(RowValue::Stored(piece)) => match expected {
                Some(expected) if expected.len() == piece.bytes as usize => {
                    Ok(env.piece(&piece)? == *expected)
                }
                _ => Ok(false),
            },
        }
    }

    /// Where the row of a name is in the overlay, which it joins if need be; the header has none.
    fn value_row(&mut self, env: &mut Env<'r>, kind: Kind, name: &[u8]) -> Result<usize, Halt> {
        let key = key::named(self.member(), kind, name);
        if let Some(index) = self.values.find(&key) {
            return Ok(index);
        }
        let mut old = None;
        let seen = self.had.has(part_of(kind));
        if seen {
            old = env.row(TreeKind::Bodies, &key)?.map(OldValue::decode).transpose()?;
        }
        env.charge()?;
        Ok(self.values.push(key, ValueEdit::new(kind, old, seen)))
    }

    /// Counts one row less; a part without rows is inline again.
    fn uncount(&mut self, env: &Env<'r>, part: Parts) -> Result<(), Halt> {
        let pairs = self.change_pairs(part);
        match pairs.count.checked_sub(1) {
            Some(count) => pairs.count = count,
            None if env.absent => {}
            None => return Err(Halt::Corrupt { at: None, what: "more rows than an onode counts" }),
        }
        if pairs.count == 0 {
            let onode = self.change();
            onode.parts = onode.parts.without(part);
        }
        Ok(())
    }

    /// Makes rows of the inline attributes or omap pairs.
    pub(super) fn move_pairs_out(&mut self, env: &mut Env<'r>, part: Parts) -> Result<(), Halt> {
        let pairs = self.change_pairs(part).move_out();
        let onode = self.change();
        onode.parts = onode.parts.with(part).with(Parts::EVER);
        for (name, value) in pairs {
            let row = self.value_row(env, kind_of(part), name)?;
            self.values.at(row).new = NewValue::Bytes(value);
        }
        Ok(())
    }

    /// Makes a row of the inline omap header.
    pub(super) fn move_header_out(&mut self, env: &mut Env<'r>) -> Result<(), Halt> {
        let onode = self.change();
        let header = std::mem::take(&mut onode.header);
        onode.parts = onode.parts.with(Parts::HEADER).with(Parts::EVER);
        let row = self.value_row(env, Kind::Header, &[])?;
        self.values.at(row).new = NewValue::Bytes(header);
        Ok(())
    }
}
