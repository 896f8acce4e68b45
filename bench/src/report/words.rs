//! Words: numbers for people.

/// Bytes in units of 1024: `1.50 GiB`.
pub fn bytes(bytes: f64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// A time in nanoseconds: `1.50 ms`.
pub fn time(nanoseconds: f64) -> String {
    scaled(nanoseconds, 1000.0, &["ns", "us", "ms", "s"])
}

/// A count: `1.50 k`.
pub fn count(count: f64) -> String {
    scaled(count, 1000.0, &["", "k", "M", "G", "T"]).trim_end().to_owned()
}

/// Three digits or so, and a unit.
fn scaled(mut value: f64, base: f64, units: &[&str]) -> String {
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    for larger in units {
        if value < base {
            break;
        }
        value /= base;
        unit = larger;
    }
    match value {
        _ if value.fract() == 0.0 => format!("{value:.0} {unit}"),
        ..10.0 => format!("{value:.2} {unit}"),
        10.0..100.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// A number with a comma before each three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A percentile as people write it: `99.9`.
pub fn percent(percent: f64) -> String {
    let text = format!("{percent:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_people() {
        assert_eq!([bytes(0.0), bytes(1536.0), bytes(10_485_760.0)], ["0 B", "1.50 KiB", "10 MiB"]);
        assert_eq!([time(999.0), time(1_234_567.0), time(2e9)], ["999 ns", "1.23 ms", "2 s"]);
        assert_eq!([count(7.0), count(7.5), count(123_456.0)], ["7", "7.50", "123 k"]);
        assert_eq!([grouped(0), grouped(1_234_567)], ["0", "1,234,567"]);
        assert_eq!([percent(99.9), percent(50.0), percent(99.99)], ["99.9", "50", "99.99"]);
    }
}
