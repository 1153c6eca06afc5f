//! Reasons for lost workers: the external manager often gives one after the job has failed of it.
//!
//! A connection breaks at once; YARN's word on the container's end comes some heartbeats later. The
//! history takes it then. A job that fails for good waits for it with its end, because a history
//! that has ended does not change any more: for a bounded time, and only if the ResourceManager
//! says that there will be a word, or has not been heard yet.

use std::time::Duration;

use millstream_gateway::Explanation;
use millstream_types::{TaskManagerId, Timestamp};

use super::{JobMaster, Outcome, Phase, Unseen};
use crate::timer::TimerKind;

/// The most lost workers that are remembered beside those of which the history tells.
const LOSSES_MAX: usize = 1024;

impl JobMaster {
    /// Remembers a lost worker. In a cluster whose workers come and go for years those that no
    /// failure of this job is about are forgotten.
    fn remember_loss(&mut self, worker: &TaskManagerId, until: Option<Timestamp>) {
        self.losses.insert(worker.clone(), until);
        if self.losses.len() > LOSSES_MAX {
            let history = &self.history;
            self.losses.retain(|known, _| known == worker || history.tells_of_loss(known));
        }
    }

    /// A worker was lost; it may be told of twice.
    pub(super) fn expect_explanation(&mut self, worker: &TaskManagerId, explanation: Explanation) {
        let until = self.now.saturating_add(self.config.explanation_wait);
        match explanation {
            Explanation::Complete => self.remember_loss(worker, None),
            Explanation::Follows | Explanation::Unknown if self.losses.contains_key(worker) => {}
            Explanation::Follows | Explanation::Unknown => self.remember_loss(worker, Some(until)),
        }
    }

    /// The external manager has said why a worker ended.
    pub(super) fn on_task_manager_ended(&mut self, worker: &TaskManagerId, reason: &str) {
        self.remember_loss(worker, None);
        if self.history.explain(worker, reason) {
            self.unseen = Unseen::State;
        }
        self.end_if_explained();
    }

    /// The time that the end of a failed job waits for the reasons of losses in its history.
    pub(super) fn explanation_wait(&self) -> Duration {
        let open = self.losses.iter().filter(|(worker, _)| self.history.tells_of_loss(worker));
        let until = open.filter_map(|(_, until)| *until).max();
        until.map_or(Duration::ZERO, |until| until.saturating_since(self.now))
    }

    /// Ends a job that waited for nothing else.
    pub(super) fn end_if_explained(&mut self) {
        if let Phase::StoppingHosts { then } = self.phase
            && then != Outcome::Finish
        {
            self.end_if_stopped(then);
        }
    }

    /// Waits for a word; false if there is none to wait for.
    pub(super) fn waits_for_explanation(&mut self) -> bool {
        let wait = self.explanation_wait();
        if wait.is_zero() {
            return false;
        }
        self.unseen = Unseen::State;
        self.set_timer(TimerKind::Explanation, wait);
        true
    }
}

#[cfg(test)]
mod tests {
    use millstream_gateway::JobMasterEvent;
    use millstream_types::JobStatus;

    use super::*;
    use crate::master::fixture::{Job, pipeline, with_restarts};

    fn running() -> Job {
        Job::running_on(pipeline(1), &[("tm1", 0)])
    }

    #[test]
    fn a_word_that_comes_after_the_last_failure_is_in_the_history() {
        let mut job = running();
        job.loses_with("tm1", Explanation::Follows);
        assert_eq!(job.status(), JobStatus::Failing);
        let waits_for = job.details().waiting_for;
        assert_eq!(waits_for.as_deref(), Some("the reason why a TaskManager ended"));
        job.explains("tm1", "it used 513 MB of 512 MB");
        assert_eq!(job.causes(), ["TaskManager tm1 died: it used 513 MB of 512 MB"]);
        assert_eq!(job.status(), JobStatus::Failed);
    }

    #[test]
    fn a_word_that_comes_first_is_not_waited_for_again() {
        let mut job = running();
        // The JobMaster sees that it cannot reach a TaskManager before or after it is told.
        job.loses_with("tm1", Explanation::Complete);
        assert_eq!(job.status(), JobStatus::Failed);
        let mut job = running();
        job.loses_with("tm1", Explanation::Unknown);
        assert_eq!(job.status(), JobStatus::Failing);
        job.loses_with("tm1", Explanation::Complete);
        assert_eq!(job.status(), JobStatus::Failed);
        let mut job = running();
        job.explains("tm1", "it was preempted");
        job.loses_with("tm1", Explanation::Follows);
        assert_eq!(job.status(), JobStatus::Failed);
    }

    #[test]
    fn the_end_waits_no_longer_than_it_should() {
        let mut job = running();
        job.loses_with("tm1", Explanation::Follows);
        job.time_out(TimerKind::Explanation);
        assert_eq!(job.status(), JobStatus::Failed);
        assert_eq!(job.causes(), ["TaskManager tm1 died"]);
        // A cancelled job does not wait for the explanation.
        let mut job = running();
        job.loses_with("tm1", Explanation::Follows);
        job.news(JobMasterEvent::Cancel);
        assert_eq!(job.status(), JobStatus::Canceled);
    }

    #[test]
    fn workers_that_come_and_go_for_years_take_no_room() {
        let mut job = running();
        for number in 0..10 * LOSSES_MAX {
            job.explains(&format!("other{number}"), "it was preempted");
        }
        assert!(job.master.losses.len() <= LOSSES_MAX + 1);
        job.loses_with("tm1", Explanation::Follows);
        for number in 0..10 * LOSSES_MAX {
            job.explains(&format!("later{number}"), "it was preempted");
        }
        assert_eq!(job.status(), JobStatus::Failing, "the word on this job's worker is waited for");
        job.explains("tm1", "it used 513 MB of 512 MB");
        assert_eq!(job.causes(), ["TaskManager tm1 died: it used 513 MB of 512 MB"]);
    }

    #[test]
    fn a_restart_waits_for_no_word() {
        let mut job = Job::running_on(with_restarts(pipeline(1), 1), &[("tm1", 0)]);
        job.loses_with("tm1", Explanation::Follows);
        assert!(job.timers.iter().all(|(timer, _)| timer.kind != TimerKind::Explanation));
        job.time_out(TimerKind::Restart);
        job.explains("tm1", "it was preempted");
        assert_eq!(job.causes(), ["TaskManager tm1 died: it was preempted"]);
    }
}
