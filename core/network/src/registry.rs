//! The ends of the channels of one process, and its connections.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use millstream_types::HostId;

use crate::channel_id::{ChannelId, ChannelLayout, EndId};
use crate::ends::{Ends, Known};
use crate::inbox::{FrameSink, RemoteDelivery};
use crate::outgoing::ConnectionHandle;
use crate::outlet::{Outlet, Output};
use crate::wire::{self, Credits, Head, Kind, WireError};

/// Ends of channels, by subtask, for the connections.
#[derive(Debug)]
pub(crate) struct Registry {
    layout: ChannelLayout,
    state: Mutex<State>,
    /// The frames that were dropped because they were of another attempt.
    stale_frames: AtomicU64,
    /// The connections that were refused because the other host is of another attempt.
    stale_hosts: AtomicU64,
}

struct State {
    outputs: Ends<Arc<Output>>,
    inputs: Ends<Input>,
    connections: BTreeMap<HostId, ConnectionHandle>,
    connected: BTreeSet<HostId>,
}

/// The channels that end at one subtask.
struct Input {
    inbox: Arc<dyn FrameSink>,
    /// The producing subtasks.
    from: Range<u32>,
    /// The inbox's number of the first one's channel.
    base: u32,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("outputs", &self.outputs.len())
            .field("inputs", &self.inputs.len())
            .field("connections", &self.connections.len())
            .finish()
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn new(layout: ChannelLayout) -> Self {
        let (connections, connected) = (BTreeMap::new(), BTreeSet::new());
        let state = State { outputs: Ends::new(), inputs: Ends::new(), connections, connected };
        let (stale_frames, stale_hosts) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { layout, state: Mutex::new(state), stale_frames, stale_hosts }
    }

    /// A producer's end. That of an attempt of the past leads nowhere.
    pub(crate) fn output(&self, id: EndId) -> Arc<Output> {
        self.output_in(&mut self.lock(), id)
    }

    fn output_in(&self, state: &mut State, id: EndId) -> Arc<Output> {
        if let Known::Here(output) = state.outputs.find(id) {
            return Arc::clone(output);
        }
        let targets = self.layout.targets(id.edge, id.subtask);
        let is_known = !targets.is_empty();
        let output = Output::new(id, targets);
        if is_known {
            state.outputs.insert(id, Arc::clone(&output));
        }
        output
    }

    /// The producers' ends of the channels that come from these subtasks to `input`. That of an
    /// attempt of the past leads nowhere.
    pub(crate) fn outlets(&self, input: EndId, from: Range<u32>) -> Vec<Outlet> {
        let mut state = self.lock();
        let EndId { edge, subtask: to, generation } = input;
        from.map(|from| {
            let channel = ChannelId { edge, from, to, generation };
            let outlet = self.output_in(&mut state, channel.output()).outlet(to);
            outlet.unwrap_or_else(|| Outlet::nowhere(channel))
        })
        .collect()
    }

    fn drop_stale(&self, channel: ChannelId) {
        self.stale_frames.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(?channel, "dropped a frame of another attempt");
    }

    /// Takes a peer's credits, which may come before the task that writes to the channels.
    fn on_credits(
        &self,
        from: &ConnectionHandle,
        first: ChannelId,
        Credits { credits, channels }: Credits,
    ) -> Result<(), WireError> {
        let (mut state, mut is_stale) = (self.lock(), false);
        for producer in (first.from..).take(channels as usize) {
            let channel = ChannelId { from: producer, ..first };
            let id = channel.output();
            let output = match state.outputs.find(id) {
                Known::Here(output) => Arc::clone(output),
                Known::Forgotten => continue,
                Known::Past => {
                    is_stale = true;
                    continue;
                }
                Known::New => self.output_in(&mut state, id),
            };
            let outlet = output.outlet(channel.to);
            let none = WireError("credits came for a channel that the job does not have");
            outlet.ok_or(none)?.grant_from(from, credits)?;
        }
        drop(state);
        if is_stale {
            self.drop_stale(first);
        }
        Ok(())
    }

    /// Whether this host has not connected to that one before.
    pub(crate) fn is_first_connection(&self, peer: HostId) -> bool {
        self.lock().connected.insert(peer)
    }

    /// Brings frames of channels from these subtasks to the inbox that reads them, which numbers
    /// them from `base` on.
    pub(crate) fn add_input(
        &self,
        id: EndId,
        from: Range<u32>,
        inbox: Arc<dyn FrameSink>,
        base: u32,
    ) {
        self.lock().inputs.insert(id, Input { inbox, from, base });
    }

    /// Lets go of both kinds of ends.
    pub(crate) fn forget(
        &self,
        inputs: impl IntoIterator<Item = EndId>,
        outputs: impl IntoIterator<Item = EndId>,
    ) {
        let mut state = self.lock();
        inputs.into_iter().for_each(|id| state.inputs.forget(id));
        outputs.into_iter().for_each(|id| state.outputs.forget(id));
    }

    /// The number of frames that were dropped because they were of another attempt.
    pub(crate) fn stale_frames(&self) -> u64 {
        self.stale_frames.load(Ordering::Relaxed)
    }

    /// Counts a host that was refused because it is of another attempt.
    pub(crate) fn count_stale_host(&self) {
        self.stale_hosts.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of those.
    pub(crate) fn stale_hosts(&self) -> u64 {
        self.stale_hosts.load(Ordering::Relaxed)
    }

    pub(crate) fn handle(&self, peer: HostId) -> ConnectionHandle {
        let mut state = self.lock();
        state.connections.entry(peer).or_insert_with(|| ConnectionHandle::new(peer)).clone()
    }

    pub(crate) fn on_frame(
        &self,
        from: &ConnectionHandle,
        head: Head,
        payload: Bytes,
    ) -> Result<(), WireError> {
        match head.kind {
            Kind::Hello => Err(WireError("a hello came twice")),
            Kind::Credit => {
                let credits = wire::decode_credit(&payload)?;
                self.on_credits(from, head.channel, credits)
            }
            Kind::Data => self.deliver(from, head.channel, RemoteDelivery::Data(payload)),
            Kind::Event => {
                let event = wire::decode_event(&payload)?;
                self.deliver(from, head.channel, RemoteDelivery::Event(event))
            }
            Kind::Overtaking => {
                let barrier = wire::decode_overtaking(&payload)?;
                self.deliver(from, head.channel, RemoteDelivery::Overtaking(barrier))
            }
        }
    }

    fn deliver(
        &self,
        from: &ConnectionHandle,
        channel: ChannelId,
        delivery: RemoteDelivery,
    ) -> Result<(), WireError> {
        let state = self.lock();
        match state.inputs.find(channel.input()) {
            Known::Here(input) if input.from.contains(&channel.from) => {
                let (inbox, at) = (Arc::clone(&input.inbox), channel.from - input.from.start);
                let at = input.base + at;
                drop(state);
                inbox.deliver(at, from.peer(), delivery)
            }
            Known::Forgotten => Ok(()),
            Known::Past => {
                drop(state);
                self.drop_stale(channel);
                Ok(())
            }
            Known::Here(_) | Known::New => {
                Err(WireError("data came for a channel that nobody reads"))
            }
        }
    }

    /// Tells both ends of every channel to `peer` that it is gone.
    pub(crate) fn lose(&self, peer: HostId, why: &str) {
        let state = self.lock();
        state.inputs.iter().for_each(|input| input.inbox.lose(peer, why));
        state.outputs.iter().for_each(|output| output.lose(peer, why));
    }
}
