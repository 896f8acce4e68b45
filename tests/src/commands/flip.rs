//! `flip`: flips bits.

use std::process::ExitCode;

use clap::Args;
use seabed_tests::crash::{self, FlipPlaces};

#[derive(Args)]
pub(crate) struct Flip {
    /// What is in the store, and which bits
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only so many bytes, drawn from the seed, of each structure about as many
    #[arg(long)]
    sample: Option<u64>,
    /// Worker threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

impl Flip {
    pub(crate) fn run(self) -> ExitCode {
        let places = self.sample.map_or(FlipPlaces::All, FlipPlaces::Sample);
        match crash::flip(self.seed, places, self.threads.max(1)) {
            Ok(counts) => {
                println!("{}", counts.table());
                ExitCode::SUCCESS
            }
            Err(what) => super::failed(what, &format!("flip --seed {}", self.seed)),
        }
    }
}
