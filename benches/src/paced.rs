//! Records at a steady rate, and the time that each takes from its creation to a sink.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use millstream::connectors::{
    CheckpointId, Flow, NoCommitter, NoEnumerator, Polled, ReaderContext, ReaderOutput, Sink,
    SinkWriter, Source, SourceReader, WriterInfo,
};
use millstream::{Batch, Boundedness};

use crate::process::monotonic_ns;
use crate::records::{Digest, scramble};

/// A key, and the time of its creation on the monotonic clock.
pub type Timed = (u64, u64);

/// Time at the start of a job that does not count: its tasks start one after the other.
const SKIPPED_NS: u64 = 2_000_000_000;

/// The keys of the numbers from 0, an even range and an even rate per subtask.
pub struct Paced {
    /// The generator's.
    pub seed: u64,
    /// Of all subtasks.
    pub records: u64,
    /// Records per second of all subtasks.
    pub rate: u64,
    /// Time between two looks at the clock.
    pub tick: Duration,
}

/// The reader of [`Paced`].
pub struct PacedReader {
    seed: u64,
    first: u64,
    next: u64,
    end: u64,
    /// Of this subtask.
    rate: f64,
    tick: Duration,
    start: Option<Instant>,
}

impl Source for Paced {
    type Out = Timed;
    type Split = ();
    type Reader = PacedReader;
    type Enumerator = NoEnumerator<()>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn reader(&self, ctx: &ReaderContext) -> Result<PacedReader> {
        let bound = |subtask| self.records * u64::from(subtask) / u64::from(ctx.parallelism);
        let (first, end) = (bound(ctx.subtask), bound(ctx.subtask + 1));
        let rate = self.rate as f64 / f64::from(ctx.parallelism);
        let (seed, tick) = (self.seed, self.tick);
        Ok(PacedReader { seed, first, next: first, end, rate, tick, start: None })
    }
}

impl SourceReader for PacedReader {
    type Out = Timed;
    type Split = ();

    fn add_splits(&mut self, _splits: Vec<()>) -> Result<()> {
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Vec<()>> {
        Ok(Vec::new())
    }

    fn poll(&mut self, batch: &mut ReaderOutput<'_, Timed>) -> Result<Polled> {
        let now = Instant::now();
        let start = *self.start.get_or_insert(now);
        let due = self.first + ((now - start).as_secs_f64() * self.rate) as u64;
        let (due, seed, created) = (due.min(self.end), self.seed, monotonic_ns());
        batch.extend((self.next..due).map(|index| (scramble(seed, index), created)))?;
        self.next = due;
        Ok(if due == self.end { Polled::Finished } else { Polled::Pending(Some(now + self.tick)) })
    }
}

/// Counts the records, sums their folds, and counts how long they took; at the end of input each
/// subtask writes its digest to a file of its number, and its times to `latency-<number>`.
#[derive(Clone)]
pub struct LatencySink {
    /// Where the files go.
    pub directory: PathBuf,
}

/// The writer of [`LatencySink`].
pub struct LatencyWriter {
    directory: PathBuf,
    subtask: u32,
    digest: Digest,
    first_ns: Option<u64>,
    times: Times,
}

impl Sink<Timed> for LatencySink {
    type Committable = ();
    type Writer = LatencyWriter;
    type Committer = NoCommitter<()>;

    fn writer(&self, info: &WriterInfo) -> Result<LatencyWriter> {
        Ok(LatencyWriter {
            directory: self.directory.clone(),
            subtask: info.subtask,
            digest: Digest::default(),
            first_ns: None,
            times: Times::default(),
        })
    }
}

impl SinkWriter<Timed> for LatencyWriter {
    type Committable = ();

    fn write(&mut self, batch: Batch<Timed>) -> Result<Flow> {
        let now = monotonic_ns();
        let counts = now - *self.first_ns.get_or_insert(now) >= SKIPPED_NS;
        for (key, created) in batch.records() {
            self.digest.add(*key);
            if counts {
                self.times.add(now - created);
            }
        }
        Ok(Flow::Ready)
    }

    fn pre_commit(&mut self, _id: CheckpointId) -> Result<Vec<()>> {
        let file = |name: String| self.directory.join(name);
        fs::write(file(self.subtask.to_string()), format!("{}\n", self.digest))?;
        fs::write(file(format!("latency-{}", self.subtask)), self.times.to_text())?;
        Ok(Vec::new())
    }
}

/// Width of a bucket of [`Times`], and the number of buckets: up to 4 s.
const BUCKET_NS: u64 = 10_000;
const BUCKETS: usize = 400_000;

/// Numbers of records by their time, in buckets of 10 µs.
#[derive(Debug, Clone, Default)]
pub struct Times {
    counts: Vec<u64>,
}

impl Times {
    /// Counts one record.
    pub fn add(&mut self, time_ns: u64) {
        let bucket = ((time_ns / BUCKET_NS) as usize).min(BUCKETS - 1);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
    }

    /// A line `<bucket> <count>` for each bucket that is not empty.
    fn to_text(&self) -> String {
        let mut text = String::new();
        for (bucket, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            // Writing to a string cannot fail.
            writeln!(text, "{bucket} {count}").ok();
        }
        text
    }

    /// The sum of what the subtasks wrote.
    pub fn read(directory: &Path) -> Result<Self> {
        let mut all = Self { counts: vec![0; BUCKETS] };
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with("latency-") {
                continue;
            }
            for line in fs::read_to_string(entry.path())?.lines() {
                let numbers = line.split_once(' ').context("a line of times has two numbers")?;
                let bucket = all.counts.get_mut(numbers.0.parse::<usize>()?);
                *bucket.context("no such bucket")? += numbers.1.parse::<u64>()?;
            }
        }
        Ok(all)
    }

    /// The time in seconds that this part of the records did not exceed.
    pub fn quantile_s(&self, part: f64) -> Result<f64> {
        let all: u64 = self.counts.iter().sum();
        let wanted = (all as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return Ok((bucket as u64 + 1) as f64 * BUCKET_NS as f64 / 1e9);
            }
        }
        bail!("no record was measured")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_all_subtasks() {
        let directory = tempfile::tempdir().unwrap();
        for (subtask, times) in [(0, [5_000, 15_000]), (1, [25_000, 995_000])] {
            let mut all = Times::default();
            times.into_iter().for_each(|time| all.add(time));
            let path = directory.path().join(format!("latency-{subtask}"));
            fs::write(path, all.to_text()).unwrap();
        }
        let times = Times::read(directory.path()).unwrap();
        assert_eq!(times.quantile_s(0.5).unwrap(), 20e-6);
        assert_eq!(times.quantile_s(0.99).unwrap(), 1e-3);
        assert!(Times::default().quantile_s(0.5).is_err());
    }
}
