//! Names: bytes from and to the outside, for terminals, for lines of a file, and for JSON.
//!
//! A name of an object, an attribute or a key is any bytes. Arguments are taken as the bytes that the shell passed, and
//! names are written as they are, but where that would do harm:
//! - on a terminal control characters, a backslash and what is not UTF-8 become escapes (`\n`, `\\`, `\xff`);
//! - in a log with one name a line a newline becomes `\n` and a backslash `\\`, nothing else changes;
//! - in JSON a name that is not UTF-8 has U+FFFD for what is wrong, and a second field with all its bytes in hex.

use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

use serde_json::{Map, Value};

/// What is printed on a terminal: nothing in it can move the cursor, and the escapes tell different names apart.
pub(crate) fn for_terminal(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if c.is_control() || is_invisible(c) => {
                    let mut utf8 = [0; 4];
                    push_hex(&mut out, c.encode_utf8(&mut utf8).as_bytes());
                }
                c => out.push(c),
            }
        }
        push_hex(&mut out, chunk.invalid());
    }
    out
}

/// Characters that are no control characters, but turn the direction of the text or are not seen.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(out, "\\x{byte:02x}").expect("a string takes everything");
    }
}

/// For messages: as on a terminal, between quotes.
pub(crate) fn quoted(name: &[u8]) -> String {
    format!("\"{}\"", for_terminal(name))
}

/// One line of a log of names, with its newline.
pub(crate) fn to_line(name: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(name.len() + 1);
    for byte in name {
        match byte {
            b'\n' => line.extend(b"\\n"),
            b'\\' => line.extend(b"\\\\"),
            other => line.push(*other),
        }
    }
    line.push(b'\n');
    line
}

/// Puts a name into a JSON object under `field`, and under `field_hex` too if it is not UTF-8.
pub(crate) fn into_json(object: &mut Map<String, Value>, field: &str, name: &[u8]) {
    object.insert(field.to_owned(), String::from_utf8_lossy(name).into());
    if std::str::from_utf8(name).is_err() {
        object.insert(format!("{field}_hex"), hex(name).into());
    }
}

/// Two small hexadecimal digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").expect("a string takes everything");
        out
    })
}

/// The bytes of an argument.
pub(crate) fn bytes_of(argument: &OsStr) -> &[u8] {
    argument.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What [`to_line`] wrote, back: what a reader of the log does.
    fn from_line(line: &[u8]) -> Vec<u8> {
        let mut name = Vec::new();
        let mut bytes = line.strip_suffix(b"\n").expect("a whole line").iter();
        while let Some(byte) = bytes.next() {
            match (byte, byte == &b'\\') {
                (_, true) if bytes.next() == Some(&b'n') => name.push(b'\n'),
                (_, true) => name.push(b'\\'),
                (other, false) => name.push(*other),
            }
        }
        name
    }

    #[test]
    fn a_line_gives_its_name_back() {
        for name in [&b"plain"[..], b"a\nb", b"a\\nb", b"\\", b"\\\\\n\n", b"\xff\xfe\r", b"", b"n\\\n"] {
            let line = to_line(name);
            assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1), "{name:?}");
            assert_eq!(from_line(&line), name);
        }
        assert_eq!(to_line(b"a\nb\\c\xff"), b"a\\nb\\\\c\xff\n");
    }

    #[test]
    fn nothing_reaches_a_terminal_unescaped() {
        assert_eq!(for_terminal("photos/Käfer 🪲".as_bytes()), "photos/Käfer 🪲");
        assert_eq!(for_terminal(b"\x1b[2J\n\\n\xff\x7f"), "\\x1b[2J\\n\\\\n\\xff\\x7f");
        assert_eq!(for_terminal("a\u{202e}b\u{85}".as_bytes()), "a\\xe2\\x80\\xaeb\\xc2\\x85");
        for byte in 0..=255u8 {
            assert!(!for_terminal(&[byte, b'x']).chars().any(char::is_control), "{byte}");
        }
    }

    #[test]
    fn json_keeps_all_bytes() {
        let mut object = Map::new();
        into_json(&mut object, "name", "Käfer".as_bytes());
        assert_eq!(Value::Object(object.clone()).to_string(), r#"{"name":"Käfer"}"#);
        into_json(&mut object, "name", b"a\xff");
        assert_eq!(object["name"], "a\u{fffd}");
        assert_eq!(object["name_hex"], "61ff");
    }
}
