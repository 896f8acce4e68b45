//! Outfile: a file that a command writes for its user, which takes its name when it is whole.
//!
//! It is written under a temporary name beside its place, in which the old file stays until the new one is whole: a full
//! disk, a corrupt object or a signal leaves the old file as it was. A symbolic link stays and its target is replaced. A
//! file that is replaced gives its mode, and as far as possible its owner, to the new one; it is replaced when the new
//! one is on the disk.
//!
//! What is no regular file (a pipe, a terminal, a block device) is written in place.
//!
//! Crash: a killed process leaves a file whose name begins with `.seabed-part-`.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid, fchown};
use tempfile::NamedTempFile;

use crate::exit::{Failure, Outcome};
use crate::identity::{Identity, is_the_store};

/// Bits of a mode that are kept: new bytes get no set-id bits.
const PLAIN_BITS: u32 = 0o1777;

/// See the module.
pub(crate) struct OutFile {
    path: PathBuf,
    to: To,
}

enum To {
    /// A new file, its place, and the file that is there already.
    Beside { part: NamedTempFile, place: PathBuf, replaces: Option<Box<fs::Metadata>> },
    /// In place, for what is no regular file.
    InPlace(File),
}

impl OutFile {
    /// Begins a file. One that is `store` by another name is refused.
    pub(crate) fn create(path: &Path, store: Option<&Path>) -> Outcome<Self> {
        let failed = |doing| move |error: io::Error| Failure::io(path, doing, &error);
        let store = store.and_then(Identity::of_path);
        let there = match fs::metadata(path) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("opening it")(error)),
        };
        if there.as_ref().is_some_and(|there| !there.is_file()) {
            let file = OpenOptions::new().write(true).open(path).map_err(failed("opening it"))?;
            if store.is_some() && Identity::of_open(&file) == store {
                return Err(is_the_store(path));
            }
            return Ok(Self { path: path.to_owned(), to: To::InPlace(file) });
        }
        // Through links: a link stays what it is, also one to a file that does not exist yet.
        let place = match fs::canonicalize(path) {
            Ok(place) => place,
            Err(_) => end_of_links(path).map_err(failed("following the link"))?,
        };
        if store.is_some() && Identity::of_path(&place) == store {
            return Err(is_the_store(path));
        }
        let above = place.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // A new file may have all rights that the process's mask allows; one that replaces another begins closed.
        let mode = if there.is_some() { 0o600 } else { 0o666 };
        let part = tempfile::Builder::new()
            .prefix(".seabed-part-")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(above)
            .map_err(failed("making a temporary file beside it"))?;
        Ok(Self { path: path.to_owned(), to: To::Beside { part, place, replaces: there.map(Box::new) } })
    }

    fn file(&mut self) -> &mut File {
        match &mut self.to {
            To::Beside { part, .. } => part.as_file_mut(),
            To::InPlace(file) => file,
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Outcome<()> {
        let written = self.file().write_all(bytes);
        written.map_err(|error| Failure::io(&self.path, "writing it", &error))
    }

    /// Leaves out bytes, which read as zeros. Where they cannot be left out they are written.
    pub(crate) fn skip(&mut self, bytes: u64) -> Outcome<()> {
        let skipped = match &mut self.to {
            To::Beside { part, .. } => {
                let relative = i64::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge));
                relative.and_then(|bytes| part.as_file_mut().seek_relative(bytes))
            }
            To::InPlace(file) => zeros(bytes, |zeros| file.write_all(zeros)),
        };
        skipped.map_err(|error| Failure::io(&self.path, "writing it", &error))
    }

    /// Puts the file in its place.
    pub(crate) fn finish(self) -> Outcome<()> {
        let Self { path, to } = self;
        let finished = match to {
            To::InPlace(mut file) => file.flush(),
            To::Beside { part, place, replaces } => finish(part, &place, replaces.as_deref()),
        };
        finished.map_err(|error| Failure::io(&path, "writing it", &error))
    }
}

fn finish(mut part: NamedTempFile, place: &Path, replaces: Option<&fs::Metadata>) -> io::Result<()> {
    let file = part.as_file_mut();
    // The end may have been left out.
    let bytes = file.stream_position()?;
    file.set_len(bytes)?;
    if let Some(old) = replaces {
        let owner = (Some(Uid::from_raw(old.uid())), Some(Gid::from_raw(old.gid())));
        // Best effort: only root gives files away.
        let _ = fchown(file.as_fd(), owner.0, owner.1);
        file.set_permissions(Permissions::from_mode(old.mode() & PLAIN_BITS))?;
        file.sync_all()?;
    }
    part.persist(place).map_err(|error| error.error)?;
    Ok(())
}

/// The path that a chain of links ends with, of which nothing exists yet.
fn end_of_links(path: &Path) -> io::Result<PathBuf> {
    let mut at = path.to_owned();
    for _ in 0..40 {
        match fs::read_link(&at) {
            Ok(target) => at = at.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => return Ok(at),
        }
    }
    Err(io::Error::from_raw_os_error(rustix::io::Errno::LOOP.raw_os_error()))
}

/// Writes zeros in pieces.
pub(crate) fn zeros<E>(mut bytes: u64, mut write: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    while bytes > 0 {
        let piece = usize::try_from(bytes).unwrap_or(usize::MAX).min(ZEROS.len());
        write(&ZEROS[..piece])?;
        bytes -= piece as u64;
    }
    Ok(())
}

/// Writes a whole file, in place of one that has the name.
pub(crate) fn write(path: &Path, store: Option<&Path>, bytes: &[u8]) -> Outcome<()> {
    let mut file = OutFile::create(path, store)?;
    file.write(bytes)?;
    file.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn an_old_file_stays_until_the_new_one_is_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a");
        fs::write(&path, "old").expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(0o4640)).expect("ours");
        let mut file = OutFile::create(&path, None).expect("room");
        file.write(b"new").expect("room");
        assert_eq!(fs::read(&path).expect("there"), b"old");
        drop(file);
        assert_eq!(fs::read(&path).expect("there"), b"old");
        let mut file = OutFile::create(&path, None).expect("room");
        file.write(b"new").expect("room");
        file.skip(100_000).expect("room");
        file.finish().expect("room");
        let mut wanted = b"new".to_vec();
        wanted.resize(100_003, 0);
        assert_eq!(fs::read(&path).expect("there"), wanted);
        // New bytes get no set-id bits.
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 1);
    }

    #[test]
    fn links_stay() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        fs::write(path("a"), "old").expect("a file");
        symlink("a", path("to-a")).expect("a link");
        symlink("b", path("to-b")).expect("a link");
        symlink("loop", path("loop")).expect("a link");
        for (link, file) in [("to-a", "a"), ("to-b", "b")] {
            write(&path(link), None, b"new").expect("room");
            assert!(fs::symlink_metadata(path(link)).expect("there").is_symlink());
            assert_eq!(fs::read(path(file)).expect("there"), b"new");
        }
        assert!(write(&path("loop"), None, b"x").is_err());
        assert!(write(directory.path(), None, b"x").is_err());
        assert!(write(&path("none/a"), None, b"x").is_err());
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 5);
    }

    #[test]
    fn the_store_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        fs::write(path("store"), "precious").expect("a file");
        symlink("store", path("link")).expect("a link");
        for name in ["store", "link"] {
            assert!(OutFile::create(&path(name), Some(&path("store"))).is_err());
        }
        assert_eq!(fs::read(path("store")).expect("there"), b"precious");
    }
}
