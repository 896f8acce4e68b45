//! Records of a segment: a scan from its header to its end, whatever stands between.
//!
//! A record is taken if its header and entries are valid, it is of the incarnation that is asked for, and, in another
//! stream than the journal, it carries the checksum of the segment's header, if that is there. A scan that meets anything
//! else goes on at the next block (rule L4). So it does behind the first block of a record whose data is not sound: it may be
//! of a use that a crash took, header and claim and all, and records of the next use may stand in its data.
//!
//! The contents of a bulk or node record are its entries, as an inventory has them; those of a journal record are the
//! pieces that its deltas list.

use std::io::ErrorKind;

use seabed_journal::{ChangeRef, EntryRef};
use seabed_object::onode::identity_of;
use seabed_segment::{Listed, ListedWhat, RecordHeader, SEGMENT_HEADER_BYTES, StreamKind, entries_of};
use seabed_types::{BLOCK_BYTES, Crc, Incarnation, Malformed, Paddr, SegmentId, TreeKind};

use crate::image::{Source, Window};

/// A record that a scan took.
pub(crate) struct Taken {
    pub(crate) header: RecordHeader,
    pub(crate) entries: Vec<u8>,
    pub(crate) data_is_sound: bool,
}

/// Which records a scan takes.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) segment: SegmentId,
    /// None: of any.
    pub(crate) incarnation: Option<Incarnation>,
    /// The checksum of the segment's header, if that is there.
    pub(crate) header_crc: Option<Crc>,
}

/// Calls `each` for every record of a segment, in order. A block that cannot be read is passed over; the last such error
/// is returned.
pub(crate) fn scan(source: &Source<'_>, wanted: Wanted, mut each: impl FnMut(Taken)) -> Option<ErrorKind> {
    let mut window = Window::new(*source);
    let mut failed = None;
    let mut at = Paddr::new(wanted.segment, SEGMENT_HEADER_BYTES);
    while source.layout.contains(at, BLOCK_BYTES as u64) {
        let taken = match take(source, &mut window, wanted, at) {
            Ok(taken) => taken,
            Err(error) => {
                failed = Some(error);
                None
            }
        };
        let whole = taken.as_ref().filter(|taken| taken.data_is_sound);
        let bytes = whole.map_or(SEGMENT_HEADER_BYTES, |taken| taken.header.record_bytes);
        taken.into_iter().for_each(&mut each);
        at = at.plus(bytes);
    }
    failed
}

fn take(
    source: &Source<'_>,
    window: &mut Window<'_>,
    wanted: Wanted,
    at: Paddr,
) -> Result<Option<Taken>, ErrorKind> {
    let block = window.fetch(at, BLOCK_BYTES)?;
    let Ok(header) = RecordHeader::decode(block, &source.identity, &source.layout, at) else {
        return Ok(None);
    };
    let place = header.place;
    if wanted.incarnation.is_some_and(|incarnation| incarnation != place.incarnation) {
        return Ok(None);
    }
    let chained =
        place.stream == StreamKind::Journal || wanted.header_crc.is_none_or(|crc| crc == place.previous);
    if !chained {
        return Ok(None);
    }
    let bytes = header.record_bytes as usize;
    let whole = window.fetch(at, bytes).map(<[u8]>::to_vec);
    // Where only the data cannot be read the record still tells what it was.
    let record = whole.or_else(|_| without_data(source, &header))?;
    let Ok(entries) = entries_of(&header, &record) else { return Ok(None) };
    let data_is_sound = header.data_is_sound(&record);
    Ok(Some(Taken { header, entries, data_is_sound }))
}

/// The bytes of a record with zeros for its data.
fn without_data(source: &Source<'_>, header: &RecordHeader) -> Result<Vec<u8>, ErrorKind> {
    let mut record = source.read(header.at, BLOCK_BYTES)?;
    let rest = BLOCK_BYTES + header.pieces_bytes as usize;
    record.resize(rest, 0);
    let at = header.at.plus(SEGMENT_HEADER_BYTES + header.pieces_bytes);
    record.extend(source.read(at, header.record_bytes as usize - rest)?);
    Ok(record)
}

/// What a record holds, with the identities that an inventory would have.
pub(crate) fn contents(header: &RecordHeader, entries: &[u8]) -> Result<Vec<Listed>, Malformed> {
    if header.place.stream != StreamKind::Journal {
        return Listed::decode_all(entries);
    }
    let mut listed = Vec::new();
    EntryRef::decode_all(entries, |entry| {
        if let EntryRef::Delta(delta) = entry {
            let identity = match delta.change {
                ChangeRef::Set(value) => identity_of(delta.tree, delta.key, value),
                ChangeRef::Patch(_) | ChangeRef::Gone => identity_of(TreeKind::Bodies, delta.key, &[]),
            };
            // What does not decode is told by who takes the deltas.
            let key = identity.map_or_else(|_| delta.key.to_vec(), |key| key.to_vec());
            listed.extend(delta.pieces.iter().map(|(offset, bytes)| Listed {
                offset: *offset,
                bytes: *bytes,
                what: ListedWhat::Piece { pool: delta.pool, key: key.clone() },
            }));
        }
    })?;
    Ok(listed)
}
