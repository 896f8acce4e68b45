//! Read handle: one version of an object, read piece by piece from any thread.
//!
//! The engine's side is a task that owns the handle of the engine thread ([`LocalRead`]) and answers what arrives in a
//! bounded queue, several reads at once. It ends when the other side is dropped.

use std::fmt;
use std::rc::Rc;

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use futures::Stream;
use futures::channel::oneshot;
use seabed_device::Class;
use seabed_device::local::Semaphore;
use seabed_object::read::Stat;

use crate::face::handle::LocalRead;
use crate::{Error, Result};

/// Reads of one handle that wait for their turn, and those that are on their way.
pub(super) const READS_QUEUED: usize = 1;
const READS_AT_ONCE: usize = 8;

/// What a read handle's engine side is asked.
pub(super) struct ReadJob {
    offset: u64,
    /// None: as many as a chunk of a stream has.
    bytes: Option<u64>,
    answer: oneshot::Sender<Result<Bytes>>,
}

/// The engine's side of a read handle; ends when the other side is dropped.
pub(super) async fn serve_reads(
    read: LocalRead,
    jobs: Receiver<ReadJob>,
    runtime: Rc<dyn seabed_device::Runtime>,
) {
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
    pub(super) fn new(jobs: Sender<ReadJob>, stat: Stat, version: u64) -> Self {
        Self { jobs, stat, version, position: 0 }
    }

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
