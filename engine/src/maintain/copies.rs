//! Copies: live pieces of a victim read, verified and written elsewhere.
//!
//! Pieces are read together with what lies between them, as long as that is less than the pieces. What matches its checksum is
//! written to the stream of the victim's class, as records that hold at most a batch; a record is durable before any row
//! names what is in it (rule L2). A write that fails is tried elsewhere.
//!
//! Cost: reads of at most twice the live bytes, one write per record. The pieces are not copied in memory but for the
//! record. Memory: a batch, its record and its reads, which the shard's levels count ([`CopyMemory`]).

use std::rc::Rc;

use futures::future::join_all;
use seabed_cleaner::Class as AgeClass;
use seabed_device::{Durability, ReadBuf};
use seabed_journal::entry::SMALL_ENTRY_BYTES;
use seabed_object::{Moved, PieceRef};
use seabed_segment::{ListedWhat, Summing, packed_bytes, record_bytes_of};
use seabed_types::{BLOCK_BYTES, CHUNK_BYTES, Crc, Paddr};

use crate::Result;
use crate::io::inventory::Identity;
use crate::io::streams::{Append, Hold, Stream, WRITE_TRIES};
use crate::maintain::clean::Victim;
use crate::shard::mounted::Mounted;
use crate::space::segments::Claimer;

/// The share of the memory budget for a batch of copies, and its bounds.
const BATCH_SHARE: usize = 64;
const BATCH_BYTES_MIN: usize = 64 << 10;
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Pieces with no more than this between them are read together, if the pieces are more.
const GAP_BYTES: u32 = 32 << 10;
/// Bytes of one read.
const READ_BYTES_MAX: u32 = 256 << 10;
/// A segment with less than this left takes no further record.
const LEAST_RECORD_BYTES: usize = 32 << 10;
/// Blocks of a segment that records do not take: its header, its inventory at the least, and its seal.
const FRESH_BLOCKS: usize = 3;
/// Bytes that are verified before others run.
const VERIFY_BYTES: usize = 256 << 10;

/// What of the memory budget a batch of copies takes.
pub(crate) fn batch_bytes(memory_bytes: usize) -> usize {
    (memory_bytes / BATCH_SHARE).clamp(BATCH_BYTES_MIN, BATCH_BYTES_MAX)
}

/// A row and its live pieces in the victim.
pub(super) struct LiveRow {
    pub(super) identity: Identity,
    pub(super) pieces: Vec<PieceRef>,
}

impl LiveRow {
    /// Bytes of its pieces.
    pub(super) fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| u64::from(piece.bytes)).sum()
    }
}

/// Copies that are durable, with a hold on their segment.
pub(super) struct Copied {
    pub(super) rows: Vec<(Identity, Vec<Moved>)>,
    pub(super) hold: Hold,
}

/// Reads and the pieces in them.
struct Loaded {
    /// Where each read begins, and what it brought.
    reads: Vec<(Paddr, Result<ReadBuf>)>,
    _memory: CopyMemory,
}

/// Memory for copies that the shard's levels count, until dropped.
struct CopyMemory {
    shard: Rc<Mounted>,
    bytes: usize,
}

impl CopyMemory {
    fn new(shard: &Rc<Mounted>, bytes: usize) -> Self {
        shard.clean.memory_bytes.set(shard.clean.memory_bytes.get() + bytes);
        Self { shard: Rc::clone(shard), bytes }
    }
}

impl Drop for CopyMemory {
    fn drop(&mut self) {
        let memory_bytes = &self.shard.clean.memory_bytes;
        memory_bytes.set(memory_bytes.get() - self.bytes);
    }
}

impl Loaded {
    /// The bytes of a piece as they were read; none if they could not be read.
    fn bytes(&self, piece: &PieceRef) -> Option<&[u8]> {
        let index = self.reads.partition_point(|(at, _)| *at <= piece.at).checked_sub(1)?;
        let (at, read) = &self.reads[index];
        let skip = piece.at.offset.checked_sub(at.offset)? as usize;
        read.as_ref().ok()?.get(skip..skip + piece.bytes as usize)
    }

    /// Whether a piece was read and matches its checksum.
    fn is_sound(&self, piece: &PieceRef) -> bool {
        self.bytes(piece).is_some_and(|bytes| Crc::of(bytes) == piece.crc)
    }
}

impl Mounted {
    /// Cuts rows into groups whose pieces fit a record each, such that the records fill the segments that they go to.
    fn split_to_records(&self, rows: Vec<LiveRow>, victim: &Victim) -> Vec<Vec<LiveRow>> {
        let left = self.streams.borrow_mut().room(self.stream_of(victim));
        let fresh = self.layout.segment_bytes as usize - FRESH_BLOCKS * BLOCK_BYTES;
        groups_for(rows, Room { record_max: self.copy_record_max(), left, fresh })
    }

    /// Bytes of a record of copies.
    pub(super) fn copy_record_max(&self) -> usize {
        self.layout.record_bytes_max().min(batch_bytes(self.options.memory_bytes))
    }

    /// Copies rows' pieces to the stream of relocated data and waits until they are durable. What goes into all records is
    /// read together, and all records are written together: else the device idles while users wait for the cleaner. The
    /// caller's operation is counted as running.
    pub(super) async fn copy(self: &Rc<Self>, rows: Vec<LiveRow>, victim: &Victim) -> Result<Vec<Copied>> {
        let parts = self.split_to_records(rows, victim);
        let loads = join_all(parts.into_iter().map(|rows| self.load_sound(rows, victim))).await;
        let loads = loads.iter().filter(|(rows, _)| !rows.is_empty());
        let writes = join_all(loads.map(|(rows, loaded)| self.write_copies(rows, loaded, victim))).await;
        writes.into_iter().collect()
    }

    /// Reads rows' pieces; which of them may be copied.
    async fn load_sound(self: &Rc<Self>, rows: Vec<LiveRow>, victim: &Victim) -> (Vec<LiveRow>, Loaded) {
        let loaded = self.read_pieces(&rows).await;
        let mut good = Vec::with_capacity(rows.len());
        let mut verified = 0;
        for LiveRow { identity, pieces } in rows {
            let mut kept = Vec::with_capacity(pieces.len());
            for piece in pieces {
                if loaded.is_sound(&piece) {
                    kept.push(piece);
                } else {
                    self.note_unreadable(&identity, &piece, victim);
                }
                verified += piece.bytes as usize;
            }
            if !kept.is_empty() {
                good.push(LiveRow { identity, pieces: kept });
            }
            if verified >= VERIFY_BYTES {
                seabed_types::work::bytes(verified);
                verified = 0;
                self.machine.runtime.yield_io().await;
            }
        }
        (good, loaded)
    }

    fn note_unreadable(&self, identity: &Identity, piece: &PieceRef, victim: &Victim) {
        victim.is_damaged.set(true);
        self.counters.count(|stats| stats.pieces_unreadable += 1);
        let key = identity.1.escape_ascii();
        tracing::error!(pool = identity.0.0, %key, at = %piece.at, "data is damaged; the cleaner leaves it where it is");
    }

    /// Reads pieces, several with one read where little lies between them.
    async fn read_pieces(self: &Rc<Self>, rows: &[LiveRow]) -> Loaded {
        let mut pieces: Vec<&PieceRef> = rows.iter().flat_map(|row| &row.pieces).collect();
        pieces.sort_unstable_by_key(|piece| piece.at);
        let ranges = ranges_of(pieces.into_iter().map(|piece| (piece.at, piece.bytes)));
        let blocks = |(_, bytes): &(Paddr, u32)| *bytes as usize + 2 * BLOCK_BYTES;
        let memory = CopyMemory::new(self, ranges.iter().map(blocks).sum());
        self.shrink_cache();
        let reads = ranges.into_iter().map(|(at, bytes)| async move {
            let read = self.read_covering(at, bytes).await;
            let skip = u32::try_from(at.offset as usize % BLOCK_BYTES).expect("within a block");
            (Paddr::new(at.segment, at.offset - skip), read.map(|(buf, _)| buf))
        });
        Loaded { reads: join_all(reads).await, _memory: memory }
    }

    /// Writes one record of copies, elsewhere if its write fails, and waits until it is durable.
    async fn write_copies(
        self: &Rc<Self>,
        rows: &[LiveRow],
        loaded: &Loaded,
        victim: &Victim,
    ) -> Result<Copied> {
        struct Run<'a> {
            row: usize,
            pieces: Vec<PieceRef>,
            parts: Vec<&'a [u8]>,
        }
        let part_max = self.limits.part_bytes_max();
        let mut runs: Vec<Run<'_>> = Vec::new();
        for (row, LiveRow { pieces, .. }) in rows.iter().enumerate() {
            for piece in pieces {
                let bytes = loaded.bytes(piece).unwrap_or_default();
                let continues = |run: &&mut Run<'_>| {
                    let is_full = run.pieces.last().is_some_and(|last| last.bytes as usize == CHUNK_BYTES);
                    run.row == row
                        && is_full
                        && piece.bytes as usize <= CHUNK_BYTES
                        && (run.pieces.len() + 1) * CHUNK_BYTES <= part_max
                };
                match runs.last_mut().filter(continues) {
                    Some(run) => {
                        run.pieces.push(*piece);
                        run.parts.push(bytes);
                    }
                    None => runs.push(Run { row, pieces: vec![*piece], parts: vec![bytes] }),
                }
            }
        }
        let stream = self.stream_of(victim);
        let appends: Vec<Append<'_>> = runs
            .iter()
            .map(|run| {
                let (pool, key) = rows[run.row].identity.clone();
                let is_one_value = run.pieces.len() == 1;
                let summing = if is_one_value { Summing::Whole } else { Summing::Chunks };
                Append { what: ListedWhat::Piece { pool, key }, parts: &run.parts, summing }
            })
            .collect();
        for tries in 1.. {
            let appended = self
                .append(stream, &appends, Durability::Durable, Claimer::Clean)
                .ok_or_else(|| self.no_space())?;
            match appended.written.await {
                Ok(()) => {
                    let mut moved: Vec<(Identity, Vec<Moved>)> =
                        rows.iter().map(|row| (row.identity.clone(), Vec::new())).collect();
                    for (run, placed) in runs.iter().zip(&appended.placed) {
                        let mut to = placed.at;
                        for piece in &run.pieces {
                            moved[run.row].1.push(Moved { piece: *piece, to });
                            to = to.plus(piece.bytes);
                        }
                    }
                    return Ok(Copied { rows: moved, hold: appended.hold });
                }
                Err(error) => {
                    self.give_up_segment(&appended.hold, error);
                    if tries == WRITE_TRIES {
                        return Err(self.fence(error));
                    }
                }
            }
        }
        unreachable!("the last try returns")
    }

    /// The stream that takes copies out of a victim.
    fn stream_of(&self, victim: &Victim) -> Stream {
        match self.with_policy(|policy| policy.classes.class_for(victim.class)) {
            AgeClass::Relocated(group) => Stream::Relocated { class: usize::from(group) },
            AgeClass::Fresh | AgeClass::FreshCold => Stream::Bulk,
        }
    }
}

/// What to read for pieces in the order of their addresses: neighbours together, with what lies between them if it is no more
/// than the pieces themselves.
fn ranges_of(pieces: impl Iterator<Item = (Paddr, u32)>) -> Vec<(Paddr, u32)> {
    let mut ranges: Vec<(Paddr, u32)> = Vec::new();
    // Of the last range: bytes between pieces.
    let mut between = 0;
    for (piece, piece_bytes) in pieces {
        let end = piece.offset + piece_bytes;
        if let Some((at, bytes)) = ranges.last_mut() {
            let gap = piece.offset.saturating_sub(at.offset + *bytes);
            let is_dense = (between + gap).saturating_mul(2) <= end.saturating_sub(at.offset);
            if gap <= GAP_BYTES && is_dense && end.saturating_sub(at.offset) <= READ_BYTES_MAX {
                *bytes = (*bytes).max(end - at.offset);
                between += gap;
                continue;
            }
        }
        ranges.push((piece, piece_bytes));
        between = 0;
    }
    ranges
}

/// What pieces take of a record.
#[derive(Clone, Copy, Default)]
struct Taken {
    pieces: usize,
    lists: usize,
}

impl Taken {
    /// With pieces of one row more.
    fn with(self, (_, key): &Identity, pieces: &[PieceRef]) -> Self {
        let lists = self.lists + pieces.len() * (key.len() + SMALL_ENTRY_BYTES);
        let place = |before: usize, piece: &PieceRef| packed_bytes([before, piece.bytes as usize]);
        Self { pieces: pieces.iter().fold(self.pieces, place), lists }
    }

    fn record_bytes(self) -> usize {
        record_bytes_of(self.pieces, self.lists)
    }

    /// What they take of a segment, with their part of its inventory.
    fn segment_bytes(self) -> usize {
        self.record_bytes() + self.lists.next_multiple_of(BLOCK_BYTES)
    }

    /// How many of the pieces go into a record besides these.
    fn count_that_fits(self, identity: &Identity, pieces: &[PieceRef], room: Room) -> usize {
        let mut taken = self;
        let fits = |piece: &PieceRef| {
            taken = taken.with(identity, std::slice::from_ref(piece));
            room.fits(taken)
        };
        pieces.iter().map(fits).take_while(|fits| *fits).count()
    }
}

/// What records of copies may take.
#[derive(Clone, Copy)]
struct Room {
    /// Bytes of a record.
    record_max: usize,
    /// Bytes that are left in the segment that takes the next record.
    left: usize,
    /// Bytes of a segment without records.
    fresh: usize,
}

impl Room {
    /// Whether a full record would not fit the segment any more, but one that is worth it would.
    fn is_at_end(self) -> bool {
        (LEAST_RECORD_BYTES.min(self.record_max / 2)..self.record_max).contains(&self.left)
    }

    /// Whether the next record may have these pieces.
    fn fits(self, taken: Taken) -> bool {
        taken.record_bytes() <= self.record_max && (!self.is_at_end() || taken.segment_bytes() <= self.left)
    }

    /// A record was made of these pieces.
    fn filled(&mut self, taken: Taken) {
        if self.left < taken.segment_bytes() {
            self.left = self.fresh;
        }
        self.left = self.left.saturating_sub(taken.segment_bytes());
    }
}

/// Cuts rows into groups that fit a record each; one piece always goes. Pieces of a row stay together if another record
/// holds them all, but not at the end of a segment: what a segment lacks to be full is lost until it is cleaned again.
fn groups_for(rows: Vec<LiveRow>, mut room: Room) -> Vec<Vec<LiveRow>> {
    let (mut groups, mut group, mut taken) = (Vec::new(), Vec::new(), Taken::default());
    for LiveRow { identity, mut pieces } in rows {
        let fits_another = Taken::default().with(&identity, &pieces).record_bytes() <= room.record_max;
        while !pieces.is_empty() {
            let mut count = taken.count_that_fits(&identity, &pieces, room);
            if count < pieces.len() && fits_another && !room.is_at_end() && !group.is_empty() {
                count = 0;
            }
            if count == 0 && group.is_empty() {
                room.left = 0;
                count = taken.count_that_fits(&identity, &pieces, room).max(1);
            }
            if count > 0 {
                let rest = pieces.split_off(count);
                taken = taken.with(&identity, &pieces);
                group.push(LiveRow { identity: identity.clone(), pieces });
                pieces = rest;
            }
            if !pieces.is_empty() {
                room.filled(std::mem::take(&mut taken));
                groups.push(std::mem::take(&mut group));
            }
        }
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
}

#[cfg(test)]
mod tests {
    use seabed_types::{PoolId, SegmentId};

    use super::*;

    /// Of a victim with one live chunk in nine, nine times the batch was read.
    #[test]
    fn what_is_read_is_at_most_twice_the_pieces() {
        let chunk = |number: u32| (Paddr::new(SegmentId(3), number * 4096), 4096);
        let read = |numbers: &[u32]| ranges_of(numbers.iter().map(|number| chunk(*number)));
        assert_eq!(read(&[0, 1, 2]), [(chunk(0).0, 3 * 4096)]);
        assert_eq!(read(&[0, 2, 4]), [(chunk(0).0, 5 * 4096)], "half is between them, or less");
        assert_eq!(read(&[0, 9, 18]), [chunk(0), chunk(9), chunk(18)]);
        assert_eq!(read(&[0, 1, 2, 3, 7]), [(chunk(0).0, 8 * 4096)]);
        let mut rng = fastrand::Rng::with_seed(11);
        for share in 1..10 {
            let pieces: Vec<u32> = (0..5000).filter(|_| rng.u32(..10) < share).collect();
            let ranges = read(&pieces);
            let bytes: u32 = ranges.iter().map(|(_, bytes)| bytes).sum();
            assert!(bytes as usize <= 2 * 4096 * pieces.len());
            for number in pieces {
                let (at, _) = chunk(number);
                let holds = |(from, bytes): &(Paddr, u32)| {
                    from.offset <= at.offset && at.offset + 4096 <= from.offset + bytes
                };
                assert_eq!(ranges.iter().filter(|range| holds(range)).count(), 1);
            }
        }
    }

    #[test]
    fn pieces_of_a_row_are_cut_to_the_room_of_a_record() {
        let piece = |number: u32| PieceRef {
            at: Paddr::new(SegmentId(3), number * 4096),
            bytes: 4096,
            crc: Crc(number),
        };
        let identity = (PoolId(1), vec![0; 20]);
        let pieces: Vec<_> = (0..16).map(piece).collect();
        let row = |pieces: &[PieceRef]| LiveRow { identity: identity.clone(), pieces: pieces.to_vec() };
        let cut = |rows: Vec<LiveRow>, record_max, left| {
            let groups = groups_for(rows, Room { record_max, left, fresh: 1 << 20 });
            let bytes_of = |group: &Vec<LiveRow>| group.iter().map(|row| row.pieces.clone()).collect();
            groups.iter().map(bytes_of).collect::<Vec<Vec<Vec<PieceRef>>>>()
        };
        assert_eq!(cut(vec![row(&pieces)], 1 << 20, 0), [[pieces.clone()]]);
        let small = cut(vec![row(&pieces)], 16 << 10, 0);
        assert_eq!(small.concat().concat(), pieces);
        assert!(small.iter().all(|group| group.concat().len() <= 3), "a header and three of 4 KiB in 16 KiB");
        assert_eq!(cut(vec![row(&pieces[..1])], 100, 0), [[vec![pieces[0]]]], "one always goes");
        // Two rows that fit no record together: each has its own.
        let apart = cut(vec![row(&pieces[..10]), row(&pieces[10..])], 48 << 10, 0);
        assert_eq!(apart, [[pieces[..10].to_vec()], [pieces[10..].to_vec()]]);
        // Unless the first fills up a segment.
        let filled = cut(vec![row(&pieces[..10]), row(&pieces[10..])], 48 << 10, 40 << 10);
        assert_eq!(filled.concat().concat(), pieces);
        assert_eq!(filled[0], [pieces[..8].to_vec()], "a header, eight of 4 KiB and their list in 40 KiB");
    }

    /// Of records of 200 KiB four went into a segment of 1 MiB, which was worth cleaning at once, to no end.
    #[test]
    fn copies_fill_their_segments() {
        let piece = |number: u32| PieceRef {
            at: Paddr::new(SegmentId(3), number * 4096),
            bytes: 4096,
            crc: Crc(number),
        };
        let fresh = (1 << 20) - FRESH_BLOCKS * BLOCK_BYTES;
        let mut room = Room { record_max: 256 << 10, left: 0, fresh };
        let (mut segments, mut copied) = (0, 0);
        for _ in 0..100 {
            let row = LiveRow { identity: (PoolId(1), vec![0; 20]), pieces: (0..50).map(piece).collect() };
            for group in groups_for(vec![row], room) {
                let add = |taken: Taken, row: &LiveRow| taken.with(&row.identity, &row.pieces);
                let taken = group.iter().fold(Taken::default(), add);
                assert!(taken.record_bytes() <= room.record_max);
                segments += usize::from(room.left < taken.segment_bytes());
                room.filled(taken);
                copied += group.iter().map(LiveRow::bytes).sum::<u64>();
            }
        }
        assert_eq!(copied, 100 * (200 << 10));
        let percent = copied * 100 / ((segments as u64) << 20);
        assert!(percent >= 93, "{segments} segments are full to {percent} %");
    }
}
