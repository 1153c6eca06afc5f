//! Runs a row: both sides in turn, round after round, and the limit in the same rounds.

use crate::cluster::{Cluster, Pace, RunDirectory};
use crate::engine::Engine;
use crate::json;
use crate::paced::Times;
use crate::probe;
use crate::process;
use crate::recovery;
use crate::report::Round;
use crate::rows::{Job, Kind, Row, Size, Throughput, YarnFigure};
use crate::start;
use crate::text;
use crate::yarn::{Hadoop, OnYarn};
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time for which a daemon rests before its memory counts.
const IDLE: Duration = Duration::from_secs(10);

/// The two engines and how often each runs.
pub struct Pairing {
    /// Apache Flink, or an earlier commit; absent when only our side is run.
    pub peer: Option<Engine>,
    /// Millstream; absent when only the other side is run.
    pub ours: Option<Engine>,
    /// Rounds of every row.
    pub rounds: u32,
    /// Whether Hadoop has the intervals that it has by default.
    pub as_shipped: bool,
    /// Where downloads and generated files are kept.
    pub cache: PathBuf,
    /// Where progress goes.
    pub progress: fn(&str),
}

/// Rounds in which several rows are measured at once.
#[derive(Default)]
pub struct Shared {
    jobmanager: Vec<Round>,
    taskmanager: Vec<Round>,
    /// By the rate, and whether there are checkpoints.
    latency: HashMap<(u64, bool), Vec<[Times; 3]>>,
}

impl Pairing {
    /// All rounds of one row. `shared` keeps figures that one row measures for another.
    pub fn measure(&self, row: &Row, shared: &mut Shared) -> Result<Vec<Round>> {
        match &row.kind {
            Kind::Throughput(throughput) => self.throughput(row, throughput),
            Kind::Latency { rate, part, checkpoints } => {
                self.latency(row, (*rate, *checkpoints), *part, shared)
            }
            Kind::Memory { parallelism, workers } => self.memory(row, *parallelism, *workers),
            Kind::ColdStart => self.rounds(row, cold_start_s),
            Kind::List => self.list(row),
            Kind::Submit { rest } => self.submit(row, *rest),
            Kind::IdleJobManager | Kind::IdleTaskManager => self.idle(row, shared),
            Kind::Start(figure) => self.rounds(row, |engine| start::measure(*figure, engine)),
            Kind::Recovery => self.rounds(row, recovery::measure),
            Kind::Yarn(figure) => self.on_yarn(row, *figure),
        }
    }

    fn throughput(&self, row: &Row, throughput: &Throughput) -> Result<Vec<Round>> {
        let input = self.input(throughput.job)?;
        let sides = self.map_sides(|engine| self.warm(engine, throughput, &input))?;
        let (mut peer, mut ours) = sides;
        let mut rounds = Vec::new();
        for number in 1..=self.rounds {
            let found = probe::throughput(throughput, &input)?;
            let rate = |cpu: Duration| found.records as f64 / cpu.as_secs_f64();
            let run = |side: &mut Option<(Cluster, String)>| -> Result<Option<f64>> {
                let Some((cluster, artifact)) = side else { return Ok(None) };
                let finished = cluster.run(artifact, throughput, &input)?;
                finished.digest.must_be(found.digest)?;
                Ok(Some(rate(finished.cpu)))
            };
            let round =
                Round { peer: run(&mut peer)?, ours: run(&mut ours)?, limit: rate(found.cpu) };
            self.say(row, number, &round);
            rounds.push(round);
        }
        Ok(rounds)
    }

    /// The directory of the files that a job reads.
    fn input(&self, job: Job) -> Result<PathBuf> {
        match job {
            Job::WordCount => text::directory(&self.cache),
            Job::JsonLines { .. } => json::directory(&self.cache),
            _ => Ok(PathBuf::new()),
        }
    }

    /// A cluster with the artifact on it, whose jobs have run for the engine's warm-up time.
    fn warm(&self, engine: &Engine, row: &Throughput, input: &Path) -> Result<(Cluster, String)> {
        let mut cluster = Cluster::tuned(engine, row.size)?;
        let artifact = cluster.upload(row.job)?;
        let mut warm = Duration::ZERO;
        loop {
            warm += cluster.run(&artifact, row, input)?.took;
            if warm >= Duration::from_secs(engine.warm_up_s) {
                return Ok((cluster, artifact));
            }
        }
    }

    fn latency(
        &self,
        row: &Row,
        load: (u64, bool),
        part: f64,
        all: &mut Shared,
    ) -> Result<Vec<Round>> {
        let measured = match all.latency.entry(load) {
            Entry::Occupied(measured) => measured.into_mut(),
            Entry::Vacant(place) => place.insert(self.latency_rounds(load)?),
        };
        let mut rounds = Vec::new();
        for (number, [peer, ours, limit]) in (1..).zip(measured) {
            let figure = |times: &Times| times.quantile_s(part);
            let of =
                |engine: &Option<Engine>, times| engine.as_ref().map(|_| figure(times)).transpose();
            let (peer, ours) = (of(&self.peer, peer)?, of(&self.ours, ours)?);
            let round = Round { peer, ours, limit: figure(limit)? };
            self.say(row, number, &round);
            rounds.push(round);
        }
        Ok(rounds)
    }

    /// The times of the peer, of ours and of the limit.
    fn latency_rounds(&self, (rate, checkpoints): (u64, bool)) -> Result<Vec<[Times; 3]>> {
        let pace = Pace { rate, seconds: 20, parallelism: 2, tick_ms: 1 };
        let size = Size { workers: 1, slots: 2, tls: false, memory_mb: 4_096 };
        let (mut peer, mut ours) = self.map_sides(|engine| {
            let mut cluster = match checkpoints {
                true => {
                    let prompt = engine.clone().prompt().with_checkpoints(Some("1s"));
                    Cluster::tuned(&prompt, size)?
                }
                false => Cluster::tuned(engine, size)?,
            };
            let artifact = cluster.upload(Job::Paced)?;
            // One job takes as long as the warm-up.
            cluster.run_paced(&artifact, &pace, |_| Ok(()))?;
            Ok((cluster, artifact))
        })?;
        let run = |side: &mut Option<(Cluster, String)>| match side {
            None => Ok(Times::default()),
            Some((cluster, artifact)) => {
                Times::read(&cluster.run_paced(artifact, &pace, |_| Ok(()))?)
            }
        };
        (0..self.rounds)
            .map(|_| Ok([run(&mut peer)?, run(&mut ours)?, probe::hand_over_times(rate)]))
            .collect()
    }

    fn memory(&self, row: &Row, parallelism: u32, workers: u32) -> Result<Vec<Round>> {
        let pace = Pace { rate: 60_000, seconds: 20, parallelism, tick_ms: 100 };
        let size =
            Size { workers, slots: parallelism / workers, tls: false, memory_mb: 60 * parallelism };
        self.rounds(row, |engine| {
            let mut cluster = Cluster::tuned(engine, size)?;
            let artifact = cluster.upload(Job::Paced)?;
            let (mut largest, mut looked) = (0, Instant::now());
            cluster.run_paced(&artifact, &pace, |workers| {
                if looked.elapsed() > Duration::from_secs(1) {
                    let bytes: Result<Vec<u64>> =
                        workers.iter().map(|it| process::tree_pss_bytes(it.pid())).collect();
                    largest = largest.max(bytes?.into_iter().sum());
                    looked = Instant::now();
                }
                Ok(())
            })?;
            Ok(largest as f64)
        })
    }

    fn list(&self, row: &Row) -> Result<Vec<Round>> {
        let (peer, ours) = self.map_sides(Cluster::standard)?;
        self.collect(row, || {
            let list = |cluster: &Cluster| cluster.list_cpu_s(3);
            Ok((peer.as_ref().map(list).transpose()?, ours.as_ref().map(list).transpose()?))
        })
    }

    fn submit(&self, row: &Row, rest: bool) -> Result<Vec<Round>> {
        let (mut peer, mut ours) = self.map_sides(|engine| {
            let mut cluster = Cluster::standard(engine)?;
            let artifact = rest.then(|| cluster.upload(Job::Stamp)).transpose()?;
            // A warm cluster has run jobs before.
            for _ in 0..5 {
                cluster.first_record_s(artifact.as_deref())?;
            }
            Ok((cluster, artifact))
        })?;
        let submit = |side: &mut Option<(Cluster, Option<String>)>| -> Result<Option<f64>> {
            let Some((cluster, artifact)) = side else { return Ok(None) };
            cluster.first_record_s(artifact.as_deref()).map(Some)
        };
        self.collect(row, || Ok((submit(&mut peer)?, submit(&mut ours)?)))
    }

    fn idle(&self, row: &Row, idle: &mut Shared) -> Result<Vec<Round>> {
        if idle.jobmanager.is_empty() {
            for _ in 0..self.rounds {
                let (peer, ours) = self.map_sides(|engine| {
                    let cluster = Cluster::standard(engine)?;
                    std::thread::sleep(IDLE);
                    cluster.resident_bytes()
                })?;
                let limit = probe::simple(&row.kind)?;
                let round = |choose: fn((u64, u64)) -> u64| {
                    let bytes = |pair: Option<(u64, u64)>| pair.map(|pair| choose(pair) as f64);
                    Round { peer: bytes(peer), ours: bytes(ours), limit }
                };
                idle.jobmanager.push(round(|(jobmanager, _)| jobmanager));
                idle.taskmanager.push(round(|(_, taskmanager)| taskmanager));
            }
        }
        let rounds = match row.kind {
            Kind::IdleJobManager => &idle.jobmanager,
            _ => &idle.taskmanager,
        };
        for (number, round) in (1..).zip(rounds) {
            self.say(row, number, round);
        }
        Ok(rounds.clone())
    }

    fn on_yarn(&self, row: &Row, figure: YarnFigure) -> Result<Vec<Round>> {
        let hadoop = Hadoop::start(self.as_shipped)?;
        let (mut peer, mut ours) = self.map_sides(|engine| OnYarn::new(&hadoop, engine, figure))?;
        let mut rounds = Vec::new();
        for number in 1..=self.rounds {
            let measure = |side: &mut Option<OnYarn<'_>>| {
                side.as_mut().map(|side| side.measure(figure)).transpose()
            };
            let (peer, ours) = (measure(&mut peer)?, measure(&mut ours)?);
            let limit = match figure {
                YarnFigure::WarmJob | YarnFigure::MasterMemory | YarnFigure::WorkerMemory => {
                    probe::simple(&row.kind)?
                }
                YarnFigure::UploadedBytes => 0.0,
                _ => hadoop.floor_s()?,
            };
            let round = Round { peer, ours, limit };
            self.say(row, number, &round);
            rounds.push(round);
        }
        for side in [peer, ours].into_iter().flatten() {
            side.end()?;
        }
        Ok(rounds)
    }

    fn rounds(&self, row: &Row, one: impl Fn(&Engine) -> Result<f64>) -> Result<Vec<Round>> {
        self.collect(row, || self.map_sides(&one))
    }

    fn collect(
        &self,
        row: &Row,
        mut one: impl FnMut() -> Result<(Option<f64>, Option<f64>)>,
    ) -> Result<Vec<Round>> {
        let mut rounds = Vec::new();
        for number in 1..=self.rounds {
            let (peer, ours) = one()?;
            let round = Round { peer, ours, limit: probe::simple(&row.kind)? };
            self.say(row, number, &round);
            rounds.push(round);
        }
        Ok(rounds)
    }

    fn map_sides<'a, T>(
        &'a self,
        one: impl Fn(&'a Engine) -> Result<T>,
    ) -> Result<(Option<T>, Option<T>)> {
        let side = |engine: &'a Option<Engine>| {
            let one = |engine: &'a Engine| one(engine).with_context(|| engine.name);
            engine.as_ref().map(one).transpose()
        };
        Ok((side(&self.peer)?, side(&self.ours)?))
    }

    fn say(&self, row: &Row, number: u32, round: &Round) {
        let figure =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
        (self.progress)(&format!(
            "{} round {number}: {} {}, ours {}, limit {} {}",
            row.name,
            self.peer.as_ref().map_or("peer", |peer| peer.name),
            figure(round.peer),
            figure(round.ours),
            figure(Some(round.limit)),
            row.kind.unit()
        ));
    }
}

/// The start script until the worker is registered; then everything is stopped again.
fn cold_start_s(engine: &Engine) -> Result<f64> {
    let sizes =
        [("taskmanager.memory.process.size", "1728m"), ("jobmanager.memory.process.size", "1600m")];
    let run = RunDirectory::new(engine, 1, &sizes, false)?;
    let start = Instant::now();
    let started = process::check(engine.command("start-cluster.sh", run.path(), false))
        .and_then(|()| run.wait_for_workers(1, 1))
        .map(|()| start.elapsed().as_secs_f64());
    // Whether it started or not: nothing may be left.
    let stopped = process::check(engine.command("stop-cluster.sh", run.path(), false));
    for entry in fs::read_dir(run.path().join("pid"))? {
        for pid in fs::read_to_string(entry?.path())?.split_whitespace() {
            if let Ok(pid) = pid.parse() {
                process::end(pid);
            }
        }
    }
    stopped?;
    started
}
