//! `omap`: lists, reads, sets and removes an object's ordered keys and values.
//!
//! Keys come in their order, page by page, so that an object may have any number of them.

use std::ffi::OsString;

use clap::{Args, Subcommand};
use seabed::{Condition, Direction, Transaction};

use super::attr::{ObjectArg, absent, value_of};
use super::stat::pair;
use crate::args::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::names;
use crate::output::Output;
use crate::session::{Session, wait_for};

/// Keys of one page.
const PAGE: usize = 256;

#[derive(Subcommand)]
pub(crate) enum OmapCommand {
    /// List an object's keys in order
    Ls(OmapList),
    /// Write a key's value to stdout
    Get(OmapKey),
    /// Set a key
    Set(OmapSet),
    /// Remove keys
    Rm(OmapRemove),
}

#[derive(Args)]
pub(crate) struct OmapList {
    #[command(flatten)]
    object: ObjectArg,
    /// Only keys that begin so
    #[arg(long, value_name = "P")]
    prefix: Option<OsString>,
    /// End each key with a zero byte instead of a newline
    #[arg(short = '0', conflicts_with = "json")]
    zero: bool,
    /// With their values, as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct OmapKey {
    #[command(flatten)]
    object: ObjectArg,
    /// The key
    key: OsString,
}

#[derive(Args)]
pub(crate) struct OmapSet {
    #[command(flatten)]
    object: ObjectArg,
    /// The key
    key: OsString,
    /// Its value; stdin if left out or -
    #[arg(allow_hyphen_values = true)]
    value: Option<OsString>,
}

#[derive(Args)]
pub(crate) struct OmapRemove {
    #[command(flatten)]
    object: ObjectArg,
    /// The keys
    #[arg(required = true)]
    keys: Vec<OsString>,
}

pub(crate) fn run(command: &OmapCommand, global: &Global) -> Outcome<Exit> {
    match command {
        OmapCommand::Ls(args) => list(args, global),
        OmapCommand::Get(args) => get(args, global),
        OmapCommand::Set(args) => set(args, global),
        OmapCommand::Rm(args) => remove(args, global),
    }
}

fn list(args: &OmapList, global: &Global) -> Outcome<Exit> {
    let object = &args.object;
    let session = Session::read(&object.store.store, global)?;
    let pool = session.pool(&object.pool)?;
    let prefix = args.prefix.as_deref().map_or(&[][..], names::bytes_of);
    let mut from = (!prefix.is_empty()).then(|| prefix.to_vec());
    let to = after_prefix(prefix);
    let mut output = Output::new();
    let mut listed = 0u64;
    loop {
        let range = pool.omap_range(object.id(), (from, to.clone()), PAGE, Direction::Forward);
        let page = wait_for(object.bytes(), range)?;
        for (key, value) in &page.pairs {
            listed += 1;
            if args.json {
                output.text(if listed == 1 { "[\n" } else { ",\n" })?;
                output.text(&pair(key, value).to_string())?;
            } else if args.zero {
                output.bytes(key)?;
                output.bytes(b"\0")?;
            } else {
                output.name(key)?;
                output.bytes(b"\n")?;
            }
        }
        from = page.next.map(|next| next.to_vec());
        if from.is_none() {
            break;
        }
    }
    if args.json {
        output.text(if listed == 0 { "[]\n" } else { "\n]\n" })?;
    }
    output.finish()?;
    session.close()?;
    Ok(Exit::Done)
}

/// The first key behind all that begin with `prefix`; none if there is no end.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

fn get(args: &OmapKey, global: &Global) -> Outcome<Exit> {
    let object = &args.object;
    let session = Session::read(&object.store.store, global)?;
    let pool = session.pool(&object.pool)?;
    let key = names::bytes_of(&args.key);
    let found = wait_for(object.bytes(), pool.omap_get(object.id(), vec![key.to_vec()]))?;
    let Some((_, value)) = found.first() else {
        let message = format!("{}: there is no key {}", names::quoted(object.bytes()), names::quoted(key));
        return Err(
            Failure::new(Exit::NotFound, message).advise("`seabed omap ls STORE POOL NAME` lists the keys")
        );
    };
    let mut output = Output::new();
    output.bytes(value)?;
    output.finish()?;
    session.close()?;
    Ok(Exit::Done)
}

fn set(args: &OmapSet, global: &Global) -> Outcome<Exit> {
    let object = &args.object;
    let value = value_of(args.value.as_ref())?;
    let session = Session::write(&object.store.store, global)?;
    let pool = session.pool(&object.pool)?;
    let mut txn = Transaction::new();
    txn.omap_insert(&object.id(), [(names::bytes_of(&args.key), &value[..])]);
    wait_for(object.bytes(), pool.submit(txn))?;
    session.close()?;
    Ok(Exit::Done)
}

fn remove(args: &OmapRemove, global: &Global) -> Outcome<Exit> {
    let object = &args.object;
    let session = Session::write(&object.store.store, global)?;
    let pool = session.pool(&object.pool)?;
    let keys: Vec<Vec<u8>> = args.keys.iter().map(|key| names::bytes_of(key).to_vec()).collect();
    let found = wait_for(object.bytes(), pool.omap_get(object.id(), keys.clone()))?;
    let mut exit = Exit::Done;
    for key in &keys {
        if !found.iter().any(|(there, _)| there == key) {
            exit = absent(object, "key", key, keys.len());
        }
    }
    let mut txn = Transaction::new();
    txn.expect(&object.id(), Condition::Exists);
    if !found.is_empty() {
        txn.omap_remove(&object.id(), found.into_iter().map(|(key, _)| key));
    }
    wait_for(object.bytes(), pool.submit(txn))?;
    session.close()?;
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_prefix_ends() {
        assert_eq!(after_prefix(b""), None);
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xff"), None);
    }
}
