//! Escaped string: a byte string in a key that ends by itself and orders as the string does.
//!
//! Bytes 1..=255 stand for themselves. A run of zero bytes, and the end, is a 0 followed by a run byte:
//!
//! | run byte | meaning |
//! |---|---|
//! | n = 0..=126 | the string ends after n zeros (0 only where no zero came before) |
//! | 128 | 126 zeros, and another run byte follows |
//! | 255 - n, n = 1..=126 | n zeros, and then a byte that is not 0 |
//!
//! "ab" is `61 62 00 00`; "a\0b" is `61 00 fe 62 00 00`; "a\0" is `61 00 01`.
//!
//! Why the order holds: take the first place where two strings' encodings part. Bytes that are not 0 compare as
//! themselves, and are above the 0 that stands for a zero or an end. Otherwise both have a run there. An end is below
//! all else, since a string is above its own beginning and a zero is below any other byte: 0..=126 against 128..=254.
//! Of two ends the longer run is the longer string. Of two runs that go on the longer is the smaller, since it still
//! has a zero where the other has not: 255 - n falls with n, and 128, at least 127 zeros and so more than any single
//! run byte says, is below them all and above all ends.
//!
//! Invariants: 1. Encodings order as strings do. 2. One string has one encoding. 3. None is the beginning of another.
//! Cost: 2 bytes if there is no zero in the string, at most 1.5 bytes per byte and 2 more ("\0a" again and again).

use seabed_types::{Cursor, Malformed};

use super::KeyBuf;

/// Most zeros that one run byte stands for.
const RUN_MAX: u8 = 126;
/// Run byte: `RUN_MAX` zeros and another run byte follows.
const RUN_GOES_ON: u8 = 128;
/// First run byte that says that a byte other than zero follows.
const FIRST_INNER: u8 = 255 - RUN_MAX;

/// Most bytes that a string of `bytes` bytes takes.
pub const fn bytes_max(bytes: usize) -> usize {
    bytes + bytes.div_ceil(2) + 2
}

/// Bytes that `string` takes.
pub fn encoded_bytes(string: &[u8]) -> usize {
    if !string.contains(&0) {
        return string.len() + 2;
    }
    let mut key = KeyBuf::new();
    put(&mut key, string);
    key.len()
}

/// Appends `string`.
pub fn put(to: &mut KeyBuf, string: &[u8]) {
    if !string.contains(&0) {
        to.extend_from_slice(string);
        to.extend_from_slice(&[0, 0]);
        return;
    }
    let mut rest = string;
    while let Some(zero) = rest.iter().position(|byte| *byte == 0) {
        to.extend_from_slice(&rest[..zero]);
        let zeros = &rest[zero..];
        let run = zeros.iter().position(|byte| *byte != 0).unwrap_or(zeros.len());
        rest = &zeros[run..];
        let last = put_run(to, run);
        if rest.is_empty() {
            to.push(last);
            return;
        }
        to.push(255 - last);
    }
    to.extend_from_slice(rest);
    to.extend_from_slice(&[0, 0]);
}

/// Appends a run but for its last run byte, and gives the zeros, 1 to `RUN_MAX`, that are left for that one.
fn put_run(to: &mut KeyBuf, mut run: usize) -> u8 {
    to.push(0);
    while run > usize::from(RUN_MAX) {
        to.push(RUN_GOES_ON);
        run -= usize::from(RUN_MAX);
    }
    u8::try_from(run).expect("not over RUN_MAX")
}

/// Reads a string; refuses every encoding but the one that [`put`] makes.
pub fn take(from: &mut Cursor<'_>, what: &'static str) -> Result<KeyBuf, Malformed> {
    let mut string = KeyBuf::new();
    let mut is_after_run = false;
    loop {
        let bad = from.malformed(what);
        let rest = from.clone().take(from.left(), what)?;
        let plain = rest.iter().position(|byte| *byte == 0).ok_or(bad)?;
        // What follows an inner run is not a zero, or the run would have been longer.
        if plain == 0 && is_after_run {
            return Err(bad);
        }
        string.extend_from_slice(from.take(plain, what)?);
        from.take(1, what)?;
        if take_run(from, &mut string, what)? {
            return Ok(string);
        }
        is_after_run = true;
    }
}

/// Reads what follows a 0; whether the string ends there.
fn take_run(from: &mut Cursor<'_>, string: &mut KeyBuf, what: &'static str) -> Result<bool, Malformed> {
    let mut zeros = |count: u8| string.resize(string.len() + usize::from(count), 0);
    for first in std::iter::once(true).chain(std::iter::repeat(false)) {
        let bad = from.malformed(what);
        match from.u8(what)? {
            0 if !first => return Err(bad),
            count @ 0..=RUN_MAX => {
                zeros(count);
                return Ok(true);
            }
            RUN_GOES_ON => zeros(RUN_MAX),
            byte @ FIRST_INNER..=254 => {
                zeros(255 - byte);
                return Ok(false);
            }
            _ => return Err(bad),
        }
    }
    unreachable!("the iterator has no end")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(string: &[u8]) -> Vec<u8> {
        let mut key = KeyBuf::new();
        put(&mut key, string);
        key.to_vec()
    }

    /// All strings of up to `length` bytes over {0, 1, 2, 255}.
    fn strings(length: u32) -> Vec<Vec<u8>> {
        (0..=length)
            .flat_map(|length| {
                (0..4usize.pow(length))
                    .map(move |number| (0..length).map(|i| [0, 1, 2, 255][number >> (2 * i) & 3]).collect())
            })
            .collect()
    }

    fn check(mut strings: Vec<Vec<u8>>) {
        strings.sort();
        strings.dedup();
        for pair in strings.windows(2) {
            let (a, b) = (encoded(&pair[0]), encoded(&pair[1]));
            assert!(a < b, "{pair:?}");
            assert!(!b.starts_with(&a), "{pair:?}");
        }
        for string in strings {
            let bytes = encoded(&string);
            assert!(bytes.len() <= bytes_max(string.len()));
            assert!(string.contains(&0) || bytes.len() == string.len() + 2);
            let mut cursor = Cursor::new(&bytes);
            assert_eq!(take(&mut cursor, "s"), Ok(KeyBuf::from_vec(string)));
            assert_eq!(cursor.left(), 0);
        }
    }

    #[test]
    fn order_of_short_strings() {
        check(strings(7));
    }

    #[test]
    fn order_of_long_runs() {
        let runs = [0, 1, 2, 125, 126, 127, 128, 129, 251, 252, 253, 254, 255, 256, 377, 378, 379, 380];
        let ends = strings(3);
        let mut all = Vec::new();
        for before in [&[][..], &[1], &[255, 0, 7]] {
            for run in runs {
                for end in &ends {
                    all.push([before, &vec![0; run], end].concat());
                    all.push([before, &vec![0; run], &[1], &[0; 127], end].concat());
                }
            }
        }
        check(all);
    }

    #[test]
    fn one_encoding_each() {
        let mut rng = fastrand::Rng::with_seed(4);
        let alphabet = [0, 0, 0, 1, 126, 127, 128, 129, 254, 255];
        let mut decoded = 0;
        for _ in 0..300_000 {
            let bytes: Vec<u8> = (0..rng.usize(..9)).map(|_| alphabet[rng.usize(..alphabet.len())]).collect();
            let mut cursor = Cursor::new(&bytes);
            if let Ok(string) = take(&mut cursor, "s") {
                assert_eq!(encoded(&string), bytes[..cursor.offset()]);
                decoded += 1;
            }
        }
        assert!(decoded > 10_000, "most would prove nothing");
    }
}
