//! The checkpoints of a job, as its JobMaster publishes them and REST shows them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use millstream_checkpoint::Settings;
use millstream_checkpoint::messages::{AckMetrics, WaitsFor};
use millstream_checkpoint::metadata::Kind;
use millstream_checkpoint::plan::Subtask;
use millstream_checkpoint::stats::{
    Blocked, CheckpointStats, Counts, Ignored, Missing, Outcome, Overview, PendingStatus, Report,
    Restored, Status, SubtaskStats, Summary, WaitingFor,
};
use millstream_types::{CheckpointId, JobId, Timestamp, VertexId};
use serde_json::{Value, json};

use crate::world::{World, graph};

/// Below `/jobs/:jobid` beside `/checkpoints`, with the vertex's id for `:v`.
pub const PATHS: [&str; 6] = [
    "/checkpoints/config",
    "/checkpoints/details/3",
    "/checkpoints/details/4",
    "/checkpoints/details/5",
    "/checkpoints/details/6",
    "/checkpoints/details/6/subtasks/:v",
];

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + millis)
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn vertex() -> VertexId {
    graph().vertices[1].id
}

/// A checkpoint that the first of the four subtasks have acknowledged, each 10 ms later.
fn checkpoint(id: u64, kind: Kind, acknowledged: usize, outcome: Outcome) -> Arc<CheckpointStats> {
    let start = i64::try_from(id).unwrap() * 3_000;
    let vertices = graph().vertices;
    let all = vertices.iter().flat_map(|vertex| {
        (0..vertex.parallelism).map(|index| Subtask { vertex: vertex.id, index })
    });
    let stats = |number: u64| SubtaskStats {
        acknowledged: at(start + 10 * i64::try_from(number).unwrap()),
        finished: false,
        state_bytes: 100 * number,
        metrics: AckMetrics {
            start_delay: ms(number),
            alignment_duration: ms(2 * number),
            sync_duration: ms(3 * number),
            async_duration: ms(4 * number),
            checkpointed_bytes: 50 * number,
            processed_bytes: 7 * number,
            persisted_bytes: 5 * number,
            unaligned: id == 6,
        },
    };
    let subtasks: BTreeMap<_, _> =
        all.zip(1..).take(acknowledged).map(|(subtask, number)| (subtask, stats(number))).collect();
    Arc::new(CheckpointStats {
        id: CheckpointId::new(id),
        kind,
        triggered: at(start),
        directory: kind.is_savepoint().then(|| "hdfs:///savepoints/probe".to_owned()),
        subtasks_total: 4,
        subtasks,
        outcome,
    })
}

fn completed(id: u64, kind: Kind, discarded: bool) -> Arc<CheckpointStats> {
    checkpoint(id, kind, 4, Outcome::Completed { at: at(0), state_bytes: 990, discarded })
}

/// Checkpoints 1 to 6: the first two were removed, 4 is a savepoint, 5 failed and 6 is pending.
pub fn overview() -> Overview {
    let (latest, savepoint) =
        (completed(3, Kind::Checkpoint, false), completed(4, Kind::Savepoint, false));
    let reason = "count (2/2) declined it: the disk is full".to_owned();
    let failed = checkpoint(5, Kind::Checkpoint, 1, Outcome::Failed { at: at(15_300), reason });
    let pending = checkpoint(6, Kind::Checkpoint, 3, Outcome::InProgress);
    let missing = Missing {
        task: Subtask { vertex: vertex(), index: 1 }.attempt(0),
        name: "count (2/2)".to_owned(),
        waits_for: WaitsFor::Alignment { channel: "Source: numbers (1/2)".to_owned() },
    };
    let sizes = Summary::of(vec![400, 500, 990]);
    let report = Report {
        counts: Counts { restored: 1, total: 6, in_progress: 1, completed: 4, failed: 1 },
        end_to_end_ms: Summary::of(vec![40, 40, 40]),
        checkpointed_bytes: sizes,
        state_bytes: sizes,
        processed_bytes: sizes,
        persisted_bytes: Summary::default(),
        latest_completed: Some(Arc::clone(&latest)),
        latest_savepoint: Some(Arc::clone(&savepoint)),
        latest_failed: Some(Arc::clone(&failed)),
        latest_restored: Some(Restored {
            id: CheckpointId::new(2),
            kind: Kind::Checkpoint,
            at: at(7_000),
            directory: None,
        }),
        history: vec![pending, failed, savepoint, latest, completed(2, Kind::Checkpoint, true)],
    };
    let status = Status {
        blocked: Some(Blocked::Pending(1)),
        pending: vec![PendingStatus {
            id: CheckpointId::new(6),
            kind: Kind::Checkpoint,
            age: ms(700),
            waiting_for: WaitingFor::Tasks(vec![missing]),
        }],
        uncommitted: 12,
        last_complete_age: Some(ms(9_000)),
        failures_in_a_row: 1,
        ignored: Ignored::default(),
    };
    let settings = Settings {
        interval: Some(ms(3_000)),
        tolerable_failures: 2,
        retained: NonZeroU32::MIN,
        ..Settings::default()
    };
    let directory = Some("hdfs:///checkpoints/probe/".to_owned());
    let (kept_on_failure, kept_on_cancellation) = (true, false);
    Overview { settings, directory, kept_on_failure, kept_on_cancellation, report, status }
}

/// Lets a job take checkpoints.
pub fn publish(world: &World, job: JobId, overview: Overview) {
    world.factory.master(job).publish(|details| details.checkpoints = Some(Arc::new(overview)));
}

async fn get(world: &World, job: JobId, path: &str) -> Value {
    let path = path.replace(":v", &vertex().to_string());
    let answer = world.get(&format!("/jobs/{job}{path}")).await;
    assert_eq!(answer.status, 200, "{path}");
    answer.json()
}

#[tokio::test]
async fn each_outcome_has_its_fields() {
    let world = World::start().await;
    let job = world.job(1).await;
    publish(&world, job, overview());
    let list = get(&world, job, "/checkpoints").await;
    let history = list["history"].as_array().unwrap();
    let column = |name: &str| -> Vec<Value> { history.iter().map(|it| it[name].clone()).collect() };
    assert_eq!(column("id"), [6, 5, 4, 3, 2]);
    let classes = ["in_progress", "failed", "completed", "completed", "completed"];
    assert_eq!(column("className"), classes);
    let kinds = ["UNALIGNED_CHECKPOINT", "CHECKPOINT", "SAVEPOINT", "CHECKPOINT", "CHECKPOINT"];
    assert_eq!(column("checkpoint_type"), kinds);
    assert_eq!(column("end_to_end_duration"), [30, 300, 40, 40, 40]);
    assert_eq!(column("tasks"), vec![json!({}); 5]);
    assert_eq!(history[1]["failure_message"], "count (2/2) declined it: the disk is full");
    assert_eq!(history[2]["external_path"], "hdfs:///savepoints/probe");
    assert_eq!(history[4]["external_path"], "hdfs:///checkpoints/probe/chk-2");
    assert_eq!(history[4]["discarded"], true);
    assert_eq!(list["latest"]["completed"], history[3]);
    assert_eq!(list["latest"]["savepoint"], history[2]);
    assert_eq!(list["latest"]["failed"], history[1]);
    let restored = json!({
        "id": 2,
        "restore_timestamp": at(7_000).as_millis(),
        "is_savepoint": false,
        "external_path": "hdfs:///checkpoints/probe/chk-2",
    });
    assert_eq!(list["latest"]["restored"], restored);
    assert_eq!(list["summary"]["state_size"]["p50"], 500.0);
}

#[tokio::test]
async fn a_checkpoint_that_does_not_complete_says_why() {
    let world = World::start().await;
    let job = world.job(1).await;
    publish(&world, job, overview());
    let expected = json!({
        "blocked": "1 of at most 1 checkpoints are pending",
        "pending": [{
            "id": 6,
            "kind": "checkpoint",
            "age_ms": 700,
            "waiting_for":
                "count (2/2) waits for the barrier on Source: numbers (1/2)",
        }],
        "uncommitted": 12,
        "failures_in_a_row": 1,
    });
    assert_eq!(get(&world, job, "/checkpoints").await["millstream"], expected);
}

#[tokio::test]
async fn a_vertex_has_its_part_of_a_checkpoint() {
    let world = World::start().await;
    let job = world.job(1).await;
    publish(&world, job, overview());
    let whole = get(&world, job, "/checkpoints/details/6").await;
    let part = &whole["tasks"][vertex().to_string()];
    let numbers = (&part["num_subtasks"], &part["num_acknowledged_subtasks"], &part["state_size"]);
    assert_eq!(numbers, (&json!(2), &json!(1), &json!(300)));
    let details = get(&world, job, "/checkpoints/details/6/subtasks/:v").await;
    for (name, value) in part.as_object().unwrap() {
        assert_eq!(&details[name], value, "{name}");
    }
    assert_eq!(details["subtasks"][0]["alignment"]["duration"], 6);
    assert_eq!(details["subtasks"][0]["unaligned_checkpoint"], true);
    let other = json!({ "className": "pending", "index": 1, "status": "pending_or_failed" });
    assert_eq!(details["subtasks"][1], other);
    assert_eq!(details["summary"]["checkpoint_duration"]["async"]["max"], 12);
}

#[tokio::test]
async fn the_options_are_shown_as_flink_writes_them() {
    let world = World::start().await;
    let job = world.job(1).await;
    publish(&world, job, overview());
    let shown = get(&world, job, "/checkpoints/config").await;
    assert_eq!((&shown["mode"], &shown["interval"]), (&json!("exactly_once"), &json!(3_000)));
    let kept = json!({ "enabled": true, "delete_on_cancellation": true });
    assert_eq!(shown["externalization"], kept);
    assert_eq!(shown["checkpoint_storage"], "FileSystemCheckpointStorage");

    let settings = Settings { interval: None, ..Settings::default() };
    publish(&world, job, Overview { settings, directory: None, ..overview() });
    let shown = get(&world, job, "/checkpoints/config").await;
    assert_eq!(shown["interval"], i64::MAX);
    assert_eq!(shown["checkpoint_storage"], "JobManagerCheckpointStorage");
    let details = get(&world, job, "/checkpoints/details/3").await;
    assert_eq!(details["external_path"], "<checkpoint-not-externally-addressable>");
}

#[tokio::test]
async fn a_job_that_takes_checkpoints_has_metrics_of_them() {
    let world = World::start().await;
    let job = world.job(1).await;
    let names = ["numberOfCompletedCheckpoints", "lastCompletedCheckpointId", "lastCheckpointSize"];
    let path = format!("/metrics?get={}", names.join(","));
    assert_eq!(get(&world, job, &path).await, json!([]));
    publish(&world, job, overview());
    let values = ["4", "4", "500"];
    let expected: Vec<Value> = names
        .iter()
        .zip(values)
        .map(|(name, value)| json!({ "id": name, "value": value }))
        .collect();
    assert_eq!(get(&world, job, &path).await, Value::Array(expected));
}

#[tokio::test]
async fn unknown_checkpoints_and_vertices_are_refused() {
    let world = World::start().await;
    let job = world.job(1).await;
    let without = world.job(2).await;
    publish(&world, job, overview());
    for (job, path, status, text) in [
        (job, "details/1", 404, "Could not find checkpointing statistics for checkpoint 1."),
        (job, "details/x", 400, "Cannot resolve path parameter (checkpointid)"),
        (job, "details/-1", 400, "Cannot resolve path parameter (checkpointid)"),
        (job, "details/3/subtasks/x", 400, "Cannot resolve path parameter (vertexid)"),
        (
            job,
            "details/3/subtasks/00000000000000000000000000000000",
            404,
            "There is no checkpoint statistics for task 00000000000000000000000000000000.",
        ),
        (without, "details/3", 404, "Checkpointing is not enabled"),
        (without, "details/3/subtasks/00000000000000000000000000000000", 404, "not enabled"),
    ] {
        let answer = world.get(&format!("/jobs/{job}/checkpoints/{path}")).await;
        let error = answer.error();
        assert_eq!(answer.status, status, "{path}: {error}");
        assert!(error.contains(text), "{path}: {error}");
    }
}
