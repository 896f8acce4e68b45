//! Change: what a delta does to one row, and how two changes of a row become one.
//!
//! A change is absolute: applying it twice is applying it once. `Set` and `Gone` say so by themselves; a `Patch` of an
//! extents row carries the whole new state of every chunk it names (`extents.rs`). Deltas that wait for their node are
//! merged with those that came before them, so that at most one waits per row.
//!
//! Invariant: applying `older` and then `newer` to any row gives what applying `merge(older, newer)` gives.

use seabed_types::Malformed;

use crate::extents::{Extents, Patch};

/// What happens to one row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// It has this value.
    Set(Vec<u8>),
    /// Some chunks of an extents row are replaced.
    Patch(Vec<u8>),
    /// It is no more.
    Gone,
}

/// The row after a patch; `None`: it is gone.
pub fn apply_patch(old: Option<&[u8]>, patch: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
    let mut row = old.map_or(Ok(Extents::EMPTY), Extents::decode)?;
    row.apply(&Patch::decode(patch)?);
    Ok(row.encode())
}

/// The row after a change; `None`: it is gone.
pub fn apply(old: Option<&[u8]>, change: &Change) -> Result<Option<Vec<u8>>, Malformed> {
    match change {
        Change::Set(value) => Ok(Some(value.clone())),
        Change::Patch(patch) => apply_patch(old, patch),
        Change::Gone => Ok(None),
    }
}

/// The one change that does what `older` and then `newer` do.
pub fn merge(older: &Change, newer: &Change) -> Result<Change, Malformed> {
    let patched = |old: Option<&[u8]>, patch| Ok(apply_patch(old, patch)?.map_or(Change::Gone, Change::Set));
    match (older, newer) {
        (_, Change::Set(_) | Change::Gone) => Ok(newer.clone()),
        (Change::Set(value), Change::Patch(patch)) => patched(Some(value), patch),
        (Change::Gone, Change::Patch(patch)) => patched(None, patch),
        (Change::Patch(older), Change::Patch(newer)) => {
            let mut patch = Patch::decode(older)?;
            patch.then(&Patch::decode(newer)?);
            Ok(Change::Patch(patch.encode()))
        }
    }
}
