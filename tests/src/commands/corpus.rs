//! `corpus`: writes the inputs that the fuzz targets begin with.

use std::path::PathBuf;
use std::process::ExitCode;

use seabed_tests::fuzz;

#[derive(clap::Args)]
pub(crate) struct Corpus {
    /// Where to write them, a directory for each target
    directory: PathBuf,
}

impl Corpus {
    pub(crate) fn run(self) -> ExitCode {
        match fuzz::write_corpus(&self.directory) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => super::failed(error, "corpus DIR"),
        }
    }
}
