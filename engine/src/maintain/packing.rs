//! Packing: what images of nodes take of segments, and how many segments must stay free so that they can be moved together.
//!
//! Images die leaf by leaf, so the segments of the node stream thin out: `n` images that would fill few segments lie in many.
//! Moving those of the emptiest segments together ([`crate::maintain::compact_nodes`]) gains a segment if there is space to write in. Of `N`
//! segments the `t + 1` emptiest have `n (t + 1) / N` images at most; with `a` nodes above them that are written too they fit
//! `t` segments of `e` images each as soon as `N >= n (t + 1) / (t e - a)`. So with `t` segments to write in there are never
//! many more than that. The more are kept to write in, the fewer get thin: [`Slack::of`] takes the least sum of both, which is
//! about `2 sqrt(n / e)` more than the images take when packed.
//!
//! Example: 11 images, four of which fit a segment: with 2 segments to write in they come to lie in 6 at most, where packed ones
//! take 3. 160,000 images, 3,800 of which fit a segment of 64 MiB: 8 to write in, and 52 where packed ones take 43.
//!
//! Limits: `a` is an estimate, as nodes above are not counted: a 64th of all, and two. Where keys are so long that there are
//! more, the bound is passed, and removals have what else is kept for them.

use seabed_segment::record_bytes_of;
use seabed_types::{BLOCK_BYTES, round_up_to_block};

use crate::io::streams::IMAGES_PER_RECORD;

/// Nodes above those that are moved: one of so many, and so many more.
const ABOVE_SHARE: usize = 64;
const ABOVE_MORE: usize = 2;

/// What node images take of segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Packing {
    pub(crate) node_bytes: usize,
    /// Bytes that an image takes in the list of its record, and of its segment.
    pub(crate) listed: usize,
    pub(crate) record_bytes_max: usize,
    pub(crate) segment_bytes: usize,
}

impl Packing {
    fn record_bytes(&self, images: usize) -> usize {
        record_bytes_of(images * self.node_bytes, images * self.listed)
    }

    /// How many images fit records that follow one another in so many bytes.
    pub(crate) fn images_in(&self, bytes: usize) -> usize {
        let fitting = |bytes: usize| {
            let most = bytes.min(self.record_bytes_max);
            (1..=IMAGES_PER_RECORD).take_while(|images| self.record_bytes(*images) <= most).count()
        };
        let whole = fitting(self.record_bytes_max);
        if whole == 0 {
            return 0;
        }
        let records = bytes / self.record_bytes(whole);
        records * whole + fitting(bytes - records * self.record_bytes(whole))
    }

    /// How many images a segment takes.
    pub(crate) fn images_of_segment(&self) -> usize {
        let inventory = round_up_to_block(self.segment_bytes / self.node_bytes * self.listed);
        self.images_in(self.segment_bytes.saturating_sub(2 * BLOCK_BYTES + inventory)).max(1)
    }
}

/// What moving images together takes and gives, in segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Gain {
    /// Images that the open segment still takes, and that a fresh one does.
    pub(crate) room: usize,
    pub(crate) each: usize,
    /// Segments that may be claimed.
    pub(crate) most: usize,
    /// Nodes that have no image and are written in any case.
    pub(crate) in_memory: usize,
    /// As many as are written are enough.
    pub(crate) pending_gains: bool,
}

impl Gain {
    fn taken(&self, images: usize) -> usize {
        (images + self.in_memory).saturating_sub(self.room).div_ceil(self.each)
    }

    pub(crate) fn is_too_much(&self, images: usize) -> bool {
        self.taken(images) > self.most
    }

    /// Whether so many segments may be emptied by writing so many images.
    pub(crate) fn is_worth(&self, segments: usize, images: usize) -> bool {
        let taken = self.taken(images);
        taken < segments || self.pending_gains && taken == segments
    }
}

/// How many segments must stay free for images, beyond what one cycle writes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Slack {
    /// To move images together in.
    pub(crate) moving: usize,
    /// So many more segments the images may come to lie in.
    pub(crate) thinning: usize,
}

impl Slack {
    /// For so many images in so many segments, of which each takes so many.
    pub(crate) fn of(images: usize, segments: usize, each: usize) -> Self {
        let above = ABOVE_MORE + images / ABOVE_SHARE;
        let packed = images / each;
        let (mut least, mut moving, mut most) = (usize::MAX, 0, 0);
        for tried in 1.. {
            // The sum is never less than what is tried and what the images take when packed.
            if tried + packed >= least {
                break;
            }
            let written = (tried * each).saturating_sub(above);
            if written == 0 {
                continue;
            }
            let lie_in = (images * (tried + 1)).div_ceil(written);
            if tried + lie_in < least {
                (least, moving, most) = (tried + lie_in, tried, lie_in);
            }
        }
        Self { moving, thinning: most.saturating_sub(segments) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten full segments and an empty one: all inner nodes of all trees were read in each cycle, to find that nothing can be gained.
    #[test]
    fn counts_tell_what_cannot_be_worth_it() {
        let gain = Gain { room: 0, each: 9, most: 3, in_memory: 0, pending_gains: false };
        assert!(!gain.is_worth(1, 1) && !gain.is_worth(1, 9), "one is written for one");
        assert!(gain.is_worth(2, 9) && !gain.is_worth(2, 10));
        assert!(!gain.is_too_much(27) && gain.is_too_much(28));
        assert!(Gain { room: 1, ..gain }.is_worth(1, 1), "the open segment takes it");
        assert!(!Gain { in_memory: 1, ..gain }.is_worth(2, 9), "and what is written in any case");
        assert!(Gain { pending_gains: true, ..gain }.is_worth(2, 18));
        assert!(!Gain { pending_gains: true, ..gain }.is_worth(2, 19));
    }

    /// A record of a store with the smallest segments has three images.
    #[test]
    fn images_are_packed_as_records_are() {
        let listed = 36 + 20;
        let small = Packing { node_bytes: 4096, listed, record_bytes_max: 16 << 10, segment_bytes: 64 << 10 };
        assert_eq!(small.images_in(0), 0);
        assert_eq!(small.images_in(small.record_bytes(1)), 1);
        assert_eq!(small.images_in(16 << 10), 3);
        assert_eq!(small.images_of_segment(), 9);
        let large = Packing { node_bytes: 16384, listed, record_bytes_max: 1 << 20, segment_bytes: 64 << 20 };
        assert_eq!(large.images_in(large.record_bytes(16)), 16);
        assert!(large.images_of_segment() > 64 * 64 * 9 / 10, "{}", large.images_of_segment());
    }

    /// However images are spread over as many segments as the slack allows for, the segments that it keeps are enough to gain one.
    #[test]
    fn the_slack_is_enough_to_gain_a_segment() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..3000 {
            let each = rng.usize(3..60);
            let images = rng.usize(1..each * 50);
            let slack = Slack::of(images, 0, each);
            let mut counts = vec![0; slack.thinning.max(1)];
            for _ in 0..images {
                let open: Vec<usize> = (0..counts.len()).filter(|index| counts[*index] < each).collect();
                counts[open[rng.usize(..open.len())]] += 1;
            }
            counts.retain(|count| *count > 0);
            if counts.len() < slack.thinning {
                continue;
            }
            counts.sort_unstable();
            let above = ABOVE_MORE + images / ABOVE_SHARE;
            let gain = Gain { room: 0, each, most: slack.moving, in_memory: above, pending_gains: false };
            let emptied: usize = counts.iter().take(slack.moving + 1).sum();
            assert!(!gain.is_too_much(emptied), "{images} of {each}: {slack:?}");
            assert!(gain.is_worth(slack.moving + 1, emptied), "{images} of {each}: {slack:?}");
        }
    }

    #[test]
    fn the_slack_of_large_stores_is_small() {
        assert_eq!(Slack::of(0, 0, 9), Slack { moving: 1, thinning: 0 });
        assert_eq!(Slack::of(11, 4, 4), Slack { moving: 2, thinning: 2 });
        // A device of 1 TB, of which one of 64 bytes is of images: 16,000 segments of 64 MiB, 250 of them full of images.
        let large = Slack::of(1_000_000, 250, 4000);
        assert!(large.moving + large.thinning < 80, "{large:?}");
    }
}
