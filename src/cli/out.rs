//! Decides how a command speaks: data to stdout, as a table for people or as JSON, and talk to stderr. Never colours, and
//! never mixes the two streams.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::text::Lang;

/// Where a command's words and data go.
pub struct Out {
    /// The language of the words.
    pub lang: Lang,
    json: bool,
}

impl Out {
    /// Data as JSON or as tables; words in `lang`.
    pub fn new(json: bool, lang: Lang) -> Out {
        Out { lang, json }
    }

    /// Whether data is asked for as JSON.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Shows data: `value` when JSON is asked for, else what `human` makes of it.
    ///
    /// # Errors
    /// What stdout says. A reader that has closed the pipe is no fault, and the command's answer stays what it is.
    pub fn show<T: Serialize>(&self, value: &T, human: impl FnOnce() -> String) -> io::Result<()> {
        let text = if self.json { serde_json::to_string_pretty(value)? } else { human() };
        match self.print(&format!("{}\n", text.trim_end())) {
            Err(fault) if fault.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    /// Writes text to stdout as it is.
    ///
    /// # Errors
    /// What stdout says; a closed pipe too, so that a command with more to say can stop.
    pub fn print(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    /// Says a line to the person at the terminal. Nobody listening is no fault.
    pub fn say(&self, line: &str) {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// A bar on stderr that counts to `length`; nothing is drawn where nobody looks.
    pub fn bar(&self, length: u64) -> ProgressBar {
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {eta}");
        ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }

    /// The same for bytes.
    pub fn bytes_bar(&self, length: u64) -> ProgressBar {
        let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}");
        ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }

    /// Says the way out, on its own line.
    pub fn hint(&self, en: &str, zh: &str) {
        self.say(&self.lang.tr(format!("hint: {en}"), format!("提示：{zh}")));
    }
}

/// A table of text: a head and rows. On a terminal it fits the width, elsewhere every cell stays whole on its lines.
pub fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(columns) = columns() {
        table.set_width(columns);
    }
    table.set_header(head.to_vec()).add_rows(rows);
    table.trim_fmt()
}

/// Columns of the terminal; none where stdout is none.
fn columns() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(size.ws_col).filter(|columns| *columns > 0)
}
