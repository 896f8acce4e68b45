//! Space: what a store says of its segments, and that what it says of a full one is right.

use seabed::blocking::Store;
use seabed::{Access, Discard, Error, OpenOptions, Space, SpaceUse};

use crate::format;

fn check(space: &Space) {
    let segments: u64 = space.groups.values().map(|group| group.segments).sum();
    assert_eq!(segments * space.segment_bytes, space.segments_bytes, "each is counted once: {space:?}");
    let live: u64 = space.groups.values().map(|group| group.live_bytes).sum();
    assert_eq!(live, space.live_bytes);
    assert_eq!(live + space.dead_bytes() + space.free_bytes(), space.segments_bytes);
    assert!(space.usable_bytes < space.segments_bytes);
    assert!(space.writable_now_bytes <= space.writable_cleaned_bytes);
    assert!(space.writable_cleaned_bytes <= space.usable_bytes - space.live_bytes);
    assert!(space.reserves.total_bytes() > 0);
}

#[test]
fn every_segment_has_its_use() {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("store.img");
    format(&path);
    let store =
        Store::open(&path, OpenOptions { cleaning: true, ..OpenOptions::default() }).expect("a store");
    let empty = store.space().expect("open");
    check(&empty);
    assert_eq!(empty.writable_bytes, empty.writable_cleaned_bytes);
    // A store of 64 MiB takes more than a third of that.
    assert!(empty.writable_now_bytes > 22 << 20, "{empty:?}");
    let pool = store.create_pool("p").expect("space");
    let mut count = 0;
    let error = loop {
        match pool.put(format!("{count}"), vec![7; 400_000]) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(count * 400_000 >= empty.writable_bytes, "{count} were put: {empty:?}");
    let Error::NoSpace { live, usable, reserved, .. } = error.clone() else { panic!("{error}") };
    assert_eq!((usable, usable + reserved), (empty.usable_bytes, empty.segments_bytes));
    assert!(live > count * 400_000 && live <= usable);
    let text = error.to_string();
    for part in [live.to_string(), usable.to_string(), reserved.to_string(), "removing".into()] {
        assert!(text.contains(&part), "{part} is not in {text}");
    }
    let full = store.space().expect("open");
    check(&full);
    assert!(full.writable_bytes < 8 << 20, "{full:?}");
    for number in (0..count).filter(|number| number % 4 > 0) {
        pool.remove(number.to_string()).expect("there");
    }
    store.clean(seabed::CleanOptions::default()).expect("space");
    let cleaned = store.space().expect("open");
    check(&cleaned);
    assert!(cleaned.group(SpaceUse::Relocated(0)).live_bytes > 0, "{cleaned:?}");
    assert!(cleaned.writable_now_bytes * 2 > empty.writable_now_bytes, "{cleaned:?}");
    store.close().expect("clean");
    let options = OpenOptions { access: Access::ReadOnly, ..OpenOptions::default() };
    let store = Store::open(&path, options).expect("a store");
    let read = store.space().expect("open");
    check(&read);
    assert_eq!((read.live_bytes, read.usable_bytes), (cleaned.live_bytes, cleaned.usable_bytes));
    assert_eq!(read.group(SpaceUse::Relocated(0)), cleaned.group(SpaceUse::Relocated(0)), "ages are kept");
    assert_eq!(read.writable_bytes, read.writable_now_bytes, "cleaning is off");
}

#[test]
#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn what_was_written_is_told_by_purpose() {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("store.img");
    format(&path);
    let store = Store::open(&path, OpenOptions::default()).expect("a store");
    assert_eq!(store.stats().expect("open").write_amplification(), None);
    let pool = store.create_pool("p").expect("space");
    for number in 0..20 {
        pool.put(format!("{number}"), vec![7; 400_000]).expect("space");
    }
    let stats = store.stats().expect("open");
    let parts = stats.write_amplification().expect("written");
    assert!(parts.data >= 1.0 && parts.data < 1.2, "{parts:?}");
    assert!(parts.metadata > 0.0 && parts.relocated == 0.0, "{parts:?}");
    let total = parts.total() * stats.user_bytes_written as f64;
    assert!((total - stats.device_bytes_written as f64).abs() < 1.0, "{parts:?}");
    store.close().expect("clean");
}

/// On a file only if it is asked for: a hole makes the next write of the segment dear.
#[test]
fn free_segments_are_discarded_on_request() {
    for (discard, is_wanted) in [(Discard::Auto, false), (Discard::Off, false), (Discard::On, true)] {
        let dir = tempfile::tempdir().expect("a place for files");
        let path = dir.path().join("store.img");
        format(&path);
        let open = || Store::open(&path, OpenOptions { discard, ..OpenOptions::default() }).expect("a store");
        let store = open();
        let pool = store.pool_or_create("p").expect("space");
        for round in 0..40u8 {
            for number in 0..8 {
                pool.put(format!("{number}"), vec![round + number; 400_000]).expect("space");
            }
        }
        let stats = store.stats().expect("open");
        assert_eq!(stats.discards_failed, 0);
        assert_eq!(stats.bytes_discarded >= 16 << 20, is_wanted, "{discard:?}: {stats:?}");
        assert!(stats.bytes_discarded > 0 || !is_wanted, "{stats:?}");
        store.close().expect("clean");
        let store = open();
        let pool = store.pool("p").expect("there");
        for number in 0..8 {
            let data = pool.get(format!("{number}")).expect("readable");
            assert!(data.iter().all(|byte| *byte == 39 + number), "object {number}");
        }
        store.close().expect("clean");
    }
}
