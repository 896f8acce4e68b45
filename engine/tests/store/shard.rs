//! Shard code: what runs on the engine's thread for an embedder: panics, spawned tasks, attempts to block.

use futures::executor::block_on;
use futures::future::{pending, ready};
use seabed::{Error, OpenOptions, Store, blocking};

use crate::format;

fn opened(directory: &tempfile::TempDir) -> Store {
    let path = directory.path().join("store.img");
    format(&path);
    block_on(Store::open(&path, OpenOptions::default())).expect("just made")
}

fn message_of<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Panicked { message }) => message,
        other => panic!("no panic was reported: {other:?}"),
    }
}

/// A panic ended the engine, and everybody was told that the store had been closed.
#[test]
fn a_panic_is_the_callers_error_and_nobody_elses() {
    let dir = tempfile::tempdir().expect("a place for files");
    let store = opened(&dir);
    block_on(async {
        let pool = store.create_pool("p").await.expect("a new pool");
        let other = store.run_on_shard(|_| Box::pin(pending::<()>()));
        let at_once = store.run_on_shard::<(), _>(|_| panic!("at once"));
        assert_eq!(message_of(at_once.await), "at once");
        let number = 7;
        let later = store.run_on_shard::<(), _>(move |local| {
            Box::pin(async move {
                local.runtime().yield_io().await;
                panic!("later: {number}")
            })
        });
        assert_eq!(message_of(later.await), "later: 7");
        let spawned = store.run_on_shard(|local| {
            Box::pin(async move {
                let task = local.spawn(async { panic!("in a task") });
                let result: Result<(), Error> = task.await;
                drop(local.spawn(async { panic!("nobody waits") }));
                result
            })
        });
        assert_eq!(message_of(spawned.await.expect("it waits")), "in a task");
        pool.put("o", b"1").await.expect("the store goes on");
        assert_eq!(pool.get("o").await.expect("put"), b"1"[..]);
        store.clone().close().await.expect("clean");
        assert_eq!(other.await, Err(Error::Closed), "dropped when the store closed");
    });
}

/// What it blocks for can only happen on the thread that it blocks: it waited for ever.
#[test]
fn blocking_the_engines_thread_is_an_error() {
    let dir = tempfile::tempdir().expect("a place for files");
    let store = opened(&dir);
    let pool = block_on(store.create_pool("p")).expect("a new pool");
    let face = blocking::Store::open(dir.path().join("none"), OpenOptions::default());
    assert!(matches!(face, Err(Error::Open(_))), "elsewhere it blocks: {face:?}");
    let path = dir.path().join("store.img");
    let open = store.run_on_shard(move |_| {
        let opened = blocking::Store::open(path, OpenOptions::default());
        Box::pin(ready(opened.err()))
    });
    assert_eq!(block_on(open), Ok(Some(Error::WouldBlock)));
    let waits = store.run_on_shard(move |_| Box::pin(async move { block_on(pool.put("o", b"1")).is_ok() }));
    assert!(message_of(block_on(waits)).contains("executor"));
    block_on(store.close()).expect("clean");
}

/// A part of the engine that panics ends it; callers are told so, and not that the store was closed.
#[test]
fn the_end_of_an_engine_is_everybodys_error() {
    let dir = tempfile::tempdir().expect("a place for files");
    let store = opened(&dir);
    block_on(async {
        let pool = store.create_pool("p").await.expect("a new pool");
        let waits = store.run_on_shard(|_| Box::pin(pending::<()>()));
        let ends = store.run_on_shard(|local| {
            let task = Box::pin(async { panic!("as a part of the engine would") });
            local.runtime().spawn(seabed::device::Class::Foreground, task);
            Box::pin(pending::<()>())
        });
        let panicked = Error::Open(seabed::device::OpenError::Panicked);
        assert_eq!(ends.await, Err(panicked.clone()));
        assert_eq!(waits.await, Err(panicked.clone()));
        assert_eq!(pool.put("o", b"1").await, Err(panicked.clone()));
        assert_eq!(pool.get("o").await, Err(panicked.clone()));
        assert_eq!(store.close().await, Err(panicked));
    });
    let again = block_on(Store::open(dir.path().join("store.img"), OpenOptions::default()));
    block_on(again.expect("the device was released").close()).expect("clean");
}
