//! The connections between hosts.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_network::Exchange;
use millstream_network::testing::{Wire, lose};
use millstream_protocol::host::Deploy;
use millstream_types::HostId;

use crate::world::World;

/// The most bytes that arrive at once.
const BYTES_MAX: u64 = 4_000;

/// The connections that there are, each in both directions.
#[derive(Debug, Default)]
pub struct Network {
    wires: BTreeMap<(HostId, HostId), Wire>,
}

impl Network {
    pub fn directions(&self) -> impl Iterator<Item = (HostId, HostId)> {
        self.wires.keys().copied()
    }
}

impl World {
    fn exchange(&self, host: HostId) -> Option<Arc<Exchange>> {
        self.hosts.get(&host)?.exchange().cloned()
    }

    /// A host hears of its peers; of two the one with the smaller id dials.
    pub fn connect(&mut self, host: HostId, deploy: &Deploy) {
        for peer in &deploy.peers {
            let Ok(peer) = HostId::try_from(peer.host_id.as_slice()) else { continue };
            let is_known = self.network.wires.contains_key(&(host, peer));
            if host >= peer || is_known {
                continue;
            }
            if self.hosts.contains_key(&peer) {
                self.network.wires.insert((host, peer), Wire::default());
                self.network.wires.insert((peer, host), Wire::default());
            } else {
                self.break_connection(host, peer);
            }
        }
    }

    /// Lets bytes arrive; whether any did.
    pub fn carry(&mut self, (from, to): (HostId, HostId)) -> bool {
        let now = self.now();
        let silent = [from, to].iter().any(|it| self.hosts[it].is_silent(now));
        let (Some(source), Some(target)) = (self.exchange(from), self.exchange(to)) else {
            return false;
        };
        let bytes = 1 + self.random.below(BYTES_MAX) as usize;
        let wire = self.network.wires.get_mut(&(from, to)).expect("it is connected");
        let carried = !silent && wire.carry(&source, &target, bytes, |_| false).expect("honest");
        self.seen.many("frames between hosts", u64::from(carried));
        carried
    }

    fn break_connection(&self, host: HostId, peer: HostId) {
        if let Some(exchange) = self.exchange(host) {
            lose(&exchange, peer, &format!("host {peer}: it ended"));
        }
    }

    /// Both ends of a connection hear that it is no more.
    pub fn cut(&mut self, (one, other): (HostId, HostId)) {
        self.network.wires.remove(&(one, other));
        self.network.wires.remove(&(other, one));
        self.break_connection(one, other);
        self.break_connection(other, one);
    }

    /// A host has ended: its peers hear of it.
    pub fn disconnect(&mut self, host: HostId) {
        let of_host = |(one, other): &(HostId, HostId)| *one == host || *other == host;
        let ended: Vec<_> = self.network.wires.extract_if(.., |it, _| of_host(it)).collect();
        for ((one, other), _) in ended {
            if other == host {
                self.break_connection(one, host);
            }
        }
    }
}
