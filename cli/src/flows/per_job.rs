//! A cluster for the one job of a program that plans here.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use hyper::Method;
use millstream_config::Configuration;
use millstream_protocol::job::JobGraph;
use millstream_rm_driver::{ArtifactFile, ClusterDeployer, ClusterId, ClusterReport, Purpose};
use millstream_types::JobId;
use prost::Message as _;
use tokio::time::{sleep, timeout};

use super::{client_of, deployment, sweep};
use crate::console;
use crate::drivers::Driver;
use crate::rest::{Content, RestClient};
use crate::submission::Artifact;

/// Time that the manager may take to say that a finished cluster has ended.
const END_PATIENCE: Duration = Duration::from_secs(30);
const END_INTERVAL: Duration = Duration::from_millis(20);

/// See the module.
pub(crate) struct PerJob {
    driver: &'static dyn Driver,
    deployer: Box<dyn ClusterDeployer>,
    configuration: Configuration,
    cluster: Option<ClusterId>,
    client: Option<RestClient>,
    attached: bool,
}

impl PerJob {
    /// Nothing is deployed before there is a job.
    pub(crate) fn new(driver: &'static dyn Driver, configuration: &Configuration) -> Result<Self> {
        Ok(Self {
            driver,
            deployer: driver.deployer(configuration, None)?,
            configuration: configuration.clone(),
            cluster: None,
            client: None,
            attached: true,
        })
    }

    /// A client of the cluster, once it is up.
    pub(crate) fn client(&self) -> Option<&RestClient> {
        self.client.as_ref()
    }

    /// Deploys the cluster of this job.
    pub(crate) async fn submit(
        &mut self,
        job: JobId,
        graph: &JobGraph,
        artifact: &Artifact,
        attached: bool,
    ) -> Result<()> {
        if let Some(cluster) = &self.cluster {
            bail!(
                "{cluster} is a cluster of one job, and the program calls execute again: use \
                 -t {}-application or a session",
                self.driver.name()
            );
        }
        let mut graph = graph.clone();
        let settings = graph.settings.take().unwrap_or_default();
        let purpose = Purpose::Job {
            job,
            graph: Bytes::from(graph.encode_to_vec()),
            settings: Bytes::from(settings.encode_to_vec()),
            artifact: ArtifactFile::Local(artifact.to_executable()),
        };
        self.attached = attached;
        let id = self.deployer.submit(deployment(purpose, attached, None)?).await?;
        self.cluster = Some(id.clone());
        console::print(format_args!("Submitted {} {id}", self.deployer.words().cluster));
        let mut progress = |text: &str| console::warn(format_args!("{text}"));
        let up = self.deployer.wait_until_up(&id, &mut progress).await?;
        sweep(self.deployer.as_mut()).await;
        console::print(format_args!("JobManager Web Interface: {}", up.web_page));
        self.client = Some(client_of(&up, &self.configuration)?);
        Ok(())
    }

    /// Waits for an unexpected end of the cluster; pending for ever before it is deployed.
    pub(crate) async fn end(&mut self) -> anyhow::Error {
        match &self.cluster {
            Some(id) => super::end_of(self.deployer.as_mut(), id).await,
            None => std::future::pending().await,
        }
    }

    /// The result has been read: the cluster may end, and is seen to.
    pub(crate) async fn finish(&mut self) {
        let (Some(id), Some(client)) = (self.cluster.clone(), self.client.clone()) else { return };
        if !self.attached {
            return;
        }
        // One that has ended does not answer, and must not be asked again and again.
        tokio::select! {
            _ = client.call(Method::DELETE, "/v1/cluster", &Content::None) => {}
            () = self.ended(&id) => return,
        }
        if timeout(END_PATIENCE, self.ended(&id)).await.is_err() {
            console::warn(format_args!(
                "{} has not said within {END_PATIENCE:?} that {id} ended",
                self.deployer.words().system
            ));
        }
    }

    /// Waits until the manager says that the cluster is over, or does not know it any more.
    async fn ended(&mut self, id: &ClusterId) {
        loop {
            match self.deployer.report(id).await {
                Ok(ClusterReport::Over(_)) => return,
                Err(error) if error.is_unknown() => return,
                // No answer is not an end.
                Ok(_) | Err(_) => sleep(END_INTERVAL).await,
            }
        }
    }

    /// Ends the cluster, because the command that it is for was interrupted.
    pub(crate) async fn abandon(&mut self) {
        let Some(id) = &self.cluster else { return };
        let word = self.deployer.words().cluster;
        console::print(format_args!("Ending {word} {id}."));
        let killed = self.deployer.kill(id, "its client was interrupted").await;
        let killed = killed.with_context(|| format!("{id} may go on"));
        match killed {
            Ok(()) => console::print(format_args!("Ended {word} {id}.")),
            Err(error) => console::complain(format_args!("{error:#}")),
        }
    }
}
