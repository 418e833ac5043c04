//! Decides the one catalogue of reasons: stable code, gRPC status, what happened and the way out, in Chinese and English.
//! Never decides when a reason applies.

/// The gRPC status that a reason is answered with (gRPC status codes, numbers as published).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Internal = 13,
    Unavailable = 14,
}

/// What a caller may do with the same request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not without changing it.
    Never,
    /// Later, unchanged: same message id, same content.
    Later,
}

macro_rules! catalogue {
    ($($variant:ident, $code:literal, $answer:ident, $retry:ident, $en:literal, $zh:literal, $hint_en:literal, $hint_zh:literal;)*) => {
        /// A reason from the catalogue. Its code is a public contract: it never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $en] $variant,)*
        }

        impl Reason {
            /// Every reason, in the order of the catalogue.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];

            /// The stable code: upper case, at most 32 bytes.
            pub const fn code(self) -> &'static str {
                match self { $(Reason::$variant => $code,)* }
            }

            /// The gRPC status of the answer.
            pub const fn answer(self) -> Answer {
                match self { $(Reason::$variant => Answer::$answer,)* }
            }

            /// Whether the unchanged request may be sent again.
            pub const fn retry(self) -> Retry {
                match self { $(Reason::$variant => Retry::$retry,)* }
            }

            /// What happened, in English.
            pub const fn en(self) -> &'static str {
                match self { $(Reason::$variant => $en,)* }
            }

            /// What happened, in Chinese.
            pub const fn zh(self) -> &'static str {
                match self { $(Reason::$variant => $zh,)* }
            }

            /// The way out, in English.
            pub const fn hint_en(self) -> &'static str {
                match self { $(Reason::$variant => $hint_en,)* }
            }

            /// The way out, in Chinese.
            pub const fn hint_zh(self) -> &'static str {
                match self { $(Reason::$variant => $hint_zh,)* }
            }

            /// The reason with this code.
            pub fn from_code(code: &str) -> Option<Reason> {
                Reason::ALL.iter().copied().find(|reason| reason.code() == code)
            }
        }
    };
}

catalogue! {
    InvalidEnvelope, "INVALID_ENVELOPE", InvalidArgument, Never,
        "the envelope has faults; each faulty field is named", "信封有误，逐项列出有误的字段",
        "correct the named fields and submit again", "更正所列字段后重新提交";
    MessageTooLarge, "MESSAGE_TOO_LARGE", ResourceExhausted, Never,
        "the request is larger than the limit", "请求超过大小上限",
        "send at most 1 MiB of inline parts", "内联附件总量不超过 1 MiB";
    ClockAhead, "CLOCK_AHEAD", InvalidArgument, Never,
        "created_at lies more than ten minutes ahead of the gateway's clock", "created_at 比网关时钟超前十分钟以上",
        "set the sender's clock", "校准发送方时钟";
    IdTooOld, "ID_TOO_OLD", FailedPrecondition, Never,
        "created_at lies outside the window for which message ids are remembered", "created_at 早于消息编号的保留窗口",
        "submit as a new message", "以新消息重新提交";
    MessageExpired, "MESSAGE_EXPIRED", FailedPrecondition, Never,
        "expires_at has passed", "已过截止时间",
        "submit as a new message with a later expires_at", "以更晚的截止时间作为新消息提交";
    IdempotencyConflict, "IDEMPOTENCY_CONFLICT", AlreadyExists, Never,
        "this message id was used before with another content", "该消息编号已用于内容不同的消息",
        "use a new message id; the first message is untouched", "请使用新的消息编号，原消息不受影响";
    NoMatchingItem, "NO_MATCHING_ITEM", FailedPrecondition, Never,
        "no matching item was found: no table takes this message", "未找到匹配事项",
        "check the item code and the recipient", "核对事项编码与接收方";
    NoRoute, "NO_ROUTE", FailedPrecondition, Never,
        "the recipient city is not a member that this gateway can reach", "接收城市不是本网关可到达的成员",
        "check the division code and the directory", "核对区划代码与成员目录";
    RouteRefused, "ROUTE_REFUSED", FailedPrecondition, Never,
        "the recipient's routing table refuses this item", "接收方的路由表拒收该事项",
        "see the owner's code beside the reason; `tongban route explain` names the row", "参见原因旁的代码，`tongban route explain` 会指出具体条目";
    InvalidTables, "INVALID_TABLES", InvalidArgument, Never,
        "the routing tables cannot be published; each fault and each clash is named", "路由表不能发布，逐项列出错误与冲突",
        "correct the named rows and plan again", "更正所列条目后重新核对";
    RoutesChanged, "ROUTES_CHANGED", FailedPrecondition, Never,
        "the routing tables are no longer those of the etag", "路由表已非该 etag 所指的版本",
        "plan again against the tables in force", "请对照现行路由表重新核对";
    NoSuchVersion, "NO_SUCH_VERSION", NotFound, Never,
        "there is no such version of the routing tables", "路由表没有该版本",
        "see which versions there are with `tongban route show`", "可用 `tongban route show` 查看现行版本";
    NoSuchSystem, "NO_SUCH_SYSTEM", FailedPrecondition, Never,
        "the recipient city has no system of this name", "接收城市没有该名称的系统",
        "check to.system, or leave it open", "核对 to.system，或留空由对方分派";
    NotPermitted, "NOT_PERMITTED", PermissionDenied, Never,
        "this identity may not do this", "该身份无权进行此操作",
        "check the certificate in use, envelope.from and the grants", "核对所用证书、envelope.from 与授权";
    ItemReserved, "ITEM_RESERVED", PermissionDenied, Never,
        "this item is the gateways' own: they test the ways between them with it", "该事项为网关之间的测试专用",
        "use the code of a public service item; `tongban partner test` tests the way to a partner", "请使用政务服务事项编码；测试伙伴链路请用 `tongban partner test`";
    MemberSuspended, "MEMBER_SUSPENDED", Unavailable, Later,
        "this gateway has suspended a member on the message's way", "本网关已暂停与消息途经的某成员的往来",
        "the message waits where it is; ask this gateway's operators how long", "消息在原处等待，请向本网关的运维人员了解恢复时间";
    OriginReceiptMissing, "ORIGIN_RECEIPT_MISSING", InvalidArgument, Never,
        "a message from a gateway must carry the receipt of its origin", "网关间消息必须携带始发城市的回执",
        "relay the origin receipt with the message", "随消息一并转发始发回执";
    OriginReceiptInvalid, "ORIGIN_RECEIPT_INVALID", InvalidArgument, Never,
        "the origin receipt does not verify", "始发回执验证不通过",
        "see the detail for the part that fails", "详情中注明了不通过的部分";
    OriginReceiptForeign, "ORIGIN_RECEIPT_FOREIGN", InvalidArgument, Never,
        "the origin receipt speaks of another message", "始发回执属于另一消息",
        "relay each message with its own origin receipt", "每条消息应携带其自身的始发回执";
    MessageNotFound, "MESSAGE_NOT_FOUND", NotFound, Never,
        "there is no such message for this identity", "该身份名下没有此消息",
        "check the message id and the sending city", "核对消息编号与发送城市";
    DeliveryNotFound, "DELIVERY_NOT_FOUND", NotFound, Never,
        "this stream holds no such delivery; its lease may have ended", "本流没有该投递，租约可能已结束",
        "extend the lease in time; the message will be delivered again", "请及时续租，消息将再次投递";
    StreamProtocol, "STREAM_PROTOCOL", InvalidArgument, Never,
        "the stream's messages came in an order that has no meaning", "流内消息顺序不合规定",
        "see the service's description", "参见服务说明";
    Busy, "BUSY", ResourceExhausted, Later,
        "the gateway has as much work as it can hold", "网关当前负载已满",
        "wait as RetryInfo says and send the same request again", "按 RetryInfo 等待后重发同一请求";
    StoreFull, "STORE_FULL", ResourceExhausted, Later,
        "the gateway's disk is full", "网关磁盘已满",
        "retry later; the operators must free space", "稍后重试，运维人员须释放磁盘空间";
    StoreUnavailable, "STORE_UNAVAILABLE", Unavailable, Later,
        "the gateway cannot write its store", "网关无法写入存储",
        "retry later with the same message id", "稍后以相同消息编号重试";
    LaneFull, "LANE_FULL", ResourceExhausted, Later,
        "as many messages wait for this recipient as may", "发往该接收方的待投递消息已达上限",
        "wait as RetryInfo says and send the same request again", "按 RetryInfo 等待后重发同一请求";
    TooManyWaiters, "TOO_MANY_WAITERS", ResourceExhausted, Later,
        "as many calls of this identity wait as may", "该身份等待中的调用已达上限",
        "let some of them end, or look at the message later", "等待部分调用结束，或稍后查询消息";
    AlreadyTaken, "ALREADY_TAKEN", FailedPrecondition, Never,
        "the message cannot be withdrawn: the next hop has it, or it has ended", "消息已由下一方接管或已终结，无法撤回",
        "ask for the message to see where it stands", "查询该消息以了解其状态";
    CancelInDoubt, "CANCEL_IN_DOUBT", Unavailable, Later,
        "the next hop may have the message and does not answer", "下一方可能已接管该消息但未应答",
        "try again when the partner answers", "待对方恢复应答后重试";
    ReplyGone, "REPLY_GONE", FailedPrecondition, Never,
        "the request is accepted, but its reply went another way, has ended, or is not kept any more", "请求已接收，但其回复已由其他途径交付、已终结或不再保存",
        "look for the reply in the mailbox, or ask for the message that replied_by names", "在收件箱中查找该回复，或查询 replied_by 所指的消息";
    PartnerSilent, "PARTNER_SILENT", Unavailable, Never,
        "the next hop did not answer until the deadline", "下一方在截止时间前未应答",
        "submit as a new message, or redrive the dead letter", "以新消息重新提交，或重投该死信";
    InDoubt, "IN_DOUBT", Unavailable, Never,
        "an attempt may have arrived without an answer", "某次投递可能已到达但未收到应答",
        "ask the recipient before sending the same again", "重新发送前请先向接收方核实";
    RelayLoop, "RELAY_LOOP", FailedPrecondition, Never,
        "the message has passed this hub already, or too many hubs", "消息已经过本枢纽，或经过的枢纽过多",
        "check the relays in the member records", "核对成员记录中的中继设置";
    RelayNotAllowed, "RELAY_NOT_ALLOWED", PermissionDenied, Never,
        "the sending city's member record does not let this member relay", "发送城市的成员记录未授权该成员中继",
        "list the hub as a relay in both cities' member records", "在双方城市的成员记录中登记该枢纽为中继";
    UnsealedRelay, "UNSEALED_RELAY", FailedPrecondition, Never,
        "an unsealed body may not pass a hub unless both cities' records allow it", "未加密的内容不得经枢纽转发，除非双方成员记录均允许",
        "seal the message for the recipient's gateway", "由始发网关为接收网关加密后再转发";
    SealInvalid, "SEAL_INVALID", InvalidArgument, Never,
        "the sealed content does not open, or is not what its digests say", "密封内容无法开启，或与其摘要不符",
        "see the detail for the part that fails", "详情中注明了不通过的部分";
    OutOfOrder, "OUT_OF_ORDER", FailedPrecondition, Never,
        "a later message of this case was taken before this one", "同一案件的后续消息先于本消息被接收",
        "compare the origin receipts' places in their log; ask who carried them", "比对始发回执在日志中的位置，并询问转发方";
    ShuttingDown, "SHUTTING_DOWN", Unavailable, Later,
        "the gateway is stopping", "网关正在停止",
        "retry with the same message id", "以相同消息编号重试";
    DeadlineExceeded, "DEADLINE_EXCEEDED", DeadlineExceeded, Later,
        "the call's deadline passed; the message may have been accepted", "调用超时，消息可能已被接收",
        "send the same request again: it is accepted once", "重发同一请求，只会接收一次";
    RecipientRefused, "RECIPIENT_REFUSED", FailedPrecondition, Never,
        "the recipient system refused the message", "接收系统拒收该消息",
        "see the token and the text beside the receipt", "参见回执旁的代码与说明";
    DeliveriesExhausted, "DELIVERIES_EXHAUSTED", FailedPrecondition, Never,
        "the message was delivered as often as allowed without an outcome", "投递次数已达上限仍无结果",
        "the recipient's operators must look at the dead letter", "接收方运维人员须处理该死信";
    AttachmentNotFound, "ATTACHMENT_NOT_FOUND", NotFound, Never,
        "there is no such attachment for this identity", "该身份名下没有此附件",
        "check the message, the digest and the offset", "核对消息、摘要与起始位置";
    AttachmentMissing, "ATTACHMENT_MISSING", FailedPrecondition, Later,
        "the message refers to an attachment that this identity has not uploaded whole", "消息引用的附件尚未由该身份完整上传",
        "upload it with the part's size and salt, then submit the same message again", "按该部分的大小与盐值上传后重新提交同一消息";
    AttachmentTooLarge, "ATTACHMENT_TOO_LARGE", ResourceExhausted, Never,
        "the attachment is larger than the limit", "附件超过大小上限",
        "send at most 4 GiB in one attachment", "单个附件不超过 4 GiB";
    DigestMismatch, "DIGEST_MISMATCH", InvalidArgument, Never,
        "the uploaded bytes do not have the announced digest; they were thrown away", "上传内容与声明的摘要不符，已丢弃",
        "compute the digest anew and upload from the start", "重新计算摘要并从头上传";
    UploadSuperseded, "UPLOAD_SUPERSEDED", FailedPrecondition, Never,
        "another call goes on with this upload", "该上传已由另一调用接续",
        "use one call at a time for one attachment", "同一附件同时只用一个调用上传";
    UploadsTooMany, "UPLOADS_TOO_MANY", ResourceExhausted, Later,
        "this identity has as many uploads as it may have", "该身份的上传数量已达上限",
        "submit the messages of what was uploaded, or retry later", "请先提交已上传附件的消息，或稍后重试";
    NoteRefused, "NOTE_REFUSED", InvalidArgument, Never,
        "the note is not its owner's word, or what it says cannot stand beside the others", "该文书并非其所有者签署，或其内容与其他文书冲突",
        "see the detail; let the owner sign it anew with a higher version", "参见详情，由所有者以更高版本重新签署";
    NoteOlder, "NOTE_OLDER", FailedPrecondition, Never,
        "a newer version of this note is at hand", "已有该文书的更新版本",
        "fetch the newest version", "请获取最新版本";
    NotInLog, "NOT_IN_LOG", NotFound, Never,
        "there is no such log, or it has not so many leaves", "没有此日志，或其叶子数量不足",
        "ask for the newest checkpoint; it says how far the log goes", "请获取最新检查点，其中载明日志的规模";
    CosignatureRefused, "COSIGNATURE_REFUSED", InvalidArgument, Never,
        "the cosignature is not that of a log key of the calling member over this checkpoint", "联署签名并非以调用成员的日志密钥对该检查点所作",
        "sign the published text with a key that the member record lists, and mind the clock", "请用成员记录所列的密钥对已公布的文本签名，并核对时钟";
    ContentGone, "CONTENT_GONE", FailedPrecondition, Never,
        "the message's content is no longer kept", "消息内容已不再保存",
        "submit it as a new message from the sending system", "请由发送系统以新消息重新提交";
    Internal, "INTERNAL", Internal, Later,
        "the gateway met a fault of its own", "网关内部错误",
        "retry with the same message id and tell the operators", "以相同消息编号重试，并告知运维人员";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::REASON_BYTES_MAX;

    #[test]
    fn every_code_is_unique_short_and_reads_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(*reason));
            assert!(reason.code().len() <= REASON_BYTES_MAX);
            assert!(reason.code().bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
        }
    }

    #[test]
    fn every_text_exists_in_both_languages() {
        for reason in Reason::ALL {
            assert!(!reason.en().is_empty() && !reason.hint_en().is_empty());
            assert!(reason.zh().chars().any(|c| c > '\u{3000}') && reason.hint_zh().chars().any(|c| c > '\u{3000}'));
        }
    }
}
