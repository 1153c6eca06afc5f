//! What YARN and HDFS survive, jobs do not notice; what kills a worker costs an attempt and no
//! result; what kills the master leaves nothing behind.

use std::time::Duration;

use millstream_integration::{Hadoop, Job, OnYarn, application_id, binary, scale, until};

const DEADLINE: Duration = Duration::from_secs(90);
const GROUPS: u64 = 97;

/// A session with a job that gives out so many numbers at a limited rate.
struct Steady {
    yarn: OnYarn,
    session: String,
    job: Job,
    output: String,
    records: u64,
}

impl Steady {
    fn start(yarn: OnYarn, seconds: u64) -> Self {
        let deployed = yarn.run("yarn-session", &["-d"]).success();
        let session = application_id(&deployed.stdout);
        let (rate, output) = (20_000, yarn.home("sums"));
        let records = seconds * rate;
        let program = binary("jobs");
        let numbers = [records.to_string(), rate.to_string(), GROUPS.to_string()];
        let options = ["-d", "-p", "2", "-c", "neighbour", program.to_str().unwrap()];
        let arguments =
            ["--records", &numbers[0], "--rate", &numbers[1], "--groups", &numbers[2], "--output"];
        let arguments = [&options[..], &arguments[..], &[output.as_str()]].concat();
        let submitted = yarn.run("run", &arguments).success();
        let job = yarn.job(&session, &submitted.job_id());
        job.wait_for_tasks();
        Self { yarn, session, job, output, records }
    }

    /// How many records have come to the job's last task.
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
            (self.arrived() > before + 5_000).then_some(())
        });
    }

    /// Waits until a job that was restarted runs again.
    fn wait_for_cause(&self, words: &str) {
        until(&format!("a cause says {words:?}"), DEADLINE, || {
            let causes = self.job.causes();
            causes.iter().any(|cause| cause.contains(words)).then_some(())
        });
        self.job.wait_for_tasks();
    }

    fn assert_attempts(&self, expected: u64) {
        assert!(self.job.attempts().iter().all(|attempt| *attempt == expected));
    }

    /// Waits for the end; the sums must be those of the numbers.
    fn assert_exact(&self) {
        self.job.wait_for("FINISHED");
        let sums = |group: u64| {
            let members = (group..self.records).step_by(GROUPS.try_into().unwrap());
            let (count, sum) = members.fold((0, 0), |(count, sum), n| (count + 1, sum + n));
            format!("{group} {count} {sum}")
        };
        let mut expected: Vec<String> = (0..GROUPS).map(sums).collect();
        expected.sort_unstable();
        assert!(self.yarn.sorted_lines(&self.output) == expected, "wrong sums");
    }

    fn stop(self) -> OnYarn {
        let _ = self.yarn.told("yarn-session", &["-id", &self.session], "stop\n").success();
        assert_eq!(self.yarn.ended(&self.session), "FINISHED/SUCCEEDED");
        assert_nothing_left(&self.yarn);
        self.yarn
    }

    /// The processes whose command line holds this.
    fn processes(&self, word: &str) -> Vec<u32> {
        let all = self.yarn.container_processes();
        all.into_iter().filter(|(_, line)| line.contains(word)).map(|(pid, _)| pid).collect()
    }
}

fn assert_nothing_left(yarn: &OnYarn) {
    until("no process of a container is left", DEADLINE, || {
        yarn.container_processes().is_empty().then_some(())
    });
    assert_eq!(yarn.staged(), [""; 0], "staged files are left");
}

fn kill(pid: u32) {
    let pid = pid.to_string();
    let killed = std::process::Command::new("kill").args(["-9", &pid]).status().unwrap();
    assert!(killed.success());
}

fn restarting(yarn: OnYarn) -> OnYarn {
    yarn.set("restart-strategy.type", "fixed-delay")
        .set("restart-strategy.fixed-delay.attempts", "20")
        .set("restart-strategy.fixed-delay.delay", "100ms")
}

#[test]
fn what_hadoop_survives_no_job_notices() {
    // A NodeManager may take its time to come back: here it must not count as lost meanwhile.
    let hadoop = Hadoop::builder().node_managers(2);
    let hadoop = hadoop.set("yarn.nm.liveness-monitor.expiry-interval-ms", "120000");
    let mut steady = Steady::start(OnYarn::new(hadoop.start()), scale(40, 200));
    steady.assert_advances();

    steady.yarn.hadoop.kill("resourcemanager");
    steady.assert_advances();
    std::thread::sleep(scale(Duration::ZERO, Duration::from_secs(60)));
    steady.assert_advances();
    steady.yarn.hadoop.restart("resourcemanager");
    steady.yarn.hadoop.wait_until_ready();
    steady.assert_advances();

    for daemon in ["nodemanager-0", "nodemanager-1", "datanode-0"] {
        steady.yarn.hadoop.restart(daemon);
        steady.assert_advances();
    }
    steady.yarn.hadoop.wait_until_ready();
    steady.assert_exact();
    steady.assert_attempts(0);
    let _ = steady.stop();
}

#[test]
fn a_killed_host_or_worker_costs_an_attempt_and_no_result() {
    let steady = Steady::start(restarting(OnYarn::new(Hadoop::start(3))), scale(30, 90));
    steady.assert_advances();
    let hosts = steady.processes("artifacts");
    kill(*hosts.first().expect("no task host was found"));
    steady.wait_for_cause("SIGKILL");
    steady.assert_advances();

    let workers = steady.processes("yarn-taskmanager");
    kill(*workers.first().expect("no TaskManager was found"));
    steady.wait_for_cause("container_");
    steady.assert_advances();
    steady.assert_exact();
    let _ = steady.stop();
}

#[test]
fn nothing_survives_its_master() {
    let steady = Steady::start(OnYarn::new(Hadoop::start(2)), 600);
    steady.assert_advances();
    let masters = steady.processes("yarn-jobmanager");
    kill(*masters.first().expect("no JobManager was found"));
    assert_eq!(steady.yarn.ended(&steady.session), "FAILED/FAILED");
    until("no process of a container is left", DEADLINE, || {
        steady.yarn.container_processes().is_empty().then_some(())
    });
    let refused = steady.yarn.run("list", &[]);
    let complaint = refused.complaint();
    assert!(complaint.contains("has ended (FAILED/FAILED)"), "{complaint}");

    // The next deployment sweeps what that one left.
    let Steady { yarn, .. } = steady;
    let deployed = yarn.run("yarn-session", &["-d"]).success();
    let next = application_id(&deployed.stdout);
    assert_eq!(yarn.staged().len(), 1, "{:?}", yarn.staged());
    let killed = yarn.hadoop.web.call(
        "PUT",
        &format!("/ws/v1/cluster/apps/{next}/state?user.name=alice"),
        "application/json",
        b"{\"state\":\"KILLED\"}",
    );
    assert!(killed.unwrap().status < 300);
    assert_eq!(yarn.ended(&next), "KILLED/KILLED");
    until("no process of a container is left", DEADLINE, || {
        yarn.container_processes().is_empty().then_some(())
    });
}
