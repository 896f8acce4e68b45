//! Space: the segments of a store: what each holds, and which may be used again.

pub(crate) mod segments;
