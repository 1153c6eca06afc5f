//! The end of a stream in a sink.

use std::rc::Rc;
use std::sync::Arc;

use millstream_connector::{Sink, WriterInfo};
use millstream_graph::{Chaining, NodeId, NodeKind, StreamNode};
use millstream_network::Data;

use super::{Stream, input};
use crate::builder::{NewNode, Shared};
use crate::coordinator::{OperatorCoordinator, SinkCoordinator};
use crate::operators::Policy;
use crate::operators::sink::SinkStage;
use crate::program::{CoordinatorMaker, OperatorMaker, StageMaker};
use crate::stage::erase;

impl<T: Data> Stream<T> {
    /// Ends the stream in a sink. The uid names the sink's state across versions of the job.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// let collected = CollectSink::new();
    /// env.source("numbers", Datagen::sequence(0..3)).sink("collect", collected.clone());
    /// env.execute("collect")?;
    /// assert_eq!(collected.take(), [0, 1, 2]);
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn sink<S: Sink<T>>(self, uid: &str, sink: S) -> StreamSink {
        let mut sink = sink;
        self.builder.borrow_mut().plan("sink", uid, |ctx| sink.plan(ctx));
        if !self.on_error.is_like(&Policy::Fail) {
            let fault = format!(
                "on_error() before the sink {uid:?} has no effect, because sinks refuse no \
                 records: call it before the operator that does"
            );
            self.builder.borrow_mut().add_faults([fault]);
        }
        let sink = Arc::new(sink);
        let coordinated = sink.has_committer();
        let (writers, committers) = (Arc::clone(&sink), sink);
        let stage: StageMaker = Arc::new(move |ctx, _outputs| {
            let writer = writers.writer(&WriterInfo {
                job: ctx.task.job,
                operator: ctx.operator,
                subtask: ctx.task.subtask,
                parallelism: ctx.task.parallelism,
                attempt: ctx.task.attempt,
            })?;
            Ok(erase::<T>(Box::new(SinkStage {
                writer,
                operator: ctx.operator,
                name: ctx.name.to_owned(),
                subtask: ctx.task.subtask,
                to_committer: coordinated.then(|| Arc::clone(ctx.to_coordinator)),
                next_time: None,
            })))
        });
        let coordinator: CoordinatorMaker = Arc::new(move |info| {
            let committer = committers.committer(info)?;
            Ok(committer.map(|committer| {
                Box::new(SinkCoordinator::new(committer)) as Box<dyn OperatorCoordinator>
            }))
        });
        let builder = Rc::clone(&self.builder);
        let node = builder.borrow_mut().add(NewNode {
            name: "Sink",
            uid: Some(uid.to_owned()),
            kind: NodeKind::Sink { coordinated },
            stateful: false,
            assigns_times: false,
            output_type: "()",
            maker: OperatorMaker::Stage { stage, input: input::<T>() },
            coordinator: coordinated.then_some(coordinator),
        });
        builder.borrow_mut().connect(self.origins, node, 0);
        StreamSink { builder, node }
    }
}

/// The end of a stream; its methods configure the sink.
///
/// ```
/// # use millstream::{prelude::*, testing};
/// # let env = &mut testing::environment();
/// let numbers = env.source("numbers", Datagen::sequence(0..6));
/// numbers
///     .sink("nowhere", DiscardSink::new())
///     .name("Nowhere")
///     .parallelism(1)
///     .slot_sharing_group("sinks")
///     .disable_chaining();
/// env.execute("to nowhere")?;
/// # Ok::<(), millstream::Error>(())
/// ```
pub struct StreamSink {
    pub(crate) builder: Shared,
    pub(crate) node: NodeId,
}

impl StreamSink {
    fn edit(self, edit: impl FnOnce(&mut StreamNode)) -> Self {
        let at = self.node.0 as usize;
        if let Some(node) = self.builder.borrow_mut().program.graph.nodes.get_mut(at) {
            edit(node);
        }
        self
    }

    /// Names the sink in plans, logs and metrics.
    pub fn name(self, name: &str) -> Self {
        self.edit(|node| name.clone_into(&mut node.name))
    }

    /// The number of subtasks.
    pub fn parallelism(self, parallelism: u32) -> Self {
        self.edit(|node| node.parallelism = Some(parallelism))
    }

    /// Subtasks share slots only within their group.
    pub fn slot_sharing_group(self, group: &str) -> Self {
        self.edit(|node| node.slot_sharing_group = Some(group.to_owned()))
    }

    /// Gives the sink a task of its own.
    pub fn disable_chaining(self) -> Self {
        self.edit(|node| node.chaining = Chaining::Never)
    }
}
