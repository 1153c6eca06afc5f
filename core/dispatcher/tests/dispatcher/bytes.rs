//! The bytes of every JSON answer: names, order, nulls and numbers of all fields.
//!
//! `tests/golden/answers.txt` has an answer per block. Numbers that depend on the clock are `0` in
//! it, and so are ids and addresses that are drawn anew.

use expect_test::expect_file;
use millstream_types::{ExecutionState, JobStatus};

use crate::jars::uploaded;
use crate::world::{TASK_MANAGER, World, graph};

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

#[tokio::test]
async fn answers_have_the_same_bytes_as_ever() {
    let pairs = [("rest.port", "8081")];
    let world = World::configured(&pairs, Default::default()).await;
    let running = world.job(1).await;
    let failed = world.job(2).await;
    world.factory.master(failed).fail();
    world.factory.master(failed).publish(|details| details.vertices[1].subtasks[1].attempt = 1);
    // Nothing has a slot, and nothing has reported yet.
    let waiting = world.job(3).await;
    world.factory.master(waiting).publish(|details| {
        details.status = JobStatus::Created;
        details.waiting_for = Some("4 of 4 slots".to_owned());
        for subtask in details.vertices.iter_mut().flat_map(|vertex| &mut vertex.subtasks) {
            subtask.state = ExecutionState::Created;
            (subtask.location, subtask.slot, subtask.rates) = (None, None, None);
        }
    });
    let canceled = world.job(4).await;
    world.factory.master(canceled).set(JobStatus::Canceled);

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
    book.note("PATCH", &format!("/jobs/{running}/clientHeartbeat"), b"{\"expiredTimestamp\":9}")
        .await;
    book.note("PATCH", &format!("/jobs/{running}?mode=stop"), b"").await;
    book.note("PATCH", &format!("/jobs/{running}"), b"").await;
    book.note("PATCH", &format!("/jobs/{failed}"), b"").await;
    book.note("POST", &format!("/jobs/{running}/savepoints"), b"").await;
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
