//! Bodies: the checkpoint slots of a shard and the bodies that they name.

use std::fmt;

use seabed_journal::{Body, Slot};
use seabed_segment::SlotCopy;
use seabed_types::{Crc, Paddr, ShardId};

use super::source;
use crate::image::Source;
use crate::violation::PartFault;
use crate::{CheckError, Image, front};

/// A checkpoint slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotDump {
    /// Whose.
    pub shard: ShardId,
    /// Which.
    pub which: SlotCopy,
    /// Its device offset.
    pub at: u64,
    /// What it says, or why it is none.
    pub slot: Result<Slot, String>,
    /// The two copies of the body that it names.
    pub bodies: Vec<BodyDump>,
}

/// One copy of a checkpoint body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BodyDump {
    /// Its parts.
    pub parts: Vec<PartDump>,
    /// What it says, or why it is none.
    pub body: Result<Body, String>,
}

/// A part of a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartDump {
    /// Where.
    pub at: Paddr,
    /// How many bytes.
    pub bytes: u32,
    /// The checksum that it must have.
    pub crc: Crc,
    /// Whether it has it.
    pub is_sound: bool,
}

/// Both slots of a shard and what they name.
pub fn slots(image: &dyn Image, shard: ShardId) -> Result<Vec<SlotDump>, CheckError> {
    let source = source(image)?;
    let dump = |which| {
        let at = source.layout.slot(shard, which);
        let slot = front::slot(&source, shard, which).map_err(str::to_owned);
        let copies = slot.iter().flat_map(|slot| &slot.body);
        let bodies = copies.map(|parts| body(&source, parts)).collect();
        SlotDump { shard, which, at, slot, bodies }
    };
    Ok([SlotCopy::A, SlotCopy::B].map(dump).into())
}

fn body(source: &Source<'_>, parts: &[seabed_journal::BodyPart]) -> BodyDump {
    let mut joined: Result<Vec<u8>, PartFault> = Ok(Vec::new());
    let mut dumps = Vec::new();
    for part in parts {
        let read = front::read_part(source, part);
        let is_sound = read.is_ok();
        dumps.push(PartDump { at: part.at, bytes: part.bytes, crc: part.crc, is_sound });
        joined = joined.and_then(|mut joined| {
            joined.extend(read?);
            Ok(joined)
        });
    }
    let body = joined.map_err(|fault| fault.to_string());
    let body = body.and_then(|bytes| Body::decode(&bytes).map_err(|malformed| malformed.to_string()));
    BodyDump { parts: dumps, body }
}

impl fmt::Display for SlotDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {}, slot {:?} at {:#x}: ", self.shard, self.which, self.at)?;
        match &self.slot {
            Err(why) => f.write_str(why)?,
            Ok(slot) => {
                write!(f, "sequence {}, epoch {}, checkpoint {}", slot.sequence, slot.epoch, slot.end)?;
                for cut in &slot.cuts {
                    write!(f, "\n  cut: record {} at {} in epoch {}", cut.lsn, cut.at, cut.epoch)?;
                }
            }
        }
        let first = self.bodies.first().map(|copy| &copy.body);
        for (index, copy) in self.bodies.iter().enumerate() {
            for part in &copy.parts {
                let sound = if part.is_sound { "" } else { ", not sound" };
                write!(f, "\n  body copy {index}: {} bytes at {}#{}{sound}", part.bytes, part.at, part.crc)?;
            }
            match &copy.body {
                Ok(_) if index > 0 && Some(&copy.body) == first => f.write_str("\n  the same body")?,
                Ok(body) => body_text(f, body)?,
                Err(why) => write!(f, "\n  no body: {why}")?,
            }
        }
        Ok(())
    }
}

fn body_text(f: &mut fmt::Formatter<'_>, body: &Body) -> fmt::Result {
    write!(
        f,
        "\n  window from record {} at {}, checkpoint {}, epoch {}, {} bytes logged",
        body.start, body.start_at, body.end, body.epoch, body.clock,
    )?;
    for segment in &body.journal {
        let (id, incarnation, first) = (segment.segment, segment.incarnation, segment.first);
        write!(f, "\n  journal segment {id}, incarnation {incarnation}, from record {first}")?;
    }
    if let Some((segment, incarnation)) = body.next {
        write!(f, "\n  next journal segment {segment}, incarnation {incarnation}")?;
    }
    for collection in &body.collections {
        let (id, term, next_id) = (collection.id, collection.term, collection.next_id);
        write!(f, "\n  collection {id}, term {term}, next id {next_id}, {:?}, roots", collection.tally)?;
        for root in collection.roots {
            match root {
                Some(root) => write!(f, " {root}")?,
                None => f.write_str(" -")?,
            }
        }
    }
    for segment in &body.segments {
        let stream = segment.stream.map_or("-".to_owned(), |stream| stream.to_string());
        let (id, incarnation) = (segment.segment, segment.incarnation);
        write!(
            f,
            "\n  segment {id}, incarnation {incarnation}, {stream}, age {}, live {}",
            segment.age, segment.live
        )?;
    }
    Ok(())
}
