//! Programs: what the clients of a crash run do, drawn from a seed, swarm style.
//!
//! Each seed takes away a random half of the operations and makes limits tiny, each in another way, so that rare things
//! meet: a store whose every second operation removes, one that only appends, one of many pools without omap.
//!
//! Every 16 bytes of data say which data they are of and where in it, so that wrong bytes are told whatever they are.

use std::sync::Arc;
use std::time::Duration;

use seabed_object::limits::INLINE_EXTENTS_BYTES;
use seabed_object::onode::EXTENTS_BYTES_MAX;

use crate::model::{Bytes, Condition, Direction, Hint, Limits, ObjectId, Op};

/// What a step of a client does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Touch,
    Create,
    Write,
    Append,
    Zero,
    Truncate,
    Remove,
    Put,
    SetAttributes,
    RemoveAttribute,
    OmapInsert,
    OmapRemove,
    OmapRemoveRange,
    OmapClear,
    OmapHeader,
    Hint,
    Expect,
    Illegal,
    Empty,
    Stream,
    StreamDropped,
    Abandoned,
    Bytes,
    Whole,
    Stat,
    Attributes,
    Omap,
    OmapKeys,
    List,
}

impl Kind {
    const ALL: [Self; 29] = [
        Self::Touch,
        Self::Create,
        Self::Write,
        Self::Append,
        Self::Zero,
        Self::Truncate,
        Self::Remove,
        Self::Put,
        Self::SetAttributes,
        Self::RemoveAttribute,
        Self::OmapInsert,
        Self::OmapRemove,
        Self::OmapRemoveRange,
        Self::OmapClear,
        Self::OmapHeader,
        Self::Hint,
        Self::Expect,
        Self::Illegal,
        Self::Empty,
        Self::Stream,
        Self::StreamDropped,
        Self::Abandoned,
        Self::Bytes,
        Self::Whole,
        Self::Stat,
        Self::Attributes,
        Self::Omap,
        Self::OmapKeys,
        Self::List,
    ];

    fn is_operation(self) -> bool {
        (self as u8) <= Self::Illegal as u8
    }
}

/// How a store and its clients are made.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is drawn by itself")]
pub(super) struct Plan {
    pub(super) clients: u32,
    pub(super) pools: usize,
    pub(super) steps: u32,
    pub(super) objects: u32,
    /// Of how many omap keys a key is drawn.
    pub(super) keys: u32,
    pub(super) kinds: Vec<Kind>,
    pub(super) bytes_max: usize,
    pub(super) ops_max: usize,
    pub(super) closes: bool,
    /// Let time pass at the end, so that what is done when idle is done.
    pub(super) rests: bool,
    pub(super) node_bytes: u32,
    pub(super) disk_bytes: u64,
    pub(super) segment_bytes: u32,
    pub(super) window_segments: u64,
    pub(super) memory_bytes: usize,
    /// Memory for data that is read again.
    pub(super) data_cache_bytes: Option<usize>,
    pub(super) bulk_bytes: usize,
    pub(super) lay_bytes: usize,
    pub(super) inline_bytes: usize,
    pub(super) inline_extents_bytes: usize,
    pub(super) pause_us: u64,
    /// Whether the cleaner runs.
    pub(super) cleaning: bool,
    /// Whether the device has a use for discards.
    pub(super) discards: bool,
    /// The first step writes so many bytes; none: it is drawn like the others.
    pub(super) first_bytes: Option<usize>,
    /// What each client does, instead of what would be drawn.
    pub(super) program: Option<Arc<Program>>,
    /// Faults are planned: what fails by one is no wrong answer.
    pub(super) is_faulty: bool,
    /// Which permit of memory, or of turns to write, finds none, and for how long.
    pub(super) famine: Option<(u64, Duration)>,
}

/// The steps of each client, each with the pool that it is for.
pub(super) type Program = Vec<Vec<(usize, Step)>>;

/// The smallest segments; most stores of the suites have these.
pub(super) const SEGMENT_BYTES: u32 = 64 << 10;

/// Segments of a window that is longer than those of other stores.
const LONG_WINDOW: u64 = 12;

/// Bytes of a write that takes most of a segment, if it goes into its record whole.
const LARGE_BYTES: usize = 45 << 10;

/// None, some chunks, and what is the default: an eighth of the memory.
const DATA_CACHES: [Option<usize>; 4] = [Some(0), Some(9 << 10), Some(40 << 10), None];

/// As the default, all that an onode may have, one chunk, and none: what moves out moves at once.
const EXTENTS_IN_ONODES: [usize; 5] = [INLINE_EXTENTS_BYTES, INLINE_EXTENTS_BYTES, EXTENTS_BYTES_MAX, 21, 0];

fn pick<T: Copy>(rng: &mut fastrand::Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

impl Plan {
    /// The plan of a seed.
    pub(super) fn of(seed: u64) -> Self {
        let rng = &mut fastrand::Rng::with_seed(seed ^ 0x5ea_bed);
        let mut kinds = Kind::ALL.to_vec();
        rng.shuffle(&mut kinds);
        kinds.truncate(kinds.len() / 2);
        // Something must be there to be changed.
        kinds.push(pick(rng, &[Kind::Write, Kind::Put, Kind::Append]));
        kinds.push(pick(rng, &[Kind::Write, Kind::Touch, Kind::Put]));
        let memory_bytes = pick(rng, &[192 << 10, 1 << 20, 2 << 20, 8 << 20, 64 << 20]);
        // Some have many small rows, so that trees get levels, and nodes are split, merged and evicted.
        let is_wide = rng.u8(..3) == 0;
        if is_wide {
            kinds.extend([Kind::OmapInsert, Kind::OmapInsert, Kind::OmapRemoveRange]);
        }
        let clients = rng.u32(1..=6);
        let plan = Self {
            // So many in one of eight stores that they form two groups that take turns at the journal.
            clients: if fastrand::Rng::with_seed(seed).u8(..8) == 0 { clients + 14 } else { clients },
            pools: rng.usize(1..=3),
            steps: pick(rng, &[8, 20, 40, 80]),
            objects: rng.u32(2..=9),
            keys: 60,
            kinds,
            bytes_max: pick(rng, &[300, 3000, 9000, 30_000, 120_000]),
            ops_max: rng.usize(1..=5),
            closes: rng.bool(),
            rests: rng.u8(..4) == 0,
            node_bytes: pick(rng, &[4096, 4096, 4096, 8192]),
            disk_bytes: pick(rng, &[3 << 20, 4 << 20, 6 << 20]),
            segment_bytes: SEGMENT_BYTES,
            window_segments: pick(rng, &[4, 4, 6]),
            memory_bytes,
            data_cache_bytes: pick(&mut fastrand::Rng::with_seed(seed ^ 0xc_acf8), &DATA_CACHES),
            bulk_bytes: pick(rng, &[4096, 8192, 16 << 10, 128 << 10]),
            lay_bytes: pick(
                &mut fastrand::Rng::with_seed(seed ^ 0x1a_1d),
                &[8 << 10, 20 << 10, 70 << 10, 16 << 20],
            ),
            inline_bytes: pick(rng, &[0, 64, 512]),
            inline_extents_bytes: pick(&mut fastrand::Rng::with_seed(seed ^ 0xe7_e275), &EXTENTS_IN_ONODES),
            pause_us: pick(rng, &[0, 50, 2000]),
            cleaning: true,
            discards: false,
            first_bytes: None,
            program: None,
            is_faulty: false,
            famine: None,
        };
        // In some the rows are of few objects, so that graves are freed in several slices, and the window is long.
        if fastrand::Rng::with_seed(seed ^ 0x6_1a7e).u8(..10) == 0 {
            let mut plan = Self { objects: 2, keys: 900, bytes_max: 300, steps: plan.steps + 80, ..plan };
            plan.kinds.extend([Kind::OmapInsert, Kind::OmapInsert, Kind::OmapInsert, Kind::Remove]);
            return Self { disk_bytes: 6 << 20, window_segments: LONG_WINDOW, ..plan };
        }
        if is_wide {
            Self { objects: 30, keys: 900, steps: plan.steps + 60, bytes_max: 300, ..plan }
        } else {
            plan
        }
    }

    /// As [`Plan::of`], for the crash suite: the cleaner runs in three of four stores, and every third device has a use for
    /// discards.
    pub(super) fn of_crash(seed: u64) -> Self {
        Self { cleaning: !seed.is_multiple_of(4), discards: seed.is_multiple_of(3), ..Self::of(seed) }
    }

    /// One client on the smallest store, where a program is given or its rest is said.
    pub(super) fn small() -> Self {
        Self {
            clients: 1,
            pools: 1,
            steps: 0,
            objects: 2,
            keys: 60,
            kinds: vec![Kind::Touch],
            bytes_max: 9000,
            ops_max: 1,
            closes: true,
            rests: false,
            node_bytes: 4096,
            disk_bytes: 3 << 20,
            segment_bytes: SEGMENT_BYTES,
            window_segments: 4,
            memory_bytes: 4 << 20,
            data_cache_bytes: Some(0),
            bulk_bytes: 8192,
            lay_bytes: 64 << 10,
            inline_bytes: 64,
            inline_extents_bytes: INLINE_EXTENTS_BYTES,
            pause_us: 0,
            cleaning: true,
            discards: false,
            first_bytes: None,
            program: None,
            is_faulty: false,
            famine: None,
        }
    }

    /// A shorter program on the same store. A long window is too long for it, so that its mount trims.
    pub(super) fn again(&self, seed: u64) -> Self {
        let other = Self::of(seed);
        let steps = other.steps.min(12);
        let kept = self.clone();
        // A first record that takes most of a segment seldom fits where the mount said that the log goes on.
        let begins_large = fastrand::Rng::with_seed(seed ^ 0xbe_91).u8(..4) == 0;
        Self {
            first_bytes: begins_large.then_some(LARGE_BYTES),
            bulk_bytes: if begins_large { 2 * LARGE_BYTES } else { other.bulk_bytes },
            node_bytes: kept.node_bytes,
            disk_bytes: kept.disk_bytes,
            segment_bytes: kept.segment_bytes,
            window_segments: if kept.window_segments == LONG_WINDOW { 4 } else { kept.window_segments },
            pools: kept.pools,
            steps,
            ..other
        }
    }

    /// The limits of a store with the smallest segments, as the object model has them; others take more, which no program asks for.
    pub(super) fn limits() -> Limits {
        let part = SEGMENT_BYTES as usize / 8;
        Limits { attribute_bytes: part, header_bytes: part, omap_value_bytes: part, ..Limits::default() }
    }
}

/// Bytes that say which they are.
pub(super) fn stamped(stamp: u64, bytes: usize) -> Vec<u8> {
    let mut data = Vec::with_capacity(bytes.next_multiple_of(16));
    for place in 0..bytes.div_ceil(16) as u64 {
        data.extend_from_slice(&stamp.to_le_bytes());
        data.extend_from_slice(&(place ^ stamp.rotate_left(40)).to_le_bytes());
    }
    data.truncate(bytes);
    data
}

fn shared(bytes: impl AsRef<[u8]>) -> Bytes {
    bytes.as_ref().into()
}

/// A read and what it is of.
#[derive(Clone, Debug)]
pub(super) enum Read {
    Bytes(ObjectId, u64, u64),
    Stat(ObjectId),
    Attributes(ObjectId),
    Omap { id: ObjectId, from: Bytes, to: Option<Bytes>, limit: usize, direction: Direction },
    OmapKeys(ObjectId, Vec<Bytes>),
    List(Option<ObjectId>, usize),
}

/// What a client does next.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Submit(Vec<(ObjectId, Op)>),
    /// The same, and nobody waits for it.
    Abandon(Vec<(ObjectId, Op)>),
    /// A put, part by part; finished or dropped.
    Stream {
        id: ObjectId,
        parts: Vec<Vec<u8>>,
        attributes: Vec<(Bytes, Bytes)>,
        finishes: bool,
    },
    Read(Read),
}

/// Draws steps.
pub(super) struct Generator {
    pub(super) rng: fastrand::Rng,
    plan: Plan,
}

impl Generator {
    pub(super) fn new(seed: u64, plan: &Plan) -> Self {
        Self { rng: fastrand::Rng::with_seed(seed), plan: plan.clone() }
    }

    fn object(&mut self) -> ObjectId {
        // Names that are prefixes of one another, in two namespaces, some with the same hash, snapshots and generations.
        let number = self.rng.u32(..self.plan.objects);
        match number {
            0 => ObjectId::new("a"),
            1 => ObjectId::new("ab"),
            2 => ObjectId::in_namespace("a", "b"),
            3 => ObjectId::new("a").at(7, u64::MAX),
            4 => ObjectId::new([0, 255, 0]),
            5 => ObjectId::new("ab").with_hash(ObjectId::new("a").hash),
            6 => ObjectId::new("n".repeat(400)),
            7 => ObjectId::in_namespace("a", "b").at(u64::MAX, 3),
            _ => ObjectId::new(format!("object {number}")),
        }
    }

    fn size(&mut self) -> usize {
        let most = self.plan.bytes_max;
        match self.rng.u8(..8) {
            0 => 0,
            1 | 2 => self.rng.usize(..400.min(most)),
            3 => 4096.min(most),
            4 => 65536.min(most),
            _ => self.rng.usize(..most),
        }
    }

    fn offset(&mut self) -> u64 {
        let most = self.plan.bytes_max as u64;
        match self.rng.u8(..4) {
            0 => 0,
            1 => self.rng.u64(..=most) / 4096 * 4096,
            _ => self.rng.u64(..=most),
        }
    }

    fn data(&mut self, stamp: u64) -> Bytes {
        let size = self.size();
        shared(stamped(stamp << 8 | self.rng.u64(..256), size))
    }

    fn value(&mut self, stamp: u64) -> Bytes {
        let size = match self.rng.u8(..6) {
            0 => 0,
            1 => self.rng.usize(..8192),
            _ => self.rng.usize(..120),
        };
        shared(stamped(stamp, size.min(self.plan.bytes_max)))
    }

    fn name(&mut self) -> Bytes {
        shared(pick(&mut self.rng, &["x", "xy", "attribute", "\0", "user.comment"]))
    }

    fn key(&mut self) -> Bytes {
        match self.rng.u8(..8) {
            0 => shared("key"),
            1 => shared([0]),
            2 => shared("k".repeat(300)),
            _ => shared(format!("key {:03}", self.rng.u32(..self.plan.keys))),
        }
    }

    fn operation(&mut self, kind: Kind, stamp: u64) -> Vec<Op> {
        let op = match kind {
            Kind::Touch => Op::Touch,
            Kind::Create => Op::Create,
            Kind::Write => Op::Write(self.offset(), self.data(stamp)),
            Kind::Append => Op::Append(self.data(stamp)),
            Kind::Zero => Op::Zero(self.offset(), self.size() as u64),
            Kind::Truncate => Op::Truncate(self.offset()),
            Kind::Remove => Op::Remove,
            Kind::Put => {
                let mut put = vec![Op::Remove, Op::Write(0, self.data(stamp))];
                if self.rng.bool() {
                    put.push(Op::SetAttributes(vec![(self.name(), self.value(stamp))]));
                }
                return put;
            }
            Kind::SetAttributes => {
                let count = self.rng.usize(1..4);
                Op::SetAttributes((0..count).map(|_| (self.name(), self.value(stamp))).collect())
            }
            Kind::RemoveAttribute => Op::RemoveAttribute(self.name()),
            Kind::OmapInsert => {
                let count = pick(&mut self.rng, &[1, 2, 5, 40]);
                let most = if count > 5 { 60 } else { usize::MAX };
                let mut value = || {
                    let value = self.value(stamp);
                    shared(&value[..value.len().min(most)])
                };
                let values: Vec<Bytes> = (0..count).map(|_| value()).collect();
                Op::OmapInsert(values.into_iter().map(|value| (self.key(), value)).collect())
            }
            Kind::OmapRemove => Op::OmapRemove((0..self.rng.usize(1..5)).map(|_| self.key()).collect()),
            Kind::OmapRemoveRange => {
                let (one, two) = (self.key(), self.key());
                Op::OmapRemoveRange(one.clone().min(two.clone()), one.max(two))
            }
            Kind::OmapClear => Op::OmapClear,
            Kind::OmapHeader => Op::OmapSetHeader(self.value(stamp)),
            Kind::Hint => Op::SetHint(Hint {
                object_bytes: stamp,
                write_bytes: self.rng.u64(..5000),
                flags: self.rng.u32(..1024),
            }),
            Kind::Illegal => match self.rng.u8(..5) {
                0 => Op::Write(u64::MAX - 5, shared("too far")),
                1 => Op::SetHint(Hint { flags: 1 << 20, ..Hint::default() }),
                2 => Op::OmapRemoveRange(shared("b"), shared("a")),
                3 => Op::SetAttributes(vec![(shared("large"), shared(vec![1; 70_000]))]),
                _ => Op::OmapInsert(vec![(shared(""), shared("no key"))]),
            },
            Kind::Expect
            | Kind::Empty
            | Kind::Stream
            | Kind::StreamDropped
            | Kind::Abandoned
            | Kind::Bytes
            | Kind::Whole
            | Kind::Stat
            | Kind::Attributes
            | Kind::Omap
            | Kind::OmapKeys
            | Kind::List => Op::Expect(match self.rng.u8(..5) {
                0 => Condition::Exists,
                1 => Condition::Absent,
                2 => Condition::Size(self.offset()),
                3 => Condition::Attribute(self.name(), None),
                _ => Condition::Omap(self.key(), None),
            }),
        };
        vec![op]
    }

    fn transaction(&mut self, first: Kind, stamp: u64) -> Vec<(ObjectId, Op)> {
        let mut object = self.object();
        let mut transaction = Vec::new();
        let mut kind = first;
        for number in 0..self.rng.usize(1..=self.plan.ops_max) as u64 {
            let ops = self.operation(kind, stamp << 4 | number);
            transaction.extend(ops.into_iter().map(|op| (object.clone(), op)));
            let operations: Vec<Kind> =
                self.plan.kinds.iter().copied().filter(|kind| kind.is_operation()).collect();
            kind = pick(&mut self.rng, &operations);
            if self.rng.u8(..3) == 0 {
                object = self.object();
            }
        }
        transaction
    }

    /// A write of so many bytes.
    pub(super) fn write_of(&mut self, bytes: usize, stamp: u64) -> Step {
        Step::Submit(vec![(self.object(), Op::Write(0, shared(stamped(stamp << 8, bytes))))])
    }

    /// The next step; `stamp` is unlike that of any other step.
    pub(super) fn step(&mut self, stamp: u64) -> Step {
        let kind = pick(&mut self.rng, &self.plan.kinds.clone());
        match kind {
            Kind::Empty => Step::Submit(Vec::new()),
            Kind::Abandoned => {
                let object = self.object();
                Step::Abandon(vec![(object, Op::Write(self.offset(), shared(stamped(stamp, 100))))])
            }
            Kind::Stream | Kind::StreamDropped => {
                let parts = self.rng.usize(1..5);
                let parts = (0..parts as u64)
                    .map(|part| {
                        let size = self.size();
                        // Now and then a part is left out: it is a hole of the stream.
                        if stamp.is_multiple_of(4) && part % 2 == 1 {
                            vec![0; size]
                        } else {
                            stamped(stamp << 4 | part, size)
                        }
                    })
                    .collect();
                let attributes =
                    if self.rng.bool() { vec![(self.name(), self.value(stamp))] } else { Vec::new() };
                Step::Stream { id: self.object(), parts, attributes, finishes: kind == Kind::Stream }
            }
            Kind::Bytes => Step::Read(Read::Bytes(self.object(), self.offset(), self.size() as u64)),
            Kind::Whole => Step::Read(Read::Bytes(self.object(), 0, 1 << 40)),
            Kind::Stat => Step::Read(Read::Stat(self.object())),
            Kind::Attributes => Step::Read(Read::Attributes(self.object())),
            Kind::Omap => {
                let direction = if self.rng.bool() { Direction::Up } else { Direction::Down };
                let (one, two) = (self.key(), self.key());
                let to = self.rng.bool().then(|| one.clone().max(two.clone()));
                let from = if self.rng.bool() { one.min(two) } else { Arc::default() };
                Step::Read(Read::Omap {
                    id: self.object(),
                    from,
                    to,
                    limit: self.rng.usize(1..50),
                    direction,
                })
            }
            Kind::OmapKeys => Step::Read(Read::OmapKeys(self.object(), (0..3).map(|_| self.key()).collect())),
            Kind::List => {
                let from = self.rng.bool().then(|| self.object());
                Step::Read(Read::List(from, self.rng.usize(1..12)))
            }
            Kind::Touch
            | Kind::Create
            | Kind::Write
            | Kind::Append
            | Kind::Zero
            | Kind::Truncate
            | Kind::Remove
            | Kind::Put
            | Kind::SetAttributes
            | Kind::RemoveAttribute
            | Kind::OmapInsert
            | Kind::OmapRemove
            | Kind::OmapRemoveRange
            | Kind::OmapClear
            | Kind::OmapHeader
            | Kind::Hint
            | Kind::Expect
            | Kind::Illegal => Step::Submit(self.transaction(kind, stamp)),
        }
    }
}
