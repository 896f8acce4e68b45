//! `dump`: shows what is on the device, past the engine: also of a store that does not open any more.
//!
//! Nothing is judged: what is not valid is shown as far as it goes, with the reason. As JSON each thing is an object with
//! what programs ask for as fields and all of it as `text`.

use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use seabed::types::{Paddr, SegmentId, ShardId, TreeKind};
use seabed_check::dump::{self, EntryDump, NodeDump, RecordDump, SegmentDump, SlotDump, SuperblockDump};
use serde_json::{Value, json};

use crate::args::{Global, StoreArg};
use crate::exit::{Exit, Failure, Outcome};
use crate::image::{LockedImage, no_store};
use crate::names;
use crate::output::Output;

#[derive(Args)]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    store: StoreArg,
    #[command(subcommand)]
    what: What,
    /// As JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// The four copies of the superblock
    Superblock,
    /// The two checkpoint slots of each shard and what they name
    Slots,
    /// The state of every segment
    Segments,
    /// The records of a segment
    Records {
        /// The segment's number
        segment: u32,
    },
    /// A node of a tree
    Node {
        /// Its address, SEGMENT:OFFSET, the offset in decimal or as 0x..
        #[arg(value_name = "ADDR")]
        at: Address,
        /// The tree that it is of, which it does not say itself
        #[arg(long, value_enum, default_value_t = Tree::Names)]
        tree: Tree,
    },
}

/// Which tree.
#[derive(Clone, Copy, ValueEnum)]
enum Tree {
    Names,
    Bodies,
    Graves,
}

impl From<Tree> for TreeKind {
    fn from(tree: Tree) -> Self {
        match tree {
            Tree::Names => Self::Names,
            Tree::Bodies => Self::Bodies,
            Tree::Graves => Self::Graves,
        }
    }
}

/// An address as dumps print it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Address(Paddr);

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "an address is SEGMENT:OFFSET, as 12:0x4000";
        let (segment, offset) = text.split_once(':').ok_or(FORM)?;
        let segment = segment.parse().map_err(|_| FORM)?;
        let offset = match offset.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => offset.parse(),
        };
        Ok(Self(Paddr::new(SegmentId(segment), offset.map_err(|_| FORM)?)))
    }
}

pub(crate) fn run(args: &DumpArgs, global: &Global) -> Outcome<Exit> {
    let path = &args.store.store;
    let image = LockedImage::open(path, global)?;
    let file = &image.file;
    let failed = |error| no_store(path, &error);
    let mut output = Output::report();
    let mut exit = Exit::Done;
    match &args.what {
        What::Superblock => {
            let copies = dump::superblocks(file);
            if copies.iter().all(|copy| copy.superblock.is_err()) {
                exit = Exit::NotAStore;
            }
            show(&mut output, args.json, &copies, of_superblock)?;
        }
        What::Slots => {
            let mut slots = Vec::new();
            for shard in 0..shards(&dump::superblocks(file)) {
                slots.extend(dump::slots(file, ShardId(shard)).map_err(failed)?);
            }
            show(&mut output, args.json, &slots, of_slot)?;
        }
        What::Segments => show(&mut output, args.json, &dump::segments(file).map_err(failed)?, of_segment)?,
        What::Records { segment } => {
            let segment = SegmentId(*segment);
            let segments = dump::segments(file).map_err(failed)?;
            if !segments.iter().any(|known| known.segment == segment) {
                let (first, last) =
                    (segments.first().map(|s| s.segment.0), segments.last().map(|s| s.segment.0));
                let range = format!("segments go from {} to {}", first.unwrap_or(0), last.unwrap_or(0));
                return Err(
                    Failure::new(Exit::NotFound, format!("there is no segment {segment}")).advise(range)
                );
            }
            show(&mut output, args.json, &dump::records(file, segment).map_err(failed)?, of_record)?;
        }
        What::Node { at, tree } => {
            let node = dump::node(file, at.0, (*tree).into()).map_err(failed)?;
            if node.what.is_some() {
                exit = Exit::NotFound;
            }
            show(&mut output, args.json, &[node], of_node)?;
        }
    }
    output.finish()?;
    Ok(exit)
}

/// How many shards the store has, by the first copy that says.
fn shards(copies: &[SuperblockDump]) -> u16 {
    let valid = copies.iter().find_map(|copy| copy.superblock.as_ref().ok());
    // Of no store one is asked for all the same: the answer is why it is none.
    valid.map_or(1, |superblock| superblock.layout.shards)
}

fn show<T: ToString>(output: &mut Output, as_json: bool, items: &[T], json: fn(&T) -> Value) -> Outcome<()> {
    if as_json {
        return output.json(&Value::Array(items.iter().map(json).collect()));
    }
    items.iter().try_for_each(|item| output.line(&item.to_string()))
}

fn of_superblock(copy: &SuperblockDump) -> Value {
    match &copy.superblock {
        Err(why) => json!({ "copy": copy.copy, "at": copy.at, "error": why }),
        Ok(superblock) => json!({
            "copy": copy.copy,
            "at": copy.at,
            "uuid": superblock.identity.uuid.to_string(),
            "device_bytes": superblock.layout.device_bytes,
            "segment_bytes": superblock.layout.segment_bytes,
            "node_bytes": superblock.layout.node_bytes,
            "shards": superblock.layout.shards,
            "window_bytes": superblock.window_bytes,
            "compat": superblock.compat,
            "ro_compat": superblock.ro_compat,
            "incompat": superblock.incompat,
        }),
    }
}

fn of_slot(slot: &SlotDump) -> Value {
    json!({ "shard": slot.shard.0, "slot": format!("{:?}", slot.which), "at": slot.at, "text": slot.to_string() })
}

fn of_segment(segment: &SegmentDump) -> Value {
    let claim = segment.claim.map(|(incarnation, stream, shard)| {
        json!({ "incarnation": incarnation.0, "stream": stream.to_string(), "shard": shard.0 })
    });
    json!({
        "segment": segment.segment.0,
        "claim": claim,
        "live_bytes": segment.live,
        "in_window": segment.is_in_window,
        "has_header": segment.header.is_some(),
        "has_seal": segment.seal.is_some(),
        "text": segment.to_string(),
    })
}

fn of_record(record: &RecordDump) -> Value {
    let place = &record.header.place;
    json!({
        "at": record.header.at.to_string(),
        "stream": place.stream.to_string(),
        "shard": place.shard.0,
        "number": place.number,
        "epoch": place.epoch.0,
        "incarnation": place.incarnation.0,
        "record_bytes": record.header.record_bytes,
        "pieces_bytes": record.header.pieces_bytes,
        "data_is_sound": record.data_is_sound,
        "entries": record.entries.iter().map(EntryDump::to_string).collect::<Vec<_>>(),
        "error": record.malformed.map(|malformed| malformed.to_string()),
    })
}

fn of_node(node: &NodeDump) -> Value {
    let rows = node.rows.iter().map(|row| {
        json!({
            "key_hex": names::hex(&row.key),
            "row": row.row,
            "value": row.value,
            "child": row.child.map(|child| child.to_string()),
        })
    });
    json!({
        "at": node.at.to_string(),
        "crc": node.crc.map(|crc| crc.to_string()),
        "level": node.level,
        "used_bytes": node.used_bytes,
        "prefix_hex": names::hex(&node.prefix),
        "rows": rows.collect::<Vec<_>>(),
        "error": node.what,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_printed() {
        let address = Paddr::new(SegmentId(12), 0x4000);
        assert_eq!(address.to_string().parse(), Ok(Address(address)));
        assert_eq!("12:16384".parse(), Ok(Address(address)));
        for text in ["", "12", "12:", ":1", "a:1", "12:0xg", "12:-1", "4294967296:0", "1:4294967296"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
