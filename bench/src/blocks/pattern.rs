//! Pattern: which block is next.
//!
//! Sequential jobs have a place per direction and begin again at the region's end. Random ones visit, as fio's do, each
//! block once in an order that looks random before they visit one again, a new order each time; with sizes that are
//! not all the same, with `norandommap`, or with zipf, each is drawn anew. The most wanted places of zipf are spread
//! over the region.

use fastrand::Rng;

use super::BlockRequest;
use crate::distribution::{Shuffle, Spread, Zipf};
use crate::job::{Direction, Distribution, Job, Mix, Split};

/// See the module.
pub(super) struct Pattern {
    rng: Rng,
    mix: Mix,
    read_percent: u32,
    sizes: [Split; 3],
    /// Where the region begins.
    offset: u64,
    /// Its bytes.
    bytes: u64,
    order: Order,
}

enum Order {
    Sequential { next: [u64; 3] },
    Once { block_bytes: u64, shuffle: Shuffle, visited: u64 },
    Uniform,
    Zipf { block_bytes: u64, zipf: Zipf, spread: Spread },
}

impl Pattern {
    pub(super) fn new(job: &Job, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let bytes = job.region_bytes();
        let sizes = job.directions().iter().map(|direction| &job.block_sizes[direction.index()]);
        let smallest = sizes.clone().map(Split::min).min().unwrap_or(1);
        let largest = sizes.map(Split::max).max().unwrap_or(1);
        let order = match job.distribution {
            _ if !job.access.is_random => Order::Sequential { next: [0; 3] },
            Distribution::Zipf(theta) => {
                let blocks = (bytes / smallest).max(1);
                let zipf = Zipf::new(theta, blocks);
                Order::Zipf { block_bytes: smallest, zipf, spread: Spread::new(blocks, seed) }
            }
            Distribution::Uniform if job.has_random_map && smallest == largest => {
                let shuffle = Shuffle::new((bytes / smallest).max(1), rng.u64(..));
                Order::Once { block_bytes: smallest, shuffle, visited: 0 }
            }
            Distribution::Uniform => Order::Uniform,
        };
        Self {
            rng,
            mix: job.access.mix,
            read_percent: job.read_percent,
            sizes: job.block_sizes.clone(),
            offset: job.offset,
            bytes,
            order,
        }
    }

    fn direction(&mut self) -> Direction {
        match self.mix {
            Mix::Read => Direction::Read,
            Mix::Trim => Direction::Trim,
            Mix::Both if self.rng.u32(..100) < self.read_percent => Direction::Read,
            Mix::Write | Mix::Both => Direction::Write,
        }
    }

    pub(super) fn draw(&mut self) -> BlockRequest {
        let direction = self.direction();
        let split = &self.sizes[direction.index()];
        let bytes = split.only().unwrap_or_else(|| split.at(self.rng.u32(..100)));
        // Blocks lie at multiples of the smallest size of their direction; the last whole one ends in the region.
        let unit = split.min();
        let last = (self.bytes - bytes) / unit * unit;
        let at = match &mut self.order {
            Order::Sequential { next } => {
                let next = &mut next[direction.index()];
                let at = if *next + bytes > self.bytes { 0 } else { *next };
                *next = at + bytes;
                at
            }
            Order::Once { block_bytes, shuffle, visited } => {
                let blocks = (self.bytes / *block_bytes).max(1);
                if *visited == blocks {
                    *visited = 0;
                    *shuffle = Shuffle::new(blocks, self.rng.u64(..));
                }
                *visited += 1;
                shuffle.place(*visited - 1) * *block_bytes
            }
            Order::Uniform => self.rng.u64(..=last / unit) * unit,
            Order::Zipf { block_bytes, zipf, spread } => {
                let block = spread.place(zipf.draw(&mut self.rng) - 1);
                (block * *block_bytes / unit * unit).min(last)
            }
        };
        BlockRequest { direction, offset: self.offset + at, bytes }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::job::Jobs;

    fn requests(options: &str, count: usize) -> Vec<BlockRequest> {
        let jobs = Jobs::parse(&format!("[a]\n{options}"), &[]).expect("a job");
        let mut pattern = Pattern::new(&jobs.jobs[0], 5);
        (0..count).map(|_| pattern.draw()).collect()
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
}
