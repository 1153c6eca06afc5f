//! Tests of coordinator hosts that are replaced while the tasks run on.

use std::time::Duration;

use millstream_graph::Partitioner;
use millstream_protocol::host::{
    CheckpointAck, Committed, CoordinatorSnapshot, Execution, TaskId, from_host,
};
use millstream_types::JobStatus;

use super::*;
use crate::config::JobMasterConfig;
use crate::master::Action;
use crate::master::fixture::{
    Job, commands, coordinated, failure, operator_id, vertex_id, with_restarts,
};
use crate::timer::TimerKind;

/// A job of two regions that takes checkpoints and runs, each region on a TaskManager of its own.
fn running(restarts_alone: bool) -> Job {
    let mut graph = coordinated(2);
    graph.edges[0].partitioner = Partitioner::Forward;
    graph.vertices[0].operators[0].restarts_alone = restarts_alone;
    let mut config = JobMasterConfig::default();
    config.checkpointing.settings.interval = Some(Duration::from_secs(1));
    let mut job = Job::with_config(with_restarts(graph, 3), &config);
    job.start();
    job.grant(&[("tm1", 0), ("tm2", 0)]);
    for worker in ["tm1", "tm2"] {
        job.ready(worker);
    }
    let actions = job.ready("coordinators");
    recovers(&mut job, &actions);
    job.all_report(Execution::Initializing);
    job.all_report(Execution::Running);
    job
}

/// The committers do as they are told.
fn recovers(job: &mut Job, actions: &[Action]) {
    for (host, message) in commands(actions) {
        if let to_host::Message::CommitCheckpoint(order) = message {
            let committed = Committed { commit: order.commit };
            job.says(host, from_host::Message::Committed(committed));
        }
    }
}

fn killed() -> FailureCause {
    FailureCause::new(CauseKind::Signal, "killed by signal 9")
}

/// The coordinator host dies, and the pause of the restart strategy passes.
fn dies(job: &mut Job) -> Vec<Action> {
    let actions = job.exits(job.host("coordinators"), killed(), "");
    assert!(asked(&actions).is_empty(), "the pause is not over");
    job.time_out(TimerKind::Restart)
}

fn task(vertex: usize, subtask: u32) -> TaskId {
    TaskId { vertex: vertex_id(vertex).as_bytes().to_vec(), subtask, attempt: 0 }
}

fn event(subtask: u32, payload: Vec<u8>) -> OperatorEvent {
    let operator_id = operator_id(0).as_bytes().to_vec();
    OperatorEvent { operator_id, subtask, payload, hands_out: false }
}

fn handed(subtask: u32, payload: Vec<u8>) -> HandedEvent {
    HandedEvent { operator_id: operator_id(0).as_bytes().to_vec(), subtask, after: 0, payload }
}

/// The report of the host that runs a subtask of the source.
fn report(
    instance: u64,
    subtask: u32,
    ended: bool,
    events: Vec<HandedEvent>,
) -> from_host::Message {
    let tasks = vec![TaskHanded { task: Some(task(0, subtask)), ended, events }];
    from_host::Message::HandedOut(HandedOut { instance, tasks, last: true })
}

/// The hosts that are asked for reports, with what they are asked.
fn asked(actions: &[Action]) -> Vec<(HostId, ReportHandedOut)> {
    let asked = commands(actions).into_iter().filter_map(|(host, message)| match message {
        to_host::Message::ReportHandedOut(asked) => Some((host, asked)),
        _ => None,
    });
    asked.collect()
}

fn told(actions: &[Action]) -> Vec<(HostId, TakeOver)> {
    let told = commands(actions).into_iter().filter_map(|(host, message)| match message {
        to_host::Message::TakeOver(before) => Some((host, before)),
        _ => None,
    });
    told.collect()
}

fn events(actions: &[Action]) -> Vec<(HostId, OperatorEvent)> {
    let events = commands(actions).into_iter().filter_map(|(host, message)| match message {
        to_host::Message::OperatorEvent(event) => Some((host, event)),
        _ => None,
    });
    events.collect()
}

fn cancels(actions: &[Action]) -> usize {
    let told = commands(actions);
    told.iter().filter(|(_, message)| matches!(message, to_host::Message::Cancel(_))).count()
}

/// Takes a checkpoint and returns its number.
fn take_checkpoint(job: &mut Job) -> u64 {
    let actions = job.time_out(TimerKind::Checkpoint);
    complete(job, &actions).expect("a checkpoint is due")
}

/// Takes the checkpoint that is started by these actions, if one is.
fn complete(job: &mut Job, actions: &[Action]) -> Option<u64> {
    let coordinator = job.host("coordinators");
    let asked = commands(actions).into_iter().find_map(|(_, message)| match message {
        to_host::Message::SnapshotCoordinators(asked) => Some(asked),
        _ => None,
    });
    let checkpoint = asked?.checkpoint;
    job.says(
        coordinator,
        from_host::Message::CoordinatorSnapshot(CoordinatorSnapshot {
            checkpoint,
            operator_id: operator_id(0).as_bytes().to_vec(),
            state: vec![checkpoint as u8],
            failure: None,
        }),
    );
    for (host, subtask) in [(job.host("tm1"), 0), (job.host("tm2"), 1)] {
        for vertex in [0, 1] {
            let task = Some(task(vertex, subtask));
            let ack = CheckpointAck { task, checkpoint, ..CheckpointAck::default() };
            job.says(host, from_host::Message::CheckpointAck(ack));
        }
    }
    Some(checkpoint)
}

fn attempts(job: &Job) -> Vec<u32> {
    let vertices = job.details().vertices.into_iter();
    vertices.flat_map(|it| it.subtasks.iter().map(|one| one.attempt).collect::<Vec<_>>()).collect()
}

#[test]
fn tasks_run_on_while_another_coordinator_host_takes_over() {
    let mut job = running(true);
    let checkpoint = take_checkpoint(&mut job);
    let (tm1, tm2, old) = (job.host("tm1"), job.host("tm2"), job.host("coordinators"));
    let actions = dies(&mut job);
    let question = ReportHandedOut { instance: 1, from: checkpoint };
    assert_eq!(asked(&actions), [(tm1, question), (tm2, question)]);
    let new = job.host("coordinators");
    assert_ne!(new, old, "another one is started");
    let begin = &job.started.last().unwrap().1.begin;
    let states = &begin.checkpointing.as_ref().unwrap().coordinators;
    assert_eq!(states[0].state, [checkpoint as u8], "it begins from the checkpoint");

    // What readers say before their report they repeat; what they say behind it waits.
    let say = |subtask, payload| from_host::Message::OperatorEvent(event(subtask, payload));
    assert!(events(&job.says(tm1, say(0, vec![1]))).is_empty());
    assert!(told(&job.says(tm1, report(1, 0, false, vec![handed(0, vec![7])]))).is_empty());
    assert!(events(&job.says(tm1, say(0, vec![2]))).is_empty());
    let actions = job.ready("coordinators");
    assert!(commands(&actions).is_empty(), "not all readers have reported: {actions:?}");
    // An event of the old one that was late is for no one.
    assert!(events(&job.says(old, say(0, vec![3]))).is_empty(), "of the old one");
    let actions = job.says(tm2, report(1, 1, true, vec![handed(1, vec![8])]));
    let [(to, before)] = &told(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!((*to, before.from, before.newest), (new, checkpoint, checkpoint));
    assert_eq!(before.events, [handed(0, vec![7]), handed(1, vec![8])]);
    let operator = operator_id(0).as_bytes().to_vec();
    assert_eq!(before.ended, [OperatorSubtasks { operator_id: operator, subtasks: vec![1] }]);
    assert_eq!(events(&actions), [(new, event(0, vec![2]))]);
    let order = commands(&actions).into_iter().map(|(_, message)| message);
    let is_take_over = |it: &to_host::Message| matches!(it, to_host::Message::TakeOver(_));
    assert_eq!(order.into_iter().position(|it| is_take_over(&it)), Some(0), "ahead of all else");
    recovers(&mut job, &actions);

    assert_eq!((job.status(), attempts(&job)), (JobStatus::Running, vec![0; 4]));
    // One was due meanwhile.
    assert!(complete(&mut job, &actions).is_some_and(|next| next > checkpoint));
    assert_eq!(events(&job.says(tm1, say(0, vec![4]))), [(new, event(0, vec![4]))]);
}

#[test]
fn a_checkpoint_in_flight_is_aborted_and_none_starts_during_a_takeover() {
    let mut job = running(true);
    let actions = job.time_out(TimerKind::Checkpoint);
    let asks = |actions: &[Action]| {
        let told = commands(actions);
        told.iter().any(|(_, it)| matches!(it, to_host::Message::SnapshotCoordinators(_)))
    };
    assert!(asks(&actions));
    dies(&mut job);
    for _ in 0..3 {
        assert!(!asks(&job.time_out(TimerKind::Checkpoint)), "readers have not reported");
    }
    let actions = job.ready("coordinators");
    recovers(&mut job, &actions);
    assert!(!asks(&job.time_out(TimerKind::Checkpoint)));
    let (tm1, tm2) = (job.host("tm1"), job.host("tm2"));
    job.says(tm1, report(1, 0, false, Vec::new()));
    let actions = job.says(tm2, report(1, 1, false, Vec::new()));
    assert_eq!(told(&actions).len(), 1);
    recovers(&mut job, &actions);
    assert!(asks(&actions) || asks(&job.time_out(TimerKind::Checkpoint)), "the next one starts");
    assert_eq!((job.status(), attempts(&job)), (JobStatus::Running, vec![0; 4]));
}

#[test]
fn one_that_dies_on_its_way_is_replaced_and_reports_for_it_do_not_count() {
    let mut job = running(true);
    let (tm1, tm2) = (job.host("tm1"), job.host("tm2"));
    dies(&mut job);
    job.says(tm1, report(1, 0, false, vec![handed(0, vec![7])]));
    let actions = dies(&mut job);
    assert_eq!(asked(&actions).len(), 2);
    assert_eq!(asked(&actions)[0].1.instance, 2);
    job.ready("coordinators");
    assert!(told(&job.says(tm2, report(1, 1, false, Vec::new()))).is_empty(), "for the second");
    job.says(tm1, report(2, 0, false, vec![handed(0, vec![7])]));
    let actions = job.says(tm2, report(2, 1, false, Vec::new()));
    let [(to, before)] = &told(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!((*to, before.events.len()), (job.host("coordinators"), 1));
    assert_eq!((job.status(), attempts(&job)), (JobStatus::Running, vec![0; 4]));
}

#[test]
fn a_task_that_fails_during_a_takeover_restarts_all() {
    let mut job = running(true);
    dies(&mut job);
    job.ready("coordinators");
    let actions = job.reports((0, 0), Execution::Failed, Some(failure("error", "no")));
    assert_eq!((job.status(), cancels(&actions)), (JobStatus::Restarting, 2));
    let (tm1, tm2) = (job.host("tm1"), job.host("tm2"));
    assert!(told(&job.says(tm1, report(1, 0, false, Vec::new()))).is_empty());
    assert!(told(&job.says(tm2, report(1, 1, false, Vec::new()))).is_empty());
}

#[test]
fn what_a_lost_process_would_have_reported_restarts_all() {
    let mut job = running(true);
    let tm2 = job.host("tm2");
    for vertex in [0, 1] {
        job.reports((vertex, 1), Execution::Finished, None);
    }
    job.exits(tm2, killed(), "");
    assert_eq!(job.status(), JobStatus::Running, "nothing ran in it");
    let actions = dies(&mut job);
    assert!(asked(&actions).len() <= 1);
    let tm1 = job.host("tm1");
    job.says(tm1, report(1, 0, false, Vec::new()));
    assert_eq!(job.status(), JobStatus::Restarting);
    assert!(job.causes().iter().any(|it| it.contains("in which a source had finished")));
}

#[test]
fn sources_that_do_not_say_that_they_can_restart_their_tasks() {
    let mut job = running(false);
    let actions = job.exits(job.host("coordinators"), killed(), "");
    assert_eq!((asked(&actions).len(), cancels(&actions)), (0, 2));
    assert_eq!(job.status(), JobStatus::Restarting);
}

#[test]
fn committers_recover_though_a_takeover_is_given_up() {
    let mut job = running(true);
    dies(&mut job);
    assert!(commands(&job.ready("coordinators")).is_empty());
    let actions = job.news(millstream_gateway::JobMasterEvent::Cancel);
    let recovers =
        |it: &to_host::Message| matches!(it, to_host::Message::CommitCheckpoint(it) if it.recover);
    assert!(commands(&actions).iter().any(|(_, it)| recovers(it)), "{actions:?}");
    assert_eq!(job.status(), JobStatus::Cancelling);
}

#[test]
fn a_task_that_fails_in_the_pause_restarts_all() {
    let mut job = running(true);
    job.exits(job.host("coordinators"), killed(), "");
    let hosts = job.started.len();
    let actions = job.reports((0, 0), Execution::Failed, Some(failure("error", "no")));
    assert_eq!((job.status(), cancels(&actions)), (JobStatus::Restarting, 2));
    assert_eq!(job.started.len(), hosts, "nothing is taken over");
}

#[test]
fn committers_do_not_wait_for_the_pause_when_all_tasks_have_finished() {
    let mut job = running(true);
    let hosts = job.started.len();
    job.exits(job.host("coordinators"), killed(), "");
    assert_eq!(job.started.len(), hosts);
    let actions = job.all_report(Execution::Finished);
    assert_eq!((job.started.len(), asked(&actions).len()), (hosts + 1, 0));
    let recovers =
        |it: &to_host::Message| matches!(it, to_host::Message::CommitCheckpoint(it) if it.recover);
    assert!(commands(&job.ready("coordinators")).iter().any(|(_, it)| recovers(it)));
}
