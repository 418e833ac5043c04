//! Decides how a message is made from a command line: its parts read from files, a fresh salt for each, a UUIDv7 for an
//! id. Never sends one, and never reads a file twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Args, ValueEnum};

use super::super::client::{address, form};
use super::super::out::table;
use super::super::span::Span;
use super::super::{Exit, Failure, now};
use super::attach::Attachment;
use crate::id::MessageId;
use crate::lang::Unfit;
use crate::limits::INLINE_BYTES_MAX;
use crate::message::{
    Address, CaseNo, Envelope, ItemCode, MediaType, Mode, Part, PartName, Step, TextError, part_digest, trace_id,
};
use crate::party::Division;
use crate::{chance, keys};

/// What a message says, as the command line spells it.
#[derive(Args)]
pub struct Written {
    /// The recipient: a city, and one of its systems if you know which; without it the routing tables choose
    #[arg(long, value_name = "CITY[/SYSTEM]", value_parser = address)]
    to: Option<Address>,
    /// Code of the service item
    #[arg(long, value_name = "CODE")]
    item: ItemCode,
    /// The case number; messages of one case arrive in order
    #[arg(long, value_name = "NO")]
    case: Option<CaseNo>,
    /// Step of the case, e.g. apply
    #[arg(long)]
    step: Option<Step>,
    /// How the cities share the work
    #[arg(long, value_enum)]
    mode: Option<WrittenMode>,
    /// Division code of the competent office
    #[arg(long, value_name = "DIVISION")]
    jurisdiction: Option<Division>,
    /// A document to send; may be given more than once
    #[arg(long = "file", value_name = "PATH")]
    files: Vec<PathBuf>,
    /// A large document to send beside the message, up to 4 GiB; may be given more than once
    #[arg(long = "attach", id = "attach", value_name = "PATH")]
    attachments: Vec<PathBuf>,
    /// Text to send, as a part text.txt
    #[arg(long)]
    text: Option<String>,
    /// A free attribute; may be given more than once
    #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = attribute)]
    attributes: Vec<(String, String)>,
    /// After this time the message is of no more use, e.g. 2h [default: the gateway's, 7 days]
    #[arg(long, value_name = "SPAN")]
    expires_in: Option<Span>,
    /// The message that this one answers
    #[arg(long, value_name = "UUID")]
    in_reply_to: Option<MessageId>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum WrittenMode {
    /// Fully online (全程网办)
    Online,
    /// The receiving window checks and forwards (异地代收代办)
    Proxy,
    /// Several offices together (多地联办)
    Joint,
}

/// All of a message but its id, its moment and its salts.
#[derive(Debug, Clone)]
pub struct Draft {
    pub to: Option<Address>,
    pub jurisdiction: Option<Division>,
    pub item_code: ItemCode,
    pub case_no: Option<CaseNo>,
    pub step: Option<Step>,
    pub mode: Option<Mode>,
    pub in_reply_to: Option<MessageId>,
    pub contents: Vec<Content>,
    /// Files that go beside the message.
    pub attachments: Vec<Attachment>,
    pub attributes: BTreeMap<String, String>,
    pub expires_in_ms: Option<u64>,
    /// The trace that the message belongs to.
    pub traceparent: Option<String>,
}

/// One part without its salt.
#[derive(Debug, Clone)]
pub struct Content {
    pub name: PartName,
    pub media_type: MediaType,
    pub bytes: Bytes,
}

impl Draft {
    /// Reads what the command line names.
    pub fn read(written: &Written) -> Result<Draft, Failure> {
        let mut contents = written.files.iter().map(|path| file(path)).collect::<Result<Vec<_>, _>>()?;
        if let Some(text) = &written.text {
            let bytes = Bytes::from(text.clone());
            contents.push(Content::new("text.txt", "text/plain; charset=utf-8", bytes).map_err(|why| unfit(&why))?);
        }
        let size: usize = contents.iter().map(|content| content.bytes.len()).sum();
        if size > INLINE_BYTES_MAX {
            let en = format!("{size} bytes of parts; a message holds at most {INLINE_BYTES_MAX}");
            return Err(Failure::new(
                Exit::Data,
                en,
                format!("附件共 {size} 字节，每条消息至多 {INLINE_BYTES_MAX} 字节"),
            ));
        }
        Ok(Draft {
            to: written.to.clone(),
            jurisdiction: written.jurisdiction.clone(),
            item_code: written.item.clone(),
            case_no: written.case.clone(),
            step: written.step.clone(),
            mode: written.mode.map(Mode::from),
            in_reply_to: written.in_reply_to,
            contents,
            attachments: written.attachments.iter().map(|path| Attachment::find(path)).collect::<Result<_, _>>()?,
            attributes: written.attributes.iter().cloned().collect(),
            expires_in_ms: written.expires_in.map(Span::ms),
            traceparent: Some(traceparent()?),
        })
    }

    /// The message, from `me`, written now, with fresh salts.
    pub fn envelope(&self, me: &Address, id: MessageId) -> Result<Envelope, Failure> {
        let at = now();
        let attached = self.attachments.iter().map(|file| file.part(chance::bytes().map_err(no_chance)?));
        Ok(Envelope {
            id,
            from: me.clone(),
            to: self.to.clone(),
            jurisdiction: self.jurisdiction.clone(),
            redrive_of: None,
            item_code: self.item_code.clone(),
            case_no: self.case_no.clone(),
            step: self.step.clone(),
            mode: self.mode,
            in_reply_to: self.in_reply_to,
            parts: self.contents.iter().map(Content::part).chain(attached).collect::<Result<_, _>>()?,
            sealed: None,
            attributes: self.attributes.clone(),
            created_at: at.into(),
            expires_at: self.expires_in_ms.map(|ms| at.plus_ms(ms).into()),
            traceparent: self.traceparent.clone(),
        })
    }
}

/// The trace of whoever runs this, from `TRACEPARENT`; without one, or with one that is malformed, a new trace.
fn traceparent() -> Result<String, Failure> {
    let given = std::env::var("TRACEPARENT").ok().filter(|given| trace_id(given).is_some());
    if let Some(given) = given {
        return Ok(given);
    }
    let (trace, parent): ([u8; 16], [u8; 8]) =
        (chance::bytes().map_err(no_chance)?, chance::bytes().map_err(no_chance)?);
    Ok(format!("00-{}-{}-01", hex::encode(trace), hex::encode(parent)))
}

impl Content {
    /// A part with this name, type and content.
    pub fn new(name: &str, media_type: &str, bytes: Bytes) -> Result<Content, TextError> {
        Ok(Content { name: name.parse()?, media_type: media_type.parse()?, bytes })
    }

    fn part(&self) -> Result<Part, Failure> {
        let salt = chance::bytes().map_err(no_chance)?;
        Ok(Part {
            name: self.name.clone(),
            media_type: self.media_type.clone(),
            size: self.bytes.len() as u64,
            salt,
            digest: part_digest(&salt, &self.bytes),
            content: crate::message::Content::Inline(self.bytes.clone()),
        })
    }
}

/// A UUIDv7 of this moment.
pub fn new_id() -> Result<MessageId, Failure> {
    Ok(MessageId::new_v7(now(), chance::bytes().map_err(no_chance)?))
}

/// Tells every faulty field before anything is sent, by the gateway's own rules.
pub fn check(envelope: &Envelope) -> Result<(), Failure> {
    form(envelope).map_err(|faults| {
        let rows = || faults.iter().map(|fault| vec![fault.field.clone(), fault.must.clone()]);
        let en = format!("the message is not well-formed\n{}", table(&["field", "must"], rows()));
        Failure::new(Exit::Data, en, format!("消息不合规定\n{}", table(&["字段", "要求"], rows())))
    })
}

fn file(path: &Path) -> Result<Content, Failure> {
    let bytes = Bytes::from(keys::read_public(path)?);
    let (name, media_type) = name_and_type(path)?;
    Ok(Content { name, media_type, bytes })
}

/// The part name and the media type that a file's name gives.
pub fn name_and_type(path: &Path) -> Result<(PartName, MediaType), Failure> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let parsed = name.parse().and_then(|part| Ok((part, media_type(name).parse()?)));
    parsed.map_err(|why| unfit(&why).at(path.display()))
}

fn unfit(why: &TextError) -> Failure {
    let zh = match why {
        TextError::PartName => "文件名须为 1 至 255 字节，不含路径、控制字符或不可见字符",
        _ => "媒体类型不合规定",
    };
    Failure::new(Exit::Data, why, zh)
}

fn no_chance(fault: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Io, format!("no random numbers: {fault}"), format!("没有随机数：{fault}"))
}

/// Reads `KEY=VALUE`.
fn attribute(given: &str) -> Result<(String, String), Unfit> {
    let must = || Unfit::new("KEY=VALUE, e.g. channel=window", "应写作 键=值，例如 channel=window");
    let (key, value) = given.split_once('=').ok_or_else(must)?;
    Ok((key.to_owned(), value.to_owned()))
}

/// The media type that a file's name suggests.
fn media_type(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref().unwrap_or_default() {
        "json" => "application/json",
        "xml" => "application/xml",
        "pdf" => "application/pdf",
        "ofd" => "application/ofd",
        "zip" => "application/zip",
        "txt" => "text/plain; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "html" => "text/html; charset=utf-8",
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "tif" | "tiff" => "image/tiff",
        "doc" => "application/msword",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        _ => "application/octet-stream",
    }
}

impl From<WrittenMode> for Mode {
    fn from(mode: WrittenMode) -> Mode {
        match mode {
            WrittenMode::Online => Mode::Online,
            WrittenMode::Proxy => Mode::Proxy,
            WrittenMode::Joint => Mode::Joint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(contents: Vec<Content>) -> Draft {
        Draft {
            traceparent: None,
            to: Some(address("440600").unwrap()),
            jurisdiction: None,
            item_code: "DEMO-001".parse().unwrap(),
            case_no: None,
            step: None,
            mode: None,
            in_reply_to: None,
            contents,
            attachments: vec![],
            attributes: BTreeMap::new(),
            expires_in_ms: Some(1_000),
        }
    }

    #[test]
    fn an_attribute_is_cut_at_its_first_equals_sign() {
        assert_eq!(attribute("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(attribute("a="), Ok(("a".to_owned(), String::new())));
        assert!(attribute("a").is_err());
    }

    #[test]
    fn a_media_type_follows_the_name_and_always_parses() {
        assert_eq!(media_type("申请表.PDF"), "application/pdf");
        for name in ["a", "a.", "a.exe", "a.docx", "a.xlsx", "a.tiff", "a.txt", "a.ofd", "a.json"] {
            assert!(media_type(name).parse::<MediaType>().is_ok(), "{name}");
        }
    }

    #[test]
    fn each_envelope_has_its_own_salts_and_is_well_formed() {
        let content = Content::new("a.txt", "text/plain", Bytes::from_static(b"a")).unwrap();
        let (draft, me) = (draft(vec![content]), address("450200/window").unwrap());
        let [a, b] = [(); 2].map(|()| draft.envelope(&me, new_id().unwrap()).unwrap());
        assert!(check(&a).is_ok() && check(&b).is_ok());
        assert_ne!(a.parts[0].salt, b.parts[0].salt);
        assert_ne!(a.header_digest(), b.header_digest());
    }

    #[test]
    fn every_fault_is_told_before_anything_is_sent() {
        let mut draft = draft(vec![]);
        draft.attributes = [("Ä".to_owned(), "x".to_owned()), ("b".to_owned(), "\n".to_owned())].into();
        let envelope = draft.envelope(&address("450200/window").unwrap(), new_id().unwrap()).unwrap();
        let failure = check(&envelope).unwrap_err();
        assert_eq!(failure.exit, Exit::Data);
        let (en, zh) = failure.words.unwrap();
        assert!(en.to_string().contains("envelope.attributes[b]"), "{en}");
        assert!(zh.contains("envelope.attributes[b]"), "{zh}");
    }
}
