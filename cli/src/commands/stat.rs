//! `stat`: says what is known of an object.

use std::ffi::OsString;

use clap::Args;
use seabed::ObjectId;
use serde_json::{Map, Value};

use crate::args::{Global, StoreArg};
use crate::exit::{Exit, Outcome};
use crate::names;
use crate::output::Output;
use crate::session::{Session, wait_for};

#[derive(Args)]
pub(crate) struct StatArgs {
    #[command(flatten)]
    store: StoreArg,
    /// The pool
    pool: String,
    /// The object's name
    name: OsString,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &StatArgs, global: &Global) -> Outcome<Exit> {
    let session = Session::read(&args.store.store, global)?;
    let pool = session.pool(&args.pool)?;
    let name = names::bytes_of(&args.name);
    let id = ObjectId::new(name);
    let stat = wait_for(name, pool.stat(id.clone()))?;
    let attributes = wait_for(name, pool.attrs(id.clone()))?;
    let mut output = Output::new();
    if args.json {
        let mut object = Map::new();
        names::into_json(&mut object, "name", name);
        object.insert("hash".into(), id.hash.into());
        object.insert("size".into(), stat.size.into());
        object.insert("omap_keys".into(), stat.omap.into());
        let attributes = attributes.iter().map(|(name, value)| pair(name, value)).collect();
        object.insert("attributes".into(), Value::Array(attributes));
        output.json(&Value::Object(object))?;
    } else {
        output.line(&format!("name        {}", names::for_terminal(name)))?;
        output.line(&format!("hash        {:08x}", id.hash))?;
        output.line(&format!("size        {}", stat.size))?;
        output.line(&format!("omap keys   {}", stat.omap))?;
        output.line(&format!("attributes  {}", stat.attributes))?;
        for (name, value) in &attributes {
            output.line(&format!("  {} = {}", names::for_terminal(name), names::for_terminal(value)))?;
        }
    }
    output.finish()?;
    session.close()?;
    Ok(Exit::Done)
}

/// A name and a value as JSON.
pub(crate) fn pair(name: &[u8], value: &[u8]) -> Value {
    let mut object = Map::new();
    names::into_json(&mut object, "name", name);
    names::into_json(&mut object, "value", value);
    Value::Object(object)
}
