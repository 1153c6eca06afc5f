//! Calls of clients to the ResourceManager, over Hadoop RPC or its REST interface.

mod json;
mod rest;
mod rpc;

use std::time::Duration;

use millstream_hadoop_config::{HadoopConfigError, HadoopConfiguration};

use crate::ids::ApplicationId;
use crate::ipc::IpcError;
use crate::proto::yarn::{
    ApplicationReportProto, ApplicationSubmissionContextProto, NodeReportProto, QueueInfoProto,
    ResourceProto,
};
pub use rest::RestError;

/// Error of a client's call to the ResourceManager.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The configuration does not say where it is.
    #[error(transparent)]
    Config(#[from] HadoopConfigError),
    /// It does not answer, or refused.
    #[error(transparent)]
    Ipc(#[from] IpcError),
    /// It does not answer, or refused, over REST.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// It does not know the application, not any more perhaps.
    #[error("the ResourceManager does not know {0}: it may have forgotten it, or it is another's")]
    Unknown(ApplicationId),
    /// Its answer lacks what every answer has.
    #[error("the ResourceManager's answer to {0} is incomplete")]
    Incomplete(&'static str),
}

impl ClientError {
    /// Whether the ResourceManager does not know the application. Every other error of a repeated
    /// question says nothing about the application: it may run.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }

    /// Whether no answer came, so that the call may or may not have been carried out.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        matches!(
            self,
            Self::Ipc(
                IpcError::Connect { .. } | IpcError::Timeout { .. } | IpcError::Broken { .. }
            ) | Self::Rest(RestError::NoAnswer { .. } | RestError::Standby(_))
        )
    }
}

/// Protocol between clients and the ResourceManager (`yarn.client.transport`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Hadoop RPC, at `yarn.resourcemanager.address`.
    Rpc,
    /// HTTP, at `yarn.resourcemanager.webapp.address`.
    Rest,
}

/// A new application's name, and the largest container that it may have.
#[derive(Debug, Clone)]
pub struct NewApplication {
    /// Its id.
    pub id: ApplicationId,
    /// The most that a container may be.
    pub maximum: ResourceProto,
}

/// Patience of Hadoop's own clients with a ResourceManager that is away.
const MAX_WAIT: &str = "yarn.resourcemanager.connect.max-wait.ms";
const MAX_WAIT_MS: i64 = 15 * 60 * 1000;

/// A client of the ResourceManager.
#[derive(Debug)]
pub struct YarnClient {
    kind: Kind,
    silence_max: Duration,
}

#[derive(Debug)]
enum Kind {
    Rpc(rpc::RpcClient),
    Rest(rest::RestClient),
}

/// The same method of whichever client it is.
macro_rules! either {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match &mut $self.kind {
            Kind::Rpc(client) => client.$method($($argument),*).await,
            Kind::Rest(client) => client.$method($($argument),*).await,
        }
    };
}

impl YarnClient {
    /// A client of the cluster that the configuration describes; it connects when it is first used,
    /// and waits for an answer as long as it is patient.
    ///
    /// # Errors
    /// The configuration names no ResourceManager, or one that this transport does not reach.
    pub fn new(
        hadoop: &HadoopConfiguration,
        user: &str,
        transport: Transport,
        patience: Duration,
    ) -> Result<Self, ClientError> {
        let max_wait = hadoop.number(MAX_WAIT, MAX_WAIT_MS)?;
        // A negative number means for ever.
        let silence_max = u64::try_from(max_wait).map_or(Duration::MAX, Duration::from_millis);
        let kind = match transport {
            Transport::Rpc => Kind::Rpc(rpc::RpcClient::new(hadoop, user, patience)?),
            Transport::Rest => Kind::Rest(rest::RestClient::new(hadoop, user, patience)?),
        };
        Ok(Self { kind, silence_max })
    }

    /// Patience with a ResourceManager that does not answer, for commands that already depend on an
    /// application (`yarn.resourcemanager.connect.max-wait.ms`). A single call waits less, so that
    /// a wrong address is reported soon.
    #[must_use]
    pub fn silence_max(&self) -> Duration {
        self.silence_max
    }

    /// Reserves a name. One that is not used costs nothing.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn new_application(&mut self) -> Result<NewApplication, ClientError> {
        either!(self.new_application())
    }

    /// Submits an application; a repetition changes nothing.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn submit(
        &mut self,
        submission: ApplicationSubmissionContextProto,
    ) -> Result<(), ClientError> {
        either!(self.submit(submission))
    }

    /// Returns the report on an application: its state, its master's address, its diagnostics.
    ///
    /// # Errors
    /// [`ClientError::Unknown`], no answer, or a refusal.
    pub async fn report(
        &mut self,
        id: ApplicationId,
    ) -> Result<ApplicationReportProto, ClientError> {
        either!(self.report(id))
    }

    /// Ends an application; true once the ResourceManager has written that down.
    ///
    /// # Errors
    /// [`ClientError::Unknown`], no answer, or a refusal.
    pub async fn kill(&mut self, id: ApplicationId, why: &str) -> Result<bool, ClientError> {
        either!(self.kill(id, why))
    }

    /// A queue; none when there is none of this name.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn queue(&mut self, name: &str) -> Result<Option<QueueInfoProto>, ClientError> {
        either!(self.queue(name))
    }

    /// The nodes that take containers.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn running_nodes(&mut self) -> Result<Vec<NodeReportProto>, ClientError> {
        either!(self.running_nodes())
    }
}
