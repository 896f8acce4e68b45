//! `scrub`: reads every byte of a store that counts and compares it with its checksum, at a pace.
//!
//! Reads go past the page cache, so that it is the device that is looked at. With `--state FILE` it remembers there where it
//! is and what it has found, each few seconds and when it is interrupted, and the next run goes on from there, until all
//! was looked at; the run after that begins anew. Nothing is written to the store.
//!
//! Exit code 5 if anything is bad, in this run or in those that it goes on from.
//!
//! Crash: the state is written under another name and renamed; a killed run does some seconds again.

mod state;

use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use seabed_check::Note;
use seabed_check::scrub::{Bad, Ended, Go, Of, Outlook, Position, Watch, Whose, scrub};
use serde_json::{Map, Value, json};

use crate::args::{Global, StoreArg};
use crate::exit::{Exit, Failure, Outcome};
use crate::identity::refuse_output;
use crate::image::{DirectImage, no_store};
use crate::interrupt::Interrupt;
use crate::names;
use crate::output::Output;
use crate::progress::Progress;
use crate::sizes;
use state::State;

/// How often the state is written.
const SAVE_EACH: Duration = Duration::from_secs(5);
/// How long a wait for the pace is at most before a look at whether to stop.
const WAIT: Duration = Duration::from_millis(100);

#[derive(Args)]
pub(crate) struct ScrubArgs {
    #[command(flatten)]
    store: StoreArg,
    /// Bytes to read in a second at most
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse)]
    rate: Option<u64>,
    /// Where to remember how far it is; not in the store
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Keeps the pace and the state.
struct Pacer<'a> {
    args: &'a ScrubArgs,
    progress: Progress,
    interrupt: &'a Interrupt,
    state: State,
    began: Instant,
    /// Bytes of this run.
    bytes: u64,
    saved: Instant,
    /// What is bad, in this run.
    bad: Vec<Value>,
    lines: Vec<String>,
    notes: Vec<String>,
    failure: Option<Failure>,
}

pub(crate) fn run(args: &ScrubArgs, global: &Global) -> Outcome<Exit> {
    if args.rate == Some(0) {
        return Err(Failure::usage("--rate must be more than 0"));
    }
    let path = &args.store.store;
    if let Some(state) = &args.state {
        refuse_output(path, state)?;
    }
    let image = DirectImage::open(path, global)?;
    let interrupt = Interrupt::install()?;
    let superblock = seabed_check::superblock(&image).map_err(|error| no_store(path, &error))?;
    let uuid = superblock.identity.uuid.to_string();
    let state = State::load(args.state.as_deref(), &uuid)?;
    let from = state.position.clone();
    let now = Instant::now();
    let mut pacer = Pacer {
        args,
        progress: Progress::new(global, "scrubbing"),
        interrupt: &interrupt,
        state,
        began: now,
        bytes: 0,
        saved: now,
        bad: Vec::new(),
        lines: Vec::new(),
        notes: Vec::new(),
        failure: None,
    };
    // Better now than after hours.
    pacer.save()?;
    let (progress, before) = (pacer.progress.clone(), pacer.state.bytes);
    let mut begin = |outlook: &Outlook| {
        progress.set_total(0, outlook.live_bytes.max(before));
        progress.bytes(before);
    };
    let ended = scrub(&image, from, &mut begin, &mut pacer).map_err(|error| no_store(path, &error));
    pacer.progress.end();
    let ended = ended?;
    if ended == Ended::Done {
        pacer.state.position = None;
    }
    pacer.save()?;
    if let Some(failure) = pacer.failure.take() {
        return Err(failure);
    }
    pacer.report(ended, global)
}

impl Pacer<'_> {
    fn save(&mut self) -> Outcome<()> {
        self.saved = Instant::now();
        match &self.args.state {
            Some(path) => self.state.save(path),
            None => Ok(()),
        }
    }

    /// Waits until no more was read than the rate allows. False: there is a reason to stop.
    fn wait(&self) -> bool {
        let Some(rate) = self.args.rate else { return !self.interrupt.is_set() };
        let due = Duration::from_secs_f64(precise(self.bytes) / precise(rate));
        loop {
            if self.interrupt.is_set() {
                return false;
            }
            let early = due.saturating_sub(self.began.elapsed());
            if early.is_zero() {
                return true;
            }
            std::thread::sleep(early.min(WAIT));
        }
    }

    fn report(self, ended: Ended, global: &Global) -> Outcome<Exit> {
        let is_done = ended == Ended::Done;
        let mut output = Output::report();
        if self.args.json {
            output.json(&json!({
                "complete": is_done,
                "uuid": self.state.uuid,
                "bytes_verified": self.state.bytes,
                "bad_count": self.state.bad,
                "bad": self.bad,
                "notes": self.notes,
            }))?;
        } else {
            for line in &self.lines {
                output.line(&format!("bad: {line}"))?;
            }
            if !global.quiet {
                for note in &self.notes {
                    output.line(&format!("note: {note}"))?;
                }
                let (bytes, bad) = (sizes::human(self.state.bytes), sizes::grouped(self.state.bad));
                let so_far = if is_done { "" } else { " so far" };
                output.line(&format!("{bytes} verified{so_far}, {bad} bad"))?;
            }
        }
        output.finish()?;
        if let Some(exit) = self.interrupt.exit() {
            let advice = match self.args.state {
                Some(_) => "interrupted; the same command again goes on from here",
                None => "interrupted; with --state FILE it could be taken up again",
            };
            global.say(advice);
            return Ok(exit);
        }
        Ok(if self.state.bad == 0 { Exit::Done } else { Exit::Corrupt })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a pace need not be exact")]
fn precise(bytes: u64) -> f64 {
    bytes as f64
}

impl Watch for Pacer<'_> {
    fn read(&mut self, bytes: u64, position: &Position) -> Go {
        self.bytes += bytes;
        self.state.bytes += bytes;
        self.state.position = Some(position.clone());
        self.progress.bytes(bytes);
        if self.saved.elapsed() >= SAVE_EACH
            && let Err(failure) = self.save()
        {
            self.failure = Some(failure);
            return Go::Stop;
        }
        if self.wait() { Go::On } else { Go::Stop }
    }

    fn bad(&mut self, bad: Bad) {
        self.state.bad += 1;
        let line = as_text(&bad);
        if self.progress.is_shown() {
            self.progress.say(&format!("bad: {line}"));
        }
        self.bad.push(as_json(&bad, &line));
        self.lines.push(line);
    }

    fn note(&mut self, note: Note) {
        self.notes.push(note.to_string());
    }
}

fn as_text(bad: &Bad) -> String {
    let Bad::Piece { whose, of, at, bytes, fault } = bad else {
        let Bad::Other(violation) = bad else { return String::new() };
        return violation.to_string();
    };
    let mut text = pool_text(whose);
    match &whose.object {
        Some(id) => write!(text, ", object {}", names::quoted(&id.name)),
        None => write!(text, ", an object that was removed"),
    }
    .expect("a string takes everything");
    match of {
        Of::Data { offset } => write!(text, ", {bytes} bytes at offset {offset}"),
        Of::Attribute(name) => write!(text, ", attribute {}", names::quoted(name)),
        Of::Header => write!(text, ", omap header"),
        Of::Omap(key) => write!(text, ", omap key {}", names::quoted(key)),
    }
    .expect("a string takes everything");
    format!("{text} (at {at}): {fault}")
}

fn pool_text(whose: &Whose) -> String {
    match &whose.pool_name {
        Some(name) => format!("pool {}", names::quoted(name)),
        None => format!("pool {}", whose.pool),
    }
}

fn as_json(bad: &Bad, text: &str) -> Value {
    let mut object = Map::new();
    object.insert("text".to_owned(), text.into());
    if let Bad::Piece { whose, of, at, bytes, .. } = bad {
        object.insert("pool_id".to_owned(), whose.pool.0.into());
        if let Some(name) = &whose.pool_name {
            names::into_json(&mut object, "pool", name);
        }
        if let Some(id) = &whose.object {
            names::into_json(&mut object, "object", &id.name);
        }
        match of {
            Of::Data { offset } => drop(object.insert("offset".to_owned(), (*offset).into())),
            Of::Attribute(name) => names::into_json(&mut object, "attribute", name),
            Of::Header => drop(object.insert("header".to_owned(), true.into())),
            Of::Omap(key) => names::into_json(&mut object, "key", key),
        }
        object.insert("bytes".to_owned(), (*bytes).into());
        object.insert("at".to_owned(), at.to_string().into());
    }
    Value::Object(object)
}
