//! All keys of Flink, with the effect of each here.
//!
//! The list of keys is data (`flink-keys.tsv`); the judgement is this file: a key of an option that
//! the process knows is honoured, a key that tunes a JVM has no meaning, and all others are known
//! but lacking. A key in neither list is a mistake, answered with the nearest key.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use crate::known::KnownOptions;

/// The effect of a key that a user sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStatus {
    /// Some code reads it.
    Honoured,
    /// Flink has it and Millstream does not yet; one warning.
    Lacking,
    /// It tunes a JVM, and there is none; one warning.
    WithoutJvm,
}

impl fmt::Display for KeyStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Honoured => "honoured",
            Self::Lacking => "known but lacking",
            Self::WithoutJvm => "meaningless without a JVM",
        })
    }
}

/// One option of Flink.
#[derive(Debug, Clone)]
pub struct FlinkKey {
    /// The key; `<name>` and `#` stand for what users fill in.
    pub key: &'static str,
    /// Flink's default, empty if it has none.
    pub default: &'static str,
    /// Earlier names of the key.
    pub old_names: Vec<&'static str>,
}

/// The meaning of a key that a user wrote.
#[derive(Debug)]
pub(crate) enum Meaning {
    /// The name of an option, or a key below a free prefix.
    Key(KeyStatus),
    /// The old name of these options.
    OldName(Vec<&'static str>),
    /// No option.
    Unknown,
}

/// Prefixes of keys that configure a JVM.
const JVM_PREFIXES: [&str; 17] = [
    "classloader.",
    "cluster.intercept-user-system-exit",
    "env.java.",
    "jmx.",
    "jobmanager.memory.",
    "metrics.internal.query-service.",
    "pekko.",
    "pipeline.closure-cleaner-level",
    "pipeline.force-",
    "pipeline.generic-types",
    "pipeline.object-reuse",
    "pipeline.serialization-config",
    "taskmanager.debug.memory.",
    "taskmanager.jvm-",
    "taskmanager.memory.framework.",
    "taskmanager.memory.jvm-",
    "taskmanager.network.netty.",
];

/// Single keys that configure a JVM.
const JVM_KEYS: [&str; 9] = [
    "security.context.factory.classes",
    "security.kerberos.login.contexts",
    "security.module.factory.classes",
    "security.ssl.provider",
    "shuffle-service-factory.class",
    "table.generated-code.max-length",
    "yarn.classpath.include-user-jar",
    "yarn.container-start-command-template",
    "yarn.flink-dist-jar",
];

/// Keys below a JVM prefix that would have a meaning here.
const LACKING_KEYS: [&str; 8] = [
    "jobmanager.memory.flink.size",
    "jobmanager.memory.process.size",
    "pekko.framesize",
    "pekko.lookup.timeout",
    "pekko.ssl.enabled",
    "pekko.startup-timeout",
    "pekko.tcp.timeout",
    "taskmanager.network.netty.client.connectTimeoutSec",
];

/// Keys that files hold and that Flink's reference does not list.
const UNLISTED_KEYS: [&str; 31] = [
    "cluster.evenly-spread-out-slots",
    "containerized.heap-cutoff-min",
    "containerized.heap-cutoff-ratio",
    "external-resources",
    "fs.hdfs.hadoopconf",
    "fs.hdfs.hdfsdefault",
    "fs.hdfs.hdfssite",
    "fs.s3.limit.input",
    "fs.s3.limit.output",
    "fs.s3.limit.total",
    "internal.jobgraph-path",
    "jobmanager.heap.mb",
    "jobmanager.heap.size",
    "query.proxy.network-threads",
    "query.proxy.ports",
    "query.server.network-threads",
    "query.server.ports",
    "queryable-state.enable",
    "s3.access-key",
    "s3.endpoint",
    "s3.entropy.key",
    "s3.entropy.length",
    "s3.path.style.access",
    "s3.secret-key",
    "scheduler-mode",
    "slotmanager.declare-needed-resource.delay",
    "slotmanager.requirement-check.delay",
    "state.backend.async",
    "taskmanager.compute.numa",
    "taskmanager.heap.size",
    "taskmanager.runtime.memory.prealloc",
];

/// Below these, users choose the rest of the key; `<name>` keys and maps are added to them.
const FREE_PREFIXES: [&str; 16] = [
    "$internal.",
    "containerized.master.env.",
    "containerized.taskmanager.env.",
    "env.",
    "flink.yarn.",
    "fs.azure.",
    "fs.gs.",
    "fs.oss.",
    "fs.s3a.",
    "gs.",
    "presto.s3.",
    "python.",
    "s3.",
    "s3a.",
    "sql-gateway.",
    "yarn.application-master.env.",
];

struct Catalogue {
    keys: Vec<FlinkKey>,
    /// Of every key, unless the process honours it.
    statuses: HashMap<&'static str, KeyStatus>,
    old_names: HashMap<&'static str, Vec<&'static str>>,
    free_prefixes: Vec<&'static str>,
}

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(read_catalogue);

fn read_catalogue() -> Catalogue {
    let mut keys = Vec::new();
    let mut free_prefixes = FREE_PREFIXES.to_vec();
    let mut old_names: HashMap<_, Vec<_>> = HashMap::new();
    let mut statuses: HashMap<_, _> =
        UNLISTED_KEYS.iter().map(|key| (*key, KeyStatus::Lacking)).collect();
    for line in include_str!("flink-keys.tsv").lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.split('\t');
        let mut column = || columns.next().unwrap_or_default();
        let (key, kind, default, old) = (column(), column(), column(), column());
        let old: Vec<&str> = old.split(',').filter(|name| !name.is_empty()).collect();
        match key.find(['<', '#']) {
            Some(end) => free_prefixes.push(key.get(..end).unwrap_or(key)),
            None if kind == "Map" => free_prefixes.push(key),
            None => {}
        }
        for name in &old {
            old_names.entry(*name).or_default().push(key);
        }
        statuses.entry(key).or_insert_with(|| status_of_unread(key));
        keys.push(FlinkKey { key, default, old_names: old });
    }
    old_names.retain(|name, _| !statuses.contains_key(name));
    Catalogue { keys, statuses, old_names, free_prefixes }
}

fn status_of_unread(key: &str) -> KeyStatus {
    let of_jvm = JVM_KEYS.contains(&key) || JVM_PREFIXES.iter().any(|p| key.starts_with(p));
    match of_jvm && !LACKING_KEYS.contains(&key) {
        true => KeyStatus::WithoutJvm,
        false => KeyStatus::Lacking,
    }
}

/// Every option of Flink, by key.
#[must_use]
pub fn keys() -> &'static [FlinkKey] {
    &CATALOGUE.keys
}

/// The effect of `key` on a process with these options; `None` for an unknown one and for an old
/// name.
#[must_use]
pub fn status(options: KnownOptions, key: &str) -> Option<KeyStatus> {
    match meaning(options, key) {
        Meaning::Key(status) => Some(status),
        Meaning::OldName(_) | Meaning::Unknown => None,
    }
}

/// The old names that lead to `key`.
#[must_use]
pub fn old_names(key: &str) -> &'static [&'static str] {
    let found = CATALOGUE.keys.iter().find(|known| known.key == key);
    found.map(|known| known.old_names.as_slice()).unwrap_or_default()
}

pub(crate) fn meaning(options: KnownOptions, key: &str) -> Meaning {
    if options.honours(key) {
        return Meaning::Key(KeyStatus::Honoured);
    }
    if let Some(status) = CATALOGUE.statuses.get(key) {
        return Meaning::Key(*status);
    }
    if let Some(new_names) = CATALOGUE.old_names.get(key) {
        return Meaning::OldName(new_names.clone());
    }
    let below = |prefix: &&&str| {
        // A map's prefix has no dot of its own.
        let rest = key.strip_prefix(**prefix).unwrap_or_default();
        match rest.strip_prefix('.') {
            Some(rest) if !prefix.ends_with('.') => !rest.is_empty(),
            _ => !rest.is_empty() && prefix.ends_with('.'),
        }
    };
    match CATALOGUE.free_prefixes.iter().find(below) {
        Some(_) => Meaning::Key(status_of_unread(key)),
        None => Meaning::Unknown,
    }
}

/// The known key that looks most like `key`; `None` if `key` is longer than any key may be.
pub(crate) fn nearest(options: KnownOptions, key: &str) -> Option<&'static str> {
    const KEY_LENGTH_MAX: usize = 120;
    if key.len() > KEY_LENGTH_MAX {
        return None;
    }
    let flinks = CATALOGUE.statuses.keys().copied();
    let mut known: Vec<&str> = flinks.chain(options.iter().map(|option| option.key)).collect();
    let length_differs_by = |known: &str| known.len().abs_diff(key.len());
    known.retain(|known| !known.contains(['<', '#']) && length_differs_by(known) <= 8);
    known.sort_unstable();
    // On a tie, the key with an effect.
    known.sort_by_key(|known| !options.honours(known));
    // A few typing errors away, or with something missing behind it: a far one misleads.
    let near = |known: &&str, distance: usize| {
        let rest = known.strip_prefix(key);
        distance <= (key.len() / 4).max(1) || rest.is_some_and(|rest| rest.starts_with('.'))
    };
    let distances = known.into_iter().map(|known| (known, strsim::osa_distance(key, known)));
    let (known, distance) = distances.min_by_key(|(_, distance)| *distance)?;
    near(&known, distance).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::option::{KeyPrefix, OptionTable};

    #[test]
    fn only_near_keys_are_suggested() {
        for (key, expected) in [
            ("rest.prot", Some("rest.port")),
            ("jobmanger.rpc.adress", Some("jobmanager.rpc.address")),
            ("taskmanager.numberOfSlots", Some("taskmanager.numberOfTaskSlots")),
            ("parallelism", Some("parallelism.default")),
            ("foo.bar", None),
            ("x", None),
            ("my.application.setting", None),
        ] {
            assert_eq!(nearest(KnownOptions::ENGINE, key), expected, "{key}");
        }
    }

    #[test]
    fn every_key_of_flink_has_a_status() {
        assert_eq!(keys().len(), 973);
        for known in keys().iter().filter(|known| !known.key.contains(['<', '#'])) {
            assert!(status(KnownOptions::ENGINE, known.key).is_some(), "{}", known.key);
        }
    }

    #[test]
    fn every_rule_names_existing_keys() {
        let known = |prefix: &str| keys().iter().any(|known| known.key.starts_with(prefix));
        for key in JVM_PREFIXES.iter().chain(&JVM_KEYS).chain(&LACKING_KEYS) {
            assert!(known(key), "{key} is no key of Flink");
        }
        for key in UNLISTED_KEYS {
            assert!(keys().iter().all(|known| known.key != key), "{key} is listed");
        }
    }

    #[test]
    fn keys_are_judged_by_what_they_tune() {
        for (key, expected) in [
            ("rest.port", KeyStatus::Honoured),
            ("millstream.plan.timeout", KeyStatus::Honoured),
            ("env.java.opts.all", KeyStatus::WithoutJvm),
            ("env.java.opts.mine", KeyStatus::WithoutJvm),
            ("taskmanager.memory.jvm-metaspace.size", KeyStatus::WithoutJvm),
            ("pekko.throughput", KeyStatus::WithoutJvm),
            ("pekko.framesize", KeyStatus::Lacking),
            ("state.backend.type", KeyStatus::Lacking),
            ("metrics.reporter.prom.port", KeyStatus::Lacking),
            ("pipeline.global-job-parameters.my.own", KeyStatus::Lacking),
            ("external-resource.gpu.amount", KeyStatus::Lacking),
        ] {
            assert_eq!(status(KnownOptions::ENGINE, key), Some(expected), "{key}");
        }
        for key in [
            "flink.hadoop.",
            "containerized.master.env.",
            "metrics.reporter.",
            "pipeline.global-job-parametersx",
            "millstream.x",
            "",
            ".",
        ] {
            assert_eq!(status(KnownOptions::ENGINE, key), None, "{key}");
        }
    }

    mod driver {
        crate::declare_options! {
            /// An option of a driver.
            TRANSPORT: String = "yarn.transport";
        }
    }

    const DRIVER: OptionTable = OptionTable {
        options: driver::ALL,
        prefixes: &[KeyPrefix { prefix: "flink.hadoop.", end: "key", doc: "" }],
    };

    #[test]
    fn the_keys_of_a_driver_have_an_effect_where_it_is() {
        let with_driver = KnownOptions::with_drivers(&[DRIVER]);
        for (key, without) in
            [("flink.hadoop.dfs.replication", Some(KeyStatus::Lacking)), ("yarn.transport", None)]
        {
            assert_eq!(status(KnownOptions::ENGINE, key), without, "{key}");
            assert_eq!(status(with_driver, key), Some(KeyStatus::Honoured), "{key}");
        }
        assert_eq!(status(with_driver, "flink.hadoop."), None);
        assert_eq!(nearest(with_driver, "yarn.transprot"), Some("yarn.transport"));
        assert_eq!(nearest(KnownOptions::ENGINE, "yarn.transprot"), None);
    }

    #[test]
    fn old_names_lead_to_new_ones() {
        let Meaning::OldName(names) = meaning(KnownOptions::ENGINE, "akka.ask.timeout") else {
            panic!("not old")
        };
        assert_eq!(names, ["pekko.ask.timeout"]);
        let Meaning::OldName(names) = meaning(KnownOptions::ENGINE, "web.port") else {
            panic!("not old")
        };
        assert_eq!(names, ["rest.bind-port", "rest.port"]);
    }

    #[test]
    fn the_nearest_key_is_the_one_meant() {
        for (typo, meant) in [
            ("rest.prot", "rest.port"),
            ("taskmanager.numberOfTaskSlot", "taskmanager.numberOfTaskSlots"),
            ("paralelism.default", "parallelism.default"),
            ("restart-strategy.fixeddelay.attempts", "restart-strategy.fixed-delay.attempts"),
            ("millstream.plan.memmory", "millstream.plan.memory"),
        ] {
            assert_eq!(nearest(KnownOptions::ENGINE, typo), Some(meant), "{typo}");
        }
        assert_eq!(nearest(KnownOptions::ENGINE, &"x".repeat(100_000)), None);
    }
}
