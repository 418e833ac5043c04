//! Decides how a message's header is read as its sender wrote it, so that its digest can be held against the receipts. Never
//! asks for a content.

use super::told::Told;
use super::{Client, Trouble, timed};
use crate::id::MessageId;
use crate::message::Envelope;
use crate::party::Division;
use crate::wire::envelope::parse;
use crate::wire::pb::exchange as pb;

impl Client {
    /// Where a message is, and its header as it was sent; none when retention has taken it, or it does not read.
    ///
    /// The contents of its parts are somewhere else: each is named by its digest alone.
    pub async fn header(&self, from: &Division, id: MessageId) -> Result<(Told, Option<Envelope>), Trouble> {
        let request = pb::GetMessageRequest { from_city: from.as_str().to_owned(), message_id: id.to_string() };
        let answer = self.answered(self.exchange().get_message(timed(request)).await)?;
        let header = answer.envelope.clone().and_then(|envelope| parse(without_contents(envelope)).ok());
        Ok((Told::read(answer)?, header.filter(|header| header.id == id)))
    }
}

/// An envelope whose parts all lie elsewhere: the header digest covers the same bytes either way.
fn without_contents(mut envelope: pb::Envelope) -> pb::Envelope {
    for part in &mut envelope.parts {
        let elsewhere = pb::part::Content::Attachment(pb::Attachment { digest: part.digest.clone() });
        part.content.get_or_insert(elsewhere);
    }
    envelope
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::{Content, Part, part_digest};
    use crate::time::Time;
    use crate::wire::envelope::to_wire;

    #[test]
    fn a_header_without_contents_has_the_digest_of_the_whole() {
        let part = Part {
            name: "a.txt".parse().unwrap(),
            media_type: "text/plain".parse().unwrap(),
            size: 1,
            salt: [3; 16],
            digest: part_digest(&[3; 16], b"x"),
            content: Content::Inline(Bytes::from_static(b"x")),
        };
        let envelope = Envelope {
            id: MessageId::from_bytes([1; 16]),
            from: super::super::address("450200/window").unwrap(),
            to: None,
            jurisdiction: None,
            redrive_of: None,
            item_code: "A".parse().unwrap(),
            case_no: Some("桂B-1".parse().unwrap()),
            step: None,
            mode: None,
            in_reply_to: None,
            parts: vec![part],
            sealed: None,
            attributes: [("a".to_owned(), "b".to_owned())].into(),
            created_at: Time::from_ms(1_000).into(),
            expires_at: None,
            traceparent: None,
        };
        let read = parse(without_contents(to_wire(&envelope))).unwrap();
        assert_eq!(read.header_digest(), envelope.header_digest());
        let mut changed = to_wire(&envelope);
        changed.parts[0].name = "b.txt".to_owned();
        assert_ne!(parse(without_contents(changed)).unwrap().header_digest(), envelope.header_digest());
    }
}
