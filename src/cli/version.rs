//! Decides what `tongban version` prints. Never asks the network whether there is a newer one.

use serde_json::json;

use super::{Answer, Exit, Out};

/// Prints name and version.
pub fn run(out: &Out) -> Answer {
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    out.show(&json!({ "name": name, "version": version }), || format!("{name} {version}"))?;
    Ok(Exit::Done)
}
