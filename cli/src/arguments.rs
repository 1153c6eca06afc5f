//! The command line: Flink's verbs and option names.
//!
//! Two habits of Flink's parser are kept that clap does not know: `-sae` and `-yid` are single
//! options of several letters, and all words after the artifact belong to the program.

mod state;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use millstream_types::JobId;

pub(crate) use state::{
    CancelArguments, CheckpointArguments, RecoveryArguments, SavepointArguments, StateArguments,
    StateVerb, StopArguments,
};

/// The text of `--version`.
pub(crate) fn version() -> String {
    let commit = option_env!("MILLSTREAM_COMMIT").unwrap_or("unknown");
    format!("Version: {}, Commit ID: {commit}", env!("CARGO_PKG_VERSION"))
}

/// Runs and watches jobs on a Millstream cluster.
#[derive(Debug, Parser)]
#[command(name = "millstream", disable_version_flag = true, disable_help_subcommand = true)]
pub(crate) struct CommandLine {
    /// Shows version and commit.
    #[arg(short = 'v', long)]
    pub(crate) version: bool,
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// Today's equivalents of the options of old scripts.
const OLD_OPTIONS: &str = "\
Options of Flink's old command line for YARN are taken too. Write today:
  -m yarn-cluster   -t yarn-per-job
  -yid ID           -t yarn-session -Dyarn.application.id=ID
  -yjm MB, -ytm MB  -Djobmanager.memory.process.size=MBm, -Dtaskmanager.memory.process.size=MBm
  -ys N             -Dtaskmanager.numberOfTaskSlots=N
  -ynm, -yqu, -yat  -Dyarn.application.name=, -Dyarn.application.queue=, -Dyarn.application.type=
  -ynl LABEL        -Dyarn.application.node-label=LABEL
  -yt PATH          -Dyarn.ship-files=PATH
  -yD KEY=VALUE     -DKEY=VALUE
  -yd               -d
  -yq               yarn-session.sh -q
  -yj, -yn, -yst, -yz  have no effect";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Runs a program on the cluster.
    #[command(after_help = OLD_OPTIONS)]
    Run(RunArguments),
    /// Runs a program in a cluster of its own, where its build function runs too.
    RunApplication(RunArguments),
    /// Shows the plan of a program without running it.
    Info(InfoArguments),
    /// Lists jobs: running and scheduled ones, if no option says otherwise.
    List(ListArguments),
    /// Cancels a running job.
    Cancel(CancelArguments),
    /// Stops a running job with a savepoint.
    Stop(StopArguments),
    /// Triggers a savepoint of a running job, or disposes of one.
    Savepoint(SavepointArguments),
    /// Triggers a checkpoint of a running job.
    Checkpoint(CheckpointArguments),
    /// Shows the state of savepoints and checkpoints, without a cluster.
    State(StateArguments),
    /// Starts a session on YARN; yarn-session.sh uses it.
    #[command(name = "yarn-session", hide = true)]
    YarnSession(YarnSessionArguments),
    /// Runs a JobManager; the scripts use it.
    #[command(name = "jobmanager", hide = true)]
    JobManager(DaemonArguments),
    /// Runs a TaskManager; the scripts use it.
    #[command(name = "taskmanager", hide = true)]
    TaskManager(DaemonArguments),
    /// Runs a JobManager for one program; standalone-job.sh uses it.
    #[command(name = "standalone-job", hide = true)]
    StandaloneJob(StandaloneJobArguments),
}

/// Options that select a cluster.
#[derive(Debug, Default, Args)]
pub(crate) struct ClusterArguments {
    /// The JobManager's REST address, instead of rest.address and rest.port.
    #[arg(short = 'm', long, value_name = "host:port")]
    pub(crate) jobmanager: Option<String>,
    /// Sets a configuration option for this command.
    #[arg(short = 'D', value_name = "key=value")]
    pub(crate) properties: Vec<String>,
    /// Where to run: remote (a cluster that runs already), yarn-session, yarn-per-job or
    /// yarn-application.
    #[arg(short = 't', long, visible_short_alias = 'e', alias = "executor")]
    pub(crate) target: Option<String>,
    #[command(flatten)]
    pub(crate) yarn: YarnArguments,
}

/// The options of Flink's old command line for YARN; `-D` says the same.
#[derive(Debug, Default, Args)]
pub(crate) struct YarnArguments {
    #[arg(id = "yarnapplicationId", long = "yarnapplicationId", hide = true)]
    pub(crate) application_id: Option<String>,
    #[arg(id = "yarnapplicationType", long = "yarnapplicationType", hide = true)]
    pub(crate) application_type: Option<String>,
    #[arg(id = "yarnjobManagerMemory", long = "yarnjobManagerMemory", hide = true)]
    pub(crate) job_manager_memory: Option<String>,
    #[arg(id = "yarntaskManagerMemory", long = "yarntaskManagerMemory", hide = true)]
    pub(crate) task_manager_memory: Option<String>,
    #[arg(id = "yarnslots", long = "yarnslots", hide = true)]
    pub(crate) slots: Option<String>,
    #[arg(id = "yarnname", long = "yarnname", hide = true)]
    pub(crate) name: Option<String>,
    #[arg(id = "yarnqueue", long = "yarnqueue", hide = true)]
    pub(crate) queue: Option<String>,
    #[arg(id = "yarnnodeLabel", long = "yarnnodeLabel", hide = true)]
    pub(crate) node_label: Option<String>,
    #[arg(id = "yarnship", long = "yarnship", hide = true)]
    pub(crate) ship: Vec<String>,
    #[arg(id = "yarnjar", long = "yarnjar", hide = true)]
    pub(crate) jar: Option<String>,
    #[arg(id = "yarnD", long = "yarnD", hide = true)]
    pub(crate) properties: Vec<String>,
    #[arg(id = "yarndetached", long = "yarndetached", hide = true)]
    pub(crate) detached: bool,
    #[arg(id = "yarnquery", long = "yarnquery", hide = true)]
    pub(crate) query: bool,
    #[arg(
        id = "yarnzookeeperNamespace",
        short = 'z',
        long = "yarnzookeeperNamespace",
        alias = "zookeeperNamespace",
        hide = true
    )]
    pub(crate) zookeeper_namespace: Option<String>,
    #[arg(id = "yarncontainer", long = "yarncontainer", hide = true)]
    pub(crate) container: Option<String>,
    #[arg(id = "yarnstreaming", long = "yarnstreaming", hide = true)]
    pub(crate) streaming: bool,
}

impl YarnArguments {
    /// Whether an option says how a new cluster should be.
    pub(crate) fn describes_a_cluster(&self) -> bool {
        let texts = [
            &self.job_manager_memory,
            &self.task_manager_memory,
            &self.slots,
            &self.name,
            &self.application_type,
            &self.queue,
            &self.node_label,
        ];
        texts.iter().any(|text| text.is_some()) || !self.ship.is_empty()
    }
}

/// The options of `yarn-session.sh`.
#[derive(Debug, Default, Args)]
pub(crate) struct YarnSessionArguments {
    /// The memory of the JobManager's container (-jm), in MB or with a unit.
    #[arg(long = "jobManagerMemory")]
    pub(crate) job_manager_memory: Option<String>,
    /// The memory of each TaskManager's container (-tm), in MB or with a unit.
    #[arg(long = "taskManagerMemory")]
    pub(crate) task_manager_memory: Option<String>,
    /// The slots of each TaskManager.
    #[arg(short = 's', long)]
    pub(crate) slots: Option<String>,
    /// The application's name (-nm).
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The application's type (-at).
    #[arg(long = "applicationType")]
    pub(crate) application_type: Option<String>,
    /// The queue (-qu).
    #[arg(long)]
    pub(crate) queue: Option<String>,
    /// The node label (-nl).
    #[arg(long = "nodeLabel")]
    pub(crate) node_label: Option<String>,
    /// Files and directories for every container.
    #[arg(short = 't', long)]
    pub(crate) ship: Vec<String>,
    /// The engine's binary, instead of this one.
    #[arg(short = 'j', long)]
    pub(crate) jar: Option<PathBuf>,
    /// Returns once the session runs (also -yd).
    #[arg(short = 'd', long)]
    pub(crate) detached: bool,
    /// Attaches to this session (-id) instead of starting one.
    #[arg(long = "applicationId")]
    pub(crate) application_id: Option<String>,
    /// Shows the free resources of the nodes, and starts nothing.
    #[arg(short = 'q', long)]
    pub(crate) query: bool,
    /// Of ZooKeeper, for high availability.
    #[arg(short = 'z', long = "zookeeperNamespace")]
    pub(crate) zookeeper_namespace: Option<String>,
    /// Sets a configuration option.
    #[arg(short = 'D', value_name = "key=value")]
    pub(crate) properties: Vec<String>,
    /// Accepted for old scripts: the number of containers follows the jobs.
    #[arg(short = 'n', long, hide = true)]
    pub(crate) container: Option<String>,
    /// Accepted for old scripts (-st).
    #[arg(long, hide = true)]
    pub(crate) streaming: bool,
    /// Accepted for old scripts, which say yarn-cluster here.
    #[arg(short = 'm', long = "jobmanager", hide = true)]
    pub(crate) jobmanager: Option<String>,
    /// Options that were written as `run` has them, each as `-yid:-id`.
    #[arg(long = RENAMED_OPTION, hide = true)]
    pub(crate) renamed: Vec<String>,
}

/// The options of a process in a driver's container; all else is in its credentials.
#[derive(Debug, Parser)]
#[command(disable_version_flag = true)]
pub(crate) struct ContainerArguments {
    /// The file that log lines are appended to.
    #[arg(long, value_name = "file")]
    pub(crate) log_file: PathBuf,
}

/// Options for the planning of a program.
#[derive(Debug, Default, Args)]
pub(crate) struct ProgramArguments {
    /// Name of the job to run, if the program has several; it reads the name with env.entry().
    #[arg(short = 'c', long, value_name = "name")]
    pub(crate) class: Option<String>,
    /// The parallelism of operators that set none.
    #[arg(short = 'p', long, value_name = "number", value_parser = parallelism)]
    pub(crate) parallelism: Option<u32>,
    /// The program, and after it its own arguments.
    #[arg(
        required = true,
        num_args = 1..,
        trailing_var_arg = true,
        value_names = ["artifact", "arguments"]
    )]
    pub(crate) program: Vec<OsString>,
}

fn parallelism(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| {
        "it is no number: write -p, a number, and then the program, as in -p 4 job".to_owned()
    })
}

impl ProgramArguments {
    /// Arguments of the program that look like options of this command: a user wrote them behind
    /// the program, where they have no effect.
    pub(crate) fn misplaced(&self) -> Vec<&str> {
        let (_, arguments) = self.split();
        let arguments = arguments.iter().filter_map(|argument| argument.to_str());
        arguments.filter(|argument| is_own_option(argument)).collect()
    }

    /// The executable and its arguments.
    pub(crate) fn split(&self) -> (PathBuf, &[OsString]) {
        match self.program.split_first() {
            Some((artifact, arguments)) => (PathBuf::from(artifact), arguments),
            None => (PathBuf::new(), &[]),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Returns once the job is accepted.
    #[arg(short = 'd', long)]
    pub(crate) detached: bool,
    /// Cancels the job when this command is interrupted (-sae).
    #[arg(long = "shutdownOnAttachedExit")]
    pub(crate) shutdown_on_attached_exit: bool,
    #[command(flatten)]
    pub(crate) recovery: RecoveryArguments,
    #[command(flatten)]
    pub(crate) cluster: ClusterArguments,
    #[command(flatten)]
    pub(crate) program: ProgramArguments,
}

#[derive(Debug, Args)]
pub(crate) struct InfoArguments {
    /// Prints the plan as Flink's JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Sets a configuration option for this command.
    #[arg(short = 'D', value_name = "key=value")]
    pub(crate) properties: Vec<String>,
    #[command(flatten)]
    pub(crate) program: ProgramArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Lists all jobs, ended ones too.
    #[arg(short = 'a', long)]
    pub(crate) all: bool,
    /// Lists running jobs.
    #[arg(short = 'r', long)]
    pub(crate) running: bool,
    /// Lists scheduled jobs.
    #[arg(short = 's', long)]
    pub(crate) scheduled: bool,
    #[command(flatten)]
    pub(crate) cluster: ClusterArguments,
}

/// The daemons' options.
#[derive(Debug, Args)]
pub(crate) struct DaemonArguments {
    /// The directory of the configuration.
    #[arg(short = 'c', long = "configDir", value_name = "directory")]
    pub(crate) conf_dir: Option<PathBuf>,
    /// The file that log lines are appended to, instead of standard error.
    #[arg(long, value_name = "file")]
    pub(crate) log_file: Option<PathBuf>,
    /// The file that appears when the daemon is ready, and says where it listens.
    #[arg(long, value_name = "file")]
    pub(crate) ready_file: Option<PathBuf>,
    /// Sets a configuration option of this process.
    #[arg(short = 'D', value_name = "key=value")]
    pub(crate) properties: Vec<String>,
}

/// The options of a JobManager for one program.
#[derive(Debug, Args)]
pub(crate) struct StandaloneJobArguments {
    #[command(flatten)]
    pub(crate) daemon: DaemonArguments,
    /// The program.
    #[arg(long, value_name = "file")]
    pub(crate) artifact: PathBuf,
    /// The id of its first job; random by default.
    #[arg(long, value_name = "id")]
    pub(crate) job_id: Option<JobId>,
    /// Name of the job to run, if the program has several.
    #[arg(long, value_name = "name")]
    pub(crate) entry: Option<String>,
    /// The parallelism of operators that set none.
    #[arg(long)]
    pub(crate) parallelism: Option<u32>,
    /// The program's own arguments.
    #[arg(last = true)]
    pub(crate) arguments: Vec<String>,
}

/// Options of `run` that take the next word, by the names that clap knows.
const VALUE_OPTIONS: [&str; 29] = [
    "-s",
    "--fromSavepoint",
    "--claimMode",
    "--restoreMode",
    "-p",
    "--parallelism",
    "-c",
    "--class",
    "-D",
    "-m",
    "--jobmanager",
    "-t",
    "-e",
    "--target",
    "--yarnapplicationId",
    "--yarnapplicationType",
    "--yarnjobManagerMemory",
    "--yarntaskManagerMemory",
    "--yarnslots",
    "--yarnname",
    "--yarnqueue",
    "--yarnnodeLabel",
    "--yarnship",
    "--yarnjar",
    "--yarnD",
    "--yarnzookeeperNamespace",
    "--yarncontainer",
    "-z",
    "--zookeeperNamespace",
];

/// Flink's options of several letters behind one dash, and what clap calls them.
const RENAMED: [(&str, &str); 24] = [
    ("-sae", "--shutdownOnAttachedExit"),
    ("-cm", "--claimMode"),
    ("-rm", "--restoreMode"),
    ("-type", "--type"),
    ("-detached", "--detached"),
    ("-full", "--full"),
    ("-yid", "--yarnapplicationId"),
    ("-yat", "--yarnapplicationType"),
    ("-yjm", "--yarnjobManagerMemory"),
    ("-ytm", "--yarntaskManagerMemory"),
    ("-ys", "--yarnslots"),
    ("-ynm", "--yarnname"),
    ("-yqu", "--yarnqueue"),
    ("-ynl", "--yarnnodeLabel"),
    ("-yt", "--yarnship"),
    ("-yj", "--yarnjar"),
    ("-yD", "--yarnD"),
    ("-yd", "--yarndetached"),
    ("-yq", "--yarnquery"),
    ("-yz", "--yarnzookeeperNamespace"),
    ("-yn", "--yarncontainer"),
    ("-yst", "--yarnstreaming"),
    ("-yh", "--help"),
    ("--yarnhelp", "--help"),
];

/// The same for `yarn-session`.
const RENAMED_SESSION: [(&str, &str); 8] = [
    ("-jm", "--jobManagerMemory"),
    ("-tm", "--taskManagerMemory"),
    ("-nm", "--name"),
    ("-at", "--applicationType"),
    ("-qu", "--queue"),
    ("-nl", "--nodeLabel"),
    ("-id", "--applicationId"),
    ("-st", "--streaming"),
];

/// Options of `run` that old scripts give to `yarn-session`, and their names there.
const RUN_TO_SESSION: [(&str, &str); 17] = [
    ("-yjm", "-jm"),
    ("-ytm", "-tm"),
    ("-ynm", "-nm"),
    ("-yat", "-at"),
    ("-yqu", "-qu"),
    ("-ynl", "-nl"),
    ("-yid", "-id"),
    ("-yst", "-st"),
    ("-ys", "-s"),
    ("-yt", "-t"),
    ("-yj", "-j"),
    ("-yd", "-d"),
    ("--yarndetached", "-d"),
    ("-yq", "-q"),
    ("-yz", "-z"),
    ("-yn", "-n"),
    ("-yh", "-h"),
];
const RENAMED_OPTION: &str = "renamedOption";

/// Writes Flink's options of several letters as clap can read them. What follows an artifact is
/// left alone.
pub(crate) fn normalized(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments = arguments.into_iter();
    let mut normalized: Vec<OsString> = arguments.by_ref().take(2).collect();
    let verb = normalized.get(1).and_then(|verb| verb.to_str()).unwrap_or_default();
    if verb == "standalone-job" {
        normalized.extend(arguments);
        return normalized;
    }
    let runs = matches!(verb, "run" | "run-application" | "info");
    let session = verb == "yarn-session";
    while let Some(argument) = arguments.next() {
        let is_option = argument.as_encoded_bytes().starts_with(b"-");
        let argument = match argument.to_str() {
            Some(text) if session => {
                let (known, renamed) = of_session(text);
                normalized.extend(renamed);
                rename(&known, &RENAMED_SESSION)
            }
            Some(text) => rename(text, &RENAMED),
            None => argument,
        };
        let takes_value = VALUE_OPTIONS.iter().any(|option| argument == *option);
        normalized.push(argument);
        if runs && takes_value {
            normalized.extend(arguments.next());
        }
        if runs && !is_option {
            break;
        }
    }
    normalized.extend(arguments);
    normalized
}

/// Whether `run` has such an option. Long options of one word that programs use too are left out.
fn is_own_option(argument: &str) -> bool {
    const SHORT: [&str; 9] = ["-p", "-c", "-m", "-t", "-e", "-d", "-sae", "-D", "-yD"];
    const LONG: [&str; 7] = [
        "--parallelism",
        "--detached",
        "--jobmanager",
        "--shutdownOnAttachedExit",
        "--fromSavepoint",
        "--allowNonRestoredState",
        "--claimMode",
    ];
    let of_others = |short: &str| ["-type", "-detached", "-full"].contains(&short);
    let renamed = RENAMED.iter().map(|(short, _)| *short).filter(|short| !of_others(short));
    let is_property = argument.strip_prefix("-D").is_some_and(|rest| rest.contains('='));
    is_property || SHORT.into_iter().chain(LONG).chain(renamed).any(|option| option == argument)
}

/// An option as `yarn-session` knows it, and a note if it was written as `run` has it.
fn of_session(argument: &str) -> (String, Option<OsString>) {
    let note = |old: &str, new: &str| Some(format!("--{RENAMED_OPTION}={old}:{new}").into());
    let (name, value) = match argument.split_once('=') {
        Some((name, value)) => (name, format!("={value}")),
        None => (argument, String::new()),
    };
    if let Some((old, new)) = RUN_TO_SESSION.iter().find(|(old, _)| name == *old) {
        return (format!("{new}{value}"), note(old, new));
    }
    match argument.strip_prefix("-yD") {
        Some(property) => (format!("-D{property}"), note("-yD", "-D")),
        None => (argument.to_owned(), None),
    }
}

fn rename(argument: &str, renamed: &[(&str, &str)]) -> OsString {
    let long = |name: &str| renamed.iter().find(|(short, _)| name == *short).map(|(_, long)| long);
    if let Some(long) = long(argument) {
        return OsString::from(long);
    }
    // The one option whose value Flink's users write without a blank.
    if let Some(property) = argument.strip_prefix("-yD") {
        return OsString::from(format!("--yarnD={property}"));
    }
    match argument.split_once('=').and_then(|(name, value)| Some((long(name)?, value))) {
        Some((long, value)) => OsString::from(format!("{long}={value}")),
        None => OsString::from(argument),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from(normalized(line.split_whitespace().map(OsString::from)))
    }

    fn run(line: &str) -> RunArguments {
        match parse(line).unwrap().verb {
            Some(Verb::Run(arguments)) => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory as _;
        CommandLine::command().debug_assert();
    }

    #[test]
    fn run_takes_flinks_options() {
        let arguments =
            run("millstream run -d -sae -p 4 -c wordcount -D a=b -Dc=d -m host:1 job x");
        assert!(arguments.detached && arguments.shutdown_on_attached_exit);
        assert_eq!(arguments.program.parallelism, Some(4));
        assert_eq!(arguments.program.class.as_deref(), Some("wordcount"));
        assert_eq!(arguments.cluster.properties, ["a=b", "c=d"]);
        assert_eq!(arguments.cluster.jobmanager.as_deref(), Some("host:1"));
        assert_eq!(arguments.program.program, ["job", "x"]);
    }

    #[test]
    fn what_follows_the_artifact_is_the_programs() {
        let arguments = run("millstream run job -p 3 -d -sae --input file -- -D x=y");
        assert!(!arguments.detached && arguments.program.parallelism.is_none());
        let (artifact, rest) = arguments.program.split();
        assert_eq!(artifact, PathBuf::from("job"));
        assert_eq!(rest, ["-p", "3", "-d", "-sae", "--input", "file", "--", "-D", "x=y"]);
    }

    #[test]
    fn the_long_names_are_flinks() {
        let arguments =
            run("millstream run --detached --shutdownOnAttachedExit --parallelism 2 --class x \
             --jobmanager h:1 --target remote job");
        assert!(arguments.detached && arguments.shutdown_on_attached_exit);
        assert_eq!(arguments.program.parallelism, Some(2));
        assert_eq!(arguments.cluster.target.as_deref(), Some("remote"));
    }

    #[test]
    fn flinks_old_options_for_yarn_are_read() {
        let line = "millstream run -m yarn-cluster -yid application_1_2 -yjm 512 -ytm 1g -ys 2 \
                    -ynm n -yqu q -ynl l -yat t -yt a -yt b -yDk=v -yD k2=v2 -yd job -yid x";
        let arguments = run(line);
        let yarn = &arguments.cluster.yarn;
        assert_eq!(yarn.application_id.as_deref(), Some("application_1_2"));
        assert_eq!((yarn.ship.len(), yarn.detached), (2, true));
        assert_eq!(yarn.properties, ["k=v", "k2=v2"]);
        assert_eq!(arguments.program.program, ["job", "-yid", "x"]);
        let listed = parse("millstream list -yid application_1_2").unwrap().verb;
        let Some(Verb::List(list)) = listed else { panic!("not list") };
        assert_eq!(list.cluster.yarn.application_id.as_deref(), Some("application_1_2"));
    }

    #[test]
    fn a_session_takes_flinks_options() {
        let line = "millstream yarn-session -jm 512 -tm 1024m -s 2 -nm n -at t -qu q -nl l -t f \
                    -d -id application_1_2 -z ns -n 4 -st -D a=b";
        let Some(Verb::YarnSession(session)) = parse(line).unwrap().verb else {
            panic!("not yarn-session")
        };
        assert_eq!(session.job_manager_memory.as_deref(), Some("512"));
        assert_eq!((session.ship.len(), session.detached, session.streaming), (1, true, true));
        assert_eq!(session.application_id.as_deref(), Some("application_1_2"));
    }

    #[test]
    fn options_of_old_scripts_are_taken() {
        let arguments = run("millstream run -yq -yz ns -yn 4 -yst -yjm=512 job -yq");
        let yarn = &arguments.cluster.yarn;
        assert!(yarn.query && yarn.streaming);
        assert_eq!(yarn.zookeeper_namespace.as_deref(), Some("ns"));
        assert_eq!(
            (yarn.container.as_deref(), yarn.job_manager_memory.as_deref()),
            (Some("4"), Some("512"))
        );
        assert_eq!(arguments.program.program, ["job", "-yq"]);
        assert_eq!(
            run("millstream run -z ns job").cluster.yarn.zookeeper_namespace.as_deref(),
            Some("ns")
        );
        let help = parse("millstream run -yh").unwrap_err();
        assert_eq!(help.kind(), clap::error::ErrorKind::DisplayHelp);

        let line = "millstream yarn-session -yid application_1_2 -yjm 512 -ytm=1g -ys 2 -ynm n \
                    -yat t \
                    -yqu q -ynl l -yt f -yd -yz ns -yn 4 -yst -yDa=b -yD c=d -m yarn-cluster -yq";
        let Some(Verb::YarnSession(session)) = parse(line).unwrap().verb else {
            panic!("not yarn-session")
        };
        assert_eq!(session.application_id.as_deref(), Some("application_1_2"));
        assert_eq!(session.task_manager_memory.as_deref(), Some("1g"));
        assert_eq!(session.properties, ["a=b", "c=d"]);
        assert!(session.detached && session.query && session.streaming);
        assert!(session.renamed.contains(&"-yid:-id".to_owned()), "{:?}", session.renamed);
        let help = parse("millstream yarn-session -yh").unwrap_err();
        assert_eq!(help.kind(), clap::error::ErrorKind::DisplayHelp);
    }

    #[test]
    fn list_and_cancel_take_flinks_options() {
        let Some(Verb::List(list)) = parse("millstream list -a -r -s -m h:1").unwrap().verb else {
            panic!("not list")
        };
        assert!(list.all && list.running && list.scheduled);
        let Some(Verb::Cancel(cancel)) = parse("millstream cancel -m h:1 00ff").unwrap().verb
        else {
            panic!("not cancel")
        };
        assert_eq!(cancel.job.as_deref(), Some("00ff"));
        assert!(matches!(parse("millstream cancel").unwrap().verb, Some(Verb::Cancel(_))));
    }

    #[test]
    fn daemons_take_the_scripts_options() {
        let line = "millstream taskmanager --log-file /tmp/x.log -D a=b -D c=d -c /conf";
        let Some(Verb::TaskManager(daemon)) = parse(line).unwrap().verb else {
            panic!("not taskmanager")
        };
        assert_eq!(daemon.properties, ["a=b", "c=d"]);
        assert_eq!(daemon.log_file, Some(PathBuf::from("/tmp/x.log")));
        assert_eq!(daemon.conf_dir, Some(PathBuf::from("/conf")));
    }

    #[test]
    fn versions_and_mistakes() {
        assert!(parse("millstream --version").unwrap().version);
        assert!(parse("millstream -v").unwrap().version);
        assert!(parse("millstream").unwrap().verb.is_none());
        for mistake in ["millstream fly", "millstream run", "millstream run -p x job"] {
            assert!(parse(mistake).is_err(), "{mistake}");
        }
    }
}
