//! Decides whether a message may refer to the attachments it names: only to what its own sender uploaded, whole. Never
//! counts a digest as a permission: that the store has the same bytes from somebody else changes nothing.

use std::io;
use std::os::unix::fs::PermissionsExt;

use super::hold::Pin;
use super::{Blobs, Owner, Want, sync};
use crate::message::Digest;

/// One attachment that a message refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    pub want: Want,
    /// The digest that stands in the part; none where the part is sealed and only its recipient can check it.
    pub salted: Option<Digest>,
}

/// Why a message cannot have its attachments.
#[derive(Debug, thiserror::Error)]
pub enum Unclaimed {
    /// The place in the list of the first that is not there, not whole, or not what the message says.
    #[error("attachment {0} is not uploaded, or is another")]
    Missing(usize),
    #[error("the attachment store: {0}")]
    Io(#[from] io::Error),
}

/// Attachments that a message is about to refer to. While it lives no sweep takes them; dropped without
/// [`Claim::settle`] it leaves the uploads for the next try.
#[derive(Debug)]
pub struct Claim {
    blobs: Blobs,
    owner: Owner,
    wants: Vec<Want>,
    pins: Vec<Pin>,
}

impl Blobs {
    /// Makes the owner's uploads into blobs, durable on return, and holds them until the ledger has answered.
    ///
    /// # Errors
    /// See [`Unclaimed`]; nothing is lost then.
    pub fn claim(&self, owner: &Owner, needs: &[Need]) -> Result<Claim, Unclaimed> {
        let mut claim = Claim { blobs: self.clone(), owner: owner.clone(), wants: vec![], pins: vec![] };
        for (place, need) in needs.iter().enumerate() {
            let staged = self.staged(owner, &need.want)?.ok_or(Unclaimed::Missing(place))?;
            if need.salted.is_some_and(|salted| salted != staged.salted) {
                return Err(Unclaimed::Missing(place));
            }
            claim.pins.push(self.adopt(owner, &need.want)?.ok_or(Unclaimed::Missing(place))?);
            claim.wants.push(need.want);
        }
        Ok(claim)
    }

    /// Holds blobs to which a message refers already, for another of the same sender, until the ledger has answered.
    ///
    /// # Errors
    /// [`Unclaimed::Missing`] for the first that is gone.
    pub fn keep(&self, needs: &[Need]) -> Result<Claim, Unclaimed> {
        let pin = |(place, need): (usize, &Need)| self.pin(&need.want.digest).ok_or(Unclaimed::Missing(place));
        let pins = needs.iter().enumerate().map(pin).collect::<Result<_, _>>()?;
        Ok(Claim { blobs: self.clone(), owner: Owner::identity("kept"), wants: vec![], pins })
    }

    /// Makes an upload that is whole into a blob, under a pin from before it has the name until the caller drops it.
    /// None when there is no such upload. The upload stays until [`Blobs::forget`].
    ///
    /// # Errors
    /// What the file system says.
    pub fn adopt(&self, owner: &Owner, want: &Want) -> io::Result<Option<Pin>> {
        let inner = &self.0;
        if inner.staged(owner, want)?.is_none() {
            return Ok(None);
        }
        let pin = Pin::new(inner.clone(), want.digest);
        let blob = inner.blob(&want.digest);
        match std::fs::hard_link(inner.of_owner(owner).join(want.name()), &blob) {
            // It has the same bytes; its name may be as young as this call, and its grace begins anew: who holds the pin may
            // be dropped while the commit is on its way.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                std::fs::set_permissions(&blob, std::fs::Permissions::from_mode(0o600))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        }
        blob.parent().map_or(Ok(()), sync)?;
        Ok(Some(pin))
    }

    /// Holds a blob that is there.
    pub fn pin(&self, digest: &Digest) -> Option<Pin> {
        let pin = Pin::new(self.0.clone(), *digest);
        self.0.blob(digest).exists().then_some(pin)
    }
}

impl Claim {
    /// The reference is committed: the uploads have done their work. One that cannot be removed goes with its age.
    pub fn settle(self) {
        for want in &self.wants {
            if let Err(error) = self.blobs.forget(&self.owner, want) {
                tracing::warn!(%error, "an upload that was claimed is not removed yet");
            }
        }
    }

    /// The blobs that are held.
    pub fn pins(&self) -> &[Pin] {
        &self.pins
    }
}
