//! Store: the three trees as ordered maps and a device as a map of stored bytes, with exact books of both.
//!
//! Every change is applied the way an engine would, and on the way it is checked that: bytes that are freed were stored,
//! wholly and once; each change twice is each change once; the changes merged since some moment make of the rows of that
//! moment the rows of now; usage and pieces are what the rows say. Rows and pieces can be made absent until loaded.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use seabed_object::read::{Part, ReadPlan};
use seabed_object::value::Value;
use seabed_object::{
    Change, Direction, Effects, EncodedChange, Limits, NewPiece, Outcome, PieceRef, Placed, Rows, Stop,
    Stored, Transaction, Usage, Visit, apply, execute, merge, pieces_of_row, usage_of_row,
};
use seabed_types::{Crc, Paddr, SegmentId, TreeKind};

pub(crate) type Tree = BTreeMap<Vec<u8>, Vec<u8>>;
type Key = (TreeKind, Vec<u8>);

const SEGMENT_BYTES: u32 = 1024 * 1024;

/// The row changes of effects and what they do to usage.
pub(crate) fn encoded(effects: &mut Effects, placed: &[Placed]) -> (Vec<EncodedChange>, Usage) {
    let mut rows = Vec::new();
    let usage = effects.encode(placed, |row| {
        rows.push(row);
        Ok::<(), std::convert::Infallible>(())
    });
    let Ok(usage) = usage;
    (rows, usage)
}

pub(crate) struct Store {
    pub(crate) limits: Limits,
    pub(crate) trees: [Tree; 3],
    /// Stored bytes by the place of their first: each chunk, each value.
    device: BTreeMap<Paddr, Bytes>,
    end: Paddr,
    pub(crate) next_id: u64,
    pub(crate) usage: Usage,
    /// One in so many rows and pieces is not in memory; 0: all are.
    pub(crate) absent_one_in: u64,
    salt: Cell<u64>,
    loaded: RefCell<BTreeSet<Vec<u8>>>,
    wanted: RefCell<BTreeSet<Vec<u8>>>,
    /// The trees some time ago, and all that changed since, one change per row.
    base: [Tree; 3],
    pending: BTreeMap<Key, Change>,
    pub(crate) rng: fastrand::Rng,
    pub(crate) rounds: u64,
    /// Keys looked up, and intervals visited.
    pub(crate) looked_up: RefCell<Vec<(TreeKind, Vec<u8>)>>,
}

impl Store {
    pub(crate) fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            trees: Default::default(),
            device: BTreeMap::new(),
            end: Paddr::new(SegmentId(1), 0),
            next_id: 1,
            usage: Usage::default(),
            absent_one_in: 0,
            salt: Cell::new(0),
            loaded: RefCell::default(),
            wanted: RefCell::default(),
            base: Default::default(),
            pending: BTreeMap::new(),
            rng: fastrand::Rng::with_seed(seed),
            rounds: 0,
            looked_up: RefCell::default(),
        }
    }

    pub(crate) fn tree(&self, tree: TreeKind) -> &Tree {
        &self.trees[tree as usize - 1]
    }

    /// Carries out a transaction, loading what is absent.
    pub(crate) fn execute(&mut self, txn: &Transaction, stored: &[Stored]) -> Outcome {
        self.looked_up.borrow_mut().clear();
        self.salt.set(self.salt.get() + 1);
        self.loaded.borrow_mut().clear();
        loop {
            let outcome = execute(self, txn, stored, self.next_id, &self.limits);
            if outcome != Outcome::Absent {
                assert!(self.wanted.borrow().is_empty(), "what is absent and met is told");
                if self.absent_one_in > 0 {
                    let absent_one_in = std::mem::take(&mut self.absent_one_in);
                    assert_eq!(outcome, execute(self, txn, stored, self.next_id, &self.limits));
                    self.absent_one_in = absent_one_in;
                }
                return outcome;
            }
            self.load();
        }
    }

    /// Asks again until nothing is absent.
    pub(crate) fn ask<T, E: From<Stop> + PartialEq>(
        &mut self,
        ask: impl Fn(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.salt.set(self.salt.get() + 1);
        self.loaded.borrow_mut().clear();
        loop {
            match ask(self) {
                Err(error) if error == Stop::Absent.into() => self.load(),
                answer => {
                    // Draining goes on with what it has, and leaves the rest for the next slice.
                    self.wanted.borrow_mut().clear();
                    return answer;
                }
            }
        }
    }

    fn load(&mut self) {
        self.looked_up.borrow_mut().clear();
        let wanted = std::mem::take(&mut *self.wanted.borrow_mut());
        assert!(!wanted.is_empty(), "absent, and nothing to load");
        self.rounds += 1;
        self.loaded.borrow_mut().extend(wanted);
    }

    fn check_memory(&self, what: Vec<u8>) -> Result<(), Stop> {
        if self.absent_one_in == 0 || self.loaded.borrow().contains(&what) {
            return Ok(());
        }
        let luck = u64::from(Crc::of(&what).append(&self.salt.get().to_le_bytes()).0);
        if luck % self.absent_one_in != 0 {
            return Ok(());
        }
        self.wanted.borrow_mut().insert(what);
        Err(Stop::Absent)
    }

    /// Stores bytes in a place of their own.
    pub(crate) fn place(&mut self, piece: &NewPiece) -> Placed {
        let bytes = u32::try_from(piece.data.len()).expect("small");
        let segments = self.rng.u32(..8) == 0 || self.end.offset + bytes + 8192 > SEGMENT_BYTES;
        if segments {
            self.end = Paddr::new(SegmentId(self.end.segment.0 + 1), 0);
        }
        if piece.is_aligned() {
            self.end.offset = self.end.offset.next_multiple_of(4096);
        } else if self.rng.bool() {
            self.end.offset += self.rng.u32(..100);
        }
        let (at, crcs) = (self.end, piece.sum());
        match crcs.len() {
            1 => assert!(self.device.insert(at, piece.data.clone()).is_none()),
            _ => {
                for (index, chunk) in (0u32..).zip(piece.data.chunks(4096)) {
                    let old = self.device.insert(at.plus(index * 4096), piece.data.slice_ref(chunk));
                    assert!(old.is_none());
                }
            }
        }
        self.end = at.plus(bytes);
        Placed { at, crcs }
    }

    /// Gives back those of the bytes that a plan stored which nothing in `used` points to.
    pub(crate) fn free_unused(&mut self, at: Paddr, bytes: u32, used: &BTreeSet<Paddr>) {
        let range = self.device.range(at..at.plus(bytes)).map(|(at, _)| *at);
        for unused in range.filter(|at| !used.contains(at)).collect::<Vec<_>>() {
            self.device.remove(&unused);
        }
    }

    /// Gives back bytes that were stored.
    fn free(&mut self, at: Paddr, bytes: u32) {
        let mut offset = 0;
        while offset < bytes {
            let chunk = self.device.remove(&at.plus(offset)).expect("freed bytes were stored");
            offset += u32::try_from(chunk.len()).expect("small");
        }
        assert_eq!(offset, bytes, "whole chunks are freed");
    }

    /// Applies effects as an engine would, checking the books. Gives what the changed rows point to now.
    pub(crate) fn apply(&mut self, mut effects: Effects) -> BTreeSet<Paddr> {
        assert!(effects.delta_bytes_max() <= self.limits.record_bytes_max);
        for piece in &effects.pieces {
            assert!(!piece.data.is_empty());
            assert_ne!(effects.rows[piece.row].tree, TreeKind::Graves);
        }
        let pieces = effects.pieces.clone();
        let placed: Vec<Placed> = pieces.iter().map(|piece| self.place(piece)).collect();
        let bound = effects.delta_bytes_max();
        let (rows, usage) = encoded(&mut effects, &placed);
        assert!(rows.is_sorted_by_key(|row| row.change == Change::Gone), "removals come last");
        let mut delta_bytes = 0;
        let (mut before, mut after, mut named) = (Books::default(), Books::default(), BTreeSet::new());
        let mut placed_by_rows = Vec::new();
        for row in rows {
            let key = row.key.to_vec();
            assert!(key.len() <= self.limits.key_bytes_max());
            assert!(named.insert((row.tree, key.clone())), "each row once");
            delta_bytes += key.len()
                + match &row.change {
                    Change::Set(value) | Change::Patch(value) => value.len(),
                    Change::Gone => 0,
                };
            let old = self.tree(row.tree).get(&key).cloned();
            assert!(old.is_some() || row.change != Change::Gone, "nothing goes that was not there");
            let new = apply(old.as_deref(), &row.change).expect("good bytes");
            assert_eq!(apply(new.as_deref(), &row.change).as_ref(), Ok(&new), "twice is once");
            if let Some(new) = &new {
                assert!(
                    new.len() <= self.limits.row_value_bytes_max(),
                    "a value is at most an eighth of a node"
                );
            }
            before.add(row.tree, &key, old.as_deref());
            after.add(row.tree, &key, new.as_deref());
            placed_by_rows.extend(row.pieces.iter().copied());
            let merged = match self.pending.get(&(row.tree, key.clone())) {
                Some(older) => merge(older, &row.change).expect("good bytes"),
                None => row.change.clone(),
            };
            self.pending.insert((row.tree, key.clone()), merged);
            let tree = &mut self.trees[row.tree as usize - 1];
            match new {
                Some(new) => tree.insert(key, new),
                None => tree.remove(&key),
            };
        }
        assert!(delta_bytes <= bound, "the bound of the deltas holds");
        assert_eq!(usage, after.usage.minus(before.usage), "usage is what the rows say");
        assert_eq!(
            runs(effects.freed.iter().copied()),
            before.without(&after),
            "freed is what no row points to now"
        );
        assert_eq!(runs(placed_by_rows), after.without(&before), "placed is what rows point to only now");
        for (at, bytes) in &effects.freed {
            self.free(*at, *bytes);
        }
        self.usage = self.usage.plus(usage);
        self.next_id = self.next_id.max(effects.next_id);
        after.pieces.into_iter().map(|(at, _)| at).collect()
    }

    /// Recomputes everything from the rows.
    pub(crate) fn check(&mut self) {
        let mut books = Books::default();
        for tree in TreeKind::ALL {
            for (key, value) in self.tree(tree) {
                books.add(tree, key, Some(value));
            }
        }
        assert_eq!(self.usage, books.usage);
        let stored: u64 = self.device.values().map(|bytes| bytes.len() as u64).sum();
        assert_eq!(stored, books.usage.allocated.cast_unsigned(), "what is stored is pointed to");
        for (key, change) in std::mem::take(&mut self.pending) {
            let tree = &mut self.base[key.0 as usize - 1];
            match apply(tree.get(&key.1).map(|value| &value[..]), &change).expect("good bytes") {
                Some(value) => tree.insert(key.1, value),
                None => tree.remove(&key.1),
            };
        }
        assert_eq!(self.base, self.trees, "merged changes make the rows of now");
    }

    /// Loads what a plan says.
    pub(crate) fn load_plan(&self, plan: ReadPlan) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in plan.parts {
            match part {
                Part::Zeros(zeros) => bytes.resize(bytes.len() + usize::try_from(zeros).expect("small"), 0),
                Part::Inline(inline) => bytes.extend_from_slice(&inline),
                Part::Run(run) => {
                    let mut of_run = Vec::new();
                    for (index, crc) in (0u32..).zip(&run.crcs) {
                        let piece = PieceRef {
                            at: run.at.plus(index * 4096),
                            bytes: (run.bytes - index * 4096).min(4096),
                            crc: *crc,
                        };
                        of_run.extend_from_slice(&self.stored(&piece));
                    }
                    assert_eq!(of_run.len(), run.bytes as usize);
                    bytes.extend_from_slice(&of_run[run.skip as usize..(run.skip + run.take) as usize]);
                }
            }
        }
        bytes
    }

    pub(crate) fn load_value(&self, value: &Value) -> Bytes {
        match value {
            Value::Inline(bytes) => bytes.clone(),
            Value::Stored(piece) => self.stored(piece),
        }
    }

    fn stored(&self, piece: &PieceRef) -> Bytes {
        let bytes = self.device.get(&piece.at).expect("a piece that is pointed to is stored").clone();
        assert_eq!((bytes.len(), Crc::of(&bytes)), (piece.bytes as usize, piece.crc));
        bytes
    }

    pub(crate) fn stored_count(&self) -> usize {
        self.device.len()
    }
}

impl Rows for Store {
    fn row(&self, tree: TreeKind, key: &[u8]) -> Result<Option<&[u8]>, Stop> {
        self.looked_up.borrow_mut().push((tree, key.to_vec()));
        self.check_memory([&[tree as u8], key].concat())?;
        Ok(self.tree(tree).get(key).map(|value| &value[..]))
    }

    fn rows(
        &self,
        tree: TreeKind,
        from: &[u8],
        to: Option<&[u8]>,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), Stop> {
        self.looked_up.borrow_mut().push((tree, from.to_vec()));
        assert!(to.is_none_or(|to| from <= to), "an interval");
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        let mut range = self.tree(tree).range::<[u8], _>((Bound::Included(from), to));
        while let Some((key, value)) = match direction {
            Direction::Forward => range.next(),
            Direction::Backward => range.next_back(),
        } {
            self.check_memory([&[tree as u8][..], key].concat())?;
            if visit(key, value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn piece(&self, piece: &PieceRef) -> Result<Bytes, Stop> {
        self.check_memory(piece.at.to_u64().to_le_bytes().to_vec())?;
        Ok(self.stored(piece))
    }
}

/// What rows point to, and their usage.
#[derive(Default)]
struct Books {
    usage: Usage,
    pieces: BTreeSet<(Paddr, u32)>,
}

impl Books {
    fn add(&mut self, tree: TreeKind, key: &[u8], value: Option<&[u8]>) {
        if let Some(value) = value {
            self.usage = self.usage.plus(usage_of_row(tree, key, value).expect("good bytes"));
            for piece in pieces_of_row(tree, key, value).expect("good bytes") {
                assert!(self.pieces.insert((piece.at, piece.bytes)), "each piece is pointed to once");
            }
        }
    }

    fn without(&self, others: &Self) -> Vec<(Paddr, u32)> {
        runs(self.pieces.difference(&others.pieces).copied())
    }
}

/// The same ranges, sorted, neighbours joined.
fn runs(ranges: impl IntoIterator<Item = (Paddr, u32)>) -> Vec<(Paddr, u32)> {
    let mut sorted: Vec<_> = ranges.into_iter().collect();
    sorted.sort_unstable();
    let mut runs: Vec<(Paddr, u32)> = Vec::new();
    for (at, bytes) in sorted {
        match runs.last_mut() {
            Some((last, length)) if last.segment == at.segment && last.offset + *length == at.offset => {
                *length += bytes;
            }
            _ => runs.push((at, bytes)),
        }
    }
    runs
}
