//! `rm`: removes objects.
//!
//! Each name that fails is told, and the rest goes on. The exit code is that of the failures if none succeeded and all
//! failed alike (so 3 for one name that is not there), else 1.

use std::ffi::OsString;

use clap::Args;
use seabed::ObjectId;

use crate::args::{Global, StoreArg};
use crate::exit::{Exit, Outcome};
use crate::names;
use crate::session::{Session, wait_for};

#[derive(Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    store: StoreArg,
    /// The pool
    pool: String,
    /// The objects' names
    #[arg(required = true)]
    names: Vec<OsString>,
}

pub(crate) fn run(args: &RemoveArgs, global: &Global) -> Outcome<Exit> {
    let session = Session::write(&args.store.store, global)?;
    let pool = session.pool(&args.pool)?;
    let mut exits = Vec::with_capacity(args.names.len());
    for name in &args.names {
        let name = names::bytes_of(name);
        match wait_for(name, pool.remove(ObjectId::new(name))) {
            Ok(()) => exits.push(Exit::Done),
            Err(failure) if failure.ends_all() => return Err(failure),
            Err(failure) => {
                failure.report();
                exits.push(failure.exit);
            }
        }
    }
    session.close()?;
    Ok(of_all(&exits))
}

/// One code for many items.
fn of_all(exits: &[Exit]) -> Exit {
    match exits.split_first() {
        None => Exit::Done,
        Some((first, rest)) if rest.iter().all(|exit| exit == first) => *first,
        Some(_) => Exit::SomeFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_code_for_many_items() {
        assert_eq!(of_all(&[Exit::Done, Exit::Done]), Exit::Done);
        assert_eq!(of_all(&[Exit::NotFound]), Exit::NotFound);
        assert_eq!(of_all(&[Exit::NotFound, Exit::NotFound]), Exit::NotFound);
        assert_eq!(of_all(&[Exit::NotFound, Exit::Done]), Exit::SomeFailed);
        assert_eq!(of_all(&[Exit::NotFound, Exit::Corrupt]), Exit::SomeFailed);
    }
}
