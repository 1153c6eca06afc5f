//! A stream and a broadcast stream as the inputs of one operator, which share broadcast state.

use millstream_network::Data;
use millstream_operators::{
    self as operators, BroadcastProcess, BroadcastRuntimeContext, KeySelector,
    KeyedBroadcastProcess, KeyedRuntimeContext, RuntimeContext,
};

use crate::Result;
use crate::connected::two_inputs;
use crate::keyed_stream::KeyedStream;
use crate::stream::{Function, Stream};

/// A stream and a broadcast stream; see [`Stream::connect_broadcast`], and [`BroadcastProcess`] for
/// an example.
#[must_use = "streams that nothing reads are discarded"]
pub struct BroadcastConnectedStream<I, B> {
    stream: Stream<I>,
    broadcast: Stream<B>,
}

/// A keyed stream and a broadcast stream; see [`KeyedStream::connect_broadcast`], and
/// [`KeyedBroadcastProcess`] for an example.
#[must_use = "streams that nothing reads are discarded"]
pub struct KeyedBroadcastConnectedStream<I, B, S> {
    stream: KeyedStream<I, S>,
    broadcast: Stream<B>,
}

impl<T: Data> Stream<T> {
    /// This stream and another, each record of which goes to every subtask, as the two inputs of
    /// one operator. See [`BroadcastProcess`] for an example.
    ///
    /// Results have event times, and watermarks advance, only if both streams have them. A rule
    /// stream without times of its own is given some by [`Stream::assign_timestamps`].
    pub fn connect_broadcast<B: Data + Clone>(
        self,
        other: Stream<B>,
    ) -> BroadcastConnectedStream<T, B> {
        BroadcastConnectedStream { stream: self, broadcast: other.broadcast() }
    }
}

impl<T: Data, S: KeySelector<T> + Sync> KeyedStream<T, S> {
    /// This stream and another, each record of which goes to every subtask, as the two inputs of
    /// one operator. See [`KeyedBroadcastProcess`] for an example, and
    /// [`Stream::connect_broadcast`] for event times.
    pub fn connect_broadcast<B: Data + Clone>(
        self,
        other: Stream<B>,
    ) -> KeyedBroadcastConnectedStream<T, B, S> {
        KeyedBroadcastConnectedStream { stream: self, broadcast: other.broadcast() }
    }
}

impl<I: Data, B: Data> BroadcastConnectedStream<I, B> {
    /// Runs a function with broadcast state on each record of either stream. `make` makes one
    /// instance per subtask and declares its states. See [`BroadcastProcess`] for an example.
    pub fn process<P, F>(self, uid: &str, make: F) -> Stream<P::Out>
    where
        P: BroadcastProcess<I, B> + 'static,
        P::Out: Data,
        F: Fn(&mut BroadcastRuntimeContext<'_, RuntimeContext<'_>>) -> Result<P> + Function,
    {
        let name = ("Co-Process-Broadcast", Some(uid.to_owned()));
        two_inputs((self.stream, self.broadcast), name, |on_error| {
            operators::broadcast_process(on_error, make)
        })
    }
}

impl<I: Data, B: Data, S: KeySelector<I> + Sync> KeyedBroadcastConnectedStream<I, B, S> {
    /// Runs a function with state on each record of either stream. `make` makes one instance per
    /// subtask and declares its states, those of keys and those that are broadcast. See
    /// [`KeyedBroadcastProcess`] for an example.
    pub fn process<P, F>(self, uid: &str, make: F) -> Stream<P::Out>
    where
        P: KeyedBroadcastProcess<S::Key, I, B> + 'static,
        P::Out: Data,
        F: Fn(&mut BroadcastRuntimeContext<'_, KeyedRuntimeContext<'_, S::Key>>) -> Result<P>
            + Function,
    {
        let (stream, selector) = self.stream.partitioned();
        let name = ("Co-Process-Broadcast-Keyed", Some(uid.to_owned()));
        two_inputs((stream, self.broadcast), name, |on_error| {
            operators::keyed_broadcast_process(on_error, selector, make)
        })
    }
}
