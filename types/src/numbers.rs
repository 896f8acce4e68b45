//! Numbers: one type for each kind, so that two of them cannot be taken for one another.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number!(
    /// Number of a record in its shard's journal.
    Lsn(u64)
);
number!(
    /// How often a shard went through the mount path.
    Epoch(u64)
);
number!(
    /// How often a segment was reused.
    Incarnation(u32)
);
number!(
    /// A shard of a store, 0 up to the number fixed at format.
    ShardId(u16)
);
number!(
    /// A pool of a store; 0 is the system pool. Never reused.
    PoolId(u64)
);
number!(
    /// How often a collection changed owner or shape.
    Term(u32)
);

/// The identity of a store, drawn at format.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Uuid(pub [u8; 16]);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}
