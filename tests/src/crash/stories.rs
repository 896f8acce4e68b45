//! Stories: bugs that the crash suite found, or that reading found before it, each as a course of events by itself.
//!
//! Each function is one story; it says what it reached, so that a test can tell that it got there.

use seabed_segment::{SegmentHeader, SlotCopy, StreamKind};
use seabed_types::{BLOCK_BYTES, Epoch, Incarnation, Lsn, SegmentId, ShardId};

use super::program::Plan;
use super::run::{formatted, record, superblock};
use super::schedules::{bounds_at, look, nothing, place};
use super::{Broken, Rule, broken};
use crate::machine::{CrashMode, DiskImage, Faults};

/// A segment was claimed, its header torn by the power cut that took the claim: one sector of it is garbage. The next
/// mount could not read it, used the same incarnation again, and a second power cut tore that header so that it mended
/// the garbage only: the header of the use that never was counted again, under the incarnation of the one that is. So a
/// mount leaves no torn header or seal in a free segment.
pub fn torn_header_of_a_lost_use(seed: u64) -> Result<(), Broken> {
    let plan = Plan { steps: 0, ..Plan::of(seed) };
    let (history, least) = nothing(&plan);
    let mut image = formatted(seed, &plan)?;
    let superblock = superblock(seed, &plan);
    let segment = SegmentId(20);
    let header = SegmentHeader {
        segment,
        incarnation: Incarnation(1),
        shard: ShardId(0),
        stream: StreamKind::Bulk,
        epoch: Epoch(0),
        age: 0,
        first_lsn: Lsn(0),
    };
    let (mut torn, _) = header.encode(&superblock.identity);
    torn[2700] = 7;
    let start = u64::from(segment.0) * u64::from(superblock.layout.segment_bytes);
    let ends = [start, start + u64::from(superblock.layout.segment_bytes) - BLOCK_BYTES as u64];
    for at in ends {
        image.write(at, &torn);
    }
    let run = record((seed, seed), &image, (&history, &least), &plan, Faults::none())?;
    let mut rng = fastrand::Rng::with_seed(seed);
    let left = run.trace.crash_image(run.trace.events(), CrashMode::Durable, &mut rng);
    for at in ends {
        if left.read(at, BLOCK_BYTES).iter().any(|byte| *byte != 0) {
            return Err(broken(Rule::Wrong, "a torn header or seal of a free segment is left"));
        }
    }
    Ok(())
}

/// A power cut comes between the two slots of a checkpoint, and the mount finds a long window and trims. The newer slot is
/// lost at any moment of that: the older one alone must open the store (rule C3), so nothing that it needs may be claimed
/// before it is rewritten. How often it opened it.
pub fn older_slot_while_a_mount_trims(seed: u64) -> Result<u64, Broken> {
    let plan = Plan::of(seed);
    let sizes = Plan { disk_bytes: 6 << 20, window_segments: 16, memory_bytes: 8 << 20, ..plan };
    let plan = Plan { steps: 400, bytes_max: 9000, closes: false, ..sizes };
    // For the mount the window is as short as can be, so that it trims.
    let again = Plan { steps: 0, rests: false, window_segments: 4, ..plan.clone() };
    let (history, least) = nothing(&plan);
    let base = formatted(seed, &plan)?;
    let run = record((seed, seed), &base, (&history, &least), &plan, Faults::none())?;
    let superblock = superblock(seed, &plan);
    let mut rng = fastrand::Rng::with_seed(seed);
    let places = [SlotCopy::A, SlotCopy::B].map(|copy| superblock.layout.slot(ShardId(0), copy));
    let slot = |image: &DiskImage, at: u64| {
        seabed_journal::Slot::decode(&image.read(at, BLOCK_BYTES), &superblock.identity, ShardId(0)).ok()
    };
    let (mut looked, mut last) = (0, 0);
    for boundary in run.trace.boundaries() {
        let image = run.trace.crash_image(boundary, CrashMode::Durable, &mut rng);
        let (Some(newer), Some(older)) = (slot(&image, places[0]), slot(&image, places[1])) else { continue };
        if newer.sequence <= older.sequence || newer.body == older.body || newer.sequence == last {
            continue;
        }
        last = newer.sequence;
        let bounds = bounds_at(&run, boundary, &least);
        let mounted = record((seed + 1, seed), &image, (&run.history, &bounds), &again, Faults::none())?;
        for cut in mounted.trace.boundaries() {
            let mut image = mounted.trace.crash_image(cut, CrashMode::Durable, &mut rng);
            let is_trimmed = slot(&image, places[1]).is_some_and(|slot| slot.end > newer.end);
            image.write(places[0], &[0; BLOCK_BYTES]);
            look(seed, &image, &run, &plan, &bounds)
                .map_err(|broken| place(broken, "the newer slot is lost in a mount", cut))?;
            looked += u64::from(is_trimmed);
        }
    }
    Ok(looked)
}
