//! Decides the language in which a person is spoken to, and says in Chinese what lower floors say in English. Never changes
//! what is meant: both languages stand side by side, one line each.

use clap::ValueEnum;

mod faults;

use std::error::Error;
use std::ffi::OsString;
use std::io;
use std::net::AddrParseError;
use std::num::ParseIntError;

use crate::admission::DivisionPatternError;
use crate::directory::{CanonicalError, DirectoryError, Fault, RecordError, UpdateError};
use crate::evidence::{CodeError, LeafError};
use crate::id::IdError;
use crate::keys::KeyFileError;
use crate::message::TextError;
use crate::party::NameError;
use crate::receipt::ReceiptError;
use crate::routing::{DivisionPrefixError, PatternError};
use crate::tlog::checkpoint::CheckpointError;
use crate::tlog::cosignature::CosignatureError;
use crate::tlog::note::{KeyError, NoteError};
use crate::tlog::receipt_file::VerifyError;

/// The language of a command's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Lang {
    En,
    Zh,
}

impl Lang {
    /// Chinese where the first of LC_ALL, LC_MESSAGES and LANG that is set begins with `zh`, else English.
    pub fn of_environment() -> Lang {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(set);
        if locale.is_some_and(|locale| locale.starts_with("zh")) { Lang::Zh } else { Lang::En }
    }

    /// The language in which to speak of a command line that is not read yet: its `--lang`, else the environment's.
    pub fn of_arguments(arguments: &[OsString]) -> Lang {
        let mut words = arguments.iter().map(|word| word.to_str().unwrap_or_default()).take_while(|word| *word != "--");
        let asked = words.clone().find_map(|word| word.strip_prefix("--lang="));
        let asked = asked.or_else(|| words.find(|word| *word == "--lang").and_then(|_| words.next()));
        match asked {
            Some("zh") => Lang::Zh,
            Some("en") => Lang::En,
            _ => Lang::of_environment(),
        }
    }

    /// The one of two wordings that is in this language.
    pub fn tr<T>(self, en: T, zh: T) -> T {
        match self {
            Lang::En => en,
            Lang::Zh => zh,
        }
    }
}

/// What was written and cannot be taken, where it is found by a rule of the roof's own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{en}")]
pub struct Unfit {
    pub en: String,
    pub zh: String,
}

impl Unfit {
    /// Both wordings.
    pub fn new(en: impl Into<String>, zh: impl Into<String>) -> Unfit {
        Unfit { en: en.into(), zh: zh.into() }
    }
}

/// An error of lower floors that a person's own writing can cause, in Chinese.
pub trait Zh {
    fn zh(&self) -> String;
}

impl Zh for Unfit {
    fn zh(&self) -> String {
        self.zh.clone()
    }
}

impl Zh for NameError {
    fn zh(&self) -> String {
        let zh = match self {
            NameError::Division => "行政区划代码应为 6 至 12 位数字（GB/T 2260）",
            NameError::Name => "名称应为 1 至 32 个字母、数字或 '.'、'_'、'-'，且不得为 '.' 或 '..'",
            NameError::Alliance => "联盟名应为小写域名，至多 64 字节",
            NameError::Member => "成员应写作行政区划代码或 hub/<名称>",
            NameError::Party => {
                "身份应写作 spiffe://<联盟>/city/<区划>/{gateway|system/<名称>|ops/<名称>|auditor/<名称>} \
                 或 spiffe://<联盟>/hub/<名称>[/{ops|auditor}/<名称>]"
            }
        };
        zh.to_owned()
    }
}

impl Zh for TextError {
    fn zh(&self) -> String {
        let zh = match self {
            TextError::ItemCode => "应为 1 至 40 个字母、数字或 '.'、'_'、'-'",
            TextError::CaseNo => "应为 1 至 64 字节，不含控制字符或不可见字符",
            TextError::Step => "应为 1 至 24 个小写字母、数字或 '_'、'-'",
            TextError::PartName => "应为 1 至 255 字节，不含 '/'、'\\'、控制字符或不可见字符，且不得为 '.' 或 '..'",
            TextError::MediaType => "应为媒体类型，例如 application/pdf（RFC 6838），至多 127 字节",
        };
        zh.to_owned()
    }
}

impl Zh for IdError {
    fn zh(&self) -> String {
        "应为规范小写形式的 UUID，例如 0197d2a0-5b1c-7cc3-98c4-dc0c0c07398f".to_owned()
    }
}

impl Zh for PatternError {
    fn zh(&self) -> String {
        "应为事项编码、编码前缀加 '*'，或 '*'".to_owned()
    }
}

impl Zh for DivisionPatternError {
    fn zh(&self) -> String {
        "应为行政区划代码、代码前缀加 '*'，或 '*'".to_owned()
    }
}

impl Zh for DivisionPrefixError {
    fn zh(&self) -> String {
        "应为行政区划代码的前 2 至 12 位数字（GB/T 2260），或 '*'".to_owned()
    }
}

impl Zh for CodeError {
    fn zh(&self) -> String {
        "应为 1 至 32 个大写字母、数字或 '_'、'.'、'-'".to_owned()
    }
}

impl Zh for Fault {
    fn zh(&self) -> String {
        fault_zh(self)
    }
}

impl Zh for ParseIntError {
    fn zh(&self) -> String {
        "应为整数".to_owned()
    }
}

impl Zh for AddrParseError {
    fn zh(&self) -> String {
        "应为地址与端口，例如 127.0.0.1:7501 或 [::1]:7501".to_owned()
    }
}

/// Why a word of a command line cannot be taken, in Chinese; `None` for an error that stands in no line here.
pub fn unfit_zh(error: &(dyn Error + 'static)) -> Option<String> {
    fn of<E: Error + Zh + 'static>(error: &(dyn Error + 'static)) -> Option<String> {
        error.downcast_ref::<E>().map(Zh::zh)
    }
    let known = [
        of::<Unfit>,
        of::<NameError>,
        of::<TextError>,
        of::<IdError>,
        of::<PatternError>,
        of::<DivisionPatternError>,
        of::<DivisionPrefixError>,
        of::<CodeError>,
        of::<Fault>,
        of::<ParseIntError>,
        of::<AddrParseError>,
    ];
    known.iter().find_map(|zh| zh(error))
}

/// What the operating system says, in Chinese where it is common.
pub fn io_zh(error: &io::Error) -> String {
    use io::ErrorKind::*;
    if let Some(unfit) = error.get_ref().and_then(|error| unfit_zh(error)) {
        return unfit;
    }
    let zh = match error.kind() {
        NotFound => "没有这个文件或目录",
        PermissionDenied => "没有权限",
        AlreadyExists => "已经存在",
        NotADirectory => "路径中有一级不是目录",
        IsADirectory => "是一个目录",
        DirectoryNotEmpty => "目录不为空",
        ReadOnlyFilesystem => "文件系统为只读",
        StorageFull => "磁盘已满",
        QuotaExceeded => "超出磁盘配额",
        InvalidData => "内容不是 UTF-8 文本",
        AddrInUse => "地址已被占用",
        AddrNotAvailable => "本机没有这个地址",
        ConnectionRefused => "连接被拒绝",
        ConnectionReset => "连接被对方中断",
        HostUnreachable | NetworkUnreachable => "网络不可达",
        TimedOut => "超时",
        BrokenPipe => "对方已关闭",
        UnexpectedEof => "内容提前结束",
        _ => return format!("{:?}", error.to_string()),
    };
    zh.to_owned()
}

/// [`KeyFileError`] in Chinese.
pub fn key_file_zh(fault: &KeyFileError) -> String {
    use KeyFileError::*;
    match fault {
        Missing { path } => format!("{}：没有这个文件", path.display()),
        Exists { path } => format!("{}：文件已存在，不会覆盖", path.display()),
        Mode { path, mode } => format!("{}：权限 {mode:04o} 允许他人使用密钥", path.display()),
        Owner { path, owner, user } => format!("{}：属于用户 {owner}，而非本进程的用户 {user}", path.display()),
        NotAFile { path } => format!("{}：不是普通文件", path.display()),
        TooLarge { path, max } => format!("{}：大于 {max} 字节", path.display()),
        Malformed { path, what } => format!("{}：内容不是{}", path.display(), content_zh(what)),
        Empty { path, what } => format!("{}：其中没有{}", path.display(), content_zh(what)),
        Chance(why) => format!("系统不提供随机数：{why:?}"),
        Io { path, source } => format!("{}：{}", path.display(), io_zh(source)),
    }
}

/// What a key file should hold, in Chinese.
fn content_zh(what: &str) -> String {
    match what {
        "certificate" => "证书".to_owned(),
        "private key" => "私钥".to_owned(),
        "PEM" => " PEM".to_owned(),
        "UTF-8 text" => " UTF-8 文本".to_owned(),
        // `a tongban-…-seed file`, by the name in its first line.
        other => format!(" {} 文件", other.trim_start_matches("a ").trim_end_matches(" file")),
    }
}

/// [`DirectoryError`] in Chinese.
pub fn directory_zh(fault: &DirectoryError) -> String {
    use DirectoryError::*;
    match fault {
        Note(why) => note_zh(why),
        Text(why) => canonical_zh(why),
        KeyName { expected, found } => format!("密钥名为 {found}，而本联盟的密钥名应为 {expected}"),
        Field { field, fault } => format!("字段 {field}：{}", fault_zh(fault)),
        NoMember(member) => format!("没有成员 {member}"),
        TooMany { max } => format!("成员超过 {max} 个"),
        MemberKey { place, why } => format!("members[{place}]：成员密钥不可用：{}", key_zh(why)),
        Record { place, key, why } => format!("members[{place}]，密钥 {key}：成员记录不可用：{}", record_zh(why)),
        Alliance { place, expected, found } => format!("members[{place}]：记录属于联盟 {found}，而非 {expected}"),
        Twice { member } => format!("成员 {member} 出现两次"),
    }
}

/// [`RecordError`] in Chinese.
pub fn record_zh(fault: &RecordError) -> String {
    use RecordError::*;
    match fault {
        Note(why) => note_zh(why),
        KeyName { expected, found } => format!("密钥名为 {found}，而该成员的密钥名应为 {expected}"),
        Text(why) => canonical_zh(why),
        Field { field, fault } => format!("字段 {field}：{}", fault_zh(fault)),
    }
}

/// [`UpdateError`] in Chinese.
pub fn update_zh(fault: &UpdateError) -> String {
    use UpdateError::*;
    match fault {
        Alliance { held, found } => format!("目录属于联盟 {found}，而非 {held}"),
        Older { held, found } => format!("第 {found} 版早于现有的第 {held} 版"),
        TwoOfOneVersion { version } => format!("第 {version} 版与现有的同版内容不同：联盟签了两份"),
        RecordOlder { member, held, found } => format!("成员 {member}：记录第 {found} 版早于现有的第 {held} 版"),
        RecordTwoOfOneVersion { member, version } => {
            format!("成员 {member}：记录第 {version} 版与现有的同版内容不同：成员签了两份")
        }
        KeyChanged { member, held, found } => format!("成员 {member} 的密钥已变：指纹由 {held} 变为 {found}"),
    }
}

fn note_zh(fault: &NoteError) -> String {
    match fault {
        NoteError::Size => "签名文件过大".to_owned(),
        NoteError::Count => "签名行过多".to_owned(),
        NoteError::Format { line } => format!("第 {line} 行不符合签名文件的格式"),
        NoteError::Duplicate { name, id } => format!("{name}（{id:08x}）签了两次"),
        NoteError::Signature { name, id } => format!("{name}（{id:08x}）的签名与内容不符"),
        NoteError::Unsigned => "没有已知密钥的签名".to_owned(),
    }
}

/// [`KeyError`] in Chinese.
pub fn key_zh(fault: &KeyError) -> String {
    match fault {
        KeyError::Name => "密钥名为空，或含空格、加号或控制字符".to_owned(),
        KeyError::Format => "密钥的写法不是 name+keyid+base64".to_owned(),
        KeyError::Type(kind) => format!("签名类型为 {kind:#04x}，不是 Ed25519（0x01）"),
        KeyError::Point => "不是可用的 Ed25519 公钥".to_owned(),
        KeyError::Id { expected, found } => format!("密钥标识为 {found:08x}，按名称与公钥应为 {expected:08x}"),
    }
}

fn canonical_zh(fault: &CanonicalError) -> String {
    match fault {
        CanonicalError::OneLine => "内容不是以换行结尾的一行".to_owned(),
        CanonicalError::Json(why) => format!("内容不是所需形式的 JSON：{why}"),
        CanonicalError::Spelling => "内容不是规范 JSON（RFC 8785）：顺序、空格、数字写法不同，或有重复的键".to_owned(),
        CanonicalError::Kind { expected, found } => format!("内容的种类是 {found:?}，不是 {expected:?}"),
    }
}

/// [`Fault`] in Chinese.
pub fn fault_zh(fault: &Fault) -> String {
    match fault {
        Fault::Range { min, max } => format!("不在 {min} 与 {max} 之间"),
        Fault::TooMany { max } => format!("超过 {max} 个"),
        Fault::Words { max } => format!("为空、超过 {max} 字节，或含控制字符、书写方向字符"),
        Fault::Moment => "写法不是 2026-01-31T08:00:00.000Z".to_owned(),
        Fault::Name(_) => "名称不合规定".to_owned(),
        Fault::Endpoint => "不是 host:port（小写域名、IPv4 地址，或方括号内的 IPv6 地址）".to_owned(),
        Fault::Pin => "写法不是 sha256: 加 64 位小写十六进制数字".to_owned(),
        Fault::Certificate => "不是 base64 编码的 DER 证书".to_owned(),
        Fault::Authority => "不是证书颁发机构的证书（基本约束未声明 CA）".to_owned(),
        Fault::Key(why) => key_zh(why),
        Fault::Origin { prefix, found } => format!("{found} 不是以 {prefix} 开头、后接 <instance>/<generation>"),
        Fault::Twice(what) => format!("{what} 出现两次"),
        Fault::Unrecognisable => "既无根证书也无公钥指纹：无从识别该成员".to_owned(),
        Fault::SealingKey => "不是 hpke-x25519: 加 32 字节的 base64".to_owned(),
        Fault::Itself => "成员列出了自己".to_owned(),
    }
}

/// [`ReceiptError`] in Chinese.
pub fn receipt_zh(fault: &ReceiptError) -> String {
    match fault {
        ReceiptError::Leaf(why) => format!("叶子：{}", leaf_zh(*why)),
        ReceiptError::Proof(why) => format!("{}：{}", part_zh(why.part()), verify_zh(why)),
        ReceiptError::Issuer { said, keeper } => format!("签发者：叶子以 {said} 的名义，日志却属于 {keeper}"),
        ReceiptError::Key { said, origin } => format!("密钥：叶子所列密钥 {said:08x} 不是日志 {origin} 的密钥"),
    }
}

/// The part of a receipt, [`VerifyError::part`], in Chinese.
pub fn part_zh(part: &str) -> &str {
    match part {
        "format" => "格式",
        "index" => "序号",
        "proof" => "证明",
        "size" => "大小",
        "root" => "根哈希",
        "leaf" => "叶子",
        "leaf or proof" => "叶子或证明",
        "origin" => "日志名",
        "signature" => "签名",
        "issuer" => "签发者",
        "key" => "密钥",
        "cosignature" => "联署",
        other => other,
    }
}

/// Why a cosignature is refused, in Chinese.
pub fn cosignature_zh(fault: &CosignatureError) -> String {
    use CosignatureError as E;
    match fault {
        E::Line => "不是带时间的联署行".to_owned(),
        E::Unknown { name, id } => format!("{name}（{id:08x}）不是已知的见证方"),
        E::Signature { name, id } => format!("{name}（{id:08x}）的联署与检查点及其时间不符"),
        E::Duplicate { name, id } => format!("{name}（{id:08x}）重复联署"),
        E::Note(fault) => note_zh(fault),
    }
}

/// [`VerifyError`] in Chinese.
pub fn verify_zh(fault: &VerifyError) -> String {
    use VerifyError::*;
    match fault {
        Format { line } => format!("第 {line} 行不符合 tlog-proof 的格式"),
        Index { index, size } => format!("序号 {index} 不在所签的 {size} 项之内"),
        Proof { expected, found } => format!("证明有 {found} 个哈希，按序号与大小应为 {expected} 个"),
        Size => "大小不是所签的大小".to_owned(),
        Root => "根哈希既不是所签的，也不是由叶子与证明算得的".to_owned(),
        LeafOrProof => "由叶子与证明算不出所签的根哈希：叶子、序号或证明被改动".to_owned(),
        Origin(name) => format!("没有名为 {name:?} 的可信日志密钥"),
        Signature(why) => format!("检查点不是该日志所签：{}", checkpoint_zh(why)),
    }
}

/// [`CheckpointError`] in Chinese.
fn checkpoint_zh(fault: &CheckpointError) -> String {
    match fault {
        CheckpointError::Lines => "检查点不是恰好三行".to_owned(),
        CheckpointError::Origin => "检查点的日志名不合规定".to_owned(),
        CheckpointError::Size => "检查点的大小不是规范的十进制数".to_owned(),
        CheckpointError::Root => "检查点的根哈希不是规范的 base64".to_owned(),
        CheckpointError::UnknownLog(name) => format!("没有名为 {name:?} 的已知密钥"),
        CheckpointError::Unsigned(name) => format!("日志 {name:?} 未签署该检查点"),
        CheckpointError::Note(why) => note_zh(why),
    }
}

fn leaf_zh(fault: LeafError) -> String {
    match fault {
        LeafError::TooLong => "过长".to_owned(),
        LeafError::Version => "版本或种类不明".to_owned(),
        LeafError::Truncated => "在字段中间结束".to_owned(),
        LeafError::Order(tag) => format!("字段 {tag:#04x} 次序不对、重复或为空"),
        LeafError::Unknown(tag) => format!("字段 {tag:#04x} 不明，且不可忽略"),
        LeafError::Value(tag) => format!("字段 {tag:#04x} 的值不合规定"),
        LeafError::Missing(tag) => format!("缺少字段 {tag:#04x}"),
        LeafError::NotCanonical => "不是规范写法".to_owned(),
    }
}
