//! Decides how the receipts of one message lie in a folder: `NN-EVENT-ISSUER.leaf`, `.tlog-proof` and `.json`, and the
//! file `trust` with the keys of the alliance's logs. Never overwrites a file with another content.

use std::path::Path;

use super::super::{Failure, files};
use super::render;
use crate::directory::Directory;
use crate::receipt::Checked;

/// Writes checked receipts, oldest first, and the log keys of the directory; returns the names without extension.
pub fn export(receipts: &[Checked], directory: &Directory, to: &Path) -> Result<Vec<String>, Failure> {
    let mut written = Vec::new();
    let mut all = vec![("trust".to_owned(), trust(directory).into_bytes())];
    for (checked, number) in receipts.iter().zip(1..) {
        let name = name(number, checked);
        let reading = serde_json::to_string_pretty(&render::receipt(checked)).map_err(std::io::Error::from)?;
        all.push((format!("{name}.leaf"), checked.receipt.leaf.clone()));
        all.push((format!("{name}.tlog-proof"), checked.receipt.proof.to_text().into_bytes()));
        all.push((format!("{name}.json"), format!("{reading}\n").into_bytes()));
        written.push(name);
    }
    files::folder(to)?;
    files::keep(to, &all).map_err(|failure| {
        failure.hint("name a folder for this message alone, with --out", "请用 --out 为这条消息单独指定文件夹")
    })?;
    Ok(written)
}

/// The keys of all logs of the alliance, one vkey a line.
pub fn trust(directory: &Directory) -> String {
    let keys = directory.entries().flat_map(|entry| &entry.record.log_keys);
    keys.map(|key| format!("{key}\n")).collect()
}

/// `02-RELAY_ACCEPTED-440600`; two digits sort up to a hundred receipts, and more still have their own names.
fn name(number: usize, checked: &Checked) -> String {
    let issuer = checked.evidence.issuer.to_string().replace('/', "-");
    format!("{number:02}-{}-{issuer}", checked.evidence.event)
}
