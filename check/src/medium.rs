//! Medium: an image that may be written to, and one that keeps what is written to itself.
//!
//! A [`Rehearsal`] takes writes and flushes as the medium would, shows them to reads, and keeps them in order, so that
//! something can be tried, looked at as a whole, and only then done.
//!
//! Invariant: all writes are of whole blocks at multiples of a block.
//! Limits: a rehearsal keeps all that is written in memory.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use seabed_types::BLOCK_BYTES;

use crate::Image;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Bytes that may be a store, and may be changed.
pub trait Medium: Image {
    /// Writes whole blocks at a multiple of 4096.
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns when all that was written is durable.
    fn flush(&self) -> io::Result<()>;
}

impl Medium for File {
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn flush(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// What was done to a medium.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Write(u64, Vec<u8>),
    Flush,
}

/// See the module.
pub(crate) struct Rehearsal<'a> {
    image: &'a dyn Image,
    blocks: RefCell<BTreeMap<u64, Vec<u8>>>,
    steps: RefCell<Vec<Step>>,
}

impl<'a> Rehearsal<'a> {
    pub(crate) fn new(image: &'a dyn Image) -> Self {
        Self { image, blocks: RefCell::default(), steps: RefCell::default() }
    }

    pub(crate) fn write(&self, at: u64, bytes: &[u8]) {
        assert!(at.is_multiple_of(BLOCK) && bytes.len().is_multiple_of(BLOCK_BYTES), "whole blocks");
        let mut blocks = self.blocks.borrow_mut();
        for (index, block) in (0..).zip(bytes.chunks_exact(BLOCK_BYTES)) {
            blocks.insert(at + index * BLOCK, block.to_vec());
        }
        self.steps.borrow_mut().push(Step::Write(at, bytes.to_vec()));
    }

    pub(crate) fn flush(&self) {
        self.steps.borrow_mut().push(Step::Flush);
    }

    /// What was done, in order.
    pub(crate) fn into_steps(self) -> Vec<Step> {
        self.steps.into_inner()
    }
}

impl Image for Rehearsal<'_> {
    fn bytes(&self) -> u64 {
        self.image.bytes()
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let end = at.saturating_add(into.len() as u64);
        let first = at - at % BLOCK;
        let blocks = self.blocks.borrow();
        let mut written = blocks.range(first..end);
        let is_all_written = written.by_ref().count() as u64 == (end - first).div_ceil(BLOCK);
        // What was written over need not be readable below.
        if !is_all_written {
            self.image.read(at, into)?;
        }
        for (start, block) in blocks.range(first..end) {
            let from = usize::try_from(at.saturating_sub(*start)).expect("within a block");
            let to = usize::try_from(start.saturating_sub(at)).expect("within the buffer");
            for (to, byte) in into.iter_mut().skip(to).zip(block.iter().skip(from)) {
                *to = *byte;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rehearsal_shows_what_was_written() {
        let image: Vec<u8> = (1..=250).cycle().take(5 * BLOCK_BYTES).collect();
        let rehearsal = Rehearsal::new(&image);
        rehearsal.write(BLOCK, &[0; 2 * BLOCK_BYTES]);
        let mut expected = image.clone();
        expected[BLOCK_BYTES..3 * BLOCK_BYTES].fill(0);
        for (at, bytes) in [(0, 5 * 4096), (1, 4096), (4000, 9000), (4096, 8192), (5000, 10), (12_287, 2)] {
            let mut read = vec![9; bytes];
            rehearsal.read(at, &mut read).expect("in memory");
            let start = usize::try_from(at).expect("small");
            assert_eq!(read, &expected[start..start + bytes], "{bytes} bytes at {at}");
        }
        rehearsal.flush();
        assert!(
            matches!(&rehearsal.into_steps()[..], [Step::Write(4096, bytes), Step::Flush] if bytes.len() == 8192)
        );
    }
}
