//! Log: records in segments, checkpoints in two slots, mounts and reuse, as the rules L, C, E1 and S say.
//!
//! One shard has 14 segments of eight cells; a cell holds a record's header, a piece of data, a leaf's image or a copy of
//! a checkpoint's body. Eight keys lie in two leaves. So segments roll, are emptied and used again every few steps. A
//! step writes (inside a record or ahead of it), moves a piece, logs again, writes a record to the device, or checkpoints.
//! Records fail, with their bytes there or not; at any moment the process is killed or the power cut; then one record,
//! slot or body may rot, or, of a store at rest, the last records be lost; mounts are cut off too.
//!
//! After each mount: the state is that after a prefix of the transactions which has all that were acknowledged, and so none
//! is there by half; every row's piece is what the row says; live counts are exact; rot is reported, but for that of the
//! last record of a log that is not at rest, which may be taken for torn.
//!
//! Left out: shards, transfers, trees of more than leaves, eviction, read errors, full devices.

mod device;
mod mount;
mod shard;

use std::collections::BTreeMap;
use std::rc::Rc;

use device::{Cell, Device, Place};
use shard::Shard;

const KEYS: u32 = 8;
const SEGMENTS: u32 = 14;
const CELLS: u32 = 8;
const STEPS: u32 = 300;

/// A rule that is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Off {
    /// L2: a record waits for no flush of what it points to outside itself.
    FlushOutside,
    /// L3: the data of the last record is not looked at.
    LastData,
    /// L5: the next journal segment is known in memory only.
    ClaimInLog,
    /// L7: what empties a segment is believed when it is durable, not when that is provable.
    Provable,
    /// C1: counts are those of P, not of E.
    CountsOfEnd,
    /// C2: the body names only the first segment of the window.
    WindowInBody,
    /// C3: slots are written without waiting for the body and what is before it.
    BodyDurable,
    /// C3: one copy of the body.
    BodyTwice,
    /// C3: both slots are written, then there is one flush.
    SlotsOneByOne,
    /// C3: the old images, window and body are given up with the first slot.
    HeldUntilBoth,
    /// C4: P is E, though older changes are pending.
    OldestPending,
    /// C6: only the newest cut is kept.
    Cuts,
    /// C8: nothing behind an invalid record is looked at.
    Search,
    /// C10: slots state nothing of where the log ends.
    EndStated,
    /// C10: what a slot states is not durable yet.
    StatedDurable,
    /// E1: a mount in place believes whatever it finds.
    KnownDurable,
    /// S2: minuses are believed when applied.
    MinusWhenProvable,
    /// S3: what is written ahead holds no segment.
    Held,
}

impl Off {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::FlushOutside,
        Self::LastData,
        Self::ClaimInLog,
        Self::Provable,
        Self::CountsOfEnd,
        Self::WindowInBody,
        Self::BodyDurable,
        Self::BodyTwice,
        Self::SlotsOneByOne,
        Self::HeldUntilBoth,
        Self::OldestPending,
        Self::Cuts,
        Self::Search,
        Self::EndStated,
        Self::StatedDurable,
        Self::KnownDurable,
        Self::MinusWhenProvable,
        Self::Held,
    ];
}

/// Segment and cell.
type Addr = (u32, u32);
/// Where a key's piece is, and which transaction wrote it.
type Rows = BTreeMap<u32, (Addr, u32)>;
/// Key to transaction.
type State = BTreeMap<u32, u32>;

/// A record; its data is in the cells behind it.
#[derive(PartialEq, Debug)]
struct Record {
    /// Unlike that of any other record: the crc of its header.
    id: u64,
    previous: u64,
    at: Addr,
    incarnation: u32,
    epoch: u64,
    lsn: u64,
    data: Vec<Cell>,
    deltas: Rows,
    live: Vec<(u32, i64)>,
    /// The journal segment after this one.
    claim: Option<(u32, u32)>,
}

/// A journal segment of a window: its number, incarnation, first lsn.
#[derive(Clone, Copy, PartialEq, Debug)]
struct InWindow {
    segment: u32,
    incarnation: u32,
    first: u64,
}

#[derive(PartialEq, Debug)]
struct Body {
    sequence: u64,
    end: u64,
    start: u64,
    start_at: Addr,
    start_previous: u64,
    window: Vec<InWindow>,
    next: Option<(u32, u32)>,
    leaves: [Option<Addr>; 2],
    live: Vec<i64>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Cut {
    lsn: u64,
    epoch: u64,
    at: Addr,
    incarnation: u32,
}

#[derive(Clone, PartialEq, Debug)]
struct Slot {
    sequence: u64,
    epoch: u64,
    end: u64,
    body_sequence: u64,
    body: [Addr; 2],
    cuts: Vec<Cut>,
    /// C10: all records below are durable.
    durable: u64,
}

/// Why a step ends early.
enum Stop {
    Crash,
    /// No segment is free; nothing was done.
    Full,
    Violation(String),
}

/// What a run met, to show that it got there.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Met {
    /// Mounts after a crash.
    pub mounts: u64,
    /// Mounts in place after a record failed.
    pub mounts_in_place: u64,
    /// Rot that a mount reported.
    pub reported: u64,
    /// Torn ends that a mount cut.
    pub torn: u64,
    /// Checkpoints whose both slots were written.
    pub checkpoints: u64,
    /// Crashes inside a mount.
    pub in_mount: u64,
    /// Stores at rest whose last records were lost.
    pub lost_ends: u64,
}

/// What rots: a record with a successor, the last record, records from one to the end of a log at rest, or a slot or a copy
/// of a body.
enum Rot {
    Middle,
    Last,
    End,
    Copy,
}

struct Model {
    rng: fastrand::Rng,
    off: Option<Off>,
    device: Device,
    shard: Shard,
    /// The state after each transaction, in log order.
    history: Vec<State>,
    /// So many of them are acknowledged.
    acknowledged: usize,
    stamp: u32,
    record_ids: u64,
    incarnations: BTreeMap<u32, u32>,
    crash_per_mille: u32,
    rotten: Option<(Vec<(Place, Cell)>, Rot)>,
    met: Met,
}

/// One random run with a rule off, or none.
pub fn run(seed: u64, off: Option<Off>) -> Result<Met, String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let crash_per_mille = [5, 20, 50][rng.usize(..3)];
    let mut model = Model {
        rng,
        off,
        device: Device::default(),
        shard: Shard::default(),
        history: vec![State::new()],
        acknowledged: 0,
        stamp: 0,
        record_ids: 0,
        incarnations: BTreeMap::new(),
        crash_per_mille,
        rotten: None,
        met: Met::default(),
    };
    model.format();
    for step in 0..STEPS {
        let ran = if step + 1 == STEPS { Err(Stop::Crash) } else { model.step() };
        let ran = match ran {
            Err(Stop::Crash) => model.crash(),
            ran => ran,
        };
        match ran {
            Ok(()) | Err(Stop::Full | Stop::Crash) => {}
            Err(Stop::Violation(what)) => return Err(format!("step {step}: {what}")),
        }
    }
    Ok(model.met)
}

impl Model {
    fn is_off(&self, rule: Off) -> bool {
        self.off == Some(rule)
    }

    fn chance(&mut self, per_mille: u32) -> bool {
        self.rng.u32(..1000) < per_mille
    }

    fn maybe_crash(&mut self) -> Result<(), Stop> {
        if self.chance(self.crash_per_mille * 3) { Err(Stop::Crash) } else { Ok(()) }
    }

    fn format(&mut self) {
        let window = vec![InWindow { segment: 1, incarnation: 1, first: 0 }];
        let body = Rc::new(Body {
            sequence: 1,
            end: 0,
            start: 0,
            start_at: (1, 1),
            start_previous: 0,
            window,
            next: None,
            leaves: [None; 2],
            live: vec![0; SEGMENTS as usize + 1],
        });
        let copies = [(2, 1), (3, 1)];
        for at in copies {
            self.device.write_durable(Place::Cell(at), Cell::Body(Rc::clone(&body)));
        }
        let cuts = vec![Cut { lsn: 0, epoch: 0, at: (1, 1), incarnation: 1 }];
        let slot = Slot { sequence: 1, epoch: 0, end: 0, body_sequence: 1, body: copies, cuts, durable: 0 };
        let slot = Rc::new(slot);
        for copy in 0..2 {
            self.device.write_durable(Place::Slot(copy), Cell::Slot(Rc::clone(&slot)));
        }
        self.incarnations.extend((1..=3).map(|segment| (segment, 1)));
        // The first mount, which nothing disturbs: from it on the slots name the epoch.
        let crash_per_mille = std::mem::take(&mut self.crash_per_mille);
        assert!(self.mount().is_ok(), "an empty store can be mounted");
        self.crash_per_mille = crash_per_mille;
    }

    fn step(&mut self) -> Result<(), Stop> {
        if self.chance(self.crash_per_mille) {
            return Err(Stop::Crash);
        }
        let is_tight = self.free().len() < 6;
        if self.chance(if is_tight { 300 } else { 50 }) {
            return self.checkpoint();
        }
        if is_tight && self.chance(500) {
            return self.relocate();
        }
        if self.chance(5) {
            return self.rest();
        }
        self.small_step()
    }

    /// What goes on while a checkpoint's slots are written.
    fn small_step(&mut self) -> Result<(), Stop> {
        match self.rng.u32(..20) {
            0..5 => self.write(),
            5..8 => self.prepare(),
            8..11 => self.submit(),
            11 => self.relocate(),
            12 => self.log_again(),
            _ => self.log_step(),
        }
    }

    /// All that was logged becomes durable, the slots state it, and the process ends. Then the last records may be lost.
    fn rest(&mut self) -> Result<(), Stop> {
        while !self.shard.queue.is_empty() && !self.is_off(Off::StatedDurable) {
            self.log_step()?;
        }
        self.write_slots(None::<fn(&mut Self)>)?;
        self.lose_end();
        Err(Stop::Crash)
    }

    /// The shard stops where it is; kill or power cut; something may rot; and a mount, again until it ends.
    fn crash(&mut self) -> Result<(), Stop> {
        self.scatter();
        if self.rng.bool() {
            self.device.cut_power(&mut self.rng);
        }
        if self.rotten.is_none() {
            self.rot();
        }
        loop {
            match self.mount() {
                Err(Stop::Crash) => {
                    self.met.in_mount += 1;
                    if self.rng.bool() {
                        self.device.cut_power(&mut self.rng);
                    }
                }
                ended => return ended,
            }
        }
    }
}
