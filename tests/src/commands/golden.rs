//! `golden`: writes the images of the present format version.

use std::path::PathBuf;
use std::process::ExitCode;

use seabed_tests::golden;

#[derive(clap::Args)]
pub(crate) struct Golden {
    /// Where to write them
    directory: PathBuf,
}

impl Golden {
    pub(crate) fn run(self) -> ExitCode {
        match golden::make(&self.directory) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => super::failed(error, "golden DIR"),
        }
    }
}
