//! Objects: what the rows come to, each byte of it verified.
//!
//! An object with a name is an onode and the rows of its family and number. Rows without an onode, and without a grave that
//! says that they are left of a removed object, are an object without a name.

use std::collections::{BTreeMap, BTreeSet};

use seabed_object::extents::Extents;
use seabed_object::key::{self, Member, Position};
use seabed_object::onode::{OnodeRef, Parts};
use seabed_object::value::RowValue;
use seabed_object::{ObjectId, PieceRef, ROW_BYTES, ROW_CHUNKS};
use seabed_types::{CHUNK_BYTES, Crc, Paddr, PoolId, TreeKind};

use super::{RowKey, Salvage};

const CHUNK: u64 = CHUNK_BYTES as u64;

/// A name and a value that was saved with it; none if the value is lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attribute {
    /// The name of the attribute, or the omap key.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Option<Vec<u8>>,
}

/// Bytes of an object that could not be saved, or never were.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hole {
    /// From where on.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
}

/// An object that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// In which pool.
    pub pool: PoolId,
    /// What the pool is called, if that is known.
    pub pool_name: Option<Vec<u8>>,
    /// What it is called; none if only its rows were found.
    pub id: Option<ObjectId>,
    /// By what its rows are found.
    pub member: Member,
    /// Its bytes; of an object without a name as many as were found.
    pub size: u64,
    /// Its attributes.
    pub attributes: Vec<Attribute>,
    /// Its omap header.
    pub header: Option<Attribute>,
    /// Its omap.
    pub omap: Vec<Attribute>,
    /// Attributes, omap keys and headers that its onode counts and nobody found.
    pub missing: u64,
    /// Its data, if that lies in the onode.
    inline: Option<Vec<u8>>,
    /// Where its data is, if the onode says so.
    extents: Option<Box<Extents>>,
}

impl Found {
    /// Whether all besides its data was saved.
    pub fn has_all_values(&self) -> bool {
        let all = self.attributes.iter().chain(&self.omap).chain(&self.header);
        self.missing == 0 && all.into_iter().all(|attribute| attribute.value.is_some())
    }
}

/// Takes the data of an object: an offset and the bytes there, in order. What is in between reads as zeros.
pub trait Data {
    /// Why it takes no more.
    type Error;
    /// Takes some.
    fn take(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// What is known of 64 KiB of an object.
enum Row {
    /// Its row, and whether it lacks what older changes named.
    Extents(Box<Extents>, bool),
    /// Bytes that a record lists for it.
    Loose(Paddr, u32),
}

impl Salvage<'_> {
    /// Calls `each` for every object that was found, pool by pool; those without a name come last in each. The system's own
    /// pool is left out. True: it wants more.
    pub fn objects(&self, each: &mut dyn FnMut(Found) -> bool) {
        for pool in self.rows.pools().into_iter().filter(|pool| *pool != crate::pools::SYSTEM_POOL) {
            let mut named = BTreeSet::new();
            let from = (pool, TreeKind::Names, Vec::new());
            for ((_, _, key), value, _) in self.rows.range(from, Some((pool, TreeKind::Bodies, Vec::new()))) {
                let (Ok(id), Ok(onode)) = (key::decode_names(key), OnodeRef::decode(value)) else { continue };
                let member = Member { hash: id.hash, family: onode.family, number: onode.number };
                named.insert(member);
                if !each(self.named(pool, id, member, &onode)) {
                    return;
                }
            }
            for member in self.members(pool).difference(&named) {
                let is_dead =
                    self.rows.value(&(pool, TreeKind::Graves, key::graves(*member).to_vec())).is_some();
                if !is_dead && !each(self.nameless(pool, *member)) {
                    return;
                }
            }
        }
    }

    fn named(&self, pool: PoolId, id: ObjectId, member: Member, onode: &OnodeRef<'_>) -> Found {
        let inline =
            |(name, value): (&[u8], &[u8])| Attribute { name: name.to_vec(), value: Some(value.to_vec()) };
        let mut found = Found { id: Some(id), size: onode.size, ..self.nameless(pool, member) };
        let parts = onode.parts;
        let mut missing = 0;
        if parts.has(Parts::ATTRIBUTES) {
            missing += onode.attribute_count.saturating_sub(found.attributes.len() as u64);
        } else {
            found.attributes = onode.attributes.iter().map(inline).collect();
        }
        if parts.has(Parts::OMAP) {
            missing += onode.omap_count.saturating_sub(found.omap.len() as u64);
        } else {
            found.omap = onode.omap.iter().map(inline).collect();
        }
        if parts.has(Parts::HEADER) {
            missing += u64::from(found.header.is_none());
        } else {
            found.header = (!onode.header.is_empty()).then(|| inline((b"", onode.header)));
        }
        found.inline = (!parts.has(Parts::CHUNKS)).then(|| onode.data.to_vec());
        found.extents = onode.extents().ok().flatten().map(Box::new);
        Found { missing, ..found }
    }

    /// What the rows of a family tell.
    fn nameless(&self, pool: PoolId, member: Member) -> Found {
        let mut found = Found {
            pool,
            pool_name: self.pools.name(pool).map(<[u8]>::to_vec),
            id: None,
            member,
            size: 0,
            attributes: Vec::new(),
            header: None,
            omap: Vec::new(),
            missing: 0,
            inline: None,
            extents: None,
        };
        let from = (pool, TreeKind::Bodies, key::family_bound(member).to_vec());
        let to = (pool, TreeKind::Bodies, key::family_end(member).to_vec());
        for ((_, _, key), value, _) in self.rows.range(from, Some(to)) {
            let Ok((of, position)) = key::decode_bodies(key) else { continue };
            if of.number != member.number {
                continue;
            }
            let attribute = |name: &[u8]| Attribute { name: name.to_vec(), value: self.stored(value) };
            match position {
                Position::Extents(_) => {}
                Position::Attribute(name) => found.attributes.push(attribute(&name)),
                Position::Header => found.header = Some(attribute(b"")),
                Position::Omap(name) => found.omap.push(attribute(&name)),
            }
        }
        let end_of = |(number, row): (&u64, &Row)| {
            let start = number.saturating_mul(ROW_BYTES);
            start.saturating_add(match row {
                Row::Loose(_, bytes) => u64::from(*bytes),
                Row::Extents(extents, _) => {
                    let end = |(index, chunk): (usize, seabed_object::extents::Chunk)| {
                        index as u64 * CHUNK + u64::from(chunk.bytes)
                    };
                    extents.iter().map(end).max().unwrap_or(0)
                }
            })
        };
        found.size = self.data_rows(pool, member, None).iter().map(end_of).max().unwrap_or(0);
        found
    }

    /// A value, loaded and verified if it is stored apart.
    fn stored(&self, row: &[u8]) -> Option<Vec<u8>> {
        match RowValue::decode(row).ok()? {
            RowValue::Inline(value) => Some(value.to_vec()),
            RowValue::Stored(piece) => self.piece(piece),
        }
    }

    fn piece(&self, PieceRef { at, bytes, crc }: PieceRef) -> Option<Vec<u8>> {
        let is_inside = self.source.layout.contains(at, u64::from(bytes));
        let read = self.source.read(at, bytes as usize).ok().filter(|_| is_inside)?;
        (Crc::of(&read) == crc).then_some(read)
    }

    /// The families of which there are rows, or pieces for rows that are lost.
    fn members(&self, pool: PoolId) -> BTreeSet<Member> {
        let from = (pool, TreeKind::Bodies, Vec::new());
        let to = (pool, TreeKind::Graves, Vec::new());
        let of_rows = self.rows.range(from.clone(), Some(to.clone())).map(|(row, ..)| row);
        let of_pieces =
            self.loose.range(from..to).map(|(row, _)| row).filter(|row| self.rows.may_be_lost(row));
        let keys = of_rows.chain(of_pieces);
        keys.filter_map(|(_, _, key)| Some(key::decode_bodies(key).ok()?.0)).collect()
    }

    /// What is known of an object's data. `size`: its own, if it is known.
    fn data_rows(&self, pool: PoolId, member: Member, size: Option<u64>) -> BTreeMap<u64, Row> {
        let mut rows = BTreeMap::new();
        let from: RowKey = (pool, TreeKind::Bodies, key::family_bound(member).to_vec());
        let to: RowKey = (pool, TreeKind::Bodies, key::family_end(member).to_vec());
        let number_of = |key: &[u8]| match key::decode_bodies(key) {
            Ok((of, Position::Extents(number))) if of.number == member.number => Some(number),
            _ => None,
        };
        for (row, (_, at, bytes)) in self.loose.range(from.clone()..to.clone()) {
            let Some(number) = number_of(&row.2).filter(|_| self.rows.may_be_lost(row)) else { continue };
            let start = number.saturating_mul(ROW_BYTES);
            let ends_it = size == Some(start.saturating_add(u64::from(*bytes)));
            if u64::from(*bytes) == ROW_BYTES || ends_it {
                rows.insert(number, Row::Loose(*at, *bytes));
            }
        }
        for ((_, _, key), value, is_partial) in self.rows.range(from, Some(to)) {
            if let (Some(number), Ok(extents)) = (number_of(key), Extents::decode(value)) {
                rows.insert(number, Row::Extents(Box::new(extents), is_partial));
            }
        }
        rows
    }

    /// Gives all data of an object that can be verified; what cannot, or may be missing, is told.
    ///
    /// Errors: those of `data`.
    pub fn data<D: Data>(&self, found: &Found, data: &mut D) -> Result<Vec<Hole>, D::Error> {
        if let Some(inline) = &found.inline {
            if !inline.is_empty() {
                data.take(0, inline)?;
            }
            return Ok(Vec::new());
        }
        let mut holes: Vec<Hole> = Vec::new();
        let mut hole = |offset: u64, end: u64| {
            let end = end.min(found.size);
            match holes.last_mut() {
                Some(last) if last.offset + last.bytes == offset => {
                    last.bytes = end.max(offset) - last.offset;
                }
                _ if offset < end => holes.push(Hole { offset, bytes: end - offset }),
                _ => {}
            }
        };
        let row_of = |number| (found.pool, TreeKind::Bodies, key::extents(found.member, number).to_vec());
        let rows = match &found.extents {
            Some(extents) => BTreeMap::from([(0, Row::Extents(extents.clone(), false))]),
            None => self.data_rows(found.pool, found.member, Some(found.size)),
        };
        let mut done = 0;
        for (number, row) in rows {
            let start = number.saturating_mul(ROW_BYTES);
            if start >= found.size {
                break;
            }
            if self.rows.may_lack(&row_of(done / ROW_BYTES), &row_of(number)) {
                hole(done, start);
            }
            done = start.saturating_add(ROW_BYTES);
            match row {
                Row::Loose(at, bytes) => {
                    // The record's checksum was verified when it was found.
                    match self.source.read(at, bytes as usize) {
                        Ok(read) => data.take(start, &read)?,
                        Err(_) => hole(start, start + u64::from(bytes)),
                    }
                }
                Row::Extents(extents, is_partial) => {
                    for index in 0..ROW_CHUNKS {
                        let offset = start + index as u64 * CHUNK;
                        let Some(chunk) = extents.chunk(index) else {
                            if is_partial {
                                hole(offset, offset + CHUNK);
                            }
                            continue;
                        };
                        match self.piece(chunk.piece()) {
                            Some(bytes) => {
                                let left =
                                    usize::try_from(found.size.saturating_sub(offset)).unwrap_or(usize::MAX);
                                data.take(offset, bytes.get(..left).unwrap_or(&bytes))?;
                            }
                            None => hole(offset, offset + CHUNK),
                        }
                    }
                }
            }
        }
        let lacks_nothing = found.extents.is_some();
        if !lacks_nothing
            && done < found.size
            && self.rows.may_lack(&row_of(done / ROW_BYTES), &row_of(u64::MAX / ROW_BYTES))
        {
            hole(done, found.size);
        }
        Ok(holes)
    }
}
