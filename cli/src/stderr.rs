//! Stderr: lines to people.
//!
//! A line that cannot be written (a full disk, a reader that has gone) is dropped: the work goes on, and the exit code says
//! how it ended. `eprintln!` panics there, so it is a lint error in this crate.

use std::io::Write;

/// Writes a line. In one write, so that lines of several threads do not mix.
pub(crate) fn line(text: &str) {
    let mut line = String::with_capacity(text.len() + 1);
    line.push_str(text);
    line.push('\n');
    // Nowhere is left to report it.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
