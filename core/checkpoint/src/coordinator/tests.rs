//! The coordinator, one behaviour at a time.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use millstream_types::{CheckpointId, ExecutionAttemptId, TriggerId};

use super::fixture::{Time, committables, id, operator_id, plan, snapshot, subtask, task};
use super::*;
use crate::messages::{Ack, CommitId, FinalReport, WaitsFor};
use crate::metadata::{Committables, Kind, Metadata};
use crate::stats::{Blocked, Outcome, WaitingFor};

mod points_of_failure;

const TRIGGER: TriggerId = TriggerId::from_u128(1);

/// A coordinator and its clock. Ids and stores succeed at once unless a test wants otherwise.
struct Job {
    coordinator: Coordinator,
    time: Time,
    /// Whether stores are left to the test.
    holds_stores: bool,
    actions: Vec<Action>,
}

impl Job {
    fn new(settings: Settings) -> Self {
        let coordinator = Coordinator::new(settings, plan(&[1, 1], false), Known::default());
        let (time, actions) = (Time::new(), Vec::new());
        Self { coordinator, time, holds_stores: false, actions }
    }

    /// A job whose two tasks run, with a coordinator host.
    fn running(settings: Settings) -> Self {
        let mut job = Self::new(settings);
        job.event(Event::Restarting { attempt: 0 });
        job.event(Event::CoordinatorHostReady);
        job.event(Event::Committed(CommitId::FIRST));
        job.run(0);
        job.actions.clear();
        job
    }

    fn run(&mut self, attempt: u32) {
        self.event(Event::TaskRunning(task(0, 0, attempt)));
        self.event(Event::TaskRunning(task(1, 0, attempt)));
    }

    fn event(&mut self, event: Event) {
        for action in self.coordinator.on_event(self.time.now(), event) {
            self.actions.push(action.clone());
            match action {
                Action::ReserveId(id) => self.event(Event::IdReserved(id)),
                Action::Store { id, .. } if !self.holds_stores => self.event(Event::Stored(id)),
                _ => {}
            }
        }
    }

    fn at(&mut self, ms: u64) -> &mut Self {
        self.time.ms = ms;
        self.event(Event::Tick);
        self
    }

    fn ack(&mut self, number: u64, task: ExecutionAttemptId, files: &[&str]) {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        let ack = Ack { snapshots: vec![snapshot(task, &files)], ..Ack::default() };
        self.event(Event::Acknowledged { id: id(number), task, ack: Box::new(ack) });
    }

    fn ack_all(&mut self, number: u64) {
        self.ack(number, task(0, 0, 0), &[]);
        self.ack(number, task(1, 0, 0), &[&format!("file-{number}")]);
    }

    fn finish(&mut self, task: ExecutionAttemptId, committables: &[Arc<Committables>]) {
        let report = FinalReport { committables: committables.to_vec(), ..FinalReport::default() };
        self.event(Event::TaskFinished { task, report: Box::new(report) });
    }

    fn finish_all(&mut self) {
        self.finish(task(0, 0, 0), &[]);
        self.finish(task(1, 0, 0), &[]);
    }

    /// Whether a checkpoint of this kind is to be stored now.
    fn stores(&mut self, kind: Kind) -> bool {
        self.take().iter().any(|action| match action {
            Action::Store { metadata, .. } => metadata.kind == kind,
            _ => false,
        })
    }

    fn decline(&mut self, number: u64) {
        let reason = "the disk is full".to_owned();
        self.event(Event::Declined { id: id(number), task: task(1, 0, 0), reason });
    }

    fn ask(&mut self, request: Request) {
        self.event(Event::Request { trigger: TRIGGER, request });
    }

    fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    fn triggered(&mut self) -> Vec<(u64, Kind)> {
        let actions = self.take();
        let triggers = actions.iter().filter_map(|action| match action {
            Action::Trigger { id, kind, .. } => Some((id.get(), *kind)),
            _ => None,
        });
        triggers.collect()
    }

    fn answers(&mut self) -> Vec<Answer> {
        let actions = self.take().into_iter();
        let answers = actions.filter_map(|action| match action {
            Action::Answer { answer, .. } => Some(answer),
            _ => None,
        });
        answers.collect()
    }

    fn failures(&mut self) -> Vec<String> {
        let actions = self.take().into_iter();
        let failures = actions.filter_map(|action| match action {
            Action::FailJob(reason) => Some(reason),
            _ => None,
        });
        failures.collect()
    }
}

fn every_second() -> Settings {
    Settings {
        interval: Some(Duration::from_secs(1)),
        timeout: Duration::from_secs(10),
        tolerable_failures: 9,
        ..Settings::default()
    }
}

fn savepoint() -> Request {
    Request::Savepoint { directory: "d".to_owned() }
}

fn stop() -> Request {
    Request::Stop { directory: "d".to_owned(), drain: false }
}

#[test]
fn a_periodic_checkpoint_starts_an_interval_after_all_tasks_run() {
    let mut job = Job::new(every_second());
    job.event(Event::Restarting { attempt: 0 });
    job.event(Event::CoordinatorHostReady);
    job.event(Event::TaskRunning(task(0, 0, 0)));
    assert_eq!(job.coordinator.next_time(), None);
    let blocked = job.coordinator.status(job.time.now().instant).blocked;
    assert_eq!(blocked, Some(Blocked::Tasks { running: 1, of: 2 }));
    job.at(5_000).event(Event::TaskRunning(task(1, 0, 0)));
    assert_eq!(job.at(5_999).triggered(), []);
    assert_eq!(job.at(6_000).triggered(), [(1, Kind::Checkpoint)]);
    assert_eq!(job.at(9_000).triggered(), [], "one may be pending");
    job.ack_all(1);
    assert_eq!(job.triggered(), [(2, Kind::Checkpoint)], "it was due");
    assert_eq!(job.coordinator.latest().map(Completed::id), Some(id(1)));
}

#[test]
fn the_pause_after_a_checkpoint_is_kept_by_periodic_ones_alone() {
    let mut job = Job::running(Settings { min_pause: Duration::from_secs(3), ..every_second() });
    job.at(1_000).ack_all(1);
    assert_eq!(job.at(2_000).triggered(), [(1, Kind::Checkpoint)]);
    job.ask(Request::Checkpoint);
    assert_eq!(job.triggered(), [(2, Kind::Checkpoint)]);
    job.ack_all(2);
    assert_eq!(job.at(4_999).triggered(), []);
    assert_eq!(job.at(5_000).triggered(), [(3, Kind::Checkpoint)]);
}

#[test]
fn a_late_checkpoint_names_the_subtasks_that_it_waits_for() {
    let mut job = Job::running(Settings { tolerable_failures: 0, ..every_second() });
    job.at(1_000).ack(1, task(0, 0, 0), &[]);
    let waits_for = WaitsFor::Alignment { channel: "channel 3".to_owned() };
    job.event(Event::Progress { id: id(1), task: task(1, 0, 0), waits_for: waits_for.clone() });
    let status = job.coordinator.status(job.time.now().instant);
    let WaitingFor::Tasks(missing) = &status.pending[0].waiting_for else { panic!("{status:?}") };
    assert_eq!((missing.len(), &missing[0].waits_for), (1, &waits_for));
    assert_eq!(
        job.at(11_000).failures(),
        ["checkpoint chk-1 failed: it was not acknowledged within 10s: 1 of 2 subtasks have not \
          acknowledged it: v1 (1/1) waits for the barrier on channel 3"]
    );
    let failed = job.coordinator.report().latest_failed.expect("it failed");
    assert!(matches!(failed.outcome, Outcome::Failed { .. }));
}

/// Barriers overtake after so many milliseconds.
fn overtaking(ms: u64) -> Settings {
    let aligned_timeout = Duration::from_millis(ms);
    Settings { unaligned: true, aligned_timeout, tolerable_failures: 0, ..every_second() }
}

/// The triggered checkpoints, and whether their barriers overtake.
fn overtakes(job: &mut Job) -> Vec<(u64, bool)> {
    let actions = job.take().into_iter();
    let triggers = actions.filter_map(|action| match action {
        Action::Trigger { id, unaligned, .. } => Some((id.get(), unaligned)),
        _ => None,
    });
    triggers.collect()
}

#[test]
fn one_whose_barriers_overtake_takes_the_place_of_one_whose_barriers_wait_too_long() {
    let mut job = Job::running(overtaking(300));
    assert_eq!(overtakes(job.at(1_000)), [(1, false)]);
    job.ack(1, task(0, 0, 0), &["given up"]);
    assert_eq!(overtakes(job.at(1_299)), []);
    assert_eq!(overtakes(job.at(1_300)), [(2, true)], "at once");
    let failed = job.coordinator.report().latest_failed.unwrap();
    let Outcome::Failed { reason, .. } = &failed.outcome else { panic!("{failed:?}") };
    assert_eq!(
        reason,
        "checkpoint chk-1 failed: its barriers have not left all tasks within 300ms: one whose \
         barriers overtake takes its place: 1 of 2 subtasks have not acknowledged it: v1 (1/1) \
         waits for the barrier, or for its state to be written"
    );
    job.at(1_900).ack_all(2);
    assert_eq!(job.failures(), [""; 0], "none of them counts as a failure");
    assert_eq!(overtakes(job.at(2_000)), [(3, false)], "the next one is aligned again");
}

#[test]
fn a_checkpoint_whose_barriers_have_left_all_tasks_is_waited_for() {
    let mut job = Job::running(overtaking(300));
    job.at(1_000).ack(1, task(0, 0, 0), &[]);
    let (id, task) = (id(1), task(1, 0, 0));
    job.event(Event::Progress { id, task, waits_for: WaitsFor::Upload });
    assert_eq!(job.at(9_000).triggered(), [(1, Kind::Checkpoint)]);
    job.ack(1, task, &[]);
    assert_eq!(job.coordinator.latest().map(Completed::id), Some(id));
    assert!(job.coordinator.report().latest_failed.is_none());
}

#[test]
fn a_request_for_a_checkpoint_that_is_given_up_is_answered_by_the_one_in_its_place() {
    let mut job = Job::running(overtaking(300));
    job.ask(Request::Checkpoint);
    assert_eq!(overtakes(&mut job), [(1, false)]);
    assert_eq!(overtakes(job.at(400)), [(2, true)]);
    job.ack_all(2);
    assert!(matches!(&job.answers()[..], [Answer::Complete { .. }]), "once");
}

#[test]
fn barriers_overtake_from_the_start_without_a_timeout() {
    let mut job = Job::running(overtaking(0));
    assert_eq!(overtakes(job.at(1_000)), [(1, true)]);
    let mut aligned = Job::running(Settings { unaligned: false, ..overtaking(300) });
    assert_eq!(overtakes(aligned.at(1_000)), [(1, false)]);
    assert_eq!(overtakes(aligned.at(1_900)), [], "it has the whole timeout");
}

#[test]
fn files_of_an_acknowledgement_that_comes_too_late_are_deleted() {
    let mut job = Job::running(every_second());
    job.at(1_000).ack(1, task(0, 0, 0), &["in time"]);
    job.at(11_000).ack(1, task(1, 0, 0), &["late"]);
    // A repeated message says nothing new, and files in use are others.
    job.ack(1, task(1, 0, 0), &["late"]);
    job.ack_all(2);
    let deleted = |action| match action {
        Action::Delete { files, .. } => files,
        _ => Vec::new(),
    };
    let deleted: Vec<String> = job.take().into_iter().flat_map(deleted).collect();
    assert_eq!(deleted, ["in time", "late"]);
}

#[test]
fn failures_in_a_row_fail_the_job_beyond_the_tolerable_number() {
    let mut job = Job::running(Settings { tolerable_failures: 1, ..every_second() });
    job.at(1_000).decline(1);
    job.at(2_000).ack_all(2);
    job.at(3_000).decline(3);
    assert_eq!(job.failures(), [""; 0], "a success was between them");
    job.at(4_000).decline(4);
    let reason = "2 checkpoints in a row failed, the last one so: checkpoint chk-4 failed: v1 \
                  (1/1) declined it: the disk is full";
    assert_eq!(job.failures(), [reason]);
    assert_eq!(job.at(9_000).triggered(), [], "the job restarts first");
    job.event(Event::Restarting { attempt: 1 });
    let from = Some(id(2));
    assert!(job.take().contains(&Action::Restore { from, finished: Vec::new() }));
}

#[test]
fn a_checkpoint_whose_outcome_is_not_known_holds_up_the_restart() {
    let mut job = Job::running(every_second());
    job.holds_stores = true;
    job.at(1_000).ack_all(1);
    job.event(Event::StoreUnknown { id: id(1), reason: "away".to_owned() });
    job.event(Event::TaskFailed(task(0, 0, 0)));
    job.event(Event::Restarting { attempt: 1 });
    job.event(Event::StoreUnknown { id: id(1), reason: "away".to_owned() });
    let actions = job.take();
    assert!(!actions.iter().any(|action| matches!(action, Action::Restore { .. })), "{actions:?}");
    assert_eq!(job.at(2_000).take(), [Action::ReadBack(id(1))], "again, after a pause");
    job.event(Event::Stored(id(1)));
    let restore = Action::Restore { from: Some(id(1)), finished: Vec::new() };
    assert_eq!(job.take().last(), Some(&restore));
    assert_eq!(job.coordinator.status(job.time.now().instant).failures_in_a_row, 0);
}

#[test]
fn messages_that_are_late_or_repeated_change_nothing_and_are_counted() {
    let mut job = Job::running(every_second());
    job.at(1_000).ack(1, task(0, 0, 0), &[]);
    job.ack(1, task(0, 0, 0), &[]);
    job.ack(7, task(0, 0, 0), &[]);
    job.event(Event::TaskFailed(task(0, 0, 0)));
    job.event(Event::Restarting { attempt: 1 });
    job.run(1);
    job.at(3_000).take();
    job.ack(2, task(0, 0, 0), &[]);
    job.event(Event::TaskFailed(task(0, 0, 0)));
    job.event(Event::Stored(id(2)));
    job.event(Event::TaskRunning(task(1, 0, 0)));
    assert_eq!(job.take(), []);
    let ignored = job.coordinator.ignored();
    assert_eq!((ignored.old_attempt, ignored.repeated, ignored.unknown_checkpoint), (3, 1, 2));
}

#[test]
fn a_savepoint_starts_beside_a_checkpoint_and_commits_nothing() {
    let mut job = Job::running(every_second());
    job.at(1_000).ask(savepoint());
    assert_eq!(job.triggered(), [(1, Kind::Checkpoint), (2, Kind::Savepoint)]);
    let one = committables(task(1, 0, 0), 2);
    let ack = Ack { committables: vec![one], ..Ack::default() };
    job.ack(2, task(0, 0, 0), &[]);
    let ack = Box::new(ack);
    job.event(Event::Acknowledged { id: id(2), task: task(1, 0, 0), ack });
    let actions = job.take();
    assert!(
        actions.contains(&Action::Answer { trigger: TRIGGER, answer: Answer::Complete(id(2)) })
    );
    let is_commit =
        |action: &Action| matches!(action, Action::Commit { .. } | Action::Abort { .. });
    assert!(!actions.iter().any(is_commit), "{actions:?}");
    assert_eq!(job.coordinator.latest(), None, "nothing is restored from it");
}

#[test]
fn a_stop_that_fails_behind_its_barrier_restarts_the_job() {
    let mut job = Job::running(every_second());
    job.ask(stop());
    assert_eq!(job.at(5_000).triggered(), [(1, Kind::Stop { drain: false })], "nothing beside it");
    job.decline(1);
    let reason = "stop savepoint chk-1 failed: v1 (1/1) declined it: the disk is full";
    let actions = job.take();
    assert!(actions.contains(&Action::FailJob(reason.to_owned())), "{actions:?}");
    let answer = Answer::Failed(reason.to_owned());
    assert!(actions.contains(&Action::Answer { trigger: TRIGGER, answer }), "{actions:?}");
}

#[test]
fn a_job_whose_stop_savepoint_is_complete_does_not_run_again() {
    let mut job = Job::running(every_second());
    job.ask(stop());
    let committables = vec![committables(task(1, 0, 0), 1)];
    job.ack(1, task(0, 0, 0), &[]);
    let ack = Box::new(Ack { committables: committables.clone(), ..Ack::default() });
    job.event(Event::Acknowledged { id: id(1), task: task(1, 0, 0), ack });
    let commit = CommitId::FIRST.next();
    let (checkpoint, recover) = (id(1), false);
    assert!(job.take().contains(&Action::Commit { commit, checkpoint, recover, committables }));
    job.event(Event::TaskFailed(task(0, 0, 0)));
    job.event(Event::Restarting { attempt: 1 });
    job.run(1);
    assert_eq!(job.at(60_000).take(), [], "its results are not published yet");
    job.event(Event::Committed(commit));
    assert_eq!(job.take(), [Action::Finish]);
}

#[test]
fn a_final_checkpoint_is_made_of_the_last_reports_when_all_tasks_have_finished() {
    let mut job = Job::running(Settings::default());
    job.coordinator = Coordinator::new(Settings::default(), plan(&[1, 1], true), Known::default());
    job.event(Event::Restarting { attempt: 0 });
    job.run(0);
    job.finish(task(0, 0, 0), &[]);
    assert!(!job.stores(Kind::Final), "a task runs still");
    let committables = vec![committables(task(1, 0, 0), 1)];
    job.holds_stores = true;
    job.finish(task(1, 0, 0), &committables);
    let actions = job.take();
    let [Action::ReserveId(_), Action::Store { metadata, directory: None, .. }] = &actions[..]
    else {
        panic!("neither tasks nor coordinators are asked, and no host is awaited: {actions:?}")
    };
    assert_eq!((metadata.kind, &metadata.committables), (Kind::Final, &committables));
    let mut parts = metadata.operators.iter().flat_map(|operator| &operator.subtasks);
    assert!(parts.all(|part| part.finished && part.handles.is_empty()));
    job.event(Event::Stored(id(1)));
    let complete = Action::Complete { id: id(1), kind: Kind::Final, tasks: Vec::new() };
    assert_eq!(job.take(), [complete]);
    job.event(Event::CoordinatorHostReady);
    let commit = CommitId::FIRST;
    let (checkpoint, recover) = (id(1), true);
    assert_eq!(job.take(), [Action::Commit { commit, checkpoint, recover, committables }]);
    job.event(Event::Committed(commit));
    assert_eq!(job.take(), [Action::Finish]);
}

#[test]
fn a_final_checkpoint_is_tried_until_it_is_stored() {
    let mut job = Job::running(Settings { tolerable_failures: 0, ..Settings::default() });
    job.holds_stores = true;
    job.finish_all();
    job.take();
    job.event(Event::StoreFailed { id: id(1), reason: "the disk is full".to_owned() });
    assert_eq!(job.failures(), [""; 0], "it fails nothing");
    assert!(!job.at(999).stores(Kind::Final));
    assert!(job.at(1_000).stores(Kind::Final));
    job.event(Event::CoordinatorHostLost);
    job.event(Event::CoordinatorHostReady);
    let commit = CommitId::FIRST.next();
    let (checkpoint, recover) = (id(0), true);
    let recovers = Action::Commit { commit, checkpoint, recover, committables: Vec::new() };
    assert_eq!(job.take(), [recovers], "a new host's committers recover in any case");
    job.event(Event::StoreUnknown { id: id(2), reason: "away".to_owned() });
    assert_eq!(job.take(), [Action::ReadBack(id(2))]);
    job.event(Event::Stored(id(2)));
    assert_eq!(job.take().last(), Some(&Action::Finish));
}

#[test]
fn a_final_checkpoint_survives_the_coordinator_host_and_not_a_restart() {
    let mut job = Job::running(Settings::default());
    job.coordinator = Coordinator::new(Settings::default(), plan(&[1, 1], true), Known::default());
    job.event(Event::Restarting { attempt: 0 });
    job.event(Event::CoordinatorHostReady);
    job.run(0);
    job.finish(task(0, 0, 0), &[]);
    // The id is being stored for as long as the test wants.
    let event = |job: &mut Job, event| job.coordinator.on_event(job.time.now(), event);
    let last = Event::TaskFinished { task: task(1, 0, 0), report: Box::default() };
    assert_eq!(event(&mut job, last), [Action::ReserveId(id(1))]);
    assert_eq!(event(&mut job, Event::CoordinatorHostLost), []);
    let abort = Action::Abort { id: id(1), tasks: Vec::new() };
    let restore = Action::Restore { from: None, finished: Vec::new() };
    assert_eq!(event(&mut job, Event::Restarting { attempt: 1 }), [abort, restore]);
    assert_eq!(event(&mut job, Event::IdReserved(id(1))), [], "it is over");
    job.take();
    job.run(1);
    job.finish(task(0, 0, 1), &[]);
    job.finish(task(1, 0, 1), &[]);
    assert!(job.stores(Kind::Final), "without a pause");
}

#[test]
fn a_final_checkpoint_follows_a_restore_in_which_all_subtasks_had_finished() {
    let mut job = Job::running(every_second());
    job.at(1_000).ack(1, task(1, 0, 0), &[]);
    job.holds_stores = true;
    job.event(Event::TaskFinished { task: task(0, 0, 0), report: Box::default() });
    job.event(Event::Stored(id(1)));
    job.at(2_000).take();
    job.event(Event::TaskFinished { task: task(1, 0, 0), report: Box::default() });
    job.event(Event::Stored(id(2)));
    job.event(Event::StoreFailed { id: id(3), reason: "the disk is full".to_owned() });
    job.take();
    job.event(Event::Restarting { attempt: 1 });
    let finished = vec![subtask(0, 0), subtask(1, 0)];
    let actions = job.take();
    assert_eq!(actions[0], Action::Restore { from: Some(id(2)), finished });
    assert_eq!(actions[1], Action::ReserveId(id(4)), "without a pause");
    assert!(matches!(&actions[2], Action::Store { metadata, .. } if metadata.kind == Kind::Final));
    job.event(Event::Restarting { attempt: 2 });
    job.event(Event::Stored(id(4)));
    assert_eq!(job.take().last(), Some(&Action::Finish), "it ran again for nothing");
}

#[test]
fn nothing_but_the_final_checkpoint_starts_when_all_tasks_have_finished() {
    let mut job = Job::running(Settings { tolerable_failures: 0, ..every_second() });
    job.holds_stores = true;
    job.at(1_000).finish_all();
    // The first one went on with the last reports.
    job.take();
    job.event(Event::StoreFailed { id: id(1), reason: "the disk is full".to_owned() });
    let actions = job.take();
    assert!(!actions.iter().any(|it| matches!(it, Action::FailJob(_))), "{actions:?}");
    assert_eq!(actions[1], Action::ReserveId(id(2)));
    job.ask(Request::Checkpoint);
    let why = "all sources have ended: the job is about to finish".to_owned();
    assert_eq!(job.answers(), [Answer::Failed(why)]);
    assert_eq!(job.at(9_000).take(), []);
    let status = job.coordinator.status(job.time.now().instant);
    assert_eq!(status.blocked, Some(Blocked::Finishing));
}

#[test]
fn checkpoints_that_would_tell_tasks_are_given_up_when_all_tasks_have_finished() {
    let mut job = Job::running(every_second());
    let plan = plan(&[1, 1], true);
    job.coordinator = Coordinator::new(every_second(), plan, Known::default());
    job.event(Event::Restarting { attempt: 0 });
    job.event(Event::CoordinatorHostReady);
    job.run(0);
    job.at(1_000).take();
    job.ask(savepoint());
    job.finish(task(0, 0, 0), &[]);
    job.take();
    job.finish(task(1, 0, 0), &[]);
    let actions = job.take();
    let why = "all sources have ended: the job is about to finish".to_owned();
    let answer = Action::Answer { trigger: TRIGGER, answer: Answer::Failed(why) };
    assert_eq!(actions[..2], [Action::Abort { id: id(1), tasks: Vec::new() }, answer]);
    assert_eq!(actions.last(), Some(&Action::Finish));
}

#[test]
fn a_task_that_finishes_counts_by_its_last_report() {
    let mut job = Job::running(every_second());
    job.at(1_000).ack(1, task(1, 0, 0), &[]);
    let report = Box::new(FinalReport::default());
    job.event(Event::TaskFinished { task: task(0, 0, 0), report });
    let latest = job.coordinator.latest().expect("it is complete").metadata.clone();
    let finished: Vec<bool> =
        latest.operators.iter().map(|operator| operator.subtasks[0].finished).collect();
    assert_eq!((latest.operators[0].id, finished), (operator_id(0), vec![true, false]));
    job.event(Event::TaskFailed(task(1, 0, 0)));
    job.event(Event::Restarting { attempt: 1 });
    let restore = Action::Restore { from: Some(id(1)), finished: vec![subtask(0, 0)] };
    assert_eq!(job.take().last(), Some(&restore));
}

#[test]
fn a_task_that_took_the_barrier_and_finishes_without_an_acknowledgement_aborts() {
    let mut job = Job::running(every_second());
    job.at(1_000).ack(1, task(1, 0, 0), &[]);
    let report = FinalReport { last_barrier: Some(id(1)), ..FinalReport::default() };
    job.event(Event::TaskFinished { task: task(0, 0, 0), report: Box::new(report) });
    assert!(job.take().contains(&Action::Abort { id: id(1), tasks: vec![task(1, 0, 0)] }));
    assert_eq!(job.coordinator.latest(), None);
}

#[test]
fn a_pointer_goes_before_the_files_and_not_while_it_is_a_base() {
    let mut job =
        Job::running(Settings { concurrent_max: NonZeroU32::new(2).unwrap(), ..every_second() });
    job.at(1_000).ack_all(1);
    job.at(2_000); // Based on the first.
    job.at(3_000);
    job.ask(savepoint());
    job.take();
    job.ack_all(2);
    let discards = |job: &mut Job| {
        let actions = job.take().into_iter();
        actions
            .filter(|action| matches!(action, Action::Discard(_) | Action::Delete { .. }))
            .collect()
    };
    let none: Vec<Action> = discards(&mut job);
    assert_eq!(none, [], "the third may use files of the first");
    job.ack_all(3);
    let due: Vec<Action> = discards(&mut job);
    assert_eq!(due, [Action::Discard(id(1)), Action::Discard(id(2))]);
    job.event(Event::NotDiscarded(id(2)));
    job.event(Event::Discarded(id(1)));
    let deleted: Vec<Action> = discards(&mut job);
    let files = vec!["file-1".to_owned()];
    assert_eq!(deleted, [Action::Delete { checkpoint: Some(id(1)), files }]);
    job.at(4_000);
    let again: Vec<Action> = discards(&mut job);
    assert_eq!(again, [Action::Discard(id(2))]);
}

#[test]
fn committers_that_are_behind_stop_new_checkpoints() {
    let mut job = Job::running(Settings { uncommitted_max: 0, ..every_second() });
    job.at(1_000).ack(1, task(0, 0, 0), &[]);
    let ack = Ack { committables: vec![committables(task(1, 0, 0), 1)], ..Ack::default() };
    job.event(Event::Acknowledged { id: id(1), task: task(1, 0, 0), ack: Box::new(ack) });
    job.take();
    assert_eq!(job.at(5_000).triggered(), []);
    let status = job.coordinator.status(job.time.now().instant);
    assert_eq!(status.blocked, Some(Blocked::Uncommitted { count: 1, max: 0 }));
    job.event(Event::Committed(CommitId::FIRST.next()));
    assert_eq!(job.triggered(), [(2, Kind::Checkpoint)]);
}

#[test]
fn a_new_coordinator_goes_on_above_every_known_id_and_commits_what_is_not_confirmed() {
    let mut job = Job::running(every_second());
    job.at(1_000).ack(1, task(0, 0, 0), &[]);
    let one = committables(task(1, 0, 0), 1);
    let ack = Box::new(Ack { committables: vec![one.clone()], ..Ack::default() });
    job.event(Event::Acknowledged { id: id(1), task: task(1, 0, 0), ack });
    let completed = job.coordinator.retained().cloned().collect();
    let known = Known { last_id: Some(id(8)), completed, has_ended: false };
    job.coordinator = Coordinator::new(every_second(), plan(&[1, 1], false), known);
    job.take();
    job.event(Event::Restarting { attempt: 1 });
    job.event(Event::CoordinatorHostReady);
    let commit = CommitId::FIRST;
    let (checkpoint, committables) = (id(1), vec![one]);
    assert_eq!(
        job.take(),
        [
            Action::Restore { from: Some(id(1)), finished: Vec::new() },
            Action::Commit { commit, checkpoint, recover: true, committables }
        ]
    );
    job.run(1);
    assert_eq!(job.at(2_000).triggered(), [(9, Kind::Checkpoint)]);
}

#[test]
fn coordinators_have_their_snapshots_before_the_trigger() {
    let mut job = Job::running(every_second());
    let plan = plan(&[1, 1], true);
    job.coordinator = Coordinator::new(every_second(), plan, Known::default());
    job.event(Event::Restarting { attempt: 0 });
    job.event(Event::CoordinatorHostReady);
    job.run(0);
    job.at(1_000);
    let operators = vec![operator_id(0)];
    let asked = Action::SnapshotCoordinators { id: id(1), operators };
    assert_eq!(job.take().last(), Some(&asked));
    let states = vec![(operator_id(0), vec![7])];
    job.event(Event::CoordinatorsSnapshot { id: id(1), states });
    assert_eq!(job.triggered(), [(1, Kind::Checkpoint)]);
    job.ack_all(1);
    let latest: &Metadata = &job.coordinator.latest().expect("it is complete").metadata;
    assert_eq!(latest.operators[0].coordinator, Some(vec![7]));
    job.at(2_000).event(Event::CoordinatorHostLost);
    assert_eq!(job.take().last(), Some(&Action::Abort { id: id(2), tasks: Vec::new() }));
}

#[test]
fn requests_that_cannot_be_served_are_refused_at_once() {
    let mut job = Job::running(every_second());
    job.event(Event::TaskFailed(task(0, 0, 0)));
    job.ask(savepoint());
    let why = "1 of 2 tasks run or have finished: checkpoints need all of them";
    assert_eq!(job.answers(), [Answer::Failed(why.to_owned())]);
    assert_eq!(job.coordinator.last_id(), CheckpointId::new(0));
}
