//! Classes: which open segment takes which bytes, so that bytes in a segment die at about the same time.
//!
//! What is copied out of a victim goes to the *group* after the victim's: user data to the first, the first's to the second, the
//! last to itself. A chunk in the third group survived three victims. How long that takes adapts itself to the load, because
//! the choice of victims decides how long segments of a group live: no boundary has to be set or learned, and no age has to be
//! kept for a chunk. (MiDAS, FAST 2024, has chains of groups and sizes them; with the victims of [`crate::victim`] fixed
//! boundaries, quantiles of ages and the plain chain came out within 1 % of one another, decision 0026.)
//!
//! Each group costs an open segment, so small stores have fewer: one per 128 segments, at most [`GROUPS_MAX`].
//!
//! **Heat of user writes.** A user's write could also be placed by how long the version that it overwrites lived: cold if that one
//! had been copied, or lay in its segment for longer than user segments lie before they are cleaned. This needs a second
//! stream for user data ([`Class::FreshCold`]); a caller with one stream ignores [`Classes::of_user_write`].
//!
//! Example: 1,000 segments, three groups. A chunk is written into segment 7 (`Fresh`), survives its cleaning and is now in a segment
//! of `Relocated(0)`. The next write of the chunk is cold: its old version survived a victim.

use crate::{Clock, Facts};

/// Groups of relocated data at most: a fourth gained nothing on any load.
pub const GROUPS_MAX: u8 = 3;

/// Segments for each group.
const SEGMENTS_PER_GROUP: u64 = 128;

/// The share of the newest segment in the mean time that user segments lie before they are cleaned.
const NEWEST_SHARE: f64 = 0.05;

/// What bytes a segment holds, by how they came there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Class {
    /// Users' writes.
    Fresh,
    /// Users' writes that are expected to live long, if they have a stream of their own.
    FreshCold,
    /// Copies; the group counts from 0.
    Relocated(u8),
}

impl Class {
    /// Whether the cleaner wrote the segment.
    pub fn is_relocated(self) -> bool {
        matches!(self, Self::Relocated(_))
    }
}

/// How many groups there are, and how long user data lies before it is cleaned.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Classes {
    groups: u8,
    /// Mean bytes written between placing and cleaning of user segments, as of late.
    residence: Option<f64>,
}

impl Classes {
    /// For a shard with so many segments.
    #[expect(clippy::cast_possible_truncation, reason = "at most GROUPS_MAX")]
    pub fn for_segments(segments: u64) -> Self {
        let groups = (segments / SEGMENTS_PER_GROUP).clamp(1, u64::from(GROUPS_MAX));
        Self::with_groups(groups as u8)
    }

    /// With so many groups, at least one.
    pub fn with_groups(groups: u8) -> Self {
        Self { groups: groups.max(1), residence: None }
    }

    /// How many groups relocated data has: as many open segments.
    pub fn groups(&self) -> u8 {
        self.groups
    }

    /// Where copies out of a segment of `source` go.
    pub fn class_for(&self, source: Class) -> Class {
        match source {
            Class::Fresh | Class::FreshCold => Class::Relocated(0),
            Class::Relocated(group) => Class::Relocated(group.saturating_add(1).min(self.groups - 1)),
        }
    }

    /// Learns from a victim how long user data lies before it is cleaned.
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    pub fn note_victim(&mut self, victim: &Facts, clock: Clock) {
        if victim.class == Class::Fresh {
            let lay = clock.since(victim.placed) as f64;
            let mean = self.residence.unwrap_or(lay);
            self.residence = Some(mean + (lay - mean) * NEWEST_SHARE);
        }
    }

    /// Which of two streams of user data takes a write, from the segment that holds the version that it overwrites. What
    /// overwrites nothing is fresh: nothing is known of it.
    #[expect(clippy::cast_precision_loss, reason = "a comparison with a mean")]
    pub fn of_user_write(&self, overwritten: Option<&Facts>, clock: Clock) -> Class {
        let Some(old) = overwritten else { return Class::Fresh };
        let lived_long =
            || self.residence.is_some_and(|residence| clock.since(old.placed) as f64 > residence);
        if old.class.is_relocated() || lived_long() { Class::FreshCold } else { Class::Fresh }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(class: Class, placed: u64) -> Facts {
        Facts { live: 1, written: 2, placed: Clock(placed), class }
    }

    #[test]
    fn copies_move_on_by_one_group_and_stay_in_the_last() {
        let classes = Classes::for_segments(1000);
        assert_eq!(classes.groups(), 3);
        let mut class = Class::Fresh;
        for group in [0, 1, 2, 2] {
            class = classes.class_for(class);
            assert_eq!(class, Class::Relocated(group));
        }
        assert_eq!(classes.class_for(Class::FreshCold), Class::Relocated(0));
    }

    #[test]
    fn small_stores_have_few_open_segments() {
        let groups = |segments| Classes::for_segments(segments).groups();
        assert_eq!([groups(1), groups(255), groups(256), groups(1 << 40)], [1, 1, 2, GROUPS_MAX]);
        assert_eq!(Classes::with_groups(0).class_for(Class::Relocated(9)), Class::Relocated(0));
    }

    #[test]
    fn the_overwritten_version_says_whether_a_write_is_cold() {
        let mut classes = Classes::for_segments(1000);
        let now = Clock(1000);
        assert_eq!(classes.of_user_write(None, now), Class::Fresh);
        assert_eq!(
            classes.of_user_write(Some(&segment(Class::Fresh, 0)), now),
            Class::Fresh,
            "nothing learned"
        );
        classes.note_victim(&segment(Class::Fresh, 900), now);
        classes.note_victim(&segment(Class::Relocated(0), 0), now);
        assert_eq!(classes.of_user_write(Some(&segment(Class::Fresh, 899)), now), Class::FreshCold);
        assert_eq!(classes.of_user_write(Some(&segment(Class::Fresh, 901)), now), Class::Fresh);
        assert_eq!(classes.of_user_write(Some(&segment(Class::FreshCold, 901)), now), Class::Fresh);
        assert_eq!(classes.of_user_write(Some(&segment(Class::Relocated(1), 999)), now), Class::FreshCold);
    }
}
