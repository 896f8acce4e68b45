//! Images made by hand with the encoders of the format crates: clean ones, and ones with each violation planted.
#![expect(unreachable_pub, reason = "items are shared between the modules of this one binary")]

mod clean;
mod disk;
mod dumps;
mod faults;
mod flips;
mod front;
mod inside;
mod log;
mod objects;
mod plants;
mod repairs;
mod rows;
mod salvages;
mod scrubs;
mod segments;
mod shard;
mod trees;
