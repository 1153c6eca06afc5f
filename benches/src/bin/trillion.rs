//! A trillion events a day on two cores: a generator at a steady rate, counts per key and second,
//! files that are published exactly once, and a checkpoint each ten seconds. Every count of every
//! second is compared with one that is made by hand. `trillion.sh` prepares it and calls this.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use millstream_benches::cluster::Cluster;
use millstream_benches::engine::Engine;
use millstream_benches::process::own_cpu;
use millstream_benches::records;
use millstream_benches::rows::{Job, SEED, Size, Throughput};
use serde_json::{Value, json};

/// A trillion a day.
const RATE: u64 = 11_600_000;
const KEYS: u64 = 100_000;
const PARALLELISM: u32 = 2;
/// Seconds between two checkpoints.
const INTERVAL_S: u64 = 10;
/// The job may end so much later than its last record is due.
const LAG_MAX: Duration = Duration::from_secs(1);

/// Runs a trillion events a day for some time.
#[derive(Parser)]
#[command(name = "trillion.sh")]
struct Options {
    /// The duration of the job.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Records per second.
    #[arg(long, default_value_t = RATE)]
    rate: u64,
    /// Our home, with `bin` and `conf`.
    #[arg(long)]
    millstream_home: PathBuf,
    /// Our job's executable.
    #[arg(long)]
    millstream_job: PathBuf,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("trillion.sh: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let Options { seconds, rate, .. } = *options;
    let engine =
        Engine::millstream(options.millstream_home.clone(), options.millstream_job.clone());
    let engine = engine.with_checkpoints(Some(&format!("{INTERVAL_S}s")));
    let size = Size { workers: 1, slots: PARALLELISM, memory_mb: 4_096, tls: false };
    let row = Throughput {
        job: Job::Trillion,
        records: rate * seconds,
        keys: KEYS,
        parallelism: PARALLELISM,
        size,
    };
    let mut cluster = Cluster::tuned(&engine, size)?;
    let artifact = cluster.upload(row.job)?;
    let more = ["--rate".to_owned(), rate.to_string()];
    let limit = Duration::from_secs(2 * seconds + 60);
    let mut completed = 0;
    let ran = cluster.run_watched(&artifact, &row, &more, limit, |checkpoints| {
        let count = checkpoints.pointer("/counts/completed").and_then(Value::as_u64).unwrap_or(0);
        if count > completed {
            completed = count;
            let latest = checkpoints.pointer("/latest/completed").cloned().unwrap_or_default();
            let figure = |name: &str| latest.get(name).cloned().unwrap_or_default();
            let (bytes, took) = (figure("state_size"), figure("end_to_end_duration"));
            say(&format!("checkpoint {count}: {bytes} bytes in {took} ms"));
        }
    })?;
    let due = Duration::from_secs(seconds);
    let lag = ran.took.saturating_sub(due);
    say(&format!("the job took {:?}; comparing its counts", ran.took));
    let (counts, generating) = check(&ran.output.join("counts"), rate, seconds)?;
    let line = json!({
        "row": "p25",
        "records": row.records,
        "records_per_s": row.records as f64 / ran.took.as_secs_f64(),
        "seconds": seconds,
        "checkpoints": completed,
        "counts": counts,
        "lag_s": lag.as_secs_f64(),
        "worker_cpu_s": ran.cpu.as_secs_f64(),
        "generator_cpu_s": generating.as_secs_f64(),
    });
    writeln!(std::io::stdout(), "{line}")?;
    let expected = seconds / INTERVAL_S;
    ensure!(completed >= expected, "{completed} checkpoints were complete, and {expected} due");
    ensure!(lag < LAG_MAX, "the job ended {lag:?} after its last record was due");
    Ok(())
}

/// Compares all published counts; their number, and the CPU time of generating the records alone.
fn check(directory: &Path, rate: u64, seconds: u64) -> Result<(u64, Duration)> {
    let keys = usize::try_from(KEYS)?;
    let mut published = vec![0_u32; keys * usize::try_from(seconds)?];
    let mut lines = 0;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            continue;
        }
        for line in fs::read_to_string(&path)?.lines() {
            let mut numbers = line.split(',').map(str::parse::<u64>);
            let mut next = || numbers.next().and_then(Result::ok);
            let (second, key, count) = (next(), next(), next());
            let (Some(second), Some(key), Some(count)) = (second, key, count) else {
                bail!("{}: {line:?} is no count", path.display());
            };
            let at = usize::try_from(second * KEYS + key)?;
            let place = published.get_mut(at).filter(|_| key < KEYS);
            let place = place.with_context(|| format!("{line:?} is of no second and key"))?;
            ensure!(*place == 0, "{line:?}: there is a second count of this key and second");
            *place = u32::try_from(count)?;
            lines += 1;
        }
    }
    let mut expected = vec![0_u32; keys];
    for (second, published) in (0..seconds).zip(published.chunks(keys)) {
        expected.fill(0);
        for number in second * rate..(second + 1) * rate {
            let key = usize::try_from(records::key(SEED, number, KEYS))?;
            if let Some(count) = expected.get_mut(key) {
                *count += 1;
            }
        }
        let differs = expected.iter().zip(published).position(|(one, other)| one != other);
        if let Some(key) = differs {
            let [expected, found] = [&expected, published].map(|it| it.get(key).copied());
            bail!("second {second}, key {key}: {found:?} published, {expected:?} expected");
        }
    }
    Ok((lines, generating(rate * seconds)))
}

/// The CPU time of making so many keys and nothing else, from a part of them.
fn generating(records: u64) -> Duration {
    let part = records.clamp(1, 200_000_000);
    let before = own_cpu();
    let sum = (0..part).fold(0, |sum: u64, n| sum.wrapping_add(records::key(SEED, n, KEYS)));
    std::hint::black_box(sum);
    (own_cpu() - before).mul_f64(records as f64 / part as f64)
}

fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").ok();
}
