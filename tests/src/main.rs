//! The command line of the suites: each failure of a suite names the command that repeats it.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program of the command line speaks there")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
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
}

fn main() -> ExitCode {
    match Arguments::parse().command {
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
