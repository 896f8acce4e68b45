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
//! Cost: the window is read once, in 1 MiB pieces; the search behind the end reads the rest of one segment and the next.
//! Memory: one region of reads and one record's entries.

use std::rc::Rc;

use seabed_device::{Class, Device, DeviceError};
use seabed_segment::{Identity, Layout, RecordHeader, SEGMENT_HEADER_BYTES, StreamKind, entries_of};
use seabed_types::{BLOCK_BYTES, Crc, Epoch, Incarnation, Lsn, Malformed, Paddr, SegmentId, ShardId};

use crate::end::{Evidence, Found, Verdict, verdict};
use crate::{Cut, EntryRef, JournalSegment};

/// Bytes of one read.
const REGION_BYTES: usize = 1 << 20;
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
#[non_exhaustive]
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

/// What a scan reads with.
struct Reader {
    device: Rc<dyn Device>,
    layout: Layout,
    region: Option<(Paddr, Vec<u8>)>,
    bytes_read: u64,
}

impl Reader {
    /// `bytes` bytes at `at`, which lie within a segment.
    async fn fetch(&mut self, at: Paddr, bytes: usize) -> Result<&[u8], DeviceError> {
        let hit = self.region.as_ref().is_some_and(|(start, region)| {
            start.segment == at.segment
                && start.offset <= at.offset
                && (at.offset - start.offset) as usize + bytes <= region.len()
        });
        if !hit {
            let left = (self.layout.segment_bytes - at.offset) as usize;
            let count = bytes.max(REGION_BYTES).min(left);
            let read = match self.read(at, count).await {
                Ok(read) => read,
                // What cannot be read may lie behind what is wanted.
                Err(_) if count > bytes => self.read(at, bytes).await?,
                Err(error) => return Err(error),
            };
            self.region = Some((at, read));
        }
        let (start, region) = self.region.as_ref().expect("just read");
        let from = (at.offset - start.offset) as usize;
        Ok(&region[from..from + bytes])
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

/// A record that is valid but for its data.
struct Candidate {
    header: RecordHeader,
    entries: Vec<u8>,
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
        let record = self.fetch(at, header.record_bytes as usize).await?;
        let entries = match entries_of(&header, record) {
            Ok(entries) => entries,
            Err(malformed) => return Ok(Err(malformed.what)),
        };
        Ok(match EntryRef::decode_all(&entries, |_| {}) {
            Ok(()) => Ok(Candidate { header, entries }),
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
        let claims = EntryRef::decode_all(&candidate.entries, |entry| {
            if let EntryRef::Claim { segment, incarnation, stream: StreamKind::Journal, .. } = entry {
                self.next = Some((segment, incarnation));
            }
        });
        debug_assert!(claims.is_ok(), "a candidate's entries decode");
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
    let mut reader = Reader { device, layout: *layout, region: None, bytes_read: 0 };
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
