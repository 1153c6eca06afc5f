//! A job's program as the runtime sees it: the graph, and how to build each of its parts.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use millstream_connector::{CommitterInfo, OperatorCoordinator};
use millstream_event_time::{Alignment, AlignmentGroups};
use millstream_graph::{
    Chaining, JobGraph, NodeId, NodeKind, OutputName, StreamEdge, StreamEdgeId, StreamGraph,
    StreamNode,
};
use millstream_network::{Batch, Data, EncodeError, check_travels};
use millstream_task_checkpoint::RestoredInFlight;

use crate::Result;
use crate::body::put_input_before;
use crate::in_flight::replay;
use crate::on_error::{OnError, Policy};
use crate::output::Outputs;
use crate::rows::RowsStage;
use crate::side::{Side, SideBuffer};
use crate::stage::{ErasedStage, FanOut, Stage, erase, reveal};
use crate::task::{InputContext, OperatorContext, TaskBody, TaskContext};
use crate::writer::WriterContext;

type Maker<F> = Arc<F>;

/// Builds the last stage of an edge.
pub type WriterMaker = Maker<dyn Fn(&WriterContext<'_>) -> Result<ErasedStage> + Send + Sync>;
/// Builds a source's task, which gives its records event times and watermarks if it is told how.
pub type SourceMaker = Maker<
    dyn Fn(&OperatorContext<'_>, Outputs, Option<&ErasedSourceTimes>) -> Result<Box<dyn TaskBody>>
        + Send
        + Sync,
>;
/// The event times and watermarks of a source's records, as `watermarks_per_split` makes them,
/// their type hidden.
pub struct ErasedSourceTimes {
    pub(crate) times: Box<dyn Any + Send + Sync>,
    /// The group for which splits wait.
    pub(crate) alignment: Option<Alignment>,
}
/// Builds an operator with one input.
pub type StageMaker =
    Maker<dyn Fn(&OperatorContext<'_>, Outputs) -> Result<ErasedStage> + Send + Sync>;
/// Puts an input before an operator with one input.
type InputMaker = fn(&TaskContext, &mut InputContext<'_>, ErasedStage) -> Result<Box<dyn TaskBody>>;
/// Builds the task of an operator with two inputs.
pub type TwoInputMaker = Maker<
    dyn Fn(&OperatorContext<'_>, InputContext<'_>, Outputs) -> Result<Box<dyn TaskBody>>
        + Send
        + Sync,
>;
/// Builds an operator's coordinator.
pub type CoordinatorMaker =
    Maker<dyn Fn(&CoordinatorContext<'_>) -> Result<Box<dyn OperatorCoordinator>> + Send + Sync>;

/// Context for building a coordinator.
pub struct CoordinatorContext<'a> {
    /// The job and the operator.
    pub info: CommitterInfo,
    /// The number of the operator's subtasks.
    pub parallelism: u32,
    /// The alignment groups of the job.
    pub groups: &'a AlignmentGroups,
    /// The state that the coordinator begins from, if it is restored.
    pub restored: Option<&'a [u8]>,
    /// The group of a source.
    alignment: Option<&'a Alignment>,
}

impl<'a> CoordinatorContext<'a> {
    /// For an operator of a job.
    #[must_use]
    pub const fn new(info: CommitterInfo, parallelism: u32, groups: &'a AlignmentGroups) -> Self {
        Self { info, parallelism, groups, restored: None, alignment: None }
    }

    /// The alignment group of a source, if it has one.
    pub(crate) const fn alignment(&self) -> Option<&'a Alignment> {
        self.alignment
    }
}

/// Builds one operator.
pub struct OperatorMaker(MakerKind);

enum MakerKind {
    Source {
        source: SourceMaker,
        /// The event times and watermarks that the program sets at the source, their type hidden.
        times: Option<ErasedSourceTimes>,
    },
    Stage {
        stage: StageMaker,
        input: InputMaker,
    },
    TwoInput(TwoInputMaker),
}

impl OperatorMaker {
    /// For a source.
    #[must_use]
    pub const fn source(make: SourceMaker) -> Self {
        Self(MakerKind::Source { source: make, times: None })
    }

    /// For an operator with one input of this type.
    #[must_use]
    pub const fn one_input<T: Data>(make: StageMaker) -> Self {
        Self(MakerKind::Stage { stage: make, input: put_input_before::<T> })
    }

    /// For an operator with two inputs.
    #[must_use]
    pub const fn two_inputs(make: TwoInputMaker) -> Self {
        Self(MakerKind::TwoInput(make))
    }
}

/// An operator that is added to a program.
pub struct NewOperator {
    /// The name in plans, logs and metrics of an operator without a uid.
    pub name: &'static str,
    /// The name of its state across versions of the job.
    pub uid: Option<String>,
    /// The kind of node that it is in the graph.
    pub kind: NodeKind,
    /// Whether it has keyed state.
    pub stateful: bool,
    /// Whether it gives records event times.
    pub assigns_times: bool,
    /// The type of its results, for people.
    pub output_type: &'static str,
    /// Builds it.
    pub maker: OperatorMaker,
    /// Builds its coordinator, if it may have one.
    pub coordinator: Option<CoordinatorMaker>,
}

/// One operator's part of a program.
struct Node {
    maker: OperatorMaker,
    coordinator: Option<CoordinatorMaker>,
}

/// Puts records in flight of an exchange that has become a chain before its consumer.
type Replay =
    fn(ErasedStage, (u32, u32), &RestoredInFlight, &RestoredInFlight) -> Result<ErasedStage>;

/// Brings the readers of one output together.
#[derive(Clone, Copy)]
pub struct OutputMaker {
    combine: fn(Vec<ErasedStage>) -> Result<ErasedStage>,
    side: fn(ErasedStage, bool) -> Result<Box<dyn Side>>,
    record: TypeId,
    rows: fn(ErasedStage) -> Result<ErasedStage>,
    replay: Replay,
    travels: fn() -> Result<(), EncodeError>,
}

impl OutputMaker {
    /// For an output that one stage reads.
    #[must_use]
    pub fn single<T: Data>() -> Self {
        Self {
            combine: only,
            side: SideBuffer::<T>::erased,
            record: TypeId::of::<T>(),
            rows: behind_rows::<T>,
            replay: replay::<T>,
            travels: check_travels::<T>,
        }
    }

    /// For an output that several stages read.
    #[must_use]
    pub fn shared<T: Data + Clone>() -> Self {
        Self { combine: fan_out::<T>, ..Self::single::<T>() }
    }
}

/// The stage as if it were in another process. Records that could not be sent there are passed as
/// they are: the planner has seen that this edge is inside a task, where it makes no difference.
fn behind_rows<T: Data>(stage: ErasedStage) -> Result<ErasedStage> {
    if check_travels::<T>().is_err() {
        return Ok(stage);
    }
    Ok(erase::<T>(Box::new(RowsStage { next: reveal::<T>(stage)? })))
}

fn only(mut stages: Vec<ErasedStage>) -> Result<ErasedStage> {
    match (stages.pop(), stages.is_empty()) {
        (Some(stage), true) => Ok(stage),
        _ => Err(anyhow::anyhow!("a stream without clone() has several readers")),
    }
}

fn fan_out<T: Clone + Send + 'static>(stages: Vec<ErasedStage>) -> Result<ErasedStage> {
    if stages.len() == 1 {
        return only(stages);
    }
    let branches =
        stages.into_iter().map(reveal::<T>).collect::<Result<Vec<Box<dyn Stage<T>>>>>()?;
    Ok(erase::<T>(Box::new(FanOut { branches, clone: Batch::clone })))
}

/// The result of the build function: the graph, and the makers of its operators. Hosts build tasks
/// from it, the planner only looks at the graph.
#[derive(Default)]
pub struct Program {
    graph: StreamGraph,
    nodes: Vec<Node>,
    /// One for each edge of the graph, in order.
    writers: Vec<WriterMaker>,
    outputs: HashMap<(NodeId, OutputName), OutputMaker>,
    /// The side outputs that the program asks for or sends refused records to.
    sides: BTreeMap<(NodeId, OutputName), Vec<TypeId>>,
}

/// An operator that is built, without what feeds it.
pub enum Built {
    /// A whole task: it starts with a source or with a two-input operator.
    Body(Box<dyn TaskBody>),
    /// The stage of an operator with one input.
    Stage(ErasedStage),
}

impl Program {
    /// The graph.
    #[must_use]
    pub const fn graph(&self) -> &StreamGraph {
        &self.graph
    }

    /// Adds an operator that has no edges and no outputs yet.
    pub fn add(&mut self, new: NewOperator) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.graph.nodes.push(StreamNode {
            id,
            name: new.uid.clone().unwrap_or_else(|| new.name.to_owned()),
            uid: new.uid,
            kind: new.kind,
            stateful: new.stateful,
            assigns_times: new.assigns_times,
            needs_times: false,
            parallelism: None,
            max_parallelism: None,
            slot_sharing_group: None,
            chaining: Chaining::Always,
            output_type: new.output_type.to_owned(),
        });
        self.nodes.push(Node { maker: new.maker, coordinator: new.coordinator });
        id
    }

    /// Adds an edge, and what sends its records to another task.
    pub fn connect(&mut self, edge: StreamEdge, writer: WriterMaker) {
        self.graph.edges.push(edge);
        self.writers.push(writer);
    }

    /// An operator of the graph, to be configured.
    pub fn node_mut(&mut self, node: NodeId) -> Option<&mut StreamNode> {
        self.graph.nodes.get_mut(node.0 as usize)
    }

    /// Sets how the readers of an output come together.
    pub fn set_output(&mut self, node: NodeId, output: OutputName, maker: OutputMaker) {
        self.outputs.insert((node, output), maker);
    }

    /// Things that are allowed and probably not meant, a sentence each: streams that nothing reads,
    /// event times that are lost.
    #[must_use]
    pub fn warnings(&self, job: &JobGraph) -> Vec<String> {
        let read: HashSet<(NodeId, &OutputName)> =
            self.graph.edges.iter().map(|edge| (edge.source, &edge.output)).collect();
        let with_readers: HashSet<NodeId> = read.iter().map(|(node, _)| *node).collect();
        let mut warnings = Vec::new();
        for node in self.graph.nodes.iter().filter(|node| node.kind.has_output()) {
            let what = match node.kind {
                NodeKind::Source { .. } => "source",
                NodeKind::Operator | NodeKind::Sink { .. } => "operator",
            };
            if !with_readers.contains(&node.id) {
                warnings.push(format!(
                    "nothing reads the results of {what} {:?}, so they are discarded: end the \
                     stream in a sink, or leave the {what} out",
                    node.name
                ));
            }
        }
        for (node, output) in self.sides.keys() {
            if !read.contains(&(*node, output)) {
                warnings.push(format!(
                    "nothing reads the {output} of operator {:?}, so its records are dropped: end \
                     side_output() in a sink",
                    self.name_of(*node)
                ));
            }
        }
        warnings.extend(self.lost_times(job));
        warnings
    }

    /// The operators of which one input has event times and the other has none.
    fn lost_times(&self, job: &JobGraph) -> Vec<String> {
        let operators = job.vertices.iter().flat_map(|vertex| &vertex.operators);
        let timed: HashMap<NodeId, bool> = operators.map(|o| (o.node, o.timed)).collect();
        // For each operator, whether its two inputs have event times.
        let mut inputs: BTreeMap<NodeId, [Option<bool>; 2]> = BTreeMap::new();
        for edge in &self.graph.edges {
            let input = inputs.entry(edge.target).or_default().get_mut(usize::from(edge.input));
            if let Some(input) = input {
                *input = timed.get(&edge.source).copied();
            }
        }
        let lost = inputs.into_iter().filter_map(|(node, timed)| {
            let (has, lacks) = match timed {
                [Some(true), Some(false)] => ("first", "second"),
                [Some(false), Some(true)] => ("second", "first"),
                _ => return None,
            };
            Some(format!(
                "records of the {has} input of operator {:?} have event times, those of the \
                 {lacks} input have none, so its results have none: let the sources of both give \
                 event times (has_timestamps())",
                self.name_of(node)
            ))
        });
        lost.collect()
    }

    /// The faults that only the whole program shows, a sentence each.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let twofold = self.sides.iter().filter(|(_, types)| types.len() > 1);
        twofold
            .map(|((node, output), _)| {
                format!(
                    "the {output} of operator {:?} is used with two record types: give each tag a \
                     name of its own",
                    self.name_of(*node)
                )
            })
            .collect()
    }

    /// The exchanges whose records cannot be sent to another process, a sentence for each output.
    #[must_use]
    pub fn faulty_exchanges(&self, job: &JobGraph) -> Vec<String> {
        let mut seen = HashSet::new();
        let mut known = HashMap::new();
        let outputs = job.edges.iter().map(|edge| (edge.source_node, &edge.output));
        outputs
            .filter(|output| seen.insert(*output))
            .filter_map(|(node, output)| {
                let maker = self.output(node, output).ok()?;
                let travels = known.entry(maker.record).or_insert_with(maker.travels);
                let why = travels.as_ref().err()?;
                let name = self.name_of(node);
                Some(format!("the {output} of operator {name:?} goes to another task: {why}"))
            })
            .collect()
    }

    fn name_of(&self, node: NodeId) -> &str {
        self.graph.nodes.get(node.0 as usize).map_or("", |node| node.name.as_str())
    }

    /// Makes a side output of an operator a stream, for any number of readers.
    pub fn add_side_output<S: Data + Clone>(&mut self, node: NodeId, tag: &str) {
        let side = (node, OutputName::Side(tag.to_owned()));
        self.outputs.entry(side.clone()).or_insert_with(OutputMaker::shared::<S>);
        self.use_side::<S>(side);
    }

    /// Sets the event times and watermarks of a source's records. Returns whether it could: whether
    /// the operator is a source that has none set yet.
    pub fn set_source_times(&mut self, node: NodeId, set: ErasedSourceTimes) -> bool {
        let maker = self.nodes.get_mut(node.0 as usize).map(|node| &mut node.maker.0);
        let Some(MakerKind::Source { times: times @ None, .. }) = maker else { return false };
        let is_aligned = set.alignment.is_some();
        *times = Some(set);
        if let Some(StreamNode { kind: NodeKind::Source { coordinated, .. }, .. }) =
            self.node_mut(node)
        {
            *coordinated |= is_aligned;
        }
        true
    }

    /// Notes what becomes of the records that an operator refuses.
    pub fn refuse<T: 'static>(&mut self, node: NodeId, on_error: &OnError<T>) {
        if let Policy::SideOutput { tag, .. } = &on_error.0 {
            self.use_side::<T>((node, OutputName::Side(tag.name().to_owned())));
        }
    }

    fn use_side<S: 'static>(&mut self, side: (NodeId, OutputName)) {
        let types = self.sides.entry(side).or_default();
        if !types.contains(&TypeId::of::<S>()) {
            types.push(TypeId::of::<S>());
        }
    }

    fn node(&self, node: NodeId) -> Result<&Node> {
        self.nodes
            .get(node.0 as usize)
            .ok_or_else(|| anyhow::anyhow!("the program has no operator {}", node.0))
    }

    /// Builds the stage that sends an edge's records to another task.
    ///
    /// # Errors
    /// The edge is not one of the program's.
    pub fn build_writer(&self, edge: StreamEdgeId, ctx: &WriterContext<'_>) -> Result<ErasedStage> {
        let writer = self.writers.get(edge.0 as usize);
        writer.ok_or_else(|| anyhow::anyhow!("the program has no edge {}", edge.0))?(ctx)
    }

    /// Puts the codec of records between an operator's output and a stage that it is chained to.
    ///
    /// # Errors
    /// The graph connects what does not fit.
    pub fn put_rows_before(
        &self,
        node: NodeId,
        output: &OutputName,
        stage: ErasedStage,
    ) -> Result<ErasedStage> {
        (self.output(node, output)?.rows)(stage)
    }

    /// Puts the records in flight of an exchange that has become a chain before its consumer: those
    /// that waited in the output, and those that had come to the consumer; `own` is the subtask and
    /// the number of them.
    ///
    /// # Errors
    /// They cannot be read, or the graph connects what does not fit.
    pub fn put_in_flight_before(
        &self,
        (node, output): (NodeId, &OutputName),
        stage: ErasedStage,
        own: (u32, u32),
        (from, to): (&RestoredInFlight, &RestoredInFlight),
    ) -> Result<ErasedStage> {
        (self.output(node, output)?.replay)(stage, own, from, to)
    }

    fn output(&self, node: NodeId, output: &OutputName) -> Result<&OutputMaker> {
        self.outputs
            .get(&(node, output.clone()))
            .ok_or_else(|| anyhow::anyhow!("operator {} has no {output}", node.0))
    }

    /// Brings the readers of a node's outputs together; `timed` says whether its results have event
    /// times.
    ///
    /// # Errors
    /// The readers are of different types, or several read a stream that cannot be cloned.
    pub fn build_outputs(
        &self,
        node: NodeId,
        timed: bool,
        readers: Vec<(OutputName, Vec<ErasedStage>)>,
    ) -> Result<Outputs> {
        let mut outputs = Outputs { timed, ..Outputs::default() };
        for (name, stages) in readers.into_iter().filter(|(_, stages)| !stages.is_empty()) {
            let maker = self.output(node, &name)?;
            let stage = (maker.combine)(stages)?;
            match name {
                OutputName::Main => outputs.main = Some(stage),
                OutputName::Side(tag) => outputs.sides.push((tag, (maker.side)(stage, timed)?)),
            }
        }
        Ok(outputs)
    }

    /// Builds an operator. `inputs` is given for the first operator of a task.
    ///
    /// # Errors
    /// User code that sets the operator up failed.
    pub fn build_operator(
        &self,
        node: NodeId,
        ctx: &OperatorContext<'_>,
        inputs: Option<InputContext<'_>>,
        outputs: Outputs,
    ) -> Result<Built> {
        match (&self.node(node)?.maker.0, inputs) {
            (MakerKind::Source { source, times }, _) => {
                source(ctx, outputs, times.as_ref()).map(Built::Body)
            }
            (MakerKind::Stage { stage, .. }, None) => stage(ctx, outputs).map(Built::Stage),
            (MakerKind::Stage { stage, input }, Some(mut inputs)) => {
                input(ctx.task, &mut inputs, stage(ctx, outputs)?).map(Built::Body)
            }
            (MakerKind::TwoInput(make), Some(inputs)) => {
                make(ctx, inputs, outputs).map(Built::Body)
            }
            (MakerKind::TwoInput(_), None) => {
                Err(anyhow::anyhow!("a two-input operator cannot be chained to another one"))
            }
        }
    }

    /// Builds an operator's coordinator, if it has one.
    ///
    /// # Errors
    /// User code that sets it up failed.
    pub fn build_coordinator<'a>(
        &'a self,
        node: NodeId,
        mut ctx: CoordinatorContext<'a>,
    ) -> Result<Option<Box<dyn OperatorCoordinator>>> {
        let node = self.node(node)?;
        if let MakerKind::Source { times: Some(times), .. } = &node.maker.0 {
            ctx.alignment = times.alignment.as_ref();
        }
        node.coordinator.as_ref().map(|make| make(&ctx)).transpose()
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("graph", &self.graph).finish_non_exhaustive()
    }
}
