//! Values: numbers, sizes, times and lists as fio writes them.
//!
//! `4k` is 4 * 1024 bytes, as with fio's default `kb_base=1024`. Its `4ki`, which there is 4,000 bytes, is refused rather
//! than misunderstood.

use std::time::Duration;

use super::Split;

type Outcome<T> = Result<T, &'static str>;

/// Larger sizes are taken for mistakes.
const SIZE_MAX: u64 = 1 << 62;
/// A block must fit the memory of many clients.
pub(super) const BLOCK_BYTES_MAX: u64 = 16 << 20;

/// A flag: alone, or with 0 or 1.
pub(super) fn flag(text: &str) -> Outcome<bool> {
    match text {
        "" | "1" => Ok(true),
        "0" => Ok(false),
        _ => Err("a flag stands alone, or is 0 or 1"),
    }
}

/// A whole number from `least` to `most`.
pub(super) fn number(text: &str, least: u32, most: u32) -> Outcome<u32> {
    let number: u32 = text.parse().map_err(|_| "not a whole number of that size")?;
    if number < least {
        return Err("too small");
    }
    if number > most {
        return Err("too large");
    }
    Ok(number)
}

/// Bytes.
pub(super) fn size(text: &str) -> Outcome<u64> {
    const MALFORMED: &str = "not a size; write it as 4096, 4k, 64m, 10g or 1t, in powers of 1024";
    let lower = text.to_ascii_lowercase();
    let digits_end = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let (digits, unit) = lower.split_at(digits_end);
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        "t" | "tb" => 40,
        "p" | "pb" => 50,
        "%" => return Err("a share of the file is not taken; write bytes"),
        _ => return Err(MALFORMED),
    };
    let number: u64 = digits.parse().map_err(|_| MALFORMED)?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes <= SIZE_MAX).ok_or("too large")
}

/// Bytes, some.
pub(super) fn size_above_zero(text: &str) -> Outcome<u64> {
    size(text).and_then(|bytes| if bytes == 0 { Err("must be more than 0") } else { Ok(bytes) })
}

/// A block's bytes.
pub(super) fn block_size(text: &str) -> Outcome<u64> {
    match size_above_zero(text)? {
        bytes if bytes > BLOCK_BYTES_MAX => Err("a block has at most 16 MiB"),
        bytes => Ok(bytes),
    }
}

/// A time, in seconds if it has no unit.
pub(super) fn time(text: &str) -> Outcome<Duration> {
    const MALFORMED: &str = "not a time; write it as 30, 30s, 500ms, 100us, 5m, 1h or 1d";
    let lower = text.to_ascii_lowercase();
    let digits_end = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let (digits, unit) = lower.split_at(digits_end);
    let number: u64 = digits.parse().map_err(|_| MALFORMED)?;
    let micros = match unit {
        "us" => 1,
        "ms" => 1000,
        "" | "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return Err(MALFORMED),
    };
    number.checked_mul(micros).filter(|all| *all < 1 << 52).map(Duration::from_micros).ok_or("too long")
}

/// Up to three values for reads, writes and trims; what is left out is as what stands before it.
pub(super) fn by_direction<T: Clone>(text: &str, one: impl Fn(&str) -> Outcome<T>) -> Outcome<[T; 3]> {
    let mut values: Vec<T> = Vec::new();
    for part in text.split(',') {
        match (part.trim(), values.last()) {
            ("", Some(before)) => values.push(before.clone()),
            (part, _) => values.push(one(part)?),
        }
    }
    let last = values.last().cloned().ok_or("a value is missing")?;
    values.resize(3.max(values.len()), last);
    values.try_into().map_err(|_| "at most three values: for reads, writes and trims")
}

/// Sizes with percentages: `4k/60:64k/40`. What has none shares what is left.
pub(super) fn split(text: &str) -> Outcome<Split> {
    let mut parts = Vec::new();
    for part in text.split(':') {
        let (bytes, percent) = part.split_once('/').unwrap_or((part, ""));
        let percent = if percent.is_empty() { None } else { Some(number(percent, 0, 100)?) };
        parts.push((block_size(bytes.trim())?, percent));
    }
    let given: u32 = parts.iter().filter_map(|(_, percent)| *percent).sum();
    let open = u32::try_from(parts.iter().filter(|(_, percent)| percent.is_none()).count()).unwrap_or(100);
    let left = 100u32.checked_sub(given).ok_or("the percentages are more than 100")?;
    if open > left {
        return Err("nothing is left for the sizes without a percentage");
    }
    if open == 0 && left > 0 {
        return Err("the percentages are less than 100");
    }
    let mut extra = left.checked_rem(open).unwrap_or(0);
    let share = left.checked_div(open).unwrap_or(0);
    let parts = parts.into_iter().map(|(bytes, percent)| {
        let percent = percent.unwrap_or_else(|| {
            let one = u32::from(extra > 0);
            extra -= one;
            share + one
        });
        (bytes, percent)
    });
    Ok(Split(parts.collect()))
}

/// Shares of operations by name: `put/30:get/60:delete/10`.
pub(super) fn mix(text: &str, names: [&str; 3]) -> Outcome<[u32; 3]> {
    const MALFORMED: &str = "not a mix; write it as put/30:get/60:delete/10, together 100";
    let mut shares = [0; 3];
    for part in text.split(':') {
        let (name, percent) = part.split_once('/').ok_or(MALFORMED)?;
        let place = names.iter().position(|known| *known == name.trim()).ok_or(MALFORMED)?;
        shares[place] = number(percent, 0, 100)?;
    }
    if shares.iter().sum::<u32>() == 100 { Ok(shares) } else { Err(MALFORMED) }
}

/// Percentages with colons between them, ascending.
pub(super) fn percentiles(text: &str) -> Outcome<Vec<f64>> {
    let list: Result<Vec<f64>, _> = text.split(':').map(|part| part.trim().parse()).collect();
    let list = list.map_err(|_| "not a list of percentiles; write it as 50:99:99.9")?;
    if list.iter().any(|percent| !(*percent > 0.0 && *percent <= 100.0)) {
        return Err("a percentile is above 0 and at most 100");
    }
    if list.len() > 20 {
        return Err("at most 20 percentiles");
    }
    if list.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err("percentiles ascend");
    }
    Ok(list)
}
