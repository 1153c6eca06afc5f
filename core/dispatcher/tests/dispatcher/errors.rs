//! Every refusal has Flink's shape, the right status and one sentence.

use crate::world::{HIDDEN, TASK_MANAGER, World};

async fn refused(world: &World, method: &str, path: &str, status: u16, text: &str) {
    let answer = world.send(method, path, &[], b"").await;
    let error = answer.error();
    assert_eq!(answer.status, status, "{method} {path}: {error}");
    assert!(error.contains(text), "{method} {path}: {error}");
}

#[tokio::test]
async fn refusals_have_one_shape_and_the_right_status() {
    let world = World::start().await;
    let job = world.job(1).await;
    let unknown = "00000000000000000000000000000000";
    for (method, path, status, text) in [
        ("GET", "/nope".to_owned(), 404, "no such endpoint: GET /nope"),
        ("GET", "/v2/overview".to_owned(), 404, "/v2/overview"),
        ("GET", "/".to_owned(), 404, "no such endpoint: GET /"),
        ("POST", "/overview".to_owned(), 405, "does not take POST"),
        ("DELETE", "/jobs".to_owned(), 405, "does not take DELETE"),
        ("BREW", "/jobs".to_owned(), 405, "does not take BREW"),
        ("GET", "/jobs/zzz".to_owned(), 400, "Cannot resolve path parameter (jobid)"),
        ("GET", "/jobs/%00%ff".to_owned(), 400, ""),
        ("GET", format!("/jobs/{unknown}"), 404, "Job 00000000000000000000000000000000 not found"),
        ("GET", format!("/jobs/{unknown}/plan"), 404, "not found"),
        ("GET", format!("/jobs/{unknown}/status"), 404, "not found"),
        ("GET", format!("/jobs/{unknown}/exceptions"), 404, "not found"),
        ("GET", format!("/jobs/{unknown}/config"), 404, "not found"),
        ("GET", format!("/jobs/{unknown}/execution-result"), 404, "not found"),
        ("GET", format!("/jobs/{unknown}/accumulators"), 404, "not found"),
        ("GET", format!("/jobs/{unknown}/metrics"), 404, "not found"),
        ("GET", format!("/jobs/{unknown}/jobmanager/config"), 404, "not found"),
        ("GET", format!("/jobs/{unknown}/yarn-cancel"), 404, "not found"),
        ("PATCH", format!("/jobs/{unknown}"), 404, "not found"),
        ("PATCH", format!("/jobs/{job}?mode=explode"), 400, "not \"explode\""),
        ("PATCH", format!("/jobs/{unknown}?mode=stop"), 404, "not found"),
        ("PATCH", format!("/jobs/{job}?mode=STOP"), 308, "/stop"),
        ("GET", format!("/jobs/{unknown}/yarn-stop"), 404, "not found"),
        ("POST", format!("/jobs/{unknown}/stop"), 404, "not found"),
        ("POST", format!("/jobs/{unknown}/savepoints"), 404, "not found"),
        ("GET", format!("/jobs/{job}/savepoints/{unknown}"), 404, "no operation with triggerId"),
        ("GET", format!("/jobs/{unknown}/savepoints/{unknown}"), 404, "Job 000"),
        ("POST", "/savepoint-disposal".to_owned(), 400, "savepoint-path"),
        ("GET", format!("/savepoint-disposal/{unknown}"), 404, "no operation with triggerId"),
        ("POST", format!("/jobs/{unknown}/checkpoints"), 404, "not found"),
        ("GET", format!("/jobs/{job}/checkpoints/{unknown}"), 404, "no operation"),
        ("PATCH", format!("/jobs/{job}/clientHeartbeat"), 400, "expiredTimestamp"),
        ("GET", format!("/jobs/{job}/exceptions?maxExceptions=x"), 400, "maxExceptions"),
        ("GET", format!("/jobs/{job}/vertices/{unknown}"), 404, "JobVertex"),
        ("GET", format!("/jobs/{job}/vertices/x"), 400, "vertexid"),
        ("GET", format!("/jobs/{job}/vertices/{unknown}/metrics"), 404, "JobVertex"),
        ("GET", format!("/jobs/{job}/checkpoints"), 404, "Checkpointing is not enabled"),
        ("GET", "/jobs/metrics?jobs=1".to_owned(), 400, "query parameter (jobs)"),
        ("GET", "/taskmanagers/metrics?get=x&agg=mode".to_owned(), 400, "agg is of"),
        ("GET", "/taskmanagers/nobody".to_owned(), 404, "\"nobody\" is not registered"),
        ("GET", "/taskmanagers/nobody/log".to_owned(), 404, "not registered"),
        ("GET", "/taskmanagers/nobody/metrics".to_owned(), 404, "not registered"),
        ("GET", format!("/taskmanagers/{TASK_MANAGER}/logs/missing"), 404, "\"missing\""),
        ("GET", format!("/taskmanagers/{TASK_MANAGER}/stdout"), 404, "there is no log file"),
        ("GET", "/jobmanager/stdout".to_owned(), 404, "not a file"),
        ("DELETE", "/jars/none".to_owned(), 404, "no uploaded jar \"none\""),
        ("POST", "/jars/none/run".to_owned(), 404, "no uploaded jar"),
        ("GET", "/jars/none/plan".to_owned(), 404, "no uploaded jar"),
        ("POST", "/jars/upload".to_owned(), 400, "multipart/form-data"),
        ("POST", "/jobs".to_owned(), 400, "cannot execute a Java job graph"),
        ("PUT", "/millstream/artifacts/abc".to_owned(), 400, "sha256"),
        ("POST", "/v1/millstream/jobs".to_owned(), 400, "?artifact="),
        ("POST", "/v1/millstream/jobs?artifact=x".to_owned(), 400, "query parameter (artifact)"),
    ] {
        refused(&world, method, &path, status, text).await;
    }
}

#[tokio::test]
async fn what_this_version_has_not_is_refused_after_the_job_was_looked_up() {
    let world = World::start().await;
    let job = world.job(1).await;
    let unknown = "00000000000000000000000000000000";
    for (method, path, status, text) in [
        ("GET", format!("/jobs/{job}/checkpoints/config"), 404, "not enabled"),
        ("GET", format!("/jobs/{job}/checkpoints/details/1"), 404, "not enabled"),
        ("GET", format!("/jobs/{unknown}/checkpoints/details/1"), 404, "not found"),
        ("PATCH", format!("/jobs/{job}/rescaling?parallelism=3"), 501, "parallelism"),
        ("PATCH", format!("/jobs/{unknown}/rescaling?parallelism=3"), 404, "not found"),
        ("GET", format!("/jobs/{job}/rescaling/{unknown}"), 404, "no operation"),
        ("PUT", format!("/jobs/{job}/resource-requirements"), 501, "parallelism"),
        ("GET", format!("/jobs/{job}/rescales/history"), 404, "not rescaled"),
        ("POST", format!("/jobs/{job}/coordinators/{unknown}"), 501, "Java objects"),
        ("POST", "/jobmanager/profiler".to_owned(), 501, "no profiler"),
        ("POST", "/jars/none/run-application".to_owned(), 501, "/jars/:jarid/run"),
        ("GET", format!("/applications/{unknown}"), 404, "not found"),
        ("DELETE", format!("/datasets/{unknown}"), 404, "no data set"),
    ] {
        refused(&world, method, &path, status, text).await;
    }
}

#[tokio::test]
async fn log_files_are_reached_by_plain_names_alone() {
    let world = World::start().await;
    let log = world.get("/jobmanager/log").await;
    assert_eq!((log.status, log.body.as_slice()), (200, &b"a line\n"[..]));
    assert_eq!(log.headers["content-type"], "text/plain; charset=UTF-8");
    assert_eq!(world.get("/jobmanager/logs/jm.log").await.body, b"a line\n");
    for name in [
        "..%2fsecret",
        "..%2Fsecret",
        "%2e%2e%2fsecret",
        "%252e%252e%252fsecret",
        "..%252fsecret",
        "..%5csecret",
        "..\\secret",
        "%2fetc%2fpasswd",
        "jm.log%00",
        "%c0%ae%c0%ae%c0%afsecret",
        "link.log",
        "..",
        "%2e%2e",
        "",
        "../../secret",
    ] {
        for prefix in ["/jobmanager/logs/", &format!("/taskmanagers/{TASK_MANAGER}/logs/")] {
            let answer = world.get(&format!("{prefix}{name}")).await;
            let refused = matches!(answer.status, 400 | 404);
            assert!(refused, "{prefix}{name}: {}", answer.status);
            let body = String::from_utf8_lossy(&answer.body);
            assert!(!body.contains(HIDDEN), "{prefix}{name}: {body}");
        }
    }
    let long = "x".repeat(5000);
    assert_eq!(world.get(&format!("/jobmanager/logs/{long}")).await.status, 404);
}

#[tokio::test]
async fn a_workers_log_is_streamed_whole() {
    let world = World::start().await;
    let answer = world.get(&format!("/taskmanagers/{TASK_MANAGER}/log")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body.len(), 2_500_000);
}
