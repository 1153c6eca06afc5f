//! The cluster as a whole.

use serde::{Deserialize, Serialize};

use crate::EmptyList;

/// `GET /overview`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClusterOverview {
    /// Registered TaskManagers.
    pub taskmanagers: u64,
    /// TaskManagers that get no tasks; always 0 here.
    pub taskmanagers_blocked: u64,
    /// Slots of all TaskManagers.
    pub slots_total: u64,
    /// Slots that belong to no job.
    pub slots_available: u64,
    /// Free slots of blocked TaskManagers; always 0 here.
    pub slots_free_and_blocked: u64,
    /// Jobs that have not ended.
    pub jobs_running: u64,
    /// Jobs that ended by themselves.
    pub jobs_finished: u64,
    /// Jobs that a user ended.
    pub jobs_cancelled: u64,
    /// Jobs that ended with a failure.
    pub jobs_failed: u64,
    /// The version of Millstream.
    pub flink_version: String,
    /// The revision of its source.
    pub flink_commit: String,
}

/// `GET /config`: the settings of a dashboard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DashboardConfiguration {
    /// The time between two looks, in milliseconds.
    pub refresh_interval: u64,
    /// The name of the cluster's time zone.
    pub timezone_name: String,
    /// The time zone's distance from UTC, in milliseconds.
    pub timezone_offset: i32,
    /// The version of Millstream.
    pub flink_version: String,
    /// The revision of its source.
    pub flink_revision: String,
    /// Features that can be switched off.
    pub features: Features,
}

/// Features of [`DashboardConfiguration`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Features {
    /// Programs may be uploaded and run.
    pub web_submit: bool,
    /// Jobs may be cancelled.
    pub web_cancel: bool,
    /// The parallelism of running jobs may be changed.
    pub web_rescale: bool,
    /// The server is a history server.
    pub web_history: bool,
}

/// An entry of `GET /jobmanager/config`, which is a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationInfoEntry {
    /// The option.
    pub key: String,
    /// The value; stars if it is a secret.
    pub value: String,
}

/// `GET /jobmanager/environment`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentInfo {
    /// Says that there is no JVM.
    pub jvm: JvmInfo,
    /// The class path.
    pub classpath: EmptyList,
}

/// The place of a JVM in [`EnvironmentInfo`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JvmInfo {
    /// The version of Millstream.
    pub version: String,
    /// The architecture of the machine.
    pub arch: String,
    /// The options of the JVM.
    pub options: EmptyList,
}

/// `GET /jobmanager/thread-dump`, and that of a TaskManager: there is no JVM with stacks to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ThreadDumpInfo {
    /// The threads.
    pub thread_infos: EmptyList,
}

/// `GET /jobmanager/profiler`, and that of a TaskManager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfilingInfoList {
    /// The profiles.
    pub profiling_list: EmptyList,
}

/// `GET /datasets`: cached results of batch jobs, which do not exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterDataSetListResponseBody {
    /// The data sets.
    pub data_sets: EmptyList,
}

/// `GET /applications/overview`: Flink 2.3's applications do not exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MultipleApplicationsDetails {
    /// The applications.
    pub applications: EmptyList,
}

/// `GET /jobmanager/logs`, and that of a TaskManager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogListInfo {
    /// The files, by name.
    pub logs: Vec<LogInfo>,
}

/// One file of [`LogListInfo`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogInfo {
    /// The name of the file.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// The time of its last change.
    pub mtime: i64,
}

/// `GET /jobs/:jobid/jobmanager/log-url`, and that of a TaskManager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogUrlResponse {
    /// The address of the log.
    pub url: String,
}

/// `PUT /millstream/lease`: the client for which the cluster exists lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LeaseInfo {
    /// The time until the next renewal is due, in milliseconds.
    pub timeout_ms: u64,
}
