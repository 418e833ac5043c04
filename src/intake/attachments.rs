//! Decides whether a message has its attachments: each uploaded whole by the very identity that submits, with the size,
//! the salt and the digests that the message names. Never takes another's bytes for it.

use crate::blobs::{Blobs, Claim, Need, Owner, Unclaimed, Want, aside};
use crate::message::{Content, Envelope};
use crate::reason::Reason;
use crate::wire::status::Refused;

/// What the message needs, with the field that names it.
fn needs(envelope: &Envelope) -> Vec<(String, Need)> {
    if let Some(sealed) = &envelope.sealed {
        let need = |(place, attached): (usize, &crate::message::Attached)| {
            let want = Want { digest: attached.digest, size: attached.size, salt: None };
            (format!("envelope.sealed.attachments[{place}]"), Need { want, salted: None })
        };
        return sealed.attachments.iter().enumerate().map(need).collect();
    }
    let parts = envelope.parts.iter().enumerate().filter_map(|(place, part)| match part.content {
        Content::Inline(_) => None,
        Content::Attachment(digest) => {
            let want = Want { digest, size: part.size, salt: Some(part.salt) };
            Some((format!("envelope.parts[{place}].attachment"), Need { want, salted: Some(part.digest) }))
        }
    });
    parts.collect()
}

/// Makes the uploads that the message names into blobs and holds them: durable on return. Settle the claim when the ledger
/// has accepted the message; dropped before, it leaves the uploads for the next try.
///
/// # Errors
/// `ATTACHMENT_MISSING`, naming the field; the store's own trouble.
pub async fn claim(blobs: &Blobs, owner: &Owner, envelope: &Envelope) -> Result<Claim, Refused> {
    let (fields, needs): (Vec<String>, Vec<Need>) = needs(envelope).into_iter().unzip();
    let (blobs, owner) = (blobs.clone(), owner.clone());
    aside(move || blobs.claim(&owner, &needs)).await.map_err(|error| told(error, &fields))
}

/// Holds the blobs that the message names, which another message of the same sender refers to.
///
/// # Errors
/// As [`claim`].
pub async fn keep(blobs: &Blobs, envelope: &Envelope) -> Result<Claim, Refused> {
    let (fields, needs): (Vec<String>, Vec<Need>) = needs(envelope).into_iter().unzip();
    let blobs = blobs.clone();
    aside(move || blobs.keep(&needs)).await.map_err(|error| told(error, &fields))
}

fn told(error: Unclaimed, fields: &[String]) -> Refused {
    match error {
        Unclaimed::Missing(place) => {
            Refused::new(Reason::AttachmentMissing).with_detail(fields.get(place).cloned().unwrap_or_default())
        }
        Unclaimed::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => Refused::new(Reason::StoreFull),
        Unclaimed::Io(error) => {
            tracing::error!(%error, "the attachment store cannot be used");
            Refused::new(Reason::StoreUnavailable)
        }
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::blobs::Bounds;
    use crate::message::{Address, Attached, Digest, Part, Sealed, part_digest};
    use crate::time::Time;

    fn envelope(parts: Vec<Part>, sealed: Option<Sealed>) -> Envelope {
        Envelope {
            id: crate::id::MessageId::from_bytes([1; 16]),
            from: Address { city: "450200".parse().unwrap(), system: None },
            to: None,
            jurisdiction: None,
            redrive_of: None,
            item_code: "A".parse().unwrap(),
            case_no: None,
            step: None,
            mode: None,
            in_reply_to: None,
            parts,
            sealed,
            attributes: Default::default(),
            created_at: Time::ZERO.into(),
            expires_at: None,
            traceparent: None,
        }
    }

    fn attached(bytes: &[u8]) -> Part {
        Part {
            name: "a".parse().unwrap(),
            media_type: "text/plain".parse().unwrap(),
            size: bytes.len() as u64,
            salt: [5; 16],
            digest: part_digest(&[5; 16], bytes),
            content: Content::Attachment(Digest(Sha256::digest(bytes).into())),
        }
    }

    #[tokio::test]
    async fn a_message_has_its_attachments_only_when_each_was_uploaded_as_it_says() {
        let folder = std::env::temp_dir().join(format!("tongban-claim-{}", std::process::id()));
        let bounds = Bounds { reserve_bytes: 0, ..Bounds::default() };
        let blobs = Blobs::open_with(folder.clone(), bounds).unwrap();
        let (alice, bob) = (Owner::identity("alice"), Owner::identity("bob"));
        let digest = Digest(Sha256::digest(b"bytes").into());
        let sealed = Sealed {
            key_id: [0; 8],
            encapsulated: [0; 32],
            ciphertext: bytes::Bytes::new(),
            parts_digest: digest,
            parts: 1,
            total_size: 5,
            attachments: vec![Attached { digest, size: 5 }],
        };
        let inline = Part { content: Content::Inline(bytes::Bytes::from_static(b"bytes")), ..attached(b"bytes") };
        let plain = envelope(vec![inline.clone(), attached(b"bytes")], None);
        let hidden = envelope(vec![], Some(sealed));
        let stage = |owner: &Owner, salt| {
            let mut upload = blobs.begin(owner, Want { digest, size: 5, salt }).unwrap();
            upload.write(b"bytes").unwrap();
            upload.finish().unwrap();
        };
        let missing = async |owner, envelope| {
            let refused = claim(&blobs, owner, envelope).await.unwrap_err();
            assert_eq!(refused.reason, Reason::AttachmentMissing);
            refused.detail
        };

        assert!(claim(&blobs, &alice, &envelope(vec![inline], None)).await.is_ok(), "nothing is needed");
        assert_eq!(missing(&alice, &plain).await, "envelope.parts[1].attachment");
        assert_eq!(missing(&alice, &hidden).await, "envelope.sealed.attachments[0]");
        stage(&alice, Some([5; 16]));
        assert_eq!(missing(&bob, &plain).await, "envelope.parts[1].attachment");
        assert_eq!(missing(&alice, &hidden).await, "envelope.sealed.attachments[0]");
        drop(claim(&blobs, &alice, &plain).await.unwrap());
        claim(&blobs, &alice, &plain).await.unwrap().settle();
        assert_eq!(missing(&alice, &plain).await, "envelope.parts[1].attachment");
        stage(&bob, None);
        let held = claim(&blobs, &bob, &hidden).await.unwrap();
        assert_eq!(held.pins().len(), 1);
        let mut lying = plain.clone();
        lying.parts[1].digest = digest;
        stage(&alice, Some([5; 16]));
        assert_eq!(missing(&alice, &lying).await, "envelope.parts[1].attachment", "the salted digest is checked");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
