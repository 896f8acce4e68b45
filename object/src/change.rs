//! Change: what a delta does to one row, and how two changes of a row become one.
//!
//! A change is absolute: applying it twice is applying it once. `Set` and `Gone` say so by themselves; a `Patch` of an
//! extents row carries the whole new state of every chunk it names (`extents.rs`). Deltas that wait for their node are
//! merged with those that came before them, so that at most one waits per row.
//!
//! Invariant: applying `older` and then `newer` to any row gives what applying `merge(older, newer)` gives.

use seabed_types::Malformed;

use crate::extents::{Extents, Patch, packed};

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

/// Applies a patch of one chunk to a row whose length stays. False: nothing was done, apply it in another way.
pub fn patch_in_place(row: &mut [u8], patch: &[u8]) -> bool {
    packed::single(patch).is_some_and(|(index, chunk)| packed::replace(row, index, &chunk))
}

/// The row after a change; `None`: it is gone.
pub fn apply(old: Option<&[u8]>, change: &Change) -> Result<Option<Vec<u8>>, Malformed> {
    match change {
        Change::Set(value) => Ok(Some(value.clone())),
        Change::Patch(patch) => apply_patch(old, patch),
        Change::Gone => Ok(None),
    }
}

/// Makes of `older` the one change that does what it and then `newer` do. After an error `older` is as it was.
pub fn merge_into(older: &mut Change, newer: Change) -> Result<(), Malformed> {
    let single = if let Change::Patch(patch) = &newer { packed::single(patch) } else { None };
    let done = match (&mut *older, single) {
        (Change::Set(value), Some((index, chunk))) => packed::put(value, 0, index, &chunk),
        (Change::Patch(patch), Some((index, chunk))) => {
            let done = packed::put(patch, 2, index, &chunk);
            if done && !seabed_types::seeded!(12) {
                patch[index / 8] |= 1 << (index % 8);
            }
            done
        }
        _ => false,
    };
    if !done {
        *older = if matches!(newer, Change::Patch(_)) { merge(older, &newer)? } else { newer };
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ROW_CHUNKS;
    use crate::extents::{Chunk, FULL};
    use seabed_types::{Crc, Paddr, SegmentId};

    fn any_change(rng: &mut fastrand::Rng) -> Change {
        let mut state = Extents::EMPTY;
        let single = rng.bool();
        let of = rng.usize(..ROW_CHUNKS);
        for index in 0..ROW_CHUNKS {
            if index == of || !single && rng.bool() {
                let at = Paddr::new(SegmentId(rng.u32(1..3)), 4096 * rng.u32(1..40));
                let bytes = if rng.u32(..8) == 0 { 9 } else { FULL };
                state.set(index, Some(Chunk { at, bytes, crc: Crc(rng.u32(..)) }));
            }
        }
        match rng.u32(..8) {
            0 => Change::Gone,
            1 => Change::Set(state.encode().expect("a chunk is stored")),
            _ => Change::Patch(
                Patch::new(state.present() | rng.u16(..) & rng.u16(..) & rng.u16(..), &state).encode(),
            ),
        }
    }

    /// Merging in place is merging, and applying what was merged is applying one after the other.
    #[test]
    fn merged_in_place_or_not_is_the_same() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut merged = Change::Gone;
        let mut row: Option<Vec<u8>> = None;
        for _ in 0..50_000 {
            let newer = any_change(&mut rng);
            let slow = merge(&merged, &newer).expect("sound");
            merge_into(&mut merged, newer.clone()).expect("sound");
            assert_eq!(merged, slow);
            let after = apply(row.as_deref(), &newer).expect("sound");
            if let (Some(row), Change::Patch(patch)) = (&mut row, &newer) {
                let before = row.clone();
                if patch_in_place(row, patch) {
                    assert_eq!(Some(&*row), after.as_ref());
                } else {
                    assert_eq!(*row, before, "nothing was done");
                }
            }
            row = after;
            if rng.u32(..30) == 0 {
                (merged, row) = (newer, None);
                row = apply(row.as_deref(), &merged).expect("sound");
            }
        }
    }
}
