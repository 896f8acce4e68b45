//! Cleanup: temporary directories that go with the process, however it ends.
//!
//! A directory is removed when its owner drops it. A second signal and, in builds that abort on one, a panic end the
//! process without dropping anything: they call [`run`] first.
//!
//! Not here: SIGKILL and the abort of an allocation that fails leave them behind.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How often a removal is tried, as threads may still make files in it.
const TRIES: usize = 10;

static DIRECTORIES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A directory that [`run`] removes until this is dropped.
pub(crate) struct Registered {
    path: PathBuf,
}

/// Makes a directory and registers it, as one step for [`run`].
pub(crate) fn register<T: AsRef<Path>>(make: impl FnOnce() -> io::Result<T>) -> io::Result<(T, Registered)> {
    let mut directories = directories();
    let made = make()?;
    // The process may have another working directory later.
    let path = fs::canonicalize(made.as_ref()).unwrap_or_else(|_| made.as_ref().to_owned());
    directories.push(path.clone());
    Ok((made, Registered { path }))
}

impl Drop for Registered {
    fn drop(&mut self) {
        directories().retain(|path| *path != self.path);
    }
}

/// Removes all that is registered. To be called right before the process ends.
pub(crate) fn run() {
    for path in directories().drain(..) {
        for _ in 0..TRIES {
            unlock(&path);
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {}
                _ => break,
            }
        }
    }
}

/// Gives the directories back the permissions that removing what is in them takes.
pub(crate) fn unlock(directory: &Path) {
    // Best effort: what could not be done shows when it is removed.
    let _ = fs::set_permissions(directory, Permissions::from_mode(0o700));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            unlock(&entry.path());
        }
    }
}

fn directories() -> MutexGuard<'static, Vec<PathBuf>> {
    // Poison says that a thread panicked while it pushed or removed: the list is whole anyway.
    DIRECTORIES.lock().unwrap_or_else(PoisonError::into_inner)
}
