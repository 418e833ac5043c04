//! Decides whether the machine and the store under a gateway are sound: clock, descriptors, disk, files, log. Never opens
//! the store for writing.

use rustix::process::{Resource, getrlimit};

use super::advice;
use super::facts::{Facts, Look, Seen, Verdict, shown};
use crate::limits::{
    CLOCK_BACK_MS_MAX, CONNECTIONS_MAX, DAY_MS, DESCRIPTORS_RESERVED, DISK_LOW_BYTES, DISK_RESERVE_BYTES, SCRUB_LEAVES,
    SCRUB_STALE_DAYS, WAL_BYTES_LARGE,
};
use crate::store::{self, Mark, OpenError, Scrubbed, Snapshot};
use crate::tlog::checkpoint::Checkpoint;

pub fn clock(facts: &Facts<'_>) -> Vec<Look> {
    let signed = facts.directory.get().map(crate::directory::Directory::issued_at);
    let newest = facts.store.get().and_then(|store| store.look(|look| look.newest_message_at()).ok().flatten());
    let latest = signed.into_iter().chain(newest).max().unwrap_or_default();
    if latest.since_ms(facts.now) > CLOCK_BACK_MS_MAX {
        let seen = Seen::both(
            format!("now {}, already signed {latest}", facts.now),
            format!("现在 {}，已签署 {latest}", facts.now),
        );
        return vec![Look::fault(&advice::CLOCK_BEHIND, seen)];
    }
    vec![Look::good(facts.now.to_string())]
}

pub fn descriptors(_: &Facts<'_>) -> Vec<Look> {
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return vec![Look::good(Seen::both("unlimited", "不限"))];
    };
    let wanted = CONNECTIONS_MAX as u64 + DESCRIPTORS_RESERVED;
    let seen = Seen::both(format!("{limit} of {wanted}"), format!("{limit}，应为 {wanted}"));
    vec![if limit < wanted { Look::warning(&advice::DESCRIPTORS_FEW, seen) } else { Look::good(seen) }]
}

pub fn disk(facts: &Facts<'_>) -> Vec<Look> {
    let data = &facts.config.data;
    let folder = data.ancestors().find(|folder| folder.exists()).unwrap_or(data);
    let look = match store::room(folder) {
        Err(error) => Look::fault(&advice::STORE_UNWRITABLE, Seen::error(&error).at(&shown(folder))),
        Ok(room) if room.read_only => Look::fault(&advice::DISK_READ_ONLY, shown(folder)),
        Ok(room) => {
            let (folder, free) = (shown(folder), room.free >> 20);
            let seen = Seen::both(format!("{folder}: {free} MiB free"), format!("{folder}：剩余 {free} MiB"));
            match room.free {
                free if free < DISK_RESERVE_BYTES => Look::fault(&advice::DISK_FULL, seen),
                free if free < DISK_LOW_BYTES => Look::warning(&advice::DISK_LOW, seen),
                _ => Look::good(seen),
            }
        }
    };
    vec![look]
}

pub fn writable(facts: &Facts<'_>) -> Vec<Look> {
    let data = &facts.config.data;
    if !data.exists() {
        return vec![Look::warning(&advice::STORE_MISSING, shown(data))];
    }
    vec![match store::probe(data) {
        Ok(()) => Look::good(shown(data)),
        Err(error) => Look::fault(&advice::STORE_UNWRITABLE, Seen::error(&error).at(&shown(data))),
    }]
}

pub fn schema(facts: &Facts<'_>) -> Vec<Look> {
    let path = facts.config.data.join("store.db");
    if !path.exists() {
        return vec![Look::warning(&advice::STORE_MISSING, shown(&path))];
    }
    vec![match store::inspect(&facts.config.data) {
        Ok(readers) => {
            let _ = facts.store.set(readers);
            Look::good(shown(&path))
        }
        Err(error @ (OpenError::Newer { .. } | OpenError::Older { .. } | OpenError::Checksum(_))) => {
            Look::fault(&advice::STORE_SCHEMA, Seen::error(&error))
        }
        Err(error) => Look::fault(&advice::STORE_UNREADABLE, Seen::error(&error)),
    }]
}

pub fn wal(facts: &Facts<'_>) -> Vec<Look> {
    let bytes = store::wal_bytes(&facts.config.data);
    let seen = format!("{} MiB", bytes >> 20);
    vec![if bytes > WAL_BYTES_LARGE { Look::warning(&advice::WAL_LARGE, seen) } else { Look::good(seen) }]
}

/// The newest checkpoint is over the whole tree, signed by our key, and not behind the mark.
pub fn tree(facts: &Facts<'_>) -> Vec<Look> {
    let (Some(store), Some(key)) = (facts.store.get(), facts.log_key.get()) else {
        return vec![Look::good(Seen::both("no leaf yet", "尚无记录"))];
    };
    let (size, note) = match store.look(|look| look.log()) {
        Ok(log) => log,
        Err(error) => return vec![Look::fault(&advice::STORE_UNREADABLE, Seen::error(&error))],
    };
    let Some(note) = note else { return vec![Look::good(Seen::both("no leaf yet", "尚无记录"))] };
    match Checkpoint::open(&note, std::slice::from_ref(key.verifying_key())) {
        Err(error) => return vec![Look::fault(&advice::TREE_BROKEN, Seen::error(&error))],
        Ok(checkpoint) if checkpoint.size != size => {
            let over = checkpoint.size;
            let seen = Seen::both(
                format!("the checkpoint is over {over} leaves, the tree has {size}"),
                format!("检查点为 {over} 项，树有 {size} 项"),
            );
            return vec![Look::fault(&advice::TREE_BROKEN, seen)];
        }
        Ok(_) => {}
    }
    let mark = Mark::in_folder(&facts.config.data).read().ok().flatten();
    vec![match mark.and_then(|note| Checkpoint::claimed(&note).ok()) {
        // Beside a gateway that goes on, the mark may have been written after the store was looked at.
        Some(shown) if shown.size > size && !store::in_use(&facts.config.data) => {
            let shown = shown.size;
            let seen = Seen::both(
                format!("{size} leaves stored, {shown} shown"),
                format!("存储有 {size} 项，已出示 {shown} 项"),
            );
            Look::fault(&advice::ROLLED_BACK, seen)
        }
        _ => Look::good(Seen::both(format!("{size} leaves"), format!("{size} 项"))),
    }]
}

/// How the newest walk over the whole log ended, which the running gateway makes each day.
pub fn scrubbed(facts: &Facts<'_>) -> Vec<Look> {
    let Some(scrubbed) = Scrubbed::read(&facts.config.data) else {
        return vec![Look::good(Seen::both("not walked over yet", "尚未通查"))];
    };
    let (at, leaves) = (scrubbed.at(), scrubbed.leaves);
    if let Some(what) = scrubbed.damage {
        let seen = Seen::both(format!("{what}, found {at}"), format!("“{what}”，于 {at} 发现"));
        return vec![Look::fault(&advice::LOG_DAMAGED, seen)];
    }
    let days = facts.now.since_ms(at) / DAY_MS;
    let seen = Seen::both(format!("{leaves} leaves, {days} days ago"), format!("{leaves} 项，{days} 天前"));
    let stale = days > SCRUB_STALE_DAYS && store::in_use(&facts.config.data);
    vec![if stale { Look::warning(&advice::SCRUB_STALE, seen) } else { Look::good(seen) }]
}

/// Walks over the whole log now. Takes about a second for a million leaves.
pub fn deep(facts: &Facts<'_>) -> Vec<Look> {
    let Some(store) = facts.store.get() else {
        return vec![Look { about: None, verdict: Verdict::Skipped("store.schema"), seen: Seen::default() }];
    };
    let walk = |look: &Snapshot<'_>| {
        let mut scrub = look.scrub()?;
        while look.scrub_on(&mut scrub, SCRUB_LEAVES)? {}
        Ok(scrub.size())
    };
    vec![match store.look(walk) {
        Ok(leaves) => Look::good(Seen::both(format!("{leaves} leaves"), format!("{leaves} 项"))),
        Err(error) => Look::fault(&advice::LOG_DAMAGED, Seen::error(&error)),
    }]
}
