//! Draws `metrics.jsonl` as an SVG: loss, exact match and difficulty over tokens.

use std::fmt::Write;
use std::path::Path;

use serde::Deserialize;

use crate::{Error, Result, files};

/// The part of a line that is drawn.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Point {
    /// Tokens so far.
    pub tokens: f64,
    /// Loss of the step.
    pub loss: f64,
    /// Exact match of the step.
    pub exact: f64,
    /// Difficulty of the step.
    pub difficulty: f64,
}

/// A colour, and what is drawn in it.
type Curve = (&'static str, fn(&Point) -> f64);

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;
const MARGIN: f64 = 48.0;
/// Points beyond this many are averaged together.
const POINTS: usize = 600;

/// Reads `metrics.jsonl` and writes the drawing.
pub fn draw_file(metrics: &Path, svg: &Path) -> Result<()> {
    let text = std::fs::read_to_string(metrics).map_err(Error::io(metrics))?;
    let points = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).map_err(Error::json(metrics)))
        .collect::<Result<Vec<Point>>>()?;
    files::replace(svg, draw(&points).as_bytes())
}

/// The drawing: loss above, exact match and difficulty below.
pub fn draw(points: &[Point]) -> String {
    let points = thin(points);
    let tokens = points.last().map_or(1.0, |p| p.tokens.max(1.0));
    let top = points.iter().map(|p| p.loss).fold(0.0, f64::max).max(1e-9);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        2.0 * HEIGHT
    );
    let mut panel = |index: f64, title: &str, top: f64, curves: &[Curve]| {
        let y = |v: f64| (index + 1.0) * HEIGHT - MARGIN + v / top * (2.0 * MARGIN - HEIGHT);
        let x = |t: f64| MARGIN + t / tokens * (WIDTH - 2.0 * MARGIN);
        let _ = writeln!(svg, "<text x=\"{MARGIN}\" y=\"{}\">{title}</text>", index * HEIGHT + 0.7 * MARGIN);
        for step in 0..=4 {
            let value = top * f64::from(step) / 4.0;
            let (at, right) = (y(value), WIDTH - MARGIN);
            let _ = writeln!(svg, "<path d=\"M{MARGIN} {at:.1}H{right}\" stroke=\"#ddd\"/>");
            let _ = writeln!(svg, "<text x=\"8\" y=\"{:.1}\">{value:.2}</text>", at + 4.0);
        }
        let end = format!("{:.1} M tokens", tokens / 1e6);
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{:.1}\">{end}</text>", WIDTH - 2.5 * MARGIN, y(0.0) + 18.0);
        for (colour, value) in curves {
            let path: Vec<String> = points.iter().map(|p| format!("{:.1},{:.1}", x(p.tokens), y(value(p)))).collect();
            let _ = writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>", path.join(" "));
        }
    };
    panel(0.0, "loss", top, &[("#c0392b", |p| p.loss)]);
    let curves: [Curve; 2] = [("#2471a3", |p| p.exact), ("#888", |p| p.difficulty)];
    panel(1.0, "exact match (blue), difficulty (grey)", 1.0, &curves);
    svg + "</svg>\n"
}

/// Averages neighbours until at most [`POINTS`] are left.
fn thin(points: &[Point]) -> Vec<Point> {
    let group = points.len().div_ceil(POINTS).max(1);
    let mean = |points: &[Point]| {
        let of = |value: fn(&Point) -> f64| points.iter().map(value).sum::<f64>() / points.len() as f64;
        Point { tokens: of(|p| p.tokens), loss: of(|p| p.loss), exact: of(|p| p.exact), difficulty: of(|p| p.difficulty) }
    };
    points.chunks(group).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_has_three_curves_of_bounded_length() {
        let point = |i: u32| Point { tokens: f64::from(i), loss: 3.0, exact: 0.5, difficulty: 0.1 };
        let svg = draw(&(0..5000).map(point).collect::<Vec<_>>());
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert!(svg.matches(',').count() <= 3 * POINTS);
        assert!(draw(&[]).ends_with("</svg>\n"));
    }
}
