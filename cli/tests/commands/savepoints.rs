//! The verbs of savepoints: what they send, and what they print.

use std::process::Output;

use expect_test::expect;
use serde_json::{Value, json};

use super::{ACCEPTS, Server, check, execute, program};

const JOB: &str = "0123456789abcdef0123456789abcdef";
const TRIGGERED: &str = r#"{"request-id":"7163891123d3f9c9f9eebee39eb3e0f4"}"#;
const IN_PROGRESS: &str = r#"{"status":{"id":"IN_PROGRESS"}}"#;

fn completed(operation: &Value) -> String {
    json!({ "status": { "id": "COMPLETED" }, "operation": operation }).to_string()
}

/// A server whose operations end so, and take some polls, during one of which it has no leader.
fn server(operation: &Value) -> Server {
    let end = completed(operation);
    let server = Server::start(&[("POST /v1/", 202, TRIGGERED), ("GET /v1/", 200, &end)]);
    let first = [(200, IN_PROGRESS), (503, r#"{"errors":["no leader"]}"#), (200, IN_PROGRESS)];
    server.script.lock().unwrap().first =
        first.into_iter().map(|(status, body)| (status, body.to_owned())).collect();
    server
}

fn verb(server: &Server, words: &[&str]) -> Output {
    let (verb, rest) = words.split_first().unwrap();
    execute(&[&[*verb, "-m", &server.address, "-Drest.retry.delay=10ms"], rest].concat())
}

/// The only body that was sent, without the trigger id, which is random.
fn body(server: &Server) -> Value {
    let bodies = server.script.lock().unwrap().bodies.clone();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    let mut body = bodies[0].clone();
    if let Some(id) = body.as_object_mut().unwrap().remove("triggerId") {
        assert_eq!(id.as_str().map(str::len), Some(32));
    }
    body
}

fn paths(server: &Server) -> Vec<String> {
    let mut paths: Vec<String> =
        server.requests().iter().map(|request| request.replace(JOB, "JOB")).collect();
    paths.dedup();
    paths
}

#[test]
fn savepoints_are_triggered_and_waited_for() {
    let there = json!({ "location": "file:/sp/savepoint-012345-1" });
    let asked = server(&there);
    check(
        &verb(&asked, &["savepoint", JOB, "hdfs:///sp"]),
        expect![[r#"
            Triggering savepoint for job ID.
            Waiting for response...
            Savepoint completed. Path: file:/sp/savepoint-012345-1
            You can resume your program from this savepoint with the run command.
            exit code Some(0)
        "#]],
    );
    let expected = json!({
        "target-directory": "hdfs:///sp", "cancel-job": false, "formatType": "CANONICAL"
    });
    assert_eq!(body(&asked), expected);
    let poll = "GET /v1/jobs/JOB/savepoints/7163891123d3f9c9f9eebee39eb3e0f4";
    assert_eq!(paths(&asked), ["POST /v1/jobs/JOB/savepoints", poll]);
    assert_eq!(asked.requests().len(), 5, "{:?}", asked.requests());

    let detached = server(&there);
    check(
        &verb(&detached, &["savepoint", "-detached", "-type", "native", JOB]),
        expect![[r#"
            Triggering savepoint in detached mode for job ID.
            Successfully trigger manual savepoint, triggerId: ID
            exit code Some(0)
        "#]],
    );
    let expected = json!({ "target-directory": null, "cancel-job": false, "formatType": "NATIVE" });
    assert_eq!(body(&detached), expected);
    assert_eq!(detached.requests().len(), 1);
    check(
        &verb(&detached, &["savepoint"]),
        expect![[r#"
            error: no job was named: write the id that `millstream list` shows after savepoint
            exit code Some(1)
        "#]],
    );
}

#[test]
fn savepoints_are_disposed_of() {
    let server = server(&json!({}));
    check(
        &verb(&server, &["savepoint", "-d", "file:///sp/savepoint-1"]),
        expect![[r#"
            Disposing savepoint 'file:///sp/savepoint-1'.
            Waiting for response...
            Savepoint 'file:///sp/savepoint-1' disposed.
            exit code Some(0)
        "#]],
    );
    assert_eq!(body(&server), json!({ "savepoint-path": "file:///sp/savepoint-1" }));
    let poll = "GET /v1/savepoint-disposal/7163891123d3f9c9f9eebee39eb3e0f4";
    assert_eq!(paths(&server), ["POST /v1/savepoint-disposal", poll]);
}

#[test]
fn jobs_are_stopped_with_a_savepoint() {
    let there = json!({ "location": "file:/sp/savepoint-012345-1" });
    let drained = server(&there);
    check(
        &verb(&drained, &["stop", "-p", "/sp", "-d", JOB]),
        expect![[r#"
            Draining job "0123456789abcdef0123456789abcdef" with a CANONICAL savepoint.
            Savepoint completed. Path: file:/sp/savepoint-012345-1
            exit code Some(0)
        "#]],
    );
    let expected = json!({ "targetDirectory": "/sp", "drain": true, "formatType": "CANONICAL" });
    assert_eq!(body(&drained), expected);
    let poll = "GET /v1/jobs/JOB/savepoints/7163891123d3f9c9f9eebee39eb3e0f4";
    assert_eq!(paths(&drained), ["POST /v1/jobs/JOB/stop", poll]);

    // The word after -p is the job if no other is there; the server knows the directory then.
    let detached = server(&there);
    check(
        &verb(&detached, &["stop", "-detached", "-p", JOB]),
        expect![[r#"
            Suspending job "0123456789abcdef0123456789abcdef" with a CANONICAL savepoint.
            Successfully trigger stop-with-savepoint, triggerId: ID
            exit code Some(0)
        "#]],
    );
    let expected = json!({ "targetDirectory": null, "drain": false, "formatType": "CANONICAL" });
    assert_eq!(body(&detached), expected);
}

#[test]
fn jobs_are_cancelled_with_a_savepoint() {
    let there = json!({ "location": "file:/sp/savepoint-012345-1" });
    let cancelled = server(&there);
    check(
        &verb(&cancelled, &["cancel", "-s", "/sp", JOB]),
        expect![[r#"
            DEPRECATION WARNING: Cancelling a job with savepoint is deprecated. Use "stop" instead.
            Cancelling job ID with CANONICAL savepoint to /sp.
            Cancelled job ID. Savepoint stored in file:/sp/savepoint-012345-1.
            exit code Some(0)
        "#]],
    );
    let expected =
        json!({ "target-directory": "/sp", "cancel-job": true, "formatType": "CANONICAL" });
    assert_eq!(body(&cancelled), expected);
    let default = server(&there);
    let output = verb(&default, &["cancel", "-s", JOB]);
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = "with CANONICAL savepoint to default savepoint directory.\n";
    assert!(text.contains(expected), "{text}");
    assert_eq!(body(&default)["target-directory"], Value::Null);
}

#[test]
fn checkpoints_are_triggered() {
    let configured = server(&json!({ "checkpointId": 14 }));
    check(
        &verb(&configured, &["checkpoint", JOB]),
        expect![[r#"
            Triggering checkpoint for job ID.
            Waiting for response...
            Checkpoint 14 for job ID completed.
            You can resume your program from this checkpoint with the run command.
            exit code Some(0)
        "#]],
    );
    assert_eq!(body(&configured), json!({ "checkpointType": "CONFIGURED" }));
    let poll = "GET /v1/jobs/JOB/checkpoints/7163891123d3f9c9f9eebee39eb3e0f4";
    assert_eq!(paths(&configured), ["POST /v1/jobs/JOB/checkpoints", poll]);
    let full = server(&json!({ "checkpointId": 14 }));
    let text = String::from_utf8(verb(&full, &["checkpoint", "-full", JOB]).stdout).unwrap();
    assert!(text.contains(&format!("Checkpoint(FULL) 14 for job {JOB} completed.\n")), "{text}");
    assert_eq!(body(&full), json!({ "checkpointType": "FULL" }));
}

#[test]
fn failed_savepoints_are_told_in_the_servers_words() {
    let cause = json!({ "class": "X", "stack-trace": "X: the disk is full\n\tat y" });
    let failed = server(&json!({ "failure-cause": cause }));
    check(
        &verb(&failed, &["stop", JOB]),
        expect![[r#"
            Suspending job "0123456789abcdef0123456789abcdef" with a CANONICAL savepoint.
            error: could not stop with a savepoint job "0123456789abcdef0123456789abcdef": the disk is full
            exit code Some(1)
        "#]],
    );
    let failed = server(&json!({ "failureCause": cause }));
    check(
        &verb(&failed, &["checkpoint", JOB]),
        expect![[r#"
            Triggering checkpoint for job ID.
            Waiting for response...
            error: failed to trigger a checkpoint for the job ID: the disk is full
            exit code Some(1)
        "#]],
    );
    let refused = Server::start(&[("POST /v1/", 400, r#"{"errors":["no savepoint-dir"]}"#)]);
    check(
        &verb(&refused, &["savepoint", JOB]),
        expect![[r#"
            Triggering savepoint for job ID.
            error: failed to trigger a savepoint for the job ID: the JobManager refused: no savepoint-dir
            exit code Some(1)
        "#]],
    );
}

#[test]
fn contradictions_about_the_savepoint_to_start_from_are_refused() {
    let server = Server::start(&ACCEPTS);
    let program = program();
    let program = program.to_str().unwrap();
    let twice = "-Dexecution.state-recovery.path=/b";
    check(
        &verb(&server, &["run", "-s", "/a", twice, program, "once"]),
        expect![[r#"
            error: -s /a and -Dexecution.state-recovery.path=/b say different things: leave one of them out
            exit code Some(1)
        "#]],
    );
    let output = verb(&server, &["run", "-s", "/a", "-rm", "legacy", program, "once"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("LEGACY is not supported, use NO_CLAIM or CLAIM"), "{text}");
    assert_eq!(server.requests(), [""; 0]);
}
