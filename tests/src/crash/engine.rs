//! The engine seen from the model: operations, refusals and answers of one put into the words of the other.

use seabed::{Error, LocalPool, LocalStore, Refused, Transaction};
use seabed_object as object;

use super::program::Read;
use crate::model::{Condition, Direction, Hint, Model, Object, ObjectId, Op, Why};

type Shared = crate::model::Bytes;

fn bytes(from: &Shared) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(from)
}

fn shared(from: &bytes::Bytes) -> Shared {
    from[..].into()
}

/// An id in the engine's words.
pub(super) fn id_of(id: &ObjectId) -> object::ObjectId {
    object::ObjectId {
        hash: id.hash,
        namespace: bytes(&id.namespace),
        name: bytes(&id.name),
        snap: id.snap,
        generation: id.generation,
    }
}

fn id_from(id: &object::ObjectId) -> ObjectId {
    ObjectId {
        hash: id.hash,
        namespace: shared(&id.namespace),
        name: shared(&id.name),
        snap: id.snap,
        generation: id.generation,
    }
}

fn pairs(from: &[(Shared, Shared)]) -> Vec<(bytes::Bytes, bytes::Bytes)> {
    from.iter().map(|(name, value)| (bytes(name), bytes(value))).collect()
}

fn shared_pairs(from: &[(bytes::Bytes, bytes::Bytes)]) -> Vec<(Shared, Shared)> {
    from.iter().map(|(name, value)| (shared(name), shared(value))).collect()
}

fn op_of(op: &Op) -> object::Op {
    match op {
        Op::Touch => object::Op::Touch,
        Op::Create => object::Op::Create,
        Op::Write(offset, data) => object::Op::Write { offset: *offset, data: bytes(data) },
        Op::Append(data) => object::Op::Append { data: bytes(data) },
        Op::Zero(offset, bytes) => object::Op::Zero { offset: *offset, bytes: *bytes },
        Op::Truncate(size) => object::Op::Truncate { size: *size },
        Op::Remove => object::Op::Remove,
        Op::SetAttributes(attributes) => {
            object::Op::SetAttrs { pairs: pairs(attributes).into_iter().collect() }
        }
        Op::RemoveAttribute(name) => object::Op::RemoveAttr { name: bytes(name) },
        Op::OmapInsert(omap) => object::Op::OmapInsert { pairs: pairs(omap) },
        Op::OmapRemove(keys) => object::Op::OmapRemove { keys: keys.iter().map(bytes).collect() },
        Op::OmapRemoveRange(from, to) => object::Op::OmapRemoveRange { from: bytes(from), to: bytes(to) },
        Op::OmapClear => object::Op::OmapClear,
        Op::OmapSetHeader(header) => object::Op::OmapSetHeader { header: bytes(header) },
        Op::SetHint(hint) => object::Op::SetHint {
            hint: object::Hint {
                object_bytes: hint.object_bytes,
                write_bytes: hint.write_bytes,
                flags: object::HintFlags(hint.flags),
            },
        },
        Op::Expect(condition) => object::Op::Expect {
            condition: match condition {
                Condition::Exists => object::Condition::Exists,
                Condition::Absent => object::Condition::Absent,
                Condition::Size(size) => object::Condition::Size(*size),
                Condition::Attribute(name, value) => {
                    object::Condition::Attr { name: bytes(name), value: value.as_ref().map(bytes) }
                }
                Condition::Omap(key, value) => {
                    object::Condition::Omap { key: bytes(key), value: value.as_ref().map(bytes) }
                }
            },
        },
    }
}

/// A transaction in the engine's words.
pub(super) fn transaction_of(operations: &[(ObjectId, Op)]) -> Transaction {
    let mut transaction = Transaction::new();
    for (id, op) in operations {
        transaction.push(&id_of(id), op_of(op));
    }
    transaction
}

/// How a submission ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// It is done and durable.
    Done,
    /// The model must say the same.
    Refused(usize, Why),
    /// There was no room for it; the model knows no room. Nothing was applied.
    NoRoom,
    /// What may never happen without faults.
    Failed(Error),
}

impl Outcome {
    /// What can be said of a submission that may have met a planned fault: none if nobody knows whether it was applied.
    pub(super) fn of_fault(self) -> Option<Self> {
        match self {
            // The record may be there, or will never be: a mount decides.
            Self::Failed(Error::Fenced(_) | Error::Closed) => None,
            // What it would have had to look at could not be read, or its bulk data not be written.
            Self::Failed(_) => Some(Self::NoRoom),
            known @ (Self::Done | Self::Refused(..) | Self::NoRoom) => Some(known),
        }
    }
}

/// An answer to a submission in the model's words.
pub(super) fn outcome_of(result: Result<(), Error>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(Error::NoSpace { .. } | Error::TooLarge { .. }) => Outcome::NoRoom,
        Err(Error::Refused { op, why }) => match why {
            Refused::NotFound => Outcome::Refused(op, Why::NotFound),
            Refused::AlreadyExists => Outcome::Refused(op, Why::AlreadyExists),
            Refused::PreconditionFailed => Outcome::Refused(op, Why::PreconditionFailed),
            Refused::Invalid { .. } => Outcome::Refused(op, Why::Invalid),
            Refused::TooLarge { .. } | _ => Outcome::NoRoom,
        },
        Err(error) => Outcome::Failed(error),
    }
}

/// An answer to a read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// There is no such object.
    Missing,
    Bytes(Vec<u8>),
    Stat {
        size: u64,
        attributes: u64,
        omap: u64,
        hint: Hint,
    },
    Pairs(Vec<(Shared, Shared)>),
    Names(Vec<ObjectId>),
}

/// Asks the engine.
pub(super) async fn ask(pool: &LocalPool, read: &Read) -> Result<Answer, Error> {
    let answer = match read {
        Read::Bytes(id, offset, count) => {
            pool.read(id_of(id), *offset, *count).await.map(|bytes| Answer::Bytes(bytes.to_vec()))
        }
        Read::Stat(id) => pool.stat(id_of(id)).await.map(|stat| Answer::Stat {
            size: stat.size,
            attributes: stat.attributes,
            omap: stat.omap,
            hint: hint_from(stat.hint),
        }),
        Read::Attributes(id) => pool.attrs(id_of(id)).await.map(|attrs| Answer::Pairs(shared_pairs(&attrs))),
        Read::Omap { id, from, to, limit, direction } => {
            let direction = match direction {
                Direction::Up => object::Direction::Forward,
                Direction::Down => object::Direction::Backward,
            };
            let page = pool.omap_range(id_of(id), (from, to.as_deref()), *limit, direction).await;
            page.map(|page| Answer::Pairs(shared_pairs(&page.pairs)))
        }
        Read::OmapKeys(id, keys) => {
            let keys: Vec<Vec<u8>> = keys.iter().map(|key| key.to_vec()).collect();
            pool.omap_get(id_of(id), &keys).await.map(|found| Answer::Pairs(shared_pairs(&found)))
        }
        Read::List(from, limit) => {
            let page = pool.list_page(from.as_ref().map(id_of), *limit).await;
            page.and_then(|page| match page.damaged.into_iter().next() {
                Some(damaged) => Err(damaged.error),
                None => Ok(Answer::Names(page.objects.iter().map(id_from).collect())),
            })
        }
    };
    match answer {
        Err(Error::NotFound) => Ok(Answer::Missing),
        answer => answer,
    }
}

/// What the model answers; None if the pool does not exist.
pub(super) fn expected(state: Option<&Model>, read: &Read) -> Option<Answer> {
    let pool = state?.pool(1).ok()?;
    let pairs = |pairs: Vec<(Shared, Shared)>| Answer::Pairs(pairs);
    let answer = match read {
        Read::Bytes(id, offset, count) => pool.read(id, *offset, *count).map(Answer::Bytes),
        Read::Stat(id) => pool.object(id).map(|object| Answer::Stat {
            size: object.contents.size(),
            attributes: object.attributes.len() as u64,
            omap: object.omap.len() as u64,
            hint: object.hint,
        }),
        Read::Attributes(id) => pool.object(id).map(|object| {
            pairs(object.attributes.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
        }),
        Read::Omap { id, from, to, limit, direction } => {
            pool.omap_range(id, from, to.as_ref(), *limit, *direction).map(pairs)
        }
        Read::OmapKeys(id, keys) => pool.omap_get(id, keys).map(pairs),
        Read::List(from, limit) => Ok(Answer::Names(pool.list(from.as_ref(), *limit))),
    };
    Some(answer.unwrap_or(Answer::Missing))
}

fn hint_from(hint: object::Hint) -> Hint {
    Hint { object_bytes: hint.object_bytes, write_bytes: hint.write_bytes, flags: hint.flags.0 }
}

/// All of a pool, read through the engine; None if there is no such pool.
pub(super) async fn dump(store: &LocalStore, name: &str) -> Result<Option<Vec<(ObjectId, Object)>>, Error> {
    let pool = match store.pool(name).await {
        Err(Error::NoSuchPool { .. }) => return Ok(None),
        pool => pool?,
    };
    let mut all = Vec::new();
    let mut from = None;
    loop {
        let page = pool.list_page(from, 5).await?;
        if let Some(damaged) = page.damaged.into_iter().next() {
            return Err(damaged.error);
        }
        for id in &page.objects {
            all.push((id_from(id), dump_object(&pool, id).await?));
        }
        from = page.next;
        if from.is_none() {
            return Ok(Some(all));
        }
    }
}

pub(super) async fn dump_object(pool: &LocalPool, id: &object::ObjectId) -> Result<Object, Error> {
    let stat = pool.stat(id.clone()).await?;
    let mut dumped = Object { hint: hint_from(stat.hint), ..Object::default() };
    let data = pool.get(id.clone()).await?;
    dumped.contents.write(0, &data);
    dumped.attributes = shared_pairs(&pool.attrs(id.clone()).await?).into_iter().collect();
    dumped.omap_header = shared(&pool.omap_header(id.clone()).await?);
    let mut from = Some(bytes::Bytes::new());
    while let Some(start) = from {
        let page = pool.omap_range(id.clone(), (&start, None), 30, object::Direction::Forward).await?;
        dumped.omap.extend(shared_pairs(&page.pairs));
        from = page.next;
    }
    let counts = (dumped.contents.size(), dumped.attributes.len() as u64, dumped.omap.len() as u64);
    if counts != (stat.size, stat.attributes, stat.omap) {
        return Err(Error::Corrupt { at: None, what: "the counts of an object are not those of its parts" });
    }
    Ok(dumped)
}
