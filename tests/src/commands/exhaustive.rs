//! `exhaustive`: all sequences of a few operations.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use seabed_tests::crash::exhaustive::{TEMPLATES, run_sequences, sequences};

#[derive(Args)]
pub(crate) struct Exhaustive {
    /// Of how many operations at most
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=4))]
    ops: u32,
    /// Every so manieth sequence only
    #[arg(long, default_value_t = 1)]
    step: usize,
    /// One sequence only, by the numbers of its operations
    #[arg(long, value_delimiter = ',')]
    only: Option<Vec<usize>>,
    /// Worker threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

impl Exhaustive {
    pub(crate) fn run(self) -> ExitCode {
        let all = match self.only {
            Some(only) if only.iter().all(|number| *number < TEMPLATES) => vec![only],
            Some(_) => return super::failed(format!("there are {TEMPLATES} operations"), "exhaustive"),
            None => sequences(self.ops).into_iter().step_by(self.step.max(1)).collect(),
        };
        let has_failed = AtomicBool::new(false);
        let counts = run_sequences(&all, self.threads.max(1), |what| {
            has_failed.store(true, Ordering::Relaxed);
            super::failed(what, "exhaustive --only N,N,N");
        });
        println!("{}", counts.line());
        if has_failed.load(Ordering::Relaxed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
