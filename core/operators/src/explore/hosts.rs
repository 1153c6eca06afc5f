//! The processes of producers and consumers: one, or two with a connection between them.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use millstream_network::testing::Wire;
use millstream_network::{
    ChannelId, ChannelLayout, Exchange, ExchangeConfig, Generation, Inbox, InputChannels,
    PeerAddress, Received,
};
use millstream_security::{Authority, Credentials, Role, Secret};
use millstream_types::{HostId, ManualClock};

use super::probe::{Item, items};
use super::roll;
use super::writers::Bell;

/// The process of the producers.
pub(super) const HOST: HostId = HostId::from_u128(1);
/// The process of the consumers, if it is another one.
const OTHER_HOST: HostId = HostId::from_u128(2);

/// The most consumers of a producer.
const CONSUMERS_MAX: u32 = 16;

/// The longest that something takes to pass through a socket of a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The life of the certificates of a run.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn start(host: HostId, bind: &[&str], credentials: Option<Credentials>) -> Exchange {
    let bind = bind.iter().map(|address| address.parse().unwrap()).collect();
    let (generation, token) = (Generation::FIRST, Secret::new([0; 32]));
    let layout = ChannelLayout::all_to(CONSUMERS_MAX);
    Exchange::start(ExchangeConfig { host, generation, token, credentials, bind, layout }).unwrap()
}

/// The channels of a process that runs alone.
pub(super) fn exchange() -> Exchange {
    start(HOST, &[], None)
}

/// The way from producers to consumers.
pub(super) enum Hosts {
    /// They are in one process.
    One(Exchange),
    /// The bytes between two processes pass when the test says so.
    Two(Box<Two>),
    /// The bytes between two processes pass through a socket.
    Socket(Rc<Socket>),
}

/// A connection that many runs use, one after the other.
pub(super) struct Socket {
    exchanges: [Exchange; 2],
    /// The edge of the next run.
    edge: Cell<u32>,
}

/// Two processes.
pub(super) struct Two {
    exchanges: [Exchange; 2],
    there: Wire,
    back: Wire,
    /// The number of bytes that pass at a time.
    bytes: usize,
    /// A faulty connection loses one in so many grants of credits.
    loses: Option<u64>,
    grants: u64,
}

impl Hosts {
    pub(super) fn one(encodes_always: bool) -> Self {
        Self::One(exchange().encoding_always(encodes_always))
    }

    /// Two between which so many bytes pass at a time as the seed says.
    pub(super) fn two(seed: u64, loses: Option<u64>) -> Self {
        let bytes = match roll(seed, 15, 4) {
            0 => 7,
            1 => 500,
            2 => 9_000,
            _ => usize::MAX,
        };
        let exchanges = [HOST, OTHER_HOST].map(|host| start(host, &[], None));
        let (there, back) = (Wire::default(), Wire::default());
        Self::Two(Box::new(Two { exchanges, there, back, bytes, loses, grants: 0 }))
    }

    /// Two with a socket between them, over TLS or not.
    pub(super) fn socket(encrypts: bool) -> Rc<Socket> {
        let authority = encrypts.then(|| Authority::generate("explore").unwrap());
        let [low, high] = [HOST, OTHER_HOST].map(|host| {
            let name = format!("job/{host}");
            let own = |authority: &Authority| authority.issue(Role::Host, &name, DAY).unwrap();
            start(host, &["127.0.0.1:0"], authority.as_ref().map(own))
        });
        let address = high.address().unwrap().to_string();
        low.connect([PeerAddress { host: OTHER_HOST, address }]);
        Rc::new(Socket { exchanges: [low, high], edge: Cell::new(0) })
    }

    /// The edge of a run; runs that share a socket have edges of their own.
    pub(super) fn edge(&self) -> u32 {
        match self {
            Self::One(_) | Self::Two(_) => 0,
            Self::Socket(socket) => socket.edge.replace(socket.edge.get() + 1),
        }
    }

    pub(super) fn producers(&self) -> &Exchange {
        match self {
            Self::One(exchange) => exchange,
            Self::Two(two) => &two.exchanges[0],
            Self::Socket(socket) => &socket.exchanges[0],
        }
    }

    fn consumers(&self) -> &Exchange {
        match self {
            Self::One(exchange) => exchange,
            Self::Two(two) => &two.exchanges[1],
            Self::Socket(socket) => &socket.exchanges[1],
        }
    }

    /// Lets bytes pass, some or all that are on their way; whether any did.
    pub(super) fn carry(&mut self, all: bool) -> Result<bool, String> {
        let Self::Two(two) = self else { return Ok(false) };
        let ([low, high], bytes) = (&two.exchanges, if all { usize::MAX } else { two.bytes });
        let there = two.there.carry(low, high, bytes, |_| false);
        let back = two.back.carry(high, low, bytes, |_| {
            two.grants += 1;
            two.loses.is_some_and(|every| two.grants.is_multiple_of(every))
        });
        let passed = |result: Result<bool, _>| result.map_err(|error| format!("{error}"));
        Ok(passed(there)? | passed(back)?)
    }

    /// Whether more may come by itself, after nothing has come for so long.
    pub(super) fn may_bring_more(&self, since: Instant) -> bool {
        std::thread::yield_now();
        matches!(self, Self::Socket(_)) && since.elapsed() < PATIENCE
    }

    /// The runs that follow know nothing of these channels.
    pub(super) fn forget(&self, channels: &[ChannelId]) {
        self.producers().forget([], channels.iter().map(|channel| channel.output()));
        self.consumers().forget(channels.iter().map(|channel| channel.input()), []);
    }
}

/// The consumer at the end of a channel.
pub(super) struct Consumer {
    pub(super) id: ChannelId,
    inbox: Arc<Inbox<u64>>,
    is_attached: bool,
    pub(super) seen: Vec<Item>,
    pub(super) compared: usize,
}

impl Consumer {
    pub(super) fn new(edge: u32, to: u32, credits: u32) -> Self {
        let id = ChannelId { edge, from: 0, to, generation: Generation::FIRST };
        let input = vec![InputChannels::one(id, HOST)];
        let inbox = Inbox::new(input, credits, Waker::noop().clone(), Arc::default());
        Self { id, inbox, is_attached: false, seen: Vec::new(), compared: 0 }
    }

    /// Brings it to its channel; `false` if it is there.
    pub(super) fn attach(&mut self, hosts: &Hosts) -> bool {
        let is_new = !std::mem::replace(&mut self.is_attached, true);
        if is_new {
            hosts.consumers().attach(&self.inbox);
        }
        is_new
    }

    /// Takes so many deliveries; whether there was any.
    pub(super) fn take(&mut self, deliveries: usize) -> Result<bool, String> {
        for taken in 0..deliveries {
            match self.inbox.receive().map_err(|error| error.to_string())? {
                Received::Nothing => return Ok(taken > 0),
                Received::Batch(_, batch) => self.seen.extend(items(batch, |record| record)),
                Received::Event(_, event) => self.seen.push(event.into()),
            }
        }
        Ok(deliveries > 0)
    }
}

thread_local! {
    static CLOCK: ManualClock = ManualClock::new();
    static WAKE_UPS: Arc<Bell> = Arc::default();
}

/// The clock of the tasks that are explored in this thread.
pub(super) fn clock() -> ManualClock {
    CLOCK.with(ManualClock::clone)
}

/// Notes that a task of this thread was woken.
pub(super) fn wake_ups() -> Arc<Bell> {
    WAKE_UPS.with(Arc::clone)
}

/// Whether a task that is explored in this thread was woken since the last look.
pub(super) fn take_wake_up() -> bool {
    let bell = wake_ups();
    let is_rung = bell.is_rung();
    bell.clear();
    is_rung
}
