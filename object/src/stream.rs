//! Streaming put: an object made of data that goes to the device as it comes, whole or absent, in bounded memory.
//!
//! [`begin`] takes a family and sets its grave. [`rows`], as often as need be, makes extents rows of that family for data
//! that is durable already; nobody reaches them, as no onode names the family. [`finish`] sets the onode, removes the
//! object that had the name before, and takes the grave away, all in one transaction.
//!
//! Crash: before the last step the grave stands, and draining it frees all that was stored. While the put goes on its
//! family must be among those that [`crate::graves::drain`] is told are alive.

use bytes::Bytes;
use seabed_types::{CHUNK_BYTES, Crc, Paddr, TreeKind};

use crate::ROW_CHUNKS;
use crate::edit::{ExtentsEdit, Slot};
use crate::effects::Effects;
use crate::execute::overlay::Overlay;
use crate::execute::{Halt, Object, Outcome, Work};
use crate::extents::{Chunk, FULL};
use crate::id::ObjectId;
use crate::key::{self, Member};
use crate::limits::Limits;
use crate::txn::Transaction;
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
    let mut effects = Effects { next_id: next_id + 1, ..Effects::default() };
    effects.set_grave(Member { hash, family: next_id, number: 0 });
    (next_id, effects)
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

/// Makes the object, in place of the one that has its name now. `Stale`: the put's grave is not there any more, and so
/// its data is not either. A refusal names operation 0.
pub fn finish(view: &dyn Rows, streamed: &Streamed<'_>, next_id: u64, limits: &Limits) -> Outcome {
    let mut txn = Transaction::new();
    txn.touch(streamed.object);
    let mut work = Work::new(view, &txn, &[], next_id, limits);
    let grave = match prepare(&mut work, streamed) {
        _ if work.env.absent => return Outcome::Absent,
        Err(halt) => return halt.outcome(0),
        Ok(grave_bytes) => grave_bytes,
    };
    let mut outcome = work.finish();
    if let Outcome::Ready(effects) = &mut outcome {
        let member = Member { hash: streamed.object.hash, family: streamed.family, number: 0 };
        effects.remove_grave(member, grave);
    }
    outcome
}

/// Does all but the end of the grave, whose value's bytes it gives.
fn prepare<'r>(work: &mut Work<'r>, streamed: &'r Streamed<'r>) -> Result<usize, Halt> {
    let env = &mut work.env;
    env.limits.check_size(Some(streamed.size))?;
    let tail_bytes = streamed.tail.len() as u64;
    assert!(
        tail_bytes == streamed.size % CHUNK_BYTES as u64,
        "the tail is what is behind the last whole chunk"
    );
    let member = Member { hash: streamed.object.hash, family: streamed.family, number: 0 };
    let grave = env.row(TreeKind::Graves, &key::graves(member))?.map(<[u8]>::len);
    let object = work.objects[0].insert(Object::open(env, 0)?);
    if object.is_unknown() {
        return Ok(0);
    }
    object.remove();
    object.adopt(streamed.family, streamed.size - tail_bytes);
    object.write(env, streamed.size - tail_bytes, &streamed.tail)?;
    object.set_attrs(env, streamed.attrs)?;
    grave.ok_or(Halt::Stale)
}
