//! Compare: whether what was exported from an unfinished import is a part of the tree.
//!
//! Files have the same bytes, links the same target; a directory may lack any of its entries. What the tree does not have
//! must not be there.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// How many names there are below a directory.
pub(super) fn names_in(directory: &Path) -> io::Result<u64> {
    let mut count = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        count += 1;
        if entry.file_type()?.is_dir() {
            count += names_in(&entry.path())?;
        }
    }
    Ok(count)
}

/// How many files of `copy` were compared with those of `tree`, or the first that differs and how.
pub(super) fn is_part_of(copy: &Path, tree: &Path) -> io::Result<Result<u64, (PathBuf, &'static str)>> {
    let mut compared = 0;
    let mut waiting = vec![PathBuf::new()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(copy.join(&directory))? {
            let entry = entry?;
            let name = directory.join(entry.file_name());
            let (mine, theirs) = (entry.path(), tree.join(&name));
            let kind = entry.file_type()?;
            match fs::symlink_metadata(&theirs) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Err((name, "is not in the tree")));
                }
                Err(error) => return Err(error),
                Ok(other) if other.file_type() != kind => return Ok(Err((name, "is of another type"))),
                Ok(_) => {}
            }
            if kind.is_dir() {
                waiting.push(name);
            } else if kind.is_symlink() {
                if fs::read_link(&mine)? != fs::read_link(&theirs)? {
                    return Ok(Err((name, "leads elsewhere")));
                }
            } else if kind.is_file() {
                if !has_same_bytes(&mine, &theirs)? {
                    return Ok(Err((name, "has other bytes")));
                }
                compared += 1;
            }
        }
    }
    Ok(Ok(compared))
}

fn has_same_bytes(one: &Path, two: &Path) -> io::Result<bool> {
    let (mut one, mut two) = (fs::File::open(one)?, fs::File::open(two)?);
    let mut left = one.metadata()?.len();
    if two.metadata()?.len() != left {
        return Ok(false);
    }
    let (mut ours, mut theirs) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    while left > 0 {
        let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(ours.len());
        one.read_exact(&mut ours[..bytes])?;
        two.read_exact(&mut theirs[..bytes])?;
        if ours[..bytes] != theirs[..bytes] {
            return Ok(false);
        }
        left -= bytes as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_told_from_half_a_file() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let (tree, copy) = (root.path().join("tree"), root.path().join("copy"));
        for directory in [tree.join("d"), copy.join("d")] {
            fs::create_dir_all(directory).expect("room for it");
        }
        let write = |root: &Path, name: &str, bytes: &[u8]| {
            fs::write(root.join(name), bytes).expect("room for it");
        };
        write(&tree, "a", b"whole");
        write(&tree, "d/b", b"also");
        write(&copy, "d/b", b"also");
        assert_eq!(is_part_of(&copy, &tree).expect("readable"), Ok(1));
        for (bytes, how) in [(&b"als"[..], "has other bytes"), (b"alsO", "has other bytes")] {
            write(&copy, "d/b", bytes);
            assert_eq!(is_part_of(&copy, &tree).expect("readable"), Err(("d/b".into(), how)));
        }
        write(&copy, "d/b", b"also");
        write(&copy, "c", b"");
        assert_eq!(is_part_of(&copy, &tree).expect("readable"), Err(("c".into(), "is not in the tree")));
    }
}
