//! Beneath: files under a directory, reached by paths that cannot lead out of it.
//!
//! A path is taken apart first: absolute ones and those with an empty, `.` or `..` component are refused. Then it is
//! walked component by component from an open handle of the directory, following no symbolic link, so that one that
//! was planted there, even while we work, redirects nothing. The last component is never opened through a link either.
//! Where the kernel can do that walk in one call (`openat2`), it is asked first; if it says anything but yes, the walk
//! by components finds out why, or makes what is missing.
//!
//! A file or link is made under a temporary name in its own directory and renamed, so that it is there whole or not at
//! all. The temporary name follows from the final path: what a killed process left is overwritten by the next run.
//!
//! Cost: two system calls for the directory above the file, or two for each component of its path.
//! Not here: durability; what is exported is as safe as what `cp` writes.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_OMIT,
    Uid, chownat, fchmod, fchown, fstat, futimens, mkdirat, open, openat, openat2, readlinkat, renameat,
    statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::identity::Identity;
use crate::posix::{Mtime, Owner};

/// How the names of files that are being written begin.
const TEMPORARY: &str = ".seabed-part-";

/// Why a name is no path that may be used under a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Unsafe {
    #[error("is an absolute path; refused, it would be written elsewhere")]
    Absolute,
    #[error("has an empty component; refused, it is no path of a file")]
    Empty,
    #[error("has a component \".\"; refused, it is another name of another path")]
    Dot,
    #[error("has a component \"..\"; refused, it could lead out of the directory")]
    DotDot,
    #[error("has a zero byte; refused, no file can be called so")]
    Zero,
    #[error("begins like the names of unfinished files (.seabed-part-); refused")]
    Temporary,
}

/// Why something under the directory could not be reached or made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BeneathError {
    #[error(transparent)]
    Unsafe(#[from] Unsafe),
    /// A component above the file is a link.
    #[error("leads through the symbolic link {0}; refused, it could lead out of the directory")]
    ThroughLink(String),
    /// Something else stands where a directory should.
    #[error("{0} is in the way: it is not a directory")]
    NotADirectory(String),
    #[error("{doing}: {}", crate::exit::plain(error))]
    Io { doing: &'static str, error: io::Error },
}

impl BeneathError {
    fn io(doing: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::Io { doing, error: errno.into() }
    }
}

/// A relative path of plain components.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Relative<'a> {
    path: &'a [u8],
}

impl<'a> Relative<'a> {
    pub(crate) fn parse(path: &'a [u8]) -> Result<Self, Unsafe> {
        if path.first() == Some(&b'/') {
            return Err(Unsafe::Absolute);
        }
        if path.contains(&0) {
            return Err(Unsafe::Zero);
        }
        for component in path.split(|byte| *byte == b'/') {
            match component {
                b"" => return Err(Unsafe::Empty),
                b"." => return Err(Unsafe::Dot),
                b".." => return Err(Unsafe::DotDot),
                other if other.starts_with(TEMPORARY.as_bytes()) => return Err(Unsafe::Temporary),
                _ => {}
            }
        }
        Ok(Self { path })
    }

    /// Equal for paths that differ only in case, or in what ends a component and is left out by some file systems.
    pub(crate) fn fold(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for component in self.path.split(|byte| *byte == b'/') {
            let text = String::from_utf8_lossy(component).to_uppercase().to_lowercase();
            text.trim_end_matches(['.', ' ']).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// The path above the last component (empty if there is none), and the last component.
    fn split(&self) -> (&'a [u8], &'a OsStr) {
        match self.path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&self.path[..slash], OsStr::from_bytes(&self.path[slash + 1..])),
            None => (&[], OsStr::from_bytes(self.path)),
        }
    }
}

/// Whether directories on the way are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Parents {
    Make,
    MustExist,
}

/// An open directory.
pub(crate) struct Tree {
    root: OwnedFd,
}

const WALK: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Tree {
    /// The directory itself may be given by a link.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let root = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { root })
    }

    /// The place where `path` is or would be.
    pub(crate) fn place<'a>(
        &self,
        path: &Relative<'a>,
        parents: Parents,
    ) -> Result<Place<'_, 'a>, BeneathError> {
        let (above, last) = path.split();
        let at = if above.is_empty() { None } else { Some(self.descend(above, parents)?) };
        Ok(Place { root: self.root.as_fd(), at, path: path.path, last })
    }

    /// Opens the directory at a path that is not empty.
    fn descend(&self, path: &[u8], parents: Parents) -> Result<OwnedFd, BeneathError> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match openat2(&self.root, OsStr::from_bytes(path), WALK, Mode::empty(), resolve) {
            Ok(directory) => Ok(directory),
            Err(_) => self.descend_by_components(path, parents),
        }
    }

    fn descend_by_components(&self, path: &[u8], parents: Parents) -> Result<OwnedFd, BeneathError> {
        let mut at: Option<OwnedFd> = None;
        for component in path.split(|byte| *byte == b'/') {
            let from = at.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
            at = Some(step(from, OsStr::from_bytes(component), parents)?);
        }
        Ok(at.expect("a path that is not empty has a component"))
    }

    /// Opens a directory of the tree for reading, or the root if the path is empty.
    pub(crate) fn open_directory(&self, path: &[u8]) -> Result<OwnedFd, BeneathError> {
        const FLAGS: OFlags =
            OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
        let doing = BeneathError::io("reading the directory");
        if path.is_empty() {
            return openat(&self.root, ".", FLAGS, Mode::empty()).map_err(doing);
        }
        let at = self.descend(path, Parents::MustExist)?;
        openat(&at, ".", FLAGS, Mode::empty()).map_err(doing)
    }
}

impl Tree {
    /// Whether what is at a path has another name, which the file system takes for this one.
    ///
    /// Directories are listed, since the inode does not tell: some file systems number each name that was looked up.
    pub(crate) fn has_other_name(&self, path: &Relative<'_>) -> Result<bool, BeneathError> {
        let doing = "reading the directory";
        let mut above = 0;
        for component in path.path.split(|byte| *byte == b'/') {
            let directory = self.open_directory(&path.path[..above.max(1) - 1])?;
            match statat(&directory, OsStr::from_bytes(component), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => {}
                Err(Errno::NOENT) => return Ok(false),
                Err(errno) => return Err(BeneathError::io("looking at it")(errno)),
            }
            let mut is_listed = false;
            for found in Dir::new(directory).map_err(BeneathError::io(doing))? {
                let found = found.map_err(BeneathError::io(doing))?;
                is_listed |= found.file_name().to_bytes() == component;
            }
            if !is_listed {
                return Ok(true);
            }
            above += component.len() + 1;
        }
        Ok(false)
    }
}

/// One step down, not through a link.
fn step(from: BorrowedFd<'_>, component: &OsStr, parents: Parents) -> Result<OwnedFd, BeneathError> {
    let shown = || crate::names::quoted(component.as_bytes());
    let mut outcome = openat(from, component, WALK, Mode::empty());
    if outcome.as_ref().err() == Some(&Errno::NOENT) && parents == Parents::Make {
        match mkdirat(from, component, Mode::from_raw_mode(0o777)) {
            // Another thread may have made it a moment ago.
            Ok(()) | Err(Errno::EXIST) => outcome = openat(from, component, WALK, Mode::empty()),
            Err(errno) => return Err(BeneathError::io("making the directory above it")(errno)),
        }
    }
    match outcome {
        Ok(next) => Ok(next),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            let is_link = statat(from, component, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
            Err(if is_link {
                BeneathError::ThroughLink(shown())
            } else {
                BeneathError::NotADirectory(shown())
            })
        }
        Err(errno) => Err(BeneathError::io("opening the directory above it")(errno)),
    }
}

/// Where a path ends: a directory that is open, and a name in it.
pub(crate) struct Place<'t, 'a> {
    root: BorrowedFd<'t>,
    /// None: the root.
    at: Option<OwnedFd>,
    path: &'a [u8],
    last: &'a OsStr,
}

impl Place<'_, '_> {
    fn parent(&self) -> BorrowedFd<'_> {
        self.at.as_ref().map_or(self.root, AsFd::as_fd)
    }

    /// What is there, itself if it is a link.
    pub(crate) fn stat(&self) -> Result<Option<Stat>, BeneathError> {
        match statat(self.parent(), self.last, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(BeneathError::io("looking at it")(errno)),
        }
    }

    /// What is there, through a link; none if that cannot be found out.
    pub(crate) fn leads_to(&self) -> Option<Identity> {
        statat(self.parent(), self.last, AtFlags::empty()).ok().map(|stat| Identity::of(&stat))
    }

    /// Opens a file for reading. Never waits, should a fifo have taken its place.
    pub(crate) fn open_file(&self) -> Result<File, BeneathError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file =
            openat(self.parent(), self.last, flags, Mode::empty()).map_err(BeneathError::io("opening it"))?;
        Ok(File::from(file))
    }

    /// The target of a link.
    pub(crate) fn read_link(&self) -> Result<Vec<u8>, BeneathError> {
        let target =
            readlinkat(self.parent(), self.last, Vec::new()).map_err(BeneathError::io("reading the link"))?;
        Ok(target.into_bytes())
    }

    /// Makes a directory, for now one that only its owner may use; one that is there already is as good.
    pub(crate) fn make_directory(&self) -> Result<(), BeneathError> {
        match mkdirat(self.parent(), self.last, Mode::RWXU) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => match self.stat()? {
                Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Ok(()),
                _ => Err(BeneathError::NotADirectory(crate::names::quoted(self.last.as_bytes()))),
            },
            Err(errno) => Err(BeneathError::io("making the directory")(errno)),
        }
    }

    /// Sets mode and time of a directory, when nothing is added to it any more.
    pub(crate) fn finish_directory(
        &self,
        rights: &Rights,
        mtime: Option<Mtime>,
    ) -> Result<Lacks, BeneathError> {
        // Through a descriptor, since a mode cannot be set without following a link that stands there.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(self.parent(), self.last, flags, Mode::empty())
            .map_err(BeneathError::io("opening the directory"))?;
        finish(directory.as_fd(), rights, mtime)
    }

    /// A new file that takes this place when it is finished.
    pub(crate) fn create_file(&self) -> Result<PartFile<'_>, BeneathError> {
        let name = self.temporary_name();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.retry_without_leftover(&name, "making a temporary file", || {
            openat(self.parent(), &*name, flags, Mode::RUSR | Mode::WUSR)
        })?;
        Ok(PartFile {
            file: File::from(file),
            part: Part { parent: self.parent(), name, is_placed: false },
            last: self.last,
        })
    }

    /// Makes a link and puts it in this place.
    pub(crate) fn place_link(
        &self,
        target: &[u8],
        mtime: Option<Mtime>,
        owner: Option<Owner>,
    ) -> Result<Lacks, BeneathError> {
        let name = self.temporary_name();
        self.retry_without_leftover(&name, "making the link", || {
            symlinkat(OsStr::from_bytes(target), self.parent(), &*name)
        })?;
        let part = Part { parent: self.parent(), name, is_placed: false };
        let mut lacks = Lacks::default();
        if let Some(owner) = owner {
            let (user, group) = (Uid::from_raw(owner.user), Gid::from_raw(owner.group));
            let owned = chownat(part.parent, &*part.name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW);
            lacks.owner = owned.err().map(Into::into);
        }
        if let Some(mtime) = mtime {
            utimensat(part.parent, &*part.name, &timestamps(mtime), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(BeneathError::io("setting the time of the link"))?;
        }
        part.place(self.last)?;
        Ok(lacks)
    }

    /// Carries out what makes a new name; if a killed run has left that name, once more without it.
    fn retry_without_leftover<T>(
        &self,
        name: &str,
        doing: &'static str,
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T, BeneathError> {
        let mut outcome = make();
        if outcome.as_ref().err() == Some(&Errno::EXIST) {
            unlinkat(self.parent(), name, AtFlags::empty())
                .map_err(BeneathError::io("removing an unfinished file"))?;
            outcome = make();
        }
        outcome.map_err(BeneathError::io(doing))
    }

    fn temporary_name(&self) -> String {
        // No secret is needed: names that begin so are refused, and a file that stands there is removed, not used.
        let mut hasher = DefaultHasher::new();
        self.path.hash(&mut hasher);
        format!("{TEMPORARY}{:016x}", hasher.finish())
    }
}

/// A temporary name, removed unless it took its place.
struct Part<'p> {
    parent: BorrowedFd<'p>,
    name: String,
    is_placed: bool,
}

impl Part<'_> {
    fn place(mut self, last: &OsStr) -> Result<(), BeneathError> {
        renameat(self.parent, &*self.name, self.parent, last).map_err(|errno| match errno {
            Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST => {
                BeneathError::Io { doing: "a directory is in the way", error: errno.into() }
            }
            other => BeneathError::io("renaming it into place")(other),
        })?;
        self.is_placed = true;
        Ok(())
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        if !self.is_placed {
            // Best effort: the next run removes it too.
            let _ = unlinkat(self.parent, &*self.name, AtFlags::empty());
        }
    }
}

/// A file that is being written.
pub(crate) struct PartFile<'p> {
    file: File,
    part: Part<'p>,
    last: &'p OsStr,
}

impl PartFile<'_> {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), BeneathError> {
        io::Write::write_all(&mut self.file, bytes)
            .map_err(|error| BeneathError::Io { doing: "writing it", error })
    }

    /// Leaves out bytes, which read as zeros.
    pub(crate) fn skip(&mut self, bytes: u64) -> Result<(), BeneathError> {
        let skipped = i64::try_from(bytes)
            .map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))
            .and_then(|bytes| io::Seek::seek_relative(&mut self.file, bytes))
            .and_then(|()| io::Seek::stream_position(&mut self.file))
            .and_then(|end| self.file.set_len(end));
        skipped.map_err(|error| BeneathError::Io { doing: "writing it", error })
    }

    /// Writes at an offset; what is left out on the way reads as zeros.
    pub(crate) fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), BeneathError> {
        std::os::unix::fs::FileExt::write_all_at(&self.file, bytes, offset)
            .map_err(|error| BeneathError::Io { doing: "writing it", error })
    }

    /// Makes it this long; what was not written reads as zeros.
    pub(crate) fn set_bytes(&mut self, bytes: u64) -> Result<(), BeneathError> {
        self.file
            .set_len(bytes)
            .map_err(|error| BeneathError::Io { doing: "making it as long as it was", error })
    }

    /// Sets owner, mode and time and puts it in its place.
    pub(crate) fn finish(self, rights: &Rights, mtime: Option<Mtime>) -> Result<Lacks, BeneathError> {
        let lacks = finish(self.file.as_fd(), rights, mtime)?;
        self.part.place(self.last)?;
        Ok(lacks)
    }
}

/// Set-user-ID and set-group-ID.
const SET_ID_BITS: u32 = 0o6000;

/// Mode and owner that a file or directory is to have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rights {
    pub(crate) mode: Option<u32>,
    /// The owner that the mode was made for.
    pub(crate) recorded: Option<Owner>,
    /// Whether to make that the owner.
    pub(crate) gives_owner: bool,
    /// Whether a file may get set-id bits, which it does only if it has the recorded owner.
    pub(crate) may_set_id: bool,
}

/// What could not be restored.
#[derive(Default, Debug)]
pub(crate) struct Lacks {
    pub(crate) owner: Option<io::Error>,
    pub(crate) set_id: bool,
}

impl Rights {
    /// A mode without set-id bits.
    pub(crate) fn plain(mode: u32) -> Self {
        Self { mode: Some(mode), recorded: None, gives_owner: false, may_set_id: false }
    }

    /// The mode for a file that has this owner now. On a directory set-id bits give no rights.
    pub(crate) fn mode_for(&self, mode: u32, stat: &Stat) -> u32 {
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let is_owned = self.recorded == Some(Owner::of(stat));
        if is_directory || (self.may_set_id && is_owned) { mode } else { mode & !SET_ID_BITS }
    }
}

/// Owner first, as a change of it takes set-id bits away, and these follow from it. Mode before the time: only a file of
/// one's own can have its time set once it may not be written.
fn finish(fd: BorrowedFd<'_>, rights: &Rights, mtime: Option<Mtime>) -> Result<Lacks, BeneathError> {
    let mut lacks = Lacks::default();
    if let (true, Some(owner)) = (rights.gives_owner, rights.recorded) {
        let owned = fchown(fd, Some(Uid::from_raw(owner.user)), Some(Gid::from_raw(owner.group)));
        lacks.owner = owned.err().map(Into::into);
    }
    if let Some(mode) = rights.mode {
        let stat = fstat(fd).map_err(BeneathError::io("looking at it"))?;
        let (wanted, mode) = (mode, rights.mode_for(mode, &stat));
        lacks.set_id = mode != wanted;
        fchmod(fd, Mode::from_raw_mode(mode)).map_err(BeneathError::io("setting its mode"))?;
    }
    if let Some(mtime) = mtime {
        futimens(fd, &timestamps(mtime)).map_err(BeneathError::io("setting its time"))?;
    }
    Ok(lacks)
}

fn timestamps(mtime: Mtime) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() },
    }
}

/// The mode that a new file gets: all may read and write it but for what the process's mask takes away.
pub(crate) fn usual_file_mode() -> u32 {
    // The mask can only be read by setting it; no other thread makes files while it is not itself.
    let mask = rustix::process::umask(Mode::empty());
    rustix::process::umask(mask);
    0o666 & !mask.as_raw_mode()
}

/// Makes a directory and those above it.
pub(crate) fn make_root(path: &Path) -> io::Result<()> {
    match mkdirat(CWD, path, Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(_) => std::fs::create_dir_all(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn paths_that_could_lead_elsewhere_are_refused() {
        for (path, why) in [
            (&b"/etc/passwd"[..], Unsafe::Absolute),
            (b"/", Unsafe::Absolute),
            (b"", Unsafe::Empty),
            (b"a//b", Unsafe::Empty),
            (b"a/", Unsafe::Empty),
            (b".", Unsafe::Dot),
            (b"a/./b", Unsafe::Dot),
            (b"..", Unsafe::DotDot),
            (b"a/../../b", Unsafe::DotDot),
            (b"a/..", Unsafe::DotDot),
            (b"a\0b", Unsafe::Zero),
            (b"a/.seabed-part-00", Unsafe::Temporary),
        ] {
            assert_eq!(Relative::parse(path), Err(why), "{path:?}");
        }
        for path in [&b"a"[..], b"a/b/c", b"...", b"a/..b/c..", b".hidden", b"\xff/\n"] {
            assert!(Relative::parse(path).is_ok(), "{path:?}");
        }
    }

    fn tree() -> (tempfile::TempDir, Tree) {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("inside")).expect("a directory");
        fs::create_dir(directory.path().join("outside")).expect("a directory");
        let tree = Tree::open(&directory.path().join("inside")).expect("it is there");
        (directory, tree)
    }

    #[test]
    fn a_link_on_the_way_is_refused() {
        let (directory, tree) = tree();
        symlink("../outside", directory.path().join("inside/link")).expect("a link");
        fs::write(directory.path().join("inside/file"), "x").expect("a file");
        for parents in [Parents::Make, Parents::MustExist] {
            let through = |path: &'static [u8]| {
                tree.place(&Relative::parse(path).expect("plain"), parents).map(|_| ()).expect_err("refused")
            };
            assert!(matches!(through(b"link/a"), BeneathError::ThroughLink(_)));
            assert!(matches!(through(b"link/a/b"), BeneathError::ThroughLink(_)));
            assert!(matches!(through(b"file/a"), BeneathError::NotADirectory(_)));
        }
        assert!(tree.open_directory(b"link").is_err());
        assert_eq!(fs::read_dir(directory.path().join("outside")).expect("readable").count(), 0);
    }

    #[test]
    fn both_ways_down_lead_to_the_same_place() {
        let (directory, tree) = tree();
        fs::create_dir_all(directory.path().join("inside/a/b")).expect("directories");
        let inode = |fd: OwnedFd| rustix::fs::fstat(fd).expect("open").st_ino;
        let at_once = inode(tree.descend(b"a/b", Parents::MustExist).expect("there"));
        let by_components = inode(tree.descend_by_components(b"a/b", Parents::MustExist).expect("there"));
        let wanted = fs::metadata(directory.path().join("inside/a/b")).expect("there").ino();
        assert_eq!([at_once, by_components], [wanted; 2]);
    }

    #[test]
    fn a_link_in_the_place_is_replaced_and_not_followed() {
        let (directory, tree) = tree();
        let victim = directory.path().join("outside/victim");
        fs::write(&victim, "precious").expect("a file");
        symlink("../outside/victim", directory.path().join("inside/a")).expect("a link");
        let path = Relative::parse(b"a").expect("plain");
        let place = tree.place(&path, Parents::Make).expect("a place");
        assert!(place.open_file().is_err(), "reading follows no link");
        assert!(place.finish_directory(&Rights::plain(0o777), None).is_err());
        let mut file = place.create_file().expect("a file");
        file.write(b"new").expect("room");
        let own = Owner::of(&rustix::fs::stat(directory.path()).expect("there"));
        let rights = Rights { recorded: Some(own), may_set_id: true, ..Rights::plain(0o4751) };
        file.finish(&rights, Some(Mtime { seconds: -1, nanoseconds: 5 })).expect("renamed");
        assert_eq!(fs::read_to_string(&victim).expect("untouched"), "precious");
        let metadata = fs::symlink_metadata(directory.path().join("inside/a")).expect("there");
        assert!(metadata.is_file());
        assert_eq!(
            (metadata.permissions().mode() & 0o7777, metadata.mtime(), metadata.mtime_nsec()),
            (0o4751, -1, 5)
        );
        place
            .place_link(b"../outside/victim", Some(Mtime { seconds: 7, nanoseconds: 8 }), None)
            .expect("a link");
        let metadata = fs::symlink_metadata(directory.path().join("inside/a")).expect("there");
        assert!(metadata.is_symlink());
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (7, 8));
    }

    #[test]
    fn an_unfinished_file_leaves_nothing_and_a_leftover_is_no_hindrance() {
        let (directory, tree) = tree();
        let path = Relative::parse(b"deep/er/file").expect("plain");
        let place = tree.place(&path, Parents::Make).expect("made");
        fs::write(directory.path().join("inside/deep/er").join(place.temporary_name()), "left")
            .expect("a leftover");
        let mut file = place.create_file().expect("a file");
        file.write(b"x").expect("room");
        drop(file);
        assert_eq!(fs::read_dir(directory.path().join("inside/deep/er")).expect("readable").count(), 0);
    }

    #[test]
    fn what_is_in_the_way_is_not_removed() {
        let (directory, tree) = tree();
        fs::create_dir(directory.path().join("inside/a")).expect("a directory");
        fs::write(directory.path().join("inside/f"), "x").expect("a file");
        let (a, f) = (Relative::parse(b"a").expect("plain"), Relative::parse(b"f").expect("plain"));
        let place = tree.place(&a, Parents::Make).expect("a place");
        assert!(place.create_file().expect("a file").finish(&Rights::plain(0o644), None).is_err());
        assert!(place.place_link(b"x", None, None).is_err());
        assert_eq!(fs::read_dir(directory.path().join("inside")).expect("readable").count(), 2);
        let place = tree.place(&f, Parents::Make).expect("a place");
        assert!(matches!(place.make_directory(), Err(BeneathError::NotADirectory(_))));
    }
}
