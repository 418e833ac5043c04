//! Decides how costs are told that were measured again and again while something grew: line by line while it goes on, then as a
//! table, as data, and as a drawing of small diagrams with one logarithmic axis below. Never smooths and never leaves a point out.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::diagram;

/// One figure of a curve.
pub struct Column {
    pub name: &'static str,
    pub unit: &'static str,
    pub scale: Scale,
    /// What is required of it, and at which sizes.
    pub required: &'static [(f64, Bound)],
}

/// What stands on the left of a diagram.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Begins at nothing: what bends is seen as it is.
    Linear,
    /// For what must grow with what grows: a straight line is in proportion.
    Logarithmic,
}

#[derive(Clone, Copy)]
pub enum Bound {
    AtMost(f64),
    /// So much of what it was at first.
    ShareOfFirst(f64),
}

/// A figure from nothing, of which nothing is required.
pub const fn column(name: &'static str, unit: &'static str) -> Column {
    Column { name, unit, scale: Scale::Linear, required: &[] }
}

impl Column {
    pub const fn logarithmic(self) -> Column {
        Column { scale: Scale::Logarithmic, ..self }
    }

    /// At these sizes so much is required.
    pub const fn required(self, required: &'static [(f64, Bound)]) -> Column {
        Column { required, ..self }
    }
}

/// What was measured at one size, in the order of the columns.
struct Point {
    at: f64,
    values: Vec<Option<f64>>,
}

/// Everything that was measured while one thing grew.
pub struct Curve {
    /// Of the files.
    pub name: &'static str,
    title: &'static str,
    /// What grows.
    by: &'static str,
    columns: &'static [Column],
    points: Vec<Point>,
    /// What does not grow, and what could not be measured.
    facts: Vec<(String, f64, &'static str)>,
    skipped: Vec<String>,
}

impl Curve {
    pub fn new(name: &'static str, title: &'static str, by: &'static str, columns: &'static [Column]) -> Curve {
        println!("\n{title}");
        Curve { name, title, by, columns, points: vec![], facts: vec![], skipped: vec![] }
    }

    /// From now on this size is told of.
    pub fn begin(&mut self, at: f64) {
        self.points.push(Point { at, values: vec![None; self.columns.len()] });
    }

    /// One figure of the size that was begun last.
    pub fn tell(&mut self, name: &'static str, value: f64) {
        let place = self.columns.iter().position(|column| column.name == name);
        let (Some(place), Some(point)) = (place, self.points.last_mut()) else {
            panic!("{name} is no figure of this curve");
        };
        println!("  {:>7} {name:<44} {:>10} {}", short(point.at), digits(value), self.columns[place].unit);
        point.values[place] = Some(value);
    }

    /// A figure that belongs to no size.
    pub fn fact(&mut self, what: &str, value: f64, unit: &'static str) {
        println!("  {what:<52} {:>10} {unit}", digits(value));
        self.facts.push((what.to_owned(), value, unit));
    }

    /// Why something is not told of.
    pub fn skip(&mut self, what: impl Into<String>) {
        let what = what.into();
        println!("  SKIPPED: {what}");
        self.skipped.push(what);
    }

    /// Writes what is known so far: `growth-NAME.{txt,json,svg}`.
    pub fn write(&self, folder: &Path, machine: &str) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        let path = |kind: &str| folder.join(format!("growth-{}.{kind}", self.name));
        let all = [
            ("txt", self.text()),
            ("json", serde_json::to_string_pretty(&self.json(machine))?),
            ("svg", self.svg(machine)),
        ];
        for (kind, text) in all.iter().filter(|(kind, _)| *kind != "svg" || !self.points.is_empty()) {
            std::fs::write(path(kind), text).with_context(|| path(kind).display().to_string())?;
        }
        Ok(())
    }

    /// The table for people: a line for each figure, a column for each size.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.title);
        for (what, value, unit) in &self.facts {
            let _ = writeln!(text, "  {what:<52} {:>10} {unit}", digits(*value));
        }
        if !self.points.is_empty() {
            let sizes: String = self.points.iter().map(|point| format!("{:>10}", short(point.at))).collect();
            let _ = writeln!(text, "{:<58}{sizes}   last / first", self.by);
        }
        for (place, column) in self.columns.iter().enumerate() {
            let values = self.points.iter().map(|point| point.values[place]);
            if values.clone().all(|value| value.is_none()) {
                continue;
            }
            let cells: String = values.map(|value| format!("{:>10}", value.map_or("–".to_owned(), digits))).collect();
            let grown = self.grown(place).map_or_else(String::new, |grown| format!("{grown:>15.2}"));
            let _ = writeln!(text, "{:<58}{cells}{grown}", format!("{}, {}", column.name, column.unit));
        }
        self.verdicts().iter().for_each(|verdict| text += &format!("  {verdict}\n"));
        self.skipped.iter().for_each(|why| text += &format!("  SKIPPED: {why}\n"));
        text
    }

    /// The last by the first.
    fn grown(&self, place: usize) -> Option<f64> {
        let mut values = self.points.iter().filter_map(|point| point.values[place]);
        let (first, last) = (values.next()?, values.next_back()?);
        (first != 0.0).then(|| last / first)
    }

    /// What is required at sizes that were measured, and whether it holds.
    fn verdicts(&self) -> Vec<String> {
        let required =
            |(place, column): (usize, &'static Column)| column.required.iter().map(move |bound| (place, bound));
        let all = self.columns.iter().enumerate().flat_map(required);
        all.filter_map(|(place, (at, bound))| self.verdict(place, *at, *bound)).collect()
    }

    fn verdict(&self, place: usize, at: f64, bound: Bound) -> Option<String> {
        let column = &self.columns[place];
        let measured = self.points.iter().find(|point| point.at == at)?.values[place]?;
        let first = self.points.first()?;
        let (value, holds, wanted) = match bound {
            Bound::AtMost(most) => (measured, measured <= most, format!("≤ {} {}", digits(most), column.unit)),
            Bound::ShareOfFirst(least) => {
                let share = measured / first.values[place]?;
                (share, share >= least, format!("≥ {least} of that at {}", short(first.at)))
            }
        };
        let verdict = if holds { "holds" } else { "MISSED" };
        Some(format!("{}, at {}: {}, required {wanted}: {verdict}", column.name, short(at), digits(value)))
    }

    /// Everything, for programs.
    fn json(&self, machine: &str) -> Value {
        let point = |point: &Point| {
            let values =
                self.columns.iter().zip(&point.values).map(|(column, value)| (column.name.to_owned(), json!(value)));
            json!({ "at": point.at, "values": values.collect::<serde_json::Map<_, _>>() })
        };
        json!({
            "machine": machine,
            "what": self.title,
            "by": self.by,
            "units": self.columns.iter().map(|column| (column.name.to_owned(), json!(column.unit))).collect::<serde_json::Map<_, _>>(),
            "facts": self.facts.iter().map(|(what, value, unit)| json!({ "what": what, "value": value, "unit": unit })).collect::<Vec<_>>(),
            "points": self.points.iter().map(point).collect::<Vec<_>>(),
            "verdicts": self.verdicts(),
            "skipped": self.skipped,
        })
    }

    /// A small diagram for each figure.
    fn svg(&self, machine: &str) -> String {
        let sizes: Vec<f64> = self.points.iter().map(|point| point.at).collect();
        let told = |place: usize| -> Vec<(f64, f64)> {
            self.points.iter().filter_map(|point| Some((point.at, point.values[place]?))).collect()
        };
        let panels = self.columns.iter().enumerate().map(|(place, column)| (column, told(place)));
        let panels = panels.filter(|(_, points)| !points.is_empty());
        let panels = panels.map(|(column, points)| diagram::panel(column, &points, &sizes)).collect();
        diagram::sheet(self.title, &format!("over {}, growing to the right; {machine}", self.by), panels)
    }
}

/// A size in few letters.
pub fn short(size: f64) -> String {
    let (value, unit) = match size {
        size if size >= 1e6 => (size / 1e6, " M"),
        // 1,024 says more than 1.02 k.
        size if size >= 1e3 && size % 10.0 == 0.0 => (size / 1e3, " k"),
        size => (size, ""),
    };
    format!("{}{unit}", (value * 100.0).round() / 100.0)
}

/// A figure with three digits that say something.
pub fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.0995 => format!("{value:.2}"),
        size if size >= 0.000_995 => format!("{value:.4}"),
        _ => format!("{value:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 2] = [
        column("rate", "per s").required(&[(1e6, Bound::ShareOfFirst(0.9))]),
        column("RSS", "MiB").required(&[(1e6, Bound::AtMost(200.0))]),
    ];

    fn curve(rate: f64, rss: f64) -> Curve {
        let mut curve = Curve::new("test", "Test", "messages", &COLUMNS);
        for (at, rate, rss) in [(1e4, 100.0, 50.0), (1e6, rate, rss)] {
            curve.begin(at);
            curve.tell("rate", rate);
            curve.tell("RSS", rss);
        }
        curve
    }

    #[test]
    fn what_is_required_is_judged_at_its_size() {
        let verdicts =
            |rate, rss| curve(rate, rss).verdicts().iter().map(|line| line.ends_with("holds")).collect::<Vec<_>>();
        assert_eq!(verdicts(90.0, 200.0), [true, true]);
        assert_eq!(verdicts(89.0, 201.0), [false, false]);
    }

    #[test]
    fn a_table_has_a_line_for_each_figure_and_says_how_much_it_has_grown() {
        let text = curve(50.0, 100.0).text();
        assert!(text.contains("10 k") && text.contains("1 M"), "{text}");
        assert!(text.lines().any(|line| line.starts_with("rate, per s") && line.ends_with("0.50")), "{text}");
        assert!(text.lines().any(|line| line.starts_with("RSS, MiB") && line.ends_with("2.00")), "{text}");
    }

    #[test]
    fn figures_and_sizes_are_short() {
        assert_eq!([1e3, 3e4, 1e7, 500.0, 1_024.0].map(short), ["1 k", "30 k", "10 M", "500", "1024"]);
        assert_eq!([0.0, 12_345.6, 12.34, 1.234, 0.0123].map(digits), ["0", "12346", "12.3", "1.23", "0.0123"]);
    }
}
