//! Maintain: the work that a shard does for itself: journal trimming, checkpoints, compaction of nodes, admission.

pub(crate) mod admit;
pub(crate) mod capacity;
pub(crate) mod checkpoint;
pub(crate) mod clean;
pub(crate) mod clean_now;
pub(crate) mod compact_nodes;
mod copies;
mod discard;
mod evacuate;
pub(crate) mod packing;
pub(crate) mod trim;
