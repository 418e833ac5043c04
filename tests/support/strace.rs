//! Words for strace: what it does to a gateway's system calls.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// What SQLite asks a disk for, one or the other by how it was built.
pub const SYNC: &str = "fsync,fdatasync";
/// What changes a file, or makes it last.
const CHANGES: &str = "pwrite64,ftruncate,unlink,fsync,fdatasync";

/// Whether strace can follow a process here.
pub fn can_trace() -> bool {
    let probe = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    probe.is_ok_and(|output| output.status.success())
}

/// The command before a gateway's own that lets `what` happen at `calls`, if given only where they are about this file.
/// strace counts the calls of each thread by themselves; the ledger has one.
pub fn inject(calls: &str, what: &str, file: Option<&Path>) -> Vec<String> {
    command(calls, calls, what, (file.as_slice(), Path::new("/dev/null")))
}

/// The same about these files, and every call that changes one of them is written down in `told`, with each process's end.
pub fn inject_told(calls: &str, what: &str, files: &[&Path], told: &Path) -> Vec<String> {
    command(&format!("{calls},{CHANGES}"), calls, what, (files, told))
}

fn command(traced: &str, calls: &str, what: &str, (files, told): (&[&Path], &Path)) -> Vec<String> {
    let mut words = ["strace", "-D", "-f", "-q", "-y", "-o"].map(str::to_owned).to_vec();
    words.extend([told.display().to_string(), "-e".into(), format!("trace={traced}")]);
    words.extend(["-e".to_owned(), format!("inject={calls}:{what}")]);
    words.extend(files.iter().flat_map(|file| ["-P".to_owned(), real(file).display().to_string()]));
    words
}

/// The name as the kernel has it, by which strace compares; the file itself, or its folder, may not be there yet.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| real(path.parent().unwrap()).join(path.file_name().unwrap()))
}
