//! `bench`: measures. Jobs as fio's (`jobs`), one workload by itself (`overwrite`), Seabed beside others
//! (`compare`), policies of cleaning in a simulator (`cleaner_sim`).

mod cleaner_sim;
mod compare;
mod jobs;
mod options;
mod overwrite;
mod status;

use clap::{Args, Subcommand};

use crate::args::Global;
use crate::exit::{Exit, Outcome};

/// What it takes: a command, or jobs.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    command: Option<BenchCommand>,
    #[command(flatten)]
    jobs: jobs::JobsArgs,
}

#[derive(Subcommand)]
enum BenchCommand {
    /// Durable random overwrites of 4 KiB
    Overwrite(overwrite::OverwriteArgs),
    /// Seabed beside others: the raw device (by fio), files, and, in builds with `--features peers`, RocksDB, redb, fjall
    Compare(compare::CompareArgs),
    /// Policies of cleaning on synthetic loads, simulated: write amplification
    CleanerSim(cleaner_sim::CleanerSimArgs),
    /// One trial of `compare`
    #[command(hide = true)]
    Trial(compare::TrialArgs),
}

pub(crate) fn run(args: &BenchArgs, global: &Global) -> Outcome<Exit> {
    match &args.command {
        Some(BenchCommand::Overwrite(args)) => overwrite::run(args, global),
        Some(BenchCommand::Compare(args)) => compare::run(args, global),
        Some(BenchCommand::CleanerSim(args)) => cleaner_sim::run(args, global),
        Some(BenchCommand::Trial(args)) => compare::trial(args),
        None => jobs::run(&args.jobs, global),
    }
}
