//! Decides which logs and witnesses a trust file names, and whose each log is: the member stands in the log's own name. Never fetches a key.

use std::path::Path;

use super::super::{Exit, Failure, text};
use crate::directory::log_origin_prefix;
use crate::keys;
use crate::party::{Alliance, Member};
use crate::receipt::LogKey;
use crate::tlog::cosignature::WitnessKey;
use crate::tlog::note::{KeyError, VerifyingKey};

/// Whom a trust file names.
#[derive(Debug, Default)]
pub struct Trusted {
    pub logs: Vec<LogKey>,
    pub witnesses: Vec<WitnessKey>,
}

/// Reads a trust file: one vkey a line, of a log (type 0x01) or of a witness (type 0x04).
pub fn read(path: &Path) -> Result<Trusted, Failure> {
    let text = keys::read_text(path)?;
    let mut trusted = Trusted::default();
    for (number, line) in (1..).zip(text.lines()) {
        trusted.add(line).map_err(|failure| failure.at(format!("{}:{number}", path.display())))?;
    }
    if trusted.logs.is_empty() {
        let path = path.display();
        let en = format!("{path}: no key of a log in it");
        return Err(Failure::new(Exit::Data, en, format!("{path}：其中没有日志公钥")));
    }
    Ok(trusted)
}

impl Trusted {
    fn add(&mut self, line: &str) -> Result<(), Failure> {
        let unusable = |fault: KeyError| Failure::new(Exit::Data, fault, text::key_zh(&fault));
        if let Ok(witness) = WitnessKey::parse(line) {
            self.witnesses.push(witness);
            return Ok(());
        }
        let key = VerifyingKey::parse(line).map_err(unusable)?;
        match keeper(key.name()) {
            Some(member) => self.logs.push(LogKey { member, key }),
            None => {
                let name = key.name();
                let form = "<member>.gateway.<alliance>/log/<instance>/<generation>";
                let en = format!("{name} is not the name of a gateway's log, {form}");
                return Err(Failure::new(Exit::Data, en, format!("{name} 不是网关日志的名称 {form}")));
            }
        }
        Ok(())
    }
}

/// Whose log it is: `450200.gateway.alliance.example/log/a/1` is the one of 450200, `hub-main.gateway.…` of hub/main.
fn keeper(origin: &str) -> Option<Member> {
    let (dashed, rest) = origin.split_once(".gateway.")?;
    let (alliance, place) = rest.split_once("/log/")?;
    let member: Member = match dashed.strip_prefix("hub-") {
        Some(name) => format!("hub/{name}").parse().ok()?,
        None => dashed.parse().ok()?,
    };
    let alliance: Alliance = alliance.parse().ok()?;
    let named =
        place.split_once('/').is_some_and(|(instance, generation)| !instance.is_empty() && !generation.is_empty());
    (named && origin.starts_with(&log_origin_prefix(&alliance, &member))).then_some(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logs_name_says_whose_it_is() {
        let keeper = |origin| keeper(origin).map(|member| member.to_string());
        assert_eq!(keeper("450200.gateway.alliance.example/log/a/1").as_deref(), Some("450200"));
        assert_eq!(keeper("hub-main.gateway.alliance.example/log/a/1").as_deref(), Some("hub/main"));
        for other in [
            "hangzhou.gateway.example/log/a/1",
            "450200.member.alliance.example",
            "450200.gateway.alliance.example/log/a",
            "450200.gateway.alliance.example/log//1",
            "hub/main.gateway.alliance.example/log/a/1",
            "450200.gateway.Alliance/log/a/1",
            "",
        ] {
            assert_eq!(keeper(other), None, "{other}");
        }
    }
}
