//! Runs: bytes of which most repeat, in few.
//!
//! An image of some megabytes is zeros but for some tens of kilobytes, and the data of the golden stores repeat one byte
//! for long. So an image is the number of its bytes (a varint), then spans: a varint that holds the span's length and, in
//! its lowest bit, whether it is a run of one byte (1, that byte follows) or literal (0, the bytes follow).
//!
//! Limits: a run has at least `RUN_LEAST` bytes. Decoding makes no more bytes than it is told to.

use seabed_types::{Cursor, Malformed, put_varint};

const RUN_LEAST: usize = 6;

/// The bytes in spans.
pub fn encode(bytes: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    put_varint(&mut encoded, bytes.len() as u64);
    let mut literal: &[u8] = &[];
    let mut at = 0;
    while let Some(first) = bytes.get(at) {
        let run = bytes[at..].iter().take_while(|byte| *byte == first).count();
        if run >= RUN_LEAST {
            put_literal(&mut encoded, literal);
            put_varint(&mut encoded, (run as u64) << 1 | 1);
            encoded.push(*first);
            literal = &[];
        } else {
            literal = &bytes[at - literal.len()..at + run];
        }
        at += run;
    }
    put_literal(&mut encoded, literal);
    encoded
}

fn put_literal(encoded: &mut Vec<u8>, literal: &[u8]) {
    if !literal.is_empty() {
        put_varint(encoded, (literal.len() as u64) << 1);
        encoded.extend_from_slice(literal);
    }
}

/// The bytes again, if there are at most `bytes_max`.
pub fn decode(encoded: &[u8], bytes_max: usize) -> Result<Vec<u8>, Malformed> {
    let mut cursor = Cursor::new(encoded);
    let total = cursor.count(bytes_max, "bytes of the image")?;
    let mut bytes = Vec::with_capacity(total);
    while bytes.len() < total {
        let span = cursor.varint("span")?;
        let left = (total - bytes.len()) as u64;
        let count = usize::try_from((span >> 1).min(left)).unwrap_or(total);
        if span & 1 == 1 {
            bytes.resize(bytes.len() + count, cursor.u8("byte of a run")?);
        } else {
            bytes.extend_from_slice(cursor.take(count, "literal bytes")?);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..300 {
            let mut bytes = Vec::new();
            for _ in 0..rng.usize(..20) {
                let count = bytes.len() + rng.usize(..300);
                let byte = rng.u8(..3);
                bytes.resize(count, byte);
                bytes.extend((0..rng.usize(..20)).map(|_| rng.u8(..)));
            }
            let encoded = encode(&bytes);
            assert_eq!(decode(&encoded, bytes.len()).expect("as encoded"), bytes);
            if !bytes.is_empty() {
                decode(&encoded, bytes.len() - 1).expect_err("more than allowed");
                decode(&encoded[..encoded.len() - 1], bytes.len()).expect_err("cut off");
            }
        }
        assert!(encode(&vec![0; 3 << 20]).len() < 12);
    }
}
