//! The conformance suite, on files.

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

#[test]
fn a_file_passes() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = sparse(directory.path(), 8 * MIB);
    for discard in [Discard::Ignore, Discard::Deallocate] {
        let host = GlommioHost::open(&path, HostOptions { discard, ..HostOptions::default() }).expect("open");
        on_one_thread(&host, seabed_device::conformance::run).expect("passes");
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
