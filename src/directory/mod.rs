//! Decides whom an alliance knows: which members it has, and by which roots, pins and log keys each is recognised.
//! Never reads a file, a clock or the network, and never lets one member speak for another.
//!
//! Two documents stand here, both C2SP signed notes over canonical JSON (RFC 8785): the *member record*, signed by the
//! member's own key, and the *directory*, the list of all records, signed by the alliance. The alliance thus says who is a
//! member and by which key; only the member says what holds for it.

pub(crate) mod canonical;

pub mod book;
mod decisions;
mod generation;
pub mod notes;
pub mod record;
mod sealing;

pub use book::{
    Directory, DirectoryError, Entry, KeyChange, Update, UpdateError, accepts_update, accepts_update_by, changed_keys,
};
pub use canonical::CanonicalError;
pub use decisions::{Believed, Decisions, DecisionsError, Suspension};
pub use generation::Generation;
pub use record::{CrlPolicy, Endpoint, Fault, MemberRecord, RecordError};
pub use sealing::{HubForm, SealingKey, SealingKeyId, hub_form, may_go_open};

use sha2::{Digest, Sha256};

use crate::party::{Alliance, Member};
use crate::tlog::note::VerifyingKey;

/// The name of the alliance's own key, e.g. `directory.alliance.example`.
pub fn alliance_key_name(alliance: &Alliance) -> String {
    format!("directory.{}", alliance.as_str())
}

/// The name of a member's key, e.g. `450200.member.alliance.example` or `hub-main.member.alliance.example`.
pub fn member_key_name(alliance: &Alliance, member: &Member) -> String {
    format!("{}.member.{}", dashed(member), alliance.as_str())
}

/// How the origin of every log of a member begins, e.g. `450200.gateway.alliance.example/log/`; an instance and a
/// generation follow.
pub fn log_origin_prefix(alliance: &Alliance, member: &Member) -> String {
    format!("{}.gateway.{}/log/", dashed(member), alliance.as_str())
}

/// What two people compare over the telephone before they trust a key: the first 16 bytes of SHA-256 over its vkey line,
/// in eight groups of four hexadecimal digits. 128 bits resist a second key made to fit.
pub fn fingerprint(key: &VerifyingKey) -> String {
    let digest = Sha256::digest(key.to_string());
    let groups: Vec<String> = digest.chunks(2).take(8).map(hex::encode).collect();
    groups.join(" ")
}

/// Whether two fingerprints are one, however a person parted their groups and wrote their letters.
pub fn same_fingerprint(one: &str, other: &str) -> bool {
    let digits = |text: &str| text.split_whitespace().collect::<String>().to_ascii_lowercase();
    digits(one) == digits(other)
}

/// A member's name where no slash may stand, in key names, log names and file names: `450200` or `hub-<name>`.
pub fn dashed(member: &Member) -> String {
    member.to_string().replace('/', "-")
}
