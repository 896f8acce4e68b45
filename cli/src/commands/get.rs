//! `get`: writes an object's bytes to a file or stdout.
//!
//! The file is made or overwritten only when it is known that there is such an object; one that `get` made is removed
//! again if the object cannot be read to its end.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use clap::Args;
use seabed::{ObjectId, Pool};

use crate::args::{Global, StoreArg};
use crate::exit::{Exit, Failure, Outcome};
use crate::names;
use crate::output::Output;
use crate::session::{Session, wait_for};

/// Bytes of one read.
const READ_BYTES: u64 = 1 << 20;

#[derive(Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    store: StoreArg,
    /// The pool
    pool: String,
    /// The object's name
    name: OsString,
    /// The file; stdout if left out or -
    #[arg(default_value = "-")]
    file: OsString,
}

pub(crate) fn run(args: &GetArgs, global: &Global) -> Outcome<Exit> {
    let session = Session::read(&args.store.store, global)?;
    let pool = session.pool(&args.pool)?;
    let name = names::bytes_of(&args.name);
    let size = wait_for(name, pool.stat(ObjectId::new(name)))?.size;
    if args.file == "-" {
        let mut output = Output::new();
        get(&pool, name, size, |bytes| output.bytes(bytes))?;
        output.finish()?;
    } else {
        to_file(&pool, name, size, Path::new(&args.file))?;
    }
    session.close()?;
    Ok(Exit::Done)
}

fn to_file(pool: &Pool, name: &[u8], size: u64, path: &Path) -> Outcome<()> {
    let is_new = !path.exists();
    let failed = |error: std::io::Error| Failure::io(path, "writing it", &error);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path).map_err(failed)?;
    let outcome = get(pool, name, size, |bytes| file.write_all(bytes).map_err(failed));
    if outcome.is_err() && is_new {
        // Best effort: what matters is the error that is on its way.
        let _ = std::fs::remove_file(path);
    }
    outcome
}

/// All bytes in order, piece by piece.
pub(crate) fn get(
    pool: &Pool,
    name: &[u8],
    size: u64,
    mut to: impl FnMut(&[u8]) -> Outcome<()>,
) -> Outcome<()> {
    let mut offset = 0;
    while offset < size {
        let data = wait_for(name, pool.read(ObjectId::new(name), offset, READ_BYTES))?;
        if data.is_empty() {
            let message = format!("{}: it shrank while it was read", names::quoted(name));
            return Err(Failure::new(Exit::SomeFailed, message));
        }
        to(&data)?;
        offset += data.len() as u64;
    }
    Ok(())
}
