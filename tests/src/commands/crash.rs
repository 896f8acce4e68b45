//! `crash`: the crash-replay suite.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use seabed_tests::crash;

/// A run of so many states must reach everything that it is there for.
const REACHES_ALL: u64 = 20_000;

#[derive(Args)]
pub(crate) struct Crash {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds; without it, as many as it takes
    #[arg(long)]
    seeds: Option<u64>,
    /// How many distinct crash states
    #[arg(long, default_value_t = 20_000)]
    states: u64,
    /// How long at most
    #[arg(long)]
    seconds: Option<u64>,
    /// About how many states of each seed
    #[arg(long, default_value_t = 120)]
    states_per_seed: u64,
    /// Worker threads
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

impl Crash {
    pub(crate) fn run(self) -> ExitCode {
        let Self { seed, seeds, states, seconds, states_per_seed, threads } = self;
        let time = seconds.map(Duration::from_secs);
        let options = crash::Options { seed, seeds, states, time, states_per_seed, threads };
        let repeat = move |seed: u64| {
            super::repeat_line(&format!("crash --seed {seed} --seeds 1 --states-per-seed {states_per_seed}"))
        };
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            hook(panic);
            if let Some(seed) = crash::seed_now() {
                println!("FAILED by a panic\n{}", repeat(seed));
            }
        }));
        let counts = crash::run_seeds(options, |seed, what| {
            println!("FAILED seed {seed}, {what}\n{}", repeat(seed));
        });
        println!("{}", counts.line());
        let is_long = counts.states >= REACHES_ALL;
        let reached_all = super::reached(seabed_types::reached::Suite::Crash) || !is_long;
        if reached_all && !counts.has_failures() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
