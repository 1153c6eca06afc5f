//! Hidden directories of jobs that have died, and how a live one shows that it lives.
//!
//! A job that is killed leaves its hidden directory behind. The next job into the same output
//! directory removes it if it surely belongs to no live attempt, and leaves it if that is
//! uncertain. Removing that of a live one would lose nothing that was published, as an attempt that
//! finds its directory gone fails and the next one begins anew; but it would cost the work done so
//! far.
//!
//! The process that runs an attempt's committer holds a lock on a file of the hidden directory, if
//! that is on the local disk, and writes another file anew every 10 seconds: its sign of life. An
//! attempt is dead
//! - if its lock is free, and was taken on this machine since its last start; or
//! - if its sign of life is 3 minutes older, by the file system's clock, than one of ours, while
//!   ours was renewed without trouble for half a minute, and no lock of this machine is held. So
//!   after an outage of the file system everybody alive has time to show it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use millstream_storage::{
    CreateOptions, FilePath, FileSystem, StorageError, block_on, read_all, write_all,
};

use crate::file_sink::Places;

/// The prefix of hidden directories.
pub(crate) const HIDDEN_PREFIX: &str = ".millstream-";
const LOCK: &str = "lock";
const ALIVE: &str = "alive";
const ALIVE_EVERY: Duration = Duration::from_secs(10);
const DEAD_AFTER: Duration = Duration::from_secs(180);
/// At which of our signs in a row we look for old ones, and how often again: every minute for ten
/// minutes, and then every hour, as the output directory may hold very many files by then.
const SWEEP_AT_SIGN: u32 = 4;
const SWEEP_EVERY_SIGNS: u32 = 6;
const SWEEP_OFTEN_SIGNS: u32 = 60;
const SWEEP_LATER_EVERY_SIGNS: u32 = 360;

/// Shows that an attempt lives, until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    /// Locked; the system lets go of it when the process ends, however it does.
    _lock: Option<File>,
    /// Gives signs of life until the sender is dropped.
    alive: Option<(SyncSender<()>, JoinHandle<()>)>,
}

impl Claim {
    /// Claims the hidden directory, which exists, and removes those of dead attempts; `made` is
    /// kept for later attempts, see [`made_before`]. What may be slow happens beside the job.
    pub(crate) fn of(places: &Places, made: usize) -> Result<Self, StorageError> {
        let hidden = places.hidden.local();
        let lock = hidden.and_then(|hidden| lock(hidden).ok());
        if hidden.is_some() {
            give_sign(places, made)?;
            sweep(places, Evidence::Lock);
        }
        let (stop, stopped) = sync_channel::<()>(1);
        let places = places.clone();
        let thread = thread::Builder::new().name("file-sink-alive".to_owned()).spawn(move || {
            let mut signs = 0;
            loop {
                // If the directory is gone, the attempt will notice without this thread.
                signs = if give_sign(&places, made).is_ok() { signs + 1 } else { 0 };
                if is_sweep_due(signs) {
                    sweep(&places, Evidence::LockOrSign);
                }
                if stopped.recv_timeout(ALIVE_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        Ok(Self { _lock: lock, alive: thread.ok().map(|thread| (stop, thread)) })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.alive.take() {
            drop(stop);
            // Nothing may be written to the directory while it is removed.
            let _ = thread.join();
        }
    }
}

const fn is_sweep_due(signs: u32) -> bool {
    let is_early = signs <= SWEEP_OFTEN_SIGNS;
    let every = if is_early { SWEEP_EVERY_SIGNS } else { SWEEP_LATER_EVERY_SIGNS };
    signs % every == SWEEP_AT_SIGN
}

fn give_sign(places: &Places, made: usize) -> Result<(), StorageError> {
    let text = Bytes::from(made.to_string());
    let path = places.hidden.join(ALIVE);
    block_on(write_all(&*places.system, &path, CreateOptions::REPLACE, text))
}

/// Number of directories that earlier attempts of the job have made for the output, from it
/// upwards.
pub(crate) fn made_before(places: &Places) -> usize {
    let text = block_on(read_all(&*places.system, &places.hidden.join(ALIVE), 32)).ok();
    text.and_then(|text| String::from_utf8(text).ok()?.trim().parse().ok()).unwrap_or(0)
}

/// The id of this start of this machine.
fn boot_id() -> Option<Vec<u8>> {
    fs::read("/proc/sys/kernel/random/boot_id").ok()
}

/// Makes the lock of a hidden directory. It has its name only when it is locked.
fn lock(hidden: &Path) -> std::io::Result<File> {
    let unlocked = hidden.join("lock-new");
    let mut file = File::create(&unlocked)?;
    file.write_all(&boot_id().unwrap_or_default())?;
    file.try_lock()?;
    fs::rename(unlocked, hidden.join(LOCK))?;
    Ok(file)
}

/// The owner of a hidden directory, by its lock.
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    Lives,
    Dead,
    Unknown,
}

fn owner_by_lock(hidden: &FilePath) -> Owner {
    let lock = hidden.local().map(|hidden| hidden.join(LOCK));
    let Some(lock) = lock else { return Owner::Unknown };
    let is_this_machines = fs::read(&lock).ok().filter(|id| !id.is_empty()) == boot_id();
    match File::open(lock).map(|file| file.try_lock()) {
        Ok(Ok(())) if is_this_machines => Owner::Dead,
        Ok(Err(fs::TryLockError::WouldBlock)) => Owner::Lives,
        Ok(_) | Err(_) => Owner::Unknown,
    }
}

/// Whether the sign of life is much older than the one of `ours`, which was given just now.
fn is_sign_old(system: &dyn FileSystem, hidden: &FilePath, ours: &FilePath) -> bool {
    let given = |hidden: &FilePath| {
        block_on(system.status(&hidden.join(ALIVE))).ok().map(|status| status.modified)
    };
    let age = given(ours).zip(given(hidden)).map(|(now, then)| now.duration_since(then));
    age.is_some_and(|age| age.is_ok_and(|age| age > DEAD_AFTER))
}

/// The signs by which an attempt may be known as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evidence {
    Lock,
    LockOrSign,
}

/// Removes the hidden directories of dead attempts from the output directory.
pub(crate) fn sweep(places: &Places, evidence: Evidence) {
    let Ok(entries) = block_on(places.system.list(&places.output)) else { return };
    for entry in entries {
        let name = entry.path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if !entry.is_directory() || !name.starts_with(HIDDEN_PREFIX) || entry.path == places.hidden
        {
            continue;
        }
        let is_dead = match owner_by_lock(&entry.path) {
            Owner::Lives => false,
            Owner::Dead => true,
            Owner::Unknown => {
                evidence == Evidence::LockOrSign
                    && is_sign_old(&*places.system, &entry.path, &places.hidden)
            }
        };
        if is_dead {
            // Another may do the same, or it cannot be removed: then it stays.
            let _ = block_on(places.system.delete(&entry.path, true));
        }
    }
}

/// Number of directories that are missing, from the output upwards.
pub(crate) fn missing(places: &Places) -> usize {
    let mut directory = Some(places.output.clone());
    let mut missing = 0;
    while let Some(path) = directory.filter(|path| !path.path().as_os_str().is_empty()) {
        match block_on(places.system.status(&path)) {
            Err(StorageError::NotFound { .. }) => missing += 1,
            _ => break,
        }
        directory = path.parent();
    }
    missing
}

/// Removes directories that the job has made for its output, as far as nothing is in them.
pub(crate) fn remove_made(places: &Places, count: usize) {
    let mut directory = Some(places.output.clone());
    for _ in 0..count {
        let Some(path) = directory else { return };
        // A link that leads nowhere is missing too, and is not ours.
        let is_directory = block_on(places.system.status(&path)).is_ok_and(|it| it.is_directory());
        if !is_directory || block_on(places.system.delete(&path, false)).is_err() {
            return;
        }
        directory = path.parent();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_directories_are_looked_for_less_often_after_a_while() {
        let due: Vec<u32> = (0..1_000).filter(|signs| is_sweep_due(*signs)).collect();
        assert_eq!(due, [4, 10, 16, 22, 28, 34, 40, 46, 52, 58, 364, 724]);
    }
}
