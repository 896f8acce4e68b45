//! The conformance suite, on files.

use std::fs::DirEntry;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use seabed_device::glommio_host::{CreateOptions, Discard, FirstWrite, GlommioHost, HostOptions, create};
use seabed_device::{Host, Machine, OpenError};

use crate::limit::limit;

pub(crate) const MIB: u64 = 1 << 20;

/// A sparse file of a size.
pub(crate) fn sparse(directory: &Path, bytes: u64) -> PathBuf {
    let path = directory.join("device");
    let options = CreateOptions { first_write: FirstWrite::Never, ..CreateOptions::default() };
    create(&path, bytes, &options, &mut |_, _| {}).expect("create");
    path
}

/// Opens, runs one thread to its end.
pub(crate) fn on_one_thread<F: Future<Output = ()> + 'static>(
    host: &GlommioHost,
    main: impl Fn(Machine) -> F + Send + Sync + 'static,
) -> Result<(), OpenError> {
    host.start(1, Arc::new(move |machine| Box::pin(main(machine)) as _))?()
}

/// The descriptions of the file that this process has.
pub(crate) fn descriptions(path: &Path) -> Vec<DirEntry> {
    let all = std::fs::read_dir("/proc/self/fd").expect("descriptions");
    all.flatten()
        .filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == path))
        .collect()
}

#[test]
fn a_file_passes() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = sparse(directory.path(), 8 * MIB);
    for discard in [Discard::Off, Discard::On] {
        let host = GlommioHost::open(&path, HostOptions { discard, ..HostOptions::default() }).expect("open");
        on_one_thread(&host, seabed_device::conformance::run).expect("passes");
        drop(host);
        assert!(descriptions(&path).is_empty());
    }
}

/// A discard leaves a file's range written, so that writing it again stays cheap, unless told to give it back.
#[test]
fn a_discard_gives_space_back_only_if_told_to() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("device");
    create(&path, MIB, &CreateOptions::default(), &mut |_, _| {}).expect("create");
    for (discard, holds) in [(Discard::Off, true), (Discard::Auto, true), (Discard::On, false)] {
        let host = GlommioHost::open(&path, HostOptions { discard, ..HostOptions::default() }).expect("open");
        assert_eq!(host.geometry().discards, !holds, "{discard:?}");
        let main = async |machine: Machine| machine.device.discard(0, MIB).await.expect("a discard");
        on_one_thread(&host, main).expect("no panic");
        let allocated = path.metadata().expect("there").blocks() * 512;
        assert_eq!(allocated >= MIB, holds, "{discard:?}: {allocated} bytes are allocated");
    }
}

/// The arena of registered buffers is the smallest there is, and runs out at once: what is beyond it works as well.
/// Spinning puts the thread on a set of processors.
#[test]
fn a_file_passes_without_registered_buffers_and_spinning() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = sparse(directory.path(), 8 * MIB);
    let spin_before_park = Some(Duration::from_micros(20));
    let options = HostOptions { io_memory: 0, spin_before_park, ..HostOptions::default() };
    let host = GlommioHost::open(&path, options).expect("open");
    on_one_thread(&host, seabed_device::conformance::run).expect("passes");
}
