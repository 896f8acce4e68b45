//! `import`: copies a directory tree into a pool.
//!
//! One thread walks the tree, `--jobs` threads carry the entries over: each reads a file and waits until its object is
//! durable, and the engine acknowledges many of them with one write. An entry whose type, size, mode and time are those
//! of the object is skipped, so that a second run only does what is left. Hard links become copies; these and
//! extended attributes, which are not stored, are counted and reported.
//!
//! An entry that cannot be carried over is named and counted, and the rest goes on; a failure that all others would
//! meet too (no space, a broken device) ends the run. So does Ctrl-C, when what is in flight is done. The store itself and
//! the `--ack-log`, should they be in the tree, are left out. A run that fails before any object was stored removes the
//! pool that it created.
//!
//! Crash: an object is there whole or not at all; a name stands in the `--ack-log` only if its object is durable.
//! Limits: `buffers` bounds the memory for data; the walk remembers the directories still to be read.

mod ack_log;
mod entry;
mod left_out;
pub(crate) mod walk;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use clap::Args;
use seabed::Pool;

use crate::args::{Global, StoreArg};
use crate::beneath::Tree;
use crate::buffers::Buffers;
use crate::exit::{Exit, Failure, Outcome};
use crate::identity::Identity;
use crate::interrupt::Interrupt;
use crate::names;
use crate::run::{Carried, Run, Tally};
use crate::session::Session;
use crate::threads;
use ack_log::AckLog;
use entry::Importer;
use left_out::LeftOut;

/// Entries that the walk may be ahead.
const QUEUE: usize = 1024;
/// Files that are read at the same time; more of them share a write of the journal.
pub(crate) const JOBS: u16 = 32;

#[derive(Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    store: StoreArg,
    /// The pool; made if there is none
    pool: String,
    /// The directory; objects are called by the paths relative to it
    directory: PathBuf,
    /// How many files are carried over at the same time
    #[arg(long, default_value_t = JOBS, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// Append the name of each object to this file once it is durable
    #[arg(long, value_name = "FILE")]
    ack_log: Option<PathBuf>,
}

pub(crate) fn run(args: &ImportArgs, global: &Global) -> Outcome<Exit> {
    let interrupt = Interrupt::install()?;
    let tree = open_tree(&args.directory)?;
    let store = &args.store.store;
    let ack_log = args.ack_log.as_deref().map(|path| AckLog::open(path, store)).transpose()?;
    let own_files = own_files(store, ack_log.as_ref());
    let session = Session::write(store, global)?;
    let target = session.pool_or_create(&args.pool)?;
    let pool = &target.pool;
    let import = Import {
        pool,
        tree: &tree,
        left_out: None,
        jobs: args.jobs,
        ack_log,
        own_files,
        interrupt: &interrupt,
    };
    let outcome = import.run(global);
    if !outcome.as_ref().is_ok_and(|tally| tally.exit() == Exit::Done && !interrupt.is_set()) {
        session.remove_if_unused(target);
    }
    let closed = session.close();
    let tally = outcome?;
    closed?;
    global.say(&tally.line("imported"));
    if let Some(exit) = interrupt.exit() {
        global.say("interrupted; the same command again does the rest");
        return Ok(exit);
    }
    Ok(tally.exit())
}

/// The files that an import writes to while it reads the tree that they may be in.
pub(crate) fn own_files(store: &Path, ack_log: Option<&AckLog>) -> Vec<(Identity, &'static str)> {
    let store = Identity::of_path(store).map(|identity| (identity, "the store itself"));
    let log = ack_log.and_then(AckLog::identity).map(|identity| (identity, "the log of this import"));
    store.into_iter().chain(log).collect()
}

pub(crate) fn open_tree(directory: &Path) -> Outcome<Tree> {
    Tree::open(directory).map_err(|error| Failure::io(directory, "opening the directory", &error))
}

/// An import, ready to run.
pub(crate) struct Import<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) tree: &'a Tree,
    /// A directory that is not imported, nor what is in it.
    pub(crate) left_out: Option<Identity>,
    pub(crate) jobs: u16,
    pub(crate) ack_log: Option<AckLog>,
    /// Files that are left out, and what they are.
    pub(crate) own_files: Vec<(Identity, &'static str)>,
    pub(crate) interrupt: &'a Interrupt,
}

impl Import<'_> {
    pub(crate) fn run(self, global: &Global) -> Outcome<Tally> {
        let start = Instant::now();
        let run = Run::new(global, "importing", self.interrupt);
        let usage = futures::executor::block_on(self.pool.usage())
            .map_err(|error| Failure::engine(&names::quoted(self.pool.name().as_bytes()), &error))?;
        let importer = Importer {
            pool: self.pool,
            tree: self.tree,
            buffers: Buffers::new(),
            progress: &run.progress,
            is_empty: usage.objects == 0,
            own_files: &self.own_files,
            left_out: LeftOut::default(),
        };
        threads::require(usize::from(self.jobs) + 1)?;
        let (sender, receiver) = async_channel::bounded::<Vec<u8>>(QUEUE);
        thread::scope(|scope| {
            for _ in 0..self.jobs {
                let receiver = receiver.clone();
                let (importer, run, ack_log) = (&importer, &run, self.ack_log.as_ref());
                scope.spawn(move || {
                    while let Ok(name) = receiver.recv_blocking() {
                        if run.is_over() {
                            break;
                        }
                        run.settle(
                            &name,
                            importer.carry(&name).and_then(|carried| acknowledge(ack_log, &name, carried)),
                        );
                    }
                    // Wakes a walk that waits for room in the queue.
                    if run.is_over() {
                        receiver.close();
                    }
                });
            }
            drop(receiver);
            if run.progress.is_shown() {
                scope.spawn(|| {
                    if let Some((items, bytes)) = walk::count(self.tree, self.left_out, || run.is_over()) {
                        run.progress.set_total(items, bytes);
                    }
                });
            }
            walk::walk(
                self.tree,
                self.left_out,
                |name| !run.is_over() && sender.send_blocking(name).is_ok(),
                |name, what| run.settle(name, Err(Failure::new(Exit::SomeFailed, what))),
            );
            drop(sender);
        });
        for line in importer.left_out.lines() {
            run.progress.say(&line);
        }
        run.end(start)
    }
}

/// Logs what was carried over, which is durable by now.
fn acknowledge(ack_log: Option<&AckLog>, name: &[u8], carried: Carried) -> Outcome<Carried> {
    if let Some(log) = ack_log {
        log.append(name)?;
    }
    Ok(carried)
}
