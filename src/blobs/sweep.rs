//! Decides what leaves the disk: blobs that nothing refers to, uploads that nobody touches. Never takes a blob that is
//! held, and never asks who refers to it before nobody can begin to.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Blobs, Inner, Owner, entries, remove, sync};
use crate::limits::STAGED_MS;
use crate::message::Digest;
use crate::time::Time;

/// Why a sweep stopped; what it had taken stays taken.
#[derive(Debug, thiserror::Error)]
pub enum SweepError<E> {
    #[error("the attachment store: {0}")]
    Io(#[from] io::Error),
    #[error("whether a blob is referred to cannot be told: {0}")]
    Unknown(E),
}

/// What a sweep took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub files: u64,
    pub bytes: u64,
}

impl Blobs {
    /// Deletes blobs that have had their name for `grace_ms` and that nothing refers to. For each, in this order: nobody
    /// holds it, nobody can hold it now, `referenced` says no, it goes.
    ///
    /// # Errors
    /// See [`SweepError`].
    pub fn sweep<E>(
        &self,
        now: Time,
        grace_ms: u64,
        mut referenced: impl FnMut(&Digest) -> Result<bool, E>,
    ) -> Result<Swept, SweepError<E>> {
        let mut swept = Swept::default();
        for (_, folder) in entries(&self.0.folder.join("blobs"))? {
            let before = swept.files;
            for (name, path) in entries(&folder)? {
                let mut digest = Digest([0; 32]);
                if hex::decode_to_slice(&name, &mut digest.0).is_err() {
                    continue;
                }
                // A second name counts as a change: the age is that of the newest claim.
                let Some(bytes) = settled(&path, now, grace_ms, |data| (data.ctime(), data.ctime_nsec()))? else {
                    continue;
                };
                let Some(_mark) = self.0.holds.mark(digest) else { continue };
                if !referenced(&digest).map_err(SweepError::Unknown)? {
                    remove(&path)?;
                    swept.files += 1;
                    swept.bytes += bytes;
                }
            }
            if swept.files > before {
                sync(&folder)?;
            }
        }
        Ok(swept)
    }

    /// Deletes uploads that nobody has open and nobody has written for a day.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sweep_staging(&self, now: Time) -> io::Result<Swept> {
        let mut swept = Swept::default();
        for (owner, folder) in entries(&self.0.staging())? {
            for (name, path) in entries(&folder)? {
                if name.contains('.') {
                    continue;
                }
                let place = (Owner(owner.clone()), name);
                // Under the lock, so that nobody opens it meanwhile.
                let open = self.0.opened();
                let old = settled(&path, now, STAGED_MS, |data| (data.mtime(), data.mtime_nsec()))?;
                if let Some(bytes) = old.filter(|_| !open.contains_key(&place)) {
                    self.0.discard(&place)?;
                    swept.files += 1;
                    swept.bytes += bytes;
                }
            }
            self.0.leave(&Owner(owner), &folder)?;
        }
        Ok(swept)
    }
}

impl Inner {
    /// Removes an owner's folder when nothing is in it.
    fn leave(&self, owner: &Owner, folder: &Path) -> io::Result<()> {
        let open = self.opened();
        if open.keys().any(|place| place.0 == *owner) || !entries(folder)?.is_empty() {
            return Ok(());
        }
        std::fs::remove_dir(folder)
    }
}

/// The length of a file that has not changed for `age_ms`; none when it has, or is gone.
fn settled(path: &Path, now: Time, age_ms: u64, changed: impl Fn(&Metadata) -> (i64, i64)) -> io::Result<Option<u64>> {
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata?,
    };
    let (seconds, nanos) = changed(&metadata);
    let changed = Time::from_ms(u64::try_from(seconds * 1000 + nanos / 1_000_000).unwrap_or(0));
    Ok((now.since_ms(changed) >= age_ms).then_some(metadata.len()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::convert::Infallible;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use sha2::{Digest as _, Sha256};

    use super::super::{Bounds, Need, Want};
    use super::*;

    // Claims, commits and sweeps at once, with the committed rows as the truth, and a sweep with a planted fault.

    const MUCH_LATER: Time = Time::from_ms(1 << 45);

    struct World {
        blobs: Blobs,
        folder: std::path::PathBuf,
        rows: Mutex<HashMap<Digest, u32>>,
        broken: AtomicU64,
    }

    impl Drop for World {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    impl World {
        fn new(name: &str) -> World {
            let folder = std::env::temp_dir().join(format!("tongban-blobs-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&folder);
            let bounds = Bounds { reserve_bytes: 0, ..Bounds::default() };
            let blobs = Blobs::open_with(folder.clone(), bounds).unwrap();
            World { blobs, folder, rows: Mutex::default(), broken: AtomicU64::new(0) }
        }

        fn stage(&self, owner: &Owner, content: &[u8]) -> Want {
            let digest = Digest(Sha256::digest(content).into());
            let want = Want { digest, size: content.len() as u64, salt: None };
            let mut upload = self.blobs.begin(owner, want).unwrap();
            let rest = usize::try_from(upload.offset()).unwrap();
            upload.write(&content[rest..]).unwrap();
            upload.finish().unwrap();
            want
        }

        fn refers(&self, digest: &Digest) -> bool {
            self.rows.lock().unwrap().get(digest).is_some_and(|count| *count > 0)
        }

        fn commit(&self, digest: Digest) {
            *self.rows.lock().unwrap().entry(digest).or_default() += 1;
        }

        fn drop_row(&self, digest: Digest) {
            *self.rows.lock().unwrap().get_mut(&digest).unwrap() -= 1;
        }

        fn look(&self, want: &Want, content: &[u8]) {
            let there = self.blobs.read(&want.digest, 0).unwrap().and_then(|mut chunks| chunks.next_chunk().unwrap());
            if there.as_deref() != Some(content) {
                self.broken.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    type Sweep = fn(&World) -> u64;

    fn sweep(world: &World) -> u64 {
        world.blobs.sweep(MUCH_LATER, 0, |digest| Ok::<_, Infallible>(world.refers(digest))).unwrap().files
    }

    /// The planted fault: it asks who refers to a blob before nobody can begin to.
    fn sweep_that_asks_first(world: &World) -> u64 {
        asks_first(world, |digest| world.refers(digest))
    }

    fn asks_first(world: &World, referenced: impl Fn(&Digest) -> bool) -> u64 {
        let mut taken = 0;
        for (_, folder) in entries(&world.folder.join("blobs")).unwrap() {
            for (name, path) in entries(&folder).unwrap() {
                let digest = Digest(hex::decode(&name).unwrap().try_into().unwrap());
                let referred = referenced(&digest);
                std::thread::yield_now();
                let Some(_mark) = world.blobs.0.holds.mark(digest) else { continue };
                if !referred {
                    remove(&path).unwrap();
                    taken += 1;
                }
            }
        }
        taken
    }

    /// Four senders claim, commit and drop three blobs for `rounds` each while two sweeps run; how many blobs were taken.
    fn hammer(world: &World, sweep: Sweep, rounds: u32) -> u64 {
        let (taken, done) = (AtomicU64::new(0), AtomicBool::new(false));
        let contents = [b"one".as_slice(), b"two", b"three"];
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::SeqCst) {
                        taken.fetch_add(sweep(world), Ordering::SeqCst);
                    }
                });
            }
            let sender = |number: u32| {
                let owner = Owner::identity(&format!("sender {number}"));
                let mut chance = number + 1;
                for round in 0..rounds {
                    chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let content = contents[(chance >> 16) as usize % contents.len()];
                    let want = world.stage(&owner, content);
                    let claim = world.blobs.claim(&owner, &[Need { want, salted: None }]).unwrap();
                    world.commit(want.digest);
                    if round % 8 == 0 {
                        claim.settle();
                    } else {
                        drop(claim);
                    }
                    world.look(&want, content);
                    std::thread::yield_now();
                    world.look(&want, content);
                    world.drop_row(want.digest);
                }
            };
            let senders: Vec<_> = (0..4).map(|number| scope.spawn(move || sender(number))).collect();
            let results: Vec<_> = senders.into_iter().map(|sender| sender.join()).collect();
            done.store(true, Ordering::SeqCst);
            results.into_iter().for_each(|result| result.unwrap());
        });
        taken.load(Ordering::SeqCst)
    }

    #[test]
    fn no_sweep_takes_a_blob_that_a_committed_message_refers_to() {
        let world = World::new("hammer");
        let taken = hammer(&world, sweep, 250);
        assert_eq!(world.broken.load(Ordering::SeqCst), 0);
        assert!(taken > 20, "the sweeps took only {taken} blobs: nothing was raced");
        assert!(world.blobs.0.holds.is_empty(), "every pin and every mark is gone");
        sweep(&world);
        assert_eq!(sweep(&world), 0);
    }

    #[test]
    fn a_sweep_that_asks_before_it_marks_is_caught_by_the_hammer() {
        let world = World::new("planted");
        let caught = (0..20).any(|_| {
            hammer(&world, sweep_that_asks_first, 100);
            world.broken.load(Ordering::SeqCst) > 0
        });
        assert!(caught);
    }

    /// A message is claimed and committed exactly between the answer that nothing refers to its blob and what follows from it.
    fn commits_after_the_answer(world: &World, sweep: impl FnOnce(&World, &dyn Fn(&Digest) -> bool)) -> bool {
        let owner = Owner::identity("sender");
        let want = world.stage(&owner, b"one");
        drop(world.blobs.claim(&owner, &[Need { want, salted: None }]).unwrap());
        std::thread::scope(|scope| {
            sweep(world, &|digest| {
                let answer = world.refers(digest);
                let (committed, seen) = channel();
                let owner = &owner;
                scope.spawn(move || {
                    let claim = world.blobs.claim(owner, &[Need { want, salted: None }]).unwrap();
                    world.commit(want.digest);
                    drop(claim);
                    let _ = committed.send(());
                });
                // Where marks hold pins back it does not come.
                let _ = seen.recv_timeout(Duration::from_millis(200));
                answer
            });
        });
        assert!(world.refers(&want.digest));
        world.blobs.read(&want.digest, 0).unwrap().is_some()
    }

    #[test]
    fn a_claim_between_question_and_deletion_waits_and_the_blob_is_there() {
        let world = World::new("between");
        let there = commits_after_the_answer(&world, |world, referenced| {
            let swept = world.blobs.sweep(MUCH_LATER, 0, |digest| Ok::<_, Infallible>(referenced(digest))).unwrap();
            assert_eq!(swept.files, 1);
        });
        assert!(there);
        let planted = World::new("between-planted");
        let there =
            commits_after_the_answer(&planted, |world, referenced| assert_eq!(asks_first(world, referenced), 1));
        assert!(!there, "the planted fault must lose the blob");
    }

    #[test]
    fn a_pin_holds_a_blob_that_nothing_refers_to() {
        let world = World::new("pin");
        let owner = Owner::identity("sender");
        let want = world.stage(&owner, b"one");
        let (claim, more) =
            (world.blobs.claim(&owner, &[Need { want, salted: None }]).unwrap(), world.blobs.pin(&want.digest));
        assert_eq!(sweep(&world), 0);
        claim.settle();
        assert_eq!(sweep(&world), 0);
        drop(more);
        assert_eq!(sweep(&world), 1);
        assert!(world.blobs.pin(&want.digest).is_none());
        assert!(world.blobs.0.holds.is_empty());
    }
}
