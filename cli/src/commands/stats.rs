//! `stats`: says where the space of a store is, by stream and age class, and what is kept free for what.
//!
//! A store is open in one process at a time, so this sees a store that is at rest: it opens it for reading, writes nothing, and
//! fails with exit code 6 while another process has it. `--watch` opens it again each interval, and says so of intervals in
//! which another process has it. What a running store has done is known to its own process only: embedders call
//! `Store::stats` and `Store::space`, and every command of this program that opens a store takes `--report` (`report`).
//!
//! Cost: each look replays the journal. For that time others that open the store wait, as for any command.

use std::fmt::Write;
use std::time::{Duration, Instant};

use clap::Args;
use seabed::{Space, SpaceUse};
use serde_json::{Value, json};

use crate::args::{Global, StoreArg};
use crate::exit::{Exit, Outcome};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::session::Session;
use crate::sizes::{grouped, human};

/// How often it is looked at whether a watch was interrupted.
const LOOK_EACH: Duration = Duration::from_millis(50);

#[derive(Args)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    store: StoreArg,
    /// Look again each interval until Ctrl-C; a line each, also while another process has the store
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", require_equals = true,
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,
    /// As JSON; with --watch an object on a line for each look
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &StatsArgs, global: &Global) -> Outcome<Exit> {
    if let Some(seconds) = args.watch {
        return watch(args, global, Duration::from_secs(seconds));
    }
    let space = look(args, global)?;
    let mut output = Output::new();
    if args.json {
        output.json(&as_json(&space))?;
    } else {
        output.text(&as_text(&space))?;
    }
    output.finish()?;
    Ok(Exit::Done)
}

fn look(args: &StatsArgs, global: &Global) -> Outcome<Space> {
    let session = Session::read(&args.store.store, global)?;
    let space = session.wait(session.store().space())?;
    session.close()?;
    Ok(space)
}

fn watch(args: &StatsArgs, global: &Global, interval: Duration) -> Outcome<Exit> {
    let interrupt = Interrupt::install()?;
    // Who has the store keeps it for as long as it takes: the next look is soon enough.
    let global = Global { wait: 0, ..global.clone() };
    loop {
        let began = Instant::now();
        let mut output = Output::new();
        match look(args, &global) {
            Ok(space) if args.json => output.line(&as_json(&space).to_string())?,
            Ok(space) => output.line(&as_line(&space))?,
            Err(failure) if failure.exit == Exit::InUse => {
                if args.json {
                    output.line(&json!({ "in_use": failure.message }).to_string())?;
                } else {
                    output.line(&failure.message)?;
                }
            }
            Err(failure) => return Err(failure),
        }
        output.finish()?;
        while began.elapsed() < interval {
            if let Some(exit) = interrupt.exit() {
                return Ok(exit);
            }
            std::thread::sleep(LOOK_EACH.min(interval.saturating_sub(began.elapsed())));
        }
    }
}

/// What a use is called.
fn name_of(of: SpaceUse) -> String {
    match of {
        SpaceUse::Window => "journal, to replay".into(),
        SpaceUse::Journal => "journal, for its data".into(),
        SpaceUse::Bulk => "bulk".into(),
        SpaceUse::Relocated(class) => format!("relocated, class {class}"),
        SpaceUse::Nodes => "nodes".into(),
        SpaceUse::Quarantined => "quarantined".into(),
        SpaceUse::Free => "free".into(),
        _ => "other".into(),
    }
}

/// The reserves, each with what it is for.
pub(crate) fn reserves_of(space: &Space) -> [(&'static str, u64); 5] {
    let reserves = &space.reserves;
    [
        ("journal", reserves.journal_bytes),
        ("checkpoint", reserves.checkpoint_bytes),
        ("window", reserves.window_bytes),
        ("removal", reserves.removal_bytes),
        ("cleaning", reserves.cleaning_bytes),
    ]
}

fn as_text(space: &Space) -> String {
    let mut text = format!("{:<22} {:>9} {:>11} {:>11}\n", "", "segments", "live", "dead");
    for (of, group) in &space.groups {
        let (live, dead) = (human(group.live_bytes), human(group.dead_bytes));
        writeln!(text, "{:<22} {:>9} {live:>11} {dead:>11}", name_of(*of), grouped(group.segments))
            .expect("a string takes everything");
    }
    let segments: u64 = space.groups.values().map(|group| group.segments).sum();
    let (live, dead) = (human(space.live_bytes), human(space.dead_bytes()));
    writeln!(text, "{:<22} {:>9} {live:>11} {dead:>11}", "all", grouped(segments))
        .expect("a string takes everything");
    for (what, bytes) in reserves_of(space) {
        let name = format!("reserved, {what}");
        writeln!(text, "{name:<22} {:>9}", grouped(bytes / space.segment_bytes.max(1)))
            .expect("a string takes everything");
    }
    text.push_str(&writable(space));
    text.push('\n');
    text
}

/// What users can still write.
pub(crate) fn writable(space: &Space) -> String {
    let now = human(space.writable_now_bytes);
    match space.writable_cleaned_bytes.saturating_sub(space.writable_now_bytes) {
        0 => format!("{now} can be written"),
        more => format!("{now} can be written, and {} more once dead space is cleaned", human(more)),
    }
}

fn as_line(space: &Space) -> String {
    format!(
        "{} live, {} dead, {} free; {}",
        human(space.live_bytes),
        human(space.dead_bytes()),
        human(space.free_bytes()),
        writable(space),
    )
}

pub(crate) fn as_json(space: &Space) -> Value {
    let groups = space.groups.iter().map(|(of, group)| {
        let (stream, class) = match of {
            SpaceUse::Window => ("window", None),
            SpaceUse::Journal => ("journal", None),
            SpaceUse::Bulk => ("bulk", None),
            SpaceUse::Relocated(class) => ("relocated", Some(*class)),
            SpaceUse::Nodes => ("nodes", None),
            SpaceUse::Quarantined => ("quarantined", None),
            SpaceUse::Free => ("free", None),
            _ => ("other", None),
        };
        json!({
            "stream": stream,
            "age_class": class,
            "segments": group.segments,
            "live_bytes": group.live_bytes,
            "dead_bytes": group.dead_bytes,
        })
    });
    let reserves = reserves_of(space).map(|(what, bytes)| (what.to_owned(), bytes.into()));
    json!({
        "segment_bytes": space.segment_bytes,
        "segments_bytes": space.segments_bytes,
        "usable_bytes": space.usable_bytes,
        "live_bytes": space.live_bytes,
        "dead_bytes": space.dead_bytes(),
        "free_bytes": space.free_bytes(),
        "writable_bytes": space.writable_bytes,
        "writable_now_bytes": space.writable_now_bytes,
        "writable_cleaned_bytes": space.writable_cleaned_bytes,
        "reserves": Value::Object(reserves.into_iter().collect()),
        "groups": groups.collect::<Vec<_>>(),
    })
}
