//! The file that names the sessions of a user, so that later commands find them. It has the format
//! of Flink's file under another name, so that the two never meet.
//!
//! The newest session comes first. Each entry holds two facts that a later command cannot derive:
//! the directory where its client's secret is staged, and the ResourceManager that it belongs to. A
//! session that is over is taken out, and the one before it is the last again.

use std::fmt;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use millstream_config::Configuration;
use millstream_hadoop_config::user_name;
use millstream_rm_yarn::ids::ApplicationId;
use millstream_rm_yarn::options;

use crate::console;

const APPLICATION: &str = "applicationID";
const STAGING: &str = "stagingDirectory";
const RESOURCE_MANAGER: &str = "resourceManager";
/// Limit on remembered sessions.
const SESSIONS_MAX: usize = 16;

/// A session: its id and the facts in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) id: ApplicationId,
    /// Where it was staged, if that is known.
    pub(super) staging: Option<String>,
    /// The addresses of its ResourceManagers, separated by commas.
    pub(super) resource_manager: Option<String>,
}

impl Session {
    /// A session of which nothing else is known.
    pub(super) fn of(id: ApplicationId) -> Self {
        Self { id, staging: None, resource_manager: None }
    }

    /// Whether it runs on the cluster of one of these ResourceManagers.
    fn is_at(&self, addresses: &[String]) -> bool {
        let own = self.resource_manager.as_deref().unwrap_or_default();
        own.split(',').any(|address| addresses.iter().any(|other| other == address))
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PropertiesFile(PathBuf);

impl PropertiesFile {
    /// Where the configuration puts it.
    pub(super) fn of(configuration: &Configuration) -> Result<Self> {
        let location = configuration.get(&options::YARN_PROPERTIES_FILE_LOCATION)?;
        let directory = location.unwrap_or_else(std::env::temp_dir);
        Ok(Self(directory.join(format!(".millstream-yarn-properties-{}", user_name()))))
    }

    /// The newest session of the cluster of these ResourceManagers, or else the newest; none when
    /// there is no file. The same ResourceManager may have two names, so the addresses only prefer.
    pub(super) fn last(&self, addresses: &[String]) -> Result<Option<Session>> {
        let sessions = self.read()?;
        let near = sessions.iter().find(|session| session.is_at(addresses));
        Ok(near.or(sessions.first()).cloned())
    }

    /// The entry of this session; its id alone if the file has none.
    pub(super) fn find(&self, id: ApplicationId) -> Session {
        // A damaged file matters to no command that does not need it.
        let sessions = self.read().unwrap_or_default();
        sessions.into_iter().find(|session| session.id == id).unwrap_or(Session::of(id))
    }

    /// Its sessions, the newest first.
    fn read(&self) -> Result<Vec<Session>> {
        let text = match self.text() {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("failed to read {self}")),
        };
        let mut sessions: Vec<Session> = Vec::new();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let value = value.trim();
            match (key.trim(), sessions.last_mut()) {
                (APPLICATION, _) => {
                    let id = value.parse().with_context(|| format!("{self}: remove it"))?;
                    sessions.push(Session::of(id));
                }
                (STAGING, Some(session)) => session.staging = Some(value.to_owned()),
                (RESOURCE_MANAGER, Some(session)) => {
                    session.resource_manager = Some(value.to_owned());
                }
                _ => {}
            }
        }
        if sessions.is_empty() {
            bail!("{self} names no session ({APPLICATION}=application_...): remove it");
        }
        Ok(sessions)
    }

    /// The content of the file. All users may write into the usual directory, and another user's
    /// file must not decide where our programs run.
    fn text(&self) -> std::io::Result<String> {
        let status = std::fs::metadata(&self.0)?;
        let (owner, own) = (status.uid(), std::fs::metadata("/proc/self")?.uid());
        if !is_trusted(owner, own) {
            console::warn(format_args!(
                "{self} is ignored: it belongs to user {owner} and not to {own}; {} puts it \
                 elsewhere",
                options::YARN_PROPERTIES_FILE_LOCATION.key()
            ));
            return Err(ErrorKind::NotFound.into());
        }
        std::fs::read_to_string(&self.0)
    }

    /// Names a session as the last one. A session that runs matters more than that commands find
    /// it by themselves, so a failure is only told.
    pub(super) fn remember(&self, session: &Session) {
        let mut sessions = self.read().unwrap_or_default();
        sessions.retain(|other| other.id != session.id);
        sessions.insert(0, session.clone());
        sessions.truncate(SESSIONS_MAX);
        if let Err(error) = self.write(&sessions) {
            let (id, key) = (session.id, options::YARN_APPLICATION_ID.key());
            console::warn(format_args!(
                "later commands do not find {id} by themselves, name it with -D{key}={id}: \
                 {error:#}"
            ));
        }
    }

    /// Takes out a session that is over; the last one after that, if it was the last.
    pub(super) fn forget(&self, session: ApplicationId) -> Option<ApplicationId> {
        let mut sessions = self.read().ok()?;
        if sessions.iter().all(|other| other.id != session) {
            return None;
        }
        let was_last = sessions.first().is_some_and(|first| first.id == session);
        sessions.retain(|other| other.id != session);
        let written = match sessions.is_empty() {
            true => {
                std::fs::remove_file(&self.0).with_context(|| format!("failed to remove {self}"))
            }
            false => self.write(&sessions),
        };
        if let Err(error) = written {
            console::warn(format_args!("{session} is over, but: {error:#}"));
        }
        sessions.first().filter(|_| was_last).map(|earlier| earlier.id)
    }

    fn write(&self, sessions: &[Session]) -> Result<()> {
        let mut text = "# sessions on YARN, the newest first\n".to_owned();
        for session in sessions {
            text += &format!("{APPLICATION}={}\n", session.id);
            let known =
                [(STAGING, &session.staging), (RESOURCE_MANAGER, &session.resource_manager)];
            for (key, value) in known {
                text += &value.as_ref().map_or_else(String::new, |it| format!("{key}={it}\n"));
            }
        }
        // Written beside and renamed: all users share the directory, and links are not followed.
        let partial = self.0.with_extension(std::process::id().to_string());
        let write = || {
            use std::io::Write as _;
            use std::os::unix::fs::OpenOptionsExt as _;
            let mut options = std::fs::File::options();
            options.write(true).create_new(true).mode(0o600);
            options.open(&partial)?.write_all(text.as_bytes())?;
            std::fs::rename(&partial, &self.0)
        };
        write().with_context(|| format!("failed to write {self}"))
    }
}

/// Whether this user may be led by a file of that owner: it is the same, or root.
fn is_trusted(owner: u32, own: u32) -> bool {
    owner == own || owner == 0
}

impl fmt::Display for PropertiesFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: u32, staging: Option<&str>, resource_manager: &str) -> Session {
        Session {
            id: format!("application_1_{number:04}").parse().unwrap(),
            staging: staging.map(str::to_owned),
            resource_manager: Some(resource_manager.to_owned()),
        }
    }

    fn file() -> (tempfile::TempDir, PropertiesFile) {
        let directory = tempfile::tempdir().unwrap();
        let location = directory.path().display().to_string();
        let configuration =
            Configuration::from_pairs([("yarn.properties-file.location", location)]).unwrap();
        let file = PropertiesFile::of(&configuration).unwrap();
        (directory, file)
    }

    #[test]
    fn a_session_is_remembered_until_it_is_forgotten() {
        let (_directory, file) = file();
        assert_eq!(file.last(&[]).unwrap(), None);
        let first = session(1, None, "rm:8032");
        let second = session(2, Some("hdfs://nn:8020/apps/a=b"), "rm:8032");
        file.remember(&first);
        file.remember(&second);
        assert_eq!(file.last(&[]).unwrap(), Some(second.clone()));
        assert_eq!(file.find(second.id), second);
        assert_eq!(file.find("application_7_0007".parse().unwrap()).staging, None);
        // The one before is the last again.
        assert_eq!(file.forget(second.id), Some(first.id));
        assert_eq!(file.last(&[]).unwrap(), Some(first.clone()));
        assert_eq!(file.forget(first.id), None);
        assert_eq!(file.last(&[]).unwrap(), None);
    }

    #[test]
    fn an_earlier_session_goes_without_a_word() {
        let (_directory, file) = file();
        let (first, second) = (session(1, None, "rm:8032"), session(2, None, "rm:8032"));
        file.remember(&first);
        file.remember(&second);
        assert_eq!(file.forget(first.id), None);
        assert_eq!(file.forget(first.id), None);
        assert_eq!(file.last(&[]).unwrap(), Some(second));
    }

    #[test]
    fn clusters_that_share_the_file_find_their_own_sessions() {
        let (_directory, file) = file();
        let (one, two) = (session(1, None, "a:8032,b:8032"), session(2, None, "c:8032"));
        file.remember(&one);
        file.remember(&two);
        let at = |address: &str| file.last(&[address.to_owned()]).unwrap().unwrap();
        assert_eq!((at("b:8032"), at("c:8032")), (one, two.clone()));
        assert_eq!(at("d:8032"), two, "a ResourceManager may have another name");
    }

    #[test]
    fn a_damaged_file_is_told_and_an_old_one_is_read() {
        let (_directory, file) = file();
        std::fs::write(&file.0, "x=y\n").unwrap();
        assert!(file.last(&[]).unwrap_err().to_string().contains("names no session"));
        std::fs::write(&file.0, "applicationID=app_1\n").unwrap();
        assert!(file.last(&[]).unwrap_err().to_string().contains("remove it"));
        std::fs::write(&file.0, "# the last\napplicationID=application_1_0001\n").unwrap();
        let id = "application_1_0001".parse().unwrap();
        assert_eq!(file.last(&[]).unwrap(), Some(Session::of(id)));
    }

    #[test]
    fn anothers_file_names_no_session_of_ours() {
        assert!(is_trusted(1000, 1000) && is_trusted(0, 1000));
        assert!(!is_trusted(1001, 1000) && !is_trusted(1001, 0));
    }

    #[test]
    fn a_place_that_cannot_be_written_ends_nothing() {
        let location = "/proc/no-such-directory";
        let pairs = [("yarn.properties-file.location", location)];
        let file = PropertiesFile::of(&Configuration::from_pairs(pairs).unwrap()).unwrap();
        file.remember(&session(1, None, "rm:8032"));
        assert_eq!(file.last(&[]).unwrap(), None);
    }
}
