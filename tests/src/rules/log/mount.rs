//! Mount of the log model: what a replay finds, the verdict on the end, the new head in both slots, and the oracle.

use std::rc::Rc;

use super::shard::Link;
use super::{
    Addr, Body, CELLS, Cell, Cut, InWindow, KEYS, Model, Off, Place, Record, Rot, Rows, SEGMENTS, Shard,
    Slot, State, Stop,
};

/// A replay on its way.
struct Walk<'a> {
    body: &'a Body,
    at: Addr,
    incarnation: u32,
    next: Option<(u32, u32)>,
    previous: u64,
    epoch: u64,
    lsn: u64,
    window: Vec<InWindow>,
    records: Vec<Rc<Record>>,
}

impl Walk<'_> {
    /// What the body knows to follow a segment.
    fn after(&self, segment: u32) -> Option<(u32, u32)> {
        let window = &self.body.window;
        let place = window.iter().rposition(|one| one.segment == segment)?;
        window.get(place + 1).map_or(self.body.next, |one| Some((one.segment, one.incarnation)))
    }

    fn enter(&mut self, segment: u32, incarnation: u32, cell: u32) {
        self.window.push(InWindow { segment, incarnation, first: self.lsn });
        (self.at, self.incarnation) = ((segment, cell), incarnation);
        self.next = self.after(segment).filter(|next| *next != (segment, incarnation));
    }
}

impl Model {
    fn slots(&self) -> [Option<Rc<Slot>>; 2] {
        [0, 1].map(|copy| match self.device.read(Place::Slot(copy)) {
            Some(Cell::Slot(slot)) => Some(Rc::clone(slot)),
            _ => None,
        })
    }

    fn body(&self, slot: &Slot) -> Option<Rc<Body>> {
        slot.body.iter().find_map(|at| match self.device.read(Place::Cell(*at)) {
            Some(Cell::Body(body)) if body.sequence == slot.body_sequence => Some(Rc::clone(body)),
            _ => None,
        })
    }

    fn valid(&self, walk: &Walk<'_>, at: Addr, incarnation: u32) -> Option<Rc<Record>> {
        let Some(Cell::Record(record)) = self.device.read(Place::Cell(at)) else { return None };
        let is_next = record.at == at && record.lsn == walk.lsn && record.previous == walk.previous;
        let is_of_now = record.incarnation == incarnation && record.epoch >= walk.epoch;
        (is_next && is_of_now).then(|| Rc::clone(record))
    }

    /// Whether a later record of this log lies in the rest of the segment or in the next one.
    fn is_proven_behind(&self, walk: &Walk<'_>) -> bool {
        if self.is_off(Off::Search) {
            return false;
        }
        let here = (walk.at.1..CELLS).map(|cell| ((walk.at.0, cell), walk.incarnation));
        let next = walk.next.into_iter();
        let next = next
            .flat_map(|(segment, incarnation)| (1..CELLS).map(move |cell| ((segment, cell), incarnation)));
        here.chain(next).any(|(at, incarnation)| match self.device.read(Place::Cell(at)) {
            Some(Cell::Record(record)) => {
                let is_of_now = record.incarnation == incarnation && record.epoch >= walk.epoch;
                record.at == at && is_of_now && record.lsn > walk.lsn
            }
            _ => false,
        })
    }

    fn has_data(&self, record: &Record) -> bool {
        let cells = record.at.1 + 1..;
        let mut data = cells.zip(&record.data);
        data.all(|(cell, data)| self.device.read(Place::Cell((record.at.0, cell))) == Some(data))
    }

    /// A shard from what is on the device; the error is damage that is reported. `limit`: the log ends there.
    pub(super) fn replay(&mut self, limit: Option<u64>) -> Result<Shard, String> {
        let slots = self.slots();
        let newest = slots.iter().flatten().max_by_key(|slot| slot.sequence).ok_or("no slot")?;
        let body = self.body(newest).ok_or("no body")?;
        let first = body.window[0];
        let mut walk = Walk {
            body: &body,
            at: body.start_at,
            incarnation: first.incarnation,
            next: None,
            previous: body.start_previous,
            epoch: 0,
            lsn: body.start,
            window: vec![first],
            records: Vec::new(),
        };
        walk.next = walk.after(first.segment);
        let torn = self.walk(&mut walk, newest, limit);
        let proven = slots.iter().flatten();
        let proven =
            proven.flat_map(|slot| slot.cuts.iter().map(|cut| cut.lsn).chain([slot.end, slot.durable]));
        let proven = proven.max().expect("a slot");
        if limit.is_none() && (walk.lsn < proven || self.is_proven_behind(&walk)) {
            return Err(format!("damage at record {}, {proven} was durable", walk.lsn));
        }
        self.met.torn += u64::from(torn);
        let mut shard = self.applied(&walk)?;
        let epochs = slots.iter().flatten().map(|slot| slot.epoch);
        shard.epoch = epochs.max().expect("a slot") + 1;
        shard.sequence = newest.sequence;
        (shard.end, shard.body_places, shard.body_sequence) = (newest.end, newest.body, newest.body_sequence);
        shard.cuts = newest.cuts.iter().copied().filter(|cut| cut.lsn >= body.start).collect();
        // Nothing that either slot needs is reused before both name the new head.
        for slot in slots.iter().flatten() {
            shard.body.extend(slot.body.iter().map(|at| at.0));
            let Some(body) = self.body(slot) else { continue };
            shard.body.extend(body.leaves.iter().flatten().map(|at| at.0));
            shard.body.extend(body.window.iter().map(|one| one.segment));
            shard.body.extend((1..=SEGMENTS).filter(|segment| body.live[*segment as usize] > 0));
            shard.body.extend(body.next.map(|next| next.0));
        }
        Ok(shard)
    }

    /// Follows the log to its end; whether the last record was cut off as torn.
    fn walk(&self, walk: &mut Walk<'_>, slot: &Slot, limit: Option<u64>) -> bool {
        let mut before = None;
        loop {
            if let Some(cut) = slot.cuts.iter().rfind(|cut| cut.lsn == walk.lsn) {
                walk.epoch = cut.epoch;
                if cut.at.0 != walk.at.0 {
                    walk.enter(cut.at.0, cut.incarnation, cut.at.1);
                }
            }
            let place = (walk.at, walk.incarnation, walk.next, walk.previous, walk.epoch, walk.window.len());
            if limit == Some(walk.lsn) {
                return false;
            }
            let here = (walk.at.1 < CELLS).then(|| self.valid(walk, walk.at, walk.incarnation)).flatten();
            let record = here.or_else(|| {
                let (segment, incarnation) = walk.next?;
                let record = self.valid(walk, (segment, 1), incarnation)?;
                walk.enter(segment, incarnation, 1);
                Some(record)
            });
            let Some(record) = record else { break };
            before = Some(place);
            walk.at.1 += 1 + u32::try_from(record.data.len()).expect("few");
            walk.next = record.claim.or(walk.next);
            (walk.previous, walk.lsn) = (record.id, walk.lsn + 1);
            walk.records.push(record);
        }
        // A successor proves a record's data; of the last one it is looked at.
        let last = walk.records.last().filter(|last| last.lsn >= walk.body.end);
        let is_torn = !self.is_off(Off::LastData) && last.is_some_and(|last| !self.has_data(last));
        if let (true, Some(place)) = (is_torn, before) {
            (walk.at, walk.incarnation, walk.next, walk.previous, walk.epoch, _) = place;
            walk.window.truncate(place.5);
            walk.lsn -= 1;
            walk.records.pop();
        }
        is_torn
    }

    /// The body with the records' deltas and, from E on, their counts.
    fn applied(&self, walk: &Walk<'_>) -> Result<Shard, String> {
        let body = walk.body;
        let mut shard = Shard { live: body.live.clone(), ..Shard::default() };
        for (leaf, image) in shard.leaves.iter_mut().zip(body.leaves) {
            leaf.image = image;
            let Some(at) = image else { continue };
            match self.device.read(Place::Cell(at)) {
                Some(Cell::Leaf(rows)) => leaf.rows = Rows::clone(rows),
                other => return Err(format!("the image at {at:?} is {other:?}")),
            }
        }
        for record in &walk.records {
            for (key, row) in &record.deltas {
                let leaf = &mut shard.leaves[usize::from(*key >= KEYS / 2)];
                leaf.rows.insert(*key, *row);
                leaf.pending.insert(*key, record.lsn);
            }
            if record.lsn >= body.end || self.is_off(Off::CountsOfEnd) {
                for (segment, change) in &record.live {
                    shard.live[*segment as usize] += change;
                }
            }
            shard.chain.push(Link { lsn: record.lsn, at: record.at, previous: record.previous, done: None });
        }
        shard.provable = shard.live.clone();
        // What the last record empties is taken until the new head proves it.
        for (segment, change) in walk.records.last().map_or(&[][..], |last| &last.live) {
            if *change < 0 {
                shard.provable[*segment as usize] += 1;
                shard.unproven.push((walk.lsn - 1, *segment));
            }
        }
        (shard.lsn, shard.durable, shard.mounted) = (walk.lsn, walk.lsn, walk.lsn);
        shard.previous = walk.previous;
        (shard.window, shard.cell, shard.next) = (walk.window.clone(), walk.at.1, walk.next);
        // A claim that was given up since is no claim: the higher incarnation holds.
        let is_held =
            |(segment, incarnation): &(u32, u32)| self.incarnations.get(segment) == Some(incarnation);
        shard.next = shard.next.filter(is_held);
        shard.next_is_logged = true;
        Ok(shard)
    }

    /// After a crash.
    pub(super) fn mount(&mut self) -> Result<(), Stop> {
        self.met.mounts += 1;
        self.shard = match self.replay(None) {
            Ok(shard) => shard,
            Err(what) => {
                // A slot or a copy of a body is never missed.
                let rotten = self.rotten.take().filter(|(_, how)| !matches!(how, Rot::Copy));
                let Some((cells, _)) = rotten else { return Err(Stop::Violation(what)) };
                self.met.reported += 1;
                // As if repaired.
                for (at, cell) in cells {
                    self.device.write_durable(at, cell);
                }
                return self.mount();
            }
        };
        if let Some((cells, Rot::Middle | Rot::End)) = &self.rotten {
            let at: Vec<&Place> = cells.iter().map(|(at, _)| at).collect();
            return Err(Stop::Violation(format!("the rotten records at {at:?} were taken for the end")));
        }
        self.device.flush();
        let found = self.verify()?;
        let last = self.shard.window.last().expect("never empty");
        let (at, incarnation) = ((last.segment, self.shard.cell), last.incarnation);
        self.head(at, incarnation)?;
        self.history.truncate(found + 1);
        self.acknowledged = found;
        if let Some((cells, Rot::Last | Rot::Copy)) = self.rotten.take() {
            for (at, cell) in cells.into_iter().filter(|(at, _)| matches!(at, Place::Cell(_))) {
                self.device.write_durable(at, cell);
            }
        }
        Ok(())
    }

    /// After a failed record: the log ends where memory knows that it was durable.
    pub(super) fn mount_in_place(&mut self) -> Result<(), Stop> {
        self.met.mounts_in_place += 1;
        let limit = Some(self.shard.durable).filter(|_| !self.is_off(Off::KnownDurable));
        self.shard = self.replay(limit).map_err(Stop::Violation)?;
        self.device.flush();
        let found = self.verify()?;
        if found != self.acknowledged {
            return Err(Stop::Violation("a record that failed was believed".to_owned()));
        }
        // In a fresh segment: nobody knows what lies where the record failed.
        let Ok((segment, incarnation)) = self.claim(0) else { return Err(Stop::Crash) };
        let first = self.shard.lsn;
        self.shard.window.push(InWindow { segment, incarnation, first });
        (self.shard.cell, self.shard.next) = (1, None);
        self.head((segment, 1), incarnation)?;
        self.history.truncate(found + 1);
        Ok(())
    }

    /// A new epoch and head in both slots; then what the last record freed is provable.
    fn head(&mut self, at: Addr, incarnation: u32) -> Result<(), Stop> {
        let only_newest = self.is_off(Off::Cuts);
        let shard = &mut self.shard;
        let cut = Cut { lsn: shard.lsn, epoch: shard.epoch, at, incarnation };
        shard.cuts.retain(|older| older.lsn != cut.lsn && !only_newest);
        shard.cuts.push(cut);
        self.write_slots(None::<fn(&mut Self)>)?;
        self.shard.body = self.shard.body_places.iter().map(|at| at.0).collect();
        self.prove(u64::MAX);
        Ok(())
    }

    /// Both slots, the older first, a flush after each; whether nothing mounted in between. A checkpoint serves meanwhile.
    pub(super) fn write_slots(&mut self, mut give_up: Option<impl FnOnce(&mut Self)>) -> Result<bool, Stop> {
        let (is_silent, is_early) = (self.is_off(Off::EndStated), self.is_off(Off::StatedDurable));
        let shard = &mut self.shard;
        shard.sequence += 1;
        let durable = if is_early { shard.lsn } else { shard.durable };
        let durable = if is_silent { 0 } else { durable };
        let slot = Rc::new(Slot {
            sequence: shard.sequence,
            epoch: shard.epoch,
            end: shard.end,
            body_sequence: shard.body_sequence,
            body: shard.body_places,
            cuts: shard.cuts.clone(),
            durable,
        });
        let ages = self.slots().map(|slot| slot.map_or(0, |slot| slot.sequence));
        let older = usize::from(ages[1] < ages[0]);
        let (serves, mounted) = (give_up.is_some(), self.met.mounts_in_place);
        for copy in [older, 1 - older] {
            self.device.write(Place::Slot(copy), Cell::Slot(Rc::clone(&slot)));
            if copy == older && self.is_off(Off::SlotsOneByOne) {
                continue;
            }
            self.maybe_crash()?;
            self.device.flush();
            self.maybe_crash()?;
            if copy == older && serves {
                if self.is_off(Off::HeldUntilBoth)
                    && let Some(give_up) = give_up.take()
                {
                    give_up(self);
                }
                for _ in 0..self.rng.u32(..12) {
                    match self.small_step() {
                        Ok(()) | Err(Stop::Full) => {}
                        stop => return stop.map(|()| false),
                    }
                }
                if self.met.mounts_in_place != mounted {
                    return Ok(false);
                }
            }
        }
        if let Some(give_up) = give_up {
            give_up(self);
        }
        Ok(true)
    }

    /// What must hold of a shard that was just mounted; how many transactions it has.
    fn verify(&self) -> Result<usize, Stop> {
        let violation = |what: String| Err(Stop::Violation(what));
        let (mut state, mut live) = (State::new(), vec![0; SEGMENTS as usize + 1]);
        for leaf in &self.shard.leaves {
            if let Some(at) = leaf.image {
                live[at.0 as usize] += 1;
            }
            for (key, (at, stamp)) in &leaf.rows {
                let found = self.device.read(Place::Cell(*at));
                if found != Some(&Cell::Data { key: *key, stamp: *stamp }) {
                    return violation(format!("key {key} of {stamp} at {at:?} is {found:?}"));
                }
                live[at.0 as usize] += 1;
                state.insert(*key, *stamp);
            }
        }
        if live != self.shard.live {
            return violation(format!("live counts {:?}, should be {live:?}", self.shard.live));
        }
        match self.history.iter().rposition(|known| *known == state) {
            None => violation(format!("no prefix gives {state:?}")),
            Some(found) if found < self.acknowledged => {
                violation(format!("{} were acknowledged, {found} are there", self.acknowledged))
            }
            Some(found) => Ok(found),
        }
    }

    /// Of a store at rest the last records are lost, sometimes: one of them or more.
    pub(super) fn lose_end(&mut self) {
        let slots = self.slots();
        let Some(newest) = slots.iter().flatten().max_by_key(|slot| slot.sequence).cloned() else { return };
        let Some(start) = self.body(&newest).map(|body| body.start) else { return };
        let links = self.shard.chain.iter().filter(|link| link.lsn >= start);
        let links: Vec<Link> = links.copied().collect();
        if links.is_empty() || self.rng.bool() {
            return;
        }
        self.met.lost_ends += 1;
        let lost = &links[self.rng.usize(..links.len())..];
        let places = lost.iter().map(|link| Place::Cell(link.at));
        let cells: Vec<_> =
            places.filter_map(|at| self.device.read(at).cloned().map(|cell| (at, cell))).collect();
        for (at, _) in &cells {
            self.device.write_durable(*at, Cell::Rotten);
        }
        self.rotten = Some((cells, Rot::End));
    }

    /// Sometimes one thing rots: a slot, a copy of the body, a record that has a successor, or the last record.
    pub(super) fn rot(&mut self) {
        let slots = self.slots();
        let Some(newest) = slots.iter().flatten().max_by_key(|slot| slot.sequence).cloned() else { return };
        let Some(start) = self.body(&newest).map(|body| body.start) else { return };
        let durable = self.shard.durable;
        let links = self.shard.chain.iter().filter(|link| link.lsn >= start && link.lsn < durable);
        let links: Vec<Link> = links.copied().collect();
        let (at, how) = match self.rng.u32(..10) {
            0 if slots.iter().all(Option::is_some) => (Place::Slot(self.rng.usize(..2)), Rot::Copy),
            1 => (Place::Cell(newest.body[self.rng.usize(..2)]), Rot::Copy),
            2 if links.len() > 1 => (Place::Cell(links[self.rng.usize(..links.len() - 1)].at), Rot::Middle),
            // What the mount found is proven by its head, or was not told by whom it was before.
            3 if links.last().is_some_and(|last| last.lsn + 1 == durable) && durable > self.shard.mounted => {
                let last = links.last().expect("just seen");
                // It may be taken for torn; nobody can say that it was whole.
                let before = last.done.map_or(self.acknowledged, |done| done - 1);
                self.acknowledged = self.acknowledged.min(before);
                (Place::Cell(last.at), Rot::Last)
            }
            _ => return,
        };
        if let Some(cell) = self.device.read(at).cloned() {
            self.device.write_durable(at, Cell::Rotten);
            self.rotten = Some((vec![(at, cell)], how));
        }
    }
}
