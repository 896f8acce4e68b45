//! Calls: their order, dropped futures, and the ends of a store, on the `Send` face.

use std::sync::mpsc;

use futures::executor::block_on;
use futures::future::{join_all, ready};
use futures::{FutureExt, poll};
use seabed::{Answer, Error, OpenOptions, Store, Transaction};

use crate::format;

fn opened(path: &std::path::Path) -> Store {
    format(path);
    block_on(Store::open(path, OpenOptions::default())).expect("just made")
}

/// Holds the engine's thread back until the sender is dropped.
fn hold(store: &Store) -> (mpsc::Sender<()>, Answer<()>) {
    let (release, held) = mpsc::channel();
    let holding = store.run_on_shard(move |_| {
        let _ = held.recv();
        Box::pin(ready(()))
    });
    (release, holding)
}

/// The inbox had room for 64: of calls beyond that the first to be polled when room came free was sent, not the first made.
#[test]
fn appends_land_in_the_order_of_the_calls() {
    let dir = tempfile::tempdir().expect("a place for files");
    let store = opened(&dir.path().join("store.img"));
    block_on(async {
        let pool = store.create_pool("p").await.expect("a new pool");
        let appends: Vec<_> = (0..1000u32)
            .map(|number| {
                let mut txn = Transaction::new();
                txn.append(&"log".into(), number.to_le_bytes());
                pool.submit(txn)
            })
            .collect();
        // The order of polls is that of nothing.
        for result in join_all(appends.into_iter().rev()).await {
            result.expect("space");
        }
        let log = pool.get("log").await.expect("appended");
        let numbers: Vec<_> =
            log.chunks(4).map(|bytes| u32::from_le_bytes(bytes.try_into().expect("4"))).collect();
        assert!(numbers.is_sorted() && numbers.len() == 1000, "{numbers:?}");
        store.close().await.expect("clean");
    });
}

/// A remove was carried out by a task of its own, and a put that was called behind it overtook it.
#[test]
fn a_put_behind_a_remove_stays() {
    let dir = tempfile::tempdir().expect("a place for files");
    let store = opened(&dir.path().join("store.img"));
    block_on(async {
        let pool = store.create_pool("p").await.expect("a new pool");
        pool.put("o", b"first").await.expect("space");
        let (release, holding) = hold(&store);
        let calls = (pool.remove("o"), pool.put("o", b"second"));
        drop(release);
        holding.await.expect("it ran");
        calls.1.await.expect("space");
        calls.0.await.expect("it was there");
        assert_eq!(pool.get("o").await.expect("put again"), b"second"[..]);
    });
}

/// Whether a put that was dropped while it waited had been sent depended on how many others waited.
#[test]
fn what_was_called_is_carried_out_and_never_overtakes_a_retry() {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("store.img");
    let store = opened(&path);
    block_on(async {
        let pool = store.create_pool("p").await.expect("a new pool");
        let (release, holding) = hold(&store);
        for round in 0..200u32 {
            drop(pool.put(format!("unpolled {round}"), round.to_le_bytes()));
            let mut polled = pool.put(format!("polled {round}"), round.to_le_bytes());
            assert!(poll!(&mut polled).is_pending());
            drop(polled);
            drop(pool.put("retried", b"dropped"));
        }
        let retry = pool.put("retried", b"the retry");
        drop(release);
        holding.await.expect("it ran");
        retry.await.expect("space");
        assert_eq!(pool.get("retried").await.expect("put"), b"the retry"[..]);
        drop(pool.put("last", b"sent before the close"));
        drop(pool);
        store.close().await.expect("clean");
    });
    let store = block_on(Store::open(&path, OpenOptions::default())).expect("closed");
    block_on(async {
        let pool = store.pool("p").await.expect("made before");
        for round in 0..200u32 {
            for kind in ["polled", "unpolled"] {
                let found = pool.get(format!("{kind} {round}")).await.expect("it was sent");
                assert_eq!(found, round.to_le_bytes()[..]);
            }
        }
        assert_eq!(pool.get("last").await.expect("it was sent"), b"sent before the close"[..]);
    });
}

/// Calls that were made before the close are answered; of those behind it none is sent.
#[test]
fn a_close_ends_the_queue_behind_what_was_called() {
    let dir = tempfile::tempdir().expect("a place for files");
    let store = opened(&dir.path().join("store.img"));
    block_on(async {
        let pool = store.create_pool("p").await.expect("a new pool");
        pool.put("o", vec![1; 100_000]).await.expect("space");
        pool.put("gone", b"").await.expect("space");
        let (release, holding) = hold(&store);
        let mut get = Box::pin(pool.get("o"));
        assert!(poll!(&mut get).is_pending());
        let mut create = Box::pin(store.create_pool("another"));
        assert!(poll!(&mut create).is_pending());
        let (put, remove) = (pool.put("p", b"1"), pool.remove("gone"));
        let close = store.clone().close();
        assert_eq!(pool.put("q", b"2").await, Err(Error::Closed));
        assert_eq!(pool.get("o").await, Err(Error::Closed));
        drop(release);
        holding.await.expect("it ran");
        close.await.expect("clean");
        assert_eq!(get.await.expect("called before"), vec![1; 100_000]);
        create.await.expect("called before");
        put.await.expect("called before");
        remove.await.expect("called before");
    });
}

/// A second close returned at once, and a close behind one that was dropped, before the device was let go of.
#[test]
fn every_close_waits_for_the_same_end() {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("store.img");
    let store = opened(&path);
    let (release, holding) = hold(&store);
    let mut dropped = Box::pin(store.clone().close());
    let mut first = Box::pin(store.clone().close());
    assert!((&mut dropped).now_or_never().is_none());
    assert!((&mut first).now_or_never().is_none());
    drop(dropped);
    let mut second = Box::pin(store.clone().close());
    assert!((&mut second).now_or_never().is_none(), "the engine is held back");
    drop(release);
    assert_eq!(block_on(holding), Ok(()));
    assert_eq!(block_on(second), Ok(()));
    let store_again = block_on(Store::open(&path, OpenOptions::default())).expect("the device was released");
    assert_eq!(block_on(first), Ok(()));
    assert_eq!(block_on(store.close()), Ok(()));
    assert_eq!(block_on(store_again.close()), Ok(()));
}

/// Without a bound a caller that drops what it calls would fill the memory.
#[test]
fn dropped_calls_have_a_bound_and_waiting_ones_none() {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("store.img");
    format(&path);
    let options = OpenOptions { memory_bytes: 32 << 20, ..OpenOptions::default() };
    let store = block_on(Store::open(&path, options)).expect("just made");
    block_on(async {
        let pool = store.create_pool("p").await.expect("a new pool");
        let (release, holding) = hold(&store);
        let data = bytes::Bytes::from(vec![7; 64 << 10]);
        let waiting: Vec<_> = (0..200).map(|number| pool.put(format!("{number}"), &data)).collect();
        let mut refused = None;
        for _ in 0..100 {
            let mut put = pool.put("dropped", &data);
            if let std::task::Poll::Ready(result) = poll!(&mut put) {
                refused = Some(result);
                break;
            }
        }
        let Some(Err(Error::Backlog { bytes, max })) = refused else { panic!("{refused:?}") };
        assert!(max == 4 << 20 && bytes > max && bytes < max + (66 << 10), "{bytes} of {max}");
        drop(release);
        holding.await.expect("it ran");
        for put in waiting {
            put.await.expect("space");
        }
        // What was dropped was called before this one, which is sent as soon as there is room.
        while let Err(error) = pool.put("behind", b"").await {
            assert!(matches!(error, Error::Backlog { .. }), "{error}");
        }
        assert_eq!(pool.get("dropped").await.expect("it was sent").len(), 64 << 10);
        store.close().await.expect("clean");
    });
}
