//! Creating files.

use std::os::unix::fs::MetadataExt;

use seabed_device::glommio_host::{CreateOptions, FirstWrite, GlommioHost, HostOptions, create};
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
