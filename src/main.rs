//! The `tongban` command: hands its arguments to the command line floor and exits with its answer.

fn main() {}
