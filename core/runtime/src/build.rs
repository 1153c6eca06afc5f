//! From the job graph to one task: its operators built from the last to the first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use millstream_graph::{
    Carrier, ChainedOperator, EdgeId, JobEdge, JobGraph, JobVertex, NodeId, OutputName,
    Partitioner, RuntimeMode, StreamEdge, StreamEdgeId, carriers, sources, targets,
};
use millstream_network::{ChannelLayout, EndId, Exchange, Generation, InputChannels, TaskCounters};
use millstream_operators::writer::{WriterContext, may_be_overtaken};
use millstream_operators::{
    Beside, Built, ErasedStage, EventMailbox, EventSender, InputContext, InputStream, OUTPUT_BYTES,
    OperatorContext, Program, Result, TaskBody, TaskContext, UserMetrics, bail, error,
};
use millstream_task_checkpoint::TaskCheckpoints;
use millstream_types::{Clock, ExecutionAttemptId, HostId, JobId, OperatorId, VertexId};

use crate::checkpoints::Restore;

/// A program with the plan that was made of it.
#[derive(Debug)]
pub(crate) struct Blueprint {
    pub(crate) program: Arc<Program>,
    pub(crate) graph: JobGraph,
    /// The edges that start at each operator, in the order of the program.
    outputs: HashMap<NodeId, Vec<(StreamEdgeId, Carrier)>>,
}

impl Blueprint {
    pub(crate) fn new(program: Arc<Program>, graph: JobGraph) -> Self {
        let mut outputs: HashMap<NodeId, Vec<_>> = HashMap::new();
        let carriers = carriers(program.graph(), &graph);
        for (number, (edge, carrier)) in (0..).zip(program.graph().edges.iter().zip(carriers)) {
            outputs.entry(edge.source).or_default().push((StreamEdgeId(number), carrier));
        }
        Self { program, graph, outputs }
    }

    pub(crate) fn vertex(&self, id: VertexId) -> Result<&JobVertex> {
        self.graph.vertex(id).ok_or_else(|| error!("the job graph has no vertex {id}"))
    }

    /// Time between two watermarks of a stream.
    pub(crate) fn watermark_interval(&self) -> Duration {
        self.graph.settings.watermark_interval()
    }

    /// Time for which records may wait in output buffers.
    pub(crate) fn buffer_timeout(&self) -> Option<Duration> {
        u64::try_from(self.graph.settings.buffer_timeout_ms).ok().map(Duration::from_millis)
    }

    pub(crate) fn is_batch(&self) -> bool {
        self.graph.runtime_mode == RuntimeMode::Batch
    }

    /// The context of a task's operators.
    pub(crate) fn task_context(&self, vertex: &JobVertex, own: TaskOwn) -> TaskContext {
        TaskContext {
            job: own.job,
            name: task_name(vertex, own.subtask),
            subtask: own.subtask,
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            attempt: own.attempt,
            generation: own.generation,
            counters: own.counters,
            waker: own.waker,
            clock: own.clock,
            metrics: own.metrics,
            buffer_timeout: self.buffer_timeout(),
            output_bytes: OUTPUT_BYTES,
            watermark_interval: self.watermark_interval(),
            batch: self.is_batch(),
            checkpoints: own.checkpoints,
            has_finished: own.has_finished,
            beside: own.beside,
        }
    }

    /// The channels of each input of a subtask, with the hosts of their producers.
    pub(crate) fn inputs(
        &self,
        vertex: &JobVertex,
        (subtask, generation): (u32, Generation),
        placements: &Placements,
    ) -> Result<Vec<Vec<InputChannels>>> {
        let mut inputs: Vec<Vec<InputChannels>> = Vec::new();
        for edge in self.graph.inputs(vertex.id) {
            let producers = self.vertex(edge.source)?.parallelism;
            let at = usize::from(edge.input);
            if inputs.len() <= at {
                inputs.resize_with(at + 1, Vec::new);
            }
            let Some(channels) = inputs.get_mut(at) else { continue };
            let from = sources(edge.partitioner, subtask, producers, vertex.parallelism);
            let hosts = placements.hosts(edge.source)?;
            let end = EndId { edge: edge.id.0, subtask, generation };
            channels.push(InputChannels { end, from, hosts });
        }
        Ok(inputs)
    }

    /// The operator of a node.
    fn operator_of(&self, vertex: VertexId, node: NodeId) -> Result<OperatorId> {
        let operators = &self.vertex(vertex)?.operators;
        let found = operators.iter().find(|operator| operator.node == node);
        Ok(found.ok_or_else(|| error!("vertex {vertex} has no node {}", node.0))?.id)
    }

    /// The exchanges of each input of a vertex as checkpoints with records in flight have them;
    /// none if the records of one of them cannot be overtaken.
    fn overtaken_inputs(&self, vertex: &JobVertex) -> Result<Option<Vec<Vec<InputStream>>>> {
        let mut streams: Vec<Vec<InputStream>> = Vec::new();
        for edge in self.graph.inputs(vertex.id) {
            if !may_be_overtaken(edge.partitioner) {
                return Ok(None);
            }
            let at = usize::from(edge.input);
            if streams.len() <= at {
                streams.resize_with(at + 1, Vec::new);
            }
            let source = self.operator_of(edge.source, edge.source_node)?;
            let partitioner = edge.partitioner;
            let name = arrived(edge.input, partitioner, source, &edge.output);
            if let Some(streams) = streams.get_mut(at) {
                streams.push(InputStream { name, partitioner, sieve: None });
            }
        }
        Ok(Some(streams))
    }

    /// The stream of an exchange.
    fn stream_of(&self, exchange: EdgeId) -> Result<StreamEdgeId> {
        let mut streams = self.outputs.values().flatten();
        let found = streams.find(|(_, carrier)| match carrier {
            Carrier::Exchange(edge) => *edge == exchange,
            Carrier::Chain => false,
        });
        Ok(found.ok_or_else(|| error!("exchange {} has no stream", exchange.0))?.0)
    }

    /// The name of an exchange in checkpoints with records in flight, and the operator that has it
    /// there; none if its records cannot be overtaken, or some other ones of its consumer cannot.
    fn overtaken_output(&self, edge: &JobEdge) -> Result<Option<(OperatorId, String)>> {
        if !may_be_overtaken(edge.partitioner) {
            return Ok(None);
        }
        let source = self.operator_of(edge.source, edge.source_node)?;
        let target = self.operator_of(edge.target, edge.target_node)?;
        Ok(Some((source, waiting(&edge.output, edge.partitioner, target, edge.input))))
    }

    /// The ends at a task of the channels that arrive there.
    pub(crate) fn input_ends(
        &self,
        id: ExecutionAttemptId,
        generation: Generation,
    ) -> impl Iterator<Item = EndId> {
        let edges = self.graph.inputs(id.vertex);
        edges.map(move |edge| EndId { edge: edge.id.0, subtask: id.subtask, generation })
    }

    /// The ends at a task of the channels that start there.
    pub(crate) fn output_ends(
        &self,
        id: ExecutionAttemptId,
        generation: Generation,
    ) -> impl Iterator<Item = EndId> {
        let edges = self.graph.outputs(id.vertex);
        edges.map(move |edge| EndId { edge: edge.id.0, subtask: id.subtask, generation })
    }

    /// The channels of all exchanges.
    pub(crate) fn layout(&self) -> ChannelLayout {
        let parallelism = |id| self.vertex(id).map_or(0, |vertex| vertex.parallelism);
        let exchange = |edge: &JobEdge| {
            let (producers, consumers) = (parallelism(edge.source), parallelism(edge.target));
            (edge.id.0, (edge.partitioner, producers, consumers))
        };
        let exchanges: HashMap<_, _> = self.graph.edges.iter().map(exchange).collect();
        ChannelLayout::new(move |edge, from| match exchanges.get(&edge) {
            Some((partitioner, producers, consumers)) if from < *producers => {
                targets(*partitioner, from, *producers, *consumers)
            }
            _ => 0..0,
        })
    }
}

/// The name of the records in flight that had come to a task, among the states of its first
/// operator.
fn arrived(input: u8, by: Partitioner, source: OperatorId, output: &OutputName) -> String {
    format!("to input {input}: {} from {source}, {output}", by.ship_strategy())
}

/// The name of those that waited in a task's output, among the states of the operator that made
/// them.
fn waiting(output: &OutputName, by: Partitioner, target: OperatorId, input: u8) -> String {
    format!("from {output}: {} to {target}, input {input}", by.ship_strategy())
}

/// The name of a task with its number, as `Map (2/4)`.
pub(crate) fn task_name(vertex: &JobVertex, subtask: u32) -> String {
    format!("{} ({}/{})", vertex.name, subtask + 1, vertex.parallelism)
}

/// The part of a task's context that the plan does not say.
pub(crate) struct TaskOwn {
    pub(crate) job: JobId,
    pub(crate) subtask: u32,
    pub(crate) attempt: u32,
    pub(crate) generation: Generation,
    pub(crate) waker: Waker,
    pub(crate) clock: Clock,
    pub(crate) counters: Arc<TaskCounters>,
    pub(crate) metrics: Arc<UserMetrics>,
    pub(crate) checkpoints: Option<Arc<TaskCheckpoints>>,
    pub(crate) has_finished: bool,
    pub(crate) beside: Option<Arc<Beside>>,
}

/// The hosts of the subtasks that are placed.
#[derive(Debug, Default)]
pub(crate) struct Placements(HashMap<VertexId, Placed>);

#[derive(Debug)]
struct Placed {
    hosts: Vec<Option<HostId>>,
    /// The same, once every subtask is placed.
    all: Option<Arc<[HostId]>>,
}

impl Placements {
    /// Notes the host of a subtask of a vertex.
    pub(crate) fn place(&mut self, vertex: &JobVertex, subtask: u32, host: HostId) {
        let placed = self.0.entry(vertex.id).or_insert_with(|| Placed {
            hosts: vec![None; vertex.parallelism as usize],
            all: None,
        });
        if let Some(place) = placed.hosts.get_mut(subtask as usize)
            && place.replace(host) != Some(host)
        {
            placed.all = None;
        }
    }

    /// Has [`Self::hosts`] see what was placed.
    pub(crate) fn settle(&mut self) {
        for placed in self.0.values_mut().filter(|placed| placed.all.is_none()) {
            placed.all = placed.hosts.iter().copied().collect();
        }
    }

    /// The host of each subtask of a vertex.
    fn hosts(&self, vertex: VertexId) -> Result<Arc<[HostId]>> {
        let all = self.0.get(&vertex).and_then(|placed| placed.all.as_ref());
        let hosts =
            all.ok_or_else(|| error!("the subtasks of vertex {vertex} are not placed yet"))?;
        Ok(Arc::clone(hosts))
    }
}

/// The parts from which one task is built.
pub(crate) struct TaskParts {
    pub(crate) blueprint: Arc<Blueprint>,
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) vertex: VertexId,
    pub(crate) context: TaskContext,
    pub(crate) inputs: Vec<Vec<InputChannels>>,
    pub(crate) to_coordinator: EventSender,
    pub(crate) mailboxes: BTreeMap<OperatorId, Arc<EventMailbox>>,
    /// The state that the operators begin from.
    pub(crate) restore: Option<Restore>,
}

impl TaskParts {
    /// Builds the task's operators, last first.
    ///
    /// # Errors
    /// User code that sets an operator up failed.
    pub(crate) fn build(mut self) -> Result<Box<dyn TaskBody>> {
        let blueprint = Arc::clone(&self.blueprint);
        let vertex = blueprint.vertex(self.vertex)?;
        if let (Some(restore), Some(checkpoints)) = (self.restore.take(), &self.context.checkpoints)
        {
            checkpoints.restore(restore.read()?);
        }
        let mut built: HashMap<NodeId, ErasedStage> = HashMap::new();
        for (at, operator) in vertex.operators.iter().enumerate().rev() {
            let readers = self.readers(&blueprint, vertex, operator, &mut built)?;
            let outputs =
                blueprint.program.build_outputs(operator.node, operator.timed, readers)?;
            let overtaken = match at {
                0 => self.overtaken_inputs(&blueprint, vertex)?,
                _ => None,
            };
            let inputs = (at == 0 && !operator.source).then(|| InputContext {
                exchange: &self.exchange,
                inputs: std::mem::take(&mut self.inputs),
                operator: operator.id,
                overtaken,
            });
            let ctx = OperatorContext {
                task: &self.context,
                operator: operator.id,
                name: &operator.name,
                to_coordinator: &self.to_coordinator,
                from_coordinator: self.mailbox(operator)?,
            };
            match blueprint.program.build_operator(operator.node, &ctx, inputs, outputs)? {
                Built::Body(body) if at == 0 => {
                    let left = self.context.checkpoints.as_ref().and_then(|it| it.in_flight_left());
                    if let Some(left) = left {
                        bail!(
                            "the checkpoint has records {left:?}, and the job has no such stream \
                             now: start from a savepoint, which has no records in flight"
                        );
                    }
                    return Ok(body);
                }
                Built::Stage(stage) if at > 0 => {
                    built.insert(operator.node, stage);
                }
                Built::Body(_) | Built::Stage(_) => {
                    bail!("operator {:?} cannot stand at this place of a chain", operator.name)
                }
            }
        }
        bail!("vertex {:?} has no operator", vertex.name)
    }

    fn mailbox(&self, operator: &ChainedOperator) -> Result<&Arc<EventMailbox>> {
        self.mailboxes.get(&operator.id).ok_or_else(|| error!("operator without a mailbox"))
    }

    /// The stages that read an operator's outputs: chained operators and edges to other tasks.
    fn readers(
        &self,
        blueprint: &Blueprint,
        vertex: &JobVertex,
        operator: &ChainedOperator,
        built: &mut HashMap<NodeId, ErasedStage>,
    ) -> Result<Vec<(OutputName, Vec<ErasedStage>)>> {
        let mut readers: BTreeMap<OutputName, Vec<ErasedStage>> = BTreeMap::new();
        for (number, carrier) in blueprint.outputs.get(&operator.node).into_iter().flatten() {
            let edge = blueprint
                .program
                .graph()
                .edge(*number)
                .ok_or_else(|| error!("the program has no edge {}", number.0))?;
            let stage = match carrier {
                Carrier::Chain => {
                    let stage = built
                        .remove(&edge.target)
                        .ok_or_else(|| error!("the chain of {:?} is out of order", vertex.name))?;
                    let stage = self.behind_in_flight(blueprint, vertex, edge, stage)?;
                    if blueprint.graph.settings.serializes_always() {
                        blueprint.program.put_rows_before(operator.node, &edge.output, stage)?
                    } else {
                        stage
                    }
                }
                Carrier::Exchange(exchange) => {
                    self.writer(blueprint, *number, *exchange, operator.timed)?
                }
            };
            readers.entry(edge.output.clone()).or_default().push(stage);
        }
        Ok(readers.into_iter().collect())
    }

    /// The exchanges of each input. What says where their records go is made only if it is needed.
    fn overtaken_inputs(
        &self,
        blueprint: &Blueprint,
        vertex: &JobVertex,
    ) -> Result<Option<Vec<Vec<InputStream>>>> {
        let mut streams = blueprint.overtaken_inputs(vertex)?;
        let checkpoints = self.context.checkpoints.as_ref();
        if !checkpoints.is_some_and(|it| it.is_in_flight_rescaled()) {
            return Ok(streams);
        }
        let mut places = vec![0; streams.as_ref().map_or(0, Vec::len)];
        for edge in blueprint.graph.inputs(vertex.id) {
            let Some(place) = places.get_mut(usize::from(edge.input)) else { continue };
            let stream = streams.as_mut().and_then(|it| it.get_mut(usize::from(edge.input)));
            let stream = stream.and_then(|it| it.get_mut(*place));
            *place += 1;
            if let (Some(stream), Partitioner::Hash) = (stream, edge.partitioner) {
                let ctx = WriterContext {
                    task: &self.context,
                    exchange: &self.exchange,
                    edge: edge.id,
                    partitioner: edge.partitioner,
                    target_parallelism: vertex.parallelism,
                    target_max_parallelism: vertex.max_parallelism,
                    timed: false,
                    overtaken: None,
                    sieves: true,
                };
                let number = blueprint.stream_of(edge.id)?;
                stream.sieve = Some(blueprint.program.build_writer(number, &ctx)?);
            }
        }
        Ok(streams)
    }

    /// A chained stage behind the records that were in flight to it when there was an exchange in
    /// the chain's place, at another parallelism.
    fn behind_in_flight(
        &self,
        blueprint: &Blueprint,
        vertex: &JobVertex,
        edge: &StreamEdge,
        stage: ErasedStage,
    ) -> Result<ErasedStage> {
        let Some(checkpoints) = &self.context.checkpoints else { return Ok(stage) };
        if !checkpoints.is_in_flight_rescaled() {
            return Ok(stage);
        }
        let source = blueprint.operator_of(vertex.id, edge.source)?;
        let target = blueprint.operator_of(vertex.id, edge.target)?;
        let by = Partitioner::Rebalance;
        let name = waiting(&edge.output, by, target, edge.input);
        let from = checkpoints.take_in_flight(source, &name);
        let to = checkpoints.take_in_flight(target, &arrived(edge.input, by, source, &edge.output));
        if from.items.is_empty() && to.items.is_empty() {
            return Ok(stage);
        }
        let output = (edge.source, &edge.output);
        checkpoints.resume_first();
        let own = (self.context.subtask, self.context.parallelism.max(1));
        blueprint.program.put_in_flight_before(output, stage, own, (&from, &to))
    }

    fn writer(
        &self,
        blueprint: &Blueprint,
        number: StreamEdgeId,
        exchange: EdgeId,
        timed: bool,
    ) -> Result<ErasedStage> {
        let edge = blueprint
            .graph
            .edge(exchange)
            .ok_or_else(|| error!("the job graph has no exchange {}", exchange.0))?;
        let target = blueprint.vertex(edge.target)?;
        let ctx = WriterContext {
            task: &self.context,
            exchange: &self.exchange,
            edge: edge.id,
            partitioner: edge.partitioner,
            target_parallelism: target.parallelism,
            target_max_parallelism: target.max_parallelism,
            timed,
            overtaken: blueprint.overtaken_output(edge)?,
            sieves: false,
        };
        blueprint.program.build_writer(number, &ctx)
    }
}
