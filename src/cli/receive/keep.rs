//! Decides where the parts of a received message are kept: a folder named by the message's id, a file for each part.
//! Never leaves that folder, and never overwrites.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::super::{Failure, files};
use crate::limits::PART_NAME_BYTES_MAX;
use crate::message::{Content, Envelope};

/// Writes the parts of a message below `dir`, durably; returns the message's folder.
pub fn parts(envelope: &Envelope, dir: &Path) -> Result<PathBuf, Failure> {
    files::folder(dir)?;
    let folder = dir.join(envelope.id.to_string());
    files::keep_folder(&folder, &named(envelope))?;
    Ok(folder)
}

/// Part names are no paths (see [`crate::message::PartName`]); a name that stands twice, also in other letters' case, gets
/// its number in front.
fn named(envelope: &Envelope) -> Vec<(String, Vec<u8>)> {
    let mut taken = HashSet::new();
    let named = envelope.parts.iter().zip(1..).filter_map(|(part, number)| {
        let Content::Inline(bytes) = &part.content else { return None };
        let mut name = part.name.as_str().to_owned();
        while !taken.insert(name.to_lowercase()) {
            name = format!("{number}-{name}");
            if name.len() > PART_NAME_BYTES_MAX {
                name = number.to_string();
            }
        }
        Some((name, bytes.to_vec()))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::{Content, Digest, Part};
    use crate::time::Time;

    fn envelope(names: &[&str]) -> Envelope {
        let part = |name: &&str| Part {
            name: name.parse().unwrap(),
            media_type: "text/plain".parse().unwrap(),
            size: 1,
            salt: [0; 16],
            digest: Digest([0; 32]),
            content: Content::Inline(Bytes::from_static(b"x")),
        };
        Envelope {
            id: crate::id::MessageId::from_bytes([1; 16]),
            from: crate::cli::client::address("450200/window").unwrap(),
            to: None,
            jurisdiction: None,
            redrive_of: None,
            item_code: "A".parse().unwrap(),
            case_no: None,
            step: None,
            mode: None,
            in_reply_to: None,
            parts: names.iter().map(part).collect(),
            sealed: None,
            attributes: Default::default(),
            created_at: Time::ZERO.into(),
            expires_at: None,
            traceparent: None,
        }
    }

    #[test]
    fn every_part_has_a_file_of_its_own() {
        let names: Vec<_> = named(&envelope(&["a", "A", "3-a", "a", "b"])).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "2-A", "3-a", "4-a", "b"]);
        let long = "x".repeat(PART_NAME_BYTES_MAX);
        let names: Vec<_> = named(&envelope(&[&long, &long, "2"])).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [long.as_str(), "2", "3-2"]);
    }
}
