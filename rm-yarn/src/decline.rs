//! Ends an application whose master should not have been started again.
//!
//! YARN may start another master when it has taken the container of the first back, however few
//! attempts it was allowed. Without high availability the new one has neither jobs nor clients, so
//! it only reports to YARN that the application ended.

use std::time::Duration;

use crate::ids::AttemptId;
use crate::ipc::IpcError;
use crate::proto::yarn::{
    FinalApplicationStatusProto, FinishApplicationMasterRequestProto,
    FinishApplicationMasterResponseProto, RegisterApplicationMasterRequestProto,
    RegisterApplicationMasterResponseProto,
};
use crate::resource_manager::ResourceManager;

const FINISH_PAUSE: Duration = Duration::from_millis(100);

/// The explanation for YARN and the users of the application.
fn diagnostics(attempt: AttemptId) -> String {
    format!(
        "the JobManager was lost with its container, and its jobs with it: YARN started attempt \
         {} of it, which cannot take them over without high availability; deploy again",
        attempt.number
    )
}

/// Registers as the application's master and ends it as failed.
///
/// # Errors
/// The ResourceManager refuses, or did not answer in time.
pub async fn decline(
    manager: &mut ResourceManager,
    attempt: AttemptId,
    host: &str,
) -> Result<(), IpcError> {
    let register = RegisterApplicationMasterRequestProto {
        host: Some(host.to_owned()),
        // No port: clients wait until there is one.
        rpc_port: Some(0),
        tracking_url: Some(String::new()),
    };
    let _: RegisterApplicationMasterResponseProto =
        manager.call("registerApplicationMaster", &register).await?;
    let finish = FinishApplicationMasterRequestProto {
        diagnostics: Some(diagnostics(attempt)),
        tracking_url: Some(String::new()),
        final_application_status: Some(FinalApplicationStatusProto::AppFailed.into()),
    };
    loop {
        let answer: FinishApplicationMasterResponseProto =
            manager.call("finishApplicationMaster", &finish).await?;
        if answer.is_unregistered() {
            return Ok(());
        }
        tokio::time::sleep(FINISH_PAUSE).await;
    }
}
