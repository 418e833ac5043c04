//! Decides how a message and a receipt are named: UUIDs in canonical text, 16 bytes inside. Never invents an id from
//! nowhere: time and chance are arguments.

use std::fmt;
use std::str::FromStr;

use crate::time::Time;

/// Text that is not a UUID in canonical form: 36 characters, lower case, with hyphens (RFC 9562 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a UUID in canonical lower-case form, e.g. 0197d2a0-5b1c-7cc3-98c4-dc0c0c07398f")]
pub struct IdError;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The id with these 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 bytes of the UUID.
            pub const fn bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// A UUIDv7 (RFC 9562 §5.7) of this moment, its other 74 bits from `chance`.
            pub fn new_v7(at: Time, chance: [u8; 10]) -> Self {
                Self(*uuid::Builder::from_unix_timestamp_millis(at.ms(), &chance).into_uuid().as_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let uuid = uuid::Uuid::try_parse(text).map_err(|_| IdError)?;
                let id = Self(*uuid.as_bytes());
                let mut canonical = [0; 36];
                if uuid.hyphenated().encode_lower(&mut canonical) == text { Ok(id) } else { Err(IdError) }
            }
        }
    };
}

uuid_id! {
    /// A message's id: chosen by its sender, unique within the sending city; version 7 is advised.
    MessageId
}
uuid_id! {
    /// A receipt's id: a UUIDv7 chosen by the issuing gateway.
    ReceiptId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_an_id() {
        let text = "0197d2a0-5b1c-7cc3-98c4-dc0c0c07398f";
        assert_eq!(text.parse::<MessageId>().map(|id| id.to_string()).as_deref(), Ok(text));
        for other in [
            "",
            &text.to_uppercase(),
            &text.replace('-', ""),
            &format!("{{{text}}}"),
            &format!("urn:uuid:{text}"),
            &text[1..],
        ] {
            assert_eq!(other.parse::<MessageId>(), Err(IdError), "{other}");
        }
    }

    #[test]
    fn a_new_id_tells_its_moment_and_version() {
        let id = ReceiptId::new_v7(Time::from_ms(0x0197_d2a0_5b1c), [0xff; 10]);
        assert!(id.to_string().starts_with("0197d2a0-5b1c-7"));
    }
}
