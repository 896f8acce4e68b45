//! Mounted: a shard from one mount to the next: what all parts of it share, its tasks, and its end.
//!
//! A mount ends when the shard closes, or when a record or flush fails: then nothing it does reaches the device any more,
//! its tasks end with an error as soon as they look, and [`crate::Shard`] puts another mount in its place. Whoever still
//! holds one that has ended reads what was durable, or is told that it failed.
//!
//! The parts are in files of their own: `mount` and `format` begin a shard, `submit` is a transaction's life, `read`
//! answers questions, `bulk` stores data ahead of its record, `trim` and `checkpoint` move the window on, `graves` frees
//! what was removed, `admit` says what fits. State is in [`Rows`] (rows) and [`SegmentTable`] (segments), borrowed only between
//! awaits.
//!
//! Tasks of a shard: the commit loop, trimming, graves, the idle record, and one per submitted transaction; each ends when
//! the shard closes, and [`Mounted::close`] waits for them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures::future::join_all;
use rustc_hash::FxHashMap;
use seabed_btree::Page;
use seabed_device::local::{Notify, Semaphore};
use seabed_device::{Class, DeviceError, Durability, IoKind, Local, Machine, ReadBuf, WriteOpts};
use seabed_journal::{CollectionId, FenceCause, Journal, JournalError, Slot, Torn};
use seabed_object::{Limits, PieceRef};
use seabed_segment::{Identity, Layout, SegmentHeader, SlotCopy, StreamKind, Superblock};
use seabed_types::{BLOCK_BYTES, Crc, Epoch, Incarnation, Lsn, NodePtr, Paddr, SegmentId, ShardId, TreeKind};

use crate::io::data_cache::DataCache;
use crate::io::mount_device::MountDevice;
use crate::io::streams::{BACKGROUND_WRITES_MAX, Hold, Streams};
use crate::maintain::admit::Purpose;
use crate::maintain::clean::CleanState;
use crate::maintain::trim::TrimState;
use crate::mount::{Home, states_durable};
use crate::operate::graves::GraveWork;
use crate::operate::past::Past;
use crate::operate::put::Streaming;
use crate::options::ShardOptions;
use crate::rows::Rows;
use crate::rows::node_cache::Pin;
use crate::rows::view::{Pieces, Wanted};
use crate::shard::queue::PendingCreates;
use crate::shard::request::Applied;
use crate::space::segments::{Running, SegmentTable};
use crate::stats::{Counters, Stats};
use crate::{Error, Result};

/// How often a failed read is tried in all.
const READ_TRIES: usize = 3;
/// The most bytes that reads of one shard have in memory, of its budget.
const READ_SHARE: usize = 8;
/// The share of the budget for requests that wait or are in a batch.
const REQUEST_SHARE: usize = 8;
/// How often one operation reads a leaf whose rows belong elsewhere, before its parent is taken to be damaged.
const STRAYS_MAX: usize = 32;
/// The share of the budget for nodes, and for pending changes.
const CACHE_SHARE: usize = 2;

/// What a mount found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct MountReport {
    /// Records replayed.
    pub records: u64,
    /// Bytes read to replay them.
    pub bytes_read: u64,
    /// A torn record that was cut off at the log's end.
    pub torn: Option<Torn>,
    /// Time it took.
    pub time: std::time::Duration,
}

/// See the module.
pub(crate) struct Mounted {
    /// The device of this mount: shut when it has ended.
    device: Rc<MountDevice>,
    pub(crate) machine: Machine,
    pub(crate) superblock: Superblock,
    pub(crate) layout: Layout,
    pub(crate) identity: Identity,
    pub(crate) id: ShardId,
    pub(crate) epoch: Epoch,
    pub(crate) options: ShardOptions,
    pub(crate) limits: Limits,
    pub(crate) table: Rc<SegmentTable>,
    /// None if it was opened for reading: everything replayed is durable then.
    pub(crate) journal: Option<Rc<Journal>>,
    pub(crate) applied: Rc<Applied>,
    pub(crate) rows: RefCell<Rows>,
    pub(crate) streams: RefCell<Streams>,
    /// What the next checkpoint's slot follows.
    pub(crate) slot: RefCell<Slot>,
    /// The newest slot of which a copy is known to be on the medium.
    pub(crate) durable_slot: RefCell<Slot>,
    /// That copy, if only one is known to be.
    pub(crate) sure_slot: Cell<Option<SlotCopy>>,
    /// A checkpoint or a statement writes the slots; notified when it has ended.
    pub(crate) slots_taken: Cell<bool>,
    pub(crate) slots_free: Notify,
    /// The highest sequence of a slot that was written, or tried to be.
    pub(crate) sequence: Cell<u64>,
    /// Where the log of this mount begins, and the segment of the last record before.
    pub(crate) begins_at: Lsn,
    pub(crate) begins_behind: SegmentId,
    /// The commit loop runs.
    pub(crate) commits: Cell<bool>,
    /// Told when the mount has ended.
    pub(crate) ended: Notify,
    /// Families of streaming puts that go on: their graves are passed over.
    pub(crate) streaming: Rc<Streaming>,
    /// Keep the segments of the checkpoint bodies that the slots name.
    pub(crate) body_holds: RefCell<Vec<Hold>>,
    pub(crate) trim: TrimState,
    pub(crate) clean: CleanState,
    pub(crate) counters: Rc<Counters>,
    /// Bytes of requests that wait or are in a batch.
    pub(crate) requests: Rc<Semaphore>,
    pub(crate) creating: Rc<PendingCreates>,
    /// Bytes of reads in memory.
    pub(crate) reads: Rc<Semaphore>,
    pub(crate) data: RefCell<DataCache>,
    /// Objects that are watched.
    pub(crate) past: Rc<Past>,
    /// Reads that were answered from memory since one of them let others run.
    pub(crate) answered: Cell<u32>,
    /// Writes for which nobody waits by themselves, each a turn.
    pub(crate) background_writes: Rc<Semaphore>,
    pub(crate) grave_work: GraveWork,
    loading: RefCell<FxHashMap<NodePtr, Rc<Notify>>>,
    tasks: Cell<usize>,
    task_ended: Notify,
    pub(crate) closing: Cell<bool>,
    /// Tasks of users among all: as long as there are any, trimming goes on for them.
    submitted: Cell<usize>,
    pub(crate) report: MountReport,
}

/// What a mount has gathered for a shard.
pub(crate) struct Parts {
    pub(crate) home: Home,
    pub(crate) device: Rc<MountDevice>,
    /// That device, and the thread.
    pub(crate) machine: Machine,
    pub(crate) epoch: Epoch,
    pub(crate) table: Rc<SegmentTable>,
    pub(crate) journal: Option<Rc<Journal>>,
    pub(crate) applied: Rc<Applied>,
    pub(crate) rows: Rows,
    pub(crate) slot: Slot,
    pub(crate) durable_slot: Slot,
    pub(crate) sequence: u64,
    pub(crate) sure_slot: SlotCopy,
    pub(crate) holds: Vec<Hold>,
    pub(crate) begins_at: Lsn,
    pub(crate) begins_behind: SegmentId,
    pub(crate) report: MountReport,
}

/// Bounds of names, keys and values in a store.
pub(crate) fn limits_of(superblock: &Superblock, options: &ShardOptions) -> Limits {
    let layout = &superblock.layout;
    let mut limits = Limits::new(layout.node_bytes as usize, layout.segment_bytes as usize);
    limits.record_bytes_max = layout.record_bytes_max().min(1 << 20) - 2 * BLOCK_BYTES;
    limits.inline_bytes_max = options.inline_bytes;
    limits.inline_extents_max = if superblock.version < 2 { 0 } else { options.inline_extents_bytes };
    limits
}

impl Mounted {
    pub(crate) fn new(parts: Parts) -> Rc<Self> {
        let Home { superblock, id, options, counters, streaming, .. } = parts.home;
        let layout = superblock.layout;
        let memory = options.memory_bytes;
        let mounted = Rc::new(Self {
            device: parts.device,
            machine: parts.machine,
            superblock,
            layout,
            identity: superblock.identity,
            id,
            epoch: parts.epoch,
            limits: limits_of(&superblock, &options),
            options,
            table: parts.table,
            journal: parts.journal,
            applied: parts.applied,
            rows: RefCell::new(parts.rows),
            streams: RefCell::default(),
            slot: RefCell::new(parts.slot),
            durable_slot: RefCell::new(parts.durable_slot),
            sure_slot: Cell::new(Some(parts.sure_slot)),
            slots_taken: Cell::new(false),
            slots_free: Notify::default(),
            sequence: Cell::new(parts.sequence),
            begins_at: parts.begins_at,
            begins_behind: parts.begins_behind,
            commits: Cell::new(false),
            ended: Notify::default(),
            streaming,
            body_holds: RefCell::new(parts.holds),
            trim: TrimState::default(),
            clean: CleanState::default(),
            counters,
            requests: Semaphore::new(memory / REQUEST_SHARE),
            creating: Rc::default(),
            reads: Semaphore::new(memory / READ_SHARE),
            data: RefCell::new(DataCache::new(options.data_bytes())),
            past: Past::new(memory),
            answered: Cell::new(0),
            background_writes: Semaphore::new(BACKGROUND_WRITES_MAX),
            grave_work: GraveWork::default(),
            loading: RefCell::default(),
            tasks: Cell::new(0),
            task_ended: Notify::default(),
            closing: Cell::new(false),
            submitted: Cell::new(0),
            report: parts.report,
        });
        mounted.streaming.serve(&mounted);
        mounted
    }

    /// Starts a task that [`Mounted::close`] waits for.
    pub(crate) fn spawn(self: &Rc<Self>, class: Class, task: impl Future<Output = ()> + 'static) {
        self.tasks.set(self.tasks.get() + 1);
        let of_user = usize::from(class == Class::Foreground);
        self.submitted.set(self.submitted.get() + of_user);
        let shard = Rc::clone(self);
        let task: Local<()> = Box::pin(async move {
            task.await;
            shard.tasks.set(shard.tasks.get() - 1);
            shard.submitted.set(shard.submitted.get() - of_user);
            if shard.is_ending() {
                shard.wake_all();
            }
            shard.task_ended.notify_all();
        });
        self.machine.runtime.spawn(class, task);
    }

    pub(crate) fn journal(&self) -> Result<&Rc<Journal>> {
        self.journal.as_ref().ok_or(Error::ReadOnly)
    }

    /// All records below this are durable.
    pub(crate) fn durable_below(&self) -> Lsn {
        self.journal.as_ref().map_or(Lsn(u64::MAX), |journal| journal.durable_below())
    }

    /// Waits until all records below `lsn` are durable.
    pub(crate) async fn settled(&self, lsn: Lsn) -> Result<()> {
        if lsn <= self.durable_below() {
            return Ok(());
        }
        seabed_types::reached!(AnswerWaited);
        let journal = self.journal()?;
        Ok(journal.durable(Lsn(lsn.0 - 1)).await?)
    }

    /// Finishes what was submitted, states in the slots where the log ends (rule C10; a store whose format has no such statement
    /// ends its log with an empty record), and waits until nothing is in the kernel. What is asked for afterwards is
    /// [`Error::Closed`].
    pub(crate) async fn close(self: &Rc<Self>) -> Result<()> {
        self.closing.set(true);
        self.wake_all();
        let mut result = Ok(());
        if let Some(journal) = &self.journal {
            // The commit loop is the one task that goes on until it is told.
            self.task_ended.until(|| self.tasks.get() <= 1).await;
            if !states_durable(&self.superblock) && !journal.last_is_empty() && journal.healthy().is_ok() {
                result = match journal.touch() {
                    Ok(lsn) => journal.durable(lsn).await.map_err(Error::from),
                    // Without it the log's last record is only not proven.
                    Err(JournalError::NoSegment) => Ok(()),
                    Err(error) => Err(self.not_logged(error)),
                };
            }
            journal.close();
            result = result.and(journal.healthy().map_err(Error::from));
        }
        self.task_ended.until(|| self.tasks.get() == 0).await;
        if self.journal.is_some() && result.is_ok() {
            result = self.state_end().await;
        }
        self.machine.device.quiesce().await;
        result
    }

    /// Counters and levels.
    pub(crate) fn stats(&self) -> Stats {
        let mut stats = *self.counters.stats.borrow();
        let rows = self.rows.borrow();
        stats.cached_nodes = rows.cache.len() as u64;
        stats.pending_bytes = rows.pending_bytes() as u64;
        stats.free_segments = self.table.free_count() as u64;
        stats.quarantined_segments = self.table.quarantined_count() as u64;
        stats.live_bytes = self.table.live_total().cast_unsigned();
        stats.window_segments = self.journal.as_ref().map_or(0, |journal| journal.segment_count() as u64);
        let requests = self.options.memory_bytes / REQUEST_SHARE - self.requests.free();
        let reads = self.options.memory_bytes / READ_SHARE - self.reads.free();
        let nodes = rows.cache.len() * (rows.node_bytes + 128);
        let data = self.data.borrow().bytes();
        stats.data_bytes = data as u64;
        let streams = self.streaming.bytes();
        let past = self.past.bytes();
        stats.read_handles = self.past.handles() as u64;
        let copies = self.clean.memory_bytes();
        let levels = [nodes, rows.pending_bytes(), requests, reads, data, streams, past, copies];
        stats.memory_bytes = levels.into_iter().sum::<usize>() as u64;
        stats
    }

    /// Ends the mount: nothing more is issued or acknowledged. The shard is mounted again in place, or fenced.
    pub(crate) fn fence(&self, cause: impl Into<FenceCause>) -> Error {
        let cause = cause.into();
        if let Some(journal) = &self.journal {
            journal.fail(cause);
        }
        self.wake_all();
        Error::Fenced(cause)
    }

    /// The error of a transaction that the journal did not take.
    pub(crate) fn not_logged(&self, error: JournalError) -> Error {
        match error {
            JournalError::Fenced(cause) => Error::Fenced(cause),
            JournalError::TooLarge { bytes, max } => Error::too_large_for_a_record(bytes, max),
            JournalError::NoSegment => self.no_space(),
        }
    }

    /// The error of work that ends because this mount has failed or closes.
    pub(crate) fn ended_error(&self) -> Error {
        self.failure().map_or(Error::Closed, Error::Fenced)
    }

    /// Why the mount has ended, if it failed.
    pub(crate) fn failure(&self) -> Option<FenceCause> {
        self.journal.as_ref()?.healthy().err()
    }

    /// Waits until nothing of a mount that failed is in the kernel, nor will be, and what it acknowledged is known.
    pub(crate) async fn has_ended(&self) {
        let Some(cause) = self.failure() else { return };
        self.device.ended.set(Some(cause.of_later_writes()));
        self.data.borrow_mut().limit(0);
        // A segment into which a write failed is not written into again.
        if let FenceCause::Device(DeviceError::Io { kind: IoKind::Write, at, .. }) = cause {
            let segment = Paddr::of_device_offset(at, self.layout.segment_bytes).segment;
            if self.layout.has_segment(segment) {
                self.table.quarantine(segment);
            }
        }
        self.machine.device.quiesce().await;
        self.ended.until(|| !self.commits.get()).await;
        self.applied.clear();
    }

    /// Whether the shard closes and all that was submitted is done.
    pub(crate) fn is_ending(&self) -> bool {
        self.closing.get() && self.submitted.get() == 0
    }

    /// Wakes whoever may have to end.
    pub(crate) fn wake_all(&self) {
        self.trim.wake.notify_all();
        self.trim.moved.notify_all();
        self.table.changed.notify_all();
        self.grave_work.wake.notify_all();
        self.ended.notify_all();
    }
}

/// What an operation keeps while it goes on: nodes that must stay, pieces that it loaded, its claim on old segments.
pub(crate) struct OpGuard {
    shard: Rc<Mounted>,
    pins: Vec<Pin>,
    /// Leaves that it met where their rows do not belong, each as often as it was read.
    strays: Vec<NodePtr>,
    pub(crate) pieces: Pieces,
    running: Option<Running>,
    /// Whether it waits for the cleaner was decided: once is enough, whatever others write meanwhile.
    has_paid: bool,
}

impl OpGuard {
    pub(crate) fn new(shard: &Rc<Mounted>) -> Self {
        let running = Some(shard.table.enter());
        let (pins, strays) = (Vec::new(), Vec::new());
        let pieces = Pieces::default();
        Self { shard: Rc::clone(shard), pins, strays, pieces, running, has_paid: false }
    }

    /// Waits for something with nothing held: what is held may be what is waited for. What was seen before is outdated then.
    ///
    /// The only way to wait for another operation or for space beside [`OpGuard::admits`]; without it a full device deadlocks.
    pub(crate) async fn released<T>(&mut self, wait: impl Future<Output = T>) -> T {
        self.let_go();
        let waited = wait.await;
        self.running = Some(self.shard.table.enter());
        waited
    }

    fn let_go(&mut self) {
        self.running = None;
        self.pieces.clear();
        if !self.pins.is_empty() {
            let mut rows = self.shard.rows.borrow_mut();
            for pin in self.pins.drain(..) {
                rows.cache.unpin(pin);
            }
        }
    }

    /// Whether `bytes` more may come at this moment. If not, lets go of everything, waits until they may, and answers false:
    /// what was seen before is outdated.
    pub(crate) async fn admits(&mut self, bytes: usize, purpose: Purpose) -> Result<bool> {
        let shard = Rc::clone(&self.shard);
        let must_pay = purpose == Purpose::Store && !std::mem::replace(&mut self.has_paid, true);
        if must_pay && shard.is_in_debt() {
            self.released(shard.pay_debt()).await;
            return Ok(false);
        }
        if shard.is_admitted(bytes, purpose) {
            return Ok(true);
        }
        self.released(shard.admit(bytes, purpose)).await?;
        Ok(false)
    }

    /// Whether it met this leaf where its rows do not belong.
    pub(crate) fn has_met(&self, ptr: NodePtr) -> bool {
        self.strays.contains(&ptr)
    }

    /// A leaf was read whose rows belong elsewhere. The tree may have changed meanwhile, but not again and again: then its
    /// parent names it wrongly, and whoever looks for it there would read it for ever.
    fn met_stray(&mut self, ptr: NodePtr) -> Result<()> {
        self.strays.push(ptr);
        if self.strays.iter().filter(|stray| **stray == ptr).count() < STRAYS_MAX {
            return Ok(());
        }
        Err(Error::corrupt(ptr.at, "a tree node: rows outside the interval that its parent names"))
    }

    /// Lets go of the nodes that it keeps in memory, and of nothing else.
    pub(crate) fn unpin(&mut self) {
        let mut rows = self.shard.rows.borrow_mut();
        for pin in self.pins.drain(..) {
            rows.cache.unpin(pin);
        }
    }
}

impl Drop for OpGuard {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// Takes the node off the list of those being loaded, also if the load is dropped half-way.
struct Loading<'a> {
    shard: &'a Mounted,
    ptr: NodePtr,
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        if let Some(notify) = self.shard.loading.borrow_mut().remove(&self.ptr) {
            notify.notify_all();
        }
    }
}

enum Loaded {
    Pinned(Pin),
    /// Its rows belong to another place than where it was met.
    Stray(NodePtr),
    Piece(PieceRef, bytes::Bytes),
}

impl Mounted {
    /// Loads what an operation wants, all at once, and keeps it for the operation. Dropping the future loses nothing.
    pub(crate) async fn load(
        self: &Rc<Self>,
        id: CollectionId,
        wanted: Vec<Wanted>,
        guard: &mut OpGuard,
    ) -> Result<()> {
        let loads = wanted.into_iter().map(|wanted| async move {
            match wanted {
                Wanted::Node(tree, ptr) => {
                    let pin = self.load_node(id, tree, ptr).await?;
                    Ok(pin.map_or(Loaded::Stray(ptr), Loaded::Pinned))
                }
                Wanted::Piece(piece) => {
                    let bytes = self.read_piece(&piece).await?;
                    Ok(Loaded::Piece(piece, bytes))
                }
            }
        });
        // Also after an error all that was pinned is kept, to be let go of.
        let mut result = Ok(());
        for loaded in join_all(loads).await {
            match loaded {
                Ok(Loaded::Pinned(pin)) => guard.pins.push(pin),
                Ok(Loaded::Stray(ptr)) => result = result.and(guard.met_stray(ptr)),
                Ok(Loaded::Piece(piece, bytes)) => {
                    guard.pieces.insert(piece, bytes);
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        self.shrink_cache();
        result
    }

    pub(crate) fn shrink_cache(&self) {
        let mut rows = self.rows.borrow_mut();
        let frame_bytes = rows.node_bytes + 128;
        let pending = rows.pending_bytes();
        let memory = self.options.memory_bytes;
        // Nodes, pending changes and data share what requests and reads leave; half of it all is nobody's but theirs.
        let shared = memory - memory / REQUEST_SHARE - memory / READ_SHARE;
        let shared = shared.saturating_sub(self.streaming.bytes() + self.clean.memory_bytes());
        let share = (memory / CACHE_SHARE).min(shared.saturating_sub(self.options.data_bytes()));
        let budget = share.saturating_sub(pending);
        let durable = self.durable_below();
        let count = if seabed_types::seeded!(60) { usize::MAX } else { budget / frame_bytes };
        rows.cache.shrink(count, durable);
        // Nodes that have to stay may take more than their share: data gives way first.
        let kept = rows.cache.len() * frame_bytes + pending;
        // That of a mount that has failed is empty, and stays so.
        if self.failure().is_none() {
            self.data.borrow_mut().limit(shared.saturating_sub(kept));
        }
    }

    async fn load_node(&self, id: CollectionId, tree: TreeKind, ptr: NodePtr) -> Result<Option<Pin>> {
        while let Some(load) = { self.loading.borrow().get(&ptr).cloned() } {
            // It may be given up and loaded again before this task runs: that load tells others than this one.
            let is_over = || self.loading.borrow().get(&ptr).is_none_or(|now| !Rc::ptr_eq(now, &load));
            load.until(is_over).await;
            if let Some(pin) = self.rows.borrow_mut().cache.pin(ptr) {
                return Ok(Some(pin));
            }
        }
        self.loading.borrow_mut().insert(ptr, Rc::default());
        let _loading = Loading { shard: self, ptr };
        self.counters.count(|stats| stats.node_loads += 1);
        let node_bytes = self.layout.node_bytes as usize;
        let bytes = self.read(ptr.at, node_bytes).await?;
        let corrupt = |what| Error::corrupt(ptr.at, what);
        let page: Box<[u8]> = bytes[..node_bytes].into();
        if Crc::of(&page) != ptr.crc && !seabed_types::seeded!(48) {
            return Err(corrupt("a tree node: checksum"));
        }
        let page = Page::decode(page).map_err(|malformed| corrupt(malformed.what))?;
        self.rows.borrow_mut().take_loaded(id, tree, ptr, page).map_err(corrupt)
    }

    /// The verified bytes of a piece.
    pub(crate) async fn read_piece(&self, piece: &PieceRef) -> Result<bytes::Bytes> {
        if let Some(journal) = &self.journal
            && let Some(bytes) = journal.unwritten(piece.at, piece.bytes as usize)
        {
            return Ok(bytes.into());
        }
        let _permit = self.reads.acquire(piece.bytes as usize).await;
        self.read_permitted_piece(piece).await
    }

    /// As [`Mounted::read_piece`]; the caller has the memory.
    pub(crate) async fn read_permitted_piece(&self, piece: &PieceRef) -> Result<bytes::Bytes> {
        if let Some(journal) = &self.journal
            && let Some(bytes) = journal.unwritten(piece.at, piece.bytes as usize)
        {
            return Ok(bytes.into());
        }
        let (bytes, skip) = self.read_covering(piece.at, piece.bytes).await?;
        let bytes = &bytes[skip..skip + piece.bytes as usize];
        if Crc::of(bytes) != piece.crc && !seabed_types::seeded!(54) {
            return Err(Error::corrupt(piece.at, "data: checksum"));
        }
        Ok(bytes::Bytes::copy_from_slice(bytes))
    }

    /// Reads the blocks that cover `bytes` bytes at `at`; with the bytes to skip at the beginning.
    pub(crate) async fn read_covering(&self, at: Paddr, bytes: u32) -> Result<(ReadBuf, usize)> {
        if !self.layout.contains(at, u64::from(bytes)) {
            return Err(Error::corrupt(at, "an address outside the store's segments"));
        }
        let skip = at.offset as usize % BLOCK_BYTES;
        let start = Paddr::new(at.segment, at.offset - u32::try_from(skip).expect("within a block"));
        let read = self.read(start, (skip + bytes as usize).next_multiple_of(BLOCK_BYTES)).await?;
        Ok((read, skip))
    }

    async fn read(&self, at: Paddr, bytes: usize) -> Result<ReadBuf> {
        if !self.layout.contains(at, bytes as u64) || !(at.offset as usize).is_multiple_of(BLOCK_BYTES) {
            return Err(Error::corrupt(at, "an address outside the store's segments"));
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match self.machine.device.read(self.layout.device_offset(at), bytes, Class::Foreground).await {
                Ok(read) => return Ok(read),
                Err(error) if tries == READ_TRIES || seabed_types::seeded!(56) => return Err(error.into()),
                Err(_) => seabed_types::reached!(ReadAgain),
            }
        }
    }

    /// The header block of a segment that this shard claimed in this epoch, and its checksum.
    pub(crate) fn header_of(
        &self,
        segment: SegmentId,
        incarnation: Incarnation,
        stream: StreamKind,
    ) -> ([u8; BLOCK_BYTES], Crc) {
        let header = SegmentHeader {
            segment,
            incarnation,
            shard: self.id,
            stream,
            epoch: self.epoch,
            age: 0,
            first_lsn: Lsn(0),
        };
        header.encode(&self.identity)
    }

    /// Writes the header blocks of segments that were claimed and the inventories of those that filled up. Nothing waits for
    /// them; each segment is held until its writes are done.
    pub(crate) fn write_segment_ends(self: &Rc<Self>) {
        for (segment, incarnation, stream) in self.table.take_claimed() {
            let (block, _) = self.header_of(segment, incarnation, stream);
            self.write_aside(segment, vec![(0, block.to_vec())], stream);
        }
        for full in self.table.take_sealed_journal() {
            if let Some(ends) = full.seal(&self.identity) {
                self.write_aside(full.segment, ends.into(), full.stream);
            }
            self.table.unhold(full.segment);
        }
    }

    /// Writes blocks into a segment, cached, in the background.
    pub(crate) fn write_aside(
        self: &Rc<Self>,
        segment: SegmentId,
        blocks: Vec<(u32, Vec<u8>)>,
        stream: StreamKind,
    ) {
        self.table.hold(segment);
        let shard = Rc::clone(self);
        self.spawn(Class::Background, async move {
            for (offset, bytes) in blocks.into_iter().filter(|(_, bytes)| !bytes.is_empty()) {
                let at = shard.layout.device_offset(Paddr::new(segment, offset));
                let mut buf = shard.machine.device.alloc(bytes.len());
                buf.copy_from_slice(&bytes);
                let opts = WriteOpts {
                    durability: Durability::Cached,
                    class: Class::Background,
                    stream: stream as u8,
                };
                let turn = shard.background_writes.acquire(1).await;
                let written = shard.machine.device.write(at, Rc::new(buf), opts).await;
                drop(turn);
                if let Err(error) = written {
                    tracing::warn!(%error, %segment, "a segment's header or inventory was not written");
                }
            }
            shard.table.unhold(segment);
        });
    }
}
