//! Commit path: what the seam costs. Durable writes, one in flight, and reads, through the seam and by glommio directly.
//!
//! `cargo run --release -p seabed-device --example commit_path -- FILE [OPERATIONS]` makes FILE (64 MiB, written once)
//! and removes it again. The two take turns, so that what else happens on the machine happens to both; each figure is
//! the median of the rounds.
#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::time::{ClockId, clock_gettime};
use seabed_device::glommio::io::{DmaFile, OpenOptions};
use seabed_device::glommio_host::{CreateOptions, GlommioHost, HostOptions, create};
use seabed_device::{Class, Durability, Host, Machine, WriteOpts, glommio};

const FILE_BYTES: u64 = 64 << 20;
const ROUNDS: usize = 5;

/// Wall and processor time of one operation.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    processor: Duration,
}

/// An operation, how it is done, and its cost in each round.
type Costs = Vec<(&'static str, &'static str, Vec<Cost>)>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().ok_or("which file?")?);
    let operations = arguments.next().map_or(Ok(3000), |operations| operations.parse())?;
    create(&path, FILE_BYTES, &CreateOptions::default(), &mut |_, _| {})?;
    let host = GlommioHost::open(&path, HostOptions::default())?;
    let costs: Arc<Mutex<Costs>> = Arc::default();
    let (all, file) = (Arc::clone(&costs), path.clone());
    let measure = move |machine| {
        let (all, file) = (Arc::clone(&all), file.clone());
        Box::pin(async move {
            let measured = measure(machine, &file, operations).await;
            *all.lock().expect("nobody panicked") = measured;
        }) as _
    };
    host.start(1, Arc::new(measure))?()?;
    for (operation, how, costs) in costs.lock().expect("nobody panicked").iter_mut() {
        let mut median = |of: fn(&Cost) -> Duration| {
            costs.sort_by_key(of);
            of(&costs[costs.len() / 2])
        };
        let (wall, processor) = (median(|cost| cost.wall), median(|cost| cost.processor));
        println!("{operation:32} {how:8} {wall:>9.2?} wall {processor:>9.2?} processor");
    }
    std::fs::remove_file(path)?;
    Ok(())
}

async fn measure(machine: Machine, path: &Path, operations: usize) -> Costs {
    let open = async |flags: OFlags| {
        let flags = (flags | OFlags::DIRECT).bits().cast_signed();
        OpenOptions::new().read(true).write(true).custom_flags(flags).dma_open(path).await.expect("open")
    };
    let (plain, durable) = (open(OFlags::empty()).await, open(OFlags::DSYNC).await);
    let mut costs = Costs::new();
    for bytes in [4 << 10, 132 << 10] {
        let name = if bytes == 4 << 10 { "durable write of 4 KiB" } else { "durable write of 132 KiB" };
        let (mut direct, mut seam) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            direct.push(write_directly(&durable, bytes, operations).await);
            seam.push(write_through(&machine, bytes, operations).await);
        }
        costs.push((name, "glommio", direct));
        costs.push((name, "seam", seam));
    }
    for in_flight in [1, 32] {
        let name = if in_flight == 1 { "read of 4 KiB" } else { "read of 4 KiB, 32 in flight" };
        let (mut direct, mut seam) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            direct.push(read_directly(&plain, in_flight, operations * 4).await);
            seam.push(read_through(&machine, in_flight, operations * 4).await);
        }
        costs.push((name, "glommio", direct));
        costs.push((name, "seam", seam));
    }
    for file in [plain, durable] {
        file.close().await.expect("close");
    }
    costs
}

/// Where the operation with a number goes: over the file in steps, then again.
fn place(index: usize, bytes: usize) -> u64 {
    let places = FILE_BYTES / bytes as u64;
    (index as u64 * 7919 % places) * bytes as u64
}

async fn write_through(machine: &Machine, bytes: usize, operations: usize) -> Cost {
    let opts = WriteOpts { durability: Durability::Durable, class: Class::Commit, stream: 0 };
    let buffer = Rc::new(machine.device.alloc(bytes));
    timed(operations, async {
        for index in 0..operations {
            let write = machine.device.write(place(index, bytes), Rc::clone(&buffer), opts);
            write.await.expect("a write");
        }
    })
    .await
}

async fn write_directly(file: &DmaFile, bytes: usize, operations: usize) -> Cost {
    let mut buffer = file.alloc_dma_buffer(bytes);
    buffer.as_bytes_mut().fill(0);
    let buffer = Rc::new(buffer);
    timed(operations, async {
        for index in 0..operations {
            let write = file.write_rc_at(Rc::clone(&buffer), place(index, bytes));
            assert_eq!(write.await.expect("a write"), bytes);
        }
    })
    .await
}

async fn read_through(machine: &Machine, in_flight: usize, operations: usize) -> Cost {
    let reader = async |first: usize| {
        for index in (first..operations).step_by(in_flight) {
            machine.device.read(place(index, 4096), 4096, Class::Foreground).await.expect("a read");
        }
    };
    timed(operations, futures::future::join_all((0..in_flight).map(reader))).await
}

async fn read_directly(file: &DmaFile, in_flight: usize, operations: usize) -> Cost {
    let reader = async |first: usize| {
        for index in (first..operations).step_by(in_flight) {
            assert_eq!(file.read_at_aligned(place(index, 4096), 4096).await.expect("a read").len(), 4096);
        }
    };
    timed(operations, futures::future::join_all((0..in_flight).map(reader))).await
}

async fn timed<T>(operations: usize, work: impl Future<Output = T>) -> Cost {
    // Begins with what was left of the round before seen and done.
    glommio::timer::sleep(Duration::from_micros(1)).await;
    let processor =
        || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("after its beginning");
    let (began, began_processor) = (Instant::now(), processor());
    work.await;
    let count = u32::try_from(operations).expect("not so many");
    Cost { wall: began.elapsed() / count, processor: processor().saturating_sub(began_processor) / count }
}
