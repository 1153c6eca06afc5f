//! Every answer has at least the fields of Flink 1.20's, with values of the same JSON types.
//!
//! `tests/golden` holds the shapes of real answers: every text is empty, every whole number 0,
//! every other number 0.5, and of a list only the first element is kept. Quantiles over the
//! subtasks of a checkpoint are numbers too: Flink writes the text `NaN`, as it does not make them.

use millstream_types::JobId;
use serde_json::Value;

use crate::checkpoints;
use crate::world::{TASK_MANAGER, World, graph};

/// Fields that stay empty in a process without a JVM.
const EMPTY: [&str; 1] = ["garbageCollectors"];

/// Objects whose keys are data.
const MAPS: [&str; 2] = ["accumulator-results", "user-config"];

fn compare(path: &str, golden: &Value, ours: &Value) -> Result<(), String> {
    match (golden, ours) {
        (Value::Null, _)
        | (Value::String(_), Value::String(_))
        | (Value::Bool(_), Value::Bool(_)) => Ok(()),
        (Value::Number(golden), Value::Number(ours)) if golden.is_f64() || !ours.is_f64() => Ok(()),
        (Value::Array(_), Value::Array(ours))
            if ours.is_empty() && EMPTY.iter().any(|list| path.ends_with(list)) =>
        {
            Ok(())
        }
        (Value::Array(golden), Value::Array(ours)) => {
            let Some(element) = golden.first() else { return Ok(()) };
            let path = format!("{path}[]");
            let tried = ours.iter().map(|one| compare(&path, element, one));
            let faults: Vec<_> = tried.map_while(Result::err).collect();
            if faults.len() < ours.len() {
                return Ok(());
            }
            Err(faults.into_iter().next().unwrap_or(format!("{path} is empty")))
        }
        (Value::Object(_), Value::Object(_)) if MAPS.iter().any(|map| path.ends_with(map)) => {
            Ok(())
        }
        (Value::Object(golden), Value::Object(ours)) => {
            golden.iter().try_for_each(|(key, value)| {
                let path = format!("{path}.{key}");
                let own = ours.get(key).ok_or_else(|| format!("{path} is missing"))?;
                compare(&path, value, own)
            })
        }
        _ => Err(format!("{path} is {ours}, not like {golden}")),
    }
}

async fn check(world: &World, path: &str, golden: &str) {
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let file = format!("{package}/tests/golden/{golden}.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    for prefix in ["", "/v1"] {
        // Flink's client sends a body with every GET.
        let answer = world.send("GET", &format!("{prefix}{path}"), &[], b"{}").await;
        assert_eq!(answer.status, 200, "{path}");
        if let Err(difference) = compare("", &golden, &answer.json()) {
            panic!("{path}: {difference}");
        }
    }
}

#[tokio::test]
async fn answers_about_a_running_job_are_like_flinks() {
    let for_1_20 = [("millstream.rest.flink-1-clients", "true")];
    let world = World::configured(&for_1_20, Default::default()).await;
    let job = world.job(1).await;
    checkpoints::publish(&world, job, checkpoints::overview());
    let vertex = graph().vertices[1].id;
    for (path, golden) in [
        ("/jobs", "jobs"),
        ("/jobs/overview", "jobs_overview"),
        ("/jobs/:j", "jobs_JOB"),
        ("/jobs/:j/accumulators", "jobs_JOB_accumulators"),
        ("/jobs/:j/checkpoints", "jobs_JOB_checkpoints"),
        ("/jobs/:j/checkpoints/config", "jobs_JOB_checkpoints_config"),
        ("/jobs/:j/checkpoints/details/3", "jobs_JOB_checkpoints_details"),
        ("/jobs/:j/checkpoints/details/3/subtasks/:v", "jobs_JOB_checkpoints_details_subtasks_V1"),
        ("/jobs/:j/config", "jobs_JOB_config"),
        ("/jobs/:j/exceptions", "jobs_JOB_exceptions"),
        ("/jobs/:j/execution-result", "jobs_JOB_execution-result"),
        ("/jobs/:j/metrics?get=numRestarts,uptime", "jobs_JOB_metrics_get"),
        ("/jobs/:j/plan", "jobs_JOB_plan"),
        ("/jobs/:j/status", "jobs_JOB_status"),
        ("/jobs/:j/jobmanager/config", "jobmanager_config"),
        ("/jobs/:j/vertices/:v", "jobs_JOB_vertices_V1"),
        ("/jobs/:j/vertices/:v/accumulators", "jobs_JOB_vertices_V1_accumulators"),
        ("/jobs/:j/vertices/:v/backpressure", "jobs_JOB_vertices_V1_backpressure"),
        ("/jobs/:j/vertices/:v/metrics", "jobs_JOB_vertices_V1_metrics"),
        ("/jobs/:j/vertices/:v/subtasks/0", "jobs_JOB_vertices_V1_subtasks_0"),
        ("/jobs/:j/vertices/:v/subtasktimes", "jobs_JOB_vertices_V1_subtasktimes"),
        ("/jobs/:j/vertices/:v/taskmanagers", "jobs_JOB_vertices_V1_taskmanagers"),
    ] {
        let path = path.replace(":j", &job.to_string()).replace(":v", &vertex.to_string());
        check(&world, &path, golden).await;
    }
}

#[tokio::test]
async fn answers_about_the_cluster_are_like_flinks() {
    let world = World::configured(&[("rest.port", "8081")], Default::default()).await;
    for (path, golden) in [
        ("/overview", "overview"),
        ("/config", "config"),
        ("/datasets", "datasets"),
        ("/jars", "jars"),
        ("/jobmanager/config", "jobmanager_config"),
        ("/jobmanager/logs", "jobmanager_logs"),
        ("/jobmanager/metrics?get=taskSlotsTotal", "jobmanager_metrics_get"),
        ("/taskmanagers", "taskmanagers"),
        ("/taskmanagers/:t", "taskmanagers_TM"),
        ("/taskmanagers/:t/logs", "taskmanagers_TM_logs"),
        ("/taskmanagers/metrics?get=Status.JVM.Memory.Heap.Used", "taskmanagers_metrics_get"),
    ] {
        check(&world, &path.replace(":t", TASK_MANAGER), golden).await;
    }
}

#[tokio::test]
async fn answers_about_an_ended_job_are_like_flinks() {
    let world = World::start().await;
    let failed = world.job(1).await;
    world.factory.master(failed).fail();
    let canceled = world.job(2).await;
    world.factory.master(canceled).set(millstream_types::JobStatus::Canceled);
    for (job, path, golden) in [
        (failed, "", "failed_job"),
        (failed, "/execution-result", "failed_execution-result"),
        (canceled, "/execution-result", "canceled_execution-result"),
    ] {
        check(&world, &format!("/jobs/{job}{path}"), golden).await;
    }
    let exceptions = world.get(&format!("/jobs/{failed}/exceptions")).await.json();
    let golden = include_bytes!("../golden/failed_exceptions.json");
    let golden: Value = serde_json::from_slice(golden).unwrap();
    // Our root failure is the task's own, so it stands where Flink has the concurrent one.
    for key in ["root-exception", "timestamp", "all-exceptions", "truncated"] {
        compare(key, &golden[key], &exceptions[key]).unwrap();
    }
    let task = &golden["exceptionHistory"]["entries"][0]["concurrentExceptions"][0];
    let ours = &exceptions["exceptionHistory"]["entries"][0];
    compare("entries", task, ours).unwrap();
    assert_eq!(ours["exceptionName"], "UserPanic");
    let trace = "UserPanic: probe failure at 150\n\tsrc/main.rs:23:9\n\tstack";
    assert_eq!(ours["stacktrace"], trace);
}

#[tokio::test]
async fn values_are_right() {
    let world = World::start().await;
    let job = world.job(1).await;
    let overview = world.get("/overview").await.json();
    assert_eq!(overview["slots-total"], 4);
    assert_eq!(overview["slots-available"], 2);
    assert_eq!(overview["jobs-running"], 1);
    let details = world.get(&format!("/jobs/{job}")).await.json();
    assert_eq!(details["vertices"][1]["metrics"]["read-records"], 30);
    assert_eq!(details["vertices"][1]["status"], "RUNNING");
    assert_eq!(details["status-counts"]["RUNNING"], 4);
    let tasks = &world.get("/jobs/overview").await.json()["jobs"][0]["tasks"];
    assert_eq!((&tasks["total"], &tasks["running"]), (&Value::from(4), &Value::from(4)));
    let vertex = graph().vertices[1].id;
    let at = format!("/jobs/{job}/vertices/{vertex}");
    let pressure = world.get(&format!("{at}/backpressure")).await.json();
    assert_eq!(pressure["backpressureLevel"], "high");
    assert_eq!(pressure["subtasks"][0]["backpressureLevel"], "ok");
    let subtasks = pressure["subtasks"].as_array().unwrap();
    assert_eq!(subtasks.len(), 2);
    for subtask in subtasks {
        let ratios =
            ["ratio", "idleRatio", "busyRatio"].map(|name| subtask[name].as_f64().unwrap());
        assert!((ratios.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{ratios:?}");
    }
    let values = world.get(&format!("{at}/metrics?get=1.numRecordsIn,nothing")).await.json();
    assert_eq!(values, serde_json::json!([{ "id": "1.numRecordsIn", "value": "20" }]));
    let sums = world.get(&format!("{at}/subtasks/metrics?get=numRecordsIn&agg=sum")).await.json();
    assert_eq!(sums, serde_json::json!([{ "id": "numRecordsIn", "sum": 30.0 }]));
    let upper = world.get(&format!("{at}/subtasks/metrics?get=numRecordsIn&agg=SUM,MIN")).await;
    let expected = serde_json::json!([{ "id": "numRecordsIn", "sum": 30.0, "min": 10.0 }]);
    assert_eq!(upper.json(), expected, "Flink's clients write aggregations in capitals");
    let counters = world.get(&format!("/jobs/{job}/accumulators")).await.json();
    assert_eq!(counters["user-task-accumulators"].as_array().unwrap().len(), 1, "{counters}");
    assert_eq!(counters["user-task-accumulators"][0]["value"], "84");
    let config = world.get(&format!("/jobs/{job}/config")).await.json();
    assert_eq!(config["execution-config"]["user-config"]["my.password"], "******");
    let plan = world.get(&format!("/jobs/{job}/plan")).await.json().to_string();
    assert!(!plan.contains("<b>"), "names must be escaped: {plan}");
    assert_eq!(job, JobId::from_u128(1));
}

#[tokio::test]
async fn every_answer_has_the_headers_of_flink_and_those_against_browsers() {
    let world = World::start().await;
    for path in ["/overview", "/nothing"] {
        let answer = world.get(path).await;
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["x-frame-options"], "SAMEORIGIN");
        answer.json();
    }
}
