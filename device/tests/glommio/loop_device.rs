//! Block devices: loop devices, where this process may make them.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use seabed_device::glommio_host::{
    Access, CreateOptions, Discard, FirstWrite, GlommioHost, HostOptions, create,
};
use seabed_device::{Class, DeviceError, Durability, Host, IoKind, OpenError, WriteOpts};

use crate::limit::limit;
use crate::suite::{MIB, on_one_thread};

/// A loop device over a file of zeros; taken down when dropped.
struct Loop {
    node: PathBuf,
    backing: PathBuf,
    _directory: tempfile::TempDir,
}

impl Loop {
    /// None, with a word on why, where there is no right or no tool to make one.
    fn new(bytes: u64, options: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let backing = directory.path().join("backing");
        std::fs::File::create(&backing).and_then(|file| file.set_len(bytes)).expect("a file");
        let made = Command::new("losetup").args(["--find", "--show"]).args(options).arg(&backing).output();
        let node = match made {
            Ok(output) if output.status.success() => String::from_utf8(output.stdout).expect("a path"),
            other => {
                // Not by a macro, of which the harness would capture it.
                let line = format!("skipped: no loop device here ({other:?})\n");
                std::io::stderr().write_all(line.as_bytes()).expect("stderr");
                return None;
            }
        };
        Some(Self { node: PathBuf::from(node.trim()), backing, _directory: directory })
    }

    fn node(&self) -> &Path {
        &self.node
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Nothing to do about one that stays.
        let _ = Command::new("losetup").arg("--detach").arg(&self.node).status();
    }
}

/// glommio takes a block device's node for a file in memory and opens it without O_DIRECT, and reports a size of 0: the
/// host asks for the flag, reads it back, and finds the size itself.
#[test]
fn a_loop_device_passes() {
    let _limit = limit();
    let Some(device) = Loop::new(8 * MIB, &[]) else { return };
    for discard in [Discard::Off, Discard::On] {
        let options = HostOptions { discard, ..HostOptions::default() };
        let host = GlommioHost::open(device.node(), options).expect("open");
        assert_eq!((host.geometry().bytes, host.geometry().wants_first_write), (8 * MIB, false));
        on_one_thread(&host, seabed_device::conformance::run).expect("passes");
        let no_wait = HostOptions { lock_wait: Duration::ZERO, ..HostOptions::default() };
        let refused = GlommioHost::open(device.node(), no_wait).err();
        let holder = Some(std::process::id());
        assert_eq!(refused, Some(OpenError::InUse { path: device.node().to_owned(), holder }));
    }
}

#[test]
fn a_read_only_device_opens_read_only() {
    let _limit = limit();
    let Some(device) = Loop::new(MIB, &["--read-only"]) else { return };
    let error = GlommioHost::open(device.node(), HostOptions::default()).err();
    assert!(matches!(error, Some(OpenError::Io { .. })), "{error:?}");
    let options = HostOptions { access: Access::ReadOnly, ..HostOptions::default() };
    let host = GlommioHost::open(device.node(), options).expect("open");
    let main = async |machine: seabed_device::Machine| {
        machine.device.read(0, 4096, Class::Foreground).await.expect("a read");
        machine.device.flush().await.expect("a flush");
    };
    on_one_thread(&host, main).expect("no panic");
}

#[test]
fn a_device_that_holds_something_is_kept_unless_told_otherwise() {
    let _limit = limit();
    let Some(device) = Loop::new(4 * MIB, &[]) else { return };
    let mut options = CreateOptions::default();
    let make = |bytes, options: &CreateOptions| create(device.node(), bytes, options, &mut |_, _| {});
    make(0, &options).expect("all zeros");
    make(4 * MIB, &options).expect("all zeros, and its own size");
    let error = make(2 * MIB, &options).err();
    let path = device.node().to_owned();
    assert_eq!(error, Some(OpenError::WholeDevice { path, has: 4 * MIB, asked: 2 * MIB }));
    for (at, first_write) in [(0, FirstWrite::Now), (4 * MIB - 4096, FirstWrite::Never)] {
        let host = GlommioHost::open(device.node(), HostOptions::default()).expect("open");
        let main = move |machine: seabed_device::Machine| async move {
            for at in [at, 2 * MIB] {
                let mut buffer = machine.device.alloc(4096);
                buffer.fill(3);
                let opts = WriteOpts { durability: Durability::Durable, class: Class::Foreground, stream: 0 };
                machine.device.write(at, Rc::new(buffer), opts).await.expect("a write");
            }
        };
        on_one_thread(&host, main).expect("no panic");
        drop(host);
        options.overwrite = false;
        let error = make(0, &options).err();
        assert_eq!(error, Some(OpenError::HoldsData { path: device.node().to_owned() }));
        options = CreateOptions { overwrite: true, first_write, ..options };
        make(0, &options).expect("told so");
        let host = GlommioHost::open(device.node(), HostOptions::default()).expect("open");
        let mut found = vec![1; 4 << 20];
        host.read_at(0, &mut found).expect("a read");
        let left = found.iter().filter(|byte| **byte != 0).count();
        assert_eq!(left, if first_write == FirstWrite::Now { 0 } else { 4096 }, "{first_write:?}");
    }
}

/// A device of whole sectors that are no whole blocks used to be refused, whatever size was asked for.
#[test]
fn a_device_is_used_to_its_last_whole_block() {
    let _limit = limit();
    let Some(device) = Loop::new(4 * MIB + 512, &[]) else { return };
    for bytes in [0, 4 * MIB] {
        create(device.node(), bytes, &CreateOptions::default(), &mut |_, _| {}).expect("taken");
    }
    let host = GlommioHost::open(device.node(), HostOptions::default()).expect("open");
    assert_eq!(host.geometry().bytes, 4 * MIB);
    on_one_thread(&host, seabed_device::conformance::run).expect("passes");
}

/// The file below lost its second half: reads and writes there fail in the kernel, as those of a bad disk do.
#[test]
fn an_error_of_the_medium_names_its_place_and_number() {
    let _limit = limit();
    let Some(device) = Loop::new(8 * MIB, &[]) else { return };
    let host = GlommioHost::open(device.node(), HostOptions::default()).expect("open");
    std::fs::OpenOptions::new()
        .write(true)
        .open(&device.backing)
        .and_then(|file| file.set_len(4 * MIB))
        .expect("cut");
    let main = async |machine: seabed_device::Machine| {
        let (kind, at, bytes, errno) = (IoKind::Read, 6 * MIB, 8192, Errno::IO.raw_os_error());
        let error = machine.device.read(at, 8192, Class::Foreground).await.err();
        assert_eq!(error, Some(DeviceError::Io { kind, at, bytes, errno }));
        machine.device.read(MIB, 8192, Class::Foreground).await.expect("what is left");
    };
    on_one_thread(&host, main).expect("no panic");
}

/// Without any option a device that says that it discards is told of what nobody needs, and one that was told not to is not.
#[test]
fn a_device_that_discards_is_told_by_default() {
    let _limit = limit();
    let Some(device) = Loop::new(8 * MIB, &[]) else { return };
    create(device.node(), 8 * MIB, &CreateOptions::default(), &mut |_, _| {}).expect("all zeros");
    let allocated = || std::fs::metadata(&device.backing).expect("there").blocks() * 512;
    for (discard, holds) in [(Discard::Off, true), (Discard::Auto, false)] {
        let host = GlommioHost::open(device.node(), HostOptions { discard, ..HostOptions::default() });
        let host = host.expect("open");
        if discard == Discard::Auto && !host.geometry().discards {
            std::io::stderr().write_all(b"skipped: loop devices do not discard here\n").expect("stderr");
            return;
        }
        assert_eq!(host.geometry().discards, !holds);
        let main = async |machine: seabed_device::Machine| {
            let mut buffer = machine.device.alloc(1 << 20);
            buffer.fill(3);
            let (buffer, class) = (Rc::new(buffer), Class::Foreground);
            let opts = WriteOpts { durability: Durability::Durable, class, stream: 0 };
            for at in 0..4 {
                machine.device.write(at * MIB, Rc::clone(&buffer), opts).await.expect("a write");
            }
            // Two at a time, of which nobody waits for one: closing waits for it.
            drop(machine.device.discard(0, MIB));
            machine.device.discard(MIB, 2 * MIB).await.expect("a discard");
            drop(machine.device.discard(3 * MIB, MIB));
        };
        on_one_thread(&host, main).expect("no panic");
        // What nobody discards was written as well.
        assert_eq!(allocated() > 4 * MIB, holds, "{} bytes are allocated", allocated());
    }
}
