//! Model: what objects are, said plainly, to compare with.

use std::collections::BTreeMap;

use bytes::Bytes;
use seabed_object::{Condition, Hint, Limits, ObjectId, Op, Refused, Transaction};

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Object {
    pub(crate) data: Vec<u8>,
    pub(crate) attrs: BTreeMap<Bytes, Bytes>,
    pub(crate) header: Bytes,
    pub(crate) omap: BTreeMap<Bytes, Bytes>,
    pub(crate) hint: Hint,
}

pub(crate) type Model = BTreeMap<ObjectId, Object>;

/// The objects that `txn` names, after it; or which operation it breaks at and why.
pub(crate) fn apply(
    model: &Model,
    txn: &Transaction,
    limits: &Limits,
) -> Result<BTreeMap<ObjectId, Option<Object>>, (usize, Refused)> {
    let mut objects: Vec<Option<Object>> = txn.objects().iter().map(|id| model.get(id).cloned()).collect();
    for (index, operation) in txn.operations().iter().enumerate() {
        limits.check_id(&txn.objects()[operation.object]).map_err(|why| (index, why))?;
        step(&mut objects[operation.object], &operation.op, limits).map_err(|why| (index, why))?;
    }
    Ok(txn.objects().iter().cloned().zip(objects).collect())
}

fn step(object: &mut Option<Object>, op: &Op, limits: &Limits) -> Result<(), Refused> {
    let invalid = |bad: bool| if bad { Err(Refused::Invalid { what: "" }) } else { Ok(()) };
    let fits = |offset: u64, bytes: u64| invalid(offset.checked_add(bytes).is_none_or(|end| end > 1 << 50));
    let small = |offset: u64| usize::try_from(offset).expect("small");
    match op {
        Op::Touch => {
            object.get_or_insert_default();
        }
        Op::Create => {
            if object.is_some() {
                return Err(Refused::AlreadyExists);
            }
            *object = Some(Object::default());
        }
        Op::Write { offset, data } => {
            fits(*offset, data.len() as u64)?;
            write(object.get_or_insert_default(), small(*offset), data);
        }
        Op::Append { data } => {
            let object = object.get_or_insert_default();
            write(object, object.data.len(), data);
        }
        Op::Zero { offset, bytes } => {
            fits(*offset, *bytes)?;
            write(object.get_or_insert_default(), small(*offset), &vec![0; small(*bytes)]);
        }
        Op::Truncate { size } => {
            fits(*size, 0)?;
            object.as_mut().ok_or(Refused::NotFound)?.data.resize(small(*size), 0);
        }
        Op::Remove => *object = None,
        Op::Expect { condition } => {
            match condition {
                Condition::Attr { name, .. } => invalid(name.is_empty() || name.len() > 256)?,
                Condition::Omap { key, .. } => limits.check_omap_key(key)?,
                Condition::Exists | Condition::Absent | Condition::Size(_) => {}
                _ => unreachable!("a condition that the model does not know"),
            }
            if !holds(object.as_ref(), condition) {
                return Err(Refused::PreconditionFailed);
            }
        }
        Op::SetAttrs { pairs } => {
            let bad = |(name, value): &(Bytes, Bytes)| {
                name.is_empty() || name.len() > 256 || value.len() > (64 << 10).min(limits.segment_bytes / 8)
            };
            invalid(pairs.iter().any(bad))?;
            object.as_mut().ok_or(Refused::NotFound)?.attrs.extend(pairs.iter().cloned());
        }
        Op::RemoveAttr { name } => {
            invalid(name.is_empty() || name.len() > 256)?;
            object.as_mut().ok_or(Refused::NotFound)?.attrs.remove(name);
        }
        Op::OmapInsert { pairs } => {
            invalid(pairs.iter().any(|(_, value)| value.len() > (1 << 20).min(limits.segment_bytes / 8)))?;
            pairs.iter().try_for_each(|(key, _)| limits.check_omap_key(key))?;
            object.as_mut().ok_or(Refused::NotFound)?.omap.extend(pairs.iter().cloned());
        }
        Op::OmapRemove { keys } => {
            keys.iter().try_for_each(|key| limits.check_omap_key(key))?;
            let object = object.as_mut().ok_or(Refused::NotFound)?;
            object.omap.retain(|key, _| !keys.contains(key));
        }
        Op::OmapRemoveRange { from, to } => {
            invalid(from > to)?;
            let object = object.as_mut().ok_or(Refused::NotFound)?;
            object.omap.retain(|key, _| key < from || key >= to);
        }
        Op::OmapClear => {
            let object = object.as_mut().ok_or(Refused::NotFound)?;
            object.omap.clear();
            object.header = Bytes::new();
        }
        Op::OmapSetHeader { header } => {
            invalid(header.len() > (64 << 10).min(limits.segment_bytes / 8))?;
            object.as_mut().ok_or(Refused::NotFound)?.header = header.clone();
        }
        Op::SetHint { hint } => {
            invalid(!hint.flags.is_known())?;
            object.as_mut().ok_or(Refused::NotFound)?.hint = *hint;
        }
        _ => unreachable!("an operation that the model does not know"),
    }
    Ok(())
}

fn holds(object: Option<&Object>, condition: &Condition) -> bool {
    match (object, condition) {
        (object, Condition::Absent) => object.is_none(),
        (None, _) => false,
        (Some(_), Condition::Exists) => true,
        (Some(object), Condition::Size(size)) => object.data.len() as u64 == *size,
        (Some(object), Condition::Attr { name, value }) => object.attrs.get(name) == value.as_ref(),
        (Some(object), Condition::Omap { key, value }) => object.omap.get(key) == value.as_ref(),
        (Some(_), _) => unreachable!("a condition that the model does not know"),
    }
}

fn write(object: &mut Object, offset: usize, data: &[u8]) {
    if !data.is_empty() {
        let end = offset + data.len();
        object.data.resize(object.data.len().max(end), 0);
        object.data[offset..end].copy_from_slice(data);
    }
}
