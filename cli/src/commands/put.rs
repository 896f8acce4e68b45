//! `put`: stores a file or stdin as an object.
//!
//! The object is replaced whole, attributes and omap too, in one transaction; a reader sees the old one or the new one.
//! What is larger than a buffer is streamed, so that any size goes in bounded memory. Holes of a file are left out.
//!
//! The store is opened when there is input: all of it up to [`AHEAD_BYTES`], so that in `get | filter | put` the `get` is
//! done with the store. A pipe that ends without a byte is refused, since the command that should have filled it may have
//! failed; `--empty` stores an empty object.
//!
//! A put that fails removes the pool that it created.
//!
//! Crash: a killed put may leave its new pool, without an object.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use clap::Args;
use rustix::fs::{FileType, fstat};
use seabed::{ObjectId, Pool};

use crate::args::{Global, StoreArg};
use crate::buffers::{BUFFER_BYTES, Buffers};
use crate::exit::{Exit, Failure, Outcome};
use crate::identity::Identity;
use crate::names;
use crate::session::{Session, shown, wait_for};
use crate::sparse::{Piece, Source, Until};

/// Bytes that are read before the store is opened.
const AHEAD_BYTES: usize = 32 << 20;

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
    /// Store an empty object if standard input is a pipe that ends without a byte
    #[arg(long)]
    empty: bool,
}

pub(crate) fn run(args: &PutArgs, global: &Global) -> Outcome<Exit> {
    // The source first: a mistyped path shall not make a pool, and a command that fills the pipe may have the store open.
    let path = Path::new(&args.file);
    let file = open(&args.file)?;
    let stat = fstat(&file).map_err(|errno| Failure::io(path, "looking at it", &errno.into()))?;
    if Identity::of_path(&args.store.store) == Some(Identity::of(&stat)) {
        let message = format!("{}: is the store itself; refused, it cannot be put into itself", shown(path));
        return Err(Failure::usage(message));
    }
    let is_pipe = matches!(FileType::from_raw_mode(stat.st_mode), FileType::Fifo | FileType::Socket);
    let turn = Buffers::new().turn(u64::MAX);
    let mut input = Input { source: Source::new(file, &stat, turn, Until::End), path };
    let ahead = input.ahead()?;
    if ahead.pieces.is_empty() && is_pipe && !args.empty {
        let message = "standard input ended without a byte: nothing was stored";
        let advice = "the command that writes to the pipe may have failed; --empty stores an empty object";
        return Err(Failure::new(Exit::Io, message).advise(advice));
    }
    let session = Session::write(&args.store.store, global)?;
    let target = session.pool_or_create(&args.pool)?;
    let outcome = put(&target.pool, names::bytes_of(&args.name), ahead, input);
    if outcome.is_err() {
        session.remove_if_unused(target);
    }
    let closed = session.close();
    outcome?;
    closed?;
    Ok(Exit::Done)
}

/// A file, or stdin for `-`.
pub(crate) fn open(file: &OsString) -> Outcome<File> {
    let path = Path::new(file);
    let opened =
        if file == "-" { io::stdin().as_fd().try_clone_to_owned().map(File::from) } else { File::open(path) };
    opened.map_err(|error| Failure::io(path, "opening it", &error))
}

/// What is stored.
struct Input<'a> {
    source: Source,
    path: &'a Path,
}

/// What was read before the store was opened.
struct Ahead {
    pieces: Vec<Piece>,
    is_all: bool,
}

impl Input<'_> {
    fn next(&mut self) -> Outcome<Option<Piece>> {
        self.source.next().map_err(|error| Failure::io(self.path, "reading it", &error))
    }

    fn ahead(&mut self) -> Outcome<Ahead> {
        let mut ahead = Ahead { pieces: Vec::new(), is_all: false };
        let mut bytes = 0;
        while bytes < AHEAD_BYTES {
            let Some(piece) = self.next()? else {
                ahead.is_all = true;
                break;
            };
            if let Piece::Data(data) = &piece {
                bytes += data.len();
            } else {
                // Each hole has data before or after it: their number is bounded too.
                bytes += 1;
            }
            ahead.pieces.push(piece);
        }
        Ok(ahead)
    }
}

fn put(pool: &Pool, name: &[u8], ahead: Ahead, mut input: Input<'_>) -> Outcome<()> {
    let id = || ObjectId::new(name);
    match &ahead.pieces[..] {
        [] => return wait_for(name, pool.put(id(), Vec::new())),
        [Piece::Data(data)] if ahead.is_all && data.len() <= BUFFER_BYTES => {
            return wait_for(name, pool.put(id(), data.clone()));
        }
        _ => {}
    }
    let mut stream = wait_for(name, pool.put_stream(id()))?;
    let mut pieces = ahead.pieces.into_iter();
    loop {
        let piece = match pieces.next() {
            Some(piece) => piece,
            None if ahead.is_all => break,
            None => match input.next()? {
                Some(piece) => piece,
                None => break,
            },
        };
        match piece {
            Piece::Data(data) => wait_for(name, stream.write(data))?,
            Piece::Hole(bytes) => wait_for(name, stream.skip(bytes))?,
        }
    }
    wait_for(name, stream.finish(Vec::new()))
}
