//! Decides in which form a message goes to the next hop: as it is, or with its part list and contents sealed when the next
//! hop is a hub. A hub never gets what it could read, unless both cities' records say that it may.

use super::ground::Ground;
use super::session::Unsent;
use crate::blobs::{Owner, Want, aside};
use crate::chance;
use crate::directory::SealingKey;
use crate::intake::Rules;
use crate::ledger::Entry;
use crate::limits::CHUNK_BYTES_MAX;
use crate::message::{Attached, Content, Digest, Envelope, Sealed};
use crate::party::Member;
use crate::reason::Reason;
use crate::seal::{self, Context, StreamSealer};
use crate::store::{Seq, Stored};
use crate::wire::envelope::{kept, sealed_content, split};

/// A message in the form in which it goes.
pub struct Parcel {
    pub header: Vec<u8>,
    pub body: Vec<u8>,
    pub attachments: Vec<Want>,
}

/// Wraps a message for the next hop.
pub async fn wrap(ground: &Ground, rules: &Rules, stored: Stored, next: &Member) -> Result<Parcel, Unsent> {
    let body = stored.body.ok_or_else(|| Unsent::damaged("its body is gone".to_owned()))?;
    let envelope = kept(&stored.header, body.clone(), stored.header_digest);
    let envelope = envelope.map_err(|error| Unsent::damaged(error.to_string()))?;
    let own_city = matches!(ground.own, Member::City(_));
    if !(own_city && matches!(next, Member::Hub(_))) || envelope.sealed.is_some() {
        let attachments = envelope.attachments();
        return Ok(Parcel { header: stored.header, body, attachments: attachments_of(&envelope, &attachments) });
    }
    let recipient = Member::City(stored.recipient.city.clone());
    let Some(key) = rules.sealing_key(&recipient) else {
        if rules.unsealed_relay(&envelope.from.city, &stored.recipient.city) {
            let attachments = envelope.attachments();
            return Ok(Parcel { header: stored.header, body, attachments: attachments_of(&envelope, &attachments) });
        }
        let why = format!("the record of {recipient} has no sealing key");
        return Err(Unsent::Never(Reason::UnsealedRelay, why));
    };
    let sealed = seal_envelope(ground, rules, stored.seq, envelope, &recipient, &key).await?;
    let (header, body) = split(&sealed);
    let attachments = sealed.attachments();
    Ok(Parcel { header, body, attachments: attachments_of(&sealed, &attachments) })
}

/// What the next hop is told of each attachment: its salt, where it is not sealed.
fn attachments_of(envelope: &Envelope, attached: &[Attached]) -> Vec<Want> {
    let salts = envelope.parts.iter().filter(|part| matches!(part.content, Content::Attachment(_)));
    let mut salts = salts.map(|part| part.salt);
    attached.iter().map(|one| Want { digest: one.digest, size: one.size, salt: salts.next() }).collect()
}

async fn seal_envelope(
    ground: &Ground,
    rules: &Rules,
    seq: Seq,
    envelope: Envelope,
    recipient: &Member,
    key: &SealingKey,
) -> Result<Envelope, Unsent> {
    let header_digest = envelope.header_digest();
    let attachments = sealed_attachments(ground, rules, seq, &envelope, recipient, key).await?;
    let context = Context { alliance: &rules.alliance, recipient, header_digest };
    let sealed = seal::seal(key, &context, &sealed_content(&envelope.parts), chance()?).map_err(weak)?;
    let sealed = Sealed {
        key_id: sealed.key_id.0,
        encapsulated: sealed.encapsulated,
        ciphertext: sealed.ciphertext.into(),
        parts_digest: envelope.parts_digest(),
        parts: envelope.part_count(),
        total_size: envelope.total_size(),
        attachments,
    };
    Ok(Envelope { parts: vec![], sealed: Some(sealed), ..envelope })
}

/// The sealed form of each attachment, made once and kept: a transfer that was cut goes on over the same bytes.
async fn sealed_attachments(
    ground: &Ground,
    rules: &Rules,
    seq: Seq,
    envelope: &Envelope,
    recipient: &Member,
    key: &SealingKey,
) -> Result<Vec<Attached>, Unsent> {
    let plain: Vec<(u32, Digest)> = (0..)
        .zip(&envelope.parts)
        .filter_map(|(position, part)| match part.content {
            Content::Attachment(digest) => Some((position, digest)),
            Content::Inline(_) => None,
        })
        .collect();
    let known = ground.readers.seek(move |look| look.sealed_forms(seq)).await?;
    if known.len() == plain.len() {
        return Ok(known.into_iter().map(|(_, form)| form).collect());
    }
    let header_digest = envelope.header_digest();
    let mut forms = Vec::with_capacity(plain.len());
    let mut pins = Vec::with_capacity(plain.len());
    for (position, digest) in plain {
        let (blobs, alliance, recipient, key) = (ground.blobs.clone(), rules.alliance.clone(), recipient.clone(), *key);
        let work = move || {
            let context = Context { alliance: &alliance, recipient: &recipient, header_digest };
            seal_blob(&blobs, &digest, &key, &context, position)
        };
        let (form, pin) = aside(work).await?;
        forms.push(form);
        pins.push(pin);
    }
    let entry = Entry::Seal { message: seq, forms: forms.iter().copied().enumerate().collect() };
    let written = ground.ledger.enter(entry).await;
    drop(pins);
    written.map_err(|error| Unsent::NotNow(error.to_string()))?;
    Ok(forms)
}

/// Seals one blob into another. It blocks on the disk.
fn seal_blob(
    blobs: &crate::blobs::Blobs,
    digest: &Digest,
    key: &SealingKey,
    context: &Context<'_>,
    position: u32,
) -> Result<(Attached, crate::blobs::Pin), Unsent> {
    let not_now = |error: &dyn std::fmt::Display| Unsent::NotNow(format!("sealing an attachment: {error}"));
    let gone = || Unsent::damaged("an attachment is gone".to_owned());
    let mut chunks = blobs.read(digest, 0).map_err(|error| not_now(&error))?.ok_or_else(gone)?;
    // A first pass for the digest, a second to write it: with the same chance both give the same bytes.
    let chance = chance()?;
    let mut sums = crate::blobs::Sums::new(None);
    let mut size = 0;
    let pass = |chunks: &mut crate::blobs::Chunks<_>, put: &mut dyn FnMut(&[u8]) -> Result<(), Unsent>| {
        let mut out = Vec::with_capacity(2 * CHUNK_BYTES_MAX);
        let mut sealer = StreamSealer::begin(key, context, position, chance, &mut out).map_err(weak)?;
        while let Some(plain) = chunks.next_chunk().map_err(|error| not_now(&error))? {
            sealer.write(&plain, &mut out).map_err(weak)?;
            put(&out)?;
            out.clear();
        }
        sealer.finish(&mut out).map_err(weak)?;
        put(&out)
    };
    pass(&mut chunks, &mut |bytes| {
        sums.update(bytes);
        size += bytes.len() as u64;
        Ok(())
    })?;
    let want = Want { digest: sums.finish().0, size, salt: None };
    let owner = Owner::identity("sealing");
    let mut upload = blobs.begin(&owner, want).map_err(|error| not_now(&error))?;
    // What is there of an earlier try has another digest: this upload is always new.
    let mut chunks = blobs.read(digest, 0).map_err(|error| not_now(&error))?.ok_or_else(gone)?;
    pass(&mut chunks, &mut |bytes| upload.write(bytes).map_err(|error| not_now(&error)))?;
    upload.finish().map_err(|error| not_now(&error))?;
    let pin = blobs.adopt(&owner, &want).map_err(|error| not_now(&error))?.ok_or_else(gone)?;
    blobs.forget(&owner, &want).map_err(|error| not_now(&error))?;
    Ok((Attached { digest: want.digest, size }, pin))
}

fn chance() -> Result<[u8; 32], Unsent> {
    chance::bytes().map_err(|error| Unsent::NotNow(error.to_string()))
}

fn weak(error: seal::SealError) -> Unsent {
    Unsent::Never(Reason::SealInvalid, error.to_string())
}
