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
//! What the engine does after each write of users, for its one cleaner:
//!
//! ```
//! # use seabed_cleaner::{Candidates, Class, Classes, Clock, Facts, Levels, Pacing, Work, pacing::Needs, victim::DeathRate};
//! # let (segments, segment_bytes, reserve, free, clock) = (1000, 1 << 20, 5 << 20, 6 << 20, Clock(900 << 20));
//! # let facts = |_| Facts { live: 700 << 10, written: 1 << 20, placed: Clock(0), class: Class::Fresh };
//! # let can = |work| work == Work::Clean;
//! let mut candidates = Candidates::with_seed(1);
//! let mut classes = Classes::for_segments(segments);
//! let mut pacing = Pacing::new(Levels::of(segments, segment_bytes, reserve), segment_bytes);
//! candidates.insert(7); // was sealed, is outside the window
//!
//! pacing.after_write(4096, &Needs { free, ..Needs::default() });
//! while let Some((work, bytes)) = pacing.next(can) {
//!     // Trim and Compact are likewise.
//!     let Some(victim) = candidates.choose(&DeathRate, clock, facts) else { break };
//!     candidates.remove(victim.segment);
//!     classes.note_victim(&victim.facts, clock);
//!     pacing.begin_victim(&victim.facts);
//!     assert_eq!(classes.class_for(victim.facts.class), Class::Relocated(0));
//!     pacing.paid(work, bytes); // copied to the open segment of that class; `end_victim` once all of it is
//! }
//! ```
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
