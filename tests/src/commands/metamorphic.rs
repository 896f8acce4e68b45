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
        let Self { seed: first, seeds, threads } = self;
        let total = Mutex::new((MetamorphicCounts::default(), false));
        std::thread::scope(|scope| {
            for thread in 0..threads.max(1) {
                let total = &total;
                scope.spawn(move || {
                    for seed in
                        (first + thread..first + seeds).step_by(usize::try_from(threads).unwrap_or(1).max(1))
                    {
                        let mut has_failed = false;
                        let counts = metamorphic(seed, |what| {
                            has_failed = true;
                            super::failed(what, &format!("metamorphic --seed {seed} --seeds 1"));
                        });
                        let mut total = total.lock().expect("no panic while it is held");
                        total.0.add(&counts);
                        total.1 |= has_failed;
                    }
                });
            }
        });
        let (counts, has_failed) = total.into_inner().expect("all threads have ended");
        println!("{}", counts.line());
        if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
