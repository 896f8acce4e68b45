//! Execute: checks a transaction against the state and computes all that it changes, in one pass without side effects.
//!
//! Each object that a transaction names gets a working state (`object`); later operations see what earlier ones did to
//! it. At the end the working states become row changes (`finish`). A refusal, or a row that is not in memory, throws
//! them away, so nothing is ever half done.
//!
//! A row that is absent counts as one that does not exist for the rest of the pass, whose only purpose then is to meet
//! the other rows that are absent: refusals and damage found from there on mean nothing and are met again next time.
//!
//! Cost: an aligned write of 4 KiB to an existing object looks up its onode and one extents row and allocates three times.
//! Limits: the row changes fit one record (`Limits::record_bytes_max`), else `TooLarge`; scans stop as soon as that is
//! certain.
//! Not here: space, order, durability, whether the objects are of one collection: the engine's.

mod bytes;
mod finish;
mod object;
pub(crate) mod overlay;
mod pairs;

use ::bytes::Bytes;
use seabed_types::{Malformed, Paddr, TreeKind};
use smallvec::SmallVec;

use crate::effects::{Effects, Family, Stored};
use crate::laid::{Laid, LaidWrite, Prepared};
use crate::limits::Limits;
use crate::onode::Text;
use crate::refusal::{Refusal, Refused};
use crate::txn::{Op, Operation, Transaction};
use crate::view::{PieceRef, Rows, Stop};
pub(crate) use object::Object;

/// Bytes that a row change takes at least, for telling early that there are too many.
pub(crate) const CHANGE_BYTES_MIN: usize = 16;

/// What came of carrying out a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It can be applied.
    Ready(Effects),
    /// Something is not in memory; the view noted what. Run again.
    Absent,
    /// Data was stored for a family that is not the object's any more: plan and store again.
    Stale,
    /// It breaks a rule; nothing is applied.
    Refused(Refusal),
    /// What it needs is damaged.
    Corrupt {
        /// Where; `None` if a row does not decode.
        at: Option<Paddr>,
        /// What is wrong.
        what: &'static str,
    },
}

/// Why an operation does not go on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Halt {
    Stale,
    Refused(Refused),
    Corrupt { at: Option<Paddr>, what: &'static str },
}

impl Halt {
    pub(crate) fn outcome(self, op: usize) -> Outcome {
        match self {
            Self::Stale => Outcome::Stale,
            Self::Refused(why) => Outcome::Refused(Refusal { op, why }),
            Self::Corrupt { at, what } => Outcome::Corrupt { at, what },
        }
    }
}

impl From<Refused> for Halt {
    fn from(why: Refused) -> Self {
        Self::Refused(why)
    }
}

impl From<Malformed> for Halt {
    fn from(malformed: Malformed) -> Self {
        Self::Corrupt { at: None, what: malformed.what }
    }
}

/// Checks `txn` and computes what it changes. `stored` is what was stored before for it, in the order of
/// [`crate::bulk_parts`]; `next_id` the collection's id counter.
pub fn execute(
    rows: &dyn Rows,
    txn: &Transaction,
    stored: &[Stored],
    next_id: u64,
    limits: &Limits,
) -> Outcome {
    execute_prepared(rows, txn, Prepared { stored, laid: &[] }, next_id, limits)
}

/// As [`execute`], with data whose rows are in the tree already.
pub fn execute_prepared(
    rows: &dyn Rows,
    txn: &Transaction,
    prepared: Prepared<'_>,
    next_id: u64,
    limits: &Limits,
) -> Outcome {
    let mut work = Work::new(rows, txn, prepared, next_id, limits);
    for (op, operation) in txn.operations().iter().enumerate() {
        if let Err(halt) = work.run(op, operation)
            && !work.env.absent
        {
            return halt.outcome(op);
        }
    }
    work.finish()
}

/// A transaction that is being carried out.
pub(crate) struct Work<'r> {
    pub(crate) env: Env<'r>,
    /// By index in the transaction; `None` until an operation names it.
    pub(crate) objects: SmallVec<[Option<Object<'r>>; 2]>,
}

impl<'r> Work<'r> {
    pub(crate) fn new(
        rows: &'r dyn Rows,
        txn: &'r Transaction,
        Prepared { stored, laid }: Prepared<'r>,
        next_id: u64,
        limits: &'r Limits,
    ) -> Self {
        let (sources, absent, changes) = (SmallVec::new(), false, 0);
        let env = Env { rows, txn, stored, laid, limits, next_id, sources, absent, changes, op: 0 };
        let mut objects = SmallVec::new();
        objects.resize_with(txn.objects().len(), || None);
        Self { env, objects }
    }

    fn run(&mut self, op: usize, operation: &'r Operation) -> Result<(), Halt> {
        self.env.op = op;
        let slot = &mut self.objects[operation.object];
        let object = match slot {
            Some(object) => object,
            None => slot.insert(Object::open(&mut self.env, operation.object)?),
        };
        if object.is_unknown() {
            return Ok(());
        }
        object.run(&mut self.env, &operation.op)
    }
}

/// What a scan does with each row.
type EachRow<'a, E> = dyn FnMut(&mut E, &[u8], &[u8]) -> Result<(), Halt> + 'a;

/// Bytes that chunks are taken from.
enum Source<'r> {
    /// The transaction's.
    Given(&'r Bytes),
    /// Bytes that were put together for it.
    Made(Bytes),
}

/// What all objects of a transaction share.
pub(crate) struct Env<'r> {
    rows: &'r dyn Rows,
    pub(crate) txn: &'r Transaction,
    stored: &'r [Stored],
    laid: &'r [Laid],
    pub(crate) limits: &'r Limits,
    pub(crate) next_id: u64,
    /// Bytes that chunks are taken from.
    sources: SmallVec<[Source<'r>; 2]>,
    /// Whether something was not in memory.
    pub(crate) absent: bool,
    /// Rows touched so far.
    changes: usize,
    /// Index of the operation that is carried out.
    pub(crate) op: usize,
}

impl<'r> Env<'r> {
    pub(crate) fn row(&mut self, tree: TreeKind, key: &[u8]) -> Result<Option<&'r [u8]>, Halt> {
        match self.rows.row(tree, key) {
            Ok(row) => Ok(row),
            Err(stop) => self.stopped(stop).map(|()| None),
        }
    }

    /// Passes on what a look at the state could not do: what is absent is noted, what is damaged ends it.
    fn stopped(&mut self, stop: Stop) -> Result<(), Halt> {
        match stop {
            Stop::Absent => {
                self.absent = true;
                Ok(())
            }
            Stop::Corrupt { at, what } => Err(Halt::Corrupt { at, what }),
        }
    }

    /// The bytes of a stored piece; none if they are absent.
    fn piece(&mut self, piece: &PieceRef) -> Result<Bytes, Halt> {
        match self.rows.piece(piece) {
            Ok(bytes) if bytes.len() == piece.bytes as usize => Ok(bytes),
            Ok(_) => Err(Halt::Corrupt { at: Some(piece.at), what: "a piece of another length" }),
            Err(stop) => self.stopped(stop).map(|()| Bytes::new()),
        }
    }

    /// Counts a row that will change, and ends the transaction when that is too many for a record.
    fn charge(&mut self) -> Result<(), Halt> {
        self.changes += 1;
        let (bytes, max) = (self.changes * CHANGE_BYTES_MIN, self.limits.record_bytes_max);
        if bytes > max { Err(Refused::too_many_changes(bytes, max).into()) } else { Ok(()) }
    }

    /// A new family for object number `object`: the one that its data was stored for, if some was.
    fn allot(&mut self, object: usize) -> u64 {
        let later = self.stored.partition_point(|stored| stored.op < self.op);
        let is_of_object = |stored: &&Stored| self.txn.operations()[stored.op].object == object;
        if let Some(Stored { family: Family::Allotted(family), .. }) =
            self.stored[later..].iter().find(is_of_object)
        {
            self.next_id = self.next_id.max(family + 1);
            return *family;
        }
        let family = self.next_id;
        self.next_id += 1;
        family
    }

    /// What object number `object` is made of now, if its data was laid ahead.
    fn laid(&self, object: usize) -> Option<&'r Laid> {
        let laid: &'r [Laid] = self.laid;
        laid.iter().find(|laid| laid.object == object && self.op >= laid.from_op)
    }

    /// The part of the current operation's data that is in the rows of `family` already.
    fn laid_write(&self, object: usize, family: u64) -> Result<Option<LaidWrite>, Halt> {
        let Some(laid) = self.laid(object) else { return Ok(None) };
        match laid.writes.binary_search_by_key(&self.op, |write| write.op) {
            Ok(_) if laid.family != family => Err(Halt::Stale),
            Ok(index) => Ok(laid.writes.get(index).copied()),
            Err(_) => Ok(None),
        }
    }

    /// What was stored for the current operation, all of which must be for `family`.
    fn stored(&self, family: u64) -> Result<&'r [Stored], Halt> {
        let all: &'r [Stored] = self.stored;
        let start = all.partition_point(|stored| stored.op < self.op);
        let end = all.partition_point(|stored| stored.op <= self.op);
        let stored = &all[start..end];
        if stored.iter().any(|stored| stored.family.id() != family) { Err(Halt::Stale) } else { Ok(stored) }
    }
}

impl<'r> Object<'r> {
    fn run(&mut self, env: &mut Env<'r>, op: &'r Op) -> Result<(), Halt> {
        match op {
            Op::Touch => self.make(env),
            Op::Create => {
                if self.exists() {
                    return Err(Refused::AlreadyExists.into());
                }
                self.make(env)
            }
            Op::Write { offset, data } => self.write(env, *offset, data),
            Op::Append { data } => {
                let size = if self.exists() { self.size() } else { 0 };
                self.write(env, size, data)
            }
            Op::Zero { offset, bytes } => self.zero(env, *offset, *bytes),
            Op::Truncate { size } => {
                env.limits.check_size(Some(*size))?;
                self.must_exist()?;
                self.truncate(env, *size)
            }
            Op::Remove => {
                self.remove();
                Ok(())
            }
            Op::SetAttrs { pairs } => self.set_attrs(env, pairs),
            Op::RemoveAttr { name } => self.remove_attr(env, name),
            Op::OmapInsert { pairs } => self.omap_insert(env, pairs),
            Op::OmapRemove { keys } => self.omap_remove(env, keys),
            Op::OmapRemoveRange { from, to } => self.omap_remove_range(env, from, to),
            Op::OmapClear => self.omap_clear(env),
            Op::OmapSetHeader { header } => self.omap_set_header(env, Text::Given(header)),
            Op::SetHint { hint } => {
                if !hint.flags.is_known() {
                    return Err(Refused::Invalid { what: "a hint with unknown flags" }.into());
                }
                self.must_exist()?;
                self.change().hint = *hint;
                self.settle(env)
            }
            Op::Expect { condition } => self.expect(env, condition),
        }
    }
}
