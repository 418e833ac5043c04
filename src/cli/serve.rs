//! Decides how `tongban serve` starts and ends a gateway's process. Never decides what the gateway does.

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::config::Configured;
use super::{Answer, Exit, Failure, Out};
use crate::config::ConfigError;
use crate::ledger::StartError;
use crate::server::{self, ServerError};
use crate::store::OpenError;

/// Run a gateway
#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    configured: Configured,
    /// Log lines as JSON
    #[arg(long)]
    log_json: bool,
}

/// Runs a gateway until SIGTERM or SIGINT, then drains; SIGHUP lets it read its configuration again.
pub fn run(command: Serve, out: &Out) -> Answer {
    logs(command.log_json);
    let config = command.configured.read()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before anybody can see that it serves: a signal that nobody waits for ends a process at once.
        let mut hup = signal(SignalKind::hangup())?;
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let gateway = server::bind(&config).await?;
        let address = gateway.address()?;
        let city = config.member.to_string();
        out.say(&out.lang.tr(format!("{city} serves on {address}"), format!("{city} 正在 {address} 提供服务")));
        let renewal = gateway.renewal();
        // What came of it stands in the log.
        tokio::spawn(async move {
            while hup.recv().await.is_some() {
                let _ = renewal.renew().await;
            }
        });
        let stop = async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            tracing::info!("stopping");
        };
        gateway.run(stop).await?;
        Ok(Exit::Done)
    })
}

/// Logs to stderr; what is shown is set by `TONGBAN_LOG`, in the form of tracing's filters.
fn logs(json: bool) {
    let filter = EnvFilter::try_from_env("TONGBAN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let layer = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A second subscriber in one process is no fault: the first one stays.
    let _ = if json { layer.json().try_init() } else { layer.with_ansi(false).try_init() };
}

impl From<ConfigError> for Failure {
    fn from(fault: ConfigError) -> Failure {
        let exit = match &fault {
            ConfigError::Unreadable { .. } => Exit::NoInput,
            ConfigError::Faulty(_) => Exit::Config,
        };
        Failure::new(exit, &fault, format!("配置有误：\n{}", fault.zh()))
    }
}

impl From<ServerError> for Failure {
    fn from(fault: ServerError) -> Failure {
        let (exit, zh) = match fault {
            ServerError::Key(fault) => return fault.into(),
            ServerError::Directory(fault) => return fault.into(),
            ServerError::Store(OpenError::InUse(_)) => (Exit::TempFail, "另一进程正在使用该存储"),
            ServerError::Notes(_) => (Exit::Data, "已保存的目录与路由表文书无法读取"),
            ServerError::Store(_) => (Exit::Io, "存储无法打开"),
            ServerError::Ledger(StartError::Behind { .. } | StartError::Forked { .. }) => {
                (Exit::Data, "存储早于已出示的检查点，拒绝签名")
            }
            ServerError::Ledger(_) => (Exit::Data, "日志与检查点不符，拒绝签名"),
            ServerError::Bind { .. } => (Exit::Unavailable, "地址无法监听"),
            ServerError::Blobs(_) => (Exit::Io, "附件存储无法打开"),
            ServerError::Table { .. } => (Exit::Data, "存储中的路由表不可读"),
            ServerError::Thread(_) => (Exit::Io, "线程无法启动"),
            ServerError::StoreFailed(_) => (Exit::Io, "存储在服务中出错，须重新启动"),
            ServerError::Routes(_) => (Exit::Config, "路由表与本机配置不符"),
            ServerError::AllianceKey(_)
            | ServerError::OtherAlliance { .. }
            | ServerError::NotAMember(_)
            | ServerError::NoHub(_)
            | ServerError::Trust(_)
            | ServerError::Certificate(_)
            | ServerError::LogKey(_) => (Exit::Config, "身份或信任配置有误"),
        };
        Failure::new(exit, &fault, format!("{zh}：{fault}"))
    }
}
