//! A log in the wrong hands, which signs whatever it is given under any name, and the gateway that hears of it.
#![allow(dead_code, reason = "each test file uses its own part")]

use tongban::clock::Clock;
use tongban::evidence::{Event, Evidence, Instants};
use tongban::id::ReceiptId;
use tongban::party::Member;
use tongban::receipt::Receipt;
use tongban::tlog::checkpoint::Checkpoint;
use tongban::tlog::leaf_hash;
use tongban::tlog::note::SigningKey;
use tongban::tlog::receipt_file::TlogProof;
use tongban::tlog::tree::Tree;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;
use tongban::wire::{envelope, receipt};

use crate::alliance::{Alliance, Client, Gateway, check, envelope, open_store};

/// A log and its key.
pub struct Forge {
    pub key: SigningKey,
    pub member: Member,
    tree: Tree,
}

impl Forge {
    /// The log of a member of the alliance, signed with that member's own key.
    pub fn of(alliance: &Alliance, city: &str) -> Forge {
        Forge { key: alliance.log_key(city), member: city.parse().unwrap(), tree: Tree::empty() }
    }

    /// A log of this name for `member`, signed with a key that nobody knows.
    pub fn unknown(name: &str, member: &Member) -> Forge {
        Forge { key: SigningKey::from_seed(name, &[66; 32]).unwrap(), member: member.clone(), tree: Tree::empty() }
    }

    /// What an honest gateway would say of the message.
    pub fn says(&self, event: Event, envelope: &pb::Envelope) -> Evidence {
        let message = envelope::parse(envelope.clone()).unwrap();
        let now = Clock::default().now();
        let negative = event.is_negative().then(|| "RECIPIENT_REFUSED".parse().unwrap());
        Evidence {
            id: ReceiptId::new_v7(now, tongban::chance::bytes().unwrap()),
            event,
            reasons: negative.into_iter().collect(),
            token: None,
            at: now,
            clock_uncertainty_ms: 1_000,
            issuer: self.member.clone(),
            key_id: self.key.verifying_key().id(),
            agreement: None,
            table_version: 0,
            from: message.from.clone(),
            to: message.to.clone(),
            message_id: message.id,
            in_reply_to: message.in_reply_to,
            case_no: message.case_no.clone(),
            item_code: Some(message.item_code.clone()),
            step: message.step.clone(),
            header_digest: message.header_digest(),
            parts: message.parts.len() as u64,
            total_size: message.total_size(),
            instants: Instants {
                submitted: Some(message.created_at.time()),
                accepted: Some(now),
                ..Instants::default()
            },
            expires_at: Some(now.plus_ms(60_000)),
            attempts: 0,
            last_status: 0,
            asserted_by: None,
            previous: None,
            witnessed: None,
            mode: message.mode,
            next_attempt_at: None,
            extensions: vec![],
        }
    }

    /// A receipt of what an honest gateway would say.
    pub fn honest(&mut self, event: Event, envelope: &pb::Envelope) -> pbe::Receipt {
        let evidence = self.says(event, envelope);
        self.issue(&evidence)
    }

    /// A receipt of anything.
    pub fn issue(&mut self, evidence: &Evidence) -> pbe::Receipt {
        self.prove(evidence.to_leaf().unwrap())
    }

    /// A receipt of any bytes, between two leaves that nobody asks about.
    pub fn prove(&mut self, leaf: Vec<u8>) -> pbe::Receipt {
        let filler = leaf_hash(b"filler");
        let appended = self.tree.append(&[filler, leaf_hash(&leaf), filler]);
        let (size, root) = (self.tree.size(), self.tree.root());
        let checkpoint = Checkpoint { origin: self.key.verifying_key().name().to_owned(), size, root };
        let proof = TlogProof {
            extra: None,
            index: appended.first_index + 1,
            path: appended.paths()[1].clone(),
            checkpoint_note: checkpoint.sign(&self.key).unwrap(),
        };
        receipt::to_wire(Receipt { leaf, proof })
    }
}

pub const WINDOW: (&str, &str) = ("450200", "window");
pub const APPROVAL: (&str, &str) = ("440600", "approval");

/// Three cities, of which 450200 runs.
pub struct World {
    pub alliance: Alliance,
    pub gateway: Gateway,
    /// The malicious partner's log.
    pub foshan: Forge,
    /// A third city's log.
    pub yinchuan: Forge,
    /// A log called like the partner's, with a key that no directory knows.
    pub stranger: Forge,
    /// Our own log, as nobody but us should have it.
    pub own: Forge,
}

impl World {
    pub async fn new() -> World {
        let cities: [(&str, &[&str]); 3] =
            [("450200", &["window", "archive"]), ("440600", &["approval"]), ("640100", &["desk"])];
        let alliance = Alliance::new(&cities);
        let gateway = alliance.start("450200").await;
        let foshan = Forge::of(&alliance, "440600");
        World {
            stranger: Forge::unknown(foshan.key.verifying_key().name(), &foshan.member),
            yinchuan: Forge::of(&alliance, "640100"),
            own: Forge::of(&alliance, "450200"),
            foshan,
            gateway,
            alliance,
        }
    }

    /// The malicious gateway's client at ours.
    pub fn partner(&self) -> Client {
        self.alliance.client_of("440600/gateway", "450200")
    }

    pub fn window(&self) -> Client {
        self.alliance.client(WINDOW.0, WINDOW.1)
    }

    /// A receipt of what the partner's gateway would say, but for one thing.
    pub fn but(&mut self, envelope: &pb::Envelope, change: impl FnOnce(&mut Evidence)) -> Option<pbe::Receipt> {
        let mut evidence = self.foshan.says(Event::SubmissionAccepted, envelope);
        change(&mut evidence);
        Some(self.foshan.issue(&evidence))
    }

    /// An honest receipt whose form is changed afterwards.
    pub fn bent(&mut self, envelope: &pb::Envelope, bend: impl FnOnce(&mut pbe::Receipt)) -> Option<pbe::Receipt> {
        let mut receipt = self.foshan.honest(Event::SubmissionAccepted, envelope);
        bend(&mut receipt);
        Some(receipt)
    }

    /// Stops the gateway and returns its leaves, its messages, and its lanes that hold something.
    pub async fn kept(self) -> (u64, u64, usize) {
        let config = self.alliance.config("450200");
        self.gateway.stop().await;
        let (writer, readers) = open_store(&config);
        let lanes = readers.look(|look| look.busy_lanes()).unwrap().len();
        (writer.tree().unwrap().0.size(), writer.last_seq().unwrap(), lanes)
    }
}

/// A message of ours on its way to the partner, and a client that may look at it.
pub async fn sent(world: &World) -> (pb::Envelope, Client) {
    let (window, sent) = (world.window(), envelope(WINDOW, APPROVAL));
    window.submit(sent.clone()).await.unwrap();
    (sent, window)
}

/// State, own leaves by event, and the number of receipts of others.
pub async fn stands(world: &World, window: &Client, sent: &pb::Envelope) -> (pbe::State, Vec<Event>, usize) {
    let state = window.message("", &sent.message_id).await.unwrap().state();
    let mut checker = world.alliance.checker();
    let all = window.evidence("", &sent.message_id).await;
    let (own, others): (Vec<_>, Vec<_>) = all
        .into_iter()
        .map(|receipt| check(&mut checker, receipt))
        .partition(|checked| checked.evidence.issuer == world.own.member);
    (state, own.into_iter().map(|checked| checked.evidence.event).collect(), others.len())
}

/// Cuts the signature off a receipt's checkpoint.
pub fn unsign(receipt: &mut pbe::Receipt) {
    let end = receipt.checkpoint.find('—').unwrap();
    receipt.checkpoint.truncate(end);
}
