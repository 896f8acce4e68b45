//! Families: clones that share rows, held against plain copies (rules F1 to F4).
//!
//! An object has a number in its family. A position is read from the nearest row of the number or its ancestors, unless a
//! link on the way does not inherit it. Here a family has six positions of one value each, and objects "a" to "e".
//!
//! Each step writes, zeroes, truncates, clones, removes or frees, and every object is then compared with a copy that was
//! made by copying. At the end all is removed, and the passes over the graves must leave nothing.
//!
//! Not shown here: that a pass decides and frees in one moment, and that a grave set again stays: here a pass looks at the
//! whole family, and what nobody sees nobody will.

use std::collections::{BTreeMap, BTreeSet};

const POSITIONS: usize = 6;
const NAMES: [char; 5] = ['a', 'b', 'c', 'd', 'e'];
const STEPS: u32 = 60;

/// A rule that is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Off {
    /// F1: the source of a clone goes on under the number that the clone inherits from.
    Freeze,
    /// F1: a clone that becomes a sibling has no copy of the source's link.
    SiblingLink,
    /// F2: what is not inherited is known for the object and not for each link.
    LinkPerNumber,
    /// F3: zeroing takes a row away and leaves no marker.
    Markers,
    /// F4: removing a member removes the family's rows at once.
    Graves,
    /// F4: what is spliced out does not leave its intervals to its children.
    SpliceIntervals,
    /// F4: dead numbers with one child stay.
    Folding,
}

impl Off {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Freeze,
        Self::SiblingLink,
        Self::LinkPerNumber,
        Self::Markers,
        Self::Graves,
        Self::SpliceIntervals,
        Self::Folding,
    ];
}

#[derive(Clone, Default)]
struct Link {
    parent: Option<u32>,
    /// Positions that are not inherited from it.
    hidden: BTreeSet<usize>,
}

#[derive(Clone, Copy)]
struct Object {
    number: u32,
    size: usize,
}

type Key = (usize, u32);

struct Family {
    off: Option<Off>,
    links: BTreeMap<u32, Link>,
    /// A value, or a marker that hides what an ancestor has.
    rows: BTreeMap<Key, Option<u32>>,
    objects: BTreeMap<char, Object>,
    next: u32,
    graves: BTreeSet<u32>,
    /// The grave of the pass that is under way.
    pass: Option<u32>,
    set_again: bool,
}

impl Family {
    fn new(off: Option<Off>) -> Self {
        let links = BTreeMap::from([(0, Link::default())]);
        let objects = BTreeMap::from([('a', Object { number: 0, size: 0 })]);
        let (rows, graves) = (BTreeMap::new(), BTreeSet::new());
        Self { off, links, rows, objects, next: 1, graves, pass: None, set_again: false }
    }

    fn is_off(&self, rule: Off) -> bool {
        self.off == Some(rule)
    }

    /// The numbers from which one inherits a position, itself first.
    fn chain(&self, position: usize, number: u32) -> Vec<u32> {
        let mut chain = vec![number];
        let mut at = &self.links[&number];
        while let Some(parent) = at.parent.filter(|_| !at.hidden.contains(&position)) {
            chain.push(parent);
            at = &self.links[&parent];
        }
        chain
    }

    fn look(&self, position: usize, number: u32) -> Option<u32> {
        let chain = self.chain(position, number);
        chain.iter().find_map(|number| self.rows.get(&(position, *number)).copied()).flatten()
    }

    fn read(&self, name: char) -> Vec<Option<u32>> {
        let Object { number, size } = self.objects[&name];
        (0..size).map(|position| self.look(position, number)).collect()
    }

    fn bury(&mut self, number: u32) {
        self.set_again |= self.pass == Some(number);
        self.graves.insert(number);
    }

    /// Sets a row; what it hides may be unseen from now on (F4).
    fn set(&mut self, position: usize, number: u32, row: Option<u32>) {
        let chain = self.chain(position, number);
        let hidden =
            chain.into_iter().skip(1).find(|ancestor| self.rows.contains_key(&(position, *ancestor)));
        if let Some(ancestor) = hidden {
            self.bury(ancestor);
        }
        self.rows.insert((position, number), row);
    }

    fn write(&mut self, name: char, position: usize, value: Option<u32>) {
        let Object { number, size } = self.objects[&name];
        self.objects.insert(name, Object { number, size: size.max(position + 1) });
        if value.is_none() && self.is_off(Off::Markers) {
            self.rows.remove(&(position, number));
        } else {
            self.set(position, number, value);
        }
    }

    fn truncate(&mut self, name: char, size: usize) {
        let Object { number, size: old } = self.objects[&name];
        self.objects.insert(name, Object { number, size });
        if size >= old {
            return;
        }
        for position in size..POSITIONS {
            self.rows.remove(&(position, number));
        }
        let link = self.links.get_mut(&number).expect("every number has one");
        link.hidden.extend(size..POSITIONS);
        if let Some(parent) = link.parent {
            self.bury(parent);
        }
    }

    fn number(&mut self, link: Link) -> u32 {
        self.next += 1;
        self.links.insert(self.next - 1, link);
        self.next - 1
    }

    fn clone_object(&mut self, from: char, to: char) {
        if self.objects.contains_key(&to) {
            self.remove(to);
        }
        let Object { number, size } = self.objects[&from];
        if !self.rows.keys().any(|(_, of)| *of == number) {
            // Nothing of its own yet: the clone is its sibling.
            let link = self.links[&number].clone();
            let link =
                if self.is_off(Off::SiblingLink) { Link { hidden: BTreeSet::new(), ..link } } else { link };
            let sibling = self.number(link);
            self.objects.insert(to, Object { number: sibling, size });
            return;
        }
        let mut below = Link { parent: Some(number), hidden: BTreeSet::new() };
        if self.is_off(Off::LinkPerNumber) {
            below.hidden = std::mem::take(&mut self.links.get_mut(&number).expect("it has one").hidden);
        }
        let new = self.number(below.clone());
        self.objects.insert(to, Object { number: new, size });
        if !self.is_off(Off::Freeze) {
            let own = self.number(below);
            self.objects.insert(from, Object { number: own, size });
        }
    }

    fn remove(&mut self, name: char) {
        let gone = self.objects.remove(&name).expect("it is there");
        self.bury(gone.number);
        if self.is_off(Off::Graves) {
            self.rows.clear();
        }
    }

    fn is_seen(&self, (position, number): Key) -> bool {
        let first = |object: &Object| {
            let chain = self.chain(position, object.number);
            chain.into_iter().find(|number| self.rows.contains_key(&(position, *number)))
        };
        self.objects.values().any(|object| first(object) == Some(number))
    }

    /// One slice of a pass over a grave: up to two rows, then what is dead is folded or spliced out.
    fn slice(&mut self) {
        let Some(grave) = self.pass.take() else {
            let Some(grave) = self.graves.first().copied() else { return };
            self.set_again = false;
            self.pass = Some(grave);
            return;
        };
        let mut rows = self.unseen();
        rows.truncate(2);
        for row in &rows {
            self.rows.remove(row);
        }
        self.fold();
        if !rows.is_empty() {
            self.pass = Some(grave);
        } else if !self.set_again {
            self.graves.remove(&grave);
        }
    }

    fn unseen(&self) -> Vec<Key> {
        self.rows.keys().copied().filter(|key| !self.is_seen(*key)).collect()
    }

    /// Takes out a dead number that has no rows, or whose rows go to its only child.
    fn fold(&mut self) {
        let is_live = |number: &u32| self.objects.values().any(|object| object.number == *number);
        let dead: Vec<u32> = self.links.keys().copied().filter(|number| !is_live(number)).collect();
        for number in dead {
            let children: Vec<u32> = self
                .links
                .iter()
                .filter(|(_, link)| link.parent == Some(number))
                .map(|(child, _)| *child)
                .collect();
            let own: Vec<Key> = self.rows.keys().copied().filter(|(_, of)| *of == number).collect();
            if let ([child], false) = (&children[..], self.is_off(Off::Folding)) {
                for (position, _) in own {
                    let row = self.rows.remove(&(position, number)).expect("just found");
                    let is_inherited = !self.links[child].hidden.contains(&position);
                    if is_inherited && !self.rows.contains_key(&(position, *child)) {
                        self.rows.insert((position, *child), row);
                    }
                }
            } else if !own.is_empty() || (self.is_off(Off::Folding) && children.len() == 1) {
                continue;
            }
            let link = self.links.remove(&number).expect("one of them");
            let forgets = self.is_off(Off::SpliceIntervals);
            for child in children {
                let below = self.links.get_mut(&child).expect("one of them");
                below.parent = link.parent;
                if !forgets {
                    below.hidden.extend(&link.hidden);
                }
            }
        }
    }

    fn depth(&self) -> usize {
        let depth = |object: &Object| {
            let parent = |number: &u32| self.links[number].parent;
            std::iter::successors(Some(object.number), parent).count()
        };
        self.objects.values().map(depth).max().unwrap_or(0)
    }
}

/// One random program; an error says what a clone saw, or what was left.
pub fn run(seed: u64, off: Option<Off>) -> Result<(), String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut family = Family::new(off);
    let mut copies: BTreeMap<char, Vec<Option<u32>>> = BTreeMap::from([('a', Vec::new())]);
    for step in 0..STEPS {
        let names: Vec<char> = copies.keys().copied().collect();
        let name = names[rng.usize(..names.len())];
        let position = rng.usize(..POSITIONS);
        match rng.u32(..20) {
            kind @ 0..9 => {
                let value = (kind < 7).then_some(step);
                family.write(name, position, value);
                let copy = copies.get_mut(&name).expect("one of them");
                copy.resize(copy.len().max(position + 1), None);
                copy[position] = value;
            }
            9..11 => {
                family.truncate(name, position);
                copies.get_mut(&name).expect("one of them").resize(position, None);
            }
            11..14 => {
                let to = NAMES[rng.usize(..NAMES.len())];
                if to != name {
                    family.clone_object(name, to);
                    copies.insert(to, copies[&name].clone());
                }
            }
            14 if copies.len() > 1 => {
                family.remove(name);
                copies.remove(&name);
            }
            _ => family.slice(),
        }
        for (name, copy) in &copies {
            let read = family.read(*name);
            if read != *copy {
                return Err(format!("step {step}: {name} reads {read:?}, a copy is {copy:?}"));
            }
        }
    }
    for name in copies.keys() {
        family.remove(*name);
    }
    for _ in 0..1000 {
        family.slice();
    }
    if family.rows.is_empty() { Ok(()) } else { Err(format!("rows that nobody frees: {:?}", family.rows)) }
}

/// Rolling snapshots: how deep the chain of an object that is cloned again and again becomes, the oldest clone removed each
/// time.
pub fn rolling_depth(snapshots: u32, off: Option<Off>) -> usize {
    let mut family = Family::new(off);
    let mut deepest = 0;
    for round in 0..snapshots {
        family.write('a', round as usize % POSITIONS, Some(round));
        let name = NAMES[1 + round as usize % 4];
        family.clone_object('a', name);
        for _ in 0..20 {
            family.slice();
        }
        deepest = deepest.max(family.depth());
    }
    deepest
}
