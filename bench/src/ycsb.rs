//! Ycsb: the core workloads A to F of the Yahoo cloud serving benchmark, on omap keys and values.
//!
//! | | reads | updates | inserts | scans | read, then update | wanted most |
//! |---|---|---|---|---|---|---|
//! | A | 50 | 50 | | | | zipf 0.99 |
//! | B | 95 | 5 | | | | zipf 0.99 |
//! | C | 100 | | | | | zipf 0.99 |
//! | D | 95 | | 5 | | | the newest |
//! | E | | | 5 | 95, of 1 to 100 | | zipf 0.99 |
//! | F | 50 | | | | 50 | zipf 0.99 |
//!
//! A record is one key and one value of `record_size` bytes (YCSB: ten fields of 100 bytes). Records are spread over
//! [`TABLES`] objects, as in a store whose omaps are neither one nor as many as there are keys; a scan stays in its
//! object. Keys are the record's number, hashed, as YCSB's are; `random_distribution` changes who is wanted most.
//!
//! Every value begins with its record's number, which reads compare.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use futures::future::try_join_all;
use seabed::{ObjectId, Result, Transaction};

use crate::blocks::Verified;
use crate::distribution::{Spread, Theta, Zipf};
use crate::face::Face;
use crate::job::{Direction, Distribution, Job, Ycsb};
use crate::payload::{Payload, hash_of};

/// Objects that hold the records.
pub(crate) const TABLES: u64 = 64;
const SCAN_MAX: u64 = 100;
/// Records of a transaction, and transactions at a time, while records are made.
const INSERTS: u64 = 64;
const INSERTS_AT_ONCE: u64 = 16;

/// An operation on records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum YcsbRequest {
    Read { record: u64 },
    Update { record: u64 },
    Insert { record: u64 },
    Scan { record: u64, count: u64 },
    ReadAndUpdate { record: u64 },
}

/// See the module.
pub(crate) struct Records {
    name: String,
    kind: Ycsb,
    rng: RefCell<Rng>,
    record_bytes: usize,
    prepared: u64,
    /// The next insert's number.
    inserted: Cell<u64>,
    /// All inserts below are acknowledged; besides those in `ahead`.
    finished: Cell<u64>,
    ahead: RefCell<BTreeSet<u64>>,
    wanted: Option<(Zipf, Spread)>,
    payload: Payload,
    number: Cell<u64>,
    verified: Cell<Verified>,
}

impl Records {
    pub(crate) fn new(job: &Job, copy: u32, kind: Ycsb) -> Self {
        let name = format!("{}.{copy}", job.file_name);
        let seed = job.seed ^ hash_of(&name);
        let prepared = u64::from(job.records);
        let theta = match job.distribution {
            Distribution::Zipf { theta, .. } => theta,
            Distribution::Uniform
            | Distribution::Pareto { .. }
            | Distribution::Normal { .. }
            | Distribution::Zoned(_)
            | Distribution::Sequence(_) => Theta::new(0.99).expect("in range"),
        };
        let is_uniform = job.distribution == Distribution::Uniform
            && job.given.iter().any(|(option, _)| option == "random_distribution");
        Self {
            kind,
            rng: RefCell::new(Rng::with_seed(seed)),
            record_bytes: usize::try_from(job.record_bytes).expect("small"),
            prepared,
            inserted: Cell::new(prepared),
            finished: Cell::new(prepared),
            ahead: RefCell::default(),
            wanted: (!is_uniform).then(|| (Zipf::new(theta, prepared), Spread::new(prepared, seed))),
            payload: Payload::new(usize::try_from(job.record_bytes).expect("small")),
            number: Cell::new(0),
            verified: Cell::default(),
            name,
        }
    }

    pub(crate) fn verified(&self) -> Verified {
        self.verified.get()
    }

    fn table(&self, record: u64) -> ObjectId {
        ObjectId::new(format!("{}.{:02}", self.name, record % TABLES))
    }

    fn key(record: u64) -> Vec<u8> {
        format!("user{:020}", record.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes()
    }

    fn value(&self, record: u64) -> Bytes {
        let number = self.number.replace(self.number.get() + 1);
        let mut value = BytesMut::from(&self.payload.bytes(number, self.record_bytes)[..]);
        value[..8].copy_from_slice(&record.to_le_bytes());
        value.freeze()
    }

    pub(crate) async fn prepare(&self, face: &Face) -> Result<()> {
        // A transaction's records are of one table: record, record + TABLES, ...
        let span = INSERTS * TABLES;
        for first in (0..self.prepared).step_by(usize::try_from(span).expect("small")) {
            for tables in 0..TABLES / INSERTS_AT_ONCE {
                let inserts = (0..INSERTS_AT_ONCE).map(|table| {
                    let start = first + tables * INSERTS_AT_ONCE + table;
                    let end = self.prepared.min(first + span);
                    let records = (start..end).step_by(usize::try_from(TABLES).expect("small"));
                    let pairs: Vec<_> =
                        records.map(|record| (Self::key(record), self.value(record))).collect();
                    let mut txn = Transaction::new();
                    if !pairs.is_empty() {
                        let table = self.table(start);
                        txn.touch(&table).omap_insert(&table, pairs);
                    }
                    face.submit(txn)
                });
                try_join_all(inserts).await?;
            }
        }
        Ok(())
    }

    fn draw(&self) -> u64 {
        let mut rng = self.rng.borrow_mut();
        match &self.wanted {
            // The newest most: ranks count back from the last insert that ended.
            Some((zipf, _)) if self.kind == Ycsb::D => {
                self.finished.get().saturating_sub(zipf.draw(&mut rng))
            }
            Some((zipf, spread)) => spread.place(zipf.draw(&mut rng) - 1),
            None => rng.u64(..self.finished.get()),
        }
    }

    /// The next operation.
    pub(crate) fn next(&self) -> YcsbRequest {
        let share = self.rng.borrow_mut().u32(..100);
        let insert = || YcsbRequest::Insert { record: self.inserted.replace(self.inserted.get() + 1) };
        let read = || YcsbRequest::Read { record: self.draw() };
        match (self.kind, share) {
            (Ycsb::A | Ycsb::F, 0..50) | (Ycsb::B | Ycsb::D, 0..95) | (Ycsb::C, _) => read(),
            (Ycsb::A | Ycsb::B, _) => YcsbRequest::Update { record: self.draw() },
            (Ycsb::E, 0..95) => {
                YcsbRequest::Scan { record: self.draw(), count: self.rng.borrow_mut().u64(1..=SCAN_MAX) }
            }
            (Ycsb::D | Ycsb::E, _) => insert(),
            (Ycsb::F, _) => YcsbRequest::ReadAndUpdate { record: self.draw() },
        }
    }

    pub(crate) fn direction(request: YcsbRequest) -> Direction {
        match request {
            YcsbRequest::Read { .. } | YcsbRequest::Scan { .. } => Direction::Read,
            YcsbRequest::Update { .. } | YcsbRequest::Insert { .. } | YcsbRequest::ReadAndUpdate { .. } => {
                Direction::Write
            }
        }
    }

    /// Bytes that it reads or writes, about: what a job's budget counts.
    pub(crate) fn bytes(&self, request: YcsbRequest) -> u64 {
        let records = match request {
            YcsbRequest::Scan { count, .. } => count,
            YcsbRequest::Read { .. }
            | YcsbRequest::Update { .. }
            | YcsbRequest::Insert { .. }
            | YcsbRequest::ReadAndUpdate { .. } => 1,
        };
        records * self.record_bytes as u64
    }

    /// Does it; gives when it was submitted.
    pub(crate) async fn execute(&self, face: &Face, request: YcsbRequest) -> Result<Instant> {
        match request {
            YcsbRequest::Read { record } => {
                let start = Instant::now();
                self.read(face, record).await?;
                Ok(start)
            }
            YcsbRequest::Scan { record, count } => {
                let start = Instant::now();
                let count = usize::try_from(count).expect("small");
                let (pairs, _) = face.scan(&self.table(record), &Self::key(record), count).await?;
                self.judge(record >= self.finished.get() || pairs > 0);
                Ok(start)
            }
            YcsbRequest::Update { record } | YcsbRequest::Insert { record } => {
                let value = self.value(record);
                let start = Instant::now();
                self.write(face, record, value).await?;
                self.finish(record);
                Ok(start)
            }
            YcsbRequest::ReadAndUpdate { record } => {
                let value = self.value(record);
                let start = Instant::now();
                self.read(face, record).await?;
                self.write(face, record, value).await?;
                Ok(start)
            }
        }
    }

    async fn read(&self, face: &Face, record: u64) -> Result<()> {
        let value = face.value(&self.table(record), Self::key(record)).await?;
        if !matches!(face, Face::Null(_)) {
            let is_there = value
                .as_ref()
                .is_some_and(|value| value.len() == self.record_bytes && value[..8] == record.to_le_bytes());
            self.judge(is_there);
        }
        Ok(())
    }

    async fn write(&self, face: &Face, record: u64, value: Bytes) -> Result<()> {
        let table = self.table(record);
        let mut txn = Transaction::new();
        txn.touch(&table).omap_insert(&table, [(Self::key(record), value)]);
        face.submit(txn).await
    }

    /// A record is there.
    fn finish(&self, record: u64) {
        if record < self.finished.get() {
            return;
        }
        let mut ahead = self.ahead.borrow_mut();
        ahead.insert(record);
        while ahead.remove(&self.finished.get()) {
            self.finished.set(self.finished.get() + 1);
        }
    }

    fn judge(&self, is_right: bool) {
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

    fn shares(kind: Ycsb) -> [u32; 5] {
        let mut job = Job::new("a");
        job.workload = Workload::Ycsb(kind);
        job.records = 1000;
        let records = Records::new(&job, 0, kind);
        let mut counts = [0; 5];
        for _ in 0..10_000 {
            let place = match records.next() {
                YcsbRequest::Read { .. } => 0,
                YcsbRequest::Update { .. } => 1,
                YcsbRequest::Insert { .. } => 2,
                YcsbRequest::Scan { count, .. } => {
                    assert!((1..=100).contains(&count));
                    3
                }
                YcsbRequest::ReadAndUpdate { .. } => 4,
            };
            counts[place] += 1;
        }
        counts
    }

    #[test]
    fn each_has_its_shares() {
        for (kind, expected) in [
            (Ycsb::A, [50, 50, 0, 0, 0]),
            (Ycsb::B, [95, 5, 0, 0, 0]),
            (Ycsb::C, [100, 0, 0, 0, 0]),
            (Ycsb::D, [95, 0, 5, 0, 0]),
            (Ycsb::E, [0, 0, 5, 95, 0]),
            (Ycsb::F, [50, 0, 0, 0, 50]),
        ] {
            for (count, percent) in shares(kind).into_iter().zip(expected) {
                let tolerance = if percent % 100 == 0 { 0 } else { 250 };
                assert!(count.abs_diff(percent * 100) <= tolerance, "{kind:?}: {count} of {percent} %");
            }
        }
    }

    #[test]
    fn the_newest_are_wanted_most() {
        let mut job = Job::new("a");
        job.records = 1000;
        let records = Records::new(&job, 0, Ycsb::D);
        let draws: Vec<u64> = (0..1000).map(|_| records.draw()).collect();
        let new = draws.iter().filter(|record| **record >= 900).count();
        assert!(new > 500, "{new} of 1000 among the last tenth");
        assert!(draws.iter().all(|record| *record < 1000));
    }
}
