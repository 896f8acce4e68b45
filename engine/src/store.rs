//! Store: the face of a store for any thread and any executor: `Clone`, `Send`, `Sync`.
//!
//! A store is a handle to the inbox of its engine thread (`inbox.rs`). A call is a closure that the engine thread runs with
//! its [`LocalStore`]; the answer comes back through a cell that both share, so the futures here run on any executor.
//!
//! Order: a call is sent in the moment it is made, before its future is polled, for the functions that return an [`Answer`]
//! (all that change an object, and [`Store::run_on_shard`]); the `async` ones (reads, listings, pools) are sent when they are
//! first polled. The engine begins calls in the order in which they were sent, and transactions take effect in that order. A read
//! shows all that was acknowledged before it was sent, and may show transactions that were sent after it.
//!
//! Dropping the last handle closes the store in the background; [`Store::close`] waits for it.
//!
//! Cancel safety: a call that was sent is carried out whether its future is dropped or not.
//! Cost: two hops, 50-65 us parked, 7 us with a `spin_before_park` of 100 us, besides the request's own.
//! Limits: the engine takes no calls while its memory for requests is used up; those that wait belong to their callers. Calls
//! whose futures were dropped may take an eighth of the memory budget, then calls are [`Error::Backlog`].

use std::cell::Cell;
use std::fmt;
use std::ops::RangeBounds;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use futures::channel::oneshot;
use futures::{FutureExt, Stream};
use seabed_device::glommio_host::{self, CreateOptions, Created, FirstWrite, GlommioHost, HostOptions};
use seabed_device::local::{Notify, Semaphore};
use seabed_device::{Class, Host, Join, Machine, Missing, OpenError};
use seabed_object::read::{Range, Stat};
use seabed_object::{Direction, IntoData, ObjectId, Transaction, Usage};
use seabed_segment::{Identity, Layout, Superblock, SuperblockError};
use seabed_types::{BLOCK_BYTES, PoolId, ShardId, Uuid};

use crate::format::{format_device, is_window, window_bytes};
use crate::guest;
use crate::handle::LocalRead;
use crate::inbox::{Answer, End, Inbox, Jobs, inbox};
use crate::limits::StoreLimits;
use crate::list::List;
use crate::listing::ListPage;
use crate::local::{LocalPool, LocalStore, PoolEntry, bytes_of_range, keys_of};
use crate::mounted::{MountReport, limits_of};
use crate::options::{Access, FormatOptions, OpenOptions, ShardOptions};
use crate::read::OmapPage;
use crate::shard::Shard;
use crate::stats::Stats;
use crate::{Error, ErrorKind, Result};

/// How long an engine thread begins calls before its other tasks run.
const BEGIN_FOR: Duration = Duration::from_micros(100);
/// The share of the memory budget that calls may take whose futures were dropped.
const ABANDONED_SHARE: usize = 8;
/// Reads of one handle that wait for their turn, and those that are on their way.
const READS_QUEUED: usize = 1;
const READS_AT_ONCE: usize = 8;
/// The smallest segment of a store that the size chooses.
const SEGMENT_BYTES_MIN: u32 = 1 << 20;

/// The engine's part of a call: run on the engine thread.
type Job = Box<dyn FnOnce(&Desk) + Send>;

/// What an engine thread carries calls out with.
struct Desk {
    local: LocalStore,
    /// Calls that a close waits for.
    running: Rc<Running>,
}

/// Counts calls that have begun and not ended.
#[derive(Default)]
struct Running {
    count: Cell<usize>,
    none: Notify,
}

/// Counts one call until it is dropped.
struct Runs(Rc<Running>);

impl Runs {
    fn new(running: &Rc<Running>) -> Self {
        running.count.set(running.count.get() + 1);
        Self(Rc::clone(running))
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        if self.0.count.get() == 0 {
            self.0.none.notify_all();
        }
    }
}

/// What a store is and what its mount found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct StoreInfo {
    /// Identity, version, sizes.
    pub superblock: Superblock,
    /// What the mount found.
    pub mount: MountReport,
}

impl StoreInfo {
    /// How many pools the store may have, removed ones included: a checkpoint names every collection, and has one segment for
    /// that. A store of 8 GiB with default options has room for 19,250, one with larger segments for more.
    pub fn pools_max(&self) -> usize {
        crate::pools::pools_max(&self.superblock.layout)
    }
}

impl StoreInfo {
    pub(crate) fn new(superblock: Superblock, mount: MountReport) -> Self {
        Self { superblock, mount }
    }
}

/// An open store.
#[derive(Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

struct Handle {
    inbox: Inbox<Job>,
    info: StoreInfo,
    end: End,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = &mut f.debug_struct("Store");
        let superblock = &self.handle.info.superblock;
        store
            .field("uuid", &superblock.identity.uuid)
            .field("layout", &superblock.layout)
            .finish_non_exhaustive()
    }
}

/// What the engine thread is given.
struct Engine {
    superblock: Superblock,
    options: ShardOptions,
    jobs: Jobs<Job>,
    mounted: oneshot::Sender<Result<MountReport>>,
    closed: oneshot::Sender<Result<()>>,
}

impl Engine {
    fn run(mut self, machine: Machine) -> seabed_device::Local<()> {
        Box::pin(async move {
            guest::is_engine_thread();
            let runtime = Rc::clone(&machine.runtime);
            let shard = match Shard::mount(machine, self.superblock, ShardId(0), self.options).await {
                Ok(shard) => shard,
                Err(error) => {
                    let _ = self.mounted.send(Err(error));
                    return;
                }
            };
            let _ = self.mounted.send(Ok(shard.report()));
            let desk = Desk { local: LocalStore::new(Rc::clone(&shard)), running: Rc::default() };
            let mut since = runtime.now();
            while let Some(job) = self.jobs.next().await {
                job(&desk);
                // While requests wait for memory no more are taken.
                shard.has_memory().await;
                if runtime.now().saturating_sub(since) > BEGIN_FOR {
                    runtime.yield_now().await;
                    since = runtime.now();
                }
            }
            let running = Rc::clone(&desk.running);
            drop(desk);
            running.none.until(|| running.count.get() == 0).await;
            let result = shard.close().await;
            let _ = self.closed.send(result);
            runtime.yield_now().await;
        })
    }
}

/// Waits for an engine's own result and then for its threads.
fn end_of(closed: oneshot::Receiver<Result<()>>, join: Join) -> End {
    let end = async move {
        let result = closed.await.unwrap_or(Err(Error::Open(OpenError::Panicked)));
        on_thread("seabed-end", join).await??;
        result
    };
    end.boxed().shared()
}

/// The part of the options that does not concern the device.
pub(crate) fn shard_options(options: &OpenOptions) -> ShardOptions {
    ShardOptions {
        access: options.access,
        memory_bytes: options.memory_bytes,
        data_cache_bytes: options.data_cache_bytes,
        read_bytes_max: options.read_bytes_max,
        read_handles_max: options.read_handles_max,
        read_handle_age_max: options.read_handle_age_max,
        ..ShardOptions::default()
    }
}

pub(crate) fn open_host(path: &Path, options: &OpenOptions) -> Result<(GlommioHost, Superblock)> {
    let access = match options.access {
        Access::ReadWrite => glommio_host::Access::ReadWrite,
        Access::ReadOnly => glommio_host::Access::ReadOnly,
    };
    let host = GlommioHost::open(
        path,
        HostOptions {
            access,
            lock_wait: options.lock_wait,
            spin_before_park: options.spin_before_park,
            ..HostOptions::default()
        },
    )?;
    let bytes = host.geometry().bytes;
    let mut places = Superblock::places(bytes);
    let mut blocks = [const { None }; 4];
    // The last copy lies at the end of the store, which a larger device does not end with.
    for (place, block) in places.iter_mut().zip(&mut blocks) {
        let mut read = vec![0; BLOCK_BYTES];
        if *place + BLOCK_BYTES as u64 <= bytes && host.read_at(*place, &mut read).is_ok() {
            *block = Some(read);
        }
    }
    let superblock = Superblock::choose(std::array::from_fn(|copy| blocks[copy].as_deref()))?;
    let store_bytes = superblock.layout.device_bytes;
    if store_bytes > bytes {
        return Err(Error::WrongSize { store_bytes, device_bytes: bytes });
    }
    if superblock.layout.shards != 1 {
        return Err(Error::Invalid {
            what: "a store of more than one shard: this version opens stores of one",
        });
    }
    Ok((host, superblock))
}

/// Runs something that blocks on a thread of its own.
pub(crate) async fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = oneshot::channel();
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || sender.send(work()));
    spawned.map_err(|_| Error::Open(Missing::Threads.into()))?;
    receiver.await.map_err(|_| Error::Open(OpenError::Panicked))
}

impl Store {
    /// Makes an empty store at `path`: a block device, an existing file, or a new one. Blocks.
    ///
    /// Refuses what is not empty unless forced, and what is in use always. After an error a new file is gone, and one that
    /// existed has its size but nothing of what was written to it.
    pub fn format(path: impl AsRef<Path>, options: FormatOptions) -> Result<()> {
        let path = path.as_ref();
        let bytes = match options.size {
            Some(bytes) => bytes,
            None => existing_bytes(path)?,
        };
        let bytes = bytes / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        let segment_bytes =
            options.segment_bytes.unwrap_or_else(|| Layout::segment_bytes_for(bytes, 1, SEGMENT_BYTES_MIN));
        let layout = Layout { device_bytes: bytes, segment_bytes, node_bytes: options.node_bytes, shards: 1 };
        layout.check()?;
        let window_bytes = options.window_bytes.unwrap_or_else(|| window_bytes(&layout));
        if !is_window(&layout, window_bytes) {
            return Err(Error::Invalid {
                what: "a window of under 4 segments or over a quarter of the store",
            });
        }
        let mut random = [0; 32];
        getrandom::fill(&mut random)
            .map_err(|_| Error::Invalid { what: "the system gives no random numbers" })?;
        let (uuid, secret) = random.split_at(16);
        let identity = Identity {
            uuid: Uuid(uuid.try_into().expect("16 of 32 bytes")),
            secret: secret.try_into().expect("16 of 32 bytes"),
        };
        let superblock = Superblock::new(identity, layout, window_bytes);
        let progress = options.progress;
        let create = CreateOptions {
            overwrite: options.force,
            first_write: if options.first_write { FirstWrite::Now } else { FirstWrite::Never },
            lock_wait: options.lock_wait,
            cancel: options.cancel,
        };
        // Undone unless it is kept.
        let created = Created::new(path, bytes, &create, &mut |done, all| {
            if let Some(progress) = &progress {
                progress(done, all);
            }
        })?;
        let host = created.host(HostOptions::default());
        let (sender, receiver) = std::sync::mpsc::channel();
        let sender = Mutex::new(sender);
        let main = move |machine: Machine| -> seabed_device::Local<()> {
            let sender = sender.lock().ok().map(|sender| sender.clone());
            Box::pin(async move {
                let result = format_device(&machine, &superblock).await;
                if let Some(sender) = sender {
                    let _ = sender.send(result);
                }
            })
        };
        let join = host.start(1, Arc::new(main))?;
        join()?;
        receiver.recv().unwrap_or(Err(Error::Open(OpenError::Panicked)))?;
        created.keep();
        Ok(())
    }

    /// Opens the store at `path`, after making one there if there is none.
    ///
    /// A store is made only where nothing is: in a new file, in an empty one, or on a device that [`Store::format`] takes
    /// without force. [`FormatOptions::force`] counts for nothing here, and with [`Access::ReadOnly`] no store is made. Of several
    /// callers at once one makes it, and the others wait as long as [`OpenOptions::lock_wait`] says or fail with
    /// [`Error::Open`]. Blocks the thread while a store is made.
    ///
    /// Errors: those of [`Store::open`] and of [`Store::format`]. Cancel safety: as [`Store::open`].
    pub async fn open_or_create(
        path: impl AsRef<Path>,
        format: FormatOptions,
        options: OpenOptions,
    ) -> Result<Self> {
        let path = path.as_ref();
        let absent = match Self::open(path, options.clone()).await {
            Err(error) if options.access == Access::ReadWrite && is_no_store(&error) => error,
            opened => return opened,
        };
        match Self::format(path, FormatOptions { force: false, ..format }) {
            // It holds something that is no store, or another caller was faster: opening again shows which.
            Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::InUse) => {
                let opened = Self::open(path, options).await;
                opened.map_err(|again| if again == absent { error } else { again })
            }
            Err(error) => Err(error),
            Ok(()) => Self::open(path, options).await,
        }
    }

    /// Opens a store and replays its journal.
    ///
    /// Errors: [`Error::Open`] (in use: names the process), [`Error::Superblock`] (not a store, another version, unknown
    /// features), [`Error::WrongSize`], [`Error::Damaged`], [`Error::Corrupt`], [`Error::MemoryBudget`]; nothing was
    /// written then. Cancel safety: an open that is dropped closes the store again.
    pub async fn open(path: impl AsRef<Path>, options: OpenOptions) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let (mounted, mount) = oneshot::channel();
        let (closed, end) = oneshot::channel();
        let (inbox, jobs) = inbox(options.memory_bytes / ABANDONED_SHARE);
        let started = on_thread("seabed-open", move || -> Result<_> {
            let (host, superblock) = open_host(&path, &options)?;
            let shard = shard_options(&options);
            let engine = Mutex::new(Some(Engine { superblock, options: shard, jobs, mounted, closed }));
            let main = move |machine: Machine| -> seabed_device::Local<()> {
                let engine = engine.lock().ok().and_then(|mut engine| engine.take());
                Box::pin(async move {
                    if let Some(engine) = engine {
                        engine.run(machine).await;
                    }
                })
            };
            Ok((host.start(1, Arc::new(main))?, superblock))
        });
        let (join, superblock) = started.await??;
        let report = match mount.await {
            Ok(Ok(report)) => report,
            failed => {
                // The lock is let go before the error is told.
                on_thread("seabed-end", join).await??;
                return Err(failed.ok().and_then(Result::err).unwrap_or(Error::Open(OpenError::Panicked)));
            }
        };
        let info = StoreInfo { superblock, mount: report };
        Ok(Self { handle: Arc::new(Handle { inbox, info, end: end_of(end, join) }) })
    }

    /// Closes the store: carries out what was sent, ends the log, and releases the device.
    ///
    /// From this call on further calls, through any handle, are [`Error::Closed`]. Every call of `close` waits for the same
    /// end and returns the same result, also after another one was dropped. Cancel safety: dropping the future changes nothing.
    pub fn close(self) -> impl Future<Output = Result<()>> + Send + 'static {
        self.handle.inbox.close();
        self.handle.end.clone()
    }

    /// What the store is and what the mount found.
    pub fn info(&self) -> StoreInfo {
        self.handle.info
    }

    /// What a name, a value and a transaction may have in this store.
    pub async fn limits(&self) -> Result<StoreLimits> {
        self.call(|local| async move { Ok(local.limits()) }).await
    }

    /// Runs work on the engine's thread, with the face that is not `Send`: for servers that live there. It is sent in the
    /// moment of the call, and begins in the order of calls.
    ///
    /// It shares the thread with the engine: it must not block it, and in loops it gives way with `runtime().yield_io()` after
    /// each 100 us of work. It starts tasks with [`LocalStore::spawn`]. A panic in it is [`Error::Panicked`], with its message,
    /// and the store goes on; with `panic = "abort"` every panic ends the process.
    ///
    /// A close does not wait for it: what it asks of the store from then on is [`Error::Closed`], and it is dropped when the
    /// store has closed; this future is [`Error::Closed`] then. [`Error::Open`]: the engine itself panicked.
    pub fn run_on_shard<T, F>(&self, work: F) -> Answer<T>
    where
        T: Send + 'static,
        F: FnOnce(LocalStore) -> Pin<Box<dyn Future<Output = T>>> + Send + 'static,
    {
        let handle = &*self.handle;
        handle.inbox.send(0, &handle.end, |reply| {
            Box::new(move |desk| {
                let local = desk.local.clone();
                let work = guest::caught(|| work(local.clone()));
                let task = async move {
                    reply.answer(match work {
                        Ok(work) => guest::guarded(work).await,
                        Err(error) => Err(error),
                    });
                    guest::end_if_broken(local.shard());
                };
                desk.local.runtime().spawn(Class::Foreground, Box::pin(task));
            })
        })
    }

    fn call<T, F, R>(&self, work: F) -> Answer<T>
    where
        T: Send + 'static,
        F: FnOnce(LocalStore) -> R + Send + 'static,
        R: Future<Output = Result<T>> + 'static,
    {
        self.call_with(0, work)
    }

    /// Sends a call that carries `bytes` bytes. What `work` does before it returns its future happens in the order of calls.
    fn call_with<T, F, R>(&self, bytes: usize, work: F) -> Answer<T>
    where
        T: Send + 'static,
        F: FnOnce(LocalStore) -> R + Send + 'static,
        R: Future<Output = Result<T>> + 'static,
    {
        let handle = &*self.handle;
        handle.inbox.send(bytes, &handle.end, |reply| {
            Box::new(move |desk| {
                if seabed_types::seeded!(72) && reply.is_abandoned() {
                    return;
                }
                let runs = Runs::new(&desk.running);
                let work = work(desk.local.clone());
                let task = async move {
                    reply.answer(work.await);
                    drop(runs);
                };
                desk.local.runtime().spawn(Class::Foreground, Box::pin(task));
            })
        })
    }

    fn pool_handle(&self, id: PoolId, name: &str) -> Pool {
        Pool { store: self.clone(), id, name: name.into() }
    }

    /// The pool of this name; [`Error::NoSuchPool`].
    pub async fn pool(&self, name: &str) -> Result<Pool> {
        let wanted = name.to_owned();
        let id = self.call(|local| async move { Ok(local.pool(&wanted).await?.id()) }).await?;
        Ok(self.pool_handle(id, name))
    }

    /// Makes a pool; [`Error::PoolExists`].
    pub async fn create_pool(&self, name: &str) -> Result<Pool> {
        let wanted = name.to_owned();
        let id = self.call(|local| async move { Ok(local.create_pool(&wanted).await?.id()) }).await?;
        Ok(self.pool_handle(id, name))
    }

    /// The pool of this name, made if there is none.
    pub async fn pool_or_create(&self, name: &str) -> Result<Pool> {
        let wanted = name.to_owned();
        let id = self.call(|local| async move { Ok(local.pool_or_create(&wanted).await?.id()) }).await?;
        Ok(self.pool_handle(id, name))
    }

    /// Removes a pool with all that is in it; [`Error::NoSuchPool`].
    ///
    /// Acknowledged after one record, whatever the pool holds: from then on each call on it, by handles that exist too, is
    /// [`Error::NoSuchPoolId`], and a pool of the same name can be created. Its space comes back in the background, object by
    /// object, also after a crash; until then it counts in [`Store::usage`]. Its id is not used again.
    ///
    /// Cancel safety: dropping the future does not undo the removal.
    pub async fn remove_pool(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.call(|local| async move { local.remove_pool(&name).await }).await
    }

    /// Gives a pool another name, in one record; [`Error::NoSuchPool`], and [`Error::PoolExists`] if the new name is taken.
    /// Handles stay valid; [`Pool::name`] of those is the name that they were made with.
    ///
    /// Cancel safety: dropping the future does not undo it.
    pub async fn rename_pool(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.call(|local| async move { local.rename_pool(&from, &to).await }).await
    }

    /// All pools, by name.
    pub async fn pools(&self) -> Result<Vec<PoolEntry>> {
        self.call(|local| async move { local.pools().await }).await
    }

    /// What all pools hold.
    pub async fn usage(&self) -> Result<Usage> {
        self.call(|local| async move { Ok(local.usage()) }).await
    }

    /// Counters and levels of the engine.
    pub async fn stats(&self) -> Result<Stats> {
        self.call(|local| async move { Ok(local.stats()) }).await
    }
}

/// Whether an error of opening says that nothing is there that was a store once.
fn is_no_store(error: &Error) -> bool {
    let is_empty = matches!(error, Error::Open(OpenError::BadSize { bytes: 0, .. }));
    let is_absent = matches!(error, Error::Open(_)) && error.kind() == ErrorKind::NotFound;
    is_empty || is_absent || *error == Error::Superblock(SuperblockError::NotAStore)
}

fn existing_bytes(path: &Path) -> Result<u64> {
    let failed = |error: std::io::Error| OpenError::Io {
        path: path.to_path_buf(),
        what: "finding out its size",
        errno: error.raw_os_error().unwrap_or(0),
    };
    let mut file = std::fs::File::open(path).map_err(failed)?;
    Ok(std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).map_err(failed)?)
}

/// A pool of an open store.
///
/// In every call: an object that does not exist is [`Error::NotFound`] (from a transaction [`Error::Refused`] with
/// [`Refused::NotFound`](crate::Refused::NotFound); both are [`ErrorKind::NotFound`]), a pool that does not exist or was removed is
/// [`Error::NoSuchPoolId`], and a page of 0 items is [`Error::Invalid`].
#[derive(Clone)]
pub struct Pool {
    store: Store,
    id: PoolId,
    name: Arc<str>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Pool {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id.
    pub fn id(&self) -> PoolId {
        self.id
    }

    /// The store that it is in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    fn call<T, F, R>(&self, work: F) -> Answer<T>
    where
        T: Send + 'static,
        F: FnOnce(LocalPool) -> R + Send + 'static,
        R: Future<Output = Result<T>> + 'static,
    {
        self.call_with(0, work)
    }

    fn call_with<T, F, R>(&self, bytes: usize, work: F) -> Answer<T>
    where
        T: Send + 'static,
        F: FnOnce(LocalPool) -> R + Send + 'static,
        R: Future<Output = Result<T>> + 'static,
    {
        let id = self.id;
        self.store.call_with(bytes, move |local| work(local.pool_of(id)))
    }

    /// Submits a transaction; its place in the order is taken in the moment of the call. Durable when the future is ready.
    ///
    /// Errors: [`Error::Refused`] names the operation; [`Error::NoSpace`], [`Error::TooLarge`]: nothing was applied;
    /// [`Error::Backlog`]: nothing was sent.
    /// Cancel safety: dropping the future, polled or not, does not undo the transaction: it was sent, it is carried out, and
    /// what is submitted afterwards takes effect after it.
    pub fn submit(&self, txn: Transaction) -> Answer<()> {
        // Here and not on the engine's thread, which would also have to drop it.
        let limits = limits_of(&self.store.handle.info.superblock, &ShardOptions::default());
        if let Err(refusal) = limits.check_items(&txn) {
            return Answer::failed(refusal.into());
        }
        self.call_with(txn.payload_bytes(), move |pool| pool.submit(txn))
    }

    /// Replaces the whole object. Order and cancel safety as [`Pool::submit`].
    pub fn put(&self, object: impl Into<ObjectId>, data: impl IntoData) -> Answer<()> {
        self.put_with(object, data, Vec::new())
    }

    /// Replaces the whole object, with attributes. Order and cancel safety as [`Pool::submit`].
    pub fn put_with(
        &self,
        object: impl Into<ObjectId>,
        data: impl IntoData,
        attributes: Vec<(Vec<u8>, Bytes)>,
    ) -> Answer<()> {
        let mut txn = Transaction::new();
        txn.put(&object.into(), data, attributes);
        self.submit(txn)
    }

    /// Begins a put of any size in bounded memory. [`Error::TooManyStreams`]: so many are open already.
    pub async fn put_stream(&self, object: impl Into<ObjectId>) -> Result<PutStream> {
        let object = object.into();
        let (parts, received) = async_channel::bounded(1);
        let (sender, done) = oneshot::channel();
        self.call(move |pool| {
            let put = pool.put_stream(object);
            async move {
                let put = put?;
                let runtime = pool.runtime();
                runtime.spawn(
                    Class::Foreground,
                    Box::pin(async move {
                        let _ = sender.send(stream(put, received).await);
                    }),
                );
                Ok(())
            }
        })
        .await?;
        Ok(PutStream { parts, done })
    }

    /// Opens an object to be read as it is now, in bounded memory, for as long as it takes; [`Error::NotFound`],
    /// [`Error::TooManyHandles`].
    pub async fn open_read(&self, object: impl Into<ObjectId>) -> Result<ReadHandle> {
        let object = object.into();
        let (sender, jobs) = async_channel::bounded(READS_QUEUED);
        let opened = self.call(move |pool| async move {
            let read = pool.open_read(object).await?;
            let (stat, version) = (read.stat(), read.version());
            let runtime = pool.runtime();
            runtime.spawn(Class::Foreground, Box::pin(serve_reads(read, jobs, pool.runtime())));
            Ok((stat, version))
        });
        let (stat, version) = opened.await?;
        Ok(ReadHandle { jobs: sender, stat, version, position: 0 })
    }

    /// All bytes of an object. [`Error::ReadTooLarge`]: of a larger one, use [`Pool::open_read`].
    pub async fn get(&self, object: impl Into<ObjectId>) -> Result<Bytes> {
        let object = object.into();
        self.call(|pool| async move { pool.get(object).await }).await
    }

    /// Removes an object; [`Error::NotFound`]. Order and cancel safety as [`Pool::submit`].
    pub fn remove(&self, object: impl Into<ObjectId>) -> Answer<()> {
        let object = object.into();
        self.call(move |pool| pool.remove_now(&object))
    }

    /// Whether an object exists.
    pub async fn exists(&self, object: impl Into<ObjectId>) -> Result<bool> {
        let object = object.into();
        self.call(|pool| async move { pool.exists(object).await }).await
    }

    /// What an object is.
    pub async fn stat(&self, object: impl Into<ObjectId>) -> Result<Stat> {
        let object = object.into();
        self.call(|pool| async move { pool.stat(object).await }).await
    }

    /// Bytes that an object's data and large values take; visits all its rows.
    pub async fn allocated(&self, object: impl Into<ObjectId>) -> Result<u64> {
        let object = object.into();
        self.call(|pool| async move { pool.allocated(object).await }).await
    }

    /// The bytes from `offset` on, at most `bytes` and at most up to the object's end; holes are zeros.
    pub async fn read(&self, object: impl Into<ObjectId>, offset: u64, bytes: u64) -> Result<Bytes> {
        let object = object.into();
        self.call(move |pool| async move { pool.read(object, offset, bytes).await }).await
    }

    /// The bytes of a range, as [`Pool::read`]: `100..200`, `4096..`, `..`.
    pub async fn read_range(
        &self,
        object: impl Into<ObjectId>,
        range: impl RangeBounds<u64>,
    ) -> Result<Bytes> {
        let (offset, bytes) = bytes_of_range(&range);
        self.read(object, offset, bytes).await
    }

    /// Several ranges, {offset, bytes}, at once, each answered for itself.
    pub async fn read_vec(
        &self,
        object: impl Into<ObjectId>,
        ranges: Vec<(u64, u64)>,
    ) -> Result<Vec<Result<Bytes>>> {
        let object = object.into();
        self.call(move |pool| async move { pool.read_vec(object, ranges).await }).await
    }

    /// The stored ranges within a range; all between them are zeros.
    pub async fn extents(&self, object: impl Into<ObjectId>, offset: u64, bytes: u64) -> Result<Vec<Range>> {
        let object = object.into();
        self.call(move |pool| async move { pool.extents(object, offset, bytes).await }).await
    }

    /// An attribute's value; [`Error::NoSuchAttr`].
    pub async fn attr(&self, object: impl Into<ObjectId>, name: impl AsRef<[u8]>) -> Result<Bytes> {
        let (object, name) = (object.into(), name.as_ref().to_vec());
        self.call(|pool| async move { pool.attr(object, &name).await }).await
    }

    /// All attributes, by name.
    pub async fn attrs(&self, object: impl Into<ObjectId>) -> Result<Vec<(Bytes, Bytes)>> {
        let object = object.into();
        self.call(|pool| async move { pool.attrs(object).await }).await
    }

    /// The omap header; empty if there is none.
    pub async fn omap_header(&self, object: impl Into<ObjectId>) -> Result<Bytes> {
        let object = object.into();
        self.call(|pool| async move { pool.omap_header(object).await }).await
    }

    /// The pairs of these keys; absent keys are left out.
    pub async fn omap_get(
        &self,
        object: impl Into<ObjectId>,
        keys: impl IntoIterator<Item = impl IntoData>,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let (object, keys) = (object.into(), keys_of(keys));
        self.call(|pool| async move { pool.omap_get(object, keys).await }).await
    }

    /// At most `limit` pairs with keys from `from` (inclusive; none: the first) to `to` (exclusive; none: the last).
    pub async fn omap_range(
        &self,
        object: impl Into<ObjectId>,
        (from, to): (Option<Vec<u8>>, Option<Vec<u8>>),
        limit: usize,
        direction: Direction,
    ) -> Result<OmapPage> {
        let object = object.into();
        let work = move |pool: LocalPool| async move {
            let from = from.unwrap_or_default();
            pool.omap_range(object, (&from, to.as_deref()), limit, direction).await
        };
        self.call(work).await
    }

    /// At most `limit` objects (1 or more) from `from` (inclusive) on, in the order of objects, and what each of them is.
    pub async fn list_page(&self, from: Option<ObjectId>, limit: usize) -> Result<ListPage> {
        self.call(move |pool| async move { pool.list_page(from, limit).await }).await
    }

    /// All objects in the order of objects; complete for those that exist throughout. An interval of names that is damaged is
    /// an error, after which the stream goes on behind it.
    pub fn list(&self) -> List {
        List::new(self.clone())
    }

    /// What the pool holds.
    pub async fn usage(&self) -> Result<Usage> {
        self.call(|pool| async move { pool.usage() }).await
    }
}

/// What a read handle's engine side is asked.
struct ReadJob {
    offset: u64,
    /// None: as many as a chunk of a stream has.
    bytes: Option<u64>,
    answer: oneshot::Sender<Result<Bytes>>,
}

/// The engine's side of a read handle; ends when the other side is dropped.
async fn serve_reads(read: LocalRead, jobs: Receiver<ReadJob>, runtime: Rc<dyn seabed_device::Runtime>) {
    let (read, turns) = (Rc::new(read), Semaphore::new(READS_AT_ONCE));
    loop {
        let turn = turns.acquire(1).await;
        let Ok(job) = jobs.recv().await else { return };
        let read = Rc::clone(&read);
        let task = async move {
            let bytes = job.bytes.unwrap_or_else(|| read.chunk_bytes());
            let answer = read.read_at(job.offset, bytes).await;
            let _ = job.answer.send(answer);
            drop(turn);
        };
        runtime.spawn(Class::Foreground, Box::pin(task));
    }
}

/// A read handle: an object as it was when it was opened, read in bounded memory. Dropped, it lets go of all that it keeps.
///
/// It shows one version whatever is written meanwhile, as long as the store can afford to: [`Error::Expired`].
///
/// ```no_run
/// # async fn copy(pool: seabed::Pool) -> seabed::Result<()> {
/// let mut read = pool.open_read("film").await?;
/// println!("{} bytes", read.size());
/// while let Some(chunk) = read.next_chunk().await? {
///     // At most 1 MiB at a time.
///     drop(chunk);
/// }
/// # Ok(())
/// # }
/// ```
pub struct ReadHandle {
    jobs: Sender<ReadJob>,
    stat: Stat,
    version: u64,
    position: u64,
}

impl fmt::Debug for ReadHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadHandle")
            .field("size", &self.stat.size)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl ReadHandle {
    /// Bytes of the object.
    pub fn size(&self) -> u64 {
        self.stat.size
    }

    /// What the object was when it was opened.
    pub fn stat(&self) -> Stat {
        self.stat
    }

    /// Which state of the store it shows: two handles of one version show the same bytes. It grows with each transaction of the
    /// store, and counts from 0 when the store is opened.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The bytes from `offset` on, at most `bytes` and at most up to the object's end; holes are zeros.
    ///
    /// Errors: [`Error::Expired`], [`Error::ReadTooLarge`], [`Error::Closed`]. Cancel safety: dropping the future loses nothing.
    pub async fn read_at(&self, offset: u64, bytes: u64) -> Result<Bytes> {
        self.ask(offset, Some(bytes)).await
    }

    async fn ask(&self, offset: u64, bytes: Option<u64>) -> Result<Bytes> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(ReadJob { offset, bytes, answer }).await.map_err(|_| Error::Closed)?;
        answered.await.unwrap_or(Err(Error::Closed))
    }

    /// The next bytes, at most 1 MiB; none at the end. After an error, or if the future is dropped, the same bytes can be asked
    /// for again.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        if self.position >= self.stat.size {
            return Ok(None);
        }
        let chunk = self.ask(self.position, None).await?;
        self.position += chunk.len() as u64;
        Ok(Some(chunk))
    }

    /// All bytes that [`ReadHandle::next_chunk`] has not given, as a stream; an error ends it.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
        futures::stream::try_unfold(self, |mut read| async move {
            Ok(read.next_chunk().await?.map(|chunk| (chunk, read)))
        })
    }
}

/// What a streaming put's engine side is sent.
enum PutPart {
    /// Bytes, and if they are many a word when the engine is done with them.
    Data(Bytes, Option<oneshot::Sender<()>>),
    /// Bytes that are left out.
    Hole(u64),
    Finish(Vec<(Vec<u8>, Bytes)>, Box<Transaction>),
}

/// Writes of a streaming put that have more wait until the engine has taken them, so that no more of them lies in the queue.
const QUEUED_BYTES: usize = 16 << 10;

/// The engine's side of a streaming put: ends without an object if the other side is dropped.
async fn stream(mut put: crate::put::LocalPut, parts: Receiver<PutPart>) -> Result<()> {
    while let Ok(part) = parts.recv().await {
        match part {
            PutPart::Data(data, taken) => {
                put.write(data).await?;
                if let Some(taken) = taken {
                    let _ = taken.send(());
                }
            }
            PutPart::Hole(bytes) => put.skip(bytes).await?,
            PutPart::Finish(attributes, other) => return put.finish_with(attributes, *other).await,
        }
    }
    Err(Error::Closed)
}

/// A put that takes its bytes as they come. Dropped before it is finished nothing is made.
pub struct PutStream {
    parts: Sender<PutPart>,
    done: oneshot::Receiver<Result<()>>,
}

impl fmt::Debug for PutStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutStream").finish_non_exhaustive()
    }
}

impl PutStream {
    /// Adds bytes at the end; waits while the engine is behind. An error ends the put; nothing is made.
    pub async fn write(&mut self, data: impl IntoData) -> Result<()> {
        let data = data.into_data();
        let (sender, taken) = oneshot::channel();
        let is_queued = data.len() <= QUEUED_BYTES;
        let part = PutPart::Data(data, Some(sender).filter(|_| !is_queued));
        self.send(part, (!is_queued).then_some(taken)).await
    }

    /// Leaves out `bytes` bytes, which read as zeros; whole chunks of 4 KiB among them take no space. An error ends the put;
    /// nothing is made.
    pub async fn skip(&mut self, bytes: u64) -> Result<()> {
        self.send(PutPart::Hole(bytes), None).await
    }

    /// Hands a part to the engine and waits until it has been taken, if `taken` notifies of that.
    async fn send(&mut self, part: PutPart, taken: Option<oneshot::Receiver<()>>) -> Result<()> {
        let is_sent = self.parts.send(part).await.is_ok();
        let is_taken = match taken {
            Some(taken) if is_sent => taken.await.is_ok(),
            _ => is_sent,
        };
        if is_taken {
            return Ok(());
        }
        (&mut self.done).await.unwrap_or(Err(Error::Closed))
    }

    /// Makes the object, in place of one that has the name. Durable when it returns.
    pub async fn finish(self, attributes: Vec<(Vec<u8>, Bytes)>) -> Result<()> {
        self.finish_with(attributes, Transaction::new()).await
    }

    /// As [`PutStream::finish`], together with a transaction on objects of the same collection: all of it happens, or
    /// nothing. The conditions ([`Transaction::expect`]) that the transaction begins with are looked at before the object is
    /// made; its other operations come after that. An error that names an operation names one of `other`, or 0.
    pub async fn finish_with(self, attributes: Vec<(Vec<u8>, Bytes)>, other: Transaction) -> Result<()> {
        // A put that failed has told why, or tells now.
        let _ = self.parts.send(PutPart::Finish(attributes, Box::new(other))).await;
        self.done.await.unwrap_or(Err(Error::Closed))
    }
}
