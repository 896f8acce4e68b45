//! `clean`: moves live data together until no segment is worth it, and says what that freed and why it stopped.
//!
//! Ends early, with what was done so far, when the store has no space for copies (exit code 4) or is interrupted. Crash: as
//! for every write; the next run goes on with what is left.

use std::sync::Arc;

use clap::Args;
use seabed::{CleanEnd, CleanOptions, Cleaned};
use serde_json::json;

use crate::args::{Global, StoreArg};
use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::Progress;
use crate::session::Session;
use crate::sizes::{grouped, human};

#[derive(Args)]
pub(crate) struct CleanArgs {
    #[command(flatten)]
    store: StoreArg,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &CleanArgs, global: &Global) -> Outcome<Exit> {
    let interrupt = Interrupt::install()?;
    let session = Session::write(&args.store.store, global)?;
    let progress = Progress::new(global, "cleaning");
    let shown = progress.clone();
    let options = CleanOptions {
        progress: Some(Arc::new(move |now| {
            shown.set_total(now.segments_found, now.bytes_found);
            shown.set(now.segments_cleaned, now.bytes_relocated);
        })),
        cancel: Some(interrupt.flag()),
    };
    let cleaned = session.wait(session.store().clean(options));
    progress.end();
    let cleaned = cleaned?;
    let mut output = Output::report();
    if args.json {
        output.json(&as_json(&cleaned))?;
    } else if !global.quiet {
        output.text(&as_text(&cleaned))?;
    }
    output.finish()?;
    session.close()?;
    match cleaned.end {
        CleanEnd::NoSpace => {
            Err(Failure::new(Exit::NoSpace, "there is no space left for copies of live data")
                .advise("remove objects, and run it again"))
        }
        CleanEnd::Cancelled => {
            global.say("interrupted; the same command again goes on with what is left");
            Ok(interrupt.exit().unwrap_or(Exit::Done))
        }
        CleanEnd::Done | CleanEnd::NoGain | _ => Ok(Exit::Done),
    }
}

fn as_text(cleaned: &Cleaned) -> String {
    let done = &cleaned.progress;
    format!(
        "cleaned {} segments: {} of live data copied, {} freed\n{} free, {} before\n{}\n",
        grouped(done.segments_cleaned),
        human(done.bytes_relocated),
        human(done.bytes_freed),
        human(cleaned.free_bytes_after),
        human(cleaned.free_bytes_before),
        why(cleaned.end).1,
    )
}

/// Why it ended, for programs and for people.
fn why(end: CleanEnd) -> (&'static str, &'static str) {
    match end {
        CleanEnd::Done => ("done", "done: no segment is left that is worth cleaning"),
        CleanEnd::NoSpace => ("no_space", "stopped: no space for copies"),
        CleanEnd::NoGain => ("no_gain", "done: copies take as much space as they free"),
        CleanEnd::Cancelled => ("interrupted", "stopped: interrupted"),
        _ => ("other", "stopped"),
    }
}

fn as_json(cleaned: &Cleaned) -> serde_json::Value {
    let done = &cleaned.progress;
    json!({
        "end": why(cleaned.end).0,
        "segments_found": done.segments_found,
        "bytes_found": done.bytes_found,
        "segments_cleaned": done.segments_cleaned,
        "bytes_relocated": done.bytes_relocated,
        "bytes_freed": done.bytes_freed,
        "free_bytes_before": cleaned.free_bytes_before,
        "free_bytes_after": cleaned.free_bytes_after,
    })
}
