//! Synchronous b-tree over pages that are used in place.
//!
//! A [`Page`] is one node: slotted, its keys' common prefix stored once, the same bytes in memory and on the device. A
//! [`Tree`] is a root pointer and the operations on the pages below it, which its user keeps: it asks for them through
//! [`Nodes`] and changes them through [`NodesMut`]. There is no I/O and no waiting here. A node that is not in memory is
//! a value, [`Stop::Absent`]: the caller loads it and calls again, and nothing was changed meanwhile.
//!
//! Invariants: 1. A node known by an image pointer has that image as its structure: an inner node has the same bytes, a
//! leaf covers what its image covers (at most it has grown over a stretch of keys without rows, where an emptied
//! neighbour was) and its rows differ only by changes of single rows since. 2. The parent of a node known by a memory
//! pointer is known by a memory pointer: what must be written before a checkpoint is a connected top of the tree. 3. An
//! operation that returns an error changed nothing.
//! Limits: nodes of 4 to 64 KiB; a key is at most a quarter and a value an eighth of a node ([`key_bytes_max`],
//! [`value_bytes_max`]).
//! Not here: reading, writing and caching nodes, and which rows an image lacks: the engine. What keys and values mean:
//! object/.
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]

mod cursor;
mod nodes;
mod page;
mod tree;

pub use cursor::{Cursor, Direction, Ended, Step};
pub use nodes::{Nodes, NodesMut, Stop};
pub use page::Page;
pub use page::format::{
    FORMAT, HEADER_BYTES, NODE_BYTES_MAX, NODE_BYTES_MIN, SLOT_BYTES, key_bytes_max, value_bytes_max,
};
pub use tree::image::MemoryNode;
pub use tree::verify::Census;
pub use tree::{Found, Inserted, Leaf, LookupHint, Removed, Tree, Way};
