//! Rows: all nodes and pieces of the collections, hash by hash, each piece with the name of its object.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::DefaultHasher;

use seabed_object::ObjectId;
use seabed_object::extents::Extents;
use seabed_object::key::{self, Position as At};
use seabed_object::onode::OnodeRef;
use seabed_types::{CHUNK_BYTES, Paddr, SegmentId, TreeKind};

use super::{Bad, Go, Of, Position, Scrub, Shard, Whose, collections};
use crate::Violation;
use crate::collection::pieces;
use crate::image::Source;
use crate::log::reversed_hash;
use crate::pools::{PoolNames, SYSTEM_POOL};
use crate::report::{Counts, Findings};
use crate::rows::Rows;
use crate::things::Things;
use crate::violation::Row;
use crate::walk::{Counted, Pass};

/// The names and bodies rows of one hash, as far as they are needed to say whose a piece is.
struct Here<'a> {
    pools: &'a PoolNames,
    /// By family and number.
    objects: BTreeMap<(u64, u64), ObjectId>,
    /// The onodes that have extents, by key.
    onodes: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Scrub<'_> {
    /// The rows that are to be done.
    pub(super) fn rows(&mut self, shards: &[Shard]) -> Go {
        let Position::Rows { collection: first, key } = self.from.clone() else { return Go::On };
        let all = collections(shards);
        let mut pools = PoolNames::default();
        for (counted, shard) in all.iter().filter(|(counted, _)| counted.id.pool == SYSTEM_POOL) {
            learn(self.source, counted, shard, &mut pools);
        }
        for (counted, shard) in all.iter().filter(|(counted, _)| counted.id >= first) {
            let from = if counted.id == first { key.as_slice() } else { &[] };
            if self.collection(counted, shard, from, &pools) == Go::Stop {
                return Go::Stop;
            }
        }
        self.from = Position::Segments { segment: SegmentId(0) };
        self.step()
    }

    fn collection(&mut self, counted: &Counted, shard: &Shard, from: &[u8], pools: &PoolNames) -> Go {
        let Self { source, findings, counts, reported, from: position, watch } = self;
        let mut things = Things::new(SegmentId(u32::MAX), 0);
        let mut quiet = |_: &crate::Progress| {};
        let mut pass = pass(source, findings, counts, &mut things, &mut quiet);
        pass.verify_data = true;
        let collection = counted.id;
        let hash_of_from = from.get(..4).unwrap_or(from);
        let [mut names, mut bodies, mut graves] =
            [(TreeKind::Names, hash_of_from), (TreeKind::Bodies, from), (TreeKind::Graves, hash_of_from)]
                .map(|(tree, from)| {
                    let root = counted.roots.get(tree as usize - 1).copied().flatten();
                    Rows::new((collection, tree, root), &shard.log.pending, from, &mut pass)
                });
        let mut done = |pass: &mut Pass<'_>, next: Vec<u8>, name: &dyn Fn(Violation) -> Bad| {
            *position = Position::Rows { collection, key: next };
            for violation in std::mem::take(&mut pass.findings.violations) {
                watch.bad(name(violation));
            }
            let bytes = pass.counts.bytes_verified - *reported;
            *reported = pass.counts.bytes_verified;
            watch.read(bytes, position)
        };
        while let Some(hash) =
            [&names, &bodies, &graves].iter().filter_map(|rows| rows.peek()).map(reversed_hash).min()
        {
            let is_here = |rows: &Rows<'_>| rows.peek().is_some_and(|key| reversed_hash(key) == hash);
            let mut here = Here { pools, objects: BTreeMap::new(), onodes: BTreeMap::new() };
            while is_here(&names) {
                let Some((key, value)) = names.next(&mut pass) else { break };
                match key::decode_names(&key).and_then(|id| Ok((id, OnodeRef::decode(&value)?))) {
                    Ok((id, onode)) => {
                        here.objects.insert((onode.family, onode.number), id);
                        if !onode.extents.is_empty() {
                            here.onodes.insert(key, value);
                        }
                    }
                    Err(malformed) => {
                        let row = Row { pool: collection.pool, tree: TreeKind::Names, key };
                        pass.findings.violation(Violation::RowMalformed { row, what: malformed.what });
                    }
                }
            }
            while is_here(&graves) {
                let _ = graves.next(&mut pass);
            }
            // Who goes on among the bodies rows of a hash is done with its onodes.
            let is_behind = from.len() > hash_of_from.len() && reversed_hash(from) == hash;
            if !here.onodes.is_empty() && !is_behind {
                for (key, value) in &here.onodes {
                    let row = Row { pool: collection.pool, tree: TreeKind::Names, key: key.clone() };
                    if let Err(malformed) = pieces(&mut pass, collection.pool, &row, value) {
                        let what = malformed.what;
                        pass.findings.violation(Violation::RowMalformed { row, what });
                    }
                }
                let next = [&hash.to_be_bytes()[..], &[0]].concat();
                if done(&mut pass, next, &|violation| here.name(violation, &[])) == Go::Stop {
                    return Go::Stop;
                }
            }
            while is_here(&bodies) {
                let Some((key, value)) = bodies.next(&mut pass) else { break };
                let row = Row { pool: collection.pool, tree: TreeKind::Bodies, key };
                if let Err(malformed) = pieces(&mut pass, collection.pool, &row, &value) {
                    let what = malformed.what;
                    pass.findings.violation(Violation::RowMalformed { row: row.clone(), what });
                }
                let next = [row.key.as_slice(), &[0]].concat();
                let name = |violation| here.name(violation, &value);
                if done(&mut pass, next, &name) == Go::Stop {
                    return Go::Stop;
                }
            }
            let next =
                hash.checked_add(1).map_or_else(|| vec![u8::MAX; 5], |next| next.to_be_bytes().to_vec());
            if done(&mut pass, next, &Bad::Other) == Go::Stop {
                return Go::Stop;
            }
        }
        done(&mut pass, vec![u8::MAX; 5], &Bad::Other)
    }
}

fn pass<'a>(
    source: &'a Source<'a>,
    findings: &'a mut Findings,
    counts: &'a mut Counts,
    things: &'a mut Things,
    progress: &'a mut dyn FnMut(&crate::Progress),
) -> Pass<'a> {
    Pass {
        source,
        findings,
        counts,
        things,
        verify_data: false,
        nodes: BTreeSet::new(),
        live: BTreeMap::new(),
        lists: BTreeMap::new(),
        digest: DefaultHasher::new(),
        progress,
    }
}

/// Reads what the pools are called; what is bad there is told when its turn comes.
fn learn(source: &Source<'_>, counted: &Counted, shard: &Shard, pools: &mut PoolNames) {
    let (mut findings, mut counts) = (Findings::new(0), Counts::default());
    let (mut things, mut quiet) = (Things::new(SegmentId(u32::MAX), 0), |_: &crate::Progress| {});
    let mut pass = pass(source, &mut findings, &mut counts, &mut things, &mut quiet);
    for tree in [TreeKind::Names, TreeKind::Bodies] {
        let root = counted.roots.get(tree as usize - 1).copied().flatten();
        let mut rows = Rows::new((counted.id, tree, root), &shard.log.pending, &[], &mut pass);
        while let Some((key, value)) = rows.next(&mut pass) {
            pools.learn(tree, &key, &value);
        }
    }
}

impl Here<'_> {
    /// Says whose a bad piece is, whose row has this value.
    fn name(&self, violation: Violation, value: &[u8]) -> Bad {
        let Violation::Piece { row, at, bytes, fault } = violation else { return Bad::Other(violation) };
        let onode = self.onodes.get(&row.key).filter(|_| row.tree == TreeKind::Names);
        if let Some(onode) = onode.and_then(|value| OnodeRef::decode(value).ok()) {
            let whose = Whose {
                pool: row.pool,
                pool_name: self.pools.name(row.pool).map(<[u8]>::to_vec),
                object: self.objects.get(&(onode.family, onode.number)).cloned(),
            };
            let of = Of::Data { offset: offset_in_row(onode.extents, at) };
            return Bad::Piece { whose, of, at, bytes, fault };
        }
        let Ok((member, position)) = key::decode_bodies(&row.key) else {
            return Bad::Other(Violation::Piece { row, at, bytes, fault });
        };
        let whose = Whose {
            pool: row.pool,
            pool_name: self.pools.name(row.pool).map(<[u8]>::to_vec),
            object: self.objects.get(&(member.family, member.number)).cloned(),
        };
        let of = match position {
            At::Extents(number) => {
                let start = number.saturating_mul(seabed_object::ROW_BYTES);
                Of::Data { offset: start.saturating_add(offset_in_row(value, at)) }
            }
            At::Attribute(name) => Of::Attribute(name.to_vec()),
            At::Header => Of::Header,
            At::Omap(key) => Of::Omap(key.to_vec()),
        };
        Bad::Piece { whose, of, at, bytes, fault }
    }
}

/// Where in its 64 KiB the chunk at an address is.
fn offset_in_row(value: &[u8], at: Paddr) -> u64 {
    let extents = Extents::decode(value).ok();
    let chunk = extents.as_ref().and_then(|extents| extents.iter().find(|(_, chunk)| chunk.at == at));
    chunk.map_or(0, |(index, _)| (index * CHUNK_BYTES) as u64)
}
