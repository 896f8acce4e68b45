//! Workloads that the engine is measured with.
//!
//! A workload runs its clients on the engine's own thread, as a server would, so that what is measured is the engine and
//! not the way to it. It verifies what it wrote: a fast store that loses data has no speed.
//!
//! Not here: the command line (cli/).
#![forbid(unsafe_code)]

mod machine;
pub mod overwrite;
