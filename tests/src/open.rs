//! Open: how long a store takes to open after its process was killed, and with how much memory, by the number of objects.
//!
//! On the real stack: a child process formats a file, makes the objects, overwrites some of them until the window of the
//! journal is full, and goes on until it is killed. A second child opens the store for reading, so that the replay is seen
//! by itself, then for writing, and says what it took. The window is the same whatever the number of objects, so the bytes
//! read and the records replayed should be, too.
//!
//! Not here: the time is a real one and asserts nothing.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Instant;

use futures::executor::block_on;
use futures::future::join_all;
use seabed::{Access, FormatOptions, LocalPool, LocalStore, ObjectId, OpenOptions, Store, Transaction};

const POOL: &str = "objects";
/// Submissions at the same time.
const CLIENTS: u64 = 64;
/// Bytes of an object: so small that the records of a window are many and full of deltas.
const OBJECT_BYTES: usize = 200;
/// How the child that writes says that the window is full.
const READY: &str = "ready";

/// What to measure.
#[derive(Clone, Debug)]
pub struct OpenSettings {
    /// The store, a file that does not exist.
    pub store: PathBuf,
    /// Objects in it.
    pub objects: u64,
    /// Its size.
    pub store_bytes: u64,
    /// Bytes of its window.
    pub window_bytes: u64,
    /// Budget of both processes.
    pub memory_bytes: usize,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Makes the store in a child, kills it, and has another child measure; `program` is this program, with the commands
/// `open-fill` and `open-measure`. The lines that the second child printed.
pub fn measure_after_kill(program: &Path, settings: &OpenSettings) -> Result<String, Failure> {
    let child = |command: &str| {
        let mut child = Command::new(program);
        child.arg(command);
        for (name, value) in [
            ("--objects", settings.objects),
            ("--store-bytes", settings.store_bytes),
            ("--window-bytes", settings.window_bytes),
            ("--memory-bytes", settings.memory_bytes as u64),
        ] {
            child.args([name.to_owned(), value.to_string()]);
        }
        child.arg(&settings.store).stdout(Stdio::piped());
        child
    };
    let mut filling = child("open-fill").spawn()?;
    let mut said = String::new();
    let output = filling.stdout.take().expect("it is piped");
    BufReader::new(output).read_line(&mut said)?;
    filling.kill()?;
    filling.wait()?;
    if said.trim() != READY {
        return Err("the store could not be filled".into());
    }
    let measured = child("open-measure").output()?;
    if !measured.status.success() {
        return Err(String::from_utf8_lossy(&measured.stderr).into_owned().into());
    }
    Ok(String::from_utf8_lossy(&measured.stdout).into_owned())
}

/// The first child: makes the store, says when the window is full, and writes on until it is killed.
pub fn fill(settings: &OpenSettings) -> Result<(), Failure> {
    // Nobody else would end it if whoever started it is killed.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let options = FormatOptions {
        size: Some(settings.store_bytes),
        window_bytes: Some(settings.window_bytes),
        first_write: false,
        ..FormatOptions::default()
    };
    Store::format(&settings.store, options)?;
    let options = OpenOptions { memory_bytes: settings.memory_bytes, ..OpenOptions::default() };
    let store = block_on(Store::open(&settings.store, options))?;
    block_on(store.create_pool(POOL))?;
    let settings = settings.clone();
    block_on(store.run_on_shard(move |local| Box::pin(fill_on_shard(local, settings))))??;
    Ok(())
}

async fn fill_on_shard(store: LocalStore, settings: OpenSettings) -> seabed::Result<()> {
    let pool = Rc::new(store.pool(POOL).await?);
    let put = |number: u64, round: u64| {
        let pool = Rc::clone(&pool);
        async move { overwrite(&pool, number, round).await }
    };
    let clients = (0..CLIENTS.min(settings.objects)).map(|client| async move {
        for number in (client..settings.objects).step_by(64) {
            put(number, 0).await?;
        }
        seabed::Result::Ok(())
    });
    join_all(clients).await.into_iter().collect::<seabed::Result<()>>()?;
    // Trimming lets the window grow to its size and back, again and again: it is full when it is as long as it ever was.
    let (begun, mut longest, mut told) = (store.stats().journal_bytes_written, 0, false);
    let mut rng = fastrand::Rng::with_seed(settings.objects);
    for round in 1.. {
        let objects: Vec<u64> = (0..CLIENTS).map(|_| rng.u64(..settings.objects)).collect();
        let written = join_all(objects.into_iter().map(|number| put(number, round))).await;
        written.into_iter().collect::<seabed::Result<()>>()?;
        let stats = store.stats();
        longest = longest.max(stats.window_segments);
        let logged = stats.journal_bytes_written - begun;
        if logged > 3 * settings.window_bytes && stats.window_segments == longest && !told {
            told = true;
            let said = writeln!(io::stdout(), "{READY}").and_then(|()| io::stdout().flush());
            said.expect("whoever started this listens");
        }
    }
    Ok(())
}

async fn overwrite(pool: &LocalPool, number: u64, round: u64) -> seabed::Result<()> {
    let mut data = vec![0; OBJECT_BYTES];
    data[..8].copy_from_slice(&number.to_le_bytes());
    data[8..16].copy_from_slice(&round.to_le_bytes());
    let mut transaction = Transaction::new();
    transaction.write(&ObjectId::new(format!("object {number:010}")), 0, data);
    pool.submit(transaction).await
}

/// The second child: opens what is left and says what that took.
pub fn measure(settings: &OpenSettings) -> Result<String, Failure> {
    let open = |access| {
        let options = OpenOptions { access, memory_bytes: settings.memory_bytes, ..OpenOptions::default() };
        let start = Instant::now();
        let store = block_on(Store::open(&settings.store, options))?;
        Ok::<_, Failure>((store, start.elapsed()))
    };
    let (store, read_only) = open(Access::ReadOnly)?;
    let mount = store.info().mount;
    let pending = block_on(store.stats())?.pending_bytes;
    let objects = block_on(store.usage())?.objects;
    let peak = peak_bytes()?;
    block_on(store.close())?;
    let (store, read_write) = open(Access::ReadWrite)?;
    block_on(store.close())?;
    let (quarter, memory) = (settings.window_bytes / 4, settings.memory_bytes as u64);
    let bound = quarter.min(memory / 8) + quarter.min(memory / 4);
    if objects < i64::try_from(settings.objects)? {
        return Err(format!("{objects} objects").into());
    }
    Ok(format!(
        "objects={objects} window={} records={} bytes_read={} replay_ms={:.1} open_read_only_ms={:.1} open_ms={:.1} \
         replay_bytes={pending} replay_bytes_max={bound} peak_rss={peak} torn={}",
        settings.window_bytes,
        mount.records,
        mount.bytes_read,
        mount.time.as_secs_f64() * 1000.0,
        read_only.as_secs_f64() * 1000.0,
        read_write.as_secs_f64() * 1000.0,
        mount.torn.is_some(),
    ))
}

/// The most memory that this process ever had.
fn peak_bytes() -> Result<u64, Failure> {
    let mut status = String::new();
    std::fs::File::open("/proc/self/status")?.read_to_string(&mut status)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no peak is told")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024)
}
