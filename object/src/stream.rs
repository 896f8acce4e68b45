//! Streaming put: an object made of data that goes to the device as it comes, whole or absent, in bounded memory.
//!
//! [`begin`] takes a family and sets its grave. [`rows`], as often as need be, makes extents rows of that family for data
//! that is durable already; nobody reaches them, as no onode names the family. The transaction that [`Finish`] composes
//! removes the object that had the name before, sets the onode, does what else was asked for, and takes the grave away.
//!
//! Crash: before the last step the grave stands, and draining it frees all that was stored. While the put goes on its
//! family must be among those that [`crate::graves::drain`] is told are alive.

use bytes::Bytes;
use seabed_types::{CHUNK_BYTES, Crc, Paddr, TreeKind};

use crate::ROW_CHUNKS;
use crate::edit::{ExtentsEdit, Slot};
use crate::effects::Effects;
use crate::execute::overlay::Overlay;
use crate::execute::{Outcome, execute_prepared};
use crate::extents::{Chunk, FULL};
use crate::id::ObjectId;
use crate::key::{self, Member};
use crate::laid::{Laid, Prepared};
use crate::limits::Limits;
use crate::txn::{Op, Operation, Transaction};
use crate::view::{Rows, Stop};

/// Whole chunks that were stored in one place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamPart {
    /// Where in the object they begin, a multiple of 4096.
    pub offset: u64,
    /// Where they were stored.
    pub at: Paddr,
    /// One for each chunk.
    pub crcs: Vec<Crc>,
}

/// The object that a streaming put makes.
#[derive(Clone, Debug)]
pub struct Streamed<'a> {
    /// Its name.
    pub object: &'a ObjectId,
    /// The family that [`begin`] took.
    pub family: u64,
    /// Its bytes.
    pub size: u64,
    /// The bytes behind its last whole chunk.
    pub tail: Bytes,
    /// Its attributes.
    pub attrs: &'a [(Bytes, Bytes)],
}

/// Begins a put of an object with this hash: its family, and the effects that set its grave.
pub fn begin(hash: u32, next_id: u64) -> (u64, Effects) {
    (next_id, begin_with(hash, next_id))
}

/// The effects that set the grave of a family that was taken before.
pub fn begin_with(hash: u32, family: u64) -> Effects {
    let mut effects = Effects { next_id: family + 1, ..Effects::default() };
    effects.set_grave(Member { hash, family, number: 0 });
    effects
}

/// Makes rows of data that has been stored. `next_id` of the effects is 0 and means nothing. The caller keeps the parts
/// of one call few enough for a record: a row takes at most 9 + 14 * 16 bytes besides its key.
pub fn rows(view: &dyn Rows, hash: u32, family: u64, parts: &[StreamPart]) -> Result<Effects, Stop> {
    let member = Member { hash, family, number: 0 };
    let mut touched: Overlay<u64, Box<ExtentsEdit>> = Overlay::default();
    let mut is_absent = false;
    for part in parts {
        assert!(part.offset % CHUNK_BYTES as u64 == 0, "parts are whole chunks");
        let chunks = (part.offset / CHUNK_BYTES as u64..).zip(&part.crcs);
        let mut at = part.at;
        for (number, crc) in chunks {
            let (row, chunk) = (number / ROW_CHUNKS as u64, number % ROW_CHUNKS as u64);
            let index = match touched.find(&row) {
                Some(index) => index,
                None => match view.row(TreeKind::Bodies, &key::extents(member, row)) {
                    Ok(value) => touched.push(row, ExtentsEdit::new(value)?),
                    Err(Stop::Absent) => {
                        is_absent = true;
                        touched.push(row, ExtentsEdit::new(None)?)
                    }
                    Err(stop) => return Err(stop),
                },
            };
            let slot = usize::try_from(chunk).expect("under 16");
            touched.at(index).set(slot, Slot::At(Chunk { at, bytes: FULL, crc: *crc }));
            at = Paddr::new(at.segment, at.offset.wrapping_add(u32::from(FULL)));
        }
    }
    if is_absent {
        return Err(Stop::Absent);
    }
    let mut effects = Effects::default();
    for (row, edit) in touched.drain() {
        effects.push_extents_row(key::extents(member, row), edit);
    }
    Ok(effects)
}

/// The transaction that ends a streaming put, around what else `other` does in it: the conditions that `other` begins with
/// hold before the object is made, in place of one that has its name; all its other operations come after it.
#[derive(Clone, Debug)]
pub struct Finish {
    /// All operations.
    pub txn: Transaction,
    /// What the object is made of. The number of the family is filled in when it is known.
    pub laid: Laid,
    /// Which of the operations are whose.
    pub ops: FinishOps,
}

/// Which operations of a [`Finish`] make the object.
#[derive(Clone, Copy, Debug)]
pub struct FinishOps {
    /// How many operations of `other` come first.
    first: usize,
    /// How many operations make the object.
    added: usize,
}

impl Finish {
    /// Composes it. `stored`: bytes whose rows are made, whole chunks; `tail`: the bytes behind them.
    pub fn new(
        object: &ObjectId,
        (stored, tail): (u64, Bytes),
        attrs: Vec<(Bytes, Bytes)>,
        other: &Transaction,
    ) -> Self {
        let data = (!tail.is_empty()).then_some(Op::Write { offset: stored, data: tail });
        let (txn, ops) = compose(object, data, attrs, other);
        let (first, index) = (ops.first, txn.operations()[ops.first].object);
        let laid = Laid {
            object: index,
            from_op: first + 1,
            family: 0,
            size: stored,
            end: stored,
            writes: Vec::new(),
        };
        Self { txn, laid, ops }
    }

    /// The transaction that makes an object of which no row is made yet: a hole of `hole` bytes and `data` behind it.
    pub fn without_rows(
        object: &ObjectId,
        (hole, data): (u64, Bytes),
        attrs: Vec<(Bytes, Bytes)>,
        other: &Transaction,
    ) -> (Transaction, FinishOps) {
        let data = if data.is_empty() {
            (hole > 0).then_some(Op::Truncate { size: hole })
        } else {
            Some(Op::Write { offset: hole, data })
        };
        compose(object, data, attrs, other)
    }
}

/// The operations of `other` around those that make an object with this data and these attributes.
fn compose(
    object: &ObjectId,
    data: Option<Op>,
    attrs: Vec<(Bytes, Bytes)>,
    other: &Transaction,
) -> (Transaction, FinishOps) {
    let is_condition = |operation: &&Operation| matches!(operation.op, Op::Expect { .. });
    let conditions = other.operations().iter().take_while(is_condition).count();
    let first = if seabed_types::seeded!(85) { 0 } else { conditions };
    let mut txn = Transaction::new();
    let push = |txn: &mut Transaction, operations: &[Operation]| {
        for operation in operations {
            txn.push(&other.objects()[operation.object], operation.op.clone());
        }
    };
    push(&mut txn, &other.operations()[..first]);
    txn.remove(object).touch(object);
    if let Some(data) = data {
        txn.push(object, data);
    }
    if !attrs.is_empty() {
        txn.push(object, Op::SetAttrs { pairs: attrs.into() });
    }
    let added = txn.operations().len() - first;
    push(&mut txn, &other.operations()[first..]);
    (txn, FinishOps { first, added })
}

impl FinishOps {
    /// The operation of `other` that operation `op` of the whole is; 0 for those that make the object.
    pub const fn of_other(&self, op: usize) -> usize {
        if op < self.first {
            op
        } else if op >= self.first + self.added {
            op - self.added
        } else {
            0
        }
    }
}

/// Makes the object, in place of the one that has its name now. `Stale`: the put's grave is not there any more, and so
/// its data is not either.
pub fn finish(view: &dyn Rows, streamed: &Streamed<'_>, next_id: u64, limits: &Limits) -> Outcome {
    let tail_bytes = streamed.tail.len() as u64;
    assert!(
        tail_bytes == streamed.size % CHUNK_BYTES as u64,
        "the tail is what is behind the last whole chunk"
    );
    let data = (streamed.size - tail_bytes, streamed.tail.clone());
    let Finish { txn, laid, .. } =
        Finish::new(streamed.object, data, streamed.attrs.to_vec(), &Transaction::new());
    let laid = Laid { family: streamed.family, ..laid };
    execute_prepared(view, &txn, Prepared { stored: &[], laid: &[laid] }, next_id, limits)
}
