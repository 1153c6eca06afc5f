//! Chooses nodes to avoid: those where workers fail to start again and again while others do well.
//!
//! A node is avoided once enough of its recent starts failed, and more than half of them, so that a
//! program that fails everywhere gets no node avoided. At least one node is never avoided, and an
//! avoided one gets another chance after ten minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::ids::Node;
use crate::proto::yarn::ResourceBlacklistRequestProto;

/// Time for which starts are remembered and nodes avoided.
const MEMORY: Duration = Duration::from_secs(600);

#[derive(Debug)]
struct Record {
    since: Instant,
    starts: u32,
    failures: u32,
}

#[derive(Debug)]
pub(super) struct Blacklist {
    failures_max: u32,
    records: BTreeMap<Node, Record>,
    avoided: BTreeMap<Node, Instant>,
    /// Nodes that the ResourceManager avoids, according to the last call.
    told: BTreeSet<Node>,
    told_before: BTreeSet<Node>,
}

impl Blacklist {
    /// Avoids a node once so many starts have failed there; 0: never.
    pub(super) fn new(failures_max: u32) -> Self {
        let (records, avoided, told, told_before) = Default::default();
        Self { failures_max, records, avoided, told, told_before }
    }

    pub(super) fn on_start(&mut self, now: Instant, node: &Node) {
        let fresh = || Record { since: now, starts: 0, failures: 0 };
        let record = self.records.entry(node.clone()).or_insert_with(fresh);
        if now.duration_since(record.since) > MEMORY {
            *record = fresh();
        }
        record.starts += 1;
    }

    /// A start failed; a node that is known to be bad needs no second one.
    pub(super) fn on_failure(&mut self, now: Instant, node: &Node, known_bad: bool) {
        let Some(record) = self.records.get_mut(node) else { return };
        record.failures += 1;
        let often = record.failures >= self.failures_max && record.failures * 2 > record.starts;
        if self.failures_max > 0 && (often || known_bad) {
            self.avoided.insert(node.clone(), now + MEMORY);
        }
    }

    /// Forgets nodes whose time is over, and the oldest when there are too many for a cluster of
    /// this size.
    pub(super) fn refresh(&mut self, now: Instant, nodes: usize) {
        self.avoided.retain(|_, until| *until > now);
        self.records.retain(|_, record| now.duration_since(record.since) <= MEMORY);
        while self.avoided.len() >= nodes.max(1) {
            let oldest = self.avoided.iter().min_by_key(|(_, until)| **until);
            let Some(oldest) = oldest.map(|(node, _)| node.clone()) else { return };
            self.avoided.remove(&oldest);
            self.records.remove(&oldest);
        }
    }

    pub(super) fn avoids(&self, node: &Node) -> bool {
        self.avoided.contains_key(node)
    }

    /// Whether the avoided nodes differ from those in the last call.
    pub(super) fn has_news(&self) -> bool {
        !self.avoided.keys().eq(&self.told)
    }

    /// The changes since the last call, if any. Each node is listed under both names that the
    /// ResourceManager may use for it (`yarn.scheduler.include-port-in-node-name`).
    pub(super) fn news(&mut self) -> Option<ResourceBlacklistRequestProto> {
        if !self.has_news() {
            self.told_before.clone_from(&self.told);
            return None;
        }
        let avoided: BTreeSet<Node> = self.avoided.keys().cloned().collect();
        let names = |nodes: &mut dyn Iterator<Item = &Node>| -> Vec<String> {
            nodes.flat_map(|node| [node.host.clone(), node.to_string()]).collect()
        };
        let news = ResourceBlacklistRequestProto {
            blacklist_additions: names(&mut avoided.difference(&self.told)),
            blacklist_removals: names(&mut self.told.difference(&avoided)),
        };
        self.told_before = std::mem::replace(&mut self.told, avoided);
        Some(news)
    }

    /// Undoes the last [`Self::news`], because its call failed.
    pub(super) fn unheard(&mut self) {
        self.told.clone_from(&self.told_before);
    }

    /// The ResourceManager knows of nothing.
    pub(super) fn untold(&mut self) {
        self.told.clear();
        self.told_before.clear();
    }

    /// Forgets all starts and avoids no node.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.failures_max);
    }
}
