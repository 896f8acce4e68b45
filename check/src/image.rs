//! Image: the bytes of a store as the check reads them, synchronously and without ever writing.
//!
//! A file or block device, bytes in memory, or whatever else implements [`Image`], a simulated disk for one. The store must
//! not be in use: what changes during the walk would look like damage.
//!
//! [`Source`] reads by address for one store, [`Window`] reads ahead along one segment.
//!
//! Cost: a failed read is tried three times.   Limits: a window holds 1 MiB, or one record if that is longer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use seabed_segment::{Identity, Layout, Superblock};
use seabed_types::{BLOCK_BYTES, Paddr};

/// Bytes of one read along a segment.
const WINDOW_BYTES: usize = 1 << 20;
/// How often a failed read is tried in all.
const READ_TRIES: usize = 3;

/// Bytes that may be a store.
pub trait Image {
    /// How many bytes there are.
    fn bytes(&self) -> u64;
    /// Fills `into` with the bytes at `at`, all of it or an error.
    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()>;
}

impl Image for File {
    fn bytes(&self) -> u64 {
        // The length in the metadata is 0 for a block device; its end is where a seek to the end goes.
        let mut file = self;
        let bytes = io::Seek::seek(&mut file, io::SeekFrom::End(0)).unwrap_or(0);
        // What is behind the last whole block is not used.
        bytes - bytes % BLOCK_BYTES as u64
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(into, at)
    }
}

impl Image for &[u8] {
    fn bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(at).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(into.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(self.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl Image for Vec<u8> {
    fn bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        Image::read(&self.as_slice(), at, into)
    }
}

/// Reads `bytes` bytes at a device offset.
pub(crate) fn read_at(image: &dyn Image, at: u64, bytes: usize) -> Result<Vec<u8>, io::ErrorKind> {
    let mut into = vec![0; bytes];
    let mut tries = 0;
    loop {
        tries += 1;
        match image.read(at, &mut into) {
            Ok(()) => return Ok(into),
            Err(error) if tries == READ_TRIES => return Err(error.kind()),
            Err(_) => {}
        }
    }
}

/// An image whose superblock is known.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) image: &'a dyn Image,
    pub(crate) identity: Identity,
    pub(crate) layout: Layout,
    /// The format version.
    pub(crate) version: u32,
}

impl<'a> Source<'a> {
    /// The store in `image` that this superblock is of.
    pub(crate) fn of(image: &'a dyn Image, superblock: &Superblock) -> Self {
        let Superblock { identity, layout, version, .. } = *superblock;
        Self { image, identity, layout, version }
    }

    /// `bytes` bytes at `at`, which the caller knows to lie in one segment.
    pub(crate) fn read(&self, at: Paddr, bytes: usize) -> Result<Vec<u8>, io::ErrorKind> {
        read_at(self.image, self.layout.device_offset(at), bytes)
    }

    /// The block at a device offset.
    pub(crate) fn block(&self, at: u64) -> Result<Vec<u8>, io::ErrorKind> {
        read_at(self.image, at, BLOCK_BYTES)
    }
}

/// Reads ahead along a segment.
pub(crate) struct Window<'a> {
    source: Source<'a>,
    start: Paddr,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(crate) fn new(source: Source<'a>) -> Self {
        Self { source, start: Paddr::default(), bytes: Vec::new() }
    }

    /// `bytes` bytes at `at`, which the caller knows to lie in one segment.
    pub(crate) fn fetch(&mut self, at: Paddr, bytes: usize) -> Result<&[u8], io::ErrorKind> {
        let skip = at.offset.wrapping_sub(self.start.offset) as usize;
        let hit = at.segment == self.start.segment
            && at.offset >= self.start.offset
            && skip.saturating_add(bytes) <= self.bytes.len();
        if !hit {
            let left = (self.source.layout.segment_bytes - at.offset) as usize;
            let ahead = self.source.read(at, bytes.max(WINDOW_BYTES).min(left.max(bytes)));
            // What lies ahead may be what cannot be read.
            self.bytes = ahead.or_else(|_| self.source.read(at, bytes))?;
            self.start = at;
            return Ok(self.bytes.get(..bytes).expect("that many were read"));
        }
        Ok(self.bytes.get(skip..skip + bytes).expect("a hit has them"))
    }
}
