//! A graph as a job of the engine.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_api::*;
use millstream_cluster::MiniCluster;
use millstream_graph::{JobGraph, JobSettings};
use millstream_jobmaster::JobMasterConfig;

use crate::Received;
use crate::graph::{By, Chain, Edge, Graph, Kind, Node, Out, Record};
use crate::interpreter::{custom, process};

static LEFT: OutputTag<Record> = OutputTag::new("left");
static RIGHT: OutputTag<Record> = OutputTag::new("right");

/// Runs the graph; what its sinks received.
pub fn run(graph: &Graph) -> Result<Received> {
    let received = Arc::new(Mutex::new(Received::new()));
    let mut env = Environment::new(Box::new(Local(graph.workers)));
    env.set_runtime_mode(if graph.batch { RuntimeMode::Batch } else { RuntimeMode::Streaming });
    env.set_buffer_timeout(Some(Duration::from_millis(graph.buffer_timeout)));
    env.set_serialize_always(graph.serialize_always);
    if !graph.chaining {
        env.disable_chaining();
    }
    let mut streams: Vec<Option<Stream<Record>>> = Vec::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        let mut inputs: Vec<Stream<Record>> =
            node.inputs.iter().map(|edges| united(&streams, edges)).collect();
        let second = if inputs.len() == 2 { inputs.pop() } else { None };
        let stream = match (inputs.pop(), second) {
            (None, _) => {
                let Kind::Source(count) = node.kind else { unreachable!() };
                Some(env.source(&format!("source {at}"), Numbers { count, at }))
            }
            (Some(input), _) if node.kind == Kind::Sink => {
                let sink = Collect { at, received: Arc::clone(&received) };
                let sink = input.sink(&format!("sink {at}"), sink).parallelism(node.parallelism);
                let sink = match node.group {
                    Some(group) => sink.slot_sharing_group(group),
                    None => sink,
                };
                if node.chain == Chain::Never {
                    let _ = sink.disable_chaining();
                }
                None
            }
            (Some(left), Some(right)) => {
                let function = move |record: Record| only(process(at, Kind::Connect, record));
                Some(left.connect(right).map(function, function))
            }
            (Some(input), None) => Some(operator(input, at, node)),
        };
        streams.push(stream.map(|stream| placed(stream, node)));
    }
    env.execute("random")?;
    Ok(std::mem::take(&mut *received.lock().unwrap()))
}

fn placed(stream: Stream<Record>, node: &Node) -> Stream<Record> {
    let stream = stream.parallelism(node.parallelism);
    let stream = match node.group {
        Some(group) => stream.slot_sharing_group(group),
        None => stream,
    };
    match node.chain {
        Chain::Always => stream,
        Chain::Head => stream.start_new_chain(),
        Chain::Never => stream.disable_chaining(),
    }
}

fn united(streams: &[Option<Stream<Record>>], edges: &[Edge]) -> Stream<Record> {
    let mut parts = edges.iter().map(|edge| {
        let stream = streams[edge.from].as_ref().unwrap();
        let stream = match edge.out {
            Out::Main => stream.clone(),
            Out::Left => stream.side_output(&LEFT),
            Out::Right => stream.side_output(&RIGHT),
        };
        match edge.by {
            By::Unsaid => stream,
            By::Forward => stream.forward(),
            By::Rebalance => stream.rebalance(),
            By::Rescale => stream.rescale(),
            By::Broadcast => stream.broadcast(),
            By::Global => stream.global(),
            By::Hash(modulus) => stream.key_by(move |record| record.0 % modulus).into_stream(),
            By::Custom(factor, plus) => stream.partition_custom(move |record, consumers| {
                let consumers = u32::try_from(consumers).unwrap();
                usize::try_from(custom(record.0, factor, plus, consumers)).unwrap()
            }),
        }
    });
    let first = parts.next().unwrap();
    parts.fold(first, Stream::union)
}

fn operator(input: Stream<Record>, at: usize, node: &Node) -> Stream<Record> {
    let kind = node.kind;
    match kind {
        Kind::Map => input.map(move |record| only(process(at, kind, record))),
        Kind::Filter => {
            input.filter(move |record| Ok(!process(at, kind, record.clone()).is_empty()))
        }
        Kind::FlatMap => input.flat_map(move |record| {
            Ok(process(at, kind, record).into_iter().map(|(_, record)| record))
        }),
        Kind::Refuse => {
            let policy = OnError::side_output(&LEFT);
            input.on_error(policy).map(move |record| only(process(at, kind, record)))
        }
        Kind::Process => {
            let [Edge { by: By::Hash(modulus), .. }, ..] = node.inputs[0][..] else {
                unreachable!()
            };
            let keyed = input.key_by(move |record| record.0 % modulus);
            keyed.process(&format!("process {at}"), move |_| Ok(Three(at)))
        }
        Kind::Source(_) | Kind::Connect | Kind::Sink => unreachable!(),
    }
}

/// The main result, or a refusal.
fn only(results: Vec<(Out, Record)>) -> Result<Record> {
    let main = results.into_iter().find(|(out, _)| *out == Out::Main);
    main.map(|(_, record)| record).ok_or_else(|| error!("refused"))
}

/// The node's number.
struct Three(usize);

impl KeyedProcess<u64, Record> for Three {
    type Out = Record;

    fn process(
        &mut self,
        record: Record,
        _: &mut Context<'_, u64>,
        out: &mut Collector<'_, Record>,
    ) -> Result<()> {
        for (way, record) in process(self.0, Kind::Process, record) {
            match way {
                Out::Main => out.emit(record),
                Out::Left => out.emit_to(&LEFT, record)?,
                Out::Right => out.emit_to(&RIGHT, record)?,
            }
        }
        Ok(())
    }
}

/// With so many TaskManagers.
struct Local(u32);

impl Executor for Local {
    fn settings(&self) -> JobSettings {
        JobSettings::default()
    }

    fn plan_value(&self, _name: &str) -> Option<Vec<u8>> {
        None
    }

    fn warn(&mut self, _warning: &str) {}

    fn execute(&mut self, program: Program, graph: JobGraph, _wait: bool) -> Result<Execution> {
        let cluster = MiniCluster::start_on(self.0, program, graph, JobMasterConfig::default())?;
        Ok(Execution::Finished(cluster.wait()?))
    }
}

/// Counts from 0, its subtasks by turns.
struct Numbers {
    count: u64,
    at: usize,
}

struct NumbersReader {
    numbers: std::iter::StepBy<std::ops::Range<u64>>,
    at: usize,
}

impl Source for Numbers {
    type Out = Record;
    type Split = ();
    type Reader = NumbersReader;
    type Enumerator = NoEnumerator<()>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn reader(&self, ctx: &ReaderContext) -> Result<NumbersReader> {
        let first = u64::from(ctx.subtask).min(self.count);
        let numbers = (first..self.count).step_by(usize::try_from(ctx.parallelism)?);
        Ok(NumbersReader { numbers, at: self.at })
    }

    fn enumerator(&self) -> Result<Option<Self::Enumerator>> {
        Ok(None)
    }

    fn has_enumerator(&self) -> bool {
        false
    }
}

impl SourceReader for NumbersReader {
    type Out = Record;
    type Split = ();

    fn add_split(&mut self, (): ()) -> Result<()> {
        Ok(())
    }

    fn poll(&mut self, batch: &mut Batch<Record>) -> Result<Polled> {
        let at = u8::try_from(self.at)?;
        batch.extend(self.numbers.by_ref().take(3).map(|number| (number, vec![at])))?;
        Ok(if batch.is_empty() { Polled::Finished } else { Polled::Ready })
    }
}

struct Collect {
    at: usize,
    received: Arc<Mutex<Received>>,
}

struct CollectWriter {
    at: usize,
    subtask: u32,
    received: Arc<Mutex<Received>>,
}

impl Sink<Record> for Collect {
    type Committable = ();
    type Writer = CollectWriter;
    type Committer = NoCommitter<()>;

    fn writer(&self, info: &WriterInfo) -> Result<CollectWriter> {
        let received = Arc::clone(&self.received);
        Ok(CollectWriter { at: self.at, subtask: info.subtask, received })
    }

    fn committer(&self, _info: &CommitterInfo) -> Result<Option<NoCommitter<()>>> {
        Ok(None)
    }

    fn has_committer(&self) -> bool {
        false
    }
}

impl SinkWriter<Record> for CollectWriter {
    type Committable = ();

    fn write(&mut self, batch: Batch<Record>) -> Result<()> {
        let mut received = self.received.lock().unwrap();
        let records = batch.into_records().into_iter().map(|record| (record, self.subtask));
        received.entry(self.at).or_default().extend(records);
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<()>> {
        Ok(Vec::new())
    }
}
