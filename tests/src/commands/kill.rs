//! `kill`: kills imports.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use seabed_tests::kill::{KillError, KillOptions, KillTree, kill};
use seabed_tests::tree::TreeOptions;

#[derive(Args)]
pub(crate) struct Kill {
    /// How often
    #[arg(long, default_value_t = 50)]
    kills: u32,
    /// What all choices follow from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The binary
    #[arg(long, default_value = "target/release/seabed")]
    seabed: PathBuf,
    /// Import this tree, which nobody may change meanwhile, instead of one that is made
    #[arg(long, conflicts_with_all = ["files", "bytes"])]
    tree: Option<PathBuf>,
    /// How many files the tree has
    #[arg(long, default_value_t = 5000)]
    files: u64,
    /// How many bytes they have together
    #[arg(long, default_value = "64M", value_parser = super::parse_bytes)]
    bytes: u64,
    /// Size of the store
    #[arg(long, default_value = "512M")]
    size: String,
    /// On a loop device over the file, if one can be had (that needs root)
    #[arg(long)]
    loop_device: bool,
    /// An empty directory to work in; what is made there stays
    directory: PathBuf,
}

impl Kill {
    pub(crate) fn run(self) -> ExitCode {
        let Self { kills, seed, seabed, tree, files, bytes, size, loop_device, directory } = self;
        let of = match &tree {
            Some(tree) => format!("--tree {}", tree.display()),
            None => format!("--files {files} --bytes {bytes}"),
        };
        let on = if loop_device { "--loop-device " } else { "" };
        let repeat = format!("kill --kills {kills} --seed {seed} --size {size} {of} {on}DIR");
        let planted = || KillTree::Planted(TreeOptions { files, bytes, seed });
        let tree = tree.map_or_else(planted, KillTree::Existing);
        match kill(&KillOptions { seabed, directory, kills, seed, tree, size, loop_device }) {
            Ok(counts) => {
                println!("{}", counts.line());
                ExitCode::SUCCESS
            }
            Err(error @ KillError::NoLoopDevice { .. }) => {
                println!("skipped: {error}");
                ExitCode::SUCCESS
            }
            Err(error) => super::failed(error, &repeat),
        }
    }
}
