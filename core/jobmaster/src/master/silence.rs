//! Hosts that say nothing any more: their process is stopped, or something keeps it from speaking.
//!
//! A host gives signs of life whatever its user code does. Silence is counted in intervals that
//! this JobMaster has lived through itself: when its own timer is late, the machine was busy or
//! asleep, and what hosts said meanwhile may still be waiting to be heard.

use std::time::Duration;

use millstream_gateway::{CauseKind, FailureCause};
use millstream_types::HostId;

use super::{JobMaster, Phase, TimerKind};
use crate::hosts::Role;

impl JobMaster {
    /// From now on it counts how long hosts are silent.
    pub(super) fn expect_signs_of_life(&mut self) {
        self.signs_expected_since = self.now;
        self.set_timer(TimerKind::Heartbeat, self.config.sign_of_life_interval());
    }

    /// An interval has passed.
    pub(super) fn on_heartbeat(&mut self) {
        let interval = self.config.sign_of_life_interval();
        let passed = self.now.saturating_since(self.signs_expected_since).min(interval);
        let mut silent = Vec::new();
        for (id, host) in self.hosts.iter_mut().filter(|(_, host)| host.is_ready()) {
            host.silent_for = host.silent_for.saturating_add(passed);
            if host.silent_for >= self.config.heartbeat_timeout {
                silent.push(id);
            }
        }
        for id in silent {
            self.on_host_silent(id);
        }
        if matches!(self.phase, Phase::Running { .. } | Phase::Committing) {
            self.expect_signs_of_life();
        }
    }

    /// It is killed, so that it does not wake up in the middle of what follows.
    fn on_host_silent(&mut self, id: HostId) {
        let Some(host) = self.hosts.get(id) else { return };
        let coordinates = host.role == Role::Coordinator;
        let message = format!(
            "{} said nothing for {:?} and was killed: its process was stopped, or something kept \
             it from speaking",
            host.description(),
            self.config.heartbeat_timeout
        );
        let location = host.location(id);
        let mut entry = self.entry(FailureCause::new(CauseKind::Stuck, message));
        entry.location = location;
        let works = coordinates || !self.executions.active_on(id).is_empty();
        self.stop_host(id, Duration::ZERO);
        match &mut self.phase {
            Phase::Running { held, .. } if works || held.is_some() => self.fail(entry),
            Phase::Running { exited, .. } => {
                exited.get_or_insert(entry);
            }
            Phase::Committing if coordinates => self.fail(entry),
            Phase::CancellingTasks { .. } => self.history.add_consequence(entry),
            Phase::New
            | Phase::WaitingForSlots
            | Phase::StartingHosts
            | Phase::Committing
            | Phase::Aborting { .. }
            | Phase::StoppingHosts { .. }
            | Phase::WaitingForRestart
            | Phase::Ended => {}
        }
    }
}
