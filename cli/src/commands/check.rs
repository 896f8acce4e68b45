//! `check`: verifies a store by a walk of its own, every live byte of it, and writes nothing, unless told to repair it.
//!
//! Exit code 0 only if nothing is wrong. What a crash may leave and the next mount handles is told as a note.
//!
//! `--repair` puts back what follows from the rest of the store, says what it did, and then exits as a check of what there
//! is now. What is beyond repair is exit code 5, and then nothing was written.

use std::path::Path;

use clap::Args;
use seabed_check::repair::{RepairError, Repaired, repair};
use seabed_check::{Options, Phase, Progress, Report, Violation, check_with};
use serde_json::{Value, json};

use crate::args::{Global, StoreArg};
use crate::exit::{Exit, Failure, Outcome};
use crate::image::{LockedImage, no_store};
use crate::output::Output;
use crate::progress::Steps;
use crate::session::shown;

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
    #[arg(long, conflicts_with = "repair")]
    no_data: bool,
    /// Put back what can be put back: superblocks, slots, checkpoints, counts, headers, inventories
    #[arg(long)]
    repair: bool,
}

pub(crate) fn run(args: &CheckArgs, global: &Global) -> Outcome<Exit> {
    let path = &args.store.store;
    let options = Options {
        data: !args.no_data,
        memory_bytes: usize::try_from(global.memory / LIST_SHARE).unwrap_or(usize::MAX),
        ..Options::default()
    };
    let steps = Steps::new(global);
    let mut show = |progress: &Progress| {
        let phase = match progress.phase {
            Phase::Journal => "journals",
            Phase::Rows => "rows",
            Phase::Segments => "segments",
        };
        steps.at(phase, progress.done, progress.of);
    };
    let outcome = if args.repair {
        repaired(path, global, &options, &mut show)
    } else {
        let image = LockedImage::open(path, global)?;
        let report = check_with(&image.file, &options, &mut show);
        report
            .map(|report| Looked { report, mended: None, beyond: None })
            .map_err(|error| no_store(path, &error))
    };
    steps.end();
    let Looked { report, mended, beyond } = outcome?;
    let mut output = Output::report();
    if args.json {
        let mut json = as_json(&report);
        if let Some(mended) = &mended {
            json["mended"] = Value::from(mended.clone());
        }
        if let Some(beyond) = &beyond {
            json["beyond_repair"] = Value::from(beyond.clone());
        }
        output.json(&json)?;
    } else {
        for line in mended.iter().flatten() {
            output.line(&format!("mended: {line}"))?;
        }
        for line in beyond.iter().flatten() {
            output.line(&format!("beyond repair: {line}"))?;
        }
        if !global.quiet || !report.is_clean() {
            output.line(&report.to_string())?;
        }
    }
    output.finish()?;
    if beyond.is_some() {
        let message = format!("{}: is damaged beyond repair; nothing was written", shown(path));
        return Err(Failure::new(Exit::Corrupt, message)
            .advise("`seabed salvage` saves what can still be read; `seabed export` if the store opens"));
    }
    Ok(if report.is_clean() { Exit::Done } else { Exit::Corrupt })
}

/// What there is to tell.
struct Looked {
    report: Report,
    /// What a repair did, if one was asked for.
    mended: Option<Vec<String>>,
    /// Why it did nothing.
    beyond: Option<Vec<String>>,
}

fn repaired(
    path: &Path,
    global: &Global,
    options: &Options,
    show: &mut dyn FnMut(&Progress),
) -> Outcome<Looked> {
    let image = LockedImage::open_to_write(path, global)?;
    let texts = |texts: &[Violation]| texts.iter().map(ToString::to_string).collect();
    match repair(&image.file, options, show) {
        Ok(Repaired { mended, report }) => {
            let mended = mended.iter().map(ToString::to_string).collect();
            Ok(Looked { report, mended: Some(mended), beyond: None })
        }
        Err(RepairError::Beyond { violations, report }) => {
            Ok(Looked { report: *report, mended: Some(Vec::new()), beyond: Some(texts(&violations)) })
        }
        Err(RepairError::Check(error)) => Err(no_store(path, &error)),
        Err(RepairError::Write { at, error }) => {
            Err(Failure::io(path, &format!("writing at {at:#x}"), &error))
        }
        Err(error @ RepairError::NoSpace { .. }) => {
            let message = format!("{}: {error}", shown(path));
            Err(Failure::new(Exit::NoSpace, message).advise("remove objects, then repair it"))
        }
        Err(error) => Err(Failure::new(Exit::Io, format!("{}: {error}", shown(path)))),
    }
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
