//! The metadata of a checkpoint as people and programs read it.

use std::fmt::Write as _;

use millstream_checkpoint::metadata::{Metadata, OperatorState, StateDescription, StateKind};
use millstream_state::{StateKind as KeyedKind, TimeDomain};
use millstream_types::{Escaped, Schema};
use serde::Serialize;

/// A checkpoint.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Checkpoint {
    file: String,
    checkpoint_id: u64,
    kind: String,
    job_id: String,
    trigger_timestamp: i64,
    state_bytes: u64,
    operators: Vec<Operator>,
    pending_committables: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Operator {
    uid: Option<String>,
    name: String,
    id: String,
    max_parallelism: u32,
    parallelism: usize,
    finished_subtasks: usize,
    splits: usize,
    coordinator_state: bool,
    key_schema: Option<String>,
    states: Vec<State>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct State {
    name: String,
    kind: &'static str,
    schema: String,
    bytes: u64,
}

impl Checkpoint {
    /// Reads all that is shown, and decodes schemas.
    pub(super) fn new(file: &str, metadata: &Metadata) -> Self {
        let committables = metadata.committables.iter().map(|kept| u64::from(kept.count));
        Self {
            file: file.to_owned(),
            checkpoint_id: metadata.checkpoint.get(),
            kind: metadata.kind.to_string(),
            job_id: metadata.job.to_string(),
            trigger_timestamp: metadata.triggered.as_millis(),
            state_bytes: metadata.state_bytes(),
            operators: metadata.operators.iter().map(Operator::new).collect(),
            pending_committables: committables.sum(),
        }
    }

    /// The text for people; `time` writes a time in milliseconds.
    pub(super) fn text(&self, time: impl Fn(i64) -> String) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: &str| {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "{name:<22}{}", Escaped::line(value));
        };
        row("File:", &self.file);
        row("Checkpoint:", &format!("{} ({})", self.checkpoint_id, self.kind));
        row("Job:", &self.job_id);
        row("Triggered:", &time(self.trigger_timestamp));
        row("State:", &format!("{} bytes", self.state_bytes));
        row("Operators:", &self.operators.len().to_string());
        row("Pending committables:", &self.pending_committables.to_string());
        text + &self.operators.iter().map(Operator::text).collect::<String>()
    }
}

impl Operator {
    fn new(operator: &OperatorState) -> Self {
        let handles = || operator.subtasks.iter().flat_map(|subtask| &subtask.handles);
        let bytes = |state: usize| {
            let own = handles().filter(|handle| usize::try_from(handle.state) == Ok(state));
            own.fold(0_u64, |sum, handle| sum.saturating_add(handle.content.length()))
        };
        let states = operator.states.iter().enumerate();
        let states = states.map(|(at, description)| State::new(description, bytes(at)));
        Self {
            uid: operator.uid.clone(),
            name: operator.name.clone(),
            id: operator.id.to_string(),
            max_parallelism: operator.max_parallelism.get(),
            parallelism: operator.subtasks.len(),
            finished_subtasks: operator.subtasks.iter().filter(|it| it.finished).count(),
            splits: operator.subtasks.iter().map(|subtask| subtask.positions.len()).sum(),
            coordinator_state: operator.coordinator.is_some(),
            key_schema: operator.key_schema.as_deref().map(schema),
            states: states.collect(),
        }
    }

    fn text(&self) -> String {
        let name = Escaped::line(&self.name);
        let uid = match &self.uid {
            Some(uid) => format!("uid \"{}\"", Escaped::line(uid)),
            None => "no uid".to_owned(),
        };
        let coordinator = if self.coordinator_state { "a" } else { "no" };
        let mut text = format!(
            "\nOperator \"{name}\", {uid}, id {}\n  \
             max parallelism {}, parallelism {}, finished subtasks {}, splits {}, {coordinator} \
             coordinator state\n",
            self.id, self.max_parallelism, self.parallelism, self.finished_subtasks, self.splits,
        );
        if let Some(key) = &self.key_schema {
            text += &format!("  key: {}\n", Escaped::line(key));
        }
        for State { name, kind, schema, bytes } in &self.states {
            let (name, schema) = (Escaped::line(name), Escaped::line(schema));
            text += &format!("  {kind} \"{name}\": {schema}, {bytes} bytes\n");
        }
        text
    }
}

impl State {
    fn new(description: &StateDescription, bytes: u64) -> Self {
        let schema = match description.kind.without_keys() {
            None => keyed_schema(&description.schema),
            Some(_) => schema(&description.schema),
        };
        let kind = match description.kind {
            StateKind::Value => "value",
            StateKind::List => "list",
            StateKind::Map => "map",
            StateKind::Reducing => "reducing",
            StateKind::Aggregating => "aggregating",
            StateKind::Timers => "timers",
            StateKind::Broadcast => "broadcast",
            StateKind::OperatorList => "operator list",
            StateKind::OperatorUnion => "operator union list",
        };
        Self { name: description.name.clone(), kind, schema, bytes }
    }
}

fn keyed_schema(bytes: &[u8]) -> String {
    match postcard::from_bytes(bytes) {
        Ok(KeyedKind::Values { schema, expires: true }) => format!("{schema}, expiring"),
        Ok(KeyedKind::Values { schema, expires: false }) => schema.to_string(),
        Ok(KeyedKind::Timers(TimeDomain::Event)) => "event time".to_owned(),
        Ok(KeyedKind::Timers(TimeDomain::Processing)) => "processing time".to_owned(),
        Err(_) => unreadable(bytes),
    }
}

fn schema(bytes: &[u8]) -> String {
    match postcard::from_bytes::<Schema>(bytes) {
        Ok(schema) => schema.to_string(),
        Err(_) => unreadable(bytes),
    }
}

/// The metadata is whole, so a later build wrote the schema: the rest can still be shown.
fn unreadable(bytes: &[u8]) -> String {
    format!("a schema that this build cannot read ({} bytes)", bytes.len())
}
