//! Decides whether sealed contents are what their message says: opens them with this gateway's keys and compares every
//! digest. Blocks on the disk where attachments are sealed.

use crate::blobs::{Blobs, Claim, Need, Owner, Want};
use crate::directory::SealingKeyId;
use crate::message::{Content, Digest, Envelope, Sealed};
use crate::party::{Alliance, Member};
use crate::reason::Reason;
use crate::seal::{self, Context, OpeningKey, StreamOpener};
use crate::wire::envelope::opened_content;
use crate::wire::status::Refused;

/// Opens an envelope that came sealed: its parts are in the clear, its attachments are blobs, held by the claim.
///
/// # Errors
/// `SEAL_INVALID` with the part that is at fault.
pub fn open(
    mut envelope: Envelope,
    header_digest: Digest,
    alliance: &Alliance,
    own: &Member,
    keys: &[OpeningKey],
    blobs: &Blobs,
) -> Result<(Envelope, Claim), Refused> {
    let Some(sealed) = envelope.sealed.take() else { return Err(fault("not sealed")) };
    let context = Context { alliance, recipient: own, header_digest };
    let form = seal::Sealed {
        key_id: SealingKeyId(sealed.key_id),
        encapsulated: sealed.encapsulated,
        ciphertext: sealed.ciphertext.to_vec(),
    };
    let content = seal::open(keys, &context, &form).map_err(|error| fault(&error.to_string()))?;
    envelope.parts = opened_content(&content).map_err(|faults| match faults.first() {
        Some(first) => fault(&format!("{} {}", first.field, first.must)),
        None => fault("the part list"),
    })?;
    let told = [
        (envelope.parts_digest() == sealed.parts_digest, "parts_digest"),
        (envelope.part_count() == sealed.parts, "number of parts"),
        (envelope.total_size() == sealed.total_size, "total size"),
        (envelope.attachments().len() == sealed.attachments.len(), "number of attachments"),
    ];
    if let Some((_, part)) = told.iter().find(|(same, _)| !same) {
        return Err(fault(part));
    }
    let key = seal::opening_key(keys, form.key_id).map_err(|error| fault(&error.to_string()))?;
    let claim = open_attachments(&envelope, &sealed, key, &context, blobs)?;
    Ok((envelope, claim))
}

fn fault(what: &str) -> Refused {
    Refused::new(Reason::SealInvalid).with_detail(what.to_owned())
}

/// Opens each sealed attachment into a blob of its plaintext.
fn open_attachments(
    envelope: &Envelope,
    sealed: &Sealed,
    key: &OpeningKey,
    context: &Context<'_>,
    blobs: &Blobs,
) -> Result<Claim, Refused> {
    let owner = Owner::identity(&format!("opening/{}", envelope.id));
    let disk = |error: &dyn std::fmt::Display| Refused::new(Reason::StoreUnavailable).with_detail(error.to_string());
    let mut needs = Vec::new();
    let mut forms = sealed.attachments.iter();
    for (position, part) in (0u32..).zip(&envelope.parts) {
        let Content::Attachment(digest) = part.content else { continue };
        let Some(form) = forms.next() else { continue };
        let want = Want { digest, size: part.size, salt: Some(part.salt) };
        if blobs.staged(&owner, &want).map_err(|error| disk(&error))?.is_none() {
            let mut chunks = blobs
                .read(&form.digest, 0)
                .map_err(|error| disk(&error))?
                .ok_or_else(|| fault("a sealed attachment"))?;
            // What an earlier try left cannot be gone on with: the opener must see the sealed form from its beginning.
            blobs.forget(&owner, &want).map_err(|error| disk(&error))?;
            let mut upload = blobs.begin(&owner, want).map_err(|error| disk(&error))?;
            let mut skip = upload.offset();
            let mut opener = StreamOpener::begin(key, context, position);
            let mut plain = Vec::new();
            let mut put = |plain: &mut Vec<u8>| {
                let known = skip.min(plain.len() as u64);
                skip -= known;
                let written = upload.write(&plain[known as usize..]);
                plain.clear();
                written.map_err(|error| fault(&error.to_string()))
            };
            while let Some(bytes) = chunks.next_chunk().map_err(|error| disk(&error))? {
                opener.write(&bytes, &mut plain).map_err(|error| fault(&error.to_string()))?;
                put(&mut plain)?;
            }
            opener.finish(&mut plain).map_err(|error| fault(&error.to_string()))?;
            put(&mut plain)?;
            upload.finish().map_err(|error| fault(&error.to_string()))?;
        }
        needs.push(Need { want, salted: Some(part.digest) });
    }
    blobs.claim(&owner, &needs).map_err(|error| fault(&error.to_string()))
}
