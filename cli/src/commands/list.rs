//! `ls`: lists pools, or the objects of a pool.
//!
//! Sorted by name, which takes all names into memory; `--unsorted` gives them in the order of the store as they come.
//! Names are escaped on a terminal, else written as they are; with `-0` they are never escaped and end with a zero byte.
//! With `--json` each object is `{"name": ..}` and, if its name is not UTF-8, `name_hex`; with `-l` its size and counts.
//!
//! Plain listings name what the other commands can reach: heads in the empty namespace. What else there is, made by
//! other programs, is counted on stderr and shown by `--json`.

use std::ffi::OsString;

use clap::Args;
use futures::executor::block_on;
use futures::stream::{self, StreamExt};
use seabed::{ObjectId, Pool};
use serde_json::{Map, Value};

use crate::args::{Global, StoreArg};
use crate::exit::{Exit, Failure, Outcome};
use crate::names;
use crate::output::Output;
use crate::session::{Session, about};

/// Objects of one page of the listing, and so of one look at many.
const PAGE: usize = 1024;
/// How many are looked at at the same time.
const STATS_AT_ONCE: usize = 32;

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    store: StoreArg,
    /// The pool; without it the pools are listed
    pool: Option<String>,
    /// Only names that begin so
    #[arg(long, value_name = "P")]
    prefix: Option<OsString>,
    /// Size, attributes and keys of each object before its name
    #[arg(short = 'l')]
    long: bool,
    /// End each name with a zero byte instead of a newline
    #[arg(short = '0', conflicts_with_all = ["json", "long"])]
    zero: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// In the order of the store, as they come
    #[arg(long)]
    unsorted: bool,
}

pub(crate) fn run(args: &ListArgs, global: &Global) -> Outcome<Exit> {
    let session = Session::read(&args.store.store, global)?;
    let mut lister = Lister { args, output: Output::new(), listed: 0, damaged: 0 };
    match &args.pool {
        None => lister.pools(&session)?,
        Some(name) => {
            let others = lister.objects(&session.pool(name)?)?;
            if others > 0 {
                global.say(&format!("and {others} snapshots or objects of namespaces, which --json shows"));
            }
        }
    }
    lister.output.finish()?;
    session.close()?;
    if lister.damaged == 0 {
        return Ok(Exit::Done);
    }
    let message = format!("{} parts of the listing are damaged: objects are missing in it", lister.damaged);
    Err(Failure::new(Exit::Corrupt, message).advise("`seabed check` reports what is damaged"))
}

struct Lister<'a> {
    args: &'a ListArgs,
    output: Output,
    listed: u64,
    /// Intervals of names that are damaged.
    damaged: u64,
}

/// What `-l` tells.
struct Details {
    size: u64,
    attributes: u64,
    omap: u64,
}

impl Lister<'_> {
    fn pools(&mut self, session: &Session) -> Outcome<()> {
        let mut names: Vec<_> =
            session.wait(session.store().pools())?.into_iter().map(|pool| pool.name).collect();
        names.sort();
        self.begin()?;
        names.retain(|name| self.is_wanted(name.as_bytes()));
        for name in &names {
            let mut object = Map::new();
            names::into_json(&mut object, "name", name.as_bytes());
            self.entry(name.as_bytes(), object, None)?;
        }
        self.end()
    }

    /// Lists a pool; gives the number of objects that a plain listing leaves out.
    fn objects(&mut self, pool: &Pool) -> Outcome<u64> {
        let mut others = 0;
        let mut from = None;
        let mut all = Vec::new();
        self.begin()?;
        loop {
            let page = block_on(pool.list_page(from, PAGE))
                .map_err(|error| about(pool.name().as_bytes(), &error))?;
            for damaged in &page.damaged {
                self.damaged += 1;
                let pool = names::quoted(pool.name().as_bytes());
                crate::stderr::line(&format!("seabed: pool {pool}: {damaged}"));
            }
            for id in page.objects {
                if !self.is_wanted(&id.name) {
                    continue;
                }
                if self.args.json || is_plain(&id) { all.push(id) } else { others += 1 }
            }
            if self.args.unsorted {
                self.show(pool, std::mem::take(&mut all))?;
            }
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        all.sort_by(|a, b| {
            let key = |id: &ObjectId| (id.namespace.clone(), id.name.clone(), id.snap, id.generation);
            key(a).cmp(&key(b))
        });
        self.show(pool, all)?;
        self.end()?;
        Ok(others)
    }

    fn is_wanted(&self, name: &[u8]) -> bool {
        self.args.prefix.as_ref().is_none_or(|prefix| name.starts_with(names::bytes_of(prefix)))
    }

    fn show(&mut self, pool: &Pool, ids: Vec<ObjectId>) -> Outcome<()> {
        if !self.args.long {
            for id in ids {
                self.entry(&id.name, identity(&id), None)?;
            }
            return Ok(());
        }
        let looks = ids.into_iter().map(|id| async move {
            let stat = pool.stat(id.clone()).await;
            (id, stat)
        });
        let mut looks = stream::iter(looks).buffered(STATS_AT_ONCE);
        while let Some((id, stat)) = block_on(looks.next()) {
            let stat = stat.map_err(|error| about(&id.name, &error))?;
            let details = Details { size: stat.size, attributes: stat.attributes, omap: stat.omap };
            self.entry(&id.name, identity(&id), Some(&details))?;
        }
        Ok(())
    }

    fn begin(&mut self) -> Outcome<()> {
        if self.args.json { self.output.text("[") } else { Ok(()) }
    }

    fn end(&mut self) -> Outcome<()> {
        if self.args.json { self.output.text(if self.listed == 0 { "]\n" } else { "\n]\n" }) } else { Ok(()) }
    }

    fn entry(
        &mut self,
        name: &[u8],
        mut object: Map<String, Value>,
        details: Option<&Details>,
    ) -> Outcome<()> {
        self.listed += 1;
        if self.args.json {
            if let Some(details) = details {
                object.insert("size".into(), details.size.into());
                object.insert("attributes".into(), details.attributes.into());
                object.insert("omap_keys".into(), details.omap.into());
            }
            let comma = if self.listed == 1 { "\n" } else { ",\n" };
            return self.output.text(&format!("{comma}{}", Value::Object(object)));
        }
        if self.args.zero {
            self.output.bytes(name)?;
            return self.output.bytes(b"\0");
        }
        if let Some(Details { size, attributes, omap }) = details {
            self.output.text(&format!("{size:>14} {attributes:>4} {omap:>6}  "))?;
        }
        self.output.name(name)?;
        self.output.bytes(b"\n")
    }
}

/// Whether the other commands can reach it by its name alone.
pub(crate) fn is_plain(id: &ObjectId) -> bool {
    id.namespace.is_empty() && (id.snap, id.generation) == (u64::MAX, u64::MAX)
}

/// An object's name, and what else tells it from others.
fn identity(id: &ObjectId) -> Map<String, Value> {
    let mut object = Map::new();
    names::into_json(&mut object, "name", &id.name);
    if !id.namespace.is_empty() {
        names::into_json(&mut object, "namespace", &id.namespace);
    }
    if id.snap != u64::MAX {
        object.insert("snap".into(), id.snap.into());
    }
    if id.generation != u64::MAX {
        object.insert("generation".into(), id.generation.into());
    }
    object
}
