//! `yarn-session`: the options of the script, and what only YARN can be asked.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use millstream_config::options;
use millstream_rm_yarn::options as yarn_options;
use millstream_rm_yarn::proto::yarn::NodeReportProto;

use crate::arguments::YarnSessionArguments;
use crate::drivers::Driver as _;
use crate::drivers::yarn::{Yarn, connect};
use crate::flows::session;
use crate::target::{NO_HIGH_AVAILABILITY, Said, megabytes, with_properties};
use crate::{console, runtime, settings};

/// Starts a session, attaches to one, or shows the nodes.
pub(crate) fn run(arguments: &YarnSessionArguments) -> Result<ExitCode> {
    old_options(arguments);
    let configuration = settings::load(&properties(arguments)?)?;
    if arguments.query {
        let mut yarn = connect(&configuration, None)?;
        let nodes = runtime()?.block_on(yarn.client().running_nodes())?;
        console::print(format_args!("{}", nodes_text(&nodes).trim_end()));
        return Ok(ExitCode::SUCCESS);
    }
    let (engine, detached) = (arguments.jar.clone(), arguments.detached);
    let Some(id) = configuration.get(&yarn_options::YARN_APPLICATION_ID)? else {
        let started = session::start(&Yarn, &configuration, engine, detached);
        return runtime()?.block_on(started);
    };
    if describes_a_cluster(arguments) {
        console::warn(format_args!(
            "{id} runs already: options for memory, slots, name, queue and files have no effect"
        ));
    }
    let id = Yarn.cluster_id(&id)?;
    runtime()?.block_on(session::attach(&Yarn, &configuration, &id, detached))
}

/// Whether an option says how a new session should be.
fn describes_a_cluster(arguments: &YarnSessionArguments) -> bool {
    let texts = [
        &arguments.job_manager_memory,
        &arguments.task_manager_memory,
        &arguments.slots,
        &arguments.name,
        &arguments.application_type,
        &arguments.queue,
        &arguments.node_label,
    ];
    texts.iter().any(|text| text.is_some()) || !arguments.ship.is_empty() || arguments.jar.is_some()
}

/// Says what options of old scripts do today.
fn old_options(arguments: &YarnSessionArguments) {
    let renamed = arguments.renamed.iter().filter_map(|both| both.split_once(':'));
    for (old, new) in renamed {
        console::warn(format_args!("{old} is an option of `run`: write {new} here"));
    }
    if arguments.jobmanager.is_some() {
        console::warn(format_args!("-m has no effect: leave it out, a session is always on YARN"));
    }
    if arguments.container.is_some() || arguments.streaming {
        console::warn(format_args!(
            "-n and -st have no effect: a session gets its containers when its jobs need them"
        ));
    }
    if arguments.zookeeper_namespace.is_some() {
        console::warn(format_args!("-z has no effect: {NO_HIGH_AVAILABILITY}"));
    }
}

/// The options as properties.
fn properties(arguments: &YarnSessionArguments) -> Result<Vec<String>> {
    let mut own = Vec::new();
    let mut set = |option: &'static str, key: &'static str, value: Option<String>| {
        own.extend(value.map(|value| Said { option, key, value }));
    };
    let memory = |value: &Option<String>| value.as_deref().map(megabytes);
    let (master, worker) = (&arguments.job_manager_memory, &arguments.task_manager_memory);
    set("-jm", options::JOBMANAGER_MEMORY_PROCESS_SIZE.key(), memory(master));
    set("-tm", options::TASKMANAGER_MEMORY_PROCESS_SIZE.key(), memory(worker));
    set("-s", options::TASKMANAGER_NUMBER_OF_TASK_SLOTS.key(), arguments.slots.clone());
    set("-nm", yarn_options::YARN_APPLICATION_NAME.key(), arguments.name.clone());
    set("-at", yarn_options::YARN_APPLICATION_TYPE.key(), arguments.application_type.clone());
    set("-qu", yarn_options::YARN_APPLICATION_QUEUE.key(), arguments.queue.clone());
    set("-nl", yarn_options::YARN_APPLICATION_NODE_LABEL.key(), arguments.node_label.clone());
    let ship = (!arguments.ship.is_empty()).then(|| arguments.ship.join(";"));
    set("-t", yarn_options::YARN_SHIP_FILES.key(), ship);
    set("-id", yarn_options::YARN_APPLICATION_ID.key(), arguments.application_id.clone());
    with_properties(own, &arguments.properties)
}

fn nodes_text(nodes: &[NodeReportProto]) -> String {
    let mut text = String::new();
    let (mut memory, mut vcores) = (0, 0);
    for node in nodes {
        let (all, used) =
            (node.capability.clone().unwrap_or_default(), node.used.clone().unwrap_or_default());
        let id = node.node_id.clone().unwrap_or_default();
        let free = (all.memory() - used.memory(), all.virtual_cores() - used.virtual_cores());
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{}:{}: {} MB and {} virtual cores free of {} MB and {}, {} containers",
            id.host(),
            id.port(),
            free.0,
            free.1,
            all.memory(),
            all.virtual_cores(),
            node.num_containers()
        );
        memory += free.0;
        vcores += free.1;
    }
    let count = nodes.len();
    text + &format!("{count} NodeManagers, {memory} MB and {vcores} virtual cores free")
}

#[cfg(test)]
mod tests {
    use millstream_rm_yarn::proto::yarn::{NodeIdProto, ResourceProto};

    use super::*;

    #[test]
    fn nodes_show_what_is_free() {
        let size = |memory, cores| {
            Some(ResourceProto {
                memory: Some(memory),
                virtual_cores: Some(cores),
                ..ResourceProto::default()
            })
        };
        let node = NodeReportProto {
            node_id: Some(NodeIdProto { host: Some("a".to_owned()), port: Some(1) }),
            capability: size(8192, 8),
            used: size(1024, 1),
            num_containers: Some(1),
            ..NodeReportProto::default()
        };
        let text = nodes_text(&[node.clone(), node]);
        assert!(
            text.starts_with(
                "a:1: 7168 MB and 7 virtual cores free of 8192 MB and 8, 1 containers\n"
            )
        );
        assert!(text.ends_with("2 NodeManagers, 14336 MB and 14 virtual cores free"), "{text}");
    }

    #[test]
    fn options_are_properties() {
        let arguments = YarnSessionArguments {
            job_manager_memory: Some("512".to_owned()),
            task_manager_memory: Some("1g".to_owned()),
            ship: vec!["a".to_owned(), "b".to_owned()],
            properties: vec!["x=y".to_owned()],
            ..YarnSessionArguments::default()
        };
        assert_eq!(
            properties(&arguments).unwrap(),
            [
                "jobmanager.memory.process.size=512m",
                "taskmanager.memory.process.size=1g",
                "yarn.ship-files=a;b",
                "x=y",
            ]
        );
        let twice = YarnSessionArguments {
            application_id: Some("application_1_0001".to_owned()),
            properties: vec!["yarn.application.id=application_1_0002".to_owned()],
            ..YarnSessionArguments::default()
        };
        let error = properties(&twice).unwrap_err().to_string();
        assert!(error.contains("-id application_1_0001"), "{error}");
    }
}
