//! Text that people find in logs, and secrets that must not be found anywhere.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_integration::{Hadoop, Job, OnYarn, Secrets, USER, application_id, binary, until};
use millstream_rm_yarn::credentials::HadoopCredentials;

const DEADLINE: Duration = Duration::from_secs(90);
/// A value of the configuration whose key says that it is a secret.
const PASSWORD: &str = "correct-horse-battery-staple-4711";
/// Hadoop's confidential files: its own, for its own user.
const CONFIDENTIAL: [&str; 5] =
    ["container_tokens", "/nmPrivate/", "/resourcemanager/", "/recovery/", "/datanode-"];

/// The secrets in the credentials of all containers of these applications.
fn secrets_of_containers(dir: &Path, applications: &[(String, Job)]) -> Secrets {
    let (mut secrets, mut found) = (Secrets::default().and(PASSWORD.as_bytes()), 0);
    let mut add = |file: PathBuf| {
        let credentials = HadoopCredentials::decode(&std::fs::read(file).unwrap()).unwrap();
        let passwords = credentials.tokens.iter().map(|(_, token)| token.password.as_slice());
        // The others are configurations, of which only some values are secret.
        let own = credentials.secrets.iter().filter_map(|(alias, secret)| match alias.as_str() {
            "millstream.authority" => Some(private_number(secret, 2)),
            "millstream.identity" => Some(private_number(secret, 1)),
            _ => None,
        });
        for secret in passwords.chain(own) {
            secrets = std::mem::take(&mut secrets).and(secret);
            found += 1;
        }
    };
    find(dir, "container_tokens", &mut add);
    // A master has a token and an authority, a worker an identity.
    assert!(found >= 3 * applications.len(), "only {found} secrets were found");
    secrets
}

/// The secret part of a key: names and certificates surround it.
fn private_number(secret: &[u8], field: usize) -> &[u8] {
    let mut rest = &secret[8..];
    for _ in 0..field {
        let (length, after) = rest.split_first_chunk::<4>().unwrap();
        rest = &after[u32::from_be_bytes(*length) as usize..];
    }
    // An elliptic curve's key in PKCS #8: the number is an octet string of 32 bytes.
    let key = &rest[4..];
    assert_eq!(key[34..36], [4, 32], "the key is of another kind");
    &key[36..68]
}

fn find(dir: &Path, name: &str, add: &mut impl FnMut(PathBuf)) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            find(&path, name, add);
        } else if path.file_name().is_some_and(|found| found == name) {
            add(path);
        }
    }
}

/// A cluster of each mode, with a job that runs: the applications and their jobs.
fn start_all(yarn: &OnYarn) -> Vec<(String, Job)> {
    let deployed = yarn.run("yarn-session", &["-d"]).success();
    let session = application_id(&deployed.stdout);
    let program = binary("jobs");
    let start = |target: &str| {
        let output = yarn.home(target);
        let options = ["-d", "-t", target, "-c", "copy", program.to_str().unwrap()];
        let arguments = ["--records", "100000000", "--output", output.as_str()];
        yarn.run("run", &[&options[..], &arguments[..]].concat()).success()
    };
    let in_session = (session.clone(), yarn.job(&session, &start("yarn-session").job_id()));
    let alone = start("yarn-per-job");
    let application = application_id(&alone.stdout);
    let alone = (application.clone(), yarn.job(&application, &alone.job_id()));
    let application = application_id(&start("yarn-application").stdout);
    let rest = yarn.rest(&application);
    let id = until("the application has a job", DEADLINE, || {
        let jobs = rest.get("/v1/jobs/overview").json;
        jobs["jobs"][0]["jid"].as_str().map(str::to_owned)
    });
    let all = vec![in_session, alone, (application, Job { id, rest })];
    all.iter().for_each(|(_, job)| job.wait_for_tasks());
    all
}

#[test]
fn logs_are_aggregated_and_nothing_shows_a_secret() {
    let hadoop = Hadoop::builder().node_managers(2).set("yarn.log-aggregation-enable", "true");
    let yarn = OnYarn::new(hadoop.start()).set("s3.secret-key", PASSWORD);
    let running = start_all(&yarn);
    let secrets = secrets_of_containers(yarn.hadoop.dir(), &running);
    files_and_processes_show_none(&yarn, &secrets);
    for (application, job) in &running {
        answers_show_none(&yarn, application, job, &secrets);
    }
    for (application, job) in &running {
        let id = format!("-Dyarn.application.id={application}");
        let _ = yarn.run("cancel", &[id.as_str(), job.id.as_str()]).success();
    }
    let session = running[0].0.as_str();
    let _ = yarn.told("yarn-session", &["-id", session], "stop\n").success();
    for (application, _) in &running {
        logs_show_none(&yarn, application, &secrets);
    }
}

fn files_and_processes_show_none(yarn: &OnYarn, secrets: &Secrets) {
    let shown = secrets.files_below(yarn.hadoop.dir());
    let confidential = |path: &PathBuf| {
        let path = path.to_string_lossy();
        CONFIDENTIAL.iter().any(|part| path.contains(part))
    };
    let shown: Vec<PathBuf> = shown.into_iter().filter(|path| !confidential(path)).collect();
    assert!(shown.is_empty(), "these files show a secret: {shown:?}");
    let mut scripts = 0;
    find(yarn.hadoop.dir(), "launch_container.sh", &mut |_| scripts += 1);
    assert!(scripts >= 6, "only {scripts} launch scripts were looked at");
    // The commands that this test started were told the password; they have ended.
    assert_eq!(secrets.processes(), [""; 0], "these processes show a secret");
}

fn answers_show_none(yarn: &OnYarn, application: &str, job: &Job, secrets: &Secrets) {
    for path in [
        "/v1/config",
        "/v1/overview",
        "/v1/jobmanager/config",
        "/v1/jobmanager/environment",
        "/v1/jobs/overview",
        "/v1/taskmanagers",
        &format!("/v1/jobs/{}", job.id),
        &format!("/v1/jobs/{}/config", job.id),
    ] {
        let answer = job.rest.get(path);
        assert!(!secrets.are_in(answer.text.as_bytes()), "{path} shows a secret");
    }
    for path in
        [format!("/ws/v1/cluster/apps/{application}"), format!("/proxy/{application}/v1/config")]
    {
        let answer = yarn.hadoop.web.get(&path);
        assert!(!secrets.are_in(answer.text.as_bytes()), "{path} shows a secret");
    }
}

/// Waits for the end of an application and what `yarn logs` then gives back.
fn logs_show_none(yarn: &OnYarn, application: &str, secrets: &Secrets) {
    let _ = yarn.ended(application);
    let logs = until("the logs are aggregated", DEADLINE, || {
        let class = "org.apache.hadoop.yarn.client.cli.LogsCLI";
        let read = yarn.hadoop.java(class, &["-applicationId", application, "-appOwner", USER]);
        let all = ["jobmanager.log", "jobmanager.out", "taskmanager.log", "taskmanager.stderr"];
        all.iter().all(|name| read.stdout.contains(name)).then_some(read.stdout)
    });
    assert!(logs.contains("JobManager"), "the JobManager's lines are not among the logs");
    assert!(!secrets.are_in(logs.as_bytes()), "a log of {application} shows a secret");
}
