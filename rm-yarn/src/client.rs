//! What clients ask the ResourceManager.

use millstream_hadoop_config::{HadoopConfigError, HadoopConfiguration};

use crate::ids::ApplicationId;
use crate::ipc::{Identity, IpcError, Options};
use crate::proto::yarn::{
    ApplicationReportProto, ApplicationSubmissionContextProto, GetApplicationReportRequestProto,
    GetApplicationReportResponseProto, GetClusterMetricsRequestProto,
    GetClusterMetricsResponseProto, GetClusterNodesRequestProto, GetClusterNodesResponseProto,
    GetNewApplicationRequestProto, GetNewApplicationResponseProto, GetQueueInfoRequestProto,
    GetQueueInfoResponseProto, KillApplicationRequestProto, KillApplicationResponseProto,
    NodeReportProto, NodeStateProto, QueueInfoProto, ResourceProto, SubmitApplicationRequestProto,
    SubmitApplicationResponseProto, YarnClusterMetricsProto,
};
use crate::resource_manager::{ResourceManager, Service};

/// Why the ResourceManager did not do what a client asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The configuration does not say where it is.
    #[error(transparent)]
    Config(#[from] HadoopConfigError),
    /// It does not answer, or refused.
    #[error(transparent)]
    Ipc(#[from] IpcError),
    /// It does not know the application, not any more perhaps.
    #[error("the ResourceManager does not know {0}: it may have forgotten it, or it is another's")]
    Unknown(ApplicationId),
    /// Its answer lacks what every answer has.
    #[error("the ResourceManager's answer to {0} is incomplete")]
    Incomplete(&'static str),
}

/// A new application's name, and the largest container that it may have.
#[derive(Debug, Clone)]
pub struct NewApplication {
    /// Its id.
    pub id: ApplicationId,
    /// The most that a container may be.
    pub maximum: ResourceProto,
}

/// A client of the ResourceManager.
#[derive(Debug)]
pub struct YarnClient {
    resource_manager: ResourceManager,
}

impl YarnClient {
    /// A client of the cluster that the configuration describes; it connects when it is first used.
    ///
    /// # Errors
    /// The configuration names no ResourceManager.
    pub fn new(
        hadoop: &HadoopConfiguration,
        user: &str,
        options: Options,
        patience: std::time::Duration,
    ) -> Result<Self, ClientError> {
        let identity = Identity::User(user.to_owned());
        let resource_manager =
            ResourceManager::new(hadoop, Service::Client, identity, options, patience)?;
        Ok(Self { resource_manager })
    }

    /// Reserves a name. One that is not used costs nothing.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn new_application(&mut self) -> Result<NewApplication, ClientError> {
        let request = GetNewApplicationRequestProto {};
        let answer: GetNewApplicationResponseProto =
            self.resource_manager.call("getNewApplication", &request).await?;
        let id = answer.application_id.ok_or(ClientError::Incomplete("getNewApplication"))?;
        let maximum = answer.maximum_capability.unwrap_or_default();
        Ok(NewApplication { id: id.into(), maximum })
    }

    /// Submits an application; a repetition changes nothing.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn submit(
        &mut self,
        submission: ApplicationSubmissionContextProto,
    ) -> Result<(), ClientError> {
        let request =
            SubmitApplicationRequestProto { application_submission_context: Some(submission) };
        let _: SubmitApplicationResponseProto =
            self.resource_manager.call("submitApplication", &request).await?;
        Ok(())
    }

    /// How an application is doing.
    ///
    /// # Errors
    /// [`ClientError::Unknown`], no answer, or a refusal.
    pub async fn report(
        &mut self,
        id: ApplicationId,
    ) -> Result<ApplicationReportProto, ClientError> {
        let request = GetApplicationReportRequestProto { application_id: Some(id.into()) };
        let answer: Result<GetApplicationReportResponseProto, _> =
            self.resource_manager.call("getApplicationReport", &request).await;
        match answer {
            Ok(answer) => {
                answer.application_report.ok_or(ClientError::Incomplete("getApplicationReport"))
            }
            Err(error) => Err(unknown_or(error, id)),
        }
    }

    /// Ends an application; true once the ResourceManager has written that down.
    ///
    /// # Errors
    /// [`ClientError::Unknown`], no answer, or a refusal.
    pub async fn kill(&mut self, id: ApplicationId, why: &str) -> Result<bool, ClientError> {
        let request = KillApplicationRequestProto {
            application_id: Some(id.into()),
            diagnostics: Some(why.to_owned()),
        };
        let answer: Result<KillApplicationResponseProto, _> =
            self.resource_manager.call("forceKillApplication", &request).await;
        answer.map(|answer| answer.is_kill_completed()).map_err(|error| unknown_or(error, id))
    }

    /// A queue; none when there is none of this name.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn queue(&mut self, name: &str) -> Result<Option<QueueInfoProto>, ClientError> {
        let request = GetQueueInfoRequestProto {
            queue_name: Some(name.to_owned()),
            ..GetQueueInfoRequestProto::default()
        };
        let answer: GetQueueInfoResponseProto =
            self.resource_manager.call("getQueueInfo", &request).await?;
        Ok(answer.queue_info)
    }

    /// The nodes that take containers.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn running_nodes(&mut self) -> Result<Vec<NodeReportProto>, ClientError> {
        let request =
            GetClusterNodesRequestProto { node_states: vec![NodeStateProto::NsRunning.into()] };
        let answer: GetClusterNodesResponseProto =
            self.resource_manager.call("getClusterNodes", &request).await?;
        Ok(answer.node_reports)
    }

    /// How many nodes there are, by state.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn metrics(&mut self) -> Result<YarnClusterMetricsProto, ClientError> {
        let request = GetClusterMetricsRequestProto {};
        let answer: GetClusterMetricsResponseProto =
            self.resource_manager.call("getClusterMetrics", &request).await?;
        answer.cluster_metrics.ok_or(ClientError::Incomplete("getClusterMetrics"))
    }
}

fn unknown_or(error: IpcError, id: ApplicationId) -> ClientError {
    match error {
        IpcError::Remote(remote) if remote.is("ApplicationNotFoundException") => {
            ClientError::Unknown(id)
        }
        error => ClientError::Ipc(error),
    }
}
