//! Cleaning on request, with the cleaner off: what it frees, why it ends, and that dropping it harms nothing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::FutureExt;
use seabed::blocking::Store;
use seabed::{Access, CleanEnd, CleanOptions, Error, OpenOptions, Stats};

use crate::format;

const OBJECT_BYTES: usize = 200 << 10;

fn open(path: &Path) -> Store {
    Store::open(path, OpenOptions { cleaning: false, ..OpenOptions::default() }).expect("a store")
}

fn stats(store: &Store) -> Stats {
    store.stats().expect("open")
}

fn object(number: usize) -> Vec<u8> {
    (0..OBJECT_BYTES).map(|at| (at / 4096 * 31 + number * 7) as u8).collect()
}

/// Puts objects until there are `count`, or no space; how many.
fn fill(store: &Store, count: usize) -> usize {
    let pool = store.pool_or_create("p").expect("space");
    for number in 0..count {
        match pool.put(format!("o{number}"), object(number)) {
            Ok(()) => {}
            Err(Error::NoSpace { .. }) => return number,
            Err(error) => panic!("{error}"),
        }
    }
    count
}

fn verify(store: &Store, numbers: impl Iterator<Item = usize>) {
    let pool = store.pool("p").expect("there");
    for number in numbers {
        assert_eq!(pool.get(format!("o{number}")).expect("readable"), object(number), "object {number}");
    }
}

/// Without the cleaner the space of three in four objects does not come back as long as the fourth is in their segment.
#[test]
fn dead_space_comes_back() {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("store.img");
    format(&path);
    let store = open(&path);
    let count = fill(&store, 150);
    assert_eq!(count, 150);
    let pool = store.pool("p").expect("there");
    let is_left = |number: &usize| number % 4 == 1;
    for number in (0..count).filter(|number| !is_left(number)) {
        pool.remove(format!("o{number}")).expect("there");
    }
    let seen = Arc::new(AtomicU64::new(0));
    let sees = Arc::clone(&seen);
    let progress: seabed::CleanWatch = Arc::new(move |progress| {
        assert!(progress.bytes_relocated >= sees.fetch_max(progress.bytes_relocated, Ordering::Relaxed));
    });
    let cleaned =
        store.clean(CleanOptions { progress: Some(progress), ..CleanOptions::default() }).expect("open");
    assert_eq!(cleaned.end, CleanEnd::Done, "{cleaned:?}");
    let done = cleaned.progress;
    assert!(done.segments_found > 10 && done.segments_cleaned >= done.segments_found / 2, "{cleaned:?}");
    assert_eq!(done.bytes_relocated, seen.load(Ordering::Relaxed));
    // 112 of 150 objects of 200 KiB were removed.
    let gained = cleaned.free_bytes_after - cleaned.free_bytes_before;
    assert!(gained >= 10 << 20 && done.bytes_freed >= 10 << 20, "{cleaned:?}");
    assert_eq!(stats(&store).free_segments << 20, cleaned.free_bytes_after);
    verify(&store, (0..count).filter(is_left));
    let again = store.clean(CleanOptions::default()).expect("open");
    assert_eq!(again.end, CleanEnd::Done);
    assert!(again.progress.segments_found <= done.segments_found / 3, "{again:?}");
    // With the cleaner off none of its tasks goes on.
    let before = stats(&store).segments_cleaned;
    fill(&store, count);
    assert_eq!(stats(&store).segments_cleaned, before);
    store.close().expect("clean");
    let store = open(&path);
    verify(&store, 0..count);
    store.close().expect("clean");
}

#[test]
fn an_empty_store_has_nothing_to_clean() {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("store.img");
    format(&path);
    let store = open(&path);
    let cleaned = store.clean(CleanOptions::default()).expect("open");
    assert_eq!((cleaned.end, cleaned.progress), (CleanEnd::Done, seabed::CleanProgress::default()));
    store.close().expect("clean");
    let options = OpenOptions { access: Access::ReadOnly, ..OpenOptions::default() };
    let store = Store::open(&path, options).expect("a store");
    assert_eq!(store.clean(CleanOptions::default()), Err(Error::ReadOnly));
}

/// A store that is full of live data, and one that is full and half dead.
#[test]
fn a_full_store_is_cleaned_as_far_as_it_can() {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("store.img");
    format(&path);
    let store = open(&path);
    let count = fill(&store, 1000);
    assert!(count < 1000);
    let cleaned = store.clean(CleanOptions::default()).expect("open");
    assert_eq!(cleaned.end, CleanEnd::Done, "{cleaned:?}");
    verify(&store, 0..count);
    let pool = store.pool("p").expect("there");
    for number in (0..count).step_by(2) {
        pool.remove(format!("o{number}")).expect("there");
    }
    let cleaned = store.clean(CleanOptions::default()).expect("open");
    assert_eq!(cleaned.end, CleanEnd::Done, "{cleaned:?}");
    assert!(cleaned.free_bytes_after >= cleaned.free_bytes_before + (8 << 20), "{cleaned:?}");
    verify(&store, (1..count).step_by(2));
    // What was removed fits again.
    for number in (0..count).step_by(2) {
        pool.put(format!("o{number}"), object(number)).expect("space");
    }
    verify(&store, 0..count);
    store.close().expect("clean");
    let store = open(&path);
    verify(&store, 0..count);
    store.close().expect("clean");
}

#[test]
fn a_request_that_is_dropped_or_cancelled_ends() {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("store.img");
    format(&path);
    let store = open(&path);
    let count = fill(&store, 150);
    let pool = store.pool("p").expect("there");
    for number in (0..count).step_by(2) {
        pool.remove(format!("o{number}")).expect("there");
    }
    let cancel = Arc::new(AtomicBool::new(true));
    let options = CleanOptions { cancel: Some(cancel), ..CleanOptions::default() };
    let cleaned = store.clean(options).expect("open");
    assert_eq!((cleaned.end, cleaned.progress.segments_cleaned), (CleanEnd::Cancelled, 0));
    let dropped = Box::pin(store.inner().clean(CleanOptions::default())).now_or_never();
    assert_eq!(dropped, None);
    verify(&store, (1..count).step_by(2));
    // A close does not wait for a request that has not ended.
    let inner = store.inner().clone();
    let mut going_on = Box::pin(inner.clean(CleanOptions::default()));
    assert_eq!(going_on.as_mut().now_or_never(), None);
    store.close().expect("clean");
    assert!(matches!(futures::executor::block_on(going_on), Ok(_) | Err(Error::Closed)));
    let store = open(&path);
    let panics: seabed::CleanWatch = Arc::new(|_| panic!("a watch that panics"));
    let options = CleanOptions { progress: Some(panics), ..CleanOptions::default() };
    assert!(matches!(store.clean(options), Err(Error::Panicked { .. })));
    assert_eq!(store.clean(CleanOptions::default()).expect("it goes on").end, CleanEnd::Done);
    verify(&store, (1..count).step_by(2));
    store.close().expect("clean");
}
