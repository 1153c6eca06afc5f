//! A job's coordinators in one process: split enumerators and sink committers.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use millstream_api::{CommitterInfo, OperatorCoordinator, Program, Replies, Result, error};
use millstream_graph::{ChainedOperator, JobGraph};
use millstream_protocol::host::{Failure, OperatorEvent, Ready, Settled, from_host, to_host};
use millstream_storage::patience::{Waiting, set_waiting};
use millstream_types::{JobId, OperatorId};

use crate::failure::{self, guard};
use crate::link::{Outbox, ToControl};

/// A coordinator and its operator's name, which every failure of it carries.
struct Named {
    name: String,
    coordinator: Box<dyn OperatorCoordinator>,
}

impl Named {
    /// Runs user code of the coordinator.
    fn guard<R>(
        &mut self,
        run: impl FnOnce(&mut dyn OperatorCoordinator) -> Result<R>,
    ) -> Result<R, Failure> {
        guard(|| run(self.coordinator.as_mut())).map_err(|failure| of_operator(failure, &self.name))
    }
}

/// One job's coordinators.
pub struct CoordinatorHost {
    coordinators: BTreeMap<OperatorId, Named>,
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
            let name = described(operator);
            let coordinator = built.map_err(|failure| of_operator(failure, &name))?;
            coordinators.insert(operator.id, Named { name, coordinator });
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
            let next: Option<Instant> = coordinator.guard(|it| it.tick(now, &mut replies))?;
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
        let mut replies = Replies::new();
        match self.coordinators.get_mut(&operator) {
            Some(coordinator) => {
                coordinator.guard(|it| it.on_event(event.subtask, &event.payload, &mut replies))?
            }
            None => guard(|| Err(error!("operator {operator} has no coordinator")))?,
        }
        send(&self.outbox, operator, replies);
        // The first reader that asks starts the search for splits; one that is started only to
        // discard never searches.
        self.next_tick.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn settle(
        &mut self,
        mut settle: impl FnMut(&mut dyn OperatorCoordinator) -> millstream_api::Result<()>,
    ) {
        let settled = self.coordinators.values_mut().map(|it| it.guard(&mut settle));
        let failures = settled.filter_map(Result::err).collect();
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

/// An operator's name, and its uid where that says more.
fn described(operator: &ChainedOperator) -> String {
    let name = format!("operator {:?}", operator.name);
    match &operator.uid {
        Some(uid) if !operator.name.contains(uid.as_str()) => format!("{name} (uid {uid:?})"),
        Some(_) | None => name,
    }
}

fn of_operator(failure: Failure, operator: &str) -> Failure {
    Failure { message: format!("{operator}: {}", failure.message), ..failure }
}

#[cfg(test)]
mod tests {
    use millstream_graph::NodeId;

    use super::*;

    /// Fails whatever it is told.
    struct Failing;

    impl OperatorCoordinator for Failing {
        fn open(&mut self) -> Result<()> {
            Ok(())
        }

        fn on_event(&mut self, _: u32, _: &[u8], _: &mut Replies) -> Result<()> {
            Err(error!("the directory is gone"))
        }

        fn tick(&mut self, _: Instant, _: &mut Replies) -> Result<Option<Instant>> {
            panic!("no luck")
        }

        fn commit(&mut self) -> Result<()> {
            Err(error!("the disk is full"))
        }

        fn abort(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whatever_fails_in_a_coordinator_names_its_operator() {
        let id = OperatorId::from_u128(1);
        let name = described(&ChainedOperator {
            id,
            node: NodeId(0),
            uid: Some("orders".to_owned()),
            name: "Source: Source".to_owned(),
            coordinated: true,
            source: true,
            upstream: None,
            output_type: "u64".to_owned(),
            timed: false,
        });
        let coordinators = [(id, Named { name, coordinator: Box::new(Failing) })].into();
        let (outbox, mut outgoing) = Outbox::new();
        let next_tick = Some(Instant::now());
        let mut host = CoordinatorHost { coordinators, outbox, next_tick };
        let named = "operator \"Source: Source\" (uid \"orders\"): ";
        let failure = host.tick().unwrap_err();
        assert!(failure.message.starts_with(named), "{failure:?}");
        assert!(failure.message.ends_with("no luck"), "{failure:?}");
        let operator_id = id.as_bytes().to_vec();
        let event = OperatorEvent { operator_id, subtask: 0, payload: Vec::new() };
        let failure = host.on_event(&event).unwrap_err();
        assert_eq!(failure.message, format!("{named}the directory is gone"));
        host.settle(|it| it.commit());
        let Some(from_host::Message::Settled(settled)) = outgoing.next().unwrap().message else {
            panic!("it is settled")
        };
        assert_eq!(settled.failure.unwrap().message, format!("{named}the disk is full"));
    }
}
