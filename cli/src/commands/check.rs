//! `check`: verifies a store by a walk of its own, every live byte of it, and writes nothing.
//!
//! Exit code 0 only if nothing is wrong. What a crash may leave and the next mount handles is told as a note.

use clap::Args;
use seabed_check::{Options, Phase, Report, check_with};
use serde_json::{Value, json};

use crate::args::{Global, StoreArg};
use crate::exit::{Exit, Outcome};
use crate::image::{LockedImage, no_store};
use crate::output::Output;
use crate::progress::Steps;

/// The rest of the memory is for one path per tree, the journal's window and buffers.
const LIST_SHARE: u64 = 2;

#[derive(Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    store: StoreArg,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Do not read the objects' bytes
    #[arg(long)]
    no_data: bool,
}

pub(crate) fn run(args: &CheckArgs, global: &Global) -> Outcome<Exit> {
    let path = &args.store.store;
    let image = LockedImage::open(path)?;
    let options = Options {
        data: !args.no_data,
        memory_bytes: usize::try_from(global.memory / LIST_SHARE).unwrap_or(usize::MAX),
        ..Options::default()
    };
    let steps = Steps::new(global);
    let report = check_with(&image.file, &options, &mut |progress| {
        let phase = match progress.phase {
            Phase::Journal => "journals",
            Phase::Rows => "rows",
            Phase::Segments => "segments",
        };
        steps.at(phase, progress.done, progress.of);
    });
    steps.end();
    let report = report.map_err(|error| no_store(path, &error))?;
    let mut output = Output::new();
    if args.json {
        output.json(&as_json(&report))?;
    } else if !global.quiet || !report.is_clean() {
        output.line(&report.to_string())?;
    }
    output.finish()?;
    Ok(if report.is_clean() { Exit::Done } else { Exit::Corrupt })
}

fn as_json(report: &Report) -> Value {
    let counts = report.counts;
    let texts = |texts: Vec<String>| Value::from(texts);
    let shards = report.shards.iter().map(|shard| {
        json!({
            "shard": shard.shard.0,
            "epoch": shard.epoch.0,
            "window_start": shard.start.0,
            "checkpoint": shard.checkpoint.0,
            "end": shard.end.0,
            "end_at": shard.end_at.to_string(),
            "torn": shard.torn.map(|torn| format!("record {} at {}: {}", torn.lsn, torn.at, torn.what)),
            "whole": shard.whole,
        })
    });
    let collections = report.collections.iter().map(|collection| {
        json!({
            "collection": collection.collection.to_string(),
            "shard": collection.shard.0,
            "objects": collection.usage.objects,
            "stored": collection.usage.stored,
            "allocated": collection.usage.allocated,
            "omap": collection.usage.omap,
            "metadata": collection.usage.metadata,
            "whole": collection.whole,
        })
    });
    json!({
        "clean": report.is_clean(),
        "uuid": report.superblock.identity.uuid.to_string(),
        "violations": texts(report.violations.iter().map(ToString::to_string).collect()),
        "violations_left_out": report.violations_left_out,
        "notes": texts(report.notes.iter().map(ToString::to_string).collect()),
        "notes_left_out": report.notes_left_out,
        "objects": counts.objects,
        "rows": counts.rows,
        "pending_rows": counts.pending,
        "nodes": counts.nodes,
        "records": counts.records,
        "pieces": counts.pieces,
        "piece_bytes": counts.piece_bytes,
        "bytes_verified": counts.bytes_verified,
        "segments": {
            "journal": counts.segments.journal,
            "bulk": counts.segments.bulk,
            "nodes": counts.segments.nodes,
            "unclaimed": counts.segments.unclaimed,
            "live": counts.segments.live,
            "sealed": counts.segments.sealed,
        },
        "shards": shards.collect::<Vec<_>>(),
        "collections": collections.collect::<Vec<_>>(),
    })
}
