//! The row about recovery: a worker that holds half of 1 GB of state is killed, and the clock stops
//! when a record that another worker made of that worker's keys is published. Both engines notice
//! deaths, restart and take checkpoints at the same settings, and have a free worker.

use crate::cluster::Cluster;
use crate::engine::Engine;
use crate::rows::{Job, Size, TEXT_BYTES, Throughput};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const KEYS: u64 = 1_000_000;
/// Records per second: all keys have a state after some seconds.
const RATE: u64 = 400_000;
/// The size of the checkpoint behind which the worker is killed.
const STATE_BYTES: u64 = KEYS * TEXT_BYTES as u64 / 100 * 99;
/// The time that a job has to get there, and to recover.
const LIMIT: Duration = Duration::from_secs(180);
/// The subtask whose keys are watched.
const SUBTASK: u32 = 0;

const SETTINGS: &[(&str, &str)] = &[
    ("heartbeat.interval", "1000"),
    ("heartbeat.timeout", "5000"),
    ("restart-strategy.type", "fixed-delay"),
    ("restart-strategy.fixed-delay.attempts", "10"),
    ("restart-strategy.fixed-delay.delay", "100 ms"),
];

/// Measures it once.
pub fn measure(engine: &Engine) -> Result<f64> {
    let size = Size { workers: 3, slots: 1, tls: false, memory_mb: 9_000 };
    let records = RATE * 2 * LIMIT.as_secs();
    let row = Throughput { job: Job::Recover, records, keys: KEYS, parallelism: 2, size };
    let engine = engine.clone().with_checkpoints(Some("1s"));
    let mut cluster = Cluster::tuned_with(&engine, size, SETTINGS)?;
    let artifact = cluster.upload(row.job)?;
    let more = ["--rate".to_owned(), RATE.to_string()];
    let (job, output) = cluster.begin(&artifact, &row, &more)?;
    let directory = output.join("lines");
    let mut seen = HashSet::new();
    let before = wait(|| {
        let checkpoints = cluster.checkpoints(&job)?;
        let size = checkpoints.pointer("/latest/completed/state_size").and_then(Value::as_u64);
        let maker = new_maker(&directory, &mut seen, &[])?;
        Ok(maker.filter(|_| size.unwrap_or(0) >= STATE_BYTES))
    })?;
    let start = Instant::now();
    let killed = cluster.kill_worker_of(before)?;
    wait(|| new_maker(&directory, &mut seen, &killed))?;
    Ok(start.elapsed().as_secs_f64())
}

fn wait<T>(mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        if let Some(found) = look()? {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("nothing happened for {LIMIT:?}")
}

/// The process that made the records of the watched subtask in a file that has not been seen, if
/// that is none of these.
fn new_maker(directory: &Path, seen: &mut HashSet<PathBuf>, killed: &[u32]) -> Result<Option<u32>> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(None) };
    let mut found = None;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(['.', '_']) || path.is_dir() || !seen.insert(path.clone()) {
            continue;
        }
        let (subtask, maker) = first_line(&path).with_context(|| path.display().to_string())?;
        if subtask == SUBTASK && !killed.contains(&maker) {
            found = Some(maker);
        }
    }
    Ok(found)
}

/// The subtask and the process of a file, all of whose lines have the same.
fn first_line(path: &Path) -> Result<(u32, u32)> {
    let mut head = String::new();
    File::open(path)?.take(64).read_to_string(&mut head)?;
    let mut numbers = head.lines().next().unwrap_or_default().split(',').map(str::parse::<u32>);
    let mut next = || numbers.next().context("a line ends too soon");
    Ok((next()??, next()??))
}
