//! What Seabed is tested with: a simulated machine, a reference model of the object store, and the suites.
//!
//! [`machine`] is a seeded computer with a disk whose power can be cut at every step; it implements the traits of
//! `seabed-device`, so everything above them runs on it unchanged. [`model`] says what the store must answer.
//! [`tree`] makes directories to import, [`golden`] stores to keep, [`site`] new ones; [`rules`] runs the rules without an
//! engine, [`fuzz`] takes any bytes; [`stamped`] writes on real files.
#![forbid(unsafe_code)]

pub mod crash;
pub mod fuzz;
pub mod golden;
pub mod import;
pub mod journal_suite;
pub mod kill;
mod loop_device;
pub mod machine;
pub mod model;
pub mod open;
pub mod rules;
pub mod seeded;
pub mod site;
pub mod stamped;
pub mod tree;
