//! Replicated: the transactions that a replica of distributed storage gets for a small write of a client.
//!
//! One transaction: 4 KiB (`bs`) of data of one of `objects` objects of 4 MiB, two attributes of that object (its
//! description and the state of its snapshots), three omap inserts into the log object of its placement group (a log
//! entry, the group's summary, the end of what is applied) and the removal of one range of old log entries there. Each
//! copy of a job is one placement group. The sizes of attributes and rows are those of Ceph's.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use bytes::Bytes;
use fastrand::Rng;
use futures::future::try_join_all;
use seabed::{ObjectId, Result, Transaction};

use crate::blocks::OBJECT_BYTES;
use crate::distribution::Skew;
use crate::face::Face;
use crate::job::{Direction, Job};
use crate::payload::{Payload, hash_of};

const DESCRIPTION_BYTES: usize = 250;
const SNAPSHOTS_BYTES: usize = 35;
const ENTRY_BYTES: usize = 180;
const SUMMARY_BYTES: usize = 186;
const APPLIED_BYTES: usize = 16;
/// Log entries that are kept.
const ENTRIES_KEPT: u64 = 1000;
/// Objects that are written at the same time at the start.
const OBJECTS_AT_ONCE: usize = 4;

/// The next write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ReplicatedRequest {
    object: u64,
    offset: u64,
    pub(crate) bytes: u64,
}

/// See the module.
pub(crate) struct Replicated {
    rng: RefCell<Rng>,
    objects: Vec<ObjectId>,
    log: ObjectId,
    bytes: u64,
    wanted: Option<Skew>,
    payload: Payload,
    version: Cell<u64>,
}

impl Replicated {
    pub(crate) fn new(job: &Job, copy: u32) -> Self {
        let name = format!("{}.{copy}", job.file_name);
        let seed = job.seed ^ hash_of(&name);
        let objects = u64::from(job.objects);
        let bytes = job.block_sizes[Direction::Write.index()].min().min(OBJECT_BYTES);
        let blocks = objects * (OBJECT_BYTES / bytes);
        let wanted = Skew::new(&job.distribution, Direction::Write, (blocks, 1), seed);
        Self {
            rng: RefCell::new(Rng::with_seed(seed)),
            objects: (0..objects).map(|object| ObjectId::new(format!("{name}.{object:08}"))).collect(),
            log: ObjectId::new(format!("{name}.log")),
            bytes,
            wanted,
            payload: Payload::new(usize::try_from(OBJECT_BYTES).expect("4 MiB")),
            version: Cell::new(0),
        }
    }

    fn object(&self, object: u64) -> &ObjectId {
        &self.objects[usize::try_from(object).expect("the names are in memory")]
    }

    pub(crate) async fn prepare(&self, face: &Face) -> Result<()> {
        let mut txn = Transaction::new();
        txn.touch(&self.log);
        face.submit(txn).await?;
        for (first, objects) in (0..).step_by(OBJECTS_AT_ONCE).zip(self.objects.chunks(OBJECTS_AT_ONCE)) {
            let puts = (first..).zip(objects).map(|(number, object)| {
                let data = self.payload.bytes(number, usize::try_from(OBJECT_BYTES).expect("4 MiB"));
                let mut txn = Transaction::new();
                txn.put::<&[u8], &[u8]>(object, data, []);
                face.submit(txn)
            });
            try_join_all(puts).await?;
        }
        Ok(())
    }

    /// The next operation.
    pub(crate) fn next(&self) -> ReplicatedRequest {
        let mut rng = self.rng.borrow_mut();
        let of_object = OBJECT_BYTES / self.bytes;
        let block = match &self.wanted {
            None => rng.u64(..self.objects.len() as u64 * of_object),
            Some(skew) => skew.draw(&mut rng),
        };
        ReplicatedRequest {
            object: block / of_object,
            offset: block % of_object * self.bytes,
            bytes: self.bytes,
        }
    }

    fn transaction(&self, request: ReplicatedRequest) -> Transaction {
        let version = self.version.get() + 1;
        self.version.set(version);
        let noise = |bytes: usize| self.payload.bytes(version, bytes);
        let (object, log) = (self.object(request.object), &self.log);
        let mut txn = Transaction::new();
        txn.write(object, request.offset, noise(usize::try_from(request.bytes).expect("at most 4 MiB")))
            .set_attrs(object, [("_", noise(DESCRIPTION_BYTES)), ("snapset", noise(SNAPSHOTS_BYTES))])
            .omap_insert(
                log,
                [
                    (entry_key(version), noise(ENTRY_BYTES)),
                    (Bytes::from_static(b"_info"), noise(SUMMARY_BYTES)),
                    (Bytes::from_static(b"can_rollback_to"), noise(APPLIED_BYTES)),
                ],
            );
        let oldest = version.saturating_sub(ENTRIES_KEPT);
        txn.omap_remove_range(log, entry_key(oldest.saturating_sub(1)), entry_key(oldest.max(1)));
        txn
    }

    /// Does it; gives when it was submitted.
    pub(crate) async fn execute(&self, face: &Face, request: ReplicatedRequest) -> Result<Instant> {
        let txn = self.transaction(request);
        let start = Instant::now();
        face.submit(txn).await?;
        Ok(start)
    }
}

/// An epoch of ten digits and a version of twenty. Formatting would cost as much as a tenth of the transaction.
fn entry_key(version: u64) -> Bytes {
    let mut key = *b"0000000001.00000000000000000000";
    let mut rest = version;
    for digit in key.iter_mut().rev().take(20) {
        *digit += (rest % 10).to_le_bytes()[0];
        rest /= 10;
    }
    Bytes::copy_from_slice(&key)
}

#[cfg(test)]
mod tests {
    use seabed::Op;

    use super::*;

    #[test]
    fn keys_of_the_log() {
        for version in [0, 7, 1234, u64::MAX] {
            assert_eq!(entry_key(version), format!("0000000001.{version:020}"));
        }
    }

    #[test]
    fn the_shape_of_a_transaction() {
        let mut job = Job::new("a");
        job.objects = 3;
        let replicated = Replicated::new(&job, 0);
        for _ in 0..2000 {
            let request = replicated.next();
            assert!(request.object < 3 && request.offset.is_multiple_of(4096));
            let txn = replicated.transaction(request);
            let operations = txn.operations();
            let [write, attributes, inserts, removal] = operations else { panic!("{operations:?}") };
            assert!(matches!(&write.op, Op::Write { data, .. } if data.len() == 4096));
            assert!(matches!(&attributes.op, Op::SetAttrs { pairs } if pairs.len() == 2));
            assert!(matches!(&inserts.op, Op::OmapInsert { pairs } if pairs.len() == 3));
            assert!(matches!(&removal.op, Op::OmapRemoveRange { from, to } if from < to));
        }
    }
}
