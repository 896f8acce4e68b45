//! `salvage`: saves what can still be verified of a store, past the engine, into an empty directory.
//!
//! | in DIR | what |
//! |---|---|
//! | `objects/POOL/NAME` | an object that was saved whole |
//! | `objects/POOL/NAME.incomplete` | one with holes, which read as zeros, or without all its attributes and omap values |
//! | `nameless/POOL-HASH-FAMILY.NUMBER` | one whose name is lost, or is no path that could be used |
//! | `manifest.jsonl` | a line for each: its file, holes, attributes, omap |
//!
//! A pool whose name is lost, or is no path, is called `pool-ID`. Nothing is written outside of DIR (`beneath`), and nothing at
//! all to the store. Files have the modes, but no set-id bits, and times, and links the targets, that their attributes tell;
//! directories are as new ones are, so that all can be put into them. Owners are in the manifest only.
//!
//! Exit code 0 if all was found and is whole, else 5.
//!
//! Crash: what is there is whole; the manifest ends somewhere. The next run needs another directory.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use seabed_check::salvage::{Attribute, Data, Found, Hole, Salvage};
use serde_json::{Map, Value, json};

use super::import::open_tree;
use super::list::is_plain;
use crate::args::{Global, StoreArg};
use crate::beneath::{
    BeneathError, Parents, PartFile, Place, Relative, Rights, Tree, make_root, usual_file_mode,
};
use crate::exit::{Exit, Failure, Outcome};
use crate::image::LockedImage;
use crate::interrupt::Interrupt;
use crate::names;
use crate::output::Output;
use crate::posix::{Kind, Recorded};
use crate::progress::Steps;
use crate::session::shown;
use crate::sizes::{grouped, human};

const MANIFEST: &[u8] = b"manifest.jsonl";
/// Longest target of a link that a file system takes, with some room.
const TARGET_BYTES_MAX: u64 = 64 << 10;

#[derive(Args)]
pub(crate) struct SalvageArgs {
    #[command(flatten)]
    store: StoreArg,
    /// The directory; empty, or made if there is none
    directory: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// How much was saved.
#[derive(Default)]
struct Counts {
    whole: u64,
    incomplete: u64,
    /// Those under their numbers, and how many of them lack their name or bytes or values.
    nameless: u64,
    nameless_lacking: u64,
    bytes: u64,
    lost_bytes: u64,
}

/// Where an object was saved, and what it lacks.
type Saved = (Vec<u8>, Vec<Hole>);

struct Saver<'a> {
    salvage: &'a Salvage<'a>,
    tree: &'a Tree,
    usual_mode: u32,
    counts: Counts,
    manifest: PartFile<'a>,
}

/// Writes an object's data to a file.
struct ToFile<'f, 'p> {
    file: &'f mut PartFile<'p>,
    bytes: u64,
}

impl Data for ToFile<'_, '_> {
    type Error = BeneathError;

    fn take(&mut self, offset: u64, bytes: &[u8]) -> Result<(), BeneathError> {
        self.bytes += bytes.len() as u64;
        self.file.write_at(offset, bytes)
    }
}

/// Keeps a short object.
#[derive(Default)]
struct ToMemory(Vec<u8>);

impl Data for ToMemory {
    type Error = BeneathError;

    fn take(&mut self, _: u64, bytes: &[u8]) -> Result<(), BeneathError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

pub(crate) fn run(args: &SalvageArgs, global: &Global) -> Outcome<Exit> {
    let path = &args.store.store;
    let image = LockedImage::open(path, global)?;
    let interrupt = Interrupt::install()?;
    let failed =
        |doing: &'static str| move |error: std::io::Error| Failure::io(&args.directory, doing, &error);
    make_root(&args.directory).map_err(failed("making the directory"))?;
    if fs::read_dir(&args.directory).map_err(failed("reading the directory"))?.next().is_some() {
        let message = format!(
            "{}: is not empty; what is there could be mixed up with what is saved",
            shown(&args.directory)
        );
        return Err(Failure::usage(message));
    }
    let tree = open_tree(&args.directory)?;
    let steps = Steps::new(global);
    let salvage = Salvage::open(&image.file, &mut |done, of| steps.at("segments scanned", done, Some(of)));
    let salvage =
        salvage.map_err(|error| Failure::new(Exit::NotAStore, format!("{}: {error}", shown(path))))?;
    let place = of_path(&tree, MANIFEST)?;
    let manifest = place.create_file().map_err(|error| of(MANIFEST, &error))?;
    let counts = Counts::default();
    let mut saver = Saver { salvage: &salvage, tree: &tree, usual_mode: usual_file_mode(), counts, manifest };
    let mut outcome = Ok(());
    let mut done = 0;
    salvage.objects(&mut |found| {
        done += 1;
        steps.at("objects", done, None);
        outcome = saver.save(&found);
        outcome.is_ok() && !interrupt.is_set()
    });
    steps.end();
    outcome?;
    let Saver { counts, manifest, .. } = saver;
    manifest.finish(&Rights::plain(usual_file_mode()), None).map_err(|error| of(MANIFEST, &error))?;
    report(&salvage, &counts, args)?;
    if let Some(exit) = interrupt.exit() {
        global.say("interrupted; what was saved so far is whole, but not all");
        return Ok(exit);
    }
    let is_all = salvage.losses().is_empty() && counts.incomplete + counts.nameless_lacking == 0;
    Ok(if is_all { Exit::Done } else { Exit::Corrupt })
}

fn report(salvage: &Salvage<'_>, counts: &Counts, args: &SalvageArgs) -> Outcome<()> {
    let losses: Vec<String> = salvage.losses().iter().map(ToString::to_string).collect();
    let Counts { whole, incomplete, nameless, bytes, lost_bytes, .. } = counts;
    let mut output = Output::report();
    if args.json {
        output.json(&json!({
            "uuid": salvage.store().to_string(),
            "whole": whole,
            "incomplete": incomplete,
            "nameless": nameless,
            "bytes": bytes,
            "lost_bytes": lost_bytes,
            "losses": losses,
        }))?;
    } else {
        for loss in &losses {
            output.line(&format!("lost: {loss}"))?;
        }
        output.line(&format!(
            "saved {} objects whole, {} incomplete, {} without a usable name (in nameless/); {}, {} lost",
            grouped(*whole),
            grouped(*incomplete),
            grouped(*nameless),
            human(*bytes),
            human(*lost_bytes),
        ))?;
    }
    output.finish()
}

impl Saver<'_> {
    /// Saves an object; one that cannot be made a file under its name is made one under its numbers.
    fn save(&mut self, found: &Found) -> Outcome<()> {
        let under_its_name = match path_of(found) {
            Some(path) => match self.save_as(found, &path) {
                Err(error) if is_of_the_system(&error) => return Err(of(&path, &error)),
                // What is in the way, or is no path, does not hinder a number.
                saved => saved.unwrap_or(None),
            },
            None => None,
        };
        let (at, holes) = if let Some((at, holes)) = under_its_name {
            let is_whole = holes.is_empty() && found.has_all_values();
            let count = if is_whole { &mut self.counts.whole } else { &mut self.counts.incomplete };
            *count += 1;
            (at, holes)
        } else {
            let at = nameless(found).into_bytes();
            let holes = self.file(found, &Recorded::of(&attributes(found)), &at);
            let holes = holes.map_err(|error| of(&at, &error))?;
            self.counts.nameless += 1;
            let is_whole = found.id.is_some() && holes.is_empty() && found.has_all_values();
            self.counts.nameless_lacking += u64::from(!is_whole);
            (at, holes)
        };
        self.counts.lost_bytes += holes.iter().map(|hole| hole.bytes).sum::<u64>();
        let line = manifest_line(found, &at, &holes);
        self.manifest.write(line.as_bytes()).map_err(|error| of(MANIFEST, &error))
    }

    /// Saves an object under its own name, or one that says that it is incomplete. None: that is taken.
    fn save_as(&mut self, found: &Found, path: &[u8]) -> Result<Option<Saved>, BeneathError> {
        let recorded = Recorded::of(&attributes(found));
        let has_all = found.has_all_values();
        let relative = Relative::parse(path)?;
        let place = self.tree.place(&relative, Parents::Make)?;
        if recorded.kind == Kind::Directory && has_all && found.size == 0 {
            place.make_directory()?;
            return Ok(Some((path.to_vec(), Vec::new())));
        }
        if place.stat()?.is_some() {
            return Ok(None);
        }
        if recorded.kind == Kind::Symlink && has_all && (1..=TARGET_BYTES_MAX).contains(&found.size) {
            let mut target = ToMemory::default();
            if self.salvage.data(found, &mut target)?.is_empty() && target.0.len() as u64 == found.size {
                place.place_link(&target.0, recorded.mtime, None)?;
                self.counts.bytes += found.size;
                return Ok(Some((path.to_vec(), Vec::new())));
            }
        }
        let incomplete = [path, b".incomplete"].concat();
        let (part, holes, bytes) = self.part(found, &place)?;
        let is_whole = holes.is_empty() && has_all;
        if is_whole {
            part.finish(&Rights::plain(recorded.mode.unwrap_or(self.usual_mode)), recorded.mtime)?;
            self.counts.bytes += bytes;
            return Ok(Some((path.to_vec(), holes)));
        }
        // It was written under a temporary name; under the other name it is written once more.
        drop(part);
        let relative = Relative::parse(&incomplete)?;
        if self.tree.place(&relative, Parents::Make)?.stat()?.is_some() {
            return Ok(None);
        }
        let holes = self.file(found, &recorded, &incomplete)?;
        Ok(Some((incomplete, holes)))
    }

    /// Writes an object's data to a file that is not in its place yet.
    fn part<'p>(
        &self,
        found: &Found,
        place: &'p Place<'_, '_>,
    ) -> Result<(PartFile<'p>, Vec<Hole>, u64), BeneathError> {
        let mut part = place.create_file()?;
        let mut to = ToFile { file: &mut part, bytes: 0 };
        let holes = self.salvage.data(found, &mut to)?;
        let bytes = to.bytes;
        part.set_bytes(found.size)?;
        Ok((part, holes, bytes))
    }

    fn file(&mut self, found: &Found, recorded: &Recorded, path: &[u8]) -> Result<Vec<Hole>, BeneathError> {
        let relative = Relative::parse(path)?;
        let place = self.tree.place(&relative, Parents::Make)?;
        let (part, holes, bytes) = self.part(found, &place)?;
        part.finish(&Rights::plain(recorded.mode.unwrap_or(self.usual_mode)), recorded.mtime)?;
        self.counts.bytes += bytes;
        Ok(holes)
    }
}

fn of_path<'t>(tree: &'t Tree, path: &'static [u8]) -> Outcome<Place<'t, 'static>> {
    let relative = Relative::parse(path).expect("a plain name");
    tree.place(&relative, Parents::Make).map_err(|error| of(path, &error))
}

/// A failure to write what was found.
fn of(path: &[u8], error: &BeneathError) -> Failure {
    let exit = match error {
        BeneathError::Io { error, .. } => Failure::io(&PathBuf::new(), "", error).exit,
        BeneathError::Unsafe(_) | BeneathError::ThroughLink(_) | BeneathError::NotADirectory(_) => Exit::Io,
    };
    Failure::new(exit, format!("{}: {error}", names::quoted(path)))
}

/// Whether another path would meet it too.
fn is_of_the_system(error: &BeneathError) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error, BeneathError::Io { error, .. }
        if matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem))
}

/// Where an object with a name goes; none for snapshots and objects of namespaces, which a path cannot tell apart.
fn path_of(found: &Found) -> Option<Vec<u8>> {
    let id = found.id.as_ref().filter(|id| is_plain(id))?;
    let numbered = format!("pool-{}", found.pool).into_bytes();
    let usable = |name: &&Vec<u8>| !name.contains(&b'/') && Relative::parse(name).is_ok();
    let pool = found.pool_name.as_ref().filter(usable).unwrap_or(&numbered);
    Some([b"objects/", pool.as_slice(), b"/", &id.name].concat())
}

fn nameless(found: &Found) -> String {
    let member = found.member;
    format!("nameless/{}-{:08x}-{}.{}", found.pool, member.hash, member.family, member.number)
}

fn attributes(found: &Found) -> Vec<(Vec<u8>, Bytes)> {
    let known = found
        .attributes
        .iter()
        .filter_map(|attribute| Some((attribute.name.clone(), Bytes::from(attribute.value.clone()?))));
    known.collect()
}

fn manifest_line(found: &Found, at: &[u8], holes: &[Hole]) -> String {
    let mut line = Map::new();
    line.insert("pool_id".to_owned(), found.pool.0.into());
    if let Some(name) = &found.pool_name {
        names::into_json(&mut line, "pool", name);
    }
    if let Some(id) = &found.id {
        names::into_json(&mut line, "object", &id.name);
        if !is_plain(id) {
            names::into_json(&mut line, "namespace", &id.namespace);
            line.insert("snap".to_owned(), id.snap.into());
            line.insert("generation".to_owned(), id.generation.into());
        }
    }
    names::into_json(&mut line, "file", at);
    line.insert("size".to_owned(), found.size.into());
    line.insert("complete".to_owned(), (holes.is_empty() && found.has_all_values()).into());
    let hole = |hole: &Hole| json!({ "offset": hole.offset, "bytes": hole.bytes });
    line.insert("holes".to_owned(), holes.iter().map(hole).collect());
    line.insert("attributes".to_owned(), pairs(&found.attributes));
    line.insert("omap".to_owned(), pairs(&found.omap));
    if let Some(header) = &found.header {
        line.insert("omap_header_hex".to_owned(), value(header));
    }
    line.insert("missing_values".to_owned(), found.missing.into());
    format!("{}\n", Value::Object(line))
}

fn value(attribute: &Attribute) -> Value {
    attribute.value.as_ref().map_or(Value::Null, |value| names::hex(value).into())
}

fn pairs(all: &[Attribute]) -> Value {
    let pair = |attribute: &Attribute| {
        let mut pair = Map::new();
        names::into_json(&mut pair, "name", &attribute.name);
        pair.insert("value_hex".to_owned(), value(attribute));
        Value::Object(pair)
    };
    all.iter().map(pair).collect()
}
