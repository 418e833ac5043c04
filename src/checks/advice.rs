//! Decides the words for everything that a check can find wrong: its cause and the way out, in both languages. Never
//! looks at anything itself.

/// What is wrong, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Advice {
    /// Stable, for scripts; a finding is known by the check's id and this code.
    pub code: &'static str,
    /// The cause, in English and in Chinese.
    pub cause: (&'static str, &'static str),
    /// The way out, in English and in Chinese.
    pub fix: (&'static str, &'static str),
}

macro_rules! advice {
    ($($name:ident $code:literal: $cause:literal $cause_zh:literal, $fix:literal $fix_zh:literal;)*) => {
        $(pub static $name: Advice =
            Advice { code: $code, cause: ($cause, $cause_zh), fix: ($fix, $fix_zh) };)*
        /// Every advice, in the order of the checks.
        pub static ALL: &[&Advice] = &[$(&$name),*];
    };
}

advice! {
    CONFIG "config_faulty": "the configuration has faults" "配置文件有误",
        "mend the lines that are named; nothing else can be examined before" "请修改所列各行；在此之前无法检查其他各项";
    CLOCK_BEHIND "clock_behind": "this machine's clock is behind what was already signed" "本机时钟早于已签署的时间",
        "set the clock, best by NTP (`timedatectl set-ntp true`); receipts would bear wrong times" "请校准时钟，最好启用 NTP（timedatectl set-ntp true），否则回执时间有误";
    DESCRIPTORS_FEW "descriptors_few": "this process may open fewer files than it has connections to serve" "本进程可打开的文件数少于应服务的连接数",
        "raise the limit: `LimitNOFILE=16384` in the systemd unit, or `ulimit -n 16384`" "请提高限额：systemd 单元中设 LimitNOFILE=16384，或执行 ulimit -n 16384";
    DISK_FULL "disk_full": "the store's disk is nearly full: no new messages are taken" "存储所在磁盘将满：不再接收新消息",
        "free space on it or enlarge it; what is under way goes on" "请清理或扩容；在途消息仍会继续处理";
    DISK_LOW "disk_low": "the store's disk will be full before long" "存储所在磁盘空间不多",
        "plan for more room; new messages are refused below 256 MiB" "请准备扩容；低于 256 MiB 时将拒收新消息";
    DISK_READ_ONLY "disk_read_only": "the store's file system is read-only" "存储所在文件系统为只读",
        "look at the kernel's log (`dmesg`) for disk errors, mend them, mount it writable and restart the gateway" "请查看内核日志（dmesg）中的磁盘错误，修复并重新以可写方式挂载，再重启网关";
    STORE_UNWRITABLE "store_unwritable": "the store's folder does not take a file" "存储目录无法写入文件",
        "the folder must belong to the gateway's user; look at its rights, its quota and the disk" "目录须属于网关用户；请检查权限、配额与磁盘";
    STORE_MISSING "store_missing": "there is no store yet" "尚无存储",
        "nothing to do: the gateway makes it at its first start" "无需处理：网关首次启动时会创建";
    STORE_SCHEMA "store_schema": "the store was written by another build" "存储由其他版本的程序写成",
        "start the build that wrote it or a newer one; never put an older one on it" "请使用写成它的版本或更新的版本，切勿使用更旧的版本";
    STORE_UNREADABLE "store_unreadable": "the store cannot be read" "存储无法读取",
        "do not delete anything; look at rights and disk, and restore a backup if the file is damaged" "请勿删除任何文件；检查权限与磁盘，若文件损坏请从备份恢复";
    WAL_LARGE "wal_large": "the store's write-ahead log has grown large" "存储的预写日志过大",
        "a reader may hold it open; restart the gateway in a quiet hour" "可能有读者一直占用；请在空闲时重启网关";
    LOG_DAMAGED "log_damaged": "what the log stores is not what was signed" "日志的存储内容与已签名的不符",
        "stop the gateway, keep the folder as it is, and restore a backup; receipts that were handed out still verify" "请停止网关，保留该目录原样，并从备份恢复；已交付的回执仍可验证";
    SCRUB_STALE "scrub_stale": "the whole log has not been walked over for days" "日志多日未通查",
        "see in the gateway's log why the walk does not end; `tongban check --deep` makes one now" "请在网关日志中查看通查为何未完成；tongban check --deep 可立即通查";
    TREE_BROKEN "tree_broken": "the log's newest checkpoint does not fit the stored tree or the log key" "日志的最新检查点与存储的树或日志密钥不符",
        "stop the gateway, change nothing, and ask for help with the store and `tongban check --json`" "请停止网关，勿作改动，并携带存储与 tongban check --json 的输出求助";
    ROLLED_BACK "rolled_back": "the store is older than what was already shown to others" "存储早于已向他人出示的内容",
        "put the newer store back; if it is lost, only a new log generation may go on" "请恢复较新的存储；若已丢失，只能开启新的日志代";
    KEY_UNREADABLE "key_unreadable": "a secret key's file cannot be read or does not hold a key" "密钥文件无法读取或内容不是密钥",
        "restore the file from its backup; it must belong to the gateway's user, mode 600" "请从备份恢复该文件；须属于网关用户，权限 600";
    KEY_OPEN "key_open": "others can read a secret key" "其他用户可读取密钥",
        "`chmod 600` the file; if others may have read it, rotate the key" "请对该文件执行 chmod 600；若可能已被他人读取，请更换密钥";
    KEY_MISSING "key_missing": "a file that the configuration names is missing" "配置所指的文件不存在",
        "put it back, or correct the path in the configuration" "请放回该文件，或更正配置中的路径";
    CERTIFICATE_UNREADABLE "certificate_unreadable": "the certificate's file holds no readable certificate" "证书文件中没有可读的证书",
        "put the chain there in PEM, the gateway's own certificate first" "请放入 PEM 格式的证书链，网关自身的证书在前";
    CERTIFICATE_OTHER_KEY "certificate_other_key": "the private key does not belong to the certificate" "私钥与证书不匹配",
        "install the key that the certificate was issued for, or ask for a new certificate" "请安装与证书对应的私钥，或重新申请证书";
    CERTIFICATE_REFUSED "certificate_refused": "partners will refuse this gateway's certificate" "伙伴将拒绝本网关的证书",
        "ask the authority named in the member record for a certificate with the right name, purposes and dates" "请向成员记录所列的机构申请名称、用途、日期均正确的证书";
    CERTIFICATE_EXPIRED "certificate_expired": "this gateway's certificate has expired" "本网关的证书已过期",
        "install a new certificate now: no partner accepts this one" "请立即安装新证书：伙伴均不再接受此证书";
    CERTIFICATE_ENDS "certificate_ends": "this gateway's certificate ends within two months" "本网关的证书将在两个月内到期",
        "ask for a new certificate now" "请尽快申请新证书";
    CERTIFICATE_ENDS_SOON "certificate_ends_soon": "this gateway's certificate ends within two weeks" "本网关的证书将在两周内到期",
        "press for the new certificate and install it: once this one has ended, no partner accepts it" "请催办并安装新证书：到期后伙伴均不再接受此证书";
    CRL_MISSING "crl_missing": "a member's revocation list is missing: the member is refused" "缺少某成员的吊销列表：该成员将被拒绝",
        "fetch the list from the member and put it at the named path" "请向该成员取得列表并放到所列路径";
    CRL_UNUSABLE "crl_unusable": "a member's revocation list does not parse or another authority signed it" "某成员的吊销列表无法解析，或由其他机构签发",
        "fetch it from the member again" "请向该成员重新取得";
    CRL_EXPIRED "crl_expired": "a member's revocation list has expired: the member is refused" "某成员的吊销列表已过期：该成员将被拒绝",
        "fetch a fresh list from the member" "请向该成员取得新的列表";
    CRL_ENDS "crl_ends": "a member's revocation list ends soon" "某成员的吊销列表即将到期",
        "fetch a fresh list from the member" "请向该成员取得新的列表";
    DIRECTORY_UNREADABLE "directory_unreadable": "the directory cannot be read or the alliance did not sign it" "目录无法读取，或未经联盟签署",
        "fetch directory and alliance key again, and compare the key's fingerprint by telephone" "请重新取得目录与联盟公钥，并电话核对公钥指纹";
    DIRECTORY_OTHER "directory_other": "the directory belongs to another alliance" "目录属于另一个联盟",
        "correct `alliance` in the configuration, or install the right directory" "请更正配置中的 alliance，或安装正确的目录";
    NOT_A_MEMBER "not_a_member": "the directory does not list this gateway's member" "目录中没有本网关的成员",
        "have the member record signed into the directory" "请将成员记录签入目录";
    LOG_KEY_UNLISTED "log_key_unlisted": "the log key is not in this member's record: no receipt would verify" "日志密钥不在本成员的记录中：回执将无法验证",
        "publish a record with this log key, or install the key that the record names" "请发布含此日志公钥的记录，或安装记录所列的密钥";
    SEALING_KEY_UNLISTED "sealing_key_unlisted": "the sealing key is not the one in this member's record" "封装密钥与本成员记录中的不同",
        "install the key that the record names; keep former keys under [sealing] former" "请安装记录所列的密钥；旧密钥保留在 [sealing] former";
    SEALING_KEY_NOT_PUBLISHED "sealing_key_not_published": "this member's record still names the former sealing key" "本成员记录所列仍是旧的封装密钥",
        "sign a record with the new key and hand it in with `tongban members add`" "请签署列有新密钥的成员记录，并以 tongban members add 提交";
    SEALING_KEY_ABSENT "sealing_key_absent": "the member record names a sealing key, and this gateway has none" "成员记录列有封装密钥，而本网关没有配置",
        "name the key's file under [sealing] key: what comes by a hub cannot be opened" "请在 [sealing] key 中指明密钥文件，否则经枢纽送来的内容无法打开";
    DIRECTORY_STALE "directory_stale": "the directory was signed long ago" "目录签署时间已久",
        "fetch a newer one or ask the alliance; what is known holds until then" "请取得更新的目录或询问联盟；在此之前现有内容仍然有效";
    ROUTES_CLASH "routes_clash": "the stored routing tables do not compile with this configuration" "存储的路由表与本机配置不符",
        "`tongban route show`, mend the rows that are named, `tongban route publish`" "请用 tongban route show 查看，修改所列条目后用 tongban route publish 发布";
    MEMBER_SUSPENDED "member_suspended": "somebody suspended a member: nothing is exchanged with it, and messages to it wait" "某成员已被暂停：不与其往来，发往该成员的消息在等待",
        "`tongban members resume MEMBER` when the reason is gone" "原因消除后执行 tongban members resume <成员>";
    NOTE_HELD_BACK "note_held_back": "a partner's table or record is held back" "某伙伴的路由表或记录被搁置",
        "settle with the owners which row holds; the last good one is in force until then" "请与所有者商定以哪一条为准；在此之前以上一次的为准";
    GRANTS_NONE "grants_none": "no grant stands in the configuration: every message is refused" "配置中没有授权：所有消息都会被拒绝",
        "write at least one [[grant]]" "请至少写一条 [[grant]]";
    SYSTEMS_NONE "systems_none": "no system stands in the configuration: nothing can be delivered in this city" "配置中没有系统：本市无法投递任何消息",
        "write a [[system]] for each system of the city" "请为本市每个系统写一条 [[system]]";
    GATEWAY_SILENT "gateway_silent": "no gateway serves from this store" "没有网关正在使用此存储",
        "start it: `tongban serve`" "请启动：tongban serve";
    GATEWAY_DEAF "gateway_deaf": "the gateway does not answer at its address" "网关在其地址上没有应答",
        "look at its log; restart it" "请查看其日志并重启";
    GATEWAY_NOT_SERVING "gateway_not_serving": "the gateway says that it does not serve" "网关自称暂不服务",
        "mend what else is found here; its log says more" "请先处理此处的其他问题；其日志有更多说明";
    LANE_OLD "lane_old": "a message has waited long in this lane" "该通道有消息等待已久",
        "see whether the partner or system runs, then `tongban messages list`" "请确认对方系统在运行，再用 tongban messages list 查看";
    LANE_RESTS "lane_rests": "the partner has failed again and again: the lane rests between tries" "对方连续失败：该通道在两次尝试之间暂停",
        "call the partner; the lane goes on by itself when it answers" "请联系对方；对方恢复后通道自动继续";
    LANE_HELD "lane_held": "an operator has paused this lane" "该通道已被人工暂停",
        "`tongban lanes resume` when the reason is gone" "原因消除后请用 tongban lanes resume 恢复";
    DEAD_LETTERS "dead_letters": "messages ended without handover and wait for a decision" "有消息未能交付，等待处理",
        "`tongban dead list`, then redrive or discard them" "请用 tongban dead list 查看，再重发或作废";
    LOG_FORKED "log_forked": "a member's log has forked: it signed two states that contradict each other" "某成员的日志已分叉：其签署了两个互相矛盾的状态",
        "`tongban witness show` prints both notes: they are proof; show them to the member and to the alliance, and move the folder away when it is settled" "tongban witness show 会打印两份文书，即为证据；请出示给该成员与联盟，解决后再移走该文件夹";
    LOG_SHRUNK "log_shrunk": "a member's log shows fewer leaves than it has shown: its store was put back from an older copy" "某成员的日志叶子少于此前公布的数量：其存储是从旧副本恢复的",
        "call the member before its gateway signs more: it must restore by `tongban restore`, which begins a new log" "请在其网关继续签署之前联系该成员：须用 tongban restore 恢复，以启用新的日志";
    SIGHTINGS_UNREADABLE "sightings_unreadable": "what was seen of other logs cannot be read" "对其他日志的见证记录无法读取",
        "look at the rights of the folder `witness` beside the store" "请检查存储目录旁 witness 文件夹的权限";
    COSIGNATURES_NONE "cosignatures_none": "no partner has cosigned this log for a while: receipts cannot be sealed" "近期没有伙伴联署本日志：回执无法封存",
        "receipts hold all the same; ask the partners whether their gateways reach this one and are witnesses" "回执依然有效；请询问各伙伴其网关能否到达本网关并已开启见证";
    PARTNER_NAME "partner_name": "the partner's host name does not resolve" "伙伴的主机名无法解析",
        "correct DNS or the hosts file, or ask the partner for its address" "请修正 DNS 或 hosts 文件，或向伙伴询问地址";
    PARTNER_TCP "partner_tcp": "the partner's address does not take a connection" "伙伴的地址无法建立连接",
        "ask both firewalls and the partner: the gateway may be down, or the port closed" "请检查双方防火墙并联系伙伴：网关可能已停，或端口未开放";
    PARTNER_TLS "partner_tls": "the handshake with the partner fails" "与伙伴的握手失败",
        "the reason says whose certificate is wrong; the partner's log names ours if it refused us" "原因说明是哪一方的证书有误；若对方拒绝我方，其日志会指出";
    PARTNER_ALPN "partner_alpn": "what answers at the partner's address does not speak HTTP/2" "伙伴地址上的应答方不支持 HTTP/2",
        "something stands between the gateways (a proxy or a 网闸); let it pass TLS untouched" "两个网关之间有代理或网闸；请让 TLS 原样通过";
    PARTNER_SILENT "partner_silent": "the partner's gateway takes the connection and does not answer" "伙伴的网关接受连接却不应答",
        "call the partner: its gateway hangs" "请联系伙伴：其网关可能已挂起";
    PARTNER_REFUSES "partner_refuses": "the partner's gateway answers with an error" "伙伴的网关返回错误",
        "the text says why; the partner's record of us may be old" "文字说明原因；对方所存的我方记录可能已旧";
    PARTNER_NOT_SERVING "partner_not_serving": "the partner's gateway says that it does not serve" "伙伴的网关自称暂不服务",
        "call the partner; messages wait here meanwhile" "请联系伙伴；消息在此期间于本地等待";
    PARTNER_NO_ECHO "partner_no_echo": "a test message did not reach the partner's gateway" "测试消息未到达伙伴的网关",
        "see the reason and the lane (`tongban lanes list`), ask the partner for its log, then `tongban partner test`" "请查看原因与通道（tongban lanes list），请伙伴查看其日志，处理后用 tongban partner test 再测";
    PARTNER_NO_RECEIPT "partner_no_receipt": "the partner took a test message, and its last receipt did not come home" "伙伴已收到测试消息，但最终回执没有送回",
        "ask the partner to look at its lane towards us: receipts do not reach us; then `tongban partner test`" "请伙伴检查其通往我方的通道：回执无法送达；处理后用 tongban partner test 再测";
    PARTNER_CLOCK "partner_clock": "the partner's clock and ours differ" "伙伴的时钟与我方不一致",
        "find out which one is wrong and set it by NTP; beyond ten minutes messages are refused" "请查明哪一方有误并以 NTP 校准；相差超过十分钟消息会被拒绝";
}
