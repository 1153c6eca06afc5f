//! The suite for sinks.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use millstream_network::{Batch, Flow};
use millstream_types::{AttemptId, CheckpointId, JobId, OperatorId};

use super::{Random, of_seed, restored, stored};
use crate::sink::{Committer, CommitterInfo, Sink, SinkWriter, Uncommitted, WriterInfo};
use crate::{Result, bail, ensure};

/// The longest time that a writer may be full without waking its task.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most writers at once.
const WRITERS_MAX: usize = 4;
/// The input comes in so many parts, each with a position of its own.
const PARTS: u64 = 6;
/// The number of records of each part.
const PART_RECORDS: u64 = 60;
/// More steps than the schedule needs.
const STEPS_MAX: usize = 100_000;

/// A sink under test and what others see of it. Each seed has a target of its own.
pub trait SinkTarget {
    /// The records that the sink takes.
    type Record: Send + 'static;
    /// The sink.
    type Sink: Sink<Self::Record>;

    /// Makes the sink, as each new process of the job does.
    fn sink(&self) -> Self::Sink;

    /// The record of a number.
    fn record(&self, number: u64) -> Self::Record;

    /// The numbers of all records that are published, each as often as it is seen.
    ///
    /// # Errors
    /// What is published cannot be read.
    fn published(&self) -> Result<Vec<u64>>;

    /// Names whatever else the sink has left once it is closed.
    ///
    /// # Errors
    /// The target cannot be looked at.
    fn leftovers(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// Checks that a sink publishes each record once, when a checkpoint that has it is complete and not
/// before, and that what is published stays, whatever happens between.
///
/// For each seed it writes with one to four writers, takes checkpoints, some of which come to
/// nothing, commits late, twice or halfway, and kills: everything, to go on from the last complete
/// checkpoint with another number of writers, one writer while the others go on, or the committer
/// alone. Before the seeds it plays a job without checkpoints that publishes, whose commit is not
/// confirmed, and that begins anew.
///
/// # Errors
/// A record was lost, doubled, published too early or taken back, something was left, or a call
/// failed; the error names the seed.
pub fn check_sink<T: SinkTarget>(make: impl Fn() -> Result<T>, seeds: Range<u64>) -> Result<()> {
    ensure!(
        <T::Sink as Sink<T::Record>>::Committer::EXISTS,
        "the sink has NoCommitter, so it publishes nothing exactly once"
    );
    let target = make()?;
    World::start(&target, 0)
        .and_then(World::begin_anew)
        .map_err(|error| error.context("of a job without checkpoints that begins anew"))?;
    for seed in seeds {
        let target = make()?;
        of_seed(seed, World::start(&target, seed).and_then(World::run))?;
    }
    Ok(())
}

type WriterOf<T> = <<T as SinkTarget>::Sink as Sink<<T as SinkTarget>::Record>>::Writer;
type CommitterOf<T> = <<T as SinkTarget>::Sink as Sink<<T as SinkTarget>::Record>>::Committer;
type CommittableOf<T> = <<T as SinkTarget>::Sink as Sink<<T as SinkTarget>::Record>>::Committable;

/// Wakes the suite.
struct Bell(SyncSender<()>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // One that rings already is heard.
        let _ = self.0.try_send(());
    }
}

/// A writer, and what its task keeps.
struct Task<W> {
    writer: W,
    woken: Receiver<()>,
    attempt: AttemptId,
    /// Committables in bytes.
    kept: Uncommitted<Vec<u8>>,
}

/// A job's sink in one run.
struct World<'a, T: SinkTarget> {
    target: &'a T,
    random: Random,
    tasks: Vec<Task<WriterOf<T>>>,
    committer: CommitterOf<T>,
    attempts: u32,
    /// All attempts that have ended.
    ended: Vec<AttemptId>,
    /// The number of records of each part that were written.
    written: Vec<u64>,
    /// The same as of the last complete checkpoint; `None` while there is none.
    complete: Option<Vec<u64>>,
    next_id: CheckpointId,
    /// The committables of complete checkpoints whose commit is not confirmed.
    unconfirmed: Uncommitted<Vec<u8>>,
    seen: BTreeSet<u64>,
    kills_left: usize,
}

impl<'a, T: SinkTarget> World<'a, T> {
    fn start(target: &'a T, seed: u64) -> Result<Self> {
        let mut random = Random::new(seed);
        let kills_left = random.below(8);
        let mut world = Self {
            target,
            random,
            tasks: Vec::new(),
            committer: target.sink().committer(&committer_info())?,
            attempts: 0,
            ended: Vec::new(),
            written: vec![0; PARTS as usize],
            complete: None,
            next_id: CheckpointId::FIRST,
            unconfirmed: Uncommitted::default(),
            seen: BTreeSet::new(),
            kills_left,
        };
        world.committer.recover(Vec::new(), &[])?;
        world.start_tasks()?;
        Ok(world)
    }

    fn start_tasks(&mut self) -> Result<()> {
        let (attempt, writers) = (self.next_attempt(), 1 + self.random.below(WRITERS_MAX));
        for subtask in 0..writers {
            let task = self.task(subtask, writers, attempt)?;
            self.tasks.push(task);
        }
        Ok(())
    }

    fn next_attempt(&mut self) -> AttemptId {
        self.attempts += 1;
        AttemptId::new(self.attempts)
    }

    fn task(
        &self,
        subtask: usize,
        parallelism: usize,
        attempt: AttemptId,
    ) -> Result<Task<WriterOf<T>>> {
        let (sender, woken) = sync_channel(1);
        let CommitterInfo { job, operator } = committer_info();
        let writer = self.target.sink().writer(&WriterInfo {
            job,
            operator,
            subtask: subtask as u32,
            parallelism: parallelism as u32,
            attempt,
            waker: Waker::from(Arc::new(Bell(sender))),
        })?;
        Ok(Task { writer, woken, attempt, kept: Uncommitted::default() })
    }

    fn run(mut self) -> Result<()> {
        for _ in 0..STEPS_MAX {
            if self.written.iter().all(|written| *written == PART_RECORDS) {
                return self.end();
            }
            match self.random.below(100) {
                0..65 => self.write()?,
                65..85 => self.checkpoint()?,
                _ if self.kills_left == 0 => self.write()?,
                kind => {
                    self.kills_left -= 1;
                    match kind {
                        85..90 => self.kill_all()?,
                        90..96 => self.kill_one()?,
                        _ => self.kill_committer()?,
                    }
                }
            }
        }
        bail!("not all was written after {STEPS_MAX} steps")
    }

    /// Plays a job without checkpoints: the commit at its end is not confirmed, everything of the
    /// attempt is discarded, and another attempt begins.
    fn begin_anew(mut self) -> Result<()> {
        self.tasks.clear();
        let lost = self.publish_some()?;
        self.ended.extend(lost.first().map(|(attempt, ..)| *attempt));
        let ended = self.ended.clone();
        self.new_committer()?;
        for _ in 0..2 {
            self.committer.abort(&ended)?;
            self.committer.recover(Vec::new(), &ended)?;
            self.check_published(0, "an attempt that was aborted has published them")?;
        }
        self.commit_lost(&lost)?;
        self.committer.abort(&ended)?;
        self.committer.recover(Vec::new(), &ended)?;
        self.publish_some()?;
        self.committer.close()?;
        self.check_published(PART_RECORDS, "the attempt that counts is complete")?;
        let left = self.target.leftovers()?;
        ensure!(left.is_empty(), "the sink is closed and has left {left:?}");
        Ok(())
    }

    /// One attempt that writes some records and commits them, and then nothing.
    fn publish_some(&mut self) -> Result<Vec<(AttemptId, CheckpointId, Vec<u8>)>> {
        let attempt = self.next_attempt();
        let mut task = self.task(0, 1, attempt)?;
        for first in (0..PART_RECORDS).step_by(10) {
            let records = (first..first + 10).map(|number| self.target.record(number)).collect();
            let flow = task.writer.write(Batch::of(records))?;
            task.settle(flow)?;
        }
        task.pre_commit(CheckpointId::FIRST)?;
        self.check_published(0, "they are pre-committed, and nothing is committed")?;
        let named: Vec<(CheckpointId, Vec<u8>)> = task
            .kept
            .iter()
            .flat_map(|(id, all)| all.iter().map(move |one| (id, one.clone())))
            .collect();
        ensure!(!named.is_empty(), "pre_commit has named nothing, and records were written");
        let ids = [CheckpointId::FIRST, CheckpointId::FIRST.next()];
        task.pre_commit(ids[1])?; // of nothing that was written
        for (id, committables) in task.kept.take_through(ids[1]) {
            let committables = committables.iter().map(|it| restored(it));
            let committables = committables.collect::<Result<_>>()?;
            self.committer.commit(id, committables)?;
        }
        self.check_published(PART_RECORDS, "they are committed")?;
        Ok(named.into_iter().map(|(id, bytes)| (attempt, id, bytes)).collect())
    }

    /// Commits what was discarded: the sink says so, unless its committables have the records.
    fn commit_lost(&mut self, lost: &[(AttemptId, CheckpointId, Vec<u8>)]) -> Result<()> {
        let mut published = 0;
        for (_, id, bytes) in lost {
            match self.committer.commit(*id, vec![restored(bytes)?]) {
                Ok(()) => published += 1,
                Err(error) => ensure!(
                    !format!("{error:#}").is_empty(),
                    "the error of a commit of what is gone says nothing"
                ),
            }
        }
        let count = self.target.published()?.len();
        ensure!(
            published == 0 || count > 0,
            "a commit of what is neither prepared nor published was answered with Ok"
        );
        ensure!(published > 0 || count == 0, "a commit has failed and published {count} records");
        Ok(())
    }

    /// Checks that so many records are published, each once.
    fn check_published(&self, count: u64, why: &str) -> Result<()> {
        let mut numbers = self.target.published()?;
        numbers.sort_unstable();
        ensure!(
            numbers.iter().copied().eq(0..count),
            "{count} records should be published, because {why}, and there are {numbers:?}"
        );
        Ok(())
    }

    /// A batch to one of the writers.
    fn write(&mut self) -> Result<()> {
        let parts = self.written.len();
        let part = self.random.below(parts);
        let Some(written) = self.written.get_mut(part) else { return Ok(()) };
        let count = (1 + self.random.below(12) as u64).min(PART_RECORDS - *written);
        let first = part as u64 * PART_RECORDS + *written;
        *written += count;
        let records = (first..first + count).map(|number| self.target.record(number)).collect();
        let writers = self.tasks.len();
        let Some(task) = self.tasks.get_mut(part % writers) else { return Ok(()) };
        let flow = task.writer.write(Batch::of(records))?;
        task.settle(flow)?;
        let now = Instant::now() + Duration::from_secs(self.random.below(20) as u64);
        let flow = task.writer.on_time(now)?;
        task.settle(flow)
    }

    fn checkpoint(&mut self) -> Result<()> {
        let id = self.next_id;
        self.next_id = id.next();
        let declined_at = self.random.chance(30).then(|| self.random.below(self.tasks.len() + 1));
        for (at, task) in self.tasks.iter_mut().enumerate() {
            if declined_at == Some(at) {
                break;
            }
            task.pre_commit(id)?;
        }
        match declined_at {
            // It came to nothing: the tasks keep what they have named.
            Some(_) => self.check(false),
            None => self.completed(id),
        }
    }

    fn completed(&mut self, id: CheckpointId) -> Result<()> {
        for task in &mut self.tasks {
            for (id, committables) in task.kept.take_through(id) {
                self.unconfirmed.add(id, committables)?;
            }
        }
        self.complete = Some(self.written.clone());
        match self.random.below(10) {
            // The commit is late: the next checkpoint carries it.
            0..2 => self.check(false),
            2..4 if self.kills_left > 0 => {
                self.kills_left -= 1;
                self.commit_halfway()?;
                self.kill_all()
            }
            _ => self.commit(),
        }
    }

    /// The unconfirmed committables, as another process reads them.
    fn pending(&self) -> Result<Vec<(CheckpointId, Vec<CommittableOf<T>>)>> {
        let pending = self.unconfirmed.iter().map(|(id, committables)| {
            Ok((id, committables.iter().map(|it| restored(it)).collect::<Result<_>>()?))
        });
        pending.collect()
    }

    fn commit(&mut self) -> Result<()> {
        // The confirmation of the first commit may be lost.
        for _ in 0..1 + self.random.below(2) {
            for (id, committables) in self.pending()? {
                self.committer.commit(id, committables)?;
            }
        }
        self.unconfirmed.clear();
        self.check(true)
    }

    /// The committer dies when it has published some.
    fn commit_halfway(&mut self) -> Result<()> {
        if let Some((id, mut committables)) = self.pending()?.into_iter().next() {
            committables.truncate(self.random.below(committables.len() + 1));
            self.committer.commit(id, committables)?;
        }
        Ok(())
    }

    fn new_committer(&mut self) -> Result<()> {
        self.committer = self.target.sink().committer(&committer_info())?;
        Ok(())
    }

    /// Goes on from the last complete checkpoint after `ended` attempts.
    fn recover(&mut self, ended: &[AttemptId]) -> Result<()> {
        if self.complete.is_none() {
            self.committer.abort(ended)?;
        }
        self.committer.recover(self.pending()?, ended)?;
        self.unconfirmed.clear();
        self.check(self.complete.is_some())
    }

    fn kill_all(&mut self) -> Result<()> {
        self.ended.extend(self.tasks.drain(..).map(|task| task.attempt));
        self.ended.dedup();
        let ended = self.ended.clone();
        if self.random.chance(30) && self.complete.is_some() {
            // It dies again before anybody knows that it has recovered.
            self.new_committer()?;
            self.committer.recover(self.pending()?, &ended)?;
        }
        self.new_committer()?;
        self.recover(&ended)?;
        self.written = self.complete.clone().unwrap_or_else(|| vec![0; PARTS as usize]);
        self.start_tasks()
    }

    /// One task is restarted while the others run.
    fn kill_one(&mut self) -> Result<()> {
        let (writers, at) = (self.tasks.len(), self.random.below(self.tasks.len()));
        let attempt = self.next_attempt();
        let next = self.task(at, writers, attempt)?;
        let Some(task) = self.tasks.get_mut(at) else { return Ok(()) };
        // Its attempt may be that of other tasks too: then these are restarted with it.
        let ended = task.attempt;
        drop(std::mem::replace(task, next));
        let mut restarted = vec![at];
        for other in 0..writers {
            if self.tasks.get(other).is_some_and(|task| task.attempt == ended) {
                let next = self.task(other, writers, attempt)?;
                if let Some(task) = self.tasks.get_mut(other) {
                    *task = next;
                }
                restarted.push(other);
            }
        }
        for (part, written) in self.written.iter_mut().enumerate() {
            if restarted.contains(&(part % writers)) {
                let complete = self.complete.as_ref().and_then(|it| it.get(part));
                *written = complete.copied().unwrap_or(0);
            }
        }
        self.ended.push(ended);
        self.recover(&[ended])
    }

    /// The committer's process alone fails; the writers go on.
    fn kill_committer(&mut self) -> Result<()> {
        self.new_committer()?;
        self.committer.recover(self.pending()?, &[])?;
        self.unconfirmed.clear();
        self.check(self.complete.is_some())
    }

    /// The end of the input is the last checkpoint; it is taken until it is complete.
    fn end(mut self) -> Result<()> {
        let id = self.next_id;
        self.next_id = id.next();
        for task in &mut self.tasks {
            task.pre_commit(id)?;
        }
        for task in &mut self.tasks {
            for (id, committables) in task.kept.take_through(id) {
                self.unconfirmed.add(id, committables)?;
            }
        }
        self.complete = Some(self.written.clone());
        self.commit()?;
        self.tasks.clear();
        self.committer.close()?;
        self.check(true)?;
        let left = self.target.leftovers()?;
        ensure!(left.is_empty(), "the sink is closed and has left {left:?}");
        Ok(())
    }

    /// Looks at what is published: all of the last complete checkpoint, or some of it.
    fn check(&mut self, all: bool) -> Result<()> {
        let numbers = self.target.published()?;
        let published: BTreeSet<u64> = numbers.iter().copied().collect();
        if published.len() < numbers.len() {
            let doubled = numbers.iter().find(|it| numbers.iter().filter(|n| n == it).count() > 1);
            bail!("record {doubled:?} is published twice");
        }
        let expected: BTreeSet<u64> = self
            .complete
            .iter()
            .flat_map(|complete| (0..PARTS).zip(complete))
            .flat_map(|(part, count)| part * PART_RECORDS..part * PART_RECORDS + count)
            .collect();
        if let Some(early) = published.difference(&expected).next() {
            bail!("record {early} is published, and no complete checkpoint has it");
        }
        if let Some(gone) = self.seen.difference(&published).next() {
            bail!("record {gone} was published and is gone");
        }
        if let (true, Some(lost)) = (all, expected.difference(&published).next()) {
            bail!("record {lost} is not published, and the checkpoint that has it is committed");
        }
        self.seen = published;
        Ok(())
    }
}

impl<W> Task<W> {
    /// Waits until the writer is ready.
    fn settle<R>(&mut self, mut flow: Flow) -> Result<()>
    where
        W: SinkWriter<R>,
    {
        while flow == Flow::Full {
            let woken = self.woken.recv_timeout(PATIENCE);
            ensure!(
                woken.is_ok(),
                "the writer answered Flow::Full and has not called its waker for {} s",
                PATIENCE.as_secs()
            );
            flow = self.writer.resume()?;
        }
        Ok(())
    }

    fn pre_commit<R>(&mut self, id: CheckpointId) -> Result<()>
    where
        W: SinkWriter<R>,
        W::Committable: serde::Serialize,
    {
        let committables = self.writer.pre_commit(id)?;
        self.kept.add(id, committables.iter().map(stored).collect::<Result<_>>()?)
    }
}

fn committer_info() -> CommitterInfo {
    CommitterInfo {
        job: JobId::from_bytes([0xab; 16]),
        operator: OperatorId::from_bytes([0xcd; 16]),
    }
}
