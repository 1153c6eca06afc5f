//! The program as far as it is built: what the methods of streams add to.

use std::cell::RefCell;
use std::rc::Rc;

use millstream_graph::{
    Chaining, NodeId, NodeKind, OutputName, Partitioner, StreamEdge, StreamNode,
};

use crate::program::{CoordinatorMaker, Node, OperatorMaker, Program, WriterMaker};

/// The program while it is built, and what went wrong so far.
#[derive(Default)]
pub(crate) struct Builder {
    pub(crate) program: Program,
    pub(crate) faults: Vec<String>,
}

pub(crate) type Shared = Rc<RefCell<Builder>>;

/// How a node is added.
pub(crate) struct NewNode {
    pub(crate) name: &'static str,
    pub(crate) uid: Option<String>,
    pub(crate) kind: NodeKind,
    pub(crate) stateful: bool,
    pub(crate) output_type: &'static str,
    pub(crate) maker: OperatorMaker,
    pub(crate) coordinator: Option<CoordinatorMaker>,
}

impl Builder {
    pub(crate) fn add(&mut self, new: NewNode) -> NodeId {
        let id = NodeId(u32::try_from(self.program.nodes.len()).unwrap_or(u32::MAX));
        self.program.graph.nodes.push(StreamNode {
            id,
            name: new.uid.clone().unwrap_or_else(|| new.name.to_owned()),
            uid: new.uid,
            kind: new.kind,
            stateful: new.stateful,
            parallelism: None,
            max_parallelism: None,
            slot_sharing_group: None,
            chaining: Chaining::Always,
            output_type: new.output_type.to_owned(),
        });
        self.program.nodes.push(Node { maker: new.maker, coordinator: new.coordinator });
        id
    }

    pub(crate) fn connect(&mut self, origins: Vec<Origin>, target: NodeId, input: u8) {
        for origin in origins {
            self.program.graph.edges.push(StreamEdge {
                source: origin.node,
                output: origin.output,
                target,
                input,
                partitioner: origin.partitioner,
            });
            self.program.writers.push(origin.writer);
        }
    }

    /// Changes the node that these origins are the main output of.
    pub(crate) fn edit(
        &mut self,
        origins: &[Origin],
        what: &str,
        edit: impl FnOnce(&mut StreamNode),
    ) {
        let node = match origins {
            [Origin { node, output: OutputName::Main, partitioner: None, .. }] => Some(node.0),
            _ => None,
        };
        match node.and_then(|at| self.program.graph.nodes.get_mut(at as usize)) {
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
    pub(crate) node: NodeId,
    pub(crate) output: OutputName,
    pub(crate) partitioner: Option<Partitioner>,
    pub(crate) writer: WriterMaker,
}
