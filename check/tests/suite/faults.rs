//! Faults: images that cannot be read everywhere, bounds on findings, progress.

use std::cell::Cell;
use std::io;
use std::ops::Range;

use seabed_check::{Image, NodeFault, Options, Phase, PieceFault, Report, Violation, check, check_with};
use seabed_segment::SlotCopy;
use seabed_types::{Lsn, Paddr, SegmentId, ShardId};

use super::clean::{expect_clean, populated};
use super::objects::{HASH, names_key, onode};
use super::shard::Shard;

/// An image that cannot be read in a range, for ever or a number of times.
struct Failing<'a> {
    shard: &'a Shard,
    range: Range<u64>,
    left: Cell<u32>,
}

impl Image for Failing<'_> {
    fn bytes(&self) -> u64 {
        self.shard.disk.bytes.len() as u64
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let meets = at < self.range.end && self.range.start < at + into.len() as u64;
        if meets && self.left.get() > 0 {
            self.left.set(self.left.get() - 1);
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        Image::read(&self.shard.disk.bytes, at, into)
    }
}

fn failing(shard: &Shard, at: u64, times: u32) -> Report {
    let image = Failing { shard, range: at..at + 512, left: Cell::new(times) };
    check(&image, &Options::default()).expect("a store")
}

type Expected = Box<dyn Fn(&Violation) -> bool>;

#[test]
fn what_cannot_be_read() {
    let shard = populated();
    let offset = |at: Paddr| shard.disk.layout.device_offset(at);
    let record = offset(shard.places[&Lsn(3)].0);
    let slot = shard.disk.layout.slot(ShardId(0), SlotCopy::A);
    let error = io::ErrorKind::ResourceBusy;
    let node = shard.images[0].2.at;
    let chunk = Paddr::new(SegmentId(3), 24_576);
    let cases: [(u64, Expected); 6] = [
        (
            16 << 10,
            Box::new(move |violation| *violation == Violation::SuperblockUnreadable { copy: 1, error }),
        ),
        (slot, Box::new(|violation| matches!(violation, Violation::Slot { what: "cannot be read", .. }))),
        (offset(shard.parts[1].at), Box::new(|violation| matches!(violation, Violation::BodyPart { .. }))),
        (
            record,
            Box::new(|violation| {
                matches!(violation, Violation::JournalDamaged { what: "cannot be read", .. })
            }),
        ),
        (
            offset(node),
            Box::new(|violation| {
                matches!(violation, Violation::Node { fault: NodeFault::Unreadable(_), .. })
            }),
        ),
        (
            offset(chunk),
            Box::new(move |violation| {
                let fault = PieceFault::Unreadable(error);
                matches!(violation, Violation::Piece { at, fault: found, .. } if (*at, *found) == (chunk, fault))
            }),
        ),
    ];
    for (at, expected) in cases {
        assert!(failing(&shard, at, 1).is_clean(), "an error that goes away is none");
        let report = failing(&shard, at, u32::MAX);
        let (as_expected, others): (Vec<_>, Vec<_>) =
            report.violations.iter().partition(|violation| expected(violation));
        assert!(!as_expected.is_empty() && others.is_empty(), "{report}");
    }
}

#[test]
fn findings_are_bounded() {
    let mut shard = populated();
    for id in 0..20u32 {
        shard.record(|record| {
            let key = names_key("ahead", HASH + 1 + id);
            record.set(super::clean::NAMES, key, onode(0, 1000 + u64::from(id), 0, 0, 0), &[]);
        });
        if id % 8 == 3 {
            shard.roll();
        }
    }
    let options = Options { findings_max: 5, ..Options::default() };
    let report = check(&shard.disk.bytes, &options).expect("a store");
    assert_eq!((report.violations.len(), report.violations_left_out), (5, 15));
    assert!(!report.is_clean());
    let none = Options { findings_max: 0, ..Options::default() };
    assert!(!check(&shard.disk.bytes, &none).expect("a store").is_clean());
}

#[test]
fn progress_is_told() {
    let shard = populated();
    expect_clean(&shard);
    let mut phases = Vec::new();
    let report =
        check_with(&shard.disk.bytes, &Options::default(), &mut |progress| phases.push(progress.phase));
    assert!(report.expect("a store").is_clean());
    for phase in [Phase::Journal, Phase::Rows, Phase::Segments] {
        assert!(phases.contains(&phase), "{phase:?}");
    }
}
