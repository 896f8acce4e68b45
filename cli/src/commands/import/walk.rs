//! Walk: the entries of a directory tree, each by its path relative to the root.
//!
//! A directory comes before what is in it; there is no other order. No symbolic link is followed. What cannot be read is
//! told, and the walk goes on beside it.
//!
//! Limits: memory for the directories found and not read yet.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Dir, FileType, statat};

use crate::beneath::Tree;
use crate::identity::Identity;
use crate::names;

/// Gives each entry to `entry`, which says whether to go on, and what could not be read to `failed`. The directory
/// `left_out` is passed over, with all that is in it.
pub(crate) fn walk(
    tree: &Tree,
    left_out: Option<Identity>,
    mut entry: impl FnMut(Vec<u8>) -> bool,
    mut failed: impl FnMut(&[u8], String),
) {
    let mut waiting = vec![Vec::new()];
    while let Some(directory) = waiting.pop() {
        let mut tell = |what: String| failed(&directory, format!("{}: {what}", shown(&directory)));
        let mut listing = match open(tree, &directory) {
            Ok(listing) => listing,
            Err(what) => {
                tell(what);
                continue;
            }
        };
        while let Some(found) = listing.read() {
            let found = match found {
                Ok(found) => found,
                Err(errno) => {
                    tell(format!("reading the directory: {}", crate::exit::plain(&errno.into())));
                    break;
                }
            };
            let name = found.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let path = join(&directory, name.to_bytes());
            if is_directory(&listing, &found) {
                if is_left_out(&listing, &found, left_out) {
                    continue;
                }
                waiting.push(path.clone());
            }
            if !entry(path) {
                return;
            }
        }
    }
}

/// Counts what [`walk`] gives, and the bytes of the files; none if told to stop.
pub(crate) fn count(
    tree: &Tree,
    left_out: Option<Identity>,
    is_over: impl Fn() -> bool,
) -> Option<(u64, u64)> {
    let (mut items, mut bytes) = (0, 0);
    let mut waiting = vec![Vec::new()];
    while let Some(directory) = waiting.pop() {
        let Ok(mut listing) = open(tree, &directory) else { continue };
        while let Some(Ok(found)) = listing.read() {
            let name = found.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if is_over() {
                return None;
            }
            if is_left_out(&listing, &found, left_out) {
                continue;
            }
            items += 1;
            if is_directory(&listing, &found) {
                waiting.push(join(&directory, name.to_bytes()));
            } else if let Ok(stat) = listing.fd().and_then(|fd| statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)) {
                bytes += u64::try_from(stat.st_size).unwrap_or(0);
            }
        }
    }
    Some((items, bytes))
}

fn open(tree: &Tree, directory: &[u8]) -> Result<Dir, String> {
    let fd = tree.open_directory(directory).map_err(|error| error.to_string())?;
    Dir::new(fd).map_err(|errno| format!("reading the directory: {}", crate::exit::plain(&errno.into())))
}

fn is_directory(listing: &Dir, found: &rustix::fs::DirEntry) -> bool {
    match found.file_type() {
        FileType::Directory => true,
        // Some file systems do not say; a look at the entry does.
        FileType::Unknown => listing
            .fd()
            .and_then(|fd| statat(fd.as_fd(), found.file_name(), AtFlags::SYMLINK_NOFOLLOW))
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
        FileType::RegularFile
        | FileType::Symlink
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice => false,
    }
}

/// Whether an entry is what is left out, however it is called.
fn is_left_out(listing: &Dir, found: &rustix::fs::DirEntry, left_out: Option<Identity>) -> bool {
    left_out.is_some_and(|left_out| {
        let stat = listing.fd().and_then(|fd| statat(fd, found.file_name(), AtFlags::SYMLINK_NOFOLLOW));
        stat.is_ok_and(|stat| Identity::of(&stat) == left_out)
    })
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// How messages call a directory.
fn shown(directory: &[u8]) -> String {
    names::quoted(if directory.is_empty() { b"." } else { directory })
}
