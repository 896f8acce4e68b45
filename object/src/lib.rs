//! What operations mean: keys, onodes, extents, attributes, omap; a transaction checked and turned into row changes.
//!
//! Everything here is pure: no I/O, no wait, no device, no tree. State is seen through [`Rows`], which the engine
//! implements over its trees; a row that is not in memory is a value ([`Stop::Absent`]), not a wait. [`execute()`] checks a
//! whole transaction and computes all it changes in one pass without side effects; [`Effects::encode`] turns that into
//! row changes once the new pieces have their places; [`mod@read`] plans reads; [`graves`] frees what was removed;
//! [`stream`] makes an object of data that is on the device already.
//!
//! Not here: clones, renames, compression, transactions whose row changes take several records; only the data of an object
//! that a transaction makes may ([`Laid`]).
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]

mod bulk;
mod change;
mod data;
mod edit;
mod effects;
pub mod execute;
pub mod extents;
pub mod graves;
mod id;
pub mod key;
mod laid;
pub mod limits;
pub mod onode;
pub mod read;
mod refusal;
mod relocate;
pub mod stream;
mod txn;
mod usage;
pub mod value;
mod view;

pub use bulk::{BulkPart, BulkPlan, Storing, bulk_parts, bulk_plan, resolve_appends, rows_of};
pub use change::{Change, apply, apply_patch, merge, merge_into, patch_in_place};
pub use data::IntoData;
pub use effects::{Checksums, Effects, EncodedChange, Family, NewPiece, Placed, RowChange, Runs, Stored};
pub use execute::{Outcome, execute, execute_prepared};
pub use id::{ObjectId, hash_of};
pub use key::KeyBuf;
pub use laid::{Laid, LaidWrite, Prepared};
pub use limits::Limits;
pub use refusal::{Refusal, Refused};
pub use relocate::{Moved, live_pieces, relocate};
pub use txn::{Condition, Hint, HintFlags, Op, Operation, Transaction};
pub use usage::{Usage, pieces_of_row, usage_of_row};
pub use view::{Direction, PieceRef, Rows, Stop, Visit};

/// Bytes of an object that one extents row covers.
pub const ROW_BYTES: u64 = 64 * 1024;

/// Chunks that one extents row covers.
pub const ROW_CHUNKS: usize = 16;

const _: () = assert!(ROW_BYTES == (ROW_CHUNKS * seabed_types::CHUNK_BYTES) as u64);
