//! Acknowledgement log: the names of the objects that are durable, one a line, in a file that outlives the process.
//!
//! Each name is one write to a file opened for appending, with no buffer of ours between, so that after a kill every
//! name in the file is in the store. Newlines and backslashes in names are escaped. A skipped entry is in it too: its
//! object is durable.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::exit::{Failure, Outcome};
use crate::names;

/// See the module.
pub(crate) struct AckLog {
    file: File,
    path: PathBuf,
}

impl AckLog {
    pub(crate) fn open(path: &Path) -> Outcome<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file = file.map_err(|error| Failure::io(path, "opening the log", &error))?;
        Ok(Self { file, path: path.to_owned() })
    }

    pub(crate) fn append(&self, name: &[u8]) -> Outcome<()> {
        let failed = |error| Failure::io(&self.path, "appending to the log", &error);
        (&self.file).write_all(&names::to_line(name)).map_err(failed)
    }
}
