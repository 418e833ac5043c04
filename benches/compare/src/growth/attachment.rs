//! Decides what an attachment costs two gateways on its way: uploaded to the first, carried to the second, downloaded there. What
//! matters is that memory does not grow with it.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Place;
use crate::calls::Calls;
use crate::city::{City, LOADS};
use crate::curve::Bound::AtMost;
use crate::curve::{Column, Curve, column};

const COLUMNS: [Column; 9] = [
    column("upload", "MiB per s"),
    column("relay", "MiB per s"),
    column("download", "MiB per s"),
    column("sender's gateway, processor", "ms a MiB"),
    column("recipient's gateway, processor", "ms a MiB"),
    column(SENDER_MORE, "MiB more").required(&[(1_024.0, AtMost(64.0))]),
    column(RECIPIENT_MORE, "MiB more").required(&[(1_024.0, AtMost(64.0))]),
    column("sender's gateway, memory before", "MiB"),
    column("recipient's gateway, memory before", "MiB"),
];
const SENDER_MORE: &str = "sender's gateway, memory at most";
const RECIPIENT_MORE: &str = "recipient's gateway, memory at most";

/// How long the way from one gateway to the other may take.
const RELAY: Duration = Duration::from_secs(1_800);
/// The state of a message that the next hop has taken.
const RELAYED: i32 = 2;

pub fn measure(place: &Place, last: u64) -> Result<Curve> {
    let title = "Cost as an attachment grows, from its upload to its download through two gateways";
    let mut curve = Curve::new("attachment", title, "MiB attached", &COLUMNS);
    place.program.run(&place.folder, &["pki", "new", "--dir", "certs"])?;
    let mut sender = City::found(place.program, &place.folder, "450200", &["--system", LOADS])?;
    let mut recipient = City::found(place.program, &place.folder, "440600", &["--system", "desk"])?;
    sender.start()?;
    recipient.start()?;
    // Connections and first pages of memory are no part of any attachment.
    let _ = walk(&sender, &recipient, 1)?;
    for size in [16, 64, 256].into_iter().filter(|size| *size < last).chain([last]) {
        curve.begin(size as f64);
        at_size(&mut curve, [&sender, &recipient], size)?;
        curve.write(place.out, place.machine)?;
    }
    Ok(curve)
}

fn at_size(curve: &mut Curve, gateways: [&City; 2], size: u64) -> Result<()> {
    let before = gateways.map(|city| (city.rss_mib(), city.cpu_s()));
    for city in gateways {
        city.forget_peak()?;
    }
    let took = walk(gateways[0], gateways[1], size)?;
    for (stage, took) in ["upload", "relay", "download"].into_iter().zip(took) {
        curve.tell(stage, size as f64 / took.as_secs_f64());
    }
    let names = [
        ("sender's gateway, processor", SENDER_MORE, "sender's gateway, memory before"),
        ("recipient's gateway, processor", RECIPIENT_MORE, "recipient's gateway, memory before"),
    ];
    for ((city, (rss, cpu)), (processor, more, at_first)) in gateways.into_iter().zip(before).zip(names) {
        curve.tell(processor, (city.cpu_s() - cpu) * 1e3 / size as f64);
        curve.tell(more, city.rss_peak_mib() - rss);
        curve.tell(at_first, rss);
    }
    Ok(())
}

/// Sends a file of so many MiB and receives it: how long uploading, carrying and downloading took.
fn walk(sender: &City, recipient: &City, size: u64) -> Result<[Duration; 3]> {
    let (folder, program) = (&sender.folder, sender.program);
    let (file, kept) = (folder.join("attached.bin"), folder.join("received"));
    noise(&file, size)?;
    let begun = Instant::now();
    let to = format!("{}/desk", recipient.code);
    let (me, desk) = (format!("{}/{LOADS}", sender.code), to.clone());
    let line = ["--dir", "certs", "--item", "BENCH-1", "--to", &to, "--attach", "attached.bin"];
    program.run(folder, &[&["send", "--as", &me], &line[..]].concat())?;
    let uploaded = begun.elapsed();
    while Calls::connect(sender, &format!("systems/{LOADS}"))?.list("", 1)?.answer.first().map_or(0, |told| told.state)
        < RELAYED
    {
        ensure!(begun.elapsed() < RELAY, "{size} MiB do not arrive");
        std::thread::sleep(Duration::from_millis(50));
    }
    let relayed = begun.elapsed();
    program
        .run(folder, &["receive", "--as", &desk, "--dir", "certs", "--ack", "--out", "received", "--wait", "60s"])?;
    let received = begun.elapsed();
    ensure!(bytes(&kept)? >= size << 20, "what was received is not what was sent");
    std::fs::remove_file(&file)?;
    std::fs::remove_dir_all(&kept)?;
    Ok([uploaded, relayed - uploaded, received - relayed])
}

/// A file that does not compress and is not twice the same.
fn noise(path: &std::path::Path, size: u64) -> Result<()> {
    let mut file = std::fs::File::create(path)?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let mut state = now.as_nanos() as u64 | 1;
    let mut piece = Vec::with_capacity(1 << 20);
    for _ in 0..size {
        piece.clear();
        while piece.len() < 1 << 20 {
            // xorshift64 (Marsaglia 2003).
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            piece.extend_from_slice(&state.to_le_bytes());
        }
        file.write_all(&piece)?;
    }
    Ok(())
}

/// Bytes of all files below a folder.
fn bytes(folder: &std::path::Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let kind = entry.metadata()?;
        sum += if kind.is_dir() { bytes(&entry.path())? } else { kind.len() };
    }
    Ok(sum)
}
