//! A hub never has what it carries: neither its disk, nor its logs, nor its memory hold one of the contents that passed it.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::alliance::{Alliance, City, Client, envelope, part};
use crate::process::Process;
use tongban::wire::pb::exchange as pb;

const LIUZHOU: (&str, &str) = ("450200", "window");
const FOSHAN: (&str, &str) = ("440600", "approval");
const HUB: &str = "hub/main";
/// Every marker is this and 24 letters of its own.
const FLAG: &[u8] = b"pl4ntd: ";
const MARKER_BYTES: usize = 32;

fn alliance(unsealed_relay: bool) -> Alliance {
    let city = City { relays: &[HUB], unsealed_relay, ..City::default() };
    let cities = [
        City { code: LIUZHOU.0, systems: &[LIUZHOU.1], ..city },
        City { code: FOSHAN.0, systems: &[FOSHAN.1], ..city },
    ];
    let alliance = Alliance::of(&["main"], &cities);
    if unsealed_relay {
        // What can be sealed is sealed: only a member without a key lets a body pass as it is.
        alliance.change_record(FOSHAN.0, |record| record.sealing_key = None);
    }
    alliance.route(LIUZHOU.0, FOSHAN.0, &[HUB]);
    alliance
}

fn marker() -> String {
    let letters = hex::encode(tongban::chance::bytes::<12>().unwrap());
    format!("{}{letters}", str::from_utf8(FLAG).unwrap())
}

/// The markers among these bytes.
fn search(bytes: &[u8], planted: &HashSet<String>, found: &mut BTreeSet<String>) {
    let mut rest = bytes;
    while let Some(at) = memchr(rest) {
        let end = rest.len().min(at + MARKER_BYTES);
        let text = String::from_utf8_lossy(&rest[at..end]).into_owned();
        found.extend(planted.get(&text).cloned());
        rest = &rest[at + 1..];
    }
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    let (first, whole) = (FLAG[0], FLAG.len());
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == first) {
        if bytes.len() >= from + at + whole && bytes[from + at..from + at + whole] == *FLAG {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// The markers in all files below a folder; and how many bytes these have.
fn on_disk(folder: &Path, planted: &HashSet<String>, found: &mut BTreeSet<String>) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let each = entries.map(|path| {
        if path.is_dir() {
            return on_disk(&path, planted, found);
        }
        let bytes = std::fs::read(&path).unwrap();
        search(&bytes, planted, found);
        bytes.len()
    });
    each.sum()
}

/// The markers in all memory of a process, and how many bytes were read; none where that may not be read.
fn in_memory(pid: u32, planted: &HashSet<String>, found: &mut BTreeSet<String>) -> Option<usize> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let mut memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut read = 0;
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
        if !rest.starts_with('r') || rest.ends_with("[vvar]") || rest.ends_with("[vsyscall]") {
            continue;
        }
        let mut bytes = vec![0; (to - from) as usize];
        // A mapping that ends while it is read, or has no pages behind it, has nothing to show.
        if memory.seek(SeekFrom::Start(from)).is_ok() && memory.read_exact(&mut bytes).is_ok() {
            search(&bytes, planted, found);
            read += bytes.len();
        }
    }
    Some(read)
}

/// Sends messages with a marker in the content and one in the name of their part; all markers.
async fn plant(window: &Client, count: usize) -> HashSet<String> {
    let mut planted = HashSet::new();
    let mut sending = tokio::task::JoinSet::new();
    for _ in 0..count {
        let (content, name) = (marker(), marker());
        let mut sent = envelope(LIUZHOU, FOSHAN);
        sent.parts = vec![part(&name, format!("{{\"id\":\"{content}\"}}").as_bytes())];
        planted.extend([content, name]);
        let window = window.clone();
        sending.spawn(async move { window.submit(sent).await.unwrap() });
    }
    sending.join_all().await;
    planted
}

/// Receives until so many markers have arrived. A message whose acknowledgement was cut off comes again.
async fn receive(approval: &Client, count: usize, planted: &HashSet<String>, found: &mut BTreeSet<String>) {
    let mut mailbox = approval.receive(64).await;
    while found.len() < count {
        let (delivery, message) = loop {
            if let pb::receive_response::Response::Delivery(mut delivery) = mailbox.next().await.unwrap() {
                let Some(pb::delivery::Content::Message(message)) = delivery.content.take() else {
                    panic!("a message")
                };
                break (delivery, message);
            }
        };
        for part in message.envelope.unwrap().parts {
            search(part.name.as_bytes(), planted, found);
            let Some(pb::part::Content::Inline(content)) = part.content else { panic!("inline") };
            search(&content, planted, found);
        }
        mailbox.acknowledge(&delivery.delivery_id).await;
        mailbox.say(pb::receive_request::Request::Credits(pb::GrantCredits { count: 1 })).await;
    }
}

/// What a search of the hub found.
struct Found {
    planted: usize,
    /// At the recipient's system.
    arrived: usize,
    disk: BTreeSet<String>,
    memory: BTreeSet<String>,
}

async fn carry(unsealed_relay: bool, messages: usize) -> Found {
    let alliance = alliance(unsealed_relay);
    let hub = Process::start(&alliance, "hub-main").await;
    let _cities = [alliance.start(LIUZHOU.0).await, alliance.start(FOSHAN.0).await];
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    let approval = alliance.client(FOSHAN.0, FOSHAN.1);
    let planted = plant(&window, messages).await;
    let (mut arrived, mut disk, mut memory) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    receive(&approval, planted.len() / 2, &planted, &mut arrived).await;
    // Once in the middle of its work, and once when all of it is done.
    let looked = in_memory(hub.id(), &planted, &mut memory);
    receive(&approval, planted.len(), &planted, &mut arrived).await;
    hub.pause().await;
    let again = in_memory(hub.id(), &planted, &mut memory);
    match (looked, again) {
        (Some(looked), Some(again)) => assert!(looked.min(again) > 1 << 20, "its memory was read: {looked} {again}"),
        _ => println!("SKIPPED: the memory of the hub's process may not be read here"),
    }
    let read = on_disk(&alliance.folder.join("hub-main"), &planted, &mut disk);
    assert!(read > messages * 1_000, "its files were read: {read}");
    hub.resume();
    hub.stop().await;
    on_disk(&alliance.folder.join("hub-main"), &planted, &mut disk);
    Found { planted: planted.len(), arrived: arrived.len(), disk, memory }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_holds_no_content_of_a_thousand_messages_on_disk_in_logs_or_in_memory() {
    let found = carry(false, 1_000).await;
    assert_eq!((found.planted, found.arrived), (2_000, 2_000), "the recipient has them all");
    assert_eq!((found.disk.len(), found.memory.len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_search_finds_what_both_cities_let_pass_unsealed() {
    let found = carry(true, 100).await;
    assert_eq!((found.planted, found.arrived), (200, 200), "the recipient has them all");
    assert_eq!(found.disk.len(), 200);
    assert!(!found.memory.is_empty(), "{}", found.memory.len());
}
