//! Cleaning: space of dead data comes back, and what was moved is still there.

use seabed::blocking::Store;
use seabed::{OpenOptions, Stats, Transaction};

use crate::format;

const OBJECT_BYTES: usize = 256 << 10;
const CHUNK: usize = 4096;

struct Rng(u64);

impl Rng {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % count
    }
}

fn stats(store: &Store) -> Stats {
    store.stats().expect("open")
}

/// A store of 64 MiB with 20 MiB of data ran out of space after 10,000 overwrites of 4 KiB.
#[test]
fn overwrites_never_run_out_of_space() {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("store.img");
    format(&path);
    let options = || OpenOptions { cleaning: true, ..OpenOptions::default() };
    let store = Store::open(&path, options()).expect("just made");
    let pool = store.create_pool("p").expect("a new pool");
    let objects = 80;
    let chunks = OBJECT_BYTES / CHUNK;
    let mut expected = vec![vec![0u8; chunks]; objects];
    for object in 0..objects {
        pool.put(format!("o{object}"), vec![0; OBJECT_BYTES]).expect("space");
    }
    let mut rng = Rng(3);
    for number in 0..30_000usize {
        let (object, chunk) = (rng.below(objects), rng.below(chunks));
        let byte = number as u8;
        let mut txn = Transaction::new();
        txn.write(&format!("o{object}").into(), (chunk * CHUNK) as u64, vec![byte; CHUNK]);
        if let Err(error) = pool.submit(txn) {
            panic!("overwrite {number}: {error} {:?}", stats(&store));
        }
        expected[object][chunk] = byte;
    }
    let after = stats(&store);
    assert!(after.segments_cleaned > 0 && after.bytes_relocated > 0, "{after:?}");
    assert_eq!(after.pieces_unreadable, 0);
    let verify = |store: &Store| {
        let pool = store.pool("p").expect("there");
        for (object, bytes) in expected.iter().enumerate() {
            let data = pool.get(format!("o{object}")).expect("readable");
            for (chunk, byte) in bytes.iter().enumerate() {
                assert!(
                    data[chunk * CHUNK..][..CHUNK].iter().all(|b| b == byte),
                    "object {object} chunk {chunk}"
                );
            }
        }
    };
    verify(&store);
    store.close().expect("clean");
    let store = Store::open(&path, options()).expect("closed before");
    verify(&store);
    store.close().expect("clean");
}
