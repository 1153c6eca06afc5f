//! A job's coordinators in one process: split enumerators and sink committers.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use millstream_api::{CommitterInfo, OperatorCoordinator, Program, Replies, Result, error};
use millstream_graph::JobGraph;
use millstream_protocol::host::{Failure, OperatorEvent, Ready, Settled, from_host, to_host};
use millstream_storage::patience::{Waiting, set_waiting};
use millstream_types::{JobId, OperatorId};

use crate::failure::{self, guard};
use crate::link::{Outbox, ToControl};

/// One job's coordinators.
pub struct CoordinatorHost {
    coordinators: BTreeMap<OperatorId, Box<dyn OperatorCoordinator>>,
    outbox: Outbox,
    next_tick: Option<Instant>,
}

impl CoordinatorHost {
    /// Builds and opens the coordinators and says that the host is ready.
    ///
    /// # Errors
    /// A coordinator could not be built or opened: what failed, in one sentence.
    pub fn start(
        job: JobId,
        attempt: u32,
        program: &Program,
        graph: &JobGraph,
        outbox: Outbox,
    ) -> Result<Self, Failure> {
        failure::install_panic_hook();
        let mut coordinators = BTreeMap::new();
        let operators = graph.vertices.iter().flat_map(|vertex| &vertex.operators);
        for operator in operators.filter(|operator| operator.coordinated) {
            let info = CommitterInfo { job, operator: operator.id, attempt };
            let built = guard(|| {
                let mut coordinator =
                    program.build_coordinator(operator.node, &info)?.ok_or_else(|| {
                        error!(
                            "it says that it has an enumerator or a committer \
                             (has_enumerator(), has_committer()), and gave none"
                        )
                    })?;
                coordinator.open()?;
                Ok(coordinator)
            });
            let built = built.map_err(|failure| of_operator(failure, &operator.name))?;
            coordinators.insert(operator.id, built);
        }
        set_waiting(Waiting::Running);
        outbox.send(from_host::Message::Ready(Ready::default()));
        Ok(Self { coordinators, outbox, next_tick: None })
    }

    /// Does what the parent says until it says stop or is gone.
    ///
    /// # Errors
    /// A coordinator failed: the job does.
    pub fn run(mut self, control: &Receiver<ToControl>) -> Result<(), Failure> {
        loop {
            self.tick()?;
            let wait = self.next_tick.map_or(Duration::from_secs(3600), |next| {
                next.saturating_duration_since(Instant::now())
            });
            match control.recv_timeout(wait) {
                Ok(ToControl::Parent(parent)) => match parent.message {
                    Some(to_host::Message::OperatorEvent(event)) => self.on_event(&event)?,
                    Some(to_host::Message::Commit(_)) => self.settle(|it| it.commit()),
                    Some(to_host::Message::Abort(_)) => self.settle(|it| it.abort()),
                    Some(to_host::Message::Shutdown(_)) => return Ok(()),
                    Some(
                        to_host::Message::Begin(_)
                        | to_host::Message::Deploy(_)
                        | to_host::Message::Cancel(_)
                        | to_host::Message::Answer(_),
                    )
                    | None => {}
                },
                Ok(ToControl::ParentGone) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(ToControl::Task(_)) | Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn tick(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        if self.next_tick.is_none_or(|next| now < next) {
            return Ok(());
        }
        let mut next_tick = None;
        for (operator, coordinator) in &mut self.coordinators {
            let mut replies = Replies::new();
            let next: Option<Instant> = guard(|| coordinator.tick(now, &mut replies))?;
            next_tick = match (next_tick, next) {
                (Some(left), Some(right)) => Some(std::cmp::min::<Instant>(left, right)),
                (one, other) => one.or(other),
            };
            send(&self.outbox, *operator, replies);
        }
        self.next_tick = next_tick;
        Ok(())
    }

    fn on_event(&mut self, event: &OperatorEvent) -> Result<(), Failure> {
        let Ok(operator) = OperatorId::try_from(event.operator_id.as_slice()) else {
            return Ok(());
        };
        let coordinator = self.coordinators.get_mut(&operator);
        let mut replies = Replies::new();
        guard(|| {
            coordinator.ok_or_else(|| error!("operator {operator} has no coordinator"))?.on_event(
                event.subtask,
                &event.payload,
                &mut replies,
            )
        })?;
        send(&self.outbox, operator, replies);
        // The first reader that asks starts the search for splits; one that is started only to
        // discard never searches.
        self.next_tick.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn settle(
        &mut self,
        mut settle: impl FnMut(&mut Box<dyn OperatorCoordinator>) -> millstream_api::Result<()>,
    ) {
        let failures =
            self.coordinators.values_mut().filter_map(|it| guard(|| settle(it)).err()).collect();
        let failure: Option<Failure> = Vec::into_iter(failures).next();
        self.outbox.send(from_host::Message::Settled(Settled { failure }));
    }
}

fn send(outbox: &Outbox, operator: OperatorId, replies: Replies) {
    for (subtask, payload) in replies {
        outbox.send(from_host::Message::OperatorEvent(OperatorEvent {
            operator_id: operator.as_bytes().to_vec(),
            subtask,
            payload,
        }));
    }
}

fn of_operator(failure: Failure, operator: &str) -> Failure {
    Failure { message: format!("operator {operator:?}: {}", failure.message), ..failure }
}
