//! Tells whether a text for Chinese readers still speaks English.
#![allow(dead_code, reason = "each test file uses its own part")]

/// Words without which hardly an English sentence does. Names, paths and commands hold none of them standing alone.
const LITTLE_WORDS: &str = "a an and are be by can cannot does for from has have is it may must no not of on or than that the there this to was with";

/// The line of a text in which an English sentence stands, if there is one. What stands in quotation marks is somebody else's.
pub fn english_in(text: &str) -> Option<&str> {
    let part =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/' | '.' | '<' | '>' | '\'' | '\\' | '=' | '$');
    let little = |word: &str| LITTLE_WORDS.split(' ').any(|little| little == word);
    text.lines().find(|line| line.split('"').step_by(2).any(|own| own.split(|c: char| !part(c)).any(little)))
}

/// Whether a text has Chinese in it.
pub fn is_chinese(text: &str) -> bool {
    text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c))
}
