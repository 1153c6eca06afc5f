//! Jobs whose enumerator fails: another one takes its place, and the readers read on.

use std::collections::BTreeSet;
use std::ops::Range;

use super::regions::{attempts, numbers};
use super::*;

/// The number of records of a split.
const SPAN: u64 = 20;

/// Numbers in spans; the enumerator fails as often as the run says, each time behind a checkpoint.
struct Spans<const ALONE: bool>(Run);

impl<const ALONE: bool> Source for Spans<ALONE> {
    type Out = u64;
    type Split = Range<u64>;
    type Reader = SpanReader;
    type Enumerator = SpanEnumerator<ALONE>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn reader(&self, _ctx: &ReaderContext) -> Result<SpanReader> {
        Ok(SpanReader(Vec::new()))
    }

    fn enumerator(&self, restored: Option<State>) -> Result<SpanEnumerator<ALONE>> {
        let (run, state) = (self.0.clone(), restored.unwrap_or_default());
        let (files, asked) = (published(&run.files).count(), 0);
        Ok(SpanEnumerator { run, state, files, asked })
    }
}

/// The next span, the beginnings of those behind it that were handed out, and those given back.
type State = (u64, BTreeSet<u64>, Vec<Range<u64>>);

struct SpanEnumerator<const ALONE: bool> {
    run: Run,
    state: State,
    /// The number of files that were published when it was made.
    files: usize,
    asked: u32,
}

impl<const ALONE: bool> SplitEnumerator for SpanEnumerator<ALONE> {
    type Split = Range<u64>;
    type State = State;

    const RESTARTS_ALONE: bool = ALONE;

    fn discover(&mut self) -> Result<Option<Duration>> {
        Ok(None)
    }

    fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<Range<u64>>> {
        self.asked += 1;
        let failed = &self.run.failed;
        if self.asked > 5
            && failed.load(Ordering::Relaxed) < self.run.failures
            && published(&self.run.files).count() > self.files
        {
            failed.fetch_add(1, Ordering::Relaxed);
            bail!("the enumerator fails at {}", self.state.0);
        }
        let (next, handed, returned) = &mut self.state;
        if let Some(span) = returned.pop() {
            return Ok(NextSplit::Split(span));
        }
        while handed.remove(next) {
            *next += SPAN;
        }
        let start = *next;
        *next += SPAN;
        Ok(if start < COUNT { NextSplit::Split(start..start + SPAN) } else { NextSplit::NoMore })
    }

    fn give_back(&mut self, _subtask: u32, splits: Vec<Range<u64>>) -> Result<()> {
        self.state.2.extend(splits);
        Ok(())
    }

    fn was_handed_out(&mut self, splits: Vec<(u32, Range<u64>)>) -> Result<()> {
        let (_, handed, returned) = &mut self.state;
        for (_, span) in splits {
            let before = returned.len();
            returned.retain(|other| *other != span);
            if returned.len() == before {
                handed.insert(span.start);
            }
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<State> {
        Ok(self.state.clone())
    }
}

struct SpanReader(Vec<Range<u64>>);

impl SourceReader for SpanReader {
    type Out = u64;
    type Split = Range<u64>;

    fn add_splits(&mut self, splits: Vec<Range<u64>>) -> Result<()> {
        self.0.extend(splits);
        Ok(())
    }

    fn poll(&mut self, out: &mut ReaderOutput<'_, u64>) -> Result<Polled> {
        let Some(span) = self.0.last_mut() else { return Ok(Polled::NeedSplit) };
        out.fill(span.by_ref())?;
        if span.is_empty() {
            self.0.pop();
        }
        Ok(Polled::Ready)
    }

    fn snapshot(&mut self) -> Result<Vec<Range<u64>>> {
        Ok(self.0.clone())
    }
}

/// Runs a job whose enumerator fails three times, the tasks in one region or in two: each number is
/// there once.
fn run_spans<const ALONE: bool>(is_connected: bool) -> Arc<JobDetails> {
    let (lines, job) = lines_of(3, |env, run| {
        let numbers = env.source("spans", Spans::<ALONE>(run.clone())).parallelism(2);
        let numbers = if is_connected { numbers.rebalance() } else { numbers };
        let slow = numbers.map(|n| {
            std::thread::sleep(Duration::from_micros(300));
            Ok(n.to_string())
        });
        slow.parallelism(2)
    });
    check_lines(&numbers(), &lines);
    job
}

#[test]
fn readers_read_on_when_their_enumerator_has_failed() {
    for is_connected in [false, true] {
        let job = run_spans::<true>(is_connected);
        assert_eq!(job.restarts, 0, "{:#?}", job.exceptions);
        assert!(attempts(&job).iter().all(|vertex| *vertex == [0, 0]), "{:?}", attempts(&job));
        let report = &job.checkpoints.as_ref().unwrap().report;
        assert_eq!(report.counts.restored, 0, "no task began from a checkpoint: {report:?}");
    }
}

#[test]
fn all_tasks_restart_with_an_enumerator_that_cannot_restart_alone() {
    let job = run_spans::<false>(false);
    assert!(attempts(&job).iter().all(|vertex| *vertex == [3, 3]), "{:?}", attempts(&job));
}
