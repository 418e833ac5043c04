//! The program as a person at a terminal has it: each command a process, against gateways that are processes too.

#[path = "../support/alliance.rs"]
mod alliance;
#[path = "../support/port.rs"]
mod port;
#[path = "../support/terminal.rs"]
mod terminal;
#[path = "../support/wording.rs"]
mod wording;

mod attachments_cli;
mod case_export;
mod cli_admin;
mod cli_bench;
mod cli_config;
mod cli_dead;
mod cli_demo;
mod cli_keys;
mod cli_lies;
mod cli_pki;
mod cli_route;
mod cli_trace;
mod cli_verify;
mod cli_walk;
mod doors_cli;
mod leaks;
mod words;
