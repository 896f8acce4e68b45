//! Transaction: operations on objects of one collection, in order, all or nothing.
//!
//! A transaction names each object once and its operations by index, so that carrying it out needs no look-up by name.
//! Building one checks nothing; all rules are checked when it is carried out, and the first operation that breaks one
//! is named.
//!
//! ```
//! use seabed_object::{Condition, ObjectId, Transaction};
//! let cat = ObjectId::new("cat.jpg");
//! let mut txn = Transaction::new();
//! txn.expect(&cat, Condition::Exists).write(&cat, 8192, vec![1; 4096]).set_attr(&cat, "type", b"x");
//! assert_eq!((txn.objects().len(), txn.operations().len()), (1, 3));
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::data::IntoData;
use crate::id::ObjectId;

/// From so many objects on a transaction finds them by an ordered index.
const OBJECTS_SEARCHED: usize = 8;

/// What a client expects of an object's use; kept with it, advisory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hint {
    /// Bytes that the object is expected to reach; 0: unknown.
    pub object_bytes: u64,
    /// Bytes of a usual write; 0: unknown.
    pub write_bytes: u64,
    /// How it will be used.
    pub flags: HintFlags,
}

/// How an object will be used, as bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HintFlags(pub u32);

impl HintFlags {
    /// Writes come in order of their offsets.
    pub const SEQUENTIAL_WRITE: Self = Self(1);
    /// Writes come in any order.
    pub const RANDOM_WRITE: Self = Self(1 << 1);
    /// Reads come in order of their offsets.
    pub const SEQUENTIAL_READ: Self = Self(1 << 2);
    /// Reads come in any order.
    pub const RANDOM_READ: Self = Self(1 << 3);
    /// It only ever grows.
    pub const APPEND_ONLY: Self = Self(1 << 4);
    /// It is written once.
    pub const IMMUTABLE: Self = Self(1 << 5);
    /// It will be removed soon.
    pub const SHORT_LIVED: Self = Self(1 << 6);
    /// It will stay.
    pub const LONG_LIVED: Self = Self(1 << 7);
    /// Compression will pay.
    pub const COMPRESSIBLE: Self = Self(1 << 8);
    /// Compression will not pay.
    pub const INCOMPRESSIBLE: Self = Self(1 << 9);
    /// All of them.
    pub const ALL: Self = Self((1 << 10) - 1);

    /// These and those.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all bits mean something.
    pub const fn is_known(self) -> bool {
        self.0 & !Self::ALL.0 == 0
    }
}

/// What must hold for a transaction to be carried out. All but `Absent` fail if the object does not exist.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Condition {
    /// The object exists.
    Exists,
    /// The object does not exist.
    Absent,
    /// The object has this many bytes.
    Size(u64),
    /// The attribute has this value, or (`None`) does not exist.
    Attr {
        /// Its name.
        name: Bytes,
        /// The value expected.
        value: Option<Bytes>,
    },
    /// The omap key has this value, or (`None`) does not exist.
    Omap {
        /// The key.
        key: Bytes,
        /// The value expected.
        value: Option<Bytes>,
    },
}

/// What an operation does to its object, which must exist unless it says otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Op {
    /// Make it if it does not exist.
    Touch,
    /// Make it; it must not exist.
    Create,
    /// Put bytes at an offset, making the object if need be.
    Write {
        /// Where.
        offset: u64,
        /// What.
        data: Bytes,
    },
    /// Put bytes at its end, making the object if need be.
    Append {
        /// What.
        data: Bytes,
    },
    /// Make a range zeros and free its space, making the object if need be.
    Zero {
        /// From where.
        offset: u64,
        /// How many bytes.
        bytes: u64,
    },
    /// Set its size.
    Truncate {
        /// Bytes it has afterwards.
        size: u64,
    },
    /// Remove all of it; fine if it does not exist.
    Remove,
    /// Set attributes.
    SetAttrs {
        /// Names and values.
        pairs: SmallVec<[(Bytes, Bytes); 1]>,
    },
    /// Remove an attribute; fine if there is none.
    RemoveAttr {
        /// Its name.
        name: Bytes,
    },
    /// Set omap pairs.
    OmapInsert {
        /// Keys and values.
        pairs: Vec<(Bytes, Bytes)>,
    },
    /// Remove omap pairs; absent ones are fine.
    OmapRemove {
        /// Their keys.
        keys: Vec<Bytes>,
    },
    /// Remove the omap pairs of an interval.
    OmapRemoveRange {
        /// First key that goes.
        from: Bytes,
        /// First key that stays.
        to: Bytes,
    },
    /// Remove all omap pairs and the omap header.
    OmapClear,
    /// Set the omap header; an empty one is as good as none.
    OmapSetHeader {
        /// Its bytes.
        header: Bytes,
    },
    /// Say how it will be used.
    SetHint {
        /// How.
        hint: Hint,
    },
    /// Do nothing, but let the transaction fail if this does not hold.
    Expect {
        /// What must hold.
        condition: Condition,
    },
}

impl Op {
    /// Whether it can only free space.
    pub const fn only_removes(&self) -> bool {
        match self {
            Self::Remove
            | Self::Truncate { .. }
            | Self::RemoveAttr { .. }
            | Self::OmapRemove { .. }
            | Self::OmapRemoveRange { .. }
            | Self::OmapClear
            | Self::Expect { .. } => true,
            Self::Touch
            | Self::Create
            | Self::Write { .. }
            | Self::Append { .. }
            | Self::Zero { .. }
            | Self::SetAttrs { .. }
            | Self::OmapInsert { .. }
            | Self::OmapSetHeader { .. }
            | Self::SetHint { .. } => false,
        }
    }
}

/// One step of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Index of its object in [`Transaction::objects`].
    pub object: usize,
    /// What is done.
    pub op: Op,
}

/// Operations in order, all or nothing. Built by calls that chain.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    objects: SmallVec<[ObjectId; 1]>,
    operations: SmallVec<[Operation; 2]>,
    /// Index of each object, kept from [`OBJECTS_SEARCHED`] objects on.
    index: BTreeMap<ObjectId, usize>,
}

impl Transaction {
    /// No operation yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The objects, each once.
    pub fn objects(&self) -> &[ObjectId] {
        &self.objects
    }

    /// The operations in order.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The first operation whose object's hash is not in the collection that `holds` describes.
    pub fn first_outside(&self, holds: impl Fn(u32) -> bool) -> Option<usize> {
        self.operations.iter().position(|operation| !holds(self.objects[operation.object].hash))
    }

    /// Bytes of data, names and values that it carries: what admission reserves for.
    pub fn payload_bytes(&self) -> usize {
        self.operations.iter().map(|operation| operation.op.payload_bytes()).sum()
    }

    /// Makes the object if it does not exist.
    pub fn touch(&mut self, object: &ObjectId) -> &mut Self {
        self.push(object, Op::Touch)
    }

    /// Makes the object, which must not exist.
    pub fn create(&mut self, object: &ObjectId) -> &mut Self {
        self.push(object, Op::Create)
    }

    /// Puts `data` at `offset`; a gap before it reads as zeros. Without data the object is made and nothing else.
    pub fn write(&mut self, object: &ObjectId, offset: u64, data: impl IntoData) -> &mut Self {
        self.push(object, Op::Write { offset, data: data.into_data() })
    }

    /// Puts `data` at the end.
    pub fn append(&mut self, object: &ObjectId, data: impl IntoData) -> &mut Self {
        self.push(object, Op::Append { data: data.into_data() })
    }

    /// Makes `bytes` bytes from `offset` on zeros, freeing their space; the object grows to their end.
    pub fn zero(&mut self, object: &ObjectId, offset: u64, bytes: u64) -> &mut Self {
        self.push(object, Op::Zero { offset, bytes })
    }

    /// Sets the size of the object, which must exist.
    pub fn truncate(&mut self, object: &ObjectId, size: u64) -> &mut Self {
        self.push(object, Op::Truncate { size })
    }

    /// Removes the object if it exists.
    pub fn remove(&mut self, object: &ObjectId) -> &mut Self {
        self.push(object, Op::Remove)
    }

    /// Sets one attribute of the object, which must exist.
    pub fn set_attr(&mut self, object: &ObjectId, name: impl IntoData, value: impl IntoData) -> &mut Self {
        self.set_attrs(object, [(name, value)])
    }

    /// Sets attributes of the object, which must exist.
    pub fn set_attrs<N: IntoData, V: IntoData>(
        &mut self,
        object: &ObjectId,
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> &mut Self {
        let pairs = pairs.into_iter().map(|(name, value)| (name.into_data(), value.into_data())).collect();
        self.push(object, Op::SetAttrs { pairs })
    }

    /// Removes an attribute of the object, which must exist.
    pub fn remove_attr(&mut self, object: &ObjectId, name: impl IntoData) -> &mut Self {
        self.push(object, Op::RemoveAttr { name: name.into_data() })
    }

    /// Sets omap pairs of the object, which must exist.
    pub fn omap_insert<K: IntoData, V: IntoData>(
        &mut self,
        object: &ObjectId,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> &mut Self {
        let pairs = pairs.into_iter().map(|(key, value)| (key.into_data(), value.into_data())).collect();
        self.push(object, Op::OmapInsert { pairs })
    }

    /// Removes omap pairs of the object, which must exist.
    pub fn omap_remove<K: IntoData>(
        &mut self,
        object: &ObjectId,
        keys: impl IntoIterator<Item = K>,
    ) -> &mut Self {
        let keys = keys.into_iter().map(IntoData::into_data).collect();
        self.push(object, Op::OmapRemove { keys })
    }

    /// Removes the omap pairs from `from` (inclusive) to `to` (exclusive) of the object, which must exist.
    pub fn omap_remove_range(
        &mut self,
        object: &ObjectId,
        from: impl IntoData,
        to: impl IntoData,
    ) -> &mut Self {
        self.push(object, Op::OmapRemoveRange { from: from.into_data(), to: to.into_data() })
    }

    /// Removes all omap pairs and the omap header of the object, which must exist.
    pub fn omap_clear(&mut self, object: &ObjectId) -> &mut Self {
        self.push(object, Op::OmapClear)
    }

    /// Sets the omap header of the object, which must exist.
    pub fn omap_set_header(&mut self, object: &ObjectId, header: impl IntoData) -> &mut Self {
        self.push(object, Op::OmapSetHeader { header: header.into_data() })
    }

    /// Says how the object, which must exist, will be used.
    pub fn set_hint(&mut self, object: &ObjectId, hint: Hint) -> &mut Self {
        self.push(object, Op::SetHint { hint })
    }

    /// Refuses the transaction if `condition` does not hold at this point of it.
    pub fn expect(&mut self, object: &ObjectId, condition: Condition) -> &mut Self {
        self.push(object, Op::Expect { condition })
    }

    /// Replaces the whole object by `data` and attributes.
    pub fn put<N: IntoData, V: IntoData>(
        &mut self,
        object: &ObjectId,
        data: impl IntoData,
        attrs: impl IntoIterator<Item = (N, V)>,
    ) -> &mut Self {
        self.remove(object).write(object, 0, data);
        let pairs: SmallVec<[_; 1]> =
            attrs.into_iter().map(|(name, value)| (name.into_data(), value.into_data())).collect();
        if pairs.is_empty() { self } else { self.push(object, Op::SetAttrs { pairs }) }
    }

    /// Adds an operation.
    pub fn push(&mut self, object: &ObjectId, op: Op) -> &mut Self {
        let object = self.object(object);
        self.operations.push(Operation { object, op });
        self
    }

    /// Whether all its operations can only free space, so that it may use the space reserved for removals.
    pub fn only_removes(&self) -> bool {
        self.operations.iter().all(|operation| operation.op.only_removes())
    }

    /// Replaces what operation `index` does, on the same object.
    pub(crate) fn replace(&mut self, index: usize, op: Op) {
        self.operations[index].op = op;
    }

    fn object(&mut self, object: &ObjectId) -> usize {
        if self.objects.len() < OBJECTS_SEARCHED {
            if let Some(index) = self.objects.iter().rposition(|known| known == object) {
                return index;
            }
        } else {
            if self.index.is_empty() {
                self.index.extend(self.objects.iter().cloned().zip(0..));
            }
            if let Some(index) = self.index.get(object) {
                return *index;
            }
            self.index.insert(object.clone(), self.objects.len());
        }
        self.objects.push(object.clone());
        self.objects.len() - 1
    }
}

impl Op {
    /// What it counts for in [`crate::Limits::items_max`]: the pairs or keys that it names, and one for all else.
    pub(crate) fn items(&self) -> usize {
        match self {
            Self::SetAttrs { pairs } => pairs.len().max(1),
            Self::OmapInsert { pairs } => pairs.len().max(1),
            Self::OmapRemove { keys } => keys.len().max(1),
            Self::Touch
            | Self::Create
            | Self::Write { .. }
            | Self::Append { .. }
            | Self::Zero { .. }
            | Self::Truncate { .. }
            | Self::Remove
            | Self::RemoveAttr { .. }
            | Self::OmapRemoveRange { .. }
            | Self::OmapClear
            | Self::OmapSetHeader { .. }
            | Self::SetHint { .. }
            | Self::Expect { .. } => 1,
        }
    }

    fn payload_bytes(&self) -> usize {
        let pairs =
            |pairs: &[(Bytes, Bytes)]| pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
        match self {
            Self::Write { data, .. } | Self::Append { data } | Self::OmapSetHeader { header: data } => {
                data.len()
            }
            Self::SetAttrs { pairs: attrs } => pairs(attrs),
            Self::OmapInsert { pairs: omap } => pairs(omap),
            Self::RemoveAttr { name } => name.len(),
            Self::OmapRemove { keys } => keys.iter().map(Bytes::len).sum(),
            Self::OmapRemoveRange { .. }
            | Self::Touch
            | Self::Create
            | Self::Zero { .. }
            | Self::Truncate { .. }
            | Self::Remove
            | Self::OmapClear
            | Self::SetHint { .. }
            | Self::Expect { .. } => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_does_not_make_a_removal_one_that_stores() {
        let id = ObjectId::new("a");
        let mut txn = Transaction::new();
        txn.push(&id, Op::Expect { condition: Condition::Exists }).push(&id, Op::Truncate { size: 1 });
        txn.push(&id, Op::Remove);
        assert!(txn.only_removes());
        txn.push(&id, Op::Zero { offset: 0, bytes: 1 });
        assert!(!txn.only_removes(), "zeroing makes an object that does not exist");
    }

    #[test]
    fn each_object_once() {
        let mut txn = Transaction::new();
        for round in 0..3 {
            for i in 0..20 {
                txn.write(&ObjectId::new(format!("{i}")), round, b"x");
            }
        }
        assert_eq!(txn.objects().len(), 20);
        for (i, operation) in txn.operations().iter().enumerate() {
            assert_eq!(operation.object, i % 20);
        }
        assert_eq!(txn.first_outside(|hash| hash != txn.objects()[7].hash), Some(7));
    }
}
