//! Synchronous b-tree over pages that are used in place.
