//! Collection ids and tallies: the small values that records and checkpoint bodies share.

use std::fmt;

use seabed_types::{Cursor, Malformed, PoolId, put_signed, put_varint};

/// A collection: the objects of a pool whose bit-reversed hash begins with `bits` bits of `prefix`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CollectionId {
    /// The pool.
    pub pool: PoolId,
    /// The first `bits` bits of the reversed hash, in the high bits; the others are zero.
    pub prefix: u32,
    /// How many bits are fixed: 0 for the whole pool, at most 32.
    pub bits: u8,
}

impl CollectionId {
    /// The one collection of an unsplit pool.
    pub const fn whole(pool: PoolId) -> Self {
        Self { pool, prefix: 0, bits: 0 }
    }

    /// Whether an object whose reversed hash is `reversed` belongs here.
    pub fn covers(&self, reversed: u32) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
        reversed & mask == self.prefix
    }

    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        put_varint(to, self.pool.0);
        to.push(self.bits);
        put_varint(to, u64::from(self.prefix.reverse_bits()));
    }

    pub(crate) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let pool = PoolId(cursor.varint("collection: pool")?);
        let bad = cursor.malformed("collection: hash interval");
        let bits = cursor.u8("collection: bits")?;
        let prefix = cursor.varint_u32("collection: prefix")?.reverse_bits();
        let id = Self { pool, prefix, bits };
        if bits <= 32 && id.covers(prefix) { Ok(id) } else { Err(bad) }
    }
}

impl fmt::Display for CollectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:08x}.{}", self.pool, self.prefix, self.bits)
    }
}

/// What is counted per collection; as totals in a checkpoint body, as changes in a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Objects that can be named.
    pub objects: i64,
    /// Sum of their sizes.
    pub stored: i64,
    /// Bytes of pieces that rows point to.
    pub allocated: i64,
    /// Of those, what is compressed, before compression.
    pub compressed: i64,
    /// Bytes of omap rows.
    pub omap: i64,
    /// Bytes of all other rows.
    pub metadata: i64,
}

impl Tally {
    fn fields(&self) -> [i64; 6] {
        [self.objects, self.stored, self.allocated, self.compressed, self.omap, self.metadata]
    }

    /// Adds `change`, wrapping: totals are sums of changes that a check recomputes.
    pub fn add(&mut self, change: &Self) {
        let [objects, stored, allocated, compressed, omap, metadata] = change.fields();
        self.objects = self.objects.wrapping_add(objects);
        self.stored = self.stored.wrapping_add(stored);
        self.allocated = self.allocated.wrapping_add(allocated);
        self.compressed = self.compressed.wrapping_add(compressed);
        self.omap = self.omap.wrapping_add(omap);
        self.metadata = self.metadata.wrapping_add(metadata);
    }

    /// Takes `change` off again.
    pub fn take_off(&mut self, change: &Self) {
        let [objects, stored, allocated, compressed, omap, metadata] = change.fields().map(i64::wrapping_neg);
        self.add(&Self { objects, stored, allocated, compressed, omap, metadata });
    }

    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        for field in self.fields() {
            put_signed(to, field);
        }
    }

    pub(crate) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            objects: cursor.signed("tally: objects")?,
            stored: cursor.signed("tally: stored")?,
            allocated: cursor.signed("tally: allocated")?,
            compressed: cursor.signed("tally: compressed")?,
            omap: cursor.signed("tally: omap")?,
            metadata: cursor.signed("tally: metadata")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_cover_their_hashes() {
        let whole = CollectionId::whole(PoolId(1));
        assert!(whole.covers(0) && whole.covers(u32::MAX));
        let half = CollectionId { pool: PoolId(1), prefix: 1 << 31, bits: 1 };
        assert!(half.covers(u32::MAX) && !half.covers(0));
        let one = CollectionId { pool: PoolId(1), prefix: 77, bits: 32 };
        assert!(one.covers(77) && !one.covers(76));
        for id in [whole, half, one] {
            let mut bytes = Vec::new();
            id.encode(&mut bytes);
            assert_eq!(CollectionId::decode(&mut Cursor::new(&bytes)), Ok(id));
        }
        assert!(
            CollectionId::decode(&mut Cursor::new(&[1, 0, 1])).is_err(),
            "prefix bits outside the interval"
        );
        assert!(CollectionId::decode(&mut Cursor::new(&[1, 33, 0])).is_err());
    }
}
