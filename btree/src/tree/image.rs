//! Images: what is to be written, and that it was.
//!
//! The engine writes the nodes that are only in memory from the leaves up, and tells for each where its image is now:
//! the parent's entry changes, so a parent is written after its children and names only images. The same call serves
//! for a leaf with changed rows that is written again and for an image that the cleaner moved; then the path above it
//! loses its images.

use seabed_types::NodePtr;

use super::{Interval, Reach, Tree, child_page};
use crate::{Nodes, NodesMut, Page, Stop};

/// A node that is only in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryNode {
    /// 0 for a leaf.
    pub level: u8,
    /// Where its interval begins: with the level the name under which the tree finds it.
    pub lower: Vec<u8>,
    /// The pointer to it.
    pub ptr: NodePtr,
}

impl Tree {
    /// The node `old`, at `level` on the way to `key`, is known as the image `new` from now on. False if that node is
    /// not `old` (any more): nothing changed. The caller renames what it keeps under `old`. Needs the nodes above it in
    /// memory, not the node itself.
    pub fn set_image<N: NodesMut + ?Sized>(
        &mut self,
        nodes: &mut N,
        level: u8,
        key: &[u8],
        old: NodePtr,
        new: NodePtr,
    ) -> Result<bool, Stop> {
        assert!(new.is_image(), "a node that was written is known by its image");
        if self.root == Some(old) {
            self.root = Some(new);
            return Ok(true);
        }
        let mut path = self.path(nodes, key, level, Reach::Pointer)?;
        if path.len() < 2 || path.last().is_none_or(|step| step.ptr != old) {
            return Ok(false);
        }
        path.pop();
        self.detach_path(nodes, &mut path);
        let parent = path.last().expect("it had two steps");
        nodes.node_mut(parent.ptr).set_child(parent.index, new);
        Ok(true)
    }

    /// All nodes that are only in memory, children before their parents and keys ascending: to be written in this order
    /// before the root is an image. Cost: the nodes themselves, nothing below an image.
    pub fn memory_nodes<N: Nodes + ?Sized>(&self, nodes: &N) -> Result<Vec<MemoryNode>, Stop> {
        let mut found = Vec::new();
        if let Some(root) = self.root.filter(|root| !root.is_image()) {
            collect(nodes, root, nodes.node(root)?, &Interval::default(), &mut found)?;
        }
        Ok(found)
    }
}

fn collect<N: Nodes + ?Sized>(
    nodes: &N,
    ptr: NodePtr,
    page: &Page,
    interval: &Interval,
    found: &mut Vec<MemoryNode>,
) -> Result<(), Stop> {
    for (index, child) in page.children().enumerate().filter(|(_, child)| !child.is_image()) {
        let mut inner = interval.clone();
        inner.narrow(page, index);
        collect(nodes, child, child_page(nodes, page, child)?, &inner, found)?;
    }
    found.push(MemoryNode { level: page.level(), lower: interval.lower.to_vec(), ptr });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use seabed_types::{Crc, Paddr, SegmentId};

    use super::*;

    struct Pages(BTreeMap<u32, Page>);

    impl Nodes for Pages {
        fn node(&self, ptr: NodePtr) -> Result<&Page, Stop> {
            self.0.get(&ptr.at.offset).ok_or(Stop::Absent(ptr))
        }
    }

    fn image(number: u32) -> NodePtr {
        NodePtr::image(Paddr::new(SegmentId(1), number), Crc(number))
    }

    fn inner(level: u8, children: &[(&[u8], u32)]) -> Page {
        let mut page = Page::new(4096, level);
        for (key, child) in children {
            let found = if key.is_empty() { Err(0) } else { page.search(key) };
            assert!(page.put(found, key, &image(*child).to_bytes()));
        }
        page
    }

    /// Two nodes had right checksums and did not agree: the lower one had keys that the one above it gave to its neighbour. A
    /// leaf below was found, and then not found when it got a new image, which was taken for a mistake of the caller's.
    #[test]
    fn nodes_that_disagree_are_told_before_anything_changes() {
        let tree = Tree::new(Some(image(1)), 4096);
        let pages = |upper: &[u8]| {
            let root = inner(2, &[(b"", 2), (upper, 3)]);
            let (low, high) = (inner(1, &[(b"", 10), (b"g", 11)]), inner(1, &[(b"", 20), (b"x", 21)]));
            Pages(BTreeMap::from([(1, root), (2, low), (3, high)]))
        };
        let sound = pages(b"p");
        for (key, leaf) in [(b"a", 10), (b"h", 11), (b"q", 20), (b"y", 21)] {
            assert_eq!(tree.finds(&sound, 0, key, image(leaf)), Ok(true));
            assert_eq!(tree.finds(&sound, 0, key, image(9)), Ok(false));
        }
        assert_eq!(tree.finds(&sound, 1, b"a", image(2)), Ok(true));
        assert_eq!(tree.finds(&sound, 2, b"a", image(1)), Ok(true));
        let odd = pages(b"c");
        let leaf = tree.leaf_of(&odd, b"a").expect("in memory").expect("there is a leaf");
        assert_eq!(leaf.ptr, image(10), "a row in it is found");
        let told = tree.finds(&odd, 0, b"a", image(10));
        assert!(matches!(told, Err(Stop::Corrupt { node, .. }) if node == image(2)), "{told:?}");
        assert_eq!(tree.finds(&odd, 0, b"y", image(21)), Ok(true), "what is beside it");
    }
}
