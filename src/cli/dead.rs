//! Decides how `tongban dead` shows dead letters, and which of them are redriven or discarded. Never touches one before its
//! plan was shown and agreed to, unless it is told to.

mod redrive;
mod show;

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::{As, Chosen, Client, Fate, Group, Sieve, Way, converse};
use super::span::Span;
use super::{Answer, Exit, Failure, Out, consent};
use crate::id::MessageId;
use crate::lang::Unfit;
use crate::limits::{CANARIES_MAX, DEAD_NAMED_MAX, DEAD_PAGE, REDRIVE_PER_S};
use crate::message::ItemCode;
use crate::party::{Division, Member, Name};
use crate::store::LaneName;

#[derive(Subcommand)]
pub enum Command {
    /// Show the dead letters by cause, or one by one
    List(List),
    /// Show one dead letter
    Show {
        #[command(flatten)]
        who: As,
        /// The message's id
        #[arg(value_name = "ID")]
        id: MessageId,
        /// The city that sent it [default: your own]
        #[arg(long, value_name = "CITY")]
        from: Option<Division>,
    },
    /// Submit dead letters anew, each as a new message; Ctrl-C cancels
    Redrive(Redrive),
    /// Set dead letters aside, on record
    Discard(Discard),
}

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    who: As,
    #[command(flatten)]
    filter: Filter,
    /// List the letters, not their causes; so does any filter
    #[arg(long)]
    all: bool,
    /// What became of them
    #[arg(long, value_enum, value_name = "FATE")]
    fate: Option<Fate>,
    /// End after so many letters
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    limit: u64,
}

#[derive(Args)]
pub struct Redrive {
    #[command(flatten)]
    who: As,
    #[command(flatten)]
    meant: Meant,
    /// Messages per second [default: 50]
    #[arg(long, value_name = "N/s", value_parser = rate)]
    rate: Option<u32>,
    /// So many first; the others when all of these were handed over
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=CANARIES_MAX as i64))]
    canary: u32,
    /// How long the canaries may take [default: 5m]
    #[arg(long, value_name = "SPAN")]
    canary_patience: Option<Span>,
    /// How long each new message is of use [default: as long as the first one was]
    #[arg(long, value_name = "SPAN")]
    expires_in: Option<Span>,
    #[command(flatten)]
    sure: Sure,
}

#[derive(Args)]
pub struct Discard {
    #[command(flatten)]
    who: As,
    #[command(flatten)]
    meant: Meant,
    /// Why; it is kept with the letters
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    sure: Sure,
}

/// Narrows dead letters down.
#[derive(Args)]
struct Filter {
    /// Only letters with this cause, e.g. MESSAGE_EXPIRED
    #[arg(long, value_name = "CODE")]
    cause: Option<String>,
    /// Only letters that were to go to this partner
    #[arg(long, value_name = "MEMBER", conflicts_with = "system")]
    partner: Option<Member>,
    /// Only letters that were to go to this system of your own
    #[arg(long, value_name = "NAME")]
    system: Option<Name>,
    /// Only letters of this service item
    #[arg(long, value_name = "CODE")]
    item: Option<ItemCode>,
    /// Only letters that this city sent
    #[arg(long, value_name = "CITY")]
    from: Option<Division>,
}

/// Which letters are meant.
#[derive(Args)]
struct Meant {
    /// These letters; --from names the city that sent them [default: your own]
    #[arg(value_name = "ID", conflicts_with_all = ["cause", "partner", "system", "item", "all"])]
    ids: Vec<MessageId>,
    #[command(flatten)]
    filter: Filter,
    /// All that wait
    #[arg(long)]
    all: bool,
}

/// How sure the person is.
#[derive(Args)]
struct Sure {
    /// Only show what would be done
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Reads `50` or `50/s`.
fn rate(text: &str) -> Result<u32, Unfit> {
    let most = REDRIVE_PER_S.1;
    let rate = text.strip_suffix("/s").unwrap_or(text).parse().ok().filter(|rate| (1..=most).contains(rate));
    rate.ok_or_else(|| Unfit::new(format!("must be 1/s to {most}/s"), format!("应为 1/s 至 {most}/s")))
}

/// Runs one command of the family.
pub fn run(command: &Command, out: &Out) -> Answer {
    match command {
        Command::List(args) => list(args, out),
        Command::Show { who, id, from } => converse(who, async |client| {
            let letter = client.dead_letter(from.as_ref(), *id).await.map_err(|trouble| trouble.shown(out))?;
            show::letter(&letter, out)?;
            Ok(Exit::Done)
        }),
        Command::Redrive(args) => {
            let chosen = args.meant.chosen()?;
            let way = Way {
                rate: args.rate,
                canary: args.canary,
                patience: args.canary_patience,
                time_to_live: args.expires_in,
            };
            converse(&args.who, async |client| redrive::run(&client, &chosen, &way, &args.sure, out).await)
        }
        Command::Discard(args) => {
            let chosen = args.meant.chosen()?;
            converse(&args.who, async |client| discard(&client, &chosen, args, out).await)
        }
    }
}

fn list(args: &List, out: &Out) -> Answer {
    let sieve = args.filter.sieve();
    if !args.all && args.fate.is_none() && args.filter.is_empty() {
        return converse(&args.who, async |client| {
            let groups = client.dead_groups(&sieve).await.map_err(|trouble| trouble.shown(out))?;
            out.show(&json!({ "groups": groups }), || show::groups(&groups, out.lang))?;
            Ok(Exit::Done)
        });
    }
    converse(&args.who, async |client| {
        let (fate, mut letters, mut token) = (args.fate.unwrap_or(Fate::Waiting), Vec::new(), String::new());
        loop {
            let wanted = (args.limit as usize - letters.len()).min(DEAD_PAGE.1);
            let page = client.dead_letters(&sieve, fate, wanted as u32, token).await;
            let (more, next) = page.map_err(|trouble| trouble.shown(out))?;
            letters.extend(more);
            token = next;
            if token.is_empty() || letters.len() >= args.limit as usize {
                break;
            }
        }
        let more = !token.is_empty();
        out.show(&json!({ "letters": letters, "more": more }), || show::letters(&letters, out.lang))?;
        if more {
            out.hint("there are more: --limit N", "还有更多：--limit N");
        }
        Ok(Exit::Done)
    })
}

async fn discard(client: &Client, chosen: &Chosen, args: &Discard, out: &Out) -> Answer {
    let asked = client.discard(chosen, &args.reason, true).await;
    let (count, others) = asked.map_err(|trouble| trouble.shown(out))?;
    let groups = causes(client, chosen, out).await?;
    let shown = |dry_run: bool, discarded: u64, others: u64| json!({ "dry_run": dry_run, "discarded": discarded, "others": others, "reason": args.reason });
    if args.sure.dry_run || count == 0 || !out.json() {
        out.show(&shown(true, count, others), || show::discarding(count, others, &groups, out.lang))?;
    }
    if args.sure.dry_run {
        return Ok(Exit::Done);
    }
    let question = ("set these aside?", "确认搁置？");
    if count == 0 || !consent::given(args.sure.yes, question, out)? {
        return Ok(Exit::No);
    }
    let done = client.discard(chosen, &args.reason, false).await;
    let (count, others) = done.map_err(|trouble| trouble.shown(out))?;
    out.show(&shown(false, count, others), || {
        out.lang.tr(format!("{count} letters were set aside"), format!("已搁置 {count} 封死信"))
    })?;
    Ok(Exit::Done)
}

/// What is meant, by cause; nothing where letters were named.
async fn causes(client: &Client, chosen: &Chosen, out: &Out) -> Result<Vec<Group>, Failure> {
    match chosen {
        Chosen::Fitting(sieve) => client.dead_groups(sieve).await.map_err(|trouble| trouble.shown(out)),
        Chosen::Named(..) => Ok(vec![]),
    }
}

impl Filter {
    fn is_empty(&self) -> bool {
        let Filter { cause, partner, system, item, from } = self;
        cause.is_none() && partner.is_none() && system.is_none() && item.is_none() && from.is_none()
    }

    fn sieve(&self) -> Sieve {
        let system = self.system.clone().map(LaneName::System);
        Sieve {
            cause: self.cause.clone().unwrap_or_default(),
            lane: self.partner.clone().map(LaneName::Gateway).or(system),
            item: self.item.clone(),
            from: self.from.clone(),
        }
    }
}

impl Meant {
    fn chosen(&self) -> Result<Chosen, Failure> {
        if self.ids.len() > DEAD_NAMED_MAX {
            let (en, zh) = (format!("at most {DEAD_NAMED_MAX} ids"), format!("至多 {DEAD_NAMED_MAX} 个编号"));
            return Err(Failure::new(Exit::Usage, en, zh));
        }
        if !self.ids.is_empty() {
            return Ok(Chosen::Named(self.filter.from.clone(), self.ids.clone()));
        }
        if !self.all && self.filter.is_empty() {
            let failure = Failure::new(Exit::Usage, "which letters?", "哪些死信？");
            return Err(failure.hint(
                "name ids, filter with --cause, --partner, --system, --item or --from, or say --all",
                "请给出编号，或用 --cause、--partner、--system、--item、--from 筛选，或用 --all 选择全部",
            ));
        }
        Ok(Chosen::Fitting(self.filter.sieve()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_a_second_within_bounds() {
        assert_eq!((rate("50"), rate("1000/s")), (Ok(50), Ok(1_000)));
        for bad in ["", "0", "1001/s", "5/m", "-1", "1.5", "/s"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
