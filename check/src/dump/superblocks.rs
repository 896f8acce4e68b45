//! Superblocks: the four copies.

use std::fmt;

use seabed_segment::Superblock;

use crate::Image;
use crate::front::superblock_copies;

/// A superblock copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SuperblockDump {
    /// Which, 0..=3.
    pub copy: u16,
    /// Its device offset.
    pub at: u64,
    /// What it says, or why it is none.
    pub superblock: Result<Superblock, String>,
}

/// The four copies of the superblock.
pub fn superblocks(image: &dyn Image) -> Vec<SuperblockDump> {
    let dump = |(copy, (at, found)): (u16, (u64, crate::front::Copy))| {
        let superblock = match found {
            Ok(decoded) => decoded.map_err(|error| error.to_string()),
            Err(error) => Err(format!("cannot be read: {error}")),
        };
        SuperblockDump { copy, at, superblock }
    };
    (0..).zip(superblock_copies(image)).map(dump).collect()
}

impl fmt::Display for SuperblockDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "superblock {} at {:#x}: ", self.copy, self.at)?;
        match &self.superblock {
            Err(why) => f.write_str(why),
            Ok(superblock) => {
                let layout = superblock.layout;
                write!(
                    f,
                    "store {}, {} bytes, segments of {}, nodes of {}, {} shards, window of {}, features \
                     {:#x} {:#x} {:#x}",
                    superblock.identity.uuid,
                    layout.device_bytes,
                    layout.segment_bytes,
                    layout.node_bytes,
                    layout.shards,
                    superblock.window_bytes,
                    superblock.compat,
                    superblock.ro_compat,
                    superblock.incompat,
                )
            }
        }
    }
}
