//! Listing: answers with many items, page by page, by cursor.
//!
//! A page that is full names the next item, so that the following page begins (or, backward, ends) exactly there. What
//! exists throughout is met once; what comes or goes meanwhile may be met or not.

use bytes::Bytes;
use seabed_types::TreeKind;

use super::{ReadError, Stat, member_of, onode, visit};
use crate::id::ObjectId;
use crate::key::{self, KeyBuf, Kind, Position};
use crate::onode::{OnodeRef, PairsRef, Parts};
use crate::value::{RowValue, Value};
use crate::view::{Direction, Rows, Stop};

/// An object of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Its name.
    pub id: ObjectId,
    /// What it is.
    pub stat: Stat,
}

/// A page of a listing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// In the order of objects.
    pub objects: Vec<Listed>,
    /// The key ([`key::names`]) of the object that the next page begins with; `None`: there is no more.
    pub next: Option<KeyBuf>,
}

/// A page of an omap.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OmapPage {
    /// In the direction asked for.
    pub pairs: Vec<(Bytes, Value)>,
    /// Forward the `from`, backward the `to` of the next page; `None`: there is no more.
    pub next: Option<Bytes>,
}

/// Up to `limit` objects whose keys are in `from..to`, in order. Bounds are keys of the names tree ([`key::names`]) or of
/// a collection ([`key::collection`]).
pub fn list(rows: &dyn Rows, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Page, ReadError> {
    let mut page = Page::default();
    visit(rows, TreeKind::Names, from, to, Direction::Forward, &mut |key, value| {
        if page.objects.len() == limit {
            page.next = Some(KeyBuf::from_slice(key));
            return Ok(false);
        }
        page.objects.push(Listed { id: key::decode_names(key)?, stat: Stat::of(&OnodeRef::decode(value)?) });
        Ok(true)
    })?;
    Ok(page)
}

/// All attributes, by name.
pub fn attrs(rows: &dyn Rows, id: &ObjectId) -> Result<Vec<(Bytes, Value)>, ReadError> {
    let onode = onode(rows, id)?;
    if !onode.parts.has(Parts::ATTRIBUTES) {
        return Ok(inline(onode.attributes).collect());
    }
    let member = member_of(id, &onode);
    let mut attrs = Vec::new();
    let (from, to) = (key::kind_bound(member, Kind::Attribute), key::kind_end(member, Kind::Attribute));
    visit(rows, TreeKind::Bodies, &from, Some(&to), Direction::Forward, &mut |key, value| {
        attrs.push((name_of(key)?, RowValue::decode(value)?.to_value()));
        Ok(true)
    })?;
    Ok(attrs)
}

/// The omap values of those of `keys` that there are, in the order of `keys`.
pub fn omap_get<K: AsRef<[u8]>>(
    rows: &dyn Rows,
    id: &ObjectId,
    keys: &[K],
) -> Result<Vec<(Bytes, Value)>, ReadError> {
    let onode = onode(rows, id)?;
    let member = member_of(id, &onode);
    let mut pairs = Vec::with_capacity(keys.len());
    let mut is_absent = false;
    for key in keys.iter().map(AsRef::as_ref) {
        let value = if onode.parts.has(Parts::OMAP) {
            match rows.row(TreeKind::Bodies, &key::named(member, Kind::Omap, key)) {
                Ok(value) => value.map(RowValue::decode).transpose()?.map(|value| value.to_value()),
                Err(Stop::Absent) => {
                    is_absent = true;
                    None
                }
                Err(stop) => return Err(stop.into()),
            }
        } else {
            onode.omap.find(key).map(|value| Value::Inline(Bytes::copy_from_slice(value)))
        };
        pairs.extend(value.map(|value| (Bytes::copy_from_slice(key), value)));
    }
    if is_absent { Err(Stop::Absent.into()) } else { Ok(pairs) }
}

/// Up to `limit` omap pairs with keys in `from..to` (`None`: to the end), from the end that `direction` says.
pub fn omap_range(
    rows: &dyn Rows,
    id: &ObjectId,
    (from, to): (&[u8], Option<&[u8]>),
    limit: usize,
    direction: Direction,
) -> Result<OmapPage, ReadError> {
    if to.is_some_and(|to| from > to) {
        return Err(ReadError::Invalid { what: "an interval that ends before it begins" });
    }
    let onode = onode(rows, id)?;
    let mut page = OmapPage::default();
    if limit == 0 {
        return Err(ReadError::Invalid { what: "a page has at least one pair" });
    }
    // Adds a pair, or says that there is one more than the page takes.
    let mut add = |key: Bytes, value: Value| {
        if page.pairs.len() < limit {
            page.pairs.push((key, value));
            return true;
        }
        page.next = match direction {
            Direction::Forward => Some(key),
            Direction::Backward => page.pairs.last().map(|(last, _)| last.clone()),
        };
        false
    };
    if !onode.parts.has(Parts::OMAP) {
        let is_inside = |(key, _): &(Bytes, Value)| key[..] >= *from && to.is_none_or(|to| key[..] < *to);
        let mut pairs: Vec<_> = inline(onode.omap).filter(is_inside).collect();
        if direction == Direction::Backward {
            pairs.reverse();
        }
        let _ = pairs.into_iter().all(|(key, value)| add(key, value));
        return Ok(page);
    }
    let member = member_of(id, &onode);
    let start = key::named_bound(member, Kind::Omap, from);
    let end =
        to.map_or_else(|| key::kind_end(member, Kind::Omap), |to| key::named_bound(member, Kind::Omap, to));
    visit(rows, TreeKind::Bodies, &start, Some(&end), direction, &mut |key, value| {
        Ok(add(name_of(key)?, RowValue::decode(value)?.to_value()))
    })?;
    Ok(page)
}

fn inline(pairs: PairsRef<'_>) -> impl Iterator<Item = (Bytes, Value)> {
    let own = |(name, value)| (Bytes::copy_from_slice(name), Value::Inline(Bytes::copy_from_slice(value)));
    pairs.iter().map(own)
}

/// The attribute name or omap key in a key.
fn name_of(key: &[u8]) -> Result<Bytes, ReadError> {
    match key::decode_bodies(key)?.1 {
        Position::Attribute(name) | Position::Omap(name) => Ok(name),
        Position::Extents(_) | Position::Header => {
            Err(Stop::Corrupt { at: None, what: "a row of another kind among pairs" }.into())
        }
    }
}
