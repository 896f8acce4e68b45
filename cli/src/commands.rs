//! The commands, one a file.

pub(crate) mod attr;
pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod clean;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod dump;
pub(crate) mod export;
pub(crate) mod format;
pub(crate) mod get;
pub(crate) mod import;
pub(crate) mod info;
pub(crate) mod list;
pub(crate) mod omap;
pub(crate) mod pool;
pub(crate) mod put;
pub(crate) mod remove;
pub(crate) mod salvage;
pub(crate) mod scrub;
pub(crate) mod stat;
pub(crate) mod stats;
