//! Descent: what an operation on a warm tree costs, in nanoseconds.
//!
//! `cargo run --release -p seabed-btree --example descent [rows]`: for each node size a tree of 12-byte keys that look
//! random and 100-byte values (extents of 64 KiB are 100 to 200 bytes) is built by inserts, then read, overwritten and
//! scanned in random order. The nodes are kept in a vector, so finding a page by its pointer costs next to nothing.
#![expect(clippy::print_stdout, reason = "it is a program")]

use std::ops::{Bound, ControlFlow};
use std::time::Instant;

use seabed_btree::{Direction, Nodes, NodesMut, Page, Step, Stop, Tree};
use seabed_types::NodePtr;

#[derive(Default)]
struct Memory {
    pages: Vec<Option<Page>>,
}

fn index(ptr: NodePtr) -> usize {
    ptr.at.offset as usize
}

impl Nodes for Memory {
    fn node(&self, ptr: NodePtr) -> Result<&Page, Stop> {
        self.pages.get(index(ptr)).and_then(Option::as_ref).ok_or(Stop::Absent(ptr))
    }
}

impl NodesMut for Memory {
    fn node_mut(&mut self, ptr: NodePtr) -> &mut Page {
        self.pages[index(ptr)].as_mut().expect("the node is in the tree")
    }

    fn add(&mut self, page: Page, _from: Option<NodePtr>) -> NodePtr {
        self.pages.push(Some(page));
        NodePtr::memory(u32::try_from(self.pages.len() - 1).expect("under 2^32 pages"))
    }

    fn detach(&mut self, ptr: NodePtr) -> NodePtr {
        ptr
    }

    fn drop_node(&mut self, ptr: NodePtr, _into: Option<NodePtr>) {
        self.pages[index(ptr)] = None;
    }
}

/// Twelve bytes, of which the first eight look random and differ for every number.
fn key(number: u64) -> [u8; 12] {
    let mut bits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    let mut key = [0; 12];
    key[..8].copy_from_slice(&(bits ^ bits >> 31).to_be_bytes());
    key
}

/// Prints what one of `count` operations took in the best of `runs`.
fn timed(what: &str, count: usize, runs: usize, mut run: impl FnMut()) {
    let nanoseconds = (0..runs).map(|_| {
        let begin = Instant::now();
        run();
        begin.elapsed().as_nanos()
    });
    println!("  {what:<28} {:>8} ns", nanoseconds.min().unwrap_or(0) / count as u128);
}

fn measure(node_bytes: usize, rows: usize) {
    let mut nodes = Memory::default();
    let mut tree = Tree::new(None, node_bytes);
    let count = rows as u64;
    println!("{node_bytes} bytes");
    timed("insert, keys in any order", rows, 1, || {
        for number in 0..count {
            tree.insert(&mut nodes, &key(number), &[7; 100]).expect("in memory");
        }
    });
    let census = tree.verify(&nodes).expect("the tree is good");
    let fill = census.used_bytes * 100 / ((census.leaves + census.inner) * node_bytes);
    println!("  {} leaves, {} inner nodes, {fill} % full", census.leaves, census.inner);
    let mut rng = fastrand::Rng::with_seed(1);
    let picks: Vec<[u8; 12]> = (0..1_000_000).map(|_| key(rng.u64(..count))).collect();
    let near: Vec<[u8; 12]> = (0..1_000_000).map(|_| key(rng.u64(..100))).collect();
    let mut sum = 0;
    timed("get", picks.len(), 5, || {
        for key in &picks {
            sum += tree.get(&nodes, key).expect("in memory").map_or(0, <[u8]>::len);
        }
    });
    timed("get, of 100 keys", near.len(), 5, || {
        for key in &near {
            sum += tree.get(&nodes, key).expect("in memory").map_or(0, <[u8]>::len);
        }
    });
    timed("replace, same length", picks.len(), 5, || {
        for key in &picks {
            tree.insert(&mut nodes, key, &[8; 100]).expect("in memory");
        }
    });
    timed("replace, of 100 keys", near.len(), 5, || {
        for key in &near {
            tree.insert(&mut nodes, key, &[9; 100]).expect("in memory");
        }
    });
    timed("replace, other lengths", picks.len(), 5, || {
        for (index, key) in picks.iter().enumerate() {
            tree.insert(&mut nodes, key, &[8; 160][..80 + index % 41]).expect("in memory");
        }
    });
    timed("scan, each row", rows, 5, || {
        let all = (Bound::Unbounded, Bound::Unbounded);
        tree.range(&nodes, all.0, all.1, Direction::Ascending, |step| {
            sum += usize::from(matches!(step, Step::Row { .. }));
            ControlFlow::Continue(())
        })
        .expect("in memory");
    });
    let mut numbers: Vec<u64> = (0..count).collect();
    rng.shuffle(&mut numbers);
    timed("remove, in any order", rows, 1, || {
        for number in &numbers {
            tree.remove(&mut nodes, &key(*number)).expect("in memory");
        }
    });
    assert!(sum > 0 && tree.root().is_none());
}

fn main() {
    let rows = std::env::args().nth(1).and_then(|rows| rows.parse().ok()).unwrap_or(1_000_000);
    for node_bytes in [4096, 8192, 16384, 65536] {
        measure(node_bytes, rows);
    }
}
