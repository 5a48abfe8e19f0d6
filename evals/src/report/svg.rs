//! Plots as SVG: points and lines over two linear axes, with whiskers and a legend.

use std::fmt::Write as _;

/// A plot.
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) x: &'static str,
    pub(super) y: &'static str,
    pub(super) series: Vec<Series>,
}

/// Points of one colour; a line joins them in their order.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<Point>,
}

/// A point, with whiskers where its interval is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) whiskers: Option<(f64, f64)>,
    /// Written beside it; may be empty.
    pub(super) label: String,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
/// Left, top, right, bottom.
const MARGINS: [f64; 4] = [64.0, 40.0, 190.0, 52.0];
/// Paul Tol's bright scheme and black: told apart by the colour-blind too.
const COLOURS: [&str; 8] =
    ["#000000", "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#888888"];

/// An axis from `low` to `high` with its ticks.
#[derive(Clone, Debug, PartialEq)]
struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Axis {
    /// Holds zero and every value, and ends at ticks of a round step.
    fn over(values: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = (0.0, 0.0);
        for value in values.filter(|value| value.is_finite()) {
            low = f64::min(low, value);
            high = f64::max(high, value);
        }
        if high - low <= 0.0 {
            high = low + 1.0;
        }
        let rough = (high - low) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power);
        let step = *step.iter().find(|step| **step >= rough * (1.0 - 1e-9)).unwrap_or(&step[4]);
        let first = (low / step).floor();
        let last = (high / step - 1e-9).ceil();
        let count = (last - first) as usize;
        let ticks = (0..=count).map(|tick| (first + tick as f64) * step).collect();
        Self { low: first * step, high: last * step, ticks }
    }

    /// Where a value lies between the axis's ends, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

impl Plot {
    /// The whole file.
    pub(super) fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let whiskers = points().filter_map(|point| point.whiskers);
        let x = Axis::over(points().map(|point| point.x));
        let y = Axis::over(
            points().map(|point| point.y).chain(whiskers.flat_map(|(low, high)| [low, high])),
        );
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
        );
        text(&mut svg, (MARGINS[0], 22.0), "start", &self.title);
        self.axes(&mut svg, &x, &y);
        for (index, series) in self.series.iter().enumerate() {
            series.draw(&mut svg, (&x, &y), COLOURS[index % COLOURS.len()]);
            legend(&mut svg, index, &series.name);
        }
        svg + "</svg>\n"
    }

    fn axes(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let [left, top, right, bottom] = [x_at(0.0), y_at(1.0), x_at(1.0), y_at(0.0)];
        for tick in &y.ticks {
            let at = y_at(y.share(*tick));
            line(svg, [left, at, right, at], "#dddddd");
            text(svg, (left - 6.0, at + 4.0), "end", &tick_text(*tick));
        }
        for tick in &x.ticks {
            let at = x_at(x.share(*tick));
            line(svg, [at, top, at, bottom], "#eeeeee");
            text(svg, (at, bottom + 16.0), "middle", &tick_text(*tick));
        }
        line(svg, [left, bottom, right, bottom], "#444444");
        line(svg, [left, top, left, bottom], "#444444");
        text(svg, (f64::midpoint(left, right), HEIGHT - 14.0), "middle", self.x);
        text(svg, (left, top - 4.0), "start", self.y);
    }
}

impl Series {
    fn draw(&self, svg: &mut String, (x, y): (&Axis, &Axis), colour: &str) {
        let place = |px: f64, py: f64| (x_at(x.share(px)), y_at(y.share(py)));
        let path: Vec<String> = self
            .points
            .iter()
            .map(|point| place(point.x, point.y))
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        if path.len() > 1 {
            let path = path.join(" ");
            let _ = writeln!(
                svg,
                "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
            );
        }
        for point in &self.points {
            let (px, py) = place(point.x, point.y);
            if let Some((low, high)) = point.whiskers {
                line(svg, [px, place(0.0, low).1, px, place(0.0, high).1], colour);
            }
            let _ = writeln!(
                svg,
                "<circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3.5\" fill=\"{colour}\"/>"
            );
            if !point.label.is_empty() {
                text(svg, (px + 6.0, py - 6.0), "start", &point.label);
            }
        }
    }
}

fn x_at(share: f64) -> f64 {
    MARGINS[0] + share * (WIDTH - MARGINS[0] - MARGINS[2])
}

fn y_at(share: f64) -> f64 {
    HEIGHT - MARGINS[3] - share * (HEIGHT - MARGINS[1] - MARGINS[3])
}

fn legend(svg: &mut String, index: usize, name: &str) {
    let (x, y) = (WIDTH - MARGINS[2] + 16.0, MARGINS[1] + 8.0 + index as f64 * 18.0);
    let colour = COLOURS[index % COLOURS.len()];
    let _ = writeln!(svg, "<circle cx=\"{x}\" cy=\"{y}\" r=\"4\" fill=\"{colour}\"/>");
    text(svg, (x + 10.0, y + 4.0), "start", name);
}

fn line(svg: &mut String, [x1, y1, x2, y2]: [f64; 4], colour: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let text = escaped(text);
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#222222\">{text}</text>"
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Six digits at most, and no zeros behind a point.
fn tick_text(tick: f64) -> String {
    let text = format!("{tick:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{Axis, Plot, Point, Series, tick_text};

    #[test]
    fn axes_end_at_round_ticks() {
        let axis = Axis::over([0.13, 0.97].into_iter());
        assert_eq!((axis.low, axis.high), (0.0, 1.0));
        let ticks: Vec<_> = axis.ticks.iter().map(|tick| tick_text(*tick)).collect();
        assert_eq!(ticks, ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        let axis = Axis::over([-3.0, 1000.0].into_iter());
        assert!(axis.low <= -3.0 && axis.high >= 1000.0);
        assert_eq!(axis.ticks.first(), Some(&axis.low));
        assert_eq!(Axis::over([0.0].into_iter()).high, 1.0, "one value is an axis too");
        assert_eq!(Axis::over([f64::NAN, 2.0].into_iter()).high, 2.0);
    }

    #[test]
    fn points_lie_where_they_belong() {
        let point = |x, y| Point { x, y, whiskers: Some((y - 0.1, y)), label: String::new() };
        let series =
            Series { name: "a <b> & c".into(), points: vec![point(0.0, 0.0), point(1.0, 1.0)] };
        let svg = Plot { title: "t".into(), x: "x", y: "y", series: vec![series] }.svg();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("a &lt;b&gt; &amp; c"));
        // The y axis goes from -0.25 to 1: zero lies a fifth of its height up.
        let bottom = 420.0 - 52.0;
        let fifth = bottom - (420.0 - 40.0 - 52.0) / 5.0;
        assert!(svg.contains(&format!("cx=\"64.0\" cy=\"{fifth:.1}\"")), "{svg}");
        assert!(svg.contains("cx=\"530.0\" cy=\"40.0\""), "{svg}");
        assert_eq!(svg.matches("<polyline").count(), 1);
    }
}
