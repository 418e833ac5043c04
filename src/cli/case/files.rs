//! Decides which files make up a case file, and what each is called. Never puts a salt in without its content: with one a
//! short content can be guessed from its digest.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::gather::{Carried, CaseFile};
use super::{guide, page};
use crate::cli::Failure;
use crate::cli::client::{Grade, mode_name};
use crate::cli::receipt::{Files, files_of, trust};
use crate::message::{CaseNo, Content, Envelope};
use crate::time::SentTime;

/// Letters of a case number that its folder's name keeps.
const NAME_LETTERS: usize = 40;

/// The folder that holds all of it: the case number where it is a plain name, else what is plain of it and a piece of its
/// hash.
pub fn top(case_no: &CaseNo) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    let text = case_no.as_str();
    let kept: String = text.chars().filter(|letter| plain(*letter)).take(NAME_LETTERS).collect();
    if kept == text {
        return format!("case-{kept}");
    }
    format!("case-{kept}-{}", &hex::encode(Sha256::digest(text))[..8])
}

/// All files, each by its path below the folder; `SHA256SUMS` names every other one.
pub fn of(case: &CaseFile) -> Result<Files, Failure> {
    let mut files = vec![
        ("index.html".to_owned(), page::page(case).into_bytes()),
        ("VERIFY.txt".to_owned(), guide::guide(case).into_bytes()),
        ("trust".to_owned(), trust(&case.directory, Grade::Instant).into_bytes()),
    ];
    for (one, number) in case.messages.iter().zip(1..) {
        let (_, receipts) = files_of(&format!("receipts/{number:03}-{}/", one.told.id), &one.receipts)?;
        files.extend(receipts);
        files.push((format!("headers/{number:03}-{}.json", one.told.id), pretty(&header(one))));
        files.extend(one.body.iter().flat_map(|body| contents(number, body)));
    }
    for member in case.members() {
        let Some(entry) = case.directory.entry(&member) else { continue };
        let name = member.to_string().replace('/', "-");
        files.push((format!("members/{name}.note"), entry.note.clone().into_bytes()));
        files.push((format!("members/{name}.vkey"), format!("{}\n", entry.member_key).into_bytes()));
        let roots: String = entry.record.roots.iter().map(|root| pem(root)).collect();
        files.push((format!("certificates/{name}.pem"), roots.into_bytes()));
    }
    let sums = files.iter().map(|(path, bytes)| format!("{}  {path}\n", hex::encode(Sha256::digest(bytes))));
    let sums: String = sums.collect();
    files.push(("SHA256SUMS".to_owned(), sums.into_bytes()));
    Ok(files)
}

/// A header as the digest covers it (docs/receipts.md §2.4), and what its gateway said of the message.
fn header(one: &Carried) -> Value {
    let moment = |at: SentTime| json!({ "seconds": at.seconds(), "nanos": at.nanos() });
    let part = |part: &crate::message::Part| {
        json!({ "name": part.name.as_str(), "media_type": part.media_type.as_str(), "size": part.size,
            "digest": part.digest.to_string(), "attachment": matches!(&part.content, Content::Attachment(digest) if *digest != part.digest) })
    };
    let sent = one.header.as_ref().map(|header| {
        json!({
            "message_id": header.id.to_string(),
            "from": header.from.to_string(),
            "to": header.to.as_ref().map(ToString::to_string),
            "jurisdiction": header.jurisdiction.as_ref().map(|city| city.as_str()),
            "redrive_of": header.redrive_of.map(|id| id.to_string()),
            "item_code": header.item_code.as_str(),
            "case_no": header.case_no.as_ref().map(CaseNo::as_str),
            "step": header.step.as_ref().map(|step| step.as_str()),
            "mode": header.mode.map(mode_name),
            "in_reply_to": header.in_reply_to.map(|id| id.to_string()),
            "created_at": moment(header.created_at),
            "expires_at": header.expires_at.map(moment),
            "attributes": header.attributes,
            "parts": header.parts.iter().map(part).collect::<Vec<_>>(),
            "parts_digest": header.parts_digest().to_string(),
            "header_digest": header.header_digest().to_string(),
        })
    });
    json!({ "as_sent": sent, "digest_matches_receipts": one.header_holds(), "as_told_by_the_gateway": one.told.json() })
}

/// The contents that stand in the message itself, under plain names, and a list that says which is which.
fn contents(number: usize, body: &Envelope) -> Files {
    let mut files = Files::new();
    let mut list = Vec::new();
    for (part, place) in body.parts.iter().zip(1..) {
        let file = match &part.content {
            Content::Inline(bytes) => {
                let file = format!("{place:02}.bin");
                files.push((format!("bodies/{number:03}-{}/{file}", body.id), bytes.to_vec()));
                Some(file)
            }
            Content::Attachment(_) => None,
        };
        list.push(json!({ "file": file, "name": part.name.as_str(), "media_type": part.media_type.as_str(),
            "size": part.size, "salt": hex::encode(part.salt), "digest": part.digest.to_string() }));
    }
    files.push((format!("bodies/{number:03}-{}/parts.json", body.id), pretty(&Value::from(list))));
    files
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_never_bears_more_of_a_case_number_than_plain_letters() {
        let named = |text: &str| top(&text.parse().unwrap());
        assert_eq!(named("GX-2026-1"), "case-GX-2026-1");
        for strange in ["../../etc/passwd", "桂B-1", "<script>", &"x".repeat(64)] {
            let name = named(strange);
            assert!(
                name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) && name.len() <= 60,
                "{name}"
            );
        }
        assert_ne!(named("桂1"), named("粤1"));
    }
}
