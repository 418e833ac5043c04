//! Decides how what a command was sent lands on disk: never over another file, and whole and durable where somebody lets go
//! of it afterwards. Never follows a path that came over the wire: names are given by the caller, one level deep.

#![allow(clippy::disallowed_methods, reason = "writes, syncs and renames")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::{Exit, Failure};
use crate::blobs::{Chunks, Sums};
use crate::keys::KeyFileError;
use crate::lang::io_zh;
use crate::limits::SALT_BYTES;
use crate::message::Digest;

/// Makes a folder and all above it.
pub fn folder(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(|fault| {
        let path = path.display();
        Failure::new(Exit::CantCreate, format!("{path}: {fault}"), format!("{path}：无法建立文件夹：{}", io_zh(&fault)))
    })
}

/// Writes files into a folder that exists. A file that is there with the same content stays; one with another content
/// refuses the whole, before anything is written.
pub fn keep(folder: &Path, files: &[(String, Vec<u8>)]) -> Result<(), Failure> {
    let mut missing = Vec::new();
    for (name, bytes) in files {
        let path = folder.join(name);
        match fs::read(&path) {
            Ok(held) if held == *bytes => {}
            Ok(_) => return Err(KeyFileError::Exists { path }.into()),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => missing.push((name, bytes)),
            Err(source) => return Err(KeyFileError::Io { path, source }.into()),
        }
    }
    missing.into_iter().try_for_each(|(name, bytes)| write_new(&folder.join(name), bytes))
}

/// Writes a folder of files that did not exist: durable on return, and after a crash whole or absent. One that is there
/// with these very files stays as it is. Large ones, durable where they are, get a second name there instead.
pub fn keep_folder(
    folder: &Path,
    files: &[(String, Vec<u8>)],
    large: &[(String, std::path::PathBuf)],
) -> Result<(), Failure> {
    if folder.exists() {
        keep(folder, files)?;
        link(folder, large)?;
        return sync(folder, files);
    }
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
        return Err(KeyFileError::NotAFile { path: folder.to_owned() }.into());
    };
    // Left behind by a command that was cut off; nothing in it was ever acknowledged.
    let unfinished = parent.join(format!(".{}.new", name.to_string_lossy()));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    self::folder(&unfinished)?;
    keep(&unfinished, files)?;
    link(&unfinished, large)?;
    sync(&unfinished, files)?;
    fs::rename(&unfinished, folder)?;
    Ok(File::open(parent)?.sync_all()?)
}

fn link(folder: &Path, large: &[(String, std::path::PathBuf)]) -> Result<(), Failure> {
    for (name, from) in large {
        let path = folder.join(name);
        fs::hard_link(from, &path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists { path },
            _ => KeyFileError::Io { path, source },
        })?;
    }
    Ok(())
}

/// SHA-256 of the salt and a file's bytes; none when there is no such file.
pub fn salted_digest(path: &Path, salt: &[u8; SALT_BYTES]) -> Result<Option<Digest>, Failure> {
    let file = match File::open(path) {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut sums = Sums::new(Some(salt));
    if let Some(mut chunks) = Chunks::of_file(file, 0)? {
        while let Some(chunk) = chunks.next_chunk()? {
            sums.update(&chunk);
        }
    }
    Ok(Some(sums.finish().1))
}

fn sync(folder: &Path, files: &[(String, Vec<u8>)]) -> Result<(), Failure> {
    for (name, _) in files {
        File::open(folder.join(name))?.sync_all()?;
    }
    Ok(File::open(folder)?.sync_all()?)
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = OpenOptions::new().write(true).create_new(true).open(path).and_then(|mut file| {
        let written = file.write_all(bytes);
        if written.is_err() {
            // What is half written is of no use; the first fault is the one to tell.
            let _ = fs::remove_file(path);
        }
        written
    });
    written.map_err(|source| {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists { path }.into(),
            _ => KeyFileError::Io { path, source }.into(),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn fresh(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("tongban-files-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    fn files(text: &str) -> Vec<(String, Vec<u8>)> {
        vec![("a".to_owned(), b"a".to_vec()), ("b".to_owned(), text.as_bytes().to_vec())]
    }

    #[test]
    fn keeping_twice_changes_nothing_and_another_content_is_refused_whole() {
        let dir = fresh("keep");
        folder(&dir).unwrap();
        keep(&dir, &files("one")).unwrap();
        keep(&dir, &files("one")).unwrap();
        fs::remove_file(dir.join("a")).unwrap();
        let refused = keep(&dir, &files("two")).unwrap_err();
        assert_eq!(refused.exit, Exit::CantCreate);
        assert!(!dir.join("a").exists(), "nothing is written when something is refused");
        assert_eq!(fs::read(dir.join("b")).unwrap(), b"one");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_folder_is_whole_or_absent() {
        let dir = fresh("folder");
        folder(&dir).unwrap();
        fs::create_dir(dir.join(".m.new")).unwrap();
        fs::write(dir.join(".m.new/half"), "x").unwrap();
        keep_folder(&dir.join("m"), &files("one"), &[]).unwrap();
        keep_folder(&dir.join("m"), &files("one"), &[]).unwrap();
        assert_eq!(fs::read_dir(dir.join("m")).unwrap().count(), 2);
        assert!(keep_folder(&dir.join("m"), &files("two"), &[]).is_err());
        assert!(!dir.join(".m.new").exists());
        fs::remove_dir_all(dir).unwrap();
    }
}
