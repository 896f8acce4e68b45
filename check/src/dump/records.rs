//! Records: what was appended to a segment, record by record, with its entries in words.

use std::fmt;

use seabed_journal::{ChangeRef, CollectionId, EntryRef, Tally};
use seabed_segment::{Listed, ListedWhat, RecordHeader, StreamKind};
use seabed_types::{Cursor, Incarnation, Malformed, PoolId, SegmentId, Term, TreeKind};

use super::source;
use crate::names::{key_text, patch_text, value_text};
use crate::records::{Wanted, scan};
use crate::{CheckError, Image};

/// A record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordDump {
    /// Its header.
    pub header: RecordHeader,
    /// Whether its data has the checksum that the header names.
    pub data_is_sound: bool,
    /// What it says, up to the first entry that does not decode.
    pub entries: Vec<EntryDump>,
    /// Why the rest does not decode, if there is one.
    pub malformed: Option<Malformed>,
}

/// An entry of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EntryDump {
    /// A change of a row.
    Delta {
        /// Of which pool.
        pool: PoolId,
        /// Of which tree.
        tree: TreeKind,
        /// Which row, in words.
        row: String,
        /// What it became, in words.
        change: String,
        /// Which bytes of the record it points to: offset in the segment, bytes.
        pieces: Vec<(u32, u32)>,
    },
    /// Changes of live bytes.
    Live(Vec<(SegmentId, i64)>),
    /// Changes of a collection's counts.
    Tally {
        /// Which.
        collection: CollectionId,
        /// Its id counter.
        next_id: u64,
        /// The changes.
        change: Tally,
    },
    /// A claim.
    Claim {
        /// Of which segment.
        segment: SegmentId,
        /// Under which incarnation.
        incarnation: Incarnation,
        /// For what.
        stream: StreamKind,
        /// Age of its data.
        age: u64,
    },
    /// A seal.
    Seal(SegmentId),
    /// A new collection.
    NewCollection {
        /// Which.
        collection: CollectionId,
        /// Its term.
        term: Term,
    },
    /// A piece, image or part of a body, in a record of another stream than the journal.
    Listed {
        /// Where in the segment.
        offset: u32,
        /// How many bytes.
        bytes: u32,
        /// What, in words.
        what: String,
    },
}

/// The records of a segment, those of earlier uses that were not overwritten yet included.
pub fn records(image: &dyn Image, segment: SegmentId) -> Result<Vec<RecordDump>, CheckError> {
    let source = source(image)?;
    let mut all = Vec::new();
    if source.layout.has_segment(segment) {
        let wanted = Wanted { segment, incarnation: None, header_crc: None };
        // A block that cannot be read holds no record that could be shown.
        let _ = scan(&source, wanted, |taken| {
            let is_journal = taken.header.place.stream == StreamKind::Journal;
            let mut cursor = Cursor::new(&taken.entries);
            let mut entries = Vec::new();
            let mut malformed = None;
            while cursor.left() > 0 && malformed.is_none() {
                let entry = if is_journal {
                    EntryRef::decode(&mut cursor).map(entry)
                } else {
                    Listed::decode(&mut cursor).map(|listed| listed_entry(&listed))
                };
                match entry {
                    Ok(entry) => entries.push(entry),
                    Err(error) => malformed = Some(error),
                }
            }
            let (header, data_is_sound) = (taken.header, taken.data_is_sound);
            all.push(RecordDump { header, data_is_sound, entries, malformed });
        });
    }
    Ok(all)
}

fn entry(entry: EntryRef<'_>) -> EntryDump {
    match entry {
        EntryRef::Delta(delta) => EntryDump::Delta {
            pool: delta.pool,
            tree: delta.tree,
            row: key_text(delta.tree, delta.key),
            change: match delta.change {
                ChangeRef::Set(value) => format!("set {}", value_text(delta.tree, delta.key, value)),
                ChangeRef::Patch(patch) => format!("patch {}", patch_text(patch)),
                ChangeRef::Gone => "gone".to_owned(),
            },
            pieces: delta.pieces,
        },
        EntryRef::Live(changes) => EntryDump::Live(changes),
        EntryRef::Tally { collection, next_id, change } => EntryDump::Tally { collection, next_id, change },
        EntryRef::Claim { segment, incarnation, stream, age } => {
            EntryDump::Claim { segment, incarnation, stream, age }
        }
        EntryRef::Seal { segment } => EntryDump::Seal(segment),
        EntryRef::NewCollection { collection, term } => EntryDump::NewCollection { collection, term },
    }
}

fn listed_entry(listed: &Listed) -> EntryDump {
    let what = match &listed.what {
        ListedWhat::Piece { pool, key } => {
            format!("piece of pool {pool} {}", key_text(TreeKind::Bodies, key))
        }
        ListedWhat::Image { pool, tree, level, first_key } => {
            format!("image of pool {pool} {tree}, level {level}, from \"{}\"", first_key.escape_ascii())
        }
        ListedWhat::Body { lsn, index } => format!("body of checkpoint {lsn}, part {index}"),
    };
    EntryDump::Listed { offset: listed.offset, bytes: listed.bytes, what }
}

impl fmt::Display for RecordDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RecordHeader { at, place, entries_bytes, pieces_bytes, record_bytes, crc, .. } = &self.header;
        write!(
            f,
            "{at}: {} record {} of shard {}, epoch {}, incarnation {}, {record_bytes} bytes: {entries_bytes} of \
             entries, {pieces_bytes} of data{}, after {}, is {crc}",
            place.stream,
            place.number,
            place.shard,
            place.epoch,
            place.incarnation,
            if self.data_is_sound { "" } else { " (changed)" },
            place.previous,
        )?;
        for entry in &self.entries {
            write!(f, "\n  {entry}")?;
        }
        match &self.malformed {
            Some(malformed) => write!(f, "\n  {malformed}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for EntryDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delta { pool, tree, row, change, pieces } => {
                write!(f, "pool {pool} {tree} {row}: {change}")?;
                for (offset, bytes) in pieces {
                    write!(f, " [{bytes} bytes here at {offset:#x}]")?;
                }
                Ok(())
            }
            Self::Live(changes) => {
                f.write_str("live")?;
                changes.iter().try_for_each(|(segment, change)| write!(f, " {segment}:{change:+}"))
            }
            Self::Tally { collection, next_id, change } => {
                write!(f, "tally of {collection}: next id {next_id}, {change:?}")
            }
            Self::Claim { segment, incarnation, stream, age } => {
                write!(f, "claim of {segment}, incarnation {incarnation}, {stream}, age {age}")
            }
            Self::Seal(segment) => write!(f, "seal of {segment}"),
            Self::NewCollection { collection, term } => write!(f, "new collection {collection}, term {term}"),
            Self::Listed { offset, bytes, what } => write!(f, "{bytes} bytes at {offset:#x}: {what}"),
        }
    }
}
