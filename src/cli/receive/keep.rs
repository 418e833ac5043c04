//! Decides where the parts of a received message are kept: a folder named by the message's id, a file for each part.
//! Never leaves that folder, and never overwrites.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::super::client::Client;
use super::super::{Failure, Out, files};
use crate::courier::attachments::Ask;
use crate::limits::PART_NAME_BYTES_MAX;
use crate::message::{Content, Envelope, Part};

/// Where a message's parts go while its attachments come in, and then.
pub struct Place {
    folder: PathBuf,
    /// Attachments so far; a later delivery goes on with them.
    coming: PathBuf,
}

impl Place {
    pub fn below(dir: &Path, envelope: &Envelope) -> Result<Place, Failure> {
        files::folder(dir)?;
        let id = envelope.id.to_string();
        Ok(Place { folder: dir.join(&id), coming: dir.join(format!(".{id}.coming")) })
    }

    /// Downloads the attachments that are not there yet.
    pub async fn fetch(&self, client: &Client, envelope: &Envelope, out: &Out) -> Result<(), Failure> {
        for (number, (name, part)) in named(envelope).iter().enumerate() {
            let Content::Attachment(digest) = part.content else { continue };
            if files::salted_digest(&self.folder.join(name), &part.salt)? == Some(part.digest) {
                continue;
            }
            files::folder(&self.coming)?;
            let ask = Ask { from_city: envelope.from.city.clone(), message: envelope.id, digest };
            let bar = out.bytes_bar(part.size);
            let path = self.coming.join(number.to_string());
            let taken = client.take(&ask, part, &path, |here| bar.set_position(here)).await;
            bar.finish_and_clear();
            taken?;
        }
        Ok(())
    }

    /// Puts the parts into the message's folder, durably; returns it.
    pub fn keep(self, envelope: &Envelope) -> Result<PathBuf, Failure> {
        let (mut inline, mut large) = (vec![], vec![]);
        for (number, (name, part)) in named(envelope).into_iter().enumerate() {
            match &part.content {
                Content::Inline(bytes) => inline.push((name, bytes.to_vec())),
                Content::Attachment(_) => {
                    let path = self.coming.join(number.to_string());
                    large.extend(path.exists().then_some((name, path)));
                }
            }
        }
        files::keep_folder(&self.folder, &inline, &large)?;
        if self.coming.exists() {
            std::fs::remove_dir_all(&self.coming)?;
        }
        Ok(self.folder)
    }
}

/// Part names are no paths (see [`crate::message::PartName`]); a name that stands twice, also in other letters' case, gets
/// its number in front.
fn named(envelope: &Envelope) -> Vec<(String, &Part)> {
    let mut taken = HashSet::new();
    let named = envelope.parts.iter().zip(1..).map(|(part, number)| {
        let mut name = part.name.as_str().to_owned();
        while !taken.insert(name.to_lowercase()) {
            name = format!("{number}-{name}");
            if name.len() > PART_NAME_BYTES_MAX {
                name = number.to_string();
            }
        }
        (name, part)
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::Digest;
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

    fn names_of(envelope: &Envelope) -> Vec<String> {
        named(envelope).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn every_part_has_a_file_of_its_own() {
        let names = names_of(&envelope(&["a", "A", "3-a", "a", "b"]));
        assert_eq!(names, ["a", "2-A", "3-a", "4-a", "b"]);
        let long = "x".repeat(PART_NAME_BYTES_MAX);
        let names = names_of(&envelope(&[&long, &long, "2"]));
        assert_eq!(names, [long.as_str(), "2", "3-2"]);
    }
}
