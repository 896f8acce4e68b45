//! Read handles, the ends of streaming puts, limits and the bound of an answer, on the `Send` face and on the blocking one.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::executor::block_on;
use seabed::blocking;
use seabed::{Condition, Error, ErrorKind, OpenOptions, Refused, StoreLimits, Transaction};

use crate::format;

const MIB: usize = 1 << 20;

/// A store with the pool "p", in a directory that lives as long as it.
struct Made {
    dir: tempfile::TempDir,
    store: blocking::Store,
    pool: blocking::Pool,
}

fn made(options: OpenOptions) -> Made {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("store.img");
    format(&path);
    let store = blocking::Store::open(&path, options).expect("just made");
    let pool = store.create_pool("p").expect("a new pool");
    Made { dir, store, pool }
}

/// Bytes of which no two chunks are alike.
fn patterned(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at / 4096 + at % 251) as u8).collect()
}

/// What an operation is rejected with, whatever its place in the transaction.
fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> Refused {
    match result {
        Err(Error::Refused { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_read_handle_shows_what_was_there_when_it_was_opened() {
    let Made { store, pool, .. } = made(OpenOptions::default());
    let data = patterned(5 * MIB / 2 + 7);
    pool.put("film", data.clone()).expect("space");
    let mut iterated = pool.open_read("film").expect("it exists");
    let mut stepped = pool.open_read("film").expect("it exists");
    let (streamed, sought) = block_on(async {
        let pool = pool.inner();
        (pool.open_read("film").await.expect("it exists"), pool.open_read("film").await.expect("it exists"))
    });
    assert_eq!(iterated.version(), streamed.version());
    pool.put("film", vec![0; 10]).expect("space");
    assert!(pool.open_read("film").expect("it exists").version() > iterated.version());
    pool.remove("film").expect("it exists");

    for (size, stat) in [(iterated.size(), iterated.stat()), (streamed.size(), streamed.stat())] {
        assert_eq!((size, stat.size), (data.len() as u64, data.len() as u64));
    }
    assert_eq!(iterated.read_at(1_000_000, 5000), Ok(Bytes::copy_from_slice(&data[1_000_000..][..5000])));
    let end = data.len() as u64;
    assert_eq!(iterated.read_at(end - 3, 100), Ok(Bytes::copy_from_slice(&data[data.len() - 3..])));
    assert_eq!(iterated.read_at(end, 100), Ok(Bytes::new()));
    // A step and what the iterator has not given yet come to the whole.
    let first = stepped.next_chunk().expect("it is readable").expect("it is not at its end");
    assert!(first.len() <= MIB, "{} bytes at a time", first.len());
    let rest = stepped.collect::<Result<Vec<_>, _>>().expect("it is readable").concat();
    assert!([first, rest.into()].concat() == data);
    assert!(iterated.by_ref().collect::<Result<Vec<_>, _>>().expect("it is readable").concat() == data);
    assert_eq!(iterated.next_chunk(), Ok(None));
    block_on(async {
        let at = sought.read_at(4095, 2).await;
        assert_eq!(at, Ok(Bytes::copy_from_slice(&data[4095..4097])));
        let chunks: Vec<Bytes> = streamed.into_stream().try_collect().await.expect("it is readable");
        assert!(chunks.concat() == data);
    });

    assert_eq!(pool.open_read("film").map(drop), Err(Error::NotFound));
    assert_eq!(block_on(pool.inner().open_read("film")).map(drop), Err(Error::NotFound));
    store.close().expect("clean");
    assert_eq!(block_on(sought.read_at(0, 1)), Err(Error::Closed));
    assert_eq!(iterated.read_at(0, 1), Err(Error::Closed));
}

#[test]
fn read_handles_have_bounds() {
    let options = OpenOptions { read_handles_max: 2, read_bytes_max: Some(10_000), ..OpenOptions::default() };
    let Made { store, pool, .. } = made(options);
    let data = patterned(25_000);
    pool.put("o", data.clone()).expect("space");
    let handles = [pool.open_read("o").expect("one"), pool.open_read("o").expect("two")];
    assert_eq!(pool.open_read("o").map(drop), Err(Error::TooManyHandles { max: 2 }));
    let third = block_on(pool.inner().open_read("o")).map(drop);
    assert_eq!(third, Err(Error::TooManyHandles { max: 2 }));
    let [read, _] = handles;
    assert_eq!(read.read_at(0, 20_000), Err(Error::ReadTooLarge { bytes: 20_000, max: 10_000 }));
    let chunks = read.collect::<Result<Vec<_>, _>>().expect("chunks are as long as they may be");
    assert!(chunks.iter().all(|chunk| chunk.len() <= 10_000));
    assert!(chunks.concat() == data);
    store.close().expect("clean");

    let options = OpenOptions { read_handle_age_max: Duration::ZERO, ..OpenOptions::default() };
    let Made { store, pool, .. } = made(options);
    pool.put("o", [1]).expect("space");
    let mut read = pool.open_read("o").expect("it exists");
    // The clock has gone on, since a put took its time.
    pool.put("other", [2]).expect("space");
    assert_eq!(read.read_at(0, 1), Err(Error::Expired));
    assert_eq!(read.next_chunk(), Err(Error::Expired));
    store.close().expect("clean");
}

/// Ends a streaming put of an object, with a transaction: on each face.
type Finish = fn(&blocking::Pool, &str, Vec<(Vec<u8>, Bytes)>, Transaction) -> Result<(), Error>;

const FINISHES: [Finish; 2] = [
    |pool, name, attributes, other| {
        let mut stream = pool.put_stream(name)?;
        stream.write(patterned(MIB + 5))?;
        stream.finish_with(attributes, other)
    },
    |pool, name, attributes, other| {
        block_on(async {
            let mut stream = pool.inner().put_stream(name).await?;
            stream.write(patterned(MIB + 5)).await?;
            stream.finish_with(attributes, other).await
        })
    },
];

#[test]
fn a_stream_ends_together_with_a_transaction() {
    let Made { dir, store, pool } = made(OpenOptions::default());
    let attributes = || vec![(b"type".to_vec(), Bytes::from_static(b"film"))];
    for (face, finish) in FINISHES.into_iter().enumerate() {
        let (name, index) = (format!("film {face}"), format!("index {face}"));
        let (object, listed) = (name.as_str().into(), index.as_str().into());
        let insert = |condition: Condition| {
            let mut other = Transaction::new();
            other.expect(&object, condition).touch(&listed).omap_insert(&listed, [(name.as_str(), "1")]);
            other
        };
        // A condition that does not hold, and an operation that is not possible: nothing is made, the operation is named.
        let exists = finish(&pool, &name, attributes(), insert(Condition::Exists));
        assert_eq!(exists, Err(Error::Refused { op: 0, why: Refused::PreconditionFailed }));
        let mut impossible = insert(Condition::Absent);
        impossible.set_attr(&"none".into(), "n", "v");
        let failed = finish(&pool, &name, attributes(), impossible);
        assert_eq!(failed, Err(Error::Refused { op: 3, why: Refused::NotFound }));
        assert_eq!(pool.list().count(), 2 * face);

        assert_eq!(finish(&pool, &name, attributes(), insert(Condition::Absent)), Ok(()));
        assert_eq!(pool.list().count(), 2 * face + 2);
        let again = finish(&pool, &name, Vec::new(), insert(Condition::Absent));
        assert_eq!(again, Err(Error::Refused { op: 0, why: Refused::PreconditionFailed }));
    }
    store.close().expect("clean");
    let store = blocking::Store::open(dir.path().join("store.img"), OpenOptions::default());
    let store = store.expect("it was closed");
    let pool = store.pool("p").expect("made before");
    for face in 0..FINISHES.len() {
        let name = format!("film {face}");
        assert!(pool.get(name.as_str()).expect("it was finished") == patterned(MIB + 5));
        assert_eq!(pool.attrs(name.as_str()), Ok(vec![("type".into(), "film".into())]));
        let index = pool.omap_get(format!("index {face}"), [name.as_str()]);
        assert_eq!(index, Ok(vec![(name.into(), "1".into())]));
    }
    store.close().expect("clean");
}

#[test]
fn limits_are_what_is_taken() {
    let Made { store, pool, .. } = made(OpenOptions { memory_bytes: 64 * MIB, ..OpenOptions::default() });
    let limits: StoreLimits = store.limits().expect("open");
    assert_eq!(block_on(store.inner().limits()), Ok(limits));
    let number = AtomicU32::new(0);
    // Each bound is taken, and one more is not; `Invalid` names it before anything is applied.
    let bound = |what: &str, max: usize, build: &dyn Fn(&mut Transaction, usize)| {
        for (size, is_taken) in [(max, true), (max + 1, false)] {
            let mut txn = Transaction::new();
            let witness = format!("witness {}", number.fetch_add(1, Ordering::Relaxed));
            txn.touch(&"o".into()).touch(&witness.as_str().into());
            build(&mut txn, size);
            match pool.submit(txn) {
                Ok(()) => assert!(is_taken, "{what}: {size} was taken"),
                error if is_taken => panic!("{what}: {size}: {error:?}"),
                error => assert!(matches!(refused(error), Refused::Invalid { .. }), "{what}"),
            }
            assert_eq!(pool.exists(witness.as_str()), Ok(is_taken), "{what}");
        }
    };
    let o = "o".into();
    bound("name", limits.name_bytes, &|txn, size| {
        txn.touch(&vec![b'n'; size].into());
    });
    bound("attribute name", limits.attribute_name_bytes, &|txn, size| {
        txn.set_attr(&o, vec![b'n'; size], "v");
    });
    bound("attribute", limits.attribute_bytes, &|txn, size| {
        txn.set_attr(&o, "n", vec![b'v'; size]);
    });
    bound("omap key", limits.omap_key_bytes, &|txn, size| {
        txn.omap_insert(&o, [(vec![b'k'; size], "v")]);
    });
    bound("omap value", limits.omap_value_bytes, &|txn, size| {
        txn.omap_insert(&o, [("k", vec![b'v'; size])]);
    });
    bound("omap header", limits.omap_header_bytes, &|txn, size| {
        txn.omap_set_header(&o, vec![b'h'; size]);
    });
    bound("object", usize::try_from(limits.object_bytes).expect("64 bits"), &|txn, size| {
        txn.truncate(&o, size as u64);
    });

    let items = |count: usize| {
        let mut txn = Transaction::new();
        for _ in 0..count {
            txn.touch(&o);
        }
        pool.submit(txn)
    };
    assert_eq!(items(limits.transaction_items), Ok(()));
    let error = items(limits.transaction_items + 1).expect_err("one too many");
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");

    let open = |name: usize| pool.put_stream(format!("stream {name}"));
    let streams: Vec<_> = (0..limits.streams).map(|name| open(name).expect("room")).collect();
    assert_eq!(open(streams.len()).map(drop), Err(Error::TooManyStreams { max: limits.streams }));
    drop(streams);
    store.close().expect("clean");
}

/// Up to 256 attributes and 128 keys were read at once whatever the bound: 128 MiB with a budget of 16.
#[test]
fn attributes_and_keys_are_bounded_answers() {
    const VALUE: usize = 60_000;
    let options = OpenOptions { read_bytes_max: Some(100_000), ..OpenOptions::default() };
    let Made { store, pool, .. } = made(options);
    let (o, value) = ("o".into(), || vec![1; VALUE]);
    let mut txn = Transaction::new();
    txn.touch(&o).set_attr(&o, "a", value()).omap_insert(&o, [("a", value())]);
    pool.submit(txn).expect("space");
    assert_eq!(pool.attrs("o").expect("one always is").len(), 1);
    let mut txn = Transaction::new();
    txn.set_attr(&o, "b", value()).omap_insert(&o, [("b", value()), ("c", vec![2; 110_000])]);
    pool.submit(txn).expect("space");
    let both = Error::ReadTooLarge { bytes: 2 * (1 + VALUE as u64), max: 100_000 };
    assert_eq!(pool.attrs("o").map(drop), Err(both.clone()));
    assert_eq!(block_on(pool.inner().attrs("o")).map(drop), Err(both.clone()));
    assert_eq!(pool.omap_get("o", ["a", "b"]).map(drop), Err(both.clone()));
    assert_eq!(block_on(pool.inner().omap_get("o", ["a", "b"])).map(drop), Err(both));
    // One by one they are read, however long.
    for name in ["a", "b"] {
        assert!(pool.attr("o", name) == Ok(value().into()), "{name}");
        assert!(pool.omap_get("o", [name]) == Ok(vec![(name.into(), value().into())]), "{name}");
    }
    assert_eq!(pool.omap_get("o", ["c"]).expect("one always is")[0].1.len(), 110_000);

    // Many small ones: more than fit one slice of the reading.
    let mut txn = Transaction::new();
    txn.touch(&"many".into());
    for n in 0..300 {
        txn.set_attr(&"many".into(), format!("{n:03}"), vec![1; 297]);
    }
    pool.submit(txn).expect("space");
    assert_eq!(pool.attrs("many").expect("90,000 bytes").len(), 300);
    let mut txn = Transaction::new();
    for n in 300..400 {
        txn.set_attr(&"many".into(), format!("{n:03}"), vec![1; 297]);
    }
    pool.submit(txn).expect("space");
    assert_eq!(pool.attrs("many").expect_err("120,000 bytes").kind(), ErrorKind::TooLarge);
    store.close().expect("clean");
}
