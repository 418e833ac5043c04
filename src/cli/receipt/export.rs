//! Decides how receipts are written as files: `NN-EVENT-ISSUER.leaf`, `.tlog-proof` and `.json`, and the file `trust` with
//! the keys of the alliance's logs. Never writes one itself.

use super::super::Failure;
use super::super::client::Grade;
use super::render;
use crate::directory::Directory;
use crate::receipt::Checked;
use crate::tlog::cosignature::WitnessKey;

/// Files as names and contents.
pub type Files = Vec<(String, Vec<u8>)>;

/// The files of receipts in order, their names after `prefix`; also the names without extension.
pub fn files_of(prefix: &str, receipts: &[Checked]) -> Result<(Vec<String>, Files), Failure> {
    let (mut names, mut files) = (Vec::new(), Files::new());
    for (checked, number) in receipts.iter().zip(1..) {
        let name = format!("{prefix}{}", name(number, checked));
        let reading = serde_json::to_string_pretty(&render::receipt(checked)).map_err(std::io::Error::from)?;
        files.push((format!("{name}.leaf"), checked.receipt.leaf.clone()));
        files.push((format!("{name}.tlog-proof"), checked.receipt.proof.to_text().into_bytes()));
        files.push((format!("{name}.json"), format!("{reading}\n").into_bytes()));
        names.push(name);
    }
    Ok((names, files))
}

/// The keys of all logs of the alliance, one vkey a line; with sealed receipts also those of all witnesses.
pub fn trust(directory: &Directory, grade: Grade) -> String {
    let keys: Vec<_> = directory.entries().flat_map(|entry| &entry.record.log_keys).collect();
    let logs = keys.iter().map(|key| format!("{key}\n"));
    let witnesses = keys.iter().filter(|_| grade == Grade::Sealed).map(|key| format!("{}\n", WitnessKey::of(key)));
    logs.chain(witnesses).collect()
}

/// `02-RELAY_ACCEPTED-440600`; two digits sort up to a hundred receipts, and more still have their own names.
fn name(number: usize, checked: &Checked) -> String {
    let issuer = checked.evidence.issuer.to_string().replace('/', "-");
    format!("{number:02}-{}-{issuer}", checked.evidence.event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::verify::sample::receipt;
    use crate::evidence::Event;

    #[test]
    fn a_receipt_is_named_by_place_event_and_issuer() {
        let first = receipt("450200", 0, Event::SubmissionAccepted, None);
        let second = receipt("hub/main", 3, Event::RelayAccepted, Some(&first));
        let (names, files) = files_of("DEMO-0001-", &[first.clone(), second]).unwrap();
        assert_eq!(names, ["DEMO-0001-01-SUBMISSION_ACCEPTED-450200", "DEMO-0001-02-RELAY_ACCEPTED-hub-main"]);
        let extensions: Vec<_> = files.iter().map(|(name, _)| name.rsplit_once('.').unwrap().1).collect();
        assert_eq!(extensions, ["leaf", "tlog-proof", "json", "leaf", "tlog-proof", "json"]);
        assert_eq!(files[0].1, first.receipt.leaf);
    }
}
