//! The reference model: what a store of objects does, on maps in memory, as plainly as it can be said.
//!
//! It is the oracle that the engine's answers and recovered states are held against, and it shares nothing with the
//! engine, not even the hash or the type of an operation. Cloning a model shares its objects, so a state can be kept for
//! every transaction of a run.
//!
//! A transaction is carried out operation by operation on a draft; the first operation that fails discards the draft and
//! is named. Before that, all its objects must be in one collection. Within an operation, what is wrong whatever the
//! state is (`Invalid`) comes before what is wrong with the state. Names and keys are held to their limits wherever an
//! operation names one, the ends of an interval excepted.
//!
//! Limits: [`Limits`]. Not here: space, durability, errors of the medium, clones.

mod id;
mod object;
mod op;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

pub use id::{Bytes, ObjectId, hash_of};
pub use object::{Contents, Object};
pub use op::{Condition, Hint, Limits, Op, Refusal, Why};

const HINT_FLAGS: u32 = (1 << 10) - 1;

/// In which order a range of the omap is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Smallest key first.
    Up,
    /// Largest key first.
    Down,
}

/// A name space of objects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    name: String,
    /// It has 2^bits collections.
    bits: u32,
    objects: BTreeMap<ObjectId, Arc<Object>>,
}

/// A store.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Model {
    limits: Limits,
    pools: BTreeMap<u64, Pool>,
    pools_ever: u64,
}

impl Model {
    /// An empty store with these limits.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Makes a pool of one collection; ids are never used twice.
    pub fn create_pool(&mut self, name: &str) -> Result<u64, Why> {
        if !(1..=255).contains(&name.len()) || name.chars().any(char::is_control) {
            return Err(Why::Invalid);
        }
        if self.pools.values().any(|pool| pool.name == name) {
            return Err(Why::AlreadyExists);
        }
        self.pools_ever += 1;
        let pool = Pool { name: name.to_owned(), bits: 0, objects: BTreeMap::new() };
        self.pools.insert(self.pools_ever, pool);
        Ok(self.pools_ever)
    }

    /// Removes a pool and all that is in it.
    pub fn remove_pool(&mut self, pool: u64) -> Result<(), Why> {
        self.pools.remove(&pool).map(drop).ok_or(Why::NotFound)
    }

    /// Splits or merges the collections of a pool: from now on there are 2^bits.
    pub fn set_collection_bits(&mut self, pool: u64, bits: u32) -> Result<(), Why> {
        self.pools.get_mut(&pool).map(|pool| pool.bits = bits).ok_or(Why::NotFound)
    }

    /// Ids and names of the pools.
    pub fn pools(&self) -> impl Iterator<Item = (u64, &str)> {
        self.pools.iter().map(|(id, pool)| (*id, pool.name.as_str()))
    }

    /// A pool.
    pub fn pool(&self, pool: u64) -> Result<&Pool, Why> {
        self.pools.get(&pool).ok_or(Why::NotFound)
    }

    /// Carries out a transaction: all of it, or nothing and the first operation that fails. The pool must exist.
    pub fn submit(&mut self, pool: u64, transaction: &[(ObjectId, Op)]) -> Result<(), Refusal> {
        let why = Why::NotFound;
        let pool = self.pools.get_mut(&pool).ok_or(Refusal { op: 0, why })?;
        let collection = |(id, _): &(ObjectId, Op)| id.collection(pool.bits);
        let home = transaction.first().map(collection);
        if let Some(op) = transaction.iter().position(|operation| Some(collection(operation)) != home) {
            return Err(Refusal { op, why: Why::Invalid });
        }
        let mut draft: BTreeMap<ObjectId, Option<Object>> = BTreeMap::new();
        for (op, (id, operation)) in transaction.iter().enumerate() {
            let object = draft
                .entry(id.clone())
                .or_insert_with(|| pool.objects.get(id).map(|object| Object::clone(object)));
            check(&self.limits, id, operation, object.as_ref()).map_err(|why| Refusal { op, why })?;
            apply(operation, object);
        }
        for (id, object) in draft {
            match object {
                Some(object) => drop(pool.objects.insert(id, Arc::new(object))),
                None => drop(pool.objects.remove(&id)),
            }
        }
        Ok(())
    }
}

fn rule(holds: bool) -> Result<(), Why> {
    if holds { Ok(()) } else { Err(Why::Invalid) }
}

/// Whether `operation` can be carried out on `object`.
fn check(limits: &Limits, id: &ObjectId, operation: &Op, object: Option<&Object>) -> Result<(), Why> {
    let attribute_name = |name: &Bytes| rule((1..=limits.attribute_name_bytes).contains(&name.len()));
    let omap_key = |key: &Bytes| rule((1..=limits.omap_key_bytes).contains(&key.len()));
    let size = |offset: u64, bytes: u64| {
        rule(bytes == 0 || offset.checked_add(bytes).is_some_and(|end| end <= limits.object_bytes))
    };
    rule((1..=limits.name_bytes).contains(&id.name.len()))?;
    rule(id.namespace.len() <= limits.namespace_bytes)?;
    match operation {
        Op::Touch
        | Op::Create
        | Op::Remove
        | Op::OmapClear
        | Op::Expect(Condition::Exists | Condition::Absent | Condition::Size(_)) => {}
        Op::Write(offset, data) => size(*offset, data.len() as u64)?,
        Op::Append(data) => size(object.map_or(0, |object| object.contents.size()), data.len() as u64)?,
        Op::Zero(offset, bytes) => size(*offset, *bytes)?,
        Op::Truncate(bytes) => size(0, *bytes)?,
        Op::SetAttributes(pairs) => {
            for (name, value) in pairs {
                attribute_name(name)?;
                rule(value.len() <= limits.attribute_bytes)?;
            }
        }
        Op::RemoveAttribute(name) | Op::Expect(Condition::Attribute(name, _)) => attribute_name(name)?,
        Op::OmapInsert(pairs) => {
            for (key, value) in pairs {
                omap_key(key)?;
                rule(value.len() <= limits.omap_value_bytes)?;
            }
        }
        Op::OmapRemove(keys) => keys.iter().try_for_each(omap_key)?,
        Op::OmapRemoveRange(from, to) => rule(from <= to)?,
        Op::OmapSetHeader(header) => rule(header.len() <= limits.header_bytes)?,
        Op::SetHint(hint) => rule(hint.flags & !HINT_FLAGS == 0)?,
        Op::Expect(Condition::Omap(key, _)) => omap_key(key)?,
    }
    match operation {
        Op::Touch | Op::Write(..) | Op::Append(_) | Op::Zero(..) | Op::Remove => Ok(()),
        Op::Create => object.map_or(Ok(()), |_| Err(Why::AlreadyExists)),
        Op::Expect(condition) => {
            if holds(condition, object) {
                Ok(())
            } else {
                Err(Why::PreconditionFailed)
            }
        }
        Op::Truncate(_)
        | Op::SetAttributes(_)
        | Op::RemoveAttribute(_)
        | Op::OmapInsert(_)
        | Op::OmapRemove(_)
        | Op::OmapRemoveRange(..)
        | Op::OmapClear
        | Op::OmapSetHeader(_)
        | Op::SetHint(_) => object.map(|_| ()).ok_or(Why::NotFound),
    }
}

fn holds(condition: &Condition, object: Option<&Object>) -> bool {
    let Some(object) = object else { return *condition == Condition::Absent };
    match condition {
        Condition::Exists => true,
        Condition::Absent => false,
        Condition::Size(size) => object.contents.size() == *size,
        Condition::Attribute(name, value) => object.attributes.get(name) == value.as_ref(),
        Condition::Omap(key, value) => object.omap.get(key) == value.as_ref(),
    }
}

/// Carries out an operation that was checked.
fn apply(operation: &Op, object: &mut Option<Object>) {
    if matches!(operation, Op::Remove) {
        *object = None;
    }
    if matches!(operation, Op::Remove | Op::Expect(_)) {
        return;
    }
    let object = object.get_or_insert_default();
    match operation {
        Op::Touch | Op::Create | Op::Remove | Op::Expect(_) => {}
        Op::Write(offset, data) => object.contents.write(*offset, data),
        Op::Append(data) => object.contents.write(object.contents.size(), data),
        Op::Zero(offset, bytes) => object.contents.zero(*offset, offset + bytes),
        Op::Truncate(size) => object.contents.truncate(*size),
        Op::SetAttributes(pairs) => object.attributes.extend(pairs.iter().cloned()),
        Op::RemoveAttribute(name) => drop(object.attributes.remove(name)),
        Op::OmapInsert(pairs) => object.omap.extend(pairs.iter().cloned()),
        Op::OmapRemove(keys) => object.omap.retain(|key, _| !keys.contains(key)),
        Op::OmapRemoveRange(from, to) => object.omap.retain(|key, _| key < from || key >= to),
        Op::OmapClear => {
            object.omap.clear();
            object.omap_header = Bytes::default();
        }
        Op::OmapSetHeader(header) => object.omap_header = Bytes::clone(header),
        Op::SetHint(hint) => object.hint = *hint,
    }
}

impl Pool {
    /// An object, if it exists; its parts are fields.
    pub fn object(&self, id: &ObjectId) -> Result<&Object, Why> {
        self.objects.get(id).map(|object| &**object).ok_or(Why::NotFound)
    }

    /// All objects in order.
    pub fn objects(&self) -> impl Iterator<Item = (&ObjectId, &Object)> {
        self.objects.iter().map(|(id, object)| (id, &**object))
    }

    /// How many objects there are.
    pub fn object_count(&self) -> usize {
        self.objects.len()
    }

    /// The bytes of an object from `offset` on, clipped at its size.
    pub fn read(&self, id: &ObjectId, offset: u64, bytes: u64) -> Result<Vec<u8>, Why> {
        Ok(self.object(id)?.contents.read(offset, bytes))
    }

    /// The omap pairs of those keys that are there, in the order of the keys asked for.
    pub fn omap_get(&self, id: &ObjectId, keys: &[Bytes]) -> Result<Vec<(Bytes, Bytes)>, Why> {
        let omap = &self.object(id)?.omap;
        Ok(keys.iter().filter_map(|key| Some((key.clone(), omap.get(key)?.clone()))).collect())
    }

    /// Up to `limit` omap pairs from `from` (included) to `to` (not included; `None`: to the end).
    pub fn omap_range(
        &self,
        id: &ObjectId,
        from: &Bytes,
        to: Option<&Bytes>,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<(Bytes, Bytes)>, Why> {
        let omap = &self.object(id)?.omap;
        if to.is_some_and(|to| to <= from) {
            return Ok(Vec::new());
        }
        let range = omap
            .range((Bound::Included(from.clone()), to.cloned().map_or(Bound::Unbounded, Bound::Excluded)));
        let pairs = range.map(|(key, value)| (key.clone(), value.clone()));
        Ok(match direction {
            Direction::Up => pairs.take(limit).collect(),
            Direction::Down => pairs.rev().take(limit).collect(),
        })
    }

    /// Up to `limit` objects from `from` on, which is included.
    pub fn list(&self, from: Option<&ObjectId>, limit: usize) -> Vec<ObjectId> {
        let from = from.cloned().map_or(Bound::Unbounded, Bound::Included);
        self.objects.range((from, Bound::Unbounded)).take(limit).map(|(id, _)| id.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
