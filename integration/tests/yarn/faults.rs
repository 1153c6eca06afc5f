//! Faults of YARN and HDFS: jobs do not notice those that YARN and HDFS survive, the loss of a
//! worker costs an attempt and no result, and no end of a cluster leaves anything behind.

use std::path::Path;
use std::time::Duration;

use millstream_integration::{
    Hadoop, Job, OnYarn, USER, application_id, binary, parent_of, scale, until,
};

const DEADLINE: Duration = Duration::from_secs(90);
/// Records per second that a job writes.
const RATE: u64 = 20_000;

/// A job that writes numbers to files of HDFS at a limited rate.
struct Steady {
    job: Job,
    output: String,
    records: u64,
}

impl Steady {
    fn start(yarn: &OnYarn, session: &str, name: &str, seconds: u64) -> Self {
        Self::start_with(yarn, session, name, seconds, &[])
    }

    fn start_with(
        yarn: &OnYarn,
        session: &str,
        name: &str,
        seconds: u64,
        settings: &[&str],
    ) -> Self {
        let output = yarn.home(name);
        let program = binary("jobs");
        let records = seconds * RATE;
        let numbers = [records.to_string(), RATE.to_string()];
        let options = ["-d", "-p", "2", "-c", "copy", program.to_str().unwrap()];
        let arguments = ["--records", &numbers[0], "--rate", &numbers[1], "--output", &output];
        let submitted = [settings, &options[..], &arguments[..]].concat();
        let submitted = yarn.run("run", &submitted).success();
        let job = yarn.job(session, &submitted.job_id());
        job.wait_for_tasks();
        let steady = Self { job, output, records };
        steady.assert_advances();
        steady
    }

    /// Number of records that have come to the files.
    fn arrived(&self) -> u64 {
        let details = self.job.details();
        let vertices = details["vertices"].as_array().unwrap();
        vertices.last().unwrap()["metrics"]["read-records"].as_u64().unwrap()
    }

    /// Waits until more records have come.
    fn assert_advances(&self) {
        let before = self.arrived();
        until("the job advances", DEADLINE, || {
            assert_eq!(self.job.status(), "RUNNING", "{:?}", self.job.causes());
            (self.arrived() > before + RATE / 4).then_some(())
        });
    }

    /// Waits until a job that was restarted for such a cause runs again.
    fn wait_for_cause(&self, words: &str) {
        until(&format!("a cause says {words:?}"), DEADLINE, || {
            let causes = self.job.causes();
            causes.iter().any(|cause| cause.contains(words)).then_some(())
        });
        self.job.wait_for_tasks();
        self.assert_advances();
    }

    fn attempts(&self) -> u64 {
        self.job.attempts().into_iter().max().unwrap()
    }

    /// Waits for the end: each number must have been written once.
    fn assert_exact(&self, yarn: &OnYarn) {
        self.job.wait_for("FINISHED");
        let mut expected: Vec<String> = (0..self.records).map(|n| n.to_string()).collect();
        expected.sort_unstable();
        assert!(yarn.sorted_lines(&self.output) == expected, "other lines than expected");
    }
}

pub(crate) fn start_session(yarn: &OnYarn) -> String {
    let deployed = yarn.run("yarn-session", &["-d"]).success();
    application_id(&deployed.stdout)
}

fn stop(yarn: &OnYarn, session: &str) {
    let _ = yarn.told("yarn-session", &["-id", session], "stop\n").success();
    assert_eq!(yarn.ended(session), "FINISHED/SUCCEEDED");
    assert_nothing_left(yarn);
}

pub(crate) fn assert_nothing_left(yarn: &OnYarn) {
    until("no process of a container is left", DEADLINE, || {
        yarn.container_processes().is_empty().then_some(())
    });
    assert_eq!(yarn.containers(), 0);
    assert_eq!(yarn.staged(), [""; 0], "staged files are left");
}

/// The master's and so many workers', and none too many.
fn wait_for_containers(yarn: &OnYarn, count: u64) {
    until(&format!("there are {count} containers"), DEADLINE, || {
        (yarn.containers() == count).then_some(())
    });
}

/// The container processes whose command line holds this word.
pub(crate) fn processes(yarn: &OnYarn, word: &str) -> Vec<u32> {
    let all = yarn.container_processes();
    all.into_iter().filter(|(_, line)| line.contains(word)).map(|(pid, _)| pid).collect()
}

/// The processes that run tasks: the children of TaskManagers. Others run an artifact too, to plan
/// a job or to coordinate its sources and sinks.
pub(crate) fn task_hosts(yarn: &OnYarn) -> Vec<u32> {
    let workers = processes(yarn, "yarn-taskmanager");
    let parents = |pid: &u32| parent_of(*pid).is_some_and(|it| workers.contains(&it));
    let all = yarn.container_processes();
    all.into_keys().filter(|pid| !workers.contains(pid)).filter(parents).collect()
}

fn kill(pid: u32) {
    let pid = pid.to_string();
    let killed = std::process::Command::new("kill").args(["-9", &pid]).status().unwrap();
    assert!(killed.success());
}

/// The NodeManager that a container's process belongs to.
pub(crate) fn node_of(pid: u32) -> String {
    let dir = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    let parts = dir.iter().map(|part| part.to_string_lossy().into_owned());
    parts.into_iter().find(|part| part.starts_with("nodemanager-")).unwrap()
}

fn is_gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}/cmdline")).exists()
}

#[test]
fn what_hadoop_survives_no_job_notices() {
    // A NodeManager may take its time to come back: here it must not count as lost meanwhile.
    let hadoop = Hadoop::builder().node_managers(2);
    let hadoop = hadoop.set("yarn.nm.liveness-monitor.expiry-interval-ms", "120000");
    let mut yarn = OnYarn::new(hadoop.start())
        .set("restart-strategy.type", "fixed-delay")
        .set("restart-strategy.fixed-delay.attempts", "20");
    let session = start_session(&yarn);
    let steady = Steady::start(&yarn, &session, "survives", scale(60, 200));

    yarn.hadoop.kill("resourcemanager");
    steady.assert_advances();
    std::thread::sleep(scale(Duration::ZERO, Duration::from_secs(60)));
    steady.assert_advances();
    yarn.hadoop.restart("resourcemanager");
    yarn.hadoop.wait_until_ready();
    steady.assert_advances();
    for daemon in ["nodemanager-0", "nodemanager-1"] {
        yarn.hadoop.restart(daemon);
        steady.assert_advances();
    }
    yarn.hadoop.wait_until_ready();
    // This one stays away: a block that is being written has lost one of its two copies for good,
    // so that the other DataNode must not go as well.
    yarn.hadoop.kill("datanode-0");
    steady.assert_advances();
    steady.assert_exact(&yarn);
    assert_eq!(steady.attempts(), 0, "{:?}", steady.job.causes());
    yarn.hadoop.restart("datanode-0");
    yarn.hadoop.wait_until_ready();

    // A NameNode that is away may cost the tasks that write their files, and no line.
    let steady = Steady::start(&yarn, &session, "renamed", scale(30, 90));
    yarn.hadoop.kill("namenode");
    std::thread::sleep(scale(Duration::from_secs(1), Duration::from_secs(20)));
    yarn.hadoop.restart("namenode");
    yarn.hadoop.wait_until_ready();
    steady.job.wait_for_tasks();
    steady.assert_advances();
    steady.assert_exact(&yarn);
    assert!(steady.attempts() <= 1, "{:?}", steady.job.causes());
    stop(&yarn, &session);
}

#[test]
fn a_job_goes_on_from_checkpoints_on_hdfs() {
    let yarn = OnYarn::new(Hadoop::builder().start());
    let session = start_session(&yarn);
    let directory = yarn.home("checkpoints");
    let settings = [
        "-Dexecution.checkpointing.interval=500ms",
        &format!("-Dexecution.checkpointing.dir={directory}"),
        "-Drestart-strategy.type=fixed-delay",
        "-Drestart-strategy.fixed-delay.attempts=20",
        "-Drestart-strategy.fixed-delay.delay=100ms",
    ];
    let steady = Steady::start_with(&yarn, &session, "go-on", scale(20, 90), &settings);
    let rest = yarn.rest(&session);
    let checkpoints = || rest.get(&format!("/v1/jobs/{}/checkpoints", steady.job.id)).json;
    let count = |name: &str| checkpoints()["counts"][name].as_u64().unwrap();
    for round in 1..=scale(2, 8) {
        let before = count("completed");
        until("checkpoints complete", DEADLINE, || {
            (count("completed") >= before + 3).then_some(())
        });
        kill(task_hosts(&yarn)[0]);
        until("the job restarts", DEADLINE, || (count("restored") == round).then_some(()));
        steady.job.wait_for_tasks();
    }
    let restored = checkpoints()["latest"]["restored"].clone();
    let path = restored["external_path"].as_str().unwrap();
    assert!(path.starts_with(&format!("{directory}/{}/chk-", steady.job.id)), "{restored}");
    assert!(restored["id"].as_u64().unwrap() >= 3, "{restored}");
    steady.assert_exact(&yarn);
    until("the checkpoints are removed", DEADLINE, || {
        yarn.list(&directory).is_empty().then_some(())
    });
    stop(&yarn, &session);
}

#[test]
fn another_resource_manager_takes_over_and_no_job_notices() {
    let hadoop = Hadoop::builder().two_resource_managers().node_managers(2);
    let mut yarn = OnYarn::new(hadoop.start());
    let session = start_session(&yarn);
    let rounds = scale(1, 4);
    let steady = Steady::start(&yarn, &session, "taken-over", 30 * rounds);
    for round in 0..rounds {
        let killed = yarn.hadoop.fail_over();
        steady.assert_advances();
        // The new leader gives workers, and only those that are asked for.
        let another = Steady::start(&yarn, &session, &format!("after-{round}"), 5);
        another.assert_exact(&yarn);
        assert_eq!(yarn.containers(), 5, "the JobManager and the workers of two jobs");
        yarn.hadoop.restart(&killed);
    }
    steady.assert_exact(&yarn);
    assert_eq!(steady.attempts(), 0, "{:?}", steady.job.causes());
    stop(&yarn, &session);
}

#[test]
fn a_worker_that_yarn_wants_back_goes_before_it_is_killed() {
    // The queue of this user may use all, as long as the other queue does not want its half.
    let hadoop = Hadoop::builder()
        .set("yarn.nodemanager.resource.memory-mb", "2048")
        .set("yarn.scheduler.capacity.root.queues", "default,others")
        .set("yarn.scheduler.capacity.root.default.capacity", "50")
        .set("yarn.scheduler.capacity.root.default.user-limit-factor", "2")
        .set("yarn.scheduler.capacity.root.others.capacity", "50")
        .set("yarn.resourcemanager.scheduler.monitor.enable", "true")
        .set("yarn.resourcemanager.monitor.capacity.preemption.monitoring_interval", "500")
        .set("yarn.resourcemanager.monitor.capacity.preemption.max_wait_before_kill", "60000")
        .set("yarn.resourcemanager.monitor.capacity.preemption.total_preemption_per_round", "1")
        .set("yarn.resourcemanager.monitor.capacity.preemption.natural_termination_factor", "1");
    let yarn = OnYarn::new(hadoop.start()).set("resourcemanager.taskmanager-timeout", "10min");
    let session = start_session(&yarn);
    let steady = Steady::start(&yarn, &session, "wanted", scale(20, 60));
    // The newest worker is the one that YARN chooses; it has nothing to do any more.
    let program = binary("jobs");
    let output = yarn.home("short");
    let options = ["-c", "copy", program.to_str().unwrap(), "--records", "10"];
    let _ = yarn.run("run", &[&options[..], &["--output", output.as_str()]].concat()).success();
    wait_for_containers(&yarn, 4);
    let others = ["-d", "-qu", "others", "-Djobmanager.memory.process.size=512m"];
    let deployed = yarn.run("yarn-session", &others).success();
    assert_eq!(yarn.containers(), 4, "the idle worker has made room for another JobManager");
    steady.assert_exact(&yarn);
    assert_eq!(steady.attempts(), 0, "{:?}", steady.job.causes());
    let other = application_id(&deployed.stdout);
    let _ = yarn.told("yarn-session", &["-id", &other], "stop\n").success();
    stop(&yarn, &session);
}

#[test]
fn hadoop_as_it_is_shipped_will_do() {
    let mut yarn = OnYarn::new(Hadoop::builder().node_managers(2).defaults().start());
    let session = start_session(&yarn);
    let steady = Steady::start(&yarn, &session, "shipped", scale(15, 120));
    yarn.hadoop.restart("resourcemanager");
    steady.assert_advances();
    steady.assert_exact(&yarn);
    assert_eq!(steady.attempts(), 0, "{:?}", steady.job.causes());
    yarn.hadoop.wait_until_ready();
    stop(&yarn, &session);
}

#[test]
fn what_kills_a_worker_costs_an_attempt_and_no_result() {
    // On each node is room for the JobManager and one worker, or for two workers.
    let hadoop = Hadoop::builder().node_managers(3);
    let hadoop = hadoop.set("yarn.nodemanager.resource.memory-mb", "1024");
    let mut yarn = OnYarn::new(hadoop.start())
        .set("restart-strategy.type", "fixed-delay")
        .set("restart-strategy.fixed-delay.attempts", "20")
        .set("restart-strategy.fixed-delay.delay", "100ms");
    let session = start_session(&yarn);
    let steady = Steady::start(&yarn, &session, "costs", scale(50, 120));

    let hosts = task_hosts(&yarn);
    kill(*hosts.first().expect("no task host was found"));
    steady.wait_for_cause("SIGKILL");
    assert_eq!(yarn.containers(), 3, "the worker of a killed host lives on");

    let workers = processes(&yarn, "yarn-taskmanager");
    kill(*workers.first().expect("no TaskManager was found"));
    steady.wait_for_cause("killed by signal 9");
    wait_for_containers(&yarn, 3);

    // The NodeManager's containers live on without it until they hear that they are not wanted.
    let master = node_of(processes(&yarn, "yarn-jobmanager")[0]);
    let workers = processes(&yarn, "yarn-taskmanager");
    let orphan = workers.into_iter().find(|pid| node_of(*pid) != master);
    let orphan = orphan.expect("no worker is on another node than the master");
    yarn.hadoop.kill(&node_of(orphan));
    steady.wait_for_cause("lost");
    until("the orphan has ended", DEADLINE, || is_gone(orphan).then_some(()));
    wait_for_containers(&yarn, 3);
    steady.assert_exact(&yarn);
    assert!(steady.attempts() >= 3, "each of three faults was noticed");
    stop(&yarn, &session);
}

#[test]
fn a_node_that_is_decommissioned_is_left_when_its_work_is_done() {
    let excluded = tempfile::NamedTempFile::new().unwrap();
    let hadoop = Hadoop::builder().node_managers(1);
    let path = excluded.path().to_str().unwrap();
    let hadoop = hadoop.set("yarn.resourcemanager.nodes.exclude-path", path).start();
    let yarn = OnYarn::new(hadoop).set("resourcemanager.taskmanager-timeout", "10min");
    let session = start_session(&yarn);
    let steady = Steady::start(&yarn, &session, "drained", scale(20, 60));
    std::fs::write(excluded.path(), "localhost\n").unwrap();
    let admin = "org.apache.hadoop.yarn.client.cli.RMAdminCLI";
    let _ = yarn.hadoop.java(admin, &["-refreshNodes", "-g", "600", "-server"]).success();
    steady.assert_advances();
    assert_eq!(yarn.containers(), 3, "what runs may end by itself");
    steady.assert_exact(&yarn);
    assert_eq!(steady.attempts(), 0, "{:?}", steady.job.causes());
    // Long before workers that are idle go elsewhere.
    wait_for_containers(&yarn, 1);
    let _ = yarn.told("yarn-session", &["-id", &session], "stop\n").success();
    assert_eq!(yarn.ended(&session), "FINISHED/SUCCEEDED");
}

#[test]
fn nothing_survives_its_master() {
    let yarn = OnYarn::new(Hadoop::start(2));
    for target in ["yarn-session", "yarn-per-job"] {
        who_waits_hears_of_its_masters_death(&yarn, target);
    }
    let session = start_session(&yarn);
    let _job = Steady::start(&yarn, &session, "survivor", 600);
    kill_master(&yarn);
    assert_eq!(yarn.ended(&session), "FAILED/FAILED");
    until("no process of a container is left", DEADLINE, || {
        yarn.container_processes().is_empty().then_some(())
    });
    let arguments = ["-t", "yarn-session"];
    let application = format!("-Dyarn.application.id={session}");
    let refused = yarn.run("list", &[&arguments[..], &[application.as_str()]].concat());
    let complaint = refused.complaint();
    assert!(complaint.contains("has ended (FAILED/FAILED)"), "{complaint}");
    what_ends_a_cluster_leaves_nothing(&yarn);
}

fn kill_master(yarn: &OnYarn) {
    let masters = processes(yarn, "yarn-jobmanager");
    kill(*masters.first().expect("no JobManager was found"));
}

fn who_waits_hears_of_its_masters_death(yarn: &OnYarn, target: &str) {
    if target == "yarn-session" {
        let _ = start_session(yarn);
    }
    let (program, output) = (binary("jobs"), yarn.home(target));
    let options = ["-t", target, "-c", "copy", program.to_str().unwrap()];
    let arguments = ["--records", "100000000", "--output", output.as_str()];
    let client = yarn.start("run", &[&options[..], &arguments[..]].concat());
    until("a task runs", DEADLINE, || (!task_hosts(yarn).is_empty()).then_some(()));
    kill_master(yarn);
    let refused = client.finish();
    let complaint = refused.complaint();
    for words in ["application_", "has ended (FAILED/FAILED)", "killed by signal 9"] {
        assert!(complaint.contains(words), "{words:?} is not in {refused:?}");
    }
}

/// Ended through YARN, left by its client, stopped with a job.
fn what_ends_a_cluster_leaves_nothing(yarn: &OnYarn) {
    let session = start_session(yarn);
    let _job = Steady::start(yarn, &session, "ended", 600);
    let body = br#"{"state":"KILLED"}"#;
    let path = format!("/ws/v1/cluster/apps/{session}/state?user.name={USER}");
    let _ = yarn.hadoop.web.call("PUT", &path, "application/json", body).unwrap();
    assert_eq!(yarn.ended(&session), "KILLED/KILLED");

    let program = binary("jobs");
    let (program, output) = (program.to_str().unwrap(), yarn.home("left"));
    let heartbeat = ["-Dclient.heartbeat.timeout=5s", "-Dclient.heartbeat.interval=1s"];
    let options = [&heartbeat[..], &["-t", "yarn-per-job", "-c", "copy", program]].concat();
    let arguments = ["--records", "100000000", "--output", output.as_str()];
    let client = yarn.start("run", &[&options[..], &arguments[..]].concat());
    let left = until("the client has submitted", DEADLINE, || {
        let apps = yarn.hadoop.web.get("/ws/v1/cluster/apps?states=ACCEPTED,RUNNING").json;
        apps["apps"]["app"][0]["id"].as_str().map(str::to_owned)
    });
    client.kill();
    assert_eq!(client.finish().code, None);
    assert_eq!(yarn.ended(&left), "FINISHED/KILLED");

    let session = start_session(yarn);
    let _job = Steady::start(yarn, &session, "stopped", 600);
    // Later deployments have swept the files that the killed ones could not.
    stop(yarn, &session);
}
