//! Report: how a run went, as text for people (`text`) and in fio's JSON (`json`).

pub mod json;
pub mod text;
pub mod words;
