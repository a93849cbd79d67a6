//! The success curve as SVG: for each measurement, the share of tasks that the generation and its incumbent solved.

use std::fmt::Write;

use chrono::{DateTime, Utc};

/// A measurement of a generation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Measurement {
    /// The generation's id.
    pub(super) generation: String,
    /// When the measurement was made.
    pub(super) at: DateTime<Utc>,
    /// The number of tasks that the generation solved, and the number of tasks (at least 1).
    pub(super) candidate: [u64; 2],
    /// The number of tasks that the incumbent solved, and the number of tasks.
    pub(super) incumbent: Option<[u64; 2]>,
    /// Whether the generation was ever promoted.
    pub(super) promoted: bool,
}

/// Width of the drawing. All lengths are in SVG user units.
const WIDTH: f64 = 640.0;
/// Height of the drawing.
const HEIGHT: f64 = 220.0;
/// Width of the axis labels at the left.
const LABEL_WIDTH: f64 = 44.0;
/// Margin around the plotted area.
const MARGIN: f64 = 24.0;

/// Draws the curve; returns an empty text without measurements. The only outside text in it is the beginning of each id, reduced to letters and
/// digits.
pub(super) fn draw(measurements: &[Measurement]) -> String {
    if measurements.is_empty() {
        return String::new();
    }
    let gaps = measurements.len().saturating_sub(1).max(1) as f64;
    let x = |index: usize| LABEL_WIDTH + MARGIN + index as f64 / gaps * (WIDTH - LABEL_WIDTH - 2.0 * MARGIN);
    let y = |share: f64| HEIGHT - MARGIN - share * (HEIGHT - 2.0 * MARGIN);
    let mut svg = format!(
        "<svg class=\"curve\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Share of tasks solved, by measurement, oldest first\">\n"
    );
    for quarter in 0..=4_u8 {
        let at = y(f64::from(quarter) / 4.0);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{LABEL_WIDTH} {at:.1}H{WIDTH}\"/><text x=\"4\" y=\"{:.1}\">{} %</text>",
            at + 4.0,
            u32::from(quarter) * 25
        );
    }
    let share = |[solved, tasks]: [u64; 2]| (tasks > 0).then(|| (solved as f64 / tasks as f64).min(1.0));
    let points = |shares: &mut dyn Iterator<Item = (usize, f64)>| {
        shares.map(|(index, share)| format!("{:.1},{:.1}", x(index), y(share))).collect::<Vec<_>>().join(" ")
    };
    let incumbent = &mut measurements.iter().enumerate().filter_map(|(index, measurement)| Some((index, share(measurement.incumbent?)?)));
    let _ = writeln!(svg, "<polyline class=\"incumbent\" points=\"{}\"/>", points(incumbent));
    let candidate = &mut measurements.iter().enumerate().filter_map(|(index, measurement)| Some((index, share(measurement.candidate)?)));
    let _ = writeln!(svg, "<polyline class=\"candidate\" points=\"{}\"/>", points(candidate));
    for (index, measurement) in measurements.iter().enumerate() {
        let Some(at) = share(measurement.candidate) else { continue };
        let id: String = measurement.generation.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        let class = if measurement.promoted { "promoted" } else { "other" };
        let [solved, tasks] = measurement.candidate;
        let _ = writeln!(
            svg,
            "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"><title>{id}: {solved} of {tasks}</title></circle>",
            x(index),
            y(at)
        );
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_placed_by_share_and_ids_are_reduced_to_letters_and_digits() {
        let measurement = |id: &str, candidate, incumbent| Measurement {
            generation: id.into(),
            at: DateTime::UNIX_EPOCH,
            candidate,
            incumbent,
            promoted: true,
        };
        assert_eq!(draw(&[]), "");
        let svg = draw(&[measurement("<b>&\"", [0, 10], None), measurement("abcdef0123", [10, 10], Some([5, 10]))]);
        assert!(svg.contains("points=\"68.0,196.0 616.0,24.0\""), "0 of 10 is at the bottom, 10 of 10 at the top: {svg}");
        assert!(svg.contains("points=\"616.0,110.0\"") && svg.contains("<title>abcdef01: 10 of 10"), "{svg}");
        assert!(!svg.contains("<b>") && !svg.contains('&'), "{svg}");
    }
}
