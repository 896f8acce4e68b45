//! What cannot be opened, and what a device cannot do.

use std::rc::Rc;
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::Errno;
use seabed_device::glommio_host::{Access, GlommioHost, HostOptions};
use seabed_device::{Class, DeviceError, Durability, Host, IoKind, OpenError, WriteOpts};

use crate::limit::limit;
use crate::suite::{MIB, descriptions, on_one_thread, sparse};

#[test]
fn what_is_no_device_is_refused() {
    // A pipe that was opened before it was looked at would wait for its other end.
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    for path in [directory.path(), &pipe, std::path::Path::new("/dev/null")] {
        let error = GlommioHost::open(path, HostOptions::default()).err();
        assert_eq!(error, Some(OpenError::NotADevice { path: path.to_owned() }));
    }
    let absent = directory.path().join("absent");
    let error = GlommioHost::open(&absent, HostOptions::default()).expect_err("absent");
    let errno = Errno::NOENT.raw_os_error();
    assert_eq!(error, OpenError::Io { path: absent, what: "looking at it", errno });
}

#[test]
fn a_size_of_no_whole_blocks_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("device");
    for bytes in [0, 512] {
        std::fs::File::create(&path).and_then(|file| file.set_len(bytes)).expect("a file");
        let error = GlommioHost::open(&path, HostOptions::default()).err();
        assert_eq!(error, Some(OpenError::BadSize { path: path.clone(), bytes }));
    }
}

/// What is behind the last whole block is not used: partitions and devices with sectors of 512 bytes end anywhere.
#[test]
fn a_size_is_rounded_down_to_whole_blocks() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("device");
    std::fs::write(&path, vec![7; 8192 + 512]).expect("a file");
    let host = GlommioHost::open(&path, HostOptions::default()).expect("open");
    assert_eq!(host.geometry().bytes, 8192);
    assert!(host.read_at(8192, &mut [0]).is_err());
    let main = async |machine: seabed_device::Machine| {
        let read = machine.device.read(4096, 4096, Class::Foreground).await.expect("a read");
        assert!(read.iter().all(|byte| *byte == 7));
        let error = machine.device.read(8192, 4096, Class::Foreground).await.err();
        assert!(matches!(error, Some(DeviceError::OutOfRange { .. })), "{error:?}");
    };
    on_one_thread(&host, main).expect("no panic");
}

#[test]
fn a_read_only_handle_reads_and_flushes_and_does_not_write() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = sparse(directory.path(), MIB);
    let options = HostOptions { access: Access::ReadOnly, ..HostOptions::default() };
    let host = GlommioHost::open(&path, options).expect("open");
    let main = async |machine: seabed_device::Machine| {
        let device = machine.device;
        let read = device.read(4096, 4096, Class::Foreground).await.expect("a read");
        assert!(read.iter().all(|byte| *byte == 0));
        device.flush().await.expect("a flush");
        for durability in [Durability::Cached, Durability::Durable] {
            let mut buffer = device.alloc(4096);
            buffer.fill(1);
            let opts = WriteOpts { durability, class: Class::Foreground, stream: 0 };
            assert_eq!(device.write(0, Rc::new(buffer), opts).await, Err(DeviceError::ReadOnly));
        }
        assert_eq!(device.discard(0, 4096).await, Err(DeviceError::ReadOnly));
        device.quiesce().await;
    };
    on_one_thread(&host, main).expect("no panic");
    let mut found = [1];
    host.read_at(0, &mut found).expect("a read");
    assert_eq!(found, [0]);
}

/// A file without write permission. A superuser may write all the same, and has its own test: a read-only loop
/// device.
#[test]
fn a_file_without_write_permission_opens_read_only() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = sparse(directory.path(), MIB);
    let mut permissions = path.metadata().expect("there").permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).expect("ours");
    if !rustix::process::geteuid().is_root() {
        let error = GlommioHost::open(&path, HostOptions::default()).err();
        assert!(matches!(error, Some(OpenError::Io { .. })), "{error:?}");
    }
    let options = HostOptions { access: Access::ReadOnly, ..HostOptions::default() };
    let host = GlommioHost::open(&path, options).expect("open");
    let main = async |machine: seabed_device::Machine| {
        machine.device.read(0, 4096, Class::Foreground).await.expect("a read");
    };
    on_one_thread(&host, main).expect("no panic");
}

/// The file was cut short by someone else after it was opened. glommio reports a read behind its end as one of 0
/// bytes, and one across it as short: both must be errors, not buffers of whatever memory was there.
#[test]
fn a_read_that_finds_less_is_an_error() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = sparse(directory.path(), MIB);
    let host = GlommioHost::open(&path, HostOptions::default()).expect("open");
    let main = move |machine: seabed_device::Machine| {
        let path = path.clone();
        async move {
            let half = MIB / 2;
            std::fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_len(half))
                .expect("ours");
            for (at, bytes) in [(half, 4096), (half - 4096, 8192)] {
                let length = usize::try_from(bytes).expect("small");
                let error = machine.device.read(at, length, Class::Foreground).await.err();
                let errno = Errno::IO.raw_os_error();
                assert_eq!(error, Some(DeviceError::Io { kind: IoKind::Read, at, bytes, errno }));
            }
            machine.device.read(half - 4096, 4096, Class::Foreground).await.expect("what is left");
        }
    };
    on_one_thread(&host, main).expect("no panic");
}

/// The file was resized between opening and starting. The descriptions that the thread had opened by then must not be
/// left open: the lock would be on them.
#[test]
fn a_start_that_fails_leaves_nothing_open() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = sparse(directory.path(), MIB);
    for threads in [1, 3] {
        let host = GlommioHost::open(&path, HostOptions::default()).expect("free");
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_len(2 * MIB))
            .expect("ours");
        let main = Arc::new(|_| panic!("must not run"));
        assert!(matches!(host.start(threads, main), Err(OpenError::Unsupported { .. })));
        drop(host);
        assert!(descriptions(&path).is_empty());
        std::fs::OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(MIB)).expect("ours");
    }
}
