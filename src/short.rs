//! Decides how a short text is held: in place, without memory of its own. Names travel with every message, are copied with it
//! many times, and would be found and given back each time. Never decides which texts are names.

use std::fmt;
use std::hash::{Hash, Hasher};

/// A text of at most `N` bytes, `N` at most 255. The bytes behind it are zero, so that two are equal when their texts are.
#[derive(Clone, PartialEq, Eq)]
pub struct Short<const N: usize> {
    bytes: [u8; N],
    length: u8,
}

/// A text that has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is too long")]
pub struct TooLong;

impl<const N: usize> TryFrom<&str> for Short<N> {
    type Error = TooLong;

    fn try_from(text: &str) -> Result<Short<N>, TooLong> {
        const { assert!(N <= u8::MAX as usize) };
        let mut bytes = [0; N];
        bytes.get_mut(..text.len()).ok_or(TooLong)?.copy_from_slice(text.as_bytes());
        Ok(Short { bytes, length: text.len() as u8 })
    }
}

/// No text.
impl<const N: usize> Default for Short<N> {
    fn default() -> Short<N> {
        Short { bytes: [0; N], length: 0 }
    }
}

impl<const N: usize> AsRef<str> for Short<N> {
    fn as_ref(&self) -> &str {
        // What was put in is text; the check costs less than the memory would.
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

/// The text's bytes, which need no check.
impl<const N: usize> AsRef<[u8]> for Short<N> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// As its text, so that two orders never disagree.
impl<const N: usize> Ord for Short<N> {
    fn cmp(&self, other: &Short<N>) -> std::cmp::Ordering {
        // The order of texts is that of their bytes.
        let bytes: &[u8] = self.as_ref();
        bytes.cmp(other.as_ref())
    }
}

impl<const N: usize> PartialOrd for Short<N> {
    fn partial_cmp(&self, other: &Short<N>) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// What stands behind it is not worth hashing.
impl<const N: usize> Hash for Short<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let bytes: &[u8] = self.as_ref();
        bytes.hash(state);
    }
}

/// As its text.
impl<const N: usize> fmt::Debug for Short<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: &str = self.as_ref();
        text.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_short_text_is_the_text_and_one_too_long_is_none(text in "\\PC{0,12}", other in "\\PC{0,12}") {
            let held = Short::<16>::try_from(text.as_str());
            prop_assert_eq!(held.is_ok(), text.len() <= 16);
            let (Ok(held), Ok(others)) = (held, Short::<16>::try_from(other.as_str())) else { return Ok(()) };
            prop_assert_eq!(AsRef::<str>::as_ref(&held), text.as_str());
            prop_assert_eq!(AsRef::<[u8]>::as_ref(&held), text.as_bytes());
            prop_assert_eq!(held.cmp(&others), text.cmp(&other));
            prop_assert_eq!(held == others, text == other);
        }
    }
}
