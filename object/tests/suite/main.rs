//! The tests of what operations mean: random transactions against a plain model, directed ones, damaged bytes.

mod decode;
mod inside;
mod model;
mod program;
mod random;
mod semantics;
mod store;
