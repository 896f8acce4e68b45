//! Simulate: write amplification of the policies on synthetic loads, without a device.
//!
//! A [`store::Store`] has chunks of 4 KiB, segments, one open segment per class and a reserve. It is filled in random order,
//! written until it is in its steady state ([`WARM_UP`] times the live data) and then measured ([`MEASURED`] times). Its cleaner is
//! paced as the engine's: [`crate::Pacing`] says how many chunks to copy after each write.
//!
//! [`bound`] is what the best policy could reach that knows how often each chunk is written.
//!
//! Left out: metadata (records, rows, images, checkpoints: 1.04 to 1.24 device bytes a byte, `docs/PERFORMANCE.md`), the
//! journal's window, in which segments cannot be victims, and objects.
//! Cost: about 10 million chunks a second, copies included. Memory: 17 bytes a chunk.

pub mod bound;
pub mod load;
pub mod store;

use std::fmt;

pub use bound::Bound;
pub use load::{Load, UnknownLoad};
pub use store::{Full, Store};

use crate::random::Random;
use crate::victim::{CostBenefit, DeathRate, Greedy};
use crate::{Classes, Policy};

/// A chunk, in bytes.
pub const CHUNK_BYTES: u64 = 4096;

/// Overwrites of the live data before measuring.
pub const WARM_UP: usize = 5;
/// Overwrites of the live data while measuring.
pub const MEASURED: usize = 3;

/// Sizes of a simulated store.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Geometry {
    /// Chunks that are live all the time.
    pub chunks: usize,
    /// Live chunks over all chunks.
    pub fill: f64,
    /// Chunks in a segment.
    pub segment_chunks: usize,
}

impl Geometry {
    /// How many segments there are.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a size"
    )]
    pub fn segments(&self) -> usize {
        (self.chunks as f64 / self.fill / self.segment_chunks as f64).round() as usize
    }
}

/// The policies that are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// How victims are chosen.
    pub victims: Victims,
    /// Groups of relocated data; `None`: as many as a store of that size has.
    pub groups: Option<u8>,
    /// Whether cold writes of users have a stream of their own.
    pub separates_writes: bool,
}

/// How victims are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Victims {
    /// [`Greedy`].
    Greedy,
    /// [`CostBenefit`].
    CostBenefit,
    /// [`DeathRate`].
    DeathRate,
}

impl Victims {
    /// The policy.
    pub fn policy(self) -> &'static dyn Policy {
        match self {
            Self::Greedy => &Greedy,
            Self::CostBenefit => &CostBenefit,
            Self::DeathRate => &DeathRate,
        }
    }
}

impl Plan {
    /// What stores do: victims by death rate, groups, one stream of user data.
    pub const ENGINE: Self = Self { victims: Victims::DeathRate, groups: None, separates_writes: false };

    /// Those that tables compare.
    pub const COMPARED: [(&'static str, Self); 5] = [
        ("greedy", Self { victims: Victims::Greedy, groups: Some(1), separates_writes: false }),
        ("cost-benefit", Self { victims: Victims::CostBenefit, ..Self::ENGINE }),
        ("death rate, 1 group", Self { groups: Some(1), ..Self::ENGINE }),
        ("death rate", Self::ENGINE),
        ("and cold writes apart", Self { separates_writes: true, ..Self::ENGINE }),
    ];
}

/// What a run showed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Measured {
    /// Chunks written over chunks written by users.
    pub write_amplification: f64,
    /// Chunks copied for each one written by users, in the worst window of a segment's worth of writes.
    pub copies_worst: f64,
    /// The fewest free segments at any time after the first fill.
    pub free_min: usize,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}", self.write_amplification)
    }
}

/// Fills a store, writes to it and measures.
pub fn run(geometry: Geometry, load: Load, plan: Plan, seed: u64) -> Result<Measured, Full> {
    let mut random = Random::with_seed(seed);
    let mut source = load.source(geometry.chunks);
    let classes = match plan.groups {
        Some(groups) => Classes::with_groups(groups),
        None => Classes::for_segments(geometry.segments() as u64),
    };
    let mut store = Store::new(geometry, plan, classes, seed);
    let mut order: Vec<usize> = (0..geometry.chunks).collect();
    for index in (1..order.len()).rev() {
        order.swap(index, random.below(index + 1));
    }
    for chunk in order {
        store.write(chunk)?;
    }
    for _ in 0..WARM_UP * geometry.chunks {
        store.write(source.next(&mut random))?;
    }
    store.begin_measuring();
    for _ in 0..MEASURED * geometry.chunks {
        store.write(source.next(&mut random))?;
    }
    Ok(store.measured())
}
