//! Object: bytes, attributes, omap header, omap; four parts that do not touch each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Bytes, Hint};

const CHUNK_BYTES: u64 = 4096;

type Chunk = [u8; 4096];

/// The bytes of an object. Only chunks that are not all zeros are kept, so equal contents are equal values and an
/// object of a terabyte of holes costs nothing.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Contents {
    size: u64,
    chunks: BTreeMap<u64, Arc<Chunk>>,
}

impl Contents {
    /// How many bytes there are, holes among them.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Puts `data` at `offset`; the size grows to its end. No data changes nothing.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        self.size = if data.is_empty() { self.size } else { self.size.max(end) };
        self.change(offset, end, |at, chunk| {
            let start = usize::try_from(at - offset).expect("within the data");
            chunk.copy_from_slice(&data[start..start + chunk.len()]);
        });
    }

    /// Zeros from `offset` to `end`; the size grows to it. An empty range changes nothing.
    pub fn zero(&mut self, offset: u64, end: u64) {
        if offset < end {
            self.clear(offset, end);
            self.size = self.size.max(end);
        }
    }

    /// Cuts off or adds a hole.
    pub fn truncate(&mut self, size: u64) {
        self.clear(size, self.size.max(size));
        self.size = size;
    }

    /// Up to `bytes` bytes from `offset` on; what is past the end is left out.
    pub fn read(&self, offset: u64, bytes: u64) -> Vec<u8> {
        let end = offset.saturating_add(bytes).min(self.size);
        let mut out = Vec::new();
        let mut at = offset;
        while at < end {
            let (index, start) = (at / CHUNK_BYTES, at % CHUNK_BYTES);
            let count = (CHUNK_BYTES - start).min(end - at);
            match self.chunks.get(&index) {
                Some(chunk) => out.extend_from_slice(&chunk[place(start)..place(start + count)]),
                None => out.resize(out.len() + place(count), 0),
            }
            at += count;
        }
        out
    }

    fn clear(&mut self, offset: u64, end: u64) {
        let whole = offset.div_ceil(CHUNK_BYTES)..end / CHUNK_BYTES;
        if whole.start < whole.end {
            let gone: Vec<u64> = self.chunks.range(whole).map(|(index, _)| *index).collect();
            for index in gone {
                self.chunks.remove(&index);
            }
        }
        for edge in [offset / CHUNK_BYTES, end / CHUNK_BYTES] {
            let (start, stop) = (offset.max(edge * CHUNK_BYTES), end.min((edge + 1) * CHUNK_BYTES));
            if start < stop && self.chunks.contains_key(&edge) {
                self.change(start, stop, |_, chunk| chunk.fill(0));
            }
        }
    }

    /// Calls with each chunk's part of the range and its offset, then forgets chunks that became zeros.
    fn change(&mut self, offset: u64, end: u64, mut change: impl FnMut(u64, &mut [u8])) {
        let mut at = offset;
        while at < end {
            let (index, start) = (at / CHUNK_BYTES, at % CHUNK_BYTES);
            let count = (CHUNK_BYTES - start).min(end - at);
            let chunk = self.chunks.entry(index).or_insert_with(|| Arc::new([0; 4096]));
            change(at, &mut Arc::make_mut(chunk)[place(start)..place(start + count)]);
            if chunk.iter().all(|byte| *byte == 0) {
                self.chunks.remove(&index);
            }
            at += count;
        }
    }
}

fn place(offset_in_chunk: u64) -> usize {
    usize::try_from(offset_in_chunk).expect("at most 4096")
}

/// See the module.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Object {
    /// Its bytes.
    pub contents: Contents,
    /// Its attributes.
    pub attributes: BTreeMap<Bytes, Bytes>,
    /// Its omap header; empty if it has none.
    pub omap_header: Bytes,
    /// Its omap.
    pub omap: BTreeMap<Bytes, Bytes>,
    /// How it is expected to be used.
    pub hint: Hint,
}
