//! Formats that are ended: nothing is left, or something that the same command takes again.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use rustix::process::{Pid, Signal, kill_process};

use crate::world::{Ended, World, skipped};

const SIZE: &str = "4G";

/// Starts a format, and ends it once it has begun to write.
fn ended_by(world: &World, signal: Signal) -> Ended {
    let child = world.start(["-q", "format", "store", "--size", SIZE]);
    let has_begun = || fs::metadata(world.path("store")).is_ok_and(|metadata| metadata.blocks() > 0);
    while !has_begun() && !has_ended(&child) {
        std::thread::yield_now();
    }
    // It may have ended for lack of space.
    let _ = kill_process(Pid::from_child(&child), signal);
    Ended::of(child.wait_with_output().expect("it ends"))
}

/// Whether a child is a zombie.
fn has_ended(child: &std::process::Child) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("a child has one");
    stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('Z'))
}

#[test]
fn a_format_that_is_ended_leaves_nothing() {
    let world = World::empty();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        for existed in [false, true] {
            if existed {
                File::create(world.path("store")).expect("a file");
            }
            let ended = ended_by(&world, signal);
            if ended.code == 4 {
                return skipped(&format!("no room for a file of {SIZE}"));
            }
            let left = if existed { "it holds no store" } else { "the new file is removed" };
            let ended = ended.is(code).says(&format!("interrupted; {left}"));
            assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
            let left = fs::metadata(world.path("store")).ok().map(|left| (left.len(), left.blocks()));
            assert_eq!(left, existed.then_some((0, 0)), "{signal:?}");
            // The same command takes what is left.
            world.seabed(["-q", "format", "store", "--size", "64M"]).is(0);
            fs::remove_file(world.path("store")).expect("a store");
        }
    }
}
