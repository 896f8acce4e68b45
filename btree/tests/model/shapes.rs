//! Shapes: keys and values as stores have them, and as they do harm.

use fastrand::Rng;

/// How keys are drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KeyShape {
    /// 12 bytes that look random: what the engine has for extents.
    Hashed,
    /// A counter behind a common prefix.
    Ascending,
    /// The same, backwards.
    Descending,
    /// Any bytes of any length, mostly short.
    Skewed,
    /// Up to six bytes of an alphabet of two, zero among them.
    FewBytes,
    /// A common prefix of random length, and then a few bytes.
    LongPrefix,
    /// Near the greatest length, different only at the end or at the beginning.
    Maximal,
}

impl KeyShape {
    pub(crate) const ALL: [Self; 7] = [
        Self::Hashed,
        Self::Ascending,
        Self::Descending,
        Self::Skewed,
        Self::FewBytes,
        Self::LongPrefix,
        Self::Maximal,
    ];

    /// The key number `number` of a program, which has at most `max` bytes.
    pub(crate) fn key(self, rng: &mut Rng, number: u64, max: usize) -> Vec<u8> {
        match self {
            Self::Hashed => {
                let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let mut key = hash.to_be_bytes().to_vec();
                key.extend_from_slice(&[0, 0, 0, 1]);
                key
            }
            Self::Ascending => [&b"counter/"[..], &number.to_be_bytes()].concat(),
            Self::Descending => [&b"counter/"[..], &(u64::MAX - number).to_be_bytes()].concat(),
            Self::Skewed => {
                let count = skewed(rng, max);
                bytes(rng, count)
            }
            Self::FewBytes => (0..rng.usize(0..=6)).map(|_| rng.u8(..2) * 255).collect(),
            Self::LongPrefix => {
                let mut key = vec![b'a'; rng.usize(0..=max - 6)];
                key.extend((0..rng.usize(..6)).map(|_| rng.u8(b'a'..b'd')));
                key
            }
            Self::Maximal => {
                let mut key = vec![7; max - rng.usize(..3)];
                let at = if rng.bool() { key.len() - 2 } else { 0 };
                key[at] = rng.u8(..);
                key[at + 1] = rng.u8(..);
                key
            }
        }
    }
}

/// How long values are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ValueShape {
    /// Under 40 bytes, often of one length.
    Small,
    /// Mostly short, up to the greatest length.
    Skewed,
    /// The greatest length, or almost nothing.
    Maximal,
}

impl ValueShape {
    pub(crate) fn value(self, rng: &mut Rng, max: usize) -> Vec<u8> {
        let count = match self {
            Self::Small if rng.bool() => 20,
            Self::Small => rng.usize(..40),
            Self::Skewed => skewed(rng, max),
            Self::Maximal if rng.u8(..4) > 0 => max,
            Self::Maximal => rng.usize(..3),
        };
        bytes(rng, count)
    }
}

/// 0 to `max`, each power of two as likely as the next.
fn skewed(rng: &mut Rng, max: usize) -> usize {
    let bits = rng.u32(0..=max.ilog2() + 1);
    rng.usize(0..=max.min(1 << bits))
}

fn bytes(rng: &mut Rng, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    rng.fill(&mut bytes);
    bytes
}
