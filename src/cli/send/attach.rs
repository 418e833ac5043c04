//! Decides how files go beside a message: hashed with the part's salt, uploaded before the message is submitted. Never
//! holds more than a piece of one.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::super::client::Client;
use super::super::{Exit, Failure, Out};
use super::draft;
use crate::blobs::{Chunks, Sums, Want};
use crate::lang::io_zh;
use crate::limits::ATTACHMENT_BYTES_MAX;
use crate::message::{Content, Envelope, MediaType, Part, PartName};

/// A file that goes beside the message.
#[derive(Debug, Clone)]
pub struct Attachment {
    pub path: PathBuf,
    name: PartName,
    media_type: MediaType,
}

impl Attachment {
    /// A file that is there and not too large.
    pub fn find(path: &Path) -> Result<Attachment, Failure> {
        let size = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?.len();
        if size > ATTACHMENT_BYTES_MAX {
            let en = format!("{size} bytes; an attachment has at most {ATTACHMENT_BYTES_MAX}");
            let zh = format!("{size} 字节，单个附件至多 {ATTACHMENT_BYTES_MAX} 字节");
            return Err(Failure::new(Exit::Data, en, zh).at(path.display()));
        }
        let (name, media_type) = draft::name_and_type(path)?;
        Ok(Attachment { path: path.to_owned(), name, media_type })
    }

    /// The part that refers to it, with this salt. Reads the file once.
    pub fn part(&self, salt: [u8; 16]) -> Result<Part, Failure> {
        let failed = |error| unreadable(&self.path, &error);
        let (mut sums, mut size) = (Sums::new(Some(&salt)), 0);
        let opened = File::open(&self.path).and_then(|file| Chunks::of_file(file, 0)).map_err(failed)?;
        if let Some(mut chunks) = opened {
            while let Some(chunk) = chunks.next_chunk().map_err(failed)? {
                sums.update(&chunk);
                size += chunk.len() as u64;
            }
        }
        let (plain, salted) = sums.finish();
        let (name, media_type) = (self.name.clone(), self.media_type.clone());
        Ok(Part { name, media_type, size, salt, digest: salted, content: Content::Attachment(plain) })
    }
}

/// Uploads what the envelope refers to.
pub async fn bring(client: &Client, files: &[Attachment], envelope: &Envelope, out: &Out) -> Result<(), Failure> {
    let attached = envelope.parts.iter().filter_map(|part| match part.content {
        Content::Attachment(digest) => Some(Want { digest, size: part.size, salt: Some(part.salt) }),
        Content::Inline(_) => None,
    });
    for (file, want) in files.iter().zip(attached) {
        let bar = out.bytes_bar(want.size);
        let brought = client.bring(&file.path, &want, |durable| bar.set_position(durable)).await;
        bar.finish_and_clear();
        brought?;
    }
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NoInput } else { Exit::Io };
    Failure::new(exit, error, format!("无法读取：{}", io_zh(error))).at(path.display())
}
