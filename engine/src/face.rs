//! Face: the public interface: stores and pools for async, blocking and shard-local callers, and how their calls reach the
//! engine's thread.

pub mod blocking;
pub mod embed;
pub(crate) mod guest;
pub(crate) mod handle;
pub(crate) mod inbox;
pub(crate) mod limits;
pub(crate) mod list;
pub(crate) mod local;
pub(crate) mod pools;
pub(crate) mod store;
