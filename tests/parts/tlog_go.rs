//! Decides, where Go is installed, whether a verifier that is not ours says of receipts what ours says.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::receipts::{SIZES, leaf, log_key, receipts};

/// Runs the verifier in Go on a directory; `None` where Go or its package is missing.
fn verdict_in_go(dir: &Path) -> Option<(i32, String)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go/run.sh");
    let output = Command::new("sh").arg(script).arg(dir).arg(dir.join("trust")).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    println!("{said}");
    let code = output.status.code().unwrap();
    (code != 77).then_some((code, said))
}

#[test]
fn a_verifier_in_go_agrees() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("receipts-for-go");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("trust"), format!("{}\n", log_key().verifying_key())).unwrap();
    for size in SIZES {
        for receipt in receipts(size) {
            let name = format!("{size}-{}", receipt.index);
            fs::write(dir.join(format!("{name}.leaf")), leaf(receipt.index)).unwrap();
            fs::write(dir.join(format!("{name}.tlog-proof")), receipt.to_text()).unwrap();
        }
    }
    let Some((code, said)) = verdict_in_go(&dir) else {
        return;
    };
    assert_eq!((code, said.as_str()), (0, "1106 verified\n"));

    fs::write(dir.join("100-42.leaf"), "another leaf").unwrap();
    let (code, said) = verdict_in_go(&dir).unwrap();
    assert_eq!(code, 1);
    assert!(said.contains("100-42"), "{said}");
}
