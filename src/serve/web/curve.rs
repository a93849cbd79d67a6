//! The success curve: measurement by measurement, the share of tasks that a generation and its incumbent solved; drawn as SVG.

use std::fmt::Write;

use chrono::{DateTime, Utc};

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Measured {
    /// Id of the generation.
    pub(super) generation: String,
    /// When.
    pub(super) at: DateTime<Utc>,
    /// Tasks that it solved, of how many (at least 1).
    pub(super) candidate: [u64; 2],
    /// Tasks that the incumbent solved, of how many.
    pub(super) incumbent: Option<[u64; 2]>,
    /// Whether it was ever put into service.
    pub(super) promoted: bool,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 44.0;
const EDGE: f64 = 24.0;

/// The drawing; empty without measurements. Holds no text from outside but the beginnings of ids, which are hashes.
pub(super) fn draw(measured: &[Measured]) -> String {
    if measured.is_empty() {
        return String::new();
    }
    let gaps = measured.len().saturating_sub(1).max(1) as f64;
    let x = |index: usize| LEFT + EDGE + index as f64 / gaps * (WIDTH - LEFT - 2.0 * EDGE);
    let y = |share: f64| HEIGHT - EDGE - share * (HEIGHT - 2.0 * EDGE);
    let mut svg = format!(
        "<svg class=\"curve\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Share of tasks solved, by measurement, oldest first\">\n"
    );
    for quarter in 0..=4_u8 {
        let at = y(f64::from(quarter) / 4.0);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{WIDTH}\"/><text x=\"4\" y=\"{:.1}\">{} %</text>",
            at + 4.0,
            u32::from(quarter) * 25
        );
    }
    let share = |[solved, of]: [u64; 2]| (of > 0).then(|| (solved as f64 / of as f64).min(1.0));
    let line = |shares: &mut dyn Iterator<Item = (usize, f64)>| {
        shares.map(|(index, share)| format!("{:.1},{:.1}", x(index), y(share))).collect::<Vec<_>>().join(" ")
    };
    let incumbent = &mut measured.iter().enumerate().filter_map(|(index, one)| Some((index, share(one.incumbent?)?)));
    let _ = writeln!(svg, "<polyline class=\"incumbent\" points=\"{}\"/>", line(incumbent));
    let candidate = &mut measured.iter().enumerate().filter_map(|(index, one)| Some((index, share(one.candidate)?)));
    let _ = writeln!(svg, "<polyline class=\"candidate\" points=\"{}\"/>", line(candidate));
    for (index, one) in measured.iter().enumerate() {
        let Some(at) = share(one.candidate) else { continue };
        let id: String = one.generation.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        let class = if one.promoted { "promoted" } else { "other" };
        let [solved, of] = one.candidate;
        let _ = writeln!(
            svg,
            "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"><title>{id}: {solved} of {of}</title></circle>",
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
    fn points_stand_where_the_shares_are_and_nothing_foreign_gets_in() {
        let one = |id: &str, candidate, incumbent| Measured {
            generation: id.into(),
            at: DateTime::UNIX_EPOCH,
            candidate,
            incumbent,
            promoted: true,
        };
        assert_eq!(draw(&[]), "");
        let svg = draw(&[one("<b>&\"", [0, 10], None), one("abcdef0123", [10, 10], Some([5, 10]))]);
        assert!(svg.contains("points=\"68.0,196.0 616.0,24.0\""), "none of ten stands below, all of ten on top: {svg}");
        assert!(svg.contains("points=\"616.0,110.0\"") && svg.contains("<title>abcdef01: 10 of 10"), "{svg}");
        assert!(!svg.contains("<b>") && !svg.contains('&'), "{svg}");
    }
}
