//! Read: plans of what to load for a question about objects; all but the loading.
//!
//! Small answers come at once, since small parts are inline in rows. Stored bytes come as places with checksums
//! ([`Run`], [`Value::Stored`]), which the caller loads and verifies. What is not in memory is `Stop::Absent`, after
//! as much as could be met without it has been met.
//!
//! Cost: stat is one row; a read one names row and one row for each 64 KiB; an omap page one scan.

mod listing;
mod opened;

use std::ops::ControlFlow;

use bytes::Bytes;
use seabed_types::{CHUNK_BYTES, Crc, Paddr, TreeKind};
use smallvec::SmallVec;

pub use self::listing::{
    AttributePage, Listed, OmapPage, Page, PageLimit, attrs, attrs_from, list, list_page, omap_get,
    omap_page, omap_range,
};
pub use self::opened::{Look, Opened, allocated_from, look, open};
use crate::ROW_BYTES;
use crate::extents::{Chunk, Extents, FULL};
use crate::id::ObjectId;
use crate::key::{self, Kind, Member, Position};
use crate::onode::{OnodeRef, Parts};
use crate::txn::Hint;
use crate::value::{RowValue, Value};
use crate::view::{Direction, Rows, Stop};

/// Why a read has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    /// The object does not exist.
    #[error("the object does not exist")]
    NotFound,
    /// The object has no such attribute.
    #[error("the object has no such attribute")]
    NoSuchAttr,
    /// The question breaks a rule.
    #[error("invalid: {what}")]
    Invalid {
        /// Which.
        what: &'static str,
    },
    /// Not in memory, or damaged.
    #[error(transparent)]
    Stop(#[from] Stop),
}

impl From<seabed_types::Malformed> for ReadError {
    fn from(malformed: seabed_types::Malformed) -> Self {
        Self::Stop(malformed.into())
    }
}

/// What an object is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Stat {
    /// Its bytes.
    pub size: u64,
    /// How many attributes it has.
    pub attributes: u64,
    /// How many omap pairs it has.
    pub omap: u64,
    /// What was said of its use.
    pub hint: Hint,
    /// Its family: another one means that it was removed and made again.
    pub family: u64,
}

/// Bytes that stand in one place on the device: whole chunks, but for the last, which may be shorter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// The first byte.
    pub at: Paddr,
    /// All of them.
    pub bytes: u32,
    /// One for each chunk of 4096 bytes.
    pub crcs: SmallVec<[Crc; 16]>,
    /// Bytes at the beginning that were not asked for.
    pub skip: u32,
    /// Bytes that were asked for.
    pub take: u32,
}

/// Some of the bytes asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// So many zeros.
    Zeros(u64),
    /// These.
    Inline(Bytes),
    /// To be loaded.
    Run(Run),
}

/// How to answer a read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadPlan {
    /// The object's size.
    pub size: u64,
    /// The bytes in order, as many as were asked for or as there are.
    pub parts: Vec<Part>,
}

/// A range of an object's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// Where it begins.
    pub offset: u64,
    /// Its bytes.
    pub bytes: u64,
}

fn names_row<'r>(rows: &'r dyn Rows, id: &ObjectId) -> Result<Option<&'r [u8]>, ReadError> {
    if id.check().is_err() {
        return Err(ReadError::Invalid { what: "a name has 1 to 2048 bytes, a namespace at most 256" });
    }
    Ok(rows.row(TreeKind::Names, &key::names(id))?)
}

fn onode<'r>(rows: &'r dyn Rows, id: &ObjectId) -> Result<OnodeRef<'r>, ReadError> {
    Ok(OnodeRef::decode(names_row(rows, id)?.ok_or(ReadError::NotFound)?)?)
}

fn member_of(id: &ObjectId, onode: &OnodeRef<'_>) -> Member {
    Member { hash: id.hash, family: onode.family, number: onode.number }
}

impl Stat {
    fn of(onode: &OnodeRef<'_>) -> Self {
        Self {
            size: onode.size,
            attributes: onode.attribute_count,
            omap: onode.omap_count,
            hint: onode.hint,
            family: onode.family,
        }
    }
}

/// Whether the object exists.
pub fn exists(rows: &dyn Rows, id: &ObjectId) -> Result<bool, ReadError> {
    Ok(names_row(rows, id)?.is_some())
}

/// What the object is.
pub fn stat(rows: &dyn Rows, id: &ObjectId) -> Result<Stat, ReadError> {
    Ok(Stat::of(&onode(rows, id)?))
}

/// Bytes of pieces that the object's rows point to. Visits all its rows: not for large objects on a hot path.
pub fn allocated(rows: &dyn Rows, id: &ObjectId) -> Result<u64, ReadError> {
    let onode = onode(rows, id)?;
    let mut sum = onode.extents()?.map_or(0, |extents| extents.stored_bytes());
    if !onode.parts.has(Parts::EVER) {
        return Ok(sum);
    }
    let (from, to) = (key::family_bound(member_of(id, &onode)), key::family_end(member_of(id, &onode)));
    visit(rows, TreeKind::Bodies, &from, Some(&to), Direction::Forward, &mut |key, value| {
        sum += crate::usage::usage_of_row(TreeKind::Bodies, key, value)?.allocated.cast_unsigned();
        Ok(true)
    })?;
    Ok(sum)
}

/// How to read `bytes` bytes from `offset` on; clipped at the object's size.
pub fn read(rows: &dyn Rows, id: &ObjectId, offset: u64, bytes: u64) -> Result<ReadPlan, ReadError> {
    let onode = onode(rows, id)?;
    let range = clip(onode.size, offset, bytes)?;
    plan_of(rows, id, &onode, range)
}

/// The part of `offset..offset + bytes` that an object of `size` bytes has.
fn clip(size: u64, offset: u64, bytes: u64) -> Result<Range, ReadError> {
    let end = offset.checked_add(bytes).ok_or(ReadError::Invalid { what: "offset and length overflow" })?;
    Ok(Range { offset, bytes: end.min(size).saturating_sub(offset) })
}

/// How to read a range, which ends at or before the object's size.
fn plan_of(
    rows: &dyn Rows,
    id: &ObjectId,
    onode: &OnodeRef<'_>,
    range: Range,
) -> Result<ReadPlan, ReadError> {
    if range.bytes == 0 {
        return Ok(ReadPlan { size: onode.size, parts: Vec::new() });
    }
    if !onode.parts.has(Parts::CHUNKS) {
        return Ok(ReadPlan::of_inline(onode.size, onode.data, range));
    }
    let extents = onode.extents()?;
    ReadPlan::of_chunks(rows, (onode.size, member_of(id, onode)), extents.as_ref(), range)
}

/// The ranges of `offset..offset + bytes` that are stored, in order; all between them are zeros. Inline data counts.
pub fn extents(rows: &dyn Rows, id: &ObjectId, offset: u64, bytes: u64) -> Result<Vec<Range>, ReadError> {
    Ok(read(rows, id, offset, bytes)?.stored_ranges(offset))
}

/// The value of an attribute.
pub fn attr(rows: &dyn Rows, id: &ObjectId, name: &[u8]) -> Result<Value, ReadError> {
    let onode = onode(rows, id)?;
    if !onode.parts.has(Parts::ATTRIBUTES) {
        let value = onode.attributes.find(name).ok_or(ReadError::NoSuchAttr)?;
        return Ok(Value::Inline(Bytes::copy_from_slice(value)));
    }
    let key = key::named(member_of(id, &onode), Kind::Attribute, name);
    let row = rows.row(TreeKind::Bodies, &key)?.ok_or(ReadError::NoSuchAttr)?;
    Ok(RowValue::decode(row)?.to_value())
}

/// The omap header; empty if there is none.
pub fn omap_header(rows: &dyn Rows, id: &ObjectId) -> Result<Value, ReadError> {
    let onode = onode(rows, id)?;
    if !onode.parts.has(Parts::HEADER) {
        return Ok(Value::Inline(Bytes::copy_from_slice(onode.header)));
    }
    let row = rows.row(TreeKind::Bodies, &key::named(member_of(id, &onode), Kind::Header, &[]))?;
    let row = row.ok_or(Stop::Corrupt { at: None, what: "an omap header without its row" })?;
    Ok(RowValue::decode(row)?.to_value())
}

impl ReadPlan {
    /// Bytes that were asked for.
    pub fn bytes(&self) -> u64 {
        let bytes = |part: &Part| match part {
            Part::Zeros(bytes) => *bytes,
            Part::Inline(data) => data.len() as u64,
            Part::Run(run) => u64::from(run.take),
        };
        self.parts.iter().map(bytes).sum()
    }

    /// The ranges, from `offset` on, that are not zeros by plan.
    fn stored_ranges(&self, offset: u64) -> Vec<Range> {
        let mut ranges = Vec::new();
        let mut at = offset;
        for part in &self.parts {
            let (bytes, is_stored) = match part {
                Part::Zeros(bytes) => (*bytes, false),
                Part::Inline(data) => (data.len() as u64, true),
                Part::Run(run) => (u64::from(run.take), true),
            };
            if is_stored {
                opened::join(&mut ranges, Range { offset: at, bytes });
            }
            at += bytes;
        }
        ranges
    }

    fn of_inline(size: u64, data: &[u8], range: Range) -> Self {
        let mut plan = Self { size, parts: Vec::new() };
        let clip = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(data.len());
        let inline = &data[clip(range.offset)..clip(range.offset + range.bytes)];
        if !inline.is_empty() {
            plan.parts.push(Part::Inline(Bytes::copy_from_slice(inline)));
        }
        plan.zeros(range.bytes - inline.len() as u64);
        plan
    }

    /// The plan for an object whose bytes are chunks; `extents` are those of its onode, if it has them there.
    fn of_chunks(
        rows: &dyn Rows,
        (size, member): (u64, Member),
        extents: Option<&Extents>,
        range: Range,
    ) -> Result<Self, ReadError> {
        let mut plan = Self { size, parts: Vec::new() };
        let (mut at, end) = (range.offset, range.offset + range.bytes);
        let mut take = |start: u64, chunk: Chunk| {
            let from = start.max(at);
            let to = end.min(start + u64::from(chunk.bytes));
            if from < to {
                plan.zeros(from - at);
                plan.chunk(chunk, from - start, to - from);
                at = to;
            }
        };
        match extents {
            Some(extents) => chunks_of_row(0, extents, range, &mut take),
            None => chunks(rows, member, range, &mut take)?,
        }
        plan.zeros(end - at);
        Ok(plan)
    }

    fn zeros(&mut self, bytes: u64) {
        match self.parts.last_mut() {
            _ if bytes == 0 => {}
            Some(Part::Zeros(zeros)) => *zeros += bytes,
            _ => self.parts.push(Part::Zeros(bytes)),
        }
    }

    /// Adds `take` bytes of a chunk from `skip` on, to the last run if they stand right behind it.
    fn chunk(&mut self, chunk: Chunk, skip: u64, take: u64) {
        let small = |bytes: u64| u32::try_from(bytes).expect("within a chunk");
        if let (Some(Part::Run(run)), 0) = (self.parts.last_mut(), skip) {
            let is_whole = run.bytes.is_multiple_of(u32::from(FULL)) && run.skip + run.take == run.bytes;
            let follows = run.at.segment == chunk.at.segment
                && run.at.offset.checked_add(run.bytes) == Some(chunk.at.offset)
                && run.bytes.checked_add(u32::from(FULL)).is_some();
            if is_whole && follows {
                run.bytes += u32::from(chunk.bytes);
                run.take += small(take);
                run.crcs.push(chunk.crc);
                return;
            }
        }
        let crcs = [chunk.crc].into_iter().collect();
        let (skip, take) = (small(skip), small(take));
        self.parts.push(Part::Run(Run { at: chunk.at, bytes: u32::from(chunk.bytes), crcs, skip, take }));
    }
}

/// Visits the chunks of row `number` that a range meets.
fn chunks_of_row(number: u64, extents: &Extents, range: Range, visit_chunk: &mut dyn FnMut(u64, Chunk)) {
    for (index, chunk) in extents.iter() {
        let start = number * ROW_BYTES + (index * CHUNK_BYTES) as u64;
        if start < range.offset + range.bytes && start + CHUNK_BYTES as u64 > range.offset {
            visit_chunk(start, chunk);
        }
    }
}

/// Visits the chunks that a range (not empty) meets, each with the offset at which it begins.
fn chunks(
    rows: &dyn Rows,
    member: Member,
    range: Range,
    visit_chunk: &mut dyn FnMut(u64, Chunk),
) -> Result<(), ReadError> {
    let end = range.offset + range.bytes;
    let mut row = |number: u64, value: &[u8]| -> Result<(), ReadError> {
        chunks_of_row(number, &Extents::decode(value)?, range, visit_chunk);
        Ok(())
    };
    let (first, last) = (range.offset / ROW_BYTES, (end - 1) / ROW_BYTES);
    if first == last {
        return match rows.row(TreeKind::Bodies, &key::extents(member, first))? {
            Some(value) => row(first, value),
            None => Ok(()),
        };
    }
    let (from, to) = (key::extents_bound(member, first), key::extents_bound(member, last + 1));
    visit(rows, TreeKind::Bodies, &from, Some(&to), Direction::Forward, &mut |key, value| {
        let (of, position) = key::decode_bodies(key)?;
        match position {
            Position::Extents(number) if of.number == member.number => row(number, value).map(|()| true),
            Position::Extents(_) | Position::Attribute(_) | Position::Header | Position::Omap(_) => {
                Err(Stop::Corrupt { at: None, what: "a row of another kind or member among extents" }.into())
            }
        }
    })
}

/// What a scan does with each row; whether it goes on.
type EachRow<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool, ReadError> + 'a;

/// Visits rows until `each` says false or fails.
fn visit(
    rows: &dyn Rows,
    tree: TreeKind,
    from: &[u8],
    to: Option<&[u8]>,
    direction: Direction,
    each: &mut EachRow<'_>,
) -> Result<(), ReadError> {
    let mut failed = Ok(());
    let visited = rows.rows(tree, from, to, direction, &mut |key, value| match each(key, value) {
        Ok(true) => ControlFlow::Continue(()),
        Ok(false) => ControlFlow::Break(()),
        Err(error) => {
            failed = Err(error);
            ControlFlow::Break(())
        }
    });
    failed?;
    Ok(visited?)
}
