//! Each point at which a checkpoint can fail: the reason is told, its files go, and the next one is
//! good.

use super::*;

/// The job's next checkpoint fails.
type Fails = fn(&mut Job);

const GOES_ON: u32 = 0;
const RESTARTS: u32 = 1;

/// The points, each with the reason and the attempt that follows.
const POINTS: &[(Fails, &str, u32)] = &[
    (no_id, "its id could not be stored: away", GOES_ON),
    (coordinator, "a coordinator has no snapshot: locked", GOES_ON),
    (coordinator_host, "the coordinator host is lost", RESTARTS),
    (declines, "v1 (1/1) declined it: the disk is full", GOES_ON),
    (wrong_ack, "v1 (1/1) declined it: ", GOES_ON),
    (timeout, "it was not acknowledged within 10s: 1 of 2 subtasks have not", GOES_ON),
    (task_fails, "v1 (1/1) failed", RESTARTS),
    (task_finishes, "v1 (1/1) finished without it", RESTARTS),
    (task_is_another, "not all tasks run any more", 2),
    (not_stored, "it could not be stored: away", GOES_ON),
    (in_doubt, "it could not be stored: it is not there", GOES_ON),
    (restart, "the job restarts", RESTARTS),
    (regions_restart, "some of the job's tasks restart", RESTARTS),
    (subsumed, "chk-2 is complete", GOES_ON),
];

/// A job whose tasks run, with a coordinator that answers when the test has it answer.
fn running() -> Job {
    let settings = Settings { concurrent_max: NonZeroU32::new(2).unwrap(), ..every_second() };
    let mut job = Job::new(settings.clone());
    job.coordinator = Coordinator::new(settings, plan(&[1, 1], true), Known::default());
    begin(&mut job, 0);
    job.actions.clear();
    job
}

fn begin(job: &mut Job, attempt: u32) {
    job.event(Event::Restarting { attempt });
    job.event(Event::CoordinatorHostReady);
    job.event(Event::Committed(CommitId::FIRST));
    job.run(attempt);
}

fn coordinators(job: &mut Job, number: u64) {
    let states = vec![(operator_id(0), vec![7])];
    job.event(Event::CoordinatorsSnapshot { id: id(number), states });
}

/// Starts the first checkpoint, whose coordinators have answered and whose first task has, too.
fn begun(job: &mut Job) {
    job.at(1_000);
    coordinators(job, 1);
    job.ack(1, task(0, 0, 0), &["of-1-a"]);
}

fn acknowledged(job: &mut Job) {
    begun(job);
    job.ack(1, task(1, 0, 0), &["of-1-b"]);
}

fn no_id(job: &mut Job) {
    job.time.ms = 1_000;
    // The answer is none of those that the job gives by itself.
    let _ = job.coordinator.on_event(job.time.now(), Event::Tick);
    job.event(Event::IdNotReserved { id: id(1), reason: "away".to_owned() });
}

fn coordinator(job: &mut Job) {
    job.at(1_000);
    job.event(Event::CoordinatorsDeclined { id: id(1), reason: "locked".to_owned() });
}

fn coordinator_host(job: &mut Job) {
    job.at(1_000);
    job.event(Event::CoordinatorHostLost);
}

fn declines(job: &mut Job) {
    begun(job);
    job.decline(1);
}

fn wrong_ack(job: &mut Job) {
    begun(job);
    let ack = Ack { snapshots: vec![snapshot(task(0, 0, 0), &[])], ..Ack::default() };
    job.event(Event::Acknowledged { id: id(1), task: task(1, 0, 0), ack: Box::new(ack) });
}

fn timeout(job: &mut Job) {
    begun(job);
    job.at(11_000);
}

fn task_fails(job: &mut Job) {
    begun(job);
    job.event(Event::TaskFailed(task(1, 0, 0)));
}

fn task_finishes(job: &mut Job) {
    begun(job);
    let report = FinalReport { last_barrier: Some(id(1)), ..FinalReport::default() };
    job.event(Event::TaskFinished { task: task(1, 0, 0), report: Box::new(report) });
}

fn task_is_another(job: &mut Job) {
    begun(job);
    job.event(Event::TaskRunning(task(1, 0, 1)));
}

fn not_stored(job: &mut Job) {
    job.holds_stores = true;
    acknowledged(job);
    job.event(Event::StoreFailed { id: id(1), reason: "away".to_owned() });
}

fn in_doubt(job: &mut Job) {
    job.holds_stores = true;
    acknowledged(job);
    job.event(Event::StoreUnknown { id: id(1), reason: "away".to_owned() });
    job.at(5_000);
    job.event(Event::StoreFailed { id: id(1), reason: "it is not there".to_owned() });
}

fn restart(job: &mut Job) {
    begun(job);
    job.event(Event::Restarting { attempt: 1 });
}

fn regions_restart(job: &mut Job) {
    begun(job);
    job.event(Event::RegionsRestarting { tasks: vec![subtask(1, 0)], attempt: 1 });
}

fn subsumed(job: &mut Job) {
    begun(job);
    job.at(2_000);
    coordinators(job, 2);
    job.ack_all(2);
}

fn deleted(actions: &[Action]) -> Vec<String> {
    let files = actions.iter().filter_map(|action| match action {
        Action::Delete { files, .. } => Some(files.clone()),
        _ => None,
    });
    files.flatten().collect()
}

#[test]
fn each_point_of_failure_tells_its_reason_and_is_followed_by_a_good_checkpoint() {
    for (fails, expected, attempt) in POINTS {
        let mut job = running();
        fails(&mut job);
        let report = job.coordinator.report();
        let first = report.history.iter().find(|one| one.id == id(1)).unwrap();
        let Outcome::Failed { reason, .. } = &first.outcome else { panic!("{first:?}") };
        let begin_of_reason = format!("checkpoint chk-1 failed: {expected}");
        assert!(reason.starts_with(&begin_of_reason), "{reason}");
        assert_eq!(report.counts.failed, 1, "{reason}");
        let held = first.subtasks.len();

        job.holds_stores = false;
        if *attempt > GOES_ON {
            begin(&mut job, *attempt);
        }
        job.at(20_000);
        let next = job.coordinator.report().history.iter().map(|one| one.id.get()).max().unwrap();
        assert!(next > 1, "{reason}: no checkpoint follows");
        coordinators(&mut job, next);
        job.ack(next, task(0, 0, *attempt), &[]);
        job.ack(next, task(1, 0, *attempt), &["good"]);
        assert_eq!(job.coordinator.latest().map(|one| one.id().get()), Some(next), "{reason}");
        let mut gone = deleted(&job.take());
        gone.retain(|file| file.starts_with("of-1"));
        assert_eq!(gone.len(), held, "{reason}: {gone:?}");
    }
}
