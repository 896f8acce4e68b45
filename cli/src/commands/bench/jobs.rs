//! `bench JOB.fio`: runs the jobs of a file, or one made of the options, as fio would.
//!
//! Without `--store` a temporary store is made, large enough for what the jobs write, and removed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use seabed::FormatOptions;
use seabed_bench::job::{Ignored, Jobs, Process};
use seabed_bench::live::Live;
use seabed_bench::report::{json, page, text};
use seabed_bench::room;
use seabed_bench::run::{self, Ending, On, Options, Report};

use super::options::JobOptions;
use super::status::Status;
use crate::args::Global;
use crate::commands::demo::Scratch;
use crate::commands::format;
use crate::exit::{Exit, Failure, Outcome};
use crate::identity::refuse_output;
use crate::interrupt::Interrupt;
use crate::outfile;
use crate::output::Output;
use crate::session::{Session, shown};
use crate::sizes::human;

/// The name of a job that the command line makes.
const JOB_NAME: &str = "job";
/// Requests that the face for any thread takes at once.
const REQUESTS_MAX: u32 = 64;

#[derive(Args)]
pub(super) struct JobsArgs {
    /// A job file of fio's; without one the options make one job
    job: Option<PathBuf>,
    /// The store, whose pool "seabed-bench" is used and keeps what is written; a temporary one if left out
    #[arg(long)]
    store: Option<PathBuf>,
    /// How to print the report
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Normal)]
    output_format: Format,
    /// Also write the report as a page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Where clients run
    #[arg(long, value_enum, value_name = "WHERE", default_value_t = Clients::Shard)]
    clients: Clients,
    /// Store nothing: measure what the generator itself costs
    #[arg(long, conflicts_with_all = ["store", "clients"])]
    null: bool,
    /// What the job is called that the options make
    #[arg(long, conflicts_with = "job")]
    name: Option<String>,
    #[command(flatten)]
    options: JobOptions,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Normal,
    /// As fio's JSON
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Clients {
    /// On the shard's own thread
    Shard,
    /// Each copy of a job on a thread of its own
    Threads,
}

pub(super) fn run(args: &JobsArgs, global: &Global) -> Outcome<Exit> {
    let jobs = read(args)?;
    if let (Some(store), Some(html)) = (&args.store, &args.html) {
        refuse_output(store, html)?;
    }
    for line in ignored_lines(&jobs.ignored) {
        global.say(&line);
    }
    let interrupt = Interrupt::install()?;
    if args.clients == Clients::Threads {
        check_threads(&jobs)?;
    }
    let outcome = if args.null {
        check_null(&jobs)?;
        measure(&On::Nothing, &jobs, &interrupt, global)
    } else if let Some(path) = &args.store {
        on_store(path, args, &jobs, &interrupt, global)
    } else {
        let scratch = Scratch::new()?;
        let free = scratch.free_bytes()?;
        let bytes = room::store_bytes(&jobs.jobs, free).max(format::STORE_BYTES_MIN);
        scratch.require(bytes)?;
        global.say(&format!("a temporary store of {}", human(bytes)));
        let options = FormatOptions { size: Some(bytes), ..FormatOptions::default() };
        format::make(&scratch.store(), options, &interrupt, global)?;
        let outcome = on_store(&scratch.store(), args, &jobs, &interrupt, global);
        scratch.remove()?;
        outcome
    };
    let report = outcome?;
    if let Some(path) = &args.html {
        outfile::write(path, args.store.as_deref(), page::page(&report).as_bytes())?;
    }
    let mut output = Output::report();
    match args.output_format {
        Format::Normal => output.text(&text::text(&report))?,
        Format::Json => output.json(&json::json(&report))?,
    }
    output.finish()?;
    end(&report, &interrupt)
}

fn read(args: &JobsArgs) -> Outcome<Jobs> {
    let given = &args.options.given;
    let Some(path) = &args.job else {
        if given.is_empty() {
            let failure = Failure::usage("there is nothing to do");
            return Err(
                failure.advise("give a job file, or options as --rw=randwrite --size=1g --iodepth=32")
            );
        }
        let name = args.name.as_deref().unwrap_or(JOB_NAME);
        let around = Process { directory: PathBuf::new() };
        return Jobs::of_command_line(name, given, &around)
            .map_err(|error| Failure::usage(error.to_string()));
    };
    let around = Process { directory: path.parent().map(Path::to_path_buf).unwrap_or_default() };
    let text = std::fs::read_to_string(path).map_err(|error| Failure::io(path, "reading it", &error))?;
    Jobs::read(&text, given, &around).map_err(|error| Failure::usage(format!("{}: {error}", shown(path))))
}

/// The order of submission, which verification goes by, is kept as long as no request waits for its place.
fn check_threads(jobs: &Jobs) -> Outcome<()> {
    let in_flight: u32 = jobs.jobs.iter().map(|job| job.iodepth.saturating_mul(job.copies)).sum();
    if in_flight > REQUESTS_MAX && jobs.jobs.iter().any(|job| job.verifies) {
        let message =
            format!("verify with --clients=threads takes at most {REQUESTS_MAX} operations in flight");
        return Err(Failure::usage(message));
    }
    Ok(())
}

/// One line for each reason, with the options that have it.
fn ignored_lines(ignored: &[Ignored]) -> Vec<String> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for option in ignored {
        let place = reasons.iter().position(|(why, _)| *why == option.why);
        let place = place.unwrap_or_else(|| {
            reasons.push((option.why, Vec::new()));
            reasons.len() - 1
        });
        let names = &mut reasons[place].1;
        if !names.contains(&&option.option[..]) {
            names.push(&option.option);
        }
    }
    reasons.into_iter().map(|(why, names)| format!("ignored: {} ({why})", names.join(", "))).collect()
}

/// Stamps are made, and cost what they cost; nothing that is read back can be right.
fn check_null(jobs: &Jobs) -> Outcome<()> {
    if jobs.jobs.iter().any(|job| job.verifies_only) {
        return Err(Failure::usage("--null stores nothing, so there is nothing to verify"));
    }
    Ok(())
}

fn on_store(
    path: &Path,
    args: &JobsArgs,
    jobs: &Jobs,
    interrupt: &Interrupt,
    global: &Global,
) -> Outcome<Report> {
    let session = Session::write(path, global)?;
    let on = match args.clients {
        Clients::Shard => On::Shard(session.store()),
        Clients::Threads => On::Threads(session.store()),
    };
    let outcome = measure(&on, jobs, interrupt, global);
    let closed = session.close();
    let report = outcome?;
    closed?;
    Ok(report)
}

fn measure(on: &On<'_>, jobs: &Jobs, interrupt: &Interrupt, global: &Global) -> Outcome<Report> {
    let (live, interrupt) = (Arc::new(Live::default()), interrupt.clone());
    let groups = 1 + jobs.jobs.iter().skip(1).filter(|job| job.waits).count() as u64;
    let status = Status::new(global, &live, groups);
    let options = Options { is_over: Arc::new(move || interrupt.is_set()), live };
    let outcome = run::run(on, jobs, &options);
    status.end();
    outcome.map_err(|error| Failure::engine("bench", &error))
}

fn end(report: &Report, interrupt: &Interrupt) -> Outcome<Exit> {
    let verified = report.verified();
    if verified.wrong > 0 {
        let message = format!("{} of {} units are not what was written", verified.wrong, verified.units);
        return Err(Failure::new(Exit::Corrupt, message));
    }
    Ok(interrupt.exit().unwrap_or(match report.ending() {
        Ending::Done | Ending::Interrupted => Exit::Done,
        Ending::NoSpace => Exit::NoSpace,
    }))
}
