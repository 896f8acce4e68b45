//! Sparse: the bytes of a file, piece by piece, holes as what they are.
//!
//! A file that takes fewer blocks than its size is asked where it has data (SEEK_DATA, SEEK_HOLE). Holes of under
//! [`HOLE_BYTES_MIN`], and all holes of small files, are read as zeros: a piece of a streaming put costs more than the space that they save. Where a file
//! system cannot answer, and of pipes and devices, all bytes are data.

use std::fs::File;
use std::io::{self, Seek, SeekFrom as StdSeek};
use std::os::fd::AsFd;

use bytes::Bytes;
use rustix::fs::{FileType, SeekFrom, Stat, seek};
use rustix::io::Errno;

use crate::buffers::{BUFFER_BYTES, SMALL_BYTES, Turn};

/// Shorter holes are data.
const HOLE_BYTES_MIN: u64 = 32 << 10;
/// Bytes of a block as a file's number of blocks counts them.
const BLOCK_BYTES: u64 = 512;

/// Consecutive bytes of a file.
#[derive(Debug)]
pub(crate) enum Piece {
    Data(Bytes),
    Hole(u64),
}

impl Piece {
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            Self::Hole(bytes) => *bytes,
        }
    }
}

/// How far a file is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Until {
    /// To the size that it had at first.
    Size,
    /// To its end: it may have grown, or be one of those that have no size (in /proc).
    End,
}

/// A file that is being read.
pub(crate) struct Source {
    file: File,
    turn: Turn,
    /// Where the next piece begins.
    at: u64,
    /// Data was found up to here.
    data_end: u64,
    /// Up to here the file may have holes, beyond it is read to its end if it is at all.
    size: u64,
    is_sparse: bool,
    until: Until,
}

impl Source {
    /// Reads a file from its position on; `stat` is of this file.
    pub(crate) fn new(file: File, stat: &Stat, turn: Turn, until: Until) -> Self {
        let is_regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let at = if is_regular { seek(file.as_fd(), SeekFrom::Current(0)).unwrap_or(0) } else { 0 };
        let size = if is_regular { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(u64::MAX);
        let is_sparse = size > SMALL_BYTES as u64 && blocks.saturating_mul(BLOCK_BYTES) < size;
        Self { file, turn, at, data_end: at, size, is_sparse, until }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Whether some of it may be holes.
    pub(crate) fn is_sparse(&self) -> bool {
        self.is_sparse
    }

    /// The next bytes: a buffer full of them, or all up to the next hole. None at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Piece>> {
        if self.at < self.size && self.at >= self.data_end {
            let data = self.find_data();
            if data > self.at {
                self.file.seek(StdSeek::Start(data))?;
                let hole = data - self.at;
                (self.at, self.data_end) = (data, data);
                return Ok(Some(Piece::Hole(hole)));
            }
            self.data_end = self.find_end_of_data();
            if self.is_sparse {
                // Looking for it has moved the position.
                self.file.seek(StdSeek::Start(self.at))?;
            }
        }
        let left = match self.until {
            Until::End if self.at >= self.size => u64::MAX,
            Until::Size | Until::End => self.data_end.saturating_sub(self.at),
        };
        let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER_BYTES);
        let data = self.turn.read(&mut self.file, bytes)?;
        self.at += data.len() as u64;
        Ok(if data.is_empty() { None } else { Some(Piece::Data(data)) })
    }

    /// Where the next data begins: right here if there is no hole or it is too short, at the end if there is no more.
    fn find_data(&mut self) -> u64 {
        if !self.is_sparse {
            return self.at;
        }
        match seek(self.file.as_fd(), SeekFrom::Data(self.at)) {
            Ok(data) if data >= self.at + HOLE_BYTES_MIN => data.min(self.size),
            Ok(_) => self.at,
            Err(Errno::NXIO) => self.size,
            Err(_) => {
                self.is_sparse = false;
                self.at
            }
        }
    }

    /// Where the next hole begins that is long enough, or is at the end.
    fn find_end_of_data(&self) -> u64 {
        let mut at = self.at;
        while self.is_sparse && at < self.size {
            let Ok(hole) = seek(self.file.as_fd(), SeekFrom::Hole(at)) else { break };
            let data = seek(self.file.as_fd(), SeekFrom::Data(hole)).unwrap_or(self.size);
            if hole > self.at && (data >= hole.saturating_add(HOLE_BYTES_MIN) || data >= self.size) {
                return hole.min(self.size);
            }
            if data <= at {
                break;
            }
            at = data;
        }
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::Buffers;
    use rustix::fs::fstat;
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    fn source(file: File, until: Until) -> Source {
        let stat = fstat(&file).expect("open");
        Source::new(file, &stat, Buffers::new().turn(u64::MAX), until)
    }

    /// All bytes, and how many of them were holes.
    fn read(source: &mut Source) -> (Vec<u8>, u64) {
        let (mut all, mut holes) = (Vec::new(), 0);
        while let Some(piece) = source.next().expect("readable") {
            match piece {
                Piece::Data(data) => all.extend_from_slice(&data),
                Piece::Hole(bytes) => {
                    holes += bytes;
                    all.resize(all.len() + usize::try_from(bytes).expect("small"), 0);
                }
            }
        }
        (all, holes)
    }

    const K: u64 = 1 << 10;

    #[test]
    fn holes_are_found_and_all_bytes_are_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a");
        // Where bytes are, the size, and the least that must be found as holes.
        for (data, size, least) in [
            (&[][..], 0, 0),
            (&[], 5000 * K, 5000 * K),
            (&[0], 5000 * K, 4900 * K),
            (&[2000 * K], 5000 * K, 4900 * K),
            (&[4999 * K], 5000 * K, 4900 * K),
            // Short holes are data.
            (&[0, 12 * K, 24 * K, 36 * K], 4000 * K, 3900 * K),
            (&[0, 8 * K, 16 * K, 24 * K], 28 * K, 0),
            (&[100 * K, 2100 * K, 3500 * K], 3501 * K, 3100 * K),
        ] {
            let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
            let file = file.expect("a file");
            file.set_len(size).expect("room");
            for at in data {
                file.write_all_at(b"data", *at).expect("room");
            }
            let (all, holes) = read(&mut source(file, Until::Size));
            assert!(all == std::fs::read(&path).expect("there"), "{data:?}");
            // On a file system without holes there are none.
            let blocks = rustix::fs::stat(&path).expect("there").st_blocks.unsigned_abs();
            if blocks * BLOCK_BYTES < size / 2 {
                assert!(holes >= least, "{data:?} {holes}");
            }
        }
    }

    #[test]
    fn a_file_that_grows_or_shrinks_ends() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a");
        for (until, wanted) in [(Until::Size, 3), (Until::End, 6)] {
            std::fs::write(&path, "abc").expect("a file");
            let mut source = source(File::open(&path).expect("there"), until);
            let mut more = File::options().append(true).open(&path).expect("there");
            more.write_all(b"def").expect("room");
            assert_eq!(read(&mut source).0.len(), wanted);
        }
        let mut source = source(File::open(&path).expect("there"), Until::Size);
        std::fs::write(&path, "a").expect("a file");
        assert_eq!(read(&mut source).0, b"a");
    }

    #[test]
    fn files_without_a_size_are_read_to_their_end() {
        let Ok(file) = File::open("/proc/self/status") else { return };
        assert!(!read(&mut source(file, Until::End)).0.is_empty());
    }
}
