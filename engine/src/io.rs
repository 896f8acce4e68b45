//! Io: what a shard reads and writes beside its journal.

pub(crate) mod data_cache;
pub(crate) mod inventory;
pub(crate) mod mount_device;
pub(crate) mod streams;
