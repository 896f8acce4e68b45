//! Pools: what they are called, by the rows of the system pool's object "pools".
//!
//! Its omap has a pair for each pool: the name, and version u8 = 1 with the pool's id as a varint. While there are few they
//! lie inline in the onode.

use std::collections::BTreeMap;

use seabed_object::key::{self, Position};
use seabed_object::onode::OnodeRef;
use seabed_object::value::RowValue;
use seabed_types::{Cursor, PoolId, TreeKind};

/// The pool whose objects describe the store.
pub(crate) const SYSTEM_POOL: PoolId = PoolId(0);
const OBJECT: &[u8] = b"pools";
const VERSION: u8 = 1;

/// Names by id.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct PoolNames(BTreeMap<PoolId, Vec<u8>>);

impl PoolNames {
    /// Takes what a row of the system pool says of pools; all that is not understood says nothing.
    pub(crate) fn learn(&mut self, tree: TreeKind, key: &[u8], value: &[u8]) {
        match tree {
            TreeKind::Names => {
                let is_it = key::decode_names(key).is_ok_and(|id| id.name == OBJECT);
                if let (true, Ok(onode)) = (is_it, OnodeRef::decode(value)) {
                    onode.omap.iter().for_each(|(name, value)| self.pair(name, value));
                }
            }
            TreeKind::Bodies => {
                if let (Ok((_, Position::Omap(name))), Ok(RowValue::Inline(value))) =
                    (key::decode_bodies(key), RowValue::decode(value))
                {
                    self.pair(&name, value);
                }
            }
            TreeKind::Graves => {}
        }
    }

    fn pair(&mut self, name: &[u8], value: &[u8]) {
        let mut cursor = Cursor::new(value);
        let id = match cursor.u8("the version of a pool") {
            Ok(VERSION) => cursor.varint("the id of a pool"),
            _ => return,
        };
        if let (Ok(id), Ok(())) = (id, cursor.end("more after a pool")) {
            self.0.insert(PoolId(id), name.to_vec());
        }
    }

    /// What a pool is called, if that is known.
    pub(crate) fn name(&self, pool: PoolId) -> Option<&[u8]> {
        self.0.get(&pool).map(Vec::as_slice)
    }
}
