//! The epoch counter of a host: a file that outlives every master.
//!
//! All masters of one user on one host count with one file, whatever cluster they lead, so no two
//! of them have the same epoch. A master reads the number, writes the next one beside it, syncs
//! that, and renames it over the old one, all under a lock. Killed at any point it leaves the old
//! number or the new one, never a part of one.
//!
//! The lock is a file of its own, because a rename replaces what is locked. It goes with the
//! process that holds it.
//!
//! A file that is there and holds no number is an error: counting from 1 again would give the
//! next master an epoch that living TaskManagers refuse, or one that a living master has.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use millstream_config::{ConfigError, Configuration};
use millstream_rm_driver::{EpochError, EpochSource};
use millstream_types::LeaderEpoch;

use crate::options;

const COUNTER: &str = "epoch";
const LOCK: &str = "epoch.lock";
/// The next number before it replaces the last one.
const NEXT: &str = "epoch.next";
/// The word before the number.
const WORD: &str = "epoch ";
/// No counter is longer.
const BYTES_MAX: u64 = 64;
/// Limit of the wait for another master's lock; counting takes milliseconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(20);
const LOCK_NAP: Duration = Duration::from_millis(5);
/// The directory below which users' programs keep what must survive a restart.
const STATE_HOME: &str = "XDG_STATE_HOME";

/// The counter in one directory.
#[derive(Debug, Clone)]
pub struct EpochCounter {
    directory: PathBuf,
}

impl EpochCounter {
    /// The counter in this directory, which is made when it is needed.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The counter in `millstream.standalone.state-dir`. Unless that is set, it is in `millstream`
    /// below `XDG_STATE_HOME` or else `.local/state` of the user's home.
    ///
    /// # Errors
    /// The option is not set and the user has no home.
    pub fn of(configuration: &Configuration) -> Result<Self, EpochError> {
        let unreadable = |error: ConfigError| EpochError::new(error.to_string());
        let named = configuration.get(&options::STANDALONE_STATE_DIR).map_err(unreadable)?;
        let state_home = std::env::var_os(STATE_HOME).map(PathBuf::from);
        let directory = named.or_else(|| usual_directory(state_home, std::env::home_dir()));
        directory.map(Self::new).ok_or_else(|| {
            EpochError::new(format!(
                "this user has no home directory in which the JobManager could count its starts: \
                 set {} to a directory that outlives the JobManager",
                options::STANDALONE_STATE_DIR.key()
            ))
        })
    }

    /// Checks that the next master will get an epoch, and counts nothing.
    ///
    /// # Errors
    /// The directory cannot be made or written, or the counter is damaged.
    pub fn check(&self) -> Result<(), EpochError> {
        let _lock = self.lock()?;
        self.last()?;
        self.prepare(0).map(drop)?;
        fs::remove_file(self.path(NEXT)).map_err(|error| self.failed("write to", error))
    }

    /// Counts one more master.
    fn count(&self) -> Result<LeaderEpoch, EpochError> {
        let _lock = self.lock()?;
        let next = self.last()?.checked_add(1).ok_or_else(|| {
            EpochError::new(format!("{} is at its end", self.path(COUNTER).display()))
        })?;
        self.prepare(next)?.publish()?;
        Ok(LeaderEpoch::new(next))
    }

    /// Makes the directory and waits for the lock in it.
    fn lock(&self) -> Result<File, EpochError> {
        self.make_directory().map_err(|error| self.failed("make", error))?;
        let file = private().create(true).truncate(false).open(self.path(LOCK));
        let file = file.map_err(|error| self.failed("write to", error))?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_PATIENCE => {
                    std::thread::sleep(LOCK_NAP);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(EpochError::new(format!(
                        "another JobManager has held {} for {LOCK_PATIENCE:?}: is it stopped?",
                        self.path(LOCK).display()
                    )));
                }
                Err(TryLockError::Error(error)) => return Err(self.failed("lock", error)),
            }
        }
    }

    /// Makes the missing directories, each durably: the counter must not vanish with the
    /// directory's own entry.
    fn make_directory(&self) -> io::Result<()> {
        let missing: Vec<&Path> =
            self.directory.ancestors().take_while(|path| !path.exists()).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        for made in missing {
            if let Some(parent) = made.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                File::open(parent)?.sync_all()?;
            }
        }
        Ok(())
    }

    /// The number of the last master; 0 if there was none.
    fn last(&self) -> Result<u64, EpochError> {
        let path = self.path(COUNTER);
        let mut text = String::new();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(self.failed("read", error)),
        };
        match file.take(BYTES_MAX).read_to_string(&mut text) {
            Err(error) if error.kind() != ErrorKind::InvalidData => {
                return Err(self.failed("read", error));
            }
            _ => {}
        }
        // A number without its end may be the beginning of a longer one.
        let number = text.strip_prefix(WORD).and_then(|text| text.strip_suffix('\n'));
        let number = number.and_then(|number| number.parse().ok()).filter(|number| *number > 0);
        number.ok_or_else(|| {
            EpochError::new(format!(
                "{} is damaged: it should be one line like \"{WORD}7\". Write a number there that \
                 is higher than every epoch in the logs of earlier JobManagers, or stop all \
                 JobManagers and TaskManagers of this user and remove the file",
                path.display()
            ))
        })
    }

    /// Writes a number beside the counter, durably.
    fn prepare(&self, number: u64) -> Result<Prepared<'_>, EpochError> {
        let write = || {
            let mut file = private().create(true).truncate(true).open(self.path(NEXT))?;
            file.write_all(format!("{WORD}{number}\n").as_bytes())?;
            file.sync_all()
        };
        write().map_err(|error| self.failed("write to", error))?;
        Ok(Prepared(self))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn failed(&self, what: &str, error: io::Error) -> EpochError {
        let what = format!(
            "failed to {what} the directory {} in which JobManagers count their starts (see {})",
            self.directory.display(),
            options::STANDALONE_STATE_DIR.key()
        );
        EpochError::caused(what, error)
    }
}

impl EpochSource for EpochCounter {
    fn issue(self: Box<Self>) -> BoxFuture<'static, Result<LeaderEpoch, EpochError>> {
        Box::pin(async move {
            let counted = tokio::task::spawn_blocking(move || self.count()).await;
            counted.map_err(|error| EpochError::caused("failed to count this start", error))?
        })
    }
}

/// A number that is written beside the counter and not yet the counter.
struct Prepared<'a>(&'a EpochCounter);

impl Prepared<'_> {
    fn publish(self) -> Result<(), EpochError> {
        let Self(counter) = self;
        let publish = || {
            fs::rename(counter.path(NEXT), counter.path(COUNTER))?;
            File::open(&counter.directory)?.sync_all()
        };
        publish().map_err(|error| counter.failed("write to", error))
    }
}

/// Files that no other user reads or writes; links are not followed.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits();
    options.write(true).mode(0o600).custom_flags(no_follow.cast_signed());
    options
}

fn usual_directory(state_home: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let state_home = state_home.filter(|path| path.is_absolute());
    let home = home.filter(|path| path.is_absolute()).map(|home| home.join(".local/state"));
    Some(state_home.or(home)?.join("millstream"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use millstream_config::KnownOptions;

    use super::*;

    fn counter() -> (tempfile::TempDir, EpochCounter) {
        let dir = tempfile::tempdir().unwrap();
        let counter = EpochCounter::new(dir.path().join("some/state"));
        (dir, counter)
    }

    fn count(counter: &EpochCounter) -> u64 {
        counter.count().unwrap().get()
    }

    #[tokio::test]
    async fn the_counter_keeps_the_contract_of_epochs() {
        let (_dir, counter) = counter();
        millstream_rm_driver::conformance::epochs(|| counter.clone()).await;
    }

    #[test]
    fn masters_that_start_at_once_have_epochs_of_their_own() {
        let (_dir, counter) = counter();
        let masters: Vec<_> = (0..8)
            .map(|_| {
                let counter = counter.clone();
                std::thread::spawn(move || (0..10).map(|_| count(&counter)).collect::<Vec<_>>())
            })
            .collect();
        let mut all: Vec<u64> = masters.into_iter().flat_map(|it| it.join().unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, (1..=80).collect::<Vec<_>>());
    }

    #[test]
    fn a_master_that_is_killed_between_writing_and_renaming_uses_no_number() {
        let (_dir, counter) = counter();
        assert_eq!((count(&counter), count(&counter)), (1, 2));
        let Prepared(_) = counter.prepare(3).unwrap();
        assert_eq!(count(&counter), 3);
        // The system may have written any part of it.
        for torn in ["", "e", "epoch", "epoch 9", "\0\0\0\0\0\0\0\0"] {
            let before = count(&counter);
            fs::write(counter.path(NEXT), torn).unwrap();
            assert_eq!(count(&counter), before + 1, "{torn:?}");
        }
    }

    #[test]
    fn a_damaged_counter_is_an_error_and_never_begins_anew() {
        let (_dir, counter) = counter();
        assert_eq!(count(&counter), 1);
        let path = counter.path(COUNTER);
        let long = format!("epoch {}\n", "1".repeat(100));
        let torn = [
            "",
            "epoch ",
            "epoch 12",
            "12\n",
            "epoch 0\n",
            "epoch -1\n",
            "epoch 1 2\n",
            "\0\0\n",
            "epoch 99999999999999999999\n",
            &long,
        ];
        for text in torn {
            fs::write(&path, text).unwrap();
            let error = counter.count().unwrap_err().to_string();
            assert!(error.contains("is damaged: it should be one line"), "{text:?}: {error}");
            assert!(error.starts_with(&path.display().to_string()), "{error}");
            assert!(counter.check().is_err(), "{text:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text, "it is left for a person");
        }
        fs::write(&path, [b'\xff'; 9]).unwrap();
        assert!(counter.count().unwrap_err().to_string().contains("is damaged"));
        fs::write(&path, format!("epoch {}\n", u64::MAX)).unwrap();
        assert!(counter.count().unwrap_err().to_string().contains("is at its end"));
        fs::write(&path, "epoch 41\n").unwrap();
        assert_eq!(count(&counter), 42);
    }

    #[test]
    fn a_place_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let counter = EpochCounter::new(dir.path().join("file/state"));
        let error = counter.count().unwrap_err().to_string();
        assert!(error.contains("file/state"), "{error}");
        assert!(error.contains("millstream.standalone.state-dir"), "{error}");
        let (_dir, counter) = self::counter();
        counter.check().unwrap();
        fs::create_dir(counter.path(COUNTER)).unwrap();
        assert!(counter.count().unwrap_err().to_string().starts_with("failed to read"));
    }

    #[test]
    fn checking_counts_nothing_and_leaves_the_lock_alone() {
        let (_dir, counter) = counter();
        counter.check().unwrap();
        assert_eq!(count(&counter), 1);
        counter.check().unwrap();
        assert_eq!(count(&counter), 2);
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(counter.directory.clone()), mode(counter.path(COUNTER))), (0o700, 0o600));
    }

    #[test]
    fn the_usual_directory_is_the_users_own() {
        let usual = |state: Option<&str>, home: Option<&str>| {
            let directory = usual_directory(state.map(Into::into), home.map(Into::into));
            directory.map(|path| path.display().to_string())
        };
        assert_eq!(usual(Some("/s"), Some("/h")).as_deref(), Some("/s/millstream"));
        for none in [None, Some(""), Some("relative")] {
            let expected = Some("/h/.local/state/millstream");
            assert_eq!(usual(none, Some("/h")).as_deref(), expected);
            assert_eq!(usual(none, None), None);
        }
        let set = [("millstream.standalone.state-dir", "/var/lib/millstream")];
        let known = KnownOptions::with_drivers(&[options::TABLE]);
        let configuration = Configuration::knowing(known).with_pairs(set).unwrap();
        let counter = EpochCounter::of(&configuration).unwrap();
        assert_eq!(counter.directory, Path::new("/var/lib/millstream"));
    }
}
