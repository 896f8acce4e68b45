//! The disk: a device whose completions come in a seeded order after a virtual time, which may fail in any way planned,
//! and which writes down all that happens to it.
//!
//! An operation begins when it is called, not when its future is first polled, and nothing stops it. A write takes
//! effect when it completes; a read takes effect at its issue or at its completion, seeded, and shows of a write then in
//! flight any of its sectors. A discard leaves each block as it was, zeroed or as garbage.
//!
//! Invariants: 1. Writes and discards in flight never overlap: the caller's bug, a panic. 2. `visible` is what the
//! frontier says that reads see. 3. Every event is applied to the frontier and recorded, in this order, at once.
//! Crash: [`super::Frontier`]. Cost: every written block is copied and hashed once.
//! Not here: what faults there are ([`super::fault`]).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::pending;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use futures::channel::oneshot;
use seabed_device::local::Notify;
use seabed_device::memory::Aligned;
use seabed_device::{
    Class, Device, DeviceError, Durability, Geometry, IoKind, Local, ReadBuf, WriteBuf, WriteOpts,
};
use seabed_types::BLOCK_BYTES;

use super::blocks::{Block, Blocks, block_index, blocks_of, mix};
use super::crash::{Frontier, random_sectors};
use super::executor::Executor;
use super::fault::{Cache, Faults, Landed, Verdict};
use super::image::DiskImage;
use super::trace::{Event, FlushEnd, Mark, Recorded, Sectors, Trace};

/// How long operations take, in virtual microseconds; each takes a seeded time within its range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Latency {
    /// A read.
    pub read_us: RangeInclusive<u64>,
    /// A cached write.
    pub write_us: RangeInclusive<u64>,
    /// A durable write.
    pub durable_write_us: RangeInclusive<u64>,
    /// A flush.
    pub flush_us: RangeInclusive<u64>,
    /// A discard.
    pub discard_us: RangeInclusive<u64>,
    /// One of so many operations takes twenty times as long; 0 for none.
    pub slow_one_in: u32,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            read_us: 60..=120,
            write_us: 20..=60,
            durable_write_us: 30..=90,
            flush_us: 100..=500,
            discard_us: 50..=200,
            slow_one_in: 32,
        }
    }
}

/// What stands in a buffer that was not asked to be zeroed: what its writer forgets shows.
const DIRTY: u8 = 0xd1;

/// A write or discard in flight: what was asked for, and what will be done.
struct Change {
    asked_block: u64,
    first_block: u64,
    blocks: Rc<[Rc<Block>]>,
    sectors: Sectors,
    kind: IoKind,
    durable: bool,
    failure: Option<(i32, Landed)>,
}

impl Change {
    fn issued(&self, id: u64) -> Event {
        Event::Change {
            id,
            first_block: self.first_block,
            blocks: Rc::clone(&self.blocks),
            sectors: self.sectors.clone(),
            durability: if self.durable { Durability::Durable } else { Durability::Cached },
            discard: self.kind == IoKind::Discard,
        }
    }
}

struct State {
    base: DiskImage,
    frontier: Frontier,
    visible: Blocks,
    events: Vec<Recorded>,
    changes: BTreeMap<u64, Change>,
    /// The handle of each operation in flight.
    in_flight: BTreeMap<u64, u32>,
    next_id: u64,
    rng: fastrand::Rng,
    latency: Latency,
    faults: Faults,
    stalled_until: Duration,
}

/// See the module.
pub(super) struct Disk {
    executor: Rc<Executor>,
    state: RefCell<State>,
    idle: Notify,
    geometry: Geometry,
}

impl Disk {
    pub(super) fn new(
        executor: Rc<Executor>,
        base: &DiskImage,
        seed: u64,
        latency: Latency,
        faults: Faults,
        geometry: Geometry,
    ) -> Rc<Self> {
        let state = State {
            base: base.clone(),
            frontier: Frontier::new(base),
            visible: base.visible(),
            events: Vec::new(),
            changes: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            next_id: base.cached.len() as u64,
            rng: fastrand::Rng::with_seed(seed),
            latency,
            faults,
            stalled_until: Duration::ZERO,
        };
        Rc::new(Self { executor, state: RefCell::new(state), idle: Notify::default(), geometry })
    }

    pub(super) fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(super) fn mark(&self, mark: Mark) {
        self.record(Event::Mark(mark));
    }

    pub(super) fn flip(&self, at: u64, bit: u8) {
        self.record(Event::Flip { at, bit });
        let mut state = self.state.borrow_mut();
        state.visible = state.frontier.visible();
    }

    pub(super) fn with_faults<T>(&self, change: impl FnOnce(&mut Faults) -> T) -> T {
        change(&mut self.state.borrow_mut().faults)
    }

    pub(super) fn frontier(&self) -> Frontier {
        self.state.borrow().frontier.clone()
    }

    pub(super) fn is_durable(&self, at: u64, bytes: u64) -> bool {
        self.state.borrow().frontier.is_durable(at, bytes)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.state.borrow().in_flight.len()
    }

    pub(super) fn trace(&self) -> Trace {
        let state = self.state.borrow();
        Trace { base: state.base.clone(), events: state.events.clone() }
    }

    pub(super) fn take_trace(&self) -> Trace {
        let mut state = self.state.borrow_mut();
        Trace { base: state.base.clone(), events: std::mem::take(&mut state.events) }
    }

    fn record(&self, event: Event) {
        if self.executor.is_abandoned() {
            return;
        }
        let mut state = self.state.borrow_mut();
        state.frontier.apply(&event);
        state.events.push(Recorded { now: self.executor.now(), event });
    }

    /// What goes wrong with an operation that begins now.
    fn draw(&self, kind: IoKind, at: u64, bytes: u64) -> Verdict {
        let verdict = self.state.borrow_mut().faults.draw(kind, at, bytes);
        for (at, bit) in &verdict.flips {
            self.flip(*at, *bit);
        }
        verdict
    }

    fn begin(&self, handle: u32) -> u64 {
        let mut state = self.state.borrow_mut();
        let id = state.next_id;
        state.next_id += 1;
        state.in_flight.insert(id, handle);
        id
    }

    /// Calls `end` after the time that the operation takes and gives its result to the future returned.
    fn finish_later<T: 'static>(
        self: &Rc<Self>,
        id: u64,
        range_us: &RangeInclusive<u64>,
        verdict: &Verdict,
        end: impl FnOnce(&Self) -> T + 'static,
    ) -> Local<T> {
        let at = self.state.borrow_mut().end_time(self.executor.now(), range_us, verdict);
        let (sender, receiver) = oneshot::channel();
        let disk = Rc::clone(self);
        let call = move || {
            let result = end(&disk);
            disk.state.borrow_mut().in_flight.remove(&id);
            disk.idle.notify_all();
            // A caller that has dropped its future does not want to know.
            drop(sender.send(result));
        };
        self.executor.call_at(at, Box::new(call));
        Box::pin(async move {
            match receiver.await {
                Ok(result) => result,
                Err(oneshot::Canceled) => pending().await,
            }
        })
    }

    fn change(
        self: &Rc<Self>,
        handle: u32,
        change: Change,
        verdict: &Verdict,
    ) -> Local<Result<(), DeviceError>> {
        let id = self.begin(handle);
        let (event, range_us) = {
            let mut state = self.state.borrow_mut();
            state.assert_apart(&change);
            let range_us = match (change.kind, change.durable) {
                (IoKind::Discard, _) => state.latency.discard_us.clone(),
                (_, true) => state.latency.durable_write_us.clone(),
                (_, false) => state.latency.write_us.clone(),
            };
            let event = change.issued(id);
            state.changes.insert(id, change);
            (event, range_us)
        };
        self.record(event);
        self.finish_later(id, &range_us, verdict, move |disk| disk.end_change(id))
    }

    fn end_change(&self, id: u64) -> Result<(), DeviceError> {
        let (change, landed) = {
            let mut state = self.state.borrow_mut();
            let change = state.changes.remove(&id).expect("it is in flight until now");
            let landed = state.landed(&change);
            (change, landed)
        };
        let errno = change.failure.map_or(0, |(errno, _)| errno);
        self.record(Event::Changed { id, landed, durable: change.durable && errno == 0, errno });
        let mut state = self.state.borrow_mut();
        // Only a whole success is cheap to follow; the rest is rare.
        if errno == 0 && change.sectors.is_none() && change.asked_block == change.first_block {
            for (index, block) in (change.first_block..).zip(change.blocks.iter()) {
                state.visible.set(index, block);
            }
        } else {
            state.visible = state.frontier.visible();
        }
        if errno == 0 {
            return Ok(());
        }
        let at = change.asked_block * BLOCK_BYTES as u64;
        Err(DeviceError::Io {
            kind: change.kind,
            at,
            bytes: (change.blocks.len() * BLOCK_BYTES) as u64,
            errno,
        })
    }

    fn write(
        self: &Rc<Self>,
        handle: u32,
        at: u64,
        buf: &[u8],
        durability: Durability,
    ) -> Local<Result<(), DeviceError>> {
        let bytes = buf.len() as u64;
        if let Err(error) = self.check(IoKind::Write, at, bytes) {
            return Box::pin(async move { Err(error) });
        }
        let verdict = self.draw(IoKind::Write, at, bytes);
        let to = verdict.elsewhere.unwrap_or(at);
        self.check(IoKind::Write, to, bytes).expect("a misdirected write stays on the disk");
        let blocks = blocks_of(buf);
        let change = Change {
            asked_block: block_index(at),
            first_block: block_index(to),
            sectors: verdict.ineffective.then(|| vec![0; blocks.len()].into()),
            blocks,
            kind: IoKind::Write,
            durable: durability == Durability::Durable,
            failure: verdict.landed.map(|landed| (verdict.errno, landed)),
        };
        self.change(handle, change, &verdict)
    }

    fn discard(self: &Rc<Self>, handle: u32, at: u64, bytes: u64) -> Local<Result<(), DeviceError>> {
        if let Err(error) = self.check(IoKind::Discard, at, bytes) {
            return Box::pin(async move { Err(error) });
        }
        let verdict = self.draw(IoKind::Discard, at, bytes);
        let count = usize::try_from(bytes).expect("fits the memory") / BLOCK_BYTES;
        let (blocks, sectors) = self.state.borrow_mut().discarded(count);
        let change = Change {
            asked_block: block_index(at),
            first_block: block_index(at),
            blocks,
            sectors: Some(sectors),
            kind: IoKind::Discard,
            durable: false,
            failure: verdict.landed.map(|landed| (verdict.errno, landed)),
        };
        self.change(handle, change, &verdict)
    }

    fn read(self: &Rc<Self>, handle: u32, at: u64, bytes: usize) -> Local<Result<ReadBuf, DeviceError>> {
        if let Err(error) = self.check(IoKind::Read, at, bytes as u64) {
            return Box::pin(async move { Err(error) });
        }
        let verdict = self.draw(IoKind::Read, at, bytes as u64);
        let (errno, from) = (verdict.errno, verdict.elsewhere.unwrap_or(at));
        self.check(IoKind::Read, from, bytes as u64).expect("a misdirected read stays on the disk");
        let id = self.begin(handle);
        self.record(Event::Read { id, first_block: block_index(at), count: (bytes / BLOCK_BYTES) as u64 });
        let (early, range_us) = {
            let mut state = self.state.borrow_mut();
            let early = state.rng.bool().then(|| state.seen(from, bytes));
            (early, state.latency.read_us.clone())
        };
        self.finish_later(id, &range_us, &verdict, move |disk| {
            if errno != 0 {
                disk.record(Event::ReadDone { id, hash: 0, errno });
                return Err(DeviceError::Io { kind: IoKind::Read, at, bytes: bytes as u64, errno });
            }
            let seen = early.unwrap_or_else(|| disk.state.borrow_mut().seen(from, bytes));
            let hash = seen.iter().fold(0, |hash, block| mix(hash ^ block.hash()));
            disk.record(Event::ReadDone { id, hash, errno });
            let mut all = Vec::with_capacity(bytes);
            for block in &seen {
                all.extend_from_slice(block.bytes());
            }
            Ok(ReadBuf::new(all))
        })
    }

    fn flush(self: &Rc<Self>, handle: u32) -> Local<Result<(), DeviceError>> {
        let verdict = self.draw(IoKind::Flush, 0, 0);
        let id = self.begin(handle);
        self.record(Event::Flush { id });
        let range_us = self.state.borrow().latency.flush_us.clone();
        let Verdict { errno, cache, ineffective, .. } = verdict;
        self.finish_later(id, &range_us, &verdict, move |disk| {
            let end = match cache {
                Some(cache) => {
                    let survivors = disk.state.borrow_mut().survivors(id, cache);
                    FlushEnd::Failed { errno, cache, survivors }
                }
                None if ineffective => FlushEnd::Lied,
                None => FlushEnd::Done,
            };
            disk.record(Event::Flushed { id, end });
            if errno == 0 {
                return Ok(());
            }
            let mut state = disk.state.borrow_mut();
            state.visible = state.frontier.visible();
            Err(DeviceError::Io { kind: IoKind::Flush, at: 0, bytes: 0, errno })
        })
    }

    fn check(&self, kind: IoKind, at: u64, bytes: u64) -> Result<(), DeviceError> {
        let block = BLOCK_BYTES as u64;
        assert!(at.is_multiple_of(block), "{kind} at {at}: not a multiple of 4096");
        assert!(bytes.is_multiple_of(block), "{kind} of {bytes} bytes at {at}: not whole blocks");
        match at.checked_add(bytes) {
            Some(end) if end <= self.geometry.bytes => Ok(()),
            _ => Err(DeviceError::OutOfRange { kind, at, bytes }),
        }
    }
}

impl State {
    fn end_time(&mut self, now: Duration, range_us: &RangeInclusive<u64>, verdict: &Verdict) -> Duration {
        let mut time = Duration::from_nanos(self.rng.u64(range_us.start() * 1000..=range_us.end() * 1000));
        if self.latency.slow_one_in > 0 && self.rng.u32(..self.latency.slow_one_in) == 0 {
            time *= 20;
        }
        time += verdict.stall;
        self.stalled_until = self.stalled_until.max(now + verdict.stall_device);
        now.max(self.stalled_until) + time
    }

    fn assert_apart(&self, new: &Change) {
        let (first, end) = (new.asked_block, new.asked_block + new.blocks.len() as u64);
        for other in self.changes.values() {
            let (other_first, other_end) = (other.asked_block, other.asked_block + other.blocks.len() as u64);
            assert!(
                end <= other_first || other_end <= first,
                "invariant 1: {} of blocks {first}..{end} while a {} of blocks {other_first}..{other_end} is in flight",
                new.kind,
                other.kind,
            );
        }
    }

    fn landed(&mut self, change: &Change) -> Sectors {
        match change.failure {
            None | Some((_, Landed::Everything)) => None,
            Some((_, Landed::Nothing)) => Some(vec![0; change.blocks.len()].into()),
            Some((_, Landed::Torn)) => {
                Some(change.blocks.iter().map(|_| random_sectors(&mut self.rng)).collect())
            }
        }
    }

    /// What a discard makes of `count` blocks: each stays, is zeroed or becomes garbage.
    fn discarded(&mut self, count: usize) -> (Rc<[Rc<Block>]>, Rc<[u8]>) {
        let mut bytes = [0; BLOCK_BYTES];
        self.rng.fill(&mut bytes);
        let (zeros, garbage) = (Block::zeros(), Block::new(&bytes));
        let uniform = self.rng.bool().then(|| self.rng.u8(..3));
        let choices: Vec<u8> = (0..count).map(|_| uniform.unwrap_or_else(|| self.rng.u8(..3))).collect();
        let blocks =
            choices.iter().map(|choice| Rc::clone(if *choice == 1 { &zeros } else { &garbage })).collect();
        (blocks, choices.iter().map(|choice| if *choice == 0 { 0 } else { 0xff }).collect())
    }

    /// What a read that takes effect now sees: of each change in flight any sectors.
    fn seen(&mut self, at: u64, bytes: usize) -> Vec<Rc<Block>> {
        let first = block_index(at);
        let mut blocks = self.visible.clone();
        let count = (bytes / BLOCK_BYTES) as u64;
        for change in self.changes.values() {
            for (place, (index, block)) in (change.first_block..).zip(change.blocks.iter()).enumerate() {
                if (first..first + count).contains(&index) {
                    let mask = change.sectors.as_ref().map_or(0xff, |sectors| sectors[place]);
                    blocks.set_sectors(index, block, mask & random_sectors(&mut self.rng));
                }
            }
        }
        (first..first + count).map(|index| blocks.get(index).map_or_else(Block::zeros, Rc::clone)).collect()
    }

    fn survivors(&mut self, flush: u64, cache: Cache) -> Vec<(u64, Rc<[u8]>)> {
        if cache != Cache::Reverted {
            return Vec::new();
        }
        let covered = self.frontier.covered_by(flush);
        covered
            .into_iter()
            .map(|(id, blocks)| (id, (0..blocks).map(|_| random_sectors(&mut self.rng)).collect()))
            .collect()
    }
}

/// One thread's handle of the disk.
pub(super) struct SimDevice {
    pub(super) disk: Rc<Disk>,
    pub(super) handle: u32,
}

impl SimDevice {
    /// What a dead machine answers: nothing.
    fn is_dead(&self) -> bool {
        self.disk.executor.is_abandoned()
    }
}

impl Device for SimDevice {
    fn geometry(&self) -> Geometry {
        self.disk.geometry
    }

    fn alloc(&self, bytes: usize) -> WriteBuf {
        assert!(bytes.is_multiple_of(BLOCK_BYTES), "a buffer of {bytes} bytes: not whole blocks");
        seabed_types::work::bytes(bytes);
        WriteBuf::new(Aligned::zeroed(bytes))
    }

    fn alloc_dirty(&self, bytes: usize) -> WriteBuf {
        assert!(bytes.is_multiple_of(BLOCK_BYTES), "a buffer of {bytes} bytes: not whole blocks");
        let mut buffer = WriteBuf::new(Aligned::zeroed(bytes));
        buffer.fill(DIRTY);
        buffer
    }

    fn read(&self, at: u64, bytes: usize, _: Class) -> Local<Result<ReadBuf, DeviceError>> {
        if self.is_dead() {
            return Box::pin(pending());
        }
        self.disk.read(self.handle, at, bytes)
    }

    fn write(&self, at: u64, buf: Rc<WriteBuf>, opts: WriteOpts) -> Local<Result<(), DeviceError>> {
        if self.is_dead() {
            return Box::pin(pending());
        }
        let done = self.disk.write(self.handle, at, &buf, opts.durability);
        // Held until the end, as a real device would, so that a caller who reuses its buffer early is found out.
        Box::pin(async move {
            let result = done.await;
            drop(buf);
            result
        })
    }

    fn flush(&self) -> Local<Result<(), DeviceError>> {
        if self.is_dead() {
            return Box::pin(pending());
        }
        self.disk.flush(self.handle)
    }

    fn discard(&self, at: u64, bytes: u64) -> Local<Result<(), DeviceError>> {
        if self.is_dead() {
            return Box::pin(pending());
        }
        self.disk.discard(self.handle, at, bytes)
    }

    fn quiesce(&self) -> Local<()> {
        let (disk, handle) = (Rc::clone(&self.disk), self.handle);
        Box::pin(async move {
            let none = || !disk.state.borrow().in_flight.values().any(|of| *of == handle);
            disk.idle.until(none).await;
        })
    }
}
