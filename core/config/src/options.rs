//! The engine's table of options: one constant each, with key, type, default and description.
//!
//! Keys are Flink's where the meaning is Flink's; our own start with `millstream.`. The sentence
//! over a constant is also its line in `docs/configuration.md`. A test of the command line fails
//! for a constant that no code reads, so an option arrives together with its effect.
//!
//! A driver's options are in a table of its own crate.

use std::path::PathBuf;
use std::time::Duration;

use millstream_types::{ByteSize, RuntimeMode};

use crate::option::OptionTable;
use crate::values::{
    CheckpointInterval, CheckpointRetention, CheckpointingMode, ClaimMode, FailoverStrategy,
    LogLevel, PortRange, RestartStrategyType, Seconds,
};

crate::declare_options! {
    /// The host at which TaskManagers and clients reach the JobManager.
    JOBMANAGER_RPC_ADDRESS: String = "jobmanager.rpc.address", default "localhost";
    /// The port of the JobManager's RPC server.
    JOBMANAGER_RPC_PORT: u16 = "jobmanager.rpc.port", default "6123";
    /// The local address that the JobManager's RPC server binds to; not Flink's 0.0.0.0, because a
    /// server is open to other hosts only by explicit choice.
    JOBMANAGER_BIND_HOST: String = "jobmanager.bind-host", default "localhost";
    /// Time limit for a call between processes.
    PEKKO_ASK_TIMEOUT: Duration = "pekko.ask.timeout", default "10 s", not 0;
    /// The time between two heartbeats.
    HEARTBEAT_INTERVAL: Duration = "heartbeat.interval", default "10 s", not 0;
    /// Time of silence after which a process counts as lost; a closed connection is noticed at
    /// once.
    HEARTBEAT_TIMEOUT: Duration = "heartbeat.timeout", default "50 s", not 0;
    /// Number of finished jobs that the JobManager remembers.
    JOBSTORE_MAX_CAPACITY: u32 = "jobstore.max-capacity", default "2147483647";
    /// Time for which the JobManager remembers a finished job.
    JOBSTORE_EXPIRATION_TIME: Seconds = "jobstore.expiration-time", default "3600";
    /// Time for which JobManager and TaskManagers keep an artifact that no job uses any more.
    BLOB_SERVICE_CLEANUP_INTERVAL: Seconds = "blob.service.cleanup.interval", default "3600";

    /// The host at which clients reach the REST server.
    REST_ADDRESS: String = "rest.address", default "localhost", else "jobmanager.rpc.address";
    /// The port at which clients reach the REST server.
    REST_PORT: u16 = "rest.port", default "8081";
    /// The ports that the REST server tries to bind, in order.
    REST_BIND_PORT: PortRange = "rest.bind-port", default "8081", else "rest.port";
    /// The local address that the REST server binds to.
    REST_BIND_ADDRESS: String = "rest.bind-address", default "localhost";
    /// Number of times that a client repeats a REST call that failed for want of a connection.
    REST_RETRY_MAX_ATTEMPTS: u32 = "rest.retry.max-attempts", default "20";
    /// Pause of a client before it repeats a REST call.
    REST_RETRY_DELAY: Duration = "rest.retry.delay", default "3 s";
    /// Time limit of a client for connecting to the REST server.
    REST_CONNECTION_TIMEOUT: Duration = "rest.connection-timeout", default "15 s", not 0;
    /// The largest request that the REST server accepts, and so the largest artifact.
    REST_SERVER_MAX_CONTENT_LENGTH: ByteSize =
        "rest.server.max-content-length", default "100 mb", not 0;
    /// Whether REST answers clients of Flink 1.20 where they and those of 2.x want different
    /// fields: `execution-mode` in `/jobs/:jobid/config`, which 1.20 requires and 2.x refuses.
    REST_FLINK_1_CLIENTS: bool = "millstream.rest.flink-1-clients", default "false";
    /// Where uploaded artifacts are kept; unset: in the first of `io.tmp.dirs`, and lost with the
    /// JobManager.
    WEB_UPLOAD_DIR: Option<PathBuf> = "web.upload.dir";
    /// Whether artifacts may be uploaded and run over REST.
    WEB_SUBMIT_ENABLE: bool = "web.submit.enable", default "true";
    /// Whether jobs may be cancelled over REST.
    WEB_CANCEL_ENABLE: bool = "web.cancel.enable", default "true";
    /// Interval at which a user interface should ask again.
    WEB_REFRESH_INTERVAL: Duration = "web.refresh-interval", default "3 s";
    /// Number of failures of a job that are remembered.
    WEB_EXCEPTION_HISTORY_SIZE: u32 = "web.exception-history-size", default "16";
    /// Number of ended checkpoints of a job whose statistics are remembered.
    WEB_CHECKPOINTS_HISTORY: u32 = "web.checkpoints.history", default "10";

    /// The host at which other processes reach this TaskManager; unset: `taskmanager.bind-host`, or
    /// the machine's name where that is every address.
    TASKMANAGER_HOST: Option<String> = "taskmanager.host";
    /// The local address that the TaskManager's servers bind to; not Flink's 0.0.0.0.
    TASKMANAGER_BIND_HOST: String = "taskmanager.bind-host", default "localhost";
    /// The ports that the task hosts' data servers try to bind, in order; 0: any free one. Each
    /// host has a server of its own, so that a single port allows a single host.
    TASKMANAGER_DATA_PORT: PortRange = "taskmanager.data.port", default "0";
    /// Number of slots that a TaskManager offers.
    TASKMANAGER_NUMBER_OF_TASK_SLOTS: u32 = "taskmanager.numberOfTaskSlots", default "1", not 0;
    /// The TaskManager's id; unset: generated from its host and port.
    TASKMANAGER_RESOURCE_ID: Option<String> = "taskmanager.resource-id";
    /// The memory of the TaskManager with all its task hosts. The slots share the rest after
    /// `millstream.taskmanager.memory.overhead`. The default is that of Flink's shipped
    /// configuration file.
    TASKMANAGER_MEMORY_PROCESS_SIZE: ByteSize =
        "taskmanager.memory.process.size", default "1728 mb";
    /// The memory that the slots share, without the overhead; set, it replaces
    /// `taskmanager.memory.process.size`.
    TASKMANAGER_MEMORY_FLINK_SIZE: Option<ByteSize> = "taskmanager.memory.flink.size";
    /// The memory that the slots share, as in old files; set, it replaces
    /// `taskmanager.memory.flink.size`. There is one budget per task host and no heap within it.
    TASKMANAGER_MEMORY_TASK_HEAP_SIZE: Option<ByteSize> = "taskmanager.memory.task.heap.size";
    /// Time for which a TaskManager tries to register before it stops.
    TASKMANAGER_REGISTRATION_TIMEOUT: Duration =
        "taskmanager.registration.timeout", default "5 min", not 0;
    /// Where a process keeps temporary files; task hosts use several in turn.
    IO_TMP_DIRS: Vec<PathBuf> = "io.tmp.dirs", default "/tmp";

    /// Time for which a job waits for slots before it fails.
    SLOT_REQUEST_TIMEOUT: Duration = "slot.request.timeout", default "5 min", not 0;
    /// The tasks that restart after a failure: those that failed with all that channels connect
    /// with them, or all of the job. Sources and sinks can go back for some of their subtasks only
    /// if the job takes checkpoints; without, `region` restarts all tasks where these are
    /// concerned.
    JOBMANAGER_EXECUTION_FAILOVER_STRATEGY: FailoverStrategy =
        "jobmanager.execution.failover-strategy", default "region";
    /// Time limit for the registration of a worker that was started.
    RESOURCEMANAGER_TASKMANAGER_REGISTRATION_TIMEOUT: Duration =
        "resourcemanager.taskmanager-registration.timeout", default "5 min", not 0;
    /// Time after which an idle worker is given back.
    RESOURCEMANAGER_TASKMANAGER_TIMEOUT: Duration =
        "resourcemanager.taskmanager-timeout", default "30 s";
    /// Number of workers that may fail to start within a minute before no more are requested for a
    /// while.
    RESOURCEMANAGER_START_WORKER_MAX_FAILURE_RATE: f64 =
        "resourcemanager.start-worker.max-failure-rate", default "10.0";
    /// Time for which no workers are requested after too many failed to start.
    RESOURCEMANAGER_START_WORKER_RETRY_INTERVAL: Duration =
        "resourcemanager.start-worker.retry-interval", default "3 s";
    /// Least number of slots that all workers together offer, even without need.
    SLOTMANAGER_NUMBER_OF_SLOTS_MIN: u32 = "slotmanager.number-of-slots.min", default "0";
    /// Largest number of slots that all workers together offer.
    SLOTMANAGER_NUMBER_OF_SLOTS_MAX: u32 =
        "slotmanager.number-of-slots.max", default "2147483647";
    /// Number of idle workers that stand by, so that a job which lost one goes on without waiting.
    SLOTMANAGER_REDUNDANT_TASKMANAGER_NUM: u32 =
        "slotmanager.redundant-taskmanager-num", default "0";

    /// Whether records are encoded and read back between any two operators, even where they could
    /// be handed over as they are: for tests, because it shows in one process what fails in two.
    EXECUTION_SERIALIZE_ALWAYS: bool =
        "millstream.execution.serialize-always", default "false";
    /// The parallelism of jobs that do not say theirs.
    PARALLELISM_DEFAULT: u32 = "parallelism.default", default "1", not 0;
    /// The maximum parallelism of operators that do not say theirs; -1: derived from each one's
    /// parallelism.
    PIPELINE_MAX_PARALLELISM: i32 = "pipeline.max-parallelism", default "-1";
    /// The name of the job; unset: the program says it.
    PIPELINE_NAME: Option<String> = "pipeline.name";
    /// The time between two watermarks of a stream; 0 sends one after each batch that brings time
    /// on.
    PIPELINE_AUTO_WATERMARK_INTERVAL: Duration =
        "pipeline.auto-watermark-interval", default "200 ms";
    /// Whether operators are chained into one task where they can be.
    PIPELINE_OPERATOR_CHAINING_ENABLED: bool =
        "pipeline.operator-chaining.enabled", default "true";
    /// Whether a job emits every update or, over bounded sources, only final results.
    EXECUTION_RUNTIME_MODE: RuntimeMode = "execution.runtime-mode", default "STREAMING";
    /// Whether the client waits for the job's end.
    EXECUTION_ATTACHED: bool = "execution.attached", default "false";
    /// Whether an attached client that is interrupted cancels its job.
    EXECUTION_SHUTDOWN_ON_ATTACHED_EXIT: bool =
        "execution.shutdown-on-attached-exit", default "false";
    /// Time for which a record may wait in a buffer that is not full, while its task has input or
    /// its consumer is behind (otherwise it is sent at once); 0 sends each batch at once.
    EXECUTION_BUFFER_TIMEOUT_INTERVAL: Duration =
        "execution.buffer-timeout.interval", default "100 ms";
    /// Whether buffers that are not full are sent after the interval; if not, only full ones are.
    EXECUTION_BUFFER_TIMEOUT_ENABLED: bool = "execution.buffer-timeout.enabled", default "true";
    /// Time between the starts of two checkpoints of a job, at least 10 ms; unset or 0: the job
    /// takes no checkpoints.
    EXECUTION_CHECKPOINTING_INTERVAL: Option<CheckpointInterval> =
        "execution.checkpointing.interval";
    /// The guarantee of checkpoints: always EXACTLY_ONCE. AT_LEAST_ONCE is refused.
    EXECUTION_CHECKPOINTING_MODE: CheckpointingMode =
        "execution.checkpointing.mode", default "EXACTLY_ONCE";
    /// The directory of checkpoints, in which each job has one of its own; unset: checkpoints are
    /// kept in the JobManager's memory.
    EXECUTION_CHECKPOINTING_DIR: Option<String> = "execution.checkpointing.dir";
    /// The directory of savepoints for which none is given.
    EXECUTION_CHECKPOINTING_SAVEPOINT_DIR: Option<String> =
        "execution.checkpointing.savepoint-dir";
    /// Time limit for a checkpoint until all tasks have acknowledged it; then it is aborted.
    EXECUTION_CHECKPOINTING_TIMEOUT: Duration =
        "execution.checkpointing.timeout", default "10 min", not 0;
    /// Least time between the end of a checkpoint and the start of the next one.
    EXECUTION_CHECKPOINTING_MIN_PAUSE: Duration =
        "execution.checkpointing.min-pause", default "0 ms";
    /// Number of checkpoints that may be pending at once; savepoints do not count.
    EXECUTION_CHECKPOINTING_MAX_CONCURRENT_CHECKPOINTS: u32 =
        "execution.checkpointing.max-concurrent-checkpoints", default "1", not 0;
    /// Whether barriers overtake the records that wait for tasks, which become part of the
    /// checkpoint: then it does not wait for slow tasks. Needs one pending checkpoint at a time.
    /// Savepoints are aligned in any case.
    EXECUTION_CHECKPOINTING_UNALIGNED_ENABLED: bool =
        "execution.checkpointing.unaligned.enabled", default "false";
    /// Where barriers may overtake: time after which a checkpoint whose barriers have not left all
    /// tasks is given up, and one whose barriers overtake takes its place at once; `0 ms`: they
    /// overtake from the start.
    EXECUTION_CHECKPOINTING_ALIGNED_CHECKPOINT_TIMEOUT: Duration =
        "execution.checkpointing.aligned-checkpoint-timeout", default "0 ms";
    /// Number of checkpoints that may fail in a row; one more fails the job, and the restart
    /// strategy decides what follows.
    EXECUTION_CHECKPOINTING_TOLERABLE_FAILED_CHECKPOINTS: u32 =
        "execution.checkpointing.tolerable-failed-checkpoints", default "0";
    /// Number of complete checkpoints that are kept.
    EXECUTION_CHECKPOINTING_NUM_RETAINED: u32 =
        "execution.checkpointing.num-retained", default "1", not 0;
    /// Whether complete checkpoints stay when a job ends: never, if it failed
    /// (DELETE_ON_CANCELLATION), or if it failed or was cancelled (RETAIN_ON_CANCELLATION).
    EXECUTION_CHECKPOINTING_EXTERNALIZED_CHECKPOINT_RETENTION: CheckpointRetention =
        "execution.checkpointing.externalized-checkpoint-retention",
        default "NO_EXTERNALIZED_CHECKPOINTS";
    /// Whether checkpoints go on after some tasks have finished.
    EXECUTION_CHECKPOINTING_CHECKPOINTS_AFTER_TASKS_FINISH: bool =
        "execution.checkpointing.checkpoints-after-tasks-finish", default "true";
    /// The largest state that is kept within a checkpoint's metadata instead of a file; at most
    /// 1 mb.
    EXECUTION_CHECKPOINTING_DATA_INLINE_THRESHOLD: ByteSize =
        "execution.checkpointing.data-inline-threshold", default "20 kb";
    /// The savepoint or retained checkpoint from which a job starts: its directory.
    EXECUTION_STATE_RECOVERY_PATH: Option<String> = "execution.state-recovery.path";
    /// Whether a job starts although the savepoint has state of operators that the job lacks.
    EXECUTION_STATE_RECOVERY_IGNORE_UNCLAIMED_STATE: bool =
        "execution.state-recovery.ignore-unclaimed-state", default "false";
    /// The owner of the files from which a job has started: the user (NO_CLAIM), or the job
    /// (CLAIM), which deletes them when a later checkpoint is complete.
    EXECUTION_STATE_RECOVERY_CLAIM_MODE: ClaimMode =
        "execution.state-recovery.claim-mode", default "NO_CLAIM";
    /// Reaction to a failure of a job; unset: exponential-delay for a job that takes checkpoints,
    /// none for others.
    RESTART_STRATEGY_TYPE: Option<RestartStrategyType> = "restart-strategy.type";
    /// Number of times that a job restarts before it fails.
    RESTART_STRATEGY_FIXED_DELAY_ATTEMPTS: u32 =
        "restart-strategy.fixed-delay.attempts", default "1";
    /// Pause before a job restarts.
    RESTART_STRATEGY_FIXED_DELAY_DELAY: Duration =
        "restart-strategy.fixed-delay.delay", default "1 s";
    /// Pause before the first restart of a job.
    RESTART_STRATEGY_EXPONENTIAL_DELAY_INITIAL_BACKOFF: Duration =
        "restart-strategy.exponential-delay.initial-backoff", default "1 s";
    /// Longest pause before a job restarts.
    RESTART_STRATEGY_EXPONENTIAL_DELAY_MAX_BACKOFF: Duration =
        "restart-strategy.exponential-delay.max-backoff", default "1 min";
    /// Factor from one pause to the next, at least 1.
    RESTART_STRATEGY_EXPONENTIAL_DELAY_BACKOFF_MULTIPLIER: f64 =
        "restart-strategy.exponential-delay.backoff-multiplier", default "1.5";
    /// Time without a failure after which the next pause is the first one again.
    RESTART_STRATEGY_EXPONENTIAL_DELAY_RESET_BACKOFF_THRESHOLD: Duration =
        "restart-strategy.exponential-delay.reset-backoff-threshold", default "1 h";
    /// Part of a pause by which it is made longer or shorter, by chance: from 0 to 1.
    RESTART_STRATEGY_EXPONENTIAL_DELAY_JITTER_FACTOR: f64 =
        "restart-strategy.exponential-delay.jitter-factor", default "0.1";
    /// Number of restarts, each less than the threshold after the one before, after which a job
    /// fails.
    RESTART_STRATEGY_EXPONENTIAL_DELAY_ATTEMPTS_BEFORE_RESET_BACKOFF: u32 =
        "restart-strategy.exponential-delay.attempts-before-reset-backoff", default "2147483647";
    /// Pause before a job restarts.
    RESTART_STRATEGY_FAILURE_RATE_DELAY: Duration =
        "restart-strategy.failure-rate.delay", default "1 s";
    /// Time within which failures are counted.
    RESTART_STRATEGY_FAILURE_RATE_FAILURE_RATE_INTERVAL: Duration =
        "restart-strategy.failure-rate.failure-rate-interval", default "1 min", not 0;
    /// Number of failures within that time after which a job restarts; one more fails it.
    RESTART_STRATEGY_FAILURE_RATE_MAX_FAILURES_PER_INTERVAL: u32 =
        "restart-strategy.failure-rate.max-failures-per-interval", default "1";
    /// Time limit of a client for an answer of the cluster.
    CLIENT_TIMEOUT: Duration = "client.timeout", default "1 min", not 0;
    /// Interval of an attached client's heartbeats; less than the timeout.
    CLIENT_HEARTBEAT_INTERVAL: Duration = "client.heartbeat.interval", default "30 s", not 0;
    /// Time of silence of its attached client after which a job with `-sae`, or a cluster that was
    /// deployed attached, ends.
    CLIENT_HEARTBEAT_TIMEOUT: Duration = "client.heartbeat.timeout", default "3 min", not 0;
    /// Where jobs run: `remote`, `local`, `yarn-session`, `yarn-per-job` or `yarn-application`.
    EXECUTION_TARGET: Option<String> = "execution.target";
    /// The memory of the JobManager's container, with the programs that plan and coordinate in it.
    JOBMANAGER_MEMORY_PROCESS_SIZE: ByteSize = "jobmanager.memory.process.size", default "1 gb";

    /// Where the scripts put log files; unset: `log` in the installation.
    ENV_LOG_DIR: Option<PathBuf> = "env.log.dir";
    /// The least importance of log lines that are written.
    ENV_LOG_LEVEL: LogLevel = "env.log.level", default "INFO";
    /// Number of old log files that the scripts keep.
    ENV_LOG_MAX: u32 = "env.log.max", default "10";
    /// Where the scripts put pid files.
    ENV_PID_DIR: PathBuf = "env.pid.dir", default "/tmp";
    /// Options of ssh when the scripts start and stop processes on other hosts.
    ENV_SSH_OPTS: Option<String> = "env.ssh.opts";

    /// Whether servers may bind to an address that other hosts can reach although nothing
    /// encrypts or authenticates; without it such a bind is refused.
    ALLOW_INSECURE_NON_LOOPBACK_BIND: bool =
        "millstream.allow-insecure-non-loopback-bind", default "false";
    /// Time limit for a program until it calls execute, on the command line and for a REST call.
    PLAN_TIMEOUT: Duration = "millstream.plan.timeout", default "30 s", not 0;
    /// Memory limit of a program while it plans.
    PLAN_MEMORY: ByteSize = "millstream.plan.memory", default "1 gb", not 0;
    /// Time limit for a task host from its start until it is ready for tasks.
    HOST_START_TIMEOUT: Duration = "millstream.host.start-timeout", default "30 s", not 0;
    /// Memory limit of the coordinator host of a job.
    COORDINATOR_MEMORY: ByteSize = "millstream.coordinator.memory", default "256 mb", not 0;
    /// Time limit for a task to obey a cancellation before its task host is killed.
    TASK_CANCEL_TIMEOUT: Duration = "millstream.task.cancel-timeout", default "2 s";
    /// The longest time that the sinks of a job may take to publish their results before the job
    /// fails; longer than a storage may be away. A job can set it for itself.
    SINK_COMMIT_TIMEOUT: Duration = "millstream.sink.commit-timeout", default "20 min", not 0;
    /// The most bytes in which the writers of a job may name their results (the names of the files
    /// to publish); the coordinator host keeps them until the job has finished. A job can set it
    /// for itself.
    SINK_COMMITTABLES_MAX: ByteSize = "millstream.sink.committables-max", default "64 mb", not 0;
    /// The memory of a TaskManager beside its task hosts.
    TASKMANAGER_MEMORY_OVERHEAD: ByteSize =
        "millstream.taskmanager.memory.overhead", default "128 mb";
}

/// The options of the engine.
pub const TABLE: OptionTable = OptionTable { options: ALL, prefixes: &[] };

/// Prefixes of the keys that only the processes of a cluster read, when they start.
const OF_CLUSTERS: [&str; 14] = [
    "blob.",
    "env.",
    "heartbeat.",
    "io.tmp.dirs",
    "jobmanager.bind-host",
    "jobmanager.memory.",
    "jobstore.",
    "millstream.coordinator.",
    "millstream.taskmanager.",
    "resourcemanager.",
    "rest.bind-",
    "rest.server.",
    "slotmanager.",
    "taskmanager.",
];

/// Whether an option is read where a cluster starts and not where a job does.
#[must_use]
pub fn is_of_clusters(key: &str) -> bool {
    OF_CLUSTERS.iter().any(|prefix| key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_clusters_are_told_apart() {
        for prefix in OF_CLUSTERS {
            assert!(ALL.iter().any(|option| option.key.starts_with(prefix)), "{prefix}");
        }
        assert!(is_of_clusters(TASKMANAGER_NUMBER_OF_TASK_SLOTS.key()));
        for option in ["rest.address", "rest.port", "jobmanager.rpc.address", "parallelism.default"]
        {
            assert!(!is_of_clusters(option), "{option}");
        }
    }
}
