//! Objects: whole objects put, got and deleted, with sizes by a mix.
//!
//! All are there at the start. A put takes an object that was deleted, if there is one, else it replaces one; so their
//! number stays about the same while deletes are not more than puts. Each object begins with its number and the number
//! of its put, which every get compares; one that was deleted or replaced meanwhile may show either.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use futures::future::try_join_all;
use seabed::{Error, ObjectId, Result, Transaction};

use crate::blocks::Verified;
use crate::distribution::{Spread, Zipf};
use crate::face::Face;
use crate::job::{Direction, Distribution, Job, Split};
use crate::payload::{Payload, hash_of};

/// Bytes at the start of an object.
const HEAD_BYTES: usize = 16;
/// Objects that are written at the same time at the start.
const PUTS_AT_ONCE: u32 = 32;

/// An operation on an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ObjectRequest {
    pub(crate) direction: Direction,
    slot: u32,
    put: u32,
    pub(crate) bytes: u64,
}

/// Of one object.
#[derive(Clone, Copy, Default)]
struct Slot {
    bytes: u32,
    /// Number of the last put that was acknowledged; 0 while it is not there.
    acknowledged: u32,
    /// Number of the last put that was begun.
    begun: u32,
}

/// See the module.
pub(crate) struct Objects {
    name: String,
    rng: RefCell<Rng>,
    sizes: Split,
    mix: [u32; 3],
    skew: Option<(Zipf, Spread)>,
    payload: Payload,
    number: Cell<u64>,
    slots: RefCell<Vec<Slot>>,
    absent: RefCell<Vec<u32>>,
    verified: Cell<Verified>,
}

impl Objects {
    pub(crate) fn new(job: &Job, copy: u32) -> Self {
        let name = format!("{}.{copy}", job.name);
        let seed = job.seed ^ hash_of(&name);
        let count = u64::from(job.objects);
        let skew = match job.distribution {
            Distribution::Uniform => None,
            Distribution::Zipf(theta) => Some((Zipf::new(theta, count), Spread::new(count, seed))),
        };
        Self {
            rng: RefCell::new(Rng::with_seed(seed)),
            sizes: job.object_sizes.clone(),
            mix: job.object_mix,
            skew,
            payload: Payload::new(usize::try_from(job.object_sizes.max()).expect("at most 16 MiB")),
            number: Cell::new(0),
            slots: RefCell::new(vec![Slot::default(); usize::try_from(job.objects).expect("few")]),
            absent: RefCell::default(),
            verified: Cell::default(),
            name,
        }
    }

    fn object(&self, slot: u32) -> ObjectId {
        ObjectId::new(format!("{}.{slot:08}", self.name))
    }

    pub(crate) fn verified(&self) -> Verified {
        self.verified.get()
    }

    pub(crate) async fn prepare(&self, face: &Face) -> Result<()> {
        let count = u32::try_from(self.slots.borrow().len()).expect("few");
        for first in (0..count).step_by(PUTS_AT_ONCE as usize) {
            let puts = (first..count.min(first + PUTS_AT_ONCE)).map(|slot| {
                let request = self.begin_put(slot);
                async move { self.execute(face, request).await }
            });
            try_join_all(puts).await?;
        }
        Ok(())
    }

    fn begin_put(&self, slot: u32) -> ObjectRequest {
        let bytes = self.sizes.at(self.rng.borrow_mut().u32(..100));
        let state = &mut self.slots.borrow_mut()[slot as usize];
        state.begun += 1;
        state.bytes = u32::try_from(bytes).expect("at most 16 MiB");
        ObjectRequest { direction: Direction::Write, slot, put: state.begun, bytes }
    }

    fn draw(&self) -> u32 {
        let mut rng = self.rng.borrow_mut();
        let count = self.slots.borrow().len() as u64;
        let slot = match &self.skew {
            None => rng.u64(..count),
            Some((zipf, spread)) => spread.place(zipf.draw(&mut rng) - 1),
        };
        u32::try_from(slot).expect("few")
    }

    /// The next operation.
    pub(crate) fn next(&self) -> ObjectRequest {
        let share = self.rng.borrow_mut().u32(..100);
        let [puts, gets, _] = self.mix;
        if share < puts {
            let absent = self.absent.borrow_mut().pop();
            return self.begin_put(absent.unwrap_or_else(|| self.draw()));
        }
        let slot = self.draw();
        let state = self.slots.borrow()[slot as usize];
        if share < puts + gets {
            return ObjectRequest {
                direction: Direction::Read,
                slot,
                put: state.acknowledged,
                bytes: u64::from(state.bytes),
            };
        }
        self.slots.borrow_mut()[slot as usize].acknowledged = 0;
        ObjectRequest { direction: Direction::Trim, slot, put: 0, bytes: 0 }
    }

    /// Does it; gives when it was submitted.
    pub(crate) async fn execute(&self, face: &Face, request: ObjectRequest) -> Result<Instant> {
        let object = self.object(request.slot);
        let mut txn = Transaction::new();
        match request.direction {
            Direction::Read => {
                let start = Instant::now();
                match face.read(&object, 0, u64::MAX).await {
                    Ok(data) => self.look_at(request, &data),
                    Err(Error::NotFound) => self.look_at(request, &[]),
                    Err(error) => return Err(error),
                }
                return Ok(start);
            }
            Direction::Write => {
                txn.put::<&[u8], &[u8]>(&object, self.data(request), []);
            }
            Direction::Trim => {
                txn.remove(&object);
            }
        }
        let start = Instant::now();
        face.submit(txn).await?;
        if request.direction == Direction::Write {
            let state = &mut self.slots.borrow_mut()[request.slot as usize];
            state.acknowledged = state.acknowledged.max(request.put);
        } else {
            self.absent.borrow_mut().push(request.slot);
        }
        Ok(start)
    }

    fn data(&self, request: ObjectRequest) -> Bytes {
        let number = self.number.replace(self.number.get() + 1);
        let bytes = usize::try_from(request.bytes).expect("at most 16 MiB");
        let mut data = BytesMut::from(&self.payload.bytes(number, bytes)[..]);
        let head = [u64::from(request.slot).to_le_bytes(), u64::from(request.put).to_le_bytes()].concat();
        let head_bytes = HEAD_BYTES.min(bytes);
        data[..head_bytes].copy_from_slice(&head[..head_bytes]);
        data.freeze()
    }

    fn look_at(&self, request: ObjectRequest, data: &[u8]) {
        let state = self.slots.borrow()[request.slot as usize];
        let mut verified = self.verified.get();
        // Deleted before or since: then anything is right that was there once.
        if request.put > 0 && state.acknowledged >= request.put && self.sizes.min() >= HEAD_BYTES as u64 {
            verified.units += 1;
            let u64_at = |at: usize| {
                let bytes = data.get(at..at + 8).unwrap_or_default();
                bytes.try_into().ok().map(u64::from_le_bytes)
            };
            let is_right = u64_at(0) == Some(u64::from(request.slot))
                && u64_at(8)
                    .is_some_and(|put| (u64::from(request.put)..=u64::from(state.begun)).contains(&put));
            verified.wrong += u64::from(!is_right);
        }
        self.verified.set(verified);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Workload;

    #[test]
    fn the_mix_is_kept_and_wrong_bytes_are_found() {
        let mut job = Job::new("a");
        job.workload = Workload::Objects;
        job.objects = 50;
        let objects = Objects::new(&job, 0);
        let mut counts = [0u32; 3];
        for slot in 0..50 {
            let put = objects.begin_put(slot);
            objects.slots.borrow_mut()[slot as usize].acknowledged = put.put;
        }
        for _ in 0..10_000 {
            let request = objects.next();
            counts[request.direction.index()] += 1;
        }
        assert!(counts[0].abs_diff(6000) < 300 && counts[1].abs_diff(3000) < 300, "{counts:?}");

        let put = objects.begin_put(7);
        let data = objects.data(put);
        objects.slots.borrow_mut()[7].acknowledged = put.put;
        let get = ObjectRequest { direction: Direction::Read, ..put };
        let look = |data: &[u8]| {
            objects.verified.set(Verified::default());
            objects.look_at(get, data);
            objects.verified.get().wrong
        };
        assert_eq!(look(&data), 0);
        assert_eq!(look(&objects.data(ObjectRequest { slot: 8, ..put })), 1, "another object");
        assert_eq!(look(&objects.data(ObjectRequest { put: put.put - 1, ..put })), 1, "an older put");
        assert_eq!(look(&[]), 1, "not there");
    }
}
