//! Where a command's jobs run.

use anyhow::{Context as _, Result, anyhow, bail};
use millstream_config::{Configuration, options};
use millstream_rm_yarn::ids::ApplicationId;

use crate::arguments::{ClusterArguments, YarnArguments};
use crate::rest::RestClient;
use crate::yarn::Yarn;
use crate::yarn::properties_file::PropertiesFile;
use crate::{console, settings};

/// A place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A cluster whose address is known.
    Remote,
    /// A session on YARN.
    YarnSession(ApplicationId),
    /// A cluster on YARN for one job.
    YarnPerJob,
    /// A cluster on YARN that runs the program too.
    YarnApplication,
}

/// The configuration of a command with all that its options say about clusters.
pub(crate) fn configuration(cluster: &ClusterArguments) -> Result<(Configuration, Vec<String>)> {
    let mut properties = old_options(&cluster.yarn);
    properties.extend(cluster.properties.iter().cloned());
    Ok((settings::load(&properties)?, properties))
}

/// What the old options for YARN say, as properties.
fn old_options(yarn: &YarnArguments) -> Vec<String> {
    let mut properties = Vec::new();
    let mut set = |key: &str, value: &Option<String>| {
        properties.extend(value.as_ref().map(|value| format!("{key}={value}")));
    };
    set(options::YARN_APPLICATION_ID.key(), &yarn.application_id);
    set(options::YARN_APPLICATION_TYPE.key(), &yarn.application_type);
    let memory = |value: &Option<String>| value.as_deref().map(megabytes);
    set(options::JOBMANAGER_MEMORY_PROCESS_SIZE.key(), &memory(&yarn.job_manager_memory));
    set(options::TASKMANAGER_MEMORY_PROCESS_SIZE.key(), &memory(&yarn.task_manager_memory));
    set(options::TASKMANAGER_NUMBER_OF_TASK_SLOTS.key(), &yarn.slots);
    set(options::YARN_APPLICATION_NAME.key(), &yarn.name);
    set(options::YARN_APPLICATION_QUEUE.key(), &yarn.queue);
    set(options::YARN_APPLICATION_NODE_LABEL.key(), &yarn.node_label);
    let ship = (!yarn.ship.is_empty()).then(|| yarn.ship.join(";"));
    set(options::YARN_SHIP_FILES.key(), &ship);
    if yarn.detached {
        set(options::EXECUTION_ATTACHED.key(), &Some("false".to_owned()));
    }
    properties.extend(yarn.properties.iter().cloned());
    if !properties.is_empty() {
        console::warn(format_args!(
            "the -y options are deprecated: say the same with -t and -D {}",
            properties.join(" -D ")
        ));
    }
    properties
}

/// A number without unit counts megabytes on Flink's command lines for YARN.
pub(crate) fn megabytes(text: &str) -> String {
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => format!("{text}m"),
        false => text.to_owned(),
    }
}

/// The target that options, configuration and the last session name, in this order.
pub(crate) fn target(cluster: &ClusterArguments, configuration: &Configuration) -> Result<Target> {
    let named = match cluster.target.clone() {
        Some(name) => Some(name),
        None if cluster.jobmanager.as_deref() == Some("yarn-cluster") => {
            console::warn(format_args!("-m yarn-cluster is deprecated: write -t yarn-per-job"));
            Some("yarn-per-job".to_owned())
        }
        None if cluster.jobmanager.is_some() => Some("remote".to_owned()),
        None => configuration.get(&options::EXECUTION_TARGET)?,
    };
    let application = configuration.get(&options::YARN_APPLICATION_ID)?;
    let parsed = |id: String| {
        id.parse::<ApplicationId>().with_context(|| options::YARN_APPLICATION_ID.key().to_owned())
    };
    match (named.as_deref(), application) {
        (Some("remote"), _) => Ok(Target::Remote),
        (Some("yarn-per-job"), None) => Ok(Target::YarnPerJob),
        (Some("yarn-application"), None) => Ok(Target::YarnApplication),
        (None | Some("yarn-session" | "yarn-per-job" | "yarn-application"), Some(id)) => {
            Ok(Target::YarnSession(parsed(id)?))
        }
        (Some("yarn-session"), None) => {
            let session = PropertiesFile::of(configuration)?.read()?;
            session.map(Target::YarnSession).ok_or_else(|| {
                anyhow!(
                    "no session on YARN is known: start one with yarn-session.sh, or name one \
                     with -D{}=application_...",
                    options::YARN_APPLICATION_ID.key()
                )
            })
        }
        (Some("local"), _) => {
            bail!("target local needs no cluster: start the program itself and it runs here")
        }
        (Some(name), _) => bail!(
            "there is no target {name:?}: use remote, yarn-session, yarn-per-job or \
             yarn-application"
        ),
        (None, None) => {
            let file = PropertiesFile::of(configuration)?;
            let Some(session) = file.read()? else { return Ok(Target::Remote) };
            console::warn(format_args!(
                "the session {session} is used, which {file} names; -t remote uses {}",
                options::REST_ADDRESS.key()
            ));
            Ok(Target::YarnSession(session))
        }
    }
}

/// A client of the running cluster that is meant.
pub(crate) async fn running_cluster(
    cluster: &ClusterArguments,
    configuration: &Configuration,
) -> Result<RestClient> {
    match target(cluster, configuration)? {
        Target::Remote => RestClient::new(cluster, configuration),
        Target::YarnSession(id) => Yarn::connect(configuration)?.find(id, configuration).await,
        Target::YarnPerJob | Target::YarnApplication => bail!(
            "which cluster is meant? name it with -D{}=application_...",
            options::YARN_APPLICATION_ID.key()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(target: Option<&str>, properties: &[&str]) -> Result<Target> {
        let location = tempfile::tempdir().unwrap();
        let mut properties: Vec<String> = properties.iter().map(|text| text.to_string()).collect();
        properties.push(format!("yarn.properties-file.location={}", location.path().display()));
        let cluster =
            ClusterArguments { target: target.map(str::to_owned), ..ClusterArguments::default() };
        super::target(&cluster, &settings::load(&properties).unwrap())
    }

    #[test]
    fn a_target_comes_from_options_then_configuration() {
        assert_eq!(resolved(None, &[]).unwrap(), Target::Remote);
        let configured = ["execution.target=yarn-per-job"];
        assert_eq!(resolved(None, &configured).unwrap(), Target::YarnPerJob);
        assert_eq!(resolved(Some("remote"), &configured).unwrap(), Target::Remote);
        let id = "application_1_0002".parse().unwrap();
        let with_id = ["yarn.application.id=application_1_0002"];
        for target in [None, Some("yarn-session"), Some("yarn-application")] {
            assert_eq!(resolved(target, &with_id).unwrap(), Target::YarnSession(id));
        }
    }

    #[test]
    fn what_is_no_target_is_told() {
        for (target, properties, expected) in [
            (Some("local"), vec![], "start the program itself"),
            (Some("moon"), vec![], "there is no target \"moon\""),
            (Some("yarn-session"), vec![], "start one with yarn-session.sh"),
            (None, vec!["yarn.application.id=app_1"], "yarn.application.id"),
        ] {
            let error = format!("{:#}", resolved(target, &properties).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
