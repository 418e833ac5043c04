//! Decides how a new key follows one of a gateway's: what is made, what is put in use, and what a person has to do then. Never
//! deletes a key; each step leaves a gateway that starts, and what is destructive is shown and asked first.

#![allow(clippy::disallowed_methods, reason = "renames, and syncs the folder")]

use std::path::{Path, PathBuf};

use serde_json::json;

use super::super::pki::{renewed, signing_request};
use super::super::{Answer, Exit, Failure, Out, consent, now};
use super::{Log, Sealing, Tls};
use crate::backup::{BackupError, Order, restore, take};
use crate::config::Config;
use crate::keys::{self, Seed};
use crate::party::{Party, Role};
use crate::seal::OpeningKey;
use crate::store;

/// The file that puts a new sealing key in use, beside the main configuration.
const SEALING_LAYER: &str = "conf.d/90-sealing.toml";

/// A new key for the gateway's certificate.
pub fn tls(args: &Tls, out: &Out) -> Answer {
    let config = args.configured.read()?;
    match &args.dir {
        Some(dir) => tls_here(args, &config, dir, out),
        None => tls_asked(&config, out),
    }
}

/// Key and request beside those in use, which stay.
fn tls_asked(config: &Config, out: &Out) -> Answer {
    let party = Party::gateway(config.alliance.clone(), config.member.clone());
    let (key, request) = signing_request(&party)?;
    let (key_file, request_file) = (beside(&config.key, "key"), beside(&config.key, "csr"));
    keys::write_secret(&key_file, key.as_bytes())?;
    keys::replace_public(&request_file, request.as_bytes())?;
    out.show(&json!({ "key": key_file, "request": request_file, "name": party.to_string() }), || {
        let (key, request) = (key_file.display(), request_file.display());
        out.lang.tr(
            format!("made {key}\nmade {request}, for {party}; nothing in use has changed"),
            format!("已生成私钥 {key}\n已生成证书请求 {request}（{party}）；在用密钥未变"),
        )
    })?;
    out.hint(
        "let the authority in the member record sign the request; then name certificate and key under [tls], and `tongban reload`",
        "请由成员记录中的证书机构签发；然后在 [tls] 中指明新证书与私钥，并执行 tongban reload",
    );
    Ok(Exit::Done)
}

/// The development authority signs at once.
fn tls_here(args: &Tls, config: &Config, dir: &Path, out: &Out) -> Answer {
    let (key, certificate) = (config.key.display(), config.certificate.display());
    out.say(&out.lang.tr(
        format!("{key} and {certificate} are replaced; the old ones stay beside them as .old"),
        format!("将替换 {key} 与 {certificate}；旧文件保留为 .old"),
    ));
    if !consent::given(args.yes, ("rotate the TLS key?", "确认更换 TLS 密钥？"), out)? {
        return Ok(Exit::No);
    }
    let [key, chain] = renewed(dir, &config.member, Role::Gateway)?;
    out.show(&json!({ "key": key, "certificate": chain }), || {
        let (key, chain) = (key.display(), chain.display());
        out.lang.tr(format!("made {key}\nmade {chain}"), format!("已生成 {key}\n已生成 {chain}"))
    })?;
    out.hint("a running gateway takes them up with: tongban reload", "运行中的网关执行 tongban reload 后采用");
    Ok(Exit::Done)
}

/// A new sealing key, in use from the next start on. The old file is not touched: a layer of configuration names it as former.
pub fn sealing(args: &Sealing, out: &Out) -> Answer {
    let config = args.configured.read()?;
    let Some(old) = config.sealing_key.clone() else {
        let (en, zh) =
            ("[sealing] key names no key: there is nothing to rotate", "[sealing] key 未设置，没有可更换的密钥");
        return Err(Failure::new(Exit::Config, en, zh));
    };
    let (new, layer) = (beside(&old, "key"), folder(&config).join(SEALING_LAYER));
    let (from, to, by) = (old.display(), new.display(), layer.display());
    out.say(&out.lang.tr(
        format!(
            "{to} is made and used from the next start on; {from} goes on opening what was sealed for it\n{by} says so"
        ),
        format!("将生成 {to}，下次启动起使用；{from} 仍用于打开已加封的内容\n由 {by} 配置"),
    ));
    if !consent::given(args.yes, ("rotate the sealing key?", "确认更换加封密钥？"), out)? {
        return Ok(Exit::No);
    }
    let seed = Seed::generate()?;
    keys::write_sealing_seed(&new, &seed)?;
    let former: Vec<PathBuf> = std::iter::once(old).chain(config.former_sealing_keys.iter().cloned()).collect();
    name_sealing(&layer, &new, &former)?;
    let read = args.configured.read()?;
    if read.sealing_key.as_ref() != Some(&new) || read.former_sealing_keys != former {
        let (en, zh) = ("another setting of [sealing] holds before this file", "[sealing] 的其他设置优先于此文件");
        return Err(Failure::new(Exit::Config, en, zh).at(layer.display()));
    }
    let public = *OpeningKey::from_seed(seed.bytes()).public();
    let shown = json!({ "key": new, "former": former, "layer": layer, "sealing_key": public.to_string(),
        "id": public.id().to_string() });
    out.show(&shown, || {
        let path = new.display();
        out.lang.tr(format!("made {path}\nits public half: {public}"), format!("已生成 {path}\n公钥：{public}"))
    })?;
    out.hint(
        "restart the gateway; then sign a member record with --sealing-key and hand it in: `tongban members add`",
        "请先重启网关；然后用 --sealing-key 签署新的成员记录，并以 tongban members add 提交",
    );
    Ok(Exit::Done)
}

fn name_sealing(layer: &Path, new: &Path, former: &[PathBuf]) -> Result<(), Failure> {
    let text = |path: &Path| toml::Value::from(absolute(path).display().to_string());
    let former = toml::Value::from(former.iter().map(|path| text(path)).collect::<Vec<_>>());
    if let Some(folder) = layer.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let written = format!("[sealing]\nkey = {}\nformer = {former}\n", text(new));
    Ok(keys::replace_public(layer, written.as_bytes())?)
}

/// The log goes on in a new folder, which is made of the old one as a restore makes it of a backup; the old key is put aside,
/// so that nobody goes on with the old log. Only while the gateway is stopped: whoever signs must not be copied.
pub fn log(args: &Log, out: &Out) -> Answer {
    let config = args.configured.read()?;
    if store::in_use(&config.data) {
        let (en, zh) = (
            "the gateway is running: its log can be closed only while it is stopped",
            "网关正在运行：须先停止才能关闭日志",
        );
        return Err(Failure::new(Exit::TempFail, en, zh).hint("stop it, and run this again", "请停止网关后重试"));
    }
    let (copy, aside) = (beside_folder(&args.to), closed(&config.log_key));
    let (to, key, kept) = (args.to.display(), config.log_key.display(), aside.display());
    out.say(&out.lang.tr(
        format!("the log is closed, and goes on under a new key in {to}\n{key} becomes {kept}: the old folder starts no more"),
        format!("将关闭日志，在 {to} 中以新密钥继续\n{key} 更名为 {kept}：旧目录不能再启动"),
    ));
    if !consent::given(args.yes, ("rotate the log key?", "确认更换日志密钥？"), out)? {
        return Ok(Exit::No);
    }
    let member_key = args.member_key.clone();
    let order = Order { from: copy.clone(), to: args.to.clone(), member_key, generation: None, dry_run: false };
    let restored = take(&config, &copy, now()).and_then(|_| restore(&order, now()));
    // A copy of a gateway holds its keys: it does not stay, whatever came of it. One that was there before is not ours.
    if !matches!(restored, Err(BackupError::NotEmpty(ref place)) if *place == copy) {
        std::fs::remove_dir_all(&copy).map_err(|fault| Failure::from(fault).at(copy.display()))?;
    }
    let restored = restored?;
    put_aside(&config.log_key, &aside).map_err(|fault| Failure::from(fault).at(config.log_key.display()))?;
    let new_key = restored.log_key.as_ref().map(ToString::to_string).unwrap_or_default();
    let start = format!("tongban serve --config {}", args.to.join("tongban.toml").display());
    let shown = json!({ "gateway": args.to, "closed": restored.manifest.log, "log": restored.origin, "log_key": new_key,
        "statement": restored.statement, "aside": aside });
    out.show(&shown, || {
        let (old, size, origin) = (&restored.manifest.log.origin, restored.manifest.log.size, &restored.origin);
        out.lang.tr(
            format!("closed {old} at leaf {size}; the log goes on in {origin}\n{new_key}"),
            format!("已关闭日志 {old}（共 {size} 个叶子），改用 {origin}\n{new_key}"),
        )
    })?;
    match restored.statement {
        Some(_) => out.hint(&format!("next: {start}"), &format!("下一步：{start}")),
        None => out.hint(
            &format!("list this key beside the old one in the member's next record, then {start}"),
            &format!("在新的成员记录中保留旧密钥并加入此密钥，然后 {start}"),
        ),
    }
    Ok(Exit::Done)
}

/// `20260131T080000000`
const MOMENT_CHARS: usize = 18;

/// A file beside this one, named after the moment.
fn beside(path: &Path, extension: &str) -> PathBuf {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    // A key that follows one that was named so is not named after both moments.
    let is_moment = |text: &str| text.len() == MOMENT_CHARS && text.starts_with(|c: char| c.is_ascii_digit());
    let stem = stem.rsplit_once('-').filter(|(_, moment)| is_moment(moment)).map_or(stem.as_str(), |(stem, _)| stem);
    let moment: String = now().to_string().chars().filter(|c| c.is_ascii_alphanumeric()).take(MOMENT_CHARS).collect();
    path.with_file_name(format!("{stem}-{moment}.{extension}"))
}

/// Where the copy lies while the log is handed on.
fn beside_folder(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".copy");
    to.with_file_name(name)
}

/// Durable on return.
fn put_aside(key: &Path, aside: &Path) -> std::io::Result<()> {
    std::fs::rename(key, aside)?;
    std::fs::File::open(key.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn closed(key: &Path) -> PathBuf {
    let mut name = key.file_name().unwrap_or_default().to_owned();
    name.push(".closed");
    key.with_file_name(name)
}

fn folder(config: &Config) -> PathBuf {
    config.source.file.parent().unwrap_or(Path::new(".")).to_owned()
}

/// As it reads from any folder.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
