//! The options of the verbs around savepoints and checkpoints.
//!
//! The directory of `stop -p` and `cancel -s` may be left out. As in Flink, the word after such an
//! option is its value: if no other word follows, it is the job's id and there is no directory.

use clap::{Args, Subcommand};

use super::ClusterArguments;

/// Options of `run` that say from which state a job starts.
#[derive(Debug, Default, Args)]
pub(crate) struct RecoveryArguments {
    /// The savepoint or retained checkpoint from which the job starts: its directory.
    #[arg(short = 's', long = "fromSavepoint", value_name = "path")]
    pub(crate) from_savepoint: Option<String>,
    /// Starts although the savepoint has state of operators that the job lacks.
    #[arg(short = 'n', long = "allowNonRestoredState")]
    pub(crate) allow_non_restored_state: bool,
    /// The owner of the savepoint from then on (-cm): the user (no_claim) or the job (claim).
    #[arg(long = "claimMode", alias = "restoreMode", value_name = "claim|no_claim")]
    pub(crate) claim_mode: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArguments {
    /// The job's id.
    #[arg(value_name = "job id")]
    pub(crate) job: Option<String>,
    /// Triggers a savepoint first, and cancels the job when it is complete. Deprecated: use stop.
    #[arg(short = 's', long = "withSavepoint", value_name = "directory", num_args = 0..=1)]
    pub(crate) with_savepoint: Option<Option<String>>,
    #[command(flatten)]
    pub(crate) format: FormatArguments,
    #[command(flatten)]
    pub(crate) cluster: ClusterArguments,
}

#[derive(Debug, Args)]
pub(crate) struct StopArguments {
    /// The job's id.
    #[arg(value_name = "job id")]
    pub(crate) job: Option<String>,
    /// The directory of the savepoint, instead of execution.checkpointing.savepoint-dir.
    #[arg(short = 'p', long = "savepointPath", value_name = "directory", num_args = 0..=1)]
    pub(crate) savepoint_path: Option<Option<String>>,
    /// Emits the end of time before the savepoint: all windows and timers fire. Not for a job that
    /// is to be resumed.
    #[arg(short = 'd', long)]
    pub(crate) drain: bool,
    /// Returns once the savepoint is triggered (-detached).
    #[arg(long)]
    pub(crate) detached: bool,
    #[command(flatten)]
    pub(crate) format: FormatArguments,
    #[command(flatten)]
    pub(crate) cluster: ClusterArguments,
}

#[derive(Debug, Args)]
pub(crate) struct SavepointArguments {
    /// The job's id, and the directory of the savepoint if it is not
    /// execution.checkpointing.savepoint-dir.
    #[arg(value_names = ["job id", "directory"], num_args = 0..)]
    pub(crate) words: Vec<String>,
    /// Deletes the savepoint at this path.
    #[arg(short = 'd', long, value_name = "path")]
    pub(crate) dispose: Option<String>,
    /// Accepted for old scripts: a savepoint is deleted without its program.
    #[arg(short = 'j', long = "jarfile", hide = true)]
    pub(crate) jar: Option<String>,
    /// Returns once the savepoint is triggered (-detached).
    #[arg(long)]
    pub(crate) detached: bool,
    #[command(flatten)]
    pub(crate) format: FormatArguments,
    #[command(flatten)]
    pub(crate) cluster: ClusterArguments,
}

/// The format of savepoints. There is one, which has both of Flink's names.
#[derive(Debug, Default, Args)]
pub(crate) struct FormatArguments {
    /// The format of the savepoint (-type); both names mean the same one.
    #[arg(
        id = "savepoint type",
        long = "type",
        value_name = "canonical|native",
        value_parser = format_name
    )]
    name: Option<&'static str>,
}

impl FormatArguments {
    /// Flink's name of the format.
    pub(crate) fn name(&self) -> &'static str {
        self.name.unwrap_or("CANONICAL")
    }
}

fn format_name(text: &str) -> Result<&'static str, String> {
    let known = ["CANONICAL", "NATIVE"].into_iter().find(|name| name.eq_ignore_ascii_case(text));
    known.ok_or_else(|| "expected CANONICAL or NATIVE".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct CheckpointArguments {
    /// The job's id.
    #[arg(value_name = "job id")]
    pub(crate) job: Option<String>,
    /// Takes a full checkpoint (-full), even if the job's are incremental.
    #[arg(long)]
    pub(crate) full: bool,
    #[command(flatten)]
    pub(crate) cluster: ClusterArguments,
}

#[derive(Debug, Args)]
pub(crate) struct StateArguments {
    #[command(subcommand)]
    pub(crate) verb: StateVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StateVerb {
    /// Shows the operators and states of a savepoint or retained checkpoint.
    Show {
        /// Its directory, or the _metadata file in it.
        path: String,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::Parser as _;

    use crate::arguments::{CommandLine, StateVerb, Verb, normalized};

    fn parse(line: &str) -> Result<Verb, clap::Error> {
        let words = line.split_whitespace().map(OsString::from);
        CommandLine::try_parse_from(normalized(words)).map(|line| line.verb.unwrap())
    }

    #[test]
    fn run_takes_a_savepoint() {
        for line in [
            "millstream run -s /s -n -cm claim job -s x -n",
            "millstream run -n -rm claim -s /s job -s x -n",
            "millstream run --fromSavepoint=/s --allowNonRestoredState --claimMode claim job -s x \
             -n",
            "millstream run-application --fromSavepoint /s -n --restoreMode claim job -s x -n",
        ] {
            let (Verb::Run(run) | Verb::RunApplication(run)) = parse(line).unwrap() else {
                panic!("not run")
            };
            assert_eq!(run.recovery.from_savepoint.as_deref(), Some("/s"), "{line}");
            assert_eq!(run.recovery.claim_mode.as_deref(), Some("claim"), "{line}");
            assert!(run.recovery.allow_non_restored_state, "{line}");
            assert_eq!(run.program.program, ["job", "-s", "x", "-n"], "{line}");
        }
    }

    #[test]
    fn savepoint_takes_flinks_options() {
        let line = "millstream savepoint -m h:1 -type native 00ff /dir -detached";
        let Verb::Savepoint(savepoint) = parse(line).unwrap() else { panic!("not savepoint") };
        assert_eq!(savepoint.words, ["00ff", "/dir"]);
        assert_eq!((savepoint.detached, savepoint.format.name()), (true, "NATIVE"));
        assert_eq!(savepoint.cluster.jobmanager.as_deref(), Some("h:1"));
        for line in ["millstream savepoint -d /s -j x", "millstream savepoint --dispose /s"] {
            let Verb::Savepoint(savepoint) = parse(line).unwrap() else { panic!("not savepoint") };
            assert_eq!(savepoint.dispose.as_deref(), Some("/s"));
            assert_eq!(savepoint.format.name(), "CANONICAL");
        }
        let error = parse("millstream savepoint -type avro 00ff").unwrap_err().to_string();
        assert!(error.contains("expected CANONICAL or NATIVE"), "{error}");
    }

    #[test]
    fn stop_and_cancel_take_a_directory_or_none() {
        let path = |text: &str| Some(Some(text.to_owned()));
        for (options, expected) in [
            ("00ff", (Some("00ff"), None)),
            ("-p /dir 00ff", (Some("00ff"), path("/dir"))),
            ("00ff -p", (Some("00ff"), Some(None))),
            ("-p 00ff", (None, path("00ff"))),
        ] {
            let line = format!("millstream stop -d -detached --type CANONICAL {options}");
            let Verb::Stop(stop) = parse(&line).unwrap() else { panic!("not stop") };
            assert!(stop.drain && stop.detached);
            assert_eq!((stop.job.as_deref(), stop.savepoint_path), expected, "{line}");
            let line = format!("millstream cancel {}", options.replace("-p", "-s"));
            let Verb::Cancel(cancel) = parse(&line).unwrap() else { panic!("not cancel") };
            assert_eq!((cancel.job.as_deref(), cancel.with_savepoint), expected, "{line}");
        }
        let line = "millstream stop --savepointPath /dir --drain 00ff -yid application_1_2";
        let Verb::Stop(stop) = parse(line).unwrap() else { panic!("not stop") };
        assert_eq!((stop.savepoint_path, stop.drain), (path("/dir"), true));
        assert_eq!(stop.cluster.yarn.application_id.as_deref(), Some("application_1_2"));
    }

    #[test]
    fn checkpoint_and_state_take_their_options() {
        let Verb::Checkpoint(checkpoint) = parse("millstream checkpoint -full 00ff").unwrap()
        else {
            panic!("not checkpoint")
        };
        assert_eq!((checkpoint.full, checkpoint.job.as_deref()), (true, Some("00ff")));
        let Verb::State(state) = parse("millstream state show /dir --json").unwrap() else {
            panic!("not state")
        };
        let StateVerb::Show { path, json } = state.verb;
        assert_eq!((path.as_str(), json), ("/dir", true));
        assert!(parse("millstream state").is_err() && parse("millstream state show").is_err());
    }
}
