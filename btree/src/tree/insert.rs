//! Insert: puts a row into its leaf, and divides what is too full on the way back up.
//!
//! A row that fits changes its leaf and nothing else. If it does not fit, the whole path is detached, the leaf is
//! divided, and the separator and the new right half go into the parent, which may be divided in turn; a divided root
//! gets a new root above it.
//!
//! Invariants: nothing is changed before all that is needed was found in memory and agrees; from then on nothing fails.

use seabed_types::NodePtr;

use super::{Inserted, LookupHint, Path, PathStep, Tree};
use crate::page::{KeyBuf, Page};
use crate::{NodesMut, Stop};

impl Tree {
    /// Inserts a row or replaces the value of its key.
    ///
    /// Panics if key or value are longer than `key_bytes_max` and `value_bytes_max` of the tree.
    pub fn insert<N>(&mut self, nodes: &mut N, key: &[u8], value: &[u8]) -> Result<Inserted, Stop>
    where
        N: NodesMut + ?Sized,
    {
        self.insert_at(nodes, key, value, None)
    }

    /// As [`Tree::insert`], of a row that was looked up.
    pub fn insert_at<N>(
        &mut self,
        nodes: &mut N,
        key: &[u8],
        value: &[u8],
        hint: Option<LookupHint>,
    ) -> Result<Inserted, Stop>
    where
        N: NodesMut + ?Sized,
    {
        assert!(key.len() <= self.key_bytes_max(), "the caller keeps to the limit of keys");
        assert!(value.len() <= self.value_bytes_max(), "the caller keeps to the limit of values");
        let Some((leaf, page, found)) = self.locate(nodes, key, hint)? else {
            let mut page = Page::new(self.node_bytes, 0);
            assert!(page.put(Err(0), key, value), "an empty page has room for a row");
            let leaf = nodes.add(page, None);
            self.root = Some(leaf);
            return Ok(Inserted { leaf, replaced: false });
        };
        if page.has_room(found, key, value) {
            assert!(nodes.node_mut(leaf).put(found, key, value), "there is room");
            return Ok(Inserted { leaf, replaced: found.is_ok() });
        }
        let path = self.path_to(nodes, key, leaf)?;
        let leaf = self.insert_by_split(nodes, path, found, key, value);
        Ok(Inserted { leaf, replaced: found.is_ok() })
    }

    /// Lets `edit` change the bytes of a row's value where they stand; their number stays. None if there is no such row.
    pub fn edit_value<N, T>(
        &mut self,
        nodes: &mut N,
        key: &[u8],
        hint: Option<LookupHint>,
        edit: impl FnOnce(&mut [u8]) -> T,
    ) -> Result<Option<T>, Stop>
    where
        N: NodesMut + ?Sized,
    {
        let Some((leaf, _, Ok(index))) = self.locate(nodes, key, hint)? else { return Ok(None) };
        Ok(Some(edit(nodes.node_mut(leaf).value_mut(index))))
    }

    /// Divides the last node of `path`; returns the half with the row.
    fn insert_by_split<N: NodesMut + ?Sized>(
        &mut self,
        nodes: &mut N,
        mut path: Path,
        found: Result<usize, usize>,
        key: &[u8],
        value: &[u8],
    ) -> NodePtr {
        self.detach_path(nodes, &mut path);
        let leaf = path.pop().expect("a path ends with its node").ptr;
        let split = nodes.node_mut(leaf).split(found, key, value);
        let mut right = nodes.add(split.right, Some(leaf));
        let with_row = if split.edited_right { right } else { leaf };
        let mut separator: KeyBuf = split.separator;
        while let Some(PathStep { ptr, index }) = path.pop() {
            let page = nodes.node_mut(ptr);
            if page.put_child(index + 1, &separator, right) {
                return with_row;
            }
            let split = page.split(Err(index + 1), &separator, &right.to_bytes());
            right = nodes.add(split.right, Some(ptr));
            separator = split.separator;
        }
        self.grow(nodes, &separator, right);
        with_row
    }

    /// Puts a new root above the old one and its new neighbour.
    fn grow<N: NodesMut + ?Sized>(&mut self, nodes: &mut N, separator: &[u8], right: NodePtr) {
        let left = self.root.expect("a tree that was divided has a root");
        let level = nodes.node_mut(left).level() + 1;
        let mut page = Page::new(self.node_bytes, level);
        assert!(page.put_child(0, &[], left), "an empty page has room for a child");
        assert!(page.put_child(1, separator, right), "a page has room for two children");
        self.root = Some(nodes.add(page, None));
    }

    /// Detaches all nodes of `path`, from the root down, and points their parents to what they are known as now.
    pub(super) fn detach_path<N: NodesMut + ?Sized>(&mut self, nodes: &mut N, path: &mut Path) {
        let mut parent: Option<PathStep> = None;
        for step in path.iter_mut() {
            let old = step.ptr;
            step.ptr = nodes.detach(old);
            assert!(!step.ptr.is_image(), "a detached node is known by a memory pointer");
            if step.ptr != old {
                match parent {
                    Some(parent) => nodes.node_mut(parent.ptr).set_child(parent.index, step.ptr),
                    None => self.root = Some(step.ptr),
                }
            }
            parent = Some(*step);
        }
    }
}
