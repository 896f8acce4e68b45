//! Mount device: the device as one mount sees it: counted, and closed to changes once the mount has ended (rule E1).

use std::cell::Cell;
use std::future::ready;
use std::rc::Rc;

use seabed_device::{Class, Device, DeviceError, Geometry, Local, ReadBuf, WriteBuf, WriteOpts};
use seabed_segment::StreamKind;

use crate::stats::Counters;

/// The placement hint of data that the cleaner has moved; other writes have the number of their [`StreamKind`].
pub(crate) const RELOCATED_DATA: u8 = 4;

/// The device of one mount: it counts, and lets nothing through that changes the device once the mount has ended.
pub(crate) struct MountDevice {
    pub(crate) device: Rc<dyn Device>,
    pub(crate) counters: Rc<Counters>,
    /// The error of changes that are issued after the mount has ended.
    pub(crate) ended: Cell<Option<DeviceError>>,
}

impl Device for MountDevice {
    fn geometry(&self) -> Geometry {
        self.device.geometry()
    }

    fn alloc(&self, bytes: usize) -> WriteBuf {
        self.device.alloc(bytes)
    }

    fn alloc_dirty(&self, bytes: usize) -> WriteBuf {
        self.device.alloc_dirty(bytes)
    }

    fn read(&self, at: u64, bytes: usize, class: Class) -> Local<Result<ReadBuf, DeviceError>> {
        self.counters.count(|stats| {
            stats.device_reads += 1;
            stats.device_bytes_read += bytes as u64;
        });
        self.device.read(at, bytes, class)
    }

    fn write(&self, at: u64, buf: Rc<WriteBuf>, opts: WriteOpts) -> Local<Result<(), DeviceError>> {
        if let Some(error) = self.ended.get() {
            return Box::pin(ready(Err(error)));
        }
        let bytes = buf.len() as u64;
        self.counters.count(|stats| {
            stats.device_writes += 1;
            stats.device_bytes_written += bytes;
            match StreamKind::try_from(opts.stream) {
                Ok(StreamKind::Journal) => stats.journal_bytes_written += bytes,
                Ok(StreamKind::Bulk) => stats.bulk_bytes_written += bytes,
                Ok(StreamKind::Nodes) => stats.node_bytes_written += bytes,
                Err(()) if opts.stream == RELOCATED_DATA => stats.relocated_bytes_written += bytes,
                Err(()) => {}
            }
        });
        self.device.write(at, buf, opts)
    }

    fn flush(&self) -> Local<Result<(), DeviceError>> {
        if let Some(error) = self.ended.get() {
            return Box::pin(ready(Err(error)));
        }
        self.counters.count(|stats| stats.flushes += 1);
        self.device.flush()
    }

    fn discard(&self, at: u64, bytes: u64) -> Local<Result<(), DeviceError>> {
        if let Some(error) = self.ended.get() {
            return Box::pin(ready(Err(error)));
        }
        self.counters.count(|stats| stats.bytes_discarded += bytes);
        self.device.discard(at, bytes)
    }

    fn quiesce(&self) -> Local<()> {
        self.device.quiesce()
    }
}
