//! Graves: frees in slices what removed objects left behind.
//!
//! Removing an object deletes its onode and sets a graves row; from then on its rows in the bodies tree are unreachable,
//! since family ids are never used again. A slice deletes some of them and what they point to; the slice that finds no
//! more takes the graves row away too. Families of streaming puts that are still going on have a grave as well, for
//! the case of a crash; they are told as `alive` and passed over.
//!
//! Crash: between two slices the grave is still there, and the next slice goes on with the rows that are left.
//! Cost: a scan of the graves up to the first that may be drained, and of the rows of the slice.

use std::ops::ControlFlow;

use seabed_types::TreeKind;

use crate::edit::push_run;
use crate::effects::{Edit, Effects};
use crate::key::{self, KeyBuf, Member};
use crate::usage::{pieces_of_row, usage_of_row};
use crate::view::{Direction, Rows, Stop};

/// What came of looking for something to free.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::large_enum_variant, reason = "it is moved once for a slice of many rows")]
pub enum Drained {
    /// There is no grave that may be drained.
    Nothing,
    /// A slice of one grave. It has no new pieces; `next_id` is 0 and means nothing.
    Slice {
        /// Whose rows.
        member: Member,
        /// The changes.
        effects: Effects,
        /// Whether the grave is gone with it.
        is_last: bool,
    },
}

/// Frees up to `rows_max` rows (at least one) of the first grave whose family is not `alive`.
pub fn drain(rows: &dyn Rows, alive: &dyn Fn(u64) -> bool, rows_max: usize) -> Result<Drained, Stop> {
    let Some((member, grave_bytes)) = first_grave(rows, alive)? else { return Ok(Drained::Nothing) };
    let mut effects = Effects::default();
    let mut is_last = true;
    let mut slice = |key: &[u8], value: &[u8]| -> Result<bool, Stop> {
        // Rows of other members are not this grave's.
        if key::decode_bodies(key)?.0 != member {
            return Ok(true);
        }
        if effects.rows.len() >= rows_max.max(1) {
            is_last = false;
            return Ok(false);
        }
        effects.usage = effects.usage.minus(usage_of_row(TreeKind::Bodies, key, value)?);
        for piece in pieces_of_row(TreeKind::Bodies, key, value)? {
            push_run(&mut effects.freed, piece.at, piece.bytes);
        }
        effects.push(TreeKind::Bodies, KeyBuf::from_slice(key), Edit::Gone);
        Ok(true)
    };
    let (from, to) = (key::family_bound(member), key::family_end(member));
    let visited = visit(rows, TreeKind::Bodies, &from, Some(&to), &mut slice);
    match visited {
        Ok(()) => {}
        // Free what is in memory; the rest is loaded meanwhile.
        Err(Stop::Absent) if !effects.rows.is_empty() => is_last = false,
        Err(stop) => return Err(stop),
    }
    if is_last || seabed_types::seeded!(44) {
        effects.remove_grave(member, grave_bytes);
    }
    Ok(Drained::Slice { member, effects, is_last })
}

/// The first grave that may be drained, and the bytes of its value.
fn first_grave(rows: &dyn Rows, alive: &dyn Fn(u64) -> bool) -> Result<Option<(Member, usize)>, Stop> {
    let mut found = None;
    visit(rows, TreeKind::Graves, &[], None, &mut |key, value| {
        let member = key::decode_graves(key)?;
        if alive(member.family) {
            return Ok(true);
        }
        found = Some((member, value.len()));
        Ok(false)
    })?;
    Ok(found)
}

/// What a scan does with each row; whether it goes on.
type EachRow<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool, Stop> + 'a;

/// Visits rows until `each` says false or fails.
fn visit(
    rows: &dyn Rows,
    tree: TreeKind,
    from: &[u8],
    to: Option<&[u8]>,
    each: &mut EachRow<'_>,
) -> Result<(), Stop> {
    let mut failed = Ok(());
    let visited = rows.rows(tree, from, to, Direction::Forward, &mut |key, value| match each(key, value) {
        Ok(true) => ControlFlow::Continue(()),
        Ok(false) => ControlFlow::Break(()),
        Err(stop) => {
            failed = Err(stop);
            ControlFlow::Break(())
        }
    });
    failed.and(visited)
}
