//! Admit: whether there is space for what a transaction brings, and what to wait for if not.
//!
//! Two bounds, both arithmetic (rule S5). Live bytes: at most 0.93 of the segments less reserves, open streams and the
//! window. Free segments: as long as nothing moves live bytes together, dead bytes beside live ones are not space, so a
//! user also leaves enough free segments
//! - for the journal to reach the window's bound and for logging all pending changes again;
//! - for the images to thin out, as they do while rows are removed here and there, and to be moved together then (`packing`);
//! - for a checkpoint: all nodes that have no image, and two bodies; and for the journal's next segments.
//!
//! A removal may use what users leave to the journal and to images that thin out. It leaves the segments that images are moved
//! together in, and waits for a cycle that does so; only if that could not give them back it may use them too. Trimming stops
//! where it would take those, moving where a checkpoint would not be possible any more, the checkpoint where the journal would
//! have no next segment. So a cycle ends with as much space as it began with, and removals go on (rule S6 has the argument).
//!
//! Example: 46 segments of 64 KiB with a window of 4 segments, 60 KiB of pending changes, two images in one segment, and nothing
//! else in memory only: 2 (journal) + 1 (nodes) + 2 (bodies); for removals 1 (moving) + 1 (logged again) more; for users 6
//! (window) + 2 (logged again) + 1 (moving).
//!
//! Who does not fit waits while graves are drained and while a trim cycle that began later than the request may free
//! something; then it is `NoSpace`, and nothing was applied. A removal waits as long as cycles get on: there is space only for
//! the images of a part of the leaves that it and others changed, and those must be written, and free the segments of the
//! old ones, before the next part can be.

use std::rc::Rc;

use crate::maintain::clean::CleaningWanted;
use crate::maintain::packing::Slack;
use crate::shard::mounted::Mounted;
use crate::space::segments::Claimer;
use crate::{Error, Result};

/// What a request is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// It brings bytes.
    Store,
    /// It only takes away.
    Remove,
    /// The cleaner moves live data, which frees more than it takes.
    Clean,
}

/// Segments that stay free for the journal.
pub(super) const JOURNAL_SEGMENTS: usize = 2;
/// A shard with the smallest budget still gets to gather some changes before it writes them.
const PENDING_BYTES_MIN: usize = 32 << 10;
/// Segments that users leave for copies of live data.
pub(super) const CLEAN_SEGMENTS: usize = 2;
/// Two copies of a checkpoint body.
pub(super) const BODY_SEGMENTS: usize = 2;

impl Mounted {
    /// Journal segments that the window may have.
    pub(crate) fn window_segments_max(&self) -> usize {
        usize::try_from(self.superblock.window_bytes / u64::from(self.layout.segment_bytes))
            .unwrap_or(usize::MAX)
            .max(4)
    }

    /// Bytes that the window may have.
    pub(crate) fn window_bytes_max(&self) -> usize {
        self.window_segments_max() * self.layout.segment_bytes as usize
    }

    /// Segments that a checkpoint of this moment takes at most: images of all nodes without one, and two bodies.
    pub(crate) fn checkpoint_segments(&self) -> usize {
        let rows = self.rows.borrow();
        let bytes = rows.cache.memory_nodes() * (rows.node_bytes + rows.node_bytes / 4);
        bytes.div_ceil(self.layout.segment_bytes as usize * 3 / 4) + 1 + BODY_SEGMENTS
    }

    /// Segments that a claim for this purpose leaves free. Each leaves what those need that come deeper: the journal its
    /// next segments; a checkpoint those; images that are moved together, and users, also a checkpoint; images of leaves also what
    /// others are moved together in.
    pub(crate) fn reserve_against(&self, claimer: Claimer) -> usize {
        match claimer {
            Claimer::Checkpoint | Claimer::MountCheckpoint => JOURNAL_SEGMENTS,
            Claimer::Trim | Claimer::MountTrim if seabed_types::seeded!(43) => 0,
            Claimer::Compact => JOURNAL_SEGMENTS + self.checkpoint_segments() - 1,
            Claimer::Clean => JOURNAL_SEGMENTS + self.checkpoint_segments() + self.moving_segments(),
            Claimer::Trim => JOURNAL_SEGMENTS + self.checkpoint_segments() - 1 + self.moving_segments(),
            // A mount that does not serve yet logs nothing and moves nothing.
            Claimer::MountTrim | Claimer::User => JOURNAL_SEGMENTS + self.checkpoint_segments(),
        }
    }

    /// Segments that stay free for images to be moved together in, and to log again what trimming finds no space for.
    fn moving_segments(&self) -> usize {
        let again = self.rows.borrow().pending_bytes().div_ceil(self.layout.segment_bytes as usize);
        self.trim.slack.get().moving + again
    }

    /// Whether removals have to wait for a cycle, so that images can be moved together.
    pub(crate) fn lacks_moving_room(&self) -> bool {
        self.table.free_count() <= self.reserve_against(Claimer::User) + self.moving_segments()
    }

    /// Segments that the journal takes until its window is full, and to log all pending changes again.
    fn journal_growth(&self) -> usize {
        let window = self.journal.as_ref().map_or(0, |journal| journal.segment_count());
        let again = self.rows.borrow().pending_bytes().div_ceil(self.layout.segment_bytes as usize / 2);
        (self.window_segments_max() + 2).saturating_sub(window) + again
    }

    /// The most live bytes that users may have.
    pub(crate) fn usable_bytes(&self) -> u64 {
        let segment = u64::from(self.layout.segment_bytes);
        let segments = self.layout.segment_count() - self.table.quarantined_count() as u64;
        let reserves = (JOURNAL_SEGMENTS + BODY_SEGMENTS + 2) as u64;
        let open = 2;
        let window = self.window_segments_max() as u64 + 2;
        ((segments.saturating_sub(reserves) * 93 / 100).saturating_sub(open + window)) * segment
    }

    fn fits(&self, bytes: usize, purpose: Purpose) -> bool {
        let free = self.table.free_count();
        let taken = bytes.div_ceil(self.layout.segment_bytes as usize);
        let trim = self.reserve_against(Claimer::User);
        if seabed_types::seeded!(42) {
            return free > 0;
        }
        if purpose != Purpose::Store {
            return free > trim && (self.trim.lacks_slack.get() || !self.lacks_moving_room());
        }
        let live = self.table.live_total().max(0).cast_unsigned();
        free > self.user_reserve() + taken && live + bytes as u64 <= self.usable_bytes()
    }

    /// Segments that users leave free.
    pub(crate) fn user_reserve(&self) -> usize {
        let Slack { moving, thinning } = self.trim.slack.get();
        let cleaner = if self.options.cleaning { CLEAN_SEGMENTS } else { 0 };
        self.reserve_against(Claimer::User) + self.journal_growth() + moving + thinning + cleaner
    }

    /// The bytes of pending changes over which transactions wait until trimming has written some (rule T4): a quarter of the
    /// window and an eighth of the memory budget. One transaction may pass it.
    pub(crate) fn pending_bytes_max(&self) -> usize {
        (self.options.memory_bytes / 8).min(self.window_bytes_max() / 4).max(PENDING_BYTES_MIN)
    }

    /// The bytes of changes that a replay would make pending over which transactions wait for the next checkpoint: a quarter
    /// of the window and of the memory budget more than those pending now (rule T4). Small rows fill this before the window.
    pub(crate) fn replay_bytes_max(&self) -> usize {
        let more = (self.options.memory_bytes / 4).min(self.window_bytes_max() / 4).max(PENDING_BYTES_MIN);
        self.pending_bytes_max() + more
    }

    /// Whether there may be more pending changes, now and in a replay. Without space for images of leaves trimming cannot make
    /// them fewer, so what only takes away goes on: it makes space (rule S6).
    fn pending_has_room(&self, purpose: Purpose) -> bool {
        let rows = self.rows.borrow();
        purpose != Purpose::Store && self.trim.without_space.get()
            || rows.pending_bytes() <= self.pending_bytes_max()
                && rows.replay_bytes() <= self.replay_bytes_max()
            || seabed_types::seeded!(18)
    }

    /// Whether the window has room for another record.
    fn window_has_room(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.segment_count() <= self.window_segments_max())
    }

    /// Whether `bytes` more may come at this moment.
    pub(crate) fn is_admitted(&self, bytes: usize, purpose: Purpose) -> bool {
        self.window_has_room() && self.pending_has_room(purpose) && self.fits(bytes, purpose)
    }

    /// Waits until `bytes` more may come, or says that they cannot. The caller holds no [`crate::shard::mounted::OpGuard`]: that would
    /// keep the segments it waits for from becoming free.
    pub(crate) async fn admit(self: &Rc<Self>, bytes: usize, purpose: Purpose) -> Result<()> {
        if bytes as u64 > self.usable_bytes() {
            return Err(self.no_space());
        }
        // A cycle that runs now may have passed what we wait for: only one that begins after now has seen all.
        let mut enough_cycles = self.trim.begun.get() + 1;
        let mut losses = self.table.losses();
        let mut best = self.space_to_remove();
        if self.grave_work.unread.replace(false) {
            self.grave_work.more.set(true);
            self.grave_work.wake.notify_all();
        }
        let graves_may_help = || purpose == Purpose::Store && self.grave_work.is_any() && !self.closing.get();
        let cleaning_may_help = || purpose == Purpose::Store && self.cleaning_may_help(bytes);
        let _cleaning =
            (purpose == Purpose::Store && self.options.cleaning).then(|| CleaningWanted::new(self));
        loop {
            self.journal()?.healthy()?;
            if self.is_admitted(bytes, purpose) {
                return Ok(());
            }
            // Nobody trims any more, so nothing will be freed; only graves may wait here then, which the next mount drains.
            if self.is_ending() {
                return Err(Error::Closed);
            }
            let exhausted =
                purpose == Purpose::Store && self.trim.exhausted_at.get() == Some(self.table.losses());
            let (cooling, losses_now) = (self.table.cooling_count(), self.table.losses());
            let mut has_cycled = self.trim.completed.get() >= enough_cycles;
            let now = self.space_to_remove();
            let gets_on = purpose == Purpose::Remove && (now.0 > best.0 || now.1 < best.1);
            let has_news = losses != self.table.losses() || gets_on;
            let is_in_vain = has_cycled && cooling == 0 && !has_news;
            // Who waits for the window or for pending changes only gets there, as long as there is space to trim in.
            let lacks_space = !self.fits(bytes, purpose) || self.trim.without_space.get();
            if lacks_space && !graves_may_help() && !cleaning_may_help() && (exhausted || is_in_vain) {
                // What a read handle keeps may be space for this.
                if self.past.expire_for_space() {
                    self.watch_ended();
                    self.trim.exhausted_at.set(None);
                    losses = self.table.losses();
                    enough_cycles = self.trim.begun.get() + 1;
                    continue;
                }
                self.trim.exhausted_at.set(Some(self.table.losses()));
                return Err(self.no_space());
            }
            if has_cycled && has_news {
                // Something was given up since, or leaves were written: one more cycle may turn it into space.
                losses = self.table.losses();
                best = (best.0.max(now.0), best.1.min(now.1));
                enough_cycles = self.trim.begun.get() + 1;
                has_cycled = false;
            }
            // What becomes free when running operations end needs no further cycle. Cycle upon cycle, a slow reader beside a
            // full device cost checkpoints without end.
            let waits_for_others = (cooling > 0 && has_cycled || cleaning_may_help())
                && self.window_has_room()
                && self.pending_has_room(purpose);
            if !waits_for_others {
                // For who brings bytes moving gains nothing: it has to leave as much more as there is less to be moved.
                if purpose == Purpose::Remove && !self.fits(bytes, purpose) {
                    self.trim.is_for_space.set(true);
                }
                self.trim.force();
            }
            let seen = (self.trim.completed.get(), graves_may_help(), cleaning_may_help());
            let changed = || {
                self.is_ending()
                    || self.journal.as_ref().is_none_or(|journal| journal.healthy().is_err())
                    || self.is_admitted(bytes, purpose)
                    || seen != (self.trim.completed.get(), graves_may_help(), cleaning_may_help())
                    || waits_for_others
                        && (cooling != self.table.cooling_count() || losses_now != self.table.losses())
            };
            seabed_types::reached!(AdmissionWaited);
            let waited = self.trim.moved.until(changed);
            let freed = self.table.changed.until(changed);
            futures::future::select(Box::pin(waited), Box::pin(freed)).await;
        }
    }

    /// Free segments and bytes of pending changes: cycles that get on make more of the ones, or less of the others.
    fn space_to_remove(&self) -> (usize, usize) {
        (self.table.free_count(), self.rows.borrow().pending_bytes())
    }

    pub(crate) fn no_space(&self) -> Error {
        Error::NoSpace {
            live: self.table.live_total().max(0).cast_unsigned(),
            usable: self.usable_bytes(),
            reserved: self.layout.segment_count() * u64::from(self.layout.segment_bytes)
                - self.usable_bytes(),
            free_segments: self.table.free_count(),
        }
    }
}
