//! Decides what a city's system of the demo writes down, outside the gateways: what it sent, what it was handed, and how each
//! ended. Never writes what a message says, only which message it is.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::Failure;
use crate::id::MessageId;
use crate::keys;

/// One line of a diary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub did: Did,
    /// The message's id, as it is printed everywhere.
    pub message_id: String,
}

/// What a system did with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Did {
    /// Written before it is submitted.
    Sent,
    /// Written before an outcome is given; the same message may be handed out again until its outcome is durable.
    Received,
    /// Written when its gateway has said that the outcome is durable.
    Acknowledged,
    Refused,
    /// What its own gateway told the sender about the end.
    ToldConfirmed,
    ToldRejected,
    /// Any other end, and none.
    ToldOther,
}

/// A diary, a line of JSON for each thing done. A line is with the operating system when `note` returns.
pub struct Diary(File);

impl Diary {
    /// Opens the diary at `path` to go on at its end.
    pub fn open(path: &Path) -> Result<Diary, Failure> {
        Ok(Diary(OpenOptions::new().append(true).create(true).open(path)?))
    }

    /// Writes one line, whole.
    pub fn note(&self, did: Did, id: MessageId) -> Result<(), Failure> {
        let line = Line { did, message_id: id.to_string() };
        let text = serde_json::to_string(&line).map_err(std::io::Error::from)?;
        Ok((&self.0).write_all(format!("{text}\n").as_bytes())?)
    }
}

/// Reads a diary.
pub fn read(path: &Path) -> Result<Vec<Line>, Failure> {
    let lines = keys::read_text(path)?;
    let lines: Result<Vec<Line>, _> = lines.lines().map(serde_json::from_str).collect();
    Ok(lines.map_err(std::io::Error::from)?)
}
