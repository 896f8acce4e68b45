//! Table: trials of several contestants side by side: medians, their spread, and the ratio of each to Seabed's.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Contestant, Trial, Work};
use crate::record::real;
use crate::report::page::html;
use crate::report::words;

/// The own and the kernel's count of written bytes may differ by so much.
const COUNTS_MAY_DIFFER: f64 = 0.02;
/// With more of the CPU time stolen a trial measures the machine's neighbours.
const STOLEN_MAX: f64 = 0.05;
/// Shorter trials say little.
const TIME_MIN: Duration = Duration::from_secs(30);

/// A contestant's trials with one number of clients.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Who.
    pub contestant: Contestant,
    /// With how many clients.
    pub clients: u32,
    /// The repeats.
    pub trials: Vec<Trial>,
    /// Why there are no more, if one failed.
    pub failed: Option<String>,
}

/// A comparison.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// What was done.
    pub work: Work,
    /// Bytes of data.
    pub data_bytes: u64,
    /// Bytes of each cache.
    pub cache_bytes: u64,
    /// How long a trial took.
    pub time: Duration,
    /// Those who store, each at its best number of clients.
    pub entries: Vec<Entry>,
    /// The drivers by themselves, at the same numbers of clients.
    pub nulls: Vec<Entry>,
}

/// The middle of some trials, and their ends.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Figure {
    median: f64,
    min: f64,
    max: f64,
}

impl Figure {
    fn of(values: impl Iterator<Item = Option<f64>>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect::<Option<_>>()?;
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, min, max })
    }
}

/// A line of the table.
struct Row {
    key: &'static str,
    title: &'static str,
    of: fn(&Trial, Option<f64>) -> Option<f64>,
    shown: fn(f64) -> String,
}

const ROWS: [Row; 12] = [
    Row { key: "iops", title: "operations/s", of: |trial, _| Some(trial.rate()), shown: words::count },
    Row {
        key: "megabytes_per_second",
        title: "MB/s",
        of: |trial, _| Some(real(trial.bytes) / 1e6 / trial.seconds.max(1e-9)),
        shown: |value| format!("{value:.1}"),
    },
    Row { key: "p50_ns", title: "p50", of: |trial, _| Some(trial.latencies[0]), shown: words::time },
    Row { key: "p99_ns", title: "p99", of: |trial, _| Some(trial.latencies[1]), shown: words::time },
    Row { key: "p999_ns", title: "p99.9", of: |trial, _| Some(trial.latencies[2]), shown: words::time },
    Row { key: "p9999_ns", title: "p99.99", of: |trial, _| Some(trial.latencies[3]), shown: words::time },
    Row {
        key: "cpu_seconds_per_million",
        title: "CPU s per million",
        of: |trial, _| Some(trial.cpu_per_million()),
        shown: two,
    },
    Row {
        key: "cpu_seconds_per_million_less_null",
        title: "the same, less the driver's",
        of: |trial, null| Some(trial.cpu_per_million() - null?),
        shown: two,
    },
    Row {
        key: "own_bytes_per_byte",
        title: "device bytes per byte, own count",
        of: |trial, _| per_byte(trial, trial.own_bytes),
        shown: two,
    },
    Row {
        key: "kernel_bytes_per_byte",
        title: "device bytes per byte, the kernel's count",
        of: |trial, _| per_byte(trial, trial.kernel_bytes),
        shown: two,
    },
    Row {
        key: "peak_bytes",
        title: "peak memory",
        of: |trial, _| trial.peak_bytes.map(real),
        shown: words::bytes,
    },
    Row {
        key: "stolen",
        title: "CPU time that a hypervisor took, of what was wanted",
        of: |trial, _| Some(trial.stolen),
        shown: |share| format!("{:.1} %", share * 100.0),
    },
];

fn two(value: f64) -> String {
    format!("{value:.2}")
}

fn per_byte(trial: &Trial, written: Option<u64>) -> Option<f64> {
    (trial.bytes > 0).then_some(real(written?) / real(trial.bytes))
}

impl Comparison {
    /// What the entry's driver takes by itself, CPU seconds of a million operations.
    fn null_cpu(&self, entry: &Entry) -> Option<f64> {
        let is_its =
            |null: &&Entry| null.contestant == entry.contestant.null() && null.clients == entry.clients;
        let null = self.nulls.iter().find(is_its)?;
        Figure::of(null.trials.iter().map(|trial| Some(trial.cpu_per_million()))).map(|figure| figure.median)
    }

    fn figure(&self, entry: &Entry, row: &Row) -> Option<Figure> {
        // Only writes have a number of device bytes for each byte.
        if self.work == Work::Read && row.key.ends_with("bytes_per_byte") {
            return None;
        }
        let null = self.null_cpu(entry);
        Figure::of(entry.trials.iter().map(|trial| (row.of)(trial, null)))
    }

    fn ratio(&self, figure: Figure, row: &Row) -> Option<f64> {
        let seabed = self.entries.iter().find(|entry| entry.contestant == Contestant::Seabed)?;
        let median = self.figure(seabed, row)?.median;
        (median > 0.0).then_some(figure.median / median)
    }

    /// The median, with its ratio to Seabed's; the spread if there were several.
    fn cell(&self, entry: &Entry, row: &Row) -> String {
        let Some(figure) = self.figure(entry, row) else { return "-".to_owned() };
        let mut cell = (row.shown)(figure.median);
        if entry.contestant != Contestant::Seabed
            && let Some(ratio) = self.ratio(figure, row)
        {
            write!(cell, " ({ratio:.2}x)").expect("a string takes everything");
        }
        if entry.trials.len() > 1 {
            let spread = [figure.min, figure.max].map(row.shown).join(" to ");
            write!(cell, " [{spread}]").expect("a string takes everything");
        }
        cell
    }

    /// All that a reader must know of the figures.
    fn notes(&self) -> Vec<String> {
        let mut notes = vec![format!(
            "{}: values of {} bytes, {} of data, caches of {}, {} s a trial, {} repeats, \
             in brackets their spread",
            self.work.name(),
            self.work.value_bytes(),
            words::bytes(real(self.data_bytes)),
            words::bytes(real(self.cache_bytes)),
            self.time.as_secs_f64(),
            self.entries.iter().map(|entry| entry.trials.len()).max().unwrap_or(0),
        )];
        if self.time < TIME_MIN || self.data_bytes < 2 * self.cache_bytes {
            notes.push("not to be quoted: shorter than 30 s, or less data than twice the cache".to_owned());
        }
        for entry in &self.entries {
            let name = entry.contestant.name();
            if let Some(trial) = entry.trials.first() {
                notes.push(format!("{name}: {} clients; {}", entry.clients, trial.options));
            }
            if let Some(why) = &entry.failed {
                notes.push(format!("{name}: failed: {why}"));
            }
            if entry.trials.iter().any(|trial| trial.ran_out) {
                notes.push(format!("{name}: ended early, clean segments ran out"));
            }
            let wrong: u64 = entry.trials.iter().map(|trial| trial.wrong).sum();
            if wrong > 0 {
                notes.push(format!("{name}: {wrong} reads did not find what was written"));
            }
            let most = entry.trials.iter().map(|trial| trial.stolen).fold(0.0, f64::max);
            if most > STOLEN_MAX {
                let percent = most * 100.0;
                notes.push(format!("{name}: a hypervisor took up to {percent:.0} % of the CPU time: figures are low, latencies high"));
            }
            if self.work != Work::Read
                && let Some(differ) = counts_differ(&entry.trials)
                && differ > COUNTS_MAY_DIFFER
            {
                let percent = differ * 100.0;
                notes.push(format!(
                    "{name}: its own and the kernel's count of bytes differ by {percent:.1} %"
                ));
            }
        }
        notes
    }

    /// As a table in Markdown, with notes.
    pub fn text(&self) -> String {
        let names = self.entries.iter().map(|entry| entry.contestant.name());
        let mut rows = vec![std::iter::once("").chain(names).map(str::to_owned).collect::<Vec<_>>()];
        for row in &ROWS {
            let cells = self.entries.iter().map(|entry| self.cell(entry, row));
            rows.push(std::iter::once(row.title.to_owned()).chain(cells).collect());
        }
        let widths: Vec<usize> = (0..rows[0].len())
            .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0).max(3))
            .collect();
        let mut out = String::new();
        for (number, row) in rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} |"));
            writeln!(out, "|{}", cells.collect::<String>()).expect("a string takes everything");
            if number == 0 {
                let dashes = widths.iter().map(|width| format!("{}|", "-".repeat(width + 2)));
                writeln!(out, "|{}", dashes.collect::<String>()).expect("a string takes everything");
            }
        }
        for note in self.notes() {
            writeln!(out, "- {note}").expect("a string takes everything");
        }
        out
    }

    /// As JSON, with every trial.
    pub fn json(&self) -> Value {
        let entry = |entry: &Entry| {
            let figures = ROWS.iter().filter_map(|row| {
                let figure = self.figure(entry, row)?;
                let ratio = self.ratio(figure, row);
                let value =
                    json!({ "median": figure.median, "min": figure.min, "max": figure.max, "ratio": ratio });
                Some((row.key.to_owned(), value))
            });
            json!({
                "name": entry.contestant.name(),
                "clients": entry.clients,
                "figures": Value::Object(figures.collect()),
                "trials": entry.trials.iter().map(Trial::to_json).collect::<Vec<_>>(),
                "failed": entry.failed,
            })
        };
        json!({
            "work": self.work.name(),
            "value_bytes": self.work.value_bytes(),
            "data_bytes": self.data_bytes,
            "cache_bytes": self.cache_bytes,
            "seconds": self.time.as_secs_f64(),
            "contestants": self.entries.iter().map(entry).collect::<Vec<_>>(),
            "nulls": self.nulls.iter().map(entry).collect::<Vec<_>>(),
            "notes": self.notes(),
        })
    }

    /// As a page.
    pub fn page(&self) -> String {
        let cell = |kind: &str, text: &str| format!("<{kind}>{}</{kind}>", text.replace('<', "&lt;"));
        let mut body = String::from("<div class=\"wide\"><table><tr><th></th>");
        for entry in &self.entries {
            body.push_str(&cell("th", entry.contestant.name()));
        }
        body.push_str("</tr>");
        for row in &ROWS {
            let cells: String = self.entries.iter().map(|entry| cell("td", &self.cell(entry, row))).collect();
            write!(body, "<tr>{}{cells}</tr>", cell("td", row.title)).expect("a string takes everything");
        }
        body.push_str("</table></div><ul>");
        for note in self.notes() {
            body.push_str(&cell("li", &note));
        }
        body.push_str("</ul>");
        html("Seabed beside others", &body)
    }
}

/// By what share the two counts of written bytes differ, at most; none where one is missing.
fn counts_differ(trials: &[Trial]) -> Option<f64> {
    let differ = |trial: &Trial| {
        let (own, kernel) = (real(trial.own_bytes?), real(trial.kernel_bytes?));
        Some((own - kernel).abs() / own.max(kernel).max(1.0))
    };
    trials.iter().filter_map(differ).max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    fn trial(operations: u64, cpu_seconds: f64, own: u64, kernel: u64) -> Trial {
        let bytes = operations * Work::Overwrite.value_bytes();
        Trial {
            operations,
            bytes,
            latencies: [1e6, 2e6, 3e6, 4e6],
            cpu_seconds,
            own_bytes: Some(bytes * own / 100),
            kernel_bytes: Some(bytes * kernel / 100),
            options: "plain".to_owned(),
            ..Trial::of(8, &Record::default(), 10.0)
        }
    }

    fn entry(contestant: Contestant, trials: Vec<Trial>) -> Entry {
        Entry { contestant, clients: 8, trials, failed: None }
    }

    fn comparison() -> Comparison {
        let ours =
            vec![trial(1000, 0.02, 110, 111), trial(3000, 0.06, 110, 111), trial(2000, 0.04, 110, 111)];
        Comparison {
            work: Work::Overwrite,
            data_bytes: 1 << 30,
            cache_bytes: 1 << 28,
            time: Duration::from_secs(10),
            entries: vec![
                entry(Contestant::Seabed, ours),
                entry(Contestant::Files, vec![trial(500, 0.03, 100, 150)]),
                Entry { failed: Some("no <fio>".to_owned()), ..entry(Contestant::RawDsync, Vec::new()) },
            ],
            nulls: vec![entry(Contestant::Null, vec![trial(1000, 0.005, 0, 0)])],
        }
    }

    #[test]
    fn medians_ratios_and_the_null() {
        let json = comparison().json();
        let figures = |place: usize| &json["contestants"][place]["figures"];
        assert_eq!(figures(0)["iops"]["median"], 200.0);
        assert_eq!((&figures(0)["iops"]["min"], &figures(0)["iops"]["max"]), (&json!(100.0), &json!(300.0)));
        assert_eq!(figures(1)["iops"]["ratio"], 0.25);
        let near = |value: &Value, wanted: f64| (value.as_f64().expect("a number") - wanted).abs() < 1e-9;
        assert!(near(&figures(0)["cpu_seconds_per_million"]["median"], 20.0));
        assert!(near(&figures(0)["cpu_seconds_per_million_less_null"]["median"], 15.0));
        assert!(figures(1)["cpu_seconds_per_million_less_null"].is_null(), "no null run of its driver");
        assert!(figures(2)["iops"].is_null());
    }

    #[test]
    fn what_is_written_below() {
        let text = comparison().text();
        assert!(text.starts_with("| ") && text.lines().nth(1).is_some_and(|line| line.starts_with("|--")));
        assert!(text.contains("200 [100 to 300]") && text.contains("50 (0.25x)"), "{text}");
        assert!(text.contains("not to be quoted") && text.contains("raw-dsync: failed: no <fio>"));
        assert!(text.contains("files: its own and the kernel's count of bytes differ by 33.3 %"));
        assert!(!text.contains("seabed: its own"), "one percent is agreement");
        assert!(!text.contains("a hypervisor took up to"));
        let mut robbed = comparison();
        robbed.entries[0].trials[1].stolen = 0.3;
        assert!(robbed.text().contains("seabed: a hypervisor took up to 30 % of the CPU time"));
        let page = comparison().page();
        assert!(page.contains("no &lt;fio>") && !page.contains("<fio>"));
        let longer = Comparison { time: Duration::from_secs(30), ..comparison() };
        assert!(!longer.text().contains("not to be quoted"));
    }

    #[test]
    fn the_middle() {
        let figure = |values: &[f64]| Figure::of(values.iter().map(|value| Some(*value)));
        assert_eq!(figure(&[4.0, 1.0]), Some(Figure { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(figure(&[]), None);
        assert_eq!(Figure::of([Some(1.0), None].into_iter()), None);
    }
}
