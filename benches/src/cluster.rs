//! A running cluster of either engine on loopback, and jobs on it.

use crate::engine::Engine;
use crate::http::Server;
use crate::json;
use crate::probe;
use crate::process::{self, Daemon, check};
use crate::records::Digest;
use crate::rows::{Job, SEED, Size, Throughput};
use crate::tls;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(120);
/// Number of slots from which Flink's default network memory does not suffice.
const MANY_SLOTS: u32 = 16;
/// Length of a failed job's exceptions in an error.
const WHY_CHARS: usize = 2_000;
const JOB_LIMIT: Duration = Duration::from_secs(300);

/// The directory of one cluster: `conf`, `log`, `pid`, `tmp` and the output of its jobs.
pub struct RunDirectory {
    directory: TempDir,
    /// REST, once the cluster runs.
    pub rest: Server,
}

impl RunDirectory {
    /// Configures a cluster on free ports of loopback.
    pub fn new(engine: &Engine, slots: u32, tuning: &[(&str, &str)], tls: bool) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix(engine.name).tempdir()?;
        let path = directory.path();
        for name in ["log", "pid", "tmp", "out"] {
            fs::create_dir(path.join(name))?;
        }
        let [rest, rpc] = free_ports()?;
        let mut config = format!(
            "rest.address: 127.0.0.1\nrest.bind-address: 127.0.0.1\nrest.port: {rest}\n\
             jobmanager.rpc.address: 127.0.0.1\njobmanager.rpc.port: {rpc}\n\
             jobmanager.bind-host: 127.0.0.1\ntaskmanager.bind-host: 127.0.0.1\n\
             taskmanager.host: 127.0.0.1\ntaskmanager.numberOfTaskSlots: {slots}\n\
             io.tmp.dirs: {}\n",
            path.join("tmp").display()
        );
        if let Some(interval) = &engine.checkpoints {
            config.push_str(&format!(
                "execution.checkpointing.interval: {interval}\n\
                 execution.checkpointing.dir: file://{}\n",
                path.join("checkpoints").display()
            ));
        }
        for (key, value) in tuning {
            config.push_str(&format!("{key}: {value}\n"));
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rest));
        let mut server = Server::plain(address);
        if tls && engine.is_flink() {
            config.push_str(&tls::flink_settings(path)?);
        } else if tls {
            server = Server::secured(address, &tls::make_authority(path)?)?;
        }
        engine.configure(path, &config)?;
        fs::write(path.join("conf/masters"), format!("localhost:{rest}\n"))?;
        fs::write(path.join("conf/workers"), "localhost\n")?;
        Ok(Self { directory, rest: server })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Waits until `workers` TaskManagers have registered `slots` slots.
    pub fn wait_for_workers(&self, workers: u32, slots: u32) -> Result<()> {
        let start = Instant::now();
        loop {
            // Nothing answers before the JobManager is up.
            let overview = self.rest.get("/overview").unwrap_or_default();
            let number = |key: &str| overview.get(key).and_then(Value::as_u64).unwrap_or(0);
            let (workers, slots) = (u64::from(workers), u64::from(slots));
            if number("taskmanagers") == workers && number("slots-total") == slots {
                return Ok(());
            }
            if start.elapsed() > START_LIMIT {
                bail!("the cluster did not start; logs in {}", self.keep_logs().display());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Copies the logs to where they outlive this run.
    fn keep_logs(&self) -> PathBuf {
        let kept = std::env::temp_dir().join(format!("paired-logs-{}", std::process::id()));
        let copy = || -> std::io::Result<()> {
            fs::create_dir_all(&kept)?;
            for entry in fs::read_dir(self.path().join("log"))? {
                let entry = entry?;
                fs::copy(entry.path(), kept.join(entry.file_name()))?;
            }
            Ok(())
        };
        // Without logs the error still says what went wrong.
        copy().ok();
        kept
    }
}

/// One JobManager and its TaskManagers, in the foreground.
pub struct Cluster {
    // Fields drop in this order: workers first, the directory last.
    workers: Vec<Daemon>,
    jobmanager: Daemon,
    run: RunDirectory,
    engine: Engine,
    outputs: u32,
    /// The time that a job has.
    limit: Duration,
}

/// A steady rate of records.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Records per second of all subtasks.
    pub rate: u64,
    /// Duration of the job.
    pub seconds: u64,
    /// Of both vertices.
    pub parallelism: u32,
    /// Time between two looks of a source at the clock.
    pub tick_ms: u64,
}

impl Pace {
    fn records(&self) -> u64 {
        self.rate * self.seconds
    }
}

/// A finished job.
pub struct Finished {
    /// The records in its sinks.
    pub digest: Digest,
    /// CPU time of all worker processes from before the submission until after the end.
    pub cpu: Duration,
    /// From before the submission until the end.
    pub took: Duration,
}

/// A job that was watched.
pub struct Watched {
    /// The directory of its output.
    pub output: PathBuf,
    /// From its submission until its end, as the JobManager says.
    pub took: Duration,
    /// CPU time of all worker processes.
    pub cpu: Duration,
}

impl Cluster {
    /// Starts a cluster for throughput: tuned.
    pub fn tuned(engine: &Engine, size: Size) -> Result<Self> {
        Self::tuned_with(engine, size, &[])
    }

    /// The same with more settings.
    pub fn tuned_with(engine: &Engine, size: Size, more: &[(&str, &str)]) -> Result<Self> {
        let memory = format!("{}m", size.memory_mb / size.workers.max(1));
        let mut tuning = engine.tuning.to_vec();
        tuning.extend_from_slice(more);
        tuning.push(("taskmanager.memory.process.size", &memory));
        tuning.push(("jobmanager.memory.process.size", "1600m"));
        if engine.is_flink() && size.slots > MANY_SLOTS {
            // Each channel needs two buffers of 32 KiB at its end and one at its start.
            tuning.push(("taskmanager.memory.network.fraction", "0.5"));
            tuning.push(("taskmanager.memory.network.max", "16g"));
            // It starts its threads within the time of a call.
            tuning.push(("pekko.ask.timeout", "120 s"));
        }
        Self::start(engine, size, &tuning, true)
    }

    /// Starts a cluster of one TaskManager with the sizes that the default configuration has.
    pub fn standard(engine: &Engine) -> Result<Self> {
        let sizes = [
            ("taskmanager.memory.process.size", "1728m"),
            ("jobmanager.memory.process.size", "1600m"),
        ];
        let size = Size { workers: 1, slots: 1, tls: false, memory_mb: 1_728 };
        Self::start(engine, size, &sizes, false)
    }

    fn start(
        engine: &Engine,
        size: Size,
        tuning: &[(&str, &str)],
        throughput: bool,
    ) -> Result<Self> {
        let run = RunDirectory::new(engine, size.slots, tuning, size.tls)?;
        let daemon = |role: &str, number: u32| {
            let command = match size.tls && !engine.is_flink() {
                true => tls::daemon(run.path(), role, number)?,
                false => {
                    let mut script = engine.command(&format!("{role}.sh"), run.path(), throughput);
                    script.arg("start-foreground");
                    script
                }
            };
            Daemon::start(command, &run.path().join(format!("log/{role}-{number}.out")))
        };
        let jobmanager = daemon("jobmanager", 0)?;
        let started: Result<Vec<_>> =
            (0..size.workers).map(|number| daemon("taskmanager", number)).collect();
        let workers = started?;
        run.wait_for_workers(size.workers, size.workers * size.slots)?;
        Ok(Self { workers, jobmanager, run, engine: engine.clone(), outputs: 0, limit: JOB_LIMIT })
    }

    /// Resident memory of the JobManager and of the first TaskManager, in bytes.
    pub fn resident_bytes(&self) -> Result<(u64, u64)> {
        let worker = self.workers.first().context("the cluster has no worker")?;
        Ok((
            process::resident_bytes(self.jobmanager.pid())?,
            process::resident_bytes(worker.pid())?,
        ))
    }

    /// Uploads the artifact that has a job, and says under which id it runs.
    pub fn upload(&self, job: Job) -> Result<String> {
        let path = self.engine.artifact_of(job);
        let name = path.file_name().context("the artifact has no name")?.to_string_lossy();
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let answer = self.run.rest.upload("/jars/upload", &name, &content)?;
        let stored = answer.get("filename").and_then(Value::as_str).context("no filename")?;
        Ok(stored.rsplit('/').next().unwrap_or(stored).to_owned())
    }

    /// Runs a throughput job from submission to end.
    pub fn run(&mut self, artifact: &str, row: &Throughput, input: &Path) -> Result<Finished> {
        let output = self.output()?;
        let mut args = arguments(row.job, row.records, row.parallelism, &output);
        args.extend(["--keys".into(), row.keys.to_string()]);
        args.extend(["--input".into(), input.display().to_string()]);
        let before = self.worker_cpu()?;
        let start = Instant::now();
        let job = self.submit(artifact, &args)?;
        self.wait_until_finished(&job, || Ok(()))?;
        let took = start.elapsed();
        let cpu = self.worker_cpu()? - before;
        let digest = match row.job {
            Job::JsonLines { .. } => json::published(&output.join("lines"))?,
            _ => Digest::read(&output)?,
        };
        Ok(Finished { digest, cpu, took })
    }

    /// Runs a job of a steady rate, and looks at its TaskManagers again and again. Returns the
    /// directory of its output.
    pub fn run_paced(
        &mut self,
        artifact: &str,
        pace: &Pace,
        mut look: impl FnMut(&[Daemon]) -> Result<()>,
    ) -> Result<PathBuf> {
        let output = self.output()?;
        let mut args = arguments(Job::Paced, pace.records(), pace.parallelism, &output);
        args.extend(["--rate".into(), pace.rate.to_string()]);
        args.extend(["--tick-ms".into(), pace.tick_ms.to_string()]);
        let job = self.submit(artifact, &args)?;
        self.wait_until_finished(&job, || look(&self.workers))?;
        let (got, expected) = (Digest::read(&output)?, probe::paced(pace.records()));
        got.must_be(expected)?;
        Ok(output)
    }

    /// Runs a job with more arguments until it ends, for which it has this long, and looks again
    /// and again at what REST says of its checkpoints.
    pub fn run_watched(
        &mut self,
        artifact: &str,
        row: &Throughput,
        more: &[String],
        limit: Duration,
        mut look: impl FnMut(&Value),
    ) -> Result<Watched> {
        let before = self.worker_cpu()?;
        let (job, output) = self.begin(artifact, row, more)?;
        let path = format!("/jobs/{job}/checkpoints");
        self.limit = limit;
        self.wait_until_finished(&job, || {
            std::thread::sleep(Duration::from_millis(500));
            self.run.rest.get(&path).map(|checkpoints| look(&checkpoints))
        })?;
        let details = self.run.rest.get(&format!("/jobs/{job}"))?;
        let took = details.get("duration").and_then(Value::as_u64).context("no duration")?;
        look(&self.run.rest.get(&path)?);
        let cpu = self.worker_cpu()? - before;
        Ok(Watched { output, took: Duration::from_millis(took), cpu })
    }

    /// Submits a job that goes on; its id, and the directory of its output.
    pub fn begin(
        &mut self,
        artifact: &str,
        row: &Throughput,
        more: &[String],
    ) -> Result<(String, PathBuf)> {
        let output = self.output()?;
        let mut args = arguments(row.job, row.records, row.parallelism, &output);
        args.extend(["--keys".into(), row.keys.to_string()]);
        args.extend_from_slice(more);
        Ok((self.submit(artifact, &args)?, output))
    }

    /// The checkpoints of a job, as REST says it.
    pub fn checkpoints(&self, job: &str) -> Result<Value> {
        self.run.rest.get(&format!("/jobs/{job}/checkpoints"))
    }

    /// Kills the worker that this process belongs to, with all its processes, which are returned.
    pub fn kill_worker_of(&self, pid: u32) -> Result<Vec<u32>> {
        for worker in &self.workers {
            let tree = process::tree_of(worker.pid())?;
            if tree.contains(&pid) {
                tree.iter().for_each(|pid| process::kill(*pid));
                return Ok(tree);
            }
        }
        bail!("process {pid} belongs to no worker")
    }

    /// Submits the stamp job by the command line or over REST; seconds until its first record.
    pub fn first_record_s(&mut self, artifact: Option<&str>) -> Result<f64> {
        let output = self.output()?;
        let args = arguments(Job::Stamp, 1_000, 1, &output);
        let start = std::time::SystemTime::now();
        let jobs = match artifact {
            Some(artifact) => vec![self.submit(artifact, &args)?],
            None => {
                let mut command = self.cli();
                command.args(["run", "-d"]).arg(&self.engine.artifact).args(&args);
                check(command)?;
                self.jobs()?
            }
        };
        for job in &jobs {
            self.wait_until_finished(job, || Ok(()))?;
        }
        let stamp = fs::read_to_string(output.join("first")).context("no record was stamped")?;
        let first = Duration::from_micros(stamp.trim().parse()?);
        Ok((first.saturating_sub(start.duration_since(std::time::UNIX_EPOCH)?)).as_secs_f64())
    }

    /// Submits a job without an end; the time until so many tasks run, and the CPU time of the
    /// JobManager and its children for that.
    pub fn start_tasks(
        &mut self,
        artifact: &str,
        job: Job,
        (parallelism, tasks): (u32, u64),
    ) -> Result<(Duration, Duration)> {
        let output = self.output()?;
        let before = process::tree_cpu(self.jobmanager.pid())?;
        let start = Instant::now();
        self.submit(artifact, &arguments(job, 0, parallelism, &output))?;
        while start.elapsed() < START_LIMIT {
            let overview = self.run.rest.get("/jobs/overview")?;
            let running = overview.pointer("/jobs/0/tasks/running").and_then(Value::as_u64);
            if running == Some(tasks) {
                let cpu = process::tree_cpu(self.jobmanager.pid())? - before;
                return Ok((start.elapsed(), cpu));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("not all of {tasks} tasks run after {START_LIMIT:?}")
    }

    /// CPU-seconds of one `list`, over `times` calls.
    pub fn list_cpu_s(&self, times: u32) -> Result<f64> {
        let before = process::children_cpu();
        for _ in 0..times {
            let mut command = self.cli();
            command.arg("list");
            check(command)?;
        }
        Ok((process::children_cpu() - before).as_secs_f64() / f64::from(times))
    }

    fn cli(&self) -> std::process::Command {
        self.engine.command(self.engine.cli, self.run.path(), false)
    }

    fn output(&mut self) -> Result<PathBuf> {
        self.outputs += 1;
        let output = self.run.path().join("out").join(self.outputs.to_string());
        fs::create_dir(&output)?;
        Ok(output)
    }

    fn submit(&self, artifact: &str, args: &[String]) -> Result<String> {
        let path = format!("/jars/{artifact}/run");
        let answer = self.run.rest.post(&path, &json!({ "programArgsList": args }))?;
        let job = answer.get("jobid").and_then(Value::as_str);
        Ok(job.with_context(|| format!("no job id in {answer}"))?.to_owned())
    }

    fn jobs(&self) -> Result<Vec<String>> {
        let answer = self.run.rest.get("/jobs")?;
        let jobs = answer.get("jobs").and_then(Value::as_array).context("no jobs")?;
        let ids = jobs.iter().filter_map(|job| job.get("id").and_then(Value::as_str));
        Ok(ids.map(str::to_owned).collect())
    }

    fn wait_until_finished(&self, job: &str, mut look: impl FnMut() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        loop {
            let answer = self.run.rest.get(&format!("/jobs/{job}"))?;
            match answer.get("state").and_then(Value::as_str).unwrap_or_default() {
                "FINISHED" => return Ok(()),
                state @ ("FAILED" | "CANCELED" | "SUSPENDED") => {
                    let path = format!("/jobs/{job}/exceptions");
                    let why = self.run.rest.get(&path).unwrap_or_default().to_string();
                    let why: String = why.chars().take(WHY_CHARS).collect();
                    bail!("job {job} of {} is {state}: {why}", self.engine.name);
                }
                _ => {}
            }
            if start.elapsed() > self.limit {
                let logs = self.run.keep_logs();
                bail!(
                    "job {job} of {} takes too long; logs in {}",
                    self.engine.name,
                    logs.display()
                );
            }
            look()?;
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// CPU time of all worker processes. Hosts of a job that ended are waited for first.
    fn worker_cpu(&self) -> Result<Duration> {
        let mut all = Duration::ZERO;
        for worker in &self.workers {
            process::wait_for_childless(worker.pid(), Duration::from_secs(5))?;
            all += process::tree_cpu(worker.pid())?;
        }
        Ok(all)
    }
}

/// The arguments that the programs of both engines take.
#[must_use]
pub fn arguments(job: Job, records: u64, parallelism: u32, output: &Path) -> Vec<String> {
    let pairs = [
        ("--job", job.name().to_owned()),
        ("--records", records.to_string()),
        ("--parallelism", parallelism.to_string()),
        ("--seed", SEED.to_string()),
        ("--output", output.display().to_string()),
    ];
    let shape = job.shape().map(|shape| ("--shape", shape.name.to_owned()));
    let all = pairs.into_iter().chain(shape);
    all.flat_map(|(name, value)| [name.to_owned(), value]).collect()
}

fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let listeners: Vec<TcpListener> =
        (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<_>>()?;
    let ports: Vec<u16> = listeners
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.port()))
        .collect::<std::io::Result<_>>()?;
    ports.try_into().map_err(|_| anyhow::anyhow!("too few free ports"))
}
