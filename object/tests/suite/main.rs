//! The tests of what operations mean: random transactions against a plain model, directed ones, damaged bytes.

mod decode;
mod model;
mod program;
mod random;
mod semantics;
mod store;
