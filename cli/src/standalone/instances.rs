//! The pid directory: the daemons of this user and cluster that run on this host.
//!
//! A kind of daemon has two files: `….pid` with one process id a line, for people and tools, and
//! `….instances` beside it, which adds the instance and start time of each process. A process is
//! taken out of both only when it is known to be gone. A ready daemon has a third file,
//! `…-<n>.ready`, which the daemon writes itself.
//!
//! All users may share the directory, so no file of another user is believed or replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::places::Places;
use super::processes::{self, Identity};

/// Patience with a lock, beyond the time that another start may take.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
const LOCK_NAP: Duration = Duration::from_millis(10);
/// A larger file is none of ours.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A kind of daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// The JobManager of a session.
    Session,
    /// The JobManager of one application.
    Application,
    /// A worker.
    TaskManager,
}

impl Service {
    /// In file names and messages, as in Flink.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Session => "standalonesession",
            Self::Application => "standalonejob",
            Self::TaskManager => "taskexecutor",
        }
    }

    /// The engine's verb.
    pub(super) const fn verb(self) -> &'static str {
        match self {
            Self::Session => "jobmanager",
            Self::Application => "standalone-job",
            Self::TaskManager => "taskmanager",
        }
    }
}

/// One start or stop at a time for a user and cluster. The lock's file is gone when it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits for a start or stop that is under way.
    pub(super) async fn acquire(places: &Places) -> Result<Self> {
        make_dir(&places.pid_dir, "pid", "env.pid.dir or MILLSTREAM_PID_DIR")?;
        let path = places.pid_dir.join(format!("millstream-{}.lock", places.ident));
        let patience = places.start_timeout + LOCK_PATIENCE;
        let start = Instant::now();
        loop {
            if let Some(file) = try_lock(&path)? {
                return Ok(Self { path, _file: file });
            }
            if start.elapsed() > patience {
                bail!("another start or stop has held {} for {patience:?}", path.display());
            }
            tokio::time::sleep(LOCK_NAP).await;
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Nothing if another process has it, or has removed it in the meantime.
fn try_lock(path: &Path) -> Result<Option<File>> {
    let mut open = OpenOptions::new();
    open.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let failed = || format!("failed to lock {}", path.display());
    let file = open.open(path).with_context(failed)?;
    let opened = file.metadata().with_context(failed)?;
    refuse_foreign(path, &opened)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(None),
        Err(fs::TryLockError::Error(error)) => return Err(error).with_context(failed),
    }
    let same = fs::symlink_metadata(path).is_ok_and(|now| now.ino() == opened.ino());
    Ok(same.then_some(file))
}

fn refuse_foreign(path: &Path, metadata: &fs::Metadata) -> Result<()> {
    // SAFETY: has no arguments and always succeeds.
    let own = unsafe { libc::geteuid() };
    if metadata.uid() != own || !metadata.is_file() {
        bail!(
            "{} belongs to another user or is no file: set MILLSTREAM_IDENT_STRING, env.pid.dir or \
             MILLSTREAM_PID_DIR to have files of your own",
            path.display()
        );
    }
    Ok(())
}

/// Makes a directory if it is not there, and tries that files can be made in it.
pub(super) fn make_dir(dir: &Path, what: &str, setting: &str) -> Result<()> {
    let shown = dir.display();
    fs::create_dir_all(dir)
        .with_context(|| format!("failed to make the {what} directory {shown} (see {setting})"))?;
    let nanos = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().subsec_nanos();
    let probe = dir.join(format!(".millstream-probe-{}-{nanos}", std::process::id()));
    let made = OpenOptions::new().write(true).create_new(true).open(&probe);
    made.with_context(|| {
        format!("failed to write to the {what} directory {shown} (see {setting})")
    })?;
    let _ = fs::remove_file(probe);
    Ok(())
}

/// A daemon that was started here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) number: usize,
    pub(super) identity: Identity,
}

/// The daemons of one kind.
#[derive(Debug)]
pub(super) struct Instances {
    base: PathBuf,
    /// The living ones, in the order of their start.
    pub(super) living: Vec<Instance>,
    /// The ids of those that the files name and that are gone.
    pub(super) gone: Vec<u32>,
}

impl Instances {
    /// Reads the files; hold the [`Lock`] if they are to be written.
    pub(super) fn read(places: &Places, service: Service) -> Result<Self> {
        let name = format!("millstream-{}-{}", places.ident, service.name());
        let mut instances =
            Self { base: places.pid_dir.join(name), living: Vec::new(), gone: Vec::new() };
        let record = read_own(&instances.path("instances"))?;
        let pids = read_own(&instances.path("pid"))?;
        for line in record.lines() {
            let known = line.split_once(' ').and_then(|(number, identity)| {
                let number = number.strip_prefix("number=")?.parse().ok()?;
                Some(Instance { number, identity: Identity::parse(identity)? })
            });
            match known {
                Some(instance) if instance.identity.lives() => instances.living.push(instance),
                Some(instance) => {
                    let _ = fs::remove_file(instances.ready_path(instance.number));
                    instances.gone.push(instance.identity.pid);
                }
                None => {}
            }
        }
        // Process ids alone: written by hand, or by an older version.
        for pid in pids.lines().filter_map(|line| line.trim().parse::<u32>().ok()) {
            let known = instances.living.iter().any(|instance| instance.identity.pid == pid);
            if known || instances.gone.contains(&pid) {
                continue;
            }
            match Identity::of(pid).filter(|_| processes::runs_engine(pid)) {
                Some(identity) => {
                    let number = instances.free_number();
                    instances.living.push(Instance { number, identity });
                }
                None => instances.gone.push(pid),
            }
        }
        Ok(instances)
    }

    /// The smallest number that no living instance has.
    pub(super) fn free_number(&self) -> usize {
        let taken = |number: &usize| self.living.iter().any(|living| living.number == *number);
        (0..).find(|number| !taken(number)).unwrap_or_default()
    }

    /// The file by which instance `number` says that it is ready.
    pub(super) fn ready_path(&self, number: usize) -> PathBuf {
        self.path(&format!("{number}.ready"))
    }

    /// Takes a process that is gone out of the list.
    pub(super) fn remove(&mut self, identity: &Identity) {
        for instance in self.living.iter().filter(|instance| instance.identity == *identity) {
            let _ = fs::remove_file(self.ready_path(instance.number));
        }
        self.living.retain(|instance| instance.identity != *identity);
    }

    /// Writes both files anew, or removes them when no daemon is left.
    pub(super) fn write(&self) -> Result<()> {
        let paths = [self.path("instances"), self.path("pid")];
        if self.living.is_empty() {
            for path in &paths {
                match fs::remove_file(path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        return Err(error)
                            .with_context(|| format!("failed to remove {}", path.display()));
                    }
                    _ => {}
                }
            }
            return Ok(());
        }
        let (mut record, mut pids) = (String::new(), String::new());
        for Instance { number, identity } in &self.living {
            record.push_str(&format!("number={number} {identity}\n"));
            pids.push_str(&format!("{}\n", identity.pid));
        }
        replace(&paths[0], &record)?;
        replace(&paths[1], &pids)
    }

    fn path(&self, extension: &str) -> PathBuf {
        let mut path = self.base.clone().into_os_string();
        path.push(if extension.ends_with("ready") { "-" } else { "." });
        path.push(extension);
        path.into()
    }
}

fn read_own(path: &Path) -> Result<String> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    refuse_foreign(path, &metadata)?;
    if metadata.len() > FILE_BYTES_MAX {
        bail!("{} is larger than any pid file: remove it", path.display());
    }
    let bytes = fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Replaces a file at once, so that a reader sees the old or the new one.
fn replace(path: &Path, text: &str) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&temporary, path)
    };
    write()
        .inspect_err(|_| drop(fs::remove_file(&temporary)))
        .with_context(|| format!("failed to write {}", path.display()))
}

#[cfg(test)]
pub(super) mod tests {
    use std::process::{Child, Command};

    use super::*;

    pub(in crate::standalone) fn places(dir: &Path) -> Places {
        Places {
            bin_dir: dir.to_owned(),
            conf_dir: dir.to_owned(),
            usrlib: dir.join("usrlib"),
            log_dir: dir.to_owned(),
            pid_dir: dir.to_owned(),
            ident: "me".to_owned(),
            hostname: "here".to_owned(),
            start_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(10),
            logs_max: 3,
            ssh_options: Vec::new(),
        }
    }

    struct Sleeper(Child);

    impl Sleeper {
        fn new() -> (Self, Identity) {
            let child = Command::new("sleep").arg("600").spawn().unwrap();
            let identity = Identity::of(child.id()).unwrap();
            (Self(child), identity)
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_daemon_stays_known_until_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        let (first, one) = Sleeper::new();
        let (_second, two) = Sleeper::new();
        let mut instances = Instances::read(&places, Service::TaskManager).unwrap();
        for identity in [&one, &two] {
            let number = instances.free_number();
            instances.living.push(Instance { number, identity: identity.clone() });
        }
        instances.write().unwrap();
        let pid_file = dir.path().join("millstream-me-taskexecutor.pid");
        let pids = fs::read_to_string(&pid_file).unwrap();
        assert_eq!(pids, format!("{}\n{}\n", one.pid, two.pid));
        let read = || Instances::read(&places, Service::TaskManager).unwrap();
        assert_eq!(read().living.len(), 2);
        drop(first);
        let mut left = read();
        assert_eq!((left.living.len(), left.gone.as_slice()), (1, [one.pid].as_slice()));
        assert_eq!((left.living[0].number, left.free_number()), (1, 0));
        left.remove(&two);
        left.write().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_stranger_with_an_old_pid_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        let (_sleeper, identity) = Sleeper::new();
        let pid = identity.pid;
        let pid_file = dir.path().join("millstream-me-standalonesession.pid");
        fs::write(&pid_file, format!("{pid}\nnonsense\n-1\n0\n99999999\n")).unwrap();
        let instances = Instances::read(&places, Service::Session).unwrap();
        assert_eq!(instances.living, []);
        assert!(instances.gone.contains(&pid));
        let record = format!("number=0 pid={pid} start=1 boot=x\nnumber=9\n\n");
        fs::write(pid_file.with_extension("instances"), record).unwrap();
        assert_eq!(Instances::read(&places, Service::Session).unwrap().living, []);
    }

    #[test]
    fn files_that_are_not_ours_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        let pid_file = dir.path().join("millstream-me-taskexecutor.pid");
        std::os::unix::fs::symlink("/etc/passwd", &pid_file).unwrap();
        let error = Instances::read(&places, Service::TaskManager).unwrap_err().to_string();
        assert!(error.contains("belongs to another user or is no file"), "{error}");
        fs::remove_file(&pid_file).unwrap();
        fs::create_dir(&pid_file).unwrap();
        assert!(Instances::read(&places, Service::TaskManager).is_err());
    }

    #[tokio::test]
    async fn one_at_a_time_and_no_lock_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::acquire(&places(dir.path())).await.unwrap();
        let path = dir.path().join("millstream-me.lock");
        assert!(try_lock(&path).unwrap().is_none());
        let path_of_other = dir.path().to_owned();
        let other =
            tokio::spawn(async move { Lock::acquire(&places(&path_of_other)).await.unwrap() });
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert!(!other.is_finished());
        drop(held);
        drop(other.await.unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
