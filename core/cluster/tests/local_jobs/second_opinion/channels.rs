//! Windows behind several channels, some of which fall silent, whose results a second computation
//! knows.
//!
//! The job is stepped by the test, which moves its clock too: so what has come before each look at
//! the clock is no matter of luck. Each source has watermarks of its own and is idle after some
//! time without a record.

use std::time::Duration;

use millstream_oracle::channels::{Channels, Happening};
use millstream_oracle::windows::{self as oracle, Rules};
use millstream_runtime::{Pushed, PushedInput, SteppedJob};
use millstream_types::{JobId, ManualClock, Timestamp};

use super::windows::{Job, Told, compare_all, windowed};
use super::*;

/// A fault that the engine could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The watermark waits for a channel that is idle.
    IdleNotIgnored,
    /// The watermark is the largest of all channels.
    WatermarkOfMaximum,
}

/// The role of a test that steps its job.
struct Stepping {
    settings: JobSettings,
    clock: ManualClock,
    job: Rc<RefCell<Option<SteppedJob>>>,
}

impl Executor for Stepping {
    fn settings(&self) -> JobSettings {
        self.settings.clone()
    }

    fn plan_value(&self, _name: &str) -> Option<Vec<u8>> {
        None
    }

    fn execute(&mut self, program: Program, graph: JobGraph, _wait: bool) -> Result<Execution> {
        let id = JobId::from_u128(1);
        let job = SteppedJob::start(id, program, graph, self.clock.clone())?;
        *self.job.borrow_mut() = Some(job);
        let running = JobResult { job: id, status: JobStatus::Running, runtime: Duration::ZERO };
        Ok(Execution::Submitted(JobClient::new(id, Rc::new(running))))
    }
}

/// The records of all channels with their watermarks, as a fault would have them.
fn united(
    env: &mut Environment,
    channels: &Channels,
    inputs: &[PushedInput<Row>],
    fault: Option<Fault>,
) -> Stream<Row> {
    let strategy = WatermarkStrategy::generator(|| BehindRows(None)).max_ahead(None);
    let strategy = strategy.timestamps(|(_, _, time, _): &Row| Ok(*time));
    let of_channel = match fault {
        Some(Fault::IdleNotIgnored) => strategy.clone(),
        _ => strategy.clone().idle_after(Duration::from_millis(channels.idle_after)),
    };
    let streams = inputs.iter().zip(0..).map(|(input, number)| {
        let rows = env.source_of_body(&format!("channel {number}"), false, input.source());
        rows.parallelism(1).assign_timestamps(of_channel.clone()).parallelism(1)
    });
    let united = streams.reduce(Stream::union).unwrap();
    if fault == Some(Fault::WatermarkOfMaximum) {
        // The watermark behind any record is that of all channels.
        return united.assign_timestamps(strategy).parallelism(1);
    }
    united
}

/// Gives a source a record, and returns when all of its consequences have happened.
fn give(job: &mut SteppedJob, input: &PushedInput<Row>, item: Pushed<Row>) {
    assert!(input.push(item), "the source takes no item");
    job.run().unwrap();
    assert!(input.is_taken(), "the source has not taken the item");
}

/// The numbers of what was compared.
#[derive(Default)]
struct Compared {
    results: usize,
    late: usize,
    /// The results that came because the clock had gone on.
    of_silence: usize,
}

/// Runs a case on several channels, and compares what has come at each look at the clock and at the
/// end; the verdict if it is not right.
fn judge(seed: u64, fault: Option<Fault>) -> Result<Compared, String> {
    let random = &mut Random::new(seed);
    let (case, rules) = (Case::random(random), Rules::random(random));
    let channels = Channels::random(&case.inputs, random);
    let settings = JobSettings { buffer_timeout_ms: 0, ..settings(seed, &case, false) };
    let (clock, stepped) = (ManualClock::at(Timestamp::from_millis(0)), Rc::default());
    let stepping = Stepping { settings, clock, job: Rc::clone(&stepped) };
    let mut env = Environment::new(Box::new(stepping));
    let inputs: Vec<PushedInput<Row>> =
        (0..channels.count).map(|_| PushedInput::default()).collect();
    let (out, aside) = (Times::new(), Times::new());
    let windows = Job { seed, rules, eviction: None };
    let results = windowed(united(&mut env, &channels, &inputs, fault), &windows, None);
    results.side_output(&LATE).sink("late", aside.clone());
    results.sink("out", out.clone());
    env.execute_async("test").unwrap();
    let mut job = stepped.take().unwrap();
    let verdict = drive((&mut job, &inputs), (&channels, &rules), (&out, &aside));
    verdict.map_err(|why| format!("seed {seed}: {why}\n{rules:?}\n{channels:?}"))
}

/// Lets everything happen to a job, and compares its results.
fn drive(
    (job, inputs): (&mut SteppedJob, &[PushedInput<Row>]),
    (channels, rules): (&Channels, &Rules),
    (out, aside): (&Times<Told>, &Times<Row>),
) -> Result<Compared, String> {
    let (all, counts) = channels.inputs();
    let mut compared = Compared::default();
    // All results so far are compared, which is rare in a long case.
    let rarely = 1 + channels.happenings.len() / 100;
    for (number, (happening, count)) in channels.happenings.iter().zip(counts).enumerate() {
        match *happening {
            Happening::Record(channel, Record { key, value, time }, watermark) => {
                let row = (key, value, time, watermark);
                give(job, &inputs[channel], Pushed::Record(row, None));
            }
            Happening::Passed(millis) if number % rarely > 0 => {
                job.advance(Duration::from_millis(millis)).unwrap();
            }
            Happening::Passed(millis) => {
                let before = out.arrived().len();
                job.advance(Duration::from_millis(millis)).unwrap();
                compared.of_silence += out.arrived().len() - before;
                compare_all(oracle::windows_so_far(&all[..count], rules), out, aside)
                    .map_err(|why| format!("after {count} inputs: {why}"))?;
            }
        }
    }
    inputs.iter().for_each(|input| give(job, input, Pushed::End));
    assert!(job.has_finished(), "the job has not ended");
    let (results, late) = compare_all(oracle::windows(&all, rules), out, aside)?;
    Ok(Compared { results, late, ..compared })
}

#[test]
fn windows_behind_silent_channels_are_those_of_the_second_computation() {
    let mut all = Compared::default();
    let name = "silent channels by a second opinion";
    for seed in millstream_soak::rounds(name, 0.003, CASES, 100 * CASES) {
        let Compared { results, late, of_silence } = judge(seed, None).unwrap();
        all.results += results;
        all.late += late;
        all.of_silence += of_silence;
    }
    let Compared { results, late, of_silence } = all;
    assert!(
        results > 10 * CASES as usize && late > 1_000 && of_silence > 1_000,
        "{results} results, {of_silence} of them by silence, {late} late"
    );
}

#[test]
fn faults_of_watermarks_are_found() {
    for fault in [Fault::IdleNotIgnored, Fault::WatermarkOfMaximum] {
        let found = (0..FAULT_CASES).any(|seed| judge(seed, Some(fault)).is_err());
        assert!(found, "{fault:?} is not found");
    }
}
