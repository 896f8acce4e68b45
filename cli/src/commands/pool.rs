//! `pool`: lists, creates, removes and renames pools.
//!
//! A removal returns when it is durable; the space comes back afterwards, while the store is open. So `rm` waits until the
//! objects are freed, unless `--no-wait` is given: then a later command that changes the store goes on with it.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::args::{Global, StoreArg};
use crate::exit::{Exit, Outcome};
use crate::names;
use crate::output::Output;
use crate::session::Session;

/// How often `rm` looks whether all is freed.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Subcommand)]
pub(crate) enum PoolCommand {
    /// List the pools
    Ls(LsArgs),
    /// Create a pool
    Create(NameArgs),
    /// Remove a pool with all its objects
    Rm(RmArgs),
    /// Give a pool another name
    Rename(RenameArgs),
}

#[derive(Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    store: StoreArg,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct NameArgs {
    #[command(flatten)]
    store: StoreArg,
    /// The pool's name
    pool: String,
}

#[derive(Args)]
pub(crate) struct RmArgs {
    #[command(flatten)]
    store: StoreArg,
    /// The pool's name
    pool: String,
    /// Return when the removal is durable; space comes back while a later command has the store open
    #[arg(long)]
    no_wait: bool,
}

#[derive(Args)]
pub(crate) struct RenameArgs {
    #[command(flatten)]
    store: StoreArg,
    /// The pool's name
    from: String,
    /// Its new name
    to: String,
}

pub(crate) fn run(command: &PoolCommand, global: &Global) -> Outcome<Exit> {
    match command {
        PoolCommand::Ls(args) => list(args, global),
        PoolCommand::Create(args) => {
            let session = Session::write(&args.store.store, global)?;
            session.wait(session.store().create_pool(&args.pool))?;
            session.close()?;
            Ok(Exit::Done)
        }
        PoolCommand::Rm(args) => remove(args, global),
        PoolCommand::Rename(args) => {
            let session = Session::write(&args.store.store, global)?;
            session.wait(session.store().rename_pool(&args.from, &args.to))?;
            session.close()?;
            Ok(Exit::Done)
        }
    }
}

fn list(args: &LsArgs, global: &Global) -> Outcome<Exit> {
    let session = Session::read(&args.store.store, global)?;
    let pools = session.wait(session.store().pools())?;
    let mut output = Output::new();
    if args.json {
        let pools: Vec<_> = pools.iter().map(|pool| json!({ "name": pool.name, "id": pool.id.0 })).collect();
        output.json(&json!(pools))?;
    } else {
        let mut text = String::new();
        for pool in &pools {
            text += &names::for_terminal(pool.name.as_bytes());
            text.push('\n');
        }
        output.text(&text)?;
    }
    output.finish()?;
    session.close()?;
    Ok(Exit::Done)
}

fn remove(args: &RmArgs, global: &Global) -> Outcome<Exit> {
    let session = Session::write(&args.store.store, global)?;
    let store = session.store();
    session.wait(store.remove_pool(&args.pool))?;
    if !args.no_wait {
        // What is left of removed pools is what the store holds and its pools do not. Without progress for a while something
        // keeps it, such as damage, which the engine reports.
        let mut last = None;
        let mut idle = 0;
        while idle < 50 {
            let mut left = session.wait(store.usage())?;
            for pool in session.wait(store.pools())? {
                left = left.minus(session.wait(session.pool(&pool.name)?.usage())?);
            }
            if left == seabed::Usage::default() {
                break;
            }
            idle = if last == Some(left) { idle + 1 } else { 0 };
            last = Some(left);
            std::thread::sleep(PAUSE);
        }
    }
    session.close()?;
    Ok(Exit::Done)
}
