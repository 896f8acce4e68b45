//! Blocks: reads, writes and trims of blocks of a file, as fio does them. The file is a row of objects of 4 MiB.
//!
//! A write that crosses from one object to the next is one transaction; so each write is atomic, of any size.
//!
//! Verification counts the writes of each unit: begun, and acknowledged. What a read finds must be a write that was not
//! older than the last one acknowledged when the read began, and not newer than the last one begun when it ended; the
//! engine keeps the order in which they were begun.
//!
//! Cost: 8 bytes of memory per unit with `verify`, else none.

mod pattern;

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures::future::try_join_all;
use seabed::{ObjectId, Result, Transaction};

use crate::face::Face;
use crate::job::{Direction, Job, Mix};
use crate::payload::{Payload, Stamp, hash_of};
use pattern::Pattern;

/// Bytes of an object.
pub(crate) const OBJECT_BYTES: u64 = 4 << 20;
/// Objects that are written or read at the same time when a file is made or verified.
const OBJECTS_AT_ONCE: usize = 4;

/// An operation on blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockRequest {
    pub(crate) direction: Direction,
    /// In the file.
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// What verification found.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Verified {
    /// Units that were looked at.
    pub units: u64,
    /// Of those, units that are not what they must be.
    pub wrong: u64,
}

/// How often a unit was written: begun, and acknowledged.
#[derive(Clone, Copy, Default)]
struct Writes {
    begun: u32,
    acknowledged: u32,
}

/// A file and what is done with it.
pub(crate) struct Blocks {
    /// Those of the region. Made once: a name for each operation is 2 % of a write.
    objects: Vec<ObjectId>,
    /// The number of the first one.
    first: u64,
    hash: u64,
    /// Of the file.
    bytes: u64,
    /// Whether it is written before the job begins.
    is_prepared: bool,
    verifies_only: bool,
    verifies_at_end: bool,
    pattern: RefCell<Pattern>,
    payload: Payload,
    number: Cell<u64>,
    units: Option<Units>,
    verified: Cell<Verified>,
}

struct Units {
    bytes: u64,
    /// The number of the first unit of the first object.
    first: u64,
    run: u64,
    writes: RefCell<Vec<Writes>>,
}

impl Blocks {
    /// The file of one copy of a job. `run` tells this run's writes from those of others.
    pub(crate) fn new(job: &Job, copy: u32, run: u64) -> Self {
        let name = format!("{}.{copy}", job.file_name);
        let bytes = job.bytes_of_file(copy);
        let start = job.region_start(copy);
        let (first, end) = (start / OBJECT_BYTES, (start + job.region_bytes(copy)).div_ceil(OBJECT_BYTES));
        let object = |index| ObjectId::new(format!("{name}.{index:08}"));
        let objects = (first..end).map(object).collect();
        let largest = job.block_sizes.iter().map(crate::job::Split::max).max().unwrap_or(0).max(OBJECT_BYTES);
        let units = job.verifies.then(|| {
            let unit = job.verify_unit();
            let count = bytes.min(end * OBJECT_BYTES).div_ceil(unit) - first * OBJECT_BYTES / unit;
            let count = usize::try_from(count).expect("the units fit the memory that counts them");
            let first = first * OBJECT_BYTES / unit;
            Units { bytes: unit, first, run, writes: RefCell::new(vec![Writes::default(); count]) }
        });
        let seed = if job.is_repeatable { job.seed } else { job.seed ^ run };
        Self {
            first,
            hash: hash_of(&name),
            bytes,
            is_prepared: job.access.is_random || job.access.mix != Mix::Write || job.overwrites,
            verifies_only: job.verifies_only,
            verifies_at_end: job.verifies_at_end || job.verifies_only,
            pattern: RefCell::new(Pattern::new(job, copy, seed ^ hash_of(&name))),
            payload: Payload::new(usize::try_from(largest).expect("a block fits memory")),
            number: Cell::new(0),
            units,
            verified: Cell::new(Verified::default()),
            objects,
        }
    }

    fn object(&self, index: u64) -> &ObjectId {
        &self.objects[usize::try_from(index - self.first).expect("the names are in memory")]
    }

    fn objects(&self) -> Range<u64> {
        self.first..self.first + self.objects.len() as u64
    }

    fn object_bytes(&self, index: u64) -> u64 {
        OBJECT_BYTES.min(self.bytes - index * OBJECT_BYTES)
    }

    pub(crate) fn verified(&self) -> Verified {
        self.verified.get()
    }

    /// Writes the file, unless it is there already or the job does so itself.
    pub(crate) async fn prepare(&self, face: &Face) -> Result<()> {
        if !self.is_prepared || self.verifies_only {
            return Ok(());
        }
        for group in groups(self.objects()) {
            try_join_all(group.map(|index| self.prepare_object(face, index))).await?;
        }
        Ok(())
    }

    async fn prepare_object(&self, face: &Face, index: u64) -> Result<()> {
        let (object, bytes) = (self.object(index), self.object_bytes(index));
        if face.size(object).await? == Some(bytes) {
            return Ok(());
        }
        let place = index * OBJECT_BYTES;
        let (data, numbers) = self.data(place, bytes);
        let mut txn = Transaction::new();
        txn.put::<&[u8], &[u8]>(object, data, []);
        face.submit(txn).await?;
        self.acknowledge(place, &numbers);
        Ok(())
    }

    /// The next operation.
    /// None if no block fits what is left to read and write.
    pub(crate) fn next(&self, left: Option<u64>) -> Option<BlockRequest> {
        self.pattern.borrow_mut().draw(left.unwrap_or(u64::MAX))
    }

    /// Does it; gives when it was submitted.
    pub(crate) async fn execute(&self, face: &Face, request: BlockRequest) -> Result<Instant> {
        let BlockRequest { direction, offset, bytes } = request;
        match direction {
            Direction::Read => self.read(face, offset, bytes).await,
            Direction::Write => {
                let (data, numbers) = self.data(offset, bytes);
                let mut txn = Transaction::new();
                for (index, range) in parts(offset, bytes) {
                    let at =
                        usize::try_from(index * OBJECT_BYTES + range.start - offset).expect("in the block");
                    let part =
                        data.slice(at..at + usize::try_from(range.end - range.start).expect("in the block"));
                    txn.write(self.object(index), range.start, part);
                }
                let start = Instant::now();
                face.submit(txn).await?;
                self.acknowledge(offset, &numbers);
                Ok(start)
            }
            Direction::Trim => {
                let mut txn = Transaction::new();
                for (index, range) in parts(offset, bytes) {
                    txn.zero(self.object(index), range.start, range.end - range.start);
                }
                let start = Instant::now();
                face.submit(txn).await?;
                Ok(start)
            }
        }
    }

    async fn read(&self, face: &Face, offset: u64, bytes: u64) -> Result<Instant> {
        let before = if face.is_null() { None } else { self.acknowledged(offset, bytes) };
        let mut reads = Vec::with_capacity(1);
        for (index, range) in parts(offset, bytes) {
            let object = self.object(index);
            reads.push(async move { face.read(object, range.start, range.end - range.start).await });
        }
        let start = Instant::now();
        if reads.len() == 1 {
            let data = reads.pop().expect("one part").await?;
            self.look_at(offset, &data, before.as_deref());
            return Ok(start);
        }
        let found = try_join_all(reads).await?;
        if before.is_some() {
            let data = found.into_iter().fold(BytesMut::new(), |mut all, part| {
                all.extend_from_slice(&part);
                all
            });
            self.look_at(offset, &data, before.as_deref());
        }
        Ok(start)
    }

    /// The bytes of a write, and the numbers that its units got.
    fn data(&self, offset: u64, bytes: u64) -> (Bytes, Vec<u32>) {
        let length = usize::try_from(bytes).expect("a block fits memory");
        let Some(units) = &self.units else {
            let number = self.number.replace(self.number.get() + 1);
            return (self.payload.bytes(number, length), Vec::new());
        };
        let mut data = vec![0; length];
        let mut numbers = Vec::new();
        let mut writes = units.writes.borrow_mut();
        let unit_bytes = usize::try_from(units.bytes).expect("a part of a block");
        for (index, unit) in (offset / units.bytes..).zip(data.chunks_mut(unit_bytes)) {
            let state = &mut writes[units.place(index)];
            state.begun += 1;
            numbers.push(state.begun);
            let stamp =
                Stamp { file: self.hash, offset: index * units.bytes, run: units.run, number: state.begun };
            self.payload.fill(stamp, unit);
        }
        (data.into(), numbers)
    }

    fn acknowledge(&self, offset: u64, numbers: &[u32]) {
        let Some(units) = &self.units else { return };
        let mut writes = units.writes.borrow_mut();
        for (index, number) in (offset / units.bytes..).zip(numbers) {
            let state = &mut writes[units.place(index)];
            state.acknowledged = state.acknowledged.max(*number);
        }
    }

    /// What was acknowledged of a range; none without verification.
    fn acknowledged(&self, offset: u64, bytes: u64) -> Option<Vec<u32>> {
        let units = self.units.as_ref()?;
        let writes = units.writes.borrow();
        let range = units.place(offset / units.bytes)..units.place((offset + bytes) / units.bytes);
        Some(writes[range].iter().map(|state| state.acknowledged).collect())
    }

    /// Compares what was read with what must be there.
    fn look_at(&self, offset: u64, data: &[u8], acknowledged: Option<&[u32]>) {
        let (Some(units), Some(acknowledged)) = (&self.units, acknowledged) else { return };
        let writes = units.writes.borrow();
        let unit_bytes = usize::try_from(units.bytes).expect("a part of a block");
        let mut found = data.chunks(unit_bytes);
        let mut verified = self.verified.get();
        for (index, least) in (offset / units.bytes..).zip(acknowledged) {
            let unit = found.next().unwrap_or_default();
            // What this run has not written for sure may be anything, but for a run that only verifies.
            if *least == 0 && !self.verifies_only {
                continue;
            }
            verified.units += 1;
            let is_right = Payload::stamp_of(unit).is_some_and(|stamp| {
                let is_of_write = self.verifies_only
                    || stamp.run == units.run
                        && (*least..=writes[units.place(index)].begun).contains(&stamp.number);
                stamp.file == self.hash && stamp.offset == index * units.bytes && is_of_write
            });
            verified.wrong += u64::from(!is_right);
        }
        self.verified.set(verified);
    }

    /// Reads everything and compares, if that was asked for.
    pub(crate) async fn verify(&self, face: &Face) -> Result<()> {
        if self.units.is_none() || !self.verifies_at_end || face.is_null() {
            return Ok(());
        }
        for group in groups(self.objects()) {
            try_join_all(group.map(|index| self.verify_object(face, index))).await?;
        }
        Ok(())
    }

    async fn verify_object(&self, face: &Face, index: u64) -> Result<()> {
        let (start, bytes) = (index * OBJECT_BYTES, self.object_bytes(index));
        let acknowledged = self.acknowledged(start, bytes);
        if !self.verifies_only && acknowledged.as_ref().is_none_or(|all| all.iter().all(|count| *count == 0))
        {
            return Ok(());
        }
        let data = match face.read(self.object(index), 0, bytes).await {
            Err(seabed::Error::NotFound) => Bytes::new(),
            data => data?,
        };
        self.look_at(start, &data, acknowledged.as_deref());
        Ok(())
    }
}

impl Units {
    /// Where a unit of the file is counted.
    fn place(&self, index: u64) -> usize {
        usize::try_from(index - self.first).expect("the units fit the memory that counts them")
    }
}

/// The objects that a range of the file lies in, each with the range within it.
fn parts(offset: u64, bytes: u64) -> impl Iterator<Item = (u64, Range<u64>)> {
    let end = offset + bytes;
    (offset / OBJECT_BYTES..end.div_ceil(OBJECT_BYTES)).map(move |index| {
        let start = index * OBJECT_BYTES;
        (index, offset.max(start) - start..end.min(start + OBJECT_BYTES) - start)
    })
}

/// The objects, a few at a time.
fn groups(objects: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = objects.end;
    objects.step_by(OBJECTS_AT_ONCE).map(move |first| first..end.min(first + OBJECTS_AT_ONCE as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_range() {
        const M: u64 = 1 << 20;
        let all = |offset, bytes| parts(offset, bytes).collect::<Vec<_>>();
        assert_eq!(all(0, 4096), [(0, 0..4096)]);
        assert_eq!(all(4 * M - 512, 1024), [(0, 4 * M - 512..4 * M), (1, 0..512)]);
        assert_eq!(all(4 * M, 8 * M), [(1, 0..4 * M), (2, 0..4 * M)]);
    }

    #[test]
    fn wrong_old_new_and_misplaced_units_are_found() {
        let mut job = Job::new("a");
        job.size = Some(crate::job::Amount::Bytes(64 << 10));
        job.verifies = true;
        let blocks = Blocks::new(&job, 0, 1);
        let write = |offset, bytes| {
            let (data, numbers) = blocks.data(offset, bytes);
            blocks.acknowledge(offset, &numbers);
            data
        };
        let first = write(0, 8192);
        let second = write(4096, 4096);
        let wrong = |offset, bytes: u64, data: &[u8]| {
            let before = blocks.verified.replace(Verified::default());
            blocks.look_at(offset, data, blocks.acknowledged(offset, bytes).as_deref());
            let found = blocks.verified.replace(before);
            (found.units, found.wrong)
        };
        assert_eq!(wrong(0, 4096, &first[..4096]), (1, 0));
        assert_eq!(wrong(4096, 4096, &second), (1, 0));
        assert_eq!(wrong(4096, 4096, &first[4096..]), (1, 1), "an older write");
        assert_eq!(wrong(4096, 4096, &first[..4096]), (1, 1), "of another place");
        assert_eq!(wrong(0, 8192, &first[..4096]), (2, 1), "too short");
        assert_eq!(wrong(8192, 4096, &[0; 4096]), (0, 0), "never written");
        let other = Blocks::new(&job, 0, 2);
        assert_eq!(wrong(0, 4096, &other.data(0, 4096).0), (1, 1), "of another run");
        let (in_flight, _) = blocks.data(0, 4096);
        assert_eq!(wrong(0, 4096, &in_flight), (1, 0), "a newer write that was begun");
        assert_eq!(wrong(0, 4096, &first[..4096]), (1, 0), "it may not be there yet");
    }
}
