//! Rot: what a power cut left, with one thing damaged that the store can do without: its last record, or one copy of its
//! checkpoint's body.
//!
//! The last record of a log that nothing proves is cut off, as if it had been torn (rule C8). Then what others did because
//! of it must not have happened yet (rules L7, S2): the rest of the log is a prefix, and nothing that it refers to is
//! overwritten. A record that a slot proves is told as damaged. Of the two copies of the body either is enough (rule C3).

use seabed_journal::Slot;
use seabed_segment::{Identity, Layout, RecordHeader, SlotCopy, StreamKind};
use seabed_types::{BLOCK_BYTES, Paddr, ShardId};

use super::program::Plan;
use super::run::{Bounds, Run, shard_options, superblock};
use super::suite::{compare, findings, open};
use super::{Broken, Rule, broken};
use crate::machine::DiskImage;

/// Damages `image`, which a crash left after a mount, in each way. Bounds are those of that moment.
pub(super) fn rotten(
    (seed, store_seed): (u64, u64),
    image: &DiskImage,
    run: &Run,
    plan: &Plan,
    bounds: &Bounds,
) -> Result<(), Broken> {
    rotten_record((seed, store_seed), image, run, plan)?;
    let superblock = superblock(store_seed, plan);
    let (identity, layout) = (superblock.identity, superblock.layout);
    let mut rng = fastrand::Rng::with_seed(!seed);
    for copy in 0..2 {
        let Some(at) = body_copy(image, &identity, &layout, copy) else { continue };
        let mut rotten = image.clone();
        rotten.flip(layout.device_offset(at), rng.u8(..8));
        let opened = open((seed, store_seed), &rotten, plan, shard_options(plan))?;
        compare(&opened, &run.history, bounds)?;
    }
    Ok(())
}

/// Damages the last record only.
pub(super) fn rotten_record(
    (seed, store_seed): (u64, u64),
    image: &DiskImage,
    run: &Run,
    plan: &Plan,
) -> Result<(), Broken> {
    let superblock = superblock(store_seed, plan);
    let (identity, layout) = (superblock.identity, superblock.layout);
    let mut rng = fastrand::Rng::with_seed(seed);
    let Some((at, lsn)) = last_record(image, &identity, &layout) else { return Ok(()) };
    let mut rotten = image.clone();
    rotten.flip(layout.device_offset(at) + rng.u64(..96), rng.u8(..8));
    match open((seed, store_seed), &rotten, plan, shard_options(plan)) {
        // All before the last record is there; how much that is only the log knows.
        Ok(opened) => {
            compare(&opened, &run.history, &Bounds::new(vec![0; plan.pools]))?;
            // Behind the window nobody reads its header but the checker, who then rightly misses what it lists.
            let is_in_window = newest_slot(image, &identity, &layout).is_none_or(|slot| lsn >= slot.end.0);
            if is_in_window {
                findings(&opened.image).map_err(|what| broken(Rule::Check, what))?;
            }
        }
        Err(Broken { rule: Rule::FailedOpen, what }) if what.contains("damaged") => {}
        Err(other) => return Err(other),
    }
    Ok(())
}

/// The record of the journal with the highest number, of the newest epoch that has it, and that number.
fn last_record(image: &DiskImage, identity: &Identity, layout: &Layout) -> Option<(Paddr, u64)> {
    let segment_bytes = u64::from(layout.segment_bytes);
    let headers = image.blocks().into_keys().filter_map(|device_offset| {
        let segment = u32::try_from(device_offset / segment_bytes).ok()?;
        let offset = u32::try_from(device_offset % segment_bytes).ok()?;
        let at = Paddr::new(seabed_types::SegmentId(segment), offset);
        RecordHeader::decode(&image.read(device_offset, BLOCK_BYTES), identity, layout, at).ok()
    });
    let journal = headers.filter(|header| header.place.stream == StreamKind::Journal);
    let last = journal.max_by_key(|header| (header.place.number, header.place.epoch))?;
    Some((last.at, last.place.number))
}

fn newest_slot(image: &DiskImage, identity: &Identity, layout: &Layout) -> Option<Slot> {
    let slots = [SlotCopy::A, SlotCopy::B].into_iter().filter_map(|which| {
        let block = image.read(layout.slot(ShardId(0), which), BLOCK_BYTES);
        Slot::decode(&block, identity, ShardId(0)).ok()
    });
    slots.max_by_key(|slot| slot.sequence)
}

/// Where a copy of the newest slot's body begins.
fn body_copy(image: &DiskImage, identity: &Identity, layout: &Layout, copy: usize) -> Option<Paddr> {
    newest_slot(image, identity, layout)?.body[copy].first().map(|part| part.at)
}
