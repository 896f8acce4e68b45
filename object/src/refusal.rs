//! Refusal: why a transaction was not applied, and which of its operations is the reason.

/// Why an operation cannot be carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The object does not exist.
    #[error("the object does not exist")]
    NotFound,
    /// The object exists already.
    #[error("the object exists already")]
    AlreadyExists,
    /// A condition does not hold.
    #[error("a condition does not hold")]
    PreconditionFailed,
    /// The operation breaks a rule or a limit whatever the state is.
    #[error("invalid: {what}")]
    Invalid {
        /// Which rule.
        what: &'static str,
    },
    /// It exceeds a limit of what one transaction may do ([`crate::Limits`]).
    #[error("too large: {what}: {size}, at most {max}")]
    TooLarge {
        /// Which limit, with its unit.
        what: &'static str,
        /// At least so much.
        size: u64,
        /// The limit.
        max: u64,
    },
}

impl Refused {
    /// The row changes of a transaction do not fit one record.
    pub(crate) fn too_many_changes(bytes: usize, max: usize) -> Self {
        Self::TooLarge { what: "bytes of row changes", size: bytes as u64, max: max as u64 }
    }
}

/// A transaction that was refused as a whole; nothing of it was applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("operation {op}: {why}")]
pub struct Refusal {
    /// Index of the operation in the transaction.
    pub op: usize,
    /// The reason.
    pub why: Refused,
}
