//! Machine: what the process took of it: CPU time and written bytes.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time of all threads of this process so far.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Bytes that this process had the kernel write to devices so far; none where the kernel does not tell.
pub(crate) fn written_bytes() -> Option<u64> {
    written_bytes_in(&std::fs::read_to_string("/proc/self/io").ok()?)
}

fn written_bytes_in(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words() {
        let text = "rchar: 3\nwchar: 4\nread_bytes: 5\nwrite_bytes: 4096\ncancelled_write_bytes: 1\n";
        assert_eq!(written_bytes_in(text), Some(4096));
        assert_eq!(written_bytes_in("wchar: 4\n"), None);
    }
}
