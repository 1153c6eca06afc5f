//! Where the files of a standalone cluster lie, and how long its scripts wait.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use millstream_config::{CONF_DIR_VARIABLE, Configuration, HOME_VARIABLE, Loaded, Loader, options};

use crate::drivers;

/// The installation that a script belongs to.
#[derive(Debug)]
pub(super) struct Home {
    dir: PathBuf,
    pub(super) conf_dir: PathBuf,
    /// A source tree, where cargo puts the engine and `target` takes the logs.
    checkout: bool,
}

/// The files and deadlines of one command.
#[derive(Debug)]
pub(super) struct Places {
    /// Where the scripts lie, on other hosts too.
    pub(super) bin_dir: PathBuf,
    pub(super) conf_dir: PathBuf,
    /// Where a program is looked for that no option names.
    pub(super) usrlib: PathBuf,
    pub(super) log_dir: PathBuf,
    pub(super) pid_dir: PathBuf,
    /// Distinguishes the clusters of a machine, by default the user's name.
    pub(super) ident: String,
    pub(super) hostname: String,
    pub(super) start_timeout: Duration,
    pub(super) stop_timeout: Duration,
    /// Number of old log files that are kept of each kind.
    pub(super) logs_max: usize,
    pub(super) ssh_options: Vec<String>,
}

fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

impl Home {
    /// Takes directories from the scripts' environment variables, else from the engine's own place.
    pub(super) fn find() -> Result<Self> {
        let dir = match variable(HOME_VARIABLE) {
            Some(dir) => absolute(dir.into())?,
            None => {
                let engine = env::current_exe().context("the engine does not know its place")?;
                engine.ancestors().nth(2).unwrap_or(Path::new("/")).to_owned()
            }
        };
        let checkout = dir.join("Cargo.toml").is_file();
        let conf_dir = match variable(CONF_DIR_VARIABLE) {
            Some(dir) => absolute(dir.into())?,
            None if checkout => dir.join("scripts/conf"),
            None => dir.join("conf"),
        };
        Ok(Self { dir, conf_dir, checkout })
    }

    /// The same installation with another configuration.
    pub(super) fn with_conf_dir(&self, dir: &str) -> Result<Self> {
        let Self { dir: home, checkout, .. } = self;
        Ok(Self { dir: home.clone(), conf_dir: absolute(dir.into())?, checkout: *checkout })
    }

    /// The loader of this installation, with the options of a command line.
    pub(super) fn loader(&self, properties: &[String]) -> Loader {
        Loader::from_process(drivers::options())
            .with_conf_dir(&self.conf_dir)
            .with_dynamic_properties(properties)
    }

    /// Loads the configuration; daemons log its warnings.
    pub(super) fn load(&self, properties: &[String]) -> Result<Loaded> {
        Ok(self.loader(properties).load()?)
    }

    /// The places that `configuration` and the environment name.
    pub(super) fn places(&self, configuration: &Configuration) -> Result<Places> {
        let target = || match variable("CARGO_TARGET_DIR") {
            Some(dir) => absolute(dir.into()),
            None => Ok(self.dir.join("target")),
        };
        let log_dir = match variable("MILLSTREAM_LOG_DIR").map(PathBuf::from) {
            Some(dir) => dir,
            None => match configuration.get(&options::ENV_LOG_DIR)? {
                Some(dir) => dir,
                None if self.checkout => target()?.join("log"),
                None => self.dir.join("log"),
            },
        };
        let pid_dir = match variable("MILLSTREAM_PID_DIR") {
            Some(dir) => dir.into(),
            None => configuration.get(&options::ENV_PID_DIR)?,
        };
        let ssh_options = configuration.get(&options::ENV_SSH_OPTS)?.unwrap_or_default();
        Ok(Places {
            bin_dir: self.dir.join(if self.checkout { "scripts" } else { "bin" }),
            conf_dir: self.conf_dir.clone(),
            usrlib: self.dir.join("usrlib"),
            log_dir: absolute(log_dir)?,
            pid_dir: absolute(pid_dir)?,
            ident: ident()?,
            hostname: hostname(),
            start_timeout: seconds("MILLSTREAM_START_TIMEOUT", 60)?,
            stop_timeout: seconds("MILLSTREAM_STOP_TIMEOUT", 10)?,
            logs_max: configuration.get(&options::ENV_LOG_MAX)? as usize,
            ssh_options: ssh_options.split_whitespace().map(str::to_owned).collect(),
        })
    }
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).with_context(|| {
        format!("{} cannot be made absolute: the working directory is gone", path.display())
    })
}

fn seconds(name: &str, default: u64) -> Result<Duration> {
    let Some(value) = variable(name) else { return Ok(Duration::from_secs(default)) };
    let number = value.to_str().and_then(|text| text.trim().parse::<u32>().ok());
    let Some(number) = number else {
        bail!("{name} is {value:?}: expected a number of seconds");
    };
    Ok(Duration::from_secs(number.into()))
}

/// A part of file names: `MILLSTREAM_IDENT_STRING`, else the user's name, else the user's number.
fn ident() -> Result<String> {
    let names = ["MILLSTREAM_IDENT_STRING", "USER", "LOGNAME"];
    let named = names.into_iter().find_map(|name| Some((name, variable(name)?)));
    let Some((name, value)) = named else {
        // SAFETY: has no arguments and always succeeds.
        let uid = unsafe { libc::geteuid() };
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        return Ok(user_name(&users, uid));
    };
    match value.to_str() {
        Some(text) if !text.contains(|c: char| c == '/' || c.is_control()) => Ok(text.to_owned()),
        _ => bail!("{name} is {value:?}, which cannot be part of a file's name"),
    }
}

/// The name in `users`, the text of `/etc/passwd`; the number for a user that has none, as in
/// containers.
fn user_name(users: &str, uid: u32) -> String {
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    name.filter(|name| !name.is_empty()).map_or_else(|| uid.to_string(), str::to_owned)
}

fn hostname() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| !c.is_control() && *c != '/').collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_a_name_is_a_number() {
        let users = "root:x:0:0::/root:/bin/sh\n:x:7:7::/:/bin/sh\nalice:x:1000:1::/:/bin/sh\n";
        for (uid, name) in [(0, "root"), (1000, "alice"), (7, "7"), (54_321, "54321")] {
            assert_eq!(user_name(users, uid), name);
        }
        assert_eq!(user_name("", 0), "0");
    }
}
