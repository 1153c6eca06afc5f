//! The ends of the channels of one process, and its connections.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use millstream_types::HostId;

use crate::channel_id::ChannelId;
use crate::ends::{Ends, Known};
use crate::inbox::{FrameSink, RemoteDelivery};
use crate::outgoing::ConnectionHandle;
use crate::outlet::Outlet;
use crate::wire::{self, Head, Kind, WireError};

/// No peer makes this host remember more channels.
pub(crate) const OUTLETS_MAX: usize = 1 << 20;

/// Ends of channels, by number, for the connections.
#[derive(Debug)]
pub(crate) struct Registry {
    state: Mutex<State>,
    /// The frames that were dropped because they were of another attempt.
    stale_frames: AtomicU64,
    /// The connections that were refused because the other host is of another attempt.
    stale_hosts: AtomicU64,
}

struct State {
    outlets: Ends<Arc<Outlet>>,
    sinks: Ends<Sink>,
    connections: BTreeMap<HostId, ConnectionHandle>,
    connected: BTreeSet<HostId>,
}

struct Sink {
    inbox: Arc<dyn FrameSink>,
    channel: u32,
    from: HostId,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("outlets", &self.outlets.len())
            .field("sinks", &self.sinks.len())
            .field("connections", &self.connections.len())
            .finish()
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn new() -> Self {
        let (connections, connected) = (BTreeMap::new(), BTreeSet::new());
        let state = State { outlets: Ends::new(), sinks: Ends::new(), connections, connected };
        let (stale_frames, stale_hosts) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { state: Mutex::new(state), stale_frames, stale_hosts }
    }

    /// The outlet of a channel; for one of the past an outlet that leads nowhere.
    pub(crate) fn outlet(&self, channel: ChannelId) -> Arc<Outlet> {
        let mut state = self.lock();
        if let Known::Here(outlet) = state.outlets.find(channel) {
            return Arc::clone(outlet);
        }
        let outlet = Arc::<Outlet>::default();
        state.outlets.insert(channel, Arc::clone(&outlet));
        outlet
    }

    fn drop_stale(&self, channel: ChannelId) {
        self.stale_frames.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(?channel, "dropped a frame of another attempt");
    }

    /// Takes a peer's credits, which may come before the task that writes to the channel.
    fn on_credits(
        &self,
        from: &ConnectionHandle,
        channel: ChannelId,
        credits: u32,
    ) -> Result<(), WireError> {
        let mut state = self.lock();
        let outlet = match state.outlets.find(channel) {
            Known::Here(outlet) => Arc::clone(outlet),
            Known::Forgotten => return Ok(()),
            Known::Past => {
                drop(state);
                self.drop_stale(channel);
                return Ok(());
            }
            Known::New if state.outlets.len() < OUTLETS_MAX || state.outlets.contains(channel) => {
                let outlet = Arc::<Outlet>::default();
                state.outlets.insert(channel, Arc::clone(&outlet));
                outlet
            }
            Known::New => {
                return Err(WireError("credits came for more channels than a host can have"));
            }
        };
        drop(state);
        outlet.grant_from(from, credits)
    }

    /// Whether this host has not connected to that one before.
    pub(crate) fn is_first_connection(&self, peer: HostId) -> bool {
        self.lock().connected.insert(peer)
    }

    /// Brings frames of a channel to the inbox that reads it.
    pub(crate) fn add_sink(
        &self,
        channel: ChannelId,
        from: HostId,
        inbox: Arc<dyn FrameSink>,
        at: u32,
    ) {
        self.lock().sinks.insert(channel, Sink { inbox, channel: at, from });
    }

    /// Lets go of both kinds of ends.
    pub(crate) fn forget(
        &self,
        inputs: impl IntoIterator<Item = ChannelId>,
        outputs: impl IntoIterator<Item = ChannelId>,
    ) {
        let mut state = self.lock();
        inputs.into_iter().for_each(|channel| state.sinks.forget(channel));
        outputs.into_iter().for_each(|channel| state.outlets.forget(channel));
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
        }
    }

    fn deliver(
        &self,
        from: &ConnectionHandle,
        channel: ChannelId,
        delivery: RemoteDelivery,
    ) -> Result<(), WireError> {
        let state = self.lock();
        match state.sinks.find(channel) {
            Known::Here(sink) if sink.from == from.peer() => {
                let (inbox, at) = (Arc::clone(&sink.inbox), sink.channel);
                drop(state);
                inbox.deliver(at, delivery)
            }
            Known::Forgotten => Ok(()),
            Known::Past => {
                drop(state);
                self.drop_stale(channel);
                Ok(())
            }
            Known::Here(_) | Known::New => {
                Err(WireError("data came for a channel that nobody reads from this host"))
            }
        }
    }

    /// Tells both ends of every channel to `peer` that it is gone.
    pub(crate) fn lose(&self, peer: HostId, why: &str) {
        let state = self.lock();
        for sink in state.sinks.iter().filter(|sink| sink.from == peer) {
            let _ = sink.inbox.deliver(sink.channel, RemoteDelivery::Lost(why.to_owned()));
        }
        for outlet in state.outlets.iter().filter(|outlet| outlet.leads_to(peer)) {
            outlet.lose(why.to_owned());
        }
    }
}
