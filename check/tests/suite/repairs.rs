//! Repairs: what is planted and can be put back is, what cannot be is not touched; with a crash anywhere in between.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;

use seabed_check::repair::{Mended, RepairError, Repaired, repair};
use seabed_check::{Image, Kind, Medium, Options, Report, check};
use seabed_segment::SlotCopy;
use seabed_types::{Paddr, SegmentId, ShardId};

use super::clean::{check_all, populated};
use super::plants::plant;
use super::shard::{Edits, Shard};

const SECTOR: usize = 512;

/// What was done to a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Done {
    Write(usize, Vec<u8>),
    Flush,
}

/// A disk that writes down what is done to it.
struct Disk {
    bytes: RefCell<Vec<u8>>,
    done: RefCell<Vec<Done>>,
}

impl Disk {
    fn new(bytes: &[u8]) -> Self {
        Self { bytes: RefCell::new(bytes.to_vec()), done: RefCell::default() }
    }
}

impl Image for Disk {
    fn bytes(&self) -> u64 {
        self.bytes.borrow().len() as u64
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        Image::read(&*self.bytes.borrow(), at, into)
    }
}

impl Medium for Disk {
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let at = usize::try_from(at).expect("small");
        self.bytes.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
        self.done.borrow_mut().push(Done::Write(at, bytes.to_vec()));
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.done.borrow_mut().push(Done::Flush);
        Ok(())
    }
}

fn repaired(disk: &Disk) -> Result<Repaired, RepairError> {
    repair(disk, &Options::default(), &mut |_| {})
}

/// What a store says of its objects.
fn contents(report: &Report) -> String {
    let mut collections = report.collections.clone();
    for collection in &mut collections {
        collection.next_id = 0;
    }
    format!("{:?} {} {}", collections, report.counts.objects, report.counts.rows)
}

/// A kind that a repair puts back, and whether something is what it does about it.
type Remedy = (Kind, fn(&Mended) -> bool);

const MENDED: [Remedy; 17] = [
    (Kind::Superblock, |mended| *mended == Mended::Superblock { copy: 1 }),
    (Kind::SuperblockDiffers, |mended| *mended == Mended::Superblock { copy: 2 }),
    (Kind::Slot, |mended| *mended == Mended::Slot { shard: ShardId(0), which: SlotCopy::B }),
    (Kind::SlotsContradict, |mended| matches!(mended, Mended::Slot { .. })),
    (Kind::SlotsApart, |mended| matches!(mended, Mended::Slot { which: SlotCopy::B, .. })),
    (Kind::BodyPart, |mended| matches!(mended, Mended::Checkpoint { .. })),
    (Kind::BodyCopiesDiffer, |mended| matches!(mended, Mended::Checkpoint { .. })),
    (Kind::BodyCopiesShare, |mended| matches!(mended, Mended::Checkpoint { .. })),
    (Kind::Body, |mended| matches!(mended, Mended::Checkpoint { .. })),
    (Kind::IdNotCounted, |mended| matches!(mended, Mended::NextId { next_id: 65, .. })),
    (Kind::Tally, |mended| matches!(mended, Mended::Tally { .. })),
    (Kind::Live, |mended| matches!(mended, Mended::Live { segment: SegmentId(20), found: 0, .. })),
    (Kind::SegmentHeader, |mended| *mended == Mended::Header { segment: SegmentId(4) }),
    (Kind::Inventory, |mended| matches!(mended, Mended::Inventory { .. })),
    (Kind::NotInInventory, |mended| matches!(mended, Mended::Inventory { segment: SegmentId(3), .. })),
    (Kind::NotInRecords, |mended| matches!(mended, Mended::Inventory { segment: SegmentId(3), .. })),
    (Kind::OlderSlot, |mended| matches!(mended, Mended::Slot { which: SlotCopy::B, .. })),
];

/// Kinds that cannot be seen in the bytes alone.
const OF_THE_DEVICE: [Kind; 3] = [Kind::SuperblockUnreadable, Kind::NodeUnreadable, Kind::PieceUnreadable];

#[test]
fn what_can_be_put_back_is_and_the_rest_is_not_touched() {
    for kind in Kind::ALL.iter().filter(|kind| !OF_THE_DEVICE.contains(kind)) {
        let disk = Disk::new(&plant(*kind).bytes);
        let outcome = repaired(&disk);
        let Some((_, did)) = MENDED.iter().find(|(mended, _)| mended == kind) else {
            assert!(disk.done.borrow().is_empty(), "{kind:?} was written to");
            match outcome {
                Err(RepairError::Beyond { violations, .. }) => {
                    assert!(violations.iter().any(|violation| violation.kind() == *kind), "{kind:?}");
                }
                // Bytes that rotted stay so, and stand in nobody's way.
                Ok(Repaired { mended, report }) => {
                    assert_eq!((*kind, mended), (Kind::PieceChecksum, Vec::new()));
                    assert!(!report.is_clean());
                }
                Err(error) => panic!("{kind:?}: {error}"),
            }
            continue;
        };
        let Repaired { mended, report } = outcome.unwrap_or_else(|error| panic!("{kind:?}: {error:?}"));
        assert!(report.is_clean(), "{kind:?}: {report}");
        assert!(mended.iter().any(did), "{kind:?}: {mended:?}");
        // Twice is once.
        let done = disk.done.borrow().len();
        let again = repaired(&disk).unwrap_or_else(|error| panic!("{kind:?}: {error:?}"));
        assert!(again.mended.is_empty() && disk.done.borrow().len() == done, "{kind:?}: {:?}", again.mended);
    }
}

/// The disk when the power goes after the first `count` things that were done: what no flush covers may be there or not,
/// sector by sector.
fn crashed(base: &[u8], done: &[Done], rng: &mut fastrand::Rng, share: u8) -> Vec<u8> {
    let covered = done.iter().rposition(|done| *done == Done::Flush).unwrap_or(0);
    let mut bytes = base.to_vec();
    for (index, done) in done.iter().enumerate() {
        let Done::Write(at, written) = done else { continue };
        for (sector, from) in written.chunks(SECTOR).enumerate() {
            if index < covered || rng.u8(..100) < share {
                bytes[at + sector * SECTOR..][..SECTOR].copy_from_slice(from);
            }
        }
    }
    bytes
}

#[test]
fn a_crash_at_any_moment_of_a_repair() {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut states = BTreeSet::new();
    for (kind, _) in MENDED {
        let base = plant(kind).bytes;
        let disk = Disk::new(&base);
        let whole = repaired(&disk).unwrap_or_else(|error| panic!("{kind:?}: {error:?}")).report;
        let done = disk.done.into_inner();
        for count in 0..=done.len() {
            for share in [0, 100, 50, 50, 50, 50] {
                let bytes = crashed(&base, &done[..count], &mut rng, share);
                let disk = Disk::new(&bytes);
                let again = repaired(&disk);
                let again =
                    again.unwrap_or_else(|error| panic!("{kind:?}, {count} of {}: {error:?}", done.len()));
                assert!(again.report.is_clean(), "{kind:?}: {}", again.report);
                assert_eq!(contents(&again.report), contents(&whole), "{kind:?}");
                states.insert(seabed_types::Crc::of(&bytes).0);
            }
        }
    }
    assert!(states.len() > 100, "{} states", states.len());
}

/// Nothing that a repair writes lies where something is that anybody needs: without the writes that put a slot or
/// superblock back, the store is as it was.
#[test]
fn a_repair_without_its_last_writes_is_none() {
    for (kind, _) in MENDED {
        let base = plant(kind).bytes;
        let before = check(&base, &Options::default()).expect("a store");
        let disk = Disk::new(&base);
        repaired(&disk).unwrap_or_else(|error| panic!("{kind:?}: {error:?}"));
        let mut bytes = base.clone();
        let front =
            before.superblock.layout.device_offset(Paddr::new(before.superblock.layout.first_segment(), 0));
        let back = bytes.len() - 2 * 4096;
        for done in disk.done.into_inner() {
            let Done::Write(at, written) = done else { continue };
            let is_in_segments = at as u64 >= front && at < back;
            if is_in_segments {
                bytes[at..at + written.len()].copy_from_slice(&written);
            }
        }
        let after = check(&bytes, &Options::default()).expect("a store");
        assert_eq!(contents(&after), contents(&before), "{kind:?}");
        let kinds = |report: &Report| {
            report.violations.iter().map(seabed_check::Violation::kind).collect::<BTreeSet<_>>()
        };
        assert!(kinds(&after).is_subset(&kinds(&before)), "{kind:?}: {after}");
    }
}

/// A store was made where another had been, and two copies of the new superblock did not get there.
#[test]
fn the_superblock_counts_whose_secret_the_slots_know() {
    let mut shard = populated();
    let superblock = check_all(&shard).superblock;
    let mut other = superblock;
    other.identity.secret[0] ^= 1;
    for (copy, at) in [(0, 0), (1, 16 << 10), (2, 32 << 10)] {
        shard.disk.write_at(at, &other.encode(copy));
    }
    let disk = Disk::new(&shard.disk.bytes);
    let Repaired { mended, report } = repaired(&disk).expect("copy 3 is right");
    assert_eq!(mended.len(), 3);
    assert!(report.is_clean() && report.superblock == superblock);
}

#[test]
fn a_sound_store_is_not_written_to() {
    let disk = Disk::new(&populated().disk.bytes);
    let Repaired { mended, report } = repaired(&disk).expect("a store");
    assert!(mended.is_empty() && report.is_clean());
    assert!(disk.done.borrow().is_empty());
}

/// The newest slot's body is gone in both copies, the older slot opens the store: an engine would not mount it.
#[test]
fn the_older_slot_takes_over() {
    let mut shard = populated();
    let whole = check_all(&shard);
    shard.checkpoint_with(Edits { slots: vec![SlotCopy::A], ..Edits::default() });
    for part in shard.parts {
        shard.disk.flip(part.at);
    }
    let disk = Disk::new(&shard.disk.bytes);
    let Repaired { mended, report } = repaired(&disk).expect("the older slot is sound");
    assert!(mended.iter().any(|mended| matches!(mended, Mended::Checkpoint { .. })), "{mended:?}");
    assert!(report.is_clean());
    assert_eq!(contents(&report), contents(&whole));
}

/// The segment that a repair would take first was claimed behind the checkpoint and is empty. The body that it wrote there
/// named a later use of it, the record in the window an earlier one, and the rehearsal called the store beyond repair.
#[test]
fn segments_that_the_window_claims_are_not_taken() {
    let mut shard = populated();
    let fresh = shard.fresh(seabed_segment::StreamKind::Bulk);
    shard.record(|record| record.claim(&fresh));
    shard.disk.flip(shard.parts[0].at);
    let disk = Disk::new(&shard.disk.bytes);
    let Repaired { mended, report } = repaired(&disk).expect("there are other segments");
    assert!(report.is_clean());
    let is_written = |mended: &Mended| matches!(mended, Mended::Checkpoint { segments, .. } if !segments.contains(&fresh.segment));
    assert!(mended.iter().any(is_written), "{mended:?}");
}

#[test]
fn without_free_segments_there_is_no_checkpoint() {
    let mut shard = populated();
    // All but three segments are claimed by the journal.
    let body = |body: &mut seabed_journal::Body| {
        let free = body.segments.last().expect("some").segment.0 + 1;
        body.collections[0].tally.objects += 1;
        for segment in free..=43 {
            body.segments.push(seabed_journal::SegmentState {
                segment: SegmentId(segment),
                incarnation: seabed_types::Incarnation(1),
                stream: Some(seabed_segment::StreamKind::Journal),
                age: 0,
                live: 0,
            });
        }
    };
    shard.checkpoint_with(Edits { body: Box::new(body), ..Edits::default() });
    let disk = Disk::new(&shard.disk.bytes);
    let outcome = repaired(&disk);
    assert!(matches!(outcome, Err(RepairError::NoSpace { free: 3, needed: 4 })), "{outcome:?}");
    assert!(disk.done.borrow().is_empty());
}

/// Offsets of bytes that mean something.
fn used(shard: &Shard) -> Vec<usize> {
    let bytes = &shard.disk.bytes;
    (0..bytes.len()).filter(|at| bytes[*at] != 0).collect()
}

#[test]
fn flipped_bytes_are_put_back_or_left_alone() {
    let mut shard = populated();
    shard.disk.seal(&shard.bulk);
    shard.disk.seal(&shard.nodes);
    let whole = check_all(&shard);
    let (mut clean, mut mended, mut rotten, mut beyond) = (0, 0, 0, 0);
    let mut rng = fastrand::Rng::with_seed(3);
    let used = used(&shard);
    for _ in 0..1500 {
        let at = used[rng.usize(..used.len())];
        let mut bytes = shard.disk.bytes.clone();
        bytes[at] ^= 1 << rng.u8(..8);
        let disk = Disk::new(&bytes);
        match repaired(&disk) {
            Ok(repaired) if !repaired.report.is_clean() => rotten += 1,
            Ok(Repaired { mended: did, report }) => {
                let is_torn = report.shards[0].end != whole.shards[0].end;
                assert!(is_torn || contents(&report) == contents(&whole), "byte {at:#x}: {report}");
                if did.is_empty() { clean += 1 } else { mended += 1 }
            }
            Err(RepairError::Beyond { .. }) => {
                assert!(disk.done.borrow().is_empty());
                beyond += 1;
            }
            Err(error) => panic!("byte {at:#x}: {error}"),
        }
    }
    let counts = format!("{clean} clean, {mended} mended, {rotten} rotten, {beyond} beyond");
    assert!(clean > 0 && mended > 20 && rotten > 500 && beyond > 5, "{counts}");
}
