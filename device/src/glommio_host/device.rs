//! Device: reads, writes, flushes and discards of one thread.
//!
//! Two descriptions: a plain one, and an O_DSYNC one for durable writes (a third less CPU than write and flush). Both
//! are O_DIRECT. All operations go through a ring of our own (`ring`), but for discards of a block
//! device, which a thread makes (`discard`).
//!
//! An operation begins, up to its place in the submission queue, inside the call; a read or write of [`Class::Commit`] is with
//! the kernel when the call returns. What the kernel has is kept until the kernel is done with it, so that dropping a future is
//! harmless: glommio would cancel the read and free its buffer, also when the executor itself goes.
//!
//! Invariants: 1. Nothing of this handle is in the kernel when the descriptions close: [`GlommioDevice::close`]
//! refuses new operations, waits for the old ones, and only then closes. If a ring that broke hides their end, the
//! descriptions, and the lock on them, stay until the process ends.
//!
//! Limits: an operation has at most 1 GiB. Buffers come from an arena of `HostOptions::io_memory` bytes; when it is used up
//! they come from the heap. A kept read pins its part of the arena.
//! Not here: caps on what is in flight per class (above the seam); which ranges are cleared.

use std::cell::RefCell;
use std::fs::File;
use std::future::ready;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use glommio::io::DmaBuffer;
use rustix::fs::OFlags;
use rustix::io::Errno;
use seabed_types::BLOCK_BYTES;

use super::discard::{Discard, Discarder};
use super::errno_of;
use super::open::{Access, Kind, Target};
use super::ring::{Ring, Work};
use super::{discard, lock, system, turns};
use crate::{
    Class, Device, DeviceError, Durability, Geometry, IoKind, Local, OpenError, ReadBuf, Storage, WriteBuf,
    WriteOpts,
};

/// The largest single operation.
const OPERATION_BYTES_MAX: usize = 1 << 30;
/// How long a close waits for what a broken ring has in the kernel.
const BROKEN_WAIT: Duration = Duration::from_secs(10);

/// What a thread reads and writes through.
pub(super) struct GlommioDevice {
    geometry: Geometry,
    kind: Kind,
    /// Gone once closed.
    open: RefCell<Option<Rc<Open>>>,
}

/// The descriptions, and what is in flight on them.
struct Open {
    plain: File,
    /// None when read-only.
    durable: Option<File>,
    ring: Rc<Ring>,
    turns: RefCell<Option<glommio::task::JoinHandle<()>>>,
    /// Of a block device, from the first discard on.
    discarder: RefCell<Option<Discarder>>,
}

/// What an operation is asked for, for its errors.
#[derive(Clone, Copy)]
struct Asked {
    kind: IoKind,
    at: u64,
    bytes: u64,
}

impl Asked {
    fn error(self, errno: Errno) -> DeviceError {
        DeviceError::Io { kind: self.kind, at: self.at, bytes: self.bytes, errno: errno.raw_os_error() }
    }
}

impl GlommioDevice {
    /// Opens the descriptions of this thread. Inside an executor.
    pub(super) fn open(target: &Target, discard: Discard, spin: Option<Duration>) -> Result<Self, OpenError> {
        let ring = Ring::new().map_err(|error| system::of_uring(errno_of(error.raw_os_error())))?;
        let plain = target.reopen(OFlags::empty())?;
        let durable = match target.access() {
            Access::ReadOnly => None,
            Access::ReadWrite => Some(target.reopen(OFlags::DSYNC).inspect_err(|_| unlock(&plain))?),
        };
        let turns = RefCell::new(Some(glommio::spawn_local(turns::take(Rc::clone(&ring), spin)).detach()));
        let open = Open { plain, durable, ring, turns, discarder: RefCell::default() };
        Ok(Self {
            geometry: Geometry { discards: discard.applies_to(target), ..target.geometry() },
            kind: target.kind(),
            open: RefCell::new(Some(Rc::new(open))),
        })
    }

    /// Refuses further operations, waits for those in flight, lets go of the lock and closes.
    pub(super) async fn close(&self) {
        let Some(open) = self.open.take() else { return };
        open.discards_ended().await;
        if !open.ring.ended(BROKEN_WAIT).await {
            tracing::error!(
                "operations are left in the kernel: the device stays locked until the process ends"
            );
            std::mem::forget(open);
            return;
        }
        open.ring.close();
        let turns = open.turns.take();
        if let Some(turns) = turns {
            turns.await;
        }
        // Closing may not be enough: a process that is just being started has copies of the descriptions, and so has the
        // future of a quiesce that somebody kept.
        [Some(&open.plain), open.durable.as_ref()].into_iter().flatten().for_each(unlock);
    }

    /// As [`GlommioDevice::close`], without waiting. What is in flight keeps the descriptions, so that their numbers cannot
    /// become other files', and the lock.
    pub(super) fn abandon(&self) {
        let Some(open) = self.open.take() else { return };
        open.ring.close();
        let discarder = open.discarder.take();
        let is_discarding = discarder.as_ref().is_some_and(|discarder| !discarder.is_idle());
        if !is_discarding && let Some(discarder) = discarder {
            discarder.end();
        }
        if open.ring.is_idle() && !is_discarding {
            [Some(&open.plain), open.durable.as_ref()].into_iter().flatten().for_each(unlock);
        } else {
            tracing::error!("operations are in flight: the device stays locked until the process ends");
            std::mem::forget(open);
        }
    }

    fn asked(&self, kind: IoKind, at: u64, bytes: u64) -> Result<(Rc<Open>, Asked), DeviceError> {
        let block = BLOCK_BYTES as u64;
        assert!(at.is_multiple_of(block), "{kind} at {at}, which is no multiple of {block}");
        assert!(bytes.is_multiple_of(block), "{kind} of {bytes} bytes, which is no multiple of {block}");
        if at.checked_add(bytes).is_none_or(|end| end > self.geometry.bytes) {
            return Err(DeviceError::OutOfRange { kind, at, bytes });
        }
        let asked = Asked { kind, at, bytes };
        let open = self.open.borrow().clone().ok_or_else(|| asked.error(Errno::SHUTDOWN))?;
        Ok((open, asked))
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
        WriteBuf::new(Buffer(glommio::allocate_dma_buffer(bytes)))
    }

    fn read(&self, at: u64, bytes: usize, class: Class) -> Local<Result<ReadBuf, DeviceError>> {
        assert!(bytes > 0 && bytes <= OPERATION_BYTES_MAX, "a read of {bytes} bytes");
        match self.asked(IoKind::Read, at, bytes as u64) {
            Ok((open, asked)) => {
                let work = Work::Read(glommio::allocate_dma_buffer(bytes));
                let reading = open.ring.begin(open.plain(), at, work, class == Class::Commit);
                Box::pin(async move {
                    match reading.await {
                        Ok(Work::Read(buffer)) => Ok(ReadBuf::new(Read(buffer))),
                        Ok(Work::Write(_) | Work::Flush | Work::Discard(_)) => Err(asked.error(Errno::IO)),
                        Err(errno) => Err(asked.error(errno)),
                    }
                })
            }
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn write(&self, at: u64, buf: Rc<WriteBuf>, opts: WriteOpts) -> Local<Result<(), DeviceError>> {
        let (open, asked) = match self.asked(IoKind::Write, at, buf.len() as u64) {
            Ok(asked) => asked,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        let Some(durable) = &open.durable else { return Box::pin(ready(Err(DeviceError::ReadOnly))) };
        let fd = match opts.durability {
            Durability::Durable => durable.as_fd().as_raw_fd(),
            Durability::Cached => open.plain(),
        };
        let writing = open.ring.begin(fd, at, Work::Write(buf), opts.class == Class::Commit);
        Box::pin(async move { writing.await.map(|_| ()).map_err(|errno| asked.error(errno)) })
    }

    fn flush(&self) -> Local<Result<(), DeviceError>> {
        // Also when read-only: it makes durable what a killed process wrote, before we rely on it.
        match self.asked(IoKind::Flush, 0, 0) {
            Ok((open, asked)) => {
                let flushing = open.ring.begin(open.plain(), 0, Work::Flush, false);
                Box::pin(async move { flushing.await.map(|_| ()).map_err(|errno| asked.error(errno)) })
            }
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn discard(&self, at: u64, bytes: u64) -> Local<Result<(), DeviceError>> {
        match self.asked(IoKind::Discard, at, bytes) {
            Ok((open, _)) if open.durable.is_none() => Box::pin(ready(Err(DeviceError::ReadOnly))),
            Ok((open, asked)) if self.geometry.discards && bytes > 0 => match self.kind {
                Kind::File => {
                    let punching = open.ring.begin(open.plain(), at, Work::Discard(bytes), false);
                    Box::pin(async move { punching.await.map(|_| ()).map_err(|errno| asked.error(errno)) })
                }
                Kind::BlockDevice => match open.discard(at, bytes) {
                    Ok(discarding) => {
                        Box::pin(async move { discarding.await.map_err(|errno| asked.error(errno)) })
                    }
                    Err(errno) => Box::pin(ready(Err(asked.error(errno)))),
                },
            },
            Ok(_) => Box::pin(ready(Ok(()))),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn quiesce(&self) -> Local<()> {
        match self.open.borrow().clone() {
            Some(open) => Box::pin(async move {
                open.discards_idle().await;
                open.ring.idle().await;
            }),
            None => Box::pin(ready(())),
        }
    }
}

impl Open {
    /// Begins to discard a range of a block device.
    fn discard(
        &self,
        at: u64,
        bytes: u64,
    ) -> Result<impl Future<Output = Result<(), Errno>> + 'static + use<>, Errno> {
        let mut discarder = self.discarder.borrow_mut();
        let started = match discarder.take() {
            Some(started) => started,
            None => Discarder::start(self.durable.as_ref().unwrap_or(&self.plain))?,
        };
        Ok(discarder.insert(started).begin(at, bytes))
    }

    /// Waits until no discard is in the kernel. Another may begin meanwhile.
    async fn discards_idle(&self) {
        while self.discarder.borrow().as_ref().is_some_and(|discarder| !discarder.is_idle()) {
            glommio::timer::sleep(discard::LOOK_EACH).await;
        }
    }

    /// Waits until no discard is in the kernel, nor will be.
    async fn discards_ended(&self) {
        self.discards_idle().await;
        if let Some(discarder) = self.discarder.take() {
            discarder.end();
        }
    }

    fn plain(&self) -> RawFd {
        self.plain.as_fd().as_raw_fd()
    }
}

fn unlock(file: &File) {
    if let Err(error) = lock::release(file) {
        tracing::warn!(%error, "letting go of a lock");
    }
}

/// Memory of a [`WriteBuf`].
struct Buffer(DmaBuffer);

/// Memory of a [`ReadBuf`].
struct Read(DmaBuffer);

impl std::ops::Deref for Read {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Storage for Buffer {
    fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_bytes_mut()
    }

    fn truncate(&mut self, bytes: usize) {
        self.0.trim_to_size(bytes);
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
