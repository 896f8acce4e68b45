//! Operate: what a shard does for its callers: transactions, streaming puts, reads, listings, and the removals they leave.

pub(crate) mod bulk;
pub(crate) mod graves;
pub(crate) mod listing;
pub(crate) mod past;
pub(crate) mod put;
pub(crate) mod read;
pub(crate) mod submit;
