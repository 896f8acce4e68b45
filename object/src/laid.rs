//! Laid: data of an object whose extents rows are in the tree before the transaction that makes the object.
//!
//! The rows of a very large object do not fit one record. They are laid ahead, in as many records as they take, under a
//! family that no onode names, with a grave of that family for the case of a crash ([`crate::stream`]). The transaction
//! that makes the object then adopts the family: its onode, everything else that the transaction does, and the removal of
//! the grave are one record.
//!
//! Which data: whole chunks of writes to an object that the transaction makes, if those writes come in the order of their
//! offsets without overlapping, and no operation on the object besides them changes its bytes. So the rows are the same
//! whichever of the operations have been carried out. All other data is in the rows of the final record.
//!
//! Invariants: 1. The grave is there until the transaction adopts the family; if it is gone, so may be the rows, and the
//! transaction is `Stale`. 2. Nothing else names the family.

use smallvec::SmallVec;

use crate::limits::OBJECT_BYTES_MAX;
use crate::txn::{Op, Transaction};

/// Data that is in the tree already, of one object of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Laid {
    /// Index of the object in the transaction.
    pub object: usize,
    /// The operation from which on the object is made of it.
    pub from_op: usize,
    /// The family of its rows.
    pub family: u64,
    /// Bytes that the object has as soon as it is made.
    pub size: u64,
    /// No row lies at or behind this.
    pub end: u64,
    /// Which data of the transaction the rows have, by operation.
    pub writes: Vec<LaidWrite>,
}

/// The part of a write's data that is laid ahead: whole chunks of the object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaidWrite {
    /// The operation.
    pub op: usize,
    /// Where in its data the part begins.
    pub from: usize,
    /// Where it ends.
    pub to: usize,
}

/// Data that was stored before a transaction, in both ways.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prepared<'a> {
    /// Without rows.
    pub stored: &'a [crate::Stored],
    /// With rows.
    pub laid: &'a [Laid],
}

/// The objects of a transaction whose data may be laid ahead if the transaction makes them, each with the first operation
/// of the object that it then is, and with the bytes of the writes from there on.
pub(crate) fn candidates(txn: &Transaction) -> SmallVec<[Option<(usize, u64)>; 1]> {
    #[derive(Clone, Copy, Default)]
    struct Seen {
        from_op: usize,
        end: u64,
        bytes: u64,
        is_out: bool,
    }
    let mut seen: SmallVec<[Seen; 1]> = SmallVec::from_elem(Seen::default(), txn.objects().len());
    for (op, operation) in txn.operations().iter().enumerate() {
        let object = &mut seen[operation.object];
        match &operation.op {
            Op::Remove => *object = Seen { from_op: op + 1, ..Seen::default() },
            Op::Write { offset, data } => {
                let end = offset.checked_add(data.len() as u64).filter(|end| *end <= OBJECT_BYTES_MAX);
                object.is_out |= *offset < object.end || end.is_none();
                object.end = end.unwrap_or(object.end);
                object.bytes += data.len() as u64;
            }
            Op::Append { .. } | Op::Zero { .. } | Op::Truncate { .. } => object.is_out = true,
            Op::Touch
            | Op::Create
            | Op::SetAttrs { .. }
            | Op::RemoveAttr { .. }
            | Op::OmapInsert { .. }
            | Op::OmapRemove { .. }
            | Op::OmapRemoveRange { .. }
            | Op::OmapClear
            | Op::OmapSetHeader { .. }
            | Op::SetHint { .. }
            | Op::Expect { .. } => {}
        }
    }
    seen.into_iter().map(|seen| (!seen.is_out).then_some((seen.from_op, seen.bytes))).collect()
}
