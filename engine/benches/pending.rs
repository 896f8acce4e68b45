//! Pending: the map of changes that images lack ([`buckets`]), which has no public API; its source is compiled in here.
//!
//! Keys as of extents rows: a hash, a family, a kind, a row of 64; values as large as a pending change is besides its bytes.
//! With 1,000 rows all of it is in the processor's cache; 50,000 are what half a window of 128 MiB may have.

use std::cell::RefCell;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use smallvec::SmallVec;

#[expect(dead_code, unused_imports, reason = "all of it is used by the engine and by tests")]
#[path = "../src/rows/pending/buckets.rs"]
mod buckets;

use buckets::Buckets;

type Key = SmallVec<[u8; 24]>;
type Value = [u64; 6];
type Map = Buckets<Value>;

const ROWS: [u64; 2] = [1_000, 50_000];
/// Rows of one object, neighbours in the map.
const OF_OBJECT: u64 = 64;

fn main() {
    divan::main();
}

fn key(number: u64) -> Key {
    let (object, row) = (number / OF_OBJECT, number % OF_OBJECT);
    let mut key = Key::new();
    let [_, _, _, _, hash @ ..] = object.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    key.extend_from_slice(&hash);
    key.extend_from_slice(&[2]);
    key.extend_from_slice(&object.to_be_bytes()[5..]);
    key.extend_from_slice(&[1, 1, row.to_le_bytes()[0], 255]);
    key
}

fn put(map: &mut Map, key: &Key) {
    let change = |value: &mut Value, new: Value| {
        value[0] += new[0];
        Ok::<_, ()>(())
    };
    map.upsert(key, [1; 6], change, |new| new).expect("nothing fails");
}

/// All rows, put in in any order.
fn map(rows: u64) -> Map {
    let mut numbers: Vec<u64> = (0..rows).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut numbers);
    let mut map = Map::default();
    for number in numbers {
        put(&mut map, &key(number));
    }
    map
}

fn keys(rows: u64) -> impl FnMut() -> Key {
    let mut rng = fastrand::Rng::with_seed(2);
    move || key(rng.u64(..rows))
}

/// The bounds of an object's rows.
fn intervals(rows: u64) -> impl FnMut() -> (Key, Key) {
    let mut rng = fastrand::Rng::with_seed(3);
    move || {
        let first = rng.u64(..rows / OF_OBJECT) * OF_OBJECT;
        let mut end = key(first + OF_OBJECT - 1);
        end.push(0);
        (key(first), end)
    }
}

/// A row that is there changes again.
#[divan::bench(args = ROWS)]
fn change(bencher: Bencher<'_, '_>, rows: u64) {
    let map = RefCell::new(map(rows));
    bencher.with_inputs(keys(rows)).bench_local_values(|key| put(&mut map.borrow_mut(), &key));
}

/// All rows come, in any order.
#[divan::bench(args = ROWS)]
fn fill(bencher: Bencher<'_, '_>, rows: u64) {
    bencher.counter(ItemsCount::new(rows)).bench_local(|| black_box(map(rows)));
}

/// The rows of a leaf, in order, as trimming and loading look at them.
#[divan::bench(args = ROWS)]
fn walk(bencher: Bencher<'_, '_>, rows: u64) {
    let map = map(rows);
    bencher.counter(ItemsCount::new(OF_OBJECT)).with_inputs(intervals(rows)).bench_local_values(
        |(lower, upper)| map.range(&lower, Some(&upper)).map(|(_, value)| value[0]).sum::<u64>(),
    );
}

/// The rows of a leaf go when it has an image, and come again.
#[divan::bench(args = ROWS)]
fn forget_and_add(bencher: Bencher<'_, '_>, rows: u64) {
    let map = RefCell::new(map(rows));
    bencher.counter(ItemsCount::new(OF_OBJECT)).with_inputs(intervals(rows)).bench_local_values(
        |(lower, upper)| {
            let (mut map, mut gone) = (map.borrow_mut(), Vec::new());
            map.remove_range(&lower, Some(&upper), |key, _| gone.push(key.clone()));
            assert_eq!(gone.len() as u64, OF_OBJECT);
            for key in &gone {
                put(&mut map, key);
            }
        },
    );
}
