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
use std::future::poll_fn;
use std::path::Path;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use seabed_device::glommio_host::{self, CreateOptions, Created, FirstWrite, GlommioHost, HostOptions};
use seabed_device::local::Notify;
use seabed_device::{Class, Host, Join, Machine, Missing, OpenError};
use seabed_object::Usage;
use seabed_segment::{Identity, Layout, Superblock, SuperblockError};
use seabed_types::{BLOCK_BYTES, PoolId, ShardId, Uuid};

use crate::face::guest;
use crate::face::inbox::{Answer, End, Inbox, Jobs, inbox};
use crate::face::limits::StoreLimits;
use crate::face::local::{LocalStore, PoolEntry};
use crate::maintain::capacity::Space;
use crate::maintain::clean_now::{CleanOptions, Cleaned};
use crate::mount::format::{format_device, is_window, window_bytes};
use crate::options::{Access, FormatOptions, OpenOptions, ShardOptions};
use crate::shard::Shard;
use crate::shard::mounted::MountReport;
use crate::stats::Stats;
use crate::{Error, ErrorKind, Result};

mod pool;
mod put_stream;
mod read_handle;

pub use pool::Pool;
pub use put_stream::PutStream;
pub use read_handle::ReadHandle;

/// How long an engine thread begins calls before its other tasks run.
const BEGIN_FOR: Duration = Duration::from_micros(100);
/// The share of the memory budget that calls may take whose futures were dropped.
const ABANDONED_SHARE: usize = 8;
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
        crate::face::pools::pools_max(&self.superblock.layout)
    }

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
        cleaning: options.cleaning,
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
            discard: options.discard,
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
        Pool::new(self.clone(), id, name)
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

    /// Where the space is: live, dead and free bytes by use, the reserves, and what users can still write. A pass over the
    /// segment table in slices, between which other calls go on.
    pub async fn space(&self) -> Result<Space> {
        self.call(|local| async move { local.space().await }).await
    }

    /// Moves live data out of all segments that are worth it, so that their space can be used again, at full speed and also if
    /// [`OpenOptions::cleaning`] is off. Other calls go on meanwhile. Finishes removals first, and writes two checkpoints.
    ///
    /// Errors: [`Error::ReadOnly`]; [`Error::Closed`] if the store is closed meanwhile, which does not wait for it. Without
    /// space for copies it ends with [`CleanEnd::NoSpace`](crate::CleanEnd::NoSpace); what was cleaned before stays so.
    /// Cancel safety: dropping the future ends it soon, as [`CleanOptions::cancel`] does; a segment that was begun is
    /// finished. A panic in [`CleanOptions::progress`] is [`Error::Panicked`].
    pub async fn clean(&self, options: CleanOptions) -> Result<Cleaned> {
        let dropped = EndWhenDropped::default();
        let is_dropped = Arc::clone(&dropped.0);
        self.run_on_shard(move |local| {
            Box::pin(async move {
                let mut cleaning = pin!(local.clean(options));
                poll_fn(|context| {
                    if is_dropped.load(Ordering::Relaxed) {
                        return Poll::Ready(Err(Error::Closed));
                    }
                    cleaning.as_mut().poll(context)
                })
                .await
            })
        })
        .await?
    }
}

/// Tells the engine's part of a call that its caller does not wait any more.
#[derive(Default)]
struct EndWhenDropped(Arc<AtomicBool>);

impl Drop for EndWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
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
