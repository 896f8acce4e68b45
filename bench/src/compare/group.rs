//! Group: one commit for all writes that wait, for stores that commit one transaction at a time.
//!
//! Who finds no commit going on takes all that wait and commits it; the others sleep until theirs is in. So these
//! stores get what Seabed and RocksDB have of their own.

use std::sync::{Condvar, Mutex, PoisonError};

use super::CompareError;

/// Values that are committed together.
pub(super) type Batch = Vec<(u64, Vec<u8>)>;

/// See the module.
#[derive(Default)]
pub(super) struct Group {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Batch,
    /// Writes that ever waited.
    arrived: u64,
    /// Of those, in order, how many are committed.
    committed: u64,
    is_committing: bool,
    /// A commit that failed fails all that come after it.
    failed: Option<String>,
}

impl Group {
    /// Waits until the value is in a commit; `commit` is called by one thread at a time.
    pub(super) fn write(
        &self,
        name: &'static str,
        (number, value): (u64, Vec<u8>),
        commit: impl Fn(&Batch) -> Result<(), CompareError>,
    ) -> Result<(), CompareError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.push((number, value));
        state.arrived += 1;
        let mine = state.arrived;
        loop {
            if let Some(why) = &state.failed {
                return Err(CompareError::Peer { name, why: why.clone() });
            }
            if state.committed >= mine {
                return Ok(());
            }
            if state.is_committing {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (batch, upto) = (std::mem::take(&mut state.waiting), state.arrived);
            state.is_committing = true;
            drop(state);
            let outcome = commit(&batch);
            state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.is_committing = false;
            match outcome {
                Ok(()) => state.committed = upto,
                Err(error) => state.failed = Some(error.to_string()),
            }
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn every_write_is_in_one_commit() {
        let (group, seen, inside) = (Group::default(), Mutex::new(Vec::new()), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for client in 0..8u64 {
                let (group, seen, inside) = (&group, &seen, &inside);
                scope.spawn(move || {
                    for number in 0..200 {
                        let mine = client * 1000 + number;
                        let commit = |batch: &Batch| {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
                            let mut seen = seen.lock().expect("not poisoned");
                            seen.extend(batch.iter().map(|(number, _)| *number));
                            inside.fetch_sub(1, Ordering::SeqCst);
                            Ok(())
                        };
                        group.write("test", (mine, Vec::new()), commit).expect("committed");
                        assert!(
                            seen.lock().expect("not poisoned").contains(&mine),
                            "committed when it returns"
                        );
                    }
                });
            }
        });
        let mut seen = seen.into_inner().expect("not poisoned");
        seen.sort_unstable();
        let all: Vec<u64> =
            (0..8).flat_map(|client| (0..200).map(move |number| client * 1000 + number)).collect();
        assert_eq!(seen, all);
    }

    #[test]
    fn a_failed_commit_fails_its_writes() {
        let group = Group::default();
        let fails = |_: &Batch| Err(CompareError::NotBuilt { name: "x" });
        assert!(group.write("test", (1, Vec::new()), fails).is_err());
        assert!(group.write("test", (2, Vec::new()), |_| Ok(())).is_err());
    }
}
