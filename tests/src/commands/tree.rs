//! `tree`: makes a directory tree.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use seabed_tests::tree::{TreeOptions, plant};

#[derive(Args)]
pub(crate) struct Tree {
    /// How many files
    #[arg(long, default_value_t = 50_000)]
    files: u64,
    /// How many bytes they have together; K, M, G and T are powers of 1024
    #[arg(long, default_value = "1G", value_parser = super::parse_bytes)]
    bytes: u64,
    /// What all choices follow from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where; made if it does not exist, and must be empty
    directory: PathBuf,
}

impl Tree {
    pub(crate) fn run(self) -> ExitCode {
        let Self { files, bytes, seed, directory } = self;
        match plant(&directory, TreeOptions { files, bytes, seed }) {
            Ok(counts) => {
                println!(
                    "{} files with {} bytes, {} further names, {} directories, {} symlinks",
                    counts.files, counts.bytes, counts.hard_links, counts.directories, counts.symlinks
                );
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{}: {error}", directory.display());
                ExitCode::FAILURE
            }
        }
    }
}
