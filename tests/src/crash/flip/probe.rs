//! Probe: opens an image in memory for reading, reads its objects, and has it checked; each part knows what it reads.
//!
//! A part's answer follows from the bytes that it reads, so a part that does not read a block need not be asked again when
//! a byte of that block changes. That is what makes an exhaustive run possible: most flips concern one object.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use seabed::{Access, Error, LocalStore, Shard, ShardOptions, Usage};
use seabed_device::memory::MemoryDevice;
use seabed_device::{Class, Device, DeviceError, Geometry, Local, Machine, ReadBuf, WriteBuf, WriteOpts};
use seabed_object::ObjectId;
use seabed_segment::Superblock;
use seabed_types::{BLOCK_BYTES, ShardId};

use crate::crash::engine::dump_object;
use crate::crash::program::Plan;
use crate::crash::run::{names, shard_options};
use crate::machine::{SimOptions, Simulation};
use crate::model::Object;

/// Numbers of blocks.
pub(super) type BlockSet = BTreeSet<u64>;

/// Notes which blocks are read.
struct Watched {
    device: Rc<MemoryDevice>,
    blocks: RefCell<BlockSet>,
}

fn blocks_of(at: u64, bytes: usize) -> std::ops::Range<u64> {
    at / BLOCK_BYTES as u64..(at + bytes as u64).div_ceil(BLOCK_BYTES as u64)
}

impl Device for Watched {
    fn geometry(&self) -> Geometry {
        self.device.geometry()
    }
    fn alloc(&self, bytes: usize) -> WriteBuf {
        self.device.alloc(bytes)
    }
    fn read(&self, at: u64, bytes: usize, class: Class) -> Local<Result<ReadBuf, DeviceError>> {
        self.blocks.borrow_mut().extend(blocks_of(at, bytes));
        self.device.read(at, bytes, class)
    }
    fn write(&self, _: u64, _: Rc<WriteBuf>, _: WriteOpts) -> Local<Result<(), DeviceError>> {
        unreachable!("a store that is only read is not written to")
    }
    fn flush(&self) -> Local<Result<(), DeviceError>> {
        self.device.flush()
    }
    fn discard(&self, _: u64, _: u64) -> Local<Result<(), DeviceError>> {
        unreachable!("a store that is only read is not discarded")
    }
    fn quiesce(&self) -> Local<()> {
        self.device.quiesce()
    }
}

/// A read that can be asked by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Question {
    /// The names in a pool.
    List(usize),
    /// How much it holds, which no tree says but what checkpoints and records count.
    Usage(usize),
    /// All of an object.
    Object(usize, ObjectId),
}

/// Its answer.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Answer {
    NoPool,
    /// With the pool.
    Names(usize, Vec<ObjectId>),
    Usage(Usage),
    Object(Box<Object>),
}

/// What an opened store says.
pub(super) struct Answers {
    pub(super) answers: Vec<Answer>,
    /// The mount told of an end that it cut off.
    pub(super) torn: bool,
}

/// What went wrong first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// No superblock, or no mount.
    Open,
    /// A read.
    Get,
}

/// See the module.
pub(super) struct Probe {
    pub(super) device: Rc<MemoryDevice>,
    plan: Plan,
}

impl Probe {
    pub(super) fn new(image: Vec<u8>, plan: &Plan) -> Self {
        Self { device: MemoryDevice::new(image), plan: plan.clone() }
    }

    /// Opens the store and asks; with the blocks that opening it read and those that everything read.
    pub(super) fn ask(&self, questions: &[Question]) -> (Result<Answers, Refused>, BlockSet, BlockSet) {
        let device = Rc::new(Watched { device: Rc::clone(&self.device), blocks: RefCell::default() });
        let sim = Simulation::new(0, SimOptions { disk_bytes: BLOCK_BYTES as u64, ..SimOptions::default() });
        let machine =
            Machine { device: Rc::clone(&device) as Rc<dyn Device>, runtime: sim.machine().runtime };
        let mut opened = BlockSet::new();
        // What is answered from memory would not meet a flip.
        let options =
            ShardOptions { access: Access::ReadOnly, data_cache_bytes: Some(0), ..shard_options(&self.plan) };
        let asked = sim.run(async {
            let superblock = choose(&device).await.ok_or(Refused::Open)?;
            let shard = Shard::mount(machine, superblock, ShardId(0), options).await;
            let shard = shard.map_err(|_| Refused::Open)?;
            let (torn, store) = (shard.report().torn.is_some(), LocalStore::new(shard));
            opened.clone_from(&device.blocks.borrow());
            let mut answers = Vec::new();
            for question in questions {
                answers.push(self.answer(&store, question).await.map_err(|_| Refused::Get)?);
            }
            Ok(Answers { answers, torn })
        });
        let all = device.blocks.take();
        (asked.expect("reads in memory wait for nothing"), opened, all)
    }

    async fn answer(&self, store: &LocalStore, question: &Question) -> Result<Answer, Error> {
        let (Question::List(index) | Question::Usage(index) | Question::Object(index, _)) = question;
        let pool = match store.pool(names(&self.plan)[*index]).await {
            Err(Error::NoSuchPool { .. }) => return Ok(Answer::NoPool),
            pool => pool?,
        };
        match question {
            Question::Object(_, id) => return Ok(Answer::Object(Box::new(dump_object(&pool, id).await?))),
            Question::Usage(_) => return Ok(Answer::Usage(pool.usage()?)),
            Question::List(_) => {}
        }
        let (mut objects, mut from) = (Vec::new(), None);
        loop {
            let page = pool.list_page(from, 100).await?;
            if let Some(damaged) = page.damaged.into_iter().next() {
                return Err(damaged.error);
            }
            objects.extend(page.objects);
            from = page.next;
            if from.is_none() {
                return Ok(Answer::Names(*index, objects));
            }
        }
    }

    /// What the checker finds, violations and notes, and the blocks that it read.
    pub(super) fn check(&self) -> (Findings, BlockSet) {
        let options = seabed_check::Options { findings_max: 3, ..seabed_check::Options::default() };
        let image = WatchedImage { device: &self.device, blocks: RefCell::default() };
        let findings = match seabed_check::check(&image, &options) {
            Err(_) => Findings { violations: 1, notes: 0 },
            Ok(report) => Findings {
                violations: report.violations.len() as u64 + report.violations_left_out,
                notes: report.notes.len() as u64 + report.notes_left_out,
            },
        };
        (findings, image.blocks.take())
    }
}

/// How much the checker found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Findings {
    pub(super) violations: u64,
    pub(super) notes: u64,
}

struct WatchedImage<'a> {
    device: &'a MemoryDevice,
    blocks: RefCell<BlockSet>,
}

impl seabed_check::Image for WatchedImage<'_> {
    fn bytes(&self) -> u64 {
        self.device.geometry().bytes
    }

    fn read(&self, at: u64, into: &mut [u8]) -> std::io::Result<()> {
        self.blocks.borrow_mut().extend(blocks_of(at, into.len()));
        self.device.with_bytes(|bytes| seabed_check::Image::read(&&*bytes, at, into))
    }
}

/// The superblock, as an open of a file finds it.
async fn choose(device: &Watched) -> Option<Superblock> {
    let mut blocks = Vec::new();
    for at in Superblock::places(device.geometry().bytes) {
        blocks.push(device.read(at, BLOCK_BYTES, Class::Foreground).await.ok()?);
    }
    Superblock::choose(std::array::from_fn(|copy| Some(&blocks[copy][..]))).ok()
}
