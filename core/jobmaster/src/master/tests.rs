//! One behaviour of a job per test, by events and actions.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_gateway::{CauseKind, FailureCause, JobMasterEvent};
use millstream_protocol::host::{
    Alive, Execution, Hello, Metrics, OperatorEvent, Settled, TaskId, TaskMetrics, TaskState,
    from_host, to_host,
};
use millstream_types::{ExecutionState, JobStatus};

use super::fixture::{
    Job, commands, coordinated, declared, deployments, ends, failure, graph, operator_id, pipeline,
    released, stops, vertex_id, with_restarts,
};
use super::{Action, TimerKind};
use crate::config::{JobMasterConfig, SchedulingStrategy};

fn killed() -> FailureCause {
    FailureCause::new(CauseKind::Signal, "the task host was killed by signal 9 (SIGKILL)")
}

fn settled() -> from_host::Message {
    from_host::Message::Settled(Settled { failure: None })
}

fn is_abort((_, message): &(millstream_types::HostId, to_host::Message)) -> bool {
    matches!(message, to_host::Message::Abort(_))
}

// --- slots and hosts ---

#[test]
fn a_job_declares_the_widest_vertex_of_each_group() {
    let mut job = Job::new(graph(&[("A", 2, "x"), ("B", 4, "x"), ("C", 3, "y")]));
    assert_eq!(declared(&job.start()), Some(7));
    assert_eq!(job.status(), JobStatus::Running);
    assert_eq!(job.state((0, 0)), ExecutionState::Scheduled);
}

#[test]
fn a_job_says_what_it_waits_for() {
    let mut job = Job::new(pipeline(4));
    job.start();
    job.grant(&[("tm1", 0), ("tm1", 1)]);
    assert_eq!(job.details().waiting_for.as_deref(), Some("2 of 4 slots"));
    let sentence = "the cluster has 2 in all, all taken".to_owned();
    let actions = job.news(JobMasterEvent::NotEnoughSlots(sentence));
    assert!(matches!(actions.as_slice(), [Action::Publish]));
    assert_eq!(
        job.details().waiting_for.as_deref(),
        Some("2 of 4 slots: the cluster has 2 in all, all taken")
    );
    job.news(JobMasterEvent::EnoughSlots);
    assert_eq!(job.details().waiting_for.as_deref(), Some("2 of 4 slots"));
}

#[test]
fn slots_that_do_not_come_fail_the_job_with_numbers() {
    let mut job = Job::new(pipeline(4));
    job.start();
    job.grant(&[("tm1", 0), ("tm1", 1)]);
    job.news(JobMasterEvent::NotEnoughSlots("the cluster has 2 in all".to_owned()));
    let actions = job.time_out(TimerKind::SlotRequest);
    assert_eq!(job.status(), JobStatus::Failed);
    assert_eq!(
        job.causes(),
        ["the job needs 4 slots and got 2 within 300s: the cluster has 2 in all"]
    );
    assert_eq!(job.details().exceptions[0].cause.kind, CauseKind::NoSlots);
    assert_eq!((released(&actions).len(), declared(&actions)), (2, Some(0)));
    assert!(ends(&actions));
}

#[test]
fn each_worker_gets_one_host_for_all_slots_of_the_job() {
    let mut job = Job::new(coordinated(3));
    job.start();
    assert!(
        job.grant(&[("tm2", 5), ("tm1", 1)]).iter().all(|a| !matches!(a, Action::StartHost(..)))
    );
    job.grant(&[("tm1", 0)]);
    let started: Vec<_> =
        job.started.iter().map(|(on, start)| (on.as_str(), start.slots.clone())).collect();
    assert_eq!(started, [("tm1", vec![0, 1]), ("tm2", vec![5]), ("coordinators", vec![])]);
    let begins: Vec<_> = job.started.iter().map(|(_, start)| &start.begin).collect();
    assert_eq!(begins[0].exchange_token, begins[1].exchange_token);
    assert_eq!(begins[0].exchange_token.len(), 32);
    assert!(begins[2].exchange_token.is_empty());
    assert!(begins.iter().all(|begin| begin.attempt == 0 && begin.job_graph.is_some()));
}

#[test]
fn tasks_are_deployed_once_every_host_is_ready() {
    let mut job = Job::new(coordinated(2));
    job.start();
    job.grant(&[("tm1", 3), ("tm2", 0)]);
    assert_eq!(job.state((1, 1)), ExecutionState::Deploying);
    assert!(commands(&job.ready("tm2")).is_empty());
    assert!(commands(&job.ready("tm1")).is_empty());
    let deployments = deployments(&job.ready("coordinators"));
    assert_eq!(deployments.len(), 2);
    let deploy = &deployments[&job.host("tm1")];
    let peers: Vec<_> = deploy.peers.iter().map(|peer| peer.data_address.as_str()).collect();
    assert_eq!(peers, ["tm1:1", "tm2:1"]);
    assert_eq!(deploy.placements.len(), 4);
    let tasks: Vec<_> =
        deploy.tasks.iter().map(|task| (task.vertex.clone(), task.subtask, task.slot)).collect();
    let id = |at| vertex_id(at).as_bytes().to_vec();
    assert_eq!(tasks, [(id(0), 0, 3), (id(1), 0, 3)]);
}

#[test]
fn groups_have_slots_of_their_own_and_equal_numbers_are_neighbours() {
    let mut job = Job::new(graph(&[("A", 2, "x"), ("B", 2, "y")]));
    job.start();
    job.grant(&[("tm1", 0), ("tm1", 1), ("tm2", 0), ("tm2", 1)]);
    let details = job.details();
    let worker = |vertex: usize, subtask: usize| {
        let place =
            details.vertices[vertex].subtasks.get(subtask).unwrap().location.clone().unwrap();
        place.task_manager.to_string()
    };
    assert_eq!([worker(0, 0), worker(1, 0)], ["tm1", "tm1"]);
    assert_eq!([worker(0, 1), worker(1, 1)], ["tm2", "tm2"]);
}

#[test]
fn a_host_that_does_not_get_ready_fails_the_job() {
    let mut job = Job::new(pipeline(2));
    job.start();
    job.grant(&[("tm1", 0), ("tm2", 0)]);
    job.ready("tm1");
    assert_eq!(job.details().waiting_for.as_deref(), Some("1 of 2 processes to start"));
    job.time_out(TimerKind::HostStart);
    assert_eq!(job.causes(), ["the task host on TaskManager tm2 was not ready within 30s"]);
    job.obeys("tm1");
    let host = job.host("tm2");
    job.exits(host, FailureCause::new(CauseKind::Requested, "was told to end"), "a\nno memory\n");
    assert_eq!(
        job.causes(),
        ["the task host on TaskManager tm2 was not ready within 30s: the last that it wrote is: \
          no memory"]
    );
    assert_eq!(job.status(), JobStatus::Failed);
}

#[test]
fn surplus_slots_go_back() {
    let mut job = Job::new(pipeline(1));
    job.start();
    assert_eq!(released(&job.grant(&[("tm1", 0), ("tm1", 1)])).len(), 1);
}

#[test]
fn lazy_scheduling_deploys_a_vertex_once_its_producers_run() {
    let config = JobMasterConfig {
        scheduling: Some(SchedulingStrategy::LazyFromSource),
        ..JobMasterConfig::default()
    };
    let mut job = Job::with_config(pipeline(2), &config);
    job.start();
    job.grant(&[("tm1", 0), ("tm2", 0)]);
    assert_eq!(job.state((1, 0)), ExecutionState::Created);
    job.ready("tm1");
    let first = deployments(&job.ready("tm2"));
    assert_eq!(first.len(), 2);
    assert!(first.values().all(|deploy| deploy.tasks.len() == 1 && deploy.placements.len() == 4));
    assert!(deployments(&job.reports((0, 0), Execution::Running, None)).is_empty());
    let second = deployments(&job.reports((0, 1), Execution::Running, None));
    assert_eq!(second.len(), 2);
    assert!(second.values().all(|deploy| deploy.tasks.len() == 1));
    assert_eq!(job.state((1, 0)), ExecutionState::Deploying);
}

#[test]
fn a_setting_that_cannot_be_read_fails_the_job_at_once() {
    let mut graph = pipeline(1);
    graph.settings.config.insert("restart-strategy.type".into(), "pray".into());
    let mut job = Job::new(graph);
    assert!(ends(&job.start()));
    assert_eq!(job.status(), JobStatus::Failed);
    assert!(job.causes()[0].contains("restart-strategy.type"), "{:?}", job.causes());
}

// --- the good end ---

#[test]
fn a_finished_job_publishes_then_stops_its_hosts_then_ends() {
    let mut job = Job::running_on(coordinated(1), &[("tm1", 0)]);
    job.reports((0, 0), Execution::Finished, None);
    let actions = job.reports((1, 0), Execution::Finished, None);
    let coordinator = job.host("coordinators");
    let commands = commands(&actions);
    assert_eq!(commands.len(), 1);
    assert!(commands[0].0 == coordinator && matches!(commands[0].1, to_host::Message::Commit(_)));
    let actions = job.says(coordinator, settled());
    assert_eq!(stops(&actions).len(), 2);
    assert_eq!(job.status(), JobStatus::Running);
    assert!(!ends(&job.obeys("tm1")));
    let actions = job.obeys("coordinators");
    assert_eq!(job.status(), JobStatus::Finished);
    assert_eq!(released(&actions).len(), 1);
    assert!(matches!(
        actions.as_slice(),
        [.., Action::ReleaseSlots(_), Action::Publish, Action::End]
    ));
    assert_eq!(job.details().end_time, Some(job.now));
}

#[test]
fn a_job_without_coordinator_has_nothing_to_publish() {
    let mut job = Job::running_on(pipeline(1), &[("tm1", 0)]);
    let actions = job.all_report(Execution::Finished);
    assert!(commands(&actions).is_empty());
    assert_eq!(stops(&actions).len(), 1);
    job.obeys("tm1");
    assert_eq!(job.status(), JobStatus::Finished);
}

#[test]
fn a_failed_commit_fails_the_job_although_it_may_restart() {
    let mut job = Job::running_on(with_restarts(coordinated(1), 3), &[("tm1", 0)]);
    job.all_report(Execution::Finished);
    let coordinator = job.host("coordinators");
    let failed = Settled { failure: Some(failure("error", "no space left on device")) };
    let actions = job.says(coordinator, from_host::Message::Settled(failed));
    assert_eq!(job.status(), JobStatus::Failing);
    assert_eq!(job.details().exceptions[0].cause.kind, CauseKind::Commit);
    assert!(commands(&actions).iter().any(is_abort));
}

#[test]
fn a_task_host_is_not_missed_once_its_tasks_have_finished() {
    let mut job = Job::running_on(coordinated(1), &[("tm1", 0)]);
    job.all_report(Execution::Finished);
    job.loses("tm1");
    let coordinator = job.host("coordinators");
    job.says(coordinator, settled());
    let actions = job.obeys("coordinators");
    assert_eq!(job.status(), JobStatus::Finished);
    assert!(released(&actions).is_empty(), "the slot is lost, not given back");
}

// --- failures ---

#[test]
fn a_storage_that_is_away_costs_one_attempt_however_often_it_is_tried() {
    let mut job = Job::running_on(with_restarts(pipeline(1), 2), &[("tm1", 0)]);
    let fail = |job: &mut Job, kind: &str| {
        job.reports((0, 0), Execution::Failed, Some(failure(kind, "it is in safe mode")));
        job.all_report(Execution::Canceled);
        job.obeys("tm1");
        if job.status() == JobStatus::Restarting {
            let before = job.started.len();
            job.time_out(TimerKind::Restart);
            job.run_hosts(before);
        }
    };
    for round in 1..6 {
        fail(&mut job, "storage");
        assert_eq!(job.details().restarts, round, "{:?}", job.causes());
        assert_eq!(job.details().exceptions[0].cause.kind, CauseKind::Storage);
    }
    // The outage cost the first of two, and user code costs the second.
    fail(&mut job, "error");
    assert_eq!(job.details().restarts, 6);
    fail(&mut job, "error");
    assert_eq!(job.status(), JobStatus::Failed);
}

#[test]
fn a_panic_fails_the_job_with_task_and_place() {
    let mut job = Job::running_on(coordinated(2), &[("tm1", 0), ("tm2", 0)]);
    let actions = job.reports((1, 1), Execution::Failed, Some(failure("panic", "boom")));
    assert_eq!(job.status(), JobStatus::Failing);
    assert_eq!(commands(&actions).len(), 2, "Cancel to both task hosts");
    let entry = job.details().exceptions[0].clone();
    assert_eq!(entry.task.as_deref(), Some("Sink (2/2)"));
    assert_eq!(entry.cause.kind, CauseKind::Panic);
    assert_eq!(entry.location.unwrap().task_manager.as_str(), "tm2");
    assert_eq!(job.state((1, 1)), ExecutionState::Failed);
    assert_eq!(job.state((0, 0)), ExecutionState::Canceling);
    assert_eq!(job.details().waiting_for.as_deref(), Some("3 tasks to stop"));
    let actions = job.all_report(Execution::Canceled);
    let coordinator = job.host("coordinators");
    assert!(commands(&actions).iter().any(is_abort));
    let actions = job.says(coordinator, settled());
    assert_eq!(stops(&actions).len(), 3);
    for worker in ["tm1", "tm2", "coordinators"] {
        job.obeys(worker);
    }
    assert_eq!(job.status(), JobStatus::Failed);
    assert_eq!(job.causes(), ["boom"]);
}

#[test]
fn a_host_that_dies_fails_its_tasks_with_its_cause() {
    let mut job = Job::running_on(pipeline(2), &[("tm1", 0), ("tm2", 0)]);
    let host = job.host("tm1");
    job.exits(host, killed(), "Killed");
    let entry = job.details().exceptions[0].clone();
    assert_eq!(entry.cause.message, killed().message);
    assert!(entry.cause.detail.ends_with("Killed"), "{}", entry.cause.detail);
    assert_eq!(entry.location.unwrap().host, host);
    assert!(entry.task.unwrap().starts_with("one of "), "it is not known which of them it was");
    assert_eq!(job.state((0, 0)), ExecutionState::Failed);
    assert_eq!(job.state((0, 1)), ExecutionState::Canceling);
}

#[test]
fn a_broken_exchange_does_not_hide_the_death_that_broke_it() {
    let mut job = Job::running_on(pipeline(2), &[("tm1", 0), ("tm2", 0)]);
    let actions =
        job.reports((1, 1), Execution::Failed, Some(failure("exchange", "connection reset")));
    assert!(commands(&actions).is_empty());
    assert_eq!(job.status(), JobStatus::Running);
    let host = job.host("tm1");
    job.exits(host, killed(), "");
    assert_eq!(job.causes(), [killed().message]);
    let held =
        job.timers.iter().find(|(timer, _)| timer.kind == TimerKind::ExchangeHold).unwrap().0;
    assert!(job.event(super::Event::Timer(held)).is_empty(), "nothing is held any more");
}

#[test]
fn a_broken_exchange_that_nothing_explains_is_the_cause_itself() {
    let mut job = Job::running_on(pipeline(2), &[("tm1", 0), ("tm2", 0)]);
    job.reports((1, 1), Execution::Failed, Some(failure("exchange", "connection reset")));
    job.time_out(TimerKind::ExchangeHold);
    assert_eq!(job.status(), JobStatus::Failing);
    assert_eq!(job.causes(), ["connection reset"]);
    assert_eq!(job.details().exceptions[0].task.as_deref(), Some("Sink (2/2)"));
}

#[test]
fn a_peer_whose_tasks_were_done_explains_a_broken_exchange_too() {
    let mut job =
        Job::running_on(graph(&[("A", 1, "x"), ("B", 1, "y")]), &[("tm1", 0), ("tm2", 0)]);
    job.reports((0, 0), Execution::Finished, None);
    let host = job.host("tm1");
    job.exits(host, killed(), "");
    assert_eq!(job.status(), JobStatus::Running, "its output may have arrived");
    job.reports((1, 0), Execution::Failed, Some(failure("exchange", "connection reset")));
    assert_eq!(job.causes(), [killed().message]);
}

#[test]
fn a_host_that_says_why_it_cannot_go_on_is_believed() {
    let mut job = Job::new(pipeline(1));
    job.start();
    job.grant(&[("tm1", 0)]);
    let host = job.host("tm1");
    job.says(host, from_host::Message::Failure(failure("fingerprint", "operator 3 differs")));
    assert_eq!(job.details().exceptions[0].cause.kind, CauseKind::Mismatch);
    job.exits(host, FailureCause::new(CauseKind::Exit, "exited with code 1"), "");
    assert_eq!(job.status(), JobStatus::Failed);
    assert_eq!(job.causes(), ["operator 3 differs"]);
}

#[test]
fn a_build_function_that_fails_in_a_host_is_no_tasks_fault() {
    let mut job = Job::new(graph(&[("Only", 1, "x")]));
    job.start();
    job.grant(&[("tm1", 0)]);
    let host = job.host("tm1");
    job.says(host, from_host::Message::Failure(failure("panic", "boom")));
    let entry = job.details().exceptions[0].clone();
    assert_eq!((entry.cause.message.as_str(), entry.task), ("boom", None));
    assert_eq!(entry.location.unwrap().host, host);
    let mut job = Job::running_on(graph(&[("Only", 1, "x")]), &[("tm1", 0)]);
    let host = job.host("tm1");
    job.exits(host, killed(), "");
    let task = job.details().exceptions[0].task.clone();
    assert_eq!(task.as_deref(), Some("Only (1/1)"), "the one that ran there");
}

#[test]
fn an_artifact_of_another_protocol_is_refused_with_both_versions() {
    let mut job = Job::new(pipeline(1));
    job.start();
    job.grant(&[("tm1", 0)]);
    let host = job.host("tm1");
    job.says(host, from_host::Message::Hello(Hello { major: 9, minor: 2, ..Hello::default() }));
    let cause = job.causes().remove(0);
    let ours = format!("cluster {}", millstream_protocol::HOST_PROTOCOL);
    assert!(cause.contains("version 9.2") && cause.contains(&ours), "{cause}");
}

#[test]
fn a_dead_coordinator_host_fails_the_job_and_a_fresh_one_discards_its_output() {
    let mut job = Job::running_on(coordinated(1), &[("tm1", 0)]);
    let dead = job.host("coordinators");
    job.exits(dead, killed(), "");
    assert_eq!(job.status(), JobStatus::Failing);
    job.all_report(Execution::Canceled);
    let fresh = job.host("coordinators");
    assert_ne!(fresh, dead);
    let actions = job.ready("coordinators");
    assert!(
        matches!(commands(&actions).as_slice(), [(to, to_host::Message::Abort(_))] if *to == fresh)
    );
    assert_eq!(stops(&job.says(fresh, settled())).len(), 2);
    job.obeys("coordinators");
    job.obeys("tm1");
    assert_eq!(job.status(), JobStatus::Failed);
    assert_eq!(job.causes(), [killed().message]);
}

#[test]
fn a_coordinator_host_that_starts_while_the_job_fails_discards_what_it_opened() {
    let mut job = Job::new(coordinated(1));
    job.start();
    job.grant(&[("tm1", 0)]);
    let (task_host, coordinators) = (job.host("tm1"), job.host("coordinators"));
    let actions = job.exits(task_host, killed(), "");
    assert!(stops(&actions).is_empty(), "it may be making what it must remove");
    let actions = job.ready("coordinators");
    let abort = commands(&actions);
    assert!(matches!(abort.as_slice(), [(to, to_host::Message::Abort(_))] if *to == coordinators));
    assert_eq!(stops(&job.says(coordinators, settled())).len(), 1);
    job.obeys("coordinators");
    assert_eq!(job.status(), JobStatus::Failed);
    assert_eq!(job.causes(), [killed().message]);
}

#[test]
fn a_coordinator_host_that_never_got_ready_has_nothing_to_discard() {
    let mut job = Job::new(coordinated(1));
    job.start();
    job.grant(&[("tm1", 0)]);
    let host = job.host("coordinators");
    job.exits(host, killed(), "");
    job.obeys("tm1");
    assert_eq!(job.status(), JobStatus::Failed);
    assert_eq!(job.causes(), [killed().message]);
}

#[test]
fn a_job_ends_even_if_nobody_can_discard_its_output() {
    let mut job = Job::running_on(coordinated(1), &[("tm1", 0)]);
    let host = job.host("coordinators");
    job.exits(host, killed(), "");
    job.all_report(Execution::Canceled);
    job.time_out(TimerKind::Abort);
    job.obeys("coordinators");
    job.obeys("tm1");
    assert_eq!(job.status(), JobStatus::Failed);
    assert_eq!(job.causes().len(), 2);
    assert_eq!(job.causes()[0], killed().message, "the reason comes first");
}

#[test]
fn a_lost_worker_is_told_nothing_and_gets_no_slot_back() {
    let mut job = Job::running_on(pipeline(2), &[("tm1", 0), ("tm2", 0)]);
    let dead = job.host("tm1");
    let mut actions = job.loses("tm1");
    assert_eq!(job.causes(), ["TaskManager tm1 died"]);
    actions.extend(job.all_report(Execution::Canceled));
    actions.extend(job.obeys("tm2"));
    assert_eq!(job.status(), JobStatus::Failed);
    let told: BTreeSet<_> = commands(&actions).iter().map(|(host, _)| *host).collect();
    assert!(!told.is_empty() && !told.contains(&dead), "{told:?}");
    let stopped: BTreeSet<_> = stops(&actions).iter().map(|(host, _)| *host).collect();
    assert!(!stopped.is_empty() && !stopped.contains(&dead), "{stopped:?}");
    assert_eq!(released(&actions).len(), 1);
}

// --- silence ---

/// So many intervals pass, in each of which these hosts give a sign of life.
fn intervals(job: &mut Job, count: u32, alive: &[&str]) -> Vec<Action> {
    let mut actions = Vec::new();
    for _ in 0..count {
        for worker in alive {
            let host = job.host(worker);
            job.says(host, from_host::Message::Alive(Alive {}));
        }
        actions = job.time_out(TimerKind::Heartbeat);
    }
    actions
}

#[test]
fn a_host_that_says_nothing_is_killed_and_fails_the_job() {
    let mut job = Job::running_on(coordinated(2), &[("tm1", 0), ("tm2", 0)]);
    assert!(
        intervals(&mut job, 4, &["tm2", "coordinators"])
            .iter()
            .all(|action| { matches!(action, Action::SetTimer(..)) })
    );
    let actions = intervals(&mut job, 1, &["tm2", "coordinators"]);
    assert_eq!(job.status(), JobStatus::Failing);
    let (silent, other) = (job.host("tm1"), job.host("tm2"));
    assert_eq!(stops(&actions), [(silent, Duration::ZERO)]);
    let told = commands(&actions);
    assert!(
        matches!(told.as_slice(), [(to, to_host::Message::Cancel(_))] if *to == other),
        "the other one alone is told to stop"
    );
    let cause = job.causes().remove(0);
    assert!(
        cause.starts_with("the task host on TaskManager tm1 said nothing for 50s and was killed"),
        "{cause}"
    );
    assert_eq!(job.details().exceptions[0].cause.kind, CauseKind::Stuck);
    job.reports((0, 1), Execution::Canceled, None);
    let actions = job.reports((1, 1), Execution::Canceled, None);
    assert!(commands(&actions).is_empty(), "it may still write until it is gone");
    assert!(commands(&job.obeys("tm1")).iter().any(is_abort));
    assert_eq!(job.causes().len(), 1);
}

#[test]
fn a_silent_host_is_a_reason_to_restart() {
    let mut job = Job::running_on(with_restarts(pipeline(1), 1), &[("tm1", 0)]);
    intervals(&mut job, 5, &[]);
    assert_eq!(job.status(), JobStatus::Restarting);
    job.obeys("tm1");
    let before = job.started.len();
    job.time_out(TimerKind::Restart);
    job.run_hosts(before);
    intervals(&mut job, 20, &["tm1"]);
    assert_eq!(job.status(), JobStatus::Running, "the new one is heard");
}

#[test]
fn the_time_of_a_state_is_that_of_its_last_entry() {
    let mut job = Job::running_on(with_restarts(pipeline(1), 1), &[("tm1", 0)]);
    let first = job.details().status_times[&JobStatus::Running];
    intervals(&mut job, 5, &[]);
    job.obeys("tm1");
    let before = job.started.len();
    job.time_out(TimerKind::Restart);
    job.run_hosts(before);
    assert_eq!(job.status(), JobStatus::Running);
    let times = job.details().status_times;
    assert!(times[&JobStatus::Running] > first, "{times:?}");
    assert!(times[&JobStatus::Running] >= times[&JobStatus::Restarting], "{times:?}");
    assert_eq!(job.details().start_time, times[&JobStatus::Initializing]);
}

#[test]
fn a_silent_coordinator_host_fails_the_job_while_it_publishes_too() {
    let mut job = Job::running_on(coordinated(1), &[("tm1", 0)]);
    job.all_report(Execution::Finished);
    intervals(&mut job, 5, &["tm1"]);
    assert_eq!(job.status(), JobStatus::Failing);
    assert!(job.causes()[0].starts_with("the coordinator host said nothing"), "{:?}", job.causes());
}

#[test]
fn a_silent_host_without_work_explains_what_breaks_without_it() {
    let mut job =
        Job::running_on(graph(&[("A", 1, "x"), ("B", 1, "y")]), &[("tm1", 0), ("tm2", 0)]);
    job.reports((0, 0), Execution::Finished, None);
    let actions = intervals(&mut job, 5, &["tm2"]);
    assert_eq!(stops(&actions), [(job.host("tm1"), Duration::ZERO)]);
    assert_eq!(job.status(), JobStatus::Running);
    job.obeys("tm1");
    job.reports((1, 0), Execution::Failed, Some(failure("exchange", "connection reset")));
    assert!(job.causes()[0].contains("said nothing"), "{:?}", job.causes());
}

#[test]
fn time_in_which_the_jobmaster_slept_is_nobodys_silence() {
    let mut job = Job::running_on(pipeline(1), &[("tm1", 0)]);
    for _ in 0..4 {
        job.now = job.now.saturating_add(Duration::from_secs(3600));
        job.time_out(TimerKind::Heartbeat);
    }
    assert_eq!(job.status(), JobStatus::Running, "four intervals are 40 s");
    job.time_out(TimerKind::Heartbeat);
    assert_eq!(job.status(), JobStatus::Failing);
}

// --- restarts ---

#[test]
fn a_restart_runs_the_next_attempt_in_fresh_hosts_on_the_same_slots() {
    let mut job = Job::running_on(with_restarts(coordinated(1), 1), &[("tm1", 0)]);
    let old = job.host("tm1");
    job.reports((0, 0), Execution::Failed, Some(failure("error", "first")));
    assert_eq!(job.status(), JobStatus::Restarting);
    assert!(commands(&job.all_report(Execution::Canceled)).iter().any(is_abort));
    let coordinator = job.host("coordinators");
    job.says(coordinator, settled());
    job.obeys("tm1");
    job.obeys("coordinators");
    assert_eq!(job.details().waiting_for.as_deref(), Some("its restart, 10s after the failure"));
    let before = job.started.len();
    let actions = job.time_out(TimerKind::Restart);
    assert_eq!(declared(&actions), Some(1));
    assert_eq!(job.status(), JobStatus::Running);
    assert_eq!(job.details().restarts, 1);
    assert_ne!(job.host("tm1"), old);
    assert!(job.started[before..].iter().all(|(_, start)| start.begin.attempt == 1));
    assert!(
        job.details().vertices.iter().all(|vertex| vertex.subtasks.get(0).unwrap().attempt == 1)
    );
    job.run_hosts(before);
    job.reports((0, 0), Execution::Failed, Some(failure("error", "second")));
    assert_eq!(job.status(), JobStatus::Failing);
    assert_eq!(job.causes(), ["second", "first"]);
}

#[test]
fn the_delay_counts_from_the_failure() {
    let mut job = Job::running_on(with_restarts(pipeline(1), 1), &[("tm1", 0)]);
    job.reports((0, 0), Execution::Failed, Some(failure("error", "first")));
    job.now = job.now.saturating_add(Duration::from_secs(4));
    job.all_report(Execution::Canceled);
    job.obeys("tm1");
    let (timer, after) = *job.timers.last().unwrap();
    assert_eq!((timer.kind, after), (TimerKind::Restart, Duration::from_secs(6)));
}

#[test]
fn a_restart_waits_for_a_replacement_of_a_lost_worker() {
    let mut job = Job::running_on(with_restarts(pipeline(2), 1), &[("tm1", 0), ("tm2", 0)]);
    job.loses("tm1");
    job.news(JobMasterEvent::NotEnoughSlots("the cluster has 1".to_owned()));
    job.all_report(Execution::Canceled);
    job.obeys("tm2");
    job.time_out(TimerKind::Restart);
    assert_eq!(job.details().waiting_for.as_deref(), Some("1 of 2 slots: the cluster has 1"));
    let before = job.started.len();
    job.grant(&[("tm3", 0)]);
    assert_eq!(job.started.len(), before + 2);
}

#[test]
fn a_replacement_that_comes_early_is_kept() {
    let mut job = Job::running_on(with_restarts(pipeline(2), 1), &[("tm1", 0), ("tm2", 0)]);
    job.loses("tm1");
    assert!(released(&job.grant(&[("tm3", 0)])).is_empty());
    job.all_report(Execution::Canceled);
    job.obeys("tm2");
    let before = job.started.len();
    job.time_out(TimerKind::Restart);
    assert_eq!(job.started.len(), before + 2);
}

#[test]
fn news_of_an_earlier_attempt_changes_nothing() {
    let mut job = Job::running_on(with_restarts(pipeline(1), 1), &[("tm1", 0)]);
    let old = job.host("tm1");
    job.reports((0, 0), Execution::Failed, Some(failure("error", "first")));
    job.all_report(Execution::Canceled);
    job.obeys("tm1");
    job.time_out(TimerKind::Restart);
    job.run_hosts(1);
    let task = TaskId { vertex: vertex_id(0).as_bytes().to_vec(), subtask: 0, attempt: 0 };
    let stale =
        TaskState { task: Some(task), state: Execution::Failed.into(), ..TaskState::default() };
    assert!(job.says(old, from_host::Message::TaskState(stale.clone())).is_empty());
    assert!(job.exits(old, killed(), "").is_empty());
    let new = job.host("tm1");
    assert!(job.says(new, from_host::Message::TaskState(stale)).is_empty());
    assert_eq!(job.status(), JobStatus::Running);
}

// --- cancellation ---

#[test]
fn a_cancelled_job_stops_tasks_discards_output_and_ends() {
    let mut job = Job::running_on(coordinated(1), &[("tm1", 0)]);
    let actions = job.news(JobMasterEvent::Cancel);
    assert_eq!(job.status(), JobStatus::Cancelling);
    assert!(matches!(commands(&actions).as_slice(), [(_, to_host::Message::Cancel(_))]));
    assert!(job.news(JobMasterEvent::Cancel).is_empty());
    assert!(commands(&job.all_report(Execution::Canceled)).iter().any(is_abort));
    let coordinator = job.host("coordinators");
    job.says(coordinator, settled());
    job.obeys("coordinators");
    assert!(ends(&job.obeys("tm1")));
    assert_eq!(job.status(), JobStatus::Canceled);
    assert!(job.causes().is_empty());
}

#[test]
fn a_task_that_does_not_stop_costs_its_host_and_the_job_is_canceled() {
    let mut job = Job::running_on(pipeline(1), &[("tm1", 0)]);
    job.news(JobMasterEvent::Cancel);
    job.reports((0, 0), Execution::Canceled, None);
    let actions = job.time_out(TimerKind::Cancel);
    assert_eq!(stops(&actions), [(job.host("tm1"), Duration::ZERO)]);
    assert_eq!(job.causes(), ["Sink (1/1) did not stop within 2s, its task host was killed"]);
    assert_eq!(job.details().exceptions[0].cause.kind, CauseKind::Stuck);
    job.obeys("tm1");
    assert_eq!(job.status(), JobStatus::Canceled);
    assert_eq!(job.state((1, 0)), ExecutionState::Canceled);
}

#[test]
fn a_job_that_waits_for_slots_is_canceled_at_once() {
    let mut job = Job::new(pipeline(2));
    job.start();
    job.grant(&[("tm1", 0)]);
    let actions = job.news(JobMasterEvent::Cancel);
    assert_eq!(job.status(), JobStatus::Canceled);
    assert_eq!((declared(&actions), released(&actions).len()), (Some(0), 1));
    assert!(ends(&actions));
}

#[test]
fn a_job_that_waits_for_its_restart_is_canceled_at_once() {
    let mut job = Job::running_on(with_restarts(pipeline(1), 1), &[("tm1", 0)]);
    job.reports((0, 0), Execution::Failed, Some(failure("error", "first")));
    job.all_report(Execution::Canceled);
    job.obeys("tm1");
    assert!(ends(&job.news(JobMasterEvent::Cancel)));
    assert_eq!(job.status(), JobStatus::Canceled);
    assert!(job.time_out(TimerKind::Restart).is_empty());
}

#[test]
fn a_cancellation_wins_over_a_failure_that_is_being_handled() {
    let mut job = Job::running_on(with_restarts(pipeline(1), 1), &[("tm1", 0)]);
    job.reports((0, 0), Execution::Failed, Some(failure("error", "first")));
    assert_eq!(declared(&job.news(JobMasterEvent::Cancel)), Some(0));
    assert_eq!(job.status(), JobStatus::Cancelling);
    job.all_report(Execution::Canceled);
    job.obeys("tm1");
    assert_eq!(job.status(), JobStatus::Canceled);
}

#[test]
fn a_cancellation_after_publication_comes_too_late() {
    let mut job = Job::running_on(coordinated(1), &[("tm1", 0)]);
    job.all_report(Execution::Finished);
    let coordinator = job.host("coordinators");
    job.says(coordinator, settled());
    assert!(job.news(JobMasterEvent::Cancel).is_empty());
    job.obeys("tm1");
    job.obeys("coordinators");
    assert_eq!(job.status(), JobStatus::Finished);
}

#[test]
fn a_cancellation_during_publication_waits_for_both_answers() {
    let mut job = Job::running_on(coordinated(1), &[("tm1", 0)]);
    job.all_report(Execution::Finished);
    assert!(commands(&job.news(JobMasterEvent::Cancel)).iter().any(is_abort));
    let coordinator = job.host("coordinators");
    assert!(stops(&job.says(coordinator, settled())).is_empty());
    assert_eq!(stops(&job.says(coordinator, settled())).len(), 2);
}

#[test]
fn slots_that_come_after_the_end_go_back() {
    let mut job = Job::new(pipeline(1));
    job.start();
    job.news(JobMasterEvent::Cancel);
    assert_eq!(released(&job.grant(&[("tm1", 0)])).len(), 1);
}

// --- messages between operators, metrics ---

#[test]
fn operator_events_travel_between_task_and_coordinator_host() {
    let mut job = Job::running_on(coordinated(2), &[("tm1", 0), ("tm2", 0)]);
    let (tm1, tm2, coordinator) = (job.host("tm1"), job.host("tm2"), job.host("coordinators"));
    let event = OperatorEvent {
        operator_id: operator_id(0).as_bytes().to_vec(),
        subtask: 1,
        payload: vec![1, 2],
        hands_out: false,
    };
    let said = || from_host::Message::OperatorEvent(event.clone());
    let heard = to_host::Message::OperatorEvent(event.clone());
    assert_eq!(commands(&job.says(tm2, said())), [(coordinator, heard.clone())]);
    assert_eq!(commands(&job.says(coordinator, said())), [(tm2, heard)]);
    assert!(commands(&job.says(tm1, said())).is_empty(), "not its subtask");
    let unknown = OperatorEvent { operator_id: vec![1, 2, 3], ..event.clone() };
    assert!(job.says(coordinator, from_host::Message::OperatorEvent(unknown)).is_empty());
}

#[test]
fn a_task_that_has_ended_tells_its_coordinator_nothing() {
    let mut job = Job::running_on(coordinated(2), &[("tm1", 0), ("tm2", 0)]);
    let (tm1, tm2, coordinator) = (job.host("tm1"), job.host("tm2"), job.host("coordinators"));
    let said = |subtask| {
        let operator_id = operator_id(0).as_bytes().to_vec();
        from_host::Message::OperatorEvent(OperatorEvent {
            operator_id,
            subtask,
            payload: vec![1],
            hands_out: false,
        })
    };
    job.reports((0, 0), Execution::Finished, None);
    assert!(commands(&job.says(tm1, said(0))).is_empty());
    assert!(commands(&job.says(coordinator, said(0))).is_empty());
    assert_eq!(commands(&job.says(tm2, said(1))).len(), 1);
    // Its process may go on for a while, and its coordinator know already of the restart.
    job.says(tm2, from_host::Message::Failure(failure("error", "cannot go on")));
    assert!(commands(&job.says(tm2, said(1))).is_empty());
}

fn counted(vertex: usize, records: u64) -> TaskMetrics {
    let id = vertex_id(vertex).as_bytes().to_vec();
    let task = Some(TaskId { vertex: id, subtask: 0, attempt: 0 });
    TaskMetrics { task, records_in: records, ..TaskMetrics::default() }
}

#[test]
fn metrics_are_shown_ten_times_a_second_at_most() {
    let mut job = Job::running_on(pipeline(1), &[("tm1", 0)]);
    let host = job.host("tm1");
    let metrics =
        |records| from_host::Message::Metrics(Metrics { tasks: vec![counted(1, records)] });
    let timers = job.timers.len();
    assert!(matches!(job.says(host, metrics(1)).as_slice(), [Action::SetTimer(..)]));
    assert!(job.says(host, metrics(2)).is_empty());
    assert_eq!(job.timers[timers].1, Duration::from_millis(100));
    assert!(matches!(job.time_out(TimerKind::Publish).as_slice(), [Action::Publish]));
    assert_eq!(job.details().vertices[1].subtasks.get(0).unwrap().metrics.records_in, 2);
}

#[test]
fn a_checkpoint_whose_barrier_has_left_a_task_waits_for_its_state() {
    let mut config = JobMasterConfig::default();
    config.checkpointing.settings.interval = Some(Duration::from_secs(1));
    let mut job = Job::with_config(graph(&[("Source", 1, "default")]), &config);
    job.start();
    job.run_on(&[("tm1", 0)]);
    job.now = job.now.saturating_add(Duration::from_secs(1));
    job.time_out(TimerKind::Checkpoint);
    let host = job.host("tm1");
    let waits = |job: &Job| format!("{:?}", job.details().checkpoints.unwrap().status.pending);
    assert!(waits(&job).contains("waits_for: Barrier"), "{}", waits(&job));
    let passed = |last_barrier| TaskMetrics { last_barrier, ..counted(0, 0) };
    job.says(host, from_host::Message::Metrics(Metrics { tasks: vec![passed(0)] }));
    assert!(waits(&job).contains("waits_for: Barrier"), "{}", waits(&job));
    job.says(host, from_host::Message::Metrics(Metrics { tasks: vec![passed(1)] }));
    assert!(waits(&job).contains("waits_for: Upload"), "{}", waits(&job));
}

#[test]
fn the_counters_of_the_end_stay() {
    let mut job = Job::running_on(pipeline(1), &[("tm1", 0)]);
    let host = job.host("tm1");
    let last = TaskState {
        task: counted(1, 0).task,
        state: Execution::Finished.into(),
        cause: None,
        metrics: Some(counted(1, 99)),
        ..TaskState::default()
    };
    job.says(host, from_host::Message::TaskState(last));
    let late = Metrics { tasks: vec![counted(1, 98)] };
    job.says(host, from_host::Message::Metrics(late));
    assert_eq!(job.details().vertices[1].subtasks.get(0).unwrap().metrics.records_in, 99);
}

#[test]
fn a_host_speaks_for_its_own_tasks_only() {
    let mut job = Job::running_on(pipeline(2), &[("tm1", 0), ("tm2", 0)]);
    let stranger = job.host("tm2");
    let forged = TaskState {
        task: counted(0, 0).task,
        state: Execution::Failed.into(),
        ..TaskState::default()
    };
    assert!(job.says(stranger, from_host::Message::TaskState(forged)).is_empty());
    assert_eq!(job.state((0, 0)), ExecutionState::Running);
}

#[test]
fn a_late_commit_fails_the_job_and_nothing_is_published_any_more() {
    let mut job = Job::running_on(with_restarts(coordinated(1), 3), &[("tm1", 0)]);
    job.all_report(Execution::Finished);
    let stuck = job.host("coordinators");
    let actions = job.time_out(TimerKind::Commit);
    assert_eq!(stops(&actions), [(stuck, Duration::ZERO)]);
    assert_eq!(job.status(), JobStatus::Failing);
    assert!(job.causes()[0].contains("millstream.sink.commit-timeout"), "{:?}", job.causes());
    assert!(job.says(stuck, settled()).is_empty(), "too late");
    job.obeys("coordinators");
    assert_ne!(job.host("coordinators"), stuck);
    assert!(commands(&job.ready("coordinators")).iter().any(is_abort));
    let fresh = job.host("coordinators");
    job.says(fresh, settled());
    job.obeys("coordinators");
    job.obeys("tm1");
    assert_eq!(job.status(), JobStatus::Failed);
    assert_eq!(job.causes().len(), 1);
}
