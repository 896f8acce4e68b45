//! `open`: measures opens after a kill; and the two commands that its children run.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use seabed_tests::open::{OpenSettings, fill, measure, measure_after_kill};

#[derive(Args)]
pub(crate) struct Open {
    /// How many objects, one store for each number
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 100_000, 1_000_000])]
    objects: Vec<u64>,
    /// Size of the store
    #[arg(long, default_value = "4G", value_parser = super::parse_bytes)]
    size: u64,
    /// Bytes of its window
    #[arg(long, default_value = "64M", value_parser = super::parse_bytes)]
    window: u64,
    /// Memory budget
    #[arg(long, default_value = "512M", value_parser = super::parse_bytes)]
    memory: u64,
    /// A directory for the stores, which are removed again
    directory: PathBuf,
}

impl Open {
    pub(crate) fn run(self) -> ExitCode {
        let store = self.directory.join("open-after-kill");
        for objects in self.objects {
            let settings = OpenSettings {
                store: store.clone(),
                objects,
                store_bytes: self.size,
                window_bytes: self.window,
                memory_bytes: usize::try_from(self.memory).unwrap_or(usize::MAX),
            };
            let program = match std::env::current_exe() {
                Ok(program) => program,
                Err(error) => return super::failed(error, "open DIR"),
            };
            let measured = measure_after_kill(&program, &settings);
            // It may never have been made.
            let _ = std::fs::remove_file(&store);
            match measured {
                Ok(line) => print!("{line}"),
                Err(error) => return super::failed(error, &format!("open --objects {objects} DIR")),
            }
        }
        ExitCode::SUCCESS
    }
}

#[derive(Args)]
pub(crate) struct Child {
    #[arg(long)]
    objects: u64,
    #[arg(long)]
    store_bytes: u64,
    #[arg(long)]
    window_bytes: u64,
    #[arg(long)]
    memory_bytes: usize,
    store: PathBuf,
}

impl Child {
    fn settings(self) -> OpenSettings {
        let Self { objects, store_bytes, window_bytes, memory_bytes, store } = self;
        OpenSettings { store, objects, store_bytes, window_bytes, memory_bytes }
    }

    pub(crate) fn fill(self) -> ExitCode {
        match fill(&self.settings()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        }
    }

    pub(crate) fn measure(self) -> ExitCode {
        match measure(&self.settings()) {
            Ok(line) => {
                println!("{line}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        }
    }
}
