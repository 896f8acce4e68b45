//! `info`: says how large a store is, what it holds, and how its last opening went.

use std::fmt::Write;

use clap::Args;
use seabed::{MountReport, Space, Stats, StoreInfo, Usage};
use serde_json::{Map, Value, json};

use crate::args::{Global, StoreArg};
use crate::commands::stats;
use crate::exit::{Exit, Outcome};
use crate::names;
use crate::output::Output;
use crate::session::Session;
use crate::sizes::{grouped, human};

#[derive(Args)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    store: StoreArg,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// A pool's name and what it holds.
struct PoolUsage {
    name: String,
    usage: Usage,
}

pub(crate) fn run(args: &InfoArgs, global: &Global) -> Outcome<Exit> {
    let session = Session::read(&args.store.store, global)?;
    let store = session.store();
    let info = store.info();
    let usage = session.wait(store.usage())?;
    let stats = session.wait(store.stats())?;
    let space = session.wait(store.space())?;
    let mut pools = Vec::new();
    for entry in session.wait(store.pools())? {
        let usage = session.wait(session.pool(&entry.name)?.usage())?;
        pools.push(PoolUsage { name: entry.name, usage });
    }
    pools.sort_by(|a, b| a.name.cmp(&b.name));
    let mut output = Output::new();
    if args.json {
        output.json(&as_json(&info, &usage, (&stats, &space), &pools))?;
    } else {
        output.text(&as_text(&info, &usage, (&stats, &space), &pools))?;
    }
    output.finish()?;
    session.close()?;
    Ok(Exit::Done)
}

fn as_text(info: &StoreInfo, usage: &Usage, (stats, space): (&Stats, &Space), pools: &[PoolUsage]) -> String {
    let layout = info.superblock.layout;
    let free = stats.free_segments * u64::from(layout.segment_bytes);
    let lines = [
        ("store", format!("{}, format {}", info.superblock.identity.uuid, info.superblock.version)),
        ("size", format!("{} ({} bytes)", human(layout.device_bytes), layout.device_bytes)),
        (
            "layout",
            format!(
                "{} segments of {}, nodes of {}, {} shard(s)",
                grouped(layout.segment_count()),
                human(layout.segment_bytes.into()),
                human(layout.node_bytes.into()),
                layout.shards,
            ),
        ),
        ("free", format!("{} in {} segments", human(free), grouped(stats.free_segments))),
        ("capacity", format!("{} ({} bytes)", human(space.usable_bytes), space.usable_bytes)),
        ("live", format!("{} ({} bytes)", human(space.live_bytes), space.live_bytes)),
        ("writable", stats::writable(space)),
        ("reserved", reserved(space)),
        ("opened", opened(&info.mount)),
        ("objects", count(usage.objects)),
        ("stored", bytes(usage.stored)),
        ("allocated", bytes(usage.allocated)),
        ("omap", bytes(usage.omap)),
        ("metadata", bytes(usage.metadata)),
        ("pools", format!("{} of {} at most", grouped(pools.len() as u64), grouped(info.pools_max() as u64))),
    ];
    let mut text = String::new();
    for (what, value) in lines {
        writeln!(text, "{what:<10} {value}").expect("a string takes everything");
    }
    for pool in pools {
        let name = names::for_terminal(pool.name.as_bytes());
        let (objects, stored) = (count(pool.usage.objects), bytes(pool.usage.stored));
        writeln!(text, "pool       {name}: {objects} objects, {stored}").expect("a string takes everything");
    }
    text
}

/// What stays free from users.
fn reserved(space: &Space) -> String {
    let parts = stats::reserves_of(space).into_iter().filter(|(_, bytes)| *bytes > 0);
    let parts: Vec<_> = parts.map(|(what, bytes)| format!("{what} {}", human(bytes))).collect();
    format!("{}: {}", human(space.reserves.total_bytes()), parts.join(", "))
}

/// How the mount went.
fn opened(mount: &MountReport) -> String {
    let text = format!(
        "in {:.1} ms, {} records replayed, {} of journal read",
        mount.time.as_secs_f64() * 1000.0,
        grouped(mount.records),
        human(mount.bytes_read),
    );
    match &mount.torn {
        Some(torn) => format!("{text}; record {} at {} was torn, and is cut off", torn.lsn, torn.at),
        None => text,
    }
}

fn as_json(info: &StoreInfo, usage: &Usage, (stats, space): (&Stats, &Space), pools: &[PoolUsage]) -> Value {
    let layout = info.superblock.layout;
    let pools = pools.iter().map(|pool| {
        let mut object = Map::new();
        names::into_json(&mut object, "name", pool.name.as_bytes());
        object.insert("usage".into(), usage_json(&pool.usage));
        Value::Object(object)
    });
    json!({
        "uuid": info.superblock.identity.uuid.to_string(),
        "format_version": info.superblock.version,
        "features": {
            "compat": info.superblock.compat,
            "ro_compat": info.superblock.ro_compat,
            "incompat": info.superblock.incompat,
        },
        "window_bytes": info.superblock.window_bytes,
        "device_bytes": layout.device_bytes,
        "segment_bytes": layout.segment_bytes,
        "node_bytes": layout.node_bytes,
        "shards": layout.shards,
        "segments": layout.segment_count(),
        "free_segments": stats.free_segments,
        "live_bytes": stats.live_bytes,
        "space": stats::as_json(space),
        "window_segments": stats.window_segments,
        "mount": {
            "records": info.mount.records,
            "bytes_read": info.mount.bytes_read,
            "torn": info.mount.torn.map(|torn| json!({ "lsn": torn.lsn.0, "at": torn.at.to_string(), "what": torn.what })),
            "seconds": info.mount.time.as_secs_f64(),
        },
        "usage": usage_json(usage),
        "pools_max": info.pools_max(),
        "pools": pools.collect::<Vec<_>>(),
    })
}

fn usage_json(usage: &Usage) -> Value {
    json!({
        "objects": usage.objects,
        "stored": usage.stored,
        "allocated": usage.allocated,
        "compressed": usage.compressed,
        "omap": usage.omap,
        "metadata": usage.metadata,
    })
}

/// Sums are signed where they are kept; none of a whole store or pool is below zero.
fn unsigned(sum: i64) -> u64 {
    u64::try_from(sum).unwrap_or(0)
}

fn count(sum: i64) -> String {
    grouped(unsigned(sum))
}

fn bytes(sum: i64) -> String {
    format!("{} ({sum} bytes)", human(unsigned(sum)))
}
