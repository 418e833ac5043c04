//! Decides how a command brings an attachment to its gateway and takes one from it: again after a break, from where it was,
//! as long as something moves. Never keeps bytes that are not what the message says.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use super::super::{Exit, Failure};
use super::{Client, Trouble, Words};
use crate::blobs::{Chunks, Sums, Want};
use crate::courier::attachments::{Ask, CarryError, fetch, upload};
use crate::lang::io_zh;
use crate::message::Part;
use crate::reason::{Reason, Retry};

/// Tries one after the other that move nothing.
const TRIES: u32 = 5;
/// The pause before another try.
const PAUSE: Duration = Duration::from_secs(1);

/// How far it went, and how many tries are left that need not go further.
struct Tries {
    reached: u64,
    left: u32,
}

impl Tries {
    fn new() -> Tries {
        Tries { reached: 0, left: TRIES }
    }

    /// Waits before the next try; gives the failure back when there is none.
    async fn pause(&mut self, reached: u64, error: CarryError) -> Result<(), CarryError> {
        if reached > self.reached {
            *self = Tries { reached, left: TRIES };
        }
        let lasting = match &error {
            CarryError::Broken(_) | CarryError::Stalled => false,
            CarryError::Refused(answered) => {
                let reason = answered.reason.as_deref().and_then(Reason::from_code);
                reason.is_none_or(|reason| reason.retry() == Retry::Never)
            }
            CarryError::Source(_) | CarryError::Kept(_) => true,
        };
        if lasting || self.left == 0 {
            return Err(error);
        }
        self.left -= 1;
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

impl Client {
    /// Uploads a file as the attachment that a part will refer to; `progress` hears how much is durable there.
    pub async fn bring(&self, path: &Path, want: &Want, progress: impl Fn(u64)) -> Result<(), Failure> {
        let mut tries = Tries::new();
        loop {
            let (from, mut reached) = (path.to_owned(), 0);
            let open = move |offset| Chunks::of_file(File::open(from)?, offset);
            let hear = |durable: u64| {
                reached = durable;
                progress(durable);
            };
            let Err(error) = upload(&self.channel, want, open, hear).await else { return Ok(()) };
            tries.pause(reached, error).await.map_err(|error| self.carried(error).at(path.display()))?;
        }
    }

    /// Downloads the attachment of `part` into the file at `path`, going on with what is there; durable and checked on
    /// return. `progress` hears how much is here.
    pub async fn take(&self, ask: &Ask, part: &Part, path: &Path, progress: impl Fn(u64)) -> Result<(), Failure> {
        let (mut file, mut sums, mut have) = begun(path, part)?;
        let mut tries = Tries::new();
        progress(have);
        while let Err(error) = self.pour(ask, part.size, &mut file, &mut sums, &mut have, &progress).await {
            tries.pause(have, error).await.map_err(|error| self.carried(error).at(part.name.as_str()))?;
        }
        file.sync_all()?;
        if sums.finish().1 == part.digest {
            return Ok(());
        }
        std::fs::remove_file(path)?;
        let (en, zh) = ("the attachment is not what the message says", "附件内容与消息所述不符");
        Err(Failure::from(Trouble::unsound(en, zh)).at(part.name.as_str()))
    }

    async fn pour(
        &self,
        ask: &Ask,
        size: u64,
        file: &mut File,
        sums: &mut Sums,
        have: &mut u64,
        progress: &impl Fn(u64),
    ) -> Result<(), CarryError> {
        if *have == size {
            return Ok(());
        }
        let mut pieces = fetch(&self.channel, ask, *have).await?;
        while let Some(chunk) = pieces.next().await? {
            if *have + chunk.len() as u64 > size {
                return Err(CarryError::Source(io::ErrorKind::InvalidData.into()));
            }
            file.write_all(&chunk).map_err(CarryError::Source)?;
            sums.update(&chunk);
            *have += chunk.len() as u64;
            progress(*have);
        }
        if *have == size { Ok(()) } else { Err(CarryError::Broken("the stream ended early".to_owned())) }
    }

    fn carried(&self, error: CarryError) -> Failure {
        match error {
            CarryError::Refused(answered) => Trouble::Refused(Box::new(self.refused(*answered))).into(),
            CarryError::Broken(why) => {
                let why = Words::new(format!("the connection ended: {why}"), format!("连接中断：{why}"));
                let hint = Words::new("try again: it goes on where it was", "请重试，将从中断处继续");
                Trouble::Unreachable { gateway: self.gateway.clone(), why, hint }.into()
            }
            CarryError::Stalled => Failure::new(Exit::TempFail, "nothing moved for a while", "传输长时间没有进展"),
            CarryError::Source(error) => Failure::new(Exit::Io, &error, format!("读写失败：{}", io_zh(&error))),
            CarryError::Kept(error) => Failure::new(Exit::Io, &error, format!("无法保存：{error}")),
        }
    }
}

/// Opens a download that may have begun: the file, and the sums of what is in it.
fn begun(path: &Path, part: &Part) -> Result<(File, Sums, u64), Failure> {
    let file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
    let (mut sums, mut have) = (Sums::new(Some(&part.salt)), file.metadata()?.len());
    if have > part.size {
        file.set_len(0)?;
        have = 0;
    }
    if let Some(mut chunks) = Chunks::of_file(File::open(path)?, 0)? {
        while let Some(chunk) = chunks.next_chunk()? {
            sums.update(&chunk);
        }
    }
    Ok((file, sums, have))
}
