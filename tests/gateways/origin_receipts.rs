//! A gateway takes another city's message only with the receipt of its origin: forged, missing or foreign, it is refused
//! before custody. Receipts on their way home are held to the same.

use crate::alliance::{self, Alliance, Client, check, envelope, new_id, reason};
use tongban::clock::Clock;
use tongban::evidence::{Event, Evidence};
use tongban::keys;
use tongban::party::Member;
use tongban::receipt::Receipt;
use tongban::tlog::checkpoint::Checkpoint;
use tongban::tlog::leaf_hash;
use tongban::tlog::note::SigningKey;
use tongban::tlog::receipt_file::TlogProof;
use tongban::tlog::tree::Tree;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;
use tongban::wire::receipt::{from_wire, to_wire};

const LIUZHOU: (&str, &str) = ("450200", "window");
const FOSHAN: (&str, &str) = ("440600", "approval");

/// A receipt in a log of its own over `evidence`, signed with a city's real log key.
fn forge(alliance: &Alliance, city: &str, evidence: &Evidence) -> Receipt {
    let seed = keys::read_seed(&alliance.folder.join(format!("pki/{city}/log.key"))).unwrap();
    let directory = alliance.directory();
    let name = directory.member(&city.parse().unwrap()).unwrap().log_keys[0].name().to_owned();
    let key = SigningKey::from_seed(&name, seed.bytes()).unwrap();
    sign(&key, evidence)
}

fn sign(key: &SigningKey, evidence: &Evidence) -> Receipt {
    let leaf = Evidence { key_id: key.verifying_key().id(), ..evidence.clone() }.to_leaf().unwrap();
    let mut tree = Tree::empty();
    let path = tree.append(&[leaf_hash(&leaf)]).paths().remove(0);
    let origin = key.verifying_key().name().to_owned();
    let checkpoint_note = Checkpoint { origin, size: 1, root: tree.root() }.sign(key).unwrap();
    Receipt { leaf, proof: TlogProof { extra: None, index: 0, path, checkpoint_note } }
}

/// Two cities of which only the recipient runs, and the evidence that the sender's gateway would have issued.
struct Border {
    alliance: Alliance,
    _foshan: alliance::Gateway,
    gateway: Client,
    envelope: pb::Envelope,
    evidence: Evidence,
}

async fn border() -> Border {
    let alliance = Alliance::new(&[("450200", &["window"]), ("440600", &["approval"]), ("640100", &["desk"])]);
    let envelope = envelope(LIUZHOU, FOSHAN);
    let evidence = {
        let liuzhou = alliance.start("450200").await;
        let accepted = alliance.client("450200", "window").submit(envelope.clone()).await.unwrap();
        liuzhou.stop().await;
        check(&mut alliance.checker(), accepted).evidence
    };
    let foshan = alliance.start("440600").await;
    let gateway = alliance.client_of("450200/gateway", "440600");
    Border { alliance, _foshan: foshan, gateway, envelope, evidence }
}

impl Border {
    async fn carry(&self, envelope: pb::Envelope, origin: Option<pbe::Receipt>) -> Result<pbe::Receipt, tonic::Status> {
        let request = pb::SubmitRequest { envelope: Some(envelope), origin_receipt: origin, via: vec![] };
        Ok(self.gateway.exchange.clone().submit(request).await?.into_inner().receipt.unwrap())
    }

    async fn refused(&self, name: &str, origin: Option<pbe::Receipt>, expected: &str) {
        let refused = self.carry(self.envelope.clone(), origin).await.expect_err(name);
        assert_eq!(reason(&refused), expected, "{name}");
        let told = tongban::wire::status::from_status(&refused);
        assert!(told.receipt.is_none(), "{name}: what is not proved leaves no leaf");
        let looked = self.gateway.message("450200", &self.envelope.message_id).await.unwrap_err();
        assert_eq!(reason(&looked), "MESSAGE_NOT_FOUND", "{name}: nothing is stored");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_forged_origin_receipt_is_refused_before_custody() {
    let border = border().await;
    let good = forge(&border.alliance, "450200", &border.evidence);
    let wire = |receipt: &Receipt| Some(to_wire(receipt.clone()));
    border.refused("missing", None, "ORIGIN_RECEIPT_MISSING").await;
    let mut leaf = good.clone();
    leaf.leaf[10] ^= 1;
    border.refused("leaf changed", wire(&leaf), "ORIGIN_RECEIPT_INVALID").await;
    let mut index = good.clone();
    index.proof.index = 1;
    border.refused("index changed", wire(&index), "ORIGIN_RECEIPT_INVALID").await;
    let mut path = to_wire(good.clone());
    path.inclusion_path = vec![vec![0; 32].into()];
    border.refused("path too long", Some(path.clone()), "ORIGIN_RECEIPT_INVALID").await;
    path.inclusion_path = vec![vec![0; 31].into()];
    border.refused("a hash too short", Some(path), "ORIGIN_RECEIPT_INVALID").await;
    let mut size = good.clone();
    size.proof.checkpoint_note = size.proof.checkpoint_note.replacen("\n1\n", "\n2\n", 1);
    border.refused("size changed", wire(&size), "ORIGIN_RECEIPT_INVALID").await;
    let unknown = SigningKey::from_seed("450200.gateway.alliance.example/log/a/1", &[9; 32]).unwrap();
    border.refused("unknown key", wire(&sign(&unknown, &border.evidence)), "ORIGIN_RECEIPT_INVALID").await;
    let nowhere = SigningKey::from_seed("990001.gateway.alliance.example/log/a/1", &[9; 32]).unwrap();
    border.refused("unknown log", wire(&sign(&nowhere, &border.evidence)), "ORIGIN_RECEIPT_INVALID").await;
    let other_log = forge(&border.alliance, "640100", &border.evidence);
    border.refused("another member's log", wire(&other_log), "ORIGIN_RECEIPT_INVALID").await;
    let taken = border.carry(border.envelope.clone(), wire(&good)).await.unwrap();
    let taken = check(&mut border.alliance.checker(), taken);
    assert_eq!(taken.evidence.event, Event::RelayAccepted, "with its own receipt the message is taken");
    assert_eq!(taken.receipt.proof.index, 0, "and none of the refusals left a leaf");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_receipt_that_speaks_of_something_else_is_foreign() {
    let border = border().await;
    let good = &border.evidence;
    let rows = [
        ("message id", Evidence { message_id: new_id().parse().unwrap(), ..good.clone() }),
        ("digest", Evidence { header_digest: tongban::message::Digest([1; 32]), ..good.clone() }),
        ("event", Evidence { event: Event::RelayAccepted, ..good.clone() }),
        (
            "recipient",
            Evidence {
                to: Some(tongban::message::Address { city: "640100".parse().unwrap(), system: None }),
                ..good.clone()
            },
        ),
        (
            "sender",
            Evidence {
                from: tongban::message::Address {
                    city: "450200".parse().unwrap(),
                    system: Some("other".parse().unwrap()),
                },
                ..good.clone()
            },
        ),
    ];
    for (name, evidence) in rows {
        let receipt = to_wire(forge(&border.alliance, "450200", &evidence));
        border.refused(name, Some(receipt), "ORIGIN_RECEIPT_FOREIGN").await;
    }
    let elsewhere = Evidence { issuer: "640100".parse().unwrap(), ..good.clone() };
    let receipt = to_wire(forge(&border.alliance, "640100", &elsewhere));
    border.refused("issuer", Some(receipt), "ORIGIN_RECEIPT_FOREIGN").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_speaks_for_its_own_city_only() {
    let border = border().await;
    let receipt = to_wire(forge(&border.alliance, "450200", &border.evidence));
    let stranger = border.alliance.client_of("640100/gateway", "440600");
    let request =
        pb::SubmitRequest { envelope: Some(border.envelope.clone()), origin_receipt: Some(receipt), via: vec![] };
    let refused = stranger.exchange.clone().submit(request).await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_PERMITTED");
    let looked = border.gateway.message("450200", &border.envelope.message_id).await.unwrap_err();
    assert_eq!(reason(&looked), "MESSAGE_NOT_FOUND");
}

/// Sends one batch of receipts home and returns the positions that were refused.
async fn bring(client: &Client, receipts: Vec<Receipt>) -> Result<Vec<u32>, String> {
    let batch = pb::ReceiptBatch {
        batch_id: "b".to_owned(),
        receipts: receipts.into_iter().map(to_wire).collect(),
        details: vec![],
    };
    let step = pb::SubmitStreamRequest { request: Some(pb::submit_stream_request::Request::Receipts(batch)) };
    let mut answers = client.exchange.clone().submit_stream(tokio_stream::iter([step])).await.unwrap().into_inner();
    match answers.message().await.unwrap().unwrap().response.unwrap() {
        pb::submit_stream_response::Response::Receipts(taken) => {
            Ok(taken.refused.into_iter().map(|refused| refused.position).collect())
        }
        pb::submit_stream_response::Response::Status(status) => Err(status.message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_home_are_believed_only_from_the_recipient_and_only_about_our_message() {
    let alliance = Alliance::new(&[("450200", &["window"]), ("440600", &["approval"]), ("640100", &["desk"])]);
    let _liuzhou = alliance.start("450200").await;
    let window = alliance.client("450200", "window");
    let sent = envelope(LIUZHOU, FOSHAN);
    let accepted = window.submit(sent.clone()).await.unwrap();
    let base = check(&mut alliance.checker(), accepted).evidence;
    let handed = |issuer: &str| Evidence {
        id: tongban::id::ReceiptId::new_v7(Clock::default().now(), tongban::chance::bytes().unwrap()),
        event: Event::HandedOver,
        issuer: issuer.parse::<Member>().unwrap(),
        ..base.clone()
    };
    let good = forge(&alliance, "440600", &handed("440600"));
    let mut altered = good.clone();
    altered.leaf[10] ^= 1;
    let unknown = Evidence { message_id: new_id().parse().unwrap(), ..handed("440600") };
    let digest = Evidence { header_digest: tongban::message::Digest([1; 32]), ..handed("440600") };
    let batch = vec![
        altered,
        forge(&alliance, "640100", &handed("640100")),
        forge(&alliance, "440600", &unknown),
        forge(&alliance, "440600", &digest),
        forge(&alliance, "440600", &handed("640100")),
    ];
    let gateway = alliance.client_of("440600/gateway", "450200");
    assert_eq!(bring(&gateway, batch).await.unwrap().len(), 5, "each is refused for itself");
    assert_eq!(
        window.message("", &sent.message_id).await.unwrap().state(),
        pbe::State::Accepted,
        "and changes nothing"
    );
    assert!(bring(&window, vec![good.clone()]).await.is_err(), "a system brings no receipts");

    let mixed = vec![forge(&alliance, "640100", &handed("640100")), good.clone(), good.clone()];
    assert_eq!(bring(&gateway, mixed).await.unwrap(), [0], "one bad receipt holds up no good one");
    assert!(bring(&gateway, vec![good]).await.unwrap().is_empty(), "known already");
    assert_eq!(window.message("", &sent.message_id).await.unwrap().state(), pbe::State::Confirmed);
    let mut checker = alliance.checker();
    let receipts = window.evidence("", &sent.message_id).await;
    let events = receipts.into_iter().map(|receipt| checker.check(from_wire(receipt).unwrap()).unwrap().evidence.event);
    assert_eq!(events.filter(|event| *event == Event::Witnessed).count(), 1, "three times brought, once witnessed");
}
