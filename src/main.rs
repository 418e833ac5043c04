//! The `tongban` command: hands its arguments to the command line floor and exits with its answer.

use std::process::ExitCode;

/// A message makes many small pieces of memory, freed by another thread than the one that took them: for that the system's
/// allocator took a fifth of a gateway's processor time (docs/performance.md).
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tongban::cli::run()
}
