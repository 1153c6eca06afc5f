//! The end of a stream in a sink.

use std::rc::Rc;
use std::sync::Arc;

use millstream_connector::Sink;
use millstream_graph::{Chaining, NodeId, NodeKind, StreamNode};
use millstream_network::Data;
use millstream_operators::{self as operators, CollectQueue, NewOperator, OnError, OperatorMaker};

use super::Stream;
use crate::builder::Shared;

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
        self.refuse_policy(&format!("the sink {uid:?}"));
        let sink = Arc::new(sink);
        let coordinator = operators::sink_coordinator(&sink);
        let builder = Rc::clone(&self.builder);
        let node = builder.borrow_mut().program.add(NewOperator {
            name: "Sink",
            uid: Some(uid.to_owned()),
            kind: NodeKind::Sink { coordinated: coordinator.is_some() },
            stateful: false,
            assigns_times: false,
            output_type: "()",
            maker: OperatorMaker::one_input::<T>(operators::sink(&sink)),
            coordinator,
        });
        builder.borrow_mut().connect(self.origins, node, 0);
        StreamSink { builder, node }
    }

    /// Ends the stream in a queue of this process.
    pub(crate) fn collect_into(self, queue: &Arc<CollectQueue<T>>) {
        self.refuse_policy("execute_and_collect()");
        let builder = Rc::clone(&self.builder);
        let node = builder.borrow_mut().program.add(NewOperator {
            name: "Collect",
            uid: None,
            kind: NodeKind::Sink { coordinated: false },
            stateful: false,
            assigns_times: false,
            output_type: "()",
            maker: OperatorMaker::one_input::<T>(operators::collect(queue)),
            coordinator: None,
        });
        builder.borrow_mut().connect(self.origins, node, 0);
    }

    fn refuse_policy(&self, end: &str) {
        if !self.on_error.is_like(&OnError::fail()) {
            let fault = format!(
                "on_error() before {end} has no effect, because nothing there refuses records: \
                 call it before the operator that does"
            );
            self.builder.borrow_mut().add_faults([fault]);
        }
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
        if let Some(node) = self.builder.borrow_mut().program.node_mut(self.node) {
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
