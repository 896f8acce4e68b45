//! `bench compare`: the same work on Seabed and on others, interleaved, in one table.
//!
//! First each contestant runs once with each number of clients; then those that store run again at their best, in turn,
//! as often as was asked for, and their drivers by themselves at the same numbers. Each trial is this program again in a
//! process of its own (`bench trial`), in a directory that is removed after it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::{Args, ValueEnum};
use seabed_bench::compare::table::{Comparison, Entry};
use seabed_bench::compare::{self, Contestant, Setup, Trial, Work};

use crate::args::Global;
use crate::commands::demo::Scratch;
use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::outfile;
use crate::output::Output;
use crate::sizes;

/// What is compared if nothing else is asked for.
const STORE_SOMETHING: [Contestant; 8] = [
    Contestant::Seabed,
    Contestant::RawDsync,
    Contestant::RawFlush,
    Contestant::Bare,
    Contestant::Files,
    Contestant::RocksDb,
    Contestant::Redb,
    Contestant::Fjall,
];

#[derive(Args)]
pub(super) struct CompareArgs {
    /// What is done
    #[arg(long, value_enum, default_value_t = WorkArg::Overwrite)]
    work: WorkArg,
    /// Where the stores are made: a directory on the device that is measured
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Bytes of data
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = sizes::parse)]
    data: u64,
    /// Bytes of each contestant's own cache
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = sizes::parse)]
    cache: u64,
    /// Seconds of a trial
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How often each is measured at its best
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: u32,
    /// Numbers of clients that are tried
    #[arg(long, value_delimiter = ',', default_value = "1,4,16,64", value_name = "LIST",
        value_parser = clap::value_parser!(u32).range(1..=4096))]
    clients: Vec<u32>,
    /// Only these: seabed, raw-dsync, raw-flush, bare, files, rocksdb, redb, fjall
    #[arg(long, value_delimiter = ',', value_name = "LIST", value_parser = stores_something)]
    only: Vec<Contestant>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Also write the table as a page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WorkArg {
    /// Durable overwrites of 4 KiB
    Overwrite,
    /// Reads of 4 KiB
    Read,
    /// Durable puts of objects of 1 KiB
    Put,
}

impl WorkArg {
    fn work(self) -> Work {
        match self {
            Self::Overwrite => Work::Overwrite,
            Self::Read => Work::Read,
            Self::Put => Work::Put,
        }
    }
}

/// One trial, as `compare` runs it in a process of its own.
#[derive(Args)]
pub(super) struct TrialArgs {
    #[arg(long, value_parser = any_contestant)]
    contestant: Contestant,
    #[arg(long, value_enum)]
    work: WorkArg,
    #[arg(long)]
    directory: PathBuf,
    #[arg(long)]
    data: u64,
    #[arg(long)]
    cache: u64,
    #[arg(long)]
    seconds: u64,
    #[arg(long)]
    clients: u32,
    #[arg(long)]
    free: u64,
}

fn any_contestant(name: &str) -> Result<Contestant, &'static str> {
    Contestant::of_name(name).ok_or("nobody is called so")
}

fn stores_something(name: &str) -> Result<Contestant, &'static str> {
    let found = any_contestant(name)?;
    if found.is_null() { Err("nothing to compare: it stores nothing") } else { Ok(found) }
}

/// Runs one trial and prints it.
pub(super) fn trial(args: &TrialArgs) -> Outcome<Exit> {
    // The directory of the trial is removed when `compare` ends, however it does.
    let orphaned = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    orphaned.map_err(|errno| Failure::new(Exit::Io, format!("asking for a signal: {errno}")))?;
    let setup = Setup {
        work: args.work.work(),
        contestant: args.contestant,
        clients: args.clients,
        data_bytes: args.data,
        cache_bytes: args.cache,
        time: Duration::from_secs(args.seconds),
        directory: args.directory.clone(),
        free_bytes: args.free,
    };
    let trial = compare::run(&setup).map_err(|error| Failure::new(Exit::SomeFailed, error.to_string()))?;
    let mut output = Output::report();
    output.json(&trial.to_json())?;
    output.finish()?;
    Ok(Exit::Done)
}

pub(super) fn run(args: &CompareArgs, global: &Global) -> Outcome<Exit> {
    let interrupt = Interrupt::install()?;
    let comparison = Runner { args, global, interrupt: &interrupt }.compare()?;
    if let Some(path) = &args.html {
        outfile::write(path, None, comparison.page().as_bytes())?;
    }
    let mut output = Output::report();
    if args.json {
        output.json(&comparison.json())?;
    } else {
        output.text(&comparison.text())?;
    }
    output.finish()?;
    let has_failed = comparison.entries.iter().any(|entry| entry.failed.is_some());
    Ok(interrupt.exit().unwrap_or(if has_failed { Exit::SomeFailed } else { Exit::Done }))
}

struct Runner<'a> {
    args: &'a CompareArgs,
    global: &'a Global,
    interrupt: &'a Interrupt,
}

impl Runner<'_> {
    fn compare(&self) -> Outcome<Comparison> {
        let args = self.args;
        let wanted = if args.only.is_empty() { STORE_SOMETHING.to_vec() } else { args.only.clone() };
        let takes_part =
            |one: &Contestant| !args.only.is_empty() || one.is_built() && one.can_do(args.work.work());
        let mut entries: Vec<Entry> = wanted.into_iter().filter(takes_part).map(entry).collect();
        if args.clients.len() > 1 {
            for place in &mut entries {
                self.find_best(place)?;
            }
        } else if let Some(only) = args.clients.first() {
            for entry in &mut entries {
                entry.clients = *only;
            }
        }
        let mut nulls: Vec<Entry> = Vec::new();
        for entry in entries.iter().filter(|entry| entry.failed.is_none()) {
            let null = Entry { clients: entry.clients, ..self::entry(entry.contestant.null()) };
            if !nulls.iter().any(|known| (known.contestant, known.clients) == (null.contestant, null.clients))
            {
                nulls.push(null);
            }
        }
        // In turn, so that what changes on the machine meanwhile meets all alike.
        for _ in 0..args.repeats {
            for entry in entries.iter_mut().chain(&mut nulls).filter(|entry| entry.failed.is_none()) {
                if self.interrupt.is_set() {
                    break;
                }
                match self.trial(entry.contestant, entry.clients)? {
                    Ok(trial) => entry.trials.push(trial),
                    Err(why) => entry.failed = Some(why),
                }
            }
        }
        Ok(Comparison {
            work: args.work.work(),
            data_bytes: args.data,
            cache_bytes: args.cache,
            time: Duration::from_secs(args.seconds),
            entries,
            nulls,
        })
    }

    /// Finds with how many clients a contestant does the most.
    fn find_best(&self, entry: &mut Entry) -> Outcome<()> {
        let mut best = 0.0;
        for clients in &self.args.clients {
            if self.interrupt.is_set() {
                break;
            }
            match self.trial(entry.contestant, *clients)? {
                Ok(trial) if trial.rate() > best => (best, entry.clients) = (trial.rate(), *clients),
                Ok(_) => {}
                Err(why) => {
                    entry.failed = Some(why);
                    break;
                }
            }
        }
        Ok(())
    }

    /// A trial in a process and a directory of its own; the inner error is the contestant's.
    fn trial(&self, contestant: Contestant, clients: u32) -> Outcome<Result<Trial, String>> {
        let args = self.args;
        self.global.say(&format!("{} with {clients} clients", contestant.name()));
        let scratch = match &args.directory {
            Some(directory) => Scratch::within(directory)?,
            None => Scratch::new()?,
        };
        let failed = |error: std::io::Error| Failure::io(Path::new("seabed"), "starting a trial", &error);
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command
            .args(["bench", "trial", "--contestant", contestant.name(), "--work", args.work.work().name()])
            .arg(format!("--directory={}", scratch.path().display()))
            .args([format!("--data={}", args.data), format!("--cache={}", args.cache)])
            .args([format!("--seconds={}", args.seconds), format!("--clients={clients}")])
            .arg(format!("--free={}", scratch.free_bytes()?))
            .stdin(Stdio::null());
        let output = command.output().map_err(failed)?;
        scratch.remove()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().last().unwrap_or("it ended without a word");
            return Ok(Err(last.trim_start_matches("seabed: ").to_owned()));
        }
        let trial = serde_json::from_slice(&output.stdout).ok();
        Ok(trial.as_ref().and_then(Trial::from_json).ok_or_else(|| "its report is not understood".to_owned()))
    }
}

fn entry(contestant: Contestant) -> Entry {
    Entry { contestant, clients: 1, trials: Vec::new(), failed: None }
}
