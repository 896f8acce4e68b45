//! `put`: stores a file or stdin as an object.
//!
//! The object is replaced whole, attributes and omap too, in one transaction; a reader sees the old one or the new one.
//! What is larger than a buffer is streamed, so that any size goes in bounded memory.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use clap::Args;
use seabed::{ObjectId, Pool};

use crate::args::{Global, StoreArg};
use crate::buffers::{BUFFER_BYTES, Buffers};
use crate::exit::{Exit, Failure, Outcome};
use crate::names;
use crate::session::{Session, wait_for};

#[derive(Args)]
pub(crate) struct PutArgs {
    #[command(flatten)]
    store: StoreArg,
    /// The pool; made if there is none
    pool: String,
    /// The object's name
    name: OsString,
    /// The file; stdin if left out or -
    #[arg(default_value = "-")]
    file: OsString,
}

pub(crate) fn run(args: &PutArgs, global: &Global) -> Outcome<Exit> {
    // The source first: a mistyped path shall not make a pool.
    let mut source = open(&args.file)?;
    let session = Session::write(&args.store.store, global)?;
    let pool = session.pool_or_create(&args.pool)?;
    put(&pool, names::bytes_of(&args.name), &mut source, Path::new(&args.file))?;
    session.close()?;
    Ok(Exit::Done)
}

/// A file, or stdin for `-`.
pub(crate) fn open(file: &OsString) -> Outcome<Box<dyn Read>> {
    if file == "-" {
        return Ok(Box::new(io::stdin().lock()));
    }
    let path = Path::new(file);
    let file = File::open(path).map_err(|error| Failure::io(path, "opening it", &error))?;
    Ok(Box::new(file))
}

fn put(pool: &Pool, name: &[u8], source: &mut dyn Read, path: &Path) -> Outcome<()> {
    let turn = Buffers::new().turn(BUFFER_BYTES as u64);
    let mut source = source;
    let mut next =
        || turn.read(&mut source, BUFFER_BYTES).map_err(|error| Failure::io(path, "reading it", &error));
    let first = next()?;
    if first.len() < BUFFER_BYTES {
        return wait_for(name, pool.put(ObjectId::new(name), first));
    }
    let mut stream = wait_for(name, pool.put_stream(ObjectId::new(name)))?;
    let mut data = first;
    while !data.is_empty() {
        wait_for(name, stream.write(data))?;
        data = next()?;
    }
    wait_for(name, stream.finish(Vec::new()))
}
