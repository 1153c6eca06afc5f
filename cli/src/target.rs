//! Where a command's jobs run.

use anyhow::{Context as _, Result, anyhow, bail};
use millstream_config::{Configuration, options};
use millstream_rm_yarn::ids::ApplicationId;

use crate::arguments::{ClusterArguments, YarnArguments};
use crate::rest::RestClient;
use crate::yarn::properties_file::{PropertiesFile, Session};
use crate::yarn::{NO_HIGH_AVAILABILITY, Yarn, last_session};
use crate::{console, settings};

/// A place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A cluster whose address is known.
    Remote,
    /// A session on YARN.
    YarnSession(Session),
    /// A cluster on YARN for one job.
    YarnPerJob,
    /// A cluster on YARN that runs the program too.
    YarnApplication,
}

/// The configuration of a command with all that its options say about clusters.
pub(crate) fn configuration(cluster: &ClusterArguments) -> Result<(Configuration, Vec<String>)> {
    let mut properties = old_options(&cluster.yarn, &cluster.properties)?;
    properties.extend(cluster.properties.iter().cloned());
    Ok((settings::load(&properties)?, properties))
}

/// What an option other than `-D` says.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) option: &'static str,
    pub(crate) key: &'static str,
    pub(crate) value: String,
}

/// The properties of options that have names of their own, and after them those of `-D`. Two
/// options that say different things about one key are refused: one would be ignored.
pub(crate) fn with_properties(own: Vec<Said>, properties: &[String]) -> Result<Vec<String>> {
    let others = properties.iter().filter_map(|property| property.split_once('='));
    for (key, value) in others {
        let contradicts = |said: &&Said| said.key == key.trim() && said.value != value.trim();
        if let Some(said) = own.iter().find(contradicts) {
            bail!(
                "{} {} and -D{}={} say different things: leave one of them out",
                said.option,
                said.value,
                key.trim(),
                value.trim()
            );
        }
    }
    let own = own.into_iter().map(|said| format!("{}={}", said.key, said.value));
    Ok(own.chain(properties.iter().cloned()).collect())
}

/// What the old options for YARN say, as properties.
fn old_options(yarn: &YarnArguments, properties: &[String]) -> Result<Vec<String>> {
    let mut own = Vec::new();
    let mut set = |option: &'static str, key: &'static str, value: &Option<String>| {
        own.extend(value.clone().map(|value| Said { option, key, value }));
    };
    set("-yid", options::YARN_APPLICATION_ID.key(), &yarn.application_id);
    set("-yat", options::YARN_APPLICATION_TYPE.key(), &yarn.application_type);
    let memory = |value: &Option<String>| value.as_deref().map(megabytes);
    let (master, worker) = (memory(&yarn.job_manager_memory), memory(&yarn.task_manager_memory));
    set("-yjm", options::JOBMANAGER_MEMORY_PROCESS_SIZE.key(), &master);
    set("-ytm", options::TASKMANAGER_MEMORY_PROCESS_SIZE.key(), &worker);
    set("-ys", options::TASKMANAGER_NUMBER_OF_TASK_SLOTS.key(), &yarn.slots);
    set("-ynm", options::YARN_APPLICATION_NAME.key(), &yarn.name);
    set("-yqu", options::YARN_APPLICATION_QUEUE.key(), &yarn.queue);
    set("-ynl", options::YARN_APPLICATION_NODE_LABEL.key(), &yarn.node_label);
    let ship = (!yarn.ship.is_empty()).then(|| yarn.ship.join(";"));
    set("-yt", options::YARN_SHIP_FILES.key(), &ship);
    if yarn.detached {
        set("-yd", options::EXECUTION_ATTACHED.key(), &Some("false".to_owned()));
    }
    let all = [&yarn.properties[..], properties].concat();
    let mut said = with_properties(own, &all)?;
    said.truncate(said.len() - properties.len());
    if !said.is_empty() {
        console::warn(format_args!(
            "the -y options are deprecated: say the same with -t and -D {}",
            said.join(" -D ")
        ));
    }
    options_without_effect(yarn);
    Ok(said)
}

/// Says what to write instead of options that old scripts have and that do nothing.
fn options_without_effect(yarn: &YarnArguments) {
    if yarn.jar.is_some() {
        console::warn(format_args!(
            "-yj has no effect: the engine is this binary; `yarn-session.sh -j` takes another"
        ));
    }
    if yarn.query {
        console::warn(format_args!(
            "-yq has no effect: `yarn-session.sh -q` shows what the nodes have free"
        ));
    }
    if yarn.container.is_some() || yarn.streaming {
        console::warn(format_args!(
            "-yn and -yst have no effect: leave them out, a cluster gets its containers when its \
             jobs need them"
        ));
    }
    if yarn.zookeeper_namespace.is_some() {
        console::warn(format_args!("-yz has no effect: leave it out, {NO_HIGH_AVAILABILITY}"));
    }
}

/// A number without unit counts megabytes on Flink's command lines for YARN.
pub(crate) fn megabytes(text: &str) -> String {
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => format!("{text}m"),
        false => text.to_owned(),
    }
}

/// The name of the target that options and configuration give, in this order.
fn target_name(
    cluster: &ClusterArguments,
    configuration: &Configuration,
) -> Result<Option<String>> {
    let address = cluster.jobmanager.as_deref();
    Ok(match (cluster.target.clone(), address) {
        (Some(name), None) => Some(name),
        (Some(name), Some("yarn-cluster")) if name.starts_with("yarn-") => Some(name),
        (Some(name), Some(address)) if name != "remote" => {
            bail!("-m {address} and -t {name} name different clusters: leave one of them out")
        }
        (Some(name), Some(_)) => Some(name),
        (None, Some("yarn-cluster")) => {
            // An id beside it means the session of that id, as in Flink.
            let session = configuration.get(&options::YARN_APPLICATION_ID)?.is_some();
            let name = if session { "yarn-session" } else { "yarn-per-job" };
            console::warn(format_args!("-m yarn-cluster is deprecated: write -t {name}"));
            Some(name.to_owned())
        }
        (None, Some(_)) => Some("remote".to_owned()),
        (None, None) => configuration.get(&options::EXECUTION_TARGET)?,
    })
}

/// Whether an option of this command, and not only the configuration, names an application.
fn names_application(cluster: &ClusterArguments) -> bool {
    let key = options::YARN_APPLICATION_ID.key();
    let mut properties = cluster.properties.iter().chain(&cluster.yarn.properties);
    cluster.yarn.application_id.is_some()
        || properties.any(|property| property.split_once('=').is_some_and(|it| it.0.trim() == key))
}

/// The target that options, configuration and the last session name, in this order.
pub(crate) fn target(cluster: &ClusterArguments, configuration: &Configuration) -> Result<Target> {
    let named = target_name(cluster, configuration)?;
    let key = options::YARN_APPLICATION_ID.key();
    let application = configuration.get(&options::YARN_APPLICATION_ID)?;
    if let (Some("remote"), Some(id)) = (named.as_deref(), &application)
        && names_application(cluster)
    {
        bail!("{key} names {id}, and -t remote or -m another cluster: leave one of them out");
    }
    match (named.as_deref(), application) {
        (Some("remote"), _) => Ok(Target::Remote),
        (Some("yarn-per-job"), None) => Ok(Target::YarnPerJob),
        (Some("yarn-application"), None) => Ok(Target::YarnApplication),
        (None | Some("yarn-session" | "yarn-per-job" | "yarn-application"), Some(id)) => {
            let id = id.parse::<ApplicationId>().with_context(|| key.to_owned())?;
            Ok(Target::YarnSession(PropertiesFile::of(configuration)?.find(id)))
        }
        (Some("yarn-session"), None) => {
            last_session(configuration)?.map(Target::YarnSession).ok_or_else(|| {
                anyhow!(
                    "no session on YARN is known: start one with yarn-session.sh, or name one \
                     with -D{key}=application_..."
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
            let Some(session) = last_session(configuration)? else { return Ok(Target::Remote) };
            console::warn(format_args!(
                "the session {} is used, which {} names; -t remote uses {}",
                session.id,
                PropertiesFile::of(configuration)?,
                options::REST_ADDRESS.key()
            ));
            Ok(Target::YarnSession(session))
        }
    }
}

/// The target of a program that is to be run. A cluster of its own has no id before it exists, so
/// that an id beside such a target means a session, and one of the two would be ignored.
pub(crate) fn target_of_program(
    cluster: &ClusterArguments,
    configuration: &Configuration,
) -> Result<Target> {
    // An address alone, or an old script's `-m yarn-cluster`, leaves it to the id.
    let named = match (&cluster.target, &cluster.jobmanager) {
        (Some(name), _) => Some(name.clone()),
        (None, Some(_)) => None,
        (None, None) => configuration.get(&options::EXECUTION_TARGET)?,
    };
    refuse_application_id(named.as_deref(), configuration)?;
    let target = target(cluster, configuration)?;
    if let Target::YarnSession(Session { id, .. }) = &target
        && cluster.yarn.describes_a_cluster()
    {
        console::warn(format_args!(
            "{id} runs already: options for memory, slots, name, queue and files have no effect"
        ));
    }
    Ok(target)
}

/// Refuses what `run-application` would ignore: it always deploys a cluster for its program.
pub(crate) fn refuse_other_targets(
    cluster: &ClusterArguments,
    configuration: &Configuration,
) -> Result<()> {
    let old = cluster.jobmanager.as_deref() == Some("yarn-cluster");
    let named = if old { None } else { target_name(cluster, configuration)? };
    let named = named.as_deref().unwrap_or("yarn-application");
    if named != "yarn-application" {
        bail!(
            "run-application deploys a cluster for its program (-t yarn-application), but the \
             target is {named}: use run, or leave the target out"
        );
    }
    refuse_application_id(Some(named), configuration)
}

fn refuse_application_id(target: Option<&str>, configuration: &Configuration) -> Result<()> {
    let application = configuration.get(&options::YARN_APPLICATION_ID)?;
    match (target, application) {
        (Some(target @ ("yarn-per-job" | "yarn-application")), Some(id)) => bail!(
            "target {target} deploys a cluster of its own, but {} names {id}: leave that out, or \
             use -t yarn-session to run in {id}",
            options::YARN_APPLICATION_ID.key()
        ),
        _ => Ok(()),
    }
}

/// A client of the running cluster that is meant.
pub(crate) async fn running_cluster(
    cluster: &ClusterArguments,
    configuration: &Configuration,
) -> Result<RestClient> {
    match target(cluster, configuration)? {
        Target::Remote => RestClient::new(cluster, configuration),
        Target::YarnSession(session) => {
            let mut yarn = Yarn::of_session(configuration, &session)?;
            Ok(yarn.find(session.id, configuration).await?.client)
        }
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
            let session = Target::YarnSession(Session::of(id));
            assert_eq!(resolved(target, &with_id).unwrap(), session);
        }
    }

    fn arguments(target: Option<&str>, address: Option<&str>, ids: &[&str]) -> ClusterArguments {
        ClusterArguments {
            target: target.map(str::to_owned),
            jobmanager: address.map(str::to_owned),
            properties: ids.iter().map(|id| format!("yarn.application.id={id}")).collect(),
            ..ClusterArguments::default()
        }
    }

    #[test]
    fn a_cluster_of_its_own_has_no_id_yet() {
        let refused = |target: &str, address: Option<&str>| {
            let cluster = arguments(Some(target), address, &["application_1_0002"]);
            let (configuration, _) = configuration(&cluster).unwrap();
            let run = target_of_program(&cluster, &configuration).map(|_| ());
            let application = refuse_other_targets(&cluster, &configuration);
            [run, application].map(|it| it.err().map_or_else(String::new, |it| it.to_string()))
        };
        for target in ["yarn-per-job", "yarn-application"] {
            let [run, application] = refused(target, None);
            assert!(run.contains("yarn.application.id names application_1_0002"), "{run}");
            assert!(run.contains("-t yarn-session to run in application_1_0002"), "{run}");
            assert!(!application.is_empty());
            assert!(!refused(target, Some("yarn-cluster"))[0].is_empty());
        }
        let [run, application] = refused("yarn-session", None);
        assert_eq!(run, "");
        assert!(application.contains("the target is yarn-session: use run"), "{application}");
        // The other commands look for a cluster that exists, by whatever target.
        let listed = resolved(Some("yarn-per-job"), &["yarn.application.id=application_1_0002"]);
        assert!(matches!(listed.unwrap(), Target::YarnSession(_)));
    }

    #[test]
    fn two_options_that_name_different_clusters_are_refused() {
        for (target, address, ids, expected) in [
            (Some("yarn-session"), Some("host:1"), &[][..], "-m host:1 and -t yarn-session"),
            (Some("remote"), None, &["application_1_0002"], "names application_1_0002, and"),
            (None, Some("host:1"), &["application_1_0002"], "names application_1_0002, and"),
        ] {
            let cluster = arguments(target, address, ids);
            let (configuration, _) = configuration(&cluster).unwrap();
            let error = super::target(&cluster, &configuration).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        // Old scripts write it so.
        let old = arguments(None, Some("yarn-cluster"), &["application_1_0002"]);
        let (loaded, _) = configuration(&old).unwrap();
        let old = target_of_program(&old, &loaded).unwrap();
        assert!(matches!(old, Target::YarnSession(_)), "{old:?}");
        let both = arguments(Some("yarn-per-job"), Some("yarn-cluster"), &[]);
        let (loaded, _) = configuration(&both).unwrap();
        assert_eq!(super::target(&both, &loaded).unwrap(), Target::YarnPerJob);
        let mut twice = arguments(None, None, &["application_1_0002"]);
        twice.yarn.application_id = Some("application_1_0003".to_owned());
        let error = configuration(&twice).unwrap_err().to_string();
        assert!(error.contains("-yid application_1_0003 and -Dyarn.application.id="), "{error}");
        twice.yarn.application_id = Some("application_1_0002".to_owned());
        assert!(configuration(&twice).is_ok());
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
