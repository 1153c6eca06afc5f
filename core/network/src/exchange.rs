//! The registry of one process's channels and its connections to the other hosts of the job.

use std::any::Any;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

use millstream_security::{Credentials, Secret, SecurityError};
use millstream_types::HostId;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use crate::channel::ChannelWriter;
use crate::channel_id::{ChannelId, ChannelLayout, EndId, Generation};
use crate::connection::{self, ConnectionError, Party, Security};
use crate::counters::TaskCounters;
use crate::error::ExchangeError;
use crate::inbox::Inbox;
use crate::outlet::{Outlet, Target};
use crate::registry::Registry;
use crate::socket::Socket;
use crate::wire::Data;

const STRANGERS_MAX: usize = 64;
const DIAL_ATTEMPTS: u32 = 5;

/// The identity of this process among the hosts of its job attempt.
#[derive(Debug, Clone)]
pub struct ExchangeConfig {
    /// This host.
    pub host: HostId,
    /// The attempt that it was started for.
    pub generation: Generation,
    /// The secret that the hosts of one job attempt share.
    pub token: Secret<[u8; 32]>,
    /// The key and certificate of a host named `JOB/HOST`, and then only hosts of the same job that
    /// have theirs are talked to, with TLS.
    pub credentials: Option<Credentials>,
    /// Where to listen: the first of these that is free, port 0 for any free one; empty for a job
    /// in one process.
    pub bind: Vec<SocketAddr>,
    /// The channels of the job.
    pub layout: ChannelLayout,
}

/// Another host and where its data port is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// The host.
    pub host: HostId,
    /// Its data port.
    pub address: String,
}

/// One process's end of all exchanges of its job. Dropping it closes the port and connections.
#[derive(Debug)]
pub struct Exchange {
    registry: Arc<Registry>,
    own: HostId,
    address: Option<SocketAddr>,
    port: Option<Port>,
    encodes_always: bool,
}

/// The thread that serves the data port and the connections.
#[derive(Debug)]
struct Port {
    party: Arc<Party>,
    runtime: Handle,
    /// Dropped with the exchange, which ends the thread.
    _open: oneshot::Sender<()>,
}

impl Exchange {
    /// Opens the data port, if there is to be one, and serves it on a thread of its own.
    ///
    /// # Errors
    /// [`ExchangeError::Bind`] and [`ExchangeError::Security`].
    pub fn start(config: ExchangeConfig) -> Result<Self, ExchangeError> {
        let registry = Arc::new(Registry::new(config.layout));
        let own = config.host;
        let (Some(first), Some(last)) = (config.bind.first(), config.bind.last()) else {
            return Ok(Self { registry, own, address: None, port: None, encodes_always: false });
        };
        let security = config.credentials.map(Security::new).transpose()?;
        let party = Arc::new(Party {
            host: own,
            generation: config.generation,
            token: config.token,
            security: Mutex::new(security.map(Arc::new)),
        });
        let address = match first == last {
            true => first.to_string(),
            false => format!("{first} and the {} after it", config.bind.len() - 1),
        };
        let failed = |source| ExchangeError::Bind { address: address.clone(), source };
        let listener = StdListener::bind(config.bind.as_slice()).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(failed)?;
        let (open, closed) = oneshot::channel();
        let handle = runtime.handle().clone();
        let port = Port { party: Arc::clone(&party), runtime: handle, _open: open };
        let served = Arc::clone(&registry);
        std::thread::Builder::new()
            .name("exchange".to_owned())
            .spawn(move || runtime.block_on(serve(listener, closed, served, party)))
            .map_err(failed)?;
        Ok(Self { registry, own, address: Some(bound), port: Some(port), encodes_always: false })
    }

    /// Has batches for consumers in this process encoded too, as if these were elsewhere.
    #[must_use]
    pub fn encoding_always(mut self, always: bool) -> Self {
        self.encodes_always = always;
        self
    }

    #[cfg(feature = "test-util")]
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    #[cfg(feature = "test-util")]
    pub(crate) const fn host(&self) -> HostId {
        self.own
    }

    /// Where the data port listens.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Shows another certificate, of the same name, from the next connection on. Connections that
    /// there are live on.
    ///
    /// # Errors
    /// The key and the certificate cannot be used together.
    pub fn renew(&self, credentials: Credentials) -> Result<(), SecurityError> {
        if let Some(port) = &self.port {
            port.party.renew(Security::new(credentials)?);
        }
        Ok(())
    }

    /// Connects to the peers that exchange data with this host. Of two hosts the one with the
    /// smaller id dials, so a pair has one connection. Peers that are known already are skipped.
    pub fn connect(&self, peers: impl IntoIterator<Item = PeerAddress>) {
        for peer in peers.into_iter().filter(|peer| self.own < peer.host) {
            let fresh = self.registry.is_first_connection(peer.host);
            if let (true, Some(port)) = (fresh, &self.port) {
                let (registry, party) = (Arc::clone(&self.registry), Arc::clone(&port.party));
                port.runtime.spawn(async move { dial(peer, &registry, &party).await });
            }
        }
    }

    /// The producing ends of the channels that lead from there to these subtasks; `waker` wakes
    /// their task.
    pub fn writers<T: Data>(
        &self,
        output: EndId,
        targets: Range<u32>,
        waker: Waker,
        counters: &Arc<TaskCounters>,
    ) -> impl Iterator<Item = ChannelWriter<T>> {
        let EndId { edge, subtask: from, generation } = output;
        let output = self.registry.output(output);
        output.set_waker(waker);
        targets.map(move |to| {
            let nowhere = || Outlet::nowhere(ChannelId { edge, from, to, generation });
            let outlet = output.outlet(to).unwrap_or_else(nowhere);
            ChannelWriter::new(outlet, Arc::clone(counters), self.encodes_always)
        })
    }

    /// The producing end of one channel; `waker` wakes its task.
    #[must_use]
    pub fn writer<T: Data>(
        &self,
        channel: ChannelId,
        waker: Waker,
        counters: Arc<TaskCounters>,
    ) -> ChannelWriter<T> {
        let output = self.registry.output(channel.output());
        output.set_waker(waker);
        let outlet = output.outlet(channel.to).unwrap_or_else(|| Outlet::nowhere(channel));
        ChannelWriter::new(outlet, counters, self.encodes_always)
    }

    /// Brings an inbox's channels to their producers.
    pub fn attach<T: Data>(&self, inbox: &Arc<Inbox<T>>) {
        for (base, input) in inbox.inputs() {
            let (runs, at) = (input.runs(), |from: u32| base + (from - input.from.start));
            let (local, remote): (Vec<_>, Vec<_>) = runs.partition(|(_, host)| *host == self.own);
            for (from, _) in local {
                let outlets = self.registry.outlets(input.end, from.clone());
                for (channel, outlet) in (at(from.start)..).zip(outlets) {
                    let inbox_of_any: Arc<dyn Any + Send + Sync> = Arc::clone(inbox) as _;
                    outlet.attach(Target::Local { inbox: inbox_of_any, channel });
                    inbox.connect_local(channel, outlet);
                }
            }
            if !remote.is_empty() {
                let sink = Arc::clone(inbox) as _;
                self.registry.add_input(input.end, input.from.clone(), sink, base);
            }
            for (from, host) in remote {
                let channels = at(from.start)..at(from.end);
                inbox.connect_remote(channels, &self.registry.handle(host));
            }
        }
    }

    /// Lets go of the channels of a task that has ended: what waits in its inputs is dropped, and
    /// so is what still comes for it.
    pub fn forget(
        &self,
        inputs: impl IntoIterator<Item = EndId>,
        outputs: impl IntoIterator<Item = EndId>,
    ) {
        self.registry.forget(inputs, outputs);
    }

    /// The number of frames that were dropped because they were of another attempt.
    #[must_use]
    pub fn stale_frames(&self) -> u64 {
        self.registry.stale_frames()
    }

    /// The number of connections that this host refused because the other one was started for
    /// another attempt, or by another leader.
    #[must_use]
    pub fn stale_hosts(&self) -> u64 {
        self.registry.stale_hosts()
    }
}

async fn serve(
    listener: StdListener,
    mut closed: oneshot::Receiver<()>,
    registry: Arc<Registry>,
    party: Arc<Party>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    // Out of descriptors, most likely: let some close first.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                let Ok(permit) = Arc::clone(&strangers).try_acquire_owned() else { continue };
                let (registry, party) = (Arc::clone(&registry), Arc::clone(&party));
                tokio::spawn(async move { accept(stream, &registry, &party, permit).await });
            }
            _ = &mut closed => return,
        }
    }
}

async fn accept(
    stream: TcpStream,
    registry: &Registry,
    party: &Party,
    permit: tokio::sync::OwnedSemaphorePermit,
) {
    let _ = stream.set_nodelay(true);
    match party.accept(stream).await {
        Ok((peer, socket)) if peer < party.host => {
            drop(permit);
            if registry.is_first_connection(peer) {
                converse(socket, peer, registry).await;
            } else {
                tracing::warn!(%peer, "refused a second connection of one host");
            }
        }
        Ok((peer, _)) => tracing::warn!(%peer, "refused a connection in the wrong direction"),
        Err(error) => {
            if matches!(error, ConnectionError::OtherAttempt { .. }) {
                registry.count_stale_host();
            }
            tracing::warn!(%error, "refused a connection to the data port");
        }
    }
}

async fn dial(peer: PeerAddress, registry: &Registry, party: &Party) {
    let mut delay = Duration::from_millis(5);
    for attempt in 1..=DIAL_ATTEMPTS {
        let connected = async {
            let stream = TcpStream::connect(&peer.address).await?;
            let _ = stream.set_nodelay(true);
            party.connect(stream, peer.host).await
        };
        match connected.await {
            Ok(socket) => return converse(socket, peer.host, registry).await,
            Err(error) if attempt == DIAL_ATTEMPTS => {
                registry
                    .lose(peer.host, &format!("host {} at {}: {error}", peer.host, peer.address));
            }
            Err(_) => {
                tokio::time::sleep(delay).await;
                delay *= 3;
            }
        }
    }
}

async fn converse(socket: Socket, peer: HostId, registry: &Registry) {
    let handle = registry.handle(peer);
    let error = connection::run(socket, handle, registry).await;
    registry.lose(peer, &format!("host {peer}: {error}"));
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use bytes::Bytes;
    use millstream_types::LeaderEpoch;

    use super::*;
    use crate::channel_id::InputChannels;
    use crate::outlet::{CREDITS_MAX, Flow};
    use crate::wire::{self, BARRIER, Credits, Head, WireError};

    impl Exchange {
        /// That of this party, on a free port.
        pub(crate) fn listening(party: &Party) -> Self {
            Self::start(ExchangeConfig {
                host: party.host,
                generation: party.generation,
                token: party.token.clone(),
                credentials: None,
                bind: vec!["127.0.0.1:0".parse().unwrap()],
                layout: ChannelLayout::all_to(1),
            })
            .unwrap()
        }
    }

    fn alone() -> Exchange {
        Exchange::start(ExchangeConfig {
            host: HostId::from_u128(1),
            generation: Generation::FIRST,
            token: Secret::new([0; 32]),
            credentials: None,
            bind: Vec::new(),
            layout: ChannelLayout::new(|_, from| if from == 0 { 0..16 } else { 0..0 }),
        })
        .unwrap()
    }

    #[test]
    fn hosts_of_another_attempt_or_leader_are_refused_and_counted() {
        let party = |host, epoch, attempt, token| {
            let generation = Generation { epoch: LeaderEpoch::new(epoch), attempt };
            let (host, token) = (HostId::from_u128(host), Secret::new([token; 32]));
            Party { host, generation, token, security: Mutex::default() }
        };
        let own = party(2, 1, 1, 9);
        let exchange = Exchange::listening(&own);
        let answers = |from: Party| {
            let mut stream = std::net::TcpStream::connect(exchange.address().unwrap()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.write_all(&from.hello(own.host)).unwrap();
            stream.read_exact(&mut [0]).is_ok()
        };
        for (epoch, attempt) in [(1, 0), (1, 2), (0, 1), (2, 1), (1, 1 + (1 << 16))] {
            assert!(!answers(party(1, epoch, attempt, 9)), "attempt {attempt} of epoch {epoch}");
        }
        assert!(!answers(party(1, 1, 1, 8)), "it does not know the attempt's token");
        assert!(answers(party(1, 1, 1, 9)));
        // A connection is closed before it is counted.
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while exchange.stale_hosts() < 5 && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!((exchange.stale_hosts(), exchange.stale_frames()), (5, 0));
    }

    fn of(number: u64, epoch: u64, attempt: u32) -> ChannelId {
        ChannelId::of_wire(number, Generation { epoch: LeaderEpoch::new(epoch), attempt })
    }

    fn channel(number: u64) -> ChannelId {
        of(number, 1, 5)
    }

    fn grant(exchange: &Exchange, peer: u128, number: u64, credits: u32) -> Result<(), WireError> {
        let credits = Credits { credits, channels: 1 };
        hear(exchange, peer, wire::credit_frame(channel(number), credits))
    }

    fn hear(exchange: &Exchange, peer: u128, frame: Bytes) -> Result<(), WireError> {
        let peer = exchange.registry.handle(HostId::from_u128(peer));
        let head = Head::decode(&frame)?;
        exchange.registry.on_frame(&peer, head, frame.slice(wire::HEAD_BYTES..))
    }

    #[test]
    fn a_peer_that_grants_more_than_any_channel_uses_is_refused() {
        let exchange = alone();
        assert_eq!(grant(&exchange, 2, 7, CREDITS_MAX), Ok(()));
        assert!(grant(&exchange, 2, 7, 1).is_err());
        assert!(grant(&exchange, 2, 8, u32::MAX).is_err());
        assert!(grant(&exchange, 3, 7, 0).is_err(), "the channel leads to another host");
    }

    #[test]
    fn a_peer_names_no_channel_that_the_job_does_not_have() {
        let exchange = alone();
        assert_eq!(grant(&exchange, 2, 15, 1), Ok(()));
        assert!(grant(&exchange, 2, 16, 1).is_err(), "subtask 0 does not send to subtask 16");
        assert!(grant(&exchange, 2, 1 << 20, 1).is_err(), "there is no subtask 1 that sends");
        let two = Credits { credits: 1, channels: 2 };
        assert!(hear(&exchange, 2, wire::credit_frame(channel(3), two)).is_err());
    }

    #[test]
    fn one_frame_grants_the_channels_of_many_producers() {
        let exchange = Exchange::start(ExchangeConfig {
            host: HostId::from_u128(1),
            generation: Generation::FIRST,
            token: Secret::new([0; 32]),
            credentials: None,
            bind: Vec::new(),
            layout: ChannelLayout::all_to(4),
        });
        let exchange = exchange.unwrap();
        let first = ChannelId { edge: 1, from: 5, to: 2, generation: Generation::FIRST };
        let credits = Credits { credits: 3, channels: 10 };
        assert_eq!(hear(&exchange, 2, wire::credit_frame(first, credits)), Ok(()));
        for from in 0..20 {
            let output = ChannelId { from, ..first }.output();
            let counters = Arc::default();
            let writers = exchange.writers::<u64>(output, 0..4, Waker::noop().clone(), &counters);
            let sent = writers.map(|mut writer| {
                (0..4).take_while(|_| writer.send_event(BARRIER).unwrap() == Flow::Ready).count()
            });
            let third = if (5..15).contains(&from) { 3 } else { 0 };
            assert_eq!(sent.collect::<Vec<_>>(), [0, 0, third, 0], "producer {from}");
        }
    }

    #[test]
    fn the_first_credits_of_all_producers_of_a_host_are_one_frame() {
        let exchange = alone();
        let hosts = (0..300).map(|producer| HostId::from_u128(2 + producer / 100)).collect();
        let end = EndId { edge: 0, subtask: 0, generation: Generation::FIRST };
        let input = vec![InputChannels { end, from: 0..300, hosts }];
        let inbox = Inbox::<u64>::new(input, 2, Waker::noop().clone(), Arc::default());
        exchange.attach(&inbox);
        for host in 2..5 {
            let frames = exchange.registry.handle(HostId::from_u128(host)).try_take().unwrap();
            let from = (u32::try_from(host).unwrap() - 2) * 100;
            let first = ChannelId { edge: 0, from, to: 0, generation: Generation::FIRST };
            let credits = Credits { credits: 2, channels: 100 };
            assert_eq!(frames, [wire::credit_frame(first, credits)], "host {host}");
        }
    }

    /// An attempt, the next one of the same leader, and one of the next leader, whose numbers begin
    /// anew.
    const ATTEMPTS: [(u64, u32); 3] = [(1, 5), (1, 6), (2, 0)];

    #[test]
    fn frames_of_another_attempt_or_leader_are_dropped_and_counted() {
        for pair in ATTEMPTS.windows(2) {
            let exchange = alone();
            let [old, new] = [pair[0], pair[1]].map(|(epoch, attempt)| of(7, epoch, attempt));
            let barrier = |channel| wire::event_frame(channel, BARRIER);
            let peer = HostId::from_u128(2);
            let inbox = |channel| {
                let input = vec![InputChannels::one(channel, peer)];
                let inbox = Inbox::<u64>::new(input, 2, Waker::noop().clone(), Arc::default());
                exchange.attach(&inbox);
                inbox
            };
            let before = inbox(old);
            assert_eq!(hear(&exchange, 2, barrier(old)), Ok(()));
            let after = inbox(new);
            assert_eq!(hear(&exchange, 3, barrier(old)), Ok(()), "the subtask was elsewhere then");
            assert_eq!(hear(&exchange, 2, barrier(old)), Ok(()));
            assert_eq!(hear(&exchange, 2, barrier(new)), Ok(()));
            assert_eq!((before.waiting(), after.waiting(), exchange.stale_frames()), (1, 1, 2));
            let newer = barrier(of(7, 3, 0));
            assert!(hear(&exchange, 2, newer).is_err(), "no credit was granted for it");

            exchange.forget([new.input()], []);
            assert_eq!(hear(&exchange, 2, barrier(new)), Ok(()));
            assert_eq!((after.waiting(), exchange.stale_frames()), (1, 2));
            assert_eq!(Arc::strong_count(&after), 1, "nothing else holds what waits in it");
        }
    }

    #[test]
    fn credits_of_another_attempt_or_leader_are_dropped_and_counted() {
        for pair in ATTEMPTS.windows(2) {
            let exchange = alone();
            let [old, new] = [pair[0], pair[1]].map(|(epoch, attempt)| of(7, epoch, attempt));
            let one = Credits { credits: 1, channels: 1 };
            let credits = |channel| hear(&exchange, 2, wire::credit_frame(channel, one));
            let send = |writer: &mut ChannelWriter<u64>| writer.send_event(BARRIER).unwrap();
            let writer =
                |channel| exchange.writer::<u64>(channel, Waker::noop().clone(), Arc::default());
            let mut before = writer(old);
            assert_eq!(credits(new), Ok(()), "the consumer's next attempt may be first");
            assert_eq!(credits(old), Ok(()));
            assert_eq!(exchange.stale_frames(), 1);
            assert_eq!(send(&mut before), Flow::Full);
            assert_eq!(send(&mut writer(old)), Flow::Full, "the past gets no credits");
            assert_eq!(send(&mut writer(new)), Flow::Ready);

            exchange.forget([], [new.output()]);
            assert_eq!(credits(new), Ok(()));
            assert_eq!(exchange.stale_frames(), 1);
        }
    }
}
