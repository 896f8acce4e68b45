//! Bare: the device through a bare loop of glommio, without an engine: what any program on this runtime can get from it.
//!
//! A file is written once from end to end; then each client is a task with one operation in flight. Writes are O_DSYNC, each
//! of a buffer of its own that is filled before. The thread spins before it parks as long as an idle shard's
//! does; a shard's thread looks on for longer while the device has something to do.

use std::fs::File;
use std::future::Future;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::rc::Rc;
use std::time::Instant;

use futures::future::try_join_all;
use seabed::glommio::io::{DmaFile, OpenOptions};
use seabed::glommio::{GlommioError, LocalExecutorBuilder, Placement, allocate_dma_buffer, spawn_local};

use super::{CompareError, Setup, Trial, Work};
use crate::machine;
use crate::payload::Payload;
use crate::record::Record;

/// As the shards' default.
const IO_MEMORY: usize = 8 << 20;
/// The file is written in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

/// Runs a trial.
pub(super) fn run(setup: &Setup) -> Result<Trial, CompareError> {
    fill(setup).map_err(|error| CompareError::Io { doing: "writing the file", error })?;
    let (plan, spin) = (setup.clone(), seabed::OpenOptions::default().spin_before_park);
    let thread = LocalExecutorBuilder::new(Placement::Unbound)
        .name("bare")
        .spin_before_park(spin.unwrap_or_default())
        .io_memory(IO_MEMORY)
        .spawn(move || async move { measure(&plan).await.map_err(|error| failed(&error)) })
        .map_err(|error| failed(&error))?;
    thread.join().map_err(|error| failed(&error))?
}

fn failed(error: &GlommioError<()>) -> CompareError {
    CompareError::Peer { name: "bare", why: error.to_string() }
}

/// Writes the file past the page cache: what is in there would slow every direct write of it down.
fn fill(setup: &Setup) -> std::io::Result<()> {
    let file = File::options()
        .write(true)
        .create_new(true)
        .custom_flags(rustix::fs::OFlags::DIRECT.bits().cast_signed())
        .open(setup.directory.join("bare"))?;
    let mut buffer = vec![0; PIECE_BYTES + 4096];
    let aligned = buffer.as_ptr().align_offset(4096);
    let piece = &mut buffer[aligned..aligned + PIECE_BYTES];
    fastrand::Rng::with_seed(1).fill(piece);
    let bytes = (setup.values() * setup.value_bytes()).next_multiple_of(PIECE_BYTES as u64);
    for at in (0..bytes).step_by(PIECE_BYTES) {
        file.write_all_at(piece, at)?;
    }
    file.sync_all()
}

/// What happens at one place of the file.
async fn measure(setup: &Setup) -> Result<Trial, GlommioError<()>> {
    let mut options = OpenOptions::new();
    options.read(true);
    if setup.work == Work::Overwrite {
        options.write(true).custom_flags(rustix::fs::OFlags::DSYNC.bits().cast_signed());
    }
    let file = Rc::new(options.dma_open(setup.directory.join("bare")).await?);
    let bytes = setup.value_len();
    let payload = Rc::new(Payload::new(bytes));
    let (kernel, cpu, start) = (machine::written_bytes(), machine::cpu_time(), Instant::now());
    let until = start + setup.time;
    let clients = (0..setup.clients).map(|number| {
        let (file, payload, work, values) =
            (Rc::clone(&file), Rc::clone(&payload), setup.work, setup.values());
        let mut rng = fastrand::Rng::with_seed(u64::from(number) + 1);
        spawn_local(client((start, until), bytes, move || {
            let (file, at, number) = (Rc::clone(&file), rng.u64(..values) * bytes as u64, rng.u64(..));
            let data = payload.bytes(number, bytes);
            async move { operation(&file, work, at, &data).await }
        }))
    });
    let mut record = Record::default();
    for of_client in try_join_all(clients).await? {
        record.merge(&of_client);
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu = machine::cpu_time().saturating_sub(cpu);
    let more = |before: Option<u64>, after: Option<u64>| Some(after?.saturating_sub(before?));
    if let Ok(file) = Rc::try_unwrap(file) {
        file.close().await?;
    }
    Ok(Trial {
        cpu_seconds: cpu.as_secs_f64(),
        own_bytes: (setup.work == Work::Overwrite).then_some(record.bytes()),
        kernel_bytes: more(kernel, machine::written_bytes()),
        peak_bytes: machine::peak_memory_bytes(),
        options: "glommio, direct, O_DSYNC, a task for each client, one thread".to_owned(),
        ..Trial::of(setup.clients, &record, seconds)
    })
}

/// One operation after the other until it is time.
async fn client<F: Future<Output = Result<(), GlommioError<()>>>>(
    (start, until): (Instant, Instant),
    bytes: usize,
    mut next: impl FnMut() -> F,
) -> Result<Record, GlommioError<()>> {
    let mut record = Record::default();
    loop {
        let begun = Instant::now();
        if begun >= until {
            return Ok(record);
        }
        next().await?;
        record.add(bytes as u64, begun.elapsed(), start.elapsed());
    }
}

async fn operation(file: &DmaFile, work: Work, at: u64, data: &[u8]) -> Result<(), GlommioError<()>> {
    let done = if work == Work::Overwrite {
        let mut buffer = allocate_dma_buffer(data.len());
        buffer.as_bytes_mut().copy_from_slice(data);
        file.write_at(buffer, at).await?
    } else {
        file.read_at_aligned(at, data.len()).await?.len()
    };
    if done == data.len() {
        Ok(())
    } else {
        Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into())
    }
}
