//! `bench`: measures. Jobs as fio's (`jobs`), or one workload by itself (`overwrite`).

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
}

pub(crate) fn run(args: &BenchArgs, global: &Global) -> Outcome<Exit> {
    match &args.command {
        Some(BenchCommand::Overwrite(args)) => overwrite::run(args, global),
        None => jobs::run(&args.jobs, global),
    }
}
