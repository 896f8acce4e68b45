//! Sizes: numbers of bytes as people write them, read and written.
//!
//! `10G`, `10Gi` and `10GiB` are 10 * 2^30 bytes, as of disks and memory in the kernel's tools; `10GB` is 10 * 10^9, as
//! on the box. Letters may be small. A fraction is taken (`1.5G`); a bare number is bytes.

/// What was written is no size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum SizeError {
    /// Not a number and a unit.
    #[error("not a size; write it like 10G, 64MiB or 4096")]
    Malformed,
    /// 2^64 or more.
    #[error("too large: a size is less than 2^64 bytes")]
    TooLarge,
}

/// Units by their letter: 1024 to this power, or 1000 if a plain `B` follows.
const UNITS: [char; 6] = ['k', 'm', 'g', 't', 'p', 'e'];

/// Reads a size.
pub(crate) fn parse(text: &str) -> Result<u64, SizeError> {
    let text = text.trim();
    let number_ends = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_ends);
    let unit_bytes = unit_bytes(unit.trim_start())?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || (number.contains('.') && fraction.is_empty()) {
        return Err(SizeError::Malformed);
    }
    let whole: u64 = whole.parse().map_err(|_| SizeError::TooLarge)?;
    let whole = u128::from(whole) * u128::from(unit_bytes);
    let bytes = whole + fraction_of(fraction, unit_bytes);
    u64::try_from(bytes).map_err(|_| SizeError::TooLarge)
}

/// The decimal digits behind the point, of a unit, rounded down. Digits past the ninth change nothing.
fn fraction_of(digits: &str, unit_bytes: u64) -> u128 {
    let digits = &digits[..digits.len().min(9)];
    let scale = 10u128.pow(u32::try_from(digits.len()).expect("at most nine"));
    let parts: u128 = if digits.is_empty() { 0 } else { digits.parse().expect("digits only") };
    parts * u128::from(unit_bytes) / scale
}

fn unit_bytes(unit: &str) -> Result<u64, SizeError> {
    let unit = unit.to_ascii_lowercase();
    if unit.is_empty() || unit == "b" {
        return Ok(1);
    }
    let power = UNITS.iter().position(|letter| unit.starts_with(*letter)).ok_or(SizeError::Malformed)?;
    let base: u64 = match &unit[1..] {
        "" | "i" | "ib" => 1024,
        "b" => 1000,
        _ => return Err(SizeError::Malformed),
    };
    Ok(base.pow(u32::try_from(power + 1).expect("six units")))
}

/// A size for people, in units of 1024 with three digits or so: `1.50 GiB`.
pub(crate) fn human(bytes: u64) -> String {
    let mut power = 0;
    while power < UNITS.len() && bytes >> (10 * (power + 1)) > 0 {
        power += 1;
    }
    if power == 0 {
        return format!("{bytes} B");
    }
    let unit = 1u128 << (10 * power);
    let hundredths = u128::from(bytes) * 100 / unit;
    let letter = UNITS[power - 1].to_ascii_uppercase();
    match hundredths {
        0..1000 => format!("{}.{:02} {letter}iB", hundredths / 100, hundredths % 100),
        1000..10_000 => format!("{}.{} {letter}iB", hundredths / 100, hundredths % 100 / 10),
        _ => format!("{} {letter}iB", hundredths / 100),
    }
}

/// A number with a comma before each three digits.
pub(crate) fn grouped(number: u64) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("512b", 512),
            ("10G", 10 << 30),
            ("10g", 10 << 30),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("64Mi", 64 << 20),
            ("1.5K", 1536),
            ("0.5k", 512),
            ("10GB", 10_000_000_000),
            ("2T", 2 << 40),
            ("15E", 15 << 60),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size() {
        for text in
            ["", "G", "ten", "1..5G", "1.G", ".5G", "-1", "1Q", "1GiBs", "1 G B", "0x10", "1e3", "1.2.3"]
        {
            assert_eq!(parse(text), Err(SizeError::Malformed), "{text}");
        }
        for text in ["16E", "18446744073709551616", "99999999999999999999999G"] {
            assert_eq!(parse(text), Err(SizeError::TooLarge), "{text}");
        }
        assert_eq!(parse("18446744073709551615"), Ok(u64::MAX));
    }

    #[test]
    fn for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1536, "1.50 KiB"),
            (10 << 30, "10.0 GiB"),
            (128 << 20, "128 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
        assert_eq!(
            [grouped(0), grouped(999), grouped(1000), grouped(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
