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
    /// Its row changes do not fit one record.
    #[error("too large: changes of {bytes} bytes, {max} fit a record")]
    TooLarge {
        /// At least so many bytes of row changes.
        bytes: usize,
        /// What a record takes.
        max: usize,
    },
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
