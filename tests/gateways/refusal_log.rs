//! An operator reads in the log why a caller was turned away: one line, with the exact reason and the name it claimed.

use crate::alliance;
use crate::process::{self, Process, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_the_exact_reason_of_a_refused_certificate() {
    let alliance = process::alliance(&[("450200", &["window", "old"]), ("440600", &["approval"])]);
    alliance.run(&["pki", "revoke", "450200", "system/old"], &["--dir", &alliance.pki()]);
    let gateway = Process::start(&alliance, "450200").await;
    let id = alliance::new_id();
    alliance.client("450200", "old").message("", &id).await.expect_err("a revoked certificate");
    until("the log tells of the revoked one", async || gateway.said().contains("refused reason=\"revoked\"")).await;
    let line = gateway.said().lines().find(|line| line.contains("revoked")).unwrap().to_owned();
    assert!(line.contains("name=\"spiffe://alliance.example/city/450200/system/old\""), "{line}");
    assert!(
        alliance
            .client("450200", "window")
            .message("", &id)
            .await
            .is_err_and(|status| { alliance::reason(&status) == "MESSAGE_NOT_FOUND" })
    );
    gateway.stop().await;
}
