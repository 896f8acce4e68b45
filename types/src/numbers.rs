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

/// One of the three trees of a collection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum TreeKind {
    /// {hash, namespace, name, snap, generation} to onode.
    Names = 1,
    /// {hash, family, kind, position, number} to extents, large attributes, omap.
    Bodies = 2,
    /// {hash, family, number}: what is to be freed.
    Graves = 3,
}

impl TreeKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Names, Self::Bodies, Self::Graves];
}

impl TryFrom<u8> for TreeKind {
    type Error = ();
    fn try_from(byte: u8) -> Result<Self, ()> {
        match byte {
            1 => Ok(Self::Names),
            2 => Ok(Self::Bodies),
            3 => Ok(Self::Graves),
            _ => Err(()),
        }
    }
}

impl fmt::Display for TreeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Names => "names",
            Self::Bodies => "bodies",
            Self::Graves => "graves",
        })
    }
}
