//! Plot: lines over axes, as inline SVG. No script, no font and no picture from elsewhere.
//!
//! Every point has a title, which browsers show when the pointer rests on it.

use std::fmt::Write;

/// A plot's size in pixels of the page, axes included.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 96.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 42.0;
/// Told apart by eyes that do not see red and green apart, too (after Okabe and Ito).
const COLORS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555"];
/// More points are not seen; of neighbours the extremes stay.
const POINTS_MAX: usize = 800;
/// Marks on an axis, about.
const MARKS: f64 = 6.0;

/// A line.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// A mark on an axis.
pub(super) type Mark = (f64, String);

/// An axis.
pub(super) struct Axis {
    pub(super) title: &'static str,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) marks: Vec<Mark>,
}

impl Axis {
    /// From zero to a bit over `to`, with marks at round numbers of a unit that grows by `base`.
    pub(super) fn linear(title: &'static str, base: f64, to: f64, name: impl Fn(f64) -> String) -> Self {
        let to = if to > 0.0 { to } else { 1.0 };
        let mut unit = 1.0;
        while to / MARKS >= unit * base {
            unit *= base;
        }
        let magnitude = unit * 10f64.powf((to / unit / MARKS).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * magnitude);
        let step = step.clone().find(|step| to / step <= MARKS).unwrap_or(magnitude * 10.0);
        let mut marks = Vec::new();
        let mut at = 0.0;
        while at <= to * 1.001 {
            marks.push((at, name(at)));
            at += step;
        }
        Self { title, from: 0.0, to: to * 1.05, marks }
    }

    /// Powers of ten that hold `from` and `to`, as logarithms.
    pub(super) fn powers(title: &'static str, from: f64, to: f64, name: impl Fn(f64) -> String) -> Self {
        let mut at = from.max(1.0).log10().floor();
        let end = to.max(10.0).log10().ceil().max(at + 1.0);
        let from = at;
        let mut marks = Vec::new();
        while at <= end {
            marks.push((at, name(10f64.powf(at))));
            at += 1.0;
        }
        Self { title, from, to: end, marks }
    }

    /// The place of a value, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

/// The plot as an element, with a legend; `say` is a point's title.
pub(super) fn svg(lines: &[Line], x: &Axis, y: &Axis, say: impl Fn(f64, f64) -> String) -> String {
    let mut out = String::new();
    let right = WIDTH - RIGHT;
    let (low, middle) = (HEIGHT - BOTTOM, f64::midpoint(LEFT, right));
    let across = |value: f64| LEFT + x.share(value) * (right - LEFT);
    let up = |value: f64| low - y.share(value) * (low - TOP);
    put(&mut out, format_args!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">"));
    for (at, name) in &y.marks {
        let at = up(*at);
        put(&mut out, format_args!("<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>"));
        let (left, base) = (LEFT - 6.0, at + 4.0);
        put(
            &mut out,
            format_args!("<text x=\"{left}\" y=\"{base:.1}\" text-anchor=\"end\">{}</text>", escaped(name)),
        );
    }
    for (at, name) in &x.marks {
        let at = across(*at);
        put(&mut out, format_args!("<path class=\"grid\" d=\"M{at:.1} {TOP}V{low}\"/>"));
        let base = low + 16.0;
        put(
            &mut out,
            format_args!("<text x=\"{at:.1}\" y=\"{base}\" text-anchor=\"middle\">{}</text>", escaped(name)),
        );
    }
    let (base, half) = (HEIGHT - 6.0, HEIGHT / 2.0);
    put(
        &mut out,
        format_args!("<text x=\"{middle}\" y=\"{base}\" text-anchor=\"middle\">{}</text>", escaped(x.title)),
    );
    put(
        &mut out,
        format_args!(
            "<text transform=\"translate(12 {half}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escaped(y.title)
        ),
    );
    for (line, color) in lines.iter().zip(COLORS.iter().cycle()) {
        let points = thinned(&line.points);
        let path: Vec<String> =
            points.iter().map(|(a, b)| format!("{:.1} {:.1}", across(*a), up(*b))).collect();
        put(&mut out, format_args!("<path class=\"line\" stroke=\"{color}\" d=\"M{}\"/>", path.join("L")));
        for (a, b) in points {
            let title = escaped(&format!("{}: {}", line.name, say(a, b)));
            let (a, b) = (across(a), up(b));
            put(
                &mut out,
                format_args!("<circle cx=\"{a:.1}\" cy=\"{b:.1}\" r=\"3\"><title>{title}</title></circle>"),
            );
        }
    }
    out.push_str("</svg><p class=\"legend\">");
    for (line, color) in lines.iter().zip(COLORS.iter().cycle()) {
        let name = escaped(&line.name);
        put(&mut out, format_args!("<span><i style=\"background:{color}\"></i>{name}</span> "));
    }
    out.push_str("</p>");
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes everything");
}

/// Not more points than can be seen: of each stretch the lowest and the highest.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS_MAX {
        return points.to_vec();
    }
    let mut kept = Vec::with_capacity(POINTS_MAX);
    for stretch in points.chunks(points.len().div_ceil(POINTS_MAX / 2)) {
        let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (low, high) = (stretch.iter().min_by(by_height), stretch.iter().max_by(by_height));
        let mut ends: Vec<_> = low.into_iter().chain(high).copied().collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        ends.dedup();
        kept.extend(ends);
    }
    kept
}

/// Text within HTML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes() {
        let marks = |axis: &Axis| axis.marks.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>();
        let plain = |value: f64| format!("{value:.0}");
        assert_eq!(marks(&Axis::linear("", 1000.0, 10.0, plain)), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(marks(&Axis::linear("", 1000.0, 137.0, plain)), ["0", "50", "100"]);
        assert_eq!(marks(&Axis::linear("", 1000.0, 0.0, plain)).len(), 6);
        let axis = Axis::linear("", 1024.0, 90_000_000.0, |value| (value / 1_048_576.0).to_string());
        assert_eq!(marks(&axis), ["0", "20", "40", "60", "80"], "round in MiB");
        assert_eq!(marks(&Axis::powers("", 15.0, 900.0, plain)), ["10", "100", "1000"]);
        assert_eq!(marks(&Axis::powers("", 0.0, 0.0, plain)), ["1", "10"]);
        let axis = Axis::linear("", 1000.0, 100.0, plain);
        assert!((axis.share(0.0), axis.share(1000.0)) == (0.0, 1.0));
    }

    #[test]
    fn thinning_keeps_the_extremes() {
        let mut points: Vec<(f64, f64)> = (0..100_000u32).map(|at| (f64::from(at), 5.0)).collect();
        (points[7777].1, points[33_333].1) = (9.0, 1.0);
        let kept = thinned(&points);
        assert!(kept.len() <= POINTS_MAX);
        assert!(kept.contains(&(7777.0, 9.0)) && kept.contains(&(33_333.0, 1.0)));
        assert!(kept.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn names_do_no_harm() {
        let line = Line { name: "<script>\"&".to_owned(), points: vec![(0.0, 1.0)] };
        let axis = || Axis::linear("", 1000.0, 1.0, |value| value.to_string());
        let svg = svg(&[line], &axis(), &axis(), |_, _| String::new());
        assert!(!svg.contains("<script>") && svg.contains("&lt;script&gt;&quot;&amp;"));
    }
}
