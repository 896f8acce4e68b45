//! The command line of the suites: each failure of a suite names the command that repeats it.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program of the command line speaks there")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use seabed_tests::crash;
use seabed_tests::kill::{KillError, KillOptions, KillTree, kill};
use seabed_tests::tree::{TreeOptions, plant};

/// Suites and tools for testing Seabed.
#[derive(Parser)]
#[command(name = "seabed-tests")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a directory tree with odd names, sizes, modes, times and links, the same for the same seed
    Tree {
        /// How many files
        #[arg(long, default_value_t = 50_000)]
        files: u64,
        /// How many bytes they have together; K, M, G and T are powers of 1024
        #[arg(long, default_value = "1G", value_parser = parse_bytes)]
        bytes: u64,
        /// What all choices follow from
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Where; made if it does not exist, and must be empty
        directory: PathBuf,
    },
    /// Kill the command line's process in the middle of an import, again and again, and compare what is there
    Kill(KillArguments),
    /// Turn over one bit of each byte of a closed store's image in turn: reads and the checker report it or are not affected
    Flip {
        /// What is in the store, and which bits
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Only so many bytes, drawn from the seed
        #[arg(long)]
        sample: Option<u64>,
    },
    /// Crash the engine on the simulated machine, again and again, and hold what is left against the model
    Crash {
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
    },
}

#[derive(Args)]
struct KillArguments {
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
    #[arg(long, default_value = "64M", value_parser = parse_bytes)]
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

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Crash { seed, seeds, states, seconds, states_per_seed, threads } => {
            let time = seconds.map(Duration::from_secs);
            let options = crash::Options { seed, seeds, states, time, states_per_seed, threads };
            let repeat = move |seed: u64| {
                let arguments = format!("crash --seed {seed} --seeds 1 --states-per-seed {states_per_seed}");
                repeat_line(&arguments)
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
            if counts.has_failures() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Command::Kill(arguments) => run_kill(arguments),
        Command::Flip { seed, sample } => match crash::flip(seed, sample) {
            Ok(counts) => {
                println!("{}", counts.line());
                ExitCode::SUCCESS
            }
            Err(what) => {
                println!("FAILED {what}\n{}", repeat_line(&format!("flip --seed {seed}")));
                ExitCode::FAILURE
            }
        },
        Command::Tree { files, bytes, seed, directory } => {
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
}

fn run_kill(arguments: KillArguments) -> ExitCode {
    let KillArguments { kills, seed, seabed, tree, files, bytes, size, loop_device, directory } = arguments;
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
        Err(error) => {
            println!("FAILED {error}\n{}", repeat_line(&repeat));
            ExitCode::FAILURE
        }
    }
}

/// The line that repeats a failure.
fn repeat_line(arguments: &str) -> String {
    format!("  repeat: cargo run --release -p seabed-tests -- {arguments} (commit {})", commit())
}

/// The commit of the source tree, if git is there to tell.
fn commit() -> String {
    let output = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let said = output.ok().filter(|output| output.status.success());
    said.map_or_else(
        || "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// "4096", "64K", "1G".
fn parse_bytes(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.to_ascii_uppercase().strip_suffix(['K', 'M', 'G', 'T']) {
        None => (text.to_owned(), 0),
        Some(digits) => {
            let shift = match text.as_bytes().last().map(u8::to_ascii_uppercase) {
                Some(b'K') => 10,
                Some(b'M') => 20,
                Some(b'G') => 30,
                _ => 40,
            };
            (digits.to_owned(), shift)
        }
    };
    let number: u64 = digits.parse().map_err(|_| "not a number of bytes".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too many bytes".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let bytes: Vec<u64> =
            ["0", "4096", "64K", "2m", "1G"].map(|text| parse_bytes(text).expect("good")).to_vec();
        assert_eq!(bytes, [0, 4096, 65_536, 2 << 20, 1 << 30]);
        for text in ["", "K", "1.5G", "-1", "99999999T"] {
            parse_bytes(text).expect_err(text);
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
