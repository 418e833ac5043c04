//! Plants a bug, and runs one test of this very binary with it, to see that test fail: a test of the test.
#![allow(dead_code, reason = "a release has nothing to plant")]

use std::process::Command;

/// The environment variable that names the bug.
const PLANTED: &str = "TONGBAN_PLANTED";

/// Plants what the environment names, where this build has bugs to plant.
pub fn take_up() {
    #[cfg(debug_assertions)]
    if let Ok(name) = std::env::var(PLANTED) {
        tongban::planted::plant(&name);
    }
}

/// What `test` says when it fails, as it must, with the bug of this name planted.
pub fn fails(bug: &str, test: &str, settings: &[(&str, String)]) -> String {
    let mut run = Command::new(std::env::current_exe().unwrap());
    run.args(["--exact", test, "--nocapture"]).env(PLANTED, bug);
    run.envs(settings.iter().map(|(name, value)| (name, value)));
    let run = run.output().unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(told.contains("running 1 test"), "{test} is no test of this binary:\n{told}");
    assert!(!run.status.success(), "{bug} is planted, and {test} does not notice:\n{told}");
    told
}
