//! A value of a gigabyte in the state of a key: its checkpoint is complete, or declined with the
//! limit; memory has a bound, and the job goes on.
//!
//! A program of its own, because its memory is measured. In CI the value has 16 MiB.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where a step fails")]

mod watched;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millstream_api::*;
use millstream_cluster::MiniCluster;
use millstream_connectors::{Datagen, DiscardSink};
use millstream_gateway::{CheckpointRequest, JobDetails, RequestState};
use millstream_graph::JobSettings;
use millstream_types::TriggerId;

/// Copies of the value in memory, at most: the value, its bytes in the snapshot, and those of the
/// buffer into which they go while it grows; and one that nothing has taken so far.
const COPIES_MAX: u64 = 4;
/// Memory of everything else.
const OTHERS_MAX: u64 = 300 << 20;
const PATIENCE: Duration = Duration::from_secs(300);

/// Keeps a long text, and passes its length on with each number.
struct Long {
    text: ValueState<String>,
    bytes: usize,
    seen: Arc<AtomicU64>,
}

impl KeyedProcess<u64, u64> for Long {
    type Out = u64;

    fn process(
        &mut self,
        number: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        if number == 0 {
            self.text.set(ctx, "x".repeat(self.bytes))?;
        }
        let text = self.text.get(ctx)?.context("the text is gone")?;
        ensure!(text.len() == self.bytes, "the text has {} bytes", text.len());
        self.seen.fetch_max(number, Ordering::SeqCst);
        out.emit(number);
        Ok(())
    }
}

fn wait_until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The most memory that the process has had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Takes a checkpoint of a job with a value of so many bytes, has the job go on, and cancels it:
/// the outcome of the checkpoint, and the job.
fn checkpoint(bytes: usize, directory: Option<&Path>) -> (RequestState, Arc<JobDetails>) {
    let mut config = BTreeMap::from([
        ("execution.checkpointing.interval", "1 h".to_owned()),
        ("execution.checkpointing.tolerable-failed-checkpoints", "10".to_owned()),
        ("restart-strategy.type", "none".to_owned()),
    ]);
    let named = directory.map(|directory| directory.display().to_string());
    config.extend(named.map(|directory| ("execution.checkpointing.dir", directory)));
    let config = config.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let numbers = Arc::<AtomicU64>::default();
    let (outcome, passed) = (Rc::new(RefCell::new(None)), Arc::clone(&numbers));
    let told = Rc::clone(&outcome);
    let watch = move |cluster: &MiniCluster| {
        let details = cluster.details();
        let progress = || {
            let from = passed.load(Ordering::SeqCst);
            wait_until("a number", || {
                let status = cluster.status();
                assert!(!status.is_globally_terminal(), "{:?}", details.borrow().exceptions);
                (passed.load(Ordering::SeqCst) > from).then_some(())
            });
        };
        progress();
        cluster.request(TriggerId::from_u128(1), CheckpointRequest::Checkpoint);
        *told.borrow_mut() = Some(wait_until("the checkpoint", || {
            let job = Arc::clone(&details.borrow());
            let state = job.requests.first().map(|request| request.state.clone())?;
            (state != RequestState::InProgress).then_some(state)
        }));
        progress();
        cluster.cancel();
    };
    let settings = JobSettings { parallelism: 1, config, ..JobSettings::default() };
    let (mut env, seen) = watched::environment(settings, watch);
    let source = env.source("numbers", Datagen::from_fn(|n| n).rate_per_second(100));
    let lengths = source.key_by(|_| 0).process("long", move |states| {
        Ok(Long { text: states.value("text")?, bytes, seen: Arc::clone(&numbers) })
    });
    lengths.sink("out", DiscardSink::new());
    let result = env.execute("test").map(drop);
    let job = seen.take(&result);
    let outcome = outcome.borrow_mut().take().unwrap();
    (outcome, job)
}

#[test]
fn a_value_of_a_gigabyte_is_part_of_a_checkpoint_and_memory_has_a_bound() {
    let bytes = millstream_soak::scale(16, 1024) << 20;
    let directory = tempfile::tempdir().unwrap();
    let (outcome, job) = checkpoint(bytes, Some(directory.path()));
    let most = peak();
    eprintln!("a value of {} MiB: {} MiB at most", bytes >> 20, most >> 20);
    assert!(matches!(outcome, RequestState::Complete { .. }), "{outcome:?}");
    assert!(most < COPIES_MAX * bytes as u64 + OTHERS_MAX, "{} MiB", most >> 20);
    let report = &job.checkpoints.as_ref().unwrap().report;
    let stored = report.latest_completed.as_ref().unwrap().state_bytes();
    assert!(stored >= bytes as u64, "{stored} bytes");
}

#[test]
fn a_value_that_is_too_large_for_memory_is_declined_with_the_limit() {
    let (outcome, _) = checkpoint(6 << 20, None);
    let RequestState::Failed(why) = outcome else { panic!("{outcome:?}") };
    assert!(why.contains("5242880 are the most: set execution.checkpointing.dir"), "{why}");
    assert!(why.contains("long -> Sink: out (1/1) declined it"), "{why}");
}
