//! Record entries, group commit, checkpoint slots and the replay scan.
