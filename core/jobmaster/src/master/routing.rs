//! From the world to the parts of the JobMaster, from them to each other, and back.

use std::time::Duration;

use millstream_gateway::{CauseKind, ExceptionEntry, FailureCause, JobMasterEvent};
use millstream_protocol::HOST_PROTOCOL;
use millstream_protocol::host::{FromHost, Hello, Metrics, OperatorEvent, from_host};
use millstream_types::{CheckpointId, HostId};

use super::{Action, JobMaster, Outcome, Phase, Unseen};
use crate::causes;
use crate::checkpoints;
use crate::hosts::{self, How, Loss, Need, User};
use crate::settlement;
use crate::tasks::{self, Share};
use crate::timer::{Owner, Timer, TimerKind};

impl JobMaster {
    pub(super) fn on_news(&mut self, news: JobMasterEvent) {
        match news {
            JobMasterEvent::SlotsGranted(slots) => self.on_slots_granted(slots),
            JobMasterEvent::NotEnoughSlots(sentence) => self.on_shortage(Some(sentence)),
            JobMasterEvent::EnoughSlots => self.on_shortage(None),
            JobMasterEvent::TaskManagerLost { task_manager, cause, explanation } => {
                self.expect_explanation(&task_manager, explanation);
                self.slots.lose(&task_manager);
                self.unseen = Unseen::State;
                self.tell_hosts(hosts::Event::WorkerLost { worker: task_manager, cause });
                self.end_if_explained();
            }
            JobMasterEvent::TaskManagerEnded { task_manager, reason } => {
                self.on_task_manager_ended(&task_manager, &reason);
            }
            JobMasterEvent::HostMessage { host, message } => self.on_host_message(host, *message),
            JobMasterEvent::HostExited(exit) => self.tell_hosts(hosts::Event::Exited(exit)),
            JobMasterEvent::Cancel => self.on_cancel(),
            JobMasterEvent::Request { trigger, request } => self.on_request(trigger, request),
        }
    }

    fn on_host_message(&mut self, id: HostId, message: FromHost) {
        let Some((user, _)) = self.hosts.user_of(id) else { return };
        self.tell_hosts(hosts::Event::Heard(id));
        let broken = |cause| hosts::Event::Broken { host: id, cause };
        match message.message {
            Some(from_host::Message::Ready(ready)) => {
                let data_address = ready.data_address;
                self.tell_hosts(hosts::Event::Ready { host: id, data_address });
            }
            Some(from_host::Message::TaskState(state)) => {
                let report = Box::new(state);
                self.tell_tasks(tasks::Event::Reported { host: id, report });
            }
            Some(from_host::Message::Metrics(metrics)) => {
                self.on_barriers(id, &metrics);
                self.tell_tasks(tasks::Event::Measured { host: id, metrics });
            }
            Some(from_host::Message::OperatorEvent(event)) => {
                self.on_operator_event(id, user, event);
            }
            Some(from_host::Message::Settled(settled)) if user == User::Settlement => {
                let failure = settled.failure.map(causes::of_failure);
                self.tell_settlement(settlement::Event::Settled(failure));
            }
            Some(from_host::Message::CheckpointAck(ack)) => {
                if let Some(task) = self.attempt_on(id, ack.task.as_ref()) {
                    let ack = Box::new(ack);
                    self.tell_checkpoints(checkpoints::Event::Acknowledged(task, ack));
                }
            }
            Some(from_host::Message::CheckpointDeclined(declined)) => {
                if let Some(task) = self.attempt_on(id, declined.task.as_ref()) {
                    self.tell_checkpoints(checkpoints::Event::Declined(task, declined));
                }
            }
            Some(from_host::Message::CoordinatorSnapshot(snapshot)) if user == User::Settlement => {
                self.tell_checkpoints(checkpoints::Event::Coordinator(snapshot));
            }
            Some(from_host::Message::Committed(committed)) if user == User::Settlement => {
                self.tell_checkpoints(checkpoints::Event::Committed(committed.commit));
            }
            Some(from_host::Message::SubtasksRestarted(restarted)) if user == User::Settlement => {
                self.on_subtasks_restarted(restarted.attempt);
            }
            Some(from_host::Message::HandedOut(said)) => self.on_handed_out(id, said),
            Some(from_host::Message::Failure(failure)) => {
                self.tell_hosts(broken(causes::of_failure(failure)));
            }
            Some(from_host::Message::Finished(finished)) => {
                let cause = finished.failure.map_or_else(no_execute, causes::of_failure);
                self.tell_hosts(broken(cause));
            }
            Some(from_host::Message::Hello(hello)) if hello.major != HOST_PROTOCOL.major => {
                self.tell_hosts(broken(other_protocol(&hello)));
            }
            // A sign of life, a plan, an unexpected answer, or a message of a newer minor version.
            Some(
                from_host::Message::Hello(_)
                | from_host::Message::Alive(_)
                | from_host::Message::Planned(_)
                | from_host::Message::JobQuery(_)
                | from_host::Message::CoordinatorSnapshot(_)
                | from_host::Message::Committed(_)
                | from_host::Message::SubtasksRestarted(_)
                | from_host::Message::Settled(_),
            )
            | None => {}
        }
    }

    /// Takes in which barriers have left tasks, where a checkpoint waits for them.
    fn on_barriers(&mut self, host: HostId, metrics: &Metrics) {
        for task in &metrics.tasks {
            let last = CheckpointId::new(task.last_barrier);
            if self.checkpoints.as_ref().is_some_and(|it| it.is_awaited(last))
                && let Some(task) = self.attempt_on(host, task.task.as_ref())
            {
                self.tell_checkpoints(checkpoints::Event::Passed(task, last));
            }
        }
    }

    /// From a task to the coordinator host, or from there to the task's host. A task that has ended
    /// says and hears nothing more: its coordinator may know already that it begins again.
    fn on_operator_event(&mut self, from: HostId, user: User, event: OperatorEvent) {
        let executions = self.tasks.executions();
        let task = executions.of_operator(&event.operator_id, event.subtask);
        let Some(host) = task.and_then(|task| executions.active_host(task)) else { return };
        match user {
            User::Settlement => {
                let free = match &mut self.checkpoints {
                    Some(checkpoints) => checkpoints.park(event),
                    None => Some(event),
                };
                if let Some(event) = free {
                    self.deliver(event);
                }
            }
            User::Tasks if host == from => self.on_event_of_task(from, event),
            User::Tasks => {}
        }
    }

    // --- hosts ---

    pub(super) fn tell_hosts(&mut self, event: hosts::Event) {
        for action in self.hosts.on_event(self.now, event) {
            match action {
                hosts::Action::Start(on, start) => self.actions.push(Action::StartHost(on, start)),
                hosts::Action::Tell(on, command) => {
                    self.actions.push(Action::Command(on, command));
                }
                hosts::Action::Stop(on, host, grace) => {
                    self.actions.push(Action::StopHost(on, host, grace));
                }
                hosts::Action::SetTimer { generation, after } => {
                    let timer =
                        Timer { owner: Owner::Hosts, kind: TimerKind::Heartbeat, generation };
                    self.actions.push(Action::SetTimer(timer, after));
                }
                hosts::Action::Started { user: User::Tasks, host, on } => {
                    self.tell_tasks(tasks::Event::HostStarted { host, on });
                }
                hosts::Action::Started { user: User::Settlement, host, .. } => {
                    self.tell_settlement(settlement::Event::HostStarted(host));
                }
                hosts::Action::NotReplaced => {
                    self.tell_settlement(settlement::Event::NotReplaced);
                }
                hosts::Action::Ready { user: User::Tasks, host, data_address } => {
                    self.tell_tasks(tasks::Event::HostReady { host, data_address });
                }
                hosts::Action::Ready { user: User::Settlement, .. } => {
                    self.on_coordinator_ready();
                }
                hosts::Action::Lost(loss) => self.on_host_lost(loss),
            }
        }
    }

    fn on_host_lost(&mut self, Loss { user, host, location, cause, how }: Loss) {
        let ended = matches!(how, How::Ended { .. });
        if let How::Ended { last_words: Some(words), .. } = &how {
            self.history.quote(location.as_ref().map(|location| location.host), words);
        }
        let entry = ExceptionEntry { timestamp: self.now, cause, task: None, location };
        if ended {
            self.unseen = Unseen::State;
            let unasked = how == How::Ended { unasked: true, last_words: None };
            if unasked && matches!(self.phase, Phase::Cancelling { .. }) {
                self.history.add_consequence(entry.clone());
            }
        }
        match user {
            User::Tasks if how == How::Silent => {
                self.tell_tasks(tasks::Event::HostSilent { host, entry });
            }
            User::Tasks => {
                self.tell_tasks(tasks::Event::HostLost { host, entry });
                self.on_reporter_lost(host);
            }
            User::Settlement => self.on_coordinator_lost(&how, entry),
        }
        if ended {
            self.go_on_with_failovers();
        }
        if ended && let Phase::StoppingHosts { then } = self.phase {
            self.end_if_stopped(then);
        }
    }

    fn on_coordinator_lost(&mut self, how: &How, entry: ExceptionEntry) {
        self.tell_settlement(match how {
            How::Ended { .. } => settlement::Event::HostLost,
            How::Broken | How::Silent => settlement::Event::HostUnusable,
        });
        self.tell_checkpoints(checkpoints::Event::HostLost);
        self.takeover = None;
        match self.phase {
            Phase::Committing if self.checkpoints.is_some() => {
                self.replace_coordinators(how, entry);
            }
            Phase::Running if self.can_replace_coordinators() => {
                self.replace_coordinators(how, entry);
            }
            Phase::Running | Phase::Committing => self.fail(entry),
            Phase::Cancelling { .. } if *how == How::Silent => self.history.add_consequence(entry),
            Phase::New
            | Phase::Cancelling { .. }
            | Phase::Aborting { .. }
            | Phase::StoppingHosts { .. }
            | Phase::WaitingForRestart
            | Phase::Ended => {}
        }
    }

    // --- the tasks ---

    pub(super) fn tell_tasks(&mut self, event: tasks::Event) {
        for action in self.tasks.on_event(self.now, event) {
            match action {
                tasks::Action::NeedHosts(shares) => self.start_hosts(shares),
                tasks::Action::Tell(host, message) => {
                    self.tell_hosts(hosts::Event::Tell(host, message));
                }
                tasks::Action::Kill(host) => {
                    self.tell_hosts(hosts::Event::Stop(host, Duration::ZERO));
                }
                tasks::Action::SetTimer { kind, generation, after } => {
                    let timer = Timer { owner: Owner::Tasks, kind, generation };
                    self.actions.push(Action::SetTimer(timer, after));
                }
                tasks::Action::Deployed => {
                    self.tell_settlement(settlement::Event::Deployed);
                    self.tell_hosts(hosts::Event::Watch);
                }
                tasks::Action::SlotsLate => self.on_slots_late(),
                tasks::Action::Failed(entry, tasks) => self.fail_tasks(entry, &tasks),
                tasks::Action::NeedMoreHosts(shares) => self.start_task_hosts(shares),
                tasks::Action::SetFailoverTimer { attempt, kind, after } => {
                    self.set_failover_timer(attempt, kind, after);
                }
                tasks::Action::FailoverStopped(attempt) => self.on_failover_stopped(attempt),
                tasks::Action::FailoverDone(attempt) => self.on_failover_done(attempt),
                tasks::Action::Consequence(entry) => self.history.add_consequence(entry),
                tasks::Action::Finished => self.commit(),
                tasks::Action::Stopped => self.abort(),
                tasks::Action::Changed => self.unseen = Unseen::State,
                tasks::Action::Task(news) => {
                    self.tell_checkpoints(checkpoints::Event::Task(news));
                }
                tasks::Action::Measured => self.unseen = self.unseen.max(Unseen::Metrics),
            }
        }
    }

    fn start_hosts(&mut self, shares: Vec<Share>) {
        self.start_task_hosts(shares);
        self.tell_settlement(settlement::Event::Open);
    }

    fn start_task_hosts(&mut self, shares: Vec<Share>) {
        for Share { on, address, slots } in shares {
            self.tell_hosts(hosts::Event::Need(Need::Tasks { on, address, slots }));
        }
    }

    // --- the settlement ---

    pub(super) fn tell_settlement(&mut self, event: settlement::Event) {
        for action in self.settlement.on_event(event) {
            match action {
                settlement::Action::NeedHost => {
                    self.tell_hosts(hosts::Event::Need(Need::Coordinator));
                }
                settlement::Action::Tell(host, message) => {
                    self.tell_hosts(hosts::Event::Tell(host, message));
                }
                settlement::Action::Kill(host) => {
                    self.tell_hosts(hosts::Event::Stop(host, Duration::ZERO));
                }
                settlement::Action::SetTimer { kind, generation, after } => {
                    let timer = Timer { owner: Owner::Settlement, kind, generation };
                    self.actions.push(Action::SetTimer(timer, after));
                }
                settlement::Action::Failed(cause) => self.fail(self.entry(cause)),
                settlement::Action::Committed => self.stop_hosts(Outcome::Finish),
                settlement::Action::Consequence(cause) => {
                    self.history.add_consequence(self.entry(cause));
                }
                settlement::Action::Discarded => self.on_discarded(),
            }
        }
    }
}

/// The failure of a host whose program has returned.
fn no_execute() -> FailureCause {
    let message = "the program returned without reaching the execute() that it was planned at: it \
                   behaves differently in a host";
    FailureCause::new(CauseKind::Mismatch, message)
}

fn other_protocol(hello: &Hello) -> FailureCause {
    let message = format!(
        "the artifact speaks version {}.{} of the host protocol and this cluster {}: rebuild it \
         against the cluster's release",
        hello.major, hello.minor, HOST_PROTOCOL
    );
    FailureCause::new(CauseKind::Mismatch, message)
}
