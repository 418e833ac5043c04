//! Decides how a call that did not succeed is told and with which exit code the command ends: no gateway there, a refusal
//! with its reason, or an answer that does not hold. Never decides whether to try again.

use std::error::Error;

use serde_json::{Value, json};
use tonic::{Code, Status};

use super::super::out::table;
use super::super::{Exit, Failure, Out, text};
use super::told::plain;
use crate::reason::{Reason, Retry};
use crate::receipt::{Checked, ReceiptError};
use crate::tls::dial::DialError;
use crate::wire::status::Answered;

/// The same words in both languages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    pub en: String,
    pub zh: String,
}

/// Why a call brought nothing that a command can go on with.
#[derive(Debug)]
pub enum Trouble {
    /// No connection, or it ended before an answer.
    Unreachable { gateway: String, why: Words, hint: Words },
    /// The gateway answered no.
    Refused(Box<Refused>),
    /// The gateway answered, but its answer does not hold.
    Unsound(Words),
}

/// A refusal, with the gateway's receipt about it when there is one that holds.
#[derive(Debug)]
pub struct Refused {
    pub answered: Answered,
    pub on_record: Option<Checked>,
}

impl Words {
    pub fn new(en: impl Into<String>, zh: impl Into<String>) -> Words {
        Words { en: en.into(), zh: zh.into() }
    }
}

impl Trouble {
    /// An answer that does not hold.
    pub fn unsound(en: impl Into<String>, zh: impl Into<String>) -> Trouble {
        Trouble::Unsound(Words::new(en, zh))
    }

    /// A receipt that does not hold, with the part that fails.
    pub fn receipt(fault: &ReceiptError) -> Trouble {
        Trouble::unsound(
            format!("the receipt does not hold: {fault}"),
            format!("回执验证不通过：{}", text::receipt_zh(fault)),
        )
    }

    /// The failure of the connection behind a status; `None` when the gateway itself answered.
    pub fn of_connection(gateway: &str, status: &Status) -> Option<Trouble> {
        let gateway = gateway.to_owned();
        if let Some(dial) = DialError::among(status) {
            let (why, hint) = (dial_words(dial), dial_hint(dial));
            return Some(Trouble::Unreachable { gateway, why, hint });
        }
        let cause = status.source().filter(|_| status.details().is_empty())?;
        let why = format!("the connection ended: {}", deepest(cause));
        let why = Words { zh: format!("连接中断：{}", deepest(cause)), en: why };
        let hint = Words::new(
            "if it ends at once each time, the gateway's log says why it refuses the certificate",
            "若每次都立即中断，网关日志中有拒绝该证书的原因",
        );
        Some(Trouble::Unreachable { gateway, why, hint })
    }

    /// Shows a refusal as data when JSON is asked for; the words are the failure's.
    pub fn shown(self, out: &Out) -> Failure {
        match &self {
            Trouble::Refused(refused) if out.json() => {
                match out.show(&json!({ "refused": refused.json() }), String::new) {
                    Ok(()) => self.into(),
                    Err(fault) => fault.into(),
                }
            }
            _ => self.into(),
        }
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Failure {
        match trouble {
            Trouble::Unreachable { gateway, why, hint } => {
                let en = format!("the gateway at {gateway} does not answer: {}", why.en);
                let zh = format!("网关 {gateway} 没有应答：{}", why.zh);
                Failure::new(Exit::Unavailable, en, zh).hint(hint.en, hint.zh)
            }
            Trouble::Refused(refused) => refused.failure(),
            Trouble::Unsound(words) => {
                let (en, zh) = (format!("the answer does not hold: {}", words.en), format!("应答不成立：{}", words.zh));
                let ask = "treat nothing as done, keep the words above and ask the gateway's operators";
                Failure::new(Exit::Data, en, zh).hint(ask, "不要视为已办，请保留以上信息并联系网关运维人员")
            }
        }
    }
}

impl Refused {
    /// The reason's code, or the name of the gRPC status when the answer has none.
    pub fn code(&self) -> String {
        let status = || format!("{:?}", self.answered.code);
        self.answered.reason.as_deref().map_or_else(status, plain)
    }

    /// How a command ends that was refused so.
    pub fn exit(&self) -> Exit {
        match self.reason() {
            Some(Reason::NotPermitted) => Exit::NoPermission,
            Some(
                Reason::InvalidEnvelope
                | Reason::InvalidTables
                | Reason::MessageTooLarge
                | Reason::ClockAhead
                | Reason::StreamProtocol
                | Reason::AttachmentTooLarge
                | Reason::DigestMismatch,
            ) => Exit::Data,
            Some(reason) if reason.retry() == Retry::Later => Exit::TempFail,
            Some(_) => Exit::No,
            None => exit_of(self.answered.code, self.answered.retry_after_ms),
        }
    }

    /// Reason, words, faulty fields and record on a few lines.
    pub fn words(&self) -> Words {
        let detail = self.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
        let mut words = match self.reason() {
            Some(reason) => Words::new(format!("{}{detail}", reason.en()), format!("{}{detail}", reason.zh())),
            None => Words::new(self.localized("en"), self.localized("zh-CN")),
        };
        words.en = format!("{}: {}", self.code(), words.en);
        words.zh = format!("{}：{}", self.code(), words.zh);
        if !self.answered.faults.is_empty() {
            words.en += &format!("\n{}", self.faults(["field", "must"]));
            words.zh += &format!("\n{}", self.faults(["字段", "要求"]));
        }
        if let Some(Checked { evidence, log_origin, receipt, .. }) = &self.on_record {
            let (event, index) = (evidence.event, receipt.proof.index);
            words.en += &format!("\non record: receipt {} ({event}), leaf {index} of {log_origin}", evidence.id);
            words.zh += &format!("\n已留存证：回执 {}（{event}），日志 {log_origin} 第 {index} 项", evidence.id);
        }
        words
    }

    /// The refusal as data.
    pub fn json(&self) -> Value {
        let fault = |fault: &crate::wire::envelope::Fault| json!({ "field": fault.field, "must": fault.must });
        let record = self.on_record.as_ref().map(|checked| {
            json!({ "receipt_id": checked.evidence.id.to_string(), "event": checked.evidence.event.as_str(),
                "log": checked.log_origin, "index": checked.receipt.proof.index })
        });
        json!({
            "reason": self.answered.reason,
            "grpc_status": self.answered.code as i32,
            "text": self.answered.text,
            "faults": self.answered.faults.iter().map(fault).collect::<Vec<_>>(),
            "retry": self.exit() == Exit::TempFail,
            "retry_after_ms": self.answered.retry_after_ms,
            "receipt": record,
        })
    }

    fn failure(&self) -> Failure {
        let words = self.words();
        let failure = Failure::new(self.exit(), words.en, words.zh);
        match self.reason() {
            Some(reason) => failure.hint(reason.hint_en(), reason.hint_zh()),
            None => failure,
        }
    }

    fn reason(&self) -> Option<Reason> {
        self.answered.reason.as_deref().and_then(Reason::from_code)
    }

    /// What stands in the text beside the reason's own words. Faults have their table.
    fn detail(&self) -> Option<String> {
        let rest = self.answered.text.strip_prefix(self.reason()?.en())?.strip_prefix(": ")?;
        self.answered.faults.is_empty().then(|| plain(rest))
    }

    /// The gateway's own words for people, for a reason that this build does not know.
    fn localized(&self, locale: &str) -> String {
        let told = self.answered.localized.iter().find(|(told, _)| told == locale);
        plain(told.map_or(&self.answered.text, |(_, text)| text))
    }

    fn faults(&self, head: [&str; 2]) -> String {
        table(&head, self.answered.faults.iter().map(|fault| vec![plain(&fault.field), plain(&fault.must)]))
    }
}

/// For an answer without a reason of ours: one of the layers before the doors, or another server.
fn exit_of(code: Code, retry_after_ms: Option<u64>) -> Exit {
    match code {
        _ if retry_after_ms.is_some() => Exit::TempFail,
        Code::PermissionDenied | Code::Unauthenticated => Exit::NoPermission,
        Code::InvalidArgument | Code::OutOfRange => Exit::Data,
        Code::Unavailable | Code::Unimplemented => Exit::Unavailable,
        Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted | Code::Cancelled => Exit::TempFail,
        Code::Unknown | Code::Internal | Code::DataLoss => Exit::Software,
        _ => Exit::No,
    }
}

fn dial_words(dial: &DialError) -> Words {
    let zh = match dial {
        DialError::Address(uri) => format!("{uri} 不是 https://host:port 形式的地址"),
        DialError::Resolve { host, cause } => format!("无法解析主机名 {host}：{cause}"),
        DialError::Astray { host, address } => format!("{host} 的地址 {address} 不可能是伙伴的所在"),
        DialError::Tcp { address, cause } => format!("无法连接 {address}：{cause}"),
        DialError::Tls { address, refused } => format!("与 {address} 的握手失败（{}）：{refused}", refused.why.code()),
        DialError::Alpn { address } => format!("{address} 不支持 HTTP/2"),
    };
    Words::new(dial.to_string(), zh)
}

fn dial_hint(dial: &DialError) -> Words {
    match dial {
        DialError::Tls { .. } | DialError::Alpn { .. } => Words::new(
            "the address answers, but not as the gateway that the directory names; check --gateway, --directory and --crl",
            "该地址有应答，但不是目录所列的网关；请核对 --gateway、--directory 与 --crl",
        ),
        _ => Words::new(
            "is the gateway running? start it with: tongban serve --config DATA/tongban.toml",
            "网关是否在运行？启动命令：tongban serve --config DATA/tongban.toml",
        ),
    }
}

/// The last of an error's causes, which says most.
fn deepest(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    plain(&last.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::envelope::Fault;
    use crate::wire::status::{self, Refused as Refusal};

    fn refused(refusal: &Refusal) -> Refused {
        Refused { answered: status::from_status(&status::to_status(refusal)), on_record: None }
    }

    #[test]
    fn every_reason_ends_with_a_code_that_says_who_can_mend_it() {
        for (reason, exit) in [
            (Reason::InvalidEnvelope, Exit::Data),
            (Reason::NotPermitted, Exit::NoPermission),
            (Reason::NoRoute, Exit::No),
            (Reason::IdempotencyConflict, Exit::No),
            (Reason::MessageNotFound, Exit::No),
            (Reason::Busy, Exit::TempFail),
            (Reason::StoreFull, Exit::TempFail),
            (Reason::ShuttingDown, Exit::TempFail),
        ] {
            assert_eq!(refused(&Refusal::new(reason)).exit(), exit, "{reason:?}");
        }
    }

    #[test]
    fn a_refusal_names_its_code_its_detail_and_every_faulty_field() {
        let refusal = refused(&Refusal::new(Reason::NoRoute).with_detail("440600 pulls"));
        assert!(refusal.words().en.starts_with("NO_ROUTE: the recipient city"), "{:?}", refusal.words());
        assert!(refusal.words().en.ends_with(": 440600 pulls"), "{:?}", refusal.words());
        assert!(refusal.words().zh.starts_with("NO_ROUTE：接收城市"), "{:?}", refusal.words());
        let fault = |field: &str| Fault { field: field.to_owned(), must: "is obligatory".to_owned() };
        let refusal = refused(&Refusal::faults(vec![fault("envelope.item_code"), fault("envelope.from.city")]));
        let words = refusal.words();
        assert!(words.en.contains("envelope.item_code") && words.zh.contains("envelope.from.city"), "{words:?}");
        assert_eq!(refusal.json()["faults"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn an_unknown_reason_is_told_in_the_gateways_own_words() {
        let mut refusal = refused(&Refusal::new(Reason::Busy));
        refusal.answered.reason = Some("NEWER".to_owned());
        refusal.answered.localized = vec![("zh-CN".to_owned(), "新原因\u{1b}[2J".to_owned())];
        assert!(refusal.words().zh.starts_with("NEWER：新原因?[2J"), "{:?}", refusal.words());
        assert_eq!(refusal.exit(), Exit::TempFail);
    }

    #[test]
    fn an_answer_without_a_reason_is_judged_by_its_status() {
        let refused = |code| Refused { answered: status::from_status(&Status::new(code, "x")), on_record: None };
        assert_eq!(refused(Code::Unauthenticated).exit(), Exit::NoPermission);
        assert_eq!(refused(Code::DeadlineExceeded).exit(), Exit::TempFail);
        assert_eq!(refused(Code::Unavailable).words().en, "Unavailable: x");
    }
}
