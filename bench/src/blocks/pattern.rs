//! Pattern: which block is next.
//!
//! Sequential jobs have a place per direction and begin again at the region's end. Random ones visit, as fio's do, each
//! block once in an order that looks random before they visit one again, a new order each time; with sizes that are
//! not all the same, with `norandommap`, or with any other distribution, each is drawn anew. The most wanted places are
//! spread over the region.
//!
//! A place is drawn before its size, and a size that does not fit the region or what is left to do makes way for the
//! largest one that does. `rw=randread:8` draws a place for each eighth operation, and those between follow the one
//! before; `rw=read:4k` leaves holes. A trim of `trimwrite` is followed by a write of the same block.

use fastrand::Rng;

use super::BlockRequest;
use crate::distribution::{Shuffle, Skew};
use crate::job::{Direction, Distribution, Job, Mix, Sequencer, Split, Step};

/// See the module.
pub(super) struct Pattern {
    rng: Rng,
    mix: Mix,
    is_random: bool,
    read_percent: u32,
    random_percent: [u32; 3],
    step: Step,
    sequencer: Sequencer,
    sizes: [Split; 3],
    /// What random places are multiples of.
    aligns: [u64; 3],
    /// Where the region begins.
    offset: u64,
    /// Its bytes.
    bytes: u64,
    order: Order,
    /// Operations until a place is drawn.
    until_draw: u32,
    /// Of the last operation of each direction.
    starts: [u64; 3],
    ends: [u64; 3],
    /// A block that was trimmed and is written next.
    trimmed: Option<(u64, u64)>,
}

/// The order of random places.
enum Order {
    Once { shuffle: Shuffle, blocks: u64, visited: u64 },
    Uniform,
    Skewed(Box<[Option<Skew>; 3]>),
    Sequence { blocks: Vec<u32>, is_strided: bool, counts: [u64; 3] },
}

impl Pattern {
    pub(super) fn new(job: &Job, copy: u32, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let bytes = job.region_bytes(copy);
        let aligns = job.aligns.unwrap_or(std::array::from_fn(|place| job.block_sizes[place].min()));
        let places = Direction::ALL.map(|direction| {
            let place = direction.index();
            (places(bytes, aligns[place], job.block_sizes[place].min()), aligns[place])
        });
        let order = match &job.distribution {
            Distribution::Uniform
                if job.has_random_map
                    && job.aligns.is_none()
                    && job.smallest_block() == job.largest_block() =>
            {
                let blocks = (bytes / job.smallest_block().max(1)).max(1);
                Order::Once { shuffle: Shuffle::new(blocks, rng.u64(..)), blocks, visited: 0 }
            }
            Distribution::Uniform => Order::Uniform,
            Distribution::Sequence(blocks) => {
                Order::Sequence { blocks: blocks.clone(), is_strided: job.strides_sequence, counts: [0; 3] }
            }
            skewed @ (Distribution::Zipf { .. }
            | Distribution::Pareto { .. }
            | Distribution::Normal { .. }
            | Distribution::Zoned(_)) => Order::Skewed(Box::new(
                Direction::ALL.map(|direction| Skew::new(skewed, direction, places[direction.index()], seed)),
            )),
        };
        Self {
            rng,
            mix: job.access.mix,
            is_random: job.access.is_random,
            read_percent: job.read_percent,
            random_percent: job.random_percent,
            step: job.step,
            sequencer: job.sequencer,
            sizes: job.block_sizes.clone(),
            aligns,
            offset: job.region_start(copy),
            bytes,
            order,
            until_draw: 1,
            starts: [0; 3],
            ends: [0; 3],
            trimmed: None,
        }
    }

    fn direction(&mut self) -> Direction {
        match self.mix {
            Mix::Read => Direction::Read,
            Mix::Trim | Mix::TrimWrite => Direction::Trim,
            Mix::Both if self.rng.u32(..100) < self.read_percent => Direction::Read,
            Mix::Write | Mix::Both => Direction::Write,
        }
    }

    /// The next block, of at most `left` bytes; none if even the smallest has more.
    pub(super) fn draw(&mut self, left: u64) -> Option<BlockRequest> {
        if let Some((at, bytes)) = self.trimmed.take() {
            return (bytes <= left).then(|| self.request(Direction::Write, at, bytes));
        }
        let direction = self.direction();
        self.sizes[direction.index()].largest_within(left)?;
        let at = self.place(direction);
        let split = &self.sizes[direction.index()];
        let room = left.min(self.bytes - at);
        let drawn = split.draw(&mut self.rng);
        let bytes = if drawn <= room { drawn } else { split.largest_within(room)? };
        if self.mix == Mix::TrimWrite {
            self.trimmed = Some((at, bytes));
        }
        Some(self.request(direction, at, bytes))
    }

    fn request(&mut self, direction: Direction, at: u64, bytes: u64) -> BlockRequest {
        self.starts[direction.index()] = at;
        self.ends[direction.index()] = at + bytes;
        BlockRequest { direction, offset: self.offset + at, bytes }
    }

    /// A place in the region that has room for the direction's smallest block.
    fn place(&mut self, direction: Direction) -> u64 {
        if !self.is_random {
            return self.following(direction).unwrap_or(0);
        }
        if let Step::Draw { operations } = self.step {
            self.until_draw -= 1;
            if self.until_draw == 0 {
                self.until_draw = operations;
            } else {
                return match self.sequencer {
                    Sequencer::Sequential => match self.following(direction) {
                        Some(at) => at,
                        None => self.random(direction),
                    },
                    Sequencer::Identical => self.starts[direction.index()],
                };
            }
        }
        let percent = self.random_percent[direction.index()];
        if percent < 100
            && self.rng.u32(..100) >= percent
            && let Some(at) = self.following(direction)
        {
            return at;
        }
        self.random(direction)
    }

    /// The place after the last one; none at the region's end.
    fn following(&self, direction: Direction) -> Option<u64> {
        let place = direction.index();
        let (end, smallest) = (self.ends[place], self.sizes[place].min());
        let at = match self.step {
            Step::Skip { bytes } if end > 0 => match end.checked_add_signed(bytes) {
                Some(at) if at < self.bytes => at,
                _ if bytes > 0 => 0,
                _ => self.bytes.saturating_add_signed(bytes),
            },
            Step::Each | Step::Draw { .. } | Step::Skip { .. } => end,
        };
        (at.checked_add(smallest)? <= self.bytes).then_some(at)
    }

    fn random(&mut self, direction: Direction) -> u64 {
        let place = direction.index();
        let align = self.aligns[place];
        let places = places(self.bytes, align, self.sizes[place].min());
        let number = match &mut self.order {
            Order::Once { shuffle, blocks, visited } => {
                if *visited == *blocks {
                    *visited = 0;
                    *shuffle = Shuffle::new(*blocks, self.rng.u64(..));
                }
                *visited += 1;
                shuffle.place(*visited - 1)
            }
            Order::Uniform => self.rng.u64(..places),
            Order::Skewed(skews) => skews[place].as_ref().map_or(0, |skew| skew.draw(&mut self.rng)),
            Order::Sequence { blocks, is_strided, counts } => {
                let of_round = blocks.len() as u64;
                let number = |count: u64| {
                    let index = usize::try_from(count % of_round).unwrap_or(0);
                    let stride = if *is_strided { count / of_round * of_round } else { 0 };
                    u64::from(blocks[index]) + stride
                };
                if number(counts[place]) >= places {
                    counts[place] = 0;
                }
                counts[place] += 1;
                number(counts[place] - 1)
            }
        };
        number.min(places - 1) * align
    }
}

/// How many places a region has for blocks.
fn places(bytes: u64, align: u64, smallest: u64) -> u64 {
    bytes.saturating_sub(smallest) / align.max(1) + 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::job::Jobs;

    fn requests(options: &str, count: usize) -> Vec<BlockRequest> {
        let jobs = Jobs::parse(&format!("[a]\n{options}"), &[]).expect("a job");
        let mut pattern = Pattern::new(&jobs.jobs[0], 0, 5);
        (0..count).map(|_| pattern.draw(u64::MAX).expect("a block")).collect()
    }

    #[test]
    fn sequential_jobs_go_round() {
        let offsets: Vec<u64> = requests("rw=write\nsize=10k\nbs=4k\noffset=64k", 5)
            .iter()
            .map(|request| request.offset)
            .collect();
        assert_eq!(offsets, [64 << 10, 68 << 10, 64 << 10, 68 << 10, 64 << 10]);
        let mixed = requests("rw=rw\nsize=1m\nrwmixread=70", 200);
        for direction in [Direction::Read, Direction::Write] {
            let own = mixed.iter().filter(|request| request.direction == direction);
            assert!(own.zip(0..).all(|(request, index)| request.offset == index * 4096));
        }
    }

    #[test]
    fn random_jobs_visit_each_block_once() {
        let all = requests("rw=randwrite\nsize=1m", 512);
        for pass in all.chunks(256) {
            let mut offsets: Vec<u64> = pass.iter().map(|request| request.offset).collect();
            offsets.sort_unstable();
            assert!(offsets.into_iter().eq((0..256).map(|block| block * 4096)));
        }
        assert_ne!(all[..256], all[256..], "another order");
        let drawn = requests("rw=randwrite\nsize=1m\nnorandommap", 256);
        let mut offsets: Vec<u64> = drawn.iter().map(|request| request.offset).collect();
        offsets.sort_unstable();
        offsets.dedup();
        assert!((120..200).contains(&offsets.len()), "{} of 256 places: 1 - 1/e of them", offsets.len());
    }

    #[test]
    fn zipf_prefers_few_places_all_over() {
        let mut counts = BTreeMap::new();
        for request in requests("rw=randread\nsize=4m\nrandom_distribution=zipf:1.2", 10_000) {
            *counts.entry(request.offset).or_insert(0) += 1;
        }
        let mut by_count: Vec<(u32, u64)> = counts.iter().map(|(offset, count)| (*count, *offset)).collect();
        by_count.sort_unstable();
        by_count.reverse();
        let of_ten: u32 = by_count[..10].iter().map(|(count, _)| count).sum();
        assert!(of_ten > 5000, "{of_ten}");
        assert!(by_count[0].1.abs_diff(by_count[1].1) > 256 << 10, "the first two are neighbours");
    }

    #[test]
    fn shares_and_sizes() {
        let all = requests("rw=randrw\nrwmixread=30\nsize=10m\nbssplit=4k/70:64k/30,8k\noffset=1m", 20_000);
        let count = |wanted: &dyn Fn(&BlockRequest) -> bool| {
            u32::try_from(all.iter().filter(|request| wanted(request)).count()).expect("small")
        };
        let reads = count(&|request| request.direction == Direction::Read);
        assert!(reads.abs_diff(6000) < 300, "{reads}");
        let large = count(&|request| request.direction == Direction::Read && request.bytes == 64 << 10);
        assert!(large.abs_diff(1800) < 200, "{large}");
        assert_eq!(count(&|request| request.bytes == 8192), 20_000 - reads);
        for request in &all {
            let unit = if request.direction == Direction::Read { 4096 } else { 8192 };
            assert!(request.offset.is_multiple_of(unit) && request.offset >= 1 << 20);
            assert!(request.offset + request.bytes <= 11 << 20);
        }
    }

    fn places(options: &str, count: usize) -> Vec<u64> {
        requests(options, count).iter().map(|request| request.offset / 4096).collect()
    }

    /// What fio 3.33 does for the same options (seen with `--debug=io`).
    #[test]
    fn steps_leave_holes_go_backwards_and_repeat() {
        assert_eq!(places("rw=read:4k\nsize=32k", 6), [0, 2, 4, 6, 0, 2]);
        assert_eq!(places("rw=read:-8k\nsize=32k", 9), [0, 6, 5, 4, 3, 2, 1, 0, 6]);
        let drawn = places("rw=randread:4\nsize=4m", 400);
        let runs = drawn.chunks(4).filter(|run| run.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        assert!(runs.count() > 95);
        let same = places("rw=randread:4\nrw_sequencer=identical\nsize=4m", 400);
        assert!(same.chunks(4).all(|run| run.iter().all(|place| *place == run[0])));
    }

    #[test]
    fn a_trimmed_block_is_written_next() {
        for mode in ["trimwrite", "randtrimwrite"] {
            let all = requests(&format!("rw={mode}\nsize=1m\nbssplit=4k/50:16k/50"), 200);
            for pair in all.chunks(2) {
                assert_eq!((pair[0].direction, pair[1].direction), (Direction::Trim, Direction::Write));
                assert_eq!((pair[0].offset, pair[0].bytes), (pair[1].offset, pair[1].bytes), "{mode}");
            }
        }
        assert_eq!(places("rw=trimwrite\nsize=1m", 4), [0, 0, 1, 1]);
    }

    #[test]
    fn a_part_of_the_operations_is_random() {
        let all = requests("rw=randread\nsize=64m\npercentage_random=25", 4000);
        let following = all.windows(2).filter(|pair| pair[0].offset + 4096 == pair[1].offset).count();
        assert!(following.abs_diff(3000) < 150, "{following}");
        let none = places("rw=randread\nsize=1m\npercentage_random=0", 5);
        assert_eq!(none, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn blocks_lie_at_multiples_of_their_alignment() {
        let all = requests("rw=randwrite\nsize=1m\nbs=8k\nblockalign=4k", 2000);
        assert!(
            all.iter().all(|request| request.offset.is_multiple_of(4096) && request.offset + 8192 <= 1 << 20)
        );
        assert!(all.iter().any(|request| !request.offset.is_multiple_of(8192)));
        assert!(all.iter().any(|request| request.offset + 8192 == 1 << 20), "the last place too");
    }

    #[test]
    fn a_sequence_repeats_or_strides() {
        let options = "rw=randread\nsize=48k\nrandom_distribution=sequence:2,0,1\n";
        assert_eq!(places(options, 7), [2, 0, 1, 2, 0, 1, 2]);
        let strided = places(&format!("{options}random_sequence_stride=1"), 14);
        assert_eq!(strided, [2, 0, 1, 5, 3, 4, 8, 6, 7, 11, 9, 10, 2, 0]);
    }

    #[test]
    fn zones_are_parts_of_the_region() {
        let zones = "random_distribution=zoned:70/10:30/20";
        let all = requests(&format!("rw=randrw\nsize=100m\noffset=1g\n{zones}"), 5000);
        let first = all.iter().filter(|request| request.offset - (1 << 30) < 10 << 20).count();
        assert!(first.abs_diff(3500) < 200, "{first}");
        assert!(all.iter().all(|request| (1 << 30..(1 << 30) + (30 << 20)).contains(&request.offset)));
    }

    /// A pass of sizes that vary ended behind the region or its budget by up to a block.
    #[test]
    fn what_is_left_is_never_exceeded() {
        for options in [
            "rw=write\nbssplit=4k/50:64k/50",
            "rw=randwrite\nbssplit=4k/50:64k/50",
            "rw=randwrite\nbsrange=4k-64k",
            "rw=write\nbs=64k",
        ] {
            let jobs = Jobs::parse(&format!("[a]\nsize=1000000\n{options}"), &[]).expect("a job");
            let mut pattern = Pattern::new(&jobs.jobs[0], 0, 5);
            let mut left: u64 = 1_000_000;
            while let Some(request) = pattern.draw(left) {
                assert!(request.offset + request.bytes <= 1_000_000, "{options}");
                left = left.checked_sub(request.bytes).expect("at most what is left");
            }
            assert!(left < jobs.jobs[0].block_sizes[1].min(), "{options}: {left}");
        }
    }
}
