//! `seeded-bugs`: arms each seeded bug in turn and lets its suite hunt for it.
//!
//! Built without the bugs, the command builds the same program with them, beside the other builds, and runs that. Each hunt
//! is a process: a bug may end it. Such a process says on one line each how far it came, so that a panic has a seed.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;
use seabed_tests::seeded::{BUGS, Bug, Ended, Hunt, Suite, bug};

const CLEAN: &str = "clean";
const FOUND: &str = "found ";
/// Seeds of different hunts lie so far apart.
const APART: u64 = 10_000;

#[derive(Args)]
pub(crate) struct SeededBugs {
    /// The first seed of the first hunt
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Hunts for each bug; their median counts
    #[arg(long, default_value_t = 20)]
    runs: u64,
    /// Only these bugs
    #[arg(long, value_delimiter = ',')]
    only: Vec<u32>,
    /// Hunts at a time
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Only list them
    #[arg(long)]
    list: bool,
}

/// One hunt, in a process of its own.
#[derive(Args)]
pub(crate) struct SeededHunt {
    bug: u32,
    /// The bug whose suite is run: another one if none is armed
    suite_of: u32,
    seed: u64,
    seeds: u64,
}

/// What the hunts for a bug came to.
struct Result {
    bug: &'static Bug,
    /// By hunt; none: not found.
    seeds: Vec<Option<u64>>,
    how: String,
}

impl Result {
    /// How many seeds the middle one of all hunts took.
    fn median(&self) -> Option<u64> {
        let mut seeds = self.seeds.clone();
        seeds.sort_by_key(|seeds| seeds.unwrap_or(u64::MAX));
        seeds.get(seeds.len() / 2).copied().flatten()
    }

    fn is_found(&self) -> bool {
        self.median().is_some_and(|median| median <= self.bug.within)
    }

    fn row(&self) -> String {
        let Bug { number, guards, file, what, suite, within } = self.bug;
        let median = self.median().map_or_else(|| "missed".to_owned(), |median| median.to_string());
        let found = self.seeds.iter().flatten().count();
        format!(
            "| {number} | {guards} | `{file}` | {what} | {suite} | {within} | {median} | {found} of {} |",
            self.seeds.len()
        )
    }
}

impl SeededHunt {
    pub(crate) fn run(self) -> ExitCode {
        let Some(of) = bug(self.suite_of) else {
            return super::failed("no such bug", "seeded-bugs --list");
        };
        let hunt = Hunt { bug: self.bug, suite: of.suite, seed: self.seed, seeds: self.seeds };
        let ended = hunt.run(|| {
            println!("{CLEAN}");
            // A process that a panic ends would keep what was not written out.
            let _ = std::io::stdout().flush();
        });
        if let Ended::Found(_, what) = ended {
            println!("{FOUND}{}", what.replace('\n', " "));
        }
        ExitCode::SUCCESS
    }
}

/// Runs a hunt in a process: after how many seeds it was found, and how.
fn hunt(armed: u32, of: &Bug, seed: u64) -> std::io::Result<(Option<u64>, String)> {
    let mut process = Command::new(std::env::current_exe()?)
        .args(["seeded-hunt", &armed.to_string(), &of.number.to_string()])
        .args([seed.to_string(), of.within.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut clean = 0;
    let mut found = None;
    let stdout = process.stdout.take().expect("it is piped");
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        clean += u64::from(line == CLEAN);
        found = found.or_else(|| line.strip_prefix(FOUND).map(str::to_owned));
    }
    let is_well = process.wait()?.success();
    Ok(match found {
        Some(what) => (Some(clean + 1), what),
        None if is_well => (None, String::new()),
        None => (Some(clean + 1), "a panic".to_owned()),
    })
}

impl SeededBugs {
    pub(crate) fn run(&self) -> ExitCode {
        let bugs: Vec<&'static Bug> =
            BUGS.iter().filter(|bug| self.only.is_empty() || self.only.contains(&bug.number)).collect();
        if self.list {
            println!(
                "| bug | breaks | file | what is wrong | suite | within seeds |\n|---|---|---|---|---|---|"
            );
            for Bug { number, guards, file, what, suite, within } in bugs {
                println!("| {number} | {guards} | `{file}` | {what} | {suite} | {within} |");
            }
            return ExitCode::SUCCESS;
        }
        if !seabed_types::seeded::ARE_BUILT_IN {
            return with_bugs_built_in().unwrap_or_else(|error| super::failed(error, "seeded-bugs"));
        }
        let dirty = match self.dirty_suites(&bugs) {
            Ok(dirty) => dirty,
            Err(error) => return super::failed(error, "seeded-bugs"),
        };
        let results: Mutex<Vec<Result>> = Mutex::default();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(|| {
                    while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let result = self.hunts(bug);
                        let median = result.median().map_or_else(|| "missed".to_owned(), |m| m.to_string());
                        eprintln!("{:>3} {:<18} {median:>6}  {}", bug.number, bug.guards, result.how);
                        results.lock().expect("no panic while it is held").push(result);
                    }
                });
            }
        });
        let mut results = results.into_inner().expect("all threads have ended");
        results.sort_by_key(|result| result.bug.number);
        println!(
            "| bug | breaks | file | what is wrong | suite | within seeds | median | found |\n|---|---|---|---|---|---|---|---|"
        );
        for result in &results {
            println!("{}", result.row());
        }
        let found = results.iter().filter(|result| result.is_found()).count();
        let missed = results.len() - found;
        println!("bugs={} found={found} missed={missed} dirty={dirty} runs={}", results.len(), self.runs);
        if missed == 0 && dirty == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn hunts(&self, bug: &'static Bug) -> Result {
        let mut result = Result { bug, seeds: Vec::new(), how: String::new() };
        for run in 0..self.runs {
            let (seeds, how) = hunt(bug.number, bug, self.seed + run * APART)
                .unwrap_or_else(|error| (None, format!("no process: {error}")));
            if result.how.is_empty() {
                result.how = how;
            }
            result.seeds.push(seeds);
        }
        result
    }

    /// How many suites fail although no bug is armed, on the seeds of the first hunt.
    fn dirty_suites(&self, bugs: &[&'static Bug]) -> std::io::Result<u64> {
        let mut dirty = 0;
        let mut looked: Vec<Suite> = Vec::new();
        for bug in bugs {
            if !looked.contains(&bug.suite) {
                looked.push(bug.suite);
                if let (Some(seeds), how) = hunt(0, bug, self.seed)? {
                    println!("FAILED {} without a bug, at seed {}: {how}", bug.suite, self.seed + seeds - 1);
                    dirty += 1;
                }
            }
        }
        Ok(dirty)
    }
}

/// Builds this program with the bugs and runs it with the same arguments.
fn with_bugs_built_in() -> std::io::Result<ExitCode> {
    let own = std::env::current_exe()?;
    let target = own.parent().and_then(std::path::Path::parent).unwrap_or(std::path::Path::new("target"));
    let target = target.join("seeded-bugs");
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "-p", "seabed-tests", "--target-dir"])
        .arg(&target)
        .env("RUSTFLAGS", format!("{flags} --cfg seeded_bugs"))
        .status()?;
    if !built.success() {
        return Ok(ExitCode::FAILURE);
    }
    let ran = Command::new(target.join("release/seabed-tests")).args(std::env::args_os().skip(1)).status()?;
    Ok(if ran.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
