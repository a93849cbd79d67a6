//! Draws the figure of an experiment: a bar for each arm on each level, with its interval and the range of its seeds.

use std::fmt::Write;

use super::table::Results;

const WIDTH: f64 = 760.0;
const ROW: f64 = 26.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 90.0;

/// Draws the results as SVG.
pub fn draw(results: &Results) -> String {
    let levels: Vec<&str> = results.arms.iter().fold(Vec::new(), |mut levels, arm| {
        if levels.last() != Some(&&arm.level[..]) {
            levels.push(&arm.level);
        }
        levels
    });
    let height = 60.0 + ROW * (results.arms.len() + levels.len()) as f64;
    let x = |share: f64| LEFT + share * (WIDTH - LEFT - RIGHT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"12\" y=\"22\" font-size=\"14\">{}: success on test tasks</text>\n",
        escape(&results.spec.name)
    );
    for tick in 0..=4 {
        let share = f64::from(tick) / 4.0;
        let _ = writeln!(svg, "<path d=\"M{:.1} 34V{:.1}\" stroke=\"#ddd\"/>", x(share), height - 22.0);
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.0} %</text>", x(share), height - 8.0, 100.0 * share);
    }
    let mut y = 38.0;
    for level in levels {
        let _ = writeln!(svg, "<text x=\"12\" y=\"{:.1}\" font-weight=\"bold\">{}</text>", y + 16.0, escape(level));
        y += ROW;
        for arm in results.arms.iter().filter(|arm| arm.level == level) {
            let rate = arm.k as f64 / arm.n.max(1) as f64;
            let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", LEFT - 8.0, y + 15.0, escape(&arm.arm));
            let _ =
                writeln!(svg, "<rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"16\" fill=\"#7fb3d5\"/>", y + 3.0, x(rate) - LEFT);
            let [low, high] = arm.interval.map(x);
            let _ = writeln!(svg, "<path d=\"M{low:.1} {0:.1}H{high:.1}\" stroke=\"#1b4f72\" stroke-width=\"2\"/>", y + 11.0);
            for end in arm.range.map(x) {
                let _ = writeln!(svg, "<path d=\"M{end:.1} {:.1}v8\" stroke=\"#c0392b\" stroke-width=\"1.5\"/>", y + 7.0);
            }
            let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{} of {}</text>", WIDTH - RIGHT + 8.0, y + 15.0, arm.k, arm.n);
            y += ROW;
        }
    }
    svg + "</svg>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
