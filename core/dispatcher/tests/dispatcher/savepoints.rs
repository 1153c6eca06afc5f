//! Checkpoints and savepoints on request, and the disposal of savepoints.

use std::sync::atomic::Ordering;

use millstream_gateway::{CheckpointRequest, RequestState};
use millstream_types::{CheckpointId, JobId, JobStatus, TriggerId};
use serde_json::{Value, json};

use crate::world::{Response, World, until};

const ID: &str = "0000000000000000000000000000000a";
const TRIGGER: TriggerId = TriggerId::from_u128(10);
const UNKNOWN: &str = "00000000000000000000000000000000";

async fn post(world: &World, path: &str, body: &str) -> Response {
    world.send("POST", path, &[], body.as_bytes()).await
}

/// Sends a request that is accepted; the answer is its id.
async fn accepted(world: &World, path: &str, body: &str) -> String {
    let answer = post(world, path, body).await;
    assert_eq!(answer.status, 202, "{path}: {}", String::from_utf8_lossy(&answer.body));
    let json = answer.json();
    assert_eq!(json.as_object().unwrap().len(), 1, "{json}");
    json["request-id"].as_str().unwrap().to_owned()
}

fn requests(world: &World, job: JobId) -> Vec<(TriggerId, CheckpointRequest)> {
    world.factory.master(job).requests.lock().unwrap().clone()
}

async fn operation(world: &World, path: &str) -> Value {
    let answer = world.get(path).await;
    assert_eq!(answer.status, 200, "{path}");
    answer.json()
}

fn complete(location: Option<&str>) -> RequestState {
    let location = location.map(str::to_owned);
    RequestState::Complete { checkpoint: CheckpointId::new(7), location }
}

#[tokio::test]
async fn requests_reach_the_job_as_flinks_clients_write_them() {
    let world = World::start().await;
    let job = world.job(1).await;
    let [savepoints, stop, checkpoints] =
        ["savepoints", "stop", "checkpoints"].map(|name| format!("/v1/jobs/{job}/{name}"));
    let savepoint = |target: Option<&str>, cancel| CheckpointRequest::Savepoint {
        target: target.map(str::to_owned),
        cancel,
    };
    let stopped = |target: Option<&str>, drain| CheckpointRequest::Stop {
        target: target.map(str::to_owned),
        drain,
    };
    let mut expected = Vec::new();
    for (path, body, request) in [
        (&savepoints, "", savepoint(None, false)),
        (&savepoints, "{}", savepoint(None, false)),
        (
            &savepoints,
            r#"{"target-directory":null,"cancel-job":false,"formatType":"CANONICAL",
                "triggerId":null}"#,
            savepoint(None, false),
        ),
        (
            &savepoints,
            r#"{"target-directory":"hdfs:///s","cancel-job":true,"formatType":"NATIVE"}"#,
            savepoint(Some("hdfs:///s"), true),
        ),
        (&savepoints, r#"{"target-directory":""}"#, savepoint(None, false)),
        (&stop, "", stopped(None, false)),
        (
            &stop,
            r#"{"targetDirectory":"/s","drain":true,"formatType":"CANONICAL","triggerId":null}"#,
            stopped(Some("/s"), true),
        ),
        (&checkpoints, "", CheckpointRequest::Checkpoint),
        (&checkpoints, r#"{"checkpointType":"FULL"}"#, CheckpointRequest::Checkpoint),
        (&checkpoints, r#"{"checkpointType":"INCREMENTAL"}"#, CheckpointRequest::Checkpoint),
        (&checkpoints, r#"{"checkpointType":"CONFIGURED"}"#, CheckpointRequest::Checkpoint),
    ] {
        let id = accepted(&world, path, body).await;
        expected.push((id.parse().unwrap(), request));
        // An operation can be looked up once its id is known.
        let below = path.replace("/stop", "/savepoints");
        let going = operation(&world, &format!("{below}/{id}")).await;
        assert_eq!(going, json!({ "status": { "id": "IN_PROGRESS" } }));
    }
    let answer = world.get(&format!("/jobs/{job}/yarn-stop")).await;
    assert_eq!(answer.status, 202);
    let id = answer.json()["request-id"].as_str().unwrap().to_owned();
    expected.push((id.parse().unwrap(), stopped(None, false)));
    assert_eq!(requests(&world, job), expected);
    let mut ids: Vec<_> = expected.iter().map(|(id, _)| *id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), expected.len());
}

#[tokio::test]
async fn a_request_is_sent_once_whatever_becomes_of_it() {
    let world = World::start().await;
    let job = world.job(1).await;
    let (path, body) = (format!("/jobs/{job}/savepoints"), format!(r#"{{"triggerId":"{ID}"}}"#));
    for _ in 0..3 {
        assert_eq!(accepted(&world, &path, &body).await, ID);
    }
    assert_eq!(accepted(&world, &format!("/jobs/{job}/stop"), &body).await, ID);
    world.factory.master(job).settle(TRIGGER, complete(Some("/s/savepoint-1")));
    assert_eq!(accepted(&world, &path, &body).await, ID);
    world.factory.master(job).set(JobStatus::Finished);
    assert_eq!(accepted(&world, &path, &body).await, ID);
    assert_eq!(requests(&world, job).len(), 1);

    let answer = post(&world, &format!("/jobs/{job}/checkpoints"), &body).await;
    assert_eq!(answer.status, 409);
    assert!(answer.error().contains("is a savepoint's"), "{}", answer.error());
}

#[tokio::test]
async fn outcomes_of_savepoints_are_shown_also_after_the_jobs_end() {
    let world = World::start().await;
    let job = world.job(1).await;
    let master = world.factory.master(job);
    let path = format!("/jobs/{job}/savepoints");
    accepted(&world, &path, &format!(r#"{{"triggerId":"{ID}"}}"#)).await;
    let other = "0000000000000000000000000000000b";
    accepted(&world, &format!("/jobs/{job}/stop"), &format!(r#"{{"triggerId":"{other}"}}"#)).await;
    master.settle(TRIGGER, complete(Some("hdfs:///s/savepoint-1")));
    let wanted = json!({
        "status": { "id": "COMPLETED" },
        "operation": { "location": "hdfs:///s/savepoint-1" },
    });
    assert_eq!(operation(&world, &format!("{path}/{ID}")).await, wanted);
    master.set(JobStatus::Failed);
    until("the end is known", || async {
        operation(&world, &format!("{path}/{other}")).await["operation"].is_object()
    })
    .await;
    assert_eq!(operation(&world, &format!("{path}/{ID}")).await, wanted);
    let unfinished = operation(&world, &format!("{path}/{other}")).await;
    let cause = &unfinished["operation"]["failure-cause"];
    assert_eq!(cause["class"], "SavepointFailed");
    let trace = "SavepointFailed: the job has ended (FAILED) before the savepoint was complete";
    assert_eq!(cause["stack-trace"], trace);

    let (job, third) = (world.job(2).await, "0000000000000000000000000000000c");
    let path = format!("/jobs/{job}/savepoints");
    accepted(&world, &path, &format!(r#"{{"triggerId":"{third}"}}"#)).await;
    let failed = RequestState::Failed("the quota is exceeded".to_owned());
    world.factory.master(job).settle(TriggerId::from_u128(12), failed);
    let failed = operation(&world, &format!("{path}/{third}")).await;
    assert_eq!(failed["status"]["id"], "COMPLETED");
    let cause = &failed["operation"]["failure-cause"];
    assert_eq!(cause["stack-trace"], "SavepointFailed: the quota is exceeded");
    // A Java object stream.
    assert!(cause["serialized-throwable"].as_str().unwrap().starts_with("rO0ABX"), "{cause}");
}

#[tokio::test]
async fn outcomes_of_checkpoints_are_shown_under_their_own_path() {
    let world = World::start().await;
    let job = world.job(1).await;
    let path = format!("/jobs/{job}/checkpoints");
    accepted(&world, &path, &format!(r#"{{"triggerId":"{ID}"}}"#)).await;
    let master = world.factory.master(job);
    master.settle(TRIGGER, complete(None));
    let done = operation(&world, &format!("{path}/{ID}")).await;
    assert_eq!(
        done,
        json!({ "status": { "id": "COMPLETED" }, "operation": { "checkpointId": 7 } })
    );
    let answer = world.get(&format!("/jobs/{job}/savepoints/{ID}")).await;
    assert_eq!(answer.status, 404);
    master.settle(TRIGGER, RequestState::Failed("a task declined it".to_owned()));
    let failed = operation(&world, &format!("{path}/{ID}")).await;
    let cause = &failed["operation"]["failureCause"];
    assert_eq!(cause["stack-trace"], "CheckpointFailed: a task declined it");

    let savepoint = accepted(&world, &format!("/jobs/{job}/savepoints"), "").await;
    let answer = world.get(&format!("{path}/{savepoint}")).await;
    assert_eq!(answer.status, 404);
    assert!(answer.error().contains("no operation with triggerId"));
}

#[tokio::test]
async fn ended_and_unknown_jobs_take_no_requests() {
    let world = World::start().await;
    let job = world.job(1).await;
    world.factory.master(job).set(JobStatus::Finished);
    for (name, what) in
        [("savepoints", "savepoint"), ("stop", "savepoint"), ("checkpoints", "checkpoint")]
    {
        let answer = post(&world, &format!("/jobs/{job}/{name}"), "{}").await;
        assert_eq!(answer.status, 409, "{name}");
        let sentence = format!("job {job} takes no {what} because it has ended already (FINISHED)");
        assert_eq!(answer.error(), sentence);
        let answer = post(&world, &format!("/jobs/{UNKNOWN}/{name}"), "{}").await;
        assert_eq!((answer.status, answer.error()), (404, format!("Job {UNKNOWN} not found")));
    }
    assert_eq!(world.get(&format!("/jobs/{job}/yarn-stop")).await.status, 409);
    assert_eq!(requests(&world, job), []);
}

#[tokio::test]
async fn a_job_that_ends_or_is_silent_is_not_waited_for_forever() {
    let world = World::start().await;
    let (first, second, third) = (world.job(1).await, world.job(2).await, world.job(3).await);
    for job in [first, second, third] {
        world.factory.master(job).deaf.store(true, Ordering::SeqCst);
    }
    let end = async |job: JobId, end: fn(&crate::world::FakeJobMaster)| {
        until("it was asked", || async { !requests(&world, job).is_empty() }).await;
        end(&world.factory.master(job));
    };
    let paths = [first, second, third].map(|job| format!("/jobs/{job}/savepoints"));
    let (ended, gone, silent, _, _) = tokio::join!(
        post(&world, &paths[0], ""),
        post(&world, &paths[1], ""),
        post(&world, &paths[2], ""),
        end(first, |master| master.set(JobStatus::Canceled)),
        end(second, crate::world::FakeJobMaster::die),
    );
    assert_eq!(ended.status, 409);
    assert!(ended.error().contains("has ended already (CANCELED)"), "{}", ended.error());
    assert_eq!(gone.status, 409);
    assert!(gone.error().contains("its JobMaster has stopped"), "{}", gone.error());
    assert_eq!(silent.status, 504);
    let asked = requests(&world, third)[0].0;
    assert!(silent.error().contains(&format!("triggerId={asked}")), "{}", silent.error());
}

#[tokio::test]
async fn bad_bodies_are_refused_with_a_sentence() {
    let world = World::start().await;
    let job = world.job(1).await;
    let long = |field: &str| format!(r#"{{"{field}":"{}"}}"#, "x".repeat(5_000));
    let deep = "[".repeat(500_000);
    let vast = format!(r#"{{"formatType":"{}"}}"#, "x".repeat(500_000));
    let [savepoints, stop, checkpoints] =
        ["savepoints", "stop", "checkpoints"].map(|name| format!("/jobs/{job}/{name}"));
    let disposal = "/savepoint-disposal".to_owned();
    for (path, body, text) in [
        (&savepoints, r#"{"formatType":"AVRO"}"#, "expected `CANONICAL` or `NATIVE`"),
        (&savepoints, r#"{"formatType":"canonical"}"#, "expected `CANONICAL` or `NATIVE`"),
        (&savepoints, r#"{"cancel-job":"yes"}"#, "not as expected"),
        (&savepoints, r#"{"target-directory":["/s"]}"#, "not as expected"),
        (&savepoints, "[1]", "not as expected"),
        (&savepoints, "target-directory=/s", "not as expected"),
        (&savepoints, &deep, "not as expected"),
        (&savepoints, &vast, "unknown variant"),
        (&savepoints, &long("target-directory"), "longer than 4096 bytes"),
        (&savepoints, r#"{"triggerId":"zz"}"#, "field of the body (triggerId) from value \"zz\""),
        (&savepoints, r#"{"triggerId":""}"#, "(triggerId)"),
        (&savepoints, &long("triggerId"), "(triggerId)"),
        (&savepoints, r#"{"triggerId":7}"#, "not as expected"),
        (&stop, r#"{"formatType":"AVRO"}"#, "expected `CANONICAL` or `NATIVE`"),
        (&stop, r#"{"drain":1}"#, "not as expected"),
        (&stop, &long("targetDirectory"), "longer than 4096 bytes"),
        (&stop, r#"{"triggerId":"0a"}"#, "(triggerId)"),
        (&checkpoints, r#"{"checkpointType":"HALF"}"#, "`CONFIGURED`, `FULL`, `INCREMENTAL`"),
        (&checkpoints, r#"{"triggerId":"x"}"#, "(triggerId)"),
        (&disposal, "", "savepoint-path"),
        (&disposal, r#"{"savepoint-path":" "}"#, "savepoint-path"),
        (&disposal, r#"{"savepoint-path":3}"#, "not as expected"),
        (&disposal, &long("savepoint-path"), "longer than 4096 bytes"),
        (&disposal, r#"{"savepoint-path":"/s","triggerId":"x"}"#, "(triggerId)"),
    ] {
        let answer = post(&world, path, body).await;
        let error = answer.error();
        assert_eq!(answer.status, 400, "{path}: {error}");
        assert!(error.contains(text), "{path}: {error}");
        assert!(error.len() < 600, "{path}: {} bytes", error.len());
    }
    let large = format!(r#"{{"target-directory":"{}"}}"#, "x".repeat(2 << 20));
    assert_eq!(post(&world, &savepoints, &large).await.status, 413);
    assert_eq!(post(&world, "/jobs/x/savepoints", "{}").await.status, 400);
    for path in [&savepoints, &checkpoints, &disposal] {
        for bad in ["x", "0a", "zz000000000000000000000000000000", &"0".repeat(5_000)] {
            let answer = world.get(&format!("{path}/{bad}")).await;
            assert_eq!(answer.status, 400, "{path}/{bad}");
        }
        assert_eq!(world.get(&format!("{path}/{UNKNOWN}")).await.status, 404);
    }
    assert_eq!(requests(&world, job), []);
}

#[tokio::test]
async fn the_mode_stop_has_moved_as_in_flink() {
    let world = World::start().await;
    let job = world.job(1).await;
    let answer = world.send("PATCH", &format!("/jobs/{job}?mode=stop"), &[], b"").await;
    assert_eq!(answer.status, 308);
    assert!(answer.error().contains(&format!("POST /jobs/{job}/stop")), "{}", answer.error());
    assert_eq!(requests(&world, job), []);
}

#[tokio::test]
async fn a_disposal_runs_beside_its_request_and_says_what_became_of_it() {
    let world = World::start().await;
    let directory = world.directory.path().join("savepoint");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("_metadata"), "no metadata").unwrap();
    let path = directory.to_str().unwrap();
    let body = json!({ "savepoint-path": path, "triggerId": ID }).to_string();
    for _ in 0..2 {
        let answer = post(&world, "/v1/savepoint-disposal", &body).await;
        assert_eq!((answer.status, answer.json()), (200, json!({ "request-id": ID })));
    }
    let status = format!("/v1/savepoint-disposal/{ID}");
    until("it has ended", || async {
        operation(&world, &status).await["status"]["id"] == "COMPLETED"
    })
    .await;
    let failed = operation(&world, &status).await;
    let trace = failed["operation"]["failure-cause"]["stack-trace"].as_str().unwrap().to_owned();
    assert!(trace.starts_with("DisposalFailed: "), "{trace}");
    assert!(trace.contains("is not the metadata of a checkpoint"), "{trace}");
    assert!(directory.join("_metadata").exists());
    let other = json!({ "savepoint-path": "/other", "triggerId": ID }).to_string();
    assert_eq!(post(&world, "/savepoint-disposal", &other).await.status, 409);
}
