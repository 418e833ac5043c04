//! Decides how `tongban backup` and `tongban restore` tell what they did. Never copies a byte itself.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::config::Configured;
use super::{Answer, Exit, Failure, Out, now};
use crate::backup::{BackupError, Order, Restored, restore, take};

/// Copy a gateway, running or stopped, into a folder: store, attachments, keys, directory and configuration
#[derive(Args)]
pub struct Backup {
    #[command(flatten)]
    configured: Configured,
    /// The backup's folder: a new one, or an empty one
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

/// Make a gateway of a backup: on a clean machine, under a new log that closes the old one
#[derive(Args)]
pub struct Restore {
    /// The backup's folder
    #[arg(value_name = "BACKUP")]
    from: PathBuf,
    /// The gateway's folder: a new one, or an empty one
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The member's key file: signs the statement that makes the new log known
    #[arg(long, value_name = "FILE")]
    member_key: Option<PathBuf>,
    /// Generation of the new log, when this backup was restored before (default: the next)
    #[arg(long, value_name = "NUMBER")]
    generation: Option<u64>,
    /// Verify the backup and say what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Takes a backup.
pub fn take_one(args: &Backup, out: &Out) -> Answer {
    let config = args.configured.read()?;
    let taken = take(&config, &args.to, now())?;
    let (manifest, files) = (&taken.manifest, taken.manifest.files.len());
    let shown = json!({ "backup": args.to, "files": files, "bytes": taken.bytes, "messages": manifest.messages,
        "waiting": manifest.waiting, "log": manifest.log, "gone": manifest.gone.len() });
    out.show(&shown, || {
        let (to, kb, log) = (args.to.display(), taken.bytes.div_ceil(1000), &manifest.log);
        let (origin, size, messages, waiting) = (&log.origin, log.size, manifest.messages, manifest.waiting);
        out.lang.tr(
            format!(
                "{to}: {files} files, {kb} kB\n{messages} messages, {waiting} of them waiting; {origin} to leaf {size}\n\
                 It holds private keys and contents: keep it as you keep the gateway."
            ),
            format!(
                "{to}：{files} 个文件，{kb} kB\n消息 {messages} 条，其中 {waiting} 条等候投递；日志 {origin}，共 {size} 个叶子\n\
                 备份含私钥与消息内容，请按网关本身的要求保管。"
            ),
        )
    })?;
    Ok(Exit::Done)
}

/// Restores one.
pub fn restore_one(args: &Restore, out: &Out) -> Answer {
    let Restore { from, to, member_key, generation, dry_run } = args;
    let order = Order {
        from: from.clone(),
        to: to.clone(),
        member_key: member_key.clone(),
        generation: *generation,
        dry_run: *dry_run,
    };
    let restored = restore(&order, now())?;
    let manifest = &restored.manifest;
    let key = restored.log_key.as_ref().map(ToString::to_string);
    let shown = json!({ "gateway": to, "dry_run": dry_run, "taken_at": manifest.taken_at, "messages": manifest.messages,
        "waiting": manifest.waiting, "closed": manifest.log, "log": restored.origin, "log_key": key,
        "statement": restored.statement, "unlisted": restored.unlisted });
    out.show(&shown, || told(args, &restored, out))?;
    Ok(Exit::Done)
}

fn told(args: &Restore, restored: &Restored, out: &Out) -> String {
    let (manifest, origin) = (&restored.manifest, &restored.origin);
    let (at, messages, waiting) = (&manifest.taken_at, manifest.messages, manifest.waiting);
    let (old, size) = (&manifest.log.origin, manifest.log.size);
    let mut lines = vec![out.lang.tr(
        format!("the backup of {at} is whole: {messages} messages, {waiting} of them waiting"),
        format!("备份完整（{at}）：消息 {messages} 条，其中 {waiting} 条等候投递"),
    )];
    lines.push(match args.dry_run {
        true => out.lang.tr(
            format!("would close {old} at leaf {size} and go on in {origin}; nothing was written"),
            format!("将关闭日志 {old}（共 {size} 个叶子），改用 {origin}；本次未写入任何内容"),
        ),
        false => out.lang.tr(
            format!("closed {old} at leaf {size}; the log goes on in {origin}"),
            format!("已关闭日志 {old}（共 {size} 个叶子），日志改用 {origin}"),
        ),
    });
    if let Some(key) = &restored.log_key {
        let config = args.to.join("tongban.toml");
        let start = format!("tongban serve --config {}", config.display());
        lines.push(match restored.statement {
            Some(version) => out.lang.tr(
                format!("signed statement {version} that makes the new log known\nnext: {start}"),
                format!("已签署第 {version} 号声明，公布新日志\n下一步：{start}"),
            ),
            None => out.lang.tr(
                format!("next: list this key beside the old one in the member's record, then {start}\n{key}"),
                format!("下一步：在成员记录中保留旧密钥并加入以下密钥，然后 {start}\n{key}"),
            ),
        });
    }
    let unlisted = restored.unlisted.iter().map(|log| {
        out.lang.tr(
            format!("the member's record does not list {log}: list it, or its receipts stop verifying"),
            format!("成员记录未列出 {log}：请补列，否则其回执将无法验证"),
        )
    });
    lines.extend(unlisted);
    lines.join("\n")
}

impl From<BackupError> for Failure {
    fn from(fault: BackupError) -> Failure {
        use BackupError as E;
        let exit = match &fault {
            E::Key(_) | E::Config(_) | E::LogKey(_) | E::MemberKey(_) => Exit::Config,
            E::NotEmpty(_) => Exit::CantCreate,
            E::NoManifest(_) => Exit::NoInput,
            E::Io { .. } | E::Notes(_) | E::Open(_) | E::Ledger(_) => Exit::Io,
            E::Mode { .. } => Exit::NoPermission,
            E::Generation { .. } => Exit::Usage,
            _ => Exit::Data,
        };
        let zh = fault.zh();
        match fault {
            E::Key(fault) => fault.into(),
            fault => Failure::new(exit, fault, zh),
        }
    }
}
