//! Creating files.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use seabed_device::glommio_host::{CreateOptions, Created, FirstWrite, GlommioHost, HostOptions, create};
use seabed_device::{Host, OpenError};

use crate::limit::limit;
use crate::suite::MIB;

#[test]
fn all_of_a_new_file_is_written_once() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("device");
    let bytes = 3 * MIB + 4096;
    let mut told = Vec::new();
    create(&path, bytes, &CreateOptions::default(), &mut |done, total| told.push((done, total)))
        .expect("create");
    let expected = [MIB, 2 * MIB, 3 * MIB, bytes].map(|done| (done, bytes));
    assert_eq!(told, expected);
    let metadata = path.metadata().expect("it is there");
    assert_eq!(metadata.len(), bytes);
    assert!(metadata.blocks() * 512 >= bytes, "it has holes");
    let host = GlommioHost::open(&path, HostOptions::default()).expect("open");
    assert_eq!((host.geometry().bytes, host.geometry().wants_first_write), (bytes, true));
    assert_eq!(host.path(), path);
    let mut found = vec![1; usize::try_from(bytes).expect("small")];
    host.read_at(0, &mut found).expect("a read");
    assert!(found.iter().all(|byte| *byte == 0));
}

#[test]
fn a_file_that_holds_something_is_kept_unless_told_otherwise() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("device");
    for first_write in [FirstWrite::Now, FirstWrite::Never] {
        std::fs::write(&path, vec![7; 9000]).expect("a file");
        let mut options = CreateOptions { first_write, ..CreateOptions::default() };
        let refused = create(&path, MIB, &options, &mut |_, _| {}).err();
        assert_eq!(refused, Some(OpenError::HoldsData { path: path.clone() }));
        assert_eq!(std::fs::read(&path).expect("still there"), vec![7; 9000]);
        options.overwrite = true;
        create(&path, MIB, &options, &mut |_, _| {}).expect("create");
        assert!(std::fs::read(&path).expect("there").into_iter().eq(std::iter::repeat_n(0, 1 << 20)));
    }
    // An empty file is as good as none.
    std::fs::write(&path, []).expect("a file");
    create(&path, MIB, &CreateOptions::default(), &mut |_, _| {}).expect("create");
}

#[test]
fn a_size_that_cannot_be_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("device");
    for bytes in [0, 1, 4097, MIB - 512] {
        let error = create(&path, bytes, &CreateOptions::default(), &mut |_, _| {}).err();
        assert_eq!(error, Some(OpenError::BadSize { path: path.clone(), bytes }));
        assert!(!path.exists());
    }
}

/// Bytes of a file, and those that are allocated.
fn sizes(path: &Path) -> (u64, u64) {
    let metadata = path.metadata().expect("it is there");
    (metadata.len(), metadata.blocks() * 512)
}

/// A format that was ended, or failed in what came after this, left a file of gigabytes that the next format refused.
#[test]
fn what_is_not_kept_is_undone() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("device");
    let overwrite = CreateOptions { overwrite: true, ..CreateOptions::default() };
    let no_wait = HostOptions { lock_wait: Duration::ZERO, ..HostOptions::default() };
    let made = |options: &CreateOptions| Created::new(&path, 2 * MIB, options, &mut |_, _| {}).expect("made");
    drop(made(&CreateOptions::default()));
    assert!(!path.exists(), "a new file is removed");
    for bytes in [0, 8192] {
        std::fs::write(&path, vec![7; bytes]).expect("a file");
        let created = made(&overwrite);
        let host = created.host(HostOptions::default());
        assert_eq!(host.geometry().bytes, 2 * MIB);
        assert!(matches!(GlommioHost::open(&path, no_wait.clone()), Err(OpenError::InUse { .. })));
        drop(host);
        drop(created);
        assert_eq!(sizes(&path), (bytes as u64, 0), "one that existed is as large as before, and empty");
    }
    made(&overwrite).keep();
    assert_eq!(sizes(&path), (2 * MIB, 2 * MIB));
    drop(GlommioHost::open(&path, no_wait).expect("free"));
}

#[test]
fn a_creation_is_cancelled() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("device");
    let cancel = Arc::new(AtomicBool::new(false));
    let options = CreateOptions { cancel: Some(Arc::clone(&cancel)), ..CreateOptions::default() };
    let mut told = 0;
    let error = create(&path, 64 * MIB, &options, &mut |done, _| {
        told = done;
        cancel.store(done >= 3 * MIB, Ordering::Relaxed);
    });
    assert_eq!(error.err(), Some(OpenError::Interrupted { path: path.clone() }));
    assert_eq!(told, 3 * MIB);
    assert!(!path.exists());
}

/// An error of what was there already must not touch it.
#[test]
fn what_is_refused_is_left_alone() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("device");
    std::fs::write(&path, vec![7; 8192]).expect("a file");
    let holder = GlommioHost::open(&path, HostOptions::default()).expect("free");
    let options = CreateOptions { overwrite: true, lock_wait: Duration::ZERO, ..CreateOptions::default() };
    let error = create(&path, MIB, &options, &mut |_, _| {}).err();
    assert!(matches!(error, Some(OpenError::InUse { .. })), "{error:?}");
    drop(holder);
    let error = create(&path, MIB + 1, &options, &mut |_, _| {}).err();
    assert!(matches!(error, Some(OpenError::BadSize { .. })), "{error:?}");
    assert_eq!(std::fs::read(&path).expect("still there"), vec![7; 8192]);
}

#[test]
fn a_part_of_a_block_can_be_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("device");
    let content: Vec<u8> = (0..16384u32).map(|index| u8::try_from(index % 251).expect("small")).collect();
    std::fs::write(&path, &content).expect("a file");
    let host = GlommioHost::open(&path, HostOptions::default()).expect("open");
    for (at, bytes) in [(0, 16384), (0, 1), (4095, 2), (8192, 4096), (12300, 4084), (16384, 0)] {
        let mut found = vec![0; bytes];
        host.read_at(at, &mut found).expect("a read");
        let at = usize::try_from(at).expect("small");
        assert!(found == content[at..at + bytes], "{bytes} bytes at {at}");
    }
    for (at, bytes) in [(16384, 1), (16380, 5), (u64::MAX, 2)] {
        let error = host.read_at(at, &mut vec![0; bytes]).err();
        assert!(matches!(error, Some(OpenError::Io { .. })), "{bytes} bytes at {at}");
    }
}
