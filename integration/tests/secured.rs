//! A whole job on a cluster where every port has TLS, and no secret shows anywhere.

#![expect(clippy::unwrap_used, reason = "a test ends where a step fails")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_cluster::{
    DaemonFiles, JobManagerSetup, TaskManagerSetup, run_job_manager, run_task_manager,
};
use millstream_config::Configuration;
use millstream_integration::{
    Census, Rest, Secrets, example, free_port, make_text, reference_counts, sorted_lines, until,
};
use millstream_rm_driver::driver_events;
use millstream_rm_standalone::StandaloneDriver;
use millstream_security::{Authority, Role};
use serde_json::json;

const DAY: Duration = Duration::from_secs(86_400);

/// What the processes would write to their logs if they told everything.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn configuration(dir: &Path, rpc: u16, rest: u16, worker: usize) -> Configuration {
    let tmp = dir.join("tmp");
    std::fs::create_dir_all(&tmp).unwrap();
    Configuration::from_pairs([
        ("jobmanager.rpc.address", "127.0.0.1"),
        ("jobmanager.rpc.port", &rpc.to_string()),
        ("jobmanager.bind-host", "127.0.0.1"),
        ("rest.bind-port", &rest.to_string()),
        ("rest.bind-address", "127.0.0.1"),
        ("io.tmp.dirs", tmp.to_str().unwrap()),
        ("taskmanager.resource-id", &format!("tm-{worker}")),
        ("taskmanager.numberOfTaskSlots", "1"),
        ("taskmanager.memory.process.size", "640m"),
        ("taskmanager.registration.timeout", "2 s"),
        ("taskmanager.bind-host", "127.0.0.1"),
    ])
    .unwrap()
}

/// Whether this port answers nonsense with an alert, as TLS does; none if nobody listens any more.
fn speaks_tls(port: u16) -> Option<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(&[0; 100]).ok()?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Some(answer.first() == Some(&0x15))
}

#[test]
fn a_job_runs_where_every_port_has_tls_and_no_secret_shows() {
    let log = everything_logged();
    let dir = tempfile::tempdir().unwrap();
    let (rpc, rest_port) = (free_port(), free_port());
    let authority = Arc::new(Authority::generate("application_1_2").unwrap());
    let client = authority.issue(Role::Client, "me", DAY).unwrap();
    // Of the hosts, and not of this process.
    let mark = format!("MILLSTREAM_TEST_MARK={}", std::process::id());
    let runtime = tokio::runtime::Runtime::new().unwrap();

    let files = DaemonFiles { log: Some(dir.path().join("jobmanager.log")) };
    let setup =
        JobManagerSetup { authority: Some(Arc::clone(&authority)), ..JobManagerSetup::session() };
    let config = configuration(&dir.path().join("master"), rpc, rest_port, 0);
    let master = runtime.spawn(run_job_manager(config, files, setup, |_| {
        let (events, received) = driver_events();
        Ok((Box::new(StandaloneDriver::new(events)), received))
    }));
    let mut secrets =
        Secrets::default().and(authority.to_secret().expose()).and(client.to_secret().expose());
    let workers: Vec<_> = (0..2)
        .map(|number| {
            let own = authority.issue(Role::Worker, &format!("tm-{number}"), DAY).unwrap();
            secrets = std::mem::take(&mut secrets).and(own.to_secret().expose());
            let home = dir.path().join(format!("worker-{number}"));
            let config = configuration(&home, rpc, rest_port, number);
            let files = DaemonFiles { log: Some(home.join("taskmanager.log")) };
            let (name, value) = mark.split_once('=').unwrap();
            let variables = vec![(name.into(), value.into())];
            let setup = TaskManagerSetup { credentials: Some(own), variables };
            runtime.spawn(run_task_manager(config, files, setup))
        })
        .collect();
    let rest = Rest::secured(rest_port, &client);
    until("both workers have registered", Duration::from_secs(20), || {
        let overview = rest.call("GET", "/overview", "", b"");
        overview.is_ok_and(|answer| answer.json["taskmanagers"] == 2).then_some(())
    });
    assert!(Rest::at(rest_port).call("GET", "/overview", "", b"").is_err(), "without TLS");

    let text = dir.path().join("text");
    make_text(&text, 8 << 20);
    let output = dir.path().join("counts");
    let jar = rest.upload_jar(&example("word_count"));
    let arguments = ["--input", text.to_str().unwrap(), "--output", output.to_str().unwrap()];
    let request = json!({ "programArgsList": arguments, "parallelism": 2 });
    let answer = rest.post(&format!("/v1/jars/{jar}/run"), &request);
    assert_eq!(answer.status, 200, "{}", answer.text);
    let job = format!("/v1/jobs/{}", answer.json["jobid"].as_str().unwrap());
    let mut data_ports = 0;
    until("the job has finished", Duration::from_secs(60), || {
        let ports = Census::take(&mark, &[], &[]).ports;
        data_ports += ports.iter().filter_map(|port| speaks_tls(*port)).filter(|tls| *tls).count();
        assert_eq!(secrets.processes(), [""; 0]);
        let details = rest.get(&job);
        let state = details.json["state"].as_str().unwrap();
        assert_ne!(state, "FAILED", "{}", rest.get(&format!("{job}/exceptions")).text);
        (state == "FINISHED").then_some(())
    });
    assert!(sorted_lines(&output) == reference_counts(&text), "wrong counts");
    assert!(data_ports > 0, "no data port has TLS");

    assert_eq!(rest.call("DELETE", "/v1/cluster", "", b"").unwrap().status, 200);
    runtime.block_on(master).unwrap().unwrap();
    for worker in workers {
        // It ends when it finds no JobManager any more.
        assert!(runtime.block_on(worker).unwrap().is_err());
    }
    assert_no_secret_shows(&log, &secrets, dir.path());
}

fn assert_no_secret_shows(log: &Log, secrets: &Secrets, directory: &std::path::Path) {
    let log = log.0.lock().unwrap();
    assert!(log.len() > 10_000, "the log says nothing");
    assert!(!secrets.are_in(&log), "a log shows a secret");
    // Of the hosts' credentials only the beginning is known; programs hold it too.
    let hosts = Secrets::default().and(b"MILLID\0\x01\0\0\x01\xff");
    assert!(!hosts.are_in(&log), "a log shows a host's key");
    let found = secrets.files_below(directory);
    assert!(found.is_empty(), "{found:?}");
}

fn everything_logged() -> Log {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .init();
    log
}
