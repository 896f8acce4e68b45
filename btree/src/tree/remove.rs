//! Remove: takes a row from its leaf, and gives up nodes that are empty or nearly so.
//!
//! A leaf without rows, and an inner node without children, is taken out of its parent; the neighbour on the left gets
//! its interval (the one on the right, if it was the first). A node under a quarter full is merged with a neighbour
//! under the same parent if both together take at most three quarters: the rows go into the left one. A root with one
//! child gives way to that child.
//!
//! Neighbours are looked at only if they are in memory: an absent one is not merged with. The one that gets an interval
//! need not be there, and it is not detached: its image has no row in that interval, which is what the tree has there.

use seabed_types::NodePtr;

use super::{LookupHint, Path, PathStep, Removed, Tree};
use crate::page::{KeyBuf, Page};
use crate::{Nodes, NodesMut, Stop};

/// Which part of a page a node must use to be left alone.
const SPARSE_DIVISOR: usize = 4;

impl Tree {
    /// Removes the row of `key`, if there is one.
    pub fn remove<N: NodesMut + ?Sized>(&mut self, nodes: &mut N, key: &[u8]) -> Result<Removed, Stop> {
        self.remove_at(nodes, key, None)
    }

    /// As [`Tree::remove`], of a row that was looked up.
    pub fn remove_at<N: NodesMut + ?Sized>(
        &mut self,
        nodes: &mut N,
        key: &[u8],
        hint: Option<LookupHint>,
    ) -> Result<Removed, Stop> {
        let Some((leaf, page, found)) = self.locate(nodes, key, hint)? else {
            return Ok(Removed { found: false, leaf: None });
        };
        let Ok(index) = found else { return Ok(Removed { found: false, leaf: Some(leaf) }) };
        let left_bytes = page.used_bytes() - page.row_bytes_at(index);
        let stays = page.len() > 1 && (left_bytes >= sparse_below(page) || self.root == Some(leaf));
        let path = if stays { None } else { Some(self.path_to(nodes, key, leaf)?) };
        nodes.node_mut(leaf).remove(index);
        let leaf = match path {
            Some(path) => self.shrink(nodes, path),
            None => Some(leaf),
        };
        Ok(Removed { found: true, leaf })
    }

    /// Puts right what has become of the nodes of `path`, from its leaf up; returns the leaf, or that with which it was
    /// merged.
    fn shrink<N: NodesMut + ?Sized>(&mut self, nodes: &mut N, mut path: Path) -> Option<NodePtr> {
        let mut leaf = path.last().map(|step| step.ptr);
        while path.len() > 1 {
            let ptr = path.last().expect("it has two steps at least").ptr;
            let page = present(nodes, ptr);
            let (is_empty, is_leaf) = (page.is_empty(), page.level() == 0);
            if !is_empty && page.used_bytes() >= sparse_below(page) {
                return leaf;
            }
            let kept = if is_empty {
                self.unlink(nodes, &mut path);
                None
            } else {
                let merged = self.merge(nodes, &mut path);
                if merged.is_none() {
                    return leaf;
                }
                merged
            };
            if is_leaf {
                leaf = kept;
            }
        }
        if self.lower_root(nodes) { leaf } else { None }
    }

    /// Takes the last node of `path`, which is empty, out of its parent, and off the path.
    fn unlink<N: NodesMut + ?Sized>(&mut self, nodes: &mut N, path: &mut Path) {
        let ptr = path.pop().expect("a path ends with its node").ptr;
        self.detach_path(nodes, path);
        let parent = *path.last().expect("the root is never unlinked");
        let page = nodes.node_mut(parent.ptr);
        let into = match parent.index {
            0 if page.len() == 1 => None,
            0 => Some(page.child(1)),
            index => Some(page.child(index - 1)),
        };
        page.remove(parent.index);
        nodes.drop_node(ptr, into);
    }

    /// Merges the last node of `path` with a neighbour, if there is one that is in memory and small enough, and takes it
    /// off the path. Returns what both are known as.
    fn merge<N: NodesMut + ?Sized>(&mut self, nodes: &mut N, path: &mut Path) -> Option<NodePtr> {
        let parent = path[path.len() - 2];
        let (left_index, merged) = merge_candidate(nodes, parent)?;
        path.pop();
        self.detach_path(nodes, path);
        let parent = path.last().expect("the merged node has a parent").ptr;
        let page = nodes.node_mut(parent);
        let (left, right) = (page.child(left_index), page.child(left_index + 1));
        let kept = nodes.detach(left);
        assert!(!kept.is_image(), "a detached node is known by a memory pointer");
        *nodes.node_mut(kept) = merged;
        let page = nodes.node_mut(parent);
        page.set_child(left_index, kept);
        page.remove(left_index + 1);
        nodes.drop_node(right, Some(kept));
        Some(kept)
    }

    /// Gives up a root without rows, and one with a single child in favour of that. Whether the tree has a root still.
    fn lower_root<N: NodesMut + ?Sized>(&mut self, nodes: &mut N) -> bool {
        while let Some(root) = self.root {
            let Ok(page) = nodes.node(root) else { return true };
            let child = match (page.level(), page.len()) {
                (_, 0) => None,
                (1.., 1) => Some(page.child(0)),
                _ => return true,
            };
            self.root = child;
            nodes.drop_node(root, None);
        }
        false
    }
}

/// The page that the last node below `parent` and a neighbour would make, and the index of the left one of the two.
fn merge_candidate<N: Nodes + ?Sized>(nodes: &N, parent: PathStep) -> Option<(usize, Page)> {
    let page = present(nodes, parent.ptr);
    let first = parent.index.saturating_sub(1);
    let mut separator = KeyBuf::new();
    (first..=parent.index).filter(|left| left + 1 < page.len()).find_map(|left_index| {
        let left = nodes.node(page.child(left_index)).ok()?;
        let right = nodes.node(page.child(left_index + 1)).ok()?;
        page.key_into(left_index + 1, &mut separator);
        // A neighbour that contradicts the parent is left alone: it is found when it is used.
        let agree =
            left.level() + 1 == page.level() && !left.is_empty() && left.is_left_of(right, &separator);
        let bytes_max = left.node_bytes() / 4 * 3;
        let merged = if agree { Page::merged(left, right, &separator, bytes_max) } else { None };
        merged.map(|merged| (left_index, merged))
    })
}

/// A node that uses fewer bytes than this is merged, if there is a neighbour for it.
fn sparse_below(page: &Page) -> usize {
    page.node_bytes() / SPARSE_DIVISOR
}

fn present<N: Nodes + ?Sized>(nodes: &N, ptr: NodePtr) -> &Page {
    nodes.node(ptr).expect("the path was in memory when the operation began")
}
