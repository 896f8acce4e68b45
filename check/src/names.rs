//! Names: keys and values of rows in a form that people read.
//!
//! A key that does not decode is shown as escaped bytes, so that nothing here can fail.

use seabed_object::extents::{Extents, Patch};
use seabed_object::key::{self, Member, Position};
use seabed_object::onode::{OnodeRef, Parts};
use seabed_object::value::RowValue;
use seabed_types::TreeKind;

/// A key as text.
pub(crate) fn key_text(tree: TreeKind, key: &[u8]) -> String {
    let text = match tree {
        TreeKind::Names => key::decode_names(key).map(|id| format!("{id:?}")),
        TreeKind::Bodies => key::decode_bodies(key)
            .map(|(member, position)| format!("{} {}", member_text(member), position_text(&position))),
        TreeKind::Graves => key::decode_graves(key).map(member_text),
    };
    text.unwrap_or_else(|malformed| format!("\"{}\" ({malformed})", key.escape_ascii()))
}

fn member_text(member: Member) -> String {
    format!("{:08x}:family {}.{}", member.hash, member.family, member.number)
}

fn position_text(position: &Position) -> String {
    match position {
        Position::Extents(row) => format!("extents {:#x}", row.saturating_mul(seabed_object::ROW_BYTES)),
        Position::Attribute(name) => format!("attribute \"{}\"", name.escape_ascii()),
        Position::Header => "omap header".to_owned(),
        Position::Omap(name) => format!("omap \"{}\"", name.escape_ascii()),
    }
}

/// The value of a row as text.
pub(crate) fn value_text(tree: TreeKind, key: &[u8], value: &[u8]) -> String {
    let text = match tree {
        TreeKind::Names => OnodeRef::decode(value).map(|onode| onode_text(&onode)),
        TreeKind::Graves => Ok(bytes_text(value)),
        TreeKind::Bodies => key::decode_bodies(key).and_then(|(_, position)| match position {
            Position::Extents(_) => Extents::decode(value).map(|extents| extents_text(&extents)),
            Position::Attribute(_) | Position::Header | Position::Omap(_) => {
                RowValue::decode(value).map(|value| match value {
                    RowValue::Inline(bytes) => bytes_text(bytes),
                    RowValue::Stored(piece) => {
                        format!("{} bytes at {}#{}", piece.bytes, piece.at, piece.crc)
                    }
                })
            }
        }),
    };
    text.unwrap_or_else(|malformed| format!("{} ({malformed})", bytes_text(value)))
}

/// A patch of an extents row as text.
pub(crate) fn patch_text(patch: &[u8]) -> String {
    match Patch::decode(patch) {
        Ok(patch) => format!("chunks {:016b}: {}", patch.named(), extents_text(patch.state())),
        Err(malformed) => format!("{} ({malformed})", bytes_text(patch)),
    }
}

fn onode_text(onode: &OnodeRef<'_>) -> String {
    let rows = |part, name| if onode.parts.has(part) { name } else { "" };
    let extents = match onode.extents() {
        Ok(Some(extents)) => format!(", data at {}", extents_text(&extents)),
        _ => String::new(),
    };
    format!(
        "family {}.{}, size {}, {} attributes{}, {} omap pairs{}{}{}{extents}",
        onode.family,
        onode.number,
        onode.size,
        onode.attribute_count,
        rows(Parts::ATTRIBUTES, " in rows"),
        onode.omap_count,
        rows(Parts::OMAP, " in rows"),
        rows(Parts::HEADER, ", omap header in a row"),
        rows(Parts::DATA, ", data in rows"),
    )
}

fn extents_text(extents: &Extents) -> String {
    let chunk = |(index, chunk): (usize, seabed_object::extents::Chunk)| {
        format!("{index}={}+{}#{}", chunk.at, chunk.bytes, chunk.crc)
    };
    extents.iter().map(chunk).collect::<Vec<_>>().join(" ")
}

/// The first bytes, escaped.
fn bytes_text(bytes: &[u8]) -> String {
    const SHOWN: usize = 64;
    let shown = bytes.get(..SHOWN).unwrap_or(bytes);
    let more = if bytes.len() > SHOWN { ".." } else { "" };
    format!("{} bytes \"{}{more}\"", bytes.len(), shown.escape_ascii())
}
