//! Record: one atomic append to a stream, built in a device buffer and checked when it is read.
//!
//! ```text
//! 0      header, 96 bytes            what is where, checksums of all of it
//! 96     entries, first part         up to the end of the first block
//! 4096   pieces                      block aligned if 4096 bytes or more; smaller ones packed, none straddles a block
//! ...    entries, the rest           only if they did not fit the first block; zero up to the block's end
//! ```
//!
//! Pieces begin one block after the record, so a piece's address is known the moment it is placed, before anyone knows
//! how long the record gets: nothing is patched later. An entry of up to 4000 bytes costs no block of its own.
//!
//! A record is valid if and only if its header is (magic, seeded checksum, own address, uuid, the segment's incarnation,
//! lengths that fit the segment, zero reserve) and the checksum of its entries is. That its pieces are sound is checked
//! with the checksum of the data only for the last record of a log: a successor proves it (rule L3).
//!
//! Example: one 4 KiB overwrite with 40 bytes of entries is 8192 bytes; thirty-two of them in one record are 132 KiB +
//! 4 KiB, 1.03 device bytes per user byte.
//!
//! Crash: any subset of the 512-byte sectors may be there. Without the header there is no record; with it but without
//! entries or data it is torn, and the log's end (journal `scan`).
//! Cost: one copy and one checksum pass per data byte; growing the buffer copies it, to twice its size. The buffer comes
//! dirty: only what pads is zeroed.
//! Limits: [`crate::Layout::record_bytes_max`].

use std::rc::Rc;

use seabed_device::{Device, WriteBuf};
use seabed_types::{
    BLOCK_BYTES, CHUNK_BYTES, Crc, Epoch, Incarnation, Malformed, Paddr, SegmentId, ShardId,
    round_up_to_block,
};
use smallvec::SmallVec;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Identity, Layout, StreamKind};

/// Bytes of the header; the entries begin behind it.
pub const RECORD_HEADER_BYTES: usize = size_of::<RawRecord>();
/// Bytes of entries that fit the first block.
const ENTRIES_IN_FIRST: usize = BLOCK_BYTES - RECORD_HEADER_BYTES;
const MAGIC: [u8; 4] = *b"SBRC";
const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone)]
#[repr(C)]
struct RawRecord {
    magic: [u8; 4],
    crc: U32,
    uuid: [u8; 16],
    segment: U32,
    offset: U32,
    shard: U16,
    stream: u8,
    zero: u8,
    incarnation: U32,
    epoch: U64,
    number: U64,
    previous: U32,
    entries_bytes: U32,
    pieces_bytes: U32,
    record_bytes: U32,
    entries_crc: U32,
    data_crc: U32,
    reserved: [u8; 16],
}
const _: () = assert!(size_of::<RawRecord>() == 96);
const _: () = assert!(std::mem::offset_of!(RawRecord, epoch) == 40);
const _: () = assert!(std::mem::offset_of!(RawRecord, entries_bytes) == 60);
const _: () = assert!(std::mem::offset_of!(RawRecord, reserved) == 80);

/// What a record says of its place in its stream; known when it is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordPlace {
    /// Whose stream.
    pub shard: ShardId,
    /// Which stream.
    pub stream: StreamKind,
    /// The shard's epoch when it was issued.
    pub epoch: Epoch,
    /// Of which use of the segment.
    pub incarnation: Incarnation,
    /// Lsn in the journal; in another stream the record's number in its segment, from 0.
    pub number: u64,
    /// In the journal the checksum of the previous record's header; in another stream that of the segment's header.
    pub previous: Crc,
}

/// A verified record header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    /// Its own address.
    pub at: Paddr,
    /// Its place in the stream.
    pub place: RecordPlace,
    /// Bytes of entries.
    pub entries_bytes: u32,
    /// Bytes of the area of pieces, whole blocks.
    pub pieces_bytes: u32,
    /// Bytes of the whole record, whole blocks.
    pub record_bytes: u32,
    /// Checksum of the entries.
    pub entries_crc: Crc,
    /// Checksum of the area of pieces, padding included.
    pub data_crc: Crc,
    /// The header's own checksum; the next record of a journal carries it.
    pub crc: Crc,
}

impl RecordHeader {
    /// Verifies the header at the start of `block`, which was read at `at`. Its entries and data are not looked at.
    pub fn decode(block: &[u8], identity: &Identity, layout: &Layout, at: Paddr) -> Result<Self, Malformed> {
        let bad = |what| Malformed { what, offset: 0 };
        let (raw, _) =
            RawRecord::read_from_prefix(block).map_err(|_| bad("record: shorter than a header"))?;
        if raw.magic != MAGIC {
            return Err(bad("record: magic"));
        }
        let mut summed = raw.clone();
        summed.crc = 0.into();
        if identity.header_crc(summed.as_bytes()).0 != raw.crc.get() && !seabed_types::seeded!(52) {
            return Err(bad("record: checksum of the header"));
        }
        if raw.uuid != identity.uuid.0 {
            return Err(bad("record: of another store"));
        }
        if Paddr::new(SegmentId(raw.segment.get()), raw.offset.get()) != at {
            return Err(bad("record: at the wrong place"));
        }
        let stream = StreamKind::try_from(raw.stream).map_err(|()| bad("record: stream"))?;
        let header = Self {
            at,
            place: RecordPlace {
                shard: ShardId(raw.shard.get()),
                stream,
                epoch: Epoch(raw.epoch.get()),
                incarnation: Incarnation(raw.incarnation.get()),
                number: raw.number.get(),
                previous: Crc(raw.previous.get()),
            },
            entries_bytes: raw.entries_bytes.get(),
            pieces_bytes: raw.pieces_bytes.get(),
            record_bytes: raw.record_bytes.get(),
            entries_crc: Crc(raw.entries_crc.get()),
            data_crc: Crc(raw.data_crc.get()),
            crc: Crc(raw.crc.get()),
        };
        let (entries, pieces) = (header.entries_bytes as usize, header.pieces_bytes as usize);
        if raw.zero != 0
            || raw.reserved != [0; 16]
            || !pieces.is_multiple_of(BLOCK_BYTES)
            || entries > layout.segment_bytes as usize
            || pieces > layout.segment_bytes as usize
            || header.record_bytes as usize != record_bytes(entries, pieces)
            || !layout.contains(at, u64::from(header.record_bytes))
        {
            return Err(bad("record: lengths"));
        }
        Ok(header)
    }

    /// The header's bytes, and their checksum, which is taken anew.
    fn encode(&self, identity: &Identity) -> ([u8; RECORD_HEADER_BYTES], Crc) {
        let place = self.place;
        let mut raw = RawRecord {
            magic: MAGIC,
            crc: 0.into(),
            uuid: identity.uuid.0,
            segment: self.at.segment.0.into(),
            offset: self.at.offset.into(),
            shard: place.shard.0.into(),
            stream: place.stream as u8,
            zero: 0,
            incarnation: place.incarnation.0.into(),
            epoch: place.epoch.0.into(),
            number: place.number.into(),
            previous: place.previous.0.into(),
            entries_bytes: self.entries_bytes.into(),
            pieces_bytes: self.pieces_bytes.into(),
            record_bytes: self.record_bytes.into(),
            entries_crc: self.entries_crc.0.into(),
            data_crc: self.data_crc.0.into(),
            reserved: [0; 16],
        };
        let crc = identity.header_crc(raw.as_bytes());
        raw.crc = crc.0.into();
        (raw.as_bytes().try_into().expect("a header has that many bytes"), crc)
    }

    /// Where what stands behind the record's pieces begins: the rest of its entries, if they do not fit the first block.
    pub fn behind_pieces(&self) -> Paddr {
        self.at.plus(u32::try_from(BLOCK_BYTES).expect("a block is small") + self.pieces_bytes)
    }

    /// The first byte behind the record.
    pub fn end(&self) -> u32 {
        self.at.offset + self.record_bytes
    }

    /// Whether the area of pieces of `record` (all its bytes) has the checksum that the header names.
    pub fn data_is_sound(&self, record: &[u8]) -> bool {
        let end = BLOCK_BYTES + self.pieces_bytes as usize;
        record.get(BLOCK_BYTES..end).is_some_and(|pieces| Crc::of(pieces) == self.data_crc)
    }
}

/// The entries of a record (all whose bytes are given), verified.
pub fn entries_of(header: &RecordHeader, record: &[u8]) -> Result<Vec<u8>, Malformed> {
    let bad = Malformed { what: "record: shorter than its pieces", offset: 0 };
    let rest = record.get(BLOCK_BYTES + header.pieces_bytes as usize..).ok_or(bad)?;
    entries_of_parts(header, record, rest)
}

/// As [`entries_of`], of the record's first block and what stands behind its pieces.
pub fn entries_of_parts(header: &RecordHeader, block: &[u8], rest: &[u8]) -> Result<Vec<u8>, Malformed> {
    let bad = Malformed { what: "record: checksum of the entries", offset: 0 };
    let bytes = header.entries_bytes as usize;
    let first = bytes.min(ENTRIES_IN_FIRST);
    let mut entries = block.get(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + first).ok_or(bad)?.to_vec();
    entries.extend_from_slice(rest.get(..bytes - first).ok_or(bad)?);
    if Crc::of(&entries) == header.entries_crc || seabed_types::seeded!(5) { Ok(entries) } else { Err(bad) }
}

/// A whole record of one piece whose entries fit its first block, built without a device; its piece is at [`BLOCK_BYTES`].
///
/// Panics: the entries do not fit, or there is no piece.
pub fn record_of_piece(
    identity: &Identity,
    at: Paddr,
    place: RecordPlace,
    entries: &[u8],
    piece: &[u8],
) -> Vec<u8> {
    assert!(entries.len() <= ENTRIES_IN_FIRST && !piece.is_empty());
    let mut record = vec![0; RECORD_HEADER_BYTES];
    record.extend_from_slice(entries);
    record.resize(BLOCK_BYTES, 0);
    record.extend_from_slice(piece);
    record.resize(round_up_to_block(record.len()), 0);
    let word = |bytes: usize| u32::try_from(bytes).expect("a record is smaller than a segment");
    let header = RecordHeader {
        at,
        place,
        entries_bytes: word(entries.len()),
        pieces_bytes: word(record.len() - BLOCK_BYTES),
        record_bytes: word(record.len()),
        entries_crc: Crc::of(entries),
        data_crc: Crc::of(&record[BLOCK_BYTES..]),
        crc: Crc::default(),
    };
    record[..RECORD_HEADER_BYTES].copy_from_slice(&header.encode(identity).0);
    record
}

/// Bytes of a record with that many bytes of entries and a pieces area of `pieces` (whole blocks).
fn record_bytes(entries: usize, pieces: usize) -> usize {
    BLOCK_BYTES + pieces + round_up_to_block(entries.saturating_sub(ENTRIES_IN_FIRST))
}

/// Where a piece of `bytes` bytes begins if `filled` bytes of the area of pieces are taken.
fn piece_start(filled: usize, bytes: usize) -> usize {
    let in_block = filled % BLOCK_BYTES;
    if in_block != 0 && in_block + bytes > BLOCK_BYTES { round_up_to_block(filled) } else { filled }
}

/// Bytes that pieces of these lengths take of a record, alignment included, if the first begins a block. A first that
/// does not never makes them end later than if it began the next one.
pub fn packed_bytes(pieces: impl IntoIterator<Item = usize>) -> usize {
    pieces.into_iter().fold(0, |filled, bytes| piece_start(filled, bytes) + bytes)
}

/// Bytes of a record with pieces that take `packed` bytes ([`packed_bytes`]) and that many bytes of entries.
pub fn record_bytes_of(packed: usize, entries: usize) -> usize {
    record_bytes(entries, round_up_to_block(packed))
}

/// How the checksums of a piece are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Summing {
    /// One per 4096 bytes.
    Chunks,
    /// One for the whole.
    Whole,
}

/// Where a piece was placed and what it sums to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Its address.
    pub at: Paddr,
    /// Its checksums, as asked for.
    pub crcs: SmallVec<[Crc; 16]>,
}

/// A record that is being filled.
pub struct RecordBuilder {
    device: Rc<dyn Device>,
    buf: WriteBuf,
    at: Paddr,
    bytes_max: usize,
    pieces: usize,
    data_crc: Crc,
    entries: Vec<u8>,
}

impl std::fmt::Debug for RecordBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let record = &mut f.debug_struct("RecordBuilder");
        record.field("at", &self.at).field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl RecordBuilder {
    /// Begins a record at `at` of at most `bytes_max` bytes, in a buffer that has room for `bytes_hint`.
    pub fn new(device: Rc<dyn Device>, at: Paddr, bytes_max: usize, bytes_hint: usize) -> Self {
        assert!(bytes_max >= BLOCK_BYTES && (at.offset as usize).is_multiple_of(BLOCK_BYTES));
        let buf = device.alloc_dirty(round_up_to_block(bytes_hint.clamp(BLOCK_BYTES, bytes_max)));
        Self { device, buf, at, bytes_max, pieces: 0, data_crc: Crc::default(), entries: Vec::new() }
    }

    /// The record's address.
    pub fn at(&self) -> Paddr {
        self.at
    }

    /// Bytes of the record if it were closed now.
    pub fn bytes(&self) -> usize {
        record_bytes(self.entries.len(), round_up_to_block(self.pieces))
    }

    /// Whether pieces that take `packed` bytes ([`packed_bytes`]) and `entries` more bytes of entries still fit.
    pub fn fits(&self, packed: usize, entries: usize) -> bool {
        self.bytes_with(packed, entries) <= self.bytes_max
    }

    /// The most bytes that the record can have when those are put in.
    pub fn bytes_with(&self, packed: usize, entries: usize) -> usize {
        let filled = if packed == 0 { self.pieces } else { round_up_to_block(self.pieces) };
        record_bytes_of(filled + packed, self.entries.len() + entries)
    }

    /// Copies a piece in, from its parts, and sums it. The caller has checked that it fits.
    pub fn place(&mut self, parts: &[&[u8]], summing: Summing) -> Placed {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        assert!(bytes > 0, "a piece has bytes");
        if piece_start(self.pieces, bytes) > self.pieces {
            self.pad_pieces();
        }
        let start = BLOCK_BYTES + self.pieces;
        self.grow_to(start + bytes);
        let mut to = start;
        for part in parts {
            self.buf[to..to + part.len()].copy_from_slice(part);
            to += part.len();
        }
        let unit = if summing == Summing::Chunks { CHUNK_BYTES } else { bytes };
        let mut crcs = SmallVec::with_capacity(bytes.div_ceil(unit));
        for chunk in self.buf[start..to].chunks(unit) {
            let crc = Crc::of(chunk);
            self.data_crc = self.data_crc.then(crc, chunk.len());
            crcs.push(crc);
        }
        self.pieces += bytes;
        let offset = u32::try_from(start).expect("a record is smaller than a segment");
        Placed { at: self.at.plus(offset), crcs }
    }

    /// The `bytes` bytes at `at`, if they are a piece, or part of one, of this record.
    pub fn piece_at(&self, at: Paddr, bytes: usize) -> Option<&[u8]> {
        let start = (at.offset as usize).checked_sub(self.at.offset as usize + BLOCK_BYTES)?;
        if at.segment != self.at.segment || start + bytes > self.pieces {
            return None;
        }
        self.buf.get(BLOCK_BYTES + start..BLOCK_BYTES + start + bytes)
    }

    /// The entries so far, to append to. The caller has checked that what it appends fits.
    pub fn entries(&mut self) -> &mut Vec<u8> {
        &mut self.entries
    }

    /// Whether anything was put in.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.pieces == 0
    }

    /// Closes the record: its bytes, to be written at its address, and its header.
    pub fn close(mut self, identity: &Identity, place: RecordPlace) -> (Rc<WriteBuf>, RecordHeader) {
        self.pad_pieces();
        let pieces = self.pieces;
        let total = record_bytes(self.entries.len(), pieces);
        assert!(total <= self.bytes_max, "callers ask whether it fits");
        self.grow_to(total);
        let (first, rest) = self.entries.split_at(self.entries.len().min(ENTRIES_IN_FIRST));
        put_padded(&mut self.buf[RECORD_HEADER_BYTES..BLOCK_BYTES], first);
        put_padded(&mut self.buf[BLOCK_BYTES + pieces..total], rest);
        let word = |bytes: usize| u32::try_from(bytes).expect("a record is smaller than a segment");
        let mut header = RecordHeader {
            at: self.at,
            place,
            entries_bytes: word(self.entries.len()),
            pieces_bytes: word(pieces),
            record_bytes: word(total),
            entries_crc: Crc::of(&self.entries),
            data_crc: self.data_crc,
            crc: Crc::default(),
        };
        let (bytes, crc) = header.encode(identity);
        header.crc = crc;
        self.buf[..RECORD_HEADER_BYTES].copy_from_slice(&bytes);
        self.buf.truncate(total);
        (Rc::new(self.buf), header)
    }

    /// Pads the area of pieces with zeros to whole blocks.
    fn pad_pieces(&mut self) {
        let padded = round_up_to_block(self.pieces);
        self.buf[BLOCK_BYTES + self.pieces..BLOCK_BYTES + padded].fill(0);
        self.data_crc = self.data_crc.append(&ZEROS[..padded - self.pieces]);
        self.pieces = padded;
    }

    fn grow_to(&mut self, bytes: usize) {
        if bytes <= self.buf.len() {
            return;
        }
        let goal = round_up_to_block(bytes).max((self.buf.len() * 2).min(round_up_to_block(self.bytes_max)));
        let mut larger = self.device.alloc_dirty(goal);
        let placed = BLOCK_BYTES + self.pieces;
        larger[BLOCK_BYTES..placed].copy_from_slice(&self.buf[BLOCK_BYTES..placed]);
        self.buf = larger;
    }
}

/// Puts `bytes` at the beginning of `to`, and zeros behind them.
fn put_padded(to: &mut [u8], bytes: &[u8]) {
    let (front, rest) = to.split_at_mut(bytes.len());
    front.copy_from_slice(bytes);
    rest.fill(0);
}

#[cfg(test)]
mod tests;
