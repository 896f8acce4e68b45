//! `export`: copies a pool into a directory.
//!
//! One thread lists the pool, `--jobs` threads make a file, directory or link of each object. One whose type, size, mode
//! and time are those of the object is skipped, so that a second run only does what is left. Files are written under a
//! temporary name and renamed. Modes and times of directories are set at the end, the deepest first, since making files
//! in them changes their times and may need more rights than they end up with.
//!
//! As root, owner and group are restored too. A file gets set-id bits only if it has the owner and group that it had, and
//! nobody but the user and root could have written the store: else a store made by somebody else would give its maker the
//! user's rights. Devices are never made.
//!
//! Nothing is ever written outside the directory (`beneath`): objects whose names would lead there are refused by name.
//! So are snapshots and objects of namespaces, which a path cannot tell apart.
//!
//! Names that differ only in case may be one name to the file system of the directory. All but the first of such names wait
//! until the others are done. One whose place is then taken by a file of another name is reported, and not exported.
//!
//! Crash: the next run goes on; see `beneath` for what a killed one leaves.
//! Limits: the names of all directory objects are kept until the end, and eight bytes of each name. Names that a file system
//! takes for the same because they are composed of other characters (Unicode normalization) are not recognized.

mod place;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use clap::Args;
use futures::executor::block_on;
use seabed::{ObjectId, Pool};

use super::import::open_tree;
use super::list::is_plain;
use crate::args::{Global, StoreArg};
use crate::beneath::{Relative, Tree, make_root, usual_file_mode};
use crate::exit::{Exit, Failure, Outcome};
use crate::identity::Identity;
use crate::interrupt::Interrupt;
use crate::names;
use crate::run::{Run, Tally};
use crate::session::{Session, about};
use crate::threads;
use place::Exporter;
pub(crate) use place::Policy;

/// Objects of one page of the listing.
const PAGE: usize = 512;
/// Objects that the listing may be ahead.
const QUEUE: usize = 1024;
/// Files that are made at the same time.
pub(crate) const JOBS: u16 = 16;

#[derive(Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    store: StoreArg,
    /// The pool
    pool: String,
    /// The directory; made if there is none
    directory: PathBuf,
    /// How many objects are carried over at the same time
    #[arg(long, default_value_t = JOBS, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// Leave owner and group as those of the user; only root can restore them
    #[arg(long)]
    no_owner: bool,
    /// Restore set-user-ID and set-group-ID bits although another user could have written the store
    #[arg(long)]
    set_id: bool,
}

pub(crate) fn run(args: &ExportArgs, global: &Global) -> Outcome<Exit> {
    let interrupt = Interrupt::install()?;
    let session = Session::read(&args.store.store, global)?;
    let pool = session.pool(&args.pool)?;
    make_root(&args.directory)
        .map_err(|error| Failure::io(&args.directory, "making the directory", &error))?;
    let tree = open_tree(&args.directory)?;
    let store = Identity::of_path(&args.store.store);
    let mut policy = Policy::of(&args.store.store);
    policy.gives_owner &= !args.no_owner;
    policy.may_set_id |= args.set_id;
    let outcome = Export { pool: &pool, tree: &tree, jobs: args.jobs, store, policy, interrupt: &interrupt }
        .run(global);
    let closed = session.close();
    let tally = outcome?;
    closed?;
    global.say(&tally.line("exported"));
    if let Some(exit) = interrupt.exit() {
        global.say("interrupted; the same command again does the rest");
        return Ok(exit);
    }
    Ok(tally.exit())
}

/// An export, ready to run.
pub(crate) struct Export<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) tree: &'a Tree,
    pub(crate) jobs: u16,
    /// The store: no object takes its place.
    pub(crate) store: Option<Identity>,
    pub(crate) policy: Policy,
    pub(crate) interrupt: &'a Interrupt,
}

impl Export<'_> {
    pub(crate) fn run(&self, global: &Global) -> Outcome<Tally> {
        let start = Instant::now();
        let run = Run::new(global, "exporting", self.interrupt);
        let usage = block_on(self.pool.usage()).map_err(|error| self.about_pool(&error))?;
        let unsigned = |count: i64| u64::try_from(count).unwrap_or(0);
        run.progress.set_total(unsigned(usage.objects), unsigned(usage.stored));
        let exporter = Exporter {
            pool: self.pool,
            tree: self.tree,
            store: self.store,
            policy: self.policy,
            without_set_id: AtomicU64::new(0),
            progress: &run.progress,
            usual_mode: usual_file_mode(),
            directories: Mutex::new(Vec::new()),
        };
        threads::require(usize::from(self.jobs))?;
        let mut similar = Vec::new();
        let (sender, receiver) = async_channel::bounded::<ObjectId>(QUEUE);
        thread::scope(|scope| {
            for _ in 0..self.jobs {
                let receiver = receiver.clone();
                let (exporter, run) = (&exporter, &run);
                scope.spawn(move || {
                    while let Ok(id) = receiver.recv_blocking() {
                        if run.is_over() {
                            break;
                        }
                        if let Some(outcome) = exporter.carry(&id.name).transpose() {
                            run.settle(&id.name, outcome);
                        }
                    }
                    // Wakes a listing that waits for room in the queue.
                    if run.is_over() {
                        receiver.close();
                    }
                });
            }
            drop(receiver);
            if let Err(failure) = self.list(&run, &sender, &mut similar) {
                run.end_with(failure);
            }
            drop(sender);
        });
        for id in similar {
            if run.is_over() {
                break;
            }
            if let Some(outcome) = exporter.carry_similar(&id.name).transpose() {
                run.settle(&id.name, outcome);
            }
        }
        if !run.is_over() {
            exporter.finish_directories(&run);
        }
        let without_set_id = exporter.without_set_id.load(Ordering::Relaxed);
        if without_set_id > 0 {
            run.progress.say(&format!(
                "seabed: {without_set_id} files: set-id bits were not restored, since the owner was not, or another user \
                 could have written the store; see --set-id"
            ));
        }
        run.end(start)
    }

    /// Sends the objects, but those whose names are like one that was sent: these are added to `similar`.
    fn list(
        &self,
        run: &Run<'_>,
        sender: &async_channel::Sender<ObjectId>,
        similar: &mut Vec<ObjectId>,
    ) -> Outcome<()> {
        let mut from = None;
        let mut seen = HashSet::new();
        loop {
            let page = block_on(self.pool.list_page(from, PAGE)).map_err(|error| self.about_pool(&error))?;
            for damaged in &page.damaged {
                run.damaged(&format!("pool {}: {damaged}", names::quoted(self.pool.name().as_bytes())));
            }
            for id in page.objects {
                if !is_plain(&id) {
                    let message = format!("{id:?}: is a snapshot or in a namespace; not exported");
                    run.settle(&id.name, Err(Failure::new(Exit::SomeFailed, message)));
                } else if Relative::parse(&id.name).is_ok_and(|path| !seen.insert(path.fold())) {
                    similar.push(id);
                } else if run.is_over() || sender.send_blocking(id).is_err() {
                    return Ok(());
                }
            }
            from = page.next;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    fn about_pool(&self, error: &seabed::Error) -> Failure {
        about(self.pool.name().as_bytes(), error)
    }
}

/// A failure of one object, which does not concern the others.
fn at(name: &[u8], what: &impl std::fmt::Display) -> Failure {
    Failure::new(Exit::SomeFailed, format!("{}: {what}", names::quoted(name)))
}
