//! Report: how a run went, as text for people (`text`) in fio's JSON (`json`), and as a page with plots (`page`).

pub mod json;
pub mod page;
mod plot;
pub mod text;
pub mod words;
