//! The command line as people and scripts use it: the built binary on temporary stores.
#![forbid(unsafe_code)]

#[path = "suite/bench.rs"]
mod bench;
#[path = "suite/bench_jobs.rs"]
mod bench_jobs;
#[path = "suite/clean.rs"]
mod clean;
#[path = "suite/environment.rs"]
mod environment;
#[path = "suite/exits.rs"]
mod exits;
#[path = "suite/export.rs"]
mod export;
#[path = "suite/files.rs"]
mod files;
#[path = "suite/format.rs"]
mod format;
#[path = "suite/import.rs"]
mod import;
#[path = "suite/import_sizes.rs"]
mod import_sizes;
#[path = "suite/objects.rs"]
mod objects;
#[path = "suite/pools.rs"]
mod pools;
#[path = "suite/repair.rs"]
mod repair;
#[path = "suite/salvage.rs"]
mod salvage;
#[path = "suite/scrub.rs"]
mod scrub;
#[path = "suite/stats.rs"]
mod stats;
#[path = "suite/streams.rs"]
mod streams;
#[path = "suite/world.rs"]
mod world;
