//! Mistakes of users are answered with a sentence that says what to do, and leave nothing behind.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use millstream_integration::{Hadoop, OnYarn, Outcome, USER, application_id, binary, until};

const DEADLINE: Duration = Duration::from_secs(60);

/// Fails with one sentence that holds these words, and no stack trace.
fn assert_refused(outcome: &Outcome, words: &[&str]) {
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let complaint = outcome.complaint();
    for word in words {
        assert!(complaint.contains(word), "{word:?} is not in {complaint}");
    }
    assert!(!outcome.stderr.contains("\tat ") && !outcome.stderr.contains("panicked"));
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let mut yarn = OnYarn::new(Hadoop::start(1));
    hadoops_configuration(&yarn);
    addresses(&yarn);
    sizes_and_queues(&yarn);
    settings(&yarn);
    artifacts(&yarn);
    a_changed_artifact(&mut yarn);
    what_hdfs_refuses(&yarn);
    containers(&yarn);
    assert_eq!(yarn.staged(), [""; 0], "staged files are left");
    assert_eq!(yarn.containers(), 0);
}

fn hadoops_configuration(yarn: &OnYarn) {
    let with = |dir: Option<&Path>| {
        let mut command = yarn.command(&binary("millstream"));
        command.args(["yarn-session", "-d"]).env_remove("HADOOP_CONF_DIR");
        if let Some(dir) = dir {
            command.env("HADOOP_CONF_DIR", dir);
        }
        Outcome::of(command)
    };
    assert_refused(&with(None), &["no Hadoop configuration was found", "HADOOP_CONF_DIR"]);
    let empty = yarn.data("empty");
    std::fs::create_dir(&empty).unwrap();
    assert_refused(&with(Some(&empty)), &["holds neither core-site.xml", "HADOOP_CONF_DIR"]);
    std::fs::write(empty.join("yarn-site.xml"), "<configuration>\n<property>").unwrap();
    assert_refused(&with(Some(&empty)), &["yarn-site.xml"]);
    let kerberos = "-Dflink.hadoop.hadoop.security.authentication=kerberos";
    let refused = yarn.run("yarn-session", &["-d", kerberos]);
    assert_refused(&refused, &["not to those with Kerberos"]);
    let strict = "-Dflink.yarn.resourcemanager.application-https.policy=STRICT";
    assert_refused(&yarn.run("yarn-session", &["-d", strict]), &["STRICT", "LENIENT"]);
}

fn addresses(yarn: &OnYarn) {
    let at = |address: &str| {
        let property = format!("-Dflink.yarn.resourcemanager.address={address}");
        yarn.run("yarn-session", &["-d", &property])
    };
    assert_refused(&at("localhost:1"), &["failed to connect to localhost:1"]);
    let web = format!("localhost:{}", yarn.hadoop.web.port);
    assert_refused(&at(&web), &["does not speak Hadoop RPC", "is it the right port?"]);
    // The letters of a web server's answer are no length.
    let name_node = |address: &str| {
        let property = format!("-Dyarn.staging-directory=hdfs://{address}/staging");
        yarn.run("yarn-session", &["-d", &property])
    };
    let web = format!("localhost:{}", yarn.hadoop.name_node_web.port);
    let words = [web.as_str(), "is no NameNode", "web server", "is it the right port?"];
    assert_refused(&name_node(&web), &words);
    let other = yarn.hadoop.client_address();
    assert_refused(&name_node(&other), &[&other, "not a NameNode's", "is it the right port?"]);
    assert_refused(&name_node("localhost:1"), &["no NameNode answers at localhost:1"]);
    let refused = yarn.run("list", &["-t", "yarn-session"]);
    assert_refused(&refused, &["no session on YARN is known", "yarn-session.sh"]);
    let unknown = "-Dyarn.application.id=application_1_0001";
    assert_refused(&yarn.run("list", &[unknown]), &["does not know application_1_0001"]);
}

fn sizes_and_queues(yarn: &OnYarn) {
    let refused = yarn.run("yarn-session", &["-d", "-qu", "nowhere"]);
    assert_refused(&refused, &["no queue \"nowhere\"", "yarn.application.queue"]);
    let refused = yarn.run("yarn-session", &["-d", "-Djobmanager.memory.process.size=9000m"]);
    assert_refused(&refused, &["JobManager of 9000 MB", "jobmanager.memory.process.size"]);
    let refused = yarn.run("yarn-session", &["-d", "-Dtaskmanager.memory.process.size=100g"]);
    assert_refused(&refused, &["TaskManager of 102400 MB", "taskmanager.memory.process.size"]);
}

/// Settings that contradict each other or promise what there is not.
fn settings(yarn: &OnYarn) {
    let session = |option: &str| yarn.run("yarn-session", &["-d", option]);
    let refused = session("-Dyarn.application-attempts=2");
    assert_refused(&refused, &["yarn.application-attempts is 2", "without high availability"]);
    let refused = session("-Dclient.heartbeat.timeout=5s");
    assert_refused(&refused, &["client.heartbeat.timeout is 5s", "client.heartbeat.interval"]);
    let refused = session("-Dyarn.heartbeat.interval=10");
    assert_refused(&refused, &["yarn.heartbeat.interval is 10s", "expiry-interval-ms"]);
    assert_refused(&session("-s=0"), &["taskmanager.numberOfTaskSlots", "expected more than 0"]);
    let refused = session("-Dyarn.appmaster.vcores=99");
    assert_refused(&refused, &["99 virtual cores", "lower yarn.appmaster.vcores"]);
    assert!(!refused.complaint().contains("memory"), "{refused:?}");
    let program = binary("jobs");
    let id = "-Dyarn.application.id=application_1_0001";
    for target in ["yarn-application", "yarn-per-job"] {
        let refused = yarn.run("run", &["-t", target, id, program.to_str().unwrap()]);
        assert_refused(&refused, &["deploys a cluster of its own", "application_1_0001"]);
    }
}

fn artifacts(yarn: &OnYarn) {
    let missing = yarn.home("nothing/here");
    let refused = yarn.run("run-application", &[&missing, "--input", "x"]);
    assert_refused(&refused, &["nothing/here does not exist"]);
    let text = yarn.data("no-program");
    std::fs::write(&text, "a text").unwrap();
    let refused = yarn.run("run-application", &[text.to_str().unwrap()]);
    assert_refused(&refused, &["no-program"]);
    // Files on HDFS are checked on the cluster.
    let staged = yarn.home("apps/no-program");
    yarn.upload(&text, &staged, 0o755);
    let submitted = yarn.run("run-application", &[&staged]);
    let id = application_id(&format!("{}{}", submitted.stdout, submitted.stderr));
    assert_eq!(yarn.ended(&id), "FINISHED/FAILED");
    let diagnostics = yarn.application(&id)["diagnostics"].to_string();
    assert!(diagnostics.contains("cannot run"), "{diagnostics}");
}

/// It changes after it was looked at, before a node fetches it.
fn a_changed_artifact(yarn: &mut OnYarn) {
    let staged = yarn.home("apps/changing");
    let program = binary("jobs");
    yarn.upload(&program, &staged, 0o755);
    yarn.hadoop.daemon("nodemanager-0").pause();
    let deploying = yarn.start("run-application", &[&staged, "-c", "copy"]);
    let submitted = until("it is submitted", DEADLINE, || {
        let apps = yarn.hadoop.web.get("/ws/v1/cluster/apps?states=ACCEPTED").json;
        apps["apps"]["app"][0]["id"].as_str().map(str::to_owned)
    });
    yarn.upload(&program, &staged, 0o755);
    yarn.hadoop.daemon("nodemanager-0").resume();
    let refused = deploying.finish();
    assert_refused(&refused, &[&submitted, "apps/changing changed after it was staged"]);
}

fn what_hdfs_refuses(yarn: &OnYarn) {
    let staging = |directory: &str| {
        let property = format!("-Dyarn.staging-directory={directory}");
        yarn.run("yarn-session", &["-d", &property])
    };
    yarn.hadoop.webhdfs("PUT", "/closed", "MKDIRS&permission=755");
    assert_refused(&staging("/closed"), &["no permission", "/closed"]);
    yarn.hadoop.webhdfs("PUT", "/full", "MKDIRS&permission=777");
    yarn.hadoop.dfs_admin(&["-setSpaceQuota", "1m", "/full"]);
    assert_refused(&staging("/full"), &["no room", "quota"]);
    yarn.hadoop.dfs_admin(&["-safemode", "enter"]);
    let refused = yarn.run("yarn-session", &["-d", "-Dyarn.staging-directory=/tmp/new"]);
    yarn.hadoop.dfs_admin(&["-safemode", "leave"]);
    assert_refused(&refused, &["safe mode"]);
}

/// The processes of containers, started where there is none, or with damaged credentials.
fn containers(yarn: &OnYarn) {
    let run = |token: Option<&[u8]>| {
        let mut command: Command = yarn.command(&binary("millstream"));
        let log = yarn.data("container.log");
        command.args(["yarn-jobmanager", "--log-file", log.to_str().unwrap()]);
        command.env("CONTAINER_ID", "container_1_0001_01_000001").env("NM_HOST", "localhost");
        command.env("PWD", yarn.data("")).env("USER", USER);
        if let Some(token) = token {
            std::fs::write(yarn.data("tokens"), token).unwrap();
            command.env("HADOOP_TOKEN_FILE_LOCATION", yarn.data("tokens"));
        }
        Outcome::of(command)
    };
    assert_refused(&run(None), &["HADOOP_TOKEN_FILE_LOCATION is not set"]);
    assert_refused(&run(Some(b"HDTS\0\x01")), &["tokens", "truncated or damaged"]);
    assert_refused(&run(Some(b"nonsense")), &["does not begin with HDTS"]);
    assert_refused(&run(Some(b"HDTS\0\0\0")), &["was not started by Millstream"]);
}
