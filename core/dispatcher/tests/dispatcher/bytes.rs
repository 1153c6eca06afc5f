//! The bytes of every JSON answer: names, order, nulls and numbers of all fields.
//!
//! `tests/golden/answers.txt` has an answer per block. Numbers that depend on the clock are `0` in
//! it, and so are ids and addresses that are drawn anew.

use std::collections::BTreeMap;

use expect_test::expect_file;
use millstream_gateway::RequestState;
use millstream_rest_types::checkpoints::{
    CheckpointConfigInfo, CheckpointStatistics, CheckpointingStatistics,
    TaskCheckpointStatisticsWithSubtaskDetails,
};
use millstream_rest_types::cluster::{
    ClusterDataSetListResponseBody, ClusterOverview, ConfigurationInfoEntry,
    DashboardConfiguration, EnvironmentInfo, LogListInfo, LogUrlResponse,
    MultipleApplicationsDetails, ProfilingInfoList, ThreadDumpInfo,
};
use millstream_rest_types::jars::JarListInfo;
use millstream_rest_types::jobs::{
    JobAccumulatorsInfo, JobConfigInfo, JobDetailsInfo, JobExceptionsInfoWithHistory,
    JobExecutionResultResponseBody, JobIdsWithStatusOverview, JobPlanInfo, JobStatusInfo,
    MultipleJobsDetails,
};
use millstream_rest_types::metrics::{AggregatedMetric, Metric};
use millstream_rest_types::operations::{
    AsynchronousOperationInfo, AsynchronousOperationResult, CheckpointInfo, SavepointInfo,
    TriggerResponse,
};
use millstream_rest_types::submission::{ArtifactInfo, JobSubmitResponseBody};
use millstream_rest_types::task_managers::{TaskManagerDetailsInfo, TaskManagersInfo};
use millstream_rest_types::vertices::{
    JobVertexAccumulatorsInfo, JobVertexBackPressureInfo, JobVertexDetailsInfo,
    JobVertexResourceRequirements, JobVertexTaskManagersInfo,
    SubtaskExecutionAttemptAccumulatorsInfo, SubtaskExecutionAttemptDetailsInfo,
    SubtasksAllAccumulatorsInfo, SubtasksTimesInfo, VertexFlameGraph,
};
use millstream_rest_types::{EmptyBody, ErrorBody};
use millstream_types::{CheckpointId, ExecutionState, JobId, JobStatus, TriggerId, VertexId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::checkpoints;
use crate::jars::uploaded;
use crate::world::{TASK_MANAGER, World, graph, until};

/// Below `/jobs/:jobid`.
const OF_JOBS: [&str; 32] = [
    "",
    "/plan",
    "/exceptions",
    "/exceptions?maxExceptions=0",
    "/config",
    "/jobmanager/config",
    "/jobmanager/environment",
    "/jobmanager/log-url",
    "/taskmanagers/:t/log-url",
    "/status",
    "/execution-result",
    "/accumulators",
    "/metrics",
    "/metrics?get=numRestarts,fullRestarts",
    "/checkpoints",
    "/savepoints/00000000000000000000000000000009",
    "/savepoints/nonsense",
    "/rescales/history",
    "/resource-requirements",
    "/vertices/:v",
    "/vertices/:v/backpressure",
    "/vertices/:v/accumulators",
    "/vertices/:v/subtasktimes",
    "/vertices/:v/taskmanagers",
    "/vertices/:v/watermarks",
    "/vertices/:v/flamegraph",
    "/vertices/:v/metrics?get=0.numRecordsIn,1.busyTimeMsPerSecond",
    "/vertices/:v/subtasks/metrics?get=numRecordsIn,busyTimeMsPerSecond",
    "/vertices/:v/subtasks/metrics?get=numRecordsIn&agg=MAX,sum",
    "/vertices/:v/subtasks/accumulators",
    "/vertices/:v/subtasks/1",
    "/vertices/:v/subtasks/1/attempts/0/accumulators",
];

/// Of the cluster, and what several of a kind answer together.
const OF_THE_CLUSTER: [&str; 23] = [
    "/overview",
    "/config",
    "/datasets",
    "/datasets/delete/00000000000000000000000000000009",
    "/applications/overview",
    "/applications/x",
    "/jobmanager/config",
    "/jobmanager/environment",
    "/jobmanager/metrics",
    "/jobmanager/metrics?get=taskSlotsTotal",
    "/jobmanager/thread-dump",
    "/jobmanager/profiler",
    "/jobmanager/logs",
    "/taskmanagers",
    "/taskmanagers/metrics",
    "/taskmanagers/metrics?get=System.Memory.Total",
    "/taskmanagers/:t",
    "/taskmanagers/:t/metrics?get=System.Memory.Total",
    "/taskmanagers/:t/thread-dump",
    "/taskmanagers/:t/logs",
    "/jobs",
    "/jobs/overview",
    "/jobs/metrics?get=numRestarts",
];

/// Zeros instead of times and lengths of time, that is numbers of such sizes outside of texts.
fn without_times(json: &str) -> String {
    let (mut masked, mut number, mut in_text) = (String::new(), String::new(), false);
    let mut before = ' ';
    for c in json.chars().chain([' ']) {
        if !in_text && c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let size: u64 = number.parse().unwrap_or(0);
        let of_a_time = matches!(size, 1_000..100_000 | 1_500_000_000_000..9_000_000_000_000);
        masked += if of_a_time { "0" } else { &number };
        number.clear();
        in_text ^= c == '"' && before != '\\';
        before = c;
        masked.push(c);
    }
    masked.trim_end().to_owned()
}

struct Book<'a> {
    world: &'a World,
    text: String,
}

impl Book<'_> {
    async fn note(&mut self, method: &str, path: &str, body: &[u8]) {
        let answer = self.world.send(method, path, &[], body).await;
        let json = String::from_utf8(answer.body.clone()).unwrap();
        assert_eq!(answer.headers["content-type"], "application/json; charset=UTF-8", "{json}");
        let directory = self.world.directory.path().to_str().unwrap();
        let json = json.replace(&self.world.address.to_string(), "ADDRESS");
        let json = without_times(&json.replace(directory, "DIRECTORY"));
        self.text += &format!("{method} {path}\n{} {json}\n\n", answer.status);
    }

    async fn read(&mut self, path: &str) {
        self.note("GET", path, b"").await;
    }
}

/// Checkpoints and savepoints on request, in every state.
async fn of_operations(book: &mut Book<'_>, job: JobId) {
    let complete = |location: Option<&str>| RequestState::Complete {
        checkpoint: CheckpointId::new(7),
        location: location.map(str::to_owned),
    };
    let failed = || RequestState::Failed("the quota is exceeded".to_owned());
    for (name, trigger, done) in [
        ("savepoints", TriggerId::from_u128(0xa), complete(Some("hdfs:///savepoints/1"))),
        ("checkpoints", TriggerId::from_u128(0xb), complete(None)),
    ] {
        let path = format!("/jobs/{job}/{name}");
        book.note("POST", &path, format!("{{\"triggerId\":\"{trigger}\"}}").as_bytes()).await;
        book.read(&format!("{path}/{trigger}")).await;
        for state in [done, failed()] {
            book.world.factory.master(job).settle(trigger, state);
            book.read(&format!("{path}/{trigger}")).await;
        }
    }
    let stop = b"{\"triggerId\":\"0000000000000000000000000000000c\",\"drain\":true}";
    book.note("POST", &format!("/jobs/{job}/stop"), stop).await;
    book.note("POST", &format!("/jobs/{job}/stop"), b"{\"formatType\":\"AVRO\"}").await;
    book.world.factory.master(job).set(JobStatus::Failed);
    until("the end is known", || async {
        book.world.get(&format!("/jobs/{job}/status")).await.json()["status"] == "FAILED"
    })
    .await;
    book.read(&format!("/jobs/{job}/savepoints/0000000000000000000000000000000c")).await;
    book.note("POST", &format!("/jobs/{job}/stop"), b"").await;
    let body = b"{\"savepoint-path\":\"relative\",\
        \"triggerId\":\"0000000000000000000000000000000d\"}";
    book.note("POST", "/savepoint-disposal", body).await;
    let outcome = "/savepoint-disposal/0000000000000000000000000000000d";
    until("the disposal has ended", || async {
        book.world.get(outcome).await.json()["operation"].is_object()
    })
    .await;
    book.read(outcome).await;
}

#[tokio::test]
async fn answers_have_the_same_bytes_as_ever() {
    let pairs = [("rest.port", "8081")];
    let world = World::configured(&pairs, Default::default()).await;
    let running = world.job(1).await;
    let failed = world.job(2).await;
    world.factory.master(failed).fail();
    world
        .factory
        .master(failed)
        .publish(|details| details.vertices[1].subtasks.iter_mut().nth(1).unwrap().attempt = 1);
    // Nothing has a slot, and nothing has reported yet.
    let waiting = world.job(3).await;
    world.factory.master(waiting).publish(|details| {
        details.status = JobStatus::Created;
        details.waiting_for = Some("4 of 4 slots".to_owned());
        for subtask in details.vertices.iter_mut().flat_map(|vertex| vertex.subtasks.iter_mut()) {
            subtask.state = ExecutionState::Created;
            (subtask.location, subtask.slot, subtask.rates) = (None, None, None);
        }
    });
    let canceled = world.job(4).await;
    world.factory.master(canceled).set(JobStatus::Canceled);
    checkpoints::publish(&world, running, checkpoints::overview());

    let mut book = Book { world: &world, text: String::new() };
    for path in OF_THE_CLUSTER {
        book.read(&path.replace(":t", TASK_MANAGER)).await;
    }
    let vertex = graph().vertices[1].id.to_string();
    for job in [running, failed, waiting, canceled] {
        for path in OF_JOBS {
            let path = path.replace(":v", &vertex).replace(":t", TASK_MANAGER);
            book.read(&format!("/jobs/{job}{path}")).await;
        }
    }
    for path in checkpoints::PATHS {
        book.read(&format!("/jobs/{running}{}", path.replace(":v", &vertex))).await;
    }
    book.note("PATCH", &format!("/jobs/{running}/clientHeartbeat"), b"{\"expiredTimestamp\":9}")
        .await;
    book.note("PATCH", &format!("/jobs/{running}?mode=stop"), b"").await;
    book.note("PATCH", &format!("/jobs/{failed}"), b"").await;
    let asked = world.job(5).await;
    of_operations(&mut book, asked).await;
    book.note("PATCH", &format!("/jobs/{running}"), b"").await;
    book.note("DELETE", "/cluster", b"").await;
    book.note("PUT", "/millstream/lease", b"").await;
    book.note("GET", "/nowhere", b"").await;
    book.note("PUT", "/overview", b"").await;
    expect_file!["../golden/answers.txt"].assert_eq(&book.text);
}

#[tokio::test]
async fn answers_about_jars_and_artifacts_have_the_same_bytes_as_ever() {
    let world = World::start().await;
    let jar = uploaded(&world).await;
    let mut book = Book { world: &world, text: String::new() };
    book.read("/jars").await;
    let query = "jobId=00000000000000000000000000000001";
    book.read(&format!("/jars/{jar}/plan?{query}")).await;
    let body = br#"{"flinkConfiguration":{"pipeline.max-parallelism":64}}"#;
    book.note("POST", &format!("/jars/{jar}/run?{query}"), body).await;
    let body = br#"{"flinkConfiguration":{"a":true}}"#;
    book.note("POST", &format!("/jars/{jar}/run"), body).await;
    book.note("POST", &format!("/jars/{jar}/run"), b"{\"programArgs\":3}").await;
    book.note("DELETE", &format!("/jars/{jar}"), b"").await;
    book.note("DELETE", &format!("/jars/{jar}"), b"").await;
    // The hash of `abc`.
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    book.note("PUT", &format!("/millstream/artifacts/{hash}"), b"abc").await;
    book.note("PUT", &format!("/millstream/artifacts/{hash}"), b"abc").await;
    book.note("POST", &format!("/millstream/jobs?artifact={hash}"), b"abc").await;
    book.note("POST", "/millstream/jobs", b"abc").await;
    expect_file!["../golden/answers-jars.txt"].assert_eq(&book.text.replace(&jar, "JAR"));
}

/// Reads an answer as a client does and writes it again.
fn again<T: Serialize + DeserializeOwned>(json: &str) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_value(serde_json::from_str::<T>(json)?)?.to_string())
}

/// The same, as the type that this call is answered with.
fn again_as_answer(call: &str, json: &str) -> Option<Result<String, serde_json::Error>> {
    let (method, path) = call.split_once(' ')?;
    let mut parts: Vec<&str> = path.split('?').next()?.split('/').skip(1).collect();
    for at in 1..parts.len() {
        if matches!(
            parts[at - 1],
            "jobs" | "vertices" | "taskmanagers" | "jars" | "artifacts" | "details" | "savepoints"
        ) && !matches!(parts[at], "overview" | "metrics")
        {
            parts[at] = "_";
        }
    }
    Some(match (method, parts.join("/").as_str()) {
        ("GET", "overview") => again::<ClusterOverview>(json),
        ("GET", "config") => again::<DashboardConfiguration>(json),
        ("GET", "datasets") => again::<ClusterDataSetListResponseBody>(json),
        ("GET", "applications/overview") => again::<MultipleApplicationsDetails>(json),
        ("GET", "jars") => again::<JarListInfo>(json),
        ("GET", "jars/_/plan" | "jobs/_/plan") => again::<JobPlanInfo>(json),
        ("GET", "jobs") => again::<JobIdsWithStatusOverview>(json),
        ("GET", "jobs/overview") => again::<MultipleJobsDetails>(json),
        ("GET", "jobs/_") => again::<JobDetailsInfo>(json),
        ("GET", "jobs/_/status") => again::<JobStatusInfo>(json),
        ("GET", "jobs/_/config") => again::<JobConfigInfo>(json),
        ("GET", "jobs/_/exceptions") => again::<JobExceptionsInfoWithHistory>(json),
        ("GET", "jobs/_/execution-result") => again::<JobExecutionResultResponseBody>(json),
        ("GET", "jobs/_/accumulators") => again::<JobAccumulatorsInfo>(json),
        ("GET", "jobs/_/resource-requirements") => {
            again::<BTreeMap<VertexId, JobVertexResourceRequirements>>(json)
        }
        ("GET", "jobs/_/vertices/_") => again::<JobVertexDetailsInfo>(json),
        ("GET", "jobs/_/vertices/_/backpressure") => again::<JobVertexBackPressureInfo>(json),
        ("GET", "jobs/_/vertices/_/accumulators") => again::<JobVertexAccumulatorsInfo>(json),
        ("GET", "jobs/_/vertices/_/subtasktimes") => again::<SubtasksTimesInfo>(json),
        ("GET", "jobs/_/vertices/_/taskmanagers") => again::<JobVertexTaskManagersInfo>(json),
        ("GET", "jobs/_/vertices/_/flamegraph") => again::<VertexFlameGraph>(json),
        ("GET", "jobs/_/vertices/_/subtasks/accumulators") => {
            again::<SubtasksAllAccumulatorsInfo>(json)
        }
        ("GET", "jobs/_/vertices/_/subtasks/1") => {
            again::<SubtaskExecutionAttemptDetailsInfo>(json)
        }
        ("GET", "jobs/_/vertices/_/subtasks/1/attempts/0/accumulators") => {
            again::<SubtaskExecutionAttemptAccumulatorsInfo>(json)
        }
        ("GET", path) if path.starts_with("jobs/_/checkpoints") => again_of_checkpoints(path, json),
        ("GET", "taskmanagers") => again::<TaskManagersInfo>(json),
        ("GET", "taskmanagers/_") => again::<TaskManagerDetailsInfo>(json),
        ("GET", "taskmanagers/metrics" | "jobs/metrics" | "jobs/_/vertices/_/subtasks/metrics") => {
            again::<Vec<AggregatedMetric>>(json)
        }
        ("GET", path) if path.ends_with("/metrics") || path.ends_with("/watermarks") => {
            again::<Vec<Metric>>(json)
        }
        ("GET", path) if path.ends_with("jobmanager/config") => {
            again::<Vec<ConfigurationInfoEntry>>(json)
        }
        ("GET", path) if path.ends_with("/environment") => again::<EnvironmentInfo>(json),
        ("GET", path) if path.ends_with("/log-url") => again::<LogUrlResponse>(json),
        ("GET", path) if path.ends_with("/logs") => again::<LogListInfo>(json),
        ("GET", path) if path.ends_with("/thread-dump") => again::<ThreadDumpInfo>(json),
        ("GET", path) if path.ends_with("/profiler") => again::<ProfilingInfoList>(json),
        ("POST", "jars/_/run") => again::<JobSubmitResponseBody>(json),
        ("PUT", "millstream/artifacts/_") => again::<ArtifactInfo>(json),
        ("PATCH" | "DELETE", _) => again::<EmptyBody>(json),
        _ => return again_of_operations(method, &parts.join("/"), json),
    })
}

fn again_of_operations(
    method: &str,
    path: &str,
    json: &str,
) -> Option<Result<String, serde_json::Error>> {
    Some(match (method, path) {
        ("GET", "jobs/_/savepoints/_") => again::<AsynchronousOperationResult<SavepointInfo>>(json),
        ("GET", path) if path.starts_with("savepoint-disposal/") => {
            again::<AsynchronousOperationResult<AsynchronousOperationInfo>>(json)
        }
        ("POST", "jobs/_/savepoints" | "jobs/_/stop" | "jobs/_/checkpoints") => {
            again::<TriggerResponse>(json)
        }
        ("POST", "savepoint-disposal") => again::<TriggerResponse>(json),
        _ => return None,
    })
}

fn again_of_checkpoints(path: &str, json: &str) -> Result<String, serde_json::Error> {
    match path.strip_prefix("jobs/_/checkpoints").unwrap() {
        "" => again::<CheckpointingStatistics>(json),
        "/config" => again::<CheckpointConfigInfo>(json),
        "/details/_" => again::<CheckpointStatistics>(json),
        "/0000000000000000000000000000000b" => {
            again::<AsynchronousOperationResult<CheckpointInfo>>(json)
        }
        _ => again::<TaskCheckpointStatisticsWithSubtaskDetails>(json),
    }
}

#[test]
fn clients_read_every_answer_whole() {
    let files = [include_str!("../golden/answers.txt"), include_str!("../golden/answers-jars.txt")];
    for block in files.iter().flat_map(|file| file.trim_end().split("\n\n")) {
        let (call, answer) = block.split_once('\n').unwrap();
        let (status, json) = answer.split_once(' ').unwrap();
        let read = match status {
            "200" | "201" | "202" => again_as_answer(call, json),
            _ => Some(again::<ErrorBody>(json)),
        };
        let read = read.unwrap_or_else(|| panic!("{call} is answered with no type"));
        assert_eq!(read.unwrap_or_else(|error| panic!("{call}: {error}")), json, "{call}");
    }
}
