//! Memory: a device of bytes in memory that does each operation as it is asked for, and aligned buffers without a kernel.
//!
//! For tests that build records and nodes without a machine, and for reading many variants of a small image fast. Every
//! write is durable at once; nothing fails but what lies past the end.
//!
//! Not here: time and tasks, faults, crashes: the simulated machine of the suites has those.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::future::ready;
use std::rc::Rc;

use seabed_types::BLOCK_BYTES;

use crate::{Class, Device, DeviceError, Geometry, IoKind, Local, ReadBuf, Storage, WriteBuf, WriteOpts};

/// Zeroed bytes at a multiple of 4096: a part of a longer piece that never moves.
pub struct Aligned {
    piece: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl fmt::Debug for Aligned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aligned").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Aligned {
    /// `bytes` zeros.
    pub fn zeroed(bytes: usize) -> Self {
        let piece = vec![0; bytes + BLOCK_BYTES];
        let start = piece.as_ptr().addr().wrapping_neg() % BLOCK_BYTES;
        Self { piece, start, bytes }
    }
}

impl Storage for Aligned {
    fn bytes(&self) -> &[u8] {
        &self.piece[self.start..self.start + self.bytes]
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.piece[self.start..self.start + self.bytes]
    }
    fn truncate(&mut self, bytes: usize) {
        assert!(bytes <= self.bytes, "a buffer does not grow");
        self.bytes = bytes;
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// See the module.
pub struct MemoryDevice(RefCell<Vec<u8>>);

impl fmt::Debug for MemoryDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDevice").field("bytes", &self.0.borrow().len()).finish()
    }
}

impl MemoryDevice {
    /// A device with these bytes, a multiple of 4096.
    pub fn new(bytes: Vec<u8>) -> Rc<Self> {
        assert!(bytes.len().is_multiple_of(BLOCK_BYTES), "a device has whole blocks");
        Rc::new(Self(RefCell::new(bytes)))
    }

    /// Gives the bytes to look at or to change.
    pub fn with_bytes<T>(&self, look: impl FnOnce(&mut [u8]) -> T) -> T {
        look(&mut self.0.borrow_mut())
    }

    fn with_range<T>(
        &self,
        kind: IoKind,
        at: u64,
        bytes: usize,
        with: impl FnOnce(&mut [u8]) -> T,
    ) -> Result<T, DeviceError> {
        let mut all = self.0.borrow_mut();
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let range = start.checked_add(bytes).and_then(|end| all.get_mut(start..end));
        range.map(with).ok_or(DeviceError::OutOfRange { kind, at, bytes: bytes as u64 })
    }
}

impl Device for MemoryDevice {
    fn geometry(&self) -> Geometry {
        Geometry { bytes: self.0.borrow().len() as u64, wants_first_write: false, discards: false }
    }

    fn alloc(&self, bytes: usize) -> WriteBuf {
        WriteBuf::new(Aligned::zeroed(bytes))
    }

    fn alloc_dirty(&self, bytes: usize) -> WriteBuf {
        let mut buffer = self.alloc(bytes);
        // What its writer forgets shows.
        buffer.fill(0xd1);
        buffer
    }

    fn read(&self, at: u64, bytes: usize, _: Class) -> Local<Result<ReadBuf, DeviceError>> {
        let read = self.with_range(IoKind::Read, at, bytes, |range| range.to_vec());
        Box::pin(ready(read.map(ReadBuf::new)))
    }

    fn write(&self, at: u64, buf: Rc<WriteBuf>, _: WriteOpts) -> Local<Result<(), DeviceError>> {
        let bytes = buf.len();
        Box::pin(ready(self.with_range(IoKind::Write, at, bytes, |range| range.copy_from_slice(&buf))))
    }

    fn flush(&self) -> Local<Result<(), DeviceError>> {
        Box::pin(ready(Ok(())))
    }

    fn discard(&self, at: u64, bytes: u64) -> Local<Result<(), DeviceError>> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Box::pin(ready(self.with_range(IoKind::Discard, at, bytes, |_| ())))
    }

    fn quiesce(&self) -> Local<()> {
        Box::pin(ready(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Durability;

    #[test]
    fn what_was_written_is_read_and_the_end_is_the_end() {
        let device = MemoryDevice::new(vec![0; 3 * BLOCK_BYTES]);
        let opts = WriteOpts { durability: Durability::Cached, class: Class::Foreground, stream: 0 };
        futures::executor::block_on(async {
            let mut buf = device.alloc(BLOCK_BYTES);
            assert!(buf.as_ptr().addr().is_multiple_of(BLOCK_BYTES));
            buf.fill(7);
            let buf = Rc::new(buf);
            device.write(4096, Rc::clone(&buf), opts).await.expect("within");
            assert!(device.write(3 * 4096, buf, opts).await.is_err());
            let read = device.read(0, 3 * BLOCK_BYTES, Class::Foreground).await.expect("within");
            assert!(read[..4096].iter().chain(&read[8192..]).all(|byte| *byte == 0));
            assert!(read[4096..8192].iter().all(|byte| *byte == 7));
            assert!(device.read(8192, 8192, Class::Foreground).await.is_err());
            assert!(device.read(u64::MAX - 4095, 4096, Class::Foreground).await.is_err());
        });
    }
}
