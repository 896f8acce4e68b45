//! Objects: whole objects put, got and deleted, with sizes by a mix.
//!
//! All are there at the start. A put takes an object that was deleted, if there is one, else it replaces one; so their
//! number stays about the same while deletes are not more than puts.
//!
//! Puts and deletes of an object are numbered as they are submitted, which is the order in which the engine applies them.
//! Each object begins with its own number and that of its put. A get must find a put that is not older than the newest
//! change that was acknowledged when the get began, and not newer than the newest one begun when it ended; or nothing, if
//! there was a delete among those.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use futures::future::try_join_all;
use seabed::{Error, ObjectId, Result, Transaction};

use crate::blocks::Verified;
use crate::distribution::Skew;
use crate::face::Face;
use crate::job::{Direction, Job, Split};
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
    pub(crate) bytes: u64,
}

/// Of one object.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// Of the last put that was submitted.
    bytes: u32,
    /// Number of the newest change that was acknowledged.
    acknowledged: u32,
    /// Number of the newest change.
    begun: u32,
    /// Number of the newest delete.
    deleted: u32,
}

/// See the module.
pub(crate) struct Objects {
    name: String,
    rng: RefCell<Rng>,
    sizes: Split,
    mix: [u32; 3],
    skew: Option<Skew>,
    payload: Payload,
    number: Cell<u64>,
    slots: RefCell<Vec<Slot>>,
    absent: RefCell<Vec<u32>>,
    verified: Cell<Verified>,
}

impl Objects {
    pub(crate) fn new(job: &Job, copy: u32) -> Self {
        let name = format!("{}.{copy}", job.file_name);
        let seed = job.seed ^ hash_of(&name);
        let count = u64::from(job.objects);
        let skew = Skew::new(&job.distribution, Direction::Read, (count, 1), seed);
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

    /// The object's name: that of the job's copy and a number, of which there are at most 2^24.
    fn object(&self, slot: u32) -> ObjectId {
        let mut name = Vec::with_capacity(self.name.len() + 9);
        name.extend_from_slice(self.name.as_bytes());
        name.push(b'.');
        name.extend((0..8).rev().map(|place| b'0' + (slot / 10u32.pow(place) % 10).to_le_bytes()[0]));
        ObjectId::new(name)
    }

    pub(crate) fn verified(&self) -> Verified {
        self.verified.get()
    }

    pub(crate) async fn prepare(&self, face: &Face) -> Result<()> {
        let count = u32::try_from(self.slots.borrow().len()).expect("few");
        for first in (0..count).step_by(PUTS_AT_ONCE as usize) {
            let puts = (first..count.min(first + PUTS_AT_ONCE)).map(|slot| {
                let request = self.put(slot);
                async move { self.execute(face, request).await }
            });
            try_join_all(puts).await?;
        }
        Ok(())
    }

    fn put(&self, slot: u32) -> ObjectRequest {
        let bytes = self.sizes.draw(&mut self.rng.borrow_mut());
        ObjectRequest { direction: Direction::Write, slot, bytes }
    }

    /// Numbers a change in the moment of its submission.
    fn begin(&self, request: ObjectRequest) -> u32 {
        let state = &mut self.slots.borrow_mut()[request.slot as usize];
        state.begun += 1;
        if request.direction == Direction::Trim {
            state.deleted = state.begun;
        } else {
            state.bytes = u32::try_from(request.bytes).expect("at most 16 MiB");
        }
        state.begun
    }

    fn acknowledge(&self, request: ObjectRequest, change: u32) {
        let state = &mut self.slots.borrow_mut()[request.slot as usize];
        state.acknowledged = state.acknowledged.max(change);
        if request.direction == Direction::Trim {
            self.absent.borrow_mut().push(request.slot);
        }
    }

    fn draw(&self) -> u32 {
        let mut rng = self.rng.borrow_mut();
        let count = self.slots.borrow().len() as u64;
        let slot = match &self.skew {
            None => rng.u64(..count),
            Some(skew) => skew.draw(&mut rng),
        };
        u32::try_from(slot).expect("few")
    }

    /// The next operation.
    pub(crate) fn next(&self) -> ObjectRequest {
        let share = self.rng.borrow_mut().u32(..100);
        let [puts, gets, _] = self.mix;
        if share < puts {
            let absent = self.absent.borrow_mut().pop();
            return self.put(absent.unwrap_or_else(|| self.draw()));
        }
        let slot = self.draw();
        let state = self.slots.borrow()[slot as usize];
        if share < puts + gets {
            return ObjectRequest { direction: Direction::Read, slot, bytes: u64::from(state.bytes) };
        }
        ObjectRequest { direction: Direction::Trim, slot, bytes: 0 }
    }

    /// Does it; gives when it was submitted.
    pub(crate) async fn execute(&self, face: &Face, request: ObjectRequest) -> Result<Instant> {
        let object = self.object(request.slot);
        if request.direction == Direction::Read {
            let least = self.slots.borrow()[request.slot as usize].acknowledged;
            let start = Instant::now();
            let found = match face.read(&object, 0, u64::MAX).await {
                Err(Error::NotFound) => None,
                data => Some(data?),
            };
            if !matches!(face, Face::Null(_)) {
                self.look_at(request.slot, least, found.as_deref());
            }
            return Ok(start);
        }
        let change = self.begin(request);
        let mut txn = Transaction::new();
        if request.direction == Direction::Write {
            txn.put::<&[u8], &[u8]>(&object, self.data(request, change), []);
        } else {
            txn.remove(&object);
        }
        let start = Instant::now();
        face.submit(txn).await?;
        self.acknowledge(request, change);
        Ok(start)
    }

    fn data(&self, request: ObjectRequest, change: u32) -> Bytes {
        let number = self.number.replace(self.number.get() + 1);
        let bytes = usize::try_from(request.bytes).expect("at most 16 MiB");
        let mut data = BytesMut::from(&self.payload.bytes(number, bytes)[..]);
        let head = [u64::from(request.slot).to_le_bytes(), u64::from(change).to_le_bytes()].concat();
        let head_bytes = HEAD_BYTES.min(bytes);
        data[..head_bytes].copy_from_slice(&head[..head_bytes]);
        data.freeze()
    }

    /// Judges what a get found that began when `least` was the newest acknowledged change.
    fn look_at(&self, slot: u32, least: u32, found: Option<&[u8]>) {
        if self.sizes.min() < HEAD_BYTES as u64 {
            return;
        }
        let state = self.slots.borrow()[slot as usize];
        let is_right = match found {
            None => state.deleted >= least,
            Some(data) => {
                let u64_at = |at: usize| {
                    let bytes = data.get(at..at + 8).unwrap_or_default();
                    bytes.try_into().ok().map(u64::from_le_bytes)
                };
                let newest = u64::from(state.begun);
                u64_at(0) == Some(u64::from(slot))
                    && u64_at(8).is_some_and(|change| (u64::from(least)..=newest).contains(&change))
            }
        };
        let mut verified = self.verified.get();
        verified.units += 1;
        verified.wrong += u64::from(!is_right);
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
        for _ in 0..10_000 {
            let request = objects.next();
            counts[request.direction.index()] += 1;
        }
        assert!(counts[0].abs_diff(6000) < 300 && counts[1].abs_diff(3000) < 300, "{counts:?}");

        let put = objects.put(7);
        let delete = ObjectRequest { direction: Direction::Trim, ..put };
        let look = |least: u32, found: Option<&[u8]>| {
            objects.verified.set(Verified::default());
            objects.look_at(7, least, found);
            objects.verified.get().wrong == 0
        };
        let data = |request, change| objects.data(request, change);
        let (first, second) = (objects.begin(put), objects.begin(put));
        objects.acknowledge(put, first);
        assert!(look(first, Some(&data(put, first))) && look(first, Some(&data(put, second))));
        assert!(!look(second, Some(&data(put, first))), "older than what was acknowledged");
        assert!(!look(first, Some(&data(put, second + 1))), "not submitted yet");
        assert!(!look(first, Some(&data(ObjectRequest { slot: 8, ..put }, first))), "another object");
        assert!(!look(first, None), "nobody deleted it");
        // A delete overtakes nothing: the put before it may be acknowledged after it was submitted.
        let deleted = objects.begin(delete);
        objects.acknowledge(put, second);
        assert!(look(second, None) && look(second, Some(&data(put, second))), "in flight: either");
        objects.acknowledge(delete, deleted);
        assert!(look(deleted, None) && !look(deleted, Some(&data(put, second))));
        let third = objects.begin(put);
        assert!(look(deleted, None) && look(deleted, Some(&data(put, third))));
        objects.acknowledge(put, third);
        assert!(look(deleted, None), "it began before the put was acknowledged");
        assert!(!look(third, None));
    }
}
