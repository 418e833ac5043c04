//! Decides how `tongban serve` starts and ends a gateway's process. Never decides what the gateway does.

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::config::Configured;
use super::{Answer, Exit, Failure, Out, log};
use crate::config::ConfigError;
use crate::lang::Zh;
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
    log::to_stderr(command.log_json);
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
        if command.log_json {
            tracing::info!(city, %address, "serves");
        } else {
            out.say(&out.lang.tr(format!("{city} serves on {address}"), format!("{city} 正在 {address} 提供服务")));
        }
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
        let exit = match fault {
            ServerError::Key(fault) => return fault.into(),
            ServerError::Directory(fault) => return fault.into(),
            ServerError::Store(OpenError::InUse(_)) => Exit::TempFail,
            ServerError::Bind { .. } => Exit::Unavailable,
            ServerError::Store(_) | ServerError::Blobs(_) | ServerError::Thread(_) | ServerError::StoreFailed(_) => {
                Exit::Io
            }
            ServerError::Notes(_) | ServerError::Ledger(_) | ServerError::Table { .. } => Exit::Data,
            ServerError::Routes(_)
            | ServerError::AllianceKey(_)
            | ServerError::OtherAlliance { .. }
            | ServerError::NotAMember(_)
            | ServerError::NoHub(_)
            | ServerError::Trust(_)
            | ServerError::Certificate(_)
            | ServerError::LogKey(_) => Exit::Config,
        };
        Failure::new(exit, &fault, fault.zh())
    }
}
