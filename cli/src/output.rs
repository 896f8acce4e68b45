//! Output: stdout, buffered, with names written so that they do no harm.
//!
//! Whoever reads it may close it at any time (`seabed ls store pool | head`): the next write then ends the command
//! quietly, through [`Failure::output`]. A report is different ([`Output::report`]): the exit code says what it says too, so
//! the command goes on without a reader.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use crate::exit::{Failure, Outcome};
use crate::names;

/// See the module.
pub(crate) struct Output {
    to: BufWriter<StdoutLock<'static>>,
    is_terminal: bool,
    is_report: bool,
}

impl Output {
    pub(crate) fn new() -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        Self { is_terminal, is_report: false, to: BufWriter::with_capacity(64 * 1024, stdout.lock()) }
    }

    /// For what a command found or did: without a reader it still ends with its own code.
    pub(crate) fn report() -> Self {
        Self { is_report: true, ..Self::new() }
    }

    fn outcome(&self, written: io::Result<()>) -> Outcome<()> {
        match written {
            Err(error) if self.is_report && error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(|error| Failure::output(&error)),
        }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Outcome<()> {
        let written = self.to.write_all(bytes);
        self.outcome(written)
    }

    pub(crate) fn text(&mut self, text: &str) -> Outcome<()> {
        self.bytes(text.as_bytes())
    }

    pub(crate) fn line(&mut self, text: &str) -> Outcome<()> {
        self.text(text)?;
        self.bytes(b"\n")
    }

    /// A name: escaped on a terminal, else its bytes.
    pub(crate) fn name(&mut self, name: &[u8]) -> Outcome<()> {
        if self.is_terminal { self.text(&names::for_terminal(name)) } else { self.bytes(name) }
    }

    /// A JSON value over several lines.
    pub(crate) fn json(&mut self, value: &serde_json::Value) -> Outcome<()> {
        self.line(&format!("{value:#}"))
    }

    /// What was written is out; called by every command that ends well.
    pub(crate) fn finish(mut self) -> Outcome<()> {
        let written = self.to.flush();
        self.outcome(written)
    }
}
