//! Decides how a comparison is told: a table, the ratios that matter, and a drawing.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::measure::Window;

/// What was measured under one name.
pub struct Row {
    pub name: String,
    pub settings: String,
    /// The median, and the runs behind it; or why there is none.
    pub found: Result<(Window, Vec<Window>), String>,
}

/// One ratio within a run, what is required of it and what is aimed at.
pub struct Ratio {
    pub what: &'static str,
    pub measured: Option<f64>,
    pub required: f64,
    pub goal: f64,
    /// Whether more is better.
    pub more: bool,
    pub unit: &'static str,
}

impl Ratio {
    fn verdict(&self) -> &'static str {
        let reaches = |bound: f64| {
            self.measured.is_some_and(|measured| if self.more { measured >= bound } else { measured <= bound })
        };
        match (self.measured, reaches(self.goal), reaches(self.required)) {
            (None, ..) => "not measured",
            (_, true, _) => "goal",
            (_, _, true) => "required",
            _ => "MISSED",
        }
    }
}

/// The table for people.
pub fn text(rows: &[Row], ratios: &[Ratio]) -> String {
    let mut text = format!(
        "{:<34} {:>10} {:>9} {:>9} {:>9} {:>8} {:>9} {:>8} {:>8}\n",
        "", "per s", "p50 ms", "p99 ms", "p99.9 ms", "CPU µs", "B written", "syncs", "RSS MiB"
    );
    let known = |value: Option<f64>, digits: usize| value.map_or("–".to_owned(), |value| format!("{value:.digits$}"));
    for row in rows {
        let _ = match &row.found {
            Err(why) => writeln!(text, "{:<34} SKIPPED: {why}", row.name),
            Ok((window, _)) => writeln!(
                text,
                "{:<34} {:>10.0} {:>9.2} {:>9.2} {:>9.2} {:>8} {:>9} {:>8} {:>8}",
                row.name,
                window.per_second,
                window.p50_us / 1e3,
                window.p99_us / 1e3,
                window.p999_us / 1e3,
                known(window.cpu_us, 1),
                known(window.written_bytes, 0),
                known(window.syncs, 4),
                known(window.rss_bytes.map(|bytes| bytes / f64::from(1 << 20)), 1),
            ),
        };
    }
    text +=
        "\nCPU, bytes written and syncs are of what was loaded, for each message. A gateway's sync is a commit.\n\n";
    let _ = writeln!(text, "{:<66} {:>10} {:>9} {:>9}  verdict", "", "measured", "required", "goal");
    for ratio in ratios {
        let measured = known(ratio.measured, 2);
        let _ = writeln!(
            text,
            "{:<66} {measured:>10} {:>9} {:>9}  {} {}",
            ratio.what,
            ratio.required,
            ratio.goal,
            ratio.verdict(),
            ratio.unit
        );
    }
    text
}

/// Messages a day of a whole country, how far its peaks rise above the mean, and its cities.
const NATION: (f64, f64, f64) = (10e6, 20.0, 333.0);
/// Days for which messages are kept.
const KEPT_DAYS: f64 = 400.0;

/// What the measured costs come to for a whole country. Computed, not measured.
pub fn nation(end_to_end: Option<&Window>, stored: Option<f64>) -> String {
    let (a_day, rise, cities) = NATION;
    let (mean, peak) = (a_day / 86_400.0, a_day / 86_400.0 * rise);
    let mut lines = vec![
        format!(
            "{a_day:.0} messages a day in {cities} cities are {mean:.0} a second, {peak:.0} in a peak of {rise} times that."
        ),
        format!("Each passes two gateways: {:.1} a second at a mean city's in the peak.", 2.0 * peak / cities),
    ];
    if let Some((window, cpu_us)) = end_to_end.and_then(|window| Some((window, window.cpu_us?))) {
        let cores = 2.0 * peak * cpu_us / 1e6;
        lines.push(format!(
            "At {cpu_us:.0} µs for the whole way at each gateway that is {cores:.2} cores for the country in the peak, {:.4} for a mean city.",
            cores / cities
        ));
        lines.push(format!(
            "One gateway of this machine took {:.0} a second the whole way: {:.1} times the country's peak.",
            window.per_second,
            window.per_second / peak
        ));
    }
    if let Some(stored) = stored {
        let tib = stored * a_day * KEPT_DAYS * 2.0 / f64::powi(2.0, 40);
        lines.push(format!(
            "At {stored:.0} bytes of store each, kept {KEPT_DAYS} days at both: {tib:.1} TiB for the country, {:.1} GiB for a mean city.",
            tib * 1_024.0 / cities
        ));
    }
    format!("A nation on this design (computed from the measured costs, not measured)\n  {}\n", lines.join("\n  "))
}

/// Everything, for programs.
pub fn json(rows: &[Row], ratios: &[Ratio], figures: &[(&str, f64, &str)], settings: &Value) -> Value {
    let row = |row: &Row| match &row.found {
        Err(why) => json!({ "name": row.name, "settings": row.settings, "skipped": why }),
        Ok((median, runs)) => json!({
            "name": row.name,
            "settings": row.settings,
            "median": median.json(),
            "runs": runs.iter().map(Window::json).collect::<Vec<_>>(),
        }),
    };
    let ratio = |ratio: &Ratio| {
        json!({ "what": ratio.what, "measured": ratio.measured, "required": ratio.required, "goal": ratio.goal,
            "unit": ratio.unit, "verdict": ratio.verdict() })
    };
    json!({
        "settings": settings,
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
        "ratios": ratios.iter().map(ratio).collect::<Vec<_>>(),
        "figures": figures.iter().map(|(what, value, unit)| json!({ "what": what, "value": value, "unit": unit })).collect::<Vec<_>>(),
    })
}

/// Bars of messages per second, of all that store what they answer: an echo, which does not, would leave them no room.
pub fn svg(rows: &[Row], subtitle: &str) -> String {
    let rows: Vec<&Row> = rows.iter().filter(|row| !row.name.starts_with("echo")).collect();
    let (left, width, step) = (250.0, 470.0, 30.0);
    let runs = rows.iter().filter_map(|row| row.found.as_ref().ok()).flat_map(|(_, runs)| runs);
    let most = runs.map(|run| run.per_second).fold(1.0, f64::max);
    let height = 90.0 + step * rows.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 920 {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"920\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"20\" y=\"28\" font-size=\"17\">Messages per second, 1 KiB, durable before the answer</text>\n\
         <text x=\"20\" y=\"50\" fill=\"#555\">{}</text>\n",
        escaped(subtitle)
    );
    for (place, row) in rows.iter().enumerate() {
        let y = 70.0 + step * place as f64;
        let (ours, middle) = (row.name.starts_with("gateway"), y + 15.0);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>",
            left - 10.0,
            escaped(&row.name)
        );
        let _ = match &row.found {
            Err(_) => writeln!(svg, "<text x=\"{left}\" y=\"{middle}\" fill=\"#999\">not measured here</text>"),
            Ok((window, runs)) => {
                let long = |per_second: f64| per_second / most * width;
                let colour = if ours { "#1f6f8b" } else { "#b8bec4" };
                let spread = runs.iter().map(|run| run.per_second);
                let (least, best) = (long(spread.clone().fold(f64::MAX, f64::min)), long(spread.fold(0.0, f64::max)));
                let bar = long(window.per_second);
                let after = left + best.max(bar) + 8.0;
                writeln!(
                    svg,
                    "<rect x=\"{left}\" y=\"{y}\" width=\"{bar:.1}\" height=\"20\" fill=\"{colour}\"/>\
                     <path d=\"M{:.1} {middle}H{:.1}\" stroke=\"#222\" transform=\"translate(0 -5)\"/>\
                     <text x=\"{after:.1}\" y=\"{middle}\">{:.0} <tspan fill=\"#777\">p99 {:.1} ms</tspan></text>",
                    left + least,
                    left + best,
                    window.per_second,
                    window.p99_us / 1e3
                )
            }
        };
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
