//! Decides how a gateway is asked about its dead letters, told to redrive or discard them, and how its answers are read.
//! Never decides which letters are meant.

use serde::Serialize;
use tonic::Streaming;

use super::told::ToldPart;
use super::told::{address, moment, plain, standing};
use super::{Client, Trouble, timed};
use crate::cli::span::Span;
use crate::evidence::State;
use crate::id::MessageId;
use crate::message::ItemCode;
use crate::party::Division;
use crate::store::LaneName;
use crate::wire::pb::admin as pb;

/// Narrows dead letters down; what is unset narrows nothing.
#[derive(Debug, Clone, Default)]
pub struct Sieve {
    /// Code of the reason that ended them.
    pub cause: String,
    /// Where they were to go.
    pub lane: Option<LaneName>,
    pub item: Option<ItemCode>,
    pub from: Option<Division>,
}

/// Which dead letters are meant.
#[derive(Debug, Clone)]
pub enum Chosen {
    Fitting(Sieve),
    /// Letters of one city; of our own without one.
    Named(Option<Division>, Vec<MessageId>),
}

/// How a redrive is to go; what is unset is the gateway's affair.
#[derive(Debug, Clone, Default)]
pub struct Way {
    pub rate: Option<u32>,
    pub canary: u32,
    pub patience: Option<Span>,
    pub time_to_live: Option<Span>,
}

/// What became of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "UPPERCASE")]
pub enum Fate {
    Waiting,
    Redriven,
    Discarded,
}

/// Dead letters that wait and have one cause.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    pub cause: String,
    pub lane: String,
    pub item_code: String,
    pub count: u64,
    /// How many of them this city sent.
    pub own: u64,
    pub oldest: String,
    pub newest: String,
}

/// One dead letter.
#[derive(Debug, Clone, Serialize)]
pub struct Letter {
    pub message_id: String,
    pub from_city: String,
    pub to: String,
    pub item_code: String,
    #[serde(serialize_with = "named")]
    pub state: State,
    pub in_doubt: bool,
    pub time: String,
    pub cause: String,
    pub lane: String,
    pub fate: Fate,
    pub discard_reason: String,
    pub redriven_as: String,
}

/// One dead letter with what its header says.
#[derive(Debug, Clone)]
pub struct Opened {
    pub letter: Letter,
    pub sender: String,
    pub case_no: String,
    pub step: String,
    pub detail: String,
    /// Its content is kept.
    pub has_body: bool,
    pub parts: Vec<ToldPart>,
}

/// What a redrive is about to do.
#[derive(Debug, Clone, Serialize)]
pub struct Preview {
    pub count: u64,
    pub bytes: u64,
    pub obstacles: Vec<Obstacle>,
}

/// Letters that cannot be redriven for one cause.
#[derive(Debug, Clone, Serialize)]
pub struct Obstacle {
    pub kind: String,
    pub reason: String,
    pub count: u64,
    /// Some of them: the city that sent each, and its id.
    pub examples: Vec<(String, String)>,
}

/// How far a redrive is.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Progress {
    pub redriven: u64,
    pub refused: u64,
    pub skipped: u64,
    pub count: u64,
    #[serde(skip)]
    pub waits_for_canary: bool,
}

/// A letter that was refused anew.
#[derive(Debug, Clone, Serialize)]
pub struct Refusal {
    pub from_city: String,
    pub message_id: String,
    pub reason: String,
    pub detail: String,
}

/// How a redrive ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Done,
    CanaryDied,
    CanarySilent,
    Stopped,
}

/// The end of a redrive.
#[derive(Debug, Clone)]
pub struct End {
    pub outcome: Ended,
    pub progress: Progress,
    pub canary: String,
    pub reason: String,
}

/// A step of a redrive.
#[derive(Debug, Clone)]
pub enum Step {
    Preview(Preview),
    Progress(Progress),
    Refusal(Refusal),
    End(End),
}

/// A redrive under way; dropping it cancels it.
pub struct Redriving<'a> {
    client: &'a Client,
    stream: Streaming<pb::RedriveDeadLettersResponse>,
}

impl Client {
    /// The dead letters by cause, the most frequent first.
    pub async fn dead_groups(&self, sieve: &Sieve) -> Result<Vec<Group>, Trouble> {
        let request = pb::ListDeadLetterGroupsRequest { filter: Some(sieve.wire()) };
        let answer = self.answered(self.admin().list_dead_letter_groups(timed(request)).await)?;
        Ok(answer.groups.into_iter().map(Group::read).collect())
    }

    /// A page of dead letters, oldest first, and the token of the next; empty when there is none.
    pub async fn dead_letters(
        &self,
        sieve: &Sieve,
        fate: Fate,
        count: u32,
        token: String,
    ) -> Result<(Vec<Letter>, String), Trouble> {
        let fate = match fate {
            Fate::Waiting => pb::DeadLetterFate::Waiting,
            Fate::Redriven => pb::DeadLetterFate::Redriven,
            Fate::Discarded => pb::DeadLetterFate::Discarded,
        };
        let filter = Some(sieve.wire());
        let request = pb::ListDeadLettersRequest { filter, fate: fate as i32, page_size: count, page_token: token };
        let page = self.answered(self.admin().list_dead_letters(timed(request)).await)?;
        let letters = page.letters.into_iter().map(Letter::read).collect::<Result<_, _>>()?;
        Ok((letters, page.next_page_token))
    }

    /// One dead letter. Without a city, one of our own city's.
    pub async fn dead_letter(&self, from: Option<&Division>, id: MessageId) -> Result<Opened, Trouble> {
        let request = pb::GetDeadLetterRequest { name: Some(name(from, id)) };
        let answer = self.answered(self.admin().get_dead_letter(timed(request)).await)?;
        let envelope = answer.envelope.unwrap_or_default();
        let part = |part: crate::wire::pb::exchange::Part| ToldPart {
            name: plain(&part.name),
            media_type: plain(&part.media_type),
            size: part.size,
        };
        Ok(Opened {
            letter: Letter::read(answer.letter.unwrap_or_default())?,
            sender: address(envelope.from),
            case_no: plain(&envelope.case_no),
            step: plain(&envelope.step),
            detail: plain(&answer.detail),
            has_body: answer.has_body,
            parts: envelope.parts.into_iter().map(part).collect(),
        })
    }

    /// What a redrive would do.
    pub async fn preview_redrive(&self, chosen: &Chosen) -> Result<Preview, Trouble> {
        let request =
            pb::RedriveDeadLettersRequest { selection: Some(chosen.wire()), preview: true, ..Default::default() };
        let answer = self.admin().redrive_dead_letters(timed(request)).await;
        let mut told = Redriving { client: self, stream: self.answered(answer)? };
        match told.next().await? {
            Some(Step::Preview(preview)) => Ok(preview),
            _ => Err(Trouble::unsound("a redrive that does not begin with its plan", "重投未先给出计划")),
        }
    }

    /// Begins a redrive. It goes on for as long as it is listened to.
    pub async fn redrive(&self, chosen: &Chosen, way: &Way) -> Result<Redriving<'_>, Trouble> {
        let duration = |span: Option<Span>| {
            let ms = span?.ms();
            Some(prost_types::Duration { seconds: (ms / 1000) as i64, nanos: (ms % 1000) as i32 * 1_000_000 })
        };
        let request = pb::RedriveDeadLettersRequest {
            selection: Some(chosen.wire()),
            preview: false,
            canary: way.canary,
            canary_patience: duration(way.patience),
            rate: way.rate.unwrap_or_default(),
            time_to_live: duration(way.time_to_live),
        };
        let answer = self.admin().redrive_dead_letters(request).await;
        Ok(Redriving { client: self, stream: self.answered(answer)? })
    }

    /// Sets letters aside, or only tells what that would do: how many were, and how many of those meant do not wait.
    pub async fn discard(&self, chosen: &Chosen, reason: &str, dry_run: bool) -> Result<(u64, u64), Trouble> {
        let request =
            pb::DiscardDeadLettersRequest { selection: Some(chosen.wire()), reason: reason.to_owned(), dry_run };
        let answer = self.answered(self.admin().discard_dead_letters(timed(request)).await)?;
        Ok((answer.discarded, answer.others))
    }
}

impl Redriving<'_> {
    /// The next step; none after the last.
    pub async fn next(&mut self) -> Result<Option<Step>, Trouble> {
        use pb::redrive_dead_letters_response::Step as Wire;
        let told = self.stream.message().await.map_err(|status| self.client.broken(&status))?;
        let Some(told) = told else { return Ok(None) };
        let unknown = || Trouble::unsound("a step that is not known to this program", "本程序不认识的步骤");
        Ok(Some(match told.step.ok_or_else(unknown)? {
            Wire::Preview(preview) => Step::Preview(Preview::read(preview)),
            Wire::Progress(progress) => Step::Progress(Progress::read(progress)),
            Wire::Refusal(refusal) => {
                let name = refusal.name.unwrap_or_default();
                Step::Refusal(Refusal {
                    from_city: plain(&name.from_city),
                    message_id: plain(&name.message_id),
                    reason: plain(&refusal.reason),
                    detail: plain(&refusal.detail),
                })
            }
            Wire::End(end) => Step::End(End {
                outcome: match end.outcome() {
                    pb::RedriveOutcome::Done => Ended::Done,
                    pb::RedriveOutcome::CanaryDied => Ended::CanaryDied,
                    pb::RedriveOutcome::CanarySilent => Ended::CanarySilent,
                    pb::RedriveOutcome::Stopped => Ended::Stopped,
                    pb::RedriveOutcome::Unspecified => return Err(unknown()),
                },
                progress: Progress::read(end.progress.unwrap_or_default()),
                canary: plain(&end.canary_message_id),
                reason: plain(&end.reason),
            }),
        }))
    }
}

impl Sieve {
    fn wire(&self) -> pb::DeadLetterFilter {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        pb::DeadLetterFilter {
            reason: self.cause.clone(),
            lane: self.lane.as_ref().map(ToString::to_string).unwrap_or_default(),
            item_code: text(self.item.as_ref().map(ItemCode::as_str)),
            from_city: text(self.from.as_ref().map(Division::as_str)),
        }
    }
}

impl Chosen {
    fn wire(&self) -> pb::DeadLetterSelection {
        use pb::dead_letter_selection::Selection;
        let selection = match self {
            Chosen::Fitting(sieve) => Selection::Filter(sieve.wire()),
            Chosen::Named(from, ids) => {
                Selection::Names(pb::DeadLetterNames { names: ids.iter().map(|id| name(from.as_ref(), *id)).collect() })
            }
        };
        pb::DeadLetterSelection { selection: Some(selection) }
    }
}

impl Group {
    fn read(group: pb::DeadLetterGroup) -> Group {
        Group {
            cause: plain(&group.reason),
            lane: plain(&group.lane),
            item_code: plain(&group.item_code),
            count: group.count,
            own: group.own,
            oldest: time(group.oldest),
            newest: time(group.newest),
        }
    }
}

impl Letter {
    fn read(letter: pb::DeadLetter) -> Result<Letter, Trouble> {
        let fate = match letter.fate() {
            pb::DeadLetterFate::Redriven => Fate::Redriven,
            pb::DeadLetterFate::Discarded => Fate::Discarded,
            pb::DeadLetterFate::Waiting | pb::DeadLetterFate::Unspecified => Fate::Waiting,
        };
        Ok(Letter {
            message_id: plain(&letter.message_id),
            from_city: plain(&letter.from_city),
            state: standing(letter.state)?,
            in_doubt: letter.in_doubt,
            to: address(letter.recipient),
            item_code: plain(&letter.item_code),
            time: time(letter.time),
            cause: plain(&letter.reason),
            lane: plain(&letter.lane),
            fate,
            discard_reason: plain(&letter.discard_reason),
            redriven_as: plain(&letter.redriven_as),
        })
    }
}

impl Preview {
    fn read(preview: pb::RedrivePreview) -> Preview {
        let obstacles = preview.obstacles.into_iter().map(|obstacle| Obstacle {
            kind: obstacle.kind().as_str_name().trim_start_matches("OBSTACLE_KIND_").to_owned(),
            reason: plain(&obstacle.reason),
            count: obstacle.count,
            examples: obstacle.examples.iter().map(|one| (plain(&one.from_city), plain(&one.message_id))).collect(),
        });
        Preview { count: preview.count, bytes: preview.bytes, obstacles: obstacles.collect() }
    }
}

impl Progress {
    fn read(progress: pb::RedriveProgress) -> Progress {
        let pb::RedriveProgress { redriven, refused, skipped, count, waits_for_canary } = progress;
        Progress { redriven, refused, skipped, count, waits_for_canary }
    }

    /// Letters that are done with.
    pub fn tried(&self) -> u64 {
        self.redriven.saturating_add(self.refused).saturating_add(self.skipped)
    }
}

fn name(from: Option<&Division>, id: MessageId) -> pb::DeadLetterName {
    let from_city = from.map(|city| city.as_str().to_owned()).unwrap_or_default();
    pb::DeadLetterName { from_city, message_id: id.to_string() }
}

fn time(at: Option<prost_types::Timestamp>) -> String {
    moment(at).map(|at| at.to_string()).unwrap_or_default()
}

/// A state as its published name.
fn named<S: serde::Serializer>(state: &State, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(state.as_str())
}
