//! Decides which words and commands tell a stranger how to verify a case file. Never asks for trust in who made it.

use super::gather::CaseFile;

/// `VERIFY.txt`, in Chinese and English.
pub fn guide(case: &CaseFile) -> String {
    let bodies = match case.with_bodies {
        true => BODIES,
        false => "内容（正文、附件）不在其中。Contents (bodies, attachments) are not in it.\n",
    };
    format!("{ZH}\n{EN}\n{bodies}")
}

const ZH: &str = "\
如何验证本卷宗（无需网络，无需网关）

1. 文件是否完整：
   sha256sum -c SHA256SUMS
2. 回执是否真实、每条消息的证据链是否有缺失：
   tongban verify receipts --trust trust
   退出码 0 表示全部通过；1 表示有一份不通过，并指出是哪一部分。
   也可用任何支持 C2SP tlog-proof 的验证程序：每份 NAME.tlog-proof 证明旁边的 NAME.leaf。
3. 公钥是否可信：trust 中的公钥须与从联盟或有关城市另行取得的公钥一致。本卷宗自带的公钥
   不能证明其自身。members/ 中是各成员签名的成员记录及其公钥，certificates/ 中是其根证书。
4. 消息头与回执是否一致：headers/ 中每个 JSON 的 header_digest，可按“回执格式”第 2 节由
   各字段重新计算，应与回执中的 header_digest 相同。
index.html 与 .json 文件仅供阅读，不具证明力；.leaf 与 .tlog-proof 才是证据。
回执中的时间是签发网关自己的时钟所示。卷宗只含导出时该网关所知的内容，不能说明此后没有别的回执。
";
const EN: &str = "\
How to verify this case file (no network, no gateway needed)

1. Are the files whole:
   sha256sum -c SHA256SUMS
2. Are the receipts genuine, and is none missing from the middle of a message's chain:
   tongban verify receipts --trust trust
   Exit code 0: all hold. 1: one does not, and the part that fails is named.
   Any verifier of C2SP tlog-proof serves too: each NAME.tlog-proof proves the NAME.leaf beside it.
3. Are the keys to be trusted: those in trust must equal those that you have from the alliance or from the cities by
   another way. Keys that come with a file do not prove themselves. members/ holds the records that the members signed, and
   their keys; certificates/ their root certificates.
4. Do headers and receipts agree: the header_digest of each JSON in headers/ can be computed again from its fields (the
   receipt format, section 2) and must be the header_digest of the receipts.
index.html and the .json files only help to read and prove nothing; the .leaf and .tlog-proof files are the evidence.
Times in receipts are those of the issuing gateway's own clock. The file holds what that gateway knew when it was made; it
cannot show that no later receipt exists.
";
const BODIES: &str = "\
bodies/：内容；parts.json 列出名称、盐与摘要，SHA-256(盐 ‖ 内容) 应等于摘要。附件与已清除的内容不在其中。
bodies/: contents; parts.json lists names, salts and digests: SHA-256(salt, then content) must be the digest. Attachments,
and what retention has taken, are not in it.
";
