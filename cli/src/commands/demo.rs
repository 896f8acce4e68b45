//! `demo`: shows it all on a temporary store: formats, imports a directory, exports it, compares byte for byte, and says
//! how fast each was.
//!
//! Without a directory 2,000 files are made. Everything is in a temporary directory, which goes again at the end. If that
//! is in the directory to import, it is left out, by device and inode.

mod compare;
mod scratch;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use seabed::FormatOptions;

use super::export::{Export, Policy};
use super::import::{Import, open_tree, walk};
use super::{export, format, import};
use crate::args::Global;
use crate::beneath::{Tree, make_root};
use crate::exit::{Exit, Failure, Outcome};
use crate::identity::Identity;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::run::Tally;
use crate::session::Session;
use crate::sizes::{grouped, human};
use crate::stderr;
pub(crate) use scratch::Scratch;

const POOL: &str = "demo";
const FILES: u64 = 2000;

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// What to import; 2,000 files that are made for it if left out
    directory: Option<PathBuf>,
}

pub(crate) fn run(args: &DemoArgs, global: &Global) -> Outcome<Exit> {
    let interrupt = Interrupt::install()?;
    let scratch = Scratch::new()?;
    let mut output = Output::report();
    let exit = demo(args, global, &scratch, &interrupt, &mut output)?;
    scratch.remove()?;
    output.finish()?;
    Ok(exit)
}

fn demo(
    args: &DemoArgs,
    global: &Global,
    scratch: &Scratch,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Outcome<Exit> {
    let source = if let Some(directory) = &args.directory {
        directory.clone()
    } else {
        output.line(&format!("made      {} files", grouped(FILES)))?;
        scratch.make_files(FILES)?
    };
    let tree = open_tree(&source)?;
    let left_out = Identity::of_path(scratch.path());
    let Some((items, bytes)) = walk::count(&tree, left_out, || interrupt.is_set()) else {
        return Ok(interrupt.exit().unwrap_or(Exit::SomeFailed));
    };
    let store_bytes = store_bytes(items, bytes);
    scratch.require(store_bytes.saturating_add(bytes))?;

    let start = Instant::now();
    let store = scratch.store();
    let options = FormatOptions { size: Some(store_bytes), ..FormatOptions::default() };
    format::make(&store, options, interrupt, global)?;
    let seconds = start.elapsed().as_secs_f64();
    output.line(&format!("formatted a store of {} in {seconds:.2} s", human(store_bytes)))?;

    let session = Session::write(&store, global)?;
    let pool = session.wait(session.store().create_pool(POOL))?;
    let own_files = import::own_files(&store, None);
    let import = Import {
        pool: &pool,
        tree: &tree,
        left_out,
        jobs: import::JOBS,
        ack_log: None,
        own_files,
        interrupt,
    };
    let imported = import.run(global)?;
    drop(pool);
    session.close()?;
    output.line(&imported.line("imported "))?;
    if let Some(exit) = interrupt.exit() {
        return Ok(exit);
    }
    let (exported, copy) = copy_out(global, scratch, &store, interrupt)?;
    output.line(&exported.line("exported "))?;
    if let Some(exit) = interrupt.exit() {
        return Ok(exit);
    }
    compare(&tree, left_out, &copy, imported.failed + exported.failed, output)
}

fn copy_out(
    global: &Global,
    scratch: &Scratch,
    store: &Path,
    interrupt: &Interrupt,
) -> Outcome<(Tally, PathBuf)> {
    let copy = scratch.copy();
    make_root(&copy).map_err(|error| Failure::io(&copy, "making the directory", &error))?;
    let session = Session::read(store, global)?;
    let pool = session.pool(POOL)?;
    let tree = open_tree(&copy)?;
    let export = Export {
        pool: &pool,
        tree: &tree,
        jobs: export::JOBS,
        store: Identity::of_path(store),
        policy: Policy::of(store),
        interrupt,
    };
    let exported = export.run(global)?;
    drop(pool);
    session.close()?;
    Ok((exported, copy))
}

fn compare(
    source: &Tree,
    left_out: Option<Identity>,
    copy: &Path,
    failed: u64,
    output: &mut Output,
) -> Outcome<Exit> {
    let start = Instant::now();
    let compared = compare::compare(source, left_out, &open_tree(copy)?);
    let seconds = start.elapsed().as_secs_f64();
    let (items, bytes) = (grouped(compared.items), human(compared.bytes));
    for difference in &compared.differences {
        stderr::line(&format!("seabed: {difference}"));
    }
    let differences = compared.differences.len() as u64;
    if differences > failed {
        let message = format!("{differences} of {items} items differ from what was imported");
        return Err(Failure::new(Exit::Corrupt, message));
    }
    output
        .line(&format!("compared  {items} items, {bytes}, byte for byte, in {seconds:.2} s: all the same"))?;
    Ok(if failed == 0 { Exit::Done } else { Exit::SomeFailed })
}

/// Room for the data twice over, for what is known of each item, and for what a store needs to work.
fn store_bytes(items: u64, bytes: u64) -> u64 {
    let needed = bytes.saturating_mul(2).saturating_add(items.saturating_mul(16 << 10));
    needed.saturating_add(format::STORE_BYTES_MIN).next_multiple_of(1 << 20)
}
