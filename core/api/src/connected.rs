//! Two streams as the inputs of one operator.

use std::rc::Rc;

use millstream_graph::NodeKind;
use millstream_network::Data;
use millstream_operators::{
    self as operators, KeySelector, KeyedCoProcess, KeyedRuntimeContext, NewOperator, OnError,
    OperatorMaker, TwoInputMaker,
};

use crate::Result;
use crate::keyed_stream::KeyedStream;
use crate::stream::{Function, Stream};

/// Two streams of any types; see [`Stream::connect`].
///
/// ```
/// # use millstream::{prelude::*, testing::run_on};
/// let shown = run_on([1, 2], |numbers| {
///     let names = numbers.clone().map(|n| Ok(format!("number {n}")));
///     numbers.connect(names).map(|number| Ok(number.to_string()), |name| Ok(name))
/// });
/// assert_eq!(shown.unwrap().len(), 4);
/// ```
#[must_use = "streams that nothing reads are discarded"]
pub struct ConnectedStreams<A, B> {
    pub(crate) left: Stream<A>,
    pub(crate) right: Stream<B>,
}

/// Two streams with one key type; see [`KeyedStream::connect`], and
/// [`KeyedCoProcess`] for an example.
#[must_use = "streams that nothing reads are discarded"]
pub struct KeyedConnectedStreams<A, B, S, U> {
    pub(crate) left: KeyedStream<A, S>,
    pub(crate) right: KeyedStream<B, U>,
}

impl<T: Data> Stream<T> {
    /// This stream and another, of any type, as the two inputs of one operator. Each result has the
    /// event time of its record if both streams have event times, else none has one.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let both = run_on([1, 2], |numbers| {
    ///     let names = numbers.clone().map(|n| Ok(format!("number {n}")));
    ///     numbers.connect(names).map(|n| Ok(n.to_string()), Ok)
    /// });
    /// assert_eq!(both.unwrap().len(), 4);
    /// ```
    pub fn connect<B: Data>(self, other: Stream<B>) -> ConnectedStreams<T, B> {
        ConnectedStreams { left: self, right: other }
    }
}

impl<T: Data, S: KeySelector<T> + Sync> KeyedStream<T, S> {
    /// This stream and another one of the same key, as the two inputs of one operator.
    /// See [`KeyedCoProcess`](crate::KeyedCoProcess) for an example.
    pub fn connect<B, U>(self, other: KeyedStream<B, U>) -> KeyedConnectedStreams<T, B, S, U>
    where
        B: Data,
        U: KeySelector<B, Key = S::Key> + Sync,
    {
        KeyedConnectedStreams { left: self, right: other }
    }
}

/// Adds an operator of two inputs.
/// Adds an operator with two inputs.
pub(crate) fn two_inputs<A: Data, B: Data, O: Data>(
    (left, right): (Stream<A>, Stream<B>),
    (name, uid): (&'static str, Option<String>),
    make: impl FnOnce((OnError<A>, OnError<B>)) -> TwoInputMaker,
) -> Stream<O> {
    let maker = OperatorMaker::two_inputs(make((left.on_error.clone(), right.on_error.clone())));
    let builder = Rc::clone(&left.builder);
    let node = {
        let mut builder = builder.borrow_mut();
        let node = builder.program.add(NewOperator {
            name,
            stateful: uid.is_some(),
            assigns_times: false,
            uid,
            kind: NodeKind::Operator,
            output_type: std::any::type_name::<O>(),
            maker,
            coordinator: None,
        });
        builder.connect(left.origins, node, 0);
        builder.connect(right.origins, node, 1);
        builder.program.refuse(node, &left.on_error);
        builder.program.refuse(node, &right.on_error);
        node
    };
    Stream::of_node(builder, node)
}

impl<A: Data, B: Data> ConnectedStreams<A, B> {
    /// Turns each record of either stream into one result.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let signed = run_on([1u32, 2], |ups| {
    ///     let downs = ups.clone();
    ///     ups.connect(downs).map(|up| Ok(i64::from(up)), |down| Ok(-i64::from(down)))
    /// });
    /// assert_eq!(signed.unwrap().iter().sum::<i64>(), 0);
    /// ```
    pub fn map<O, F, G>(self, mut left: F, mut right: G) -> Stream<O>
    where
        O: Data,
        F: FnMut(A) -> Result<O> + Function,
        G: FnMut(B) -> Result<O> + Function,
    {
        self.flat_map(move |record| left(record).map(Some), move |record| right(record).map(Some))
    }

    /// Turns each record of either stream into any number of results. One record's results are
    /// collected before they are sent.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let some = run_on([1, 2, 3], |numbers| {
    ///     let others = numbers.clone();
    ///     numbers.connect(others).flat_map(|n| Ok(vec![n; 2]), |n| Ok((n > 2).then_some(n)))
    /// });
    /// assert_eq!(some.unwrap().len(), 7);
    /// ```
    pub fn flat_map<O, F, G, X, Y>(self, left: F, right: G) -> Stream<O>
    where
        O: Data,
        X: IntoIterator<Item = O> + 'static,
        Y: IntoIterator<Item = O> + 'static,
        F: FnMut(A) -> Result<X> + Function,
        G: FnMut(B) -> Result<Y> + Function,
    {
        two_inputs((self.left, self.right), ("Co-Flat Map", None), |on_error| {
            operators::co_flat_map(on_error, (left, right))
        })
    }
}

impl<A, B, S, U> KeyedConnectedStreams<A, B, S, U>
where
    A: Data,
    B: Data,
    S: KeySelector<A> + Sync,
    U: KeySelector<B, Key = S::Key> + Sync,
{
    /// Runs a function with state on each record of either stream; both share the key's state.
    /// See [`KeyedCoProcess`] for an example.
    pub fn process<P, F>(self, uid: &str, make: F) -> Stream<P::Out>
    where
        P: KeyedCoProcess<S::Key, A, B> + 'static,
        P::Out: Data,
        F: Fn(&mut KeyedRuntimeContext<'_, S::Key>) -> Result<P> + Function,
    {
        let (left, left_key) = self.left.partitioned();
        let (right, right_key) = self.right.partitioned();
        two_inputs((left, right), ("Co-Process", Some(uid.to_owned())), |on_error| {
            operators::co_process(on_error, (left_key, right_key), make)
        })
    }
}
