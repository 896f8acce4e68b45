//! Page: a report as one HTML file with everything in it: figures, throughput over time, latency by percentile.

use std::fmt::Write;

use super::plot::{Axis, Line, escaped, svg};
use super::text::{described, text};
use super::words;
use crate::job::Direction;
use crate::record::{Record, SAMPLE_TIME, real};
use crate::run::{JobReport, Report};

/// The look of all pages.
pub(crate) const STYLE: &str = "
body { font: 15px/1.45 system-ui, sans-serif; max-width: 900px; margin: 2em auto; padding: 0 1em; color: #222; }
h1 { font-size: 1.4em; } h2 { font-size: 1.15em; margin-top: 1.8em; } h3 { font-size: 1em; margin-bottom: .2em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2em .7em; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
svg { width: 100%; } svg text { font-size: 11px; fill: #555; }
.grid { stroke: #e4e4e4; } .line { fill: none; stroke-width: 1.6; } circle { fill: transparent; }
.legend span { margin-right: 1.2em; white-space: nowrap; }
.legend i { display: inline-block; width: 1.4em; height: .25em; margin-right: .4em; vertical-align: middle; }
pre { overflow-x: auto; background: #f6f6f6; padding: 1em; }
.wide { overflow-x: auto; }
@media (prefers-color-scheme: dark) {
body { background: #181818; color: #ddd; } th, td { border-color: #444; } .grid { stroke: #333; }
svg text { fill: #aaa; } pre { background: #222; } }
";
/// How far the percentile plot goes: one in ten to this power.
const NINES: f64 = 5.0;

/// The page.
pub fn page(report: &Report) -> String {
    let mut body = String::new();
    let worked: Vec<(&JobReport, Direction, &Record)> = report
        .jobs
        .iter()
        .flat_map(|job| Direction::ALL.map(|direction| (job, direction, &job.records[direction.index()])))
        .filter(|(_, _, record)| record.operations() > 0)
        .collect();
    body.push_str(&table(&worked));
    let mut groups: Vec<usize> = worked.iter().map(|(job, _, _)| job.group).collect();
    groups.dedup();
    for group in groups {
        let of_group: Vec<_> = worked.iter().filter(|(job, _, _)| job.group == group).copied().collect();
        write!(body, "<h2>Group {group}</h2>").expect("a string takes everything");
        body.push_str("<h3>Throughput over time</h3>");
        body.push_str(&throughput(&of_group));
        body.push_str("<h3>Operations a second over time</h3>");
        body.push_str(&operations(&of_group));
        body.push_str("<h3>Latency by percentile</h3>");
        body.push_str(&latency(&of_group));
    }
    write!(body, "<h2>All figures</h2><pre>{}</pre>", escaped(&text(report)))
        .expect("a string takes everything");
    html("Seabed: a benchmark", &body)
}

/// A whole page.
pub(crate) fn html(title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>{body}</body></html>\n"
    )
}

type Worked<'a> = (&'a JobReport, Direction, &'a Record);

fn name((job, direction, _): &Worked<'_>) -> String {
    format!("{} {}", job.job.name, direction.name())
}

fn table(worked: &[Worked<'_>]) -> String {
    let mut out = String::from(
        "<div class=\"wide\"><table><tr><th>job</th><th>operations/s</th><th>bytes/s</th><th>p50</th><th>p99</th>\
         <th>p99.9</th><th>p99.99</th><th>max</th></tr>",
    );
    for row in worked {
        let (job, _, record) = row;
        let seconds = job.runtime.as_secs_f64().max(1e-9);
        let mut cells = vec![
            words::count(real(record.operations()) / seconds),
            format!("{}/s", words::bytes(real(record.bytes()) / seconds)),
        ];
        cells.extend([50.0, 99.0, 99.9, 99.99, 100.0].map(|at| words::time(real(record.percentile(at)))));
        let cells: Vec<_> = cells.into_iter().map(|cell| format!("<td>{cell}</td>")).collect();
        let (name, what) = (escaped(&name(row)), escaped(&described(&job.job)));
        write!(out, "<tr><td title=\"{what}\">{name}</td>{}</tr>", cells.concat())
            .expect("a string takes everything");
    }
    out.push_str("</table></div>");
    out
}

fn throughput(worked: &[Worked<'_>]) -> String {
    over_time(
        worked,
        ("bytes a second", 1024.0),
        |sample| real(sample.bytes),
        |rate| format!("{}/s", words::bytes(rate)),
    )
}

fn operations(worked: &[Worked<'_>]) -> String {
    over_time(worked, ("operations a second", 1000.0), |sample| real(sample.operations), words::count)
}

fn over_time(
    worked: &[Worked<'_>],
    (title, base): (&'static str, f64),
    of: impl Fn(&crate::record::Sample) -> f64,
    shown: impl Fn(f64) -> String,
) -> String {
    let step = SAMPLE_TIME.as_secs_f64();
    let lines: Vec<Line> = worked
        .iter()
        .map(|row| {
            let runtime = row.0.runtime.as_secs_f64();
            let points = row.2.samples().iter().zip(0u32..).filter_map(|(sample, index)| {
                // The last sample covers what is left of the time; a small rest says nothing.
                let start = f64::from(index) * step;
                let seconds = (runtime - start).min(step);
                (seconds >= step / 2.0 || index == 0)
                    .then(|| (start + seconds, of(sample) / seconds.max(1e-3)))
            });
            Line { name: name(row), points: points.collect() }
        })
        .collect();
    let largest =
        |of: fn(&(f64, f64)) -> f64| lines.iter().flat_map(|line| &line.points).map(of).fold(0.0, f64::max);
    let x = Axis::linear("seconds", 60.0, largest(|point| point.0), words::percent);
    let y = Axis::linear(title, base, largest(|point| point.1), &shown);
    svg(&lines, &x, &y, |seconds, rate| format!("{seconds:.1} s: {}", shown(rate)))
}

fn latency(worked: &[Worked<'_>]) -> String {
    let lines: Vec<Line> =
        worked.iter().map(|row| Line { name: name(row), points: percentiles(row.2) }).collect();
    let smallest = worked.iter().map(|row| row.2.min()).min().unwrap_or(1);
    let largest = worked.iter().map(|row| row.2.max()).max().unwrap_or(1);
    let marks = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999];
    let marks = marks.map(|percent| (nines(percent), words::percent(percent)));
    let x = Axis { title: "percentile", from: 0.0, to: NINES, marks: marks.to_vec() };
    let y = Axis::powers("latency", real(smallest), real(largest), words::time);
    svg(&lines, &x, &y, |nines, log| {
        let percent = words::percent(100.0 - 100.0 * 10f64.powf(-nines));
        format!("p{percent} {}", words::time(10f64.powf(log)))
    })
}

/// Latencies, as logarithms, by how many nines of the operations they hold; up to where an operation is left.
fn percentiles(record: &Record) -> Vec<(f64, f64)> {
    const STEPS: u32 = 100;
    let end = real(record.operations()).log10().min(NINES);
    let points = (0..=STEPS).map(|step| {
        let nines = end * f64::from(step) / f64::from(STEPS);
        let percent = 100.0 - 100.0 * 10f64.powf(-nines);
        (nines, real(record.percentile(percent).max(1)).log10())
    });
    points.collect()
}

/// 90 % is one, 99 % two.
fn nines(percent: f64) -> f64 {
    -(1.0 - percent / 100.0).log10()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn percentiles_ascend_to_the_last_operation() {
        let mut record = Record::default();
        for micros in 1..=1000 {
            record.add(1, Duration::from_micros(micros), Duration::ZERO);
        }
        let points = percentiles(&record);
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        let (nines, log) = points[points.len() - 1];
        assert!((nines - 3.0).abs() < 1e-9 && (log - 6.0).abs() < 0.01, "{nines} {log}");
        assert!((super::nines(99.9) - 3.0).abs() < 1e-9);
    }
}
