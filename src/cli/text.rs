//! Decides the language a command speaks, and says in Chinese what lower floors say in English. Never changes what is
//! meant: both languages stand side by side, one line each.

use clap::ValueEnum;

use crate::directory::{CanonicalError, DirectoryError, Fault, RecordError, UpdateError};
use crate::evidence::LeafError;
use crate::keys::KeyFileError;
use crate::receipt::ReceiptError;
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

    /// The one of two wordings that is in this language.
    pub fn tr<T>(self, en: T, zh: T) -> T {
        match self {
            Lang::En => en,
            Lang::Zh => zh,
        }
    }
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
        Malformed { path, what } => format!("{}：内容不是 {what}", path.display()),
        Empty { path, what } => format!("{}：其中没有 {what}", path.display()),
        Chance(why) => format!("系统不提供随机数：{why}"),
        Io { path, source } => format!("{}：{source}", path.display()),
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
