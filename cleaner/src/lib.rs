//! Cleaner: the policy that brings space back, as pure functions and small state machines.
//!
//! A log-structured store writes to the end of open segments only, so space comes back when a segment is empty. Cleaning
//! copies what is live out of a *victim* and frees it. This crate decides
//! - which segment is the next victim ([`victim`]);
//! - which open segment takes what is copied ([`classes`]);
//! - how many bytes to copy now, and whether trimming, compaction or cleaning goes first ([`pacing`]).
//!
//! [`simulate`] is a model of a store that measures these policies: chunks, segments, open segments and a reserve.
//!
//! The clock of all decisions is bytes that users wrote ([`Clock`]), never the wall clock.
//!
//! Invariants: 1. No I/O, no device, no tree, no await: callers pass facts in and carry decisions out. 2. The same calls in
//! the same order give the same decisions. 3. A decision costs the same in stores of a hundred and of a million segments.
//! Crash: nothing here is durable. What a mount does not know (how a segment's live bytes fell) is learned again; only the
//! quality of decisions depends on it.
//! Not here: live bytes and what may be freed (engine `table`); copying and look-ups (engine); rules S1-S8 (`docs/RULES.md`).
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]

pub mod classes;
mod facts;
pub mod pacing;
mod random;
pub mod simulate;
pub mod victim;

pub use classes::{Class, Classes};
pub use facts::{Clock, Facts};
pub use pacing::{Due, Levels, Pacing, Work};
pub use victim::{Candidates, Choice, Policy};
