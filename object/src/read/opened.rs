//! Opened: what reads of an object begin with, as it was in one moment, so that its bytes can be read in slices.
//!
//! A caller that reads in slices keeps the rows as they were in that moment, and bounds what it asks for at a time; each
//! slice is planned by itself, so the plan of an object of any size takes little memory.
//!
//! Limits: a slice visits one row per 64 KiB of its range, or as many rows as the caller says.

use bytes::Bytes;
use seabed_types::{CHUNK_BYTES, TreeKind};

use super::{Range, chunks_of_row};
use super::{ReadError, ReadPlan, Stat, clip, member_of, onode, plan_of, visit};
use crate::ROW_BYTES;
use crate::extents::Extents;
use crate::id::ObjectId;
use crate::key::{self, KeyBuf, Member, Position};
use crate::onode::{OnodeRef, Parts};
use crate::view::{Direction, Rows, Stop};

/// An object that is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// What it is.
    pub stat: Stat,
    member: Member,
    data: Data,
}

/// Where its bytes are.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Data {
    Inline(Bytes),
    /// The extents in its onode.
    Extents(Box<Extents>),
    Rows,
}

/// The first look at an object that is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Look {
    /// How to read all that was asked for.
    Whole(ReadPlan),
    /// It is more than is read at once: so many bytes.
    Long(u64),
}

/// What an object is, and where its bytes are.
pub fn open(rows: &dyn Rows, id: &ObjectId) -> Result<Opened, ReadError> {
    Opened::of(id, &onode(rows, id)?)
}

/// How to read `bytes` bytes from `offset` on, clipped at the object's size, if that are at most `whole_max`.
pub fn look(
    rows: &dyn Rows,
    id: &ObjectId,
    offset: u64,
    bytes: u64,
    whole_max: u64,
) -> Result<Look, ReadError> {
    let onode = onode(rows, id)?;
    let range = clip(onode.size, offset, bytes)?;
    if range.bytes > whole_max {
        return Ok(Look::Long(range.bytes));
    }
    plan_of(rows, id, &onode, range).map(Look::Whole)
}

/// The bytes of pieces that up to `rows_max` rows of a family point to, those from `from` on, and where the next ones begin.
pub fn allocated_from(
    rows: &dyn Rows,
    opened: &Opened,
    from: Option<&[u8]>,
    rows_max: usize,
) -> Result<(u64, Option<KeyBuf>), ReadError> {
    let (mut sum, mut next, mut left) = (0, None, rows_max.max(1));
    let bound = key::family_bound(opened.member);
    let end = key::family_end(opened.member);
    let from = from.unwrap_or(&bound);
    visit(rows, TreeKind::Bodies, from, Some(&end), Direction::Forward, &mut |key, value| {
        if left == 0 {
            next = Some(KeyBuf::from_slice(key));
            return Ok(false);
        }
        left -= 1;
        sum += crate::usage::usage_of_row(TreeKind::Bodies, key, value)?.allocated.cast_unsigned();
        Ok(true)
    })?;
    Ok((sum, next))
}

impl Opened {
    fn of(id: &ObjectId, onode: &OnodeRef<'_>) -> Result<Self, ReadError> {
        let data = match onode.extents()? {
            Some(extents) => Data::Extents(Box::new(extents)),
            None if onode.parts.has(Parts::CHUNKS) => Data::Rows,
            None => Data::Inline(Bytes::copy_from_slice(onode.data)),
        };
        Ok(Self { stat: Stat::of(onode), member: member_of(id, onode), data })
    }

    /// Bytes of the pieces that its onode points to.
    pub fn allocated_in_onode(&self) -> u64 {
        match &self.data {
            Data::Extents(extents) => extents.stored_bytes(),
            Data::Inline(_) | Data::Rows => 0,
        }
    }

    /// The part of `offset..offset + bytes` that it has.
    pub fn clip(&self, offset: u64, bytes: u64) -> Result<Range, ReadError> {
        clip(self.stat.size, offset, bytes)
    }

    /// How to read a range that [`Opened::clip`] gave, or a part of one.
    pub fn plan(&self, rows: &dyn Rows, range: Range) -> Result<ReadPlan, ReadError> {
        let size = self.stat.size;
        match &self.data {
            _ if range.bytes == 0 => Ok(ReadPlan { size, parts: Vec::new() }),
            Data::Inline(data) => Ok(ReadPlan::of_inline(size, data, range)),
            Data::Extents(extents) => ReadPlan::of_chunks(rows, (size, self.member), Some(extents), range),
            Data::Rows => ReadPlan::of_chunks(rows, (size, self.member), None, range),
        }
    }

    /// The stored ranges within a range (as [`Opened::clip`] gives it) that up to `rows_max` rows name, and the offset at which
    /// to go on. Ranges that touch are one.
    pub fn extents(
        &self,
        rows: &dyn Rows,
        range: Range,
        rows_max: usize,
    ) -> Result<(Vec<Range>, Option<u64>), ReadError> {
        let end = range.offset + range.bytes;
        if range.bytes == 0 || !matches!(self.data, Data::Rows) {
            let plan = self.plan(rows, range)?;
            return Ok((plan.stored_ranges(range.offset), None));
        }
        let (mut found, mut next, mut left) = (Vec::new(), None, rows_max.max(1));
        let from = key::extents_bound(self.member, range.offset / ROW_BYTES);
        let to = key::extents_bound(self.member, (end - 1) / ROW_BYTES + 1);
        visit(rows, TreeKind::Bodies, &from, Some(&to), Direction::Forward, &mut |key, value| {
            let (of, Position::Extents(number)) = key::decode_bodies(key)? else {
                return Err(Stop::Corrupt { at: None, what: "a row of another kind among extents" }.into());
            };
            if of.number != self.member.number {
                return Err(Stop::Corrupt { at: None, what: "a row of another member among extents" }.into());
            }
            if left == 0 {
                next = Some((number * ROW_BYTES).max(range.offset));
                return Ok(false);
            }
            left -= 1;
            chunks_of_row(number, &Extents::decode(value)?, range, &mut |start, chunk| {
                let from = start.max(range.offset);
                let to = end.min(start + u64::from(chunk.bytes));
                if from < to {
                    join(&mut found, Range { offset: from, bytes: to - from });
                }
            });
            Ok(true)
        })?;
        Ok((found, next))
    }
}

/// Adds a range to those before it.
pub(super) fn join(ranges: &mut Vec<Range>, range: Range) {
    debug_assert!(range.bytes <= u64::MAX - CHUNK_BYTES as u64, "ranges are within an object");
    match ranges.last_mut() {
        Some(last) if last.offset + last.bytes == range.offset => last.bytes += range.bytes,
        _ => ranges.push(range),
    }
}
