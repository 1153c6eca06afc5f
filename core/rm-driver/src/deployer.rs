//! Deployment of clusters: the contract between the command line and an external manager.
//!
//! A [`ClusterDeployer`] is made from a configuration and deploys as one user. The command line
//! gives it the purpose of a cluster ([`Purpose`]); the deployer alone turns that into an
//! application of YARN or a framework of Mesos. Further settings (sizes, queues, files) are in the
//! configuration, under the driver's own keys.
//!
//! # Contract (checked by `conformance::deployer`, feature `test-util`)
//! - a cluster is known by its id alone: another deployer of the same configuration, in another
//!   process, finds it, its address and its owner's secret;
//! - `submit` returns when the external manager has accepted the cluster, not when it is up; a
//!   failure before that leaves nothing behind;
//! - `wait_until_up` ends with a cluster that serves, or with the reason why it never will;
//! - the manager reports the end of a cluster that has ended; one that it never knew is
//!   [`DeployError::Unknown`]; no answer is [`DeployError::Unheard`] and never taken for an end;
//! - `kill` ends a cluster in any state, and `sweep` touches none that lives.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use millstream_security::Credentials;
use millstream_storage::FilePath;
use millstream_types::{ArtifactHash, JobId};

/// A cluster by the name that its external manager gave it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(String);

impl ClusterId {
    /// The id of this text, which a deployer has written or checked.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A file of this machine, by the hash of its bytes.
#[derive(Debug, Clone)]
pub struct Executable {
    /// Where it is.
    pub path: PathBuf,
    /// Of its bytes.
    pub hash: ArtifactHash,
    /// Number of its bytes.
    pub size: u64,
}

/// A program's executable, here or on the cluster's file system.
#[derive(Debug, Clone)]
pub enum ArtifactFile {
    /// A file of this machine.
    Local(Executable),
    /// A file that the cluster's machines reach by this path.
    Staged(FilePath),
}

/// The purpose of a cluster. Plans travel as bytes, which the deployer only carries.
#[derive(Debug, Clone)]
pub enum Purpose {
    /// Jobs that come over REST.
    Session,
    /// One job, planned here.
    Job {
        /// Its id.
        job: JobId,
        /// Its plan, a `millstream.job.v1.JobGraph` without settings.
        graph: Bytes,
        /// The plan's settings, a `millstream.job.v1.JobSettings`: they may hold secrets, and so
        /// travel as secrets do.
        settings: Bytes,
        /// Its executable.
        artifact: ArtifactFile,
    },
    /// A program that plans there.
    Application {
        /// The id of its first job.
        first_job: JobId,
        /// The settings under which the program plans, a `millstream.job.v1.JobSettings`.
        settings: Bytes,
        /// The program.
        artifact: ArtifactFile,
    },
}

/// A cluster that is to be.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Its purpose.
    pub purpose: Purpose,
    /// Whether it ends when the client that deploys it has gone silent.
    pub attached: bool,
    /// The engine's binary.
    pub engine: PathBuf,
}

/// A cluster that serves.
#[derive(Debug, Clone)]
pub struct Running {
    /// The host of its REST server.
    pub host: String,
    /// The port of its REST server.
    pub port: u16,
    /// Its web page, as people reach it.
    pub web_page: String,
    /// The credentials of its owner's client; none if the cluster does not authenticate clients.
    pub credentials: Option<Credentials>,
}

/// State of a cluster, as its external manager sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterReport {
    /// It has not ended.
    Alive,
    /// It has ended.
    Over(ClusterEnd),
}

/// The end of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterEnd {
    /// Whether it ended as intended.
    pub succeeded: bool,
    /// Its last state, in the manager's words.
    pub state: String,
    /// The last words of its master; empty if it said nothing.
    pub said: String,
    /// Why it ended, in one sentence.
    pub why: String,
}

/// Receives sentences for a user who waits.
pub type Progress<'a> = &'a mut (dyn FnMut(&str) + Send);

/// Error of a call to the external manager.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The manager does not know the cluster, not any more perhaps.
    #[error(transparent)]
    Unknown(Box<dyn Error + Send + Sync>),
    /// The manager did not answer: the call may or may not have been carried out.
    #[error(transparent)]
    Unheard(Box<dyn Error + Send + Sync>),
    /// The cluster ended before it was up.
    #[error("{id} ended before its cluster was up ({}): {}", end.state, end.why)]
    Ended {
        /// The cluster.
        id: ClusterId,
        /// Its end.
        end: ClusterEnd,
    },
    /// The manager refused, or the cluster cannot be brought up as it is described. No retry helps.
    #[error(transparent)]
    Refused(Box<dyn Error + Send + Sync>),
}

impl DeployError {
    /// A refusal of this sentence.
    #[must_use]
    pub fn refused(sentence: impl Into<String>) -> Self {
        Self::Refused(sentence.into().into())
    }

    /// Whether the manager does not know the cluster. Every other error says nothing about it: it
    /// may run.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

/// Names of an external manager in messages to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManagerWords {
    /// The system: `YARN`.
    pub system: &'static str,
    /// The component that answers for it: `the ResourceManager`.
    pub manager: &'static str,
    /// A cluster, to it: `application`.
    pub cluster: &'static str,
    /// The command that says how a cluster is doing; its id follows.
    pub status_command: &'static str,
    /// The command that ends a cluster; its id follows.
    pub kill_command: &'static str,
}

/// Brings clusters up on one external manager, as one user.
///
/// Dropping a deployer, or one of its futures, ends no cluster.
pub trait ClusterDeployer: Send + fmt::Debug {
    /// Names the manager in messages.
    fn words(&self) -> ManagerWords;

    /// Limit of the wait for a silent manager, for a command that depends on a cluster.
    fn silence_max(&self) -> Duration;

    /// Checks the deployment, stages its files, and submits a cluster.
    ///
    /// # Errors
    /// The manager cannot serve it, or does not answer.
    fn submit(&mut self, deployment: Deployment) -> BoxFuture<'_, Result<ClusterId, DeployError>>;

    /// Waits until a cluster is up, and reports what it waits for.
    ///
    /// # Errors
    /// It ended instead, the manager does not answer, or its owner's secret is lost.
    fn wait_until_up<'a>(
        &'a mut self,
        id: &'a ClusterId,
        progress: Progress<'a>,
    ) -> BoxFuture<'a, Result<Running, DeployError>>;

    /// Asks the manager about a cluster.
    ///
    /// # Errors
    /// The manager does not know it, or does not answer.
    fn report<'a>(
        &'a mut self,
        id: &'a ClusterId,
    ) -> BoxFuture<'a, Result<ClusterReport, DeployError>>;

    /// Ends a cluster and removes its staged files. Done when the manager says that it ends.
    ///
    /// # Errors
    /// The manager does not know it, or does not answer.
    fn kill<'a>(
        &'a mut self,
        id: &'a ClusterId,
        why: &'a str,
    ) -> BoxFuture<'a, Result<(), DeployError>>;

    /// Removes what clusters of this user left behind when they died.
    ///
    /// # Errors
    /// The manager or its file system does not answer.
    fn sweep(&mut self) -> BoxFuture<'_, Result<(), DeployError>>;
}
