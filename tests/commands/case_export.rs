//! Decides whether the file of a case is enough for a stranger: everything in it verifies with nothing else at hand, a changed
//! byte does not, and no word that came over the wire becomes markup. Real gateways, real processes.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::terminal::{Gateway, Town};
use serde_json::Value;

/// A case number that would be markup, and a path.
const CASE: &str = "GX/2026<script>alert(1)</script>";
const TOP: &str = "case-GX2026scriptalert1script-";

fn sent(town: &Town, from: &str, to: &str, more: &str) -> String {
    let line = format!("send --as {from} --to {to} --item A-1 --case {CASE} {more}");
    town.terminal.json(0, &line)["message_id"].as_str().unwrap().to_owned()
}

fn ended(town: &Town, who: &str, id: &str) {
    town.terminal.ends(0, &format!("receipt export --as {who} {id} --out ended-{id} --wait"));
}

/// Three messages in both directions, the last one refused; another case beside it.
fn town(name: &str) -> (Town, [String; 3]) {
    let town = Town::new("case_export", name);
    let terminal = &town.terminal;
    terminal.ends(0, "pki add-ops 450200 li");
    fs::write(terminal.path("<img src=x>.txt"), "秘密内容").unwrap();
    let mut command = terminal.command(&format!(
        "send --as 450200/window --to 440600/approval --item A-1 --step apply --case {CASE} --json --attribute note=<b>x</b> --file"
    ));
    let output = command.arg("<img src=x>.txt").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let first: Value = serde_json::from_slice(&output.stdout).unwrap();
    let first = first["message_id"].as_str().unwrap().to_owned();
    terminal.ends(0, "receive --as 440600/approval --ack --count 1");
    ended(&town, "450200/window", &first);
    let answer =
        sent(&town, "440600/approval", "450200/window", &format!("--step accept --text 已受理 --in-reply-to {first}"));
    terminal.ends(0, "receive --as 450200/window --ack --count 1");
    ended(&town, "440600/approval", &answer);
    let refused = sent(&town, "450200/window", "440600/approval", "--step supplement --text 补正");
    terminal.ends(0, "receive --as 440600/approval --refuse NO_FORM --text <i>缺少申请表</i>");
    ended(&town, "450200/window", &refused);
    terminal.ends(0, "send --as 450200/window --to 440600/approval --item A-1 --case 2026<script>alert(1)</script>");
    (town, [first, answer, refused])
}

/// All files below a folder, by their paths.
fn files(folder: &Path) -> Vec<String> {
    let mut found = vec![];
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path.strip_prefix(folder).unwrap().display().to_string()),
            }
        }
    }
    found.sort();
    found
}

/// The same receipts before somebody else's verifier, written in another language from the published formats.
fn go_verifies(town: &Town, top: &Path, all: &[String]) {
    let flat = town.terminal.path("flat");
    fs::create_dir(&flat).unwrap();
    for (name, number) in all.iter().filter(|name| name.ends_with(".leaf")).zip(1..) {
        for ending in ["leaf", "tlog-proof"] {
            fs::copy(top.join(name).with_extension(ending), flat.join(format!("{number}.{ending}"))).unwrap();
        }
    }
    let verifier = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go/run.sh");
    let output = Command::new("sh").arg(verifier).arg(&flat).arg(top.join("trust")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    match output.status.code() {
        Some(77) => println!("{}", said.trim_end()),
        code => assert_eq!(code, Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[track_caller]
fn runs(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_case_file_verifies_alone_and_a_changed_byte_does_not() {
    let (mut town, ids) = town("alone");
    let told = town.terminal.json(0, &format!("case export --as 450200/ops/li {CASE} --out case.tar"));
    assert_eq!((&told["messages"], &told["with_bodies"]), (&3.into(), &false.into()));
    town.stop();
    let lonely = town.terminal.path("lonely");
    fs::create_dir(&lonely).unwrap();
    runs(Command::new("tar").arg("-xf").arg(town.terminal.path("case.tar")).arg("-C").arg(&lonely));
    let top = fs::read_dir(&lonely).unwrap().next().unwrap().unwrap().path();
    assert!(top.file_name().unwrap().to_str().unwrap().starts_with(TOP), "{top:?}");
    runs(Command::new("sha256sum").args(["--quiet", "-c", "SHA256SUMS"]).current_dir(&top));

    let verify = |code: i32| {
        let output = town.terminal.command("verify receipts --trust trust --json").current_dir(&top).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stdout));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let found = verify(0);
    assert_eq!((&found["verified"], &found["failed"]), (&told["receipts"], &0.into()));
    let states: Vec<_> =
        found["messages"].as_array().unwrap().iter().map(|one| (&one["chain"], &one["state"])).collect();
    assert_eq!(states.len(), 3);
    assert!(states.iter().all(|(chain, _)| *chain == "whole"), "{states:?}");
    assert_eq!(states.iter().filter(|(_, state)| *state == "REJECTED").count(), 1, "{states:?}");

    let all = files(&top);
    for wanted in ["index.html", "VERIFY.txt", "trust", "members/440600.note", "certificates/450200.pem"] {
        assert!(all.iter().any(|name| name == wanted), "{wanted} in {all:?}");
    }
    assert!(!all.iter().any(|name| name.starts_with("bodies/")), "{all:?}");
    let headers: Vec<_> = all.iter().filter(|name| name.starts_with("headers/")).collect();
    assert_eq!(headers.len(), 3);
    for (name, id) in headers.iter().zip(&ids) {
        let header: Value = serde_json::from_slice(&fs::read(top.join(name)).unwrap()).unwrap();
        assert_eq!(
            (&header["as_sent"]["message_id"], &header["digest_matches_receipts"]),
            (&id.as_str().into(), &true.into())
        );
    }
    for name in &all {
        let bytes = fs::read(top.join(name)).unwrap();
        assert!(!bytes.windows(12).any(|window| window == "秘密内容".as_bytes()), "a content in {name}");
    }

    go_verifies(&town, &top, &all);

    for ending in [".leaf", ".tlog-proof"] {
        let path = top.join(all.iter().find(|name| name.ends_with(ending)).unwrap());
        let whole = fs::read(&path).unwrap();
        let mut changed = whole.clone();
        let place = whole.len() * 3 / 4;
        changed[place] ^= 1;
        fs::write(&path, &changed).unwrap();
        assert_eq!(verify(1)["failed"], 1, "{ending}");
        fs::write(&path, &whole).unwrap();
    }
    verify(0);
}

#[test]
fn a_page_shows_the_case_in_two_languages_and_nothing_of_it_is_markup() {
    let (town, ids) = town("page");
    let export = format!("case export --as 450200/window {CASE} --folder shown");
    town.terminal.ends(0, &export);
    let page = fs::read_to_string(town.terminal.path("shown/index.html")).unwrap();
    for planted in ["<script", "<b>", "<i>", "<img"] {
        assert!(!page.contains(planted), "{planted}");
    }
    for shown in [
        "GX/2026&lt;script&gt;",
        "&lt;img src=x&gt;.txt",
        "&lt;b&gt;x&lt;/b&gt;",
        "&lt;i&gt;缺少申请表&lt;/i&gt;",
        "NO_FORM",
        "<svg",
        "办件卷宗",
        "Case file",
        "接收方拒收",
        "handover refused",
        "supplement",
        "[440600]",
        "440600/approval",
        &ids[0],
        &ids[2],
    ] {
        assert!(page.contains(shown), "{shown} in\n{page}");
    }
    assert_eq!((page.matches("<svg").count(), page.matches("</svg>").count()), (1, 1));
    let guide = fs::read_to_string(town.terminal.path("shown/VERIFY.txt")).unwrap();
    for line in ["tongban verify receipts --trust trust", "sha256sum -c SHA256SUMS", "如何验证", "How to verify"] {
        assert!(guide.contains(line), "{line}");
    }
    // Another export has another moment: what is there is never overwritten.
    town.terminal.ends(73, &export);
}

#[test]
fn a_case_is_shown_and_one_that_nobody_knows_is_told_so() {
    let (town, _) = town("shown");
    let shown = town.terminal.json(0, &format!("case show --as 450200/ops/li {CASE}"));
    let steps: Vec<_> = shown["messages"].as_array().unwrap().iter().map(|one| one["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["apply", "accept", "supplement"]);
    let events: Vec<_> = shown["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["event"].as_str().unwrap(), one["way"].as_str().unwrap()))
        .collect();
    let first = [
        ("SUBMISSION_ACCEPTED", "450200/window → [450200]"),
        ("RELAY_ACCEPTED", "[450200] → [440600]"),
        ("CONSIGNED", "[440600]"),
        ("HANDED_OVER", "[440600] → 440600/approval"),
        ("SUBMISSION_ACCEPTED", "440600/approval → [440600]"),
    ];
    assert_eq!(events[..5], first);
    assert_eq!(events.last(), Some(&("HANDOVER_FAILED", "[440600] → 440600/approval")));
    let (en, _) = town.terminal.ends(0, &format!("case show --as 440600/approval {CASE} --lang en"));
    assert!(en.contains("handed over") && en.contains("supplement") && en.contains("NO_FORM"), "{en}");
    let (zh, _) = town.terminal.ends(0, &format!("case show --as 440600/approval {CASE} --lang zh"));
    assert!(zh.contains("接收方拒收") && zh.contains("环节"), "{zh}");

    let (_, en) = town.terminal.ends(1, "case export --as 450200/ops/li GX/2026 --out none.tar");
    assert!(en.contains("sees no message of case GX/2026") && en.contains("hint:"), "{en}");
    let (_, zh) = town.terminal.ends(1, "case show --as 450200/ops/li GX/2026 --lang zh");
    assert!(zh.contains("看不到办件 GX/2026"), "{zh}");
    assert!(!town.terminal.path("none.tar").exists());
}

#[test]
fn contents_are_in_it_for_a_reason_that_goes_on_record() {
    let (town, ids) = town("bodies");
    town.terminal.ends(0, "pki add-auditor 450200 wu");
    town.terminal.ends(64, &format!("case export --as 450200/ops/li {CASE} --with-bodies"));
    town.terminal.ends(77, &format!("case export --as 450200/window {CASE} --with-bodies --reason x --folder refused"));
    town.terminal
        .ends(0, &format!("case export --as 450200/ops/li {CASE} --with-bodies --reason 行政诉讼举证 --folder whole"));
    let folder = town.terminal.path(&format!("whole/bodies/001-{}", ids[0]));
    assert_eq!(fs::read_to_string(folder.join("01.bin")).unwrap(), "秘密内容");
    let acts = town.terminal.json(0, "audit --as 450200/auditor/wu --act content.read");
    let done = acts["acts"].as_array().unwrap().iter().filter(|act| act["reason"] == "行政诉讼举证").count();
    assert_eq!(done, 3);
}

#[test]
fn a_case_whose_envelopes_retention_has_taken_is_still_found_and_proved() {
    let (mut town, ids) = town("gone");
    town.stop();
    // What retention does to an envelope and its body.
    let store = rusqlite::Connection::open(town.terminal.path("run/450200/store/store.db")).unwrap();
    let taken = store.execute("UPDATE message SET header = x'', body = NULL", []).unwrap();
    assert_eq!(taken, 4);
    drop(store);
    town.liuzhou = Some(Gateway::start(&town.terminal, "run/450200"));
    town.terminal.ends(0, &format!("case export --as 450200/ops/li {CASE} --folder proved"));
    town.terminal.ends(0, "verify proved/receipts --trust proved/trust");
    for (id, number) in ids.iter().zip(1..) {
        let header = fs::read(town.terminal.path(&format!("proved/headers/{number:03}-{id}.json"))).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        assert_eq!((&header["as_sent"], &header["digest_matches_receipts"]), (&Value::Null, &Value::Null));
    }
    let page = fs::read_to_string(town.terminal.path("proved/index.html")).unwrap();
    assert!(
        page.contains("the header is gone") && page.contains("supplement") && page.contains("handed over"),
        "{page}"
    );
}
