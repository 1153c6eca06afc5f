//! A cluster for the one job of a program that plans here.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hyper::Method;
use millstream_config::Configuration;
use millstream_protocol::job::JobGraph;
use millstream_rm_yarn::deployer::{self, ArtifactFile};
use millstream_rm_yarn::ids::ApplicationId;
use millstream_types::JobId;
use tokio::time::{sleep, timeout};

use super::{Purpose, Yarn, client_of, deployment};
use crate::console;
use crate::rest::{Content, RestClient};
use crate::submission::Artifact;

/// How long a finished cluster may take to leave YARN before the command no longer waits for it.
const END_PATIENCE: Duration = Duration::from_secs(30);
const END_INTERVAL: Duration = Duration::from_millis(20);

/// See the module.
pub(crate) struct PerJob {
    yarn: Yarn,
    configuration: Configuration,
    application: Option<ApplicationId>,
    client: Option<RestClient>,
    attached: bool,
}

impl PerJob {
    /// Nothing is deployed before there is a job.
    pub(crate) fn new(configuration: &Configuration) -> Result<Self> {
        Ok(Self {
            yarn: Yarn::connect(configuration)?,
            configuration: configuration.clone(),
            application: None,
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
        if let Some(application) = self.application {
            bail!(
                "{application} is a cluster of one job, and the program calls execute again: use \
                 -t yarn-application or a session"
            );
        }
        let purpose = Purpose::Job {
            job,
            graph: Box::new(graph.clone()),
            artifact: ArtifactFile::Local(artifact.to_executable()),
        };
        self.attached = attached;
        let deployment = deployment(&self.yarn, &self.configuration, purpose, attached, None)?;
        let mut deployer = self.yarn.deployer();
        let (id, credentials) = deployer.submit(deployment).await?;
        self.application = Some(id);
        console::print(format_args!("Submitted application {id}"));
        let mut progress = |text: &str| console::warn(format_args!("{text}"));
        let up = deployer.wait_until_up(id, &mut progress).await?;
        self.yarn.sweep().await;
        console::print(format_args!("JobManager Web Interface: {}", up.tracking_url));
        self.client = Some(client_of(&up, &credentials, &self.configuration)?);
        Ok(())
    }

    /// Waits for an end of the cluster that nobody asked for; never, before it is deployed.
    pub(crate) async fn end(&mut self) -> anyhow::Error {
        match self.application {
            Some(id) => self.yarn.end_of(id).await,
            None => std::future::pending().await,
        }
    }

    /// The result has been read: the cluster may end, and is seen to.
    pub(crate) async fn finish(&mut self) {
        let (Some(id), Some(client)) = (self.application, self.client.clone()) else { return };
        if !self.attached {
            return;
        }
        // One that has ended does not answer, and must not be asked again and again.
        tokio::select! {
            _ = client.call(Method::DELETE, "/v1/cluster", &Content::None) => {}
            () = self.ended(id) => return,
        }
        if timeout(END_PATIENCE, self.ended(id)).await.is_err() {
            console::warn(format_args!(
                "YARN has not said within {END_PATIENCE:?} that {id} ended"
            ));
        }
    }

    /// Waits until YARN says that the application is over, or does not know it any more.
    async fn ended(&mut self, id: ApplicationId) {
        loop {
            match self.yarn.client.report(id).await {
                Ok(report) if deployer::is_over(&report) => return,
                Err(error) if error.is_unknown() => return,
                // No answer is not an end.
                Ok(_) | Err(_) => sleep(END_INTERVAL).await,
            }
        }
    }

    /// Somebody interrupted the command that the cluster is for.
    pub(crate) async fn abandon(&mut self) {
        let Some(id) = self.application else { return };
        console::print(format_args!("Ending application {id}."));
        let killed = self.yarn.deployer().kill(id, "its client was interrupted").await;
        let killed = killed.with_context(|| format!("{id} may go on"));
        match killed {
            Ok(()) => console::print(format_args!("Ended application {id}.")),
            Err(error) => console::complain(format_args!("{error:#}")),
        }
    }
}
