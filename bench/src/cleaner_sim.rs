//! Cleaner-sim: the policies of the inline cleaner on synthetic loads, in the simulator of `seabed-cleaner`: a table of write
//! amplification.
//!
//! No store and no device: chunks, segments and counts in memory. A row is a load at a fill; beside the policies it has the
//! bound, what is possible if each chunk's rate of writes is known.

use std::fmt::Write;

use seabed_cleaner::simulate::{self, Bound, CHUNK_BYTES, Geometry, Measured, Plan};
use serde_json::json;

pub use seabed_cleaner::simulate::Load;

/// Live data that can be simulated: 17 bytes of memory for each chunk.
pub const DATA_BYTES_MAX: u64 = 256 << 30;
/// Segments that the live data must fill at least: open ones and the reserve take half a dozen more.
pub const SEGMENTS_MIN: u64 = 32;
/// Fills that leave something to clean with.
pub const FILLS: std::ops::RangeInclusive<f64> = 0.1..=0.97;

/// What to simulate: each load at each fill with each segment size.
#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// Live data.
    pub data_bytes: u64,
    /// Segment sizes.
    pub segment_bytes: Vec<u64>,
    /// Live data over capacity.
    pub fills: Vec<f64>,
    /// Loads.
    pub loads: Vec<Load>,
    /// The seed of all runs.
    pub seed: u64,
}

/// Options that cannot be simulated.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
pub enum OptionsError {
    /// Too much data for memory.
    #[error("{0} bytes of data are more than {DATA_BYTES_MAX}")]
    Data(u64),
    /// Segments of less than a chunk, or not of whole chunks.
    #[error("segments of {0} bytes are not a number of chunks of {CHUNK_BYTES} bytes")]
    Segment(u64),
    /// Too few segments.
    #[error("{data} bytes of data do not fill {SEGMENTS_MIN} segments of {segment} bytes")]
    Few {
        /// Live data.
        data: u64,
        /// The segment size.
        segment: u64,
    },
    /// A fill out of range.
    #[error("a fill of {0} is not between {least} and {most}", least = FILLS.start(), most = FILLS.end())]
    Fill(f64),
}

/// A load at a fill.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// The load.
    pub load: Load,
    /// Live data over capacity.
    pub fill: f64,
    /// The segment size.
    pub segment_bytes: u64,
    /// What is possible; `None` for loads that change.
    pub bound: Option<f64>,
    /// By policy, as [`policies`] lists them; `None` where no free segment was left.
    pub measured: Vec<Option<Measured>>,
}

/// The names of the policies, in order.
pub fn policies() -> impl Iterator<Item = &'static str> {
    Plan::COMPARED.into_iter().map(|(name, _)| name)
}

impl Options {
    /// How many runs there will be.
    pub fn runs(&self) -> u64 {
        (self.segment_bytes.len() * self.fills.len() * self.loads.len() * Plan::COMPARED.len()) as u64
    }

    /// Checks that all of it can be simulated.
    pub fn check(&self) -> Result<(), OptionsError> {
        if self.data_bytes > DATA_BYTES_MAX {
            return Err(OptionsError::Data(self.data_bytes));
        }
        for segment in self.segment_bytes.iter().copied() {
            if segment == 0 || segment % CHUNK_BYTES != 0 {
                return Err(OptionsError::Segment(segment));
            }
            if self.data_bytes / segment < SEGMENTS_MIN {
                return Err(OptionsError::Few { data: self.data_bytes, segment });
            }
        }
        match self.fills.iter().find(|fill| !FILLS.contains(*fill)) {
            Some(fill) => Err(OptionsError::Fill(*fill)),
            None => Ok(()),
        }
    }
}

/// Runs all, unless `ends` says so before a run; `done` is called after each. Rows that were not completed are left out.
pub fn run(
    options: &Options,
    ends: impl Fn() -> bool,
    mut done: impl FnMut(),
) -> Result<Vec<Row>, OptionsError> {
    options.check()?;
    let mut rows = Vec::new();
    for segment_bytes in options.segment_bytes.iter().copied() {
        for load in options.loads.iter().copied() {
            for fill in options.fills.iter().copied() {
                let geometry = geometry(options.data_bytes, segment_bytes, fill);
                let mut measured = Vec::new();
                for (_, plan) in Plan::COMPARED {
                    if ends() {
                        return Ok(rows);
                    }
                    measured.push(simulate::run(geometry, load, plan, options.seed).ok());
                    done();
                }
                let bound = Bound::of(load, geometry.chunks, fill).map(|bound| bound.0);
                rows.push(Row { load, fill, segment_bytes, bound, measured });
            }
        }
    }
    Ok(rows)
}

fn geometry(data_bytes: u64, segment_bytes: u64, fill: f64) -> Geometry {
    Geometry {
        chunks: (data_bytes / CHUNK_BYTES) as usize,
        fill,
        segment_chunks: (segment_bytes / CHUNK_BYTES) as usize,
    }
}

/// A table for people. In brackets: copies per write in the worst window of a segment's worth of writes.
pub fn as_text(rows: &[Row], size: impl Fn(u64) -> String) -> String {
    let mut text = format!("{:<11} {:<8} {:>4} {:>6}", "load", "segments", "fill", "bound");
    for name in policies() {
        write!(text, " {name:>22}").expect("a string takes everything");
    }
    text.push('\n');
    for row in rows {
        let bound = row.bound.map_or_else(|| "-".to_owned(), |bound| format!("{bound:.2}"));
        let (load, segment) = (row.load.to_string(), size(row.segment_bytes));
        write!(text, "{load:<11} {segment:<8} {:>4.2} {bound:>6}", row.fill)
            .expect("a string takes everything");
        for measured in &row.measured {
            let cell = measured.map_or_else(
                || "no space".to_owned(),
                |seen| format!("{:.2} ({:.1})", seen.write_amplification, seen.copies_worst),
            );
            write!(text, " {cell:>22}").expect("a string takes everything");
        }
        text.push('\n');
    }
    text
}

/// The same as JSON.
pub fn as_json(options: &Options, rows: &[Row]) -> serde_json::Value {
    let row = |row: &Row| {
        let policies: serde_json::Map<String, serde_json::Value> = policies()
            .zip(&row.measured)
            .map(|(name, measured)| {
                let figures = measured.map(|seen| {
                    json!({
                        "write_amplification": seen.write_amplification,
                        "copies_per_write_worst": seen.copies_worst,
                        "free_segments_min": seen.free_min,
                    })
                });
                (name.to_owned(), json!(figures))
            })
            .collect();
        json!({
            "load": row.load.to_string(),
            "fill": row.fill,
            "segment_bytes": row.segment_bytes,
            "bound": row.bound,
            "policies": policies,
        })
    };
    json!({
        "workload": "cleaner-sim",
        "data_bytes": options.data_bytes,
        "seed": options.seed,
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            data_bytes: 8 << 20,
            segment_bytes: vec![64 << 10],
            fills: vec![0.7, 0.8],
            loads: vec![Load::Uniform, Load::Shifting],
            seed: 1,
        }
    }

    #[test]
    fn each_load_has_a_row_for_each_fill() {
        let options = options();
        let done = std::cell::Cell::new(0);
        let rows = run(&options, || false, || done.set(done.get() + 1)).expect("it can be simulated");
        assert_eq!((rows.len(), done.get()), (4, options.runs()));
        assert!(rows[0].bound.is_some() && rows[2].bound.is_none());
        let text = as_text(&rows, |bytes| bytes.to_string());
        assert_eq!(text.lines().count(), 5);
        assert!(
            text.lines().all(|line| line.chars().count() == text.lines().next().map_or(0, str::len)),
            "{text}"
        );
        let json = as_json(&options, &rows);
        let amplification = json["rows"][1]["policies"]["greedy"]["write_amplification"].as_f64();
        assert!(amplification.is_some_and(|it| it > 1.5), "{json}");
        assert!(run(&options, || true, || ()).expect("it could be").is_empty(), "ended before the first run");
    }

    #[test]
    fn what_cannot_be_simulated_is_said() {
        let check = |change: fn(&mut Options)| {
            let mut options = options();
            change(&mut options);
            options.check().expect_err("it cannot be").to_string()
        };
        assert!(check(|options| options.data_bytes = 1 << 50).contains("more than"));
        assert!(check(|options| options.data_bytes = 1 << 20).contains("do not fill 32 segments"));
        assert!(check(|options| options.segment_bytes.push(0)).contains("of 0 bytes"));
        assert!(check(|options| options.segment_bytes.push(5000)).contains("not a number of chunks"));
        assert!(check(|options| options.fills.push(0.99)).contains("not between 0.1 and 0.97"));
        assert!(check(|options| options.fills.push(f64::NAN)).contains("NaN"));
    }
}
