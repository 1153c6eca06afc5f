//! What kills the master leaves nothing behind.

use std::time::Duration;

use millstream_integration::{Hadoop, Job, OnYarn, application_id, binary, until};

const DEADLINE: Duration = Duration::from_secs(90);
const GROUPS: u64 = 97;

/// A session with a job that gives out so many numbers at a limited rate.
struct Steady {
    yarn: OnYarn,
    session: String,
    job: Job,
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
        Self { yarn, session, job }
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

    /// The processes whose command line holds this.
    fn processes(&self, word: &str) -> Vec<u32> {
        let all = self.yarn.container_processes();
        all.into_iter().filter(|(_, line)| line.contains(word)).map(|(pid, _)| pid).collect()
    }
}

fn kill(pid: u32) {
    let pid = pid.to_string();
    let killed = std::process::Command::new("kill").args(["-9", &pid]).status().unwrap();
    assert!(killed.success());
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
