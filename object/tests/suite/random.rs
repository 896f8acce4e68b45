//! Random transactions, bulk data, streaming puts and draining, each compared with the model.

use std::collections::BTreeSet;

use bytes::Bytes;
use seabed_object::graves::{Drained, drain};
use seabed_object::onode::EXTENTS_BYTES_MAX;
use seabed_object::read::{self, ReadError};
use seabed_object::stream::{StreamPart, Streamed};
use seabed_object::{
    Checksums, Direction, Limits, NewPiece, ObjectId, Outcome, Placed, Refusal, Stop, Stored, Transaction,
    Usage, bulk_parts, key, resolve_appends, stream,
};
use seabed_types::TreeKind;

use super::model::{self, Model, Object};
use super::program;
use super::store::{Store, Tree};

/// A streaming put that goes on.
struct Put {
    id: ObjectId,
    family: u64,
    data: Vec<u8>,
    done: usize,
}

#[derive(Default)]
struct World {
    model: Model,
    puts: Vec<Put>,
    refused: u64,
    stale: u64,
    bulk: u64,
    streamed: u64,
    abandoned: u64,
    slices: u64,
}

/// The beginning of what a failure would print.
fn brief(what: &impl std::fmt::Debug) -> String {
    format!("{what:?}").chars().take(1000).collect()
}

fn run(limits: Limits, seed: u64, steps: u64) -> (Store, World) {
    let mut store = Store::new(limits, seed);
    let mut world = World::default();
    for step in 0..steps {
        store.absent_one_in = [0, 0, 7, 3][usize::try_from(step / 64 % 4).expect("small")];
        match store.rng.u32(..40) {
            0 => world.drain(&mut store),
            1 => world.stream(&mut store),
            _ => world.transaction(&mut store),
        }
        if step % 1024 == 0 {
            store.check();
            world.compare_all(&mut store);
        }
    }
    store.check();
    world.compare_all(&mut store);
    (store, world)
}

impl World {
    fn transaction(&mut self, store: &mut Store) {
        let mut txn = program::transaction(&mut store.rng, &self.model);
        if store.rng.u32(..4) == 0 {
            txn = store.ask(|store| resolve_appends(store, &txn, &[])).expect("no damage");
        }
        let stored = if store.rng.u32(..3) == 0 { self.store_bulk(store, &txn) } else { Vec::new() };
        self.apply(store, &txn, &stored);
    }

    /// Stores what a bulk plan lists; sometimes another transaction comes before the one planned for.
    fn store_bulk(&mut self, store: &mut Store, txn: &Transaction) -> Vec<Stored> {
        let threshold = [1, 4096, 16_384][store.rng.usize(..3)];
        let ask = |store: &Store| bulk_parts(store, txn, threshold, store.next_id, &store.limits);
        let plan = store.ask(ask).expect("no damage");
        store.next_id = store.next_id.max(plan.next_id);
        let mut stored = Vec::new();
        for part in plan.parts {
            let (_, position) = key::decode_bodies(&part.key).expect("a good key");
            let is_extents = matches!(position, key::Position::Extents(_));
            let checksums = if is_extents { Checksums::Chunks } else { Checksums::Whole };
            let Placed { at, crcs } = store.place(&NewPiece { data: part.data.clone(), row: 0, checksums });
            stored.push(part.stored(at, crcs));
            self.bulk += 1;
        }
        if !stored.is_empty() && store.rng.u32(..3) == 0 {
            let mut first = Transaction::new();
            first.remove(&txn.objects()[0]);
            if store.rng.bool() {
                first.write(&txn.objects()[0], 0, b"other");
            }
            self.apply(store, &first, &[]);
        }
        stored
    }

    fn apply(&mut self, store: &mut Store, txn: &Transaction, stored: &[Stored]) {
        let expected = model::apply(&self.model, txn, &store.limits);
        let outcome = store.execute(txn, stored);
        let used = match (outcome, expected) {
            (Outcome::Ready(effects), Ok(objects)) => {
                let used = store.apply(effects);
                for (id, object) in objects {
                    match object {
                        Some(object) => self.model.insert(id.clone(), object),
                        None => self.model.remove(&id),
                    };
                    self.compare(store, &id);
                }
                used
            }
            (Outcome::Refused(Refusal { op, why }), Err((expected_op, expected))) => {
                self.refused += 1;
                assert_eq!(op, expected_op, "{}", brief(txn));
                assert_eq!(std::mem::discriminant(&why), std::mem::discriminant(&expected), "{}", brief(txn));
                BTreeSet::new()
            }
            (Outcome::Stale, _) if !stored.is_empty() => {
                self.stale += 1;
                self.apply(store, txn, &[]);
                BTreeSet::new()
            }
            (outcome, expected) => {
                let (outcome, expected) = (brief(&outcome), brief(&expected.map(drop)));
                panic!("{outcome} and not {expected} for {}", brief(txn))
            }
        };
        for part in stored {
            store.free_unused(part.at, part.bytes, &used);
        }
    }

    fn drain(&mut self, store: &mut Store) {
        let rows_max = if store.rng.bool() { store.rng.usize(..20) } else { 200 };
        let alive: BTreeSet<u64> = self.puts.iter().map(|put| put.family).collect();
        let drained = store.ask(|store| drain(store, &|family| alive.contains(&family), rows_max));
        match drained.expect("no damage") {
            Drained::Nothing => {}
            Drained::Slice { effects, member, is_last } => {
                assert!(effects.pieces.is_empty());
                assert!(effects.rows.len() <= rows_max.max(1) + usize::from(is_last));
                store.apply(effects);
                self.slices += 1;
                let left = store.tree(TreeKind::Graves).contains_key(&key::graves(member)[..]);
                assert_eq!(left, !is_last);
            }
        }
    }

    /// A step of a streaming put: begin, store some, finish, or forget about it.
    fn stream(&mut self, store: &mut Store) {
        if self.puts.len() < 2 {
            let id = program::object(&mut store.rng);
            let (family, effects) = stream::begin(id.hash, store.next_id);
            store.apply(effects);
            let bytes = store.rng.usize(..300_000);
            let data = program::filled(&mut store.rng, bytes).to_vec();
            return self.puts.push(Put { id, family, data, done: 0 });
        }
        let index = store.rng.usize(..self.puts.len());
        let put = &mut self.puts[index];
        let whole = put.data.len() / 4096 * 4096;
        if store.rng.u32(..16) == 0 {
            self.puts.remove(index);
            self.abandoned += 1;
        } else if put.done < whole {
            let end = whole.min(put.done + 4096 * store.rng.usize(1..40));
            let mut parts = Vec::new();
            while put.done < end {
                let bytes = (4096 * store.rng.usize(1..20)).min(end - put.done);
                let data = Bytes::copy_from_slice(&put.data[put.done..put.done + bytes]);
                let placed = store.place(&NewPiece { data, row: 0, checksums: Checksums::Chunks });
                parts.push(StreamPart { offset: put.done as u64, at: placed.at, crcs: placed.crcs.to_vec() });
                put.done += bytes;
            }
            let (hash, family) = (put.id.hash, put.family);
            let effects = store.ask(|store| stream::rows(store, hash, family, &parts)).expect("no damage");
            store.apply(effects);
        } else {
            let put = self.puts.remove(index);
            self.finish(store, put);
        }
    }

    fn finish(&mut self, store: &mut Store, put: Put) {
        let name = Bytes::from_static(b"streamed");
        let attrs = [(name, program::small(&mut store.rng))];
        let tail = Bytes::copy_from_slice(&put.data[put.done..]);
        let Put { id, family, data, .. } = put;
        let streamed = Streamed { object: &id, family, size: data.len() as u64, tail, attrs: &attrs };
        let outcome = store.ask(|store| {
            let outcome = stream::finish(store, &streamed, store.next_id, &store.limits);
            if outcome == Outcome::Absent { Err(Stop::Absent) } else { Ok(outcome) }
        });
        let Ok(Outcome::Ready(effects)) = outcome else { panic!("a put finishes, {}", brief(&outcome)) };
        store.apply(effects);
        let object = Object { data, attrs: attrs.into_iter().collect(), ..Object::default() };
        self.model.insert(id.clone(), object);
        self.compare(store, &id);
        self.streamed += 1;
    }

    /// Compares what reads of one object say with the model.
    fn compare(&self, store: &mut Store, id: &ObjectId) {
        let Some(object) = self.model.get(id) else {
            assert_eq!(store.ask(|store| read::exists(store, id)), Ok(false));
            assert_eq!(store.ask(|store| read::stat(store, id)), Err(ReadError::NotFound));
            return;
        };
        let stat = store.ask(|store| read::stat(store, id)).expect("it exists");
        assert_eq!(stat.size, object.data.len() as u64);
        assert_eq!((stat.attributes, stat.omap), (object.attrs.len() as u64, object.omap.len() as u64));
        assert_eq!(stat.hint, object.hint);
        let (from, to) = if store.rng.u32(..4) == 0 {
            (0, object.data.len())
        } else {
            let from = store.rng.usize(..=object.data.len());
            (from, object.data.len().min(from + store.rng.usize(..10_000)))
        };
        let bytes = (to - from + store.rng.usize(..2) * (object.data.len() - to + 1)) as u64;
        let plan = store.ask(|store| read::read(store, id, from as u64, bytes)).expect("it exists");
        let to = object.data.len().min(from + usize::try_from(bytes).expect("small"));
        assert!(store.load_plan(plan) == object.data[from..to], "{id:?} {from}..{to}");
        Self::compare_values(store, id, object);
    }

    fn compare_values(store: &mut Store, id: &ObjectId, object: &Object) {
        let attrs = store.ask(|store| read::attrs(store, id)).expect("it exists");
        let attrs = attrs.iter().map(|(name, value)| (name.clone(), store.load_value(value)));
        assert!(attrs.eq(object.attrs.iter().map(|(name, value)| (name.clone(), value.clone()))));
        let header = store.ask(|store| read::omap_header(store, id)).expect("it exists");
        assert_eq!(store.load_value(&header), object.header);
        let name = program::name(&mut store.rng);
        let attr = store.ask(|store| read::attr(store, id, &name)).map(|value| store.load_value(&value));
        assert_eq!(attr, object.attrs.get(&name).cloned().ok_or(ReadError::NoSuchAttr));
        let names = [name, program::name(&mut store.rng)];
        let pairs = store.ask(|store| read::omap_get(store, id, &names)).expect("it exists");
        let pairs: Vec<_> = pairs.into_iter().map(|(key, value)| (key, store.load_value(&value))).collect();
        let expected = names.iter().filter_map(|key| Some((key.clone(), object.omap.get(key)?.clone())));
        assert!(pairs.iter().cloned().eq(expected));
        Self::compare_pages(store, id, object);
    }

    /// Reads an omap page by page, forward or backward.
    fn compare_pages(store: &mut Store, id: &ObjectId, object: &Object) {
        let direction = if store.rng.bool() { Direction::Forward } else { Direction::Backward };
        let limit = store.rng.usize(1..20);
        let (mut from, mut to) = (Bytes::new(), None::<Bytes>);
        let mut pairs = Vec::new();
        loop {
            let range = (&from[..], to.as_deref());
            let page = store.ask(|store| read::omap_range(store, id, range, limit, direction));
            let page = page.expect("it exists");
            assert!(page.pairs.len() <= limit);
            pairs.extend(page.pairs.into_iter().map(|(key, value)| (key, store.load_value(&value))));
            match (page.next, direction) {
                (None, _) => break,
                (Some(next), Direction::Forward) => from = next,
                (Some(next), Direction::Backward) => to = Some(next),
            }
        }
        if direction == Direction::Backward {
            pairs.reverse();
        }
        assert!(pairs.into_iter().eq(object.omap.iter().map(|(key, value)| (key.clone(), value.clone()))));
    }

    /// Compares all objects, and the listing of them, page by page.
    fn compare_all(&self, store: &mut Store) {
        let (mut cursor, to) = key::collection(0, 0);
        let mut ids = Vec::new();
        loop {
            let page = store.ask(|store| read::list(store, &cursor, to.as_deref(), 3)).expect("no damage");
            assert!(
                page.objects
                    .iter()
                    .all(|listed| listed.stat.size == self.model[&listed.id].data.len() as u64)
            );
            ids.extend(page.objects.into_iter().map(|listed| listed.id));
            match page.next {
                None => break,
                Some(next) => cursor = next,
            }
        }
        assert!(ids.iter().eq(self.model.keys()), "the listing is the model's, in its order");
        for id in self.model.keys() {
            self.compare(store, id);
            let sum = store.ask(|store| read::allocated(store, id)).expect("it exists");
            assert!(sum <= store.usage.allocated.cast_unsigned());
        }
    }

    /// Removes everything and drains it: nothing is left of rows, pieces and usage.
    fn remove_all(&mut self, store: &mut Store) {
        for id in self.model.keys().cloned().collect::<Vec<_>>() {
            let mut txn = Transaction::new();
            txn.remove(&id);
            self.apply(store, &txn, &[]);
        }
        self.puts.clear();
        while !store.tree(TreeKind::Graves).is_empty() {
            self.drain(store);
        }
        store.check();
        assert!(store.trees.iter().all(Tree::is_empty));
        assert_eq!((store.stored_count(), store.usage), (0, Usage::default()));
    }
}

fn run_all(limits: Limits, seed: u64, steps: u64) {
    let (mut store, mut world) = run(limits, seed, steps);
    world.remove_all(&mut store);
    // What was never met was not tested.
    let World { refused, stale, bulk, streamed, abandoned, slices, .. } = world;
    for (met, what) in [
        (refused, "refusals"),
        (stale, "stale families"),
        (bulk, "bulk parts"),
        (streamed, "streamed objects"),
        (abandoned, "puts given up"),
        (slices, "slices of graves"),
        (store.rounds, "rounds of loading"),
    ] {
        assert!(met > 10, "{what}: {met}");
    }
}

#[test]
fn default_limits() {
    run_all(Limits::new(16 * 1024, 64 * 1024 * 1024), 1, 90_000);
}

#[test]
fn tiny_limits() {
    let limits = Limits { inline_bytes_max: 16, record_bytes_max: 1 << 20, ..Limits::new(4096, 64 * 1024) };
    run_all(limits, 2, 100_000);
}

#[test]
fn inline_up_to_a_chunk() {
    let limits = Limits {
        inline_bytes_max: 4096,
        inline_extents_max: EXTENTS_BYTES_MAX,
        ..Limits::new(64 * 1024, 64 * 1024 * 1024)
    };
    run_all(limits, 3, 20_000);
}

#[test]
fn extents_of_one_chunk_in_onodes() {
    run_all(Limits { inline_extents_max: 21, ..Limits::new(4096, 1024 * 1024) }, 4, 30_000);
}

#[test]
fn extents_in_rows_only() {
    run_all(Limits { inline_extents_max: 0, ..Limits::new(16 * 1024, 64 * 1024 * 1024) }, 5, 30_000);
}
