//! Facts: what a policy knows of a segment.

use crate::Class;

/// A moment, as bytes that users had written into the shard: it stands still while the store is idle.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Clock(pub u64);

impl Clock {
    /// Bytes that users wrote since an earlier moment; 0 if it is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// What a policy knows of one sealed segment. Four words that the engine has in memory for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Bytes that rows or published trees point to.
    pub live: u64,
    /// Bytes of data that were written into the segment, live or dead.
    pub written: u64,
    /// When its bytes were written into it: the middle of the time from claim to seal, or either end of it.
    pub placed: Clock,
    /// What kind of bytes it holds.
    pub class: Class,
}

impl Facts {
    /// Bytes that nothing points to.
    pub fn dead(&self) -> u64 {
        self.written.saturating_sub(self.live)
    }

    /// The live part, from 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub fn live_share(&self) -> f64 {
        if self.written == 0 { 0.0 } else { (self.live as f64 / self.written as f64).min(1.0) }
    }
}
