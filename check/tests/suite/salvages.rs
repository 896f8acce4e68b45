//! Salvages: what is saved of stores that lost their superblocks, slots, checkpoints, nodes, records or bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use seabed_check::Image;
use seabed_check::salvage::{Data, Found, Hole, Loss, Salvage, SalvageError};
use seabed_object::key::Kind;
use seabed_segment::{SlotCopy, Superblock};
use seabed_types::{BLOCK_BYTES, Lsn, Paddr, ShardId};

use super::clean::{BODIES, NAMES, populated};
use super::objects::{
    ATTRIBUTES, DATA, HASH, data, extents, extents_key, inline, named_key, names_key, onode, patch,
};
use super::shard::{Edits, Shard};
use super::trees::tall;

/// An object's bytes, with zeros where nothing was given.
struct Bytes(Vec<u8>);

impl Data for Bytes {
    type Error = Infallible;

    fn take(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Infallible> {
        let at = usize::try_from(offset).expect("small");
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

#[derive(PartialEq, Debug)]
struct Saved {
    bytes: Vec<u8>,
    holes: Vec<Hole>,
    found: Found,
}

/// All objects by name, those without one by their family, and what else is lost.
fn saved(image: &dyn Image) -> (BTreeMap<String, Saved>, Vec<Loss>) {
    let salvage = Salvage::open(image, &mut |_, _| {}).expect("a store");
    let mut all = BTreeMap::new();
    salvage.objects(&mut |found| {
        let name = match &found.id {
            Some(id) => String::from_utf8_lossy(&id.name).into_owned(),
            None => format!("#{}", found.member.family),
        };
        let mut bytes = Bytes(vec![0; usize::try_from(found.size).expect("small")]);
        let holes = salvage.data(&found, &mut bytes).expect("it takes all");
        all.insert(name, Saved { bytes: bytes.0, holes, found });
        true
    });
    (all, salvage.losses().to_vec())
}

/// The bytes of the populated store's big object.
fn big() -> Vec<u8> {
    let mut bytes = data(10_000, 1);
    bytes[4096..8192].copy_from_slice(&data(4096, 4));
    bytes
}

/// A populated store whose last record is proven by another.
fn store() -> Shard {
    let mut shard = populated();
    shard.record(|_| {});
    shard
}

fn names(all: &BTreeMap<String, Saved>) -> Vec<&str> {
    all.keys().map(String::as_str).collect()
}

/// Asserts that the objects of [`store`] are there, whole.
#[track_caller]
fn expect_all(image: &dyn Image) -> Vec<Loss> {
    let (all, losses) = saved(image);
    assert_eq!(names(&all), ["big", "later", "small"], "{losses:?}");
    assert_eq!((&all["big"].bytes, &all["big"].holes), (&big(), &Vec::new()));
    assert!(all.values().all(|saved| saved.found.has_all_values() && saved.holes.is_empty()));
    assert_eq!(all["small"].bytes.len(), 500);
    losses
}

fn lose_superblocks(shard: &mut Shard) {
    for at in Superblock::places(shard.disk.layout.device_bytes) {
        shard.disk.write_at(at, &[0; BLOCK_BYTES]);
    }
}

fn lose_slots(shard: &mut Shard) {
    for which in [SlotCopy::A, SlotCopy::B] {
        let at = shard.disk.layout.slot(ShardId(0), which);
        shard.disk.write_at(at, &[0; BLOCK_BYTES]);
    }
}

/// The slots and all bodies: those of the newest checkpoint and those of the first.
fn lose_checkpoints(shard: &mut Shard) {
    lose_slots(shard);
    for part in Shard::new().parts.into_iter().chain(shard.parts) {
        shard.disk.flip(part.at);
    }
}

#[test]
fn a_sound_store() {
    assert_eq!(expect_all(&store().disk.bytes), []);
    let mut published = store();
    published.checkpoint();
    assert_eq!(expect_all(&published.disk.bytes), []);
}

#[test]
fn without_superblocks() {
    let mut shard = store();
    lose_superblocks(&mut shard);
    assert_eq!(expect_all(&shard.disk.bytes), [Loss::Superblocks]);
    lose_slots(&mut shard);
    let slots = Loss::Slots { shard: ShardId(0), checkpoint: Some(Lsn(3)) };
    assert_eq!(expect_all(&shard.disk.bytes), [Loss::Superblocks, slots]);
    let nothing = vec![7; 3 << 20];
    assert_eq!(Salvage::open(&nothing, &mut |_, _| {}).err(), Some(SalvageError::NoStore));
}

/// The image of a store that is kept in a store has more headers than the store itself.
#[test]
fn another_store_inside_is_not_taken_for_it() {
    let mut shard = store();
    lose_superblocks(&mut shard);
    let inside: Vec<u8> = shard.disk.bytes[65_536..8 * 65_536].to_vec();
    let at = 20 * 65_536 + 4096;
    shard.disk.bytes[at..at + inside.len()].copy_from_slice(&inside);
    assert_eq!(expect_all(&shard.disk.bytes), [Loss::Superblocks]);
}

#[test]
fn without_slots() {
    let mut shard = store();
    lose_slots(&mut shard);
    let slots = Loss::Slots { shard: ShardId(0), checkpoint: Some(Lsn(3)) };
    assert_eq!(expect_all(&shard.disk.bytes), [slots]);
}

#[test]
fn without_any_checkpoint() {
    let mut shard = store();
    lose_checkpoints(&mut shard);
    let (all, losses) = saved(&shard.disk.bytes);
    assert_eq!(losses, [Loss::Slots { shard: ShardId(0), checkpoint: None }]);
    // Leaves and changes tell the same. What is no row may be a hole or lost.
    assert_eq!(names(&all), ["big", "later", "small"]);
    assert_eq!((&all["big"].bytes, &all["big"].holes), (&big(), &Vec::new()));
}

#[test]
fn below_a_lost_node() {
    let mut shard = store();
    shard.checkpoint();
    for (tree, _, node) in shard.images.clone() {
        let mut shard = shard.clone();
        shard.disk.flip(node.at.plus(4000));
        let (all, losses) = saved(&shard.disk.bytes);
        assert!(matches!(losses[..], [Loss::Node { tree: lost, .. }] if lost == tree), "{losses:?}");
        // An older leaf and the changes since are there, as the journal goes back far enough.
        assert!(["big", "later", "small"].iter().all(|name| all.contains_key(*name)), "{:?}", names(&all));
        assert_eq!(all["big"].bytes, big());
    }
}

/// The root and its leaves are in records of their own, so that each leaf is found by its record.
#[test]
fn below_a_lost_root() {
    let shard = tall(|_, _, _| {});
    let (whole, _) = saved(&shard.disk.bytes);
    for level in [0, 1] {
        let mut shard = shard.clone();
        let (_, _, root) =
            shard.images.iter().find(|(tree, of, _)| (*tree, *of) == (NAMES, level)).expect("one");
        shard.disk.flip(root.at.plus(4000));
        let (all, losses) = saved(&shard.disk.bytes);
        assert!(matches!(losses[..], [Loss::Node { .. }]));
        let missing: Vec<_> = whole.keys().filter(|name| !all.contains_key(*name)).collect();
        assert!(missing.is_empty(), "level {level}: {missing:?}");
        for (name, saved) in &whole {
            assert_eq!(all[name].bytes, saved.bytes, "{name}");
        }
    }
}

#[test]
fn rotten_bytes_are_holes() {
    let mut shard = store();
    let (at, _) = shard.places[&Lsn(3)];
    shard.disk.flip(at.plus(5000));
    let (all, losses) = saved(&shard.disk.bytes);
    assert_eq!(losses, []);
    let mut expected = big();
    expected[4096..8192].fill(0);
    assert_eq!(all["big"].bytes, expected);
    assert_eq!(all["big"].holes, [Hole { offset: 4096, bytes: 4096 }]);
}

#[test]
fn lost_records() {
    let mut shard = store();
    let (at, _) = shard.places[&Lsn(3)];
    shard.disk.flip(at);
    let (all, losses) = saved(&shard.disk.bytes);
    assert_eq!(losses, [Loss::Records { shard: ShardId(0), first: Lsn(3), end: Lsn(4) }]);
    // What the record removed is there again, what it made is not.
    assert_eq!(names(&all), ["big", "named", "small"]);
    assert_eq!(all["big"].bytes, data(10_000, 1));
    let named = &all["named"].found;
    assert_eq!(named.attributes.len(), 2);
    assert_eq!(named.attributes[0].value, Some(data(2_000, 2)));
    assert_eq!(named.header.as_ref().and_then(|header| header.value.clone()), Some(b"a header".to_vec()));
    assert!(named.has_all_values());
}

#[test]
fn values_that_are_lost() {
    let mut shard = store();
    shard.record(|record| {
        record.set(NAMES, names_key("half", HASH), onode(ATTRIBUTES, 9, 0, 2, 0), &[]);
        record.set(BODIES, named_key(9, Kind::Attribute, b"one"), inline(b"1"), &[]);
    });
    let (all, _) = saved(&shard.disk.bytes);
    let half = &all["half"].found;
    assert_eq!((half.missing, half.has_all_values()), (1, false));
    assert_eq!(half.attributes[0].value, Some(b"1".to_vec()));
}

/// Rows without an onode and without a grave are an object without a name, rows with a grave none.
#[test]
fn objects_without_a_name() {
    let mut shard = store();
    let bytes = data(5000, 9);
    shard.record(|record| {
        let at = record.place(&bytes);
        let row = extents(0, at, &bytes).encode().expect("not empty");
        record.set(BODIES, extents_key(20, 0), row, &[(at, 5000)]);
    });
    shard.record(|_| {});
    let (all, _) = saved(&shard.disk.bytes);
    assert_eq!(names(&all), ["#20", "big", "later", "small"]);
    assert_eq!(all["#20"].bytes, bytes);
}

/// Data of the bulk stream whose rows are lost: a piece that fills its row says by its key where it belongs.
#[test]
fn pieces_without_rows() {
    let mut shard = store();
    // Rows 0 and 1; a record takes at most 16 KiB here, so row 0 is none that is filled.
    let tail = data(3000, 6);
    let key = extents_key(30, 1);
    shard.bulk(&key, &tail);
    shard.record(|record| {
        record.set(NAMES, names_key("bulk", HASH), onode(DATA, 30, (64 << 10) + 3000, 0, 0), &[]);
    });
    shard.record(|_| {});
    // With a tree that says that there is no such row nothing is taken.
    let (all, _) = saved(&shard.disk.bytes);
    assert!(all["bulk"].bytes.iter().all(|byte| *byte == 0) && all["bulk"].holes.is_empty());
    lose_checkpoints(&mut shard);
    let (all, _) = saved(&shard.disk.bytes);
    assert_eq!(all["bulk"].bytes[64 << 10..], tail);
    assert_eq!(all["bulk"].holes, [Hole { offset: 0, bytes: 64 << 10 }]);
}

/// A patch of a row that is lost says what it names, and no more.
#[test]
fn patches_without_their_rows() {
    let mut shard = store();
    let chunk = data(4096, 7);
    shard.record(|record| {
        let at = record.place(&chunk);
        record.set(NAMES, names_key("patched", HASH), onode(DATA, 40, 3 * 4096, 0, 0), &[]);
        record.patch(extents_key(40, 0), patch(&extents(1, at, &chunk)), &[(at, 4096)]);
    });
    shard.record(|_| {});
    lose_checkpoints(&mut shard);
    let (all, _) = saved(&shard.disk.bytes);
    assert_eq!(all["patched"].bytes[4096..8192], chunk);
    let holes = [Hole { offset: 0, bytes: 4096 }, Hole { offset: 8192, bytes: 4096 }];
    assert_eq!(all["patched"].holes, holes);
}

/// A record that a mount cut off stays on the medium and is not believed.
#[test]
fn what_was_cut_off_stays_so() {
    let mut shard = store();
    let mut cut_off = shard.clone();
    cut_off.record(|record| record.set(NAMES, names_key("cut off", 0x20), onode(0, 6, 9, 0, 0), &[]));
    shard.disk = cut_off.disk;
    let head = shard.fresh(seabed_segment::StreamKind::Journal);
    shard.epoch = seabed_types::Epoch(2);
    shard.cuts.push(seabed_journal::Cut {
        lsn: Lsn(5),
        epoch: shard.epoch,
        at: head.at(),
        incarnation: head.incarnation,
    });
    shard.checkpoint_with(Edits { start: Some(Lsn(3)), ..Edits::default() });
    (shard.journal, shard.next) = (head, None);
    assert_eq!(expect_all(&shard.disk.bytes), []);
    shard.record(|_| {});
    lose_slots(&mut shard);
    expect_all(&shard.disk.bytes);
}

/// Whatever is damaged, each byte that is given is one that the object had at some time.
#[test]
fn never_wrong_bytes() {
    let mut shard = store();
    shard.checkpoint();
    let mut rng = fastrand::Rng::with_seed(5);
    let versions: BTreeSet<Vec<u8>> = [data(10_000, 1), big()].into();
    let (mut whole, mut partial, mut none) = (0, 0, 0);
    for _ in 0..400 {
        let mut bytes = shard.disk.bytes.clone();
        for _ in 0..rng.usize(1..30) {
            let at = rng.usize(..8 * 65_536);
            let run = rng.usize(1..2000);
            bytes[at..at + run].fill_with(|| rng.u8(..));
        }
        if rng.bool() {
            bytes[..65_536].fill(0);
        }
        let Ok(salvage) = Salvage::open(&bytes, &mut |_, _| {}) else { continue };
        salvage.objects(&mut |found| {
            let is_big = found.id.as_ref().is_some_and(|id| *id.name == *b"big");
            if !is_big {
                return true;
            }
            let mut bytes = Bytes(vec![0; usize::try_from(found.size).expect("small")]);
            let holes = salvage.data(&found, &mut bytes).expect("it takes all");
            let is_hole = |at: usize| {
                holes.iter().any(|hole| (hole.offset..hole.offset + hole.bytes).contains(&(at as u64)))
            };
            for (index, chunk) in bytes.0.chunks(4096).enumerate() {
                if is_hole(index * 4096) {
                    partial += 1;
                    continue;
                }
                let is_one = versions.iter().any(|version| version.chunks(4096).nth(index) == Some(chunk));
                assert!(is_one, "chunk {index}");
                whole += 1;
            }
            true
        });
        none += 1;
    }
    assert!(whole > 100 && partial > 50 && none > 100, "{whole} whole, {partial} holes, {none}");
}

#[test]
fn images_that_cannot_be_read_everywhere() {
    let shard = store();
    let at = shard.disk.layout.device_offset(Paddr::new(shard.bulk.segment, 0));
    let image = super::plants::Planted { bytes: shard.disk.bytes, unreadable: at..at + 65_536, company: &[] };
    let (all, losses) = saved(&image);
    assert!(losses.iter().any(|loss| matches!(loss, Loss::Unreadable { segments: 1, .. })), "{losses:?}");
    assert_eq!(names(&all), ["big", "later", "small"]);
    assert_eq!(all["big"].holes, [Hole { offset: 0, bytes: 4096 }, Hole { offset: 8192, bytes: 1808 }]);
}
