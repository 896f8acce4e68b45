//! Scrubs: every byte that counts is read once, what is bad is named, and a scrub that was stopped is taken up again.

use seabed_check::scrub::{Bad, Ended, Go, Of, Position, Watch, scrub};
use seabed_check::{Kind, Note, PieceFault};
use seabed_types::{Lsn, Paddr, SegmentId};

use super::clean::populated;
use super::plants::plant;
use super::shard::Shard;

/// Keeps what it is told, and stops after so many steps.
struct Watcher {
    bytes: u64,
    bad: Vec<Bad>,
    notes: Vec<Note>,
    left: usize,
    position: Option<Position>,
}

impl Watcher {
    fn new(left: usize) -> Self {
        Self { bytes: 0, bad: Vec::new(), notes: Vec::new(), left, position: None }
    }
}

impl Watch for Watcher {
    fn read(&mut self, bytes: u64, position: &Position) -> Go {
        assert!(self.position.as_ref().is_none_or(|before| before <= position), "it goes on, never back");
        self.bytes += bytes;
        self.position = Some(position.clone());
        self.left = self.left.saturating_sub(1);
        if self.left == 0 { Go::Stop } else { Go::On }
    }

    fn bad(&mut self, bad: Bad) {
        self.bad.push(bad);
    }

    fn note(&mut self, note: Note) {
        self.notes.push(note);
    }
}

fn whole(shard: &Shard) -> Watcher {
    let mut watcher = Watcher::new(usize::MAX);
    let ended = scrub(&shard.disk.bytes, None, &mut |_| {}, &mut watcher).expect("a store");
    assert_eq!(ended, Ended::Done);
    watcher
}

#[test]
fn a_sound_store_is_read_whole() {
    let shard = populated();
    let mut live_bytes = 0;
    let mut watcher = Watcher::new(usize::MAX);
    scrub(&shard.disk.bytes, None, &mut |outlook| live_bytes = outlook.live_bytes, &mut watcher)
        .expect("a store");
    assert_eq!(live_bytes, 12_900 + 2 * 4096, "pieces and leaves");
    assert!(watcher.bad.is_empty() && watcher.notes.is_empty());
    let checked = super::clean::check_all(&shard).counts.bytes_verified;
    assert_eq!(watcher.bytes, checked);
}

/// A populated store whose last record is empty: data of a last record that rotted would be a torn end.
fn proven() -> Shard {
    let mut shard = populated();
    shard.record(|_| {});
    shard
}

/// Where the pieces of a populated store are, and whose they are.
fn pieces(shard: &Shard) -> [(Paddr, u32, Option<&'static [u8]>, Of); 5] {
    let bulk = |offset| Paddr::new(SegmentId(3), offset);
    let (first, _) = shard.places[&Lsn(2)];
    let (patched, _) = shard.places[&Lsn(3)];
    [
        (bulk(16_384), 4096, Some(b"big"), Of::Data { offset: 0 }),
        (patched.plus(4096), 4096, Some(b"big"), Of::Data { offset: 4096 }),
        (bulk(24_576), 1808, Some(b"big"), Of::Data { offset: 8192 }),
        // Of an object that was removed.
        (first.plus(4096), 2000, None, Of::Attribute(b"color".to_vec())),
        (first.plus(4096 + 2000), 900, None, Of::Omap(b"k".to_vec())),
    ]
}

#[test]
fn the_object_and_the_offset_are_named() {
    for (at, bytes, name, of) in pieces(&proven()) {
        let mut shard = proven();
        shard.disk.flip(at.plus(bytes / 2));
        let bad = whole(&shard).bad;
        let [Bad::Piece { whose, of: found, at: place, bytes: length, fault: PieceFault::Checksum(_) }] =
            &bad[..]
        else {
            panic!("{at} {bytes}: {bad:?}")
        };
        assert_eq!((found, *place, *length), (&of, at, bytes));
        assert_eq!(whose.object.as_ref().map(|id| id.name.to_vec()), name.map(<[u8]>::to_vec));
        assert_eq!((whose.pool.0, &whose.pool_name), (7, &None));
    }
}

#[test]
fn all_kinds_of_rot_are_found() {
    for kind in [
        Kind::Superblock,
        Kind::SuperblockUnreadable,
        Kind::Slot,
        Kind::BodyPart,
        Kind::JournalDamaged,
        Kind::NodeUnreadable,
        Kind::NodeChecksum,
        Kind::PieceUnreadable,
        Kind::PieceChecksum,
    ] {
        let mut watcher = Watcher::new(usize::MAX);
        scrub(&plant(kind), None, &mut |_| {}, &mut watcher).expect("a store");
        let found = watcher.bad.iter().any(|bad| match bad {
            Bad::Piece { fault, .. } => match fault {
                PieceFault::Checksum(_) => kind == Kind::PieceChecksum,
                PieceFault::Unreadable(_) => kind == Kind::PieceUnreadable,
                PieceFault::Pointer => false,
            },
            Bad::Other(violation) => violation.kind() == kind,
        });
        assert!(found, "{kind:?}: {:?}", watcher.bad);
    }
    let mut shard = populated();
    shard.disk.seal(&shard.bulk);
    shard.disk.flip(shard.bulk.at());
    let watcher = whole(&shard);
    assert_eq!(watcher.notes, [Note::InventoryLost { segment: SegmentId(3) }]);
    assert!(watcher.bad.is_empty());
}

#[test]
fn a_scrub_is_taken_up_where_it_stopped() {
    let mut shard = proven();
    let all = pieces(&shard);
    for (at, ..) in &all {
        shard.disk.flip(*at);
    }
    let at_once = whole(&shard);
    assert_eq!(at_once.bad.len(), all.len());
    // One step is the front's, one may be the end of a collection.
    for steps in 3..7 {
        let (mut bad, mut position, mut runs) = (Vec::new(), None, 0);
        loop {
            let mut watcher = Watcher::new(steps);
            let ended =
                scrub(&shard.disk.bytes, position.clone(), &mut |_| {}, &mut watcher).expect("a store");
            bad.extend(watcher.bad);
            runs += 1;
            if ended == Ended::Done {
                break;
            }
            assert_ne!(position, watcher.position, "each run gets somewhere");
            position = watcher.position;
        }
        assert_eq!(bad, at_once.bad, "{steps} steps at a time");
        assert!(runs > 1);
    }
    // What was done is not read again.
    let mut watcher = Watcher::new(usize::MAX);
    let from = Position::Segments { segment: SegmentId(0) };
    scrub(&shard.disk.bytes, Some(from), &mut |_| {}, &mut watcher).expect("a store");
    assert!(watcher.bad.is_empty() && watcher.bytes < at_once.bytes - 12_900);
}
