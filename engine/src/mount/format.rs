//! Format: makes an empty store on a device.
//!
//! Order, each step durable before the next one begins:
//! 1. the superblock copies of whatever store was on the device are overwritten with zeros, at the places of its sizes, of the new
//!    ones and at the device's end; nothing else is, for it may be data of that store;
//! 2. its slots, at both ends, and what else stands at the places of the new superblocks;
//! 3. segment headers, the checkpoint body twice, both slots of every shard;
//! 4. the four superblocks.
//!
//! Crash: in step 1 the device is the old store, whole, or no store; afterwards no store, until a copy of step 4 is there, from
//! when on it is the new one. A mount for writing writes what is missing of the four copies (`superblocks`).
//!
//! Each shard gets its first three segments: its journal, and one each for the two copies of the body. Shard 0 owns the
//! system pool.

use std::collections::BTreeSet;
use std::rc::Rc;

use futures::future::LocalBoxFuture;
use seabed_device::{Class, Durability, Machine, WriteOpts};
use seabed_journal::{
    Body, BodyPart, CollectionId, CollectionState, Cut, JournalSegment, SegmentState, Slot, Tally,
};
use seabed_segment::{
    Layout, Listed, ListedWhat, OpenSegment, RecordBuilder, RecordPlace, SegmentHeader, SlotCopy, StreamKind,
    Summing, Superblock, SuperblockError,
};
use seabed_types::{BLOCK_BYTES, Epoch, Incarnation, Lsn, Paddr, PoolId, SegmentId, ShardId, Term};

use crate::{Error, Result};

const OPTS: WriteOpts = WriteOpts { durability: Durability::Cached, class: Class::Foreground, stream: 0 };

/// The window for a device of this size: a 64th of each shard's share, at most 1 GiB, an eighth of its segments and 4
/// segments at least.
pub(crate) fn window_bytes(layout: &Layout) -> u64 {
    let segment = u64::from(layout.segment_bytes);
    let shards = u64::from(layout.shards);
    let most = (layout.segment_count() / shards / 8 * segment).min(1 << 30);
    (layout.device_bytes / (64 * shards)).min(most).max(4 * segment)
}

/// Whether a store of this layout can have such a window: 4 segments to a quarter of a shard's.
pub(crate) fn is_window(layout: &Layout, bytes: u64) -> bool {
    let segment = u64::from(layout.segment_bytes);
    let most = layout.segment_count() / u64::from(layout.shards) / 4 * segment;
    (4 * segment..=most.max(4 * segment)).contains(&bytes)
}

/// Makes an empty store with this superblock on the machine's device.
pub fn format_device<'a>(machine: &'a Machine, superblock: &'a Superblock) -> LocalBoxFuture<'a, Result<()>> {
    Box::pin(async move {
        let layout = superblock.layout;
        layout.check()?;
        let bytes = machine.device.geometry().bytes;
        if bytes < layout.device_bytes {
            return Err(Error::WrongSize { store_bytes: layout.device_bytes, device_bytes: bytes });
        }
        erase(machine, &layout).await?;
        for shard in 0..layout.shards {
            format_shard(machine, superblock, ShardId(shard)).await?;
        }
        if !seabed_types::seeded!(77) {
            machine.device.flush().await?;
        }
        for (copy, at) in (0..).zip(Superblock::places(layout.device_bytes)) {
            write(machine, at, &superblock.encode(copy)).await?;
        }
        machine.device.flush().await?;
        Ok(())
    })
}

/// Overwrites with zeros what could open an old store: first the copies of its superblock, then its slots.
///
/// Until the superblocks are gone only blocks that are an old store's are written, or that cannot be read. Outside the new store
/// this holds to the end.
async fn erase(machine: &Machine, new: &Layout) -> Result<()> {
    let device_bytes = machine.device.geometry().bytes / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
    let places_of = |bytes: u64| (0..).zip(Superblock::places(bytes));
    let mut places: Vec<(u16, u64)> = places_of(new.device_bytes).chain(places_of(device_bytes)).collect();
    let mut old: Vec<Superblock> = Vec::new();
    let mut erased = BTreeSet::new();
    while let Some((copy, at)) = places.pop() {
        if erased.contains(&at) || at + BLOCK_BYTES as u64 > device_bytes {
            continue;
        }
        // What cannot be read is written: it may be read again later.
        let block = machine.device.read(at, BLOCK_BYTES, Class::Foreground).await;
        let found = block.map(|block| Superblock::decode(&block, copy));
        if let Ok(Ok(superblock)) = &found {
            let is_known = old.contains(superblock);
            if !is_known {
                // Its last copy need not be at the device's end.
                places.extend(places_of(superblock.layout.device_bytes));
                old.push(*superblock);
            }
        }
        // What is no superblock may be data of the old store, which a cut in this step leaves whole: the new store need not
        // end where the old one does.
        let is_blind = at < new.device_bytes && seabed_types::seeded!(87);
        if is_blind || !matches!(found, Ok(Err(SuperblockError::NotAStore))) {
            write(machine, at, &[0; BLOCK_BYTES]).await?;
        }
        erased.insert(at);
    }
    machine.device.flush().await?;
    // A copy that is still missing after a cut between the new ones is told from a damaged one by its zeros.
    for at in Superblock::places(new.device_bytes) {
        write(machine, at, &[0; BLOCK_BYTES]).await?;
    }
    for Superblock { layout, identity, .. } in old {
        for shard in (0..layout.shards).map(ShardId) {
            for at in [SlotCopy::A, SlotCopy::B].map(|copy| layout.slot(shard, copy)) {
                if at + BLOCK_BYTES as u64 > device_bytes {
                    continue;
                }
                let block = machine.device.read(at, BLOCK_BYTES, Class::Foreground).await;
                let is_slot = block.is_ok_and(|block| Slot::decode(&block, &identity, shard).is_ok());
                if is_slot {
                    write(machine, at, &[0; BLOCK_BYTES]).await?;
                }
            }
        }
    }
    Ok(machine.device.flush().await?)
}

async fn write(machine: &Machine, at: u64, bytes: &[u8]) -> Result<()> {
    let mut buf = machine.device.alloc(bytes.len());
    buf.copy_from_slice(bytes);
    Ok(machine.device.write(at, Rc::new(buf), OPTS).await?)
}

async fn format_shard(machine: &Machine, superblock: &Superblock, shard: ShardId) -> Result<()> {
    let layout = superblock.layout;
    let first = layout.first_segment().0 + 3 * u32::from(shard.0);
    let streams = [StreamKind::Journal, StreamKind::Nodes, StreamKind::Bulk];
    let mut states = Vec::new();
    let mut headers = Vec::new();
    for (segment, stream) in (first..).map(SegmentId).zip(streams) {
        let header = SegmentHeader {
            segment,
            incarnation: Incarnation(1),
            shard,
            stream,
            epoch: Epoch(0),
            age: 0,
            first_lsn: Lsn(0),
        };
        let (block, crc) = header.encode(&superblock.identity);
        write(machine, layout.device_offset(Paddr::new(segment, 0)), &block).await?;
        headers.push(crc);
        states.push(SegmentState {
            segment,
            incarnation: Incarnation(1),
            stream: Some(stream),
            age: 0,
            live: 0,
        });
    }
    let head = Paddr::new(SegmentId(first), 4096);
    let system = CollectionState {
        id: CollectionId::whole(PoolId(0)),
        term: Term(1),
        next_id: 1,
        tally: Tally::default(),
        roots: [None; 3],
    };
    let body = Body {
        start_at: head,
        journal: vec![JournalSegment { segment: head.segment, incarnation: Incarnation(1), first: Lsn(0) }],
        collections: if shard == ShardId(0) { vec![system] } else { Vec::new() },
        segments: states,
        ..Body::default()
    };
    let bytes = body.encode();
    let mut copies = [Vec::new(), Vec::new()];
    for (index, copy) in copies.iter_mut().enumerate() {
        let segment = SegmentId(first + 1 + u32::try_from(index).expect("two copies"));
        let stream = streams[index + 1];
        let open = OpenSegment::new(&layout, segment, Incarnation(1), stream, headers[index + 1]);
        let device = Rc::clone(&machine.device);
        let mut record = RecordBuilder::new(device, open.at(), layout.record_bytes_max(), bytes.len());
        let placed = record.place(&[&bytes], Summing::Whole);
        let size = u32::try_from(bytes.len()).expect("an empty store's body is small");
        let what = ListedWhat::Body { lsn: Lsn(0), index: 0 };
        Listed { offset: placed.at.offset, bytes: size, what }.encode(record.entries());
        let place = RecordPlace {
            shard,
            stream,
            epoch: Epoch(0),
            incarnation: Incarnation(1),
            number: 0,
            previous: open.header_crc,
        };
        let (buf, header) = record.close(&superblock.identity, place);
        machine.device.write(layout.device_offset(header.at), buf, OPTS).await?;
        copy.push(BodyPart { at: placed.at, bytes: size, crc: placed.crcs[0] });
    }
    let slot = Slot {
        shard,
        sequence: 1,
        epoch: Epoch(0),
        end: Lsn(0),
        durable: Lsn(0),
        cuts: vec![Cut { lsn: Lsn(0), epoch: Epoch(0), at: head, incarnation: Incarnation(1) }],
        body: copies,
    };
    for copy in [SlotCopy::A, SlotCopy::B] {
        write(machine, layout.slot(shard, copy), &slot.encode(&superblock.identity)).await?;
    }
    Ok(())
}
