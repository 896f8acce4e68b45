//! Verify: checks all of a tree that is in memory.
//!
//! Each page as a page, its keys against the interval that the nodes above give it, its level, and that the parent of a
//! node that is only in memory is only in memory. Nodes that are not in memory are counted and passed over. Meant for
//! tests and for debug builds: it costs a pass over everything.

use seabed_types::NodePtr;

use super::{Interval, Tree, child_page};
use crate::{Nodes, Page, Stop};

/// What a tree consists of, as far as it is in memory.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Census {
    /// Leaves in memory.
    pub leaves: usize,
    /// Inner nodes in memory.
    pub inner: usize,
    /// Nodes that are only in memory; counted among the others too.
    pub without_image: usize,
    /// Children that are not in memory.
    pub absent: usize,
    /// Rows in the leaves in memory.
    pub rows: usize,
    /// Bytes that the pages in memory use.
    pub used_bytes: usize,
}

impl Tree {
    /// Checks what is in memory; the error names the first node that is wrong.
    pub fn verify<N: Nodes + ?Sized>(&self, nodes: &N) -> Result<Census, Stop> {
        let mut census = Census::default();
        self.visit(nodes, |ptr, page, lower, upper| {
            let corrupt = |what| Stop::Corrupt { node: ptr, what };
            page.validate().map_err(|malformed| corrupt(malformed.what))?;
            let interval = Interval { lower: lower.into(), upper: upper.map(Into::into) };
            if !interval.holds(page) {
                return Err(corrupt("keys outside of the interval that the parent gives"));
            }
            if page.node_bytes() != self.node_bytes {
                return Err(corrupt("size is not that of the tree's nodes"));
            }
            if ptr.is_image() && page.children().any(|child| !child.is_image()) {
                return Err(corrupt("has an image, and a child has none"));
            }
            if page.level() > 0 {
                census.inner += 1;
                census.absent += page.children().filter(|child| nodes.node(*child).is_err()).count();
            } else {
                census.leaves += 1;
                census.rows += page.len();
            }
            census.without_image += usize::from(!ptr.is_image());
            census.used_bytes += page.used_bytes();
            Ok(())
        })?;
        Ok(census)
    }

    /// Calls `each` for every node in memory, parents before children and keys ascending, with its pointer, its page and
    /// its interval (from, up to but not with).
    pub fn visit<N, F>(&self, nodes: &N, mut each: F) -> Result<(), Stop>
    where
        N: Nodes + ?Sized,
        F: FnMut(NodePtr, &Page, &[u8], Option<&[u8]>) -> Result<(), Stop>,
    {
        let Some(root) = self.root else { return Ok(()) };
        match nodes.node(root) {
            Ok(page) => visit_below(nodes, root, page, &Interval::default(), &mut each),
            Err(Stop::Absent(_)) => Ok(()),
            Err(stop) => Err(stop),
        }
    }
}

fn visit_below<N, F>(
    nodes: &N,
    ptr: NodePtr,
    page: &Page,
    interval: &Interval,
    each: &mut F,
) -> Result<(), Stop>
where
    N: Nodes + ?Sized,
    F: FnMut(NodePtr, &Page, &[u8], Option<&[u8]>) -> Result<(), Stop>,
{
    each(ptr, page, &interval.lower, interval.upper.as_deref())?;
    for (index, child) in page.children().enumerate() {
        match child_page(nodes, page, child) {
            Ok(below) => {
                let mut inner = interval.clone();
                inner.narrow(page, index);
                visit_below(nodes, child, below, &inner, each)?;
            }
            Err(Stop::Absent(_)) => {}
            Err(stop) => return Err(stop),
        }
    }
    Ok(())
}
