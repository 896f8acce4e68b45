//! `import`: compares the time of an import with that of a copy.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use seabed_tests::import::{ImportOptions, compare};
use seabed_tests::tree::TreeOptions;

#[derive(Args)]
pub(crate) struct Import {
    /// The binary
    #[arg(long, default_value = "target/release/seabed")]
    seabed: PathBuf,
    /// How many files the tree has
    #[arg(long, default_value_t = 50_000)]
    files: u64,
    /// How many bytes they have together
    #[arg(long, default_value = "1G", value_parser = super::parse_bytes)]
    bytes: u64,
    /// What the tree follows from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Size of the store
    #[arg(long, default_value = "4G")]
    size: String,
    /// How often each
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// An empty directory to work in; what is made there stays
    directory: PathBuf,
}

impl Import {
    pub(crate) fn run(self) -> ExitCode {
        let Self { seabed, files, bytes, seed, size, rounds, directory } = self;
        let tree = TreeOptions { files, bytes, seed };
        match compare(&ImportOptions { seabed, directory, tree, size, rounds }) {
            Ok(times) => {
                println!("{}", times.line());
                ExitCode::SUCCESS
            }
            Err(error) => super::failed(error, "import DIR"),
        }
    }
}
