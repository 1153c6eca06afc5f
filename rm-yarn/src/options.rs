//! The options of YARN: Flink's `yarn.*`, and one of our own among them.

use std::path::PathBuf;
use std::time::Duration;

use millstream_config::{KeyPrefix, OptionTable, OptionValue, PortRange, one_of};

use crate::client::Transport;

impl OptionValue for Transport {
    const KIND: &'static str = "rpc or rest";

    fn read(text: &str) -> Result<Self, String> {
        one_of(text, &[("rpc", Self::Rpc), ("rest", Self::Rest)])
    }
}

millstream_config::declare_options! {
    /// The application at which a command is aimed.
    YARN_APPLICATION_ID: Option<String> = "yarn.application.id";
    /// The application's name; unset: the purpose of the cluster.
    YARN_APPLICATION_NAME: Option<String> = "yarn.application.name";
    /// The application's node label: that of its containers, unless they have their own.
    YARN_APPLICATION_NODE_LABEL: Option<String> = "yarn.application.node-label";
    /// The application's priority; -1: the cluster's default.
    YARN_APPLICATION_PRIORITY: i32 = "yarn.application.priority", default "-1";
    /// The queue; unset: `default`.
    YARN_APPLICATION_QUEUE: Option<String> = "yarn.application.queue";
    /// The application's type; unset: `Millstream`.
    YARN_APPLICATION_TYPE: Option<String> = "yarn.application.type";
    /// Number of times that YARN may start the JobManager. Only 1 is accepted until there is high
    /// availability.
    YARN_APPLICATION_ATTEMPTS: Option<u32> = "yarn.application-attempts";
    /// The ports that the JobManager's RPC server tries to bind on YARN; 0: any free one.
    YARN_APPLICATION_MASTER_PORT: PortRange = "yarn.application-master.port", default "0";
    /// The virtual cores of the JobManager's container.
    YARN_APPMASTER_VCORES: u32 = "yarn.appmaster.vcores", default "1", not 0;
    /// Protocol between commands and the ResourceManager: `rpc` (Hadoop RPC), or `rest` (HTTP)
    /// where the port of the former is closed.
    YARN_CLIENT_TRANSPORT: Transport = "yarn.client.transport", default "rpc";
    /// The virtual cores of a TaskManager's container; -1: as many as it has slots.
    YARN_CONTAINERS_VCORES: i32 = "yarn.containers.vcores", default "-1";
    /// The replication of staged files; -1: the file system's default.
    YARN_FILE_REPLICATION: i32 = "yarn.file-replication", default "-1";
    /// Interval of heartbeats to YARN's ResourceManager while no container is wanted, in seconds.
    YARN_HEARTBEAT_INTERVAL: u32 = "yarn.heartbeat.interval", default "5", not 0;
    /// Longest interval of heartbeats while containers are waited for.
    YARN_HEARTBEAT_CONTAINER_REQUEST_INTERVAL: Duration =
        "yarn.heartbeat.container-request-interval", default "500 ms", not 0;
    /// Users and groups that may change and end the application beside its owner: users, a blank,
    /// groups; `*`: all.
    YARN_MODIFY_ACLS: Option<String> = "yarn.modify.acls";
    /// Where the file that names the last session lies; unset: the system's temporary directory.
    YARN_PROPERTIES_FILE_LOCATION: Option<PathBuf> = "yarn.properties-file.location";
    /// Regular expression for rolled log files that are aggregated while the application runs.
    YARN_ROLLED_LOGS_INCLUDE_PATTERN: Option<String> = "yarn.rolled-logs.include-pattern";
    /// Regular expression for exceptions from `yarn.rolled-logs.include-pattern`.
    YARN_ROLLED_LOGS_EXCLUDE_PATTERN: Option<String> = "yarn.rolled-logs.exclude-pattern";
    /// Directories on the cluster's file system, whose files containers find in their own
    /// directory.
    YARN_PROVIDED_LIB_DIRS: Vec<String> = "yarn.provided.lib.dirs", default "";
    /// Archives that are unpacked in every container.
    YARN_SHIP_ARCHIVES: Vec<String> = "yarn.ship-archives", default "";
    /// Files and directories that every container finds in its own directory.
    YARN_SHIP_FILES: Vec<String> = "yarn.ship-files", default "";
    /// Where files are staged; unset: the user's home on the default file system, where a relative
    /// path begins, too.
    YARN_STAGING_DIRECTORY: Option<String> = "yarn.staging-directory";
    /// The application's tags, separated by commas.
    YARN_TAGS: Option<String> = "yarn.tags";
    /// The node label of TaskManagers; unset: the application's.
    YARN_TASKMANAGER_NODE_LABEL: Option<String> = "yarn.taskmanager.node-label";
    /// Users and groups that may see the application and its logs beside its owner: users, a blank,
    /// groups; `*`: all.
    YARN_VIEW_ACLS: Option<String> = "yarn.view.acls";
}

/// Variables of the JobManager's container.
pub const MASTER_ENVIRONMENT: KeyPrefix = KeyPrefix {
    prefix: "containerized.master.env.",
    end: "NAME",
    doc: "An environment variable of the JobManager's container.",
};

/// The old name of [`MASTER_ENVIRONMENT`].
pub const MASTER_ENVIRONMENT_OLD: KeyPrefix = KeyPrefix {
    prefix: "yarn.application-master.env.",
    end: "NAME",
    doc: "The old name of `containerized.master.env.NAME`.",
};

/// Variables of the TaskManagers' containers.
pub const WORKER_ENVIRONMENT: KeyPrefix = KeyPrefix {
    prefix: "containerized.taskmanager.env.",
    end: "NAME",
    doc: "One of the TaskManagers' containers.",
};

/// Properties of Hadoop, over what its files say: the prefix is cut off.
pub const HADOOP_PROPERTIES: KeyPrefix = KeyPrefix {
    prefix: "flink.hadoop.",
    end: "key",
    doc: "A property of Hadoop's configuration, over what its files say.",
};

/// Properties of Hadoop below `yarn.`, which replaces the prefix.
pub const YARN_PROPERTIES: KeyPrefix = KeyPrefix {
    prefix: "flink.yarn.",
    end: "key",
    doc: "The same for a property whose name begins with `yarn.`.",
};

/// The options of this driver.
pub const TABLE: OptionTable = OptionTable {
    options: ALL,
    prefixes: &[
        MASTER_ENVIRONMENT,
        WORKER_ENVIRONMENT,
        HADOOP_PROPERTIES,
        YARN_PROPERTIES,
        MASTER_ENVIRONMENT_OLD,
    ],
};

/// Settings of a process that knows these options.
#[cfg(test)]
pub(crate) fn configuration<'a>(
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<millstream_config::Configuration, millstream_config::ConfigError> {
    let known = millstream_config::KnownOptions::with_drivers(&[TABLE]);
    millstream_config::Configuration::knowing(known).with_pairs(pairs)
}
