//! Streams: the methods by which a build function transforms records.
//!
//! Here are the methods that make streams of streams; the spreading of records over subtasks is in
//! [`partitioning`], the end in a [`sink`], streams with a key in [`crate::keyed_stream`], two
//! inputs in [`crate::connected`].

mod partitioning;
mod sink;

use std::rc::Rc;
use std::sync::Arc;

use millstream_graph::{Chaining, NodeId, NodeKind, OutputName, StreamNode};
use millstream_network::Data;

pub use self::sink::StreamSink;
use millstream_operators::{
    self as operators, NewOperator, OnError, OperatorMaker, OutputMaker, OutputTag, Process,
    RuntimeContext, StageMaker, WriterMaker, writer,
};

use crate::Result;
use crate::builder::{Origin, Shared};

/// A user's function: each subtask gets a clone of it.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on, Function};
/// /// A part of a job that takes a function.
/// fn apply<F: FnMut(u64) -> Result<u64> + Function>(n: Stream<u64>, function: F) -> Stream<u64> {
///     n.map(function)
/// }
///
/// let mut seen = 0; // moves into the function; each subtask counts its own records
/// let numbered = run_on([7, 7], |sevens| {
///     apply(sevens, move |n| {
///         seen += 1;
///         Ok(n + seen)
///     })
/// });
/// assert_eq!(numbered.unwrap(), [8, 9]);
/// ```
#[diagnostic::on_unimplemented(
    message = "the function cannot be cloned, and each subtask needs a clone of it",
    label = "it holds a value that is not `Clone`",
    note = "let `map_with`, `filter_with` or `flat_map_with` make the function in its subtask, as \
            in `map_with(|ctx| {{ let file = open()?; Ok(move |record| ..) }})`"
)]
pub trait Function: Clone + Send + Sync + 'static {}

impl<F: Cloneable + Send + Sync + 'static> Function for F {}

/// `Clone`, so that a function which lacks it is told of as a [`Function`], with that trait's hint.
#[doc(hidden)]
pub trait Cloneable: Clone {}

#[diagnostic::do_not_recommend]
impl<F: Clone> Cloneable for F {}

/// A stream of records of one type.
///
/// Methods consume the stream and give the next one; [`Clone::clone`] reads it twice, for which its
/// records must be `Clone`. Methods that configure (`name`, `parallelism`, ...) speak of the
/// operator that produced the stream.
///
/// ```
/// # use millstream::{prelude::*, testing};
/// # let env = &mut testing::environment();
/// let numbers = env
///     .source("numbers", Datagen::sequence(0..6))
///     .name("Numbers from 0")
///     .parallelism(2)
///     .slot_sharing_group("sources");
/// let squares = numbers
///     .map(|n| Ok(n * n))
///     .name("Square")
///     .uid("square") // keeps its metrics and ids when the job changes
///     .max_parallelism(256)
///     .start_new_chain();
/// let (odd, sum) = (CollectSink::new(), CollectSink::new());
/// squares.clone().filter(|n| Ok(n % 2 == 1)).disable_chaining().sink("odd", odd.clone());
/// squares.key_by(|_| ()).reduce("add", |sum, n| Ok(*sum += n)).sink("sum", sum.clone());
/// env.execute("squares")?;
/// assert_eq!(odd.take().len(), 3);
/// assert_eq!(sum.take().last(), Some(&55));
/// # Ok::<(), millstream::Error>(())
/// ```
#[must_use = "a stream that nothing reads is discarded"]
pub struct Stream<T> {
    pub(crate) builder: Shared,
    pub(crate) origins: Vec<Origin>,
    pub(crate) on_error: OnError<T>,
}

impl<T: Data + Clone> Clone for Stream<T> {
    fn clone(&self) -> Self {
        let mut builder = self.builder.borrow_mut();
        let id = builder.id;
        for origin in self.origins.iter().filter(|origin| origin.builder == id) {
            builder.program.set_output(
                origin.node,
                origin.output.clone(),
                OutputMaker::shared::<T>(),
            );
        }
        drop(builder);
        Self {
            builder: Rc::clone(&self.builder),
            origins: self.origins.clone(),
            on_error: self.on_error.clone(),
        }
    }
}

/// The most streams of one union: each costs memory while the job is built, and a stream that is
/// united with itself a few dozen times has more than a machine can hold.
const UNITED_MAX: usize = 10_000;

impl<T: Data> Stream<T> {
    /// The main output of a fresh node.
    pub(crate) fn of_node(builder: Shared, node: NodeId) -> Self {
        let maker = OutputMaker::single::<T>();
        builder.borrow_mut().program.set_output(node, OutputName::Main, maker);
        Self::of_output(builder, node, OutputName::Main)
    }

    fn of_output(builder: Shared, node: NodeId, output: OutputName) -> Self {
        let job = builder.borrow().id;
        let writer: WriterMaker = Arc::new(writer::plain::<T>);
        let origin = Origin { builder: job, node, output, partitioner: None, writer };
        Self { builder, origins: vec![origin], on_error: OnError::fail() }
    }

    /// The parallelism that was asked for the operator that produced the stream, if it is one.
    pub(crate) fn parallelism_of_origin(&self) -> Option<u32> {
        let [origin] = &*self.origins else { return None };
        let mut builder = self.builder.borrow_mut();
        let is_own = origin.builder == builder.id;
        builder.program.node_mut(origin.node).filter(|_| is_own)?.parallelism
    }

    pub(crate) fn operator<O: Data>(
        self,
        name: &'static str,
        uid: Option<String>,
        stateful: bool,
        stage: StageMaker,
    ) -> Stream<O> {
        let builder = Rc::clone(&self.builder);
        let node = {
            let mut builder = builder.borrow_mut();
            let node = builder.program.add(NewOperator {
                name,
                uid,
                kind: NodeKind::Operator,
                stateful,
                assigns_times: false,
                output_type: std::any::type_name::<O>(),
                maker: OperatorMaker::one_input::<T>(stage),
                coordinator: None,
            });
            builder.connect(self.origins, node, 0);
            builder.program.refuse(node, &self.on_error);
            node
        };
        Stream::of_node(builder, node)
    }

    fn map_stage<O, F, M>(self, name: &'static str, make: M) -> Stream<O>
    where
        O: Data,
        F: FnMut(T) -> Result<Option<O>> + Send + 'static,
        M: Fn(&RuntimeContext<'_>) -> Result<F> + Function,
    {
        let stage = operators::map(self.on_error.clone(), make);
        self.operator(name, None, false, stage)
    }

    /// Turns each record into another.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let doubled = run_on([1, 2], |numbers| numbers.map(|n| Ok(n * 2)));
    /// assert_eq!(doubled.unwrap(), [2, 4]);
    /// ```
    pub fn map<O: Data, F: FnMut(T) -> Result<O> + Function>(self, function: F) -> Stream<O> {
        self.map_with(move |_| Ok(function.clone()))
    }

    /// As [`Stream::map`], with a function that is made in each subtask: for functions that own a
    /// resource (a connection, a cache), which cannot be cloned.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// # fn main() -> Result<()> {
    /// let path = std::env::temp_dir().join(format!("log-of-{}", std::process::id()));
    /// # let log = path.clone();
    /// let numbered = run_on([7, 8], |numbers| {
    ///     numbers.map_with(move |ctx| {
    ///         let mut log = std::fs::File::create(&path).context("the log cannot be made")?;
    ///         let subtask = ctx.subtask();
    ///         Ok(move |n: u64| {
    ///             use std::io::Write;
    ///             writeln!(log, "{n}")?;
    ///             Ok((subtask, n))
    ///         })
    ///     })
    /// })?;
    /// assert_eq!(numbered, [(0, 7), (0, 8)]);
    /// # std::fs::remove_file(log)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_with<O, F, M>(self, make: M) -> Stream<O>
    where
        O: Data,
        F: FnMut(T) -> Result<O> + Send + 'static,
        M: Fn(&RuntimeContext<'_>) -> Result<F> + Function,
    {
        self.map_stage("Map", move |ctx| {
            let mut function = make(ctx)?;
            Ok(move |record| function(record).map(Some))
        })
    }

    /// Keeps the records that `keep` says yes to.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let even = run_on([1, 2, 3, 4], |numbers| numbers.filter(|n| Ok(n % 2 == 0)));
    /// assert_eq!(even.unwrap(), [2, 4]);
    /// ```
    pub fn filter<F: FnMut(&T) -> Result<bool> + Function>(self, keep: F) -> Self {
        self.filter_with(move |_| Ok(keep.clone()))
    }

    /// As [`Stream::filter`], with a function that is made in each subtask; see
    /// [`Stream::map_with`].
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let distinct = run_on([1, 1, 2], |numbers| {
    ///     numbers.filter_with(|_| {
    ///         let mut seen = std::collections::HashSet::new();
    ///         Ok(move |n: &u32| Ok(seen.insert(*n)))
    ///     })
    /// });
    /// assert_eq!(distinct.unwrap(), [1, 2]);
    /// ```
    pub fn filter_with<F, M>(self, make: M) -> Self
    where
        F: FnMut(&T) -> Result<bool> + Send + 'static,
        M: Fn(&RuntimeContext<'_>) -> Result<F> + Function,
    {
        self.map_stage("Filter", move |ctx| {
            let mut keep = make(ctx)?;
            Ok(move |record| Ok(keep(&record)?.then_some(record)))
        })
    }

    /// Shows each record to a function and hands it on.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let same = run_on([1, 2], |numbers| {
    ///     numbers.inspect(|n| {
    ///         eprintln!("number {n}");
    ///         Ok(())
    ///     })
    /// });
    /// assert_eq!(same.unwrap(), [1, 2]);
    /// ```
    pub fn inspect<F: FnMut(&T) -> Result<()> + Function>(self, look: F) -> Self {
        self.map_stage("Inspect", move |_| {
            let mut look = look.clone();
            Ok(move |record| {
                look(&record)?;
                Ok(Some(record))
            })
        })
    }

    /// Turns each record into any number of others. The results are taken from the iterator as
    /// fast as they can be sent, so it may be long.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let counts = run_on([1, 3], |numbers| numbers.flat_map(|n| Ok(0..n)));
    /// assert_eq!(counts.unwrap(), [0, 0, 1, 2]);
    /// ```
    pub fn flat_map<It, F>(self, function: F) -> Stream<It::Item>
    where
        It: IntoIterator + 'static,
        It::IntoIter: Send + 'static,
        It::Item: Data,
        F: FnMut(T) -> Result<It> + Function,
    {
        self.flat_map_with(move |_| Ok(function.clone()))
    }

    /// As [`Stream::flat_map`], with a function that is made in each subtask; see
    /// [`Stream::map_with`].
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let copies = run_on([1, 2], |numbers| {
    ///     numbers.flat_map_with(|ctx| {
    ///         let copies = ctx.parallelism() as usize + 1;
    ///         Ok(move |n: u32| Ok(vec![n; copies]))
    ///     })
    /// });
    /// assert_eq!(copies.unwrap(), [1, 1, 2, 2]);
    /// ```
    pub fn flat_map_with<It, F, M>(self, make: M) -> Stream<It::Item>
    where
        It: IntoIterator + 'static,
        It::IntoIter: Send + 'static,
        It::Item: Data,
        F: FnMut(T) -> Result<It> + Send + 'static,
        M: Fn(&RuntimeContext<'_>) -> Result<F> + Function,
    {
        let stage = operators::flat_map(self.on_error.clone(), make);
        self.operator("Flat Map", None, false, stage)
    }

    /// Runs a function with side outputs on each record; `make` makes one instance per subtask.
    /// See [`Collector`](crate::Collector) for an example.
    pub fn process<P, M>(self, make: M) -> Stream<P::Out>
    where
        P: Process<T> + 'static,
        P::Out: Data,
        M: Fn(&RuntimeContext<'_>) -> Result<P> + Function,
    {
        let stage = operators::process(self.on_error.clone(), make);
        self.operator("Process", None, false, stage)
    }

    /// Sets what happens when the function of the *next* operator returns `Err`. Call it after
    /// `union`; before a sink it is refused, because sinks refuse no records.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let numbers = run_on(["1".to_owned(), "one".to_owned()], |words| {
    ///     words.on_error(OnError::drop_record()).map(|word| Ok(word.parse::<u32>()?))
    /// });
    /// assert_eq!(numbers.unwrap(), [1]);
    /// ```
    pub fn on_error(mut self, policy: OnError<T>) -> Self {
        self.on_error = policy;
        self
    }

    /// This stream's records and those of another, in one. Both have event times, or none has: see
    /// [`Source::has_timestamps`](crate::Source::has_timestamps).
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let both = run_on([1, 2], |n| n.clone().union(n.map(|n| Ok(n * 10))));
    /// assert_eq!(both.unwrap().len(), 4);
    /// ```
    pub fn union(mut self, other: Self) -> Self {
        let mut faults = Vec::new();
        if !self.on_error.is_like(&other.on_error) {
            faults.push(
                "the streams of a union() have different on_error(): call it on the united stream"
                    .to_owned(),
            );
        }
        if self.origins.len() + other.origins.len() <= UNITED_MAX {
            self.origins.extend(other.origins);
        } else {
            faults.push(format!("a union() has more than {UNITED_MAX} streams"));
        }
        self.builder.borrow_mut().add_faults(faults);
        self
    }

    /// The records that the operator emitted to `tag`. It may be asked for several times; each
    /// stream has all the records.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// static BAD: OutputTag<String> = OutputTag::new("bad");
    /// let bad = run_on(["1".to_owned(), "one".to_owned()], |words| {
    ///     let policy = OnError::side_output(&BAD);
    ///     words.on_error(policy).map(|word| Ok(word.parse::<u32>()?)).side_output(&BAD)
    /// });
    /// assert_eq!(bad.unwrap(), ["one"]);
    /// ```
    pub fn side_output<S: Data + Clone>(&self, tag: &OutputTag<S>) -> Stream<S> {
        let output = OutputName::Side(tag.name().to_owned());
        let mut builder = self.builder.borrow_mut();
        let node = match self.origins.as_slice() {
            [Origin { builder: job, node, output: OutputName::Main, .. }] if *job == builder.id => {
                builder.program.add_side_output::<S>(*node, tag.name());
                *node
            }
            origins => {
                if origins.iter().all(|origin| builder.knows(origin)) {
                    let fault = format!("side_output({:?}) must follow an operator", tag.name());
                    builder.add_faults([fault]);
                }
                NodeId(0)
            }
        };
        drop(builder);
        Stream::of_output(Rc::clone(&self.builder), node, output)
    }

    /// Names the operator in plans, logs and metrics.
    pub fn name(self, name: &str) -> Self {
        self.edit("name()", |node| name.clone_into(&mut node.name))
    }

    /// Names the operator across versions of the job; unique in it. Operators with state are given
    /// theirs when they are made.
    pub fn uid(self, uid: &str) -> Self {
        self.edit("uid()", |node| node.uid = Some(uid.to_owned()))
    }

    /// The number of subtasks; checked when the job is planned.
    pub fn parallelism(self, parallelism: u32) -> Self {
        self.edit("parallelism()", |node| node.parallelism = Some(parallelism))
    }

    /// The number of key groups: the most subtasks that it can ever have with its state.
    pub fn max_parallelism(self, max_parallelism: u32) -> Self {
        self.edit("max_parallelism()", |node| node.max_parallelism = Some(max_parallelism))
    }

    /// Subtasks share slots only within their group.
    pub fn slot_sharing_group(self, group: &str) -> Self {
        self.edit("slot_sharing_group()", |node| node.slot_sharing_group = Some(group.to_owned()))
    }

    /// Gives the operator a task of its own.
    pub fn disable_chaining(self) -> Self {
        self.edit("disable_chaining()", |node| node.chaining = Chaining::Never)
    }

    /// Lets a task begin with the operator.
    pub fn start_new_chain(self) -> Self {
        self.edit("start_new_chain()", |node| node.chaining = Chaining::Head)
    }

    pub(crate) fn edit(self, what: &str, edit: impl FnOnce(&mut StreamNode)) -> Self {
        self.builder.borrow_mut().edit(&self.origins, what, edit);
        self
    }
}
