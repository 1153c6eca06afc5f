//! Calls of clients to the ResourceManager over Hadoop RPC.

use std::time::Duration;

use millstream_hadoop_config::HadoopConfiguration;

use super::{ClientError, NewApplication};
use crate::ids::ApplicationId;
use crate::ipc::{Identity, IpcError, Options};
use crate::proto::yarn::{
    ApplicationReportProto, ApplicationSubmissionContextProto, GetApplicationReportRequestProto,
    GetApplicationReportResponseProto, GetClusterNodesRequestProto, GetClusterNodesResponseProto,
    GetNewApplicationRequestProto, GetNewApplicationResponseProto, GetQueueInfoRequestProto,
    GetQueueInfoResponseProto, KillApplicationRequestProto, KillApplicationResponseProto,
    NodeReportProto, NodeStateProto, QueueInfoProto, SubmitApplicationRequestProto,
    SubmitApplicationResponseProto,
};
use crate::resource_manager::{ResourceManager, Service};

/// See [`super::YarnClient`].
#[derive(Debug)]
pub(super) struct RpcClient {
    resource_manager: ResourceManager,
}

impl RpcClient {
    pub(super) fn new(
        hadoop: &HadoopConfiguration,
        user: &str,
        patience: Duration,
    ) -> Result<Self, ClientError> {
        let identity = Identity::User(user.to_owned());
        let resource_manager =
            ResourceManager::new(hadoop, Service::Client, identity, Options::default(), patience)?;
        Ok(Self { resource_manager })
    }

    pub(super) async fn new_application(&mut self) -> Result<NewApplication, ClientError> {
        let request = GetNewApplicationRequestProto {};
        let answer: GetNewApplicationResponseProto =
            self.resource_manager.call("getNewApplication", &request).await?;
        let id = answer.application_id.ok_or(ClientError::Incomplete("getNewApplication"))?;
        let maximum = answer.maximum_capability.unwrap_or_default();
        Ok(NewApplication { id: id.into(), maximum })
    }

    pub(super) async fn submit(
        &mut self,
        submission: ApplicationSubmissionContextProto,
    ) -> Result<(), ClientError> {
        let request =
            SubmitApplicationRequestProto { application_submission_context: Some(submission) };
        let _: SubmitApplicationResponseProto =
            self.resource_manager.call("submitApplication", &request).await?;
        Ok(())
    }

    pub(super) async fn report(
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

    pub(super) async fn kill(&mut self, id: ApplicationId, why: &str) -> Result<bool, ClientError> {
        let request = KillApplicationRequestProto {
            application_id: Some(id.into()),
            diagnostics: Some(why.to_owned()),
        };
        let answer: Result<KillApplicationResponseProto, _> =
            self.resource_manager.call("forceKillApplication", &request).await;
        answer.map(|answer| answer.is_kill_completed()).map_err(|error| unknown_or(error, id))
    }

    pub(super) async fn queue(
        &mut self,
        name: &str,
    ) -> Result<Option<QueueInfoProto>, ClientError> {
        let request = GetQueueInfoRequestProto {
            queue_name: Some(name.to_owned()),
            ..GetQueueInfoRequestProto::default()
        };
        let answer: Result<GetQueueInfoResponseProto, _> =
            self.resource_manager.call("getQueueInfo", &request).await;
        match answer {
            Ok(answer) => Ok(answer.queue_info),
            // What schedulers answer for a queue that is not there differs.
            Err(IpcError::Remote(error)) => {
                tracing::debug!(%error, "no answer about the queue");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn running_nodes(&mut self) -> Result<Vec<NodeReportProto>, ClientError> {
        let request =
            GetClusterNodesRequestProto { node_states: vec![NodeStateProto::NsRunning.into()] };
        let answer: GetClusterNodesResponseProto =
            self.resource_manager.call("getClusterNodes", &request).await?;
        Ok(answer.node_reports)
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
