//! Trial: what one trial measured; it crosses from its process to the one that compares as JSON.

use serde_json::{Value, json};

use super::PERCENTILES;
use crate::record::{Record, real};

/// See the module.
#[derive(Clone, PartialEq, Debug)]
pub struct Trial {
    /// Clients.
    pub clients: u32,
    /// Operations that ended in time.
    pub operations: u64,
    /// Bytes of values in them.
    pub bytes: u64,
    /// How long it was measured.
    pub seconds: f64,
    /// Latencies at [`PERCENTILES`], in nanoseconds.
    pub latencies: [f64; 4],
    /// CPU time of all its threads.
    pub cpu_seconds: f64,
    /// Of the CPU time that the whole machine wanted during the trial, filling included, the share that a hypervisor gave to
    /// others.
    pub stolen: f64,
    /// Bytes written to the device, as the contestant counts.
    pub own_bytes: Option<u64>,
    /// Bytes written to the device, as the kernel counts for the process.
    pub kernel_bytes: Option<u64>,
    /// The most memory that the process had.
    pub peak_bytes: Option<u64>,
    /// Reads that did not find what was written.
    pub wrong: u64,
    /// Whether it ended before its time because space ran out.
    pub ran_out: bool,
    /// How it was set up.
    pub options: String,
}

impl Trial {
    /// With the operations of a record, all else nothing.
    pub(super) fn of(clients: u32, record: &Record, seconds: f64) -> Self {
        Self {
            clients,
            operations: record.operations(),
            bytes: record.bytes(),
            seconds,
            latencies: PERCENTILES.map(|percent| real(record.percentile(percent))),
            cpu_seconds: 0.0,
            stolen: 0.0,
            own_bytes: None,
            kernel_bytes: None,
            peak_bytes: None,
            wrong: 0,
            ran_out: false,
            options: String::new(),
        }
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "clients": self.clients,
            "operations": self.operations,
            "bytes": self.bytes,
            "seconds": self.seconds,
            "latencies_ns": self.latencies,
            "cpu_seconds": self.cpu_seconds,
            "stolen": self.stolen,
            "own_bytes": self.own_bytes,
            "kernel_bytes": self.kernel_bytes,
            "peak_bytes": self.peak_bytes,
            "wrong": self.wrong,
            "ran_out": self.ran_out,
            "options": self.options,
        })
    }

    /// From JSON; none if that is none of a trial.
    pub fn from_json(value: &Value) -> Option<Self> {
        let latencies = value["latencies_ns"].as_array()?.iter().map(Value::as_f64);
        let latencies: Vec<f64> = latencies.collect::<Option<_>>()?;
        Some(Self {
            clients: u32::try_from(value["clients"].as_u64()?).ok()?,
            operations: value["operations"].as_u64()?,
            bytes: value["bytes"].as_u64()?,
            seconds: value["seconds"].as_f64()?,
            latencies: latencies.try_into().ok()?,
            cpu_seconds: value["cpu_seconds"].as_f64()?,
            stolen: value["stolen"].as_f64()?,
            own_bytes: value["own_bytes"].as_u64(),
            kernel_bytes: value["kernel_bytes"].as_u64(),
            peak_bytes: value["peak_bytes"].as_u64(),
            wrong: value["wrong"].as_u64()?,
            ran_out: value["ran_out"].as_bool()?,
            options: value["options"].as_str()?.to_owned(),
        })
    }

    /// Operations a second.
    pub fn rate(&self) -> f64 {
        real(self.operations) / self.seconds.max(1e-9)
    }

    /// CPU seconds of a million operations.
    pub fn cpu_per_million(&self) -> f64 {
        self.cpu_seconds * 1e6 / real(self.operations.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let mut trial = Trial::of(4, &Record::default(), 1.5);
        assert_eq!(Trial::from_json(&trial.to_json()), Some(trial.clone()));
        trial.own_bytes = Some(7);
        trial.operations = 3_000_000;
        trial.cpu_seconds = 6.0;
        trial.stolen = 0.25;
        trial.options = "a \"b\"".to_owned();
        assert_eq!(Trial::from_json(&trial.to_json()), Some(trial.clone()));
        assert!((trial.rate() - 2e6).abs() < 1e-6 && (trial.cpu_per_million() - 2.0).abs() < 1e-12);
        assert_eq!(Trial::from_json(&json!({"clients": 1})), None);
    }
}
