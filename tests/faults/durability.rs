//! Every answer comes after the disk has what it answers: system calls of a real gateway, read from outside. The same
//! reading of a gateway that syncs less must find that out, or it would prove nothing.

use std::path::Path;

use crate::alliance::{Alliance, envelope};
use crate::process::{self, Process, until};
use crate::strace::can_trace;

const LIUZHOU: (&str, &str) = ("450200", "window");
/// Answers that are audited.
const ANSWERS: usize = 1_000;
/// Bytes of the smallest record that carries a receipt; acknowledgements and window updates are far below it.
const RECEIPT_BYTES: i64 = 300;

/// What the audit of one run found.
#[derive(Debug, Default)]
struct Audit {
    /// Answers that left the gateway.
    answers: usize,
    /// Of them, those before which the write-ahead log was written and then synced since the answer before.
    synced: usize,
    /// Of these, those beside which it was being written again: by a commit of which nobody waits for an answer.
    beside: usize,
    /// Syncs of the write-ahead log.
    syncs: usize,
}

/// One line of the trace that matters.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    LogWritten,
    LogSynced,
    Answered,
}

/// Reads a trace, one system call after the other. A write counts from its beginning, a sync only when it has returned.
fn steps(trace: &str) -> Vec<Step> {
    // Threads that are within such a call: others' calls stand between its two lines. A write of unknown size has its
    // place already: who reads it may go on before it has returned.
    let (mut syncing, mut writing): (Vec<&str>, Vec<(&str, usize)>) = (vec![], vec![]);
    let mut steps: Vec<Option<Step>> = vec![];
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        let log = call.contains("store.db-wal>");
        let resumed = |words: &[&str]| words.iter().any(|word| call.starts_with(&format!("<... {word} resumed")));
        if call.starts_with("pwrite64(") && log {
            steps.push(Some(Step::LogWritten));
        } else if (call.starts_with("fdatasync(") || call.starts_with("fsync(")) && log {
            match call.contains("<unfinished") {
                true => syncing.push(thread),
                false => steps.push(call.ends_with("= 0").then_some(Step::LogSynced)),
            }
        } else if resumed(&["fdatasync", "fsync"]) {
            if let Some(place) = syncing.iter().position(|waiting| *waiting == thread) {
                syncing.swap_remove(place);
                steps.push(call.ends_with("= 0").then_some(Step::LogSynced));
            }
        } else if WRITES.iter().any(|word| call.starts_with(&format!("{word}("))) && call.contains("TCP:[") {
            if call.contains("<unfinished") {
                writing.push((thread, steps.len()));
            }
            steps.push(has_receipts_size(call).then_some(Step::Answered));
        } else if resumed(&WRITES)
            && let Some(place) = writing.iter().position(|(waiting, _)| *waiting == thread)
        {
            steps[writing.swap_remove(place).1] = has_receipts_size(call).then_some(Step::Answered);
        }
    }
    steps.into_iter().flatten().collect()
}

const WRITES: [&str; 4] = ["sendto", "writev", "sendmsg", "write"];

fn has_receipts_size(call: &str) -> bool {
    let written = call.rsplit("= ").next().and_then(|size| size.split(' ').next()?.parse::<i64>().ok());
    written.is_some_and(|written| written >= RECEIPT_BYTES)
}

fn audit(steps: &[Step]) -> Audit {
    let mut audit = Audit::default();
    let (mut written, mut synced) = (false, false);
    for step in steps {
        match step {
            Step::LogWritten => written = true,
            Step::LogSynced => {
                audit.syncs += 1;
                (written, synced) = (false, synced || written);
            }
            Step::Answered => {
                audit.answers += 1;
                audit.synced += usize::from(synced);
                audit.beside += usize::from(synced && written);
                synced = false;
            }
        }
    }
    audit
}

/// Submits one message after the other to a gateway under strace and reads what it did for each answer.
async fn run(alliance: &Alliance) -> Audit {
    let trace = alliance.folder.join("trace");
    let calls = "trace=pwrite64,write,writev,sendto,sendmsg,fdatasync,fsync";
    let file = trace.display().to_string();
    let wrapper = ["strace", "-D", "-f", "-yy", "-s", "0", "-e", calls, "-o", &file].map(str::to_owned);
    let gateway = Process::start_under(alliance, LIUZHOU.0, &wrapper).await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    // The handshake's certificates are as large as a receipt: they are behind us before the audit begins.
    window.submit(envelope(LIUZHOU, ("450200", "archive"))).await.unwrap();
    let begun = read(&trace).len();
    for _ in 0..ANSWERS {
        window.submit(envelope(LIUZHOU, ("450200", "archive"))).await.unwrap();
    }
    // An answer may be read before strace has written it down: what stands before the next message's log is of the first.
    let audited = || {
        let steps = steps(&read(&trace)[begun..]);
        let first = steps.iter().position(|step| *step == Step::LogWritten).unwrap_or(steps.len());
        audit(&steps[first..])
    };
    until("the trace holds every answer", async || audited().answers >= ANSWERS).await;
    let found = audited();
    gateway.stop().await;
    found
}

fn read(trace: &Path) -> String {
    std::fs::read_to_string(trace).unwrap_or_default()
}

fn one_city() -> Alliance {
    process::alliance(&[("450200", &["window", "archive"])])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_follows_a_sync_of_what_it_answers() {
    if !can_trace() {
        return println!("SKIPPED: the audit of syncs: strace cannot follow a process here");
    }
    let found = run(&one_city()).await;
    println!("synced before the answer: {} of {} answers: {found:?}", found.synced, found.answers);
    assert_eq!((found.answers, found.synced), (ANSWERS, ANSWERS), "{found:?}");
    assert!(found.beside <= found.syncs - ANSWERS, "no more than there were commits of other things: {found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_finds_out_a_gateway_that_syncs_less() {
    if !can_trace() {
        return println!("SKIPPED: the control of the audit of syncs: strace cannot follow a process here");
    }
    let alliance = one_city();
    let path = alliance.config_path("450200");
    let config = std::fs::read_to_string(&path).unwrap() + "\n[store]\nsynchronous = \"normal\"\n";
    std::fs::write(&path, config).unwrap();
    let found = run(&alliance).await;
    println!("control, synced before the answer: {} of {} answers", found.synced, found.answers);
    assert!(found.synced < ANSWERS / 10, "{found:?}");
}

#[test]
fn the_audit_reads_a_trace_as_it_was_written() {
    let wal = "7</x/store.db-wal>";
    let peer = "9<TCP:[127.0.0.1:7501->127.0.0.1:5]>";
    let line = |call: String| format!("100 {call}\n");
    let good = line(format!("pwrite64({wal}, \"\"..., 4096, 0) = 4096"))
        + &line(format!("fdatasync({wal}) = 0"))
        + &line(format!("sendto({peer}, \"\"..., 700, MSG_NOSIGNAL, NULL, 0) = 700"));
    let whole = audit(&steps(&good));
    assert_eq!((whole.answers, whole.synced), (1, 1));
    let early = line(format!("pwrite64({wal}, \"\"..., 4096, 0) = 4096"))
        + &line(format!("fdatasync({wal} <unfinished ...>"))
        + &line(format!("sendto({peer}, \"\"..., 700, MSG_NOSIGNAL, NULL, 0) = 700"))
        + &line("<... fdatasync resumed>) = 0".to_owned());
    assert_eq!(audit(&steps(&early)).synced, 0, "a sync that has not returned is none");
    let second = good.replace("100 ", "101 ");
    let (before, answer) = second.split_at(second.find("101 sendto").unwrap());
    let slow = good.replace(" = 700\n", " <unfinished ...>\n") + before + "100 <... sendto resumed>) = 700\n" + answer;
    let read = audit(&steps(&slow));
    assert_eq!((read.answers, read.synced), (2, 2), "an answer that is read before its write returns");
    let again = line(format!("pwrite64({wal}, \"\"..., 4096, 0) = 4096"));
    let answer = line(format!("sendto({peer}, \"\"..., 700, MSG_NOSIGNAL, NULL, 0) = 700"));
    let beside = audit(&steps(&(good.replace(&answer, "") + &again + &answer)));
    assert_eq!((beside.synced, beside.beside), (1, 1), "another commit has begun");
    let twice = audit(&steps(&(good.clone() + &again + &answer)));
    assert_eq!((twice.answers, twice.synced), (2, 1), "a sync counts for one answer");
    let failed = good.replace("= 0", "= -1 EIO (Input/output error)");
    assert_eq!(audit(&steps(&failed)).synced, 0, "nor is one that failed");
    let between = good.replace(" = 700\n", " <unfinished ...>\n")
        + "101 write(8</x/.probe>, \"\"..., 4096 <unfinished ...>\n"
        + "100 <... sendto resumed>) = 700\n101 <... write resumed>) = 4096\n";
    let read = audit(&steps(&between));
    assert_eq!((read.answers, read.synced), (1, 1), "what another thread writes elsewhere meanwhile is no answer");
    let small = good.replace("700", "35");
    assert_eq!(audit(&steps(&small)).answers, 0, "a window update is no answer");
}
