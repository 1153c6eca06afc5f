//! Numbers are what their names say.

use std::time::Duration;

use millstream_types::{JobId, JobStatus, Timestamp};
use serde_json::{Value, json};

use crate::world::{TASK_MANAGER, World, graph};

async fn metric(world: &World, job: JobId, name: &str) -> f64 {
    let rows = world.get(&format!("/jobs/{job}/metrics?get={name}")).await.json();
    rows[0]["value"].as_str().unwrap_or_else(|| panic!("{name}: {rows}")).parse().unwrap()
}

/// The job was in these states, the last one first, each since so many seconds.
fn was(world: &World, job: JobId, states: &[(JobStatus, u64)]) {
    let now = Timestamp::now().as_millis();
    world.factory.master(job).publish(|details| {
        details.status = states[0].0;
        let at = |seconds: u64| {
            let millis = i64::try_from(Duration::from_secs(seconds).as_millis()).unwrap();
            Timestamp::from_millis(now - millis)
        };
        let times = states.iter().map(|(status, seconds)| (*status, at(*seconds)));
        details.status_times = times.collect();
    });
}

#[tokio::test]
async fn times_of_a_job_are_those_of_its_present_state() {
    use JobStatus::{Canceled, Cancelling, Created, Failing, Initializing, Restarting, Running};
    let world = World::start().await;
    let job = world.job(1).await;
    let begun = [(Created, 9_000), (Initializing, 9_000)];
    let about = |value: f64, seconds: u32| {
        let millis = f64::from(seconds) * 1000.0;
        (millis..millis + 60_000.0).contains(&value)
    };
    // It restarted ten seconds ago after it had failed a hundred seconds ago.
    was(&world, job, &[&[(Running, 10), (Restarting, 90), (Failing, 100)], &begun[..]].concat());
    assert!(about(metric(&world, job, "uptime").await, 10));
    assert!(about(metric(&world, job, "runningTime").await, 10));
    for name in ["restartingTime", "failingTime", "createdTime", "initializingTime", "downtime"] {
        assert_eq!(metric(&world, job, name).await, 0.0, "{name}");
    }
    was(&world, job, &[&[(Restarting, 90), (Failing, 100), (Running, 500)], &begun[..]].concat());
    assert!(about(metric(&world, job, "restartingTime").await, 90));
    assert!(about(metric(&world, job, "downtime").await, 100));
    for name in ["uptime", "runningTime", "failingTime"] {
        assert_eq!(metric(&world, job, name).await, 0.0, "{name}");
    }
    was(&world, job, &[(Created, 5), (Initializing, 7)]);
    assert_eq!(metric(&world, job, "downtime").await, 0.0, "it never ran");
    was(&world, job, &[&[(Canceled, 5), (Cancelling, 7), (Running, 500)], &begun[..]].concat());
    assert_eq!(metric(&world, job, "uptime").await, -1.0, "as Flink says of an ended job");
    assert_eq!(metric(&world, job, "downtime").await, -1.0);
    assert_eq!(metric(&world, job, "runningTime").await, 0.0);
}

#[tokio::test]
async fn bytes_of_records_that_stay_in_their_process_are_marked_as_not_counted() {
    let world = World::start().await;
    let job = world.job(1).await;
    let [source, sink] = [0, 1].map(|at| graph().vertices[at].id);
    let row = async |at: usize| {
        let details = world.get(&format!("/jobs/{job}")).await.json();
        let metrics = &details["vertices"][at]["metrics"];
        ["read", "write"].map(|what| metrics[format!("{what}-bytes-complete")] == true)
    };
    // All of the job is in one process.
    assert_eq!((row(0).await, row(1).await), ([true, false], [false, true]));
    let names = async |vertex| {
        let path = format!("/jobs/{job}/vertices/{vertex}/subtasks/metrics");
        world.get(&path).await.json().to_string()
    };
    assert!(!names(source).await.contains("\"numBytesOut\""));
    assert!(!names(sink).await.contains("\"numBytesIn\""));
    assert!(names(sink).await.contains("\"numBytesInRemote\""));
    // The sinks move to another one.
    world.factory.master(job).publish(|details| {
        for subtask in details.vertices[1].subtasks.iter_mut() {
            let location = subtask.location.as_mut().unwrap();
            location.host = millstream_types::HostId::from_u128(2);
        }
    });
    assert_eq!((row(0).await, row(1).await), ([true, true], [true, true]));
    assert!(names(sink).await.contains("\"numBytesIn\""));
}

#[tokio::test]
async fn places_have_ports_and_a_workers_memory_is_its_own() {
    let world = World::start().await;
    let job = world.job(1).await;
    let at = format!("/jobs/{job}/vertices/{}", graph().vertices[1].id);
    let endpoint = "127.0.0.1:45001";
    let subtask = world.get(&format!("{at}/subtasks/0")).await.json();
    assert_eq!((&subtask["endpoint"], &subtask["host"]), (&json!(endpoint), &json!("127.0.0.1")));
    let by_worker = world.get(&format!("{at}/taskmanagers")).await.json();
    assert_eq!(by_worker["taskmanagers"][0]["endpoint"], endpoint);
    assert_eq!(by_worker["taskmanagers"][0]["host"], endpoint);
    let worker = world.get(&format!("/taskmanagers/{TASK_MANAGER}")).await.json();
    assert_eq!(worker["dataPort"], 45_001);
    assert_eq!(worker["hardware"]["freeMemory"], worker["metrics"]["heapMax"]);
    // Two vertices of two subtasks, a subtask of each in a slot.
    assert_eq!(worker["assignedTasks"], 4);
    let slots = worker["allocatedSlots"].as_array().unwrap();
    let assigned: Vec<_> = slots.iter().map(|slot| &slot["assignedTasks"]).collect();
    assert_eq!(assigned, [2, 2]);
    let path = format!("/taskmanagers/{TASK_MANAGER}/metrics?get=System.Memory.Available");
    let free = world.get(&path).await.json();
    assert_eq!(free[0]["value"], (5000_u64 << 20).to_string());
    world.factory.master(job).fail();
    let exceptions = world.get(&format!("/jobs/{job}/exceptions")).await.json();
    assert_eq!(exceptions["exceptionHistory"]["entries"][0]["endpoint"], endpoint);
}

#[tokio::test]
async fn the_last_failure_stays_the_root_exception_after_a_restart() {
    let world = World::start().await;
    let job = world.job(1).await;
    let root = async || {
        let exceptions = world.get(&format!("/jobs/{job}/exceptions")).await.json();
        (exceptions["root-exception"].clone(), exceptions["timestamp"].clone())
    };
    assert_eq!(root().await, (Value::Null, Value::Null));
    world.factory.master(job).restart();
    let failed = root().await;
    assert!(failed.0.as_str().unwrap().contains("probe failure"), "{failed:?}");
    world.factory.master(job).set(JobStatus::Running);
    assert_eq!(root().await, failed);
}

#[tokio::test]
async fn a_task_that_has_not_reported_shows_no_times_instead_of_zeros() {
    let world = World::start().await;
    let job = world.job(1).await;
    world.factory.master(job).publish(|details| {
        details.vertices[1].subtasks.iter_mut().next().unwrap().rates = None;
    });
    let at = format!("/jobs/{job}/vertices/{}", graph().vertices[1].id);
    let pressure = world.get(&format!("{at}/backpressure")).await.json();
    assert_eq!(pressure["subtasks"].as_array().unwrap().len(), 1, "{pressure}");
    assert_eq!(pressure["subtasks"][0]["subtask"], 1);
    let names = "0.busyTimeMsPerSecond,1.busyTimeMsPerSecond";
    let values = world.get(&format!("{at}/metrics?get={names}")).await.json();
    assert_eq!(values, json!([{ "id": "1.busyTimeMsPerSecond", "value": "100.4" }]));
    world
        .factory
        .master(job)
        .publish(|details| details.vertices[1].subtasks.iter_mut().nth(1).unwrap().rates = None);
    let pressure = world.get(&format!("{at}/backpressure")).await.json();
    assert_eq!(pressure["status"], "deprecated");
}

#[tokio::test]
async fn every_route_below_subtasks_is_its_own() {
    let world = World::start().await;
    let job = world.job(1).await;
    let at = format!("/jobs/{job}/vertices/{}/subtasks", graph().vertices[1].id);
    let all = world.get(&format!("{at}/accumulators")).await.json();
    let expected = json!([{ "name": "seen", "type": "LongCounter", "value": "21" }]);
    assert_eq!(all["parallelism"], 2);
    assert_eq!(all["subtasks"][1]["user-accumulators"], expected);
    let one = world.get(&format!("{at}/1/attempts/0/accumulators")).await.json();
    assert_eq!(one["user-accumulators"], expected);
    assert_eq!(world.get(&format!("{at}/1/attempts/0")).await.json()["subtask"], 1);
    for (path, status) in [
        ("1/attempts/7", 404),
        ("1/attempts/x", 400),
        ("2", 404),
        ("2/metrics", 404),
        ("-1", 400),
        ("%31", 200),
        ("4294967296", 400),
    ] {
        assert_eq!(world.get(&format!("{at}/{path}")).await.status, status, "{path}");
    }
    let metrics = world.get(&format!("{at}/1/metrics?get=numRecordsIn")).await.json();
    assert_eq!(metrics, json!([{ "id": "numRecordsIn", "value": "20" }]));
    let own =
        world.get(&format!("{at}/1/metrics?get=numFilesSkipped,numRecordsDropped,seen")).await;
    let expected = [
        json!({ "id": "numFilesSkipped", "value": "2" }),
        json!({ "id": "numRecordsDropped", "value": "3" }),
    ];
    assert_eq!(own.json().as_array().unwrap()[..], expected, "only users' counters are user.…");
    let users = "user.cache_bytes,user.lookup_us_count,user.lookup_us_mean,user.lookup_us_median,\
                 user.lookup_us_p999,user.lookup_us";
    let users = world.get(&format!("{at}/1/metrics?get={users}")).await.json();
    let expected = json!([
        { "id": "user.cache_bytes", "value": "0.5" },
        { "id": "user.lookup_us_count", "value": "9" },
        { "id": "user.lookup_us_mean", "value": "12.5" },
        { "id": "user.lookup_us_median", "value": "10" },
        { "id": "user.lookup_us_p999", "value": "70" },
    ]);
    assert_eq!(users, expected);
    let query = "metrics?get=user.lookup_us_max,user.cache_bytes&agg=max,sum";
    let both = world.get(&format!("{at}/{query}")).await.json();
    let expected = json!([
        { "id": "user.lookup_us_max", "max": 100.0, "sum": 200.0 },
        { "id": "user.cache_bytes", "max": 0.5, "sum": 1.0 },
    ]);
    assert_eq!(both, expected);
    // A parameter that comes twice is a list, as in Flink.
    let two = world.get(&format!("{at}/1/metrics?get=numRecordsIn&get=numRecordsOut")).await.json();
    assert_eq!(two.as_array().unwrap().len(), 2, "{two}");
}

#[tokio::test]
async fn clients_of_flink_1_have_their_own_job_configuration() {
    for (option, mode) in [("false", Value::Null), ("true", json!("PIPELINED"))] {
        let option = [("millstream.rest.flink-1-clients", option)];
        let world = World::configured(&option, Default::default()).await;
        let job = world.job(1).await;
        let config = world.get(&format!("/jobs/{job}/config")).await.json();
        assert_eq!(config["execution-config"]["execution-mode"], mode);
    }
    let world = World::start().await;
    let job = world.job(1).await;
    let details = world.get(&format!("/jobs/{job}")).await.json();
    assert!(details.get("stream-graph").is_none(), "the page of Flink 2.3 reads nodes from it");
}

#[tokio::test]
async fn watermarks_are_shown() {
    let world = World::start().await;
    let job = world.job(1).await;
    let at = format!("/jobs/{job}/vertices/{}", graph().vertices[1].id);
    let watermarks = world.get(&format!("{at}/watermarks")).await.json();
    let value = "1700000000123";
    let of_the_second = json!([{ "id": "1.currentInputWatermark", "value": value }]);
    assert_eq!(watermarks, of_the_second, "the first subtask has none");
    for (subtask, expected) in [(0, json!([])), (1, json!([value]))] {
        let query = format!("{at}/subtasks/{subtask}/metrics?get=currentInputWatermark");
        let metrics = world.get(&query).await.json();
        let values: Vec<&Value> =
            metrics.as_array().unwrap().iter().map(|metric| &metric["value"]).collect();
        assert_eq!(json!(values), expected, "{subtask}");
    }
    let of_second = format!("{at}/subtasks/1/metrics?get=");
    let metric = async |name: &str| world.get(&format!("{of_second}{name}")).await.json();
    assert_eq!(metric("currentInput1Watermark").await, json!([]));
    let ended = i64::MAX as f64;
    let input = metric("currentInput2Watermark").await[0]["value"].take();
    assert_eq!(input.as_str().unwrap().parse::<f64>().unwrap(), ended);
    let lag = metric("watermarkLag").await[0]["value"].take();
    let lag: i64 = lag.as_str().unwrap().parse().unwrap();
    let behind = Timestamp::now().as_millis() - 1_700_000_000_123;
    assert!((behind - 60_000..=behind).contains(&lag), "{lag}");
}
