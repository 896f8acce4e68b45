//! The suites, shortly: what `cargo test` runs of them. One program, as each takes a long time to build. The schedules are another,
//! because they count what the process met, and so are the fuzz targets, because they bound its memory.

mod architecture;
mod batching;
mod crash;
mod generators;
mod golden;
mod journal;
mod metamorphic;
mod repair;
mod rules;
mod stamped;
mod stored_once;
