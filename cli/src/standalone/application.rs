//! The words of `standalone-job.sh`, which are Flink's.
//!
//! As in Flink, the first word that is no option begins the program's arguments, so that an option
//! of the program needs no `--` before it; one that looks like a misspelt option of ours does.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use millstream_config::options as keys;
use millstream_types::JobId;

use super::Action;
use crate::arguments::{DaemonArguments, StandaloneJobArguments};
use crate::{client_path, console};

/// The text of `--help`.
pub(super) const USAGE: &str = "\
Runs one program with a JobManager of its own on this host, which ends when the program's jobs have
ended. TaskManagers join it as they join a session: start them with taskmanager.sh.

Usage: standalone-job.sh start|start-foreground [options] [--] [arguments of the program]
       standalone-job.sh stop|stop-all [-D key=value ...]

Options:
      --jars <file>          The program; by default the only file of usrlib/ [also: --artifact]
  -p, --parallelism <n>      The parallelism of operators that set none
      --job-id <id>          The id of the first job, 32 hexadecimal digits [also: -jid]
  -j, --job-classname <name> Name of the job to run, if the program has several; it reads the
                             name with env.entry()
  -s, --fromSavepoint <path> The savepoint or retained checkpoint from which the first job starts
  -n, --allowNonRestoredState Starts although the savepoint has state that the job lacks
      --claimMode <mode>     The savepoint's owner from then on: no_claim (the user) or claim (the
                             job) [also: -cm, --restoreMode, -rm]
      --host <host>          Sets jobmanager.rpc.address and rest.address
      --webui-port <port>    Sets rest.port [also: -r]
  -D <key=value>             Sets a configuration option
  -c, --configDir <dir>      The directory of the configuration
  -h, --help                 Shows this

The exit code of start-foreground is 0 if the jobs finished or were cancelled by a user, 1 if one
failed, and 128 and the signal's number after a signal (143 after SIGTERM), which cancels them.";

/// Options that take a value, by all their names; the first is the one that errors name.
const VALUED: [&[&str]; 10] = [
    &["--jars", "--artifact"],
    &["--parallelism", "-p"],
    &["--job-id", "-jid"],
    &["--job-classname", "-j"],
    &["--host"],
    &["--webui-port", "-r"],
    &["-D"],
    &["--configDir", "-c"],
    &["--fromSavepoint", "-s"],
    &["--claimMode", "-cm", "--restoreMode", "-rm"],
];

/// The options on the command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ApplicationOptions {
    jars: Option<String>,
    parallelism: Option<u32>,
    job: Option<JobId>,
    entry: Option<String>,
    pub(super) host: Option<String>,
    pub(super) webui_port: Option<String>,
    pub(super) properties: Vec<String>,
    pub(super) conf_dir: Option<String>,
    arguments: Vec<String>,
}

/// Reads the words after the script's name; nothing if they ask for help.
pub(super) fn parse(words: &[OsString]) -> Result<Option<(Action, ApplicationOptions)>> {
    let text = |word: &OsString| {
        word.to_str().map(str::to_owned).ok_or_else(|| anyhow!("{word:?} is not UTF-8 text"))
    };
    let words: Vec<String> = words.iter().map(text).collect::<Result<_>>()?;
    let mut words = words.into_iter();
    let action = match words.next().as_deref() {
        Some("start") => Action::Start,
        Some("start-foreground") => Action::StartForeground,
        Some("stop") => Action::Stop,
        Some("stop-all") => Action::StopAll,
        Some("-h" | "--help") => return Ok(None),
        Some(other) => bail!(
            "unknown action {other:?}: expected start, start-foreground, stop or stop-all; --help \
             says more"
        ),
        None => bail!("expected start, start-foreground, stop or stop-all; --help says more"),
    };
    let mut options = ApplicationOptions::default();
    while let Some(word) = words.next() {
        let (name, attached) = split(&word);
        let known = VALUED.iter().find(|names| names.contains(&name)).map(|names| names[0]);
        match (known, word.as_str()) {
            (Some(option), _) => {
                let value = attached.map(str::to_owned).or_else(|| words.next());
                let value = value.with_context(|| format!("{name} needs a value"))?;
                options.set(option, name, value)?;
            }
            (None, "-h" | "--help") => return Ok(None),
            (None, "--allowNonRestoredState" | "-n") => {
                let key = keys::EXECUTION_STATE_RECOVERY_IGNORE_UNCLAIMED_STATE.key();
                options.property(key, "true");
            }
            (None, "--") => {
                options.arguments.extend(words);
                break;
            }
            (None, _) => {
                refuse_misspelt(name)?;
                options.arguments.push(word);
                options.arguments.extend(words);
                break;
            }
        }
    }
    if matches!(action, Action::Stop | Action::StopAll)
        && let Some(word) = options.arguments.first()
    {
        bail!("stop takes only -D and --configDir, but {word:?} was given");
    }
    Ok(Some((action, options)))
}

/// The name of an option, and the value that is written in the same word.
fn split(word: &str) -> (&str, Option<&str>) {
    if let Some(property) = word.strip_prefix("-D").filter(|property| !property.is_empty()) {
        return ("-D", Some(property));
    }
    match word.split_once('=') {
        Some((name, value)) if name.starts_with("--") => (name, Some(value)),
        _ => (word, None),
    }
}

fn refuse_misspelt(name: &str) -> Result<()> {
    let ours = VALUED.iter().flat_map(|names| names.iter());
    let near = |ours: &&&str| {
        name.len() > 4
            && ours.len() > 4
            && distance(&name.to_lowercase(), &ours.to_lowercase()) <= 2
    };
    match ours.into_iter().find(near) {
        None => Ok(()),
        Some(ours) => bail!(
            "unknown option {name}: did you mean {ours}? If it is for the program, write -- before \
             it"
        ),
    }
}

/// The edit distance: letters to insert, delete or replace to turn one word into the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

impl ApplicationOptions {
    fn set(&mut self, option: &str, name: &str, value: String) -> Result<()> {
        if value.is_empty() {
            bail!("{name} needs a value");
        }
        match option {
            "--jars" => self.jars = Some(local_file(name, value)?),
            "--parallelism" => {
                let number = value.parse().ok().filter(|number| *number > 0);
                let number =
                    number.with_context(|| format!("{name} is {value:?}: expected 1 or more"))?;
                self.parallelism = Some(number);
            }
            "--job-id" => {
                let id = value.parse().with_context(|| format!("{name} is {value:?}"))?;
                self.job = Some(id);
            }
            "--job-classname" => {
                if value.contains('.') {
                    console::warn(format_args!(
                        "{name} {value}: a program has no Java classes; --jars names the program, \
                         which reads this name with env.entry()"
                    ));
                }
                self.entry = Some(value);
            }
            "--host" => self.host = Some(value),
            "--webui-port" => self.webui_port = Some(value),
            "-D" => self.properties.push(value),
            "--configDir" => self.conf_dir = Some(value),
            "--fromSavepoint" => {
                let path = client_path::absolute(&value)?;
                self.property(keys::EXECUTION_STATE_RECOVERY_PATH.key(), &path);
            }
            "--claimMode" => {
                let mode = value.to_uppercase();
                self.property(keys::EXECUTION_STATE_RECOVERY_CLAIM_MODE.key(), &mode);
            }
            _ => bail!("{name} is not known"),
        }
        Ok(())
    }

    fn property(&mut self, key: &str, value: &str) {
        self.properties.push(format!("{key}={value}"));
    }

    /// The daemon's arguments; the program exists and can run.
    pub(super) fn for_daemon(self, usrlib: &Path) -> Result<Told> {
        let artifact = match self.jars {
            Some(path) => std::path::absolute(&path).with_context(|| path.clone())?,
            None => only_program(usrlib)?,
        };
        millstream_launcher::inspect_artifact(&artifact)
            .with_context(|| format!("cannot run {}", artifact.display()))?;
        let Self { parallelism, job, entry, arguments, .. } = self;
        Ok(Told { artifact, parallelism, job, entry, arguments })
    }
}

fn local_file(option: &str, value: String) -> Result<String> {
    if value.contains([',', ';']) && !Path::new(&value).exists() {
        bail!("{option} {value}: a program is one file");
    }
    match value.split_once("://") {
        None => Ok(value),
        Some(("file", path)) if path.starts_with('/') => Ok(path.to_owned()),
        Some(_) => bail!("{option} {value}: expected a file of this host"),
    }
}

/// The one executable of `usrlib`.
fn only_program(usrlib: &Path) -> Result<PathBuf> {
    let shown = usrlib.display();
    let entries = fs::read_dir(usrlib).with_context(|| {
        format!("no program was named: name one with --jars, or put it alone into {shown}")
    })?;
    let is_program = |path: &PathBuf| {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let runs = |data: fs::Metadata| data.is_file() && data.permissions().mode() & 0o111 != 0;
        !hidden && fs::metadata(path).is_ok_and(runs)
    };
    let mut programs: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(is_program).collect();
    programs.sort();
    match programs.as_slice() {
        [program] => Ok(program.clone()),
        [] => bail!("there is no executable file in {shown}: put the program there, or use --jars"),
        [first, second, ..] => bail!(
            "{shown} holds several programs, such as {} and {}: name one with --jars",
            first.display(),
            second.display()
        ),
    }
}

/// An application as the daemon is told of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    artifact: PathBuf,
    parallelism: Option<u32>,
    job: Option<JobId>,
    entry: Option<String>,
    arguments: Vec<String>,
}

impl Told {
    /// For a daemon in this process.
    pub(super) fn arguments(self, daemon: DaemonArguments) -> StandaloneJobArguments {
        let Self { artifact, parallelism, job, entry, arguments } = self;
        StandaloneJobArguments { daemon, artifact, job_id: job, entry, parallelism, arguments }
    }

    /// For the command line of another process.
    pub(super) fn words(self) -> Result<Vec<String>> {
        let artifact = self.artifact.to_str().map(str::to_owned);
        let artifact =
            artifact.with_context(|| format!("{} is not UTF-8", self.artifact.display()))?;
        let mut words = vec!["--artifact".to_owned(), artifact];
        words.extend(self.parallelism.map(|number| format!("--parallelism={number}")));
        words.extend(self.job.map(|job| format!("--job-id={job}")));
        words.extend(self.entry.map(|entry| format!("--entry={entry}")));
        words.push("--".to_owned());
        words.extend(self.arguments);
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Option<(Action, ApplicationOptions)>> {
        parse(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    fn options(line: &str) -> ApplicationOptions {
        parsed(line).unwrap().unwrap().1
    }

    fn complaint(line: &str) -> String {
        format!("{:#}", parsed(line).unwrap_err())
    }

    #[test]
    fn flinks_options_are_read_until_the_first_word_of_the_program() {
        let id = "00000000000000000000000000000007";
        let line = format!(
            "start --job-classname counts -jid {id} --jars job -p 4 --host h --webui-port=9 -Da=b \
             -D c=d --configDir /conf --input x --parallelism 3"
        );
        let read = options(&line);
        assert_eq!(read.entry.as_deref(), Some("counts"));
        assert_eq!(read.job.map(|job| job.to_string()).as_deref(), Some(id));
        assert_eq!((read.jars.as_deref(), read.parallelism), (Some("job"), Some(4)));
        assert_eq!((read.host.as_deref(), read.webui_port.as_deref()), (Some("h"), Some("9")));
        assert_eq!(read.properties, ["a=b", "c=d"]);
        assert_eq!(read.conf_dir.as_deref(), Some("/conf"));
        assert_eq!(read.arguments, ["--input", "x", "--parallelism", "3"]);
        assert_eq!(options("start -- -p 3").arguments, ["-p", "3"]);
        assert_eq!(options("start-foreground file -D x=y").arguments, ["file", "-D", "x=y"]);
        let restored = options("start -s /x -n -rm claim job -s y -n");
        let expected = [
            "execution.state-recovery.path=/x",
            "execution.state-recovery.ignore-unclaimed-state=true",
            "execution.state-recovery.claim-mode=CLAIM",
        ];
        assert_eq!(restored.properties, expected);
        assert_eq!(restored.arguments, ["job", "-s", "y", "-n"]);
        assert!(parsed("start --help").unwrap().is_none() && parsed("-h").unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for (line, part) in [
            ("fly", "unknown action \"fly\""),
            ("start --fromSavepoint", "--fromSavepoint needs a value"),
            ("start --claimMod CLAIM", "did you mean --claimMode?"),
            ("start --paralelism 4", "did you mean --parallelism?"),
            ("start --Jars x", "did you mean --jars?"),
            ("start --job-idd 4", "did you mean --job-id?"),
            ("start -p 0", "expected 1 or more"),
            ("start -p", "-p needs a value"),
            ("start --jars=", "--jars needs a value"),
            ("start --job-id xyz", "--job-id is \"xyz\""),
            ("start --jars a,b", "a program is one file"),
            ("start --jars hdfs://n/x", "expected a file of this host"),
            ("stop now", "stop takes only"),
        ] {
            let error = complaint(line);
            assert!(error.contains(part), "{line}: {error}");
        }
        let nothing = format!("{:#}", parse(&[]).unwrap_err());
        assert!(nothing.contains("expected start"), "{nothing}");
    }

    #[test]
    fn the_only_program_of_usrlib_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, mode: u32| {
            let path = dir.path().join(name);
            fs::write(&path, "x").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let complaint = || format!("{:#}", only_program(dir.path()).unwrap_err());
        assert!(complaint().contains("there is no executable file"), "{}", complaint());
        let job = put("job", 0o755);
        put("words.txt", 0o644);
        put(".hidden", 0o755);
        assert_eq!(only_program(dir.path()).unwrap(), job);
        put("other", 0o755);
        assert!(complaint().contains("holds several programs"), "{}", complaint());
        let missing = format!("{:#}", only_program(Path::new("/nowhere")).unwrap_err());
        assert!(missing.contains("name one with --jars"), "{missing}");
    }
}
