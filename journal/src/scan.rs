//! Scan: reads the window of a journal, in order, from P to wherever the log ends, and says why it ends there.
//!
//! A record n is looked for behind record n - 1 in the same segment, else first in the segment claimed next. It is taken
//! if its header and entries are valid and it says what it must: this shard's journal, lsn n, the chain checksum of n - 1,
//! the segment's incarnation, no epoch older than the newest cut at or before n. Where that fails, [`crate::verdict`] decides
//! between torn and damaged by the evidence of slots and of records behind (rules L3, C6, C8).
//!
//! A record's entries are handed out when the next one has been found, or at the end when its data is sound too: so the
//! visitor never sees a torn record.
//!
//! A mount in place knows where the log ends, in memory, and gives the scan that limit; what stands behind is not looked at.
//!
//! Only what is needed is read: of a record with many data its header's block and the rest of its entries, which come with the
//! header of the next one. Where the data are few it is quicker to read on.
//!
//! Example: 64 overwrites are a record of 260 KiB. At 1 GB/s that takes 260 us to read; its header and the entries take 80.
//!
//! Cost: one read of 16 KiB for each record with many data, which is on its way while the record before is handed out; of all
//! else pieces of 512 KiB, of which up to four are on their way. The search behind the end reads the rest of one segment and
//! the next.
//! Memory: the pieces that are on their way, one more and a record's bytes, and one record's entries.

use std::collections::VecDeque;
use std::rc::Rc;

use seabed_device::{Class, Device, DeviceError, Local, ReadBuf};
use seabed_segment::{
    Identity, Layout, RecordHeader, SEGMENT_HEADER_BYTES, StreamKind, entries_of, entries_of_parts,
};
use seabed_types::{BLOCK_BYTES, Crc, Epoch, Incarnation, Lsn, Malformed, Paddr, SegmentId, ShardId};

use crate::end::{Evidence, Found, Verdict, verdict};
use crate::{Cut, EntryRef, JournalSegment};

/// Bytes of one read, and at most a quarter of a segment.
const REGION_BYTES: usize = 512 << 10;
/// So many reads are begun before they are needed, at most.
const AHEAD: usize = 4;
/// Data of so many bytes, and of at most a sixteenth of a segment, are not read. A slow device reads them in the time that a
/// read takes in any case, and one that answers in 80 us passes 10,900 such records, a GiB of the journal, in 0.9 s.
const LEAPT_MIN: usize = 96 << 10;
/// What is read behind data that are not: the rest of the entries, the next header, and some more.
const LANDING_BYTES: usize = 16 << 10;
/// How often a failed read is tried in all.
const READ_TRIES: usize = 3;

/// Where to begin, and what is known from the slots.
#[derive(Clone, Debug)]
pub struct Begin {
    /// P.
    pub lsn: Lsn,
    /// Where record P is, or would go.
    pub at: Paddr,
    /// The chain checksum that record P carries.
    pub previous: Crc,
    /// The journal's segments from P on as of E; the first holds P.
    pub segments: Vec<JournalSegment>,
    /// The one claimed after those, as of E.
    pub next: Option<(SegmentId, Incarnation)>,
    /// The cuts of the newest valid slot.
    pub cuts: Vec<Cut>,
    /// Every record below this was durable: the largest E or cut of any valid slot.
    pub proven: Lsn,
    /// The log ends before this record, whatever stands there: a mount in place knows it (rule E1).
    pub limit: Option<Lsn>,
}

/// Where the log ends.
#[derive(Clone, Debug)]
pub struct ScanEnd {
    /// The lsn that the next record gets.
    pub lsn: Lsn,
    /// Where it goes if it fits there.
    pub at: Paddr,
    /// The incarnation of that segment.
    pub incarnation: Incarnation,
    /// The chain checksum that it carries.
    pub previous: Crc,
    /// The journal's segments from P on.
    pub segments: Vec<JournalSegment>,
    /// The one claimed after those.
    pub next: Option<(SegmentId, Incarnation)>,
    /// The newest epoch that a cut asks for.
    pub epoch: Epoch,
    /// What was cut off, if anything stood there.
    pub torn: Option<Torn>,
    /// Bytes read.
    pub bytes_read: u64,
    /// Records handed out.
    pub records: u64,
}

/// A torn end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Torn {
    /// Where.
    pub at: Paddr,
    /// Which record it would have been.
    pub lsn: Lsn,
    /// What is wrong with it.
    pub what: &'static str,
}

/// The window cannot be read to its end.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScanError {
    /// The device failed.
    #[error("journal window: {0}")]
    Device(#[from] DeviceError),
    /// A record that was durable is damaged.
    #[error("journal is damaged at {at}: record {lsn} was durable and is not valid: {what}")]
    Damaged {
        /// Where the record should be.
        at: Paddr,
        /// Which.
        lsn: Lsn,
        /// What is wrong.
        what: &'static str,
    },
}

/// Takes a record that belongs to the log: its header and its entries.
pub type Visit<'a> = &'a mut dyn FnMut(&RecordHeader, &[u8]) -> Result<(), Malformed>;

/// A read that was begun: from where, how many bytes, and its end.
struct Ahead {
    at: Paddr,
    bytes: usize,
    reading: Local<Result<ReadBuf, DeviceError>>,
}

/// What a scan reads with. Who reads on in a segment finds the next pieces on their way.
struct Reader {
    device: Rc<dyn Device>,
    layout: Layout,
    /// The bytes that are kept, and where they begin.
    start: Paddr,
    region: Vec<u8>,
    /// The pieces behind them, one after the other.
    ahead: VecDeque<Ahead>,
    /// Pieces that were read in a row.
    run: usize,
    /// The data of the last record were many: what comes is not read on.
    is_leaping: bool,
    bytes_read: u64,
}

impl Reader {
    fn new(device: Rc<dyn Device>, layout: Layout) -> Self {
        let (start, region, ahead) = (Paddr::default(), Vec::new(), VecDeque::new());
        Self { device, layout, start, region, ahead, run: 0, is_leaping: false, bytes_read: 0 }
    }

    /// `bytes` bytes at `at`, which lie within a segment.
    async fn fetch(&mut self, at: Paddr, bytes: usize) -> Result<&[u8], DeviceError> {
        let (first, end) = (self.start.offset as usize, self.start.offset as usize + self.region.len());
        let is_kept = at.segment == self.start.segment && (first..=end).contains(&(at.offset as usize));
        let skip = if is_kept { at.offset as usize - first } else { 0 };
        if !is_kept || skip + bytes > self.region.len() {
            if is_kept {
                self.region.drain(..skip);
            } else {
                self.region.clear();
                self.run = 0;
            }
            self.start = at;
            while self.region.len() < bytes {
                self.read_on(bytes).await?;
            }
        }
        let skip = (at.offset - self.start.offset) as usize;
        Ok(&self.region[skip..skip + bytes])
    }

    /// Whether the data of a record are not read: they are many, and not on their way anyhow.
    fn leaps(&mut self, header: &RecordHeader) -> bool {
        self.is_leaping =
            header.pieces_bytes as usize >= LEAPT_MIN.min(self.layout.segment_bytes as usize / 16);
        let kept = self.start.offset as usize + self.region.len();
        let coming = self.ahead.back().map_or(kept, |last| last.at.offset as usize + last.bytes);
        let is_coming =
            header.at.segment == self.start.segment && header.behind_pieces().offset as usize <= coming;
        self.is_leaping && !is_coming
    }

    /// Begins to read what stands behind the data of a record: the rest of its entries, and the next header. Only what of it is
    /// asked for later has to be readable.
    fn land(&mut self, header: &RecordHeader) {
        seabed_types::reached!(DataLeapt);
        let landing = header.behind_pieces();
        self.ahead.clear();
        if landing.offset < self.layout.segment_bytes {
            let rest = (header.end() - landing.offset) as usize;
            self.ahead.push_back(self.piece(landing, LANDING_BYTES.max(rest + BLOCK_BYTES)));
        }
    }

    /// Does so for the record at `at`, if its header is here. It may turn out not to be the log's: then what was read is not used.
    fn land_ahead(&mut self, identity: &Identity, at: Paddr) {
        let is_here = at.segment == self.start.segment && at.offset >= self.start.offset;
        let skip = if is_here { (at.offset - self.start.offset) as usize } else { usize::MAX / 2 };
        let Some(block) = self.region.get(skip..skip + BLOCK_BYTES) else { return };
        let Ok(header) = RecordHeader::decode(block, identity, &self.layout, at) else { return };
        if self.leaps(&header) {
            self.land(&header);
        }
    }

    /// Appends the next piece to the region, of which `bytes` bytes are wanted.
    async fn read_on(&mut self, bytes: usize) -> Result<(), DeviceError> {
        let kept = u32::try_from(self.region.len()).expect("less than a segment");
        let next = self.start.plus(kept);
        self.begin(next);
        let piece = self.ahead.pop_front().expect("begun");
        debug_assert_eq!(piece.at, next, "pieces follow one another");
        if let Ok(read) = piece.reading.await {
            self.bytes_read += piece.bytes as u64;
            self.region.extend_from_slice(&read);
            self.run += 1;
            return Ok(());
        }
        // What cannot be read may lie behind what is wanted.
        self.ahead.clear();
        self.run = 0;
        let missing = (bytes - self.region.len()).next_multiple_of(BLOCK_BYTES);
        let read = self.read(next, missing).await?;
        self.region.extend_from_slice(&read);
        Ok(())
    }

    /// Begins the reads of the piece at `next` and of as many behind it as were read in a row, up to the segment's end.
    fn begin(&mut self, next: Paddr) {
        if self.ahead.front().is_some_and(|ahead| ahead.at != next) {
            self.ahead.clear();
        }
        let mut at = self.ahead.back().map_or(next, |last| behind(last.at, last.bytes));
        let most = if self.is_leaping { 0 } else { self.run.min(AHEAD) };
        while self.ahead.len() <= most && at.offset < self.layout.segment_bytes {
            let bytes = if self.run == 0 { LANDING_BYTES } else { REGION_BYTES };
            let piece = self.piece(at, bytes);
            at = behind(at, piece.bytes);
            self.ahead.push_back(piece);
        }
    }

    /// Begins a read of up to `bytes` bytes. It is with the device at once, so that it is on its way while records are handed out.
    fn piece(&self, at: Paddr, bytes: usize) -> Ahead {
        let left = (self.layout.segment_bytes - at.offset) as usize;
        let bytes = bytes.min(self.layout.segment_bytes as usize / 4).min(left);
        Ahead { at, bytes, reading: self.device.read(self.layout.device_offset(at), bytes, Class::Commit) }
    }

    async fn read(&mut self, at: Paddr, bytes: usize) -> Result<Vec<u8>, DeviceError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.device.read(self.layout.device_offset(at), bytes, Class::Foreground).await {
                Ok(read) => {
                    self.bytes_read += bytes as u64;
                    return Ok(read.to_vec());
                }
                Err(_) if seabed_types::seeded!(55) => return Ok(vec![0; bytes]),
                Err(error) if tries == READ_TRIES => return Err(error),
                Err(_) => {}
            }
        }
    }
}

fn behind(at: Paddr, bytes: usize) -> Paddr {
    at.plus(u32::try_from(bytes).expect("a read lies in a segment"))
}

/// A record that is valid but for its data.
struct Candidate {
    header: RecordHeader,
    entries: Vec<u8>,
    /// The segment that it claims for the journal.
    claimed: Option<(SegmentId, Incarnation)>,
}

/// What record n must say.
#[derive(Clone, Copy)]
struct Expected {
    shard: ShardId,
    lsn: Lsn,
    previous: Crc,
    epoch: Epoch,
}

impl Reader {
    async fn candidate(
        &mut self,
        identity: &Identity,
        at: Paddr,
        incarnation: Incarnation,
        expected: Expected,
    ) -> Result<Result<Candidate, &'static str>, DeviceError> {
        let layout = self.layout;
        if !layout.contains(at, BLOCK_BYTES as u64) {
            return Ok(Err("the segment's end"));
        }
        let header = match RecordHeader::decode(self.fetch(at, BLOCK_BYTES).await?, identity, &layout, at) {
            Ok(header) => header,
            Err(malformed) => return Ok(Err(malformed.what)),
        };
        let place = header.place;
        if place.shard != expected.shard || place.stream != StreamKind::Journal {
            return Ok(Err("a record of another stream"));
        }
        if place.number != expected.lsn.0 {
            return Ok(Err("a record with another lsn"));
        }
        if place.incarnation != incarnation
            || place.epoch < expected.epoch
            || place.previous != expected.previous
        {
            return Ok(Err("a record of another time"));
        }
        let is_landing = self.ahead.front().is_some_and(|ahead| ahead.at == header.behind_pieces());
        let mut leaps = is_landing || self.leaps(&header);
        // What was on its way is read whole, but none of the data is needed.
        leaps |= !leaps && self.is_leaping && self.fetch(at, header.record_bytes as usize).await.is_err();
        let entries = if leaps {
            let (block, landing) = (self.fetch(at, BLOCK_BYTES).await?.to_vec(), header.behind_pieces());
            if !is_landing {
                self.land(&header);
            }
            let rest = (header.end() - landing.offset) as usize;
            let rest = if rest == 0 { &[] } else { self.fetch(landing, rest).await? };
            entries_of_parts(&header, &block, rest)
        } else {
            entries_of(&header, self.fetch(at, header.record_bytes as usize).await?)
        };
        let entries = match entries {
            Ok(entries) => entries,
            Err(malformed) => return Ok(Err(malformed.what)),
        };
        self.land_ahead(identity, Paddr::new(at.segment, header.end()));
        let mut claimed = None;
        let decoded = EntryRef::decode_all(&entries, |entry| {
            if let EntryRef::Claim { segment, incarnation, stream: StreamKind::Journal, .. } = entry {
                claimed = Some((segment, incarnation));
            }
        });
        Ok(match decoded {
            Ok(()) => Ok(Candidate { header, entries, claimed }),
            Err(malformed) => Err(malformed.what),
        })
    }

    /// Whether a later record of this log lies in `segment` at or behind `offset` (rule C8).
    async fn has_successor(
        &mut self,
        identity: &Identity,
        (segment, incarnation): (SegmentId, Incarnation),
        offset: u32,
        expected: Expected,
    ) -> Result<bool, DeviceError> {
        let layout = self.layout;
        self.is_leaping = false;
        let mut at = Paddr::new(segment, offset);
        while layout.contains(at, BLOCK_BYTES as u64) {
            let block = self.fetch(at, BLOCK_BYTES).await?;
            if let Ok(header) = RecordHeader::decode(block, identity, &layout, at) {
                let place = header.place;
                if place.shard == expected.shard
                    && place.stream == StreamKind::Journal
                    && place.incarnation == incarnation
                    && place.number > expected.lsn.0
                    && place.epoch >= expected.epoch
                {
                    return Ok(true);
                }
            }
            at = at.plus(SEGMENT_HEADER_BYTES);
        }
        Ok(false)
    }
}

/// The position of a scan: where record n is expected.
struct Position {
    lsn: Lsn,
    at: Paddr,
    incarnation: Incarnation,
    previous: Crc,
    next: Option<(SegmentId, Incarnation)>,
    epoch: Epoch,
    segments: Vec<JournalSegment>,
}

impl Position {
    /// At a cut's lsn the log goes on at the cut's address.
    fn follow(&mut self, cuts: &[Cut]) {
        let lsn = self.lsn;
        for cut in cuts.iter().filter(|cut| cut.lsn == lsn) {
            self.epoch = cut.epoch;
            if cut.at != self.at {
                seabed_types::reached!(CutFollowed);
                self.enter(cut.at, cut.incarnation);
            }
        }
    }

    fn enter(&mut self, at: Paddr, incarnation: Incarnation) {
        self.at = at;
        self.incarnation = incarnation;
        self.next = None;
        self.segments.push(JournalSegment { segment: at.segment, incarnation, first: self.lsn });
    }

    fn take(&mut self, candidate: &Candidate) {
        let header = &candidate.header;
        if header.at.segment != self.at.segment {
            seabed_types::reached!(ReplayRolled);
            self.enter(header.at, header.place.incarnation);
        }
        self.next = candidate.claimed.or(self.next);
        self.at = Paddr::new(header.at.segment, header.end());
        self.previous = header.crc;
        self.lsn = self.lsn.next();
    }
}

/// Reads the window and hands out each record of the log in order: its header and its entries.
///
/// The device must be idle. Nothing is written. Errors of `visit` are taken as damage at the record.
pub async fn scan(
    (device, layout, identity, shard): (Rc<dyn Device>, &Layout, &Identity, ShardId),
    begin: Begin,
    visit: Visit<'_>,
) -> Result<ScanEnd, ScanError> {
    let mut reader = Reader::new(device, *layout);
    let first = *begin.segments.first().ok_or(ScanError::Damaged {
        at: begin.at,
        lsn: begin.lsn,
        what: "the checkpoint names no journal segment",
    })?;
    let mut position = Position {
        lsn: begin.lsn,
        at: begin.at,
        incarnation: first.incarnation,
        previous: begin.previous,
        // Until the log itself says more, the segments that the checkpoint names follow one another (rule C2).
        next: begin.segments.get(1).map(|segment| (segment.segment, segment.incarnation)).or(begin.next),
        epoch: Epoch(0),
        segments: vec![first],
    };
    for cut in begin.cuts.iter().filter(|cut| cut.lsn < begin.lsn) {
        position.epoch = cut.epoch;
    }
    let mut last: Option<(Candidate, Undo)> = None;
    let mut records = 0;
    loop {
        position.follow(&begin.cuts);
        let expected =
            Expected { shard, lsn: position.lsn, previous: position.previous, epoch: position.epoch };
        let is_over = begin.limit.is_some_and(|limit| position.lsn >= limit);
        let mut found = if is_over {
            Ok(Err("the end that is known"))
        } else {
            reader.candidate(identity, position.at, position.incarnation, expected).await
        }?;
        if let (Err(_), Some((segment, incarnation)), false) = (&found, position.next, is_over) {
            let at = Paddr::new(segment, SEGMENT_HEADER_BYTES);
            if let Ok(candidate) = reader.candidate(identity, at, incarnation, expected).await? {
                found = Ok(candidate);
            }
        }
        match found {
            Ok(candidate) => {
                if let Some((before, _)) = last.take() {
                    hand_out(&before, visit)?;
                    records += 1;
                }
                let undo = Undo::of(&position);
                position.take(&candidate);
                last = Some((candidate, undo));
            }
            Err(what) => {
                let mut torn = if is_over {
                    None
                } else {
                    end_here(&mut reader, identity, &position, expected, begin.proven, what).await?
                };
                if let Some((candidate, undo)) = last.take() {
                    if sound_or_proven(&mut reader, &candidate, begin.proven).await? {
                        hand_out(&candidate, visit)?;
                        records += 1;
                    } else {
                        seabed_types::reached!(TornData);
                        torn = Some(Torn {
                            at: candidate.header.at,
                            lsn: Lsn(candidate.header.place.number),
                            what: "record: checksum of the data",
                        });
                        if !seabed_types::seeded!(30) {
                            undo.apply(&mut position);
                        }
                    }
                }
                return Ok(ScanEnd {
                    lsn: position.lsn,
                    at: position.at,
                    incarnation: position.incarnation,
                    previous: position.previous,
                    segments: position.segments,
                    next: position.next,
                    epoch: position.epoch,
                    torn,
                    bytes_read: reader.bytes_read,
                    records,
                });
            }
        }
    }
}

/// What taking a record changed in the position.
struct Undo {
    lsn: Lsn,
    at: Paddr,
    incarnation: Incarnation,
    previous: Crc,
    next: Option<(SegmentId, Incarnation)>,
    segments: usize,
}

impl Undo {
    fn of(position: &Position) -> Self {
        Self {
            lsn: position.lsn,
            at: position.at,
            incarnation: position.incarnation,
            previous: position.previous,
            next: position.next,
            segments: position.segments.len(),
        }
    }

    fn apply(self, position: &mut Position) {
        position.lsn = self.lsn;
        position.at = self.at;
        position.incarnation = self.incarnation;
        position.previous = self.previous;
        position.next = self.next;
        position.segments.truncate(self.segments);
    }
}

fn hand_out(candidate: &Candidate, visit: Visit<'_>) -> Result<(), ScanError> {
    let header = &candidate.header;
    visit(header, &candidate.entries).map_err(|malformed| ScanError::Damaged {
        at: header.at,
        lsn: Lsn(header.place.number),
        what: malformed.what,
    })
}

/// A last record that a slot proves needs no sound data to belong to the log; any other does (rule L3).
async fn sound_or_proven(reader: &mut Reader, last: &Candidate, proven: Lsn) -> Result<bool, ScanError> {
    if last.header.place.number < proven.0 || seabed_types::seeded!(6) {
        return Ok(true);
    }
    let record = reader.fetch(last.header.at, last.header.record_bytes as usize).await?;
    Ok(last.header.data_is_sound(record))
}

async fn end_here(
    reader: &mut Reader,
    identity: &Identity,
    position: &Position,
    expected: Expected,
    proven: Lsn,
    what: &'static str,
) -> Result<Option<Torn>, ScanError> {
    let lsn = position.lsn;
    let mut evidence = Evidence { slots: lsn < proven && !seabed_types::seeded!(32), successor: false };
    if !evidence.slots && !seabed_types::seeded!(31) {
        let here = (position.at.segment, position.incarnation);
        evidence.successor = reader.has_successor(identity, here, position.at.offset, expected).await?;
        if let (false, Some(next)) = (evidence.successor, position.next) {
            evidence.successor = reader.has_successor(identity, next, SEGMENT_HEADER_BYTES, expected).await?;
        }
    }
    match verdict(Found::Invalid, evidence) {
        Verdict::Damaged => Err(ScanError::Damaged { at: position.at, lsn, what }),
        // A clean end has nothing there: old bytes, or zeros. Only something that calls itself this record was torn.
        Verdict::Take | Verdict::Report | Verdict::Torn => {
            let is_torn = what == "record: checksum of the entries";
            if is_torn {
                seabed_types::reached!(TornEnd);
            }
            Ok(is_torn.then_some(Torn { at: position.at, lsn, what }))
        }
    }
}
