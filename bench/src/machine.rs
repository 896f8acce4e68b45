//! Machine: what the process took of it: CPU time, memory, written bytes; and what a hypervisor took of the machine.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use rustix::time::{ClockId, clock_gettime};

/// The kernel tells times in its files in hundredths of a second, whatever its own clock is.
const TICK_MILLIS: u64 = 10;

/// What all threads of this process took so far, those that have ended included.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Usage {
    pub(crate) cpu_time: Duration,
    /// Of that, in the program.
    pub(crate) user: Duration,
    /// Of that, in the kernel.
    pub(crate) system: Duration,
    pub(crate) switches: u64,
    pub(crate) major_faults: u64,
    pub(crate) minor_faults: u64,
}

/// What all threads of this process took so far; zeros for what the kernel does not tell.
pub(crate) fn usage() -> Usage {
    let cpu_time = cpu_time();
    let Ok(told) = getrusage(UsageWho::RUSAGE_SELF) else { return Usage { cpu_time, ..Usage::default() } };
    let time = |value: TimeVal| Duration::from_micros(u64::try_from(value.num_microseconds()).unwrap_or(0));
    let count = |value: i64| u64::try_from(value).unwrap_or(0);
    Usage {
        cpu_time,
        user: time(told.user_time()),
        system: time(told.system_time()),
        switches: count(told.voluntary_context_switches()) + count(told.involuntary_context_switches()),
        major_faults: count(told.major_page_faults()),
        minor_faults: count(told.minor_page_faults()),
    }
}

/// CPU time of all threads of this process so far.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// CPU time of the whole machine: what was used, and what a hypervisor gave to others while somebody here wanted it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Wanted {
    used: Duration,
    stolen: Duration,
}

impl Wanted {
    /// Up to now; zeros where the kernel does not tell.
    pub(crate) fn now() -> Self {
        Self::told_by(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    fn told_by(stat: &str) -> Self {
        let sums = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
        let ticks: Vec<u64> = sums.split_ascii_whitespace().map(|ticks| ticks.parse().unwrap_or(0)).collect();
        let of = |places: &[usize]| {
            places
                .iter()
                .filter_map(|place| ticks.get(*place))
                .map(|ticks| Duration::from_millis(ticks.saturating_mul(TICK_MILLIS)))
                .sum()
        };
        // user, nice, system, [idle, iowait,] irq, softirq, steal
        Self { used: of(&[0, 1, 2, 5, 6]), stolen: of(&[7]) }
    }

    /// Of the CPU time that was wanted since, the share that a hypervisor gave to others.
    pub(crate) fn stolen_since(self) -> f64 {
        self.stolen_until(Self::now())
    }

    /// The same between two moments.
    pub(crate) fn stolen_until(self, after: Self) -> f64 {
        let stolen = after.stolen.saturating_sub(self.stolen).as_secs_f64();
        let wanted = stolen + after.used.saturating_sub(self.used).as_secs_f64();
        if wanted > 0.0 { stolen / wanted } else { 0.0 }
    }
}

/// Bytes that this process had the kernel write to devices so far; none where the kernel does not tell.
pub(crate) fn written_bytes() -> Option<u64> {
    value_in(&std::fs::read_to_string("/proc/self/io").ok()?, "write_bytes:")
}

/// Bytes of the machine's memory; none if the kernel does not report them.
pub(crate) fn memory_bytes() -> Option<u64> {
    value_in(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:").map(|kib| kib << 10)
}

/// The most memory that this process has had so far.
pub(crate) fn peak_memory_bytes() -> Option<u64> {
    value_in(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM:").map(|kib| kib << 10)
}

/// The number behind a name at the start of a line.
fn value_in(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_ascii_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hypervisor_took() {
        let told = |stat: &str| Wanted::told_by(stat);
        let before = told("cpu  100 0 50 900 7 0 0 10 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n");
        let after = told("cpu  130 10 60 5000 9 5 5 30 0 0\n");
        assert!((before.stolen_until(after) - 20.0 / 80.0).abs() < 1e-9);
        assert!(before.stolen_until(before).abs() < 1e-9);
        assert_eq!(told("intr 7\n"), Wanted::default());
    }

    #[test]
    fn the_kernels_words() {
        let io = "rchar: 3\nwchar: 4\nread_bytes: 5\nwrite_bytes: 4096\ncancelled_write_bytes: 1\n";
        assert_eq!(value_in(io, "write_bytes:"), Some(4096));
        assert_eq!(value_in("wchar: 4\n", "write_bytes:"), None);
        let status = "Name:\ta ) b\nVmHWM:\t   5324 kB\n";
        assert_eq!(value_in(status, "VmHWM:"), Some(5324));
    }

    #[test]
    fn threads_that_have_ended_count() {
        let before = usage();
        let waits = || (0..100).for_each(|_| std::thread::sleep(Duration::from_micros(100)));
        std::thread::spawn(waits).join().unwrap();
        let after = usage();
        // On a machine that stands still for a moment a sleep may be over before it has begun.
        assert!(after.switches >= before.switches + 50, "{} and {}", before.switches, after.switches);
        assert!(
            after.cpu_time > before.cpu_time && after.user >= before.user && after.system >= before.system
        );
        assert!(after.minor_faults >= before.minor_faults && after.major_faults >= before.major_faults);
    }
}
