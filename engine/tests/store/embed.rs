//! Embed: a store on an executor of the test's own.

use std::time::Duration;

use futures::future::join_all;
use seabed::device::glommio::{self, LocalExecutorBuilder};
use seabed::device::{Class, OpenError};
use seabed::{Access, Error, OpenOptions, embed};

use crate::format;

fn on_executor<T>(main: impl Future<Output = T>) -> T {
    let executor = LocalExecutorBuilder::default().preempt_timer(Duration::from_millis(25)).make();
    executor.expect("an executor").run(main)
}

#[test]
fn a_store_lives_on_an_embedders_executor() {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("store.img");
    format(&path);
    on_executor(async {
        let store = embed::open(&path, OpenOptions::default()).await.expect("just made");
        let pool = store.create_pool("p").await.expect("a new pool");
        let puts = (0..100u32).map(|number| pool.put(format!("o{number}"), number.to_le_bytes()));
        assert!(join_all(puts).await.into_iter().all(|result| result.is_ok()));
        let no_wait = OpenOptions { lock_wait: Duration::ZERO, ..OpenOptions::default() };
        let second = embed::open(&path, no_wait).await;
        assert!(matches!(second, Err(Error::Open(OpenError::InUse { .. }))), "{second:?}");
        store.close().await.expect("clean");
        assert_eq!(pool.put("late", b"").await, Err(Error::Closed));
        // The device is free at once; readers share it.
        let options = OpenOptions { access: Access::ReadOnly, ..OpenOptions::default() };
        let one = embed::open(&path, options.clone()).await.expect("closed");
        let two = embed::open(&path, options).await.expect("readers share");
        for store in [&one, &two] {
            let pool = store.pool("p").await.expect("made before");
            assert_eq!(pool.get("o7").await.expect("put before"), 7u32.to_le_bytes()[..]);
        }
        one.close().await.expect("clean");
        two.close().await.expect("clean");
    });
    // Opened again on another executor: nothing of the first is left. Dropped, it lets go as well.
    on_executor(async {
        drop(embed::open(&path, OpenOptions::default()).await.expect("closed"));
        let store = embed::open(&path, OpenOptions::default()).await.expect("dropped before");
        assert_eq!(store.usage().objects, 100);
        store.close().await.expect("clean");
    });
}

/// With the tasks of a thread its callers end as well; here they are others' and would wait for ever.
#[test]
fn a_panic_of_an_engine_task_is_every_callers_error() {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("store.img");
    format(&path);
    on_executor(async {
        let store = embed::open(&path, OpenOptions::default()).await.expect("just made");
        let pool = store.create_pool("p").await.expect("a new pool");
        pool.put("kept", b"1").await.expect("space");
        store.runtime().spawn(Class::Foreground, Box::pin(async { panic!("as a part of the engine would") }));
        glommio::timer::sleep(Duration::from_millis(20)).await;
        let panicked = Error::Open(OpenError::Panicked);
        assert_eq!(pool.put("o", b"1").await, Err(panicked.clone()));
        assert_eq!(pool.get("kept").await, Err(panicked.clone()));
        assert_eq!(store.close().await, Err(panicked));
        let store = embed::open(&path, OpenOptions::default()).await.expect("the device was released");
        let pool = store.pool("p").await.expect("it was acknowledged");
        assert_eq!(pool.get("kept").await.expect("it was acknowledged"), b"1"[..]);
        store.close().await.expect("clean");
    });
}
