//! `get`: writes an object's bytes to a file or stdout.
//!
//! A file takes its place when it is whole (`outfile`): an object that cannot be read to its end, a full disk or a signal
//! leaves the file that was there. What the object has no data for is left out of the file, which is sparse then.

use std::ffi::OsString;
use std::path::Path;

use clap::Args;
use seabed::{ObjectId, Pool};

use crate::args::{Global, StoreArg};
use crate::exit::{Exit, Failure, Outcome};
use crate::identity::is_stdout_closed;
use crate::interrupt::Interrupt;
use crate::names;
use crate::outfile::{OutFile, zeros};
use crate::output::Output;
use crate::session::{Session, wait_for};

/// Bytes of one read.
const READ_BYTES: u64 = 1 << 20;
/// An object of up to these is read at once, holes too.
const SMALL_BYTES: u64 = 64 << 10;
/// Bytes of an object in which data is looked for at a time: at first, and where none was found, up to the second.
const WINDOW_BYTES: (u64, u64) = (64 << 20, 4 << 30);

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

/// Consecutive bytes of an object.
pub(crate) enum Piece<'a> {
    Data(&'a [u8]),
    /// So many zeros, for which the object has no data.
    Hole(u64),
}

pub(crate) fn run(args: &GetArgs, global: &Global) -> Outcome<Exit> {
    let to_stdout = args.file == "-";
    if to_stdout && is_stdout_closed() {
        return Err(Failure::new(Exit::Io, "standard output is closed: the bytes would go nowhere"));
    }
    let store = &args.store.store;
    let session = Session::read(store, global)?;
    let pool = session.pool(&args.pool)?;
    let name = names::bytes_of(&args.name);
    let size = wait_for(name, pool.stat(ObjectId::new(name)))?.size;
    let interrupt = Interrupt::install()?;
    if to_stdout {
        let mut output = Output::new();
        get(&pool, name, size, |piece| {
            go_on(&interrupt)?;
            match piece {
                Piece::Data(bytes) => output.bytes(bytes),
                Piece::Hole(bytes) => zeros(bytes, |zeros| {
                    go_on(&interrupt)?;
                    output.bytes(zeros)
                }),
            }
        })?;
        output.finish()?;
    } else {
        let mut file = OutFile::create(Path::new(&args.file), Some(store))?;
        get(&pool, name, size, |piece| {
            go_on(&interrupt)?;
            match piece {
                Piece::Data(bytes) => file.write(bytes),
                Piece::Hole(bytes) => file.skip(bytes),
            }
        })?;
        file.finish()?;
    }
    session.close()?;
    Ok(Exit::Done)
}

fn go_on(interrupt: &Interrupt) -> Outcome<()> {
    match interrupt.exit() {
        Some(exit) => Err(Failure::new(exit, "interrupted; the object was not written whole")),
        None => Ok(()),
    }
}

/// All bytes in order, piece by piece.
pub(crate) fn get(
    pool: &Pool,
    name: &[u8],
    size: u64,
    mut to: impl FnMut(Piece<'_>) -> Outcome<()>,
) -> Outcome<()> {
    if size <= SMALL_BYTES {
        return data(pool, name, (0, size), &mut to);
    }
    let (window_min, window_max) = WINDOW_BYTES;
    let (mut at, mut window) = (0, window_min);
    // Where the piece that is to be handed over next begins: holes are joined over windows.
    let mut done = 0;
    while at < size {
        let bytes = window.min(size - at);
        let ranges = wait_for(name, pool.extents(ObjectId::new(name), at, bytes))?;
        window = if ranges.is_empty() { (2 * window).min(window_max) } else { window_min };
        for range in ranges {
            if range.offset > done {
                to(Piece::Hole(range.offset - done))?;
            }
            done = range.offset + range.bytes;
            data(pool, name, (range.offset, done), &mut to)?;
        }
        at += bytes;
    }
    if done < size {
        to(Piece::Hole(size - done))?;
    }
    Ok(())
}

/// The bytes of a range that has data.
fn data(
    pool: &Pool,
    name: &[u8],
    (from, end): (u64, u64),
    to: &mut impl FnMut(Piece<'_>) -> Outcome<()>,
) -> Outcome<()> {
    let mut offset = from;
    while offset < end {
        let data = wait_for(name, pool.read(ObjectId::new(name), offset, READ_BYTES.min(end - offset)))?;
        if data.is_empty() {
            let message = format!("{}: it shrank while it was read", names::quoted(name));
            return Err(Failure::new(Exit::SomeFailed, message));
        }
        to(Piece::Data(&data))?;
        offset += data.len() as u64;
    }
    Ok(())
}
