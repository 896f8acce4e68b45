//! `replay`: one seed of the crash suite again, and the smallest program that shows its failure.

use std::process::ExitCode;

use clap::Args;
use seabed_tests::crash::shrink::{Shrunk, replay};

#[derive(Args)]
pub(crate) struct Replay {
    /// About how many states of each seed
    #[arg(long, default_value_t = 120)]
    states_per_seed: u64,
    /// The seeds
    #[arg(required = true)]
    seeds: Vec<u64>,
}

impl Replay {
    pub(crate) fn run(self) -> ExitCode {
        let mut code = ExitCode::SUCCESS;
        for seed in self.seeds {
            match replay(seed, self.states_per_seed) {
                None => println!("seed {seed}: no rule is broken"),
                Some(Shrunk { broken, steps, left }) => {
                    let repeat = format!("replay --states-per-seed {} {seed}", self.states_per_seed);
                    code = super::failed(format!("seed {seed}: {broken}"), &repeat);
                    println!("of {steps} steps {} are needed:", left.len());
                    for line in left {
                        println!("  {line}");
                    }
                }
            }
        }
        code
    }
}
