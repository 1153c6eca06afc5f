//! Nodes with a fault: the fault is reported in a sentence.

use std::time::Duration;

use millstream_integration::{Hadoop, OnYarn, application_id, binary, until};

const DEADLINE: Duration = Duration::from_secs(90);

#[test]
fn a_node_that_may_not_execute_what_it_fetches_is_told_of() {
    let yarn = OnYarn::new(Hadoop::builder().noexec().start());
    let refused = yarn.run("yarn-session", &["-d"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let complaint = refused.complaint();
    for word in ["application_", "is its local directory mounted noexec?", "yarn logs"] {
        assert!(complaint.contains(word), "{word:?} is not in {complaint}");
    }
    assert_eq!(yarn.staged(), [""; 0], "staged files are left");
}

/// Memory that is used is watched by the worker itself, which loses one host; addresses that are
/// reserved are watched by the NodeManager, which kills the container.
#[test]
fn too_much_memory_is_told_in_the_jobs_history() {
    let hadoop = Hadoop::builder()
        .node_managers(1)
        .set("yarn.nodemanager.container-monitor.interval-ms", "500")
        // By default limits are left to control groups, whether there are any or not.
        .set("yarn.nodemanager.resource.memory.enforced", "false")
        .set("yarn.nodemanager.vmem-check-enabled", "true");
    let yarn = OnYarn::new(hadoop.start())
        .set("restart-strategy.type", "fixed-delay")
        .set("restart-strategy.fixed-delay.attempts", "1")
        .set("restart-strategy.fixed-delay.delay", "2s");
    let deployed = yarn.run("yarn-session", &["-d"]).success();
    let session = application_id(&deployed.stdout);
    let program = binary("jobs");
    for (how, words) in [
        ("leak", &["memory"][..]),
        (
            "reserve",
            &[
                "killed for exceeding its virtual memory: ",
                " of 1.0 GB used",
                "yarn.nodemanager.vmem-check-enabled=false turns it off",
            ],
        ),
    ] {
        let arguments = ["-d", "-c", "misbehave", program.to_str().unwrap(), "--how", how];
        let submitted = yarn.run("run", &arguments).success();
        let job = yarn.job(&session, &submitted.job_id());
        until(&format!("the history tells of {how}"), DEADLINE, || {
            let causes = job.causes();
            let told = |cause: &String| words.iter().all(|word| cause.contains(word));
            causes.iter().any(told).then_some(())
        });
        println!("{how}: {:#?}", job.causes());
        job.wait_for("FAILED");
    }
    let _ = yarn.told("yarn-session", &["-id", &session], "stop\n").success();
    assert_eq!(yarn.ended(&session), "FINISHED/SUCCEEDED");
}
