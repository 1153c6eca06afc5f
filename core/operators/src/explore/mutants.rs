//! Faults that the engine had or could have: exploring must find each.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use millstream_graph::Partitioner;
use millstream_network::{Batch, Event, Flow};

use super::cases::{same, three, to_all};
use super::finishing::finishing;
use super::probe::Shared;
use super::stages::{Explored, drive, each, outputs};
use super::writers::Link;
use super::{Case, Kind, SEEDS, bodies, cases, chains, roll, writers};
use crate::Result;
use crate::flat_map::FlatMapStage;
use crate::on_error::{BadRecords, Policy};
use crate::output::Output;
use crate::stage::{FanOut, Moment, Stage};
use crate::task::{Step, TaskBody};

/// A stage of the engine, part of which is replaced.
pub(super) struct Mutant<S> {
    stage: S,
    pub(super) push: fn(&mut S, Batch<u64>) -> Result<Flow>,
    resume: fn(&mut S) -> Result<Flow>,
    on_time: fn(&mut S, Moment) -> Result<Flow>,
}

impl<S: Stage<u64>> Mutant<S> {
    pub(super) fn of(stage: S) -> Self {
        Self { stage, push: S::push, resume: S::resume, on_time: S::on_time }
    }
}

impl<S: Stage<u64>> Stage<u64> for Mutant<S> {
    fn open(&mut self) -> Result<()> {
        self.stage.open()
    }

    fn push(&mut self, batch: Batch<u64>) -> Result<Flow> {
        (self.push)(&mut self.stage, batch)
    }

    fn event(&mut self, event: Event) -> Result<Flow> {
        self.stage.event(event)
    }

    fn resume(&mut self) -> Result<Flow> {
        (self.resume)(&mut self.stage)
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        (self.on_time)(&mut self.stage, moment)
    }

    fn next_time(&self) -> Option<Instant> {
        self.stage.next_time()
    }

    fn kind(&self) -> Kind {
        self.stage.kind()
    }
}

/// A stage that is wrapped while its type is hidden.
pub(super) struct Hidden(pub(super) Box<dyn Stage<u64>>);

impl Stage<u64> for Hidden {
    fn open(&mut self) -> Result<()> {
        self.0.open()
    }

    fn push(&mut self, batch: Batch<u64>) -> Result<Flow> {
        self.0.push(batch)
    }

    fn event(&mut self, event: Event) -> Result<Flow> {
        self.0.event(event)
    }

    fn resume(&mut self) -> Result<Flow> {
        self.0.resume()
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        self.0.on_time(moment)
    }

    fn next_time(&self) -> Option<Instant> {
        self.0.next_time()
    }

    fn kind(&self) -> Kind {
        self.0.kind()
    }
}

/// Looks for a fault and says what was found after how many seeds.
fn find(case: &Case) {
    let (seed, why) = case.first_failure(0..SEEDS).expect("no seed finds the fault");
    // Shown with `--nocapture`.
    let _ = writeln!(std::io::stdout(), "found by seed {seed}: {why}");
}

#[test]
fn a_flush_by_timeout_that_ignores_a_full_channel_is_found() {
    find(&Case::new("mutant", |schedule| {
        writers::drive(Partitioner::Forward, &Link::Within, schedule, |stage| {
            let on_time = |stage: &mut Hidden, moment| stage.on_time(moment).map(|_| Flow::Ready);
            Box::new(Mutant { on_time, ..Mutant::of(Hidden(stage)) })
        })
    }));
}

#[test]
fn a_writer_that_keeps_what_its_consumers_wait_for_is_found() {
    find(&Case::new("mutant", |schedule| {
        writers::drive(Partitioner::Custom, &Link::Within, schedule, |stage| {
            let on_time = |stage: &mut Hidden, moment: Moment| {
                stage.on_time(Moment { idle: false, ..moment })
            };
            Box::new(Mutant { on_time, ..Mutant::of(Hidden(stage)) })
        })
    }));
}

/// As [`a_flush_by_timeout_that_ignores_a_full_channel_is_found`], one level above.
struct IgnoresFull(Box<dyn TaskBody>);

impl TaskBody for IgnoresFull {
    fn open(&mut self) -> Result<()> {
        self.0.open()
    }

    fn step(&mut self) -> Result<Step> {
        self.0.step()
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        self.0.on_time(moment).map(|_| Flow::Ready)
    }

    fn next_time(&self) -> Option<Instant> {
        self.0.next_time()
    }

    fn inputs_waiting(&self) -> usize {
        self.0.inputs_waiting()
    }

    fn kind(&self) -> super::BodyKind {
        self.0.kind()
    }
}

#[test]
fn a_body_that_ignores_a_full_output_when_time_has_passed_is_found() {
    find(&bodies::one_input("mutant", |body| Box::new(IgnoresFull(body))));
    find(&bodies::source("mutant", false, |body| Box::new(IgnoresFull(body))));
}

#[test]
fn a_fan_out_that_resumes_only_its_first_branch_is_found() {
    find(&Case::new("mutant", |schedule| {
        let outputs = outputs(schedule, 3);
        let branch = |output: &Shared| -> Box<dyn Stage<u64>> { output.probe(same) };
        let branches = outputs.iter().map(branch).collect();
        let fan_out = FanOut { branches, clone: Batch::clone };
        let resume = |fan_out: &mut FanOut<u64>| fan_out.branches[0].resume();
        let stage = Box::new(Mutant { resume, ..Mutant::of(fan_out) });
        let oracle = Box::new(to_all);
        drive(Explored { stage, kind: Kind::FanOut, outputs, oracle }, schedule)
    }));
}

#[test]
fn a_sink_that_ignores_its_writers_answer_is_found() {
    find(&cases::sink("mutant", |stage| {
        let push = |stage: &mut Hidden, batch| stage.push(batch).map(|_| Flow::Ready);
        Box::new(Mutant { push, ..Mutant::of(Hidden(stage)) })
    }));
    find(&cases::sink("mutant", |stage| {
        let resume = |_: &mut Hidden| Ok(Flow::Ready);
        Box::new(Mutant { resume, ..Mutant::of(Hidden(stage)) })
    }));
}

#[test]
fn a_chain_whose_fan_out_resumes_only_its_first_branch_is_found() {
    find(&chains::case("mutant", |fan_out| {
        let resume = |fan_out: &mut FanOut<u64>| fan_out.branches[0].resume();
        Box::new(Mutant { resume, ..Mutant::of(fan_out) })
    }));
}

#[test]
fn a_chain_that_ignores_a_full_channel_when_time_has_passed_is_found() {
    find(&chains::case("mutant", |fan_out| {
        let on_time =
            |fan_out: &mut FanOut<u64>, moment| fan_out.on_time(moment).map(|_| Flow::Ready);
        Box::new(Mutant { on_time, ..Mutant::of(fan_out) })
    }));
}

#[test]
fn a_connection_that_loses_grants_of_credits_is_found() {
    find(&Case::new("mutant", |schedule| {
        let link = Link::Between(Some(5));
        writers::drive(Partitioner::Custom, &link, schedule, |stage| stage)
    }));
}

/// Ends when its output is full while keys are finished.
struct FinishesSome(Box<dyn TaskBody>, Arc<AtomicBool>);

impl TaskBody for FinishesSome {
    fn open(&mut self) -> Result<()> {
        self.0.open()
    }

    fn step(&mut self) -> Result<Step> {
        match self.0.step()? {
            Step::Full if self.1.load(Ordering::Relaxed) => Ok(Step::Finished),
            step => Ok(step),
        }
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        self.0.on_time(moment)
    }

    fn next_time(&self) -> Option<Instant> {
        self.0.next_time()
    }

    fn inputs_waiting(&self) -> usize {
        self.0.inputs_waiting()
    }

    fn kind(&self) -> super::BodyKind {
        self.0.kind()
    }
}

#[test]
fn a_body_that_does_not_go_on_to_finish_its_keys_is_found() {
    find(&finishing("mutant", false, |body, has_finished| {
        Box::new(FinishesSome(body, has_finished))
    }));
}

/// Two batches of results for each fourth record.
fn results(record: u64) -> Vec<u64> {
    let count = if roll(record, 3, 4) == 0 { 2_500 } else { 1 };
    (record << 12..(record << 12) + count).collect()
}

type Results = FlatMapStage<u64, Vec<u64>, fn(u64) -> Result<Vec<u64>>>;

/// A stage of the engine that is built here, with the outputs of a schedule.
fn flat_map(outputs: &[Shared], timed: bool) -> Results {
    let bad = BadRecords {
        policy: Policy::Fail,
        operator: "mutant".to_owned(),
        counters: Arc::default(),
    };
    Results {
        function: |record| Ok(results(record)),
        bad,
        output: Output::new(three(outputs, same, timed)).unwrap(),
        records: Batch::empty(timed).into_iter(),
        current: None,
        results: millstream_output_buffers::Results::new(timed),
    }
}

fn find_in_flat_map(push: fn(&mut Results, Batch<u64>) -> Result<Flow>) {
    find(&Case::new("mutant", move |schedule| {
        let outputs = outputs(schedule, 3);
        let flat_map = flat_map(&outputs, schedule.is_timed());
        let stage = Box::new(Mutant { push, ..Mutant::of(flat_map) });
        let oracle = each(results);
        drive(Explored { stage, kind: Kind::FlatMap, outputs, oracle }, schedule)
    }));
}

#[test]
fn a_flat_map_that_drops_its_iterator_when_its_output_is_full_is_found() {
    find_in_flat_map(|flat_map, batch| {
        let flow = flat_map.push(batch)?;
        if flow == Flow::Full {
            flat_map.current = None;
        }
        Ok(flow)
    });
}

#[test]
fn a_stage_that_gives_a_batch_the_time_of_its_first_record_is_found() {
    find_in_flat_map(|flat_map, batch| {
        let (records, times) = batch.into_parts();
        flat_map.push(match times {
            Some(times) => Batch::timed(records, vec![times[0]; times.len()])?,
            None => Batch::of(records),
        })
    });
}

#[test]
fn a_writer_that_exchanges_the_times_of_two_records_is_found() {
    find(&Case::new("mutant", |schedule| {
        writers::drive(Partitioner::Custom, &Link::Between(None), schedule, |stage| {
            let push = |stage: &mut Hidden, batch: Batch<u64>| {
                let (records, times) = batch.into_parts();
                stage.push(match times {
                    Some(times) => Batch::timed(records, times.into_iter().rev().collect())?,
                    None => Batch::of(records),
                })
            };
            Box::new(Mutant { push, ..Mutant::of(Hidden(stage)) })
        })
    }));
}
