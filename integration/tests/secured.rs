//! A whole job on a cluster where every port has TLS, and no secret shows anywhere.

#![expect(clippy::unwrap_used, reason = "a test ends where a step fails")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_cluster::{
    DaemonError, DaemonFiles, Ended, JobManagerSetup, TaskManagerSetup, run_job_manager,
    run_task_manager,
};
use millstream_config::Configuration;
use millstream_integration::{
    Census, Rest, Secrets, example, free_port, make_text, reference_counts, sorted_lines, until,
};
use millstream_rm_driver::driver_events;
use millstream_rm_standalone::{EpochCounter, StandaloneDriver};
use millstream_security::{Authority, Role};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

const DAY: Duration = Duration::from_secs(86_400);

/// The log of the processes at the highest level.
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

/// Whether this port answers nonsense with an alert, as TLS does; none if it is closed.
fn speaks_tls(port: u16) -> Option<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(&[0; 100]).ok()?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Some(answer.first() == Some(&0x15))
}

type Running = JoinHandle<Result<Ended, DaemonError>>;

/// Both daemons' bodies in this process, and the secrets that they must not show.
struct Cluster {
    runtime: Runtime,
    dir: TempDir,
    rest: Rest,
    master: Running,
    workers: Vec<Running>,
    /// In the environment of the hosts, and not in that of this process.
    mark: String,
    secrets: Secrets,
}

impl Cluster {
    fn start() -> Self {
        let (runtime, dir) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
        let (rpc, rest) = (free_port(), free_port());
        let authority = Arc::new(Authority::generate("application_1_2").unwrap());
        let client = authority.issue(Role::Client, "me", DAY).unwrap();
        let mut secrets =
            Secrets::default().and(authority.to_secret().expose()).and(client.to_secret().expose());
        let files = DaemonFiles { log: Some(dir.path().join("jobmanager.log")), ready: None };
        let given = Some(Arc::clone(&authority));
        let epochs = Box::new(EpochCounter::new(dir.path().join("state")));
        let setup = JobManagerSetup { authority: given, ..JobManagerSetup::session(epochs) };
        let config = configuration(&dir.path().join("master"), rpc, rest, 0);
        let master = runtime.spawn(run_job_manager(config, files, setup, |_| {
            let (events, received) = driver_events();
            Ok((Box::new(StandaloneDriver::new(events)), received))
        }));
        let mark = format!("MILLSTREAM_TEST_MARK={}", std::process::id());
        let mut workers = Vec::new();
        for number in 0..2 {
            let own = authority.issue(Role::Worker, &format!("tm-{number}"), DAY).unwrap();
            secrets = secrets.and(own.to_secret().expose());
            let home = dir.path().join(format!("worker-{number}"));
            let config = configuration(&home, rpc, rest, number);
            let files = DaemonFiles { log: Some(home.join("taskmanager.log")), ready: None };
            let (name, value) = mark.split_once('=').unwrap();
            let variables = vec![(name.into(), value.into())];
            let setup = TaskManagerSetup { credentials: Some(own), variables };
            workers.push(runtime.spawn(run_task_manager(config, files, setup)));
        }
        let rest = Rest::secured(rest, &client);
        until("both workers have registered", Duration::from_secs(60), || {
            let overview = rest.call("GET", "/overview", "", b"");
            overview.is_ok_and(|answer| answer.json["taskmanagers"] == 2).then_some(())
        });
        Self { runtime, dir, rest, master, workers, mark, secrets }
    }

    /// Number of the hosts' data ports that answer as TLS does.
    fn secured_data_ports(&self) -> usize {
        let ports = Census::take(&self.mark, &[], &[]).ports;
        ports.iter().filter_map(|port| speaks_tls(*port)).filter(|tls| *tls).count()
    }

    fn stop(self) -> (TempDir, Secrets) {
        assert_eq!(self.rest.call("DELETE", "/v1/cluster", "", b"").unwrap().status, 200);
        self.runtime.block_on(self.master).unwrap().unwrap();
        for worker in self.workers {
            // It ends when it finds no JobManager any more.
            assert!(self.runtime.block_on(worker).unwrap().is_err());
        }
        (self.dir, self.secrets)
    }
}

#[test]
fn a_job_runs_where_every_port_has_tls_and_no_secret_shows() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .init();
    let cluster = Cluster::start();
    let plain = Rest::at(cluster.rest.port).call("GET", "/overview", "", b"");
    assert!(plain.is_err(), "REST answered without TLS");

    let (rest, text) = (&cluster.rest, cluster.dir.path().join("text"));
    make_text(&text, 8 << 20);
    let output = cluster.dir.path().join("counts");
    let jar = rest.upload_jar(&example("word_count"));
    let arguments = ["--input", text.to_str().unwrap(), "--output", output.to_str().unwrap()];
    let request = json!({ "programArgsList": arguments, "parallelism": 2 });
    let answer = rest.post(&format!("/v1/jars/{jar}/run"), &request);
    assert_eq!(answer.status, 200, "{}", answer.text);
    let job = format!("/v1/jobs/{}", answer.json["jobid"].as_str().unwrap());
    let mut secured = 0;
    until("the job has finished", Duration::from_secs(120), || {
        secured += cluster.secured_data_ports();
        assert_eq!(cluster.secrets.processes(), [""; 0]);
        let details = rest.get(&job);
        let state = details.json["state"].as_str().unwrap();
        assert_ne!(state, "FAILED", "{}", rest.get(&format!("{job}/exceptions")).text);
        (state == "FINISHED").then_some(())
    });
    assert!(sorted_lines(&output) == reference_counts(&text), "wrong counts");
    assert!(secured > 0, "no data port has TLS");

    let (dir, secrets) = cluster.stop();
    let log = log.0.lock().unwrap();
    assert!(log.len() > 10_000, "the log says nothing");
    assert!(!secrets.are_in(&log), "a log shows a secret");
    // Of the hosts' credentials only the beginning is known; programs hold it too.
    let hosts = Secrets::default().and(b"MILLID\0\x01\0\0");
    assert!(!hosts.are_in(&log), "a log shows a host's key");
    let found = secrets.files_below(dir.path());
    assert!(found.is_empty(), "{found:?}");
}
