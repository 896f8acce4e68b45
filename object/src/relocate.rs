//! Relocate: which pieces of a segment a row still points to, and the change that lets it point to their copies.
//!
//! Lists of what a segment holds name each piece by the row of the bodies tree that may point to it. That row, or for the
//! first extents of a small object its onode, is the only place that decides whether the piece is live: [`live_pieces`]
//! looks there. After the cleaner has copied the pieces, [`relocate`] looks again and changes what still points to the
//! old place. A row that changed meanwhile keeps what it points to, and the copy is garbage from the start.
//!
//! Invariants: 1. A chunk or value keeps its length and its checksum. 2. Nothing but addresses changes: no size, no usage
//! except the length of extents rows.
//! Cost: one look-up per row; for an onode a scan of the names with the same hash.

use std::ops::ControlFlow;

use seabed_types::{Paddr, SegmentId, TreeKind};

use crate::edit::{ExtentsEdit, Slot};
use crate::effects::{Edit, Effects, OnodeEdit, RowChange};
use crate::extents::{Chunk, Extents};
use crate::key::{self, KeyBuf, Member, Position};
use crate::onode::OnodeRef;
use crate::usage::Usage;
use crate::value::RowValue;
use crate::view::{Direction, PieceRef, Rows, Stop};

/// A piece that was copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    /// Where it was, its length and its checksum.
    pub piece: PieceRef,
    /// Where the copy begins.
    pub to: Paddr,
}

/// The row that decides whether a listed piece is live.
enum Owner<'r> {
    /// An extents row: its value.
    Extents(&'r [u8]),
    /// An attribute, omap header or omap row: its value.
    Value(&'r [u8]),
    /// The onode that has the extents inside: its key and its value.
    Onode(KeyBuf, Vec<u8>),
}

/// The pieces in `segment` that the row listed as `identity` (a key of the bodies tree) points to, in the order of their
/// offsets in the object.
pub fn live_pieces(rows: &dyn Rows, identity: &[u8], segment: SegmentId) -> Result<Vec<PieceRef>, Stop> {
    let is_there = |piece: &PieceRef| piece.at.segment == segment;
    let of_extents =
        |extents: Extents| extents.iter().map(|(_, chunk)| chunk.piece()).filter(is_there).collect();
    match owner(rows, identity)? {
        None => Ok(Vec::new()),
        Some(Owner::Extents(value)) => Ok(of_extents(Extents::decode(value)?)),
        Some(Owner::Value(value)) => {
            Ok(RowValue::decode(value)?.piece().into_iter().filter(is_there).collect())
        }
        Some(Owner::Onode(_, value)) => {
            Ok(OnodeRef::decode(&value)?.extents()?.map(of_extents).unwrap_or_default())
        }
    }
}

/// Adds to `effects` the change that lets the row listed as `identity` point to the copies of all pieces of `moved` that
/// it still points to. Each row may be added once.
pub fn relocate(
    rows: &dyn Rows,
    identity: &[u8],
    moved: &[Moved],
    effects: &mut Effects,
) -> Result<(), Stop> {
    let copy_of = |piece: PieceRef| moved.iter().find(|moved| moved.piece == piece).map(|moved| moved.to);
    let edit_of = |extents: &Extents, value_bytes: usize| {
        let mut edit = ExtentsEdit::of(extents, value_bytes);
        for (index, chunk) in extents.iter() {
            if let Some(at) = copy_of(chunk.piece()) {
                edit.set(index, Slot::At(Chunk { at, ..chunk }));
            }
        }
        edit
    };
    match owner(rows, identity)? {
        None => {}
        Some(Owner::Extents(value)) => {
            let edit = edit_of(&Extents::decode(value)?, value.len());
            effects.push_extents_row(KeyBuf::from_slice(identity), edit);
        }
        Some(Owner::Value(value)) => {
            if let Some(piece) = RowValue::decode(value)?.piece()
                && let Some(at) = copy_of(piece)
            {
                effects.freed.push((piece.at, piece.bytes));
                let (key, edit) = (KeyBuf::from_slice(identity), Edit::Stored(PieceRef { at, ..piece }));
                effects.rows.push(RowChange { tree: TreeKind::Bodies, key, seen: true, edit });
            }
        }
        Some(Owner::Onode(key, value)) => {
            let onode = OnodeRef::decode(&value)?;
            let Some(extents) = onode.extents()? else { return Ok(()) };
            let edit = edit_of(&extents, onode.extents.len());
            if !edit.is_change() {
                return Ok(());
            }
            edit.push_freed(edit.changed(), &mut effects.freed);
            let before = Usage::of_onode(key.len() + value.len(), onode.size, extents.stored_bytes());
            effects.usage = effects.usage.minus(before);
            let member = key::decode_bodies(identity)?.0;
            let head = value[..value.len() - onode.extents.len()].to_vec();
            let edit = Edit::Onode(OnodeEdit { head, size: onode.size, member, extents: edit });
            effects.rows.push(RowChange { tree: TreeKind::Names, key, seen: true, edit });
        }
    }
    Ok(())
}

fn owner<'r>(rows: &'r dyn Rows, identity: &[u8]) -> Result<Option<Owner<'r>>, Stop> {
    let (member, position) = key::decode_bodies(identity)?;
    if let Some(value) = rows.row(TreeKind::Bodies, identity)? {
        let is_extents = matches!(position, Position::Extents(_));
        return Ok(Some(if is_extents { Owner::Extents(value) } else { Owner::Value(value) }));
    }
    if position != Position::Extents(0) {
        return Ok(None);
    }
    onode_with_extents(rows, member)
}

/// The onode of a member, if it has extents inside. Onodes of one hash are neighbours, and seldom more than one.
fn onode_with_extents(rows: &dyn Rows, member: Member) -> Result<Option<Owner<'_>>, Stop> {
    let hash = member.hash.reverse_bits();
    let from = hash.to_be_bytes();
    let to = hash.checked_add(1).map(u32::to_be_bytes);
    let (mut found, mut malformed) = (None, None);
    let to = to.as_ref().map(<[u8; 4]>::as_slice);
    rows.rows(TreeKind::Names, &from, to, Direction::Forward, &mut |key, value| {
        match OnodeRef::decode(value) {
            Ok(onode) if (onode.family, onode.number) == (member.family, member.number) => {
                if !onode.extents.is_empty() {
                    found = Some(Owner::Onode(KeyBuf::from_slice(key), value.to_vec()));
                }
                return ControlFlow::Break(());
            }
            Ok(_) => {}
            Err(error) => malformed = Some(error),
        }
        ControlFlow::Continue(())
    })?;
    // A damaged onode may be the one that is looked for.
    match (found, malformed) {
        (None, Some(error)) => Err(error.into()),
        (found, _) => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use seabed_types::Crc;

    use super::*;
    use crate::change::apply;
    use crate::key::Kind;
    use crate::usage::usage_of_row;
    use crate::view::Visit;

    /// Rows in memory.
    #[derive(Default)]
    struct Memory(BTreeMap<(u8, Vec<u8>), Vec<u8>>);

    impl Memory {
        fn set(&mut self, tree: TreeKind, key: &[u8], value: &[u8]) {
            self.0.insert((tree as u8, key.to_vec()), value.to_vec());
        }

        /// Relocates, applies the change and returns its usage, and the sum of what the rows use now less before.
        fn relocate(&mut self, identity: &[u8], moved: &[Moved]) -> (Effects, usize) {
            let mut effects = Effects::default();
            relocate(self, identity, moved, &mut effects).expect("good rows");
            let before = self.usage();
            let copy = effects.clone();
            let mut rows = 0;
            let usage = effects
                .encode::<()>(&[], |change| {
                    let at = (change.tree as u8, change.key.to_vec());
                    let old = self.0.get(&at).cloned();
                    match apply(old.as_deref(), &change.change).expect("good") {
                        Some(value) => drop(self.0.insert(at, value)),
                        None => drop(self.0.remove(&at)),
                    }
                    rows += 1;
                    Ok(())
                })
                .expect("nothing fails");
            assert_eq!(before.plus(usage), self.usage(), "usage is the difference of the rows'");
            (copy, rows)
        }

        fn usage(&self) -> Usage {
            let of = |((tree, key), value): (&(u8, Vec<u8>), &Vec<u8>)| {
                let tree = TreeKind::try_from(*tree).expect("a tree");
                usage_of_row(tree, key, value).expect("good")
            };
            self.0.iter().map(of).fold(Usage::default(), Usage::plus)
        }
    }

    impl Rows for Memory {
        fn row(&self, tree: TreeKind, key: &[u8]) -> Result<Option<&[u8]>, Stop> {
            Ok(self.0.get(&(tree as u8, key.to_vec())).map(Vec::as_slice))
        }

        fn rows(
            &self,
            tree: TreeKind,
            from: &[u8],
            to: Option<&[u8]>,
            _: Direction,
            visit: &mut Visit<'_>,
        ) -> Result<(), Stop> {
            for ((of, key), value) in &self.0 {
                let is_in =
                    *of == tree as u8 && key.as_slice() >= from && to.is_none_or(|to| key.as_slice() < to);
                if is_in && visit(key, value).is_break() {
                    break;
                }
            }
            Ok(())
        }

        fn piece(&self, _: &PieceRef) -> Result<Bytes, Stop> {
            Err(Stop::Absent)
        }
    }

    const MEMBER: Member = Member { hash: 0x8000_0001, family: 5, number: 0 };

    const fn at(segment: u32, offset: u32) -> Paddr {
        Paddr::new(SegmentId(segment), offset)
    }

    fn chunk(at: Paddr, index: u32) -> Chunk {
        Chunk { at, bytes: 4096, crc: Crc(index) }
    }

    fn moved(chunk: Chunk, to: Paddr) -> Moved {
        Moved { piece: chunk.piece(), to }
    }

    fn row(chunks: &[(usize, Chunk)]) -> Extents {
        let mut extents = Extents::EMPTY;
        for (index, chunk) in chunks {
            extents.set(*index, Some(*chunk));
        }
        extents
    }

    /// A row with chunks in two segments: only those in the victim are live there, and only they follow.
    #[test]
    fn chunks_of_a_row_follow() {
        let key = key::extents(MEMBER, 3);
        let [a, b, c] = [chunk(at(5, 8192), 0), chunk(at(7, 4096), 1), chunk(at(5, 16384), 2)];
        let mut rows = Memory::default();
        rows.set(TreeKind::Bodies, &key, &row(&[(0, a), (1, b), (9, c)]).encode().expect("not empty"));
        assert_eq!(live_pieces(&rows, &key, SegmentId(5)), Ok(vec![a.piece(), c.piece()]));
        let (effects, changed) = rows.relocate(&key, &[moved(a, at(9, 4096)), moved(c, at(9, 8192))]);
        assert_eq!((effects.freed.to_vec(), changed), (vec![(a.at, 4096), (c.at, 4096)], 1));
        assert_eq!(live_pieces(&rows, &key, SegmentId(5)), Ok(vec![]));
        let pieces = live_pieces(&rows, &key, SegmentId(9)).expect("good");
        assert_eq!(
            pieces,
            [PieceRef { at: at(9, 4096), ..a.piece() }, PieceRef { at: at(9, 8192), ..c.piece() }]
        );
        assert_eq!(live_pieces(&rows, &key, SegmentId(7)), Ok(vec![b.piece()]));
    }

    /// A chunk that was overwritten while its old bytes were copied keeps its new place.
    #[test]
    fn what_was_overwritten_meanwhile_stays() {
        let key = key::extents(MEMBER, 0);
        let (old, new) = (chunk(at(5, 8192), 0), chunk(at(6, 8192), 1));
        let mut rows = Memory::default();
        rows.set(TreeKind::Bodies, &key, &row(&[(0, new)]).encode().expect("not empty"));
        let (effects, changed) = rows.relocate(&key, &[moved(old, at(9, 4096))]);
        assert_eq!((effects, changed), (Effects::default(), 0));
        // The same address with another checksum is another use of it.
        let reused = Chunk { crc: Crc(77), ..old };
        rows.set(TreeKind::Bodies, &key, &row(&[(0, reused)]).encode().expect("not empty"));
        assert_eq!(rows.relocate(&key, &[moved(old, at(9, 4096))]).1, 0);
    }

    #[test]
    fn extents_in_an_onode_follow() {
        let object = crate::ObjectId { hash: MEMBER.hash, ..crate::ObjectId::new("a") };
        let other = crate::ObjectId { hash: MEMBER.hash, ..crate::ObjectId::new("b") };
        let [a, b] = [chunk(at(5, 8192), 0), chunk(at(5, 12288), 1)];
        let head = *b"\x01\x40\x05\0\x80\x40\0\0\0";
        let value = [&head[..], &row(&[(0, a), (1, b)]).encode().expect("not empty")].concat();
        let mut rows = Memory::default();
        rows.set(TreeKind::Names, &key::names(&object), &value);
        // Of the same hash, but of family 6.
        rows.set(TreeKind::Names, &key::names(&other), b"\x01\0\x06\0\0\0\0\0\0");
        let identity = key::extents(MEMBER, 0);
        assert_eq!(live_pieces(&rows, &identity, SegmentId(5)), Ok(vec![a.piece(), b.piece()]));
        let (effects, changed) = rows.relocate(&identity, &[moved(b, at(9, 4096))]);
        assert_eq!((effects.freed.to_vec(), changed), (vec![(b.at, 4096)], 1));
        assert_eq!(live_pieces(&rows, &identity, SegmentId(5)), Ok(vec![a.piece()]));
        let of_another = key::extents(Member { family: 6, ..MEMBER }, 0);
        assert_eq!(live_pieces(&rows, &of_another, SegmentId(5)), Ok(vec![]));
    }

    #[test]
    fn values_follow() {
        let key = key::named(MEMBER, Kind::Omap, b"k");
        let piece = PieceRef { at: at(5, 100), bytes: 50, crc: Crc(7) };
        let mut rows = Memory::default();
        rows.set(TreeKind::Bodies, &key, &RowValue::Stored(piece).encode());
        assert_eq!(live_pieces(&rows, &key, SegmentId(5)), Ok(vec![piece]));
        let (effects, changed) = rows.relocate(&key, &[Moved { piece, to: at(6, 104) }]);
        assert_eq!((effects.freed.to_vec(), changed), (vec![(piece.at, 50)], 1));
        assert_eq!(live_pieces(&rows, &key, SegmentId(6)), Ok(vec![PieceRef { at: at(6, 104), ..piece }]));
        rows.set(TreeKind::Bodies, &key, &RowValue::Inline(b"x").encode());
        assert_eq!(live_pieces(&rows, &key, SegmentId(6)), Ok(vec![]));
    }
}
