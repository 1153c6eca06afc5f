//! The environment of a build function: where streams start and jobs are executed.

mod collect;
mod path;

pub use collect::CollectedRecords;

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use millstream_connector::{Data, Result, Source, SplitEnumerator, WorkingDirectory};
use millstream_graph::{
    Boundedness, JobGraph, JobSettings, NodeKind, RuntimeMode, StreamGraph, StreamNode, plan,
};
use millstream_operators::{
    self as operators, CoordinatorMaker, NewOperator, OperatorMaker, Program, SourceMaker,
};
use millstream_types::{JobStatus, MaxParallelism};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::builder::{Builder, Shared};
use crate::job::{JobClient, JobResult};
use crate::stream::Stream;

/// The outcome of a graph that was handed over.
#[derive(Debug, Clone)]
pub enum Execution {
    /// It runs.
    Submitted(JobClient),
    /// It ran and finished.
    Finished(JobResult),
}

/// The role of the process, behind an environment.
pub trait Executor {
    /// Settings of the job from outside the program.
    fn settings(&self) -> JobSettings;

    /// A plan value of an earlier run of the program, encoded; `None` where it is to be computed.
    fn plan_value(&self, name: &str) -> Option<Vec<u8>>;

    /// Whether this process's working directory is the one that the user means by relative paths.
    fn is_in_clients_directory(&self) -> bool {
        true
    }

    /// Whether the jobs run in this process, so that they read its files and can hand it records.
    fn runs_here(&self) -> bool {
        false
    }

    /// Tells the user of a part of the job that is allowed and probably not meant. Roles that build
    /// the job again print nothing: the planner has done so.
    fn warn(&mut self, warning: &str) {
        use std::io::Write;
        let _ = writeln!(std::io::stderr().lock(), "warning: {warning}");
    }

    /// Hands the job over as the role requires: submits it, runs it, or serves a host, which never
    /// returns.
    ///
    /// # Errors
    /// The job was refused, failed or was cancelled.
    fn execute(&mut self, program: Program, graph: JobGraph, wait: bool) -> Result<Execution>;
}

/// Where streams start and jobs are executed; given to the build function.
///
/// The build function runs again in every process of the job, so it must build the same graph each
/// time: what differs from run to run goes through [`Environment::plan_value`].
///
/// ```
/// # use millstream::{prelude::*, testing};
/// # let env = &mut testing::environment();
/// env.set_parallelism(2);
/// env.set_max_parallelism(256)?;
/// env.set_runtime_mode(RuntimeMode::Batch);
/// env.set_buffer_timeout(Some(std::time::Duration::from_millis(10)));
/// env.disable_chaining(); // for this example only: it costs speed
/// let sums = CollectSink::new();
/// env.source("numbers", Datagen::sequence(0..6))
///     .key_by(|n| n % 2)
///     .reduce("sum", |sum, n| Ok(*sum += n))
///     .sink("sums", sums.clone());
/// env.execute("sums")?;
/// assert_eq!(sums.take().iter().sum::<u64>(), 15);
/// assert_eq!(env.executes(), 1);
/// # Ok::<(), millstream::Error>(())
/// ```
pub struct Environment {
    executor: Box<dyn Executor>,
    builder: Shared,
    settings: JobSettings,
    plan_values: BTreeMap<String, Vec<u8>>,
    executes: u32,
}

impl Environment {
    /// An environment in front of a role. The facade makes it; tests may.
    #[must_use]
    pub fn new(executor: Box<dyn Executor>) -> Self {
        let settings = executor.settings();
        let builder = Shared::default();
        let recorded = |name: &str| executor.plan_value(name);
        builder.borrow_mut().directory =
            WorkingDirectory::new(recorded, executor.is_in_clients_directory());
        Self { executor, builder, settings, plan_values: BTreeMap::new(), executes: 0 }
    }

    /// Number of jobs executed so far.
    #[must_use]
    pub const fn executes(&self) -> u32 {
        self.executes
    }

    /// The name of the job to build, if one was given with `-c`. The program defines the names.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// fn build(env: &mut Environment) -> Result<()> {
    ///     match env.entry() {
    ///         None | Some("forwards") => Ok(()), // builds the one job
    ///         Some("backwards") => Ok(()),       // builds the other
    ///         Some(other) => Err(millstream::error!("there is no job {other:?}")),
    ///     }
    /// }
    /// # build(&mut testing::environment())?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    #[must_use]
    pub fn entry(&self) -> Option<&str> {
        self.settings.entry.as_deref()
    }

    /// The parallelism of operators that set none.
    pub const fn set_parallelism(&mut self, parallelism: u32) {
        self.settings.parallelism = parallelism;
    }

    /// The number of key groups of operators that set none. If none is set, it is derived from each
    /// operator's parallelism: half as many again, rounded up to a power of two, from 128 to
    /// 32,768.
    ///
    /// # Errors
    /// It is zero or above 32,768.
    pub fn set_max_parallelism(&mut self, max_parallelism: u32) -> Result<()> {
        let count = MaxParallelism::new(max_parallelism);
        self.settings.max_parallelism = Some(count.ok_or_else(|| {
            anyhow::anyhow!("a maximum parallelism is from 1 to 32768, not {max_parallelism}")
        })?);
        Ok(())
    }

    /// Streaming, batch, or batch if all sources are bounded.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// let (every_update, final_value) = (vec![0, 1, 3], vec![3]);
    /// for (mode, sums) in
    ///     [(RuntimeMode::Streaming, every_update), (RuntimeMode::Batch, final_value)]
    /// {
    ///     let mut env = testing::environment();
    ///     env.set_runtime_mode(mode);
    ///     let collected = CollectSink::new();
    ///     env.source("numbers", Datagen::sequence(0..3))
    ///         .key_by(|_| ())
    ///         .reduce("sum", |sum, n| Ok(*sum += n))
    ///         .sink("collect", collected.clone());
    ///     env.execute("sum")?;
    ///     assert_eq!(collected.take(), sums);
    /// }
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub const fn set_runtime_mode(&mut self, mode: RuntimeMode) {
        self.settings.runtime_mode = mode;
    }

    /// Gives every operator a task of its own.
    pub const fn disable_chaining(&mut self) {
        self.settings.chaining = false;
    }

    /// Whether records are encoded and read back between any two operators, as between processes,
    /// even where they could be handed over as they are. It costs speed, and shows in one process
    /// what would fail in two: [`testing`](../millstream/testing/index.html) sets it. The same as
    /// the option `millstream.execution.serialize-always`.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// env.set_serialize_always(true);
    /// ```
    pub fn set_serialize_always(&mut self, always: bool) {
        self.settings.set_serialize_always(always);
    }

    /// Sets the time for which a record may wait in an output buffer; `None`: until the buffer is
    /// full.
    pub fn set_buffer_timeout(&mut self, timeout: Option<Duration>) {
        let millis = |timeout: Duration| i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        self.settings.buffer_timeout_ms = timeout.map_or(-1, millis);
    }

    /// A value that may differ from run to run (the clock, a directory listing). It is computed
    /// once, when the job is planned, and the result is replayed in every process of the job.
    ///
    /// # Errors
    /// `compute` failed, the name was used before, or the value cannot be encoded.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// let started = env.plan_value("started", || Ok(std::time::SystemTime::now()))?;
    /// let stamped = CollectSink::new();
    /// env.source("numbers", Datagen::sequence(0..1))
    ///     .map(move |n| Ok((n, started))) // the same time in every process of the job
    ///     .sink("stamped", stamped.clone());
    /// env.execute("stamp")?;
    /// assert_eq!(stamped.take(), [(0, started)]);
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn plan_value<V: Serialize + DeserializeOwned>(
        &mut self,
        name: &str,
        compute: impl FnOnce() -> Result<V>,
    ) -> Result<V> {
        if self.plan_values.contains_key(name) {
            return Err(anyhow::anyhow!("plan value {name:?} is asked for twice: rename one"));
        }
        let bytes = match self.executor.plan_value(name) {
            Some(bytes) => bytes,
            None => postcard::to_stdvec(&compute()?)?,
        };
        let value = postcard::from_bytes(&bytes).map_err(|error| {
            anyhow::anyhow!(
                "plan value {name:?} cannot be read back as {}: {error}; its type needs a \
                 Deserialize that reads what its Serialize writes, without names (no flatten, \
                 untagged, skip_serializing_if, ...)",
                std::any::type_name::<V>()
            )
        })?;
        self.plan_values.insert(name.to_owned(), bytes);
        Ok(value)
    }

    /// Starts a stream from a source. The uid names the source's state across versions of the job.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// let lengths = CollectSink::new();
    /// env.source("words", Datagen::from_fn(|n| format!("word {n}")).count(11))
    ///     .map(|word| Ok(word.len()))
    ///     .sink("lengths", lengths.clone());
    /// env.execute("lengths")?;
    /// assert_eq!(lengths.take().last(), Some(&7));
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn source<S: Source>(&mut self, uid: &str, source: S) -> Stream<S::Out> {
        let mut source = source;
        self.builder.borrow_mut().plan("source", uid, |ctx| source.plan(ctx));
        let source = Arc::new(source);
        self.add_source(NewSource {
            uid,
            boundedness: source.boundedness(),
            timed: source.has_timestamps(),
            maker: operators::source(&source, uid),
            coordinated: operators::has_enumerator::<S>(),
            restarts_alone: !operators::has_enumerator::<S>()
                || <S::Enumerator as SplitEnumerator>::RESTARTS_ALONE,
            coordinator: Some(operators::source_coordinator(&source)),
        })
    }

    /// Starts a stream from the body of a task that ends, for test harnesses.
    #[doc(hidden)]
    pub fn source_of_body<T: Data>(
        &mut self,
        uid: &str,
        timed: bool,
        maker: SourceMaker,
    ) -> Stream<T> {
        let boundedness = Boundedness::Bounded;
        self.add_source(NewSource {
            uid,
            boundedness,
            timed,
            maker,
            coordinated: false,
            restarts_alone: true,
            coordinator: None,
        })
    }

    fn add_source<T: Data>(&mut self, source: NewSource<'_>) -> Stream<T> {
        let node = self.builder.borrow_mut().program.add(NewOperator {
            name: "Source",
            uid: Some(source.uid.to_owned()),
            kind: NodeKind::Source {
                boundedness: source.boundedness,
                coordinated: source.coordinated,
                restarts_alone: source.restarts_alone,
            },
            stateful: false,
            assigns_times: source.timed,
            output_type: std::any::type_name::<T>(),
            maker: OperatorMaker::source(source.maker),
            coordinator: source.coordinator,
        });
        Stream::of_node(Rc::clone(&self.builder), node)
    }

    /// Runs the job built since the last call and waits for its end.
    ///
    /// # Errors
    /// The graph is faulty (all faults are named), or the job was refused, failed or cancelled.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// env.source("numbers", Datagen::sequence(0..6)).sink("nowhere", DiscardSink::new());
    /// let result = env.execute("a first job")?;
    /// println!("job {} took {:?}", result.job, result.runtime);
    /// // A program may run several jobs, one after the other.
    /// env.source("numbers", Datagen::sequence(0..6)).sink("nowhere", DiscardSink::new());
    /// env.execute("a second job")?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn execute(&mut self, name: &str) -> Result<JobResult> {
        match self.run(name, true)? {
            Execution::Finished(result) => Ok(result),
            Execution::Submitted(JobClient { job, .. }) => {
                Ok(JobResult { job, status: JobStatus::Running, runtime: Duration::ZERO })
            }
        }
    }

    /// Submits what was built since the last call and does not wait for its end; the [`JobClient`]
    /// does.
    ///
    /// # Errors
    /// The graph is faulty, or the job was refused.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// env.source("numbers", Datagen::sequence(0..6)).sink("nowhere", DiscardSink::new());
    /// let client = env.execute_async("in the background")?;
    /// println!("job {} runs", client.job);
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn execute_async(&mut self, name: &str) -> Result<JobClient> {
        match self.run(name, false)? {
            Execution::Submitted(client) => Ok(client),
            Execution::Finished(result) => Ok(JobClient::new(result.job, Rc::new(result))),
        }
    }

    fn run(&mut self, name: &str, wait: bool) -> Result<Execution> {
        let Builder { program, mut faults, directory, .. } =
            std::mem::take(&mut *self.builder.borrow_mut());
        let directory_value = directory.plan_value()?;
        self.builder.borrow_mut().directory = directory;
        faults.extend(program.faults());
        if !takes_checkpoints(&self.settings) {
            faults.extend(sinks_without_end(program.graph()));
        }
        faults.extend(without_sink(program.graph()));
        let ordinal = self.executes;
        let name =
            self.settings.config.get("pipeline.name").map_or(name, String::as_str).to_owned();
        let mut values = self.plan_values.clone();
        values.extend(directory_value);
        let planned = plan(program.graph(), &name, ordinal, values, &self.settings);
        match &planned {
            Ok(graph) => faults.extend(program.faulty_exchanges(graph)),
            Err(more) => faults.push(more.to_string()),
        }
        let (Ok(graph), true) = (planned, faults.is_empty()) else {
            return Err(anyhow::anyhow!("job {name:?}: {}", faults.join("; ")));
        };
        for warning in program.warnings(&graph) {
            self.executor.warn(&warning);
        }
        self.executes += 1;
        self.executor.execute(program, graph, wait)
    }
}

/// A source that is added to a job, its type hidden.
struct NewSource<'a> {
    uid: &'a str,
    boundedness: Boundedness,
    timed: bool,
    maker: SourceMaker,
    coordinated: bool,
    restarts_alone: bool,
    coordinator: Option<CoordinatorMaker>,
}

/// A job whose records go nowhere is a mistake; one without any operator has a sentence of its own.
fn without_sink(graph: &StreamGraph) -> Option<String> {
    let is_sink = |node: &StreamNode| matches!(node.kind, NodeKind::Sink { .. });
    let lacks_one = !graph.nodes.is_empty() && !graph.nodes.iter().any(is_sink);
    lacks_one.then(|| {
        "it has no sink, so that nothing would come of it: end a stream with .sink(..), to \
         DiscardSink if its records are not needed"
            .to_owned()
    })
}

/// Whether the job's own settings have it take checkpoints; those of the cluster are not known
/// here. The JobManager says what is wrong with an interval that is none.
fn takes_checkpoints(settings: &JobSettings) -> bool {
    let interval = settings.config.get("execution.checkpointing.interval");
    let digits = |text: &String| text.chars().any(|letter| ('1'..='9').contains(&letter));
    interval.is_some_and(digits)
}

/// Sinks that would never publish anything in a job without checkpoints: what their committers
/// publish is complete when the input has ended, and a source above them has no end.
fn sinks_without_end(graph: &StreamGraph) -> Vec<String> {
    let mut faults = Vec::new();
    for sink in &graph.nodes {
        if sink.kind != (NodeKind::Sink { coordinated: true }) {
            continue;
        }
        let mut above = HashSet::from([sink.id]);
        let mut unseen = vec![sink.id];
        while let Some(node) = unseen.pop() {
            let sources = graph.edges.iter().filter(|edge| edge.target == node);
            unseen.extend(sources.map(|edge| edge.source).filter(|source| above.insert(*source)));
        }
        let endless = graph.nodes.iter().find(|node| {
            let unbounded =
                |kind| matches!(kind, NodeKind::Source { boundedness: Boundedness::Unbounded, .. });
            above.contains(&node.id) && unbounded(node.kind)
        });
        if let Some(source) = endless {
            faults.push(format!(
                "sink {:?} publishes its output when the input has ended, and source {:?} never \
                 ends: have the job take checkpoints (`-D execution.checkpointing.interval=10s`), \
                 bound the source (`count` of a generator, no `watch` of files), or use a sink that \
                 needs no end, as PrintSink",
                sink.name, source.name
            ));
        }
    }
    faults
}
