//! `bench overwrite`: durable random overwrites of 4 KiB, the shortest way to a figure.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use seabed::{FormatOptions, Store};
use seabed_bench::overwrite::{self, BLOCK_BYTES, Ending, Options, Report};
use serde_json::json;

use crate::args::Global;
use crate::commands::demo::Scratch;
use crate::commands::format;
use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::session::Session;
use crate::sizes::{self, grouped, human};
use crate::stderr;

/// A temporary store is so many times as large as the data, so that there is room for what is overwritten.
const ROOM: u64 = 3;

#[derive(Args)]
pub(crate) struct OverwriteArgs {
    /// The store, whose pool "seabed-bench" is used; a temporary one if left out
    #[arg(long)]
    store: Option<PathBuf>,
    /// Bytes of all objects together
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = sizes::parse)]
    data: u64,
    /// Clients, each with one write at a time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    depth: u32,
    /// How long to measure
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Write the blocks one by one in random order first, as they lie in a store after long use
    #[arg(long)]
    scattered: bool,
    /// Leave the objects in the store
    #[arg(long)]
    keep: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &OverwriteArgs, global: &Global) -> Outcome<Exit> {
    if args.data < overwrite::OBJECT_BYTES {
        return Err(Failure::usage(format!("--data takes {} or more", human(overwrite::OBJECT_BYTES))));
    }
    let interrupt = Interrupt::install()?;
    let scratch;
    let path = if let Some(path) = &args.store {
        path
    } else {
        scratch = Scratch::new()?;
        let bytes = args.data.saturating_mul(ROOM).max(format::STORE_BYTES_MIN) & !(BLOCK_BYTES - 1);
        scratch.require(bytes)?;
        let options = FormatOptions { size: Some(bytes), ..FormatOptions::default() };
        format::make(&scratch.store(), options, &interrupt, global)?;
        &scratch.store()
    };
    let session = Session::write(path, global)?;
    let options = Options {
        data_bytes: args.data,
        depth: args.depth,
        time: Duration::from_secs(args.seconds),
        is_scattered: args.scattered,
        keeps: args.keep || args.store.is_none(),
    };
    let outcome = measure(session.store(), options, &interrupt, global);
    let closed = session.close();
    let report = outcome?;
    closed?;
    let mut output = Output::report();
    if args.json {
        output.json(&as_json(&report, args))?;
    } else {
        output.text(&as_text(&report, args))?;
    }
    output.finish()?;
    if report.verified.wrong > 0 {
        let message = format!(
            "{} of {} blocks are not what was written",
            report.verified.wrong, report.verified.blocks
        );
        return Err(Failure::new(Exit::Corrupt, message));
    }
    Ok(interrupt.exit().unwrap_or(match report.ending {
        Ending::Time | Ending::Interrupted => Exit::Done,
        Ending::NoSpace => Exit::NoSpace,
    }))
}

fn measure(store: &Store, options: Options, interrupt: &Interrupt, global: &Global) -> Outcome<Report> {
    let interrupt = interrupt.clone();
    let say = !global.quiet;
    overwrite::run(
        store,
        options,
        move || interrupt.is_set(),
        move |phase| {
            if say {
                stderr::line(phase);
            }
        },
    )
    .map_err(|error| Failure::engine("bench", &error))
}

fn as_text(report: &Report, args: &OverwriteArgs) -> String {
    let mut text = format!(
        "overwrite: 4 KiB, uniform random over {}{}, {} clients, {:.1} s\n",
        human(report.data_bytes),
        if args.scattered { " scattered" } else { "" },
        args.depth,
        report.time.as_secs_f64(),
    );
    let latency = &report.latency;
    let lines = [
        ("operations", grouped(report.operations)),
        ("per second", grouped(report.per_second())),
        ("latency p50", micros(latency.p50)),
        ("latency p99", micros(latency.p99)),
        ("latency p99.9", micros(latency.p999)),
        ("latency max", micros(latency.max)),
        ("CPU time per operation", format!("{:.2} us", report.cpu_per_operation() * 1e6)),
        ("CPU time stolen", format!("{:.1} % of what the machine wanted", report.stolen * 100.0)),
        (
            "device bytes per user byte",
            format!("{:.3} (as the engine counts)", report.engine_amplification()),
        ),
        (
            "",
            match report.kernel_amplification() {
                Some(ratio) => format!("{ratio:.3} (as the kernel counts)"),
                None => "not known from the kernel".to_owned(),
            },
        ),
        ("verified", format!("{} blocks, {} wrong", grouped(report.verified.blocks), report.verified.wrong)),
        ("first write", format!("{} in {:.1} s", human(report.data_bytes), report.fill_time.as_secs_f64())),
    ];
    for (what, value) in lines {
        writeln!(text, "  {what:<27} {value}").expect("a string takes everything");
    }
    match report.ending {
        Ending::Time => {}
        Ending::NoSpace => text.push_str("ended early: no space was left\n"),
        Ending::Interrupted => text.push_str("ended early: interrupted\n"),
    }
    text
}

fn micros(time: Duration) -> String {
    format!("{} us", grouped(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)))
}

fn as_json(report: &Report, args: &OverwriteArgs) -> serde_json::Value {
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    json!({
        "workload": "overwrite",
        "block_bytes": BLOCK_BYTES,
        "data_bytes": report.data_bytes,
        "depth": args.depth,
        "scattered": args.scattered,
        "seconds": report.time.as_secs_f64(),
        "operations": report.operations,
        "iops": report.per_second(),
        "latency_us": {
            "p50": micros(report.latency.p50),
            "p99": micros(report.latency.p99),
            "p999": micros(report.latency.p999),
            "max": micros(report.latency.max),
        },
        "cpu_us_per_operation": report.cpu_per_operation() * 1e6,
        "stolen": report.stolen,
        "device_bytes_per_user_byte": report.engine_amplification(),
        "device_bytes_per_user_byte_kernel": report.kernel_amplification(),
        "journal_bytes": report.journal_bytes,
        "node_bytes": report.node_bytes,
        "fill_seconds": report.fill_time.as_secs_f64(),
        "verified_blocks": report.verified.blocks,
        "wrong_blocks": report.verified.wrong,
        "ended": match report.ending {
            Ending::Time => "time",
            Ending::NoSpace => "no space",
            Ending::Interrupted => "interrupted",
        },
    })
}
