//! `attr`: lists, reads, sets and removes attributes of an object.
//!
//! Values are written as they are. One to set is an argument, or stdin if it is left out or `-`.

use std::ffi::OsString;
use std::path::Path;

use clap::{Args, Subcommand};
use seabed::{Condition, ObjectId, Transaction};
use serde_json::Value;

use super::put;
use super::stat::pair;
use crate::args::{Global, StoreArg};
use crate::exit::{Exit, Failure, Outcome};
use crate::names;
use crate::output::Output;
use crate::session::{Session, wait_for};

/// More than any value may have: reading stdin ends here.
const VALUE_BYTES_MAX: u64 = 2 << 20;

#[derive(Subcommand)]
pub(crate) enum AttrCommand {
    /// List the names of an object's attributes
    Ls(AttrList),
    /// Write an attribute's value to stdout
    Get(AttrName),
    /// Set an attribute
    Set(AttrSet),
    /// Remove attributes
    Rm(AttrRemove),
}

/// An object.
#[derive(Args)]
pub(crate) struct ObjectArg {
    #[command(flatten)]
    pub(crate) store: StoreArg,
    /// The pool
    pub(crate) pool: String,
    /// The object's name
    pub(crate) name: OsString,
}

impl ObjectArg {
    pub(crate) fn bytes(&self) -> &[u8] {
        names::bytes_of(&self.name)
    }

    pub(crate) fn id(&self) -> ObjectId {
        ObjectId::new(self.bytes())
    }
}

#[derive(Args)]
pub(crate) struct AttrList {
    #[command(flatten)]
    object: ObjectArg,
    /// With their values, as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct AttrName {
    #[command(flatten)]
    object: ObjectArg,
    /// The attribute's name
    attribute: OsString,
}

#[derive(Args)]
pub(crate) struct AttrSet {
    #[command(flatten)]
    object: ObjectArg,
    /// The attribute's name
    attribute: OsString,
    /// Its value; stdin if left out or -
    #[arg(allow_hyphen_values = true)]
    value: Option<OsString>,
}

#[derive(Args)]
pub(crate) struct AttrRemove {
    #[command(flatten)]
    object: ObjectArg,
    /// The attributes' names
    #[arg(required = true)]
    attributes: Vec<OsString>,
}

pub(crate) fn run(command: &AttrCommand, global: &Global) -> Outcome<Exit> {
    match command {
        AttrCommand::Ls(args) => list(args, global),
        AttrCommand::Get(args) => get(args, global),
        AttrCommand::Set(args) => set(args, global),
        AttrCommand::Rm(args) => remove(args, global),
    }
}

fn list(args: &AttrList, global: &Global) -> Outcome<Exit> {
    let object = &args.object;
    let session = Session::read(&object.store.store, global)?;
    let pool = session.pool(&object.pool)?;
    let mut attributes = wait_for(object.bytes(), pool.attrs(object.id()))?;
    attributes.sort();
    let mut output = Output::new();
    if args.json {
        output.json(&Value::Array(attributes.iter().map(|(name, value)| pair(name, value)).collect()))?;
    } else {
        for (name, _) in &attributes {
            output.name(name)?;
            output.bytes(b"\n")?;
        }
    }
    output.finish()?;
    session.close()?;
    Ok(Exit::Done)
}

fn get(args: &AttrName, global: &Global) -> Outcome<Exit> {
    let object = &args.object;
    let session = Session::read(&object.store.store, global)?;
    let pool = session.pool(&object.pool)?;
    let attribute = names::bytes_of(&args.attribute);
    let value = wait_for(object.bytes(), pool.attr(object.id(), attribute))?;
    let mut output = Output::new();
    output.bytes(&value)?;
    output.finish()?;
    session.close()?;
    Ok(Exit::Done)
}

fn set(args: &AttrSet, global: &Global) -> Outcome<Exit> {
    let object = &args.object;
    let value = value_of(args.value.as_ref())?;
    let session = Session::write(&object.store.store, global)?;
    let pool = session.pool(&object.pool)?;
    let mut txn = Transaction::new();
    txn.set_attr(&object.id(), names::bytes_of(&args.attribute), &value[..]);
    wait_for(object.bytes(), pool.submit(txn))?;
    session.close()?;
    Ok(Exit::Done)
}

fn remove(args: &AttrRemove, global: &Global) -> Outcome<Exit> {
    let object = &args.object;
    let session = Session::write(&object.store.store, global)?;
    let pool = session.pool(&object.pool)?;
    let attributes = wait_for(object.bytes(), pool.attrs(object.id()))?;
    let mut txn = Transaction::new();
    txn.expect(&object.id(), Condition::Exists);
    let mut exit = Exit::Done;
    for attribute in &args.attributes {
        let attribute = names::bytes_of(attribute);
        if attributes.iter().any(|(name, _)| name == attribute) {
            txn.remove_attr(&object.id(), attribute);
        } else {
            exit = absent(object, "attribute", attribute, args.attributes.len());
        }
    }
    wait_for(object.bytes(), pool.submit(txn))?;
    session.close()?;
    Ok(exit)
}

/// Tells that one of `count` things to remove is not there; gives the code of that.
pub(crate) fn absent(object: &ObjectArg, what: &str, name: &[u8], count: usize) -> Exit {
    let exit = if count == 1 { Exit::NotFound } else { Exit::SomeFailed };
    let message = format!("{}: there is no {what} {}", names::quoted(object.bytes()), names::quoted(name));
    Failure::new(exit, message).report();
    exit
}

/// A value to set: an argument or stdin.
pub(crate) fn value_of(argument: Option<&OsString>) -> Outcome<Vec<u8>> {
    match argument {
        Some(value) if value != "-" => Ok(names::bytes_of(value).to_vec()),
        _ => {
            let mut value = Vec::new();
            let mut source = std::io::Read::take(put::open(&"-".into())?, VALUE_BYTES_MAX);
            std::io::Read::read_to_end(&mut source, &mut value)
                .map_err(|error| Failure::io(Path::new("stdin"), "reading it", &error))?;
            Ok(value)
        }
    }
}
