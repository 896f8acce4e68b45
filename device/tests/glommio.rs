//! The glommio host on real files and loop devices: the conformance suite, the lock, creating, errors, panics, and
//! what glommio has in store.
//!
//! What needs a second process starts this binary again: see [`child`]. Every test that runs an executor or waits for
//! a process has a time limit, past which the whole binary aborts: an executor that hangs cannot be told to stop.

#[path = "glommio/child.rs"]
mod child;
#[path = "glommio/create.rs"]
mod create;
#[path = "glommio/end.rs"]
mod end;
#[path = "glommio/errors.rs"]
mod errors;
#[path = "../src/limit.rs"]
mod limit;
#[path = "glommio/lock.rs"]
mod lock;
#[path = "glommio/loop_device.rs"]
mod loop_device;
#[path = "glommio/suite.rs"]
mod suite;
