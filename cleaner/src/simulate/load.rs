//! Load: which chunk is written next.

use std::fmt;
use std::str::FromStr;

use crate::random::Random;

/// A synthetic load.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Load {
    /// All chunks alike.
    Uniform,
    /// The n-th chunk in proportion to n to the minus this power.
    Zipf(f64),
    /// This percentage of writes goes to the rest of 100 % of the chunks: 90 is 90/10.
    Skewed(u8),
    /// 90/10, and every half overwrite of the live data half of the hot chunks become cold and as many others hot.
    Shifting,
    /// Every second write goes through half of the chunks in order, the others are uniform over the other half.
    Sequential,
    /// 70 % of the chunks are never written again, the rest is 90/10.
    Static,
}

impl Load {
    /// Those that tables compare.
    pub const ALL: [Self; 9] = [
        Self::Uniform,
        Self::Zipf(0.8),
        Self::Zipf(0.99),
        Self::Zipf(1.2),
        Self::Skewed(80),
        Self::Skewed(90),
        Self::Shifting,
        Self::Sequential,
        Self::Static,
    ];

    /// Sets of chunks that are written alike: the share of writes that goes to each, and how many chunks it has. `None` for
    /// loads that change, or that are not random.
    #[expect(clippy::cast_precision_loss, reason = "shares")]
    pub fn sets(self, chunks: usize) -> Option<Vec<(f64, f64)>> {
        let count = chunks as f64;
        match self {
            Self::Uniform => Some(vec![(1.0, count)]),
            Self::Skewed(percent) => {
                let hot = f64::from(percent) / 100.0;
                Some(vec![(hot, count * (1.0 - hot)), (1.0 - hot, count * hot)])
            }
            Self::Static => Some(vec![(0.9, count * 0.03), (0.1, count * 0.27), (0.0, count * 0.7)]),
            Self::Zipf(power) => {
                // Ranks that differ by less than a percent are alike.
                let mut sets: Vec<(f64, f64)> = Vec::new();
                let mut from = 1;
                while from <= chunks {
                    let to = (from + from / 100).min(chunks);
                    let weight = (from..=to).map(|rank| (rank as f64).powf(-power)).sum();
                    sets.push((weight, (to - from + 1) as f64));
                    from = to + 1;
                }
                let all: f64 = sets.iter().map(|(weight, _)| weight).sum();
                Some(sets.into_iter().map(|(weight, count)| (weight / all, count)).collect())
            }
            Self::Shifting | Self::Sequential => None,
        }
    }

    pub(super) fn source(self, chunks: usize) -> Source {
        let ranks = if let Self::Zipf(power) = self { Some(Ranks::new(chunks, power)) } else { None };
        Source { load: self, chunks, ranks, written: 0 }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf(power) => write!(f, "zipf:{power}"),
            Self::Skewed(percent) => write!(f, "{percent}/{}", 100 - percent),
            Self::Shifting => f.write_str("shifting"),
            Self::Sequential => f.write_str("sequential"),
            Self::Static => f.write_str("static"),
        }
    }
}

/// A load that there is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownLoad;

impl fmt::Display for UnknownLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("loads are uniform, zipf:POWER (0 to 4), HOT/REST with a sum of 100, shifting, sequential, static")
    }
}

impl std::error::Error for UnknownLoad {}

impl FromStr for Load {
    type Err = UnknownLoad;

    fn from_str(text: &str) -> Result<Self, UnknownLoad> {
        match text {
            "uniform" => return Ok(Self::Uniform),
            "shifting" => return Ok(Self::Shifting),
            "sequential" => return Ok(Self::Sequential),
            "static" => return Ok(Self::Static),
            _ => {}
        }
        if let Some(power) = text.strip_prefix("zipf:") {
            let power = power.parse().map_err(|_| UnknownLoad)?;
            return if (0.0..=4.0).contains(&power) { Ok(Self::Zipf(power)) } else { Err(UnknownLoad) };
        }
        let (hot, rest) = text.split_once('/').ok_or(UnknownLoad)?;
        let hot: u8 = hot.parse().map_err(|_| UnknownLoad)?;
        let rest: u8 = rest.parse().map_err(|_| UnknownLoad)?;
        let is_whole = hot.checked_add(rest) == Some(100) && rest > 0 && hot > 0;
        if is_whole { Ok(Self::Skewed(hot)) } else { Err(UnknownLoad) }
    }
}

/// The chunks that a load writes.
#[derive(Debug)]
pub(super) struct Source {
    load: Load,
    chunks: usize,
    ranks: Option<Ranks>,
    written: usize,
}

impl Source {
    pub(super) fn next(&mut self, random: &mut Random) -> usize {
        self.written += 1;
        match self.load {
            Load::Uniform => random.below(self.chunks),
            Load::Zipf(_) => self.ranks.as_ref().map_or(0, |ranks| ranks.draw(random)),
            Load::Skewed(percent) => skewed(percent, self.chunks, random),
            Load::Static => skewed(90, (self.chunks * 3 / 10).max(2), random),
            Load::Shifting => {
                let moved = self.written / (self.chunks / 2).max(1) * (self.chunks / 20);
                (skewed(90, self.chunks, random) + moved) % self.chunks
            }
            Load::Sequential => {
                let half = self.chunks / 2;
                if self.written.is_multiple_of(2) {
                    self.written / 2 % half.max(1)
                } else {
                    half + random.below(self.chunks - half)
                }
            }
        }
    }
}

fn skewed(percent: u8, chunks: usize, random: &mut Random) -> usize {
    let hot = (chunks * (100 - usize::from(percent)) / 100).clamp(1, chunks - 1);
    if random.below(100) < usize::from(percent) {
        random.below(hot)
    } else {
        hot + random.below(chunks - hot)
    }
}

/// Ranks drawn by Zipf's law in constant time (Walker's alias method, as Vose builds it).
#[derive(Debug)]
struct Ranks {
    /// The chance that a rank that was drawn evenly stays; else it becomes its alias.
    stays: Vec<f32>,
    alias: Vec<u32>,
}

impl Ranks {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "chances")]
    fn new(count: usize, power: f64) -> Self {
        let mut chances: Vec<f64> = (1..=count).map(|rank| (rank as f64).powf(-power)).collect();
        let scale = count as f64 / chances.iter().sum::<f64>();
        for chance in &mut chances {
            *chance *= scale;
        }
        let mut alias: Vec<u32> = (0..count as u32).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..count).partition(|rank| chances[*rank] < 1.0);
        while let (Some(&low), Some(&high)) = (small.last(), large.last()) {
            small.pop();
            alias[low] = high as u32;
            chances[high] -= 1.0 - chances[low];
            if chances[high] < 1.0 {
                large.pop();
                small.push(high);
            }
        }
        // What is left is 1 but for rounding.
        for rank in small.into_iter().chain(large) {
            chances[rank] = 1.0;
        }
        Self { stays: chances.into_iter().map(|chance| chance as f32).collect(), alias }
    }

    fn draw(&self, random: &mut Random) -> usize {
        let rank = random.below(self.stays.len());
        if random.unit() < f64::from(self.stays[rank]) { rank } else { self.alias[rank] as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for load in Load::ALL {
            assert_eq!(load.to_string().parse(), Ok(load));
        }
        for wrong in ["", "zipf", "zipf:", "zipf:9", "zipf:NaN", "90/20", "100/0", "0/100", "300/1", "x"] {
            assert_eq!(wrong.parse::<Load>(), Err(UnknownLoad), "{wrong}");
        }
    }

    /// Each set gets the share of writes that it says: a wrong alias table would still look random.
    #[test]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "shares"
    )]
    fn writes_are_shared_as_stated() {
        let (chunks, draws) = (1000, 400_000);
        for load in Load::ALL {
            let Some(sets) = load.sets(chunks) else { continue };
            let mut random = Random::with_seed(1);
            let mut source = load.source(chunks);
            let mut counts = vec![0_u32; chunks];
            for _ in 0..draws {
                counts[source.next(&mut random)] += 1;
            }
            let mut from = 0;
            for (share, count) in sets {
                let to = (from as f64 + count).round() as usize;
                let seen = f64::from(counts[from..to].iter().sum::<u32>()) / f64::from(draws);
                assert!((seen - share).abs() < 0.005, "{load}, chunks {from} to {to}: {seen}, not {share}");
                from = to;
            }
            assert_eq!(from, chunks, "{load}");
        }
    }

    #[test]
    fn the_hot_set_shifts_and_the_sequential_writer_goes_round() {
        let mut random = Random::with_seed(1);
        let mut source = Load::Sequential.source(100);
        let written: Vec<usize> = (0..200).map(|_| source.next(&mut random)).collect();
        let in_order: Vec<usize> = written.iter().copied().filter(|chunk| *chunk < 50).collect();
        assert_eq!(in_order, (1..100).map(|n| n % 50).chain([0]).collect::<Vec<_>>());
        let mut source = Load::Shifting.source(1000);
        let hottest =
            |source: &mut Source, random: &mut Random| (0..450).filter(|_| source.next(random) < 50).count();
        let (before, after) = (hottest(&mut source, &mut random), hottest(&mut source, &mut random));
        assert!(before > 150 && after < 50, "{before}, {after}");
    }
}
