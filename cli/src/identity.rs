//! Identity: whether paths and descriptors lead to the same file or block device, however they are called.
//!
//! An output that is the store would destroy it, and a store that is read into itself grows until it is full. Files are
//! compared by device and inode, block devices by their number: a device may have several nodes.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{FileType, OFlags, Stat, fcntl_getfl, fstat, major, minor, stat};

use crate::exit::{Exit, Failure, Outcome};
use crate::names;

/// What a path or descriptor leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Identity {
    File { device: u64, inode: u64 },
    BlockDevice { number: u64 },
}

impl Identity {
    pub(crate) fn of(stat: &Stat) -> Self {
        if FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice {
            Self::BlockDevice { number: stat.st_rdev }
        } else {
            Self::File { device: stat.st_dev, inode: stat.st_ino }
        }
    }

    /// What the path leads to, through links; none if that cannot be found out.
    pub(crate) fn of_path(path: &Path) -> Option<Self> {
        stat(path).ok().map(|stat| Self::of(&stat))
    }

    pub(crate) fn of_open(file: impl AsFd) -> Option<Self> {
        fstat(file).ok().map(|stat| Self::of(&stat))
    }
}

/// Refuses an output that is the store.
pub(crate) fn refuse_output(store: &Path, output: &Path) -> Outcome<()> {
    match Identity::of_path(store) {
        Some(identity) if Identity::of_path(output) == Some(identity) => Err(is_the_store(output)),
        _ => Ok(()),
    }
}

/// Refuses to begin if standard output or standard error is the store: any message would destroy it.
pub(crate) fn refuse_standard_streams(store: &Path) -> Outcome<()> {
    let Some(identity) = Identity::of_path(store) else { return Ok(()) };
    if Identity::of_open(std::io::stderr()) == Some(identity) {
        return Err(Failure::new(Exit::Usage, ""));
    }
    if Identity::of_open(std::io::stdout()) == Some(identity) {
        return Err(Failure::usage(
            "standard output is the store itself; refused, it would destroy the store",
        ));
    }
    Ok(())
}

/// The failure of an output that is the store.
pub(crate) fn is_the_store(output: &Path) -> Failure {
    let shown = names::for_terminal(names::bytes_of(output.as_os_str()));
    Failure::usage(format!("{shown}: is the store itself; refused, writing it would destroy the store"))
}

/// Whether standard output leads nowhere because the process was started with it closed.
///
/// The Rust runtime opens /dev/null for reading and writing in place of a closed descriptor, so that a later file does not
/// get its number. A redirection to /dev/null opens it for writing only.
pub(crate) fn is_stdout_closed() -> bool {
    let stdout = std::io::stdout();
    let is_null = fstat(&stdout).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3)
    });
    is_null && fcntl_getfl(&stdout).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDWR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_of_a_file_are_the_same() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("a"), "x").expect("a file");
        std::fs::write(path("other"), "x").expect("a file");
        std::fs::hard_link(path("a"), path("b")).expect("a link");
        std::os::unix::fs::symlink("a", path("c")).expect("a link");
        for same in ["a", "b", "c", "./a"] {
            assert!(refuse_output(&path("a"), &path(same)).is_err(), "{same}");
        }
        for different in ["other", "none"] {
            assert!(refuse_output(&path("a"), &path(different)).is_ok(), "{different}");
        }
        assert!(refuse_output(&path("none"), &path("none")).is_ok(), "nothing is there that could be lost");
    }
}
