//! Split: sizes of operations, each with its weight.

use fastrand::Rng;

/// Sizes, each with its share of the operations. Shares are weights of at most 2^16 in sum; `bssplit` gives percentages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Split(pub(crate) Vec<(u64, u32)>);

impl Split {
    /// One size.
    pub fn one(bytes: u64) -> Self {
        Self(vec![(bytes, 100)])
    }

    /// The sum of all shares.
    pub fn total(&self) -> u32 {
        self.0.iter().map(|(_, share)| *share).sum()
    }

    /// A size, drawn by the shares.
    pub(crate) fn draw(&self, rng: &mut Rng) -> u64 {
        match self.only() {
            Some(bytes) => bytes,
            None => self.at(rng.u32(..self.total())),
        }
    }

    /// The size at a place below [`Self::total`].
    fn at(&self, place: u32) -> u64 {
        let mut sum = 0;
        for (bytes, share) in &self.0 {
            sum += share;
            if place < sum {
                return *bytes;
            }
        }
        self.0.last().map_or(0, |(bytes, _)| *bytes)
    }

    /// The largest size of at most so many bytes.
    pub(crate) fn largest_within(&self, bytes: u64) -> Option<u64> {
        self.0.iter().filter(|(size, share)| *size <= bytes && *share > 0).map(|(size, _)| *size).max()
    }

    /// The smallest.
    pub fn min(&self) -> u64 {
        self.0.iter().map(|(bytes, _)| *bytes).min().unwrap_or(0)
    }

    /// The largest.
    pub fn max(&self) -> u64 {
        self.0.iter().map(|(bytes, _)| *bytes).max().unwrap_or(0)
    }

    /// The mean.
    pub fn mean(&self) -> u64 {
        let sum: u128 = self.0.iter().map(|(bytes, share)| u128::from(*bytes) * u128::from(*share)).sum();
        u64::try_from(sum / u128::from(self.total().max(1))).unwrap_or(u64::MAX)
    }

    /// The only size, if there is one only.
    pub fn only(&self) -> Option<u64> {
        (self.min() == self.max()).then_some(self.min())
    }
}
