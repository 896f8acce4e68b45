//! Distribution: which of n places is next.
//!
//! - **Zipf**: rank k of 1..=n with probability k^-theta / (1 + 2^-theta + ... + n^-theta), for any theta above 0, by
//!   rejection-inversion (Hoermann and Derflinger, 1996): exact, nothing is summed or stored, 1.1 draws on the average.
//! - **Spread**: ranks to places so that neighbours in rank are far from each other: x -> a * x + b modulo n, with a near
//!   n times the golden ratio and no divisor in common with n; so it is one to one.
//! - **Shuffle**: an order of 0..n that looks random and is different in each pass: a Feistel network over the next
//!   power of four, followed until it lands below n (at most 4 steps on the average). It stores nothing, where a list
//!   of a TiB's blocks would take 2 GiB.
//! - **Skew** (`skew`): any distribution that prefers some places, ranks spread.

mod skew;

use fastrand::Rng;

pub(crate) use skew::Skew;

/// The exponent of a Zipf distribution: above 0, at most 10.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub struct Theta(f64);

impl Theta {
    /// None if it is outside its range.
    pub fn new(theta: f64) -> Option<Self> {
        (theta > 0.0 && theta <= 10.0).then_some(Self(theta))
    }

    /// The number.
    pub fn value(self) -> f64 {
        self.0
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    theta: f64,
    count: u64,
    /// The integral of x^-theta at the ends of the range that is drawn from.
    top: f64,
    bottom: f64,
    /// Closer to the drawn point than this, a rank is taken without a look at its area.
    sure: f64,
}

impl Zipf {
    /// Ranks 1 to `count`, which is at least 1.
    pub(crate) fn new(theta: Theta, count: u64) -> Self {
        assert!(count > 0, "there is a rank");
        let theta = theta.0;
        Self {
            theta,
            count,
            top: integral(1.5, theta) - 1.0,
            bottom: integral(real(count) + 0.5, theta),
            sure: 2.0 - inverse(integral(2.5, theta) - 2f64.powf(-theta), theta),
        }
    }

    /// A rank, from 1.
    pub(crate) fn draw(&self, rng: &mut Rng) -> u64 {
        loop {
            let area = self.bottom + rng.f64() * (self.top - self.bottom);
            let x = inverse(area, self.theta);
            let rank = whole(x.round()).clamp(1, self.count);
            let k = real(rank);
            if k - x <= self.sure || area >= integral(k + 0.5, self.theta) - k.powf(-self.theta) {
                return rank;
            }
        }
    }
}

/// The integral of t^-theta from 1 to x; near theta = 1 without the loss of the usual form.
fn integral(x: f64, theta: f64) -> f64 {
    let log = x.ln();
    let t = (1.0 - theta) * log;
    log * if t.abs() > 1e-8 { t.exp_m1() / t } else { 1.0 + t / 2.0 }
}

/// The x whose integral is y.
fn inverse(y: f64, theta: f64) -> f64 {
    let t = ((1.0 - theta) * y).max(-1.0);
    (y * if t.abs() > 1e-8 { t.ln_1p() / t } else { 1.0 - t / 2.0 }).exp()
}

#[expect(clippy::cast_precision_loss, reason = "ranks beyond 2^53 are rare, and neighbours are alike")]
pub(super) fn real(count: u64) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates; clamped next"
)]
pub(super) fn whole(x: f64) -> u64 {
    x as u64
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    factor: u64,
    shift: u64,
    count: u64,
}

impl Spread {
    /// Of 0..`count`, which is at least 1.
    pub(crate) fn new(count: u64, seed: u64) -> Self {
        assert!(count > 0, "there is a place");
        let golden = (u128::from(count) * 0x9e37_79b9_7f4a_7c15) >> 64;
        let golden = u64::try_from(golden).expect("less than the count");
        let factor =
            (golden..golden.saturating_add(count)).find(|factor| gcd(*factor, count) == 1).unwrap_or(1);
        Self { factor, shift: seed % count, count }
    }

    /// How many places there are.
    fn count(&self) -> u64 {
        self.count
    }

    /// The place of `index`, below the count.
    pub(crate) fn place(&self, index: u64) -> u64 {
        let place =
            (u128::from(index) * u128::from(self.factor) + u128::from(self.shift)) % u128::from(self.count);
        u64::try_from(place).expect("less than the count")
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shuffle {
    keys: [u64; 4],
    half_bits: u32,
    count: u64,
}

impl Shuffle {
    /// Of 0..`count`, which is at least 1 and at most 2^62.
    pub(crate) fn new(count: u64, seed: u64) -> Self {
        assert!((1..=1 << 62).contains(&count), "there are places");
        let half_bits = (u64::BITS - (count - 1).leading_zeros()).div_ceil(2).max(1);
        let mut rng = Rng::with_seed(seed);
        Self { keys: std::array::from_fn(|_| rng.u64(..)), half_bits, count }
    }

    /// The place of `index`, below the count.
    pub(crate) fn place(&self, index: u64) -> u64 {
        debug_assert!(index < self.count);
        let mut place = self.step(index);
        while place >= self.count {
            place = self.step(place);
        }
        place
    }

    fn step(&self, x: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (x >> self.half_bits, x & mask);
        for key in self.keys {
            let mixed = (right ^ key).wrapping_mul(0xff51_afd7_ed55_8ccd);
            (left, right) = (right, left ^ (mixed ^ mixed >> 32) & mask);
        }
        left << self.half_bits | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws against the formula: for each rank, and for all ranks behind it, within five standard deviations.
    #[test]
    fn zipf_is_its_formula() {
        const DRAWS: u32 = 400_000;
        for theta in [0.2, 0.5, 0.99, 1.0, 1.1, 1.5, 3.0] {
            let count = 500u32;
            let zipf = Zipf::new(Theta::new(theta).expect("in range"), u64::from(count));
            let mut rng = Rng::with_seed(7);
            let mut counts = vec![0u32; 500];
            for _ in 0..DRAWS {
                let rank = usize::try_from(zipf.draw(&mut rng)).expect("small");
                counts[rank - 1] += 1;
            }
            let weights: Vec<f64> = (1..=count).map(|k| f64::from(k).powf(-theta)).collect();
            let sum: f64 = weights.iter().sum();
            for from in 0..counts.len() {
                for to in [from + 1, counts.len()] {
                    let expected = weights[from..to].iter().sum::<f64>() / sum;
                    let seen = f64::from(counts[from..to].iter().sum::<u32>());
                    let mean = f64::from(DRAWS) * expected;
                    let deviation = (mean * (1.0 - expected)).sqrt();
                    assert!(
                        (seen - mean).abs() <= 5.0 * deviation + 1.0,
                        "{theta}: {from}..{to}: {seen} {mean}"
                    );
                }
            }
        }
    }

    #[test]
    fn zipf_of_one_and_of_many() {
        let mut rng = Rng::with_seed(1);
        for (theta, count) in [(0.5, 1), (1.0, 1), (2.0, 1), (0.99, 1 << 40), (1.2, u64::MAX)] {
            let zipf = Zipf::new(Theta::new(theta).expect("in range"), count);
            for _ in 0..1000 {
                assert!((1..=count).contains(&zipf.draw(&mut rng)), "{theta} {count}");
            }
        }
        for theta in [0.0, -1.0, 10.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Theta::new(theta), None);
        }
    }

    #[test]
    fn every_place_once() {
        for count in [1, 2, 3, 4, 5, 63, 64, 65, 1000, 4097] {
            for seed in [0, 1, u64::MAX] {
                let (spread, shuffle) = (Spread::new(count, seed), Shuffle::new(count, seed));
                let mut spreads: Vec<u64> = (0..count).map(|index| spread.place(index)).collect();
                let mut shuffles: Vec<u64> = (0..count).map(|index| shuffle.place(index)).collect();
                spreads.sort_unstable();
                shuffles.sort_unstable();
                assert!(spreads.into_iter().eq(0..count), "{count}");
                assert!(shuffles.into_iter().eq(0..count), "{count}");
            }
        }
    }

    #[test]
    fn neighbours_are_apart_and_passes_differ() {
        let spread = Spread::new(1000, 0);
        assert!((0..999).all(|index| spread.place(index).abs_diff(spread.place(index + 1)) > 100));
        let orders: Vec<Vec<u64>> = (0..2)
            .map(|seed| (0..1000).map(|index| Shuffle::new(1000, seed).place(index)).collect())
            .collect();
        assert_ne!(orders[0], orders[1]);
        let in_order = orders[0].windows(2).filter(|pair| pair[0] + 1 == pair[1]).count();
        assert!(in_order < 10, "{in_order}");
    }
}
