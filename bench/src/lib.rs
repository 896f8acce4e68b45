//! Workloads that the engine is measured with.
//!
//! A workload runs its clients on the engine's own thread, as a server would, so that what is measured is the engine and
//! not the way to it. It verifies what it wrote: a fast store that loses data has no speed.
//!
//! `job` reads what to do from fio's job files, `run` does it, `report` says how it went, for people and in fio's JSON.
//! `blocks` and its neighbours are the kinds of workloads. `overwrite` is one workload on its own, the shortest way to a
//! figure. `compare` does the same work on other stores. `cleaner_sim` needs no store: it simulates policies of cleaning.
//!
//! Not here: the command line (cli/).
#![forbid(unsafe_code)]

mod blocks;
pub mod cleaner_sim;
pub mod compare;
mod distribution;
mod endings;
mod face;
pub mod job;
pub mod live;
mod machine;
mod objects;
pub mod overwrite;
mod pace;
mod pause;
mod payload;
pub mod record;
mod replicated;
pub mod report;
pub mod room;
pub mod run;
mod worker;
mod ycsb;
