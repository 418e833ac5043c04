//! Decides how a message that died is submitted anew on behalf of its sender: by the rules in force now, as a message of its
//! own. Never takes the sender's word for more than the first message said.

use super::{Incoming, Intake, Source};
use crate::message::Envelope;
use crate::party::{Name, Party, Role};
use crate::reason::Reason;
use crate::receipt::Receipt;
use crate::routing::{Entered, Query};
use crate::wire::envelope::Outline;
use crate::wire::status::Refused;

impl Intake {
    /// Takes a message into custody that one of our own systems does not bring itself: its attachments are those of the
    /// message that it replaces. As [`Intake::submit`] otherwise.
    pub async fn resubmit(&self, envelope: Envelope) -> Result<Receipt, Refused> {
        let party = self.sender(envelope.from.system.clone())?;
        self.bring(&party, Incoming { envelope, origin: None, via: vec![], uploads: None }, Source::Kept).await
    }

    /// Whether grants and routes in force would take such a message now; what else may refuse it shows when it comes.
    pub fn would_resubmit(&self, outline: &Outline) -> Result<(), Reason> {
        let party = self.sender(outline.from.system.clone()).map_err(|refused| refused.reason)?;
        let rules = self.rules.load();
        if !rules.grants.allow(&party, &outline.item_code, outline.to.as_ref().map(|to| &to.city)) {
            return Err(Reason::NotPermitted);
        }
        let query = Query {
            to: outline.to.as_ref(),
            jurisdiction: outline.jurisdiction.as_ref(),
            item: &outline.item_code,
            step: outline.step.as_ref(),
            mode: outline.mode,
            now: self.clock.now(),
            entered: Entered::Here,
        };
        rules.index.resolve(&query).map(|_| ()).map_err(|refusal| refusal.reason)
    }

    fn sender(&self, system: Option<Name>) -> Result<Party, Refused> {
        let system = system.ok_or_else(|| Refused::new(Reason::NotPermitted).with_detail("no system sent it"))?;
        let rules = self.rules.load();
        Ok(Party { alliance: rules.alliance.clone(), member: rules.own.clone(), role: Role::System(system) })
    }
}
