//! The lock: one handle at a time, in a process and across processes, and none left by a killed one.

use std::fs::DirEntry;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use seabed_device::glommio_host::{Access, CreateOptions, GlommioHost, HostOptions, create};
use seabed_device::{Host, OpenError};

use crate::child::{Part, Process};
use crate::limit::limit;
use crate::suite::{MIB, descriptions, sparse};

const BOTH: [Access; 2] = [Access::ReadOnly, Access::ReadWrite];

/// Without waiting.
fn options(access: Access) -> HostOptions {
    HostOptions { access, lock_wait: Duration::ZERO, ..HostOptions::default() }
}

/// How many of this process's descriptions of the file are locked.
fn locked_descriptions(path: &Path) -> usize {
    let is_locked = |entry: &DirEntry| {
        let details = Path::new("/proc/self/fdinfo").join(entry.file_name());
        std::fs::read_to_string(details).is_ok_and(|details| details.contains("FLOCK"))
    };
    descriptions(path).iter().filter(|entry| is_locked(entry)).count()
}

#[test]
fn a_second_handle_in_the_process_is_refused() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = sparse(directory.path(), MIB);
    let in_use = Some(OpenError::InUse { path: path.clone(), holder: Some(std::process::id()) });
    for first in BOTH {
        for second in BOTH {
            let host = GlommioHost::open(&path, options(first)).expect("free");
            let beside = GlommioHost::open(&path, options(second));
            if (first, second) == (Access::ReadOnly, Access::ReadOnly) {
                let beside = beside.expect("readers share");
                assert_eq!(GlommioHost::open(&path, options(Access::ReadWrite)).err(), in_use);
                drop(beside);
                assert_eq!(GlommioHost::open(&path, options(Access::ReadWrite)).err(), in_use);
            } else {
                assert_eq!(beside.err(), in_use);
            }
            let overwrite =
                CreateOptions { overwrite: true, lock_wait: Duration::ZERO, ..CreateOptions::default() };
            assert_eq!(create(&path, MIB, &overwrite, &mut |_, _| {}).err(), in_use);
            drop(host);
            drop(GlommioHost::open(&path, options(second)).expect("free again"));
        }
    }
}

/// Threads of readers share as well, and each excludes a writer to its end.
#[test]
fn readers_share_to_their_ends() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = sparse(directory.path(), MIB);
    let (ends, joins): (Vec<_>, Vec<_>) = (0..3)
        .map(|_| {
            let host = GlommioHost::open(&path, options(Access::ReadOnly)).expect("readers share");
            let (end, ended) = channel::<()>();
            let ended = std::sync::Mutex::new(ended);
            let main = Arc::new(move |_| {
                // Blocks the thread until the test lets go.
                let _ = ended.lock().expect("nobody panicked").recv();
                Box::pin(std::future::ready(())) as _
            });
            (end, host.start(2, main).expect("start"))
        })
        .unzip();
    for (end, join) in ends.into_iter().zip(joins) {
        let refused = GlommioHost::open(&path, options(Access::ReadWrite)).err();
        assert!(matches!(refused, Some(OpenError::InUse { .. })), "{refused:?}");
        drop(end);
        join().expect("no panic");
    }
    drop(GlommioHost::open(&path, options(Access::ReadWrite)).expect("free again"));
}

/// The threads hold the lock as well as the host, and when both are gone the device is free at once.
#[test]
fn threads_hold_the_lock_to_their_end() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = sparse(directory.path(), MIB);
    for threads in [1, 2] {
        let host = GlommioHost::open(&path, options(Access::ReadWrite)).expect("free");
        let (end, ended) = channel::<()>();
        let ended = std::sync::Mutex::new(ended);
        let main = Arc::new(move |_| {
            // Blocks the thread until the test lets go.
            let _ = ended.lock().expect("nobody panicked").recv();
            Box::pin(std::future::ready(())) as _
        });
        let join = host.start(threads, main).expect("start");
        // The host's, and of each thread the plain and the O_DSYNC one: what a killed process still has in the kernel
        // is on those of the threads.
        assert_eq!(locked_descriptions(&path), 1 + 2 * threads);
        drop(host);
        let refused = GlommioHost::open(&path, options(Access::ReadWrite)).err();
        assert_eq!(refused, Some(OpenError::InUse { path: path.clone(), holder: Some(std::process::id()) }));
        drop(end);
        join().expect("no panic");
        drop(GlommioHost::open(&path, options(Access::ReadWrite)).expect("free again"));
    }
}

#[test]
fn another_process_is_refused_and_told_who_has_it() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = sparse(directory.path(), MIB);
    let mut holder = Process::start(Part::Hold, &path);
    assert_eq!(holder.says(), "open");
    for access in BOTH {
        let error = GlommioHost::open(&path, options(access)).expect_err("in use");
        assert_eq!(error, OpenError::InUse { path: path.clone(), holder: Some(holder.id()) });
        assert!(error.to_string().contains(&holder.id().to_string()), "{error}");
    }
    assert!(holder.end().success());
    drop(GlommioHost::open(&path, options(Access::ReadWrite)).expect("free again"));
}

/// A holder that lives is waited for, for as long as was asked for and no longer. It used to be an error at once, so that of
/// two commands on one store the second failed.
#[test]
fn a_live_holder_is_waited_for() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = sparse(directory.path(), MIB);
    let host = GlommioHost::open(&path, options(Access::ReadWrite)).expect("free");
    let waiting = |wait| HostOptions { lock_wait: wait, ..HostOptions::default() };
    let refused = GlommioHost::open(&path, waiting(Duration::from_millis(20))).err();
    assert_eq!(refused, Some(OpenError::InUse { path: path.clone(), holder: Some(std::process::id()) }));
    let second = {
        let path = path.clone();
        std::thread::spawn(move || GlommioHost::open(&path, waiting(Duration::MAX)).map(drop))
    };
    // Most likely it is refused at least once; it must not matter.
    std::thread::sleep(Duration::from_millis(50));
    drop(host);
    second.join().expect("no panic").expect("free in the end");
}

/// A killed process's writes are still in the kernel for some 20 ms after it is gone, and the lock with them. Whoever
/// opens right then must neither be refused nor get in before they have landed.
#[test]
fn a_killed_writer_leaves_no_lock_and_no_late_writes() {
    let _limit = limit();
    let directory = tempfile::tempdir().expect("a directory");
    let path = sparse(directory.path(), 2 * MIB);
    for round in 0..30 {
        let mut writer = Process::start(Part::Write, &path);
        for _ in 0..=round {
            assert_eq!(writer.says(), "written");
        }
        writer.kill();
        let host =
            GlommioHost::open(&path, HostOptions { access: BOTH[round % 2], ..HostOptions::default() })
                .expect("a dead process has no lock");
        let mut found = [vec![0; 2 << 20], vec![0; 2 << 20]];
        for bytes in &mut found {
            host.read_at(0, bytes).expect("a read");
        }
        assert!(found[0] == found[1], "round {round}: a dead process still writes");
    }
}
