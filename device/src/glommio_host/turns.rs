//! Turns: the task that gives a ring's operations to the device and sees their ends, each time all others have run.
//!
//! A turn submits what was begun since the last one, and wakes a group of those whose operations have ended ([`Ring::turn`]).
//! Then all tasks that can run do, and may begin more. When nothing ends and nobody else has anything to do the task looks on
//! for a while, and then parks on the ring's descriptor, which the executor waits for as for anything else.
//!
//! How long it looks on: as long as others ran since it last did, 100 us at most, or twice as long as it lately had to wait
//! for the device, if that was 200 us at most, and `spin` more. A thread that is busy is about to be busy again; and to park
//! and be woken takes 30 us in which the device has nothing to do, and as much of the core as to look on. With 32 clients
//! that overwrite 4 KiB: 77k/s when it looked on for 5 us, 93k/s for 100 us (medians of three in turns; fio 57k/s). With one
//! client: 214 us each when it looked on for 35 us, 127 us when for 200 us, 112 and 135 us of the core (medians of three in
//! turns). Nothing in flight, nothing to look for: it parks at once.
//!
//! Who looks on lets the kernel have the core in between: a durable write of a file ends in a worker that is bound to the core
//! that was interrupted. With one client the 99th percentile was 630 us without and 280 us with that, the median 150 and 133.
//! Where other programs want the core as well they get it for milliseconds then, however nice they are: so a thread that lost
//! it for long parks at once for a while. Beside four busy programs of nice 10 on two cores, 32 clients: 3.8k/s without that,
//! 9.0k/s with it (medians of three in turns; fio 40k/s, with 32 writes on their way where this has one record).
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
/// A device that usually takes longer is not waited for awake.
const USUAL_MAX: Duration = Duration::from_micros(200);
/// What the kernel does for a durable write takes less of the core than this; who has it for longer is another program.
const LOST_MIN: Duration = Duration::from_micros(200);
/// How long a thread parks at once for the time that it lost, as a multiple of that and at most. Then it tries again.
const PARKS_FOR_LOST: u32 = 20;
const PARKS_MAX: Duration = Duration::from_millis(200);
/// A single wait counts as at most so long.
const WAIT_MAX: Duration = Duration::from_millis(1);

/// How long the device lately let the thread wait: a moving average.
#[derive(Default)]
struct Usual(Duration);

impl Usual {
    fn waited(&mut self, time: Duration) {
        self.0 = (self.0 * 7 + time.min(WAIT_MAX)) / 8;
    }

    /// How long it pays to wait awake.
    fn worthwhile(&self) -> Duration {
        if self.0 > USUAL_MAX { Duration::ZERO } else { self.0 * 2 }
    }
}

/// Whether others want the core: then it is not offered to them, as they would keep it.
#[derive(Default)]
struct Contention {
    until: Option<Instant>,
}

impl Contention {
    /// The core was offered at `offered` and had again at `back`.
    fn offered(&mut self, offered: Instant, back: Instant) {
        let lost = back - offered;
        if lost > LOST_MIN {
            self.until = Some(back + (lost * PARKS_FOR_LOST).min(PARKS_MAX));
        }
    }

    fn is_there(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// Takes turns until the ring is closed. Without `spin` it parks as soon as there is nothing to do.
pub(super) async fn take(ring: Rc<Ring>, spin: Option<Duration>) {
    let executor = glommio::executor();
    let mut poll = PollState::default();
    let start = Instant::now();
    // Since when nobody had anything to do and the thread did not park, and since when it has waited for the device.
    let (mut passed, mut quiet_since, mut waits_since) = (start, start, start);
    let (mut earned, mut usual, mut contention) = (Duration::ZERO, Usual::default(), Contention::default());
    while !ring.is_closed() {
        let has_completed = ring.turn();
        let mut before = Instant::now();
        if has_completed {
            earned = earned.saturating_sub(before - quiet_since);
            usual.waited(before - waits_since);
            (quiet_since, waits_since) = (before, before);
        }
        let is_idle = ring.is_idle() && !has_completed;
        let awake = if contention.is_there(before) { Duration::ZERO } else { earned.max(usual.worthwhile()) };
        let look_on = spin.map(|spin| spin.saturating_add(awake));
        let parks = if is_idle {
            poll_fn(|context| ring.poll_news(context, None)).await;
            true
        } else if before - passed > PASS_EVERY {
            glommio::timer::sleep(Duration::from_micros(1)).await;
            true
        } else if !has_completed
            && !ring.has_queued()
            && look_on.is_none_or(|time| before - quiet_since > time)
        {
            poll_fn(|context| ring.poll_news(context, Some(&mut poll))).await;
            true
        } else {
            if !has_completed && before - quiet_since > EMPTY_ROUND && !contention.is_there(before) {
                // The kernel may need this core for the very thing that is waited for.
                std::thread::yield_now();
                let offered = std::mem::replace(&mut before, Instant::now());
                contention.offered(offered, before);
            }
            executor.yield_now().await;
            false
        };
        let now = Instant::now();
        if parks {
            (passed, quiet_since, earned) = (now, now, Duration::ZERO);
            if is_idle {
                waits_since = now;
            }
        } else if now - before > EMPTY_ROUND {
            earned = (earned + (now - before)).min(EARNED_MAX);
            (quiet_since, waits_since) = (now, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_loses_the_core_for_long_does_not_offer_it_for_a_while() {
        let (start, micros) = (Instant::now(), Duration::from_micros);
        let mut contention = Contention::default();
        contention.offered(start, start + micros(30));
        assert!(!contention.is_there(start + micros(30)));
        let back = start + micros(4000);
        contention.offered(start, back);
        assert!(contention.is_there(back) && contention.is_there(back + micros(79_000)));
        assert!(!contention.is_there(back + micros(80_000)), "it tries again");
        let back = start + Duration::from_secs(9);
        contention.offered(start, back);
        assert!(!contention.is_there(back + PARKS_MAX), "however long it was");
    }

    #[test]
    fn a_fast_device_is_waited_for_awake_and_a_slow_one_is_not() {
        let micros = Duration::from_micros;
        let mut usual = Usual::default();
        (0..50).for_each(|_| usual.waited(micros(80)));
        assert!((micros(150)..=micros(160)).contains(&usual.worthwhile()), "{:?}", usual.worthwhile());
        // One slow operation does not change that, however slow, and a slow device does.
        usual.waited(Duration::from_secs(1));
        assert!(usual.worthwhile() > micros(160));
        (0..5).for_each(|_| usual.waited(micros(500)));
        assert_eq!(usual.worthwhile(), Duration::ZERO);
        (0..50).for_each(|_| usual.waited(micros(80)));
        assert!(usual.worthwhile() > micros(150));
    }
}
