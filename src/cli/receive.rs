//! Decides what `tongban receive` does: shows what is in a system's mailbox, keeps the parts, and gives the outcome that
//! was asked for, and none that was not. Never acknowledges a message whose parts are not on disk when they should be.

pub mod keep;
pub mod show;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use self::show::Shown;
use super::client::{As, Delivered, Inbox, News, Outcome, Trouble, converse};
use super::span::Span;
use super::{Answer, Exit, Failure, Out, now};
use crate::evidence::Code;
use crate::limits::{DELIVERIES_MAX, DETAIL_BYTES_MAX, LEASE_MS, LEASE_TOTAL_MS_MAX, RETRY_LATER_MS_MAX};
use crate::message::visible;
use crate::receipt::Checked;

/// Deliveries that are under way at once.
const CREDITS: u32 = 32;

/// Receive messages from the system's mailbox
///
/// Without an outcome a message is only shown: it stays in the mailbox, and this counts as one of its deliveries.
/// With --json every message is one line.
#[derive(Args)]
pub struct Receive {
    #[command(flatten)]
    who: As,
    /// End after so many messages
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Go on until interrupted
    #[arg(long, conflicts_with_all = ["count", "wait"])]
    follow: bool,
    /// Give up when nothing has come for so long
    #[arg(long, value_name = "SPAN", default_value = "10s")]
    wait: Span,
    /// Acknowledge: the system takes the messages
    #[arg(long, group = "outcome")]
    ack: bool,
    /// Refuse for good, with a code of your own ([A-Z0-9_.-], 1 to 32)
    #[arg(long, value_name = "CODE", group = "outcome")]
    refuse: Option<Code>,
    /// Words for the sender beside --refuse; they stand in no receipt
    #[arg(long, requires = "refuse")]
    text: Option<String>,
    /// Take them later, e.g. 10m; at most a day
    #[arg(long, value_name = "SPAN", group = "outcome")]
    later: Option<Span>,
    /// Keep the parts in a folder of each message below this one
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Receives as the command line says.
pub fn run(args: &Receive, out: &Out) -> Answer {
    args.check()?;
    converse(&args.who, async |client| {
        let credits = args.wanted().min(CREDITS.into()) as u32;
        let mut session = Session {
            inbox: client.receive(credits).await.map_err(|trouble| trouble.shown(out))?,
            args,
            out,
            held: HashMap::new(),
            granted: credits.into(),
            ended: 0,
            exit: Exit::Done,
        };
        tokio::select! {
            ended = session.run() => ended?,
            _ = tokio::signal::ctrl_c() => {}
        }
        Ok(session.verdict())
    })
}

impl Receive {
    fn check(&self) -> Result<(), Failure> {
        let text = self.text.as_deref().unwrap_or_default();
        if text.len() > DETAIL_BYTES_MAX || !visible(text) {
            let en = format!("--text has at most {DETAIL_BYTES_MAX} visible bytes");
            return Err(Failure::new(Exit::Usage, en, format!("--text 至多 {DETAIL_BYTES_MAX} 字节，且不含控制字符")));
        }
        if self.later.is_some_and(|later| later.ms() > RETRY_LATER_MS_MAX) {
            return Err(Failure::new(Exit::Usage, "--later is at most 1d", "--later 至多 1d"));
        }
        Ok(())
    }

    fn wanted(&self) -> u64 {
        if self.follow { u64::MAX } else { self.count }
    }

    /// The outcome for a message that has come now; none when none was asked for.
    fn outcome(&self) -> Option<Outcome> {
        if self.ack {
            return Some(Outcome::Acknowledge);
        }
        if let Some(code) = &self.refuse {
            return Some(Outcome::Refuse { code: code.clone(), text: self.text.clone().unwrap_or_default() });
        }
        self.later.map(|later| Outcome::Later { not_before: now().plus_ms(later.ms()) })
    }

    fn patience(&self) -> Duration {
        if self.follow { Duration::MAX } else { self.wait.into() }
    }
}

/// One receiving stream of this command.
struct Session<'a> {
    inbox: Inbox<'a>,
    args: &'a Receive,
    out: &'a Out,
    /// Messages whose outcome is on its way.
    held: HashMap<String, Shown>,
    granted: u64,
    /// Messages that are done with, shown.
    ended: u64,
    exit: Exit,
}

impl Session<'_> {
    async fn run(&mut self) -> Result<(), Failure> {
        while self.ended < self.args.wanted() {
            let Ok(news) = tokio::time::timeout(self.args.patience(), self.inbox.next()).await else { return Ok(()) };
            match news.map_err(|trouble| trouble.shown(self.out))? {
                Some(News::Delivered(delivered)) => self.delivered(*delivered).await?,
                Some(News::Settled { delivery, receipt }) => self.settled(&delivery, receipt.as_deref()).await?,
                Some(News::Withdrawn { delivery }) => self.withdrawn(&delivery).await?,
                Some(News::Refused { delivery, refused }) => {
                    let trouble = Trouble::Refused(refused);
                    return Err(Failure::from(trouble).at(self.name(&delivery)));
                }
                None => {
                    let words = ("the gateway closed the stream", "网关关闭了流");
                    return Err(Failure::new(Exit::TempFail, words.0, words.1));
                }
            }
        }
        Ok(())
    }

    async fn delivered(&mut self, delivered: Delivered) -> Result<(), Failure> {
        // First on disk, then shown, then the outcome: what is acknowledged is ours to lose.
        let kept = match &self.args.out {
            Some(dir) => Some(self.keep(&delivered, dir).await?),
            None => None,
        };
        let shown = Shown::new(&delivered, kept);
        match self.args.outcome() {
            Some(outcome) => {
                self.held.insert(delivered.delivery.clone(), shown);
                self.inbox.give(&delivered.delivery, &outcome).await;
                Ok(())
            }
            None => {
                shown.print(None, self.out)?;
                self.ended += 1;
                self.left(&delivered);
                self.grant().await;
                Ok(())
            }
        }
    }

    /// Puts the parts on disk; while attachments come in, the delivery's lease is prolonged as far as it goes.
    async fn keep(&self, delivered: &Delivered, dir: &Path) -> Result<PathBuf, Failure> {
        let place = keep::Place::below(dir, &delivered.envelope)?;
        if !delivered.envelope.attachments().is_empty() {
            let began = now();
            let mut looks = tokio::time::interval(Duration::from_millis(LEASE_MS / 3));
            let fetched = place.fetch(self.inbox.client(), &delivered.envelope, self.out);
            tokio::pin!(fetched);
            loop {
                tokio::select! {
                    fetched = &mut fetched => break fetched?,
                    _ = looks.tick() => {
                        let until = now().plus_ms(LEASE_MS);
                        if until.since_ms(began) < LEASE_TOTAL_MS_MAX {
                            self.inbox.extend(&delivered.delivery, until).await;
                        }
                    }
                }
            }
        }
        place.keep(&delivered.envelope)
    }

    async fn settled(&mut self, delivery: &str, receipt: Option<&Checked>) -> Result<(), Failure> {
        let Some(mut shown) = self.held.remove(delivery) else { return Ok(()) };
        let meant = receipt.is_none_or(|receipt| receipt.evidence.message_id == shown.id);
        if !meant {
            let words = ("the receipt of the outcome speaks of another message", "结果的回执属于另一消息");
            return Err(Trouble::unsound(words.0, words.1).into());
        }
        shown.outcome = Some(self.args.outcome_word());
        shown.print(receipt, self.out)?;
        self.ended += 1;
        self.grant().await;
        Ok(())
    }

    async fn withdrawn(&mut self, delivery: &str) -> Result<(), Failure> {
        if let Some(shown) = self.held.remove(delivery) {
            let id = shown.id;
            self.out.say(&self.out.lang.tr(
                format!("{id}: the lease ended before the outcome; it will be delivered again"),
                format!("{id}：租约在给出结果之前结束，消息将再次投递"),
            ));
            shown.print(None, self.out)?;
            self.exit = Exit::TempFail;
            self.ended += 1;
            self.grant().await;
        }
        Ok(())
    }

    async fn grant(&mut self) {
        if self.granted < self.args.wanted() {
            self.granted += 1;
            self.inbox.grant(1).await;
        }
    }

    fn left(&self, delivered: &Delivered) {
        let (id, count) = (delivered.envelope.id, delivered.count);
        self.out.say(&self.out.lang.tr(
            format!("{id} stays in the mailbox without an outcome: delivery {count} of {DELIVERIES_MAX}"),
            format!("{id} 未给出结果，仍在信箱中：第 {count} 次投递，上限 {DELIVERIES_MAX} 次"),
        ));
        if count + 1 >= DELIVERIES_MAX {
            self.out.hint(
                "give an outcome now: --ack, --refuse CODE or --later SPAN",
                "请及时给出结果：--ack、--refuse CODE 或 --later SPAN",
            );
        }
    }

    fn name(&self, delivery: &str) -> String {
        self.held.get(delivery).map_or_else(String::new, |shown| shown.id.to_string())
    }

    fn verdict(&self) -> Exit {
        if self.args.follow || self.ended >= self.args.wanted() {
            return self.exit;
        }
        let (ended, wanted, wait) = (self.ended, self.args.wanted(), self.args.wait);
        self.out.say(&self.out.lang.tr(
            format!("{ended} of {wanted}: nothing more came for {wait}"),
            format!("{ended}/{wanted}：{wait} 内没有更多消息"),
        ));
        Exit::No
    }
}

impl Receive {
    fn outcome_word(&self) -> &'static str {
        match (self.ack, &self.refuse) {
            (true, _) => "acknowledged",
            (false, Some(_)) => "refused",
            (false, None) => "later",
        }
    }
}
