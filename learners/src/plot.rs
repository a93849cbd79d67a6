//! Draws `metrics.jsonl` as an SVG: the loss over tokens, and below it a panel for each other group of metrics that the run has written.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use crate::{Error, Result, files};

/// The metrics of one training step by name; values that are missing or not finite are left out.
pub type Point = BTreeMap<String, f64>;

/// A curve: the key of its metric, its label in the title, and its colour.
type Curve = (&'static str, &'static str, &'static str);

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;
const MARGIN: f64 = 48.0;
/// The maximum number of points of a curve; neighbouring points are averaged when there are more.
const MAX_POINTS: usize = 600;
/// The curves of each panel; a panel is left out if none of its keys was written.
const PANELS: [&[Curve]; 3] = [
    &[("loss", "loss", "#c0392b")],
    &[("exact", "exact match (blue)", "#2471a3"), ("difficulty", "difficulty (grey)", "#888")],
    &[("kl", "KL (green), nats a token", "#1e8449"), ("clip_fraction", "clipped fraction (grey)", "#888")],
];

/// Reads the file `metrics` and writes its drawing to the file `svg`.
///
/// # Errors
/// `metrics` cannot be read or parsed, or `svg` cannot be written.
pub fn draw_file(metrics: &Path, svg: &Path) -> Result<()> {
    let text = std::fs::read_to_string(metrics).map_err(Error::io(metrics))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let points = lines.map(|line| parse_line(line).map_err(Error::json(metrics))).collect::<Result<Vec<_>>>()?;
    files::replace(svg, draw(&points).as_bytes())
}

/// Parses a line of `metrics.jsonl` and keeps its numbers.
fn parse_line(line: &str) -> std::result::Result<Point, serde_json::Error> {
    let line: BTreeMap<String, serde_json::Value> = serde_json::from_str(line)?;
    Ok(line.into_iter().filter_map(|(key, value)| Some((key, value.as_f64()?))).collect())
}

/// Returns the drawing as SVG text: a panel for the loss, and one for each other group of metrics that the run has.
pub fn draw(points: &[Point]) -> String {
    let points = downsample(points);
    let has = |curve: &Curve| points.iter().any(|point| point.contains_key(curve.0));
    let panels: Vec<Vec<Curve>> = PANELS.iter().map(|curves| curves.iter().copied().filter(has).collect()).collect();
    let panels: Vec<Vec<Curve>> = panels.into_iter().filter(|curves: &Vec<Curve>| !curves.is_empty()).collect();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        HEIGHT * panels.len().max(1) as f64
    );
    for (index, curves) in panels.iter().enumerate() {
        panel(&mut svg, index as f64, curves, &points);
    }
    svg + "</svg>\n"
}

/// Appends one panel with its title, grid lines and curves; `index` is its number from the top.
fn panel(svg: &mut String, index: f64, curves: &[Curve], points: &[Point]) {
    let tokens = points.iter().filter_map(|point| point.get("tokens")).fold(1.0_f64, |most, t| most.max(*t));
    let values = || points.iter().flat_map(|point| curves.iter().filter_map(|curve| point.get(curve.0).copied()));
    let (low, high) = (values().fold(0.0, f64::min), values().fold(1e-9, f64::max));
    let y = |v: f64| (index + 1.0) * HEIGHT - MARGIN + (v - low) / (high - low) * (2.0 * MARGIN - HEIGHT);
    let x = |t: f64| MARGIN + t / tokens * (WIDTH - 2.0 * MARGIN);
    let title: Vec<&str> = curves.iter().map(|curve| curve.1).collect();
    let _ = writeln!(svg, "<text x=\"{MARGIN}\" y=\"{}\">{}</text>", index * HEIGHT + 0.7 * MARGIN, title.join(", "));
    for step in 0..=4 {
        let value = low + (high - low) * f64::from(step) / 4.0;
        let (at, right) = (y(value), WIDTH - MARGIN);
        let _ = writeln!(svg, "<path d=\"M{MARGIN} {at:.1}H{right}\" stroke=\"#ddd\"/>");
        let _ = writeln!(svg, "<text x=\"8\" y=\"{:.1}\">{value:.2}</text>", at + 4.0);
    }
    let end = format!("{:.1} M tokens", tokens / 1e6);
    let _ = writeln!(svg, "<text x=\"{}\" y=\"{:.1}\">{end}</text>", WIDTH - 2.5 * MARGIN, y(low) + 18.0);
    for (key, _, colour) in curves {
        let at = |point: &Point| Some(format!("{:.1},{:.1}", x(*point.get("tokens")?), y(*point.get(*key)?)));
        let path: Vec<String> = points.iter().filter_map(at).collect();
        let _ = writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>", path.join(" "));
    }
}

/// Averages neighbouring points so that at most [`MAX_POINTS`] are left.
fn downsample(points: &[Point]) -> Vec<Point> {
    let group = points.len().div_ceil(MAX_POINTS).max(1);
    let mean = |points: &[Point]| {
        let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for (key, value) in points.iter().flatten().filter(|(_, value)| value.is_finite()) {
            let sum = sums.entry(key).or_default();
            *sum = (sum.0 + value, sum.1 + 1.0);
        }
        sums.into_iter().map(|(key, (sum, count))| (key.to_owned(), sum / count)).collect()
    };
    points.chunks(group).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_has_a_bounded_curve_for_what_was_written_and_no_other() {
        let point =
            |i: u32| parse_line(&format!(r#"{{"tokens": {i}, "loss": -3.0, "exact": 0.5, "difficulty": null, "recipe": "sft"}}"#)).unwrap();
        let svg = draw(&(0..5000).map(point).collect::<Vec<_>>());
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.matches(',').count() <= 3 * MAX_POINTS && !svg.contains("difficulty"));
        assert!(draw(&[]).ends_with("</svg>\n"));
    }
}
