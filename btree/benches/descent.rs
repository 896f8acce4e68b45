//! Descent: from the root of a warm tree to a row, and what is done there.
//!
//! A tree of 100,000 rows with keys of 12 bytes that look random and values of 100 bytes; the nodes are in a vector, so
//! that finding one by its pointer costs next to nothing.

use std::cell::RefCell;

use divan::{Bencher, black_box};
use seabed_btree::{Nodes, NodesMut, Page, Stop, Tree};
use seabed_types::NodePtr;

const ROWS: u64 = 100_000;
const NODES: [usize; 3] = [4 << 10, 16 << 10, 64 << 10];

fn main() {
    divan::main();
}

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
    let mut key = [0; 12];
    key[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key
}

fn tree(node_bytes: usize) -> (Memory, Tree) {
    let mut nodes = Memory::default();
    let mut tree = Tree::new(None, node_bytes);
    for number in 0..ROWS {
        tree.insert(&mut nodes, &key(number), &[7; 100]).expect("in memory");
    }
    (nodes, tree)
}

/// Keys of rows that are there, in any order.
fn keys() -> impl FnMut() -> [u8; 12] {
    let mut rng = fastrand::Rng::with_seed(1);
    move || key(rng.u64(..ROWS))
}

#[divan::bench(args = NODES)]
fn get(bencher: Bencher<'_, '_>, node_bytes: usize) {
    let (nodes, tree) = tree(node_bytes);
    bencher.with_inputs(keys()).bench_local_values(|key| {
        black_box(tree.get(&nodes, &key).expect("in memory"));
    });
}

#[divan::bench(args = NODES)]
fn replace(bencher: Bencher<'_, '_>, node_bytes: usize) {
    let (nodes, tree) = tree(node_bytes);
    let (nodes, tree) = (RefCell::new(nodes), RefCell::new(tree));
    bencher.with_inputs(keys()).bench_local_values(|key| {
        let mut tree = tree.borrow_mut();
        black_box(tree.insert(&mut *nodes.borrow_mut(), &key, &[8; 100]).expect("in memory"));
    });
}
