//! Acknowledgement log: the names of the objects that are durable, one a line, in a file that outlives the process.
//!
//! Each name is one write to a file opened for appending, with no buffer of ours between, so that after a kill every
//! name in the file is in the store. Newlines and backslashes in names are escaped. A skipped entry is in it too: its
//! object is durable.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::exit::{Failure, Outcome};
use crate::identity::{Identity, is_the_store};
use crate::names;

/// See the module.
pub(crate) struct AckLog {
    file: File,
    path: PathBuf,
}

impl AckLog {
    /// Opens or creates the log; the store of the import is refused.
    pub(crate) fn open(path: &Path, store: &Path) -> Outcome<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file = file.map_err(|error| Failure::io(path, "opening the log", &error))?;
        if Identity::of_path(store).is_some_and(|store| Identity::of_open(&file) == Some(store)) {
            return Err(is_the_store(path));
        }
        Ok(Self { file, path: path.to_owned() })
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        Identity::of_open(&self.file)
    }

    pub(crate) fn append(&self, name: &[u8]) -> Outcome<()> {
        let failed = |error| Failure::io(&self.path, "appending to the log", &error);
        (&self.file).write_all(&names::to_line(name)).map_err(failed)
    }
}
