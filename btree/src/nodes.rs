//! Nodes: what the tree asks of whoever keeps its pages, and why it could not go on.
//!
//! The tree never holds a page: it looks pages up by pointer, and says when it makes, changes or gives up a node. A
//! pointer is either that of an image on the device or the number of a node that is only in memory.
//!
//! Structure is the child pointers and keys of an inner node and the key interval of a leaf. Rows of a leaf are not
//! structure: they are changed under the pointer that the leaf has. Before structure changes, [`NodesMut::detach`] is
//! called for that node, always, and the pointer that it returns is used from then on; the parent's entry is changed
//! with it, so the parent is detached as well, and so on up to the root (from the root down, in the order of calls).
//! So a keeper that has a node's image on its way to the device learns in `detach` that this image is stale.

use seabed_types::NodePtr;

use crate::Page;

/// Why an operation did not go on. It changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Stop {
    /// The node is not in memory: load it and call again.
    #[error("node {0} is not in memory")]
    Absent(NodePtr),
    /// The node contradicts the nodes above it. Its bytes were as they were written: the writer was wrong.
    #[error("node {node}: {what}")]
    Corrupt {
        /// Which node.
        node: NodePtr,
        /// Which rule it breaks.
        what: &'static str,
    },
}

/// Where the tree finds its pages.
pub trait Nodes {
    /// The page of the node that `ptr` points to, or [`Stop::Absent`]. A node known by a memory pointer is absent only
    /// when it is not in the tree any more, which a [`crate::LookupHint`] may ask for.
    fn node(&self, ptr: NodePtr) -> Result<&Page, Stop>;
}

/// Where the tree changes its pages.
pub trait NodesMut: Nodes {
    /// The page of a node that [`Nodes::node`] gave in the same operation.
    fn node_mut(&mut self, ptr: NodePtr) -> &mut Page;

    /// Takes a new node; returns its memory pointer. `from` is the node that its rows came from, none for a first leaf
    /// or a new root.
    fn add(&mut self, page: Page, from: Option<NodePtr>) -> NodePtr;

    /// The structure of this node is about to change: an image of it is not its image any more, neither the one that
    /// `ptr` may point to nor one that is being written. Returns the memory pointer that the node has from now on; for a
    /// memory pointer the same or a new one.
    fn detach(&mut self, ptr: NodePtr) -> NodePtr;

    /// The node is not in the tree any more. `into` is the node that took its rows, or for one without rows the
    /// neighbour under the same parent that took its key interval (it may be absent); none if there is no such
    /// neighbour, and for a root that is given up.
    fn drop_node(&mut self, ptr: NodePtr, into: Option<NodePtr>);
}
