//! The program while it is built; the methods of streams add to it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_connector::{Data, PlanContext, WorkingDirectory};
use millstream_graph::{NodeId, OutputName, Partitioner, StreamEdge, StreamNode};
use millstream_operators::{
    OnError, Program, WatermarkStrategy, WriterMaker, watermarks_per_split,
};

use crate::Result;

/// Names one job of this process while it is built. Numbers of operators are those of one job: a
/// stream that is used in another job would mean another operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BuilderId(u64);

/// The program while it is built, and what went wrong so far.
pub(crate) struct Builder {
    pub(crate) id: BuilderId,
    pub(crate) program: Program,
    pub(crate) faults: Vec<String>,
    pub(crate) directory: WorkingDirectory,
}

impl Default for Builder {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = BuilderId(NEXT.fetch_add(1, Ordering::Relaxed));
        let (program, directory) = Default::default();
        Self { id, program, faults: Vec::new(), directory }
    }
}

pub(crate) type Shared = Rc<RefCell<Builder>>;

impl Builder {
    /// Lets a source or sink check and complete itself.
    pub(crate) fn plan(
        &mut self,
        kind: &str,
        uid: &str,
        plan: impl FnOnce(&mut PlanContext<'_>) -> Result<()>,
    ) {
        if let Err(error) = plan(&mut PlanContext::new(&mut self.directory)) {
            self.faults.push(format!("{kind} {uid:?}: {error:#}"));
        }
    }

    pub(crate) fn connect(&mut self, origins: Vec<Origin>, target: NodeId, input: u8) {
        for origin in origins {
            if !self.knows(&origin) {
                continue;
            }
            let edge = StreamEdge {
                source: origin.node,
                output: origin.output,
                target,
                input,
                partitioner: origin.partitioner,
            };
            self.program.connect(edge, origin.writer);
        }
    }

    /// Whether the origin is an operator of this job; a fault if it is not.
    pub(crate) fn knows(&mut self, origin: &Origin) -> bool {
        if origin.builder == self.id {
            return true;
        }
        let fault = "a stream is used in another job than the one that it was made for: after \
                     execute() make its source and operators again";
        self.add_faults([fault.to_owned()]);
        false
    }

    /// Adds sentences that are not known yet.
    pub(crate) fn add_faults(&mut self, faults: impl IntoIterator<Item = String>) {
        for fault in faults {
            if !self.faults.contains(&fault) {
                self.faults.push(fault);
            }
        }
    }

    /// Sets the watermarks of the source that these origins are the output of.
    pub(crate) fn watermarks_per_split<T: Data>(
        &mut self,
        origins: &[Origin],
        on_error: OnError<T>,
        strategy: WatermarkStrategy<T>,
    ) {
        const WHAT: &str = "watermarks_per_split()";
        let mut source = None;
        let finds_times = strategy.finds_times();
        self.edit(origins, WHAT, |node| {
            node.assigns_times |= finds_times;
            source = Some((node.id, node.name.clone(), node.assigns_times));
        });
        let Some((node, name, has_times)) = source else { return };
        self.program.refuse(node, &on_error);
        if !self.program.set_source_times(node, watermarks_per_split(on_error, strategy)) {
            self.faults.push(format!(
                "{WHAT} is called on {name:?}: call it once, right behind source(), or use \
                 assign_timestamps()"
            ));
        } else if !has_times {
            self.faults.push(format!(
                "source {name:?} has {WHAT}, and its records have no event times: name the \
                 function that gives them with timestamps() of the WatermarkStrategy"
            ));
        }
    }

    /// Changes the node that these origins are the main output of.
    pub(crate) fn edit(
        &mut self,
        origins: &[Origin],
        what: &str,
        edit: impl FnOnce(&mut StreamNode),
    ) {
        if !origins.iter().all(|origin| self.knows(origin)) {
            return;
        }
        let node = match origins {
            [Origin { node, output: OutputName::Main, partitioner: None, .. }] => Some(*node),
            _ => None,
        };
        match node.and_then(|node| self.program.node_mut(node)) {
            Some(node) => edit(node),
            None => self.faults.push(format!(
                "{what} must follow an operator directly, not a union, a side output or a \
                 partitioning"
            )),
        }
    }
}

/// Where a stream comes from.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) builder: BuilderId,
    pub(crate) node: NodeId,
    pub(crate) output: OutputName,
    pub(crate) partitioner: Option<Partitioner>,
    pub(crate) writer: WriterMaker,
}
