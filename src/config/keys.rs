//! Decides which settings there are: of what kind, with which default, and when a change of one takes effect. Never reads a
//! value.

use std::fmt;

use crate::limits::{CHECK_EVERY_S, TEST_EVERY_S, WITNESS_EVERY_S};

/// One setting: everything that reads, shows, compares or explains settings asks this.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    pub section: &'static str,
    pub name: &'static str,
    pub kind: Kind,
    pub need: Need,
    pub effect: Effect,
    /// A value as it may stand in a file, in TOML.
    pub sample: &'static str,
    pub en: &'static str,
    pub zh: &'static str,
}

/// What may stand as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// A file or folder; a relative one counts from the folder of the main configuration file.
    Path,
    /// A whole number of seconds.
    Seconds,
    Flag,
    Texts,
    Paths,
}

/// Whether a value must be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Required,
    /// Without it there is none of what it sets.
    Optional,
    Default(Plain),
}

/// A default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    Text(&'static str),
    Number(u64),
    Flag(bool),
    Empty,
}

/// When a changed value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// With the next reading of the configuration.
    Live,
    /// With the next start; until then a reading leaves the old value.
    NextStart,
    /// With the next start; a running gateway refuses to read a configuration that differs here.
    Restart,
}

/// A table of settings. One with rows stands as `[[name]]` as often as wanted.
#[derive(Debug)]
pub struct Section {
    pub name: &'static str,
    pub rows: bool,
    pub en: &'static str,
    pub zh: &'static str,
}

/// The sections in the order in which they are shown.
pub const SECTIONS: &[Section] = &[
    one("gateway", "Whose gateway this is, and where it stands", "本网关属于谁，在何处提供服务"),
    one("tls", "What it shows of itself, and what is revoked", "本网关出示的证书，以及吊销列表"),
    one("directory", "Who is a member of the alliance", "联盟成员名录"),
    one("log", "The log of receipts", "回执日志"),
    one("sealing", "What opens content that came sealed through a hub", "用于打开经枢纽转来的加封内容"),
    one("routing", "What routing tables may claim", "路由表可以主张的范围"),
    one("store", "How what is taken over is kept", "受理内容的保存方式"),
    one("checks", "How often the gateway examines itself and its partners", "自检与伙伴检查的间隔"),
    one("witness", "What it says of the logs of others", "对其他成员日志的见证"),
    one("telemetry", "Figures for a monitor: GET /metrics", "供监控系统读取的指标：GET /metrics"),
    many(
        "system",
        "The member's own systems; the most precise pattern takes the item",
        "本单位的业务系统；最精确的模式接收事项",
    ),
    many("grant", "What is allowed; what no grant allows is refused", "准许事项；未准许的一律拒绝"),
];

/// Every setting, by section.
pub const KEYS: &[Key] = &[
    text("gateway", "alliance", "\"alliance.example\"").required().restart().says("The alliance's name", "联盟名称"),
    text("gateway", "city", "\"450200\"").restart().says(
        "The city's division code (GB/T 2260); a gateway has a city or a hub",
        "城市的行政区划代码（GB/T 2260）；城市与枢纽二者取一",
    ),
    text("gateway", "hub", "\"main\"").restart().says("The hub's name, of a hub's gateway", "枢纽名称（仅枢纽网关）"),
    text("gateway", "listen", "\"0.0.0.0:7501\"")
        .required()
        .restart()
        .says("Address and port on which it serves", "提供服务的地址与端口"),
    path("gateway", "data", "\"data\"")
        .default(Plain::Text("data"))
        .restart()
        .says("Folder of the store", "数据存储目录"),
    texts("gateway", "fetch_from", "[\"440600\", \"hub/main\"]")
        .next_start()
        .says("Members at which it fetches what waits for it", "到这些成员处取回等候的消息"),
    path("tls", "certificate", "\"gateway.pem\"")
        .required()
        .says("The gateway's certificate and its chain (PEM)", "网关证书及证书链（PEM）"),
    path("tls", "key", "\"gateway.key\"")
        .required()
        .says("The certificate's private key (PEM, mode 600)", "证书私钥（PEM，权限 600）"),
    path("tls", "crls", "\"alliance/{member}/crl.pem\"").required().says(
        "Revocation lists, a file per member: {member} stands for its name",
        "吊销列表，每成员一个文件：{member} 代表成员名",
    ),
    path("directory", "file", "\"alliance/directory.note\"").required().says("The signed directory", "已签名的名录"),
    path("directory", "alliance_key", "\"alliance/alliance.vkey\"")
        .required()
        .restart()
        .says("The alliance's public key", "联盟公钥"),
    text("directory", "follow", "\"hub/main\"")
        .next_start()
        .says("The hub that carries newer directories and tables", "转送新名录与路由表的枢纽"),
    path("log", "key", "\"log.key\"")
        .required()
        .restart()
        .says("The key that signs receipts (mode 600)", "签发回执的私钥（权限 600）"),
    path("sealing", "key", "\"sealing.key\"")
        .next_start()
        .says("The private key named in the member's record (mode 600)", "成员记录中公布的加封密钥的私钥（权限 600）"),
    paths("sealing", "former", "[\"sealing-2025.key\"]")
        .next_start()
        .says("Keys of before, for what was sealed for them", "旧密钥，用于仍在途的内容"),
    texts("routing", "allow", "[\"4599\"]")
        .says("Divisions that any table may claim beside its owner's own", "除属主辖区外，路由表可主张的区划"),
    text("store", "synchronous", "\"full\"").default(Plain::Text("full")).restart().says(
        "\"full\": an answer means on the disk; \"normal\": a power cut may lose the last of it",
        "\"full\"：应答即已落盘；\"normal\"：断电可能丢失最后一部分",
    ),
    seconds("checks", "every_s", "2")
        .default(Plain::Number(CHECK_EVERY_S.0))
        .next_start()
        .says("Seconds between two examinations of the gateway itself", "两次自检之间的秒数"),
    seconds("checks", "partners_every_s", "60")
        .default(Plain::Number(CHECK_EVERY_S.1))
        .next_start()
        .says("Seconds between two examinations of the partners", "两次伙伴检查之间的秒数"),
    seconds("checks", "test_every_s", "300").default(Plain::Number(TEST_EVERY_S)).next_start().says(
        "Seconds between two test messages to each partner; 0 for none",
        "向每个伙伴发送测试消息的间隔秒数；0 为不发送",
    ),
    flag("witness", "on", "true").default(Plain::Flag(true)).next_start().says(
        "Whether it looks at its partners' logs, cosigns what has only grown, and tells of what has not",
        "是否查看各伙伴的日志：仅有增长的予以联署，自相矛盾的予以告警",
    ),
    seconds("witness", "every_s", "10")
        .default(Plain::Number(WITNESS_EVERY_S))
        .next_start()
        .says("Seconds between two looks at each log", "两次查看每个日志之间的秒数"),
    text("telemetry", "listen", "\"127.0.0.1:9464\"").next_start().says(
        "Address and port on this machine alone; without it there is no such page",
        "仅限本机的地址与端口；不设则不提供",
    ),
    text("telemetry", "tls_listen", "\"0.0.0.0:9465\"").next_start().says(
        "Address and port for monitors elsewhere, over mutual TLS and HTTP/2",
        "供其他机器上的监控系统使用的地址与端口，经双向 TLS 与 HTTP/2",
    ),
    texts("telemetry", "tls_readers", "[\"spiffe://alliance.example/city/450200/ops/monitor\"]").next_start().says(
        "Who may ask there (spiffe://…); without it the member's own operators and auditors",
        "允许读取者（spiffe://…）；不设则为本单位的运维与审计人员",
    ),
    text("system", "name", "\"window\"")
        .required()
        .says("Its name, as its certificate has it", "系统名称，与其证书一致"),
    texts("system", "items", "[\"*\"]").required().says(
        "Items that it takes: a code, the beginning of one followed by '*', or '*'",
        "接收的事项：编码、编码前缀加 '*'，或 '*'",
    ),
    flag("system", "receipts", "false")
        .default(Plain::Flag(false))
        .next_start()
        .says("Whether receipts of its messages are delivered to it", "是否向其投递所发消息的回执"),
    text("grant", "who", "\"every-system\"").required().says(
        "\"every-system\", \"every-gateway\", or one identity (spiffe://…)",
        "\"every-system\"、\"every-gateway\" 或某一身份（spiffe://…）",
    ),
    texts("grant", "items", "[\"*\"]").required().says("Items, as of a system", "事项，写法同上"),
    texts("grant", "divisions", "[\"*\"]").required().says(
        "Recipient cities of own systems, sending cities of gateways: a code, \"45*\", or \"*\"",
        "对本单位系统为收件城市，对网关为发件城市：代码、\"45*\" 或 \"*\"",
    ),
];

const fn one(name: &'static str, en: &'static str, zh: &'static str) -> Section {
    Section { name, rows: false, en, zh }
}

const fn many(name: &'static str, en: &'static str, zh: &'static str) -> Section {
    Section { name, rows: true, en, zh }
}

const fn key(kind: Kind, section: &'static str, name: &'static str, sample: &'static str) -> Key {
    Key { section, name, kind, need: Need::Optional, effect: Effect::Live, sample, en: "", zh: "" }
}

const fn text(section: &'static str, name: &'static str, sample: &'static str) -> Key {
    key(Kind::Text, section, name, sample)
}

const fn path(section: &'static str, name: &'static str, sample: &'static str) -> Key {
    key(Kind::Path, section, name, sample)
}

const fn seconds(section: &'static str, name: &'static str, sample: &'static str) -> Key {
    key(Kind::Seconds, section, name, sample)
}

const fn flag(section: &'static str, name: &'static str, sample: &'static str) -> Key {
    key(Kind::Flag, section, name, sample)
}

const fn texts(section: &'static str, name: &'static str, sample: &'static str) -> Key {
    key(Kind::Texts, section, name, sample).default(Plain::Empty)
}

const fn paths(section: &'static str, name: &'static str, sample: &'static str) -> Key {
    key(Kind::Paths, section, name, sample).default(Plain::Empty)
}

impl Key {
    const fn required(self) -> Key {
        Key { need: Need::Required, ..self }
    }

    const fn default(self, plain: Plain) -> Key {
        Key { need: Need::Default(plain), ..self }
    }

    const fn next_start(self) -> Key {
        Key { effect: Effect::NextStart, ..self }
    }

    const fn restart(self) -> Key {
        Key { effect: Effect::Restart, ..self }
    }

    const fn says(self, en: &'static str, zh: &'static str) -> Key {
        Key { en, zh, ..self }
    }
}

/// The setting of that name.
pub fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

/// The section of that name.
pub fn section(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}

impl Key {
    /// What holds without it, as it would stand in a file.
    pub fn default_value(&self) -> Option<String> {
        match self.need {
            Need::Default(plain) => Some(plain.to_string()),
            Need::Required | Need::Optional => None,
        }
    }
}

impl Kind {
    /// What must stand there, in English and Chinese.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Kind::Text => ("a text", "文本"),
            Kind::Path => ("a path", "路径"),
            Kind::Seconds => ("a whole number of seconds", "整数秒"),
            Kind::Flag => ("true or false", "true 或 false"),
            Kind::Texts => ("a list of texts", "文本列表"),
            Kind::Paths => ("a list of paths", "路径列表"),
        }
    }
}

/// `section.name`
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.section, self.name)
    }
}

/// As it would stand in a file.
impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Plain::Text(text) => write!(f, "{text:?}"),
            Plain::Number(number) => write!(f, "{number}"),
            Plain::Flag(flag) => write!(f, "{flag}"),
            Plain::Empty => f.write_str("[]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_stands_once_in_a_section_that_stands_too() {
        for (place, key) in KEYS.iter().enumerate() {
            assert!(section(key.section).is_some(), "{key}");
            assert!(KEYS[..place].iter().all(|other| other.to_string() != key.to_string()), "{key} stands twice");
            assert!(!key.sample.is_empty() && !key.en.is_empty() && !key.zh.is_empty(), "{key}");
        }
        assert!(SECTIONS.iter().all(|section| KEYS.iter().any(|key| key.section == section.name)));
    }
}
