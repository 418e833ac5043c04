//! Says in Chinese what keeps a gateway from starting, or shows when it is examined. What a library says in English stands in
//! quotation marks.

use super::{Zh, checkpoint_zh, directory_zh, io_zh, key_file_zh, key_zh, record_zh};
use crate::config::ConfigError;
use crate::directory::RecordError;
use crate::keys::KeyFileError;
use crate::ledger::StartError;
use crate::noticeboard::BoardError;
use crate::routing::Objection;
use crate::server::ServerError;
use crate::store::{self, CopyError, MarkError, NotesError, OpenError};
use crate::tlog::checkpoint::CheckpointError;
use crate::tlog::note::KeyError;
use crate::tls::dial::DialError;
use crate::tls::refusal::{Refusal, Refused};
use crate::tls::trust::TrustFault;

impl Zh for ServerError {
    fn zh(&self) -> String {
        use ServerError::*;
        match self {
            Key(why) => key_file_zh(why),
            AllianceKey(why) => format!("联盟公钥：{}", key_zh(why)),
            Directory(why) => format!("目录：{}", directory_zh(why)),
            OtherAlliance { found, configured } => format!("目录属于联盟 {found}，而配置为 {configured}"),
            NotAMember(member) => format!("目录中没有成员 {member}"),
            Trust(faults) => faults.iter().map(Zh::zh).collect::<Vec<_>>().join("\n"),
            Certificate(why) => format!("网关的证书与私钥：{}", why.zh),
            LogKey(member) => format!("日志密钥不在 {member} 的成员记录所列之中"),
            Store(why) => why.zh(),
            Ledger(why) => format!("账本无法启动：{}", why.zh()),
            NoHub(member) => format!("[directory] follow 所列的 {member} 不是有地址的成员，或就是本网关"),
            Notes(why) => format!("已保存的签名文书：{}", why.zh()),
            Blobs(why) => format!("附件存储：{}", io_zh(why)),
            Routes(all) => format!("路由表：{}", all.iter().map(Zh::zh).collect::<Vec<_>>().join("；")),
            Table { owner, why } => format!("已保存的 {owner} 路由表无法读取：{why:?}"),
            Bind { address, source } => format!("无法在 {address} 监听：{}", io_zh(source)),
            Thread(why) => format!("线程无法启动：{}", io_zh(why)),
            StoreFailed(why) => format!("存储在服务中出错，须重新启动：{why:?}"),
        }
    }
}

impl Zh for OpenError {
    fn zh(&self) -> String {
        match self {
            OpenError::InUse(path) => format!("另一进程正在使用 {} 中的存储", path.display()),
            OpenError::Newer { found, known } => {
                format!("存储的结构为第 {found} 版，本程序只认识到第 {known} 版：请使用更新的程序")
            }
            OpenError::Older { found, known } => {
                format!("存储的结构为第 {found} 版，网关启动时会升级到本程序的第 {known} 版")
            }
            OpenError::Checksum(number) => format!("存储的第 {number} 次结构变更与本程序所知的不同"),
            OpenError::Sqlite(version) => format!("SQLite {version} 可能丢失已提交的内容，须为 3.51.3 或更新"),
            OpenError::Io { path, source, .. } => format!("{}：{}", path.display(), io_zh(source)),
            OpenError::Sql(path, why) => format!("{} 中的存储：{:?}", path.display(), why.to_string()),
        }
    }
}

impl Zh for StartError {
    fn zh(&self) -> String {
        match self {
            StartError::Store(why) => why.zh(),
            StartError::Mark(why) => why.zh(),
            StartError::Edge { size, what } => format!("存储中 {size} 项的树与其检查点不符：{what:?}"),
            StartError::Behind { stored, shown } => {
                format!("存储有 {stored} 项，而已出示的检查点有 {shown} 项：存储是从旧副本恢复的，只能以新的日志代继续")
            }
            StartError::Forked { size } => format!("存储的日志与已出示的 {size} 项检查点根哈希不同"),
            StartError::OtherLog { stored, given } => format!("存储属于日志 {stored:?}，而所给密钥属于 {given:?}"),
        }
    }
}

impl Zh for store::Error {
    fn zh(&self) -> String {
        match self {
            store::Error::Full => "磁盘已满".to_owned(),
            store::Error::Failed(why) => format!("存储出错：{why:?}"),
            store::Error::Damaged(why) => format!("存储已损坏：{why:?}"),
        }
    }
}

impl Zh for CopyError {
    fn zh(&self) -> String {
        match self {
            CopyError::Open(why) => why.zh(),
            CopyError::Store(why) => why.zh(),
        }
    }
}

impl Zh for MarkError {
    fn zh(&self) -> String {
        format!("高水位标记文件 {}：{}", self.path.display(), io_zh(&self.source))
    }
}

impl Zh for BoardError {
    fn zh(&self) -> String {
        match self {
            BoardError::Directory(why) => directory_zh(why),
            BoardError::Notes(why) => why.zh(),
        }
    }
}

impl Zh for NotesError {
    fn zh(&self) -> String {
        match self {
            NotesError::Folder { folder, source } => format!("{}：{}", folder.display(), io_zh(source)),
            NotesError::File(why) => key_file_zh(why),
            NotesError::Decisions { path, source } => format!("{}：无法解析（“{source}”）", path.display()),
        }
    }
}

impl Zh for KeyFileError {
    fn zh(&self) -> String {
        key_file_zh(self)
    }
}

impl Zh for RecordError {
    fn zh(&self) -> String {
        record_zh(self)
    }
}

impl Zh for KeyError {
    fn zh(&self) -> String {
        key_zh(self)
    }
}

impl Zh for std::io::Error {
    fn zh(&self) -> String {
        io_zh(self)
    }
}

impl Zh for CheckpointError {
    fn zh(&self) -> String {
        checkpoint_zh(self)
    }
}

impl Zh for ConfigError {
    fn zh(&self) -> String {
        ConfigError::zh(self)
    }
}

impl Zh for Objection {
    fn zh(&self) -> String {
        match self {
            Objection::Clash { first, second, key } => format!("{first} 与 {second} 都主张 {key}"),
            Objection::Outside { row, division } => format!("{row} 主张 {division}，不在其属主的代码之下"),
            Objection::SystemElsewhere { row } => format!("{row} 指定了系统；只有本市的路由表可以"),
            Objection::WayAtHome { row } => format!("{row} 指定了路径；本市的路由表只指定系统"),
            Objection::NoSuchSystem { row, system } => format!("{row} 指定的系统 {} 未配置", system.as_str()),
            Objection::TwoTables { owner } => format!("{} 有两份路由表", owner.as_str()),
            Objection::TooMany { rows } => format!("共 {rows} 行，超出上限"),
        }
    }
}

impl Zh for TrustFault {
    fn zh(&self) -> String {
        use TrustFault::*;
        match self {
            Twice { member } => format!("{member}：在成员中出现两次"),
            Empty { member } => format!("{member}：既无根证书也无公钥指纹"),
            PinTwice { member, other } => format!("{member}：公钥指纹与 {other} 相同"),
            Root { member, index } => format!("{member}：第 {index} 张根证书不是证书颁发机构的证书"),
            Issuer { member, index } => format!("{member}：第 {index} 个签发者不是由其根证书签署的颁发机构"),
            Crl { member, index } => format!("{member}：第 {index} 份吊销列表无法解析"),
            CrlIssuer { member, index } => format!("{member}：第 {index} 份吊销列表不是由其颁发机构签署的"),
        }
    }
}

impl Zh for Refusal {
    fn zh(&self) -> String {
        let zh = match self {
            Refusal::Suspended => "本方已暂停对方成员",
            Refusal::NoCertificate => "对方没有出示证书",
            Refusal::Malformed => "证书或其证书链无法解析",
            Refusal::UnknownCa => "证书链不通向任何已知的根证书",
            Refusal::IssuerNotForName => "证书链所通向的根证书无权为此名称担保",
            Refusal::BadSignature => "证书链或握手中的签名不符",
            Refusal::Expired => "证书已过期",
            Refusal::NotYetValid => "证书尚未生效",
            Refusal::IssuerDates => "证书链中颁发机构的证书不在有效期内",
            Refusal::Revoked => "证书已被吊销",
            Refusal::CrlMissing => "没有覆盖该证书链的吊销列表",
            Refusal::CrlExpired => "吊销列表已过期",
            Refusal::CrlUnusable => "吊销列表不可用",
            Refusal::Eku => "扩展密钥用途不符、缺失，或为 anyExtendedKeyUsage",
            Refusal::KeyUsage => "密钥用途缺少 digitalSignature，或允许签发证书、吊销列表",
            Refusal::CaAsLeaf => "以证书颁发机构的证书充当身份证书",
            Refusal::IssuerNotCa => "证书链中有证书无权签发证书",
            Refusal::WeakKey => "证书链中的密钥不是 P-256、P-384、Ed25519 或 2048 位以上的 RSA",
            Refusal::ValidityTooLong => "证书有效天数超过该成员的上限",
            Refusal::Serial => "序列号不是 1 至 20 字节的正数",
            Refusal::ChainTooLong => "证书链过长",
            Refusal::Constraint => "证书链违反签发者的约束，或含有未知的关键扩展",
            Refusal::UriNames => "证书有多个 URI 名称，或没有名称且公钥未被登记",
            Refusal::MalformedName => "URI 名称不合联盟的写法",
            Refusal::ForeignAlliance => "URI 名称属于其他联盟",
            Refusal::UnknownMember => "URI 名称所属的成员不在目录中",
            Refusal::WrongPeer => "对方不是所要连接的一方",
            Refusal::Alpn => "对方不支持 HTTP/2（ALPN h2）",
            Refusal::TlsVersion => "对方不支持 TLS 1.3",
            Refusal::HandshakeTimeout => "握手超时",
            Refusal::Closed => "对方在握手中断开",
            Refusal::Handshake => "握手因其他原因失败",
            Refusal::SourceCrowded => "该地址同时进行的握手过多",
            Refusal::PartyCrowded => "该身份打开的连接过多",
        };
        zh.to_owned()
    }
}

impl Zh for Refused {
    fn zh(&self) -> String {
        match &self.name {
            Some(name) => format!("{}（{name}）", self.why.zh()),
            None => self.why.zh(),
        }
    }
}

impl Zh for DialError {
    fn zh(&self) -> String {
        match self {
            DialError::Address(uri) => format!("{uri} 不是 https://host:port 形式的地址"),
            DialError::Resolve { host, cause } => format!("无法解析主机名 {host}：{}", io_zh(cause)),
            DialError::Astray { host, address } => format!("{host} 的地址 {address} 不可能是伙伴的所在"),
            DialError::Tcp { address, cause } => format!("无法连接 {address}：{}", io_zh(cause)),
            DialError::Tls { address, refused } => format!("与 {address} 的握手失败：{}", refused.zh()),
            DialError::Alpn { address } => format!("{address} 不支持 HTTP/2"),
        }
    }
}
