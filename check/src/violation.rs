//! Violation: what a store must not be, one variant for each kind, with the place.
//!
//! Each is found by exactly one rule of the walk, and a test plants each [`Kind`] of them: it does not compile before a
//! new kind has its plant. Where one defect would make others follow from it (a node that cannot be read hides rows, so
//! no sum is right), the rules that depend on it are not applied.

mod fault;
mod kind;

use std::fmt;
use std::io::ErrorKind;

use seabed_journal::{CollectionId, Tally};
use seabed_segment::{SlotCopy, SuperblockError};
use seabed_types::{Incarnation, Lsn, NodePtr, Paddr, PoolId, SegmentId, ShardId, TreeKind};

use crate::names::key_text;
pub use fault::{
    BodyFault, CountedPart, InventoryFault, ListedBy, NodeFault, PartFault, PieceFault, RecordFault,
};
pub use kind::Kind;

/// A row by its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Of which pool.
    pub pool: PoolId,
    /// In which tree.
    pub tree: TreeKind,
    /// Its key.
    pub key: Vec<u8>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pool {} {} {}", self.pool, self.tree, key_text(self.tree, &self.key))
    }
}

/// One thing that is wrong with a store.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The store is larger than its device.
    #[error("the store has {device_bytes} bytes, the image only {image_bytes}")]
    Short {
        /// What the superblock says.
        device_bytes: u64,
        /// What there is.
        image_bytes: u64,
    },
    /// A superblock copy is not valid while another is.
    #[error("superblock copy {copy}: {error}")]
    Superblock {
        /// Which, 0..=3.
        copy: u16,
        /// Why.
        error: SuperblockError,
    },
    /// A superblock copy is valid and says something else than the first valid one.
    #[error("superblock copy {copy} differs from the one that was used")]
    SuperblockDiffers {
        /// Which, 0..=3.
        copy: u16,
    },
    /// A superblock copy cannot be read.
    #[error("superblock copy {copy} cannot be read: {error}")]
    SuperblockUnreadable {
        /// Which, 0..=3.
        copy: u16,
        /// Why.
        error: ErrorKind,
    },
    /// A checkpoint slot is not valid.
    #[error("shard {shard}, slot {which:?}: {what}")]
    Slot {
        /// Whose.
        shard: ShardId,
        /// Which.
        which: SlotCopy,
        /// Which field or rule.
        what: &'static str,
    },
    /// Two slots with one sequence number say different things.
    #[error("shard {shard}: slots A and B both have sequence {sequence} and differ")]
    SlotsContradict {
        /// Whose.
        shard: ShardId,
        /// The sequence.
        sequence: u64,
    },
    /// One slot was not written with one of the last pairs.
    #[error("shard {shard}: slot A has sequence {a} and slot B {b}: a write of the older one was lost")]
    SlotsApart {
        /// Whose.
        shard: ShardId,
        /// Sequence of slot A.
        a: u64,
        /// Sequence of slot B.
        b: u64,
    },
    /// A shard has no slot with a body: nothing of it can be checked.
    #[error("shard {shard} has no checkpoint")]
    NoCheckpoint {
        /// Whose.
        shard: ShardId,
    },
    /// A part of a copy of a checkpoint body is not sound.
    #[error("shard {shard}, slot {which:?}: copy {copy} of the body, part {index} at {at}: {fault}")]
    BodyPart {
        /// Whose.
        shard: ShardId,
        /// Which slot names it.
        which: SlotCopy,
        /// The first or the second copy.
        copy: usize,
        /// Which part.
        index: usize,
        /// Where.
        at: Paddr,
        /// What is wrong.
        fault: PartFault,
    },
    /// The two copies of a checkpoint body are sound and differ.
    #[error("shard {shard}, slot {which:?}: the copies of the body differ")]
    BodyCopiesDiffer {
        /// Whose.
        shard: ShardId,
        /// Which slot names them.
        which: SlotCopy,
    },
    /// Both copies of a checkpoint body have bytes in one segment (rule C3).
    #[error("shard {shard}, slot {which:?}: both copies of the body lie in segment {segment}")]
    BodyCopiesShare {
        /// Whose.
        shard: ShardId,
        /// Which slot names them.
        which: SlotCopy,
        /// The segment.
        segment: SegmentId,
    },
    /// A checkpoint body says something that no body may say.
    #[error("shard {shard}, slot {which:?}: {fault}")]
    Body {
        /// Whose.
        shard: ShardId,
        /// Which slot names it.
        which: SlotCopy,
        /// What is wrong.
        fault: BodyFault,
    },
    /// A record that was durable is not there: acknowledged data may be lost. The shard's rows are not checked.
    #[error(
        "shard {shard}: the journal is damaged at {at}: record {lsn} was durable and is not valid: {what}"
    )]
    JournalDamaged {
        /// Whose.
        shard: ShardId,
        /// Which record.
        lsn: Lsn,
        /// Where it should be.
        at: Paddr,
        /// Why it is not valid.
        what: &'static str,
    },
    /// A valid record says something that no record may say.
    #[error("shard {shard}: record {lsn} at {at}: {fault}")]
    Record {
        /// Whose.
        shard: ShardId,
        /// Which record.
        lsn: Lsn,
        /// Where.
        at: Paddr,
        /// What is wrong.
        fault: RecordFault,
    },
    /// Two collections have hashes in common.
    #[error("collections {first} and {second} have hashes in common")]
    CollectionsOverlap {
        /// One.
        first: CollectionId,
        /// The other.
        second: CollectionId,
    },
    /// A tree node.
    #[error("collection {collection}, {tree}: node {node}: {fault}")]
    Node {
        /// Whose tree.
        collection: CollectionId,
        /// Which tree.
        tree: TreeKind,
        /// The pointer to it.
        node: NodePtr,
        /// What is wrong.
        fault: NodeFault,
    },
    /// A row's hash is not the collection's.
    #[error("{row}: its hash is not of collection {collection}")]
    RowOutside {
        /// Which.
        row: Row,
        /// Where it was found.
        collection: CollectionId,
    },
    /// A row's key or value does not decode.
    #[error("{row}: {what}")]
    RowMalformed {
        /// Which.
        row: Row,
        /// Which field or rule.
        what: &'static str,
    },
    /// A logged row is longer than a node takes.
    #[error("{row}: key and value of {key_bytes} and {value_bytes} bytes do not fit a node")]
    RowTooLong {
        /// Which.
        row: Row,
        /// Bytes of its key.
        key_bytes: usize,
        /// Bytes of its value.
        value_bytes: usize,
    },
    /// A logged patch does not decode, or the row that it patches does not.
    #[error("{row}: patch: {what}")]
    Patch {
        /// Which.
        row: Row,
        /// Which field or rule.
        what: &'static str,
    },
    /// Two onodes name the same family.
    #[error("{row}: family {family} is another object's too")]
    FamilyTwice {
        /// The second onode.
        row: Row,
        /// The family.
        family: u64,
    },
    /// Neither an onode nor a grave names the family of a row: it can neither be read nor be freed.
    #[error("{row}: neither an object nor a grave has this family and number")]
    Orphan {
        /// Which.
        row: Row,
    },
    /// A grave is that of an object that exists: its rows would be freed.
    #[error("{row}: the grave of an object that exists")]
    GraveOfLiving {
        /// The graves row.
        row: Row,
    },
    /// An id that the collection's counter will give again is in use.
    #[error("{row}: id {id} is in use, and the counter of collection {collection} is at {next_id}")]
    IdNotCounted {
        /// Where it is used.
        row: Row,
        /// Whose counter.
        collection: CollectionId,
        /// The id.
        id: u64,
        /// The counter.
        next_id: u64,
    },
    /// An onode counts other rows than there are.
    #[error("{row}: counts {counted} rows of its {part:?}, there are {found}")]
    PartCount {
        /// The onode.
        row: Row,
        /// Which part.
        part: CountedPart,
        /// What the onode says.
        counted: u64,
        /// What there is.
        found: u64,
    },
    /// An extents row holds bytes behind its object's end.
    #[error("{row}: has bytes up to {end}, its object ends at {size}")]
    BeyondSize {
        /// The extents row.
        row: Row,
        /// Where its bytes end.
        end: u64,
        /// Where the object does.
        size: u64,
    },
    /// Bytes that a row points to.
    #[error("{row}: {bytes} bytes at {at}: {fault}")]
    Piece {
        /// Which row.
        row: Row,
        /// Where.
        at: Paddr,
        /// How many.
        bytes: u32,
        /// What is wrong.
        fault: PieceFault,
    },
    /// What is counted for a collection is not what its rows add up to.
    #[error("collection {collection}: counted {counted:?}, its rows add up to {found:?}")]
    Tally {
        /// Which.
        collection: CollectionId,
        /// What checkpoint and log say.
        counted: Tally,
        /// What there is.
        found: Tally,
    },
    /// A shard's live bytes of a segment are not what its rows and roots point to.
    #[error("shard {shard}: counted {counted} live bytes in segment {segment}, there are {found}")]
    Live {
        /// Whose count.
        shard: ShardId,
        /// Of which segment.
        segment: SegmentId,
        /// What checkpoint and log say.
        counted: i64,
        /// What there is.
        found: i64,
    },
    /// Two live things share bytes.
    #[error("segment {segment}: live bytes at {offset:#x} begin before those before them end, at {end:#x}")]
    Overlap {
        /// Where.
        segment: SegmentId,
        /// Where the later one begins.
        offset: u32,
        /// Where the earlier one ends.
        end: u32,
    },
    /// Live things lie in a segment that nobody claimed.
    #[error("segment {segment} has {things} live things and no claim")]
    Unclaimed {
        /// Which.
        segment: SegmentId,
        /// How many.
        things: usize,
    },
    /// A segment that is needed was claimed again.
    #[error(
        "segment {segment} is needed as of incarnation {claimed}, and was written to as incarnation {found}"
    )]
    SegmentReused {
        /// Which.
        segment: SegmentId,
        /// What the claim says.
        claimed: Incarnation,
        /// What header or seal say.
        found: Incarnation,
    },
    /// A segment's header contradicts its claim.
    #[error("segment {segment}: its header is of another stream or shard than its claim")]
    SegmentHeader {
        /// Which.
        segment: SegmentId,
    },
    /// A seal block and the inventory are sound and not what they must be.
    #[error("segment {segment}: inventory: {fault}")]
    Inventory {
        /// Which.
        segment: SegmentId,
        /// What is wrong.
        fault: InventoryFault,
    },
    /// A live thing is not listed where the cleaner looks for it.
    #[error("segment {segment}: {bytes} live bytes at {offset:#x} are not in the list by its {by:?}")]
    NotListed {
        /// Where.
        segment: SegmentId,
        /// Where in it.
        offset: u32,
        /// How many bytes.
        bytes: u32,
        /// Where they should be listed.
        by: ListedBy,
    },
    /// The state that a mount would find from the older slot is not the one that it finds from the newer.
    #[error("shard {shard}: the two slots lead to different rows")]
    SlotsDisagree {
        /// Whose.
        shard: ShardId,
    },
    /// Something is wrong with the state that a mount would find from the older slot alone (rule C3).
    #[error("from slot {which:?} alone: {violation}")]
    OlderSlot {
        /// Which slot is the older one.
        which: SlotCopy,
        /// What is wrong.
        violation: Box<Violation>,
    },
}
