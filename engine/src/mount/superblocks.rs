//! Superblocks: completes the copies of the superblock of a store that is mounted for writing.
//!
//! A format that was cut off between its last writes leaves a store with one, two or three of its four copies; a copy may rot or
//! its write be lost later. Any one copy opens the store, so a store that works may be down to its last one. The mount writes what
//! is missing from the superblock that it was opened with.
//!
//! Only what is no superblock is written: a block of other bytes, or one that is damaged. A valid copy of another store, of another
//! version or with other features stays, whatever it says: which of two is right is for `check --repair` to find out. And only a
//! store whose slots, bodies and journal were just read under this superblock's own secret writes it, so that a leftover copy
//! of an older store never spreads.
//!
//! Crash: a copy that is written is not valid before, and whole or not valid after a cut; the copies that are valid are not
//! touched. The mount's first flush covers the writes, before it writes anything else.
//! Cost: four reads of a block per mount.

use std::rc::Rc;

use futures::future::join_all;
use seabed_device::{Class, Durability, WriteOpts};
use seabed_segment::{Superblock, SuperblockError};
use seabed_types::BLOCK_BYTES;

use crate::shard::mounted::Mounted;

impl Mounted {
    /// Writes the copies that are missing; a flush must follow. A copy that cannot be written stays as it is, with a warning: one
    /// is enough.
    pub(crate) async fn complete_superblocks(&self) {
        if seabed_types::seeded!(78) {
            return;
        }
        let superblock = self.superblock;
        let places = Superblock::places(superblock.layout.device_bytes);
        let read = |at: u64| self.machine.device.read(at, BLOCK_BYTES, Class::Foreground);
        let blocks = join_all(places.map(read)).await;
        for ((copy, at), block) in (0..).zip(places).zip(blocks) {
            let is_missing = match &block {
                Ok(block) => matches!(
                    Superblock::decode(block, copy),
                    Err(SuperblockError::NotAStore | SuperblockError::Damaged(_))
                ),
                // What cannot be read now may be a copy of whatever store; a write may cure the block, or lose it.
                Err(_) => false,
            };
            if !is_missing {
                continue;
            }
            seabed_types::reached!(SuperblockCompleted);
            let mut buf = self.machine.device.alloc(BLOCK_BYTES);
            buf.copy_from_slice(&superblock.encode(copy));
            let opts = WriteOpts { durability: Durability::Cached, class: Class::Foreground, stream: 0 };
            match self.machine.device.write(at, Rc::new(buf), opts).await {
                Ok(()) => tracing::warn!(copy, "a copy of the superblock was missing, and is written again"),
                Err(error) => {
                    tracing::warn!(%error, copy, "a missing copy of the superblock cannot be written");
                }
            }
        }
    }
}
