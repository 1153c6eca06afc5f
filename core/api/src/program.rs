//! A job's program as the runtime sees it: the graph, and how to build each of its parts.

use std::collections::HashMap;
use std::sync::Arc;

use millstream_graph::{JobEdge, NodeId, OutputName, StreamEdge, StreamGraph};
use millstream_network::Batch;

use crate::Result;
use crate::coordinator::OperatorCoordinator;
use crate::side::{Side, SideBuffer};
use crate::sink::CommitterInfo;
use crate::stage::{ErasedStage, FanOut, Outputs, Stage, erase, reveal};
use crate::task::{InputContext, OperatorContext, TaskBody, TaskContext};
use crate::writer::WriterContext;

type Maker<F> = Arc<F>;

/// Builds the last stage of an edge.
pub(crate) type WriterMaker =
    Maker<dyn Fn(&WriterContext<'_>) -> Result<ErasedStage> + Send + Sync>;
/// Builds a source's task.
pub(crate) type SourceMaker =
    Maker<dyn Fn(&OperatorContext<'_>, Outputs) -> Result<Box<dyn TaskBody>> + Send + Sync>;
/// Builds an operator with one input.
pub(crate) type StageMaker =
    Maker<dyn Fn(&OperatorContext<'_>, Outputs) -> Result<ErasedStage> + Send + Sync>;
/// Puts an input before an operator with one input.
pub(crate) type InputMaker =
    fn(&TaskContext, InputContext<'_>, ErasedStage) -> Result<Box<dyn TaskBody>>;
/// Builds the task of an operator with two inputs.
pub(crate) type TwoInputMaker = Maker<
    dyn Fn(&OperatorContext<'_>, InputContext<'_>, Outputs) -> Result<Box<dyn TaskBody>>
        + Send
        + Sync,
>;
/// Builds an operator's coordinator; `None` if it turns out to need none.
pub(crate) type CoordinatorMaker =
    Maker<dyn Fn(&CommitterInfo) -> Result<Option<Box<dyn OperatorCoordinator>>> + Send + Sync>;

/// How to build one operator.
pub(crate) enum OperatorMaker {
    Source(SourceMaker),
    Stage { stage: StageMaker, input: InputMaker },
    TwoInput(TwoInputMaker),
}

/// One operator's part of a program.
pub(crate) struct Node {
    pub(crate) maker: OperatorMaker,
    pub(crate) coordinator: Option<CoordinatorMaker>,
}

/// How to bring several readers of one output together.
#[derive(Clone, Copy)]
pub(crate) struct OutputMaker {
    pub(crate) combine: fn(Vec<ErasedStage>) -> Result<ErasedStage>,
    pub(crate) side: fn(ErasedStage) -> Result<Box<dyn Side>>,
}

impl OutputMaker {
    /// For an output that one stage reads.
    pub(crate) fn single<T: Send + 'static>() -> Self {
        Self { combine: only, side: SideBuffer::<T>::erased }
    }

    /// For an output that several stages read.
    pub(crate) fn shared<T: Clone + Send + 'static>() -> Self {
        Self { combine: fan_out::<T>, side: SideBuffer::<T>::erased }
    }
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

/// What the build function made: the graph and how to build its operators. Hosts build tasks from
/// it, the planner only looks at the graph.
#[derive(Default)]
pub struct Program {
    pub(crate) graph: StreamGraph,
    pub(crate) nodes: Vec<Node>,
    pub(crate) writers: Vec<WriterMaker>,
    pub(crate) outputs: HashMap<(NodeId, OutputName), OutputMaker>,
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

    fn node(&self, node: NodeId) -> Result<&Node> {
        self.nodes
            .get(node.0 as usize)
            .ok_or_else(|| anyhow::anyhow!("the program has no operator {}", node.0))
    }

    /// Builds the stage that sends an edge's records to another task.
    ///
    /// # Errors
    /// The edge is not one of the program's.
    pub fn build_writer(&self, edge: &JobEdge, ctx: &WriterContext<'_>) -> Result<ErasedStage> {
        let is_it = |candidate: &StreamEdge| {
            candidate.source == edge.source_node
                && candidate.output == edge.output
                && candidate.target == edge.target_node
                && candidate.input == edge.input
                && candidate.partitioner.is_none_or(|it| it == edge.partitioner)
        };
        let at = self.graph.edges.iter().position(is_it);
        let writer = at.and_then(|at| self.writers.get(at));
        writer.ok_or_else(|| anyhow::anyhow!("the program has no such edge: {edge:?}"))?(ctx)
    }

    /// Brings the readers of a node's outputs together.
    ///
    /// # Errors
    /// The readers are of different types, or several read a stream that cannot be cloned.
    pub fn build_outputs(
        &self,
        node: NodeId,
        readers: Vec<(OutputName, Vec<ErasedStage>)>,
    ) -> Result<Outputs> {
        let mut outputs = Outputs::default();
        for (name, stages) in readers.into_iter().filter(|(_, stages)| !stages.is_empty()) {
            let maker = *self
                .outputs
                .get(&(node, name.clone()))
                .ok_or_else(|| anyhow::anyhow!("operator {} has no {name}", node.0))?;
            let stage = (maker.combine)(stages)?;
            match name {
                OutputName::Main => outputs.main = Some(stage),
                OutputName::Side(tag) => outputs.sides.push((tag, (maker.side)(stage)?)),
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
        match (&self.node(node)?.maker, inputs) {
            (OperatorMaker::Source(make), _) => make(ctx, outputs).map(Built::Body),
            (OperatorMaker::Stage { stage, .. }, None) => stage(ctx, outputs).map(Built::Stage),
            (OperatorMaker::Stage { stage, input }, Some(inputs)) => {
                input(ctx.task, inputs, stage(ctx, outputs)?).map(Built::Body)
            }
            (OperatorMaker::TwoInput(make), Some(inputs)) => {
                make(ctx, inputs, outputs).map(Built::Body)
            }
            (OperatorMaker::TwoInput(_), None) => {
                Err(anyhow::anyhow!("a two-input operator cannot be chained to another one"))
            }
        }
    }

    /// Builds an operator's coordinator, if it has one.
    ///
    /// # Errors
    /// User code that sets it up failed.
    pub fn build_coordinator(
        &self,
        node: NodeId,
        info: &CommitterInfo,
    ) -> Result<Option<Box<dyn OperatorCoordinator>>> {
        self.node(node)?.coordinator.as_ref().map_or(Ok(None), |make| make(info))
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("graph", &self.graph).finish_non_exhaustive()
    }
}
