//! Shard of the log model: what it has in memory, and what it does while it serves.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::{Addr, Body, CELLS, Cell, Cut, InWindow, KEYS, Model, Off, Place, Record, Rows, SEGMENTS, Stop};

/// A leaf is in memory whole; `pending` has the newest record that changed a key since the image.
#[derive(Clone, Default)]
pub(super) struct Leaf {
    pub(super) rows: Rows,
    pub(super) pending: BTreeMap<u32, u64>,
    pub(super) image: Option<Addr>,
}

/// A record that is not durable yet.
pub(super) struct Queued {
    pub(super) record: Rc<Record>,
    held: Vec<u32>,
    /// How many transactions are done with it.
    done: Option<usize>,
}

/// Written ahead of its record.
pub(super) struct Prepared {
    stamp: u32,
    pieces: Vec<(u32, Addr)>,
}

/// Where a record of the window is.
#[derive(Clone, Copy)]
pub(super) struct Link {
    pub(super) lsn: u64,
    pub(super) at: Addr,
    pub(super) previous: u64,
    /// How many transactions are done with it, if that was not said before.
    pub(super) done: Option<usize>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Shard {
    pub(super) leaves: [Leaf; 2],
    pub(super) lsn: u64,
    /// Where the last mount ended.
    pub(super) mounted: u64,
    /// Records below are durable.
    pub(super) durable: u64,
    pub(super) previous: u64,
    pub(super) epoch: u64,
    pub(super) sequence: u64,
    pub(super) window: Vec<InWindow>,
    /// The next cell of the last segment of the window.
    pub(super) cell: u32,
    pub(super) next: Option<(u32, u32)>,
    pub(super) next_is_logged: bool,
    pub(super) queue: VecDeque<Queued>,
    pub(super) prepared: Vec<Prepared>,
    /// Live cells of each segment as the log says them.
    pub(super) live: Vec<i64>,
    /// The same with the minuses that are not provable left out.
    pub(super) provable: Vec<i64>,
    /// Those minuses, by the record that has them.
    pub(super) unproven: Vec<(u64, u32)>,
    pub(super) held: BTreeMap<u32, u32>,
    /// Of images and bodies, and of data.
    pub(super) streams: [Option<Addr>; 2],
    /// Segments that the bodies of the slots are in.
    pub(super) body: Vec<u32>,
    pub(super) body_places: [Addr; 2],
    pub(super) body_sequence: u64,
    pub(super) end: u64,
    pub(super) cuts: Vec<Cut>,
    /// Records from P on.
    pub(super) chain: Vec<Link>,
}

const NODES: usize = 0;
const DATA: usize = 1;
const FAIL_PER_MILLE: u32 = 15;

fn leaf_of(key: u32) -> usize {
    usize::from(key >= KEYS / 2)
}

impl Model {
    pub(super) fn free(&self) -> Vec<u32> {
        let shard = &self.shard;
        let is_free = |segment: &u32| {
            shard.provable[*segment as usize] == 0
                && shard.held.get(segment).is_none_or(|count| *count == 0)
                && shard.window.iter().all(|one| one.segment != *segment)
                && shard.next.is_none_or(|(next, _)| next != *segment)
                && shard.streams.iter().flatten().all(|(open, _)| open != segment)
                && !shard.body.contains(segment)
        };
        (1..=SEGMENTS).filter(is_free).collect()
    }

    pub(super) fn claim(&mut self, leave: usize) -> Result<(u32, u32), Stop> {
        let free = self.free();
        if free.len() <= leave {
            return Err(Stop::Full);
        }
        let segment = free[self.rng.usize(..free.len())];
        let incarnation = self.incarnations.entry(segment).or_default();
        *incarnation += 1;
        Ok((segment, *incarnation))
    }

    /// The next cell of a stream, held until a record refers to it.
    fn place(&mut self, stream: usize) -> Result<Addr, Stop> {
        let (segment, cell) = match self.shard.streams[stream] {
            Some((segment, cell)) if cell < CELLS => (segment, cell),
            _ => (self.claim(1)?.0, 1),
        };
        self.shard.streams[stream] = Some((segment, cell + 1));
        if !self.is_off(Off::Held) {
            *self.shard.held.entry(segment).or_default() += 1;
        }
        Ok((segment, cell))
    }

    fn let_go(&mut self, segments: &[u32]) {
        for segment in segments {
            if let Some(held) = self.shard.held.get_mut(segment) {
                *held = held.saturating_sub(1);
            }
        }
    }

    /// Where a record of so many cells goes: rolls to the claimed segment if it must, and claims the one after that.
    fn spot(&mut self, cells: u32) -> Result<Addr, Stop> {
        if self.shard.cell + cells > CELLS {
            let Some((segment, incarnation)) = self.shard.next else { return Err(Stop::Full) };
            self.shard.next = None;
            self.shard.window.push(InWindow { segment, incarnation, first: self.shard.lsn });
            self.shard.cell = 1;
        }
        if self.shard.next.is_none() {
            self.shard.next = Some(self.claim(0)?);
            self.shard.next_is_logged = false;
        }
        let last = self.shard.window.last().expect("never empty");
        Ok((last.segment, self.shard.cell))
    }

    /// Queues a record at its spot and applies its counts.
    fn log(
        &mut self,
        deltas: Rows,
        live: Vec<(u32, i64)>,
        data: Vec<Cell>,
        (held, done): (Vec<u32>, Option<usize>),
    ) {
        self.record_ids += 1;
        let (is_applied, hides_claim) = (self.is_off(Off::MinusWhenProvable), self.is_off(Off::ClaimInLog));
        let shard = &mut self.shard;
        let last = *shard.window.last().expect("never empty");
        let at = (last.segment, shard.cell);
        shard.cell += 1 + u32::try_from(data.len()).expect("few");
        let claim = shard.next.filter(|_| !shard.next_is_logged && !hides_claim);
        shard.next_is_logged = true;
        for (segment, change) in &live {
            shard.live[*segment as usize] += change;
            if *change > 0 || is_applied {
                shard.provable[*segment as usize] += change;
            } else {
                shard.unproven.push((shard.lsn, *segment));
            }
        }
        let record = Record {
            id: self.record_ids,
            previous: shard.previous,
            at,
            incarnation: last.incarnation,
            epoch: shard.epoch,
            lsn: shard.lsn,
            data,
            deltas,
            live,
            claim,
        };
        shard.chain.push(Link { lsn: record.lsn, at, previous: record.previous, done });
        (shard.previous, shard.lsn) = (record.id, shard.lsn + 1);
        shard.queue.push_back(Queued { record: Rc::new(record), held, done });
    }

    /// Changes rows: what their record says.
    fn change(&mut self, pieces: &[(u32, Addr)], stamp: impl Fn(u32) -> u32) -> (Rows, Vec<(u32, i64)>) {
        let (mut deltas, mut live) = (Rows::new(), Vec::new());
        for (key, at) in pieces {
            let row = (*at, stamp(*key));
            let leaf = &mut self.shard.leaves[leaf_of(*key)];
            if let Some((old, _)) = leaf.rows.insert(*key, row) {
                live.push((old.0, -1));
            }
            leaf.pending.insert(*key, self.shard.lsn);
            deltas.insert(*key, row);
            live.push((at.0, 1));
        }
        (deltas, live)
    }

    fn done(&mut self, keys: &[(u32, Addr)], stamp: u32) -> usize {
        let mut state = self.history.last().expect("never empty").clone();
        state.extend(keys.iter().map(|(key, _)| (*key, stamp)));
        self.history.push(state);
        self.history.len() - 1
    }

    fn keys(&mut self) -> Vec<u32> {
        let first = self.rng.u32(..KEYS);
        if self.rng.bool() { vec![first] } else { vec![first, (first + 1 + self.rng.u32(..KEYS - 1)) % KEYS] }
    }

    fn has_room(&self) -> bool {
        self.free().len() > 3
    }

    /// A transaction whose data is in its record.
    pub(super) fn write(&mut self) -> Result<(), Stop> {
        if !self.has_room() {
            return Ok(());
        }
        let keys = self.keys();
        self.stamp += 1;
        let stamp = self.stamp;
        let (segment, cell) = self.spot(1 + u32::try_from(keys.len()).expect("few"))?;
        let pieces: Vec<(u32, Addr)> =
            (cell + 1..).zip(keys).map(|(cell, key)| (key, (segment, cell))).collect();
        let data = pieces.iter().map(|(key, _)| Cell::Data { key: *key, stamp }).collect();
        let (deltas, live) = self.change(&pieces, |_| stamp);
        let done = self.done(&pieces, stamp);
        self.log(deltas, live, data, (Vec::new(), Some(done)));
        Ok(())
    }

    /// The data of a transaction is written ahead of its record.
    pub(super) fn prepare(&mut self) -> Result<(), Stop> {
        if !self.has_room() || self.shard.prepared.len() > 2 {
            return Ok(());
        }
        self.stamp += 1;
        let mut pieces = Vec::new();
        for key in self.keys() {
            let at = self.place(DATA)?;
            self.device.write(Place::Cell(at), Cell::Data { key, stamp: self.stamp });
            pieces.push((key, at));
        }
        self.shard.prepared.push(Prepared { stamp: self.stamp, pieces });
        Ok(())
    }

    /// Its record.
    pub(super) fn submit(&mut self) -> Result<(), Stop> {
        if self.shard.prepared.is_empty() {
            return Ok(());
        }
        self.spot(1)?;
        let Prepared { stamp, pieces } = self.shard.prepared.remove(0);
        self.flush_outside();
        let (deltas, live) = self.change(&pieces, |_| stamp);
        let done = self.done(&pieces, stamp);
        let held = pieces.iter().map(|(_, at)| at.0).collect();
        self.log(deltas, live, Vec::new(), (held, Some(done)));
        Ok(())
    }

    fn flush_outside(&mut self) {
        if !self.is_off(Off::FlushOutside) {
            self.device.flush();
        }
    }

    /// Moves a piece.
    pub(super) fn relocate(&mut self) -> Result<(), Stop> {
        let key = self.rng.u32(..KEYS);
        let Some((_, stamp)) = self.shard.leaves[leaf_of(key)].rows.get(&key).copied() else { return Ok(()) };
        self.spot(1)?;
        let at = self.place(DATA)?;
        self.device.write(Place::Cell(at), Cell::Data { key, stamp });
        self.flush_outside();
        let (deltas, live) = self.change(&[(key, at)], |_| stamp);
        self.log(deltas, live, Vec::new(), (vec![at.0], None));
        Ok(())
    }

    /// Logs a leaf's pending changes again, so that P may pass the old ones.
    pub(super) fn log_again(&mut self) -> Result<(), Stop> {
        self.spot(1)?;
        let leaf = &mut self.shard.leaves[self.rng.usize(..2)];
        let deltas: Rows = leaf.pending.keys().map(|key| (*key, leaf.rows[key])).collect();
        for lsn in leaf.pending.values_mut() {
            *lsn = self.shard.lsn;
        }
        self.log(deltas, Vec::new(), Vec::new(), (Vec::new(), None));
        Ok(())
    }

    /// The oldest record that is not durable becomes so, or fails.
    pub(super) fn log_step(&mut self) -> Result<(), Stop> {
        if self.shard.queue.is_empty() {
            return Ok(());
        }
        if self.chance(FAIL_PER_MILLE) {
            self.scatter();
            return self.mount_in_place();
        }
        let Queued { record, held, done } = self.shard.queue.pop_front().expect("not empty");
        for (cell, content) in (record.at.1 + 1..).zip(&record.data) {
            self.device.write_durable(Place::Cell((record.at.0, cell)), content.clone());
        }
        self.device.write_durable(Place::Cell(record.at), Cell::Record(Rc::clone(&record)));
        self.shard.durable = record.lsn + 1;
        self.let_go(&held);
        self.acknowledged = done.unwrap_or(self.acknowledged);
        // A record proves those before it.
        self.prove(record.lsn + u64::from(self.is_off(Off::Provable)));
        Ok(())
    }

    /// Believes the minuses of records below an lsn.
    pub(super) fn prove(&mut self, below: u64) {
        let shard = &mut self.shard;
        for (_, segment) in shard.unproven.extract_if(.., |(lsn, _)| *lsn < below) {
            shard.provable[segment as usize] -= 1;
        }
    }

    /// The record in flight, if there is one, leaves what it may leave.
    pub(super) fn scatter(&mut self) {
        let Some(queued) = self.shard.queue.front() else { return };
        let record = Rc::clone(&queued.record);
        let first = [(record.at, Cell::Record(Rc::clone(&record)))];
        let data = (record.at.1 + 1..).map(|cell| (record.at.0, cell)).zip(record.data.iter().cloned());
        let share = [0, 500, 500, 1000][self.rng.usize(..4)];
        for (at, content) in first.into_iter().chain(data) {
            if self.chance(share) {
                if self.rng.bool() {
                    self.device.write(Place::Cell(at), content);
                } else {
                    self.device.write_durable(Place::Cell(at), content);
                }
            }
        }
    }

    /// Images of leaves that have none, and of some others: the segments of those that they replace, and theirs.
    fn write_images(&mut self) -> Result<(Vec<u32>, Vec<u32>), Stop> {
        let (mut given_up, mut images) = (Vec::new(), Vec::new());
        for index in 0..2 {
            if self.shard.leaves[index].image.is_none() || self.rng.bool() {
                let at = self.place(NODES)?;
                let leaf = &mut self.shard.leaves[index];
                self.device.write(Place::Cell(at), Cell::Leaf(Rc::new(leaf.rows.clone())));
                given_up.extend(leaf.image.replace(at).map(|old| old.0));
                leaf.pending.clear();
                images.push(at.0);
            }
        }
        Ok((given_up, images))
    }

    /// Images of leaves, everything as of one moment E, the body twice, and the slots.
    pub(super) fn checkpoint(&mut self) -> Result<(), Stop> {
        if self.free().len() < 3 {
            return Err(Stop::Full);
        }
        let (given_up, images) = self.write_images()?;
        let copies = [self.place(NODES)?, self.place(DATA)?];
        let twice = if self.is_off(Off::BodyTwice) { [copies[0]; 2] } else { copies };
        let ignores_pending = self.is_off(Off::OldestPending);
        let names_no_window = self.is_off(Off::WindowInBody);
        let shard = &mut self.shard;
        for segment in &images {
            shard.live[*segment as usize] += 1;
            shard.provable[*segment as usize] += 1;
        }
        for segment in &given_up {
            shard.live[*segment as usize] -= 1;
        }
        let pending = shard.leaves.iter().flat_map(|leaf| leaf.pending.values().copied()).min();
        let start = pending.filter(|_| !ignores_pending).unwrap_or(shard.lsn);
        let last = shard.window.last().expect("never empty");
        let from = shard.chain.iter().find(|link| link.lsn == start);
        let at = ((last.segment, shard.cell), shard.previous);
        let (start_at, start_previous) = from.map_or(at, |link| (link.at, link.previous));
        let first =
            shard.window.iter().rposition(|one| one.segment == start_at.0).expect("it is in the window");
        let mut window = shard.window[first..].to_vec();
        let mut next = shard.next.filter(|_| shard.next_is_logged);
        if names_no_window {
            window.truncate(1);
            next = next.filter(|_| false);
        }
        let (end, reopened) = (shard.lsn, self.met.mounts_in_place);
        let body = Rc::new(Body {
            sequence: shard.sequence + 1,
            end,
            start,
            start_at,
            start_previous,
            window,
            next,
            leaves: [shard.leaves[0].image, shard.leaves[1].image],
            live: shard.live.clone(),
        });
        if !self.is_off(Off::BodyDurable) {
            while !self.shard.queue.is_empty() {
                self.log_step()?;
            }
            if self.met.mounts_in_place != reopened {
                // It began from another memory.
                return Ok(());
            }
        }
        for at in twice {
            self.device.write(Place::Cell(at), Cell::Body(Rc::clone(&body)));
        }
        if !self.is_off(Off::BodyDurable) {
            self.device.flush();
        }
        self.maybe_crash()?;
        let shard = &mut self.shard;
        let old_body = std::mem::take(&mut shard.body);
        shard.body = old_body.iter().copied().chain([copies[0].0, copies[1].0]).collect();
        (shard.end, shard.body_places, shard.body_sequence) = (end, twice, body.sequence);
        shard.cuts.retain(|cut| cut.lsn >= start);
        // The record at the first cut may have gone on in the next segment; the one before it is given up.
        if let Some(cut) = shard.cuts.iter_mut().find(|cut| cut.lsn == start) {
            (cut.at, cut.incarnation) = (start_at, body.window[0].incarnation);
        }
        let give_up = move |model: &mut Self| {
            model.let_go(&images);
            model.let_go(&[copies[0].0, copies[1].0]);
            for segment in &given_up {
                model.shard.provable[*segment as usize] -= 1;
            }
            model.prove(end);
            let shard = &mut model.shard;
            shard.body = vec![copies[0].0, copies[1].0];
            while shard.window.get(1).is_some_and(|second| second.first <= start) {
                shard.window.remove(0);
            }
            shard.chain.retain(|link| link.lsn >= start);
        };
        if self.write_slots(Some(give_up))? {
            self.met.checkpoints += 1;
        }
        Ok(())
    }
}
