//! Turns: the task that gives a ring's operations to the device and sees their ends, each time all others have run.
//!
//! A turn submits what was begun since the last one, and wakes a group of those whose operations have ended ([`Ring::turn`]).
//! Then all tasks that can run do, and may begin more. When nothing ends and nobody else has anything to do the task looks on
//! for a while, and then parks on the ring's descriptor, which the executor waits for as for anything else.
//!
//! How long it looks on: as long as others ran since it last did, 100 us at most, and `spin` more. A thread that is busy is
//! about to be busy again, and being woken takes it 30 us in which the device has nothing to do; a thread that has little to
//! do burns at most as much again. With 32 clients that overwrite 4 KiB: 77k/s when it looked on for 5 us, 93k/s for 100 us
//! (medians of three in turns; fio 57k/s).
//!
//! As long as it goes on the executor does not look at its own timers, sockets and channels. So it sleeps for a moment every
//! [`PASS_EVERY`], which is also when tasks of other queues run.
//!
//! Cost: about 0.2 us for a turn in which nothing happens.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::{Duration, Instant};

use glommio::io::PollState;

use super::ring::Ring;

/// How long the executor sees nothing else at most.
const PASS_EVERY: Duration = Duration::from_micros(500);
/// If all others took less than this together none of them had anything to do.
const EMPTY_ROUND: Duration = Duration::from_micros(1);
/// How long to look on at most, however long others ran.
const EARNED_MAX: Duration = Duration::from_micros(100);

/// Takes turns until the ring is closed. Without `spin` it parks as soon as there is nothing to do.
pub(super) async fn take(ring: Rc<Ring>, spin: Option<Duration>) {
    let executor = glommio::executor();
    let mut poll = PollState::default();
    let (mut passed, mut quiet_since) = (Instant::now(), Instant::now());
    let mut earned = Duration::ZERO;
    while !ring.is_closed() {
        let has_completed = ring.turn();
        let before = Instant::now();
        if has_completed {
            earned = earned.saturating_sub(before - quiet_since);
            quiet_since = before;
        }
        let parks = if ring.is_idle() && !has_completed {
            poll_fn(|context| ring.poll_news(context, None)).await;
            true
        } else if before - passed > PASS_EVERY {
            glommio::timer::sleep(Duration::from_micros(1)).await;
            true
        } else if !has_completed
            && !ring.has_queued()
            && spin.is_none_or(|spin| before - quiet_since > spin.saturating_add(earned))
        {
            poll_fn(|context| ring.poll_news(context, Some(&mut poll))).await;
            true
        } else {
            executor.yield_now().await;
            false
        };
        let now = Instant::now();
        if parks {
            (passed, quiet_since, earned) = (now, now, Duration::ZERO);
        } else if now - before > EMPTY_ROUND {
            earned = (earned + (now - before)).min(EARNED_MAX);
            quiet_since = now;
        }
    }
}
