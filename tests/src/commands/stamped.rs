//! `stamped`: the verifying writer on real files, killed, recorded, and on a device that fails.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Args;
use seabed_tests::stamped::{StampedError, errors, kill, record};

#[derive(Args)]
pub(crate) struct Stamped {
    /// What all choices follow from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many processes are killed
    #[arg(long, default_value_t = 20)]
    kills: u32,
    /// How many runs have an error, where qemu-storage-daemon can be had
    #[arg(long, default_value_t = 12)]
    errors: u32,
    /// How many writes each client makes where it is not killed
    #[arg(long, default_value_t = 300)]
    writes: u32,
    /// The processes that are killed write to a loop device over a file, if one can be had (that needs root)
    #[arg(long)]
    loop_device: bool,
    /// An empty directory to work in
    directory: PathBuf,
}

/// The process that is killed.
#[derive(Args)]
pub(crate) struct Child {
    path: PathBuf,
    seed: u64,
    from: Vec<u32>,
}

impl Stamped {
    pub(crate) fn run(self) -> ExitCode {
        let Self { seed, kills, errors, writes, .. } = self;
        let on = if self.loop_device { "--loop-device " } else { "" };
        let repeat =
            format!("stamped --seed {seed} --kills {kills} --errors {errors} --writes {writes} {on}DIR");
        match self.all() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => super::failed(error, &repeat),
        }
    }

    fn all(&self) -> Result<(), StampedError> {
        let medium = if self.loop_device { kill::Medium::LoopDevice } else { kill::Medium::File };
        let killed = kill::kill((&self.directory, medium), self.seed, self.kills, |path, seed, from| {
            let mut command = Command::new(std::env::current_exe().expect("Linux tells it"));
            command.arg("stamped-child").arg(path).arg(seed.to_string());
            command.args(from.iter().map(u32::to_string));
            command
        });
        match killed {
            Ok(kill::KillCounts { kills, acknowledged, more }) => {
                println!("kills={kills} acknowledged={acknowledged} more={more} lost=0 check=0");
            }
            Err(StampedError::Missing { why }) => println!("skipped: {why}"),
            Err(error) => return Err(error),
        }
        let record::RecordCounts { writes, flushes, acknowledged, images } =
            record::record(&self.directory, self.seed, self.writes)?;
        println!(
            "writes={writes} flushes={flushes} acknowledged={acknowledged} images={images} lost=0 check=0"
        );
        match errors::errors(&self.directory, self.seed, self.errors, self.writes) {
            Ok(errors::ErrorCounts { runs, failed, acknowledged }) => {
                println!("errors={runs} failed={failed} acknowledged={acknowledged} lost=0 check=0");
            }
            Err(StampedError::Missing { why }) => println!("skipped: {why}"),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Child {
    pub(crate) fn run(self) -> ExitCode {
        let Ok(from) = self.from.try_into() else { return ExitCode::FAILURE };
        match kill::child(&self.path, self.seed, from) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        }
    }
}
