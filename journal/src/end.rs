//! End of the log: what to make of the place where record n should be. Pure; the scan gathers what it needs.
//!
//! | found at n | evidence that n was durable | verdict |
//! |---|---|---|
//! | a valid record | any | take it |
//! | a read error (after retries) | any | report it: never the end |
//! | not valid | a slot says E > n or a cut lies behind n, or a later record of the chain stands behind it | damage |
//! | not valid | none | torn: the log ends here |
//!
//! The same for a last record whose entries are sound and whose data is not: sound data is part of being valid for the
//! last record, and only for it (rule L3).

/// What stands where record n should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// A record that is valid.
    Valid,
    /// The device could not read it.
    ReadError,
    /// Anything else.
    Invalid,
}

/// What proves that record n was durable once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Evidence {
    /// A valid slot's checkpoint ends behind n, or a cut of a valid slot lies behind n.
    pub slots: bool,
    /// A later record of this log lies behind it: one record is in flight at a time (rule L1).
    pub successor: bool,
}

/// What follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The record belongs to the log.
    Take,
    /// The mount fails with the read error.
    Report,
    /// Acknowledged data is damaged.
    Damaged,
    /// The log ends before n.
    Torn,
}

/// Decides by the table.
pub fn verdict(found: Found, evidence: Evidence) -> Verdict {
    match (found, evidence.slots || evidence.successor) {
        (Found::Valid, _) => Verdict::Take,
        (Found::ReadError, _) => Verdict::Report,
        (Found::Invalid, true) => Verdict::Damaged,
        (Found::Invalid, false) => Verdict::Torn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table() {
        for slots in [false, true] {
            for successor in [false, true] {
                let evidence = Evidence { slots, successor };
                assert_eq!(verdict(Found::Valid, evidence), Verdict::Take);
                assert_eq!(verdict(Found::ReadError, evidence), Verdict::Report);
                let expected = if slots || successor { Verdict::Damaged } else { Verdict::Torn };
                assert_eq!(verdict(Found::Invalid, evidence), expected);
            }
        }
    }
}
