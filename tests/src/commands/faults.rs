//! `faults`: each operation of a run fails in turn.

use std::process::ExitCode;
use std::sync::Mutex;

use clap::Args;
use seabed_tests::crash::faults::{FaultCounts, fault_now, run_faults};

/// So many runs must reach everything that they are there for.
const REACHES_ALL: u64 = 1000;

#[derive(Args)]
pub(crate) struct FaultLoops {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// Every so manieth operation of each kind only
    #[arg(long, default_value_t = 1)]
    step: usize,
    /// Worker threads
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

impl FaultLoops {
    pub(crate) fn run(self) -> ExitCode {
        let Self { seed, seeds, step, threads } = self;
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            hook(panic);
            println!("FAILED by a panic: {}", fault_now());
        }));
        let total = Mutex::new((FaultCounts::default(), 0));
        super::for_seeds(seed..seed + seeds, threads, |seed| {
            let result = run_faults(seed, step.max(1));
            let mut total = total.lock().expect("no panic while it is held");
            match result {
                Ok(counts) => total.0.add(&counts),
                Err(what) => {
                    total.1 += 1;
                    super::failed(what, &format!("faults --seed {seed} --seeds 1"));
                }
            }
        });
        let (counts, failed) = total.into_inner().expect("all threads have ended");
        println!("{} broken={failed}", counts.line());
        let reached_all = super::reached(seabed_types::reached::Suite::Faults) || counts.runs < REACHES_ALL;
        if reached_all && failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
