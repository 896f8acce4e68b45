//! Past: watched objects as they were in one moment, while transactions go on changing them.
//!
//! A read that is answered in slices, and a read handle, must show one version of an object. A *watch* begins in one moment
//! and notes nothing then. From there on each transaction that changes a row of the object leaves the row's old value with
//! the watch, before it is applied ([`Past::note`]); [`AsOf`] shows the rows of a view with those laid over. What is not
//! noted has not changed since. So a watch costs nothing for objects of any size as long as nobody changes them, and one
//! value per changed row else.
//!
//! The bytes that a changed row pointed to may be given up with the change. A watch of a read handle then takes a hold on
//! their segments, and on no others (rule S3); a request keeps all reuse off while it runs, as every operation does (rule
//! S4). The grave of a watched family is passed over, as it would leave very many old rows.
//!
//! Example: a handle on an object of 3 MiB, all of which is overwritten: 48 rows of 79 bytes are noted, and the three
//! segments with the old bytes are held until the handle is dropped.
//!
//! A watch *expires* when the values noted by all watches pass their share of memory (the one with the most), when it is
//! too old, or when a transaction would be refused for lack of space that a handle keeps (the oldest such handle): space is
//! never refused for the sake of a reader. Its reads fail with [`crate::Error::Expired`]; those of a request begin anew.
//! A watch ends with its mount.
//!
//! Invariants: 1. A watch has at most one value of a row, that of its moment. 2. The segments of a noted row are held.
//! Crash: nothing of it is on the device; the next mount drains the graves.
//! Limits: `memory_bytes / 16` for noted values; handles and their age are options ([`crate::ShardOptions`]).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::collections::hash_map::Entry;
use std::ops::{Bound, ControlFlow};
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use seabed_journal::CollectionId;
use seabed_object::extents::Extents;
use seabed_object::key::{self, Position};
use seabed_object::onode::OnodeRef;
use seabed_object::{Direction, KeyBuf, ObjectId, Rows, Stop, Visit};
use seabed_types::{Lsn, SegmentId, TreeKind};

use crate::io::streams::Hold;
use crate::rows::view::View;
use crate::shard::mounted::Mounted;
use crate::space::segments::SegmentTable;
use crate::{Error, Result};

/// Bytes at the beginning of every key that say the object's hash.
const HASH_BYTES: usize = 4;
/// What a noted value takes besides its bytes and its key's.
const NOTED_BYTES: usize = 96;
/// The least memory for noted values.
const NOTED_BYTES_MIN: usize = 256 << 10;

/// What a watch is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum For {
    /// One request; it keeps reuse off by itself.
    Request,
    /// A read handle.
    Handle,
}

/// Old values of rows; none: there was no such row.
type Noted = BTreeMap<Vec<u8>, Option<Bytes>>;

/// An object that is watched.
pub(crate) struct Watch {
    id: CollectionId,
    /// Its key in the names tree.
    names_key: KeyBuf,
    purpose: For,
    /// When it began.
    began: Duration,
    /// All records below this must be durable before what it shows may be told.
    pub(crate) settled_at: Lsn,
    /// Transactions that the store had applied by then.
    pub(crate) version: u64,
    family: Cell<Option<u64>>,
    names: RefCell<Noted>,
    bodies: RefCell<Noted>,
    bytes: Cell<usize>,
    holds: RefCell<FxHashMap<SegmentId, Hold>>,
    /// It keeps something that the object does not have any more.
    keeps: Cell<bool>,
    expired: Cell<bool>,
}

impl Watch {
    /// What the keys of its object begin with.
    fn hash(&self) -> [u8; HASH_BYTES] {
        *self.names_key.first_chunk().expect("a key begins with the hash")
    }

    fn concerns(&self, id: CollectionId, tree: TreeKind, key: &[u8]) -> bool {
        if self.expired.get() || self.id != id {
            return false;
        }
        match tree {
            TreeKind::Names => *key == *self.names_key,
            TreeKind::Bodies => self.is_of_body(key),
            TreeKind::Graves => false,
        }
    }

    /// Whether a row of the bodies tree may be shown: of a handle, only the extents of its own family are.
    fn is_of_body(&self, key: &[u8]) -> bool {
        if key.get(..HASH_BYTES) != self.names_key.get(..HASH_BYTES) {
            return false;
        }
        match (self.purpose, self.family.get()) {
            (For::Handle, Some(family)) => key::decode_bodies(key)
                .is_ok_and(|(of, position)| of.family == family && matches!(position, Position::Extents(_))),
            (For::Handle | For::Request, _) => true,
        }
    }

    fn noted(&self, tree: TreeKind) -> &RefCell<Noted> {
        if tree == TreeKind::Names { &self.names } else { &self.bodies }
    }

    /// Keeps the segment from being used again.
    fn hold(&self, table: &Rc<SegmentTable>, segment: SegmentId) {
        self.holds.borrow_mut().entry(segment).or_insert_with(|| Hold::new(table, segment));
    }

    /// Notes a row's value before it changes; the bytes that this takes.
    fn note(&self, table: &Rc<SegmentTable>, tree: TreeKind, key: &[u8], old: Option<&[u8]>) -> usize {
        self.keeps.set(true);
        let mut noted = self.noted(tree).borrow_mut();
        if noted.contains_key(key) {
            return 0;
        }
        if self.purpose == For::Handle
            && let Some(extents) = old.and_then(|old| extents_of(tree, old))
        {
            for (_, chunk) in extents.iter() {
                self.hold(table, chunk.at.segment);
            }
        }
        let bytes = NOTED_BYTES + key.len() + old.map_or(0, <[u8]>::len);
        noted.insert(key.to_vec(), old.map(Bytes::copy_from_slice));
        self.bytes.set(self.bytes.get() + bytes);
        bytes
    }
}

/// The extents in a row's value; a value that does not decode has none, and cannot be read either.
fn extents_of(tree: TreeKind, value: &[u8]) -> Option<Extents> {
    match tree {
        TreeKind::Names => OnodeRef::decode(value).ok()?.extents().ok()?,
        TreeKind::Bodies => Extents::decode(value).ok(),
        TreeKind::Graves => None,
    }
}

/// All watches of a mount.
pub(crate) struct Past {
    watches: RefCell<Vec<Rc<Watch>>>,
    /// How many watch objects of a hash: what a transaction changes is looked for here first.
    hashes: RefCell<FxHashMap<[u8; HASH_BYTES], usize>>,
    handles: Cell<usize>,
    bytes: Cell<usize>,
    bytes_max: usize,
}

impl Past {
    pub(crate) fn new(memory_bytes: usize) -> Rc<Self> {
        Rc::new(Self {
            watches: RefCell::default(),
            hashes: RefCell::default(),
            handles: Cell::new(0),
            bytes: Cell::new(0),
            bytes_max: (memory_bytes / 16).max(NOTED_BYTES_MIN),
        })
    }

    /// Bytes of noted values.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Handles that are open.
    pub(crate) fn handles(&self) -> usize {
        self.handles.get()
    }

    /// Whether anything is watched: every transaction asks.
    pub(crate) fn is_any(&self) -> bool {
        !self.watches.borrow().is_empty()
    }

    /// A row is about to change; `old` is its value. True if watches have expired.
    pub(crate) fn note<'v>(
        &self,
        table: &Rc<SegmentTable>,
        (id, tree): (CollectionId, TreeKind),
        key: &[u8],
        old: impl FnOnce() -> Option<&'v [u8]>,
    ) -> bool {
        let is_of_one = |hash: &[u8; HASH_BYTES]| self.hashes.borrow().contains_key(hash);
        if !key.first_chunk().is_some_and(is_of_one) {
            return false;
        }
        let watches = self.watches.borrow();
        let mut concerned = watches.iter().filter(|watch| watch.concerns(id, tree, key)).peekable();
        if concerned.peek().is_none() {
            return false;
        }
        seabed_types::reached!(PastNoted);
        let old = old();
        for watch in concerned {
            if !seabed_types::seeded!(80) {
                self.bytes.set(self.bytes.get() + watch.note(table, tree, key, old));
            }
        }
        let mut has_expired = false;
        while self.bytes.get() > self.bytes_max {
            let largest = watches.iter().filter(|watch| !watch.expired.get());
            let Some(largest) = largest.max_by_key(|watch| watch.bytes.get()) else { break };
            self.expire(largest);
            has_expired = true;
        }
        has_expired
    }

    /// Whether graves of this family are passed over.
    pub(crate) fn keeps_family(&self, id: CollectionId, family: u64) -> bool {
        let watches = self.watches.borrow();
        let keepers = watches
            .iter()
            .filter(|watch| watch.id == id && watch.family.get() == Some(family) && !watch.expired.get());
        keepers.inspect(|watch| watch.keeps.set(true)).count() > 0
    }

    fn expire(&self, watch: &Watch) {
        seabed_types::reached!(HandleExpired);
        watch.expired.set(true);
        self.forget(watch);
    }

    /// Drops what a watch has noted and holds.
    fn forget(&self, watch: &Watch) {
        self.bytes.set(self.bytes.get() - watch.bytes.take());
        watch.names.borrow_mut().clear();
        watch.bodies.borrow_mut().clear();
        let holds = watch.holds.take();
        drop(holds);
    }

    /// Expires the oldest handle that keeps space which nobody else has; false: there is none.
    pub(crate) fn expire_for_space(&self) -> bool {
        let watches = self.watches.borrow();
        let mut keepers = watches
            .iter()
            .filter(|watch| watch.purpose == For::Handle && watch.keeps.get() && !watch.expired.get());
        let oldest = keepers.next().cloned();
        drop(watches);
        if seabed_types::seeded!(81) {
            return false;
        }
        if let Some(oldest) = &oldest {
            self.expire(oldest);
        }
        oldest.is_some()
    }

    /// Expires the handles that began before `before`.
    fn expire_old(&self, before: Duration) {
        let watches = self.watches.borrow().clone();
        for watch in watches {
            if watch.purpose == For::Handle && watch.began < before && !watch.expired.get() {
                self.expire(&watch);
            }
        }
    }
}

/// A watch as long as it goes on.
pub(crate) struct Watching {
    past: Rc<Past>,
    mounted: Weak<Mounted>,
    pub(crate) watch: Rc<Watch>,
}

impl Watching {
    /// Fails if the watch has expired.
    pub(crate) fn check(&self) -> Result<()> {
        if self.watch.expired.get() { Err(Error::Expired) } else { Ok(()) }
    }

    /// From now on the rows of this family are kept, and of a handle no others.
    pub(crate) fn keep_family(&self, family: u64) {
        self.watch.family.set(Some(family));
    }

    /// The mount that it is of, as long as there is one.
    pub(crate) fn mounted(&self) -> Option<Rc<Mounted>> {
        self.mounted.upgrade()
    }

    /// Shows the rows of a view as they were when the watch began.
    pub(crate) fn as_of<T>(&self, now: &View<'_>, look: impl FnOnce(&dyn Rows) -> T) -> T {
        let (names, bodies) = (self.watch.names.borrow(), self.watch.bodies.borrow());
        look(&AsOf { now, names: &names, bodies: &bodies })
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.past.watches.borrow_mut().retain(|watch| !Rc::ptr_eq(watch, &self.watch));
        if let Entry::Occupied(mut count) = self.past.hashes.borrow_mut().entry(self.watch.hash()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        if self.watch.purpose == For::Handle {
            self.past.handles.set(self.past.handles.get() - 1);
        }
        self.past.forget(&self.watch);
        if let Some(mounted) = self.mounted.upgrade()
            && self.watch.family.get().is_some()
        {
            mounted.watch_ended();
        }
    }
}

impl Mounted {
    /// Begins to watch an object; what it shows is the state of this moment.
    pub(crate) fn watch(
        self: &Rc<Self>,
        id: CollectionId,
        object: &ObjectId,
        purpose: For,
    ) -> Result<Watching> {
        let now = self.machine.runtime.now();
        if purpose == For::Handle {
            self.past.expire_old(now.saturating_sub(self.options.read_handle_age_max));
            if self.past.handles() >= self.options.read_handles_max {
                return Err(Error::TooManyHandles { max: self.options.read_handles_max });
            }
            self.past.handles.set(self.past.handles() + 1);
        }
        let settled_at = self.journal.as_ref().map_or(Lsn(0), |journal| journal.next_lsn());
        let watch = Rc::new(Watch {
            id,
            names_key: key::names(object),
            purpose,
            began: now,
            settled_at,
            version: self.counters.stats.borrow().transactions,
            family: Cell::new(None),
            names: RefCell::default(),
            bodies: RefCell::default(),
            bytes: Cell::new(0),
            holds: RefCell::default(),
            keeps: Cell::new(false),
            expired: Cell::new(false),
        });
        *self.past.hashes.borrow_mut().entry(watch.hash()).or_default() += 1;
        self.past.watches.borrow_mut().push(Rc::clone(&watch));
        Ok(Watching { past: Rc::clone(&self.past), mounted: Rc::downgrade(self), watch })
    }

    /// Expires a handle that is too old now.
    pub(crate) fn expire_if_old(&self, watching: &Watching) -> Result<()> {
        let age = self.machine.runtime.now().saturating_sub(watching.watch.began);
        if watching.watch.purpose == For::Handle
            && age > self.options.read_handle_age_max
            && !watching.watch.expired.get()
        {
            self.past.expire(&watching.watch);
            self.watch_ended();
        }
        watching.check()
    }

    /// Graves that were passed over for a watch may be drained now.
    pub(crate) fn watch_ended(&self) {
        self.grave_work.more.set(true);
        self.grave_work.wake.notify_all();
        self.trim.moved.notify_all();
    }
}

/// The rows of a view as they were when a watch began.
struct AsOf<'a> {
    now: &'a View<'a>,
    names: &'a Noted,
    bodies: &'a Noted,
}

impl AsOf<'_> {
    fn noted(&self, tree: TreeKind) -> Option<&Noted> {
        match tree {
            TreeKind::Names => Some(self.names),
            TreeKind::Bodies => Some(self.bodies),
            TreeKind::Graves => None,
        }
    }
}

impl Rows for AsOf<'_> {
    fn row(&self, tree: TreeKind, key: &[u8]) -> std::result::Result<Option<&[u8]>, Stop> {
        match self.noted(tree).and_then(|noted| noted.get(key)) {
            Some(old) => Ok(old.as_deref()),
            None => self.now.row(tree, key),
        }
    }

    fn rows(
        &self,
        tree: TreeKind,
        from: &[u8],
        to: Option<&[u8]>,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> std::result::Result<(), Stop> {
        let is_empty = to.is_some_and(|to| from >= to);
        let Some(noted) = self.noted(tree).filter(|noted| !noted.is_empty() && !is_empty) else {
            return self.now.rows(tree, from, to, direction, visit);
        };
        let range =
            noted.range::<[u8], _>((Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded)));
        let mut old: Box<dyn Iterator<Item = (&Vec<u8>, &Option<Bytes>)>> = match direction {
            Direction::Forward => Box::new(range),
            Direction::Backward => Box::new(range.rev()),
        };
        let mut next = old.next();
        let mut broke = false;
        self.now.rows(tree, from, to, direction, &mut |key, value| {
            while let Some((noted_key, noted_value)) = next {
                let order = match direction {
                    Direction::Forward => noted_key.as_slice().cmp(key),
                    Direction::Backward => key.cmp(noted_key.as_slice()),
                };
                if order.is_gt() {
                    break;
                }
                next = old.next();
                let flow = noted_value
                    .as_ref()
                    .map_or(ControlFlow::Continue(()), |noted_value| visit(noted_key, noted_value));
                broke = flow.is_break();
                if broke || order.is_eq() {
                    return flow;
                }
            }
            let flow = visit(key, value);
            broke = flow.is_break();
            flow
        })?;
        while let (Some((key, value)), false) = (next, broke) {
            broke = value.as_ref().is_some_and(|value| visit(key, value).is_break());
            next = old.next();
        }
        Ok(())
    }

    fn piece(&self, piece: &seabed_object::PieceRef) -> std::result::Result<Bytes, Stop> {
        self.now.piece(piece)
    }
}
