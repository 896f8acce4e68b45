//! Record: every write and flush of a run on a real file, written down at the device's seam, and the images in between.
//!
//! Writes are in the order in which they completed, a flush covers those that completed before it began. At the end of
//! every flush, and of every so manieth durable write, two images are looked at: all that has completed, and only what is
//! durable by a flush or by itself. Both are disks that a power cut might have left.

use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use seabed_device::{
    Class, Device, DeviceError, Durability, Geometry, Local, Machine, ReadBuf, WriteBuf, WriteOpts,
};
use seabed_types::BLOCK_BYTES;

use super::{Counts, STORE_BYTES, StampedError, format, verify, write, wrong};

/// Of the durable writes one in so many is looked at.
const DURABLE_STEP: u64 = 16;

enum Event {
    Written {
        at: u64,
        bytes: Vec<u8>,
        durability: Durability,
    },
    /// Covers so many of the events before it.
    Flushed {
        covers: usize,
    },
    Acknowledged(usize, u32),
}

type Log = Arc<Mutex<Vec<Event>>>;

fn push(log: &Log, event: Event) {
    log.lock().expect("nobody panics while it is held").push(event);
}

struct Recording {
    device: Rc<dyn Device>,
    log: Log,
}

impl Device for Recording {
    fn geometry(&self) -> Geometry {
        self.device.geometry()
    }
    fn alloc(&self, bytes: usize) -> WriteBuf {
        self.device.alloc(bytes)
    }
    fn alloc_dirty(&self, bytes: usize) -> WriteBuf {
        self.device.alloc_dirty(bytes)
    }
    fn read(&self, at: u64, bytes: usize, class: Class) -> Local<Result<ReadBuf, DeviceError>> {
        self.device.read(at, bytes, class)
    }
    fn write(&self, at: u64, buf: Rc<WriteBuf>, opts: WriteOpts) -> Local<Result<(), DeviceError>> {
        let (log, bytes) = (Arc::clone(&self.log), buf.to_vec());
        let written = self.device.write(at, buf, opts);
        Box::pin(async move {
            written.await?;
            push(&log, Event::Written { at, bytes, durability: opts.durability });
            Ok(())
        })
    }
    fn flush(&self) -> Local<Result<(), DeviceError>> {
        let log = Arc::clone(&self.log);
        let covers = log.lock().expect("nobody panics while it is held").len();
        let flushed = self.device.flush();
        Box::pin(async move {
            flushed.await?;
            push(&log, Event::Flushed { covers });
            Ok(())
        })
    }
    fn discard(&self, at: u64, bytes: u64) -> Local<Result<(), DeviceError>> {
        self.device.discard(at, bytes)
    }
    fn quiesce(&self) -> Local<()> {
        self.device.quiesce()
    }
}

/// What was done.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct RecordCounts {
    /// Writes that were recorded.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Acknowledged writes of clients.
    pub acknowledged: u64,
    /// Images that were mounted, compared and checked.
    pub images: u64,
}

/// A disk whose blocks know the number of the write that they are of.
struct Disk {
    bytes: Vec<u8>,
    newest: Vec<usize>,
}

impl Disk {
    fn new(bytes: Vec<u8>) -> Self {
        let newest = vec![0; bytes.len() / BLOCK_BYTES];
        Self { bytes, newest }
    }

    /// A write that an older one, made durable later, does not take back.
    fn write(&mut self, number: usize, at: u64, bytes: &[u8]) {
        let first = usize::try_from(at).expect("in memory") / BLOCK_BYTES;
        for (index, block) in (first..).zip(bytes.chunks_exact(BLOCK_BYTES)) {
            if self.newest[index] <= number {
                self.newest[index] = number;
                self.bytes[index * BLOCK_BYTES..(index + 1) * BLOCK_BYTES].copy_from_slice(block);
            }
        }
    }
}

/// Runs the writer in a directory, so many writes of each client, and looks at what it would have left at any time.
pub fn record(directory: &Path, seed: u64, writes: u32) -> Result<RecordCounts, StampedError> {
    let path = directory.join("recorded");
    format(&path)?;
    let base = std::fs::read(&path)?;
    assert_eq!(base.len() as u64, STORE_BYTES, "as formatted");
    let log: Log = Arc::default();
    let (wrapped, told) = (Arc::clone(&log), Arc::clone(&log));
    let wrap = move |machine: Machine| {
        let device = Recording { device: machine.device, log: Arc::clone(&wrapped) };
        Machine { device: Rc::new(device), ..machine }
    };
    let tell = move |client, count| push(&told, Event::Acknowledged(client, count));
    write(&path, seed, (Counts::default(), writes), Arc::new(wrap), Arc::new(tell))??;
    let log = log.lock().expect("the writer has ended");
    let counts = replay(base, seed, &log)?;
    let end = std::fs::read(&path)?;
    let found = verify(&end, seed, &[writes; 4]).map_err(wrong("at the end"))?;
    assert_eq!(found, [writes; 4], "the writer has no more to do");
    std::fs::remove_file(&path)?;
    Ok(counts)
}

fn replay(base: Vec<u8>, seed: u64, log: &[Event]) -> Result<RecordCounts, StampedError> {
    let (mut completed, mut durable) = (Disk::new(base.clone()), Disk::new(base));
    let (mut acknowledged, mut counts) = (Counts::default(), RecordCounts::default());
    let (mut cached, mut durable_writes) = (Vec::new(), 0);
    for (number, event) in log.iter().enumerate() {
        let is_looked_at = match event {
            Event::Written { at, bytes, durability } => {
                counts.writes += 1;
                completed.write(number, *at, bytes);
                if *durability == Durability::Durable {
                    durable.write(number, *at, bytes);
                    durable_writes += 1;
                    durable_writes % DURABLE_STEP == 0
                } else {
                    cached.push(number);
                    false
                }
            }
            Event::Flushed { covers } => {
                counts.flushes += 1;
                for covered in cached.extract_if(.., |number| *number < *covers) {
                    if let Event::Written { at, bytes, .. } = &log[covered] {
                        durable.write(covered, *at, bytes);
                    }
                }
                true
            }
            Event::Acknowledged(client, count) => {
                acknowledged[*client] = *count;
                counts.acknowledged += 1;
                false
            }
        };
        if is_looked_at {
            for (disk, what) in [(&durable, "durable"), (&completed, "completed")] {
                let after = format!("event {number}, what was {what}");
                verify(&disk.bytes, seed, &acknowledged).map_err(wrong(after))?;
                counts.images += 1;
            }
        }
    }
    Ok(counts)
}
