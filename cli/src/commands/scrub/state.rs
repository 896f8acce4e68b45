//! State: how far a scrub is, in a small JSON file beside the store.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use seabed::types::{PoolId, SegmentId};
use seabed_check::CollectionId;
use seabed_check::scrub::Position;
use serde_json::{Value, json};

use crate::exit::{Failure, Outcome};
use crate::names::hex;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct State {
    /// Of which store.
    pub(super) uuid: String,
    /// Where to go on; none: at the beginning.
    pub(super) position: Option<Position>,
    /// What was verified since the beginning.
    pub(super) bytes: u64,
    /// How much was bad.
    pub(super) bad: u64,
}

impl State {
    fn new(uuid: &str) -> Self {
        Self { uuid: uuid.to_owned(), position: None, bytes: 0, bad: 0 }
    }

    /// What the last run left, if it did not get to the end.
    pub(super) fn load(path: Option<&Path>, uuid: &str) -> Outcome<Self> {
        let Some(path) = path else { return Ok(Self::new(uuid)) };
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::new(uuid)),
            Err(error) => return Err(Failure::io(path, "reading it", &error)),
        };
        let state = serde_json::from_slice(&text).ok().and_then(|value| Self::decode(&value));
        let shown = crate::session::shown(path);
        let Some(state) = state else {
            return Err(Failure::usage(format!("{shown}: is not the state of a scrub; it is left alone")));
        };
        if state.uuid != uuid {
            let message = format!("{shown}: is the state of a scrub of another store, {}", state.uuid);
            return Err(Failure::usage(message));
        }
        Ok(if state.position.is_some() { state } else { Self::new(uuid) })
    }

    pub(super) fn save(&self, path: &Path) -> Outcome<()> {
        let failed = |doing| move |error| Failure::io(path, doing, &error);
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(above).map_err(failed("writing the state"))?;
        writeln!(file, "{:#}", self.encode()).map_err(failed("writing the state"))?;
        file.as_file().sync_data().map_err(failed("writing the state"))?;
        file.persist(path).map(drop).map_err(|error| failed("writing the state")(error.error))
    }

    fn encode(&self) -> Value {
        let position = self.position.as_ref().map(|position| match position {
            Position::Rows { collection, key } => json!({
                "pool": collection.pool.0,
                "prefix": collection.prefix,
                "bits": collection.bits,
                "key": hex(key),
            }),
            Position::Segments { segment } => json!({ "segment": segment.0 }),
        });
        json!({
            "scrub": 1,
            "uuid": self.uuid,
            "position": position,
            "bytes_verified": self.bytes,
            "bad_count": self.bad,
        })
    }

    fn decode(value: &Value) -> Option<Self> {
        if value.get("scrub")?.as_u64() != Some(1) {
            return None;
        }
        let at = value.get("position")?;
        let number = |name: &str| at.get(name).and_then(Value::as_u64);
        let position = if at.is_null() {
            None
        } else if let Some(segment) = number("segment") {
            Some(Position::Segments { segment: SegmentId(u32::try_from(segment).ok()?) })
        } else {
            let collection = CollectionId {
                pool: PoolId(number("pool")?),
                prefix: u32::try_from(number("prefix")?).ok()?,
                bits: u8::try_from(number("bits")?).ok()?,
            };
            Some(Position::Rows { collection, key: unhex(at.get("key")?.as_str()?)? })
        };
        Some(Self {
            uuid: value.get("uuid")?.as_str()?.to_owned(),
            position,
            bytes: value.get("bytes_verified")?.as_u64()?,
            bad: value.get("bad_count")?.as_u64()?,
        })
    }
}

/// The bytes of hexadecimal digits.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits?;
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(high << 4 | low),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back() {
        let collection = CollectionId { pool: PoolId(u64::MAX), prefix: 1 << 31, bits: 1 };
        for position in [
            None,
            Some(Position::Segments { segment: SegmentId(7) }),
            Some(Position::Rows { collection, key: vec![0, 0xff, 0x10] }),
            Some(Position::Rows { collection, key: Vec::new() }),
        ] {
            let state = State { uuid: "u".to_owned(), position, bytes: 1 << 60, bad: 3 };
            assert_eq!(State::decode(&state.encode()), Some(state));
        }
    }

    #[test]
    fn what_is_no_state_is_refused() {
        for text in ["{}", "[]", "{\"scrub\":2}", "{\"scrub\":1,\"uuid\":\"u\",\"position\":{\"key\":\"0\"}}"]
        {
            let value: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(State::decode(&value), None, "{text}");
        }
        assert_eq!((unhex("0"), unhex("0g")), (None, None));
    }
}
