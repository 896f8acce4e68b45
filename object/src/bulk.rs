//! Bulk: which data of a transaction to store before it joins a record, and where it will belong.
//!
//! Data of some size goes to the device while the transaction waits in its collection's line. Each part that is stored
//! is identified by the key of the row that will point to it, so the family must be known: the object's own, or one
//! taken from the collection's counter if the transaction makes the object. The caller advances the counter to
//! [`BulkPlan::next_id`] at once, so that no other transaction gets those ids. If by the time the transaction is carried
//! out the object has another family, [`crate::execute`] answers `Stale`, and the caller plans again.
//!
//! Of an object that the transaction makes, a very large part of the data is not listed as parts but as [`Laid`]: the caller
//! stores it slice by slice and makes its rows ahead, so that there is no bound. All other data has its rows in the
//! transaction's record; if those cannot fit, the plan says so before anything is stored.
//!
//! Appends have no place before they are first in line; [`resolve_appends`] then makes writes of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use seabed_types::{CHUNK_BYTES, Crc, Paddr, TreeKind};
use smallvec::SmallVec;

use crate::ObjectId;
use crate::ROW_BYTES;
use crate::edit::{CHUNK_CHANGE_BYTES, row_change_bytes};
use crate::effects::{Family, Stored};
use crate::key::{self, KeyBuf, Kind, Member};
use crate::laid::{self, Laid, LaidWrite};
use crate::limits::{Limits, OBJECT_BYTES_MAX};
use crate::onode::OnodeRef;
use crate::refusal::{Refusal, Refused};
use crate::txn::{Op, Transaction};
use crate::view::{Rows, Stop};

/// One part to be stored: whole chunks of one row, or one value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BulkPart {
    /// The operation.
    pub op: usize,
    /// For a write the offset in its data; for attributes and omap pairs the index of the pair.
    pub from: usize,
    /// The bytes.
    pub data: Bytes,
    /// The bodies row that will point to it.
    pub key: KeyBuf,
    /// The family in that key.
    pub family: Family,
}

impl BulkPart {
    /// What [`crate::execute()`] is told when the part has been stored. `crcs`: per chunk; of a value one for all of it.
    pub fn stored(&self, at: Paddr, crcs: SmallVec<[Crc; 16]>) -> Stored {
        let bytes = u32::try_from(self.data.len()).expect("a part is at most a row or a value");
        Stored { op: self.op, from: self.from, family: self.family, at, crcs, bytes }
    }
}

/// What to store before a transaction.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BulkPlan {
    /// In the order in which [`crate::execute()`] wants them.
    pub parts: Vec<BulkPart>,
    /// What to lay ahead.
    pub laid: Vec<Laid>,
    /// Set if the rows do not fit a record: names the first operation that does not. No parts behind it are listed then.
    pub too_large: Option<Refusal>,
    /// The collection's id counter is advanced to this.
    pub next_id: u64,
}

/// What is to be stored before a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Storing<'a> {
    /// Whole chunks of writes that have at least so many bytes of them, and values of at least that size.
    pub threshold_bytes: usize,
    /// Data of an object that the transaction makes, from so many bytes on, has its rows laid ahead.
    pub lay_bytes: u64,
    /// What was laid ahead before.
    pub laid: &'a [Laid],
}

impl BulkPlan {
    /// Bytes of all data that is to be stored.
    pub fn bytes(&self) -> usize {
        let parts: usize = self.parts.iter().map(|part| part.data.len()).sum();
        let writes = self.laid.iter().flat_map(|laid| &laid.writes);
        parts + writes.map(|write| write.to - write.from).sum::<usize>()
    }

    /// The objects that the transaction makes, as far as parts are stored for them; one may come several times.
    pub fn made<'a>(&'a self, txn: &'a Transaction) -> impl Iterator<Item = &'a ObjectId> {
        let of_new = self.parts.iter().filter(|part| matches!(part.family, Family::Allotted(_)));
        let of_new = of_new.map(|part| txn.operations()[part.op].object);
        of_new.chain(self.laid.iter().map(|laid| laid.object)).map(|object| &txn.objects()[object])
    }
}

/// What is known of an object while operations are followed.
#[derive(Clone, Copy)]
struct Followed {
    /// `None`: it does not exist.
    family: Option<Family>,
    size: u64,
}

/// The objects of a transaction, followed through its operations.
struct Follow<'r> {
    rows: &'r dyn Rows,
    txn: &'r Transaction,
    objects: SmallVec<[Option<Followed>; 1]>,
    /// What was laid ahead before, until an object is made of it.
    laid: SmallVec<[&'r Laid; 1]>,
    is_absent: bool,
    next_id: u64,
}

/// The rows that a plan's parts change, as far as they do not fit a record: chunks by object and row.
struct RowBytes {
    chunks: BTreeMap<(usize, u64), u16>,
    bytes: usize,
}

impl RowBytes {
    /// Adds the chunks of a part; the bytes of all rows so far, as [`crate::Effects::delta_bytes_max`] counts them.
    fn add(&mut self, object: usize, part: &BulkPart, at: u64) -> usize {
        let first = usize::try_from(at % ROW_BYTES).expect("under 64 KiB") / CHUNK_BYTES;
        let chunks = self.chunks.entry((object, at / ROW_BYTES)).or_insert_with(|| {
            self.bytes += row_change_bytes(part.key.len());
            0
        });
        for chunk in first..first + part.data.len() / CHUNK_BYTES {
            if *chunks >> chunk & 1 == 0 {
                *chunks |= 1 << chunk;
                self.bytes += CHUNK_CHANGE_BYTES;
            }
        }
        self.bytes
    }
}

/// As [`bulk_plan`], with nothing laid ahead.
pub fn bulk_parts(
    rows: &dyn Rows,
    txn: &Transaction,
    threshold_bytes: usize,
    next_id: u64,
    limits: &Limits,
) -> Result<BulkPlan, Stop> {
    bulk_plan(rows, txn, Storing { threshold_bytes, lay_bytes: u64::MAX, laid: &[] }, next_id, limits)
}

/// Lists the parts of `txn` to store first: the whole chunks of writes that have at least `threshold_bytes` of them, and
/// values of at least that size that will be pieces of their own.
pub fn bulk_plan(
    rows: &dyn Rows,
    txn: &Transaction,
    storing: Storing<'_>,
    next_id: u64,
    limits: &Limits,
) -> Result<BulkPlan, Stop> {
    let Storing { threshold_bytes, lay_bytes, laid } = storing;
    let mut follow = Follow::new(rows, txn, next_id, laid);
    let candidates = laid::candidates(txn);
    let is_laid = |object: usize, op: usize, family: Family| {
        matches!(family, Family::Allotted(_))
            && !laid.iter().any(|laid| laid.object == object)
            && candidates[object].is_some_and(|(from_op, bytes)| op >= from_op && bytes >= lay_bytes)
    };
    let mut plan = BulkPlan::default();
    let mut row_bytes = RowBytes { chunks: BTreeMap::new(), bytes: 0 };
    let mut parts = Vec::new();
    let value_bytes_min = threshold_bytes.max(limits.value_inline_max() + 1);
    // What will be refused is not stored.
    let is_large = |kind: Kind, name: &[u8], value: &[u8]| {
        let (legal, max) = match kind {
            Kind::Attribute => (limits.check_attribute_name(name).is_ok(), limits.attribute_bytes_max()),
            Kind::Omap | Kind::Extents | Kind::Header => {
                (limits.check_omap_key(name).is_ok(), limits.omap_value_bytes_max())
            }
        };
        legal && (value_bytes_min..=max).contains(&value.len())
    };
    for (op, operation) in txn.operations().iter().enumerate() {
        follow.step(op)?;
        let Some(Followed { family: Some(family), .. }) = follow.objects[operation.object] else { continue };
        let member = Member { hash: txn.objects()[operation.object].hash, family: family.id(), number: 0 };
        let mut values = |kind: Kind, pairs: &[(Bytes, Bytes)]| {
            for (from, (name, value)) in
                pairs.iter().enumerate().filter(|(_, (name, value))| is_large(kind, name, value))
            {
                parts.push(BulkPart {
                    op,
                    from,
                    data: value.clone(),
                    key: key::named(member, kind, name),
                    family,
                });
            }
        };
        match &operation.op {
            Op::Write { offset, data } => {
                let object = operation.object;
                if is_laid(object, op, family) {
                    let Some((from, to)) = whole_chunks(*offset, data.len(), CHUNK_BYTES) else { continue };
                    let known = plan.laid.iter().position(|laid| laid.object == object);
                    let index = known.unwrap_or_else(|| {
                        let from_op = candidates[object].map_or(0, |(from_op, _)| from_op);
                        let (family, writes) = (family.id(), Vec::new());
                        plan.laid.push(Laid { object, from_op, family, size: 0, end: 0, writes });
                        plan.laid.len() - 1
                    });
                    plan.laid[index].writes.push(LaidWrite { op, from, to });
                    plan.laid[index].end = offset + to as u64;
                } else if let Some(whole) = whole_chunks(*offset, data.len(), threshold_bytes) {
                    let part = |from: usize, bytes: usize| {
                        let key = key::extents(member, (offset + from as u64) / ROW_BYTES);
                        BulkPart { op, from, data: data.slice(from..from + bytes), key, family }
                    };
                    let most = part_bytes_max(limits);
                    for (from, bytes) in rows_of(*offset, whole, most) {
                        let part = part(from, bytes);
                        let bytes = row_bytes.add(object, &part, offset + from as u64);
                        parts.push(part);
                        if bytes > limits.record_bytes_max && !follow.is_absent {
                            plan.too_large = Some(Refusal {
                                op,
                                why: Refused::too_many_changes(bytes, limits.record_bytes_max),
                            });
                            return Ok(plan);
                        }
                    }
                }
            }
            Op::SetAttrs { pairs } => values(Kind::Attribute, pairs),
            Op::OmapInsert { pairs } => values(Kind::Omap, pairs),
            Op::Touch
            | Op::Create
            | Op::Append { .. }
            | Op::Zero { .. }
            | Op::Truncate { .. }
            | Op::Remove
            | Op::RemoveAttr { .. }
            | Op::OmapRemove { .. }
            | Op::OmapRemoveRange { .. }
            | Op::OmapClear
            | Op::OmapSetHeader { .. }
            | Op::SetHint { .. }
            | Op::Expect { .. } => {}
        }
    }
    if follow.is_absent { Err(Stop::Absent) } else { Ok(BulkPlan { parts, next_id: follow.next_id, ..plan }) }
}

/// `txn` with every append made a write at the size that the object then has. Right as long as no other transaction of
/// the collection comes before it.
pub fn resolve_appends(rows: &dyn Rows, txn: &Transaction, laid: &[Laid]) -> Result<Transaction, Stop> {
    let mut follow = Follow::new(rows, txn, 0, laid);
    let mut resolved = txn.clone();
    for (op, operation) in txn.operations().iter().enumerate() {
        if let Op::Append { data } = &operation.op {
            let size = follow.look_up(operation.object)?.map_or(0, |object| object.size);
            resolved.replace(op, Op::Write { offset: size, data: data.clone() });
        }
        follow.step(op)?;
    }
    if follow.is_absent { Err(Stop::Absent) } else { Ok(resolved) }
}

/// The offsets in a write's data between which it covers whole chunks, if they are at least `least` bytes.
fn whole_chunks(offset: u64, bytes: usize, least: usize) -> Option<(usize, usize)> {
    let chunk = CHUNK_BYTES as u64;
    let end = offset.checked_add(bytes as u64).filter(|end| *end <= OBJECT_BYTES_MAX)?;
    let start = offset.checked_next_multiple_of(chunk)?;
    let whole = (end / chunk * chunk).checked_sub(start).filter(|whole| *whole > 0)?;
    let from = usize::try_from(start - offset).ok()?;
    let whole = usize::try_from(whole).ok()?;
    (whole >= least).then_some((from, from + whole))
}

/// Whole chunks that fit half a record of the store's segments: the other half is for its header and lists.
fn part_bytes_max(limits: &Limits) -> usize {
    limits.part_bytes_max()
}

/// Splits `from..to` of the data of a write at `offset` at rows, and into parts of at most `most` bytes: where each part
/// begins and its bytes.
pub fn rows_of(
    offset: u64,
    (mut from, to): (usize, usize),
    most: usize,
) -> impl Iterator<Item = (usize, usize)> {
    std::iter::from_fn(move || {
        let left = ROW_BYTES - (offset + from as u64) % ROW_BYTES;
        let bytes = usize::try_from(left).expect("at most 64 KiB").min(to - from).min(most);
        let part = (bytes > 0).then_some((from, bytes));
        from += bytes;
        part
    })
}

impl<'r> Follow<'r> {
    fn new(rows: &'r dyn Rows, txn: &'r Transaction, next_id: u64, laid: &'r [Laid]) -> Self {
        let objects = txn.objects().iter().map(|_| None).collect();
        Self { rows, txn, objects, laid: laid.iter().collect(), is_absent: false, next_id }
    }

    /// The state of an object before the next operation; `None`: its row is absent.
    fn look_up(&mut self, object: usize) -> Result<Option<Followed>, Stop> {
        if self.objects[object].is_none() {
            match self.rows.row(TreeKind::Names, &key::names(&self.txn.objects()[object])) {
                Ok(value) => {
                    let onode = value.map(OnodeRef::decode).transpose()?;
                    let family = onode.map(|onode| Family::Existing(onode.family));
                    self.objects[object] =
                        Some(Followed { family, size: onode.map_or(0, |onode| onode.size) });
                }
                Err(Stop::Absent) => self.is_absent = true,
                Err(stop) => return Err(stop),
            }
        }
        Ok(self.objects[object])
    }

    /// Follows one operation: whether its object exists afterwards, of which family, and its size.
    fn step(&mut self, op: usize) -> Result<(), Stop> {
        let operation = &self.txn.operations()[op];
        let Some(mut object) = self.look_up(operation.object)? else { return Ok(()) };
        let mut grow = |end: Option<u64>| {
            object.size = object.size.max(end.unwrap_or(u64::MAX));
            true
        };
        let size = self.objects[operation.object].map_or(0, |object| object.size);
        let makes = match &operation.op {
            Op::Touch | Op::Create | Op::Zero { bytes: 0, .. } => true,
            Op::Write { data, .. } | Op::Append { data } if data.is_empty() => true,
            Op::Write { offset, data } => grow(offset.checked_add(data.len() as u64)),
            Op::Append { data } => grow(size.checked_add(data.len() as u64)),
            Op::Zero { offset, bytes } => grow(offset.checked_add(*bytes)),
            Op::Truncate { size } => {
                object.size = *size;
                false
            }
            Op::Remove => {
                object = Followed { family: None, size: 0 };
                false
            }
            Op::SetAttrs { .. }
            | Op::RemoveAttr { .. }
            | Op::OmapInsert { .. }
            | Op::OmapRemove { .. }
            | Op::OmapRemoveRange { .. }
            | Op::OmapClear
            | Op::OmapSetHeader { .. }
            | Op::SetHint { .. }
            | Op::Expect { .. } => false,
        };
        if makes && object.family.is_none() {
            let of_object = |laid: &&Laid| laid.object == operation.object && op >= laid.from_op;
            let family = if let Some(index) = self.laid.iter().position(of_object) {
                let laid = self.laid.remove(index);
                object.size = object.size.max(laid.size);
                laid.family
            } else {
                self.next_id += 1;
                self.next_id - 1
            };
            object.family = Some(Family::Allotted(family));
        }
        self.objects[operation.object] = Some(object);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With segments of 64 KiB a record has 16 KiB; a part of a whole row of 64 KiB fitted none of them, and storing it
    /// panicked. Found by the crash suite of the engine.
    #[test]
    fn parts_fit_a_record_of_the_smallest_segments() {
        let most = part_bytes_max(&Limits::new(4096, 64 << 10));
        assert_eq!(most, 8192);
        let parts: Vec<_> = rows_of(60 << 10, (0, 20 << 10), most).collect();
        assert_eq!(parts, [(0, 4096), (4096, 8192), (12288, 8192)], "a row ends behind the first");
        let most = part_bytes_max(&Limits::new(16 << 10, 1 << 20));
        assert_eq!(rows_of(0, (0, 128 << 10), most).count(), 2, "whole rows where they fit");
    }
}
