//! Decides how one figure is drawn over what grew: a small diagram, logarithmic below, and many of them on one sheet. Never
//! smooths, and never leaves a point out.

use std::fmt::Write;

use crate::curve::{Column, Scale, digits, short};

/// Diagrams in a row, the room of each, and what is left for its lines.
const ACROSS: usize = 4;
const ROOM: (f64, f64) = (222.0, 176.0);
const EDGE: f64 = 38.0;
const TOP: f64 = 36.0;
const INNER: (f64, f64) = (160.0, 98.0);
const OURS: &str = "#1f6f8b";

/// All diagrams under one heading.
pub fn sheet(title: &str, subtitle: &str, panels: Vec<String>) -> String {
    let height = 70.0 + ROOM.1 * panels.len().div_ceil(ACROSS) as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 920 {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"920\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"20\" y=\"28\" font-size=\"17\">{title}</text>\n\
         <text x=\"20\" y=\"48\" font-size=\"13\" fill=\"#555\">{subtitle}</text>\n"
    );
    for (place, panel) in panels.iter().enumerate() {
        let (x, y) = ((place % ACROSS) as f64 * ROOM.0 + 20.0, (place / ACROSS) as f64 * ROOM.1 + 64.0);
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">\n{panel}</g>");
    }
    svg + "</svg>\n"
}

/// One figure at the sizes where it was measured, beside all sizes.
pub fn panel(column: &Column, points: &[(f64, f64)], sizes: &[f64]) -> String {
    let axis = Axis::over(points, column.scale);
    let ends = (sizes[0].ln(), sizes[sizes.len() - 1].ln());
    let across = |at: f64| {
        let share = if ends.1 > ends.0 { (at.ln() - ends.0) / (ends.1 - ends.0) } else { 0.5 };
        EDGE + share * INNER.0
    };
    let up = |value: f64| TOP + INNER.1 * (1.0 - axis.share(value));
    let mut panel = format!(
        "<text y=\"12\" font-weight=\"bold\">{}</text>\n<text y=\"25\" fill=\"#555\" font-size=\"10\">{}</text>\n",
        column.name, column.unit
    );
    for line in &axis.lines {
        let (y, right, left) = (up(*line), EDGE + INNER.0, EDGE - 4.0);
        let _ = writeln!(
            panel,
            "<path d=\"M{EDGE} {y:.1}H{right}\" stroke=\"#ddd\"/>{}",
            label((left, y + 3.0), "end", &plain(*line))
        );
    }
    // Where they would run into each other, every other size is named.
    let step = if sizes.len() > 4 { 2 } else { 1 };
    for size in sizes.iter().rev().step_by(step) {
        let _ = writeln!(panel, "{}", label((across(*size), TOP + INNER.1 + 14.0), "middle", &short(*size)));
    }
    let way: Vec<String> = points.iter().map(|(at, value)| format!("{:.1},{:.1}", across(*at), up(*value))).collect();
    let _ = writeln!(
        panel,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{OURS}\" stroke-width=\"1.6\"/>",
        way.join(" ")
    );
    for (at, value) in points {
        let _ =
            writeln!(panel, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.4\" fill=\"{OURS}\"/>", across(*at), up(*value));
    }
    if let Some((at, value)) = points.last() {
        let _ = writeln!(
            panel,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"10\" stroke=\"#fff\" stroke-width=\"3\" paint-order=\"stroke\">{}</text>",
            across(*at) + 6.0,
            up(*value) - 6.0,
            digits(*value)
        );
    }
    panel
}

fn label((x, y): (f64, f64), anchor: &str, words: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#777\" font-size=\"9\">{words}</text>")
}

/// A figure of an axis.
fn plain(value: f64) -> String {
    if value >= 1e3 { short(value) } else { format!("{}", (value * 1e4).round() / 1e4) }
}

/// The axis on the left.
struct Axis {
    scale: Scale,
    least: f64,
    most: f64,
    lines: Vec<f64>,
}

impl Axis {
    fn over(points: &[(f64, f64)], scale: Scale) -> Axis {
        let most = points.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
        let least = points.iter().map(|(_, value)| *value).filter(|value| *value > 0.0).fold(most, f64::min);
        match scale {
            Scale::Linear => {
                // The last figure stands above its point.
                let most = rounded_up(most * 1.1);
                Axis { scale, least: 0.0, most, lines: vec![0.0, most / 2.0, most] }
            }
            Scale::Logarithmic => {
                let (least, most) = (least.log10().floor(), (most * 1.000_001).log10().ceil());
                let powers = (least as i32..=most as i32).map(|power| 10f64.powi(power)).collect();
                Axis { scale, least, most: most.max(least + 1.0), lines: powers }
            }
        }
    }

    /// How far up a value stands, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let value = if self.scale == Scale::Logarithmic { value.max(f64::MIN_POSITIVE).log10() } else { value };
        ((value - self.least) / (self.most - self.least)).clamp(0.0, 1.0)
    }
}

/// The next of 1, 2, 4, 5, 6, 8 times a power of ten.
fn rounded_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 1.2, 1.6, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_holds_all_its_values() {
        for values in [[0.0, 0.0], [3.0, 7.5], [99.0, 101.0], [1e-3, 1e6]] {
            let points: Vec<_> = values.into_iter().map(|value| (1.0, value)).collect();
            for scale in [Scale::Linear, Scale::Logarithmic] {
                let axis = Axis::over(&points, scale);
                assert!(axis.most > axis.least && axis.most.is_finite(), "{values:?}");
                let top = if scale == Scale::Linear { axis.most } else { 10f64.powf(axis.most) };
                assert!(values.iter().all(|value| *value <= top), "{values:?}");
            }
        }
    }
}
