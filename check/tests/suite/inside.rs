//! Objects whose extents stand in their onode: checked, scrubbed in several runs, salvaged, their inventories made again.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;

use seabed_check::repair::repair;
use seabed_check::salvage::{Data, Salvage};
use seabed_check::scrub::{Bad, Ended, Go, Of, Position, Watch, scrub};
use seabed_check::{Image, Medium, Note, Options, check};
use seabed_object::extents::Extents;
use seabed_object::key::{self, Member};
use seabed_segment::Superblock;
use seabed_types::Paddr;

use super::clean::{BODIES, NAMES, check_all, expect_clean, populated};
use super::objects::{HASH, data, extents, extents_key, names_key, onode};
use super::shard::Shard;

/// Family, name, hash and bytes: two of the hash that has bodies rows, one of a hash with nothing else, one of the last.
const OBJECTS: [(u64, &str, u32, usize); 4] = [
    (20, "in1", HASH, 8200),
    (21, "in2", HASH, 500),
    (22, "in3", 0x13, 1000),
    (23, "in4", u32::MAX - 1, 600),
];

fn inside(family: u64, size: usize, extents: &Extents) -> Vec<u8> {
    let mut value = onode(64, family, size as u64, 0, 0);
    // Extents stand in the place of the inline data.
    assert_eq!(value.pop(), Some(0));
    value.extend(extents.encode().expect("not empty"));
    value
}

/// The store, and where the objects' data is. The first one's is in the bulk stream.
fn store() -> (Shard, Vec<Paddr>) {
    let mut shard = populated();
    let mut places = Vec::new();
    for (family, name, hash, bytes) in OBJECTS {
        let all = data(bytes, family);
        if family == 20 {
            let row = key::extents(Member { hash, family, number: 0 }, 0).to_vec();
            let at = shard.bulk(&row, &all);
            shard.record(|record| {
                record.set(NAMES, names_key(name, hash), inside(family, bytes, &extents(0, at, &all)), &[]);
            });
            places.push(at);
        } else {
            shard.record(|record| {
                let at = record.place(&all);
                let value = inside(family, bytes + 7, &extents(0, at, &all));
                record.set(NAMES, names_key(name, hash), value, &[(at, bytes)]);
                places.push(at);
            });
        }
    }
    shard.record(|_| {});
    (shard, places)
}

/// Stops after so many steps.
struct Watcher {
    bad: Vec<Bad>,
    steps: usize,
    position: Option<Position>,
}

impl Watch for Watcher {
    fn read(&mut self, _: u64, position: &Position) -> Go {
        assert!(self.position.as_ref().is_none_or(|before| before <= position), "it never goes back");
        self.position = Some(position.clone());
        self.steps = self.steps.saturating_sub(1);
        if self.steps == 0 { Go::Stop } else { Go::On }
    }

    fn bad(&mut self, bad: Bad) {
        self.bad.push(bad);
    }

    fn note(&mut self, _: Note) {}
}

fn scrubbed(shard: &Shard, from: Option<Position>, steps: usize) -> (Watcher, Ended) {
    let mut watcher = Watcher { bad: Vec::new(), steps, position: None };
    let ended = scrub(&shard.disk.bytes, from, &mut |_| {}, &mut watcher).expect("a store");
    (watcher, ended)
}

#[test]
fn a_scrub_names_what_is_bad_once_in_however_many_runs() {
    for has_checkpoint in [false, true] {
        let (mut shard, places) = store();
        if has_checkpoint {
            shard.checkpoint();
        }
        expect_clean(&shard);
        assert!(scrubbed(&shard, None, usize::MAX).0.bad.is_empty());
        for at in places {
            shard.disk.flip(at);
        }
        let whole = scrubbed(&shard, None, usize::MAX).0.bad;
        let named = whole.iter().map(|bad| match bad {
            Bad::Piece { whose, of: Of::Data { offset: 0 }, .. } => {
                whose.object.as_ref().map(|id| id.name.to_vec()).unwrap_or_default()
            }
            other @ (Bad::Piece { .. } | Bad::Other(_)) => panic!("{other:?}"),
        });
        let mut named: Vec<Vec<u8>> = named.collect();
        named.sort();
        assert_eq!(named, OBJECTS.map(|(_, name, ..)| name.as_bytes().to_vec()));
        for steps in 3..12 {
            let (mut bad, mut position) = (Vec::new(), None);
            loop {
                let (run, ended) = scrubbed(&shard, position.clone(), steps);
                bad.extend(run.bad);
                if ended == Ended::Done {
                    break;
                }
                assert_ne!(position, run.position, "each run gets further");
                position = run.position;
            }
            assert_eq!(bad, whole, "{steps} steps a run");
        }
    }
}

struct Bytes(Vec<u8>);

impl Data for Bytes {
    type Error = Infallible;

    fn take(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Infallible> {
        let offset = usize::try_from(offset).expect("small");
        self.0[offset..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

#[test]
fn they_are_salvaged_whole() {
    for has_superblocks in [true, false] {
        let (mut shard, _) = store();
        if !has_superblocks {
            for at in Superblock::places(shard.disk.layout.device_bytes) {
                shard.disk.write_at(at, &[0; 4096]);
            }
        }
        let salvage = Salvage::open(&shard.disk.bytes, &mut |_, _| {}).expect("something is found");
        let mut seen = 0;
        salvage.objects(&mut |found| {
            let name = found.id.as_ref().expect("all have names").name.clone();
            let Some((family, _, _, bytes)) = OBJECTS.iter().find(|(_, known, ..)| name == *known) else {
                return true;
            };
            let mut saved = Bytes(vec![0; usize::try_from(found.size).expect("small")]);
            assert_eq!(salvage.data(&found, &mut saved), Ok(Vec::new()));
            assert_eq!(saved.0[..*bytes], data(*bytes, *family));
            assert!(saved.0[*bytes..].iter().all(|byte| *byte == 0));
            seen += 1;
            true
        });
        assert_eq!(seen, OBJECTS.len());
    }
}

struct Disk(RefCell<Vec<u8>>);

impl Image for Disk {
    fn bytes(&self) -> u64 {
        self.0.borrow().len() as u64
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        Image::read(&*self.0.borrow(), at, into)
    }
}

impl Medium for Disk {
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let at = usize::try_from(at).map_err(io::Error::other)?;
        self.0.borrow_mut()[at..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_lost_inventory_lists_them_again() {
    let (mut shard, _) = store();
    let sealed = shard.journal.segment;
    shard.roll();
    shard.record(|_| {});
    expect_clean(&shard);
    shard.disk.flip(Paddr::new(sealed, shard.disk.layout.segment_bytes - 4096));
    assert_ne!(check_all(&shard).notes, [], "a seal is damaged");
    let disk = Disk(RefCell::new(shard.disk.bytes.clone()));
    repair(&disk, &Options::default(), &mut |_| {}).expect("it can be repaired");
    let report = check(&disk, &Options::default()).expect("a store");
    assert!(report.is_clean(), "{report}");
}

/// Extents that do not decode are told by a scrub as by a check, wherever they stand.
#[test]
fn malformed_extents_are_told() {
    for is_inside in [false, true] {
        let mut shard = populated();
        shard.record(|record| {
            let all = data(1000, 9);
            let good = extents(0, record.place(&all), &all);
            if is_inside {
                let mut value = inside(30, 1000, &good);
                value.pop();
                record.set(NAMES, names_key("x", HASH), value, &[]);
            } else {
                record.set(NAMES, names_key("x", HASH), onode(2 | 32, 30, 1000, 0, 0), &[]);
                let mut value = good.encode().expect("not empty");
                value.pop();
                record.set(BODIES, extents_key(30, 0), value, &[]);
            }
        });
        shard.record(|_| {});
        assert_eq!(check_all(&shard).violations.len(), 1);
        assert_eq!(scrubbed(&shard, None, usize::MAX).0.bad.len(), 1);
    }
}
