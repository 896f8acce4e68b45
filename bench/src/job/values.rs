//! Values: numbers, sizes, times and lists as fio writes them.
//!
//! `4k` is 4096 bytes with `kb_base=1024`, the default, and 4000 with `kb_base=1000`; `4KiB` is the other one. As in fio,
//! `4ki` is `4k`. `0x1000` is hexadecimal. In parentheses a number may be an expression: `(4k*8)`.

use std::time::Duration;

use super::expand::Expression;
use super::{Amount, Split, Zone};

type Outcome<T> = Result<T, &'static str>;

/// Larger sizes are taken for mistakes.
const SIZE_MAX: u64 = 1 << 62;
/// A block must fit the memory of many clients.
pub(super) const BLOCK_BYTES_MAX: u64 = 16 << 20;
/// Sizes of a `bsrange`, `bssplit` or list of zones.
const PARTS_MAX: usize = 4096;

/// What `k` is (`kb_base`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Units {
    /// 1024, and `KiB` is 1000.
    #[default]
    Traditional,
    /// 1000, and `KiB` is 1024.
    Standard,
}

impl Units {
    pub(super) fn of_kb_base(text: &str) -> Outcome<Self> {
        match text {
            "1024" => Ok(Self::Traditional),
            "1000" => Ok(Self::Standard),
            _ => Err("must be 1024 or 1000"),
        }
    }

    /// What a unit of sizes, in lower case, multiplies by.
    fn factor(self, unit: &str) -> Option<u64> {
        let (letter, rest) = match unit {
            "" | "b" => return Some(1),
            "z" => return None,
            unit => unit.split_at_checked(1)?,
        };
        let power = 1 + u32::try_from("kmgtp".find(letter)?).ok()?;
        let base: u64 = match (self, rest) {
            (Self::Traditional, "" | "b" | "i") | (Self::Standard, "ib") => 1024,
            (Self::Standard, "" | "b" | "i") | (Self::Traditional, "ib") => 1000,
            _ => return None,
        };
        base.checked_pow(power)
    }
}

/// A number without its unit, and the unit in lower case.
fn digits(text: &str) -> Option<(u64, String)> {
    let lower = text.trim().to_ascii_lowercase();
    let (hex, radix) = lower.strip_prefix("0x").map_or((&lower[..], 10), |hex| (hex, 16));
    let end = hex.find(|c: char| !c.is_digit(radix)).unwrap_or(hex.len());
    let (digits, unit) = hex.split_at(end);
    Some((u64::from_str_radix(digits, radix).ok()?, unit.to_owned()))
}

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
    match whole(text, u64::from(least), u64::from(most))? {
        number if number > u64::from(u32::MAX) => Err("too large"),
        number => Ok(u32::try_from(number).unwrap_or(u32::MAX)),
    }
}

/// A whole number from `least` to `most`, maybe with one of the units of sizes, as `number_ios=10k`.
pub(super) fn whole(text: &str, least: u64, most: u64) -> Outcome<u64> {
    let number = size(text, Units::Traditional).map_err(|why| match why {
        "too large" => why,
        _ => "not a whole number",
    })?;
    match number {
        number if number < least => Err("too small"),
        number if number > most => Err("too large"),
        number => Ok(number),
    }
}

/// Bytes.
pub(super) fn size(text: &str, units: Units) -> Outcome<u64> {
    const MALFORMED: &str = "not a size; write it as 4096, 4k, 64m, 10g, 1t or 0x1000";
    let number = if text.starts_with('(') {
        let scale = |number: i128, unit: &str| {
            number.checked_mul(i128::from(units.factor(&unit.to_ascii_lowercase())?))
        };
        let number = Expression::new(text, scale).value().ok_or("not an expression of whole sizes")?;
        u64::try_from(number).map_err(|_| "too large")?
    } else {
        let (number, unit) = digits(text).ok_or(MALFORMED)?;
        match &unit[..] {
            "%" => return Err("a percentage is not possible here"),
            "z" => return Err("there are no zones"),
            unit => number.checked_mul(units.factor(unit).ok_or(MALFORMED)?).ok_or("too large")?,
        }
    };
    if number > SIZE_MAX { Err("too large") } else { Ok(number) }
}

/// Bytes, or a percentage of the file's.
pub(super) fn amount(text: &str, units: Units) -> Outcome<Amount> {
    match text.strip_suffix('%') {
        Some(percent) => number(percent, 0, 100).map(Amount::Percent),
        None => size(text, units).map(Amount::Bytes),
    }
}

/// Bytes or a percentage, above zero.
pub(super) fn amount_above_zero(text: &str, units: Units) -> Outcome<Amount> {
    match amount(text, units)? {
        Amount::Bytes(0) | Amount::Percent(0) => Err("must be more than 0"),
        amount @ (Amount::Bytes(_) | Amount::Percent(_)) => Ok(amount),
    }
}

/// Bytes, some.
pub(super) fn size_above_zero(text: &str, units: Units) -> Outcome<u64> {
    size(text, units).and_then(|bytes| if bytes == 0 { Err("must be more than 0") } else { Ok(bytes) })
}

/// A block's bytes.
pub(super) fn block_size(text: &str, units: Units) -> Outcome<u64> {
    match size_above_zero(text, units)? {
        bytes if bytes > BLOCK_BYTES_MAX => Err("a block has at most 16 MiB"),
        bytes => Ok(bytes),
    }
}

/// The sizes of a range, `4k-64k`: all multiples of the smallest, each as often.
pub(super) fn range(text: &str, units: Units) -> Outcome<Split> {
    let (from, to) = text.split_once(['-', ':']).unwrap_or((text, text));
    let (from, to) = (block_size(from, units)?, block_size(to, units)?);
    let (from, to) = (from.min(to), from.max(to));
    let count = usize::try_from(to / from).unwrap_or(usize::MAX);
    if count > PARTS_MAX {
        return Err("the largest block is more than 4096 times the smallest");
    }
    let sizes = (1..=to / from).map(|multiple| (from * multiple, 1));
    // fio rounds down to multiples of the smallest, but for the largest.
    Ok(Split(sizes.chain((!to.is_multiple_of(from)).then_some((to, 1))).collect()))
}

/// What a time without a unit is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TimeUnit {
    Seconds,
    Microseconds,
}

impl TimeUnit {
    fn micros(self) -> u64 {
        match self {
            Self::Seconds => 1_000_000,
            Self::Microseconds => 1,
        }
    }
}

/// A time.
pub(super) fn time(text: &str, plain: TimeUnit) -> Outcome<Duration> {
    const MALFORMED: &str = "not a time; write it as 30, 30s, 500ms, 100us, 5m, 1h or 1d";
    let factor = |unit: &str, plain: TimeUnit| {
        Some(match unit {
            "" => plain.micros(),
            "us" | "usec" => 1,
            "ms" | "msec" => 1000,
            "s" | "sec" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => 86_400_000_000,
            _ => return None,
        })
    };
    let micros = if text.starts_with('(') {
        // Within an expression times are microseconds.
        let scale = |number: i128, unit: &str| {
            number.checked_mul(i128::from(factor(&unit.to_ascii_lowercase(), TimeUnit::Microseconds)?))
        };
        Expression::new(text, scale).value().and_then(|micros| u64::try_from(micros).ok()).ok_or(MALFORMED)?
    } else {
        let (number, unit) = digits(text).ok_or(MALFORMED)?;
        number.checked_mul(factor(&unit, plain).ok_or(MALFORMED)?).ok_or("too long")?
    };
    if micros < 1 << 52 { Ok(Duration::from_micros(micros)) } else { Err("too long") }
}

/// A time, or a range of times.
pub(super) fn times(text: &str) -> Outcome<(Duration, Duration)> {
    let (from, to) = text.split_once(['-', ':']).unwrap_or((text, text));
    let (from, to) = (time(from, TimeUnit::Seconds)?, time(to, TimeUnit::Seconds)?);
    Ok((from.min(to), from.max(to)))
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
pub(super) fn split(text: &str, units: Units) -> Outcome<Split> {
    let mut parts = Vec::new();
    for part in text.split(':') {
        let (bytes, percent) = part.split_once('/').unwrap_or((part, ""));
        let percent = percent.trim();
        let percent = if percent.is_empty() { None } else { Some(number(percent, 0, 100)?) };
        parts.push((block_size(bytes.trim(), units)?, percent));
    }
    shares(parts).map(Split)
}

/// What has no share gets an equal part of what is left of a hundred.
fn shares<T>(parts: Vec<(T, Option<u32>)>) -> Outcome<Vec<(T, u32)>> {
    if parts.len() > PARTS_MAX {
        return Err("there are too many parts");
    }
    let given: u32 = parts.iter().filter_map(|(_, percent)| *percent).sum();
    let open = u32::try_from(parts.iter().filter(|(_, percent)| percent.is_none()).count()).unwrap_or(100);
    let left = 100u32.checked_sub(given).ok_or("the percentages are more than 100")?;
    if open > left {
        return Err("nothing is left for what has no percentage");
    }
    if open == 0 && left > 0 {
        return Err("the percentages are less than 100");
    }
    let mut extra = left.checked_rem(open).unwrap_or(0);
    let share = left.checked_div(open).unwrap_or(0);
    let parts = parts.into_iter().map(|(part, percent)| {
        let percent = percent.unwrap_or_else(|| {
            let one = u32::from(extra > 0);
            extra -= one;
            share + one
        });
        (part, percent)
    });
    Ok(parts.collect())
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

/// Rates for reads, writes and trims; `rate=,500k` has none for reads, `rate=500k,` none for writes and trims.
pub(super) fn rates<T: Copy>(text: &str, one: impl Fn(&str) -> Outcome<T>) -> Outcome<[Option<T>; 3]> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if parts.len() > 3 {
        return Err("at most three values: for reads, writes and trims");
    }
    let mut rates = [None; 3];
    for (rate, part) in rates.iter_mut().zip(&parts) {
        *rate = if part.is_empty() { None } else { Some(one(part)?) };
    }
    let last = rates[parts.len() - 1];
    rates[parts.len()..].fill(last);
    if rates.iter().all(Option::is_none) { Err("a value is missing") } else { Ok(rates) }
}

/// Zones with shares of operations: `60/10:30/20:10/70` or, with sizes, `60/10g:40/`. A size that is left out gets an
/// equal part of the rest.
pub(super) fn zones(text: &str, units: Option<Units>) -> Outcome<Vec<Zone>> {
    const MALFORMED: &str =
        "not a list of zones; write it as zoned:60/10:30/20:10/70 or zoned_abs:60/10g:40/20g";
    let mut zones = Vec::new();
    for part in text.split(':').map(str::trim).filter(|part| !part.is_empty()) {
        let (share, extent) = part.split_once('/').ok_or(MALFORMED)?;
        let share = number(share.trim(), 0, 100)?;
        let extent = match (extent.trim(), units) {
            ("", _) => None,
            (extent, Some(units)) => Some(Amount::Bytes(size_above_zero(extent, units)?)),
            (extent, None) => Some(Amount::Percent(number(extent.trim_end_matches('%'), 1, 100)?)),
        };
        zones.push((share, extent));
    }
    if zones.len() > ZONES_MAX {
        return Err("at most 256 zones");
    }
    if zones.iter().map(|(share, _)| *share).sum::<u32>() != 100 {
        return Err("the zones' shares of operations must be 100 in sum");
    }
    if units.is_some() {
        if zones.iter().any(|(_, extent)| extent.is_none()) {
            return Err("each zone of zoned_abs needs a size");
        }
        let zones = zones.into_iter().filter_map(|(share, extent)| Some(Zone { share, extent: extent? }));
        return Ok(zones.collect());
    }
    let parts = zones.into_iter().map(|(share, extent)| match extent {
        Some(Amount::Percent(percent)) => (share, Some(percent)),
        Some(Amount::Bytes(_)) | None => (share, None),
    });
    let parts: Vec<_> = parts.collect();
    let given: u32 = parts.iter().filter_map(|(_, percent)| *percent).sum();
    // Zones may leave the end of the file out.
    let is_whole = parts.iter().all(|(_, percent)| percent.is_some());
    let zones = if is_whole && given < 100 {
        parts.into_iter().filter_map(|(share, percent)| Some((share, percent?))).collect()
    } else {
        shares(parts)?
    };
    let zones = zones.into_iter();
    Ok(zones.map(|(share, percent)| Zone { share, extent: Amount::Percent(percent) }).collect())
}

const ZONES_MAX: usize = 256;
