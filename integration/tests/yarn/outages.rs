//! Attached clients stay while the ResourceManager is away, and later commands say how a cluster
//! has ended.

use std::time::Duration;

use millstream_integration::{Hadoop, OnYarn, application_id, binary, scale, until};

use crate::faults::{assert_nothing_left, node_of, processes, start_session, task_hosts};

const DEADLINE: Duration = Duration::from_secs(90);
/// Longer than one call to the ResourceManager is repeated.
const AWAY: Duration = Duration::from_secs(24);
/// Records per second that a job writes.
const RATE: u64 = 10_000;

#[test]
fn attached_commands_stay_while_the_resource_manager_is_away() {
    // Without heartbeats, all that is attached to would end long before the outage does.
    let mut yarn = OnYarn::new(Hadoop::start(2))
        .set("client.heartbeat.interval", "1s")
        .set("client.heartbeat.timeout", "12s");
    let session = yarn.start("yarn-session", &[]);
    let running = until("the session runs", DEADLINE, || {
        let apps = yarn.hadoop.web.get("/ws/v1/cluster/apps?states=RUNNING").json;
        apps["apps"]["app"][0]["id"].as_str().map(str::to_owned)
    });
    let (program, output) = (binary("jobs"), yarn.home("numbers"));
    let records = 10 * RATE;
    let numbers = [records.to_string(), RATE.to_string()];
    let options = ["-Dexecution.attached=true", "-c", "copy", program.to_str().unwrap()];
    let arguments = ["--records", &numbers[0], "--rate", &numbers[1], "--output", &output];
    let application = yarn.start("run-application", &[&options[..], &arguments[..]].concat());
    until("the application's job runs, and YARN says so", DEADLINE, || {
        let apps = yarn.hadoop.web.get("/ws/v1/cluster/apps?states=RUNNING").json;
        let both = apps["apps"]["app"].as_array().is_some_and(|apps| apps.len() == 2);
        (both && !task_hosts(&yarn).is_empty()).then_some(())
    });
    // The client asks YARN several times a second and then knows where to send its heartbeats.
    std::thread::sleep(Duration::from_secs(3));

    yarn.hadoop.kill("resourcemanager");
    std::thread::sleep(scale(AWAY, 5 * AWAY));
    yarn.hadoop.restart("resourcemanager");
    yarn.hadoop.wait_until_ready();

    // Its job has ended meanwhile, and YARN hears of it now.
    let ended = application.finish().success();
    let said = |words: &str| ended.stderr.matches(words).count();
    assert_eq!(said("the ResourceManager does not answer"), 1, "{ended:#?}");
    assert_eq!(said("answers again"), 1, "{ended:#?}");
    assert!(ended.stdout.contains("has finished: the program and its job ended"), "{ended:#?}");
    assert_eq!(yarn.sorted_lines(&output).len(), usize::try_from(records).unwrap());

    let listed = yarn.run("list", &["-a"]).success();
    assert!(listed.stderr.contains(&running), "{listed:#?}");
    session.interrupt();
    let stopped = session.finish().success();
    assert_eq!(stopped.stderr.matches("does not answer").count(), 1, "{stopped:#?}");
    assert!(stopped.stdout.contains(&format!("Stopped {running}")), "{stopped:#?}");
    assert_eq!(yarn.ended(&running), "FINISHED/SUCCEEDED");
    assert_nothing_left(&yarn);
}

#[test]
fn sessions_are_found_and_their_ends_are_told() {
    let mut yarn = OnYarn::new(Hadoop::start(2));
    let first = start_session(&yarn);
    let deployed = yarn.run("yarn-session", &["-d", "-Dyarn.staging-directory=own/place"]);
    let second = application_id(&deployed.success().stdout);
    assert!(!yarn.list(&yarn.home("own/place/.millstream")).is_empty(), "it is staged elsewhere");
    // The file says where, with and without an id.
    let _ = yarn.run("list", &[]).success();
    let _ = yarn.run("list", &[&format!("-Dyarn.application.id={second}")]).success();
    let stopped = yarn.told("yarn-session", &["-id", &second], "stop\n").success();
    assert!(stopped.stdout.contains(&format!("Later commands use {first}")), "{stopped:#?}");
    let listed = yarn.run("list", &[]).success();
    assert!(listed.stderr.contains(&format!("the session {first} is used")), "{listed:#?}");

    let node = node_of(processes(&yarn, "yarn-jobmanager")[0]);
    yarn.hadoop.kill(&node);
    assert_eq!(yarn.ended(&first), "FAILED/FAILED");
    let refused = yarn.run("list", &[]);
    for words in [
        &format!(
            "{first} has ended (FAILED/FAILED): the JobManager's container: its node was lost"
        ),
        "millstream-yarn-properties-alice named it as the last session, and does not any more",
        "start another with yarn-session.sh",
    ] {
        assert!(refused.complaint().contains(words), "{words:?} is not in {refused:#?}");
    }
    until("the JobManager has ended too", DEADLINE, || {
        yarn.container_processes().is_empty().then_some(())
    });
}
