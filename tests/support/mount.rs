//! File systems of a test's own: small ones, slow ones, broken ones.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::Path;
use std::process::Command;

/// A file system that is taken away at the end.
pub struct Mount<'a>(&'a Path);

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// Mounts; prints that the test is skipped where that is not allowed.
pub fn mount<'a>(arguments: &[&str], at: &'a Path) -> Option<Mount<'a>> {
    std::fs::create_dir_all(at).unwrap();
    let mounted = Command::new("mount").args(arguments).arg(at).output();
    if mounted.as_ref().is_ok_and(|output| output.status.success()) {
        return Some(Mount(at));
    }
    println!("SKIPPED: mount {arguments:?} is not allowed here: {mounted:?}");
    None
}
