//! Arguments: the command line as types. What each command takes is written in its own file.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use seabed::Discard;

use crate::commands::{
    attr, bench, check, clean, completions, demo, dump, export, format, get, import, info, list, omap, pool,
    put, remove, salvage, scrub, stat, stats,
};
use crate::{sizes, stderr};

const EXIT_CODES: &str = "Exit codes: 0 done, 1 some items failed, 2 usage, 3 not found, 4 no space in the \
    store, 5 corrupt, 6 in use, 7 not a store or of an unknown version, 8 input or output failed, 9 disk full; 130 after \
    Ctrl-C.\n\
    Sizes: 10G and 10GiB are 10 * 2^30 bytes, 10GB is 10 * 10^9.";

/// Seabed: an object store in a file or on a disk.
#[derive(Parser)]
#[command(name = "seabed", version, after_help = EXIT_CODES, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of all commands.
#[derive(Args, Clone)]
pub(crate) struct Global {
    /// Memory that the engine may use, besides some 30 MiB that the program takes whatever is given
    #[arg(long, global = true, value_name = "SIZE", default_value = "512M", value_parser = sizes::parse)]
    pub(crate) memory: u64,
    /// Of it, memory for data that is read again, half at most; 0 for none [default: an eighth]
    #[arg(long, global = true, value_name = "SIZE", value_parser = sizes::parse)]
    pub(crate) data_cache: Option<u64>,
    /// Do not move live data out of mostly dead segments while writing: space comes back only where all is dead
    #[arg(long, global = true)]
    pub(crate) no_cleaning: bool,
    /// Whether to tell the device of segments that became free; auto: a block device that supports it, not a file
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = DiscardWhen::Auto)]
    pub(crate) discard: DiscardWhen,
    /// Say on stderr each so many seconds what the store does: rates, live and free bytes, write amplification
    #[arg(long, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) report: Option<u64>,
    /// Seconds to wait while another process has the store; 0 to fail at once
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub(crate) wait: u64,
    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more; name each item
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// [`Discard`] on the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum DiscardWhen {
    Auto,
    On,
    Off,
}

impl From<DiscardWhen> for Discard {
    fn from(when: DiscardWhen) -> Self {
        match when {
            DiscardWhen::Auto => Self::Auto,
            DiscardWhen::On => Self::On,
            DiscardWhen::Off => Self::Off,
        }
    }
}

impl Global {
    /// How long to wait for a store that is in use.
    pub(crate) fn lock_wait(&self) -> Duration {
        Duration::from_secs(self.wait)
    }

    /// Says something on stderr that is no error.
    pub(crate) fn say(&self, line: &str) {
        if !self.quiet {
            stderr::line(line);
        }
    }
}

/// The store that a command works on.
#[derive(Args)]
pub(crate) struct StoreArg {
    /// The file or block device that holds the store
    pub(crate) store: PathBuf,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a store on a file or block device
    Format(format::FormatArgs),
    /// Say how large a store is and what it holds
    Info(info::InfoArgs),
    /// Say where the space of a store is: live, dead and free, by stream and age class
    Stats(stats::StatsArgs),
    /// Verify a store, every byte of it; exit code 0 only if all is well
    Check(check::CheckArgs),
    /// Read every byte that counts and compare it with its checksum, at a pace
    Scrub(scrub::ScrubArgs),
    /// Move live data together, so that the space of dead data can be used again
    Clean(clean::CleanArgs),
    /// Save what can still be verified of a damaged store into a directory
    Salvage(salvage::SalvageArgs),
    /// Show what is on the device
    Dump(dump::DumpArgs),
    /// Store a file as an object, replacing it whole; makes the pool if there is none
    Put(put::PutArgs),
    /// Write an object's bytes to a file or stdout
    Get(get::GetArgs),
    /// Remove objects
    Rm(remove::RemoveArgs),
    /// List pools, or the objects of a pool
    Ls(list::ListArgs),
    /// Say what is known of an object
    Stat(stat::StatArgs),
    /// List, read, set and remove attributes of an object
    #[command(subcommand)]
    Attr(attr::AttrCommand),
    /// List, read, set and remove keys and values of an object
    #[command(subcommand)]
    Omap(omap::OmapCommand),
    /// List, create, remove and rename pools
    #[command(subcommand)]
    Pool(pool::PoolCommand),
    /// Copy a directory tree into a pool; what is there already is skipped
    Import(import::ImportArgs),
    /// Copy a pool into a directory; what is there already is skipped
    Export(export::ExportArgs),
    /// Show it all on a temporary store: import, export, compare, say how fast
    Demo(demo::DemoArgs),
    /// Measure: run the jobs of a fio job file, or of the options, on a store
    Bench(Box<bench::BenchArgs>),
    /// Print a script that completes this command line in a shell
    Completions(completions::CompletionsArgs),
}
