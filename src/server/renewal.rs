//! Decides how a running gateway takes up a changed configuration: certificate, authorities, revocation lists, directory,
//! grants, systems and routes are read and validated as a whole and then put in place together; on any fault all that held
//! before goes on holding. Never changes what a gateway is: that takes a restart.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::law::Law;
use super::{ServerError, Standing, check_own_certificate, member_trusts, own_certificate, rules};
use crate::audit::Deed;
use crate::config::keys::Effect;
use crate::config::{Change, Config, ConfigError};
use crate::directory::Directory;
use crate::directory::notes::{Carried, Kind};
use crate::grpc::admin::reload::{RELOAD, Reload, Reloaded};
use crate::intake::Rules;
use crate::keys;
use crate::party::{Member, Party};
use crate::tls::config::{Own, server_config};
use crate::tls::trust::{MemberTrust, Trust};

/// What came of a renewal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renewed {
    /// What has changed and holds now: names of settings, `directory`, or `trust/MEMBER` for a member's authorities or
    /// revocation lists.
    pub changed: Vec<String>,
    /// Connections that were cut: their peers are no longer let in, or may no longer exchange anything.
    pub cut: usize,
    /// Settings that have changed and take effect at the next start alone.
    pub at_next_start: Vec<String>,
}

/// Every fault for which a changed configuration was not taken up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct NotRenewed(pub Vec<String>);

/// Asks a running gateway to read its configuration again.
#[derive(Clone)]
pub struct Renewal(mpsc::Sender<Asked>);

/// That somebody asks for a renewal.
pub(super) struct Asked {
    /// Who does, for the audit.
    pub by: String,
    pub answer: oneshot::Sender<Result<Renewed, NotRenewed>>,
}

/// Who asks by SIGHUP, which says nobody's name.
const BY_SIGNAL: &str = "signal/SIGHUP";
/// What the audit says of a renewal that changed nothing for its faults.
const NOT_TAKEN_UP: &str = "NOT_TAKEN_UP";

impl Renewal {
    pub(super) fn new() -> (Renewal, mpsc::Receiver<Asked>) {
        let (sender, receiver) = mpsc::channel(1);
        (Renewal(sender), receiver)
    }

    /// Reads the configuration's file and all that it names, and puts it in place.
    ///
    /// # Errors
    /// Every fault found; nothing has changed then.
    pub async fn renew(&self) -> Result<Renewed, NotRenewed> {
        self.renew_by(BY_SIGNAL.to_owned()).await
    }

    async fn renew_by(&self, by: String) -> Result<Renewed, NotRenewed> {
        let (answer, told) = oneshot::channel();
        let stopping = || NotRenewed(vec!["the gateway is stopping".to_owned()]);
        self.0.send(Asked { by, answer }).await.map_err(|_| stopping())?;
        told.await.map_err(|_| stopping())?
    }
}

impl Renewal {
    /// The same, for those who operate the gateway from afar.
    pub(super) fn for_admin(&self) -> Reload {
        let renewal = self.clone();
        Arc::new(move |actor| {
            let renewal = renewal.clone();
            Box::pin(async move {
                let renewed = renewal.renew_by(actor.to_string()).await;
                let Renewed { changed, cut, at_next_start } = renewed.map_err(|faults| faults.0)?;
                Ok(Reloaded { changed, at_next_start, cut })
            })
        })
    }
}

/// All that is put in place together.
struct Ready {
    config: Config,
    standing: Standing,
    members: Vec<MemberTrust>,
    trust: Trust,
    certificate: Own,
    tls: Arc<rustls::ServerConfig>,
    rules: Rules,
}

impl Law {
    /// Reads all again for whoever asks, tells them what came of it, and puts it on record.
    pub(super) async fn renew_for(&mut self, asked: Asked) {
        let (renewed, Asked { by, answer }) = (self.renew(), asked);
        let (object, refused) = match &renewed {
            Ok(Renewed { changed, cut, .. }) => {
                tracing::info!(by, ?changed, cut, "the configuration was read again");
                (changed.join(","), None)
            }
            Err(error) => {
                tracing::error!(by, %error, "the changed configuration cannot be used; the old one holds");
                (String::new(), NOT_TAKEN_UP.parse().ok())
            }
        };
        // What was taken up holds, whether or not it can be written down now.
        let deed = Deed { act: RELOAD.to_owned(), actor: by, object, refused, ..Deed::default() };
        if self.record.done(deed).await.is_err() {
            tracing::error!("a renewal could not be put on record");
        }
        let _ = answer.send(renewed);
    }

    /// Blocks on the disk.
    pub(super) fn renew(&mut self) -> Result<Renewed, NotRenewed> {
        let lines = |error: ConfigError| error.to_string().lines().map(str::to_owned).collect();
        let config = Config::read(&self.config.source).map_err(|error| NotRenewed(lines(error)))?;
        let of = |effect: Effect| move |change: &Change| change.key.effect == effect;
        let (fixed, live): (Vec<Change>, Vec<Change>) =
            self.config.changes(&config).into_iter().partition(of(Effect::Restart));
        if !fixed.is_empty() {
            let file = self.config.source.file.display();
            let fault = |change: &Change| format!("{file}: {} has changed: that takes a restart", change.name);
            return Err(NotRenewed(fixed.iter().map(fault).collect()));
        }
        let at_next_start = live.into_iter().filter(of(Effect::NextStart)).map(|change| change.name).collect();
        let ready = self.ready(config)?;
        let changed = self.changed_at_once(&ready);
        let cut = self.put_all_in_place(ready)?;
        Ok(Renewed { changed, cut, at_next_start })
    }

    /// What takes effect when it is put in place.
    fn changed_at_once(&self, new: &Ready) -> Vec<String> {
        let (old, certificate) = (&self.config, self.standing.certificate.load());
        let settings = [
            ("directory", self.standing.directory.version() == new.standing.directory.version()),
            ("tls.certificate", certificate.chain == new.certificate.chain),
            ("routing.allow", old.route_allow == new.config.route_allow),
            ("system", old.systems == new.config.systems),
            ("grant", old.grants == new.config.grants),
        ];
        let settings = settings.into_iter().filter(|(_, same)| !same).map(|(name, _)| name.to_owned());
        let trust = changed(&self.standing.members, &new.members).into_iter().map(|member| format!("trust/{member}"));
        settings.chain(trust).collect()
    }

    /// Reads and validates everything; changes nothing but the noticeboard, which takes a newer directory for good.
    fn ready(&self, config: Config) -> Result<Ready, NotRenewed> {
        let mut faults = vec![];
        if let Err(fault) = self.offer_directory(&config) {
            faults.push(fault);
        }
        let directory = Arc::new(self.standing.board.directory());
        let suspended = Arc::new(self.standing.board.suspended());
        let standing = Standing { directory: directory.clone(), suspended, ..self.standing.clone() };
        let trust = trusted(&config, &directory, &standing.suspended)
            .map_err(|error| faults.extend(error.to_string().lines().map(str::to_owned)))
            .ok();
        let certificate = own_certificate(&config).map_err(|error| faults.push(error.to_string())).ok();
        let tls = certificate.as_ref().and_then(|certificate| {
            let party = Party::gateway(config.alliance.clone(), config.member.clone());
            let checked = trust.as_ref().map_or(Ok(()), |(_, trust)| {
                check_own_certificate(&certificate.chain, trust, &standing.moment, &party).map_err(|e| e.to_string())
            });
            let tls = server_config(self.standing.trust.clone(), certificate.clone(), standing.moment.clone());
            let tls = tls.map_err(|error| format!("the gateway's certificate and key: {error}"));
            checked.and(tls).map_err(|fault| faults.push(fault)).ok()
        });
        if directory.member(&standing.own).is_none() {
            faults.push(format!("the directory has no member {}", standing.own));
        }
        let rules = rules(&config, &standing, &self.readers).map_err(|error| faults.push(error.to_string())).ok();
        match (trust, certificate, tls, rules) {
            (Some((members, trust)), Some(certificate), Some(tls), Some(rules)) if faults.is_empty() => {
                Ok(Ready { config, standing, members, trust, certificate, tls, rules })
            }
            _ => Err(NotRenewed(faults)),
        }
    }

    /// The configured directory, where it is newer than what is known.
    fn offer_directory(&self, config: &Config) -> Result<(), String> {
        let note = keys::read_text(&config.directory).map_err(|fault| fault.to_string())?;
        let at = |what: String| format!("{}: {what}", config.directory.display());
        let signed = note.split_once("\n\n").map_or(note.as_str(), |(text, _)| text).to_owned() + "\n";
        let version = Directory::parse(&signed).map_err(|fault| at(fault.to_string()))?.version();
        let carried = Carried { kind: Kind::Directory, owner: None, version, note };
        self.standing.board.offer(&carried).map(drop).map_err(|fault| at(fault.to_string()))
    }

    fn put_all_in_place(&mut self, ready: Ready) -> Result<usize, NotRenewed> {
        let Ready { config, standing, members, trust, certificate, tls, rules } = ready;
        let granted = self.config.grants.clone();
        // Past this line nothing can fail.
        self.take_up(Arc::new(config), standing, rules).map_err(|error| NotRenewed(vec![error.to_string()]))?;
        self.standing.certificate.store(Arc::new(certificate));
        self.reception.tls.store(tls);
        self.post.serve_systems(self.config.systems.iter().map(|system| system.name.clone()));
        Ok(self.trust_anew(members, trust, &granted))
    }
}

/// Whom the directory's members are trusted to name, by member and as a whole; but nobody of a suspended member.
pub(super) fn trusted(
    config: &Config,
    directory: &Directory,
    suspended: &BTreeSet<Member>,
) -> Result<(Vec<MemberTrust>, Trust), ServerError> {
    let members = member_trusts(config, directory)?;
    let trust = Trust::build(config.alliance.clone(), members.clone()).map_err(ServerError::Trust)?;
    Ok((members, trust.without(suspended.clone())))
}

/// Members whose trust is not what it was.
pub(super) fn changed(before: &[MemberTrust], now: &[MemberTrust]) -> Vec<Member> {
    let same = |one: &&MemberTrust| !before.contains(one);
    now.iter().filter(same).map(|one| one.member.clone()).collect()
}
