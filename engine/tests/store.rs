//! The Send face on a real file: what is put is there after a reopen.

#![expect(clippy::cast_possible_truncation, reason = "bytes of test data")]

#[path = "store/calls.rs"]
mod calls;
#[path = "store/clean_now.rs"]
mod clean_now;
#[path = "store/cleaning.rs"]
mod cleaning;
#[path = "store/embed.rs"]
mod embed;
#[path = "store/faces.rs"]
mod faces;
#[path = "store/shard.rs"]
mod shard;
#[path = "store/space.rs"]
mod space;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use seabed::blocking::Store;
use seabed::{Access, Error, FormatOptions, OpenOptions, Transaction};

fn format(path: &std::path::Path) {
    let options = FormatOptions { size: Some(64 << 20), first_write: false, ..FormatOptions::default() };
    Store::format(path, options).expect("a new file");
}

#[test]
fn what_is_put_is_there_after_a_reopen() {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("store.img");
    format(&path);
    let store = Store::open(&path, OpenOptions::default()).expect("just made");
    let pool = store.create_pool("photos").expect("a new pool");
    assert!(matches!(store.create_pool("photos"), Err(Error::PoolExists { .. })));
    assert!(matches!(store.pool("other"), Err(Error::NoSuchPool { .. })));
    for i in 0..200usize {
        let data = vec![i as u8; i * 97];
        pool.put_with(format!("object {i}"), data, vec![(b"n".to_vec(), Bytes::from(vec![i as u8]))])
            .expect("space");
    }
    pool.put("large", vec![7; 3 << 20]).expect("space");
    let mut stream = pool.put_stream("streamed").expect("begins");
    for part in 0..50u8 {
        stream.write(vec![part; 100_001]).expect("space");
    }
    stream.finish(Vec::new()).expect("space");
    pool.remove("object 3").expect("it exists");
    assert_eq!(pool.remove("object 3"), Err(Error::NotFound));
    store.close().expect("clean");
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let store =
            Store::open(&path, OpenOptions { access, ..OpenOptions::default() }).expect("it was closed");
        let pool = store.pool("photos").expect("made before");
        for i in (0..200usize).filter(|i| *i != 3) {
            assert_eq!(pool.get(format!("object {i}")).expect("put before"), vec![i as u8; i * 97]);
            assert_eq!(pool.attr(format!("object {i}"), b"n").expect("set before"), vec![i as u8]);
        }
        assert_eq!(pool.get("object 3"), Err(Error::NotFound));
        assert_eq!(pool.get("large").expect("put before"), vec![7; 3 << 20]);
        let streamed = pool.get("streamed").expect("put before");
        assert_eq!(streamed.len(), 50 * 100_001);
        assert!(
            streamed.chunks(100_001).enumerate().all(|(i, part)| part.iter().all(|byte| *byte == i as u8))
        );
        assert_eq!(pool.list().collect::<Result<Vec<_>, _>>().expect("lists").len(), 201);
        assert_eq!(store.usage().expect("open").objects, 201);
        store.close().expect("clean");
    }
}

/// What is left out of a streaming put reads as zeros and takes no space, wherever it begins and ends.
#[test]
fn a_stream_with_holes_reads_as_zeros_and_takes_little() {
    const CHUNK: u64 = 4096;
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("store.img");
    format(&path);
    let store = Store::open(&path, OpenOptions::default()).expect("just made");
    let pool = store.create_pool("p").expect("a new pool");
    for (number, steps) in [
        // Positive: bytes of data; negative: bytes that are left out.
        &[-10_000i64][..],
        &[-1],
        &[-5, 7],
        &[-(1 << 30), 3],
        &[-(3 << 20), 5000, -9000],
        &[100, -100, 100, -10_000, 1 << 20, -1, -4095, -4096, -4097, 70_000],
        &[2 << 20, -(20 << 20), 4096, -(64 << 10), 1],
        &[(1 << 20) - 1, -1, 1 << 20, -(1 << 20)],
        &[1 << 20, -(8 << 30), 6, -5000],
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("o{number}");
        let mut stream = pool.put_stream(name.as_str()).expect("begins");
        let (mut size, mut data) = (0, Vec::new());
        for step in steps {
            if *step > 0 {
                let bytes: Vec<u8> = (0..step.unsigned_abs()).map(|i| (i % 251) as u8 + 1).collect();
                data.push((size, bytes.clone()));
                stream.write(bytes).expect("space");
            } else {
                stream.skip(step.unsigned_abs()).expect("space");
            }
            size += step.unsigned_abs();
        }
        stream.finish(vec![(b"n".to_vec(), Bytes::from_static(b"v"))]).expect("space");
        assert_eq!(pool.stat(name.as_str()).expect("made").size, size, "{steps:?}");
        assert_eq!(pool.attr(name.as_str(), b"n").expect("set"), "v", "{steps:?}");
        let stored = pool.extents(name.as_str(), 0, size).expect("made");
        let data_bytes: u64 = data.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let holes = steps.iter().filter(|step| **step < 0).count() as u64;
        let bytes: u64 = stored.iter().map(|range| range.bytes).sum();
        assert!(bytes <= data_bytes + 2 * CHUNK * holes, "{steps:?}: {bytes} bytes are stored");
        // All data, and a little on both sides.
        for (at, bytes) in &data {
            let from = at.saturating_sub(5000);
            let read = pool.read(name.as_str(), from, bytes.len() as u64 + 10_000).expect("made");
            let mut wanted = vec![0; read.len()];
            for (at, bytes) in &data {
                for (i, byte) in bytes.iter().enumerate() {
                    if let Some(place) = (at + i as u64)
                        .checked_sub(from)
                        .and_then(|to| wanted.get_mut(usize::try_from(to).expect("small")))
                    {
                        *place = *byte;
                    }
                }
            }
            assert!(read == wanted, "{steps:?}: around {at}");
        }
    }
    let mut stream = pool.put_stream("too large").expect("begins");
    stream.write(vec![1; 5]).expect("space");
    let skipped = stream.skip(u64::MAX).and_then(|()| stream.skip(1 << 50)).and_then(|()| stream.write([1]));
    assert!(skipped.and_then(|()| stream.finish(Vec::new())).is_err());
    assert!(!pool.exists("too large").expect("open"));
    store.close().expect("clean");
}

#[test]
fn a_store_that_is_only_read_takes_no_transaction() {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("store.img");
    format(&path);
    let options = OpenOptions { access: Access::ReadOnly, ..OpenOptions::default() };
    let store = Store::open(&path, options).expect("just made");
    assert!(matches!(store.create_pool("photos"), Err(Error::ReadOnly)));
    store.close().expect("clean");
}

#[test]
fn many_transactions_at_once_are_all_there() {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("store.img");
    format(&path);
    let store = Store::open(&path, OpenOptions::default()).expect("just made");
    let pool = store.create_pool("p").expect("a new pool");
    let submits = (0..2000u32).map(|i| {
        let mut txn = Transaction::new();
        txn.write(&format!("o{}", i % 50).as_str().into(), u64::from(i) * 512, vec![i as u8; 700]);
        let pool = pool.inner().clone();
        async move { pool.submit(txn).await }
    });
    let results = futures::executor::block_on(futures::future::join_all(submits));
    assert!(results.iter().all(Result::is_ok));
    for o in 0..50u32 {
        let data = pool.get(format!("o{o}")).expect("written");
        let last = (0..2000u32).filter(|i| i % 50 == o).max().expect("some");
        assert_eq!(data.len() as u64, u64::from(last) * 512 + 700);
    }
    store.close().expect("clean");
}

/// A checkpoint lists all pools, in one segment. Nothing bounded them, so enough of them on small segments ended the process.
#[test]
fn pools_are_as_many_as_a_checkpoint_has_room_for() {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("store.img");
    let options = FormatOptions {
        size: Some(32 << 20),
        segment_bytes: Some(64 << 10),
        node_bytes: 4096,
        first_write: false,
        ..FormatOptions::default()
    };
    Store::format(&path, options).expect("a new file");
    let store = Store::open(&path, OpenOptions::default()).expect("just made");
    let mut made = 0;
    let refused = loop {
        match store.create_pool(&format!("pool {made}")) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
        assert!(made < 1000, "nobody bounds them");
    };
    let last = format!("pool {}", made - 1);
    store.pool(&last).expect("made").put("object", vec![1; 10]).expect("space");
    assert_eq!(refused, Error::TooManyPools { max: made });
    assert!(made > 100, "{made} pools");
    store.close().expect("clean");
    let store = Store::open(&path, OpenOptions::default()).expect("it was closed");
    assert_eq!(store.pool(&last).expect("made before").get("object"), Ok(vec![1; 10].into()));
    assert_eq!(store.create_pool("one more").err(), Some(Error::TooManyPools { max: made }));
}

fn crosses_threads<T: Clone + Send + Sync + std::fmt::Debug>() {}

/// `FormatOptions` held a `Box<dyn FnMut>`: it could be neither cloned nor sent to the thread that formats.
#[test]
fn options_and_handles_cross_threads() {
    crosses_threads::<FormatOptions>();
    crosses_threads::<OpenOptions>();
    crosses_threads::<seabed::Store>();
    crosses_threads::<seabed::Pool>();
    crosses_threads::<Store>();
    crosses_threads::<seabed::blocking::Pool>();
    crosses_threads::<seabed::Error>();
    crosses_threads::<seabed::Transaction>();
}

/// The data of the last record was kept until another write came: a caller that pools its buffers waited for ever.
#[test]
fn data_is_dropped_before_it_is_acknowledged() {
    struct Lent(Vec<u8>, Arc<AtomicUsize>);
    impl AsRef<[u8]> for Lent {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Lent {
        fn drop(&mut self) {
            self.1.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("store.img");
    format(&path);
    let store = Store::open(&path, OpenOptions::default()).expect("just made");
    let pool = store.create_pool("p").expect("a new pool");
    let live = Arc::new(AtomicUsize::new(0));
    let lend = |bytes: usize| {
        live.fetch_add(1, Ordering::SeqCst);
        Bytes::from_owner(Lent(vec![1; bytes], Arc::clone(&live)))
    };
    for bytes in [1, 4096, 65_537, 100_000, 126_976, 127_000, 200_000] {
        for number in 0..10 {
            pool.put(format!("o{number}"), lend(bytes)).expect("space");
            assert_eq!(live.load(Ordering::SeqCst), 0, "a put of {bytes} bytes was acknowledged");
        }
        let mut stream = pool.put_stream("streamed").expect("begins");
        for _ in 0..3 {
            stream.write(lend(bytes)).expect("space");
        }
        stream.finish(vec![(b"a".to_vec(), lend(10))]).expect("space");
        assert_eq!(live.load(Ordering::SeqCst), 0, "a streaming put of {bytes} bytes was acknowledged");
    }
    store.close().expect("clean");
}

/// A budget of more than the machine has is a bound. It used to be allocated in part, and `open` aborted the process.
#[test]
fn any_budget_opens() {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("store.img");
    format(&path);
    for memory_bytes in [1 << 40, 1 << 50, usize::MAX] {
        for data_cache_bytes in [None, Some(usize::MAX)] {
            let options = OpenOptions { memory_bytes, data_cache_bytes, ..OpenOptions::default() };
            let store = Store::open(&path, options).expect("opens");
            let pool = store.pool_or_create("pool").expect("space");
            pool.put("a", vec![7; 10_000]).expect("space");
            for _ in 0..3 {
                assert_eq!(pool.read("a", 0, 10_000).expect("put before"), vec![7; 10_000]);
            }
            store.close().expect("clean");
        }
    }
}

fn small() -> FormatOptions {
    FormatOptions { size: Some(64 << 20), first_write: false, ..FormatOptions::default() }
}

#[test]
fn a_store_is_opened_or_created() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store");
    let open = |path: &std::path::Path| Store::open_or_create(path, small(), OpenOptions::default());
    let store = open(&path).expect("nothing is there");
    store.create_pool("pool").expect("new").put("a", "b").expect("small");
    store.close().expect("closes");
    let store = open(&path).expect("a store is there");
    assert_eq!(store.pool("pool").expect("it is there").get("a").expect("it is there"), "b");
    store.close().expect("closes");
    // What holds something else stays as it is, whatever the options say.
    let other = dir.path().join("other");
    std::fs::write(&other, vec![7; 65 << 20]).expect("a file");
    let forced = FormatOptions { force: true, ..small() };
    let refused = Store::open_or_create(&other, forced, OpenOptions::default()).expect_err("it holds data");
    assert_eq!(refused.kind(), seabed::ErrorKind::AlreadyExists, "{refused}");
    assert_eq!(std::fs::read(&other).expect("readable"), vec![7; 65 << 20]);
    let absent = dir.path().join("absent");
    let read = OpenOptions { access: Access::ReadOnly, ..OpenOptions::default() };
    let refused = Store::open_or_create(&absent, small(), read).expect_err("it only reads");
    assert_eq!(refused.kind(), seabed::ErrorKind::NotFound);
    assert!(!absent.exists());
}

/// `pool_of(PoolId(0)).remove("pools")` deleted the list of pools.
#[test]
fn the_pool_of_the_store_cannot_be_used() {
    use seabed::{Error, Transaction};
    let dir = tempfile::tempdir().expect("a directory");
    let store =
        Store::open_or_create(dir.path().join("store"), small(), OpenOptions::default()).expect("new");
    store.create_pool("pool").expect("new");
    let refused = futures::executor::block_on(store.inner().run_on_shard(|local| {
        Box::pin(async move {
            let system = local.pool_of(seabed::types::PoolId(0));
            let pools = seabed::ObjectId::new("pools");
            let mut txn = Transaction::new();
            txn.remove(&pools);
            vec![
                system.remove("pools").await.err(),
                system.put("pools", "x").await.err(),
                system.submit(txn.clone()).await.err(),
                local.shard().submit(seabed::types::PoolId(0), txn).await.err(),
                system.put_stream("pools").err(),
                system.get("pools").await.err(),
                system.list_page(None, 1).await.err(),
                system.usage().err(),
            ]
        })
    }));
    for (which, error) in refused.expect("it runs").into_iter().enumerate() {
        assert_eq!(error, Some(Error::SystemPool), "call {which}");
    }
    assert_eq!(store.pools().expect("open").len(), 1);
    store.close().expect("closes");
}

#[test]
fn calls_agree_on_names_ranges_and_absence() {
    use futures::StreamExt;
    use seabed::{Error, ErrorKind, Transaction};
    let dir = tempfile::tempdir().expect("a directory");
    let store =
        Store::open_or_create(dir.path().join("store"), small(), OpenOptions::default()).expect("new");
    let pool = store.create_pool("pool").expect("new");
    let object = seabed::ObjectId::new("a");
    let mut txn = Transaction::new();
    txn.write(&object, 0, b"0123456789").set_attr(&object, "n", "v").omap_insert(&object, [("k", "v")]);
    pool.submit(txn).expect("small");
    assert_eq!(pool.get(b"a").expect("there"), pool.get("a".to_owned()).expect("there"));
    assert_eq!(pool.attr("a", "n").expect("set"), pool.attr("a", b"n").expect("set"));
    assert_eq!(pool.omap_get("a", ["k", "none"]).expect("there").len(), 1);
    assert_eq!(pool.omap_get("a", vec![b"k".to_vec()]).expect("there").len(), 1);
    for (read, bytes) in [
        (pool.read_range("a", 2..4), "23"),
        (pool.read_range("a", 2..=4), "234"),
        (pool.read_range("a", 8..), "89"),
        (pool.read_range("a", ..), "0123456789"),
        (pool.read_range("a", 4..4), ""),
        (pool.read_range("a", 20..30), ""),
        (pool.read_range("a", 8..u64::MAX), "89"),
    ] {
        assert_eq!(read.expect("there"), bytes);
    }
    let page = pool.list_page(None, 10).expect("open");
    assert_eq!((page.objects.len(), page.stats.len(), page.stats[0].size), (1, 1, 10));
    assert!(matches!(pool.list_page(None, 0), Err(Error::Invalid { .. })));
    let forward = seabed::Direction::Forward;
    assert!(matches!(pool.omap_range("a", (None, None), 0, forward), Err(Error::Invalid { .. })));
    let mut absent = Transaction::new();
    absent.set_attr(&"none".into(), "n", "v");
    for error in [
        pool.get("none").map(drop),
        pool.read_range("none", ..).map(drop),
        pool.stat("none").map(drop),
        pool.attr("none", "n").map(drop),
        pool.attrs("none").map(drop),
        pool.omap_header("none").map(drop),
        pool.omap_get("none", ["k"]).map(drop),
        pool.omap_range("none", (None, None), 1, forward).map(drop),
        pool.extents("none", 0, 1).map(drop),
        pool.remove("none"),
        pool.submit(absent),
    ] {
        assert_eq!(error.expect_err("it is absent").kind(), ErrorKind::NotFound);
    }
    // The stream has a name, and need not be pinned.
    let mut list: seabed::List = pool.inner().list();
    let mut count = 0;
    futures::executor::block_on(async {
        while let Some(object) = list.next().await {
            assert_eq!(object.expect("it lists"), seabed::ObjectId::new("a"));
            count += 1;
        }
    });
    assert_eq!(count, 1);
    store.remove_pool("pool").expect("there");
    assert_eq!(pool.list().next(), Some(Err(Error::NoSuchPoolId { id: pool.inner().id() })));
    assert_eq!(pool.usage(), Err(Error::NoSuchPoolId { id: pool.inner().id() }));
    store.close().expect("closes");
}
