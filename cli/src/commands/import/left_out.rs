//! What an import leaves out: properties of files that objects do not keep, counted so that none is dropped silently.
//!
//! Extended attributes (ACLs and capabilities are extended attributes too) and further hard links. A file with several
//! names becomes one object for each name. The label of SELinux is not counted: it belongs to the system, not to the file.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Stat, flistxattr};

use crate::posix::Kind;

/// Counts of what was left out.
#[derive(Default)]
pub(super) struct LeftOut {
    attributes: AtomicU64,
    links: AtomicU64,
}

impl LeftOut {
    /// Counts what a file or directory has that its object will not have.
    pub(super) fn look(&self, kind: Kind, fd: impl AsFd, stat: &Stat) {
        if kind != Kind::Directory && stat.st_nlink > 1 {
            self.links.fetch_add(1, Ordering::Relaxed);
        }
        if has_attributes(fd) {
            self.attributes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines for people; none if nothing was left out.
    pub(super) fn lines(&self) -> Vec<String> {
        let counts = [
            (
                &self.attributes,
                "with extended attributes (such as ACLs and capabilities), which are not stored",
            ),
            (&self.links, "with several hard links, each stored as an object of its own"),
        ];
        counts
            .into_iter()
            .map(|(count, what)| (count.load(Ordering::Relaxed), what))
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("seabed: {count} files {what}"))
            .collect()
    }
}

/// Whether there are any but the label of SELinux. A file system without extended attributes has none.
fn has_attributes(fd: impl AsFd) -> bool {
    let mut names = vec![0_u8; 1024];
    loop {
        match flistxattr(&fd, &mut names) {
            Ok(bytes) => {
                let mut names = names[..bytes].split(|byte| *byte == 0).filter(|name| !name.is_empty());
                return names.any(|name| name != b"security.selinux");
            }
            // The kernel's limit for all names of a file is 64 KiB.
            Err(rustix::io::Errno::RANGE) if names.len() < 64 << 10 => names.resize(names.len() * 2, 0),
            Err(_) => return false,
        }
    }
}
