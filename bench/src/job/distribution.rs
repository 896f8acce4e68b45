//! Distribution: how often each place is drawn (`random_distribution`).

use super::Amount;
use crate::distribution::Theta;

/// How places are drawn.
#[derive(Clone, PartialEq, Debug)]
pub enum Distribution {
    /// All alike.
    Uniform,
    /// The k-th most wanted place with probability 1/k^theta, as a share of the sum.
    Zipf {
        /// The exponent.
        theta: Theta,
        /// By which part of all places they are shifted.
        center: f64,
    },
    /// Self-similar: 1 - h of all operations go to h of the places, and so on within those.
    Pareto {
        /// Above 0, below 1.
        h: f64,
        /// By which part of all places they are shifted.
        center: f64,
    },
    /// The mean of twelve uniform places, and a uniform deviation.
    Normal {
        /// In percent of all places, from 0 and below 100.
        deviation: f64,
        /// Where the mean is, as a part of all places.
        center: f64,
    },
    /// Zones of the file, each with its share of the operations, by direction.
    Zoned([Vec<Zone>; 3]),
    /// These blocks, in this order, again and again.
    Sequence(Vec<u32>),
}

/// A zone of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Zone {
    /// How many of a hundred operations.
    pub share: u32,
    /// How much of the file, after the zones before it.
    pub extent: Amount,
}
