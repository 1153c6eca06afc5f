//! The processes of one attempt. A host is in the table from its start until its end was heard.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_gateway::{TaskLocation, TaskManagerGateway};
use millstream_types::{HostId, TaskManagerId};

/// What a host is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// It runs the tasks of a worker's slots.
    Tasks {
        /// The worker's address.
        address: String,
    },
    /// It runs enumerators and committers.
    Coordinator,
}

/// How far a host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It has not said that it is ready.
    Starting,
    /// It takes commands.
    Ready {
        /// Where its exchange listens; empty for the coordinator host.
        data_address: String,
    },
    /// It said that it cannot go on and is about to exit.
    Broken,
    /// It was told to end.
    Stopping,
}

/// One process.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) on: Arc<dyn TaskManagerGateway>,
    pub(crate) role: Role,
    pub(crate) state: State,
    /// For how long nothing was heard of it, as far as anyone listened.
    pub(crate) silent_for: Duration,
}

impl Host {
    /// Where it runs, if it runs tasks.
    pub(crate) fn location(&self, id: HostId) -> Option<TaskLocation> {
        match &self.role {
            Role::Tasks { address } => Some(TaskLocation {
                task_manager: self.on.id().clone(),
                address: address.clone(),
                host: id,
                data_port: self.data_port(),
            }),
            Role::Coordinator => None,
        }
    }

    /// Where it listens for the records of others, once it is ready.
    pub(crate) fn data_port(&self) -> Option<u16> {
        match &self.state {
            State::Ready { data_address } => data_address.rsplit_once(':')?.1.parse().ok(),
            State::Starting | State::Broken | State::Stopping => None,
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    /// What it is, for people.
    pub(crate) fn description(&self) -> String {
        match self.role {
            Role::Tasks { .. } => format!("the task host on TaskManager {}", self.on.id()),
            Role::Coordinator => "the coordinator host".to_owned(),
        }
    }
}

/// All processes of the job.
#[derive(Debug, Default)]
pub(crate) struct Hosts(BTreeMap<HostId, Host>);

impl Hosts {
    pub(crate) fn insert(&mut self, id: HostId, host: Host) {
        self.0.insert(id, host);
    }

    pub(crate) fn get(&self, id: HostId) -> Option<&Host> {
        self.0.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: HostId) -> Option<&mut Host> {
        self.0.get_mut(&id)
    }

    pub(crate) fn remove(&mut self, id: HostId) -> Option<Host> {
        self.0.remove(&id)
    }

    /// Removes the hosts of a worker that is gone.
    pub(crate) fn remove_on(&mut self, task_manager: &TaskManagerId) -> Vec<(HostId, Host)> {
        self.0.extract_if(.., |_, host| host.on.id() == task_manager).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (HostId, &Host)> {
        self.0.iter().map(|(id, host)| (*id, host))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (HostId, &mut Host)> {
        self.0.iter_mut().map(|(id, host)| (*id, host))
    }

    /// The coordinator host, if one is up.
    pub(crate) fn coordinator(&self) -> Option<(HostId, &Host)> {
        self.iter().find(|(_, host)| host.role == Role::Coordinator)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
