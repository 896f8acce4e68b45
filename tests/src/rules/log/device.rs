//! Device of the log model: cells and slots, each durable, or cached and not sure to survive a power cut.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Addr, Body, Record, Rows, Slot};

/// Where something is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Place {
    Cell(Addr),
    Slot(usize),
}

/// What a cell or slot holds; each is written as a whole or torn.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Cell {
    Record(Rc<Record>),
    Data { key: u32, stamp: u32 },
    Leaf(Rc<Rows>),
    Body(Rc<Body>),
    Slot(Rc<Slot>),
    Rotten,
}

/// See the module.
#[derive(Default)]
pub(super) struct Device {
    durable: BTreeMap<Place, Cell>,
    /// In the order in which they were written.
    cached: BTreeMap<Place, Vec<Cell>>,
}

impl Device {
    pub(super) fn write(&mut self, at: Place, cell: Cell) {
        self.cached.entry(at).or_default().push(cell);
    }

    /// Durable by itself: what else is cached stays cached.
    pub(super) fn write_durable(&mut self, at: Place, cell: Cell) {
        self.cached.remove(&at);
        self.durable.insert(at, cell);
    }

    pub(super) fn read(&self, at: Place) -> Option<&Cell> {
        self.cached.get(&at).and_then(|cells| cells.last()).or_else(|| self.durable.get(&at))
    }

    pub(super) fn flush(&mut self) {
        for (at, mut cells) in std::mem::take(&mut self.cached) {
            self.durable.extend(cells.pop().map(|cell| (at, cell)));
        }
    }

    /// Of each cell one of the contents that it had since its durable one, or garbage.
    pub(super) fn cut_power(&mut self, rng: &mut fastrand::Rng) {
        for (at, mut cells) in std::mem::take(&mut self.cached) {
            let kept = rng.usize(..cells.len() + 2);
            if kept < cells.len() {
                self.durable.insert(at, cells.swap_remove(kept));
            } else if kept == cells.len() && rng.bool() {
                self.durable.insert(at, Cell::Rotten);
            }
        }
    }
}
