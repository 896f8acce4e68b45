//! Buffers: owned, aligned memory that travels with an operation, so that nothing can free it under the kernel.

use std::any::Any;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// Memory of a device implementation behind a [`WriteBuf`].
pub trait Storage: Any {
    /// The bytes.
    fn bytes(&self) -> &[u8];
    /// The bytes, while no write of them is in flight.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Keeps the first `bytes`, a multiple of 4096 and no more than there are.
    fn truncate(&mut self, bytes: usize);
    /// For the implementation that made it.
    fn as_any(&self) -> &dyn Any;
}

/// Bytes to write: aligned, zeroed when made. Made by [`crate::Device::alloc`] and written by the same device.
pub struct WriteBuf(Box<dyn Storage>);

impl fmt::Debug for WriteBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBuf").field("bytes", &self.len()).finish_non_exhaustive()
    }
}

impl WriteBuf {
    /// Wraps an implementation's memory.
    pub fn new(storage: impl Storage) -> Self {
        Self(Box::new(storage))
    }

    /// Keeps the first `bytes`, a multiple of 4096 and no more than there are.
    pub fn truncate(&mut self, bytes: usize) {
        assert!(bytes <= self.len() && bytes.is_multiple_of(seabed_types::BLOCK_BYTES));
        self.0.truncate(bytes);
    }

    /// For the implementation that made it.
    pub fn storage(&self) -> &dyn Any {
        self.0.as_any()
    }
}

impl Deref for WriteBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl DerefMut for WriteBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }
}

/// Bytes that were read. May pin a scarce block of the device's memory: copy out what is kept.
pub struct ReadBuf(Box<dyn Deref<Target = [u8]>>);

impl fmt::Debug for ReadBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadBuf").field("bytes", &self.len()).finish_non_exhaustive()
    }
}

impl ReadBuf {
    /// Wraps an implementation's memory.
    pub fn new(bytes: impl Deref<Target = [u8]> + 'static) -> Self {
        Self(Box::new(bytes))
    }
}

impl Deref for ReadBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}
