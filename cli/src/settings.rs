//! Turns options and configuration files into settings of a command.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use millstream_config::{Configuration, Loader, options};
use millstream_graph::JobSettings;
use millstream_launcher::RunRequest;

use crate::arguments::ProgramArguments;
use crate::{client_path, console, drivers};

/// Loads the configuration of this process with the options of the command line on top.
pub(crate) fn load(properties: &[String]) -> Result<Configuration> {
    let loaded =
        Loader::from_process(drivers::options()).with_dynamic_properties(properties).load()?;
    for warning in &loaded.warnings {
        console::warn(format_args!("{warning}"));
    }
    Ok(loaded.configuration)
}

/// More heartbeats a second have no use.
const HEARTBEAT_SHORTEST: Duration = Duration::from_millis(100);

/// The heartbeat by which a cluster or job that depends on this command knows that it lives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientHeartbeat {
    /// `client.heartbeat.interval`.
    pub(crate) interval: Duration,
    /// `client.heartbeat.timeout`.
    pub(crate) timeout: Duration,
}

impl ClientHeartbeat {
    /// Reads both: a timeout shorter than two intervals would end healthy clusters.
    pub(crate) fn of(configuration: &Configuration) -> Result<Self> {
        let interval = configuration.get(&options::CLIENT_HEARTBEAT_INTERVAL)?;
        let timeout = configuration.get(&options::CLIENT_HEARTBEAT_TIMEOUT)?;
        let interval = interval.max(HEARTBEAT_SHORTEST);
        if timeout <= interval {
            bail!(
                "{} is {timeout:?} but {} is {interval:?}: the cluster would give its client up \
                 between two heartbeats; set the timeout to a multiple of the interval",
                options::CLIENT_HEARTBEAT_TIMEOUT.key(),
                options::CLIENT_HEARTBEAT_INTERVAL.key(),
            );
        }
        Ok(Self { interval, timeout })
    }
}

/// The settings of the job for the program's planning.
pub(crate) fn job_settings(
    configuration: &Configuration,
    properties: &[String],
    program: &ProgramArguments,
) -> Result<JobSettings> {
    hint_at_misplaced(program);
    let (_, args) = program.split();
    let text = |(at, arg): (usize, &OsString)| {
        arg.to_str().map(str::to_owned).with_context(|| {
            format!("argument {} of the program is not UTF-8: {arg:?}; arguments are text", at + 1)
        })
    };
    let args = args.iter().enumerate().map(text).collect::<Result<Vec<String>>>()?;
    // Only the options of this job: the cluster has a file of its own. Old names become new.
    let loader = Loader::new(configuration.options()).with_dynamic_properties(properties);
    let own = loader.load()?.configuration;
    let request = RunRequest {
        args,
        entry: program.class.clone(),
        parallelism: program.parallelism,
        config: own.pairs().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
    };
    let mut settings = request.settings(configuration)?;
    // The JobManager has another working directory.
    if let Some(path) = settings.config.get_mut(options::EXECUTION_STATE_RECOVERY_PATH.key()) {
        *path = client_path::absolute(path)?;
    }
    Ok(settings)
}

/// Names the options of a request that a running cluster has read when it started.
pub(crate) fn hint_at_options_of_clusters(properties: &[String]) {
    let keys = properties.iter().filter_map(|property| property.split_once('='));
    let keys: Vec<&str> =
        keys.map(|(key, _)| key.trim()).filter(|key| options::is_of_clusters(key)).collect();
    if !keys.is_empty() {
        console::warn(format_args!(
            "-D {}: this belongs to the cluster and has no effect on a job in a running one",
            keys.join(", -D ")
        ));
    }
}

/// Says that options after the program are the program's, if some look as if they were ours.
fn hint_at_misplaced(program: &ProgramArguments) {
    let misplaced = program.misplaced();
    if !misplaced.is_empty() {
        console::warn(format_args!(
            "{} after the program: it goes to the program; options of this command stand before it",
            misplaced.join(", ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn settings(properties: &[&str], parallelism: Option<u32>) -> Result<JobSettings> {
        let properties: Vec<String> = properties.iter().map(|&text| text.to_owned()).collect();
        let program = ProgramArguments {
            parallelism,
            program: ["job", "--input", "x"].map(OsString::from).to_vec(),
            ..ProgramArguments::default()
        };
        let loader = Loader::new(drivers::options()).with_dynamic_properties(&properties);
        let configuration = loader.load().unwrap().configuration;
        job_settings(&configuration, &properties, &program)
    }

    #[test]
    fn the_option_wins_over_the_configuration() {
        let set = settings(&["parallelism.default=3"], None).unwrap();
        assert_eq!((set.parallelism, set.args), (3, vec!["--input".to_owned(), "x".to_owned()]));
        assert_eq!(settings(&["parallelism.default=3"], Some(2)).unwrap().parallelism, 2);
        assert!(settings(&[], Some(0)).is_err());
    }

    #[test]
    fn arguments_that_are_not_text_are_named() {
        let bytes = OsString::from_vec(b"\xff".to_vec());
        let program =
            ProgramArguments { program: vec!["job".into(), bytes], ..ProgramArguments::default() };
        let configuration = Loader::new(drivers::options()).load().unwrap().configuration;
        let error = job_settings(&configuration, &[], &program).unwrap_err().to_string();
        assert!(error.starts_with("argument 1 of the program is not UTF-8"), "{error}");
    }

    #[test]
    fn a_client_is_not_given_up_between_two_heartbeats() {
        let read = |properties: &[&str]| {
            let properties: Vec<String> = properties.iter().map(|&text| text.to_owned()).collect();
            let loader = Loader::new(drivers::options()).with_dynamic_properties(&properties);
            ClientHeartbeat::of(&loader.load().unwrap().configuration)
        };
        let usual = read(&[]).unwrap();
        assert!(usual.interval < usual.timeout);
        for refused in [
            &["client.heartbeat.timeout=5s"][..],
            &["client.heartbeat.timeout=30s"],
            &["client.heartbeat.interval=3min"],
            &["client.heartbeat.timeout=10ms", "client.heartbeat.interval=1ms"],
        ] {
            let error = read(refused).unwrap_err().to_string();
            assert!(error.contains("client.heartbeat.timeout is"), "{error}");
            assert!(error.contains("a multiple of the interval"), "{error}");
        }
        let both = ["client.heartbeat.timeout=5s", "client.heartbeat.interval=1s"];
        assert_eq!(read(&both).unwrap().timeout, Duration::from_secs(5));
    }

    #[test]
    fn the_last_place_that_sets_an_option_wins() {
        let conf = tempfile::tempdir().unwrap();
        let text = "parallelism.default: 2\npipeline.name: file\nexecution.runtime-mode: BATCH\n\
                    execution.buffer-timeout.interval: 1 ms\n";
        std::fs::write(conf.path().join("config.yaml"), text).unwrap();
        let environment = "parallelism.default: 3\nexecution.buffer-timeout.interval: 2 ms\n";
        let dynamic =
            ["execution.buffer-timeout.interval=3 ms", "execution.buffer-timeout.interval=4 ms"];
        let properties = dynamic.map(str::to_owned);
        let loader =
            Loader::new(drivers::options()).with_conf_dir(conf.path()).with_properties(environment);
        let configuration =
            loader.with_dynamic_properties(&properties).load().unwrap().configuration;
        let program = |parallelism| ProgramArguments {
            parallelism,
            program: vec!["job".into()],
            ..ProgramArguments::default()
        };
        let set = job_settings(&configuration, &properties, &program(None)).unwrap();
        // The default, the file, the environment, and the last of two on the command line.
        assert!(set.chaining);
        assert_eq!(set.config["pipeline.name"], "file");
        assert_eq!(set.runtime_mode, millstream_graph::RuntimeMode::Batch);
        assert_eq!((set.parallelism, set.buffer_timeout_ms), (3, 4));
        // An option of the command.
        let set = job_settings(&configuration, &properties, &program(Some(5))).unwrap();
        assert_eq!(set.parallelism, 5);
    }

    #[test]
    fn the_savepoint_to_start_from_is_named_absolutely() {
        let here = std::env::current_dir().unwrap();
        let path = |property: &str| {
            settings(&[property], None).unwrap().config["execution.state-recovery.path"].clone()
        };
        assert_eq!(path("execution.savepoint.path=sp/1"), here.join("sp/1").to_str().unwrap());
        assert_eq!(path("execution.state-recovery.path=hdfs:///sp"), "hdfs:///sp");
    }

    #[test]
    fn what_was_said_for_the_job_travels_with_it() {
        let set =
            settings(&["restart-strategy=fixed-delay", "execution.buffer-timeout=5 ms"], None)
                .unwrap();
        assert_eq!(set.buffer_timeout_ms, 5);
        assert_eq!(set.config["restart-strategy.type"], "fixed-delay");
    }
}
