//! Posix: what a file system knows of a file besides its bytes, as attributes of an object.
//!
//! | attribute | value |
//! |---|---|
//! | `posix.type` | `file`, `directory` or `symlink` |
//! | `posix.mode` | permission bits in octal with setuid, setgid and sticky: `0644`, `4755` |
//! | `posix.uid`, `posix.gid` | numbers of owner and group |
//! | `posix.mtime` | seconds since 1970 and nine digits of nanoseconds: `1700000000.000000001` |
//!
//! Before 1970 the seconds are negative and the nanoseconds still count forward, as in the kernel: half a second before
//! 1970 is `-1.500000000`. A symbolic link's bytes are its target, a directory has none.
//!
//! An object without these attributes, made by `put` or by a program, is a file of the usual mode and no known time.

use bytes::Bytes;
use rustix::fs::{FileType, Stat};

const TYPE: &[u8] = b"posix.type";
const MODE: &[u8] = b"posix.mode";
const MTIME: &[u8] = b"posix.mtime";
const UID: &[u8] = b"posix.uid";
const GID: &[u8] = b"posix.gid";

/// The bits that a mode has besides the type.
const MODE_BITS: u32 = 0o7777;

/// What kind of file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
}

/// Seconds and nanoseconds as the kernel has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mtime {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// Owner and group by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owner {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

impl Owner {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self { user: stat.st_uid, group: stat.st_gid }
    }
}

/// Type, mode, time and owner of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Posix {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) mtime: Mtime,
    pub(crate) owner: Owner,
}

/// What an object's attributes say; what they do not say, or not in a way that can be read, is `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Recorded {
    pub(crate) kind: Kind,
    pub(crate) mode: Option<u32>,
    pub(crate) mtime: Option<Mtime>,
    pub(crate) owner: Option<Owner>,
}

impl Posix {
    /// Of a file, directory or link; of a device, socket or fifo what it is.
    pub(crate) fn of(stat: &Stat) -> Result<Self, &'static str> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => return Err("is a fifo"),
            FileType::Socket => return Err("is a socket"),
            FileType::CharacterDevice => return Err("is a character device"),
            FileType::BlockDevice => return Err("is a block device"),
            FileType::Unknown => return Err("is of a type that is not known"),
        };
        let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        let mtime = Mtime { seconds: stat.st_mtime, nanoseconds };
        Ok(Self { kind, mode: stat.st_mode & MODE_BITS, mtime, owner: Owner::of(stat) })
    }

    pub(crate) fn to_attributes(self) -> Vec<(Vec<u8>, Bytes)> {
        let kind: &'static [u8] = match self.kind {
            Kind::File => b"file",
            Kind::Directory => b"directory",
            Kind::Symlink => b"symlink",
        };
        let mtime = format!("{}.{:09}", self.mtime.seconds, self.mtime.nanoseconds);
        vec![
            (TYPE.to_vec(), Bytes::from_static(kind)),
            (MODE.to_vec(), Bytes::from(format!("{:04o}", self.mode))),
            (MTIME.to_vec(), Bytes::from(mtime)),
            (UID.to_vec(), Bytes::from(self.owner.user.to_string())),
            (GID.to_vec(), Bytes::from(self.owner.group.to_string())),
        ]
    }

    /// Whether an object's attributes say just this.
    pub(crate) fn is(&self, recorded: &Recorded) -> bool {
        self.kind == recorded.kind
            && Some(self.mode) == recorded.mode
            && Some(self.mtime) == recorded.mtime
            && Some(self.owner) == recorded.owner
    }
}

impl Recorded {
    pub(crate) fn of<N: AsRef<[u8]>>(attributes: &[(N, Bytes)]) -> Self {
        let find = |wanted: &[u8]| {
            let found = attributes.iter().find(|(name, _)| name.as_ref() == wanted);
            found.and_then(|(_, value)| std::str::from_utf8(value).ok())
        };
        let kind = match find(TYPE) {
            Some("directory") => Kind::Directory,
            Some("symlink") => Kind::Symlink,
            _ => Kind::File,
        };
        let mode = find(MODE).and_then(|text| u32::from_str_radix(text, 8).ok());
        // The largest number means "leave it" to chown.
        let id = |name| find(name).and_then(|text| text.parse().ok()).filter(|id| *id != u32::MAX);
        let owner = id(UID).zip(id(GID)).map(|(user, group)| Owner { user, group });
        let mode = mode.filter(|mode| *mode <= MODE_BITS);
        Self { kind, mode, mtime: find(MTIME).and_then(parse_mtime), owner }
    }
}

fn parse_mtime(text: &str) -> Option<Mtime> {
    let (seconds, nanoseconds) = text.split_once('.')?;
    if nanoseconds.len() != 9 || !nanoseconds.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Mtime { seconds: seconds.parse().ok()?, nanoseconds: nanoseconds.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_give_back_what_was_recorded() {
        for kind in [Kind::File, Kind::Directory, Kind::Symlink] {
            for (mode, seconds, nanoseconds) in
                [(0o644, 0, 0), (0o7777, -1, 500_000_000), (0, i64::MAX, 999_999_999), (0o4755, i64::MIN, 1)]
            {
                let owner = Owner { user: mode, group: u32::MAX - 1 };
                let posix = Posix { kind, mode, mtime: Mtime { seconds, nanoseconds }, owner };
                let recorded = Recorded::of(&posix.to_attributes());
                assert!(posix.is(&recorded), "{posix:?} {recorded:?}");
                let other = Posix { mode: mode ^ 1, ..posix };
                assert!(!other.is(&recorded));
            }
        }
    }

    #[test]
    fn attributes_of_others_are_read_with_care() {
        let none = Recorded { kind: Kind::File, mode: None, mtime: None, owner: None };
        assert_eq!(Recorded::of::<Vec<u8>>(&[]), none);
        let given = |name: &[u8], value: &'static str| {
            Recorded::of(&[(name.to_vec(), Bytes::from_static(value.as_bytes()))])
        };
        for value in ["", "1", "1.5", "1.0000000000", "1.-00000001", "x.000000000", "1.00000000x"] {
            assert_eq!(given(MTIME, value), none, "{value}");
        }
        for value in ["", "999", "-1", "10000", "77777777777777"] {
            assert_eq!(given(MODE, value), none, "{value}");
        }
        assert_eq!(given(TYPE, "fifo"), none);
        for value in ["", "-1", "4294967295", "4294967296", "root"] {
            let pair = |name: &[u8]| (name.to_vec(), Bytes::from_static(value.as_bytes()));
            assert_eq!(Recorded::of(&[pair(UID), pair(GID)]), none, "{value}");
        }
        assert_eq!(given(UID, "0"), none, "an owner without a group");
    }
}
