//! `format`: makes a store.
//!
//! A file that is not empty, or a device whose first or last MiB is not all zeros, is refused unless `--force` is given;
//! one in use is refused always. A file is written once from end to end, which makes later flushes several times faster;
//! that takes about a second per GiB on a good disk. A format that fails or is ended by a signal removes the file that it
//! made, and leaves one that existed as large as it was and empty.
//!
//! Limits: 64 MiB and segments of 1 MiB at least; smaller segments only by an option for tests.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use seabed::device::OpenError;
use seabed::{Error, FormatOptions, Store};

use crate::args::{Global, StoreArg};
use crate::exit::{Exit, Failure, Outcome};
use crate::identity::refuse_standard_streams;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::session::{of_store, shown};
use crate::sizes::{self, human};

/// No store is smaller.
pub(crate) const STORE_BYTES_MIN: u64 = 64 << 20;
const BLOCK_BYTES: u64 = 4096;

#[derive(Args)]
pub(crate) struct FormatArgs {
    #[command(flatten)]
    pub(crate) store: StoreArg,
    /// Size of the store; for a block device or an existing file its own if left out
    #[arg(long, value_parser = sizes::parse)]
    size: Option<u64>,
    /// Bytes of journal that a crash leaves to be replayed at most, 4 segments to a quarter of the store; more of them mean
    /// fewer writes of tree nodes [default: a 64th of the store, at most 1 GiB]
    #[arg(long, value_parser = sizes::parse)]
    window: Option<u64>,
    /// Take a file or device that holds something; what it holds is lost
    #[arg(long)]
    force: bool,
    /// Bytes of a segment, a power of two
    #[arg(long, hide = true, value_parser = sizes::parse)]
    segment_size: Option<u64>,
    /// Bytes of a tree node, a power of two
    #[arg(long, hide = true, value_parser = sizes::parse)]
    node_size: Option<u64>,
    /// Do not write the file once from end to end
    #[arg(long, hide = true)]
    sparse: bool,
}

pub(crate) fn run(args: &FormatArgs, global: &Global) -> Outcome<Exit> {
    let path = &args.store.store;
    refuse_what_holds_no_store(path)?;
    let size = match args.size {
        Some(size) => Some(size - size % BLOCK_BYTES),
        None if path.exists() => None,
        None => return Err(Failure::usage("a new file needs a size").advise("give it as --size 10G")),
    };
    let bytes = match size {
        Some(bytes) => bytes,
        None => bytes_of(path)?,
    };
    if bytes < STORE_BYTES_MIN {
        let given = human(args.size.unwrap_or(bytes));
        let message =
            format!("{}: a store of {given}: the smallest has {}", shown(path), human(STORE_BYTES_MIN));
        return Err(Failure::usage(message).advise("give it as --size 64M or more"));
    }
    let mut options = FormatOptions {
        size,
        segment_bytes: args.segment_size.map(fits_u32).transpose()?,
        window_bytes: args.window,
        force: args.force,
        lock_wait: global.lock_wait(),
        first_write: !args.sparse,
        ..FormatOptions::default()
    };
    if let Some(node_bytes) = args.node_size {
        options.node_bytes = fits_u32(node_bytes)?;
    }
    make(path, options, &Interrupt::install()?, global)?;
    global.say(&format!("{}: a store of {}", shown(path), human(bytes)));
    Ok(Exit::Done)
}

/// Makes a store, showing how far it is. A signal ends it, and nothing of it is left.
pub(crate) fn make(
    path: &Path,
    mut options: FormatOptions,
    interrupt: &Interrupt,
    global: &Global,
) -> Outcome<()> {
    refuse_standard_streams(path)?;
    let existed = path.exists();
    let progress = Progress::new(global, "writing");
    let seen = progress.clone();
    let before = AtomicU64::new(0);
    options.progress = Some(Arc::new(move |done, all| {
        let before = before.swap(done, Ordering::Relaxed);
        if before == 0 {
            seen.set_total(0, all);
        }
        seen.bytes(done - before);
    }));
    options.cancel = Some(interrupt.flag());
    let outcome = Store::format(path, options);
    progress.end();
    outcome.map_err(|error| match (&error, interrupt.exit()) {
        (Error::Open(OpenError::Interrupted { .. }), Some(exit)) => {
            let left = if existed { "it holds no store" } else { "the new file is removed" };
            Failure::new(exit, format!("{}: interrupted; {left}", shown(path)))
        }
        _ => of_store(path, &error),
    })
}

fn fits_u32(bytes: u64) -> Outcome<u32> {
    u32::try_from(bytes).map_err(|_| Failure::usage(format!("{} is too large for that", human(bytes))))
}

/// A directory has a size too, and a character device has none: neither is looked at any further.
fn refuse_what_holds_no_store(path: &Path) -> Outcome<()> {
    let Ok(metadata) = std::fs::metadata(path) else { return Ok(()) };
    let kind = metadata.file_type();
    if kind.is_file() || kind.is_block_device() {
        return Ok(());
    }
    let error = Error::Open(OpenError::NotADevice { path: path.to_owned() });
    let mut failure = of_store(path, &error);
    let advice = if kind.is_dir() {
        "name a file in it, as DIRECTORY/store.img"
    } else {
        "name a file or a block device"
    };
    failure.advice = Some(advice.into());
    Err(failure)
}

/// The size of a file or block device.
fn bytes_of(path: &Path) -> Outcome<u64> {
    let failed = |error: std::io::Error| Failure::io(path, "finding its size", &error);
    let mut file = std::fs::File::open(path).map_err(failed)?;
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).map_err(failed)
}
