//! Superblock, segment headers, inventories and streams of records.
