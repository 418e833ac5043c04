//! Decides how files become one archive: POSIX tar (ustar), uncompressed, the same bytes for the same files and moment. Never
//! touches a disk.

use crate::cli::receipt::Files;
use crate::time::Time;

const BLOCK: usize = 512;
/// Bytes of a name, and of the folders before it, in a header of this form.
const NAME_MAX: usize = 100;
const PREFIX_MAX: usize = 155;

/// A file whose path or size this form cannot carry.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: too long a path or too large a file for the archive")]
pub struct TarError(String);

/// Packs files, their paths as given, all of them written at `at`.
///
/// # Errors
/// A path whose last part is over 100 bytes or whose folders are over 155; a file of 8 GiB or more.
pub fn tar(files: &Files, at: Time) -> Result<Vec<u8>, TarError> {
    let mut archive = Vec::new();
    for (path, bytes) in files {
        archive.extend(header(path, bytes.len() as u64, at).ok_or_else(|| TarError(path.clone()))?);
        archive.extend(bytes);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    archive.resize(archive.len() + 2 * BLOCK, 0);
    Ok(archive)
}

fn header(path: &str, size: u64, at: Time) -> Option<[u8; BLOCK]> {
    let (prefix, name) = path.rsplit_once('/').unwrap_or(("", path));
    if name.len() > NAME_MAX || prefix.len() > PREFIX_MAX || size >= 1 << 33 {
        return None;
    }
    let mut header = [0; BLOCK];
    let mut put = |place: usize, text: &str| header[place..place + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, &format!("{:011o}\0", at.ms() / 1000));
    // The sum is taken with spaces in its own place.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    put(345, prefix);
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_blocks_with_sums_and_an_end() {
        let files = vec![("a/b".to_owned(), b"hello".to_vec()), ("a/c".to_owned(), vec![7; 513])];
        let archive = tar(&files, Time::from_ms(1_000)).unwrap();
        assert_eq!(archive.len(), BLOCK * (2 + 3 + 2));
        assert_eq!(
            (&archive[..2], &archive[124..136], &archive[257..265]),
            (&b"b\0"[..], &b"00000000005\0"[..], &b"ustar\x0000"[..])
        );
        assert_eq!(&archive[345..347], b"a\0");
        let mut summed = archive[..BLOCK].to_vec();
        summed[148..156].fill(b' ');
        let sum: u32 = summed.iter().map(|byte| u32::from(*byte)).sum();
        assert_eq!(&archive[148..156], format!("{sum:06o}\0 ").as_bytes());
        let long = vec![("x".repeat(101), vec![])];
        assert_eq!(tar(&long, Time::ZERO), Err(TarError("x".repeat(101))));
    }
}
