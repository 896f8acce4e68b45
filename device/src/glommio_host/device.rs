//! Device: reads and writes of one thread, as glommio tasks that nobody can cancel.
//!
//! Two descriptions: a plain one, and an O_DSYNC one for durable writes (a third less CPU than write and flush). Both
//! are O_DIRECT. Each operation is a task of its own that owns its buffer and a count of what is in flight; the
//! future that the caller gets only waits for it. That costs about 50 ns, and it is what makes dropping a future
//! harmless: glommio would cancel the read and free its buffer, also when the executor itself goes.
//!
//! An operation begins, up to its place in the submission queue, inside the call: the task is polled once on the
//! spot. That runs no one else's code. Reads that complete together are answered a few at a time (`turns`).
//!
//! The kernel may do less than was asked. What is missing of a read is read again and put together; what is missing
//! of a write is copied and written again; an operation that gets nowhere is an EIO.
//!
//! Invariants: 1. Nothing of this handle is in the kernel when the descriptions close: [`GlommioDevice::close`]
//! refuses new operations, waits for the old ones, and only then closes.
//!
//! Limits: an operation has at most 1 GiB. Buffers come from a registered arena of `HostOptions::io_memory` bytes; when
//! it is used up they come from the heap, unregistered and slower. A kept read pins its part of the arena.
//! A cancelled operation would show as ETIMEDOUT, but nobody cancels.
//! Not here: caps on what is in flight per class (above the seam); which ranges are cleared.

use std::cell::{Cell, RefCell};
use std::future::ready;
use std::os::fd::AsFd;
use std::rc::Rc;

use glommio::GlommioError;
use glommio::io::{DmaBuffer, DmaFile, OpenOptions};
use rustix::fs::OFlags;
use rustix::io::Errno;
use seabed_types::BLOCK_BYTES;

use super::open::{Access, Kind, Target};
use super::turns::Turns;
use super::{Discard, lock};
use crate::local::Notify;
use crate::{
    Device, DeviceError, Durability, Geometry, IoKind, Local, OpenError, ReadBuf, Storage, WriteBuf,
    WriteOpts,
};

/// The largest single operation.
const OPERATION_BYTES_MAX: usize = 1 << 30;

/// What a thread reads and writes through.
pub(super) struct GlommioDevice {
    geometry: Geometry,
    kind: Kind,
    discard: Discard,
    /// Gone once closed.
    open: RefCell<Option<Rc<Open>>>,
}

/// The descriptions, and what is in flight on them.
struct Open {
    plain: DmaFile,
    /// None when read-only.
    durable: Option<DmaFile>,
    in_flight: Cell<usize>,
    idle: Notify,
    turns: Rc<Turns>,
}

/// One operation in flight.
struct Operation {
    open: Rc<Open>,
    kind: IoKind,
    at: u64,
    bytes: u64,
}

impl Drop for Operation {
    fn drop(&mut self) {
        self.open.in_flight.set(self.open.in_flight.get() - 1);
        if self.open.in_flight.get() == 0 {
            self.open.idle.notify_all();
        }
    }
}

impl GlommioDevice {
    /// Opens the descriptions of this thread. Inside an executor.
    pub(super) async fn open(target: &Target, discard: Discard) -> Result<Self, OpenError> {
        let plain = open(target, OFlags::DIRECT).await?;
        let durable = match target.access() {
            Access::ReadOnly => None,
            Access::ReadWrite => match open(target, OFlags::DIRECT | OFlags::DSYNC).await {
                Ok(durable) => Some(durable),
                Err(error) => {
                    close(plain).await;
                    return Err(error);
                }
            },
        };
        let open =
            Open { plain, durable, in_flight: Cell::new(0), idle: Notify::default(), turns: Rc::default() };
        Ok(Self {
            geometry: target.geometry(),
            kind: target.kind(),
            discard,
            open: RefCell::new(Some(Rc::new(open))),
        })
    }

    /// Refuses further operations, waits for those in flight, lets go of the lock and closes.
    pub(super) async fn close(&self) {
        let Some(open) = self.open.take() else { return };
        open.idle.until(|| open.in_flight.get() == 0).await;
        match Rc::try_unwrap(open) {
            Ok(open) => {
                close(open.plain).await;
                if let Some(durable) = open.durable {
                    close(durable).await;
                }
            }
            // Somebody kept the future of a quiesce: the descriptions close with it, the lock goes now.
            Err(open) => [Some(&open.plain), open.durable.as_ref()].into_iter().flatten().for_each(unlock),
        }
    }

    fn begin(&self, kind: IoKind, at: u64, bytes: u64) -> Result<Operation, DeviceError> {
        let block = BLOCK_BYTES as u64;
        assert!(at.is_multiple_of(block), "{kind} at {at}, which is no multiple of {block}");
        assert!(bytes.is_multiple_of(block), "{kind} of {bytes} bytes, which is no multiple of {block}");
        if at.checked_add(bytes).is_none_or(|end| end > self.geometry.bytes) {
            return Err(DeviceError::OutOfRange { kind, at, bytes });
        }
        let Some(open) = self.open.borrow().clone() else {
            let errno = Errno::SHUTDOWN.raw_os_error();
            return Err(DeviceError::Io { kind, at, bytes, errno });
        };
        open.in_flight.set(open.in_flight.get() + 1);
        Ok(Operation { open, kind, at, bytes })
    }
}

impl Device for GlommioDevice {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn alloc(&self, bytes: usize) -> WriteBuf {
        let mut buffer = self.alloc_dirty(bytes);
        buffer.fill(0);
        buffer
    }

    fn alloc_dirty(&self, bytes: usize) -> WriteBuf {
        assert!(bytes > 0 && bytes <= OPERATION_BYTES_MAX && bytes.is_multiple_of(BLOCK_BYTES));
        WriteBuf::new(Buffer(Rc::new(glommio::allocate_dma_buffer(bytes))))
    }

    fn read(&self, at: u64, bytes: usize, _: crate::Class) -> Local<Result<ReadBuf, DeviceError>> {
        assert!(bytes > 0 && bytes <= OPERATION_BYTES_MAX, "a read of {bytes} bytes");
        match self.begin(IoKind::Read, at, bytes as u64) {
            Ok(operation) => {
                operation.open.turns.begins();
                started(async move {
                    let read = operation.read(bytes).await;
                    operation.open.turns.turn(operation.open.in_flight.get()).await;
                    read
                })
            }
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn write(&self, at: u64, buf: Rc<WriteBuf>, opts: WriteOpts) -> Local<Result<(), DeviceError>> {
        match self.begin(IoKind::Write, at, buf.len() as u64) {
            Ok(operation) if operation.open.durable.is_some() => {
                started(async move { operation.write(&buf, opts.durability).await })
            }
            Ok(_) => Box::pin(ready(Err(DeviceError::ReadOnly))),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn flush(&self) -> Local<Result<(), DeviceError>> {
        // Also when read-only: it makes durable what a killed process wrote, before we rely on it.
        match self.begin(IoKind::Flush, 0, 0) {
            Ok(operation) => started(async move {
                operation.open.plain.fdatasync().await.map_err(|error| operation.failed(&error))
            }),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn discard(&self, at: u64, bytes: u64) -> Local<Result<(), DeviceError>> {
        match self.begin(IoKind::Discard, at, bytes) {
            Ok(operation) if operation.open.durable.is_none() => Box::pin(ready(Err(DeviceError::ReadOnly))),
            Ok(operation) if self.discard == Discard::Deallocate && bytes > 0 => {
                let kind = self.kind;
                started(async move { operation.discard(kind).await })
            }
            Ok(_) => Box::pin(ready(Ok(()))),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn quiesce(&self) -> Local<()> {
        match self.open.borrow().clone() {
            Some(open) => Box::pin(async move { open.idle.until(|| open.in_flight.get() == 0).await }),
            None => Box::pin(ready(())),
        }
    }
}

impl Operation {
    async fn read(&self, bytes: usize) -> Result<ReadBuf, DeviceError> {
        let first = self.open.plain.read_at_aligned(self.at, bytes).await;
        let first = first.map_err(|error| self.failed(&error))?;
        if first.len() == bytes {
            return Ok(ReadBuf::new(first));
        }
        let rest = async |at, bytes| self.open.plain.read_at_aligned(at, bytes).await;
        let whole = read_on(first.to_vec(), self.at, bytes, rest).await;
        whole.map(ReadBuf::new).map_err(|errno| self.error(errno))
    }

    async fn write(&self, buf: &WriteBuf, durability: Durability) -> Result<(), DeviceError> {
        let file = match (durability, &self.open.durable) {
            (Durability::Durable, Some(durable)) => durable,
            _ => &self.open.plain,
        };
        let Buffer(buffer) = buf.storage().downcast_ref().expect("a buffer that this device allocated");
        let first = file.write_rc_at(Rc::clone(buffer), self.at).await;
        let first = first.map_err(|error| self.failed(&error))?;
        if first == buffer.len() {
            return Ok(());
        }
        let rest = async |at, buffer| file.write_at(buffer, at).await;
        write_on(buffer, first, self.at, rest).await.map_err(|errno| self.error(errno))
    }

    async fn discard(&self, kind: Kind) -> Result<(), DeviceError> {
        match self.open.plain.deallocate(self.at, self.bytes).await {
            // A hint: a block device that cannot forget just keeps the bytes.
            Err(error) if kind == Kind::BlockDevice && errno_of(&error) == Errno::OPNOTSUPP => Ok(()),
            outcome => outcome.map_err(|error| self.failed(&error)),
        }
    }

    fn failed(&self, error: &GlommioError<()>) -> DeviceError {
        self.error(errno_of(error))
    }

    fn error(&self, errno: Errno) -> DeviceError {
        DeviceError::Io { kind: self.kind, at: self.at, bytes: self.bytes, errno: errno.raw_os_error() }
    }
}

/// Reads what a short read left out, until there are `bytes`.
async fn read_on<R: std::ops::Deref<Target = [u8]>>(
    mut so_far: Vec<u8>,
    at: u64,
    bytes: usize,
    read: impl AsyncFn(u64, usize) -> Result<R, GlommioError<()>>,
) -> Result<Vec<u8>, Errno> {
    while so_far.len() < bytes {
        let more =
            read(at + so_far.len() as u64, bytes - so_far.len()).await.map_err(|error| errno_of(&error))?;
        if more.is_empty() {
            return Err(Errno::IO);
        }
        so_far.extend_from_slice(&more);
    }
    Ok(so_far)
}

/// Writes what a short write left out: a copy each time, as a part of a buffer cannot be written.
async fn write_on(
    whole: &DmaBuffer,
    mut written: usize,
    at: u64,
    write: impl AsyncFn(u64, DmaBuffer) -> Result<usize, GlommioError<()>>,
) -> Result<(), Errno> {
    let mut last = written;
    while written < whole.len() {
        if last == 0 {
            return Err(Errno::IO);
        }
        let rest = &whole.as_bytes()[written..];
        let mut copy = glommio::allocate_dma_buffer_global(rest.len());
        copy.as_bytes_mut().copy_from_slice(rest);
        last = write(at + written as u64, copy).await.map_err(|error| errno_of(&error))?;
        written += last;
    }
    Ok(())
}

/// Runs an operation as a task of its own, begun at once; dropping what is returned changes nothing.
fn started<T: 'static>(operation: impl Future<Output = T> + 'static) -> Local<T> {
    let task = glommio::spawn_local(operation).detach();
    Box::pin(async move { task.await.expect("nobody cancels an operation") })
}

/// Opens one description, and checks that it became what was asked for.
async fn open(target: &Target, flags: OFlags) -> Result<DmaFile, OpenError> {
    let file = OpenOptions::new()
        .read(true)
        .write(target.access() == Access::ReadWrite)
        .custom_flags(flags.bits().cast_signed())
        .dma_open(target.reopen_path())
        .await
        .map_err(|error| target.io("opening it again", errno_of(&error)))?;
    match target.admit(file.as_fd(), flags) {
        Ok(()) => Ok(file),
        Err(error) => {
            close(file).await;
            Err(error)
        }
    }
}

/// Lets go of the lock and closes. Dropped instead, a description would be closed by the executor's next pass, and stay
/// open, and locked, if there is none.
async fn close(file: DmaFile) {
    unlock(&file);
    if let Err(error) = file.close().await {
        tracing::warn!(%error, "closing a description");
    }
}

fn unlock(file: &DmaFile) {
    if let Err(error) = lock::release(file.as_fd()) {
        tracing::warn!(%error, "letting go of a lock");
    }
}

/// The error number behind glommio's error; EIO where there is none.
pub(super) fn errno_of(error: &GlommioError<()>) -> Errno {
    error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}

/// Memory of a [`WriteBuf`].
struct Buffer(Rc<DmaBuffer>);

impl Buffer {
    fn exclusive(&mut self) -> &mut DmaBuffer {
        Rc::get_mut(&mut self.0).expect("no write of it is in flight: the write holds the WriteBuf")
    }
}

impl Storage for Buffer {
    fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.exclusive().as_bytes_mut()
    }

    fn truncate(&mut self, bytes: usize) {
        self.exclusive().trim_to_size(bytes);
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use std::cell::RefCell;

    type Result<T> = std::result::Result<T, GlommioError<()>>;

    fn content(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|index| u8::try_from(index / 512 % 251).expect("small")).collect()
    }

    /// A device that does at most 512 bytes more each time it is asked.
    #[test]
    fn short_reads_are_put_together() {
        let content = content(16384);
        let asked = Cell::new(0);
        let read = async |at: u64, bytes: usize| -> Result<Vec<u8>> {
            asked.set(asked.get() + 1);
            let at = usize::try_from(at).expect("small") - 4096;
            Ok(content[at..][..bytes.min(512 * asked.get())].to_vec())
        };
        let whole = block_on(read_on(content[..512].to_vec(), 4096, 16384, read)).expect("in the end");
        assert!(whole == content);
        assert!(asked.get() > 2);
    }

    #[test]
    fn short_writes_are_gone_on_with() {
        let content = content(16384);
        let mut whole = glommio::allocate_dma_buffer_global(content.len());
        whole.as_bytes_mut().copy_from_slice(&content);
        let written = RefCell::new(content[..512].to_vec());
        let asked = Cell::new(0);
        let write = async |at: u64, buffer: DmaBuffer| -> Result<usize> {
            asked.set(asked.get() + 1);
            assert_eq!(at, 4096 + written.borrow().len() as u64);
            let done = buffer.len().min(512 * asked.get());
            written.borrow_mut().extend_from_slice(&buffer.as_bytes()[..done]);
            Ok(done)
        };
        block_on(write_on(&whole, 512, 4096, write)).expect("in the end");
        assert!(*written.borrow() == content);
        assert!(asked.get() > 2);
    }

    #[test]
    fn an_operation_that_gets_nowhere_is_an_error() {
        let read = async |_: u64, _: usize| -> Result<Vec<u8>> { Ok(Vec::new()) };
        assert_eq!(block_on(read_on(vec![0; 512], 0, 4096, read)), Err(Errno::IO));
        let whole = glommio::allocate_dma_buffer_global(4096);
        let write = async |_: u64, _: DmaBuffer| -> Result<usize> { Ok(0) };
        assert_eq!(block_on(write_on(&whole, 512, 0, write)), Err(Errno::IO));
        let write = async |_: u64, _: DmaBuffer| -> Result<usize> { panic!("asked again after nothing") };
        assert_eq!(block_on(write_on(&whole, 0, 0, write)), Err(Errno::IO));
        let full =
            async |_: u64, _: DmaBuffer| -> Result<usize> { Err(std::io::Error::from(Errno::NOSPC).into()) };
        assert_eq!(block_on(write_on(&whole, 512, 0, full)), Err(Errno::NOSPC));
    }
}
