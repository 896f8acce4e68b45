//! Output: stdout, buffered, with names written so that they do no harm.
//!
//! Whoever reads it may close it at any time (`seabed ls store pool | head`): the next write then ends the command
//! quietly, through [`Failure::output`].

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use crate::exit::{Failure, Outcome};
use crate::names;

/// See the module.
pub(crate) struct Output {
    to: BufWriter<StdoutLock<'static>>,
    is_terminal: bool,
}

impl Output {
    pub(crate) fn new() -> Self {
        let stdout = io::stdout();
        Self { is_terminal: stdout.is_terminal(), to: BufWriter::with_capacity(64 * 1024, stdout.lock()) }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.to.write_all(bytes).map_err(|error| Failure::output(&error))
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
        self.to.flush().map_err(|error| Failure::output(&error))
    }
}
