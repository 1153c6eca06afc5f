//! The things that break.

use std::time::Duration;

use millstream_gateway::{CauseKind, Explanation, FailureCause, JobMasterEvent};
use millstream_protocol::host::{CheckpointDeclined, FromHost, from_host};
use millstream_types::{HostId, TaskManagerId};

use crate::world::{Victim, World};

/// One step of so many has a fault, while some are to come.
const FAULT_EVERY: u64 = 250;

impl World {
    /// Now and then something breaks.
    pub fn break_something(&mut self) {
        if self.faults_left == 0 || self.random.below(FAULT_EVERY) > 0 {
            return;
        }
        self.faults_left -= 1;
        match self.random.below(14) {
            0 | 1 => self.kill_host(),
            2 => (0..2).for_each(|_| self.kill_host()),
            3 => self.kill_coordinators(),
            4 => self.lose_worker(false),
            5 => self.lose_worker(true),
            6 => self.have_function_fail(),
            7 => self.silence(),
            8 | 9 => self.stall(),
            10 => self.slow_uploads(),
            11 => self.cut_connection(),
            12 => self.declines = 1 + self.random.below(4),
            _ => self.have_coordinator_fail(),
        }
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let at = self.random.below(from.len().max(1) as u64) as usize;
        from.get(at).cloned()
    }

    fn pick_host(&mut self) -> Option<HostId> {
        let hosts = self.hosts.iter().filter(|(_, host)| host.has_tasks());
        let hosts: Vec<HostId> = hosts.map(|(id, _)| *id).collect();
        self.pick(&hosts)
    }

    /// A process gets a signal: what it was doing is lost.
    fn kill(&mut self, host: HostId) {
        self.end(host, FailureCause::new(CauseKind::Signal, "killed by signal 9"));
    }

    fn kill_host(&mut self) {
        if let Some(host) = self.pick_host() {
            self.seen.one("task host killed");
            self.kill(host);
        }
    }

    fn kill_coordinators(&mut self) {
        let host = self.hosts.iter().find(|(_, host)| !host.has_tasks()).map(|(id, _)| *id);
        if let Some(host) = host {
            self.seen.one("coordinator host killed");
            self.kill(host);
        }
    }

    pub fn kill_victim(&mut self, victim: Victim) {
        let mut hosts = self.hosts.iter().filter(|(_, host)| host.has_tasks()).map(|(id, _)| *id);
        let host = match victim {
            Victim::FirstTasks => hosts.next(),
            Victim::LastTasks => hosts.next_back(),
            Victim::Coordinators => return self.kill_coordinators(),
        };
        if let Some(host) = host {
            self.seen.one("task host killed");
            self.kill(host);
        }
    }

    /// A TaskManager is lost with its hosts, or only to the JobMaster: then they live on for a
    /// while, and their words come late.
    fn lose_worker(&mut self, lives_on: bool) {
        let workers: Vec<String> = self.workers.keys().cloned().collect();
        let Some(worker) = self.pick(&workers) else { return };
        self.seen.one(if lives_on { "TaskManager cut off" } else { "TaskManager lost" });
        self.forget_worker(&worker);
        let on_it = self.hosts.iter().filter(|(_, host)| host.on == worker);
        let on_it: Vec<HostId> = on_it.map(|(id, _)| *id).collect();
        for host in on_it {
            if lives_on {
                let until = self.now() + Duration::from_millis(self.random.below(400));
                if let Some(host) = self.hosts.get_mut(&host) {
                    host.killed_at = Some(until);
                }
            } else {
                drop(self.hosts.remove(&host));
                self.disconnect(host);
            }
        }
        if !lives_on {
            self.streams.remove(&worker);
        }
        let explanations = [Explanation::Complete, Explanation::Unknown];
        let explanation = self.pick(&explanations).unwrap_or(Explanation::Unknown);
        let cause = FailureCause::new(CauseKind::WorkerLost, "the connection broke");
        let task_manager = TaskManagerId::new(worker);
        let lost = JobMasterEvent::TaskManagerLost { task_manager, cause, explanation };
        self.post("resourcemanager", lost);
        self.add_worker();
    }

    fn have_function_fail(&mut self) {
        let panics = self.random.below(2) == 0;
        self.seen.one(if panics { "function panics" } else { "function fails" });
        self.trouble.arm(panics);
    }

    /// The next call of a committer or enumerator fails.
    fn have_coordinator_fail(&mut self) {
        self.seen.one("coordinator fails");
        self.ledger.trouble.arm(self.random.below(2) == 0);
    }

    /// A process does nothing for a while: not so long that the JobMaster gives it up, or longer.
    fn silence(&mut self) {
        let Some(host) = self.pick_host() else { return };
        let millis = [30, 300, 3_000][self.random.below(3) as usize];
        let until = self.now() + Duration::from_millis(1 + self.random.below(millis));
        self.seen.one("host silent");
        if let Some(host) = self.hosts.get_mut(&host) {
            host.silent_until = Some(until);
        }
    }

    /// The sink takes nothing for a while.
    fn stall(&mut self) {
        self.seen.one("sink stalled");
        self.ledger.stall(true);
        let millis = 5 + self.random.below(100);
        self.stalled_until = Some(self.now() + Duration::from_millis(millis));
    }

    /// Ends the stall of the sinks if its time is over; whether it has.
    pub fn recover(&mut self) -> bool {
        let now = self.now();
        let ends = self.stalled_until.take_if(|until| *until <= now).is_some();
        if ends {
            self.ledger.stall(false);
        }
        ends
    }

    fn slow_uploads(&mut self) {
        let Some(host) = self.pick_host() else { return };
        self.seen.one("uploads slow");
        let millis = [20, 200, 1_000][self.random.below(3) as usize];
        let until = self.now() + Duration::from_millis(self.random.below(millis));
        if let Some(host) = self.hosts.get_mut(&host) {
            host.slow_until = Some(until);
        }
    }

    fn cut_connection(&mut self) {
        let connections: Vec<_> = self.network.directions().collect();
        if let Some(connection) = self.pick(&connections) {
            self.seen.one("connection cut");
            self.cut(connection);
        }
    }

    /// The message of a host, or that its upload has failed.
    pub fn said(&mut self, message: FromHost) -> FromHost {
        match message.message {
            Some(from_host::Message::CheckpointAck(ack)) if self.declines > 0 => {
                self.declines -= 1;
                self.seen.one("upload failed");
                let (task, checkpoint) = (ack.task, ack.checkpoint);
                let reason = "the disk is full".to_owned();
                let declined = CheckpointDeclined { task, checkpoint, reason };
                FromHost { message: Some(from_host::Message::CheckpointDeclined(declined)) }
            }
            message => FromHost { message },
        }
    }
}
