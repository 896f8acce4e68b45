//! Hostile tree: a directory of files as a backup would rather not meet them, the same for the same seed.
//!
//! Sizes are log-normal, so that most files are small and a few hold much of the bytes; a tenth are empty, a fifth tiny,
//! some end beside a block or a bulk boundary, some have a hole. Names have every byte that a name may have, up to 255 of
//! them. Directories are deep, wide or empty. Symlinks are relative, dangling, absolute, loops, or lead to directories.
//! Some files have several names. Modes and times are varied, times have nanoseconds and a few lie before 1970. The bytes
//! of the files do not compress.
//!
//! All choices are made by one generator in one order, so a tree depends on its options only; modes and times of
//! directories are set last, when nothing is added to them any more.
//!
//! Limits: paths relative to the root have at most 1,900 bytes; directories are at most 60 deep.
//! Not here: owners, extended attributes, devices and sockets, which take rights or a file system that not all have.

mod names;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use names::name;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

const PATH_BYTES_MAX: usize = 1900;
const DEPTH_MAX: usize = 60;
const BUFFER_BYTES: usize = 1 << 20;
const FILES_PER_DIRECTORY: u64 = 24;
const FILE_MODES: [u32; 12] =
    [0o644, 0o644, 0o644, 0o644, 0o600, 0o600, 0o444, 0o755, 0o640, 0o400, 0o777, 0o2755];
const DIRECTORY_MODES: [u32; 6] = [0o755, 0o755, 0o700, 0o775, 0o2775, 0o1777];
/// The last of the times is in 2024.
const SECONDS_MAX: u64 = 1_720_000_000;

/// What to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TreeOptions {
    /// How many files, further names of the same file not counted.
    pub files: u64,
    /// How many bytes they have together.
    pub bytes: u64,
    /// What all choices follow from.
    pub seed: u64,
}

/// What was made.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct TreeCounts {
    /// Files.
    pub files: u64,
    /// Their bytes, holes among them.
    pub bytes: u64,
    /// Directories under the root.
    pub directories: u64,
    /// Symlinks.
    pub symlinks: u64,
    /// Further names of files.
    pub hard_links: u64,
}

struct Directory {
    /// Relative to the root; empty for the root.
    path: PathBuf,
    depth: usize,
    /// Whether it stays empty.
    barren: bool,
}

struct Planter<'a> {
    root: &'a Path,
    rng: fastrand::Rng,
    taken: BTreeSet<PathBuf>,
    directories: Vec<Directory>,
    files: Vec<PathBuf>,
    counts: TreeCounts,
    buffer: Vec<u8>,
}

/// Makes the tree in `root`, which is made too and must otherwise be empty.
pub fn plant(root: &Path, options: TreeOptions) -> io::Result<TreeCounts> {
    fs::create_dir_all(root)?;
    if fs::read_dir(root)?.next().is_some() {
        return Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, "the directory is not empty"));
    }
    let mut planter = Planter {
        root,
        rng: fastrand::Rng::with_seed(options.seed),
        taken: BTreeSet::new(),
        directories: vec![Directory { path: PathBuf::new(), depth: 0, barren: false }],
        files: Vec::new(),
        counts: TreeCounts::default(),
        buffer: vec![0; BUFFER_BYTES],
    };
    planter.plant_directories(options.files.div_ceil(FILES_PER_DIRECTORY) + 4)?;
    for bytes in sizes(options, &mut planter.rng) {
        planter.plant_file(bytes)?;
    }
    for _ in 0..options.files / 100 {
        planter.plant_hard_link()?;
    }
    for number in 0..options.files / 50 {
        planter.plant_symlink(number)?;
    }
    planter.finish_directories()?;
    Ok(planter.counts)
}

/// The sizes of all files, which sum up to what is asked for as far as whole files can.
fn sizes(options: TreeOptions, rng: &mut fastrand::Rng) -> Vec<u64> {
    const BESIDE: [u64; 9] = [4095, 4096, 4097, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073];
    let average = options.bytes / options.files.max(1);
    let mut sizes = Vec::new();
    let mut weights = Vec::new();
    for _ in 0..options.files {
        match rng.u32(..100) {
            0..10 => sizes.push(0),
            10..30 => sizes.push(rng.u64(1..=average.clamp(1, 200))),
            30..32 if average > 4096 => sizes.push(BESIDE[rng.usize(..BESIDE.len())]),
            _ => weights.push((2.7 * normal(rng)).exp()),
        }
    }
    let left = options.bytes.saturating_sub(sizes.iter().sum());
    let sum: f64 = weights.iter().sum();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a size may be off by a little, and is positive"
    )]
    let scaled = weights.into_iter().map(|weight| (weight / sum * left as f64) as u64);
    sizes.extend(scaled);
    let missing = options.bytes.saturating_sub(sizes.iter().sum());
    if let Some(largest) = sizes.iter_mut().max() {
        *largest += missing;
    }
    rng.shuffle(&mut sizes);
    sizes
}

/// About a standard normal variable: the sum of twelve uniform ones, less its mean.
fn normal(rng: &mut fastrand::Rng) -> f64 {
    (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0
}

impl Planter<'_> {
    fn one_in(&mut self, count: u32) -> bool {
        self.rng.u32(..count) == 0
    }

    /// A path in directory `parent` that nothing has yet.
    fn new_path(&mut self, parent: usize) -> PathBuf {
        loop {
            let directory = &self.directories[parent].path;
            let room = PATH_BYTES_MAX.saturating_sub(directory.as_os_str().len() + 1).min(255);
            let path = directory.join(OsString::from_vec(name(room, &mut self.rng)));
            if self.taken.insert(path.clone()) {
                return path;
            }
        }
    }

    fn some_directory(&mut self) -> usize {
        loop {
            let index = self.rng.usize(..self.directories.len());
            if !self.directories[index].barren {
                return index;
            }
        }
    }

    fn plant_directories(&mut self, count: u64) -> io::Result<()> {
        for _ in 0..count {
            // Half of them go on where the last one is, which makes chains.
            let last = self.directories.len() - 1;
            let parent = if self.rng.bool() { last } else { self.some_directory() };
            let deep = &self.directories[parent];
            let fits =
                deep.depth < DEPTH_MAX && deep.path.as_os_str().len() < PATH_BYTES_MAX - 600 && !deep.barren;
            let parent = if fits { parent } else { 0 };
            let path = self.new_path(parent);
            fs::create_dir(self.root.join(&path))?;
            let depth = self.directories[parent].depth + 1;
            let barren = self.one_in(16);
            self.directories.push(Directory { path, depth, barren });
            self.counts.directories += 1;
        }
        Ok(())
    }

    fn plant_file(&mut self, bytes: u64) -> io::Result<()> {
        let parent = self.some_directory();
        let path = self.new_path(parent);
        let mut file = File::create_new(self.root.join(&path))?;
        let mut left = bytes;
        if bytes >= 65_536 && self.one_in(20) {
            let hole = bytes / 3;
            file.seek(SeekFrom::Start(hole))?;
            left -= hole;
        }
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER_BYTES);
            self.rng.fill(&mut self.buffer[..count]);
            file.write_all(&self.buffer[..count])?;
            left -= count as u64;
        }
        let mode = FILE_MODES[self.rng.usize(..FILE_MODES.len())];
        file.set_permissions(Permissions::from_mode(mode))?;
        let (seconds, nanoseconds) = self.time();
        file.set_times(FileTimes::new().set_modified(system_time(seconds, nanoseconds)))?;
        self.files.push(path);
        self.counts.files += 1;
        self.counts.bytes += bytes;
        Ok(())
    }

    fn plant_hard_link(&mut self) -> io::Result<()> {
        let parent = self.some_directory();
        let path = self.new_path(parent);
        let original = self.rng.usize(..self.files.len());
        fs::hard_link(self.root.join(&self.files[original]), self.root.join(path))?;
        self.counts.hard_links += 1;
        Ok(())
    }

    /// Each of the first eight kinds comes at least once in a tree of 400 files.
    fn plant_symlink(&mut self, number: u64) -> io::Result<()> {
        let parent = self.some_directory();
        let path = self.new_path(parent);
        let up: PathBuf = (0..self.directories[parent].depth).map(|_| "..").collect();
        let file = self.rng.usize(..self.files.len());
        let directory = self.rng.usize(..self.directories.len());
        let target = match number % 8 {
            0 | 1 => up.join(&self.files[file]),
            2 => up.join(&self.directories[directory].path).join("."),
            3 => up.join(OsString::from_vec(name(200, &mut self.rng))),
            4 => PathBuf::from("/nonexistent").join(OsString::from_vec(name(200, &mut self.rng))),
            5 => PathBuf::from(path.file_name().expect("it has a name")),
            6 => PathBuf::from("."),
            _ => PathBuf::from("x/".repeat(self.rng.usize(1..1500))),
        };
        let at = self.root.join(path);
        symlink(target, &at)?;
        let (seconds, nanoseconds) = self.time();
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
        utimensat(
            CWD,
            &at,
            &Timestamps { last_access: time, last_modification: time },
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        self.counts.symlinks += 1;
        Ok(())
    }

    /// Deepest first, since a change within changes the time of what is around it.
    fn finish_directories(&mut self) -> io::Result<()> {
        for index in (0..self.directories.len()).rev() {
            let file = File::open(self.root.join(&self.directories[index].path))?;
            if index > 0 {
                let mode = DIRECTORY_MODES[self.rng.usize(..DIRECTORY_MODES.len())];
                file.set_permissions(Permissions::from_mode(mode))?;
            }
            let (seconds, nanoseconds) = self.time();
            file.set_times(FileTimes::new().set_modified(system_time(seconds, nanoseconds)))?;
        }
        Ok(())
    }

    /// A time in the past: seconds since 1970 and nanoseconds.
    fn time(&mut self) -> (i64, u32) {
        let seconds = i64::try_from(self.rng.u64(..SECONDS_MAX)).expect("far under 2^63");
        match self.rng.u32(..500) {
            0 => (-seconds, self.rng.u32(1..1_000_000_000)),
            1 => (0, 0),
            2..100 => (seconds, 0),
            _ => (seconds, self.rng.u32(1..1_000_000_000)),
        }
    }
}

fn system_time(seconds: i64, nanoseconds: u32) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let at = if seconds < 0 { SystemTime::UNIX_EPOCH - whole } else { SystemTime::UNIX_EPOCH + whole };
    at + Duration::from_nanos(nanoseconds.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;

    const OPTIONS: TreeOptions = TreeOptions { files: 2000, bytes: 8 << 20, seed: 7 };

    /// Everything that a tree holds, by path: kind, mode, links, time, content.
    fn walk(root: &Path) -> Vec<(PathBuf, u32, u64, i64, i64, Vec<u8>)> {
        let mut found = Vec::new();
        let mut line = vec![root.to_owned()];
        while let Some(path) = line.pop() {
            let metadata = fs::symlink_metadata(&path).expect("it is there");
            let content = if metadata.is_dir() {
                line.extend(
                    fs::read_dir(&path).expect("readable").map(|entry| entry.expect("readable").path()),
                );
                Vec::new()
            } else if metadata.is_symlink() {
                fs::read_link(&path).expect("readable").into_os_string().into_vec()
            } else {
                fs::read(&path).expect("readable")
            };
            let links = if metadata.is_dir() { 0 } else { metadata.nlink() };
            let relative = path.strip_prefix(root).expect("under the root").to_owned();
            found.push((relative, metadata.mode(), links, metadata.mtime(), metadata.mtime_nsec(), content));
        }
        found.sort();
        found
    }

    #[test]
    fn a_tree_depends_on_its_options_only() {
        let planted = |options| {
            let root = tempfile::tempdir().expect("a temporary directory");
            let counts = plant(root.path(), options).expect("room for it");
            (counts, walk(root.path()))
        };
        let (one, two) = (planted(OPTIONS), planted(OPTIONS));
        assert!(one == two);
        assert!(one.1 != planted(TreeOptions { seed: 8, ..OPTIONS }).1);
        let counts = one.0;
        assert_eq!((counts.files, counts.bytes), (2000, 8 << 20));
        assert_eq!((counts.symlinks, counts.hard_links), (40, 20));
        assert_eq!(
            one.1.len() as u64,
            1 + counts.files + counts.directories + counts.symlinks + counts.hard_links
        );
    }

    #[test]
    fn a_tree_is_hostile() {
        let root = tempfile::tempdir().expect("a temporary directory");
        plant(root.path(), OPTIONS).expect("room for it");
        let all = walk(root.path());
        let some = |what: &str, test: &dyn Fn(&[u8]) -> bool| {
            let found = all.iter().any(|entry| test(entry.0.file_name().unwrap_or_default().as_bytes()));
            assert!(found, "a name {what}");
        };
        some("of 255 bytes", &|name| name.len() == 255);
        some("that is not UTF-8", &|name| str::from_utf8(name).is_err());
        some("with a newline", &|name| name.contains(&b'\n'));
        some("with a space", &|name| name.contains(&b' '));
        some("with a backslash", &|name| name.contains(&b'\\'));
        some("with a leading dash", &|name| name.starts_with(b"-"));
        let size = |entry: &&(PathBuf, u32, u64, i64, i64, Vec<u8>)| entry.5.len();
        let files: Vec<_> = all.iter().filter(|entry| entry.1 & 0o170_000 == 0o100_000).collect();
        assert!(files.iter().filter(|entry| size(entry) == 0).count() > 100, "empty files");
        assert!(files.iter().any(|entry| size(entry) > 100_000), "a large file");
        assert!(files.iter().any(|entry| entry.2 > 1), "a file with two names");
        assert!(files.iter().any(|entry| entry.1 & 0o2000 != 0), "setgid");
        assert!(files.iter().any(|entry| entry.3 < 0), "a time before 1970");
        assert!(files.iter().any(|entry| entry.4 != 0), "a time with nanoseconds");
        assert!(all.iter().any(|entry| entry.0.components().count() > 8), "deep");
        assert!(all.iter().all(|entry| entry.0.as_os_str().len() <= PATH_BYTES_MAX));
        let links: Vec<PathBuf> = all
            .iter()
            .filter(|entry| entry.1 & 0o170_000 == 0o120_000)
            .map(|entry| root.path().join(&entry.0))
            .collect();
        assert!(links.iter().any(|path| path.is_file()), "a symlink to a file");
        assert!(links.iter().any(|path| path.is_dir()), "a symlink to a directory");
        assert!(links.iter().any(|path| !path.exists()), "a dangling symlink");
    }

    #[test]
    fn a_directory_with_something_in_it_is_left_alone() {
        let root = tempfile::tempdir().expect("a temporary directory");
        fs::write(root.path().join("x"), "precious").expect("room for it");
        assert!(plant(root.path(), OPTIONS).is_err());
        assert_eq!(fs::read_dir(root.path()).expect("readable").count(), 1);
    }
}
