//! A process of the job: a host of the engine, whose parts take turns.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use millstream_api::Program;
use millstream_graph::JobGraph;
use millstream_network::Exchange;
use millstream_protocol::host::{Begin, FromHost, Role, ToHost};
use millstream_runtime::link::Outgoing;
use millstream_runtime::{
    CoordinatorHost, HostCheckpointing, Outbox, Part, TaskHost, TaskHostConfig, ToControl,
    control_queue,
};
use millstream_security::Secret;
use millstream_types::{Clock, HostId, JobId, LeaderEpoch};

/// The most parts of a host that are not taken yet.
const PARTS_MAX: usize = 64;

enum Inside {
    Tasks(Box<TaskHost>),
    Coordinators(CoordinatorHost),
}

/// A host that runs. One that is dropped is killed.
pub struct Host {
    // The parts are dropped first: what runs in them ends without a word.
    parts: Vec<Box<dyn Part>>,
    new_parts: Receiver<Box<dyn Part>>,
    inside: Inside,
    control: SyncSender<ToControl>,
    received: Receiver<ToControl>,
    outgoing: Outgoing,
    /// The TaskManager on which it runs.
    pub on: String,
    /// It does nothing until then.
    pub silent_until: Option<Instant>,
    /// Its snapshots are not written until then.
    pub slow_until: Option<Instant>,
    /// It is told to end; at this time by force.
    pub killed_at: Option<Instant>,
}

/// The end of a host.
pub enum End {
    /// It was told to.
    Asked,
    Failed(String),
}

impl Host {
    /// Starts a host on a TaskManager.
    ///
    /// # Errors
    /// The sentence says why it cannot be.
    pub fn start(
        begin: &Begin,
        on: &str,
        program: &Arc<Program>,
        clock: &Clock,
    ) -> Result<Self, String> {
        let (parts, new_parts) = sync_channel(PARTS_MAX);
        let (control, received) = control_queue();
        let (outbox, outgoing) = Outbox::new();
        let job = JobId::try_from(begin.job_id.as_slice()).map_err(|it| it.to_string())?;
        let graph = begin.job_graph.clone().unwrap_or_default();
        let graph = JobGraph::try_from(graph).map_err(|it| it.to_string())?;
        let inside = if begin.role() == Role::Coordinator {
            let failed = control.clone();
            let on_failure = Arc::new(move |failure| {
                let _ = failed.try_send(ToControl::CoordinatorFailed(Box::new(failure)));
            });
            let job = (job, &**program, &graph);
            let host =
                CoordinatorHost::stepped(begin, job, parts, on_failure, outbox, clock.clone());
            Inside::Coordinators(host.map_err(|failure| failure.message)?)
        } else {
            let config = TaskHostConfig {
                job,
                host: HostId::try_from(begin.host_id.as_slice()).map_err(|it| it.to_string())?,
                epoch: LeaderEpoch::new(begin.epoch),
                attempt: begin.attempt,
                token: Secret::new([0; 32]),
                credentials: None,
                bind: Vec::new(),
                clock: clock.clone(),
                checkpointing: HostCheckpointing::of(begin).map_err(|it| format!("{it:#}"))?,
            };
            let job = (Arc::clone(program), graph);
            let host = TaskHost::stepped(config, job, parts, control.clone(), outbox);
            Inside::Tasks(Box::new(host.map_err(|error| format!("{error:#}"))?))
        };
        Ok(Self {
            parts: Vec::new(),
            new_parts,
            inside,
            control,
            received,
            outgoing,
            on: on.to_owned(),
            silent_until: None,
            slow_until: None,
            killed_at: None,
        })
    }

    /// Hands it a message.
    pub fn tell(&self, message: ToHost) {
        let told = self.control.try_send(ToControl::Parent(Box::new(message)));
        assert!(told.is_ok(), "a host leaves thousands of messages unread");
    }

    pub const fn has_tasks(&self) -> bool {
        matches!(self.inside, Inside::Tasks(_))
    }

    pub fn is_silent(&self, now: Instant) -> bool {
        self.silent_until.is_some_and(|until| now < until)
    }

    /// The number of its parts, with the control thread.
    pub fn parts(&mut self) -> usize {
        self.parts.extend(self.new_parts.try_iter());
        1 + self.parts.len()
    }

    /// Gives a part its turn: whether there was something to do, and the host's end.
    pub fn turn(&mut self, part: usize, choice: usize, now: Instant) -> (bool, Option<End>) {
        let Some(at) = part.checked_sub(1) else { return self.control() };
        let is_slow = self.slow_until.is_some_and(|until| now < until);
        let part = self.parts.get_mut(at).filter(|part| !is_slow || !part.writes_snapshots());
        (part.is_some_and(|part| part.turn(choice)), None)
    }

    fn control(&mut self) -> (bool, Option<End>) {
        let Ok(message) = self.received.try_recv() else { return (false, None) };
        let goes_on = match &mut self.inside {
            Inside::Tasks(host) => Ok(host.on_control(message)),
            Inside::Coordinators(host) => host.on_control(message),
        };
        let end = match goes_on {
            Ok(true) => None,
            Ok(false) => Some(End::Asked),
            Err(failure) => Some(End::Failed(failure.message)),
        };
        (true, end)
    }

    /// The next message that it sends.
    pub fn said(&mut self) -> Option<FromHost> {
        self.outgoing.take_waiting()
    }

    /// The next time at which something will be due in it.
    pub fn next_time(&self, now: Instant) -> Option<Instant> {
        if let Some(until) = self.silent_until.filter(|until| now < *until) {
            return Some(self.killed_at.map_or(until, |at| at.min(until)));
        }
        let slow = self.slow_until.filter(|until| now < *until);
        let parts = self.parts.iter().filter_map(|part| part.next_time());
        parts.chain(slow).chain(self.killed_at).min()
    }

    pub fn exchange(&self) -> Option<&Arc<Exchange>> {
        match &self.inside {
            Inside::Tasks(host) => Some(host.exchange()),
            Inside::Coordinators(_) => None,
        }
    }

    pub fn send_metrics(&self) {
        if let Inside::Tasks(host) = &self.inside {
            host.send_metrics();
        }
    }
}
