//! Buffers: the memory that data on its way into the store takes, bounded for the whole command.
//!
//! A file of up to [`SMALL_BYTES`] is read into memory of its own: at most one per job. Everything larger goes through
//! [`COUNT`] buffers of [`BUFFER_BYTES`], which are waited for and come back when the engine has let go of them; used
//! last is used next, so that few are touched when few are needed.
//!
//! Limits: 16 MiB, and 64 KiB per job.

use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bytes::Bytes;

/// Bytes of one buffer: the largest file that goes in one piece.
pub(crate) const BUFFER_BYTES: usize = 1 << 20;
/// Up to here a copy of its own is cheaper than waiting for a buffer.
pub(crate) const SMALL_BYTES: usize = 64 << 10;
/// Buffers in all.
const COUNT: usize = 16;

/// See the module.
#[derive(Clone)]
pub(crate) struct Buffers {
    shelf: Arc<Shelf>,
}

struct Shelf {
    /// Those that nobody has; new ones have no memory yet.
    free: Mutex<Vec<Vec<u8>>>,
    returned: Condvar,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        let free = Mutex::new(vec![Vec::new(); COUNT]);
        Self { shelf: Arc::new(Shelf { free, returned: Condvar::new() }) }
    }

    /// Reads up to `bytes`, at most [`BUFFER_BYTES`]; less only at the end of the file.
    pub(crate) fn read(&self, file: &mut impl Read, bytes: usize) -> io::Result<Bytes> {
        assert!(bytes <= BUFFER_BYTES);
        if bytes <= SMALL_BYTES {
            let mut data = vec![0; bytes];
            let read = fill(file, &mut data)?;
            data.truncate(read);
            return Ok(data.into());
        }
        let mut buffer = self.take();
        if buffer.memory.is_empty() {
            buffer.memory.resize(BUFFER_BYTES, 0);
        }
        buffer.bytes = fill(file, &mut buffer.memory[..bytes])?;
        if buffer.bytes <= SMALL_BYTES {
            return Ok(Bytes::copy_from_slice(buffer.as_ref()));
        }
        Ok(Bytes::from_owner(buffer))
    }

    fn take(&self) -> Buffer {
        // Poison says that a thread panicked while it pushed or popped: the list is whole all the same.
        let mut free = self.shelf.free.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(memory) = free.pop() {
                return Buffer { memory, bytes: 0, home: Arc::clone(&self.shelf) };
            }
            free = self.shelf.returned.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A buffer in use.
struct Buffer {
    memory: Vec<u8>,
    bytes: usize,
    home: Arc<Shelf>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.bytes]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        self.home.free.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
        self.home.returned.notify_one();
    }
}

/// Reads until `into` is full or the file ends.
fn fill(file: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match file.read(&mut into[done..]) {
            Ok(0) => break,
            Ok(bytes) => done += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_bytes_are_dropped() {
        let buffers = Buffers::new();
        let source = vec![7; BUFFER_BYTES + 9];
        // More rounds than buffers: would wait for ever if one were lost.
        for _ in 0..3 {
            let held: Vec<_> = (0..COUNT)
                .map(|_| buffers.read(&mut &source[..], BUFFER_BYTES).expect("memory can be read"))
                .collect();
            assert!(held.iter().all(|data| data[..] == source[..BUFFER_BYTES]));
        }
        let short = buffers.read(&mut &source[..10], BUFFER_BYTES).expect("memory can be read");
        assert_eq!(short[..], source[..10]);
        let free = buffers.shelf.free.lock().expect("no panic").len();
        assert_eq!(free, COUNT, "a short read holds no buffer");
    }
}
