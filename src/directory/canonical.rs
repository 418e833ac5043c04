//! Decides how a document stands in a signed text: canonical JSON (RFC 8785) on one line with its newline. Never mends a
//! text: what is spelt another way is refused, so that one content has one spelling and one signature.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a text is no canonical document of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    #[error("the text is not one line with a newline at its end")]
    OneLine,
    #[error("the text is not JSON of the expected shape: {0}")]
    Json(String),
    #[error("the text is not canonical JSON (RFC 8785): another order, spacing, number or a key given twice")]
    Spelling,
    #[error("the text is a {found:?}, not a {expected:?}")]
    Kind { expected: &'static str, found: String },
}

/// Reads `text` as a document of `kind`; fields that `T` does not know are let pass.
pub(crate) fn read<T: DeserializeOwned>(text: &str, kind: &'static str) -> Result<T, CanonicalError> {
    let line = text.strip_suffix('\n').filter(|line| !line.contains('\n')).ok_or(CanonicalError::OneLine)?;
    let value: serde_json::Value = serde_json::from_str(line).map_err(json)?;
    if serde_json_canonicalizer::to_string(&value).map_err(json)? != line {
        return Err(CanonicalError::Spelling);
    }
    let found = value.get("kind").and_then(|k| k.as_str()).unwrap_or_default();
    if found != kind {
        return Err(CanonicalError::Kind { expected: kind, found: found.to_owned() });
    }
    serde_json::from_value(value).map_err(json)
}

/// Writes a document as it is signed, with its newline.
pub(crate) fn write<T: Serialize>(document: &T) -> Result<String, CanonicalError> {
    let mut text = serde_json_canonicalizer::to_string(document).map_err(json)?;
    text.push('\n');
    Ok(text)
}

/// As [`write`], for a large document whose fields stand in the order of their names already and whose numbers are whole: then
/// `serde_json` spells all of it as RFC 8785 wants it, and nothing is sorted.
pub(crate) fn write_ordered<T: Serialize>(document: &T) -> Result<String, CanonicalError> {
    let mut text = serde_json::to_string(document).map_err(json)?;
    text.push('\n');
    debug_assert_eq!(Ok(&text), write(document).as_ref(), "the fields stand in another order");
    Ok(text)
}

fn json(fault: serde_json::Error) -> CanonicalError {
    CanonicalError::Json(fault.to_string())
}
