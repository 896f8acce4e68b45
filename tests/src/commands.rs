//! The commands, each with its arguments, and what they share: how a failure is told, and how bytes are written.

pub(crate) mod corpus;
pub(crate) mod crash;
pub(crate) mod exhaustive;
pub(crate) mod faults;
pub(crate) mod flip;
pub(crate) mod golden;
pub(crate) mod import;
pub(crate) mod kill;
pub(crate) mod metamorphic;
pub(crate) mod open;
pub(crate) mod replay;
pub(crate) mod seeded_bugs;
pub(crate) mod stamped;
pub(crate) mod tree;

use std::fmt::Display;
use std::ops::Range;
use std::process::ExitCode;

/// Tells a failure and the line that repeats it.
pub(crate) fn failed(what: impl Display, arguments: &str) -> ExitCode {
    println!("FAILED {what}\n{}", repeat_line(arguments));
    ExitCode::FAILURE
}

/// The line that repeats a failure.
pub(crate) fn repeat_line(arguments: &str) -> String {
    format!("  repeat: cargo run --release -p seabed-tests -- {arguments} (commit {})", commit())
}

/// The commit of the source tree, if git is there to tell.
fn commit() -> String {
    let output = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let said = output.ok().filter(|output| output.status.success());
    said.map_or_else(
        || "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// Calls `each` with every seed of a range, on so many threads, at least one.
pub(crate) fn for_seeds(seeds: Range<u64>, threads: u64, each: impl Fn(u64) + Sync) {
    let threads = threads.max(1);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (seeds, each) = (seeds.clone(), &each);
            scope.spawn(move || {
                let mine = seeds.filter(|seed| seed % threads == thread);
                mine.for_each(each);
            });
        }
    });
}

/// "4096", "64K", "1G"; powers of 1024.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let upper = text.to_ascii_uppercase();
    let shifts = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let unit = shifts.iter().find_map(|(unit, shift)| Some((upper.strip_suffix(*unit)?, *shift)));
    let (digits, shift) = unit.unwrap_or((&upper, 0));
    let number: u64 = digits.parse().map_err(|_| "not a number of bytes".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too many bytes".to_owned())
}

/// Prints how often the situations that a suite must reach were reached. Whether each was; also if they are not counted in
/// this program.
pub(crate) fn reached(suite: seabed_types::reached::Suite) -> bool {
    if !seabed_types::reached::ARE_COUNTED {
        println!("reached: not counted without debug assertions");
        return true;
    }
    let counts: Vec<_> = seabed_types::reached::counts(suite).collect();
    let all: Vec<String> = counts.iter().map(|(what, count)| format!("{what:?}={count}")).collect();
    println!("reached: {}", all.join(" "));
    let missed: Vec<_> = counts.iter().filter(|(_, count)| *count == 0).map(|(what, _)| *what).collect();
    if !missed.is_empty() {
        println!("never reached: {missed:?}");
    }
    missed.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_seed_has_its_turn_once() {
        for threads in 0..4 {
            let met = std::sync::Mutex::new(Vec::new());
            for_seeds(5..12, threads, |seed| met.lock().expect("no panic while it is held").push(seed));
            let mut met = met.into_inner().expect("all threads have ended");
            met.sort_unstable();
            assert_eq!(met, [5, 6, 7, 8, 9, 10, 11], "{threads}");
        }
    }

    #[test]
    fn sizes_have_units() {
        let bytes: Vec<u64> =
            ["0", "4096", "64K", "2m", "1G"].map(|text| parse_bytes(text).expect("good")).to_vec();
        assert_eq!(bytes, [0, 4096, 65_536, 2 << 20, 1 << 30]);
        for text in ["", "K", "1.5G", "-1", "99999999T"] {
            parse_bytes(text).expect_err(text);
        }
    }
}
