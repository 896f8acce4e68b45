//! Turns: reads that completed together are answered a few at a time.
//!
//! The executor gives nothing to the device while a task can run. So if all of 32 clients are answered in one pass, the device
//! has nothing to do until the last of them has asked again, and the core nothing until the first of those is answered: they
//! go round in a convoy. Answered in groups, the reads that a group asks for go out before the next one is answered, and
//! core and device work at the same time.
//!
//! Example: 32 clients that take 11 us of the core for each read, of a device that takes 400 us for 32: a convoy takes
//! 32 * 11 + 400 = 750 us for a round, four groups 400 us.
//!
//! Cost: nothing up to [`GROUP_MIN`] in flight; else a channel for each read that waits, and a pass of the executor, about
//! 15 us, for each group behind the first.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use futures::channel::oneshot::{Sender, channel};

/// So many are answered at once however few are in flight.
const GROUP_MIN: usize = 8;
/// Of those in flight so many groups are made.
const GROUPS: usize = 4;

/// Who may be answered in this pass, and who waits for the next.
#[derive(Default)]
pub(super) struct Turns {
    answered: Cell<usize>,
    waiting: RefCell<VecDeque<Sender<()>>>,
    is_passing: Cell<bool>,
}

impl Turns {
    /// A read begins: its caller runs, so all that completed in this pass have asked for their turn before.
    pub(super) fn begins(&self) {
        self.answered.set(0);
    }

    /// Waits until a read that has completed may be answered. `in_flight` counts it, and all others that were not answered.
    pub(super) async fn turn(self: &Rc<Self>, in_flight: usize) {
        let group = GROUP_MIN.max(in_flight / GROUPS);
        if self.answered.get() < group && self.waiting.borrow().is_empty() {
            self.answered.set(self.answered.get() + 1);
            return;
        }
        let (go, turn) = channel();
        self.waiting.borrow_mut().push_back(go);
        if !self.is_passing.replace(true) {
            glommio::spawn_local(Rc::clone(self).pass_on(group)).detach();
        }
        // An error would say that nobody passes the turn on any more, which only happens when the executor ends.
        let _ = turn.await;
    }

    /// Answers a group after each pass until nobody waits.
    async fn pass_on(self: Rc<Self>, group: usize) {
        loop {
            glommio::timer::sleep(Duration::from_micros(1)).await;
            let next: Vec<_> = {
                let mut waiting = self.waiting.borrow_mut();
                let count = group.min(waiting.len());
                waiting.drain(..count).collect()
            };
            self.answered.set(next.len());
            if next.is_empty() {
                break;
            }
            for go in next {
                // Whoever is gone needs no turn.
                let _ = go.send(());
            }
        }
        self.is_passing.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::limit;
    use futures::future::join_all;
    use glommio::LocalExecutorBuilder;

    /// Of 64 that complete at once a quarter is answered at once, and the rest after it, in their order.
    #[test]
    fn a_convoy_is_broken_up() {
        let _limit = limit();
        let executor = LocalExecutorBuilder::default().make().expect("an executor");
        let order = executor.run(async {
            let (turns, order) = (Rc::<Turns>::default(), Rc::new(RefCell::new(Vec::new())));
            let reads: Vec<_> = (0..64)
                .map(|number| {
                    let (turns, order) = (Rc::clone(&turns), Rc::clone(&order));
                    glommio::spawn_local(async move {
                        turns.turn(64).await;
                        order.borrow_mut().push(number);
                    })
                })
                .collect();
            let at_once = order.borrow().len();
            join_all(reads).await;
            assert!(turns.waiting.borrow().is_empty());
            (at_once, Rc::try_unwrap(order).expect("all have ended").into_inner())
        });
        assert_eq!(order.0, 16);
        assert!(order.1.iter().copied().eq(0..64), "{:?}", order.1);
    }

    /// A few are never kept waiting, and who begins again after each is not either.
    #[test]
    fn few_do_not_wait() {
        let _limit = limit();
        let executor = LocalExecutorBuilder::default().make().expect("an executor");
        executor.run(async {
            let turns = Rc::<Turns>::default();
            for _ in 0..100 {
                turns.begins();
                for _ in 0..GROUP_MIN {
                    turns.turn(GROUP_MIN).await;
                }
                assert!(!turns.is_passing.get());
            }
        });
    }
}
