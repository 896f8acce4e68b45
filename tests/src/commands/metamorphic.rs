//! `metamorphic`: the same programs on stores of other sizes.

use std::process::ExitCode;
use std::sync::Mutex;

use clap::Args;
use seabed_tests::crash::metamorphic::{MetamorphicCounts, metamorphic};

#[derive(Args)]
pub(crate) struct Metamorphic {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// Worker threads
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

impl Metamorphic {
    pub(crate) fn run(self) -> ExitCode {
        let Self { seed, seeds, threads } = self;
        let total = Mutex::new((MetamorphicCounts::default(), false));
        super::for_seeds(seed..seed + seeds, threads, |seed| {
            let mut has_failed = false;
            let counts = metamorphic(seed, |what| {
                has_failed = true;
                super::failed(what, &format!("metamorphic --seed {seed} --seeds 1"));
            });
            let mut total = total.lock().expect("no panic while it is held");
            total.0.add(&counts);
            total.1 |= has_failed;
        });
        let (counts, has_failed) = total.into_inner().expect("all threads have ended");
        println!("{}", counts.line());
        if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
