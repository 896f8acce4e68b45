//! Relocate: the row change that lets a row point to where the cleaner has copied a piece.

use seabed_types::{Malformed, Paddr, TreeKind};

use crate::change::Change;
use crate::extents::{Chunk, Extents, Patch};
use crate::key::{self, Position};
use crate::onode::OnodeRef;
use crate::value::RowValue;
use crate::view::PieceRef;

/// The change of the row `key` after `bytes` bytes from `old` on were copied to `new`; `None` if the row does not
/// point there any more. Chunks of the row that lie wholly in the range follow, each keeping its length and checksum.
pub fn relocate(
    tree: TreeKind,
    key: &[u8],
    value: &[u8],
    (old, bytes): (Paddr, u32),
    new: Paddr,
) -> Result<Option<Change>, Malformed> {
    let moved = |piece: PieceRef| {
        let skip = (piece.at.segment == old.segment).then(|| piece.at.offset.checked_sub(old.offset))??;
        let inside = u64::from(skip) + u64::from(piece.bytes) <= u64::from(bytes);
        inside.then(|| new.plus(skip))
    };
    if tree == TreeKind::Names {
        let onode = OnodeRef::decode(value)?;
        let Some(mut extents) = onode.extents()? else { return Ok(None) };
        let before = extents;
        for (index, chunk) in before.iter() {
            if let Some(at) = moved(chunk.piece()) {
                extents.set(index, Some(Chunk { at, ..chunk }));
            }
        }
        let head = value[..value.len() - onode.extents.len()].iter().copied();
        let value = || head.chain(extents.encode().unwrap_or_default()).collect();
        return Ok((extents != before).then(|| Change::Set(value())));
    }
    if !matches!(key::decode_bodies(key)?.1, Position::Extents(_)) {
        let piece = RowValue::decode(value)?.piece();
        let change =
            piece.and_then(|piece| Some(RowValue::Stored(PieceRef { at: moved(piece)?, ..piece }).encode()));
        return Ok(change.map(Change::Set));
    }
    let extents = Extents::decode(value)?;
    let (mut named, mut state) = (0, Extents::EMPTY);
    for (index, chunk) in extents.iter() {
        if let Some(at) = moved(chunk.piece()) {
            named |= 1 << index;
            state.set(index, Some(Chunk { at, ..chunk }));
        }
    }
    if named == 0 {
        return Ok(None);
    }
    if named == extents.present() {
        return Ok(state.encode().map(Change::Set));
    }
    Ok(Some(Change::Patch(Patch::new(named, &state).encode())))
}

#[cfg(test)]
mod tests {
    use seabed_types::{Crc, SegmentId};

    use super::*;
    use crate::change::apply;
    use crate::key::{Kind, Member};

    const fn at(segment: u32, offset: u32) -> Paddr {
        Paddr::new(SegmentId(segment), offset)
    }

    #[test]
    fn chunks_in_the_range_follow() {
        let member = Member { hash: 1, family: 2, number: 0 };
        let key = key::extents(member, 3);
        let mut row = Extents::EMPTY;
        for index in 0..4u32 {
            let chunk = Chunk { at: at(5, 8192 + 4096 * index), bytes: 4096, crc: Crc(index) };
            row.set(index as usize, Some(chunk));
        }
        let value = row.encode().expect("not empty");
        let change = relocate(TreeKind::Bodies, &key, &value, (at(5, 12288), 8192), at(9, 4096))
            .expect("a good row")
            .expect("moved");
        let after =
            Extents::decode(&apply(Some(&value), &change).expect("good").expect("there")).expect("good");
        let places: Vec<_> = after.iter().map(|(_, chunk)| chunk.at).collect();
        assert_eq!(places, [at(5, 8192), at(9, 4096), at(9, 8192), at(5, 20480)]);
        assert!(matches!(relocate(TreeKind::Bodies, &key, &value, (at(6, 8192), 16384), at(9, 0)), Ok(None)));
        assert!(matches!(
            relocate(TreeKind::Bodies, &key, &value, (at(5, 8192), 16384), at(9, 0)),
            Ok(Some(Change::Set(_)))
        ));
    }

    #[test]
    fn extents_of_an_onode_follow() {
        let head = *b"\x01\x40\x05\0\x80\x60\0\0\0";
        let mut extents = Extents::EMPTY;
        for index in 0..3u32 {
            let chunk = Chunk { at: at(5, 8192 + 4096 * index), bytes: 4096, crc: Crc(index) };
            extents.set(index as usize, Some(chunk));
        }
        let row = |extents: &Extents| [&head[..], &extents.encode().expect("not empty")].concat();
        let key = key::names(&crate::ObjectId::new("a"));
        let after = relocate(TreeKind::Names, &key, &row(&extents), (at(5, 12288), 4096), at(9, 4096));
        extents.set(1, Some(Chunk { at: at(9, 4096), bytes: 4096, crc: Crc(1) }));
        assert_eq!(after, Ok(Some(Change::Set(row(&extents)))));
        let elsewhere = relocate(TreeKind::Names, &key, &row(&extents), (at(6, 0), 65_536), at(9, 0));
        assert_eq!(elsewhere, Ok(None));
    }

    #[test]
    fn values_follow() {
        let member = Member { hash: 1, family: 2, number: 0 };
        let key = key::named(member, Kind::Omap, b"k");
        let value = RowValue::Stored(PieceRef { at: at(5, 100), bytes: 50, crc: Crc(7) }).encode();
        let moved = RowValue::Stored(PieceRef { at: at(6, 104), bytes: 50, crc: Crc(7) }).encode();
        assert_eq!(
            relocate(TreeKind::Bodies, &key, &value, (at(5, 96), 54), at(6, 100)),
            Ok(Some(Change::Set(moved)))
        );
        assert_eq!(relocate(TreeKind::Bodies, &key, &value, (at(5, 96), 53), at(6, 100)), Ok(None));
        assert_eq!(
            relocate(TreeKind::Bodies, &key, &RowValue::Inline(b"x").encode(), (at(5, 0), 4096), at(6, 100)),
            Ok(None)
        );
    }
}
