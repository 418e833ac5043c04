//! Decides how the story of a case is drawn: time runs down, a column for everybody who can hold a message, an arrow where
//! custody changes, a bar where it stays. Never says by colour alone, and never draws more than fits a printed page.

use std::fmt::Write as _;

use super::page::{escaped, event_words};
use super::story::{Scene, Story};
use crate::evidence::Event;
use crate::limits::CASE_DRAWING_ROWS;

// All in units of the drawing.
const ROW: usize = 30;
const HEAD: usize = 46;
const LEFT: usize = 280;
const COLUMN: usize = 120;
const RIGHT: usize = 480;
/// Messages whose bars stand side by side.
const BARS: usize = 5;
const BAR: usize = 7;

/// The drawings of a story, one for each page.
pub fn drawings(story: &Story) -> String {
    let starts = (0..story.scenes.len()).step_by(CASE_DRAWING_ROWS);
    starts.map(|start| drawing(story, start, (start + CASE_DRAWING_ROWS).min(story.scenes.len()))).collect()
}

fn drawing(story: &Story, start: usize, end: usize) -> String {
    let (width, height) = (LEFT + story.holders.len() * COLUMN + RIGHT, HEAD + (end - start) * ROW + 10);
    let mut svg = format!(
        "<svg role=\"img\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" xmlns=\"http://www.w3.org/2000/svg\">\
         <title>办件经过 What happened, {}–{end}</title>\n",
        start + 1
    );
    for (place, holder) in story.holders.iter().enumerate() {
        let (x, name) = (x_of(place), escaped(&holder.to_string()));
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"20\" class=\"h\">{name}</text>");
        let _ =
            writeln!(svg, "<line x1=\"{x}\" y1=\"{HEAD}\" x2=\"{x}\" y2=\"{height}\" class=\"c\"/>", HEAD = HEAD - 18);
    }
    for custody in &story.custodies {
        // Without an end it is held to this day.
        let last = custody.end.unwrap_or(story.scenes.len());
        let (top, bottom) = (custody.begin.max(start), last.min(end));
        if top < bottom {
            let x = x_of(custody.holder) + (custody.message % BARS) * BAR - BARS * BAR / 2;
            let (y, bar) = (HEAD + (top - start) * ROW, (bottom - top) * ROW);
            let shade = custody.message % BARS;
            let _ = writeln!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"{BAR}\" height=\"{bar}\" class=\"b{shade}\"/>");
        }
    }
    for (row, scene) in story.scenes[start..end].iter().enumerate() {
        svg += &event(scene, HEAD + row * ROW, width - RIGHT + 10);
    }
    svg + "</svg>\n"
}

/// One row: when, of which message and at which step, from whom to whom, and what it was.
fn event(scene: &Scene, y: usize, right: usize) -> String {
    let (at, number) = (escaped(&scene.at.to_string()), scene.message + 1);
    let step = escaped(&scene.step);
    let step =
        if scene.event == Event::SubmissionAccepted { format!("#{number} {step}") } else { format!("#{number}") };
    let mut row = format!("<text x=\"4\" y=\"{}\" class=\"t\">{at}</text>", y + 4);
    let _ = write!(row, "<text x=\"178\" y=\"{}\" class=\"t\">{step}</text>", y + 4);
    let to = x_of(scene.to);
    if let Some(from) = scene.from.map(x_of) {
        let _ = write!(row, "<line x1=\"{from}\" y1=\"{y}\" x2=\"{to}\" y2=\"{y}\" class=\"a\"/>");
        if !scene.event.is_negative() {
            let back = if from < to { to - 9 } else { to + 9 };
            let _ = write!(row, "<path d=\"M{to} {y} L{back} {} L{back} {} Z\"/>", y - 5, y + 5);
        }
    }
    match scene.event {
        bad if bad.is_negative() || bad == Event::Cancelled => {
            let (l, r, u, d) = (to - 6, to + 6, y - 6, y + 6);
            let _ = write!(row, "<path d=\"M{l} {u} L{r} {d} M{l} {d} L{r} {u}\" class=\"x\"/>");
        }
        Event::Consigned | Event::Delayed => {
            let _ = write!(row, "<circle cx=\"{to}\" cy=\"{y}\" r=\"5\" class=\"o\"/>");
        }
        _ => {}
    }
    let (zh, en) = event_words(scene.event);
    let (reasons, class) = (escaped(&scene.reasons.join(" ")), if scene.event.is_negative() { "n" } else { "t" });
    let _ = writeln!(row, "<text x=\"{right}\" y=\"{}\" class=\"{class}\">{zh} {en} {reasons}</text>", y + 4);
    row
}

fn x_of(place: usize) -> usize {
    LEFT + place * COLUMN + COLUMN / 2
}
