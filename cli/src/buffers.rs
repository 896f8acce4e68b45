//! Buffers: the memory that data on its way into the store takes, bounded for the whole command.
//!
//! A file of up to [`SMALL_BYTES`] is read into memory of its own. Anything larger needs a [`Turn`], of which there are
//! [`COUNT`]: a job takes one before it reads and keeps it until its file is stored. A turn, not the memory, is what jobs
//! wait for: the engine may keep the bytes of a request longer than the request lasts, so a job that waited for memory to
//! come back could wait for a write that no job makes. A job takes one turn at most, so none waits while another waits
//! for it. Memory that the engine has dropped is used again, the last dropped first.
//!
//! Limits: one buffer of [`BUFFER_BYTES`] for each turn (16 MiB) and 64 KiB per job are filled at a time; besides these
//! there is what the engine holds, which is within its own budget.

use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Bytes of one buffer: the largest file that goes in one piece.
pub(crate) const BUFFER_BYTES: usize = 1 << 20;
/// Up to here a copy of its own is cheaper than a buffer.
pub(crate) const SMALL_BYTES: usize = 64 << 10;
/// Turns, and buffers that are kept for the next.
const COUNT: usize = 16;

/// See the module.
#[derive(Clone)]
pub(crate) struct Buffers {
    shelf: Arc<Shelf>,
}

struct Shelf {
    state: Mutex<State>,
    turn_ended: Condvar,
}

struct State {
    /// Turns that no job has.
    turns: usize,
    /// Memory that nothing uses, at most [`COUNT`] pieces.
    free: Vec<Vec<u8>>,
}

impl Shelf {
    fn state(&self) -> MutexGuard<'_, State> {
        // Poison says that a thread panicked while it counted, pushed or popped: the state is consistent anyway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffers {
    pub(crate) fn new() -> Self {
        let state = Mutex::new(State { turns: COUNT, free: Vec::new() });
        Self { shelf: Arc::new(Shelf { state, turn_ended: Condvar::new() }) }
    }

    /// Waits for the right to read a file of `bytes` bytes, in pieces of up to a buffer. A job has one turn at a time.
    pub(crate) fn turn(&self, bytes: u64) -> Turn {
        let is_counted = bytes > SMALL_BYTES as u64;
        if is_counted {
            let mut state = self.shelf.state();
            while state.turns == 0 {
                state = self.shelf.turn_ended.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.turns -= 1;
        }
        Turn { shelf: Arc::clone(&self.shelf), is_counted }
    }
}

/// The right of a job to read and store a file; ends when dropped.
pub(crate) struct Turn {
    shelf: Arc<Shelf>,
    /// Small files take none of the turns.
    is_counted: bool,
}

impl Turn {
    /// Reads up to `bytes`, at most [`BUFFER_BYTES`]; less only at the end of the file.
    pub(crate) fn read(&self, file: &mut impl Read, bytes: usize) -> io::Result<Bytes> {
        assert!(bytes <= BUFFER_BYTES);
        if bytes <= SMALL_BYTES {
            let mut data = vec![0; bytes];
            let read = fill(file, &mut data)?;
            data.truncate(read);
            return Ok(data.into());
        }
        assert!(self.is_counted, "a file of more than a few bytes has a turn");
        let mut memory = self.shelf.state().free.pop().unwrap_or_default();
        if memory.is_empty() {
            memory.resize(BUFFER_BYTES, 0);
        }
        let mut buffer = Buffer { memory, bytes: 0, home: Arc::clone(&self.shelf) };
        buffer.bytes = fill(file, &mut buffer.memory[..bytes])?;
        if buffer.bytes <= SMALL_BYTES {
            return Ok(Bytes::copy_from_slice(buffer.as_ref()));
        }
        Ok(Bytes::from_owner(buffer))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_counted {
            self.shelf.state().turns += 1;
            self.shelf.turn_ended.notify_one();
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
        let mut state = self.home.state();
        if state.free.len() < COUNT {
            state.free.push(memory);
        }
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

    /// An import of 100 files of 100,000 bytes hung: jobs waited for memory of which the engine kept the last record's
    /// until another write came, and no job could make one.
    #[test]
    fn bytes_that_the_engine_keeps_delay_no_job() {
        let buffers = Buffers::new();
        let source = vec![7; BUFFER_BYTES + 9];
        let read = |bytes| {
            let turn = buffers.turn(bytes as u64);
            turn.read(&mut &source[..], bytes).expect("memory can be read")
        };
        let kept: Vec<_> = (0..3 * COUNT).map(|_| read(BUFFER_BYTES)).collect();
        assert!(kept.iter().all(|data| data[..] == source[..BUFFER_BYTES]));
        drop(kept);
        assert_eq!(buffers.shelf.state().free.len(), COUNT, "memory is kept for the next, but not all of it");
        let again = read(SMALL_BYTES + 1);
        assert_eq!(again[..], source[..=SMALL_BYTES]);
        assert_eq!(buffers.shelf.state().free.len(), COUNT - 1, "memory is used again");
        assert_eq!(buffers.shelf.state().turns, COUNT);
    }

    #[test]
    fn turns_bound_the_jobs_that_read() {
        let buffers = Buffers::new();
        let turns: Vec<_> = (0..COUNT).map(|_| buffers.turn(SMALL_BYTES as u64 + 1)).collect();
        // A small file needs none.
        let data = buffers.turn(10).read(&mut &[1; 10][..], 10).expect("memory can be read");
        assert_eq!(data[..], [1; 10]);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| drop(buffers.turn(BUFFER_BYTES as u64)));
            assert_eq!(buffers.shelf.state().turns, 0);
            drop(turns);
            waiting.join().expect("it gets a turn");
        });
        assert_eq!(buffers.shelf.state().turns, COUNT);
    }

    #[test]
    fn a_short_read_holds_no_buffer() {
        let buffers = Buffers::new();
        let turn = buffers.turn(BUFFER_BYTES as u64);
        let short = turn.read(&mut &[3; 10][..], BUFFER_BYTES).expect("memory can be read");
        assert_eq!(short[..], [3; 10]);
        assert_eq!(buffers.shelf.state().free.len(), 1);
    }
}
