//! Collection: the rows of its three trees, against one another and against what is counted.
//!
//! All trees are in the order of the hash first, so the walk goes hash by hash: the objects of a hash, its graves, and then
//! its bodies rows one by one. An object's counts must be those of its rows, a part that the onode keeps inline has none;
//! no byte lies behind an object's end; each bodies row is of an object or a grave, no grave is of an object that exists,
//! no family is of two objects.
//!
//! Cost: each row once, each piece once if data is verified.   Memory: the objects and graves of one hash.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;

use seabed_journal::{CollectionId, Roots, Tally};
use seabed_object::extents::Extents;
use seabed_object::key::{self, Member, Position};
use seabed_object::onode::{OnodeRef, Parts, identity_of};
use seabed_object::{PieceRef, ROW_BYTES, Usage, pieces_of_row, usage_of_row};
use seabed_segment::ListedWhat;
use seabed_types::{CHUNK_BYTES, Crc, Malformed, Paddr, PoolId, TreeKind};

use crate::log::{Log, reversed_hash};
use crate::rows::{KeyAndValue, Rows};
use crate::things::{Thing, What, row_hash};
use crate::violation::{CountedPart, PieceFault, Row, Violation};
use crate::walk::Pass;

/// The value of every graves row.
const GRAVE: [u8; 1] = [1];
/// Rows between two reports of progress.
const PROGRESS_ROWS: u64 = 4096;

/// What a collection's rows add up to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sum {
    pub(crate) usage: Tally,
    /// Whether all rows could be read: else the sum is less than what there is.
    pub(crate) is_whole: bool,
}

/// Checks a collection.
pub(crate) fn walk(
    pass: &mut Pass<'_>,
    collection: CollectionId,
    next_id: u64,
    roots: &Roots,
    log: &Log,
) -> Sum {
    let [names, bodies, graves] = TreeKind::ALL.map(|tree| {
        let root = roots.get(tree as usize - 1).copied().flatten();
        Rows::new((collection, tree, root), &log.pending, &[], pass)
    });
    let mut walk = Walk {
        names,
        bodies,
        graves,
        collection,
        next_id,
        usage: Usage::default(),
        is_whole: !log.lacks_deltas,
        objects: BTreeMap::new(),
        dead: BTreeSet::new(),
    };
    while let Some(hash) = walk.next_hash() {
        walk.hash(pass, hash);
    }
    let is_whole = walk.is_whole && walk.rows_are_whole();
    let Usage { objects, stored, allocated, compressed, omap, metadata, .. } = walk.usage;
    Sum { usage: Tally { objects, stored, allocated, compressed, omap, metadata }, is_whole }
}

struct Walk<'a> {
    names: Rows<'a>,
    bodies: Rows<'a>,
    graves: Rows<'a>,
    collection: CollectionId,
    next_id: u64,
    usage: Usage,
    is_whole: bool,
    /// Of the current hash, by family.
    objects: BTreeMap<u64, Object>,
    /// Graves of the current hash: family and number.
    dead: BTreeSet<(u64, u64)>,
}

/// What an onode says, and what was found of it.
struct Object {
    row: Row,
    number: u64,
    size: u64,
    parts: Parts,
    attributes: u64,
    omap: u64,
    found: Found,
}

/// Rows that were found of an object.
#[derive(Clone, Copy, Default)]
struct Found {
    extents: u64,
    attributes: u64,
    headers: u64,
    omap: u64,
}

impl Walk<'_> {
    /// The smallest hash, bit-reversed, of which there are rows left.
    fn next_hash(&self) -> Option<u32> {
        [&self.names, &self.bodies, &self.graves]
            .into_iter()
            .filter_map(|rows| rows.peek().map(reversed_hash))
            .min()
    }

    fn rows_are_whole(&self) -> bool {
        self.names.is_whole() && self.bodies.is_whole() && self.graves.is_whole()
    }

    fn hash(&mut self, pass: &mut Pass<'_>, hash: u32) {
        self.objects.clear();
        self.dead.clear();
        let is_here = |key: &[u8]| reversed_hash(key) == hash;
        while self.names.peek().is_some_and(is_here) {
            let Some(row) = self.names.next(pass) else { break };
            self.count(pass, TreeKind::Names, &row, Self::names_row);
        }
        while self.graves.peek().is_some_and(is_here) {
            let Some(row) = self.graves.next(pass) else { break };
            self.count(pass, TreeKind::Graves, &row, Self::graves_row);
        }
        while self.bodies.peek().is_some_and(is_here) {
            let Some(row) = self.bodies.next(pass) else { break };
            self.count(pass, TreeKind::Bodies, &row, Self::bodies_row);
        }
        // A tree that is not whole may lack any row.
        if self.is_whole && self.bodies.is_whole() {
            for object in std::mem::take(&mut self.objects).into_values() {
                object.check_counts(pass);
            }
        }
    }

    /// Adds a row up, and looks at what it says.
    fn count(
        &mut self,
        pass: &mut Pass<'_>,
        tree: TreeKind,
        (key, value): &KeyAndValue,
        look: fn(&mut Self, &mut Pass<'_>, Row, &[u8]) -> Result<(), Malformed>,
    ) {
        (tree as u8, key, value).hash(&mut pass.digest);
        if pass.counts.rows.is_multiple_of(PROGRESS_ROWS) {
            pass.report_progress();
        }
        let row = Row { pool: self.collection.pool, tree, key: key.clone() };
        let looked = usage_of_row(tree, key, value).and_then(|usage| {
            self.usage = self.usage.plus(usage);
            look(self, pass, row.clone(), value)
        });
        if let Err(malformed) = looked {
            self.is_whole = false;
            pass.findings.violation(Violation::RowMalformed { row, what: malformed.what });
        }
    }

    fn check_ids(&self, pass: &mut Pass<'_>, row: &Row, ids: [u64; 2]) {
        let (collection, next_id) = (self.collection, self.next_id);
        if let Some(id) = ids.into_iter().max().filter(|id| *id >= next_id) {
            pass.findings.violation(Violation::IdNotCounted { row: row.clone(), collection, id, next_id });
        }
    }

    fn names_row(&mut self, pass: &mut Pass<'_>, row: Row, value: &[u8]) -> Result<(), Malformed> {
        key::decode_names(&row.key)?;
        let onode = OnodeRef::decode(value)?;
        self.is_whole &= pieces(pass, self.collection.pool, &row, value)?;
        pass.counts.objects += 1;
        self.check_ids(pass, &row, [onode.family, onode.number]);
        if self.objects.contains_key(&onode.family) {
            pass.findings.violation(Violation::FamilyTwice { row, family: onode.family });
            return Ok(());
        }
        let object = Object {
            row,
            number: onode.number,
            size: onode.size,
            parts: onode.parts,
            attributes: onode.attribute_count,
            omap: onode.omap_count,
            found: Found::default(),
        };
        self.objects.insert(onode.family, object);
        Ok(())
    }

    fn graves_row(&mut self, pass: &mut Pass<'_>, row: Row, value: &[u8]) -> Result<(), Malformed> {
        let Member { family, number, .. } = key::decode_graves(&row.key)?;
        if value != GRAVE {
            return Err(Malformed { what: "the value of a grave", offset: 0 });
        }
        self.check_ids(pass, &row, [family, number]);
        if self.objects.get(&family).is_some_and(|object| object.number == number) {
            pass.findings.violation(Violation::GraveOfLiving { row });
        }
        self.dead.insert((family, number));
        Ok(())
    }

    fn bodies_row(&mut self, pass: &mut Pass<'_>, row: Row, value: &[u8]) -> Result<(), Malformed> {
        let (Member { family, number, .. }, position) = key::decode_bodies(&row.key)?;
        self.is_whole &= pieces(pass, self.collection.pool, &row, value)?;
        self.check_ids(pass, &row, [family, number]);
        let object = self.objects.get_mut(&family).filter(|object| object.number == number);
        let Some(object) = object else {
            let is_known = self.dead.contains(&(family, number));
            if !is_known && self.names.is_whole() && self.graves.is_whole() && self.is_whole {
                pass.findings.violation(Violation::Orphan { row });
            }
            return Ok(());
        };
        match position {
            Position::Attribute(_) => object.found.attributes += 1,
            Position::Header => object.found.headers += 1,
            Position::Omap(_) => object.found.omap += 1,
            Position::Extents(number) => {
                object.found.extents += 1;
                let end_of = |(index, chunk): (usize, seabed_object::extents::Chunk)| {
                    number * ROW_BYTES + (index * CHUNK_BYTES) as u64 + u64::from(chunk.bytes)
                };
                let end = Extents::decode(value)?.iter().map(end_of).max().unwrap_or(0);
                let size = object.size;
                if end > size && object.parts.has(Parts::DATA) {
                    pass.findings.violation(Violation::BeyondSize { row, end, size });
                }
            }
        }
        Ok(())
    }
}

impl Object {
    /// Compares what the onode says with the rows that were found.
    fn check_counts(self, pass: &mut Pass<'_>) {
        let Self { row, parts, attributes, omap, found, .. } = self;
        let counted = |part, count| if parts.has(part) { count } else { 0 };
        // How many rows data has depends on its holes.
        let extents = if parts.has(Parts::DATA) { found.extents } else { 0 };
        let counts = [
            (CountedPart::Data, extents, found.extents),
            (CountedPart::Attributes, counted(Parts::ATTRIBUTES, attributes), found.attributes),
            (CountedPart::Header, counted(Parts::HEADER, 1), found.headers),
            (CountedPart::Omap, counted(Parts::OMAP, omap), found.omap),
        ];
        for (part, counted, found) in counts.into_iter().filter(|(_, counted, found)| counted != found) {
            pass.findings.violation(Violation::PartCount { row: row.clone(), part, counted, found });
        }
    }
}

/// Adds up the pieces that a row points to, and verifies them if that is asked for. Whether all of them lie where
/// pieces can.
pub(crate) fn pieces(pass: &mut Pass<'_>, pool: PoolId, row: &Row, value: &[u8]) -> Result<bool, Malformed> {
    let layout = pass.source.layout;
    let mut are_inside = true;
    let mut run: Vec<(Paddr, u32, Crc)> = Vec::new();
    let identity = identity_of(row.tree, &row.key, value)?;
    for PieceRef { at, bytes, crc } in pieces_of_row(row.tree, &row.key, value)? {
        if !layout.contains(at, u64::from(bytes)) {
            let row = row.clone();
            pass.findings.violation(Violation::Piece { row, at, bytes, fault: PieceFault::Pointer });
            are_inside = false;
            continue;
        }
        let follows = run.last().is_some_and(|(last, length, _)| {
            last.segment == at.segment && last.offset.checked_add(*length) == Some(at.offset)
        });
        if !follows {
            take_run(pass, pool, (row, &identity), &run);
            run.clear();
        }
        run.push((at, bytes, crc));
    }
    take_run(pass, pool, (row, &identity), &run);
    Ok(are_inside)
}

/// Takes neighbouring pieces of a row, which lists have under `identity`.
fn take_run(pass: &mut Pass<'_>, pool: PoolId, (row, identity): (&Row, &[u8]), run: &[(Paddr, u32, Crc)]) {
    let Some((at, ..)) = run.first().copied() else { return };
    let bytes = run.iter().map(|(_, bytes, _)| *bytes).sum();
    let what = What::Piece(row_hash(pool, identity));
    pass.things.put(at.segment, Thing { offset: at.offset, bytes, what });
    pass.list(at, bytes, || ListedWhat::Piece { pool, key: identity.to_vec() });
    *pass.live.entry(at.segment).or_default() += i64::from(bytes);
    pass.counts.pieces += 1;
    pass.counts.piece_bytes += u64::from(bytes);
    if !pass.verify_data {
        return;
    }
    let whole = pass.source.read(at, bytes as usize);
    for (at, bytes, crc) in run.iter().copied() {
        let skip = (at.offset - run.first().map_or(at, |(first, ..)| *first).offset) as usize;
        let fault = match &whole {
            Ok(whole) => {
                let found = Crc::of(whole.get(skip..skip + bytes as usize).unwrap_or_default());
                (found != crc).then_some(PieceFault::Checksum(found))
            }
            // The others of the run may be read all the same.
            Err(_) => match pass.source.read(at, bytes as usize) {
                Ok(read) => (Crc::of(&read) != crc).then(|| PieceFault::Checksum(Crc::of(&read))),
                Err(error) => Some(PieceFault::Unreadable(error)),
            },
        };
        pass.counts.bytes_verified += u64::from(bytes);
        if let Some(fault) = fault {
            pass.findings.violation(Violation::Piece { row: row.clone(), at, bytes, fault });
        }
    }
}
