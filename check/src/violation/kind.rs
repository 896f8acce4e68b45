//! Kind: what a violation is, without the place: the list of all that a check can find.
//!
//! A test has a plant for each, by a `match` without a wildcard.

use super::{CountedPart, ListedBy, NodeFault, PieceFault, Violation};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// What a violation is, without the place. Faults of nodes, pieces, counts and lists are kinds of their own.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Kind {
            $($(#[$doc])* $name,)+
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

kinds! {
    /// [`Violation::Short`].
    Short,
    /// [`Violation::Superblock`].
    Superblock,
    /// [`Violation::SuperblockDiffers`].
    SuperblockDiffers,
    /// [`Violation::SuperblockUnreadable`].
    SuperblockUnreadable,
    /// [`Violation::Slot`].
    Slot,
    /// [`Violation::SlotsContradict`].
    SlotsContradict,
    /// [`Violation::SlotsApart`].
    SlotsApart,
    /// [`Violation::NoCheckpoint`].
    NoCheckpoint,
    /// [`Violation::BodyPart`].
    BodyPart,
    /// [`Violation::BodyCopiesDiffer`].
    BodyCopiesDiffer,
    /// [`Violation::BodyCopiesShare`].
    BodyCopiesShare,
    /// [`Violation::Body`].
    Body,
    /// [`Violation::JournalDamaged`].
    JournalDamaged,
    /// [`Violation::Record`].
    Record,
    /// [`Violation::CollectionsOverlap`].
    CollectionsOverlap,
    /// [`NodeFault::Pointer`].
    NodePointer,
    /// [`NodeFault::Unreadable`].
    NodeUnreadable,
    /// [`NodeFault::Checksum`].
    NodeChecksum,
    /// [`NodeFault::Malformed`].
    NodeMalformed,
    /// [`NodeFault::Level`].
    NodeLevel,
    /// [`NodeFault::Interval`].
    NodeInterval,
    /// [`NodeFault::Twice`].
    NodeTwice,
    /// [`NodeFault::Empty`].
    NodeEmpty,
    /// [`Violation::RowOutside`].
    RowOutside,
    /// [`Violation::RowMalformed`].
    RowMalformed,
    /// [`Violation::RowTooLong`].
    RowTooLong,
    /// [`Violation::Patch`].
    Patch,
    /// [`Violation::FamilyTwice`].
    FamilyTwice,
    /// [`Violation::Orphan`].
    Orphan,
    /// [`Violation::GraveOfLiving`].
    GraveOfLiving,
    /// [`Violation::IdNotCounted`].
    IdNotCounted,
    /// [`Violation::PartCount`] of [`CountedPart::Data`].
    CountOfData,
    /// [`Violation::PartCount`] of [`CountedPart::Attributes`].
    CountOfAttributes,
    /// [`Violation::PartCount`] of [`CountedPart::Header`].
    CountOfHeader,
    /// [`Violation::PartCount`] of [`CountedPart::Omap`].
    CountOfOmap,
    /// [`Violation::BeyondSize`].
    BeyondSize,
    /// [`PieceFault::Pointer`].
    PiecePointer,
    /// [`PieceFault::Unreadable`].
    PieceUnreadable,
    /// [`PieceFault::Checksum`].
    PieceChecksum,
    /// [`Violation::Tally`].
    Tally,
    /// [`Violation::Live`].
    Live,
    /// [`Violation::Overlap`].
    Overlap,
    /// [`Violation::Unclaimed`].
    Unclaimed,
    /// [`Violation::SegmentReused`].
    SegmentReused,
    /// [`Violation::SegmentHeader`].
    SegmentHeader,
    /// [`Violation::Inventory`].
    Inventory,
    /// [`Violation::NotListed`] by the [`ListedBy::Inventory`].
    NotInInventory,
    /// [`Violation::NotListed`] by the [`ListedBy::Records`].
    NotInRecords,
    /// [`Violation::SlotsDisagree`].
    SlotsDisagree,
    /// [`Violation::OlderSlot`].
    OlderSlot,
}

impl Violation {
    /// What it is, without the place.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Short { .. } => Kind::Short,
            Self::Superblock { .. } => Kind::Superblock,
            Self::SuperblockDiffers { .. } => Kind::SuperblockDiffers,
            Self::SuperblockUnreadable { .. } => Kind::SuperblockUnreadable,
            Self::Slot { .. } => Kind::Slot,
            Self::SlotsContradict { .. } => Kind::SlotsContradict,
            Self::SlotsApart { .. } => Kind::SlotsApart,
            Self::NoCheckpoint { .. } => Kind::NoCheckpoint,
            Self::BodyPart { .. } => Kind::BodyPart,
            Self::BodyCopiesDiffer { .. } => Kind::BodyCopiesDiffer,
            Self::BodyCopiesShare { .. } => Kind::BodyCopiesShare,
            Self::Body { .. } => Kind::Body,
            Self::JournalDamaged { .. } => Kind::JournalDamaged,
            Self::Record { .. } => Kind::Record,
            Self::CollectionsOverlap { .. } => Kind::CollectionsOverlap,
            Self::Node { fault, .. } => kind_of_node(*fault),
            Self::RowOutside { .. } => Kind::RowOutside,
            Self::RowMalformed { .. } => Kind::RowMalformed,
            Self::RowTooLong { .. } => Kind::RowTooLong,
            Self::Patch { .. } => Kind::Patch,
            Self::FamilyTwice { .. } => Kind::FamilyTwice,
            Self::Orphan { .. } => Kind::Orphan,
            Self::GraveOfLiving { .. } => Kind::GraveOfLiving,
            Self::IdNotCounted { .. } => Kind::IdNotCounted,
            Self::PartCount { part, .. } => match part {
                CountedPart::Data => Kind::CountOfData,
                CountedPart::Attributes => Kind::CountOfAttributes,
                CountedPart::Header => Kind::CountOfHeader,
                CountedPart::Omap => Kind::CountOfOmap,
            },
            Self::BeyondSize { .. } => Kind::BeyondSize,
            Self::Piece { fault, .. } => match fault {
                PieceFault::Pointer => Kind::PiecePointer,
                PieceFault::Unreadable(_) => Kind::PieceUnreadable,
                PieceFault::Checksum(_) => Kind::PieceChecksum,
            },
            Self::Tally { .. } => Kind::Tally,
            Self::Live { .. } => Kind::Live,
            Self::Overlap { .. } => Kind::Overlap,
            Self::Unclaimed { .. } => Kind::Unclaimed,
            Self::SegmentReused { .. } => Kind::SegmentReused,
            Self::SegmentHeader { .. } => Kind::SegmentHeader,
            Self::Inventory { .. } => Kind::Inventory,
            Self::NotListed { by, .. } => match by {
                ListedBy::Inventory => Kind::NotInInventory,
                ListedBy::Records => Kind::NotInRecords,
            },
            Self::SlotsDisagree { .. } => Kind::SlotsDisagree,
            Self::OlderSlot { .. } => Kind::OlderSlot,
        }
    }
}

fn kind_of_node(fault: NodeFault) -> Kind {
    match fault {
        NodeFault::Pointer => Kind::NodePointer,
        NodeFault::Unreadable(_) => Kind::NodeUnreadable,
        NodeFault::Checksum(_) => Kind::NodeChecksum,
        NodeFault::Malformed(_) => Kind::NodeMalformed,
        NodeFault::Level(..) => Kind::NodeLevel,
        NodeFault::Interval => Kind::NodeInterval,
        NodeFault::Twice => Kind::NodeTwice,
        NodeFault::Empty => Kind::NodeEmpty,
    }
}
