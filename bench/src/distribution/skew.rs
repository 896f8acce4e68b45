//! Skew: places that are not drawn all alike.
//!
//! Zipf, Pareto and normal ranks are spread over all places, as fio hashes them; a center shifts them. With Pareto's h a
//! rank is n * u^(ln h / ln (1 - h)) for a uniform u: the first h of all ranks get 1 - h of the draws. A normal rank is
//! the mean of twelve uniform ones, plus a uniform deviation. Zones are parts of the file, uniform each.
//!
//! Cost: Zipf 1.1 draws, Pareto one and a power, normal thirteen.

use fastrand::Rng;

use super::{Spread, Zipf, real, whole};
use crate::job::{Amount, Direction, Distribution, Zone};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) enum Skew {
    Zipf { zipf: Zipf, spread: Spread },
    Pareto { power: f64, spread: Spread },
    Normal { deviation: u64, spread: Spread },
    Zoned(Vec<Span>),
}

/// A zone in places.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// Draws below it of a hundred, those of the zones before it included.
    below: u32,
    from: u64,
    to: u64,
}

impl Skew {
    /// Of 0..`count`, which is at least 1, of `block_bytes` each; none if all places are drawn alike or in a sequence.
    pub(crate) fn new(
        distribution: &Distribution,
        direction: Direction,
        (count, block_bytes): (u64, u64),
        seed: u64,
    ) -> Option<Self> {
        let spread = |center: f64| Spread::new(count, seed.wrapping_add(whole(real(count) * center)));
        Some(match distribution {
            Distribution::Uniform | Distribution::Sequence(_) => return None,
            Distribution::Zipf { theta, center } => {
                Self::Zipf { zipf: Zipf::new(*theta, count), spread: spread(*center) }
            }
            Distribution::Pareto { h, center } => {
                Self::Pareto { power: h.ln() / (1.0 - h).ln(), spread: spread(*center) }
            }
            Distribution::Normal { deviation, center } => {
                let deviation = whole((real(count) * deviation / 100.0).ceil()).min(count / 2);
                Self::Normal { deviation, spread: spread(*center) }
            }
            Distribution::Zoned(zones) => Self::Zoned(spans(&zones[direction.index()], count, block_bytes)),
        })
    }

    /// A place, below the count.
    pub(crate) fn draw(&self, rng: &mut Rng) -> u64 {
        match self {
            Self::Zipf { zipf, spread } => spread.place(zipf.draw(rng) - 1),
            Self::Pareto { power, spread } => {
                let count = spread.count();
                spread.place(whole(real(count - 1) * rng.f64().powf(*power)).min(count - 1))
            }
            Self::Normal { deviation, spread } => {
                let count = spread.count();
                let sum: u128 = (0..NORMAL_DRAWS).map(|_| u128::from(rng.u64(..count))).sum();
                let mean = u64::try_from(sum / u128::from(NORMAL_DRAWS)).unwrap_or(0);
                let place = (mean + rng.u64(..=*deviation)).saturating_sub(deviation / 2);
                spread.place(place.min(count - 1))
            }
            Self::Zoned(spans) => {
                let draw = rng.u32(..100);
                let span = spans.iter().find(|span| draw < span.below).or(spans.last());
                span.map_or(0, |span| rng.u64(span.from..span.to))
            }
        }
    }
}

/// Uniform draws of a normal one.
const NORMAL_DRAWS: u32 = 12;

/// The zones in places; each has one at least.
fn spans(zones: &[Zone], count: u64, block_bytes: u64) -> Vec<Span> {
    let mut spans = Vec::new();
    let (mut below, mut percent, mut bytes) = (0, 0, 0u64);
    for zone in zones {
        let place_of = |percent: u32, bytes: u64| {
            let of_percent = u128::from(count) * u128::from(percent.min(100)) / 100;
            u64::try_from(of_percent).unwrap_or(count).saturating_add(bytes / block_bytes).min(count)
        };
        let from = place_of(percent, bytes).min(count - 1);
        match zone.extent {
            Amount::Percent(more) => percent += more,
            Amount::Bytes(more) => bytes = bytes.saturating_add(more),
        }
        below += zone.share;
        spans.push(Span { below, from, to: place_of(percent, bytes).max(from + 1) });
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::Theta;

    const COUNT: u64 = 1000;

    /// How often each place is drawn, in ten thousand.
    fn counts(distribution: &Distribution) -> Vec<u32> {
        let skew = Skew::new(distribution, Direction::Read, (COUNT, 4096), 3).expect("a skew");
        let mut rng = Rng::with_seed(9);
        let mut counts = vec![0; 1000];
        for _ in 0..10_000 {
            counts[usize::try_from(skew.draw(&mut rng)).expect("small")] += 1;
        }
        counts
    }

    /// Draws of the most wanted `places`.
    fn of_first(mut counts: Vec<u32>, places: usize) -> u32 {
        counts.sort_unstable();
        counts.iter().rev().take(places).sum()
    }

    #[test]
    fn a_fifth_of_the_places_gets_four_fifths_of_paretos_draws() {
        let drawn = of_first(counts(&Distribution::Pareto { h: 0.2, center: 0.0 }), 200);
        assert!(drawn.abs_diff(8000) < 200, "{drawn}");
        let drawn = of_first(counts(&Distribution::Pareto { h: 0.1, center: 0.5 }), 100);
        assert!(drawn.abs_diff(9000) < 200, "{drawn}");
    }

    #[test]
    fn normal_draws_are_within_a_few_deviations() {
        // The mean of twelve uniform numbers has a deviation of a twelfth: two of them hold 95.4 %.
        let narrow = of_first(counts(&Distribution::Normal { deviation: 0.0, center: 0.5 }), 333);
        assert!(narrow.abs_diff(9540) < 150, "{narrow}");
        let wide = of_first(counts(&Distribution::Normal { deviation: 50.0, center: 0.5 }), 333);
        assert!(wide < narrow - 1000, "{wide}");
    }

    #[test]
    fn a_center_shifts_what_is_wanted_most() {
        let hottest = |center| {
            let theta = Theta::new(1.5).expect("in range");
            let counts = counts(&Distribution::Zipf { theta, center });
            (0..1000).max_by_key(|place| counts[*place]).expect("a place")
        };
        assert_eq!((hottest(0.0) + 250) % 1000, hottest(0.25));
    }

    #[test]
    fn zones_get_their_shares() {
        let zone = |share, extent| Zone { share, extent };
        let zoned = |zones: &[Zone]| Distribution::Zoned(std::array::from_fn(|_| zones.to_vec()));
        let sums = |counts: &[u32], ends: [usize; 3]| {
            [0..ends[0], ends[0]..ends[1], ends[1]..ends[2]].map(|range| counts[range].iter().sum::<u32>())
        };
        let percent = zoned(&[
            zone(50, Amount::Percent(5)),
            zone(30, Amount::Percent(15)),
            zone(20, Amount::Percent(80)),
        ]);
        let [first, second, third] = sums(&counts(&percent), [50, 200, 1000]);
        assert!(first.abs_diff(5000) < 200 && second.abs_diff(3000) < 200, "{first} {second} {third}");
        assert_eq!(first + second + third, 10_000);
        let bytes = zoned(&[zone(90, Amount::Bytes(100 * 4096)), zone(10, Amount::Bytes(1 << 40))]);
        let [first, ..] = sums(&counts(&bytes), [100, 200, 1000]);
        assert!(first.abs_diff(9000) < 200, "{first}");
        // The end of the file may be left out.
        let part = zoned(&[zone(100, Amount::Percent(30))]);
        assert_eq!(counts(&part)[300..].iter().sum::<u32>(), 0);
        // A zone is never empty.
        assert!(
            counts(&zoned(&[zone(0, Amount::Percent(100)), zone(100, Amount::Percent(1))]))[999] == 10_000
        );
    }
}
