//! Entry: one file, directory or link, made an object.
//!
//! A file of up to a buffer is one transaction: bytes and attributes together. A larger one is streamed, and is there
//! when its last transaction is. The attributes are those from before the first byte was read; if the file changed
//! meanwhile it is stored as it was read, told, and not taken for the same by the next run, because its time differs.
//! No more is read than the file had at first, so that one that grows faster than it is read ends. Holes of a file are
//! left out of its object, but for those of small files.

use std::fs::File;
use std::os::fd::AsFd;

use bytes::Bytes;
use rustix::fs::{Stat, fstat};
use seabed::{Error, ObjectId, Pool};

use super::left_out::LeftOut;
use crate::beneath::{BeneathError, Parents, Place, Relative, Tree};
use crate::buffers::{BUFFER_BYTES, Buffers, SMALL_BYTES};
use crate::exit::{Exit, Failure, Outcome, plain};
use crate::identity::Identity;
use crate::names;
use crate::posix::{Kind, Posix, Recorded};
use crate::progress::Progress;
use crate::run::Carried;
use crate::session::{about, wait_for};
use crate::sparse::{Piece, Source, Until};

/// What is needed to carry entries over.
pub(super) struct Importer<'a> {
    pub(super) pool: &'a Pool,
    pub(super) tree: &'a Tree,
    pub(super) buffers: Buffers,
    pub(super) progress: &'a Progress,
    /// The pool had no object at the start: nothing can be skipped.
    pub(super) is_empty: bool,
    /// Files that this import writes to, and what they are: none of them is imported.
    pub(super) own_files: &'a [(Identity, &'static str)],
    pub(super) left_out: LeftOut,
}

impl Importer<'_> {
    /// Carries one entry over.
    pub(super) fn carry(&self, name: &[u8]) -> Outcome<Carried> {
        let path = Relative::parse(name).map_err(|error| at(name, &error))?;
        let place = self.tree.place(&path, Parents::MustExist).map_err(|error| at(name, &error))?;
        let Some(stat) = place.stat().map_err(|error| at(name, &error))? else {
            return Err(at(name, &"it is gone"));
        };
        if let Some(what) = self.own_file(&stat) {
            self.progress.say(&format!("seabed: {}: is {what}; left out", names::quoted(name)));
            return Ok(Carried::Skipped);
        }
        let posix = Posix::of(&stat).map_err(|what| at(name, &format!("{what}; not imported")))?;
        if self.is_there(name, &posix, &stat)? {
            self.progress.bytes(file_bytes(&stat));
            return Ok(Carried::Skipped);
        }
        match posix.kind {
            Kind::Directory => {
                // One that may not be read fails in the walk.
                if let Ok(directory) = place.open_file() {
                    self.left_out.look(Kind::Directory, &directory, &stat);
                }
                self.put(name, Bytes::new(), posix)?;
                Ok(Carried::Done { bytes: 0 })
            }
            Kind::Symlink => {
                let target = place.read_link().map_err(|error| at(name, &error))?;
                let bytes = target.len() as u64;
                self.put(name, target.into(), posix)?;
                Ok(Carried::Done { bytes })
            }
            Kind::File => self.file(name, &place),
        }
    }

    fn own_file(&self, stat: &Stat) -> Option<&'static str> {
        let identity = Identity::of(stat);
        self.own_files.iter().find(|(own, _)| *own == identity).map(|(_, what)| *what)
    }

    /// Whether the object says of itself what the entry says.
    fn is_there(&self, name: &[u8], posix: &Posix, stat: &Stat) -> Outcome<bool> {
        if self.is_empty {
            return Ok(false);
        }
        let id = ObjectId::new(name);
        let attributes = match futures::executor::block_on(self.pool.attrs(id.clone())) {
            Ok(attributes) => attributes,
            Err(Error::NotFound) => return Ok(false),
            Err(error) => return Err(about(name, &error)),
        };
        if !posix.is(&Recorded::of(&attributes)) {
            return Ok(false);
        }
        let size = wait_for(name, self.pool.stat(id))?.size;
        Ok(size == expected_bytes(posix.kind, stat))
    }

    fn put(&self, name: &[u8], data: Bytes, posix: Posix) -> Outcome<()> {
        wait_for(name, self.pool.put_with(ObjectId::new(name), data, posix.to_attributes()))
    }

    fn file(&self, name: &[u8], place: &Place<'_, '_>) -> Outcome<Carried> {
        let file = place.open_file().map_err(|error| at(name, &error))?;
        // Again, of what was opened: something else may have taken the name.
        let before = look(name, &file)?;
        let posix = Posix::of(&before).map_err(|what| at(name, &format!("{what}; not imported")))?;
        if posix.kind != Kind::File || self.own_file(&before).is_some() {
            return Err(at(name, &"it was replaced while it was looked at"));
        }
        self.left_out.look(Kind::File, &file, &before);
        let size = file_bytes(&before);
        let mut source = Source::new(file, &before, self.buffers.turn(size), Until::Size);
        let bytes = if size <= SMALL_BYTES as u64 || (size <= BUFFER_BYTES as u64 && !source.is_sparse()) {
            let data = match self.next(name, &mut source)? {
                Some(Piece::Data(data)) => data,
                Some(Piece::Hole(_)) | None => Bytes::new(),
            };
            let bytes = data.len() as u64;
            self.put(name, data, posix)?;
            bytes
        } else {
            self.stream(name, &mut source, posix)?
        };
        if bytes == size && is_same(&before, &look(name, source.file())?) {
            Ok(Carried::Done { bytes })
        } else {
            Ok(Carried::Changed { bytes })
        }
    }

    fn stream(&self, name: &[u8], source: &mut Source, posix: Posix) -> Outcome<u64> {
        let mut stream = wait_for(name, self.pool.put_stream(ObjectId::new(name)))?;
        let mut done = 0;
        while let Some(piece) = self.next(name, source)? {
            done += piece.bytes();
            match piece {
                Piece::Data(data) => wait_for(name, stream.write(data))?,
                Piece::Hole(bytes) => wait_for(name, stream.skip(bytes))?,
            }
        }
        wait_for(name, stream.finish(posix.to_attributes()))?;
        Ok(done)
    }

    fn next(&self, name: &[u8], source: &mut Source) -> Outcome<Option<Piece>> {
        let piece = source.next().map_err(|error| at(name, &format!("reading it: {}", plain(&error))))?;
        self.progress.bytes(piece.as_ref().map_or(0, Piece::bytes));
        Ok(piece)
    }
}

fn look(name: &[u8], file: &File) -> Outcome<Stat> {
    fstat(file.as_fd())
        .map_err(|errno| at(name, &BeneathError::Io { doing: "looking at it", error: errno.into() }))
}

/// Whether a file was not written to between two looks.
fn is_same(before: &Stat, after: &Stat) -> bool {
    let state = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    state(before) == state(after)
}

fn file_bytes(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// The size that the object of an unchanged entry has.
fn expected_bytes(kind: Kind, stat: &Stat) -> u64 {
    match kind {
        Kind::Directory => 0,
        Kind::File | Kind::Symlink => file_bytes(stat),
    }
}

/// A failure of one entry, which does not concern the others.
fn at(name: &[u8], what: &impl std::fmt::Display) -> Failure {
    Failure::new(Exit::SomeFailed, format!("{}: {what}", names::quoted(name)))
}
