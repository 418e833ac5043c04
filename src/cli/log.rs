//! Decides how a gateway's log is written: a line for each event, and nothing in it that ends a line, moves a cursor or turns
//! a text. Never decides what is logged.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;

use crate::message::visible;

/// Logs to stderr, for people or as JSON; what is shown is set by `TONGBAN_LOG`, in the form of tracing's filters.
pub fn to_stderr(json: bool) {
    let filter = EnvFilter::try_from_env("TONGBAN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let layer = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Events).with_target(false);
    // A second subscriber in one process is no fault: the first one stays.
    let _ = if json { layer.json().try_init() } else { layer.with_ansi(false).try_init() };
}

/// Takes one event at a time, as tracing's layers write them.
struct Events;

impl Write for Events {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        io::stderr().lock().write_all(one_line(&String::from_utf8_lossy(event)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

/// An event on its line. What nobody sees is spelled as JSON spells it, so that a JSON line stays one.
fn one_line(event: &str) -> String {
    let (text, end) = event.strip_suffix('\n').map_or((event, ""), |text| (text, "\n"));
    let mut line = String::with_capacity(event.len());
    for c in text.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            c if visible(c.encode_utf8(&mut [0; 4])) => line.push(c),
            c => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| line.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    line + end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stays_one_line_whatever_is_in_it() {
        assert_eq!(one_line("a 中文 b\n"), "a 中文 b\n");
        assert_eq!(one_line("a\r\nb\u{1b}[2J\u{202e}\u{e0041}\n"), "a\\u000d\\nb\\u001b[2J\\u202e\\udb40\\udc41\n");
    }
}
