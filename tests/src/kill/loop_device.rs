//! Loop device: a block device over a file, for as long as this lives. Needs root and the kernel's loop driver.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::KillError;

/// See the module.
pub(super) struct LoopDevice(PathBuf);

impl LoopDevice {
    pub(super) fn attach(file: &Path) -> Result<Self, KillError> {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(file).output();
        let output = output.map_err(|error| KillError::NoLoopDevice { why: format!("losetup: {error}") })?;
        if output.status.success() {
            Ok(Self(String::from_utf8_lossy(&output.stdout).trim().into()))
        } else {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(KillError::NoLoopDevice { why })
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // Nobody is left to tell if it stays.
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}
