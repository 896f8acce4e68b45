//! Loop device: a block device over a file, for as long as this lives. Needs root and the kernel's loop driver.

use std::path::{Path, PathBuf};
use std::process::Command;

/// See the module.
pub(crate) struct LoopDevice(PathBuf);

impl LoopDevice {
    /// One over this file; the error says why there is none.
    pub(crate) fn attach(file: &Path) -> Result<Self, String> {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(file).output();
        let output = output.map_err(|error| format!("losetup: {error}"))?;
        if output.status.success() {
            Ok(Self(String::from_utf8_lossy(&output.stdout).trim().into()))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // Nobody is left to tell if it stays.
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}
