//! Place: one object, made a file, directory or link under the directory.
//!
//! What an object does not tell of itself is the usual: a file, of the mode that the process gives new files, written now.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::Stat;
use seabed::{ObjectId, Pool};

use super::at;
use crate::beneath::{BeneathError, Lacks, Parents, Place, Relative, Rights, Tree};
use crate::commands::get::{Piece, get};
use crate::exit::{Failure, Outcome, is_full, plain};
use crate::identity::Identity;
use crate::posix::{Kind, Owner, Posix, Recorded};
use crate::progress::Progress;
use crate::run::{Carried, Run};
use crate::session::wait_for;

/// Longest target of a link that a file system takes, with some room: more is not read into memory.
const TARGET_BYTES_MAX: u64 = 64 << 10;

/// What is needed to carry objects over.
pub(super) struct Exporter<'a> {
    pub(super) pool: &'a Pool,
    pub(super) tree: &'a Tree,
    /// No object takes its place.
    pub(super) store: Option<Identity>,
    pub(super) progress: &'a Progress,
    pub(super) policy: Policy,
    /// Files whose set-id bits were not restored.
    pub(super) without_set_id: AtomicU64,
    /// The mode of a file whose object tells none.
    pub(super) usual_mode: u32,
    /// Directories whose mode and time are still to be set.
    pub(super) directories: Mutex<Vec<Directory>>,
}

/// See [`Exporter::directories`].
pub(super) struct Directory {
    name: Vec<u8>,
    recorded: Recorded,
}

impl Exporter<'_> {
    /// Carries one object over; none for a directory, which is settled at the end.
    pub(super) fn carry(&self, name: &[u8]) -> Outcome<Option<Carried>> {
        let path = Relative::parse(name).map_err(|error| at(name, &error))?;
        let id = ObjectId::new(name);
        let size = wait_for(name, self.pool.stat(id.clone()))?.size;
        let recorded = Recorded::of(&wait_for(name, self.pool.attrs(id))?);
        let place = self.tree.place(&path, Parents::Make).map_err(|error| of(name, &error))?;
        if recorded.kind == Kind::Directory {
            place.make_directory().map_err(|error| of(name, &error))?;
            let directory = Directory { name: name.to_vec(), recorded };
            self.directories.lock().unwrap_or_else(PoisonError::into_inner).push(directory);
            return Ok(None);
        }
        let there = place.stat().map_err(|error| of(name, &error))?;
        if there.is_some() && self.store.is_some_and(|store| place.leads_to() == Some(store)) {
            return Err(at(name, &"its place is the store itself; refused, it would destroy the store"));
        }
        if there.is_some_and(|stat| self.is_there(&stat, &recorded, size)) {
            self.progress.bytes(size);
            return Ok(Some(Carried::Skipped));
        }
        if recorded.kind == Kind::Symlink {
            self.link(name, size, &recorded, &place)?;
        } else {
            self.file(name, size, &recorded, &place)?;
        }
        Ok(Some(Carried::Done { bytes: size }))
    }

    /// As [`Exporter::carry`], for a name that differs only in case from one that was carried over.
    pub(super) fn carry_similar(&self, name: &[u8]) -> Outcome<Option<Carried>> {
        let path = Relative::parse(name).map_err(|error| at(name, &error))?;
        match self.tree.has_other_name(&path) {
            Ok(true) => Err(at(
                name,
                &"what is in its place has another name, which this file system takes for the same; not exported",
            )),
            Ok(false) => self.carry(name),
            Err(error) => Err(of(name, &error)),
        }
    }

    fn file(&self, name: &[u8], size: u64, recorded: &Recorded, place: &Place<'_, '_>) -> Outcome<()> {
        let mut file = place.create_file().map_err(|error| of(name, &error))?;
        get(self.pool, name, size, |piece| {
            let written = match piece {
                Piece::Data(bytes) => file.write(bytes).map(|()| bytes.len() as u64),
                Piece::Hole(bytes) => file.skip(bytes).map(|()| bytes),
            };
            self.progress.bytes(written.map_err(|error| of(name, &error))?);
            Ok(())
        })?;
        let mode = recorded.mode.unwrap_or(self.usual_mode);
        let rights = self.policy.rights(Some(mode), recorded);
        let lacks = file.finish(&rights, recorded.mtime).map_err(|error| of(name, &error))?;
        self.settle(name, lacks)
    }

    /// Counts set-id bits that were left out; an owner that could not be set is a failure of the object.
    fn settle(&self, name: &[u8], lacks: Lacks) -> Outcome<()> {
        if lacks.set_id {
            self.without_set_id.fetch_add(1, Ordering::Relaxed);
        }
        match lacks.owner {
            None => Ok(()),
            Some(error) => {
                let why = plain(&error);
                Err(at(name, &format!("it is there, but its owner could not be set: {why}; see --no-owner")))
            }
        }
    }

    /// Whether what is in the place is what would be made of the object. A link's own mode means nothing.
    fn is_there(&self, stat: &Stat, recorded: &Recorded, size: u64) -> bool {
        let Ok(posix) = Posix::of(stat) else { return false };
        let has_size = posix.kind == Kind::Directory || u64::try_from(stat.st_size) == Ok(size);
        let rights = self.policy.rights(recorded.mode, recorded);
        let has_mode = posix.kind == Kind::Symlink
            || recorded.mode.is_some_and(|mode| rights.mode_for(mode, stat) == posix.mode);
        let has_owner = !self.policy.gives_owner || recorded.owner.is_none_or(|owner| owner == posix.owner);
        let has_time = recorded.mtime == Some(posix.mtime);
        posix.kind == recorded.kind && has_size && has_mode && has_owner && has_time
    }

    fn link(&self, name: &[u8], size: u64, recorded: &Recorded, place: &Place<'_, '_>) -> Outcome<()> {
        if size == 0 || size > TARGET_BYTES_MAX {
            return Err(at(
                name,
                &format!("is a link to a target of {size} bytes, which no file system takes"),
            ));
        }
        let mut target = Vec::new();
        get(self.pool, name, size, |piece| {
            match piece {
                Piece::Data(bytes) => target.extend_from_slice(bytes),
                // No link leads to a name with zero bytes; the file system refuses it.
                Piece::Hole(_) => target.push(0),
            }
            Ok(())
        })?;
        let owner: Option<Owner> = recorded.owner.filter(|_| self.policy.gives_owner);
        let lacks = place.place_link(&target, recorded.mtime, owner).map_err(|error| of(name, &error))?;
        self.settle(name, lacks)
    }

    /// Sets modes and times of the directories, the deepest first: a mode may forbid to go deeper.
    pub(super) fn finish_directories(&self, run: &Run<'_>) {
        let mut directories =
            std::mem::take(&mut *self.directories.lock().unwrap_or_else(PoisonError::into_inner));
        let depth = |directory: &Directory| directory.name.split(|byte| *byte == b'/').count();
        directories.sort_by_key(|directory| std::cmp::Reverse(depth(directory)));
        for Directory { name, recorded } in directories {
            run.settle(&name, self.finish_directory(&name, &recorded));
        }
    }

    fn finish_directory(&self, name: &[u8], recorded: &Recorded) -> Outcome<Carried> {
        let path = Relative::parse(name).map_err(|error| at(name, &error))?;
        let place = self.tree.place(&path, Parents::MustExist).map_err(|error| of(name, &error))?;
        let there = place.stat().map_err(|error| of(name, &error))?;
        if there.is_some_and(|stat| self.is_there(&stat, recorded, 0)) {
            return Ok(Carried::Skipped);
        }
        let rights = self.policy.rights(recorded.mode, recorded);
        let lacks = place.finish_directory(&rights, recorded.mtime).map_err(|error| of(name, &error))?;
        self.settle(name, lacks)?;
        Ok(Carried::Done { bytes: 0 })
    }
}

/// What is restored besides bytes, modes and times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// Files get the owner and group that they had.
    pub(crate) gives_owner: bool,
    /// Files that have the owner and group that they had get their set-id bits.
    pub(crate) may_set_id: bool,
}

impl Policy {
    /// The usual: root restores owners; set-id bits come only from a store that nobody else could have written.
    pub(crate) fn of(store: &Path) -> Self {
        let user = rustix::process::geteuid();
        let is_own = rustix::fs::stat(store).is_ok_and(|stat| {
            (stat.st_uid == user.as_raw() || stat.st_uid == 0) && stat.st_mode & 0o002 == 0
        });
        Self { gives_owner: user.is_root(), may_set_id: is_own }
    }

    fn rights(self, mode: Option<u32>, recorded: &Recorded) -> Rights {
        let Self { gives_owner, may_set_id } = self;
        Rights { mode, recorded: recorded.owner, gives_owner, may_set_id }
    }
}

/// A failure below the directory: of this object, or, if the file system is full, of all.
fn of(name: &[u8], error: &BeneathError) -> Failure {
    if let BeneathError::Io { doing, error } = error
        && (is_full(error) || error.kind() == ErrorKind::ReadOnlyFilesystem)
    {
        return Failure::io(Path::new(OsStr::from_bytes(name)), doing, error);
    }
    at(name, error)
}
