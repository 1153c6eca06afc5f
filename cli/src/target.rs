//! Where a command's jobs run.

use anyhow::{Context as _, Result, anyhow, bail};
use millstream_config::{Configuration, options};
use millstream_rm_driver::ClusterId;
use millstream_rm_yarn::options as yarn_options;

use crate::arguments::{ClusterArguments, YarnArguments};
use crate::drivers::{self, Driver};
use crate::rest::RestClient;
use crate::{console, flows, settings};

/// Why options that belong to high availability do nothing.
pub(crate) const NO_HIGH_AVAILABILITY: &str =
    "it belongs to high availability, which this version does not have";

/// A place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A cluster at a known address.
    Remote,
    /// A cluster that a driver has deployed.
    Session(&'static dyn Driver, ClusterId),
    /// A cluster for one job.
    PerJob(&'static dyn Driver),
    /// A cluster that runs the program too.
    Application(&'static dyn Driver),
}

/// The kind of cluster that a driver's target means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Session,
    PerJob,
    Application,
}

impl Mode {
    const ALL: [(&'static str, Self); 3] =
        [("session", Self::Session), ("per-job", Self::PerJob), ("application", Self::Application)];
}

/// The driver and the mode that a target's name means.
fn named_target(name: &str) -> Option<(&'static dyn Driver, Mode)> {
    drivers::ALL.iter().find_map(|driver| {
        let mode = name.strip_prefix(driver.name())?.strip_prefix('-')?;
        Mode::ALL.iter().find(|(word, _)| *word == mode).map(|(_, mode)| (*driver, *mode))
    })
}

/// The cluster that an option names, with its driver.
fn named_cluster(configuration: &Configuration) -> Result<Option<(&'static dyn Driver, String)>> {
    for driver in drivers::ALL {
        if let Some(id) = configuration.get(driver.id_option())? {
            return Ok(Some((*driver, id)));
        }
    }
    Ok(None)
}

/// The configuration of a command with all that its options say about clusters.
pub(crate) fn configuration(cluster: &ClusterArguments) -> Result<(Configuration, Vec<String>)> {
    configuration_with(cluster, Vec::new())
}

/// The same with the properties that other options of the command set.
pub(crate) fn configuration_with(
    cluster: &ClusterArguments,
    own: Vec<Said>,
) -> Result<(Configuration, Vec<String>)> {
    let mut properties = old_options(&cluster.yarn, &cluster.properties)?;
    properties.extend(with_properties(own, &cluster.properties)?);
    Ok((settings::load(&properties)?, properties))
}

/// The property that an option other than `-D` sets.
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

/// The properties that the old options for YARN set.
fn old_options(yarn: &YarnArguments, properties: &[String]) -> Result<Vec<String>> {
    let mut own = Vec::new();
    let mut set = |option: &'static str, key: &'static str, value: &Option<String>| {
        own.extend(value.clone().map(|value| Said { option, key, value }));
    };
    set("-yid", yarn_options::YARN_APPLICATION_ID.key(), &yarn.application_id);
    set("-yat", yarn_options::YARN_APPLICATION_TYPE.key(), &yarn.application_type);
    let memory = |value: &Option<String>| value.as_deref().map(megabytes);
    let (master, worker) = (memory(&yarn.job_manager_memory), memory(&yarn.task_manager_memory));
    set("-yjm", options::JOBMANAGER_MEMORY_PROCESS_SIZE.key(), &master);
    set("-ytm", options::TASKMANAGER_MEMORY_PROCESS_SIZE.key(), &worker);
    set("-ys", options::TASKMANAGER_NUMBER_OF_TASK_SLOTS.key(), &yarn.slots);
    set("-ynm", yarn_options::YARN_APPLICATION_NAME.key(), &yarn.name);
    set("-yqu", yarn_options::YARN_APPLICATION_QUEUE.key(), &yarn.queue);
    set("-ynl", yarn_options::YARN_APPLICATION_NODE_LABEL.key(), &yarn.node_label);
    let ship = (!yarn.ship.is_empty()).then(|| yarn.ship.join(";"));
    set("-yt", yarn_options::YARN_SHIP_FILES.key(), &ship);
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
            let session = configuration.get(&yarn_options::YARN_APPLICATION_ID)?.is_some();
            let name = if session { "yarn-session" } else { "yarn-per-job" };
            console::warn(format_args!("-m yarn-cluster is deprecated: write -t {name}"));
            Some(name.to_owned())
        }
        (None, Some(_)) => Some("remote".to_owned()),
        (None, None) => configuration.get(&options::EXECUTION_TARGET)?,
    })
}

/// Whether an option of this command, and not only the configuration, names a cluster.
fn names_cluster(cluster: &ClusterArguments, driver: &dyn Driver) -> bool {
    let key = driver.id_option().key();
    let mut properties = cluster.properties.iter().chain(&cluster.yarn.properties);
    let old_option = key == yarn_options::YARN_APPLICATION_ID.key();
    (old_option && cluster.yarn.application_id.is_some())
        || properties.any(|property| property.split_once('=').is_some_and(|it| it.0.trim() == key))
}

/// The target that options, configuration and the last session name, in this order.
pub(crate) fn target(cluster: &ClusterArguments, configuration: &Configuration) -> Result<Target> {
    let named = target_name(cluster, configuration)?;
    let Some(name) = named.as_deref() else { return unnamed_target(configuration) };
    if name == "remote" {
        if let Some((driver, id)) = named_cluster(configuration)?
            && names_cluster(cluster, driver)
        {
            let key = driver.id_option().key();
            bail!("{key} names {id}, and -t remote or -m another cluster: leave one of them out");
        }
        return Ok(Target::Remote);
    }
    if name == "local" {
        bail!("target local needs no cluster: start the program itself and it runs here");
    }
    let Some((driver, mode)) = named_target(name) else {
        let names: Vec<String> = drivers::ALL
            .iter()
            .flat_map(|driver| Mode::ALL.map(|(mode, _)| format!("{}-{mode}", driver.name())))
            .collect();
        let (last, others) = names.split_last().context("there is no driver")?;
        bail!("there is no target {name:?}: use remote, {} or {last}", others.join(", "));
    };
    if let Some(id) = configuration.get(driver.id_option())? {
        return Ok(Target::Session(driver, driver.cluster_id(&id)?));
    }
    match mode {
        Mode::PerJob => Ok(Target::PerJob(driver)),
        Mode::Application => Ok(Target::Application(driver)),
        Mode::Session => {
            let last = driver.sessions(configuration)?.last()?;
            last.map(|id| Target::Session(driver, id)).ok_or_else(|| {
                anyhow!(
                    "no session on {} is known: start one with {}-session.sh, or name one with \
                     -D{}={}",
                    driver.name().to_uppercase(),
                    driver.name(),
                    driver.id_option().key(),
                    driver.id_example()
                )
            })
        }
    }
}

/// The cluster that an option names, else the last session that a driver remembers, else the
/// address in the configuration.
fn unnamed_target(configuration: &Configuration) -> Result<Target> {
    if let Some((driver, id)) = named_cluster(configuration)? {
        return Ok(Target::Session(driver, driver.cluster_id(&id)?));
    }
    for driver in drivers::ALL {
        let sessions = driver.sessions(configuration)?;
        let Some(session) = sessions.last()? else { continue };
        console::warn(format_args!(
            "the session {session} is used, which {sessions} names; -t remote uses {}",
            options::REST_ADDRESS.key()
        ));
        return Ok(Target::Session(*driver, session));
    }
    Ok(Target::Remote)
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
    refuse_id_of_other(named.as_deref(), configuration)?;
    let target = target(cluster, configuration)?;
    if let Target::Session(_, id) = &target
        && cluster.yarn.describes_a_cluster()
    {
        console::warn(format_args!(
            "{id} runs already: options for memory, slots, name, queue and files have no effect"
        ));
    }
    Ok(target)
}

/// The driver that deploys the program of `run-application`, which always gets a cluster of its
/// own: an option that this would ignore is refused.
pub(crate) fn driver_of_application(
    cluster: &ClusterArguments,
    configuration: &Configuration,
) -> Result<&'static dyn Driver> {
    // Old scripts write it so.
    let old = cluster.jobmanager.as_deref() == Some("yarn-cluster");
    let named = if old { None } else { target_name(cluster, configuration)? };
    let usual = || drivers::ALL.first().map(|driver| (*driver, Mode::Application));
    let meant = match named.as_deref() {
        None => usual(),
        Some(name) => named_target(name),
    };
    let Some((driver, Mode::Application)) = meant else {
        let name = named.unwrap_or_default();
        let driver = usual().map_or("", |(driver, _)| driver.name());
        bail!(
            "run-application deploys a cluster for its program (-t {driver}-application), but the \
             target is {name}: use run, or leave the target out"
        );
    };
    refuse_id_of_other(Some(&format!("{}-application", driver.name())), configuration)?;
    Ok(driver)
}

fn refuse_id_of_other(target: Option<&str>, configuration: &Configuration) -> Result<()> {
    let Some(target) = target else { return Ok(()) };
    let Some((driver, Mode::PerJob | Mode::Application)) = named_target(target) else {
        return Ok(());
    };
    match configuration.get(driver.id_option())? {
        Some(id) => bail!(
            "target {target} deploys a cluster of its own, but {} names {id}: leave that out, or \
             use -t {}-session to run in {id}",
            driver.id_option().key(),
            driver.name()
        ),
        None => Ok(()),
    }
}

/// A client of the running cluster that is meant.
pub(crate) async fn running_cluster(
    cluster: &ClusterArguments,
    configuration: &Configuration,
) -> Result<RestClient> {
    match target(cluster, configuration)? {
        Target::Remote => RestClient::new(cluster, configuration),
        Target::Session(driver, id) => {
            let mut deployer = driver.deployer(configuration, Some(&id))?;
            Ok(flows::find(driver, deployer.as_mut(), &id, configuration).await?.client)
        }
        Target::PerJob(driver) | Target::Application(driver) => bail!(
            "which cluster is meant? name it with -D{}={}",
            driver.id_option().key(),
            driver.id_example()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::yarn::Yarn;

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
        assert_eq!(resolved(None, &configured).unwrap(), Target::PerJob(&Yarn));
        assert_eq!(resolved(Some("remote"), &configured).unwrap(), Target::Remote);
        let id = ClusterId::new("application_1_0002");
        let with_id = ["yarn.application.id=application_1_0002"];
        for target in [None, Some("yarn-session"), Some("yarn-application")] {
            let session = Target::Session(&Yarn, id.clone());
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
            let application = driver_of_application(&cluster, &configuration).map(|_| ());
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
        // The other commands look for an existing cluster, for any target.
        let listed = resolved(Some("yarn-per-job"), &["yarn.application.id=application_1_0002"]);
        assert!(matches!(listed.unwrap(), Target::Session(..)));
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
        assert!(matches!(old, Target::Session(..)), "{old:?}");
        let both = arguments(Some("yarn-per-job"), Some("yarn-cluster"), &[]);
        let (loaded, _) = configuration(&both).unwrap();
        assert_eq!(super::target(&both, &loaded).unwrap(), Target::PerJob(&Yarn));
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
