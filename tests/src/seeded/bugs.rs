//! The table of seeded bugs. A bug's number is the one that its place in the code asks for.

use super::Suite;

/// A one-line defect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bug {
    /// What `seeded!` asks for.
    pub number: u32,
    /// The rule, or the row of the fault table, that it breaks.
    pub guards: &'static str,
    /// Where it is.
    pub file: &'static str,
    /// What is wrong.
    pub what: &'static str,
    /// Which suite must find it.
    pub suite: Suite,
    /// Within how many seeds, in the median.
    pub within: u64,
}

const fn bug(
    number: u32,
    guards: &'static str,
    file: &'static str,
    what: &'static str,
    suite: Suite,
    within: u64,
) -> Bug {
    Bug { number, guards, file, what, suite, within }
}

/// All of them.
#[rustfmt::skip]
pub const BUGS: &[Bug] = &[
    bug(1, "L1", "journal/src/commit.rs", "the next record is issued while one is in flight", Suite::Crash, 10),
    bug(2, "crash", "journal/src/commit.rs", "a record is acknowledged when it is issued", Suite::Crash, 10),
    bug(3, "L2", "engine/src/operate/bulk.rs", "bulk data is only in the device's cache when its record is issued", Suite::Crash, 20),
    bug(4, "L2", "engine/src/maintain/checkpoint.rs", "no flush between images and slot", Suite::Crash, 20),
    bug(5, "L3", "segment/src/record.rs", "the checksum of a record's entries is not compared", Suite::Journal, 10),
    bug(6, "L3", "journal/src/scan.rs", "the data of the last record is not verified", Suite::Crash, 20),
    bug(7, "L4", "engine/src/io/streams.rs", "a record of bulk data lists nothing", Suite::Crash, 20),
    bug(8, "L5", "journal/src/commit.rs", "the journal's next segment is not claimed in the log", Suite::Crash, 20),
    bug(9, "L6", "engine/src/operate/submit.rs", "a refusal is answered before what it saw is durable", Suite::Crash, 40),
    bug(10, "L6", "engine/src/operate/read.rs", "a read is answered before what it saw is durable", Suite::Crash, 20),
    bug(11, "L7", "engine/src/space/segments.rs", "a durable record counts as provably durable", Suite::RottenRecords, 5),
    bug(12, "T1", "object/src/change.rs", "a patch merged into a patch forgets that it names its chunk", Suite::PatchedRows, 5),
    bug(13, "T1", "engine/src/rows/pending.rs", "a patched row counts as that of the newest record", Suite::PatchedRows, 5),
    bug(14, "slow device", "engine/src/io/streams.rs", "a checkpoint gives the device all its images at once", Suite::SlowDevice, 1),
    bug(15, "T2", "engine/src/rows/node_cache.rs", "a node that is split or merged keeps its old image", Suite::Crash, 10),
    bug(16, "T3", "engine/src/rows.rs", "a leaf is loaded without its pending changes", Suite::Crash, 20),
    bug(17, "T3", "engine/src/rows/node_cache.rs", "nodes with changes that are not durable are evicted, and come back as durable", Suite::SlowRecords, 3),
    bug(18, "T4", "engine/src/maintain/admit.rs", "transactions do not wait for pending changes to become fewer", Suite::Pending, 1),
    bug(19, "C1", "engine/src/mount.rs", "live bytes and tallies are counted from P on", Suite::Crash, 20),
    bug(20, "C2", "engine/src/maintain/checkpoint.rs", "the body names the first segment of the window only", Suite::Crash, 100),
    bug(21, "C3", "engine/src/maintain/checkpoint.rs", "no flush after a slot", Suite::Crash, 20),
    bug(22, "C3", "engine/src/maintain/checkpoint.rs", "the old window is given up before the slots are written", Suite::SlowSlots, 10),
    bug(23, "S1", "engine/src/mount.rs", "a mount leaves torn headers in free segments", Suite::TornHeader, 1),
    bug(24, "C3", "engine/src/maintain/checkpoint.rs", "a slot names one copy of the body twice", Suite::Crash, 10),
    bug(25, "C4", "engine/src/maintain/checkpoint.rs", "the window begins at E whatever is pending", Suite::Crash, 10),
    bug(26, "E1", "engine/src/shard.rs", "after a mount in place what was submitted is carried out in the reverse order", Suite::InPlace, 20),
    bug(27, "C6", "engine/src/mount.rs", "a mount's head is not kept as a cut", Suite::Crash, 100),
    bug(28, "C6", "journal/src/slot.rs", "a cut that opens the window stays where its record did not fit", Suite::Journal, 60),
    bug(29, "C7", "engine/src/mount.rs", "a mount serves without its head in the slots", Suite::Crash, 10),
    bug(30, "C7", "journal/src/scan.rs", "a mount goes on behind a last record that it cut off", Suite::Crash, 20),
    bug(31, "C8", "journal/src/scan.rs", "an invalid record ends the log without a search behind it", Suite::Journal, 10),
    bug(32, "C8", "journal/src/scan.rs", "what the slots say of the log's end is not looked at", Suite::Journal, 20),
    bug(33, "E1", "journal/src/commit.rs", "a record whose write failed counts as durable", Suite::Faults, 5),
    bug(34, "write error", "engine/src/io/streams.rs", "images whose write failed count as written", Suite::FailedImages, 3),
    bug(35, "E3", "engine/src/maintain/checkpoint.rs", "a failed flush counts as done", Suite::FailedFlushes, 5),
    bug(36, "E4", "device/src/glommio_host/lock.rs", "only the shared lock is taken", Suite::Lock, 1),
    bug(37, "S1", "engine/src/space/segments.rs", "a mount does not pass the incarnations of uses that a crash took", Suite::Crash, 100),
    bug(38, "S1", "engine/src/mount.rs", "a mount frees the segments of the bodies that the slots name", Suite::Crash, 100),
    bug(39, "S2", "engine/src/space/segments.rs", "bytes count as dead with whichever record is durable first", Suite::RottenRecords, 5),
    bug(40, "S3", "engine/src/operate/bulk.rs", "segments of bulk data are not held until its record is durable", Suite::RottenRecords, 5),
    bug(41, "S4", "engine/src/space/segments.rs", "a segment is reused while operations run that may still read it", Suite::SlowReads, 10),
    bug(42, "S5", "engine/src/maintain/admit.rs", "admission leaves no reserve", Suite::FullDevice, 3),
    bug(43, "S6", "engine/src/maintain/admit.rs", "trimming takes the space of the checkpoint behind it", Suite::StridedRemovals, 3),
    bug(44, "F4", "object/src/graves.rs", "a grave is taken away with the first slice of its rows", Suite::ManyRows, 2),
    bug(45, "F4", "engine/src/operate/graves.rs", "the grave of a streaming put that goes on is drained", Suite::Crash, 40),
    bug(46, "F6", "engine/src/mount.rs", "a replay forgets which ids were used", Suite::Crash, 20),
    bug(47, "rot in data", "engine/src/operate/read.rs", "the checksums of data are not compared", Suite::Flip, 1),
    bug(48, "rot in nodes", "engine/src/shard/mounted.rs", "the checksum of a tree node is not compared", Suite::Flip, 3),
    bug(49, "rot in slots", "journal/src/slot.rs", "the checksum of a slot is not compared", Suite::Flip, 5),
    bug(50, "rot in superblocks", "segment/src/superblock.rs", "the checksum of a superblock is not compared, and the first copy is chosen", Suite::Flip, 3),
    bug(51, "rot in bodies", "engine/src/mount.rs", "the checksum of a checkpoint's body is not compared", Suite::FlipBodies, 5),
    bug(52, "rot in the journal", "segment/src/record.rs", "the checksum of a record's header is not compared", Suite::Flip, 1),
    bug(53, "lost write", "segment/src/superblock.rs", "the first valid superblock is chosen, not what most agree on", Suite::OlderStore, 1),
    bug(54, "misdirected write", "engine/src/shard/mounted.rs", "what a write of a part of a chunk is merged with is not verified", Suite::MisdirectedData, 2),
    bug(55, "read error", "journal/src/scan.rs", "what cannot be read of the journal is taken for zeros", Suite::FailingReads, 1),
    bug(56, "read error", "engine/src/shard/mounted.rs", "a failed read is not tried again", Suite::FailingReads, 1),
    bug(57, "write error", "engine/src/operate/bulk.rs", "bulk data whose write failed counts as written", Suite::BulkWrites, 1),
    bug(58, "E1", "engine/src/mount.rs", "a mount in place believes what it finds behind the last record known to be durable", Suite::InPlace, 40),
    bug(59, "device full", "engine/src/operate/submit.rs", "a removal may not use the reserve for removals", Suite::FullDevice, 3),
    bug(60, "memory budget", "engine/src/shard/mounted.rs", "nodes are never evicted", Suite::SlowDevice, 1),
    bug(61, "hostile image", "journal/src/slot.rs", "the counts in a slot are not bounded", Suite::Hostile, 3),
    bug(62, "older format", "segment/src/superblock.rs", "a superblock of another version is taken", Suite::NewerFormat, 1),
    bug(63, "crash", "journal/src/commit.rs", "data of a record on its way is read from the device", Suite::Crash, 40),
    bug(64, "L6", "engine/src/operate/read.rs", "usage counts what is not durable", Suite::Shown, 1),
    bug(65, "C3", "engine/src/mount.rs", "a mount trims before the older slot names what the newer one does", Suite::OlderSlot, 12),
    bug(66, "S4", "engine/src/io/data_cache.rs", "data in memory is known by its address alone", Suite::ReusedAddresses, 1),
    bug(67, "S1", "object/src/execute/finish.rs", "the chunks of extents that move out of an onode count as freed", Suite::Crash, 40),
    bug(68, "L4", "object/src/effects.rs", "what an onode points to is listed under the onode's own key", Suite::Crash, 20),
    bug(69, "S1", "engine/src/mount.rs", "a mount that trims writes its epoch into one slot", Suite::TornEpoch, 3),
    bug(70, "L5", "engine/src/mount.rs", "what a mount claimed whose checkpoint found no space is not logged", Suite::LateClaims, 3),
    bug(71, "calls", "engine/src/face/inbox.rs", "a call that finds 64 others waiting overtakes them", Suite::Calls, 1),
    bug(72, "calls", "engine/src/face/store.rs", "a call that was dropped before it began is not carried out", Suite::DroppedCalls, 1),
    bug(73, "crash", "engine/src/face/pools.rs", "the mark of a removed pool is in a record of its own", Suite::Pools, 1),
    bug(74, "crash", "engine/src/mount.rs", "a mount does not know which pools were removed", Suite::Pools, 1),
    bug(75, "C10", "engine/src/maintain/checkpoint.rs", "a slot states as durable what is only on its way", Suite::Crash, 20),
    bug(76, "C10", "journal/src/slot.rs", "what a slot states of the log's end is no proof", Suite::LostEnd, 1),
    bug(77, "format", "engine/src/mount/format.rs", "a format writes superblocks before what they lead to is durable", Suite::Formats, 3),
    bug(78, "format", "engine/src/mount/superblocks.rs", "a mount does not complete the copies of the superblock", Suite::Formats, 3),
    bug(79, "bounded memory", "engine/src/shard/request.rs", "what a durable record holds is kept until the next transaction", Suite::OwnedData, 1),
    bug(80, "reads", "engine/src/operate/past.rs", "a watched object's old rows are not noted", Suite::Pinned, 1),
    bug(81, "device full", "engine/src/operate/past.rs", "read handles keep their space from transactions that find none", Suite::Pinned, 2),
    bug(82, "F4", "object/src/execute/finish.rs", "the record that makes an object of data laid ahead leaves its grave", Suite::Crash, 20),
    bug(83, "F4", "engine/src/operate/put.rs", "the grave of data that is being laid ahead is drained", Suite::Crash, 40),
    bug(84, "memory budget", "engine/src/operate/put.rs", "a part of a streaming put gives its memory back before it is stored", Suite::Streams, 1),
    bug(85, "order", "object/src/stream.rs", "the conditions of a streaming put are looked at after its object is made", Suite::Streams, 1),
    bug(86, "slow requests", "engine/src/operate/bulk.rs", "data that is stored ahead is copied and summed in one go", Suite::LargeRequests, 1),
    bug(87, "format", "engine/src/mount/format.rs", "a format clears the place of its last superblock while the old store still opens", Suite::Formats, 3),
    bug(88, "write error", "engine/src/io/streams.rs", "a checkpoint names an image whose write failed and whose node has changed since", Suite::FailedImages, 3),
];
