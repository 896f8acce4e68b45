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
    /// Keys of rows that name no object, and what is wrong with them.
    pub damaged: Vec<(KeyBuf, &'static str)>,
}

/// Where a page ends; one with nothing in it takes one item whatever that is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageLimit {
    /// Most items.
    pub items: usize,
    /// Most bytes of names, keys and values.
    pub bytes: usize,
}

impl PageLimit {
    /// A page of so many items.
    pub const fn items(items: usize) -> Self {
        Self { items, bytes: usize::MAX }
    }

    /// Whether a page of `items` items and `bytes` bytes has room for one of `more` bytes.
    pub const fn has_room(&self, items: usize, bytes: usize, more: usize) -> bool {
        items == 0 || items < self.items && bytes.saturating_add(more) <= self.bytes
    }
}

/// A page of attributes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AttributePage {
    /// By name.
    pub pairs: Vec<(Bytes, Value)>,
    /// The name that the next page begins with; `None`: there is no more.
    pub next: Option<Bytes>,
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
    let page = list_page(rows, from, to, PageLimit::items(limit))?;
    match page.damaged.first() {
        Some((_, what)) => Err(Stop::Corrupt { at: None, what }.into()),
        None => Ok(page),
    }
}

/// As [`list`], with a bound in bytes; rows that name no object are listed apart.
pub fn list_page(
    rows: &dyn Rows,
    from: &[u8],
    to: Option<&[u8]>,
    limit: PageLimit,
) -> Result<Page, ReadError> {
    let mut page = Page::default();
    let mut bytes = 0;
    visit(rows, TreeKind::Names, from, to, Direction::Forward, &mut |key, value| {
        if limit.items == 0 || !limit.has_room(page.objects.len() + page.damaged.len(), bytes, key.len()) {
            page.next = Some(KeyBuf::from_slice(key));
            return Ok(false);
        }
        bytes += key.len();
        match (key::decode_names(key), OnodeRef::decode(value)) {
            (Ok(id), Ok(onode)) => page.objects.push(Listed { id, stat: Stat::of(&onode) }),
            (Err(malformed), _) | (_, Err(malformed)) => {
                page.damaged.push((KeyBuf::from_slice(key), malformed.what));
            }
        }
        Ok(true)
    })?;
    Ok(page)
}

/// All attributes, by name.
pub fn attrs(rows: &dyn Rows, id: &ObjectId) -> Result<Vec<(Bytes, Value)>, ReadError> {
    Ok(attrs_from(rows, id, None, PageLimit::items(usize::MAX))?.pairs)
}

/// Attributes from `from` on (`None`: the first), by name; inline ones come all at once.
pub fn attrs_from(
    rows: &dyn Rows,
    id: &ObjectId,
    from: Option<&[u8]>,
    limit: PageLimit,
) -> Result<AttributePage, ReadError> {
    let onode = onode(rows, id)?;
    let mut page = AttributePage::default();
    if !onode.parts.has(Parts::ATTRIBUTES) {
        page.pairs = inline(onode.attributes).collect();
        return Ok(page);
    }
    let member = member_of(id, &onode);
    let mut bytes = 0;
    let start = from.map_or_else(
        || key::kind_bound(member, Kind::Attribute),
        |from| key::named_bound(member, Kind::Attribute, from),
    );
    let end = key::kind_end(member, Kind::Attribute);
    visit(rows, TreeKind::Bodies, &start, Some(&end), Direction::Forward, &mut |key, value| {
        let (name, value) = (name_of(key)?, RowValue::decode(value)?.to_value());
        let more = name.len() + value.bytes();
        if !limit.has_room(page.pairs.len(), bytes, more) {
            page.next = Some(name);
            return Ok(false);
        }
        bytes += more;
        page.pairs.push((name, value));
        Ok(true)
    })?;
    Ok(page)
}

/// The omap values of those of `keys` that there are, in the order of `keys`.
pub fn omap_get<K: AsRef<[u8]>>(
    rows: &dyn Rows,
    id: &ObjectId,
    keys: &[K],
) -> Result<Vec<(Bytes, Value)>, ReadError> {
    let onode = onode(rows, id)?;
    let member = member_of(id, &onode);
    let mut pairs = Vec::new();
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
    omap_page(rows, id, (from, to), PageLimit::items(limit), direction)
}

/// As [`omap_range`], with a bound in bytes.
pub fn omap_page(
    rows: &dyn Rows,
    id: &ObjectId,
    (from, to): (&[u8], Option<&[u8]>),
    limit: PageLimit,
    direction: Direction,
) -> Result<OmapPage, ReadError> {
    if to.is_some_and(|to| from > to) {
        return Err(ReadError::Invalid { what: "an interval that ends before it begins" });
    }
    let onode = onode(rows, id)?;
    let mut page = OmapPage::default();
    if limit.items == 0 {
        return Err(ReadError::Invalid { what: "a page has at least one pair" });
    }
    // Adds a pair, or says that there is one more than the page takes.
    let mut bytes = 0;
    let mut add = |key: Bytes, value: Value| {
        let more = key.len() + value.bytes();
        if limit.has_room(page.pairs.len(), bytes, more) {
            bytes += more;
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
