//! Nodes: one image of a tree node, its rows in words.

use std::fmt;

use seabed_btree::Page;
use seabed_types::{Crc, NodePtr, Paddr, TreeKind};

use super::source;
use crate::names::{key_text, value_text};
use crate::{CheckError, Image};

/// A node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeDump {
    /// Where its image begins.
    pub at: Paddr,
    /// The checksum of its bytes: what a pointer to it must name.
    pub crc: Option<Crc>,
    /// 0 is a leaf.
    pub level: u8,
    /// Bytes that header, prefix and rows take.
    pub used_bytes: usize,
    /// What all its keys begin with.
    pub prefix: Vec<u8>,
    /// Its rows or children.
    pub rows: Vec<RowDump>,
    /// Why it is no node, if so; then there are no rows.
    pub what: Option<String>,
}

/// A row of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RowDump {
    /// Its key.
    pub key: Vec<u8>,
    /// Its key in words.
    pub row: String,
    /// Its value in words; of an inner node the pointer to the child.
    pub value: String,
    /// The child, in an inner node.
    pub child: Option<NodePtr>,
}

/// The node at an address. A node does not say which tree it is of: `tree` tells how to read its keys.
pub fn node(image: &dyn Image, at: Paddr, tree: TreeKind) -> Result<NodeDump, CheckError> {
    let source = source(image)?;
    let nothing = |crc, what: String| NodeDump {
        at,
        crc,
        level: 0,
        used_bytes: 0,
        prefix: Vec::new(),
        rows: Vec::new(),
        what: Some(what),
    };
    let bytes = source.layout.node_bytes;
    if !source.layout.contains(at, u64::from(bytes)) {
        return Ok(nothing(None, "outside of the segments".to_owned()));
    }
    let read = match source.read(at, bytes as usize) {
        Ok(read) => read,
        Err(error) => return Ok(nothing(None, format!("cannot be read: {error}"))),
    };
    let crc = Crc::of(&read);
    let page = match Page::decode(read.into()) {
        Ok(page) => page,
        Err(malformed) => return Ok(nothing(Some(crc), malformed.to_string())),
    };
    let is_leaf = page.level() == 0;
    let row = |index| {
        let key = page.key(index);
        let child = (!is_leaf).then(|| page.child(index));
        let value = match child {
            Some(child) => child.to_string(),
            None => value_text(tree, &key, page.value(index)),
        };
        // A key between two children need be no row's.
        let row = if is_leaf { key_text(tree, &key) } else { format!("\"{}\"", key.escape_ascii()) };
        RowDump { key, row, value, child }
    };
    Ok(NodeDump {
        at,
        crc: Some(crc),
        level: page.level(),
        used_bytes: page.used_bytes(),
        prefix: page.prefix().to_vec(),
        rows: (0..page.len()).map(row).collect(),
        what: None,
    })
}

impl fmt::Display for NodeDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node at {}", self.at)?;
        if let Some(crc) = self.crc {
            write!(f, "#{crc}")?;
        }
        if let Some(what) = &self.what {
            return write!(f, ": {what}");
        }
        write!(
            f,
            ": level {}, {} rows, {} bytes used, prefix \"{}\"",
            self.level,
            self.rows.len(),
            self.used_bytes,
            self.prefix.escape_ascii(),
        )?;
        self.rows.iter().try_for_each(|row| write!(f, "\n  {}: {}", row.row, row.value))
    }
}
