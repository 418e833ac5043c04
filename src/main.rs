//! The `tongban` command: hands its arguments to the command line floor and exits with its answer.

use std::process::ExitCode;

fn main() -> ExitCode {
    tongban::cli::run()
}
