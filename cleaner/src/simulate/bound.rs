//! Bound: the least write amplification that a policy could reach which knows how often each chunk is written.
//!
//! Chunks of one rate have segments of their own, which are cleaned at a live share `u`. They take `-ln u / (1 - u)` of
//! space per live chunk and cost `u / (1 - u)` copies per write. Space is shared so that it is worth the same everywhere:
//! `rate = price * ((1 - u) / u + ln u)`, see [`crate::victim`]; the price follows from the fill.
//!
//! Example: at fill 0.80 uniform writes cost 2.68; if 90 % of the writes go to 10 % of the chunks, 1.48.

use crate::simulate::Load;
use crate::victim::price_of_waiting;

/// See the module.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bound(pub f64);

impl Bound {
    /// For a load on a store that is filled so far; `None` for loads that change, or that are not random.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub fn of(load: Load, chunks: usize, fill: f64) -> Option<Self> {
        let sets = load.sets(chunks)?;
        let space = chunks as f64 / fill;
        let live_shares = |price: f64| {
            sets.iter().map(|(share, count)| live_share_at(share / count / price)).collect::<Vec<f64>>()
        };
        let taken = |price: f64| -> f64 {
            live_shares(price).iter().zip(&sets).map(|(u, (_, count))| count * space_taken(*u)).sum()
        };
        let price = bisect(1e-12, 1e12, |price| taken(price) > space);
        let copies: f64 = live_shares(price)
            .iter()
            .zip(&sets)
            .map(|(u, (share, _))| share * u / (1.0 - u).max(1e-12))
            .sum();
        Some(Self(1.0 + copies))
    }
}

/// Write amplification of uniform writes with greedy victims, in closed form: `a / (a + W(-a exp(-a)))` for `a` = 1 / fill
/// (Desnoyers; `W` is Lambert's function).
pub fn greedy_uniform(fill: f64) -> f64 {
    let a = 1.0 / fill;
    a / (a + lambert(-a * (-a).exp()))
}

/// The solution `w >= -1` of `w exp(w) = x`, for `-1/e < x <= 0`.
fn lambert(x: f64) -> f64 {
    let mut w: f64 = -0.5;
    for _ in 0..100 {
        let exp = w.exp();
        let error = w * exp - x;
        // Halley's step.
        w -= error / (exp * (w + 1.0) - (w + 2.0) * error / (2.0 * w + 2.0));
        w = w.clamp(-1.0 + 1e-12, 0.0);
    }
    w
}

/// Space per live chunk of segments that are cleaned at a live share.
fn space_taken(u: f64) -> f64 {
    if 1.0 - u < 1e-9 { 1.0 } else { -u.ln() / (1.0 - u) }
}

/// The live share at which waiting costs this.
fn live_share_at(cost: f64) -> f64 {
    bisect(1e-15, 1.0, |u| price_of_waiting(u) > cost)
}

/// Where a condition that is true below some point ends, on a scale of ratios.
fn bisect(mut low: f64, mut high: f64, is_below: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..80 {
        let middle = (low * high).sqrt();
        if is_below(middle) { low = middle } else { high = middle }
    }
    (low * high).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(load: Load, fill: f64) -> f64 {
        Bound::of(load, 1 << 18, fill).expect("a stationary load").0
    }

    #[test]
    fn uniform_loads_agree_with_the_closed_form() {
        for fill in [0.5, 0.7, 0.8, 0.9, 0.95] {
            let closed = greedy_uniform(fill);
            assert!((bound(Load::Uniform, fill) / closed - 1.0).abs() < 1e-3, "{fill}: {closed}");
        }
        for (fill, known) in [(0.7, 1.87), (0.8, 2.68), (0.9, 5.18)] {
            assert!((greedy_uniform(fill) - known).abs() < 0.1, "{fill}: {}", greedy_uniform(fill));
        }
    }

    #[test]
    fn skew_makes_cleaning_cheaper() {
        for (load, fill, known) in
            [(Load::Zipf(0.99), 0.8, 1.46), (Load::Zipf(0.99), 0.9, 2.19), (Load::Skewed(90), 0.8, 1.48)]
        {
            let bound = bound(load, fill);
            assert!((bound - known).abs() < 0.06, "{load} at {fill}: {bound}");
        }
        assert!(Bound::of(Load::Shifting, 1000, 0.8).is_none());
    }
}
