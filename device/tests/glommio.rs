//! The glommio host on real files and a loop device: the conformance suite, the lock, and what glommio has in store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use seabed_device::glommio_host::{CreateOptions, Discard, FirstWrite, GlommioHost, HostOptions, create};
use seabed_device::{Host, Machine};

const MIB: u64 = 1 << 20;

fn sparse(directory: &Path, bytes: u64) -> PathBuf {
    let path = directory.join("device");
    let options = CreateOptions { first_write: FirstWrite::Never, ..CreateOptions::default() };
    create(&path, bytes, &options, &mut |_, _| {}).expect("create");
    path
}

#[test]
fn a_file_passes_the_suite() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = sparse(directory.path(), 8 * MIB);
    for discard in [Discard::Ignore, Discard::Deallocate] {
        let host = GlommioHost::open(&path, HostOptions { discard, ..HostOptions::default() }).expect("open");
        let main = Arc::new(|machine: Machine| Box::pin(seabed_device::conformance::run(machine)) as _);
        host.start(1, main).expect("start")().expect("no panic");
    }
}
