//! A large attachment on its whole way: from a system through both gateways to a system, each leg cut by killing a gateway.
//! It goes on where it was broken off, arrives with its digest, and no process grows with it.
//!
//! 256 MiB unless `TONGBAN_ATTACHMENT_MIB` says how many.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tongban::blobs::{Blobs, Bounds, Chunks, Owner, Sums, Want};
use tongban::courier::attachments::{Ask, CarryError, download, upload};
use tongban::message::Digest;
use tongban::wire::pb::evidence::State;
use tongban::wire::pb::exchange as pb;

use crate::alliance::{Alliance, Client, envelope};
use crate::process::{self, Process};

const SALT: [u8; 16] = [9; 16];
const GROWTH_MAX: u64 = 64 << 20;
const A: &str = "450200";
const B: &str = "440600";

fn size() -> u64 {
    std::env::var("TONGBAN_ATTACHMENT_MIB").map_or(256, |text| text.parse().unwrap()) << 20
}

/// Waits for a state of something large.
async fn until(what: &str, mut state: impl FnMut() -> bool) {
    let patience = Duration::from_secs(60 + (size() >> 22));
    let (began, mut looks) = (Instant::now(), tokio::time::interval(Duration::from_millis(2)));
    while !state() {
        assert!(began.elapsed() < patience, "in {patience:?} not reached: {what}");
        looks.tick().await;
    }
}

/// A file of noise, with the digest and the salted digest of its bytes.
fn noise(path: &Path, bytes: u64) -> (Digest, Digest) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let mut sums = Sums::new(Some(&SALT));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..bytes >> 16 {
        let block: Vec<u8> = (0..1 << 13)
            .flat_map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            })
            .collect();
        sums.update(&block);
        file.write_all(&block).unwrap();
    }
    file.flush().unwrap();
    sums.finish()
}

/// Bytes in the uploads that a city's gateway has staged.
fn staged(alliance: &Alliance, city: &str) -> u64 {
    let folder = alliance.config(city).data.join("attachments/staging");
    let files = |folder: PathBuf| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.collect::<Vec<_>>()
    };
    let lengths = files(folder).into_iter().flat_map(files).filter(|path| path.extension().is_none());
    lengths.filter_map(|path| path.metadata().ok()).map(|data| data.len()).max().unwrap_or(0)
}

/// A gateway's process that must not grow.
struct Watched {
    process: Process,
    city: &'static str,
    began_with: u64,
}

impl Watched {
    async fn start(alliance: &Alliance, city: &'static str) -> Watched {
        let process = Process::start(alliance, city).await;
        let (began_with, _) = process.memory();
        Watched { process, city, began_with }
    }

    fn grew(&self) -> u64 {
        self.process.memory().1.saturating_sub(self.began_with)
    }

    /// Ends it, and begins anew.
    async fn killed(mut self, alliance: &Alliance) -> Watched {
        self.judge();
        self.process.kill();
        Watched::start(alliance, self.city).await
    }

    fn judge(&self) {
        let grew = self.grew();
        eprintln!("the gateway of {} began with {} kB and grew by {} kB", self.city, self.began_with >> 10, grew >> 10);
        assert!(grew < GROWTH_MAX, "the gateway of {} grew by {grew} bytes", self.city);
    }
}

struct Way {
    alliance: Alliance,
    file: PathBuf,
    want: Want,
    salted: Digest,
}

impl Way {
    fn new() -> Way {
        let alliance = process::alliance(&[(A, &["window"]), (B, &["desk"])]);
        let file = alliance.folder.join("scan.tiff");
        let (digest, salted) = noise(&file, size());
        Way { alliance, file, want: Want { digest, size: size(), salt: Some(SALT) }, salted }
    }

    fn message(&self) -> pb::Envelope {
        let digest = |digest: Digest| pb::Digest { algorithm: "sha256".to_owned(), value: digest.0.to_vec() };
        let attachment = pb::Attachment { digest: Some(digest(self.want.digest)) };
        let mut message = envelope((A, "window"), (B, "desk"));
        message.parts.push(pb::Part {
            name: "scan.tiff".to_owned(),
            media_type: "image/tiff".to_owned(),
            size: self.want.size,
            salt: SALT.to_vec(),
            digest: Some(digest(self.salted)),
            content: Some(pb::part::Content::Attachment(attachment)),
        });
        message
    }

    /// One try; what the gateway said was durable there, answer by answer.
    async fn send(&self, client: &Client) -> (Vec<u64>, Result<(), CarryError>) {
        let (path, mut heard) = (self.file.clone(), vec![]);
        let open = move |offset| Chunks::of_file(File::open(path)?, offset);
        let sent = upload(&client.channel, &self.want, open, |durable| heard.push(durable)).await;
        (heard, sent)
    }

    /// The first leg, cut once.
    async fn leg_to_gateway(&self, mut gateway: Watched) -> Watched {
        let window = self.alliance.client(A, "window");
        let third = size() / 3;
        let ((heard, cut), again) = tokio::join!(self.send(&window), async {
            until("a third is with the sender's gateway", || staged(&self.alliance, A) > third).await;
            gateway.killed(&self.alliance).await
        });
        gateway = again;
        assert!(matches!(cut, Err(CarryError::Broken(_))), "cut after {heard:?}: {cut:?}");
        let (heard, sent) = self.send(&self.alliance.client(A, "window")).await;
        sent.unwrap();
        assert!(heard[0] > third, "goes on at {}", heard[0]);
        gateway
    }

    /// The second leg, cut once on each side.
    async fn leg_between_gateways(&self, mut sender: Watched, mut recipient: Watched) -> (Watched, Watched) {
        let mut there = 0;
        for (cut, at) in [(B, size() / 4), (A, size() / 2)] {
            until("more is with the recipient's gateway", || staged(&self.alliance, B) > at).await;
            match cut {
                A => sender = sender.killed(&self.alliance).await,
                _ => recipient = recipient.killed(&self.alliance).await,
            }
            let now = staged(&self.alliance, B);
            assert!(now >= there.max(at), "what was there stays: {now} of {there}");
            there = now;
        }
        let desk = self.alliance.client(B, "desk");
        until("the recipient's gateway has all", || {
            let now = staged(&self.alliance, B);
            // Once it is whole and the message came it is an upload no longer.
            assert!(now >= there || now == 0, "nothing is sent twice: {now} after {there}");
            there = now.max(there);
            now == 0 || now == size()
        })
        .await;
        drop(desk);
        (sender, recipient)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_attachment_passes_every_leg_though_each_is_cut_and_no_process_grows() {
    let way = Way::new();
    let mut sender = Watched::start(&way.alliance, A).await;
    sender = way.leg_to_gateway(sender).await;
    let message = way.message();
    way.alliance.client(A, "window").submit(message.clone()).await.unwrap();
    let recipient = Watched::start(&way.alliance, B).await;
    let (sender, mut recipient) = way.leg_between_gateways(sender, recipient).await;

    // The third leg, cut once.
    let desk = way.alliance.client(B, "desk");
    let mut mailbox = desk.receive(1).await;
    let (_, delivered) = mailbox.delivery().await;
    assert_eq!(delivered.envelope.unwrap().message_id, message.message_id);
    drop(mailbox);
    let ask =
        Ask { from_city: A.parse().unwrap(), message: message.message_id.parse().unwrap(), digest: way.want.digest };
    let bounds = Bounds { reserve_bytes: 0, ..Bounds::default() };
    let own = Blobs::open_with(way.alliance.folder.join("desk"), bounds).unwrap();
    let owner = Owner::partner(&B.parse().unwrap());
    let here = std::sync::atomic::AtomicU64::new(0);
    let hear = |bytes| here.store(bytes, std::sync::atomic::Ordering::SeqCst);
    let (cut, again) = tokio::join!(download(&desk.channel, &ask, &own, &owner, way.want, hear), async {
        until("half is with the recipient", || here.load(std::sync::atomic::Ordering::SeqCst) > size() / 2).await;
        recipient.killed(&way.alliance).await
    });
    recipient = again;
    assert!(matches!(cut, Err(CarryError::Broken(_))), "{cut:?}");
    let desk = way.alliance.client(B, "desk");
    let mut heard = vec![];
    let got = download(&desk.channel, &ask, &own, &owner, way.want, |bytes| heard.push(bytes)).await.unwrap();
    assert!(heard[0] > size() / 2, "goes on at {}", heard[0]);
    assert_eq!(got.salted, way.salted, "and has the digest that its sender gave it");

    let mut mailbox = desk.receive(1).await;
    let (delivery, _) = mailbox.delivery().await;
    mailbox.acknowledge(&delivery.delivery_id).await;
    mailbox.settled().await;
    way.alliance.client(A, "window").until(A, &message.message_id, State::Confirmed).await;
    sender.judge();
    recipient.judge();
}
