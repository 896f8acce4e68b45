//! Program: random transactions, of kinds that meet one another: few names, few keys, offsets near the edges of chunks.

use bytes::Bytes;
use fastrand::Rng;
use seabed_object::{Condition, Hint, HintFlags, ObjectId, Op, Transaction};

use super::model::Model;

pub(crate) fn object(rng: &mut Rng) -> ObjectId {
    let id = ObjectId::new(format!("object {}", rng.u32(..3)));
    match rng.u32(..8) {
        0 => id.in_namespace("space"),
        1 => id.with_hash(7),
        2 => id.with_snap(rng.u64(..2)),
        3 => id.with_generation(1000),
        _ => id,
    }
}

pub(crate) fn transaction(rng: &mut Rng, model: &Model) -> Transaction {
    let mut txn = Transaction::new();
    for _ in 0..[1, 1, 1, 2, 3, 6][rng.usize(..6)] {
        let id = if rng.u32(..3) > 0 && !txn.is_empty() { txn.objects()[0].clone() } else { object(rng) };
        let size = model.get(&id).map_or(0, |object| object.data.len());
        if rng.u32(..30) == 0 {
            txn.put(&id, data(rng), [("name", small(rng))]);
        } else {
            txn.push(&id, op(rng, &id, model, size));
        }
    }
    txn
}

fn op(rng: &mut Rng, id: &ObjectId, model: &Model, size: usize) -> Op {
    match rng.u32(..100) {
        0..3 => Op::Touch,
        3..5 => Op::Create,
        5..32 => Op::Write { offset: offset(rng, size), data: data(rng) },
        32..40 => Op::Append { data: data(rng) },
        40..48 => Op::Zero { offset: offset(rng, size), bytes: offset(rng, size) },
        48..55 => Op::Truncate { size: if rng.u32(..4) == 0 { 0 } else { offset(rng, size) } },
        55..58 => Op::Remove,
        58..66 => Op::SetAttrs { pairs: (0..rng.usize(..3)).map(|_| (name(rng), value(rng))).collect() },
        66..70 => Op::RemoveAttr { name: name(rng) },
        70..82 => Op::OmapInsert { pairs: (0..rng.usize(..6)).map(|_| (name(rng), value(rng))).collect() },
        82..86 => Op::OmapRemove { keys: (0..rng.usize(..4)).map(|_| name(rng)).collect() },
        86..89 => {
            let (from, to) = (name(rng), name(rng));
            if from > to && rng.u32(..20) > 0 {
                return Op::OmapRemoveRange { from: to, to: from };
            }
            Op::OmapRemoveRange { from, to }
        }
        89..90 => Op::OmapClear,
        90..93 => Op::OmapSetHeader { header: value(rng) },
        93..95 => {
            let flags = HintFlags(rng.u32(..1100) * rng.u32(..2));
            Op::SetHint { hint: Hint { object_bytes: rng.u64(..3) << 20, write_bytes: rng.u64(..2), flags } }
        }
        _ => Op::Expect { condition: condition(rng, id, model) },
    }
}

fn condition(rng: &mut Rng, id: &ObjectId, model: &Model) -> Condition {
    let object = model.get(id);
    let (name, is_true) = (name(rng), rng.u32(..8) > 0);
    match rng.u32(..5) {
        0 => Condition::Exists,
        1 => Condition::Absent,
        2 => Condition::Size(object.map_or(0, |object| object.data.len() as u64)),
        3 => {
            let known = object.and_then(|object| object.attrs.get(&name).cloned());
            Condition::Attr { value: if is_true { known } else { Some(value(rng)) }, name }
        }
        _ => {
            let known = object.and_then(|object| object.omap.get(&name).cloned());
            Condition::Omap { value: if is_true { known } else { Some(value(rng)) }, key: name }
        }
    }
}

/// Near the edges of chunks, of rows, and of what there is.
fn offset(rng: &mut Rng, size: usize) -> u64 {
    let far = [65_536, 69_632, 131_072, 200_000];
    let near = [0, 0, 512, 4096, 8192, 20_480, size, size, size, far[rng.usize(..4)]][rng.usize(..10)];
    let near = if rng.bool() { near } else { near + rng.usize(..40) };
    near.saturating_sub(if rng.u32(..4) == 0 { rng.usize(..40) } else { 0 }).min(300_000) as u64
}

fn data(rng: &mut Rng) -> Bytes {
    let bytes = match rng.u32(..40) {
        0..16 => rng.usize(..40),
        16..24 => rng.usize(..600),
        24..30 => 4096,
        30..34 => rng.usize(..9000),
        34..36 => 8192,
        36 if rng.bool() => 65_536,
        37 if rng.bool() => rng.usize(..140_000),
        _ => rng.usize(..2000),
    };
    filled(rng, bytes)
}

pub(crate) fn filled(rng: &mut Rng, bytes: usize) -> Bytes {
    let (start, step) = (rng.u64(..), rng.u64(..) | 1);
    let mut data = vec![0; bytes];
    for (i, word) in (0u64..).zip(data.chunks_mut(8)) {
        word.copy_from_slice(&(start ^ i.wrapping_mul(step)).to_le_bytes()[..word.len()]);
    }
    data.into()
}

pub(crate) fn small(rng: &mut Rng) -> Bytes {
    let bytes = rng.usize(..30);
    filled(rng, bytes)
}

fn value(rng: &mut Rng) -> Bytes {
    match rng.u32(..12) {
        0..9 => small(rng),
        9..11 => {
            let bytes = rng.usize(..700);
            filled(rng, bytes)
        }
        _ => {
            let bytes = rng.usize(..9000);
            filled(rng, bytes)
        }
    }
}

pub(crate) fn name(rng: &mut Rng) -> Bytes {
    let number = rng.u8(..12);
    match rng.u32(..12) {
        0 => vec![0; usize::from(number) + 1].into(),
        1 => vec![number; 250].into(),
        2 if number < 2 => vec![1; usize::from(number) * 300].into(),
        _ => format!("k{number}").into(),
    }
}
