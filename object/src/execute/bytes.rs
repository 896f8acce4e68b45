//! Bytes: write, zero and truncate.
//!
//! While an object's data is inline they change the onode. Else they work on chunks, whose extents begin in the onode too: a
//! whole chunk is replaced; of a partly written one the old bytes that survive are read and merged, into a new chunk as long as its last byte needs. So
//! a file that grows in small steps rewrites its last chunk only, and no chunk holds bytes behind its object's size.
//! Chunks that become all zeros by `zero` or `truncate` become holes.
//!
//! Worked example: an object of 10,000 bytes has chunks of 4096, 4096 and 1808 bytes. Writing 100 bytes at 9,000 reads
//! the third and stores 1808 bytes anew; truncating to 9,000 reads it and stores 808.
//!
//! Invariant: a chunk ends at or before its object's size.

use std::ops::ControlFlow;

use bytes::Bytes;
use seabed_types::{CHUNK_BYTES, TreeKind};
use smallvec::SmallVec;

use super::object::Object;
use super::{EachRow, Env, Halt, Source};
use crate::edit::{ExtentsEdit, Slot};
use crate::effects::Stored;
use crate::extents::{Chunk, FULL};
use crate::key::{self, Position};
use crate::onode::Parts;
use crate::view::{Direction, Stop};
use crate::{ROW_BYTES, ROW_CHUNKS};

/// Ranges over at most so many rows look up each, longer ones visit those that exist.
const ROWS_LOOKED_UP: u64 = 2;

/// A range within one chunk, 0 <= from < to <= 4096.
#[derive(Clone, Copy)]
struct Within {
    from: usize,
    to: usize,
}

impl Within {
    /// The part of `from..to` in the chunk that begins at `start`; `None`: they do not meet.
    fn of(from: u64, to: u64, start: u64) -> Option<Self> {
        let clip = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let within = Self { from: clip(from), to: clip(to) };
        (within.from < within.to).then_some(within)
    }
}

impl<'r> Object<'r> {
    pub(crate) fn write(&mut self, env: &mut Env<'r>, offset: u64, data: &'r Bytes) -> Result<(), Halt> {
        let end = env.limits.check_size(offset.checked_add(data.len() as u64))?;
        self.make(env)?;
        if data.is_empty() {
            return Ok(());
        }
        let family = self.member().family;
        let (stored, laid) = (env.stored(family)?, env.laid_write(self.index, family)?);
        let size = self.size();
        if !self.parts().has(Parts::CHUNKS) {
            let inline_end = usize::try_from(end).ok().filter(|end| *end <= env.limits.data_inline_max());
            if let (Some(end), true) = (inline_end, stored.is_empty()) {
                let onode = self.change();
                onode.data.resize(onode.data.len().max(end), 0);
                onode.data[end - data.len()..end].copy_from_slice(data);
                onode.size = size.max(end as u64);
                return self.settle(env);
            }
            self.move_data_out(env)?;
        }
        let source = env.source(Source::Given(data));
        // The rows of what was laid ahead are in the tree.
        let laid = laid.map(|laid| (offset + laid.from as u64, offset + laid.to as u64));
        let (laid_from, laid_to) = laid.unwrap_or((end, end));
        self.write_chunks(env, (offset, data), (offset, laid_from), source, stored)?;
        self.write_chunks(env, (offset, data), (laid_to, end), source, stored)?;
        if end > size {
            self.change().size = end;
        }
        self.settle(env)
    }

    pub(super) fn zero(&mut self, env: &mut Env<'r>, offset: u64, bytes: u64) -> Result<(), Halt> {
        let end = env.limits.check_size(offset.checked_add(bytes))?;
        self.make(env)?;
        if bytes == 0 {
            return Ok(());
        }
        let size = self.size();
        self.erase(env, offset, end.min(size))?;
        if end > size {
            self.change().size = end;
            self.settle(env)?;
        }
        Ok(())
    }

    pub(super) fn truncate(&mut self, env: &mut Env<'r>, size: u64) -> Result<(), Halt> {
        let old = self.size();
        if size == old {
            return Ok(());
        }
        self.erase(env, size, old)?;
        let onode = self.change();
        onode.size = size;
        if size == 0 {
            onode.parts = onode.parts.without(Parts::CHUNKS);
        }
        self.settle(env)
    }

    /// Makes chunks of the inline data.
    pub(super) fn move_data_out(&mut self, env: &mut Env<'r>) -> Result<(), Halt> {
        // Where its family has rows already, they stay its rows.
        let is_row =
            self.had.has(Parts::DATA) || self.size() > ROW_BYTES || env.limits.inline_extents_max == 0;
        let onode = self.change();
        let data = Bytes::from(std::mem::take(&mut onode.data));
        let rows = Parts::DATA.with(Parts::EVER);
        onode.parts = onode.parts.with(if is_row { rows } else { Parts::EXTENTS });
        if data.is_empty() {
            return Ok(());
        }
        let source = env.source(Source::Made(data.clone()));
        self.write_chunks(env, (0, &data), (0, data.len() as u64), source, &[])
    }

    /// Makes a row of the onode's extents.
    pub(super) fn move_extents_out(&mut self, env: &mut Env<'r>) -> Result<(), Halt> {
        if self.had.has(Parts::EXTENTS) {
            self.row(env, 0)?;
        }
        let onode = self.change();
        onode.parts = onode.parts.without(Parts::EXTENTS).with(Parts::DATA).with(Parts::EVER);
        Ok(())
    }

    /// Writes what `data`, which is source number `source` and belongs at `offset`, has from `first` to `end`.
    fn write_chunks(
        &mut self,
        env: &mut Env<'r>,
        (offset, data): (u64, &[u8]),
        (first, end): (u64, u64),
        source: u32,
        stored: &[Stored],
    ) -> Result<(), Halt> {
        if first >= end {
            return Ok(());
        }
        let mut start = first / CHUNK_BYTES as u64 * CHUNK_BYTES as u64;
        while start < end {
            let row = self.row(env, start / ROW_BYTES)?;
            let edit = self.extents.at(row);
            while let Some(Within { from, to }) = Within::of(first, end, start) {
                let slot = edit.slot(index_of(start));
                let data_from = usize::try_from(start + from as u64 - offset).expect("within the data");
                let slot = if from > 0 || to < usize::from(slot.bytes()) {
                    let data = &data[data_from..data_from + to - from];
                    env.merged(&slot, Within { from, to }, data)?
                } else if let Some(chunk) = stored_chunk(stored, data_from, to) {
                    Slot::At(chunk)
                } else {
                    Slot::New { of: source, offset: data_from, bytes: length(to) }
                };
                edit.set(index_of(start), slot);
                start += CHUNK_BYTES as u64;
                if start.is_multiple_of(ROW_BYTES) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Makes `from..to`, which lies within the size, zeros.
    fn erase(&mut self, env: &mut Env<'r>, from: u64, to: u64) -> Result<(), Halt> {
        if from >= to {
            return Ok(());
        }
        if !self.parts().has(Parts::CHUNKS) {
            let data = &mut self.change().data;
            let clip = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(data.len());
            let (from, to) = (clip(from), clip(to));
            if to == data.len() {
                data.truncate(from);
            } else {
                data[from..to].fill(0);
            }
            return Ok(());
        }
        let (first, last) = (from / ROW_BYTES, (to - 1) / ROW_BYTES);
        let mut rows: SmallVec<[(u64, usize); 2]> = SmallVec::new();
        if last - first < ROWS_LOOKED_UP {
            for number in first..=last {
                rows.push((number, self.row(env, number)?));
            }
        } else {
            self.rows_in(env, first, last)?;
            let all = self.extents.keys().copied().zip(0..);
            rows.extend(all.filter(|(number, _)| (first..=last).contains(number)));
        }
        for (number, row) in rows {
            let edit = self.extents.at(row);
            for index in 0..ROW_CHUNKS {
                let start = number * ROW_BYTES + (index * CHUNK_BYTES) as u64;
                if let Some(within) = Within::of(from, to, start) {
                    edit.set(index, env.erased(&edit.slot(index), within)?);
                }
            }
        }
        Ok(())
    }

    /// Where row `number` is in the overlay, which it joins if need be.
    fn row(&mut self, env: &mut Env<'r>, number: u64) -> Result<usize, Halt> {
        if let Some(index) = self.extents.find(&number) {
            return Ok(index);
        }
        let edit = match &self.before {
            Some(before) if self.had.has(Parts::EXTENTS) && number == 0 => {
                ExtentsEdit::of(&before.extents, before.extents_len)
            }
            _ if self.had.has(Parts::DATA) && number * ROW_BYTES < self.had_bytes => {
                ExtentsEdit::new(env.row(TreeKind::Bodies, &key::extents(self.member(), number))?)?
            }
            _ => ExtentsEdit::none(),
        };
        env.charge()?;
        Ok(self.extents.push(number, edit))
    }

    /// Brings those of the rows `first..=last` that exist into the overlay.
    fn rows_in(&mut self, env: &mut Env<'r>, first: u64, last: u64) -> Result<(), Halt> {
        if self.had.has(Parts::EXTENTS) && first == 0 {
            self.row(env, 0)?;
        }
        if !self.had.has(Parts::DATA) {
            return Ok(());
        }
        let member = self.member();
        let (from, to) = (key::extents_bound(member, first), key::extents_bound(member, last + 1));
        let extents = &mut self.extents;
        let mut add = |env: &mut Env<'r>, key: &[u8], value: &[u8]| -> Result<(), Halt> {
            let (_, Position::Extents(number)) = key::decode_bodies(key)? else {
                return Err(Halt::Corrupt { at: None, what: "a row of another kind among extents" });
            };
            if extents.find(&number).is_none() {
                env.charge()?;
                extents.push(number, ExtentsEdit::new(Some(value))?);
            }
            Ok(())
        };
        env.visit(&from, &to, &mut add)
    }
}

/// Which chunk of its row begins at `start`.
fn index_of(start: u64) -> usize {
    usize::try_from(start % ROW_BYTES).expect("under 64 KiB") / CHUNK_BYTES % ROW_CHUNKS
}

fn length(bytes: usize) -> u16 {
    let length = u16::try_from(bytes).expect("at most a chunk");
    assert!(length <= FULL, "at most a chunk");
    length
}

/// The chunk of `bytes` bytes at `from` of an operation's data, if it was stored before; only whole ones are.
fn stored_chunk(stored: &[Stored], from: usize, bytes: usize) -> Option<Chunk> {
    let part = stored.get(stored.partition_point(|part| part.from <= from).checked_sub(1)?)?;
    let skip = from - part.from;
    if bytes < CHUNK_BYTES || skip + bytes > part.bytes as usize {
        return None;
    }
    let skip_bytes = u32::try_from(skip).expect("within the part");
    Some(Chunk { at: part.at.plus(skip_bytes), bytes: FULL, crc: *part.crcs.get(skip / CHUNK_BYTES)? })
}

impl<'r> Env<'r> {
    /// Notes bytes that chunks are taken from.
    fn source(&mut self, data: Source<'r>) -> u32 {
        self.sources.push(data);
        u32::try_from(self.sources.len() - 1).expect("fewer sources than operations and chunks")
    }

    /// The bytes of source number `of`.
    pub(super) fn source_bytes(&self, of: u32) -> &Bytes {
        match &self.sources[of as usize] {
            Source::Given(bytes) => bytes,
            Source::Made(bytes) => bytes,
        }
    }

    /// The stored bytes of a chunk; none if they are absent.
    fn chunk(&mut self, slot: &Slot) -> Result<Bytes, Halt> {
        match *slot {
            Slot::Hole => Ok(Bytes::new()),
            Slot::At(chunk) => self.piece(&chunk.piece()),
            Slot::New { of, offset, bytes } => {
                Ok(self.source_bytes(of).slice(offset..offset + usize::from(bytes)))
            }
        }
    }

    /// A chunk with `data` at `within`.
    fn merged(&mut self, slot: &Slot, within: Within, data: &[u8]) -> Result<Slot, Halt> {
        let old = self.chunk(slot)?;
        let mut bytes = Vec::with_capacity(old.len().max(within.to));
        bytes.extend_from_slice(&old[..within.from.min(old.len())]);
        bytes.resize(within.from, 0);
        bytes.extend_from_slice(data);
        bytes.extend_from_slice(old.get(within.to..).unwrap_or(&[]));
        Ok(self.new_chunk(bytes))
    }

    /// A chunk with zeros at `within`.
    fn erased(&mut self, slot: &Slot, within: Within) -> Result<Slot, Halt> {
        let old_bytes = usize::from(slot.bytes());
        if within.from >= old_bytes {
            return Ok(*slot);
        }
        if within.to >= old_bytes && within.from == 0 {
            return Ok(Slot::Hole);
        }
        let mut bytes = self.chunk(slot)?.to_vec();
        if within.to >= old_bytes {
            bytes.truncate(within.from);
        } else if let Some(erased) = bytes.get_mut(within.from..within.to) {
            erased.fill(0);
        }
        Ok(self.new_chunk(bytes))
    }

    fn new_chunk(&mut self, bytes: Vec<u8>) -> Slot {
        let bytes_count = length(bytes.len());
        Slot::New { of: self.source(Source::Made(bytes.into())), offset: 0, bytes: bytes_count }
    }

    /// Visits rows of the bodies tree until one halts; those behind an absent one are not seen.
    pub(super) fn visit(&mut self, from: &[u8], to: &[u8], add: &mut EachRow<'_, Self>) -> Result<(), Halt> {
        let mut halted = Ok(());
        let rows = self.rows;
        let visited = rows.rows(TreeKind::Bodies, from, Some(to), Direction::Forward, &mut |key, value| {
            halted = add(self, key, value);
            if halted.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        halted?;
        visited.or_else(|stop: Stop| self.stopped(stop))
    }
}
