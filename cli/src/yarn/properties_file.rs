//! The file that names the last session, so that later commands find it. Its form is that of
//! Flink's file, its name is not: the two never meet.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use millstream_config::{Configuration, options};
use millstream_hadoop_config::user_name;
use millstream_rm_yarn::ids::ApplicationId;

const APPLICATION: &str = "applicationID";

/// See the module.
#[derive(Debug)]
pub(crate) struct PropertiesFile(PathBuf);

impl PropertiesFile {
    /// Where the configuration puts it.
    pub(crate) fn of(configuration: &Configuration) -> Result<Self> {
        let location = configuration.get(&options::YARN_PROPERTIES_FILE_LOCATION)?;
        let directory = location.unwrap_or_else(std::env::temp_dir);
        Ok(Self(directory.join(format!(".millstream-yarn-properties-{}", user_name()))))
    }

    /// The session that it names; none when there is no file.
    pub(crate) fn read(&self) -> Result<Option<ApplicationId>> {
        let text = match std::fs::read_to_string(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("failed to read {self}")),
        };
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        let Some((_, id)) = lines.find(|(key, _)| key.trim() == APPLICATION) else {
            bail!("{self} names no session ({APPLICATION}=application_...): remove it");
        };
        let id = id.trim().parse().with_context(|| format!("{self}: remove it"))?;
        Ok(Some(id))
    }

    /// Names a session.
    pub(crate) fn write(&self, session: ApplicationId) -> Result<()> {
        let text = format!("# the last session on YARN\n{APPLICATION}={session}\n");
        // Written beside and renamed: the directory is everybody's, and links are not followed.
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

    /// Forgets a session that has ended, unless another one has taken its place.
    pub(crate) fn forget(&self, session: ApplicationId) {
        if matches!(self.read(), Ok(Some(named)) if named == session) {
            // Whoever removed it before wanted the same.
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

impl fmt::Display for PropertiesFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_remembered_until_it_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let location = directory.path().display().to_string();
        let configuration =
            Configuration::from_pairs([("yarn.properties-file.location", location)]).unwrap();
        let file = PropertiesFile::of(&configuration).unwrap();
        assert_eq!(file.read().unwrap(), None);
        let (first, second) =
            ("application_1_0001".parse().unwrap(), "application_1_0002".parse().unwrap());
        file.write(first).unwrap();
        file.write(second).unwrap();
        file.forget(first);
        assert_eq!(file.read().unwrap(), Some(second));
        file.forget(second);
        assert_eq!(file.read().unwrap(), None);
        std::fs::write(&file.0, "x=y\n").unwrap();
        assert!(file.read().unwrap_err().to_string().contains("names no session"));
    }
}
