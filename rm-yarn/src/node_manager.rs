//! Starts and stops containers at their NodeManagers.
//!
//! Starts at one node are made by one task at a time, several in one call, and so are stops; nodes
//! do not wait for each other, so that a frozen one delays no other. A container is stopped only
//! after its start has ended. A connection lives as long as its node has orders.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use millstream_types::TaskManagerId;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::completion::without_java;
use crate::credentials::Token;
use crate::ids::{ContainerId, Node};
use crate::ipc::{Connection, Identity, IpcError, Options, Protocol};
use crate::launch::WorkerLaunch;
use crate::proto::yarn::{
    ContainerExceptionMapProto, StartContainerRequestProto, StartContainersRequestProto,
    StartContainersResponseProto, StopContainersRequestProto, StopContainersResponseProto,
};

/// Limit on tasks that talk to nodes at a time.
const TASKS_MAX: usize = 64;
/// Limit on containers started, or stopped, by one call.
const BATCH_MAX: usize = 32;
/// The pauses before a start is tried again.
const START_PAUSES: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(2)];
/// The pauses before a stop is tried again: a NodeManager may restart. The ResourceManager, which
/// knows of it too, sees to the rest.
const STOP_PAUSES: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(20)];
/// Time limit for all attempts to start a batch.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// A container to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkerStart {
    pub(crate) container: ContainerId,
    pub(crate) node: Node,
    /// Says to the node that it may run.
    pub(crate) token: Token,
}

/// Why a container was not started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StartError {
    pub(crate) reason: String,
    /// Whether another container may fare as badly there.
    pub(crate) blames_node: bool,
}

#[derive(Debug)]
enum Order {
    Start(Box<WorkerStart>),
    Stop(ContainerId),
}

/// The outcome of each start.
pub(crate) type Outcomes = Vec<(ContainerId, Result<(), StartError>)>;

/// All NodeManagers on which this application has containers.
#[derive(Debug)]
pub(crate) struct NodeManagers {
    launch: Arc<dyn WorkerLaunch>,
    options: Options,
    tokens: HashMap<Node, Token>,
    /// A container is started once, and its stop is repeated only as often as YARN names it: so
    /// these are few more than the containers of a node.
    waiting: BTreeMap<Lane, VecDeque<Order>>,
    busy: BTreeSet<Lane>,
    running: JoinSet<(Lane, Outcomes)>,
}

/// A sequence of orders carried out one after the other. Starts and stops of a node have one each:
/// a dying node's stops must not delay its successor's starts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Lane {
    node: Node,
    starts: bool,
}

impl NodeManagers {
    pub(crate) fn new(launch: Box<dyn WorkerLaunch>, options: Options) -> Self {
        Self {
            launch: launch.into(),
            options,
            tokens: HashMap::new(),
            waiting: BTreeMap::new(),
            busy: BTreeSet::new(),
            running: JoinSet::new(),
        }
    }

    /// Shows this token to the node from now on.
    pub(crate) fn identify_as(&mut self, node: Node, token: Token) {
        self.tokens.insert(node, token);
    }

    /// Starts a container; [`next`](Self::next) tells how that went.
    pub(crate) fn start(&mut self, start: Box<WorkerStart>) {
        let lane = Lane { node: start.node.clone(), starts: true };
        self.waiting.entry(lane).or_default().push_back(Order::Start(start));
    }

    /// Stops a container, as well as it can.
    pub(crate) fn stop(&mut self, container: ContainerId, node: Node) {
        let lane = Lane { node, starts: false };
        self.waiting.entry(lane).or_default().push_back(Order::Stop(container));
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Starts tasks for waiting orders and returns the next outcomes; pending for ever when nothing
    /// is ordered. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Outcomes {
        self.dispatch();
        match self.running.join_next().await {
            None => std::future::pending().await,
            Some(Ok((lane, outcomes))) => {
                self.busy.remove(&lane);
                outcomes
            }
            Some(Err(error)) => {
                tracing::error!(%error, "a task that talks to a NodeManager died");
                Outcomes::new()
            }
        }
    }

    fn dispatch(&mut self) {
        while self.running.len() < TASKS_MAX {
            let next = self.waiting.keys().find(|lane| !self.busy.contains(*lane)).cloned();
            let Some(lane) = next else { return };
            let Some(queue) = self.waiting.get_mut(&lane) else { return };
            let batch: Vec<Order> = queue.drain(..queue.len().min(BATCH_MAX)).collect();
            if queue.is_empty() {
                self.waiting.remove(&lane);
            }
            let work = Work {
                address: lane.node.to_string(),
                token: self.tokens.get(&lane.node).cloned(),
                options: self.options.clone(),
                connection: None,
            };
            self.busy.insert(lane.clone());
            let launch = Arc::clone(&self.launch);
            self.running.spawn(async move {
                let outcomes = work.carry_out(&lane.node, batch, &*launch).await;
                (lane, outcomes)
            });
        }
    }
}

/// The context of a task that talks to one node.
struct Work {
    address: String,
    token: Option<Token>,
    options: Options,
    connection: Option<Connection>,
}

impl Work {
    async fn carry_out(
        mut self,
        node: &Node,
        batch: Vec<Order>,
        launch: &dyn WorkerLaunch,
    ) -> Outcomes {
        let (mut starts, mut stops, mut outcomes) = (Vec::new(), Vec::new(), Outcomes::new());
        for order in batch {
            match order {
                Order::Stop(container) => stops.push(container),
                Order::Start(start) => {
                    let worker = TaskManagerId::new(start.container.to_string());
                    match launch.context(&worker, &node.host) {
                        Ok(context) => starts.push((
                            start.container,
                            StartContainerRequestProto {
                                container_launch_context: Some(context),
                                container_token: Some(start.token.into()),
                            },
                        )),
                        Err(reason) => {
                            let error = StartError { reason, blames_node: false };
                            outcomes.push((start.container, Err(error)));
                        }
                    }
                }
            }
        }
        if !starts.is_empty() {
            outcomes.extend(self.start(starts).await);
        }
        if !stops.is_empty() {
            self.stop(&stops).await;
        }
        outcomes
    }

    async fn start(&mut self, starts: Vec<(ContainerId, StartContainerRequestProto)>) -> Outcomes {
        let (ids, requests): (Vec<_>, Vec<_>) = starts.into_iter().unzip();
        let request = StartContainersRequestProto { start_container_request: requests };
        let call = self.call_patiently("startContainers", &request, &START_PAUSES);
        let answer: Result<StartContainersResponseProto, String> =
            match timeout(START_DEADLINE, call).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {START_DEADLINE:?}")),
            };
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => {
                let reason = format!("NodeManager {} did not start it: {why}", self.address);
                let error = StartError { reason, blames_node: true };
                return ids.into_iter().map(|id| (id, Err(error.clone()))).collect();
            }
        };
        let started: BTreeSet<ContainerId> =
            answer.succeeded_requests.iter().map(ContainerId::from).collect();
        let outcome = |id: ContainerId| match started.contains(&id) {
            true => Ok(()),
            false => refused(&self.address, id, &answer.failed_requests),
        };
        ids.into_iter().map(|id| (id, outcome(id))).collect()
    }

    async fn stop(&mut self, stops: &[ContainerId]) {
        let container_id = stops.iter().map(|id| (*id).into()).collect();
        let request = StopContainersRequestProto { container_id };
        let call = self.call_patiently("stopContainers", &request, &STOP_PAUSES);
        let answer: Result<StopContainersResponseProto, String> = call.await;
        match answer {
            // A container that it does not know any more is as good as stopped.
            Ok(_) => {}
            Err(why) => {
                let (node, containers) = (&self.address, stops.len());
                tracing::debug!(node, containers, why, "left to the ResourceManager to stop");
            }
        }
    }

    /// Calls, and calls again after these pauses while that may help.
    async fn call_patiently<Q, A>(
        &mut self,
        method: &str,
        request: &Q,
        pauses: &[Duration],
    ) -> Result<A, String>
    where
        Q: prost::Message,
        A: prost::Message + Default,
    {
        let mut pauses = pauses.iter();
        loop {
            let error = match self.call(method, request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            self.connection = None;
            match pauses.next() {
                Some(pause) if may_pass(&error) => sleep(*pause).await,
                Some(_) | None => return Err(error.to_string()),
            }
        }
    }

    async fn call<Q, A>(&mut self, method: &str, request: &Q) -> Result<A, CallError>
    where
        Q: prost::Message,
        A: prost::Message + Default,
    {
        let connection = match &self.connection {
            Some(connection) => connection,
            None => {
                let identity = Identity::Token(self.token.clone().ok_or(CallError::NoToken)?);
                let protocol = Protocol::CONTAINER_MANAGEMENT;
                let opened =
                    Connection::open(&self.address, protocol, identity, &self.options).await?;
                self.connection.insert(opened)
            }
        };
        Ok(connection.call(method, request).await?)
    }
}

#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("the ResourceManager gave no token for it")]
    NoToken,
    #[error(transparent)]
    Ipc(#[from] IpcError),
}

/// Whether the same call may succeed soon.
fn may_pass(error: &CallError) -> bool {
    match error {
        CallError::NoToken => false,
        CallError::Ipc(IpcError::Remote(remote)) => remote.is("NMNotYetReadyException"),
        CallError::Ipc(
            IpcError::Connect { .. } | IpcError::Timeout { .. } | IpcError::Broken { .. },
        ) => true,
        CallError::Ipc(IpcError::Foreign { .. } | IpcError::Identify { .. }) => false,
    }
}

/// Why this container is not among the started ones.
fn refused(
    node: &str,
    container: ContainerId,
    failed: &[ContainerExceptionMapProto],
) -> Result<(), StartError> {
    let of_it = |one: &&ContainerExceptionMapProto| {
        one.container_id.as_ref().is_some_and(|id| ContainerId::from(id) == container)
    };
    let exception = failed.iter().find(of_it).and_then(|one| one.exception.as_ref());
    let (class, message) =
        exception.map_or(("", "no reason"), |it| (it.class_name(), it.message()));
    // The answer to an earlier attempt was lost.
    if message.contains("already is running") || message.contains("Attempt to relaunch") {
        return Ok(());
    }
    let stale = class.ends_with("InvalidContainerException") || message.contains("expired");
    let message = without_java(message.lines().next().unwrap_or_default());
    let reason = format!("NodeManager {node} refused to start it: {message}");
    Err(StartError { reason, blames_node: !stale })
}
