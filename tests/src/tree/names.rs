//! Names: what may stand between two slashes, and sometimes does.

/// Names that programs have stumbled over.
const ODD: [&[u8]; 22] = [
    b"...",
    b".hidden",
    b"-rf",
    b"--help",
    b"~",
    b"*",
    b"[a-z]?",
    b"$(reboot)",
    b"`id`",
    b"'quoted'",
    b"\"quoted\"",
    b"a;b&c|d",
    b"trailing space ",
    b" leading space",
    b"dot.",
    b"COM1",
    b"%00%2f..",
    b"\\",
    b"C:\\temp\\x",
    b"caf\xc3\xa9",
    b"cafe\xcc\x81",
    b"\xe2\x80\xaegnp.exe",
];

const SYLLABLES: [&str; 16] =
    ["ba", "cor", "di", "el", "fon", "gra", "hu", "in", "ka", "lo", "mer", "no", "pi", "ra", "su", "tan"];

const ENDINGS: [&str; 8] = ["", "", ".txt", ".jpg", ".c", ".tar.gz", ".o", "~"];

/// A name of at most `room` bytes (at least 16 are needed); not always another than before.
pub(super) fn name(room: usize, rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut name = match rng.u32(..100) {
        0..60 => word(rng),
        60..70 => rng.u32(..100_000).to_string().into_bytes(),
        70..74 => [word(rng), word(rng)].join(&b' '),
        74..76 => [word(rng), word(rng)].join(&b'\n'),
        76..78 => [b"-".to_vec(), word(rng)].concat(),
        78..80 => [word(rng), word(rng)].join(&b'\\'),
        80..84 => any_bytes(1..20, rng),
        84..86 => any_bytes(255..256, rng),
        86..88 => {
            std::iter::repeat_with(|| rng.alphanumeric()).take(255).map(|letter| letter as u8).collect()
        }
        88..90 => [word(rng), vec![rng.u8(1..32)]].concat(),
        90..92 => vec![rng.alphanumeric() as u8],
        // Numbered, since there are few of them.
        _ => [ODD[rng.usize(..ODD.len())], &rng.u16(..).to_string().into_bytes()][..rng.usize(1..3)].concat(),
    };
    name.truncate(room);
    if name.as_slice() == b"." || name.as_slice() == b".." {
        name.push(b'_');
    }
    name
}

fn word(rng: &mut fastrand::Rng) -> Vec<u8> {
    let syllables = (0..rng.usize(1..6)).map(|_| SYLLABLES[rng.usize(..SYLLABLES.len())]);
    let mut word: String = syllables.collect();
    word.push_str(ENDINGS[rng.usize(..ENDINGS.len())]);
    word.into_bytes()
}

/// Every byte but those that no name may have.
fn any_bytes(count: std::ops::Range<usize>, rng: &mut fastrand::Rng) -> Vec<u8> {
    let count = rng.usize(count);
    let bytes = std::iter::repeat_with(|| rng.u8(1..)).filter(|byte| *byte != b'/');
    bytes.take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            for room in [16, 255] {
                let name = name(room, &mut rng);
                assert!((1..=room).contains(&name.len()));
                assert!(!name.contains(&0) && !name.contains(&b'/'));
                assert!(name.as_slice() != b"." && name.as_slice() != b"..");
            }
        }
    }
}
