//! Decides how long a command stays with the cluster that it is attached to.
//!
//! Two parties tell of a cluster: YARN's ResourceManager and the cluster's JobManager. Only YARN's
//! word that the application is over ends the vigil. A ResourceManager that is silent is
//! mentioned once, and the command stays as long as the JobManager answers; when neither of them
//! has answered for as long as Hadoop's own clients wait, what became of the application is
//! unknown, and the command says so. Meanwhile the lease is renewed, whatever YARN does.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use hyper::Method;
use millstream_rm_yarn::client::ClientError;
use millstream_rm_yarn::deployer;
use millstream_rm_yarn::ids::ApplicationId;
use millstream_rm_yarn::proto::yarn::ApplicationReportProto;
use tokio::time::{sleep, timeout};

use super::Yarn;
use crate::console;
use crate::rest::{Content, RestClient};

/// How often the JobManager is asked at the least while the ResourceManager is silent.
const DOUBT_INTERVAL: Duration = Duration::from_secs(2);
/// How long the JobManager may take for an answer that only shows that it lives.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

/// How a command is attached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attachment {
    /// How often the end is looked for.
    pub(crate) look_interval: Duration,
    /// How often the JobManager hears of us.
    pub(crate) heartbeat_interval: Duration,
    /// Whether the cluster ends without us.
    pub(crate) holds_lease: bool,
}

/// Waits until YARN says that an application is over.
///
/// # Errors
/// What became of it is unknown.
pub(crate) async fn until_over(
    yarn: &mut Yarn,
    client: &RestClient,
    id: ApplicationId,
    attachment: Attachment,
) -> Result<ApplicationReportProto> {
    let vigil = RefCell::new(Vigil::new(id, yarn.client.silence_max(), Instant::now()));
    let looks = async {
        loop {
            let heard = yarn.client.report(id).await;
            let step = vigil.borrow_mut().on_yarn(Instant::now(), heard);
            if let Some(end) = carried_out(step) {
                return end;
            }
            sleep(attachment.look_interval).await;
        }
    };
    let beats = async {
        loop {
            let heard = match timeout(PROBE_TIMEOUT, greet(client, attachment)).await {
                Ok(heard) => heard,
                Err(_) => Err(anyhow!("the JobManager does not answer within {PROBE_TIMEOUT:?}")),
            };
            let step = vigil.borrow_mut().on_cluster(Instant::now(), heard);
            if let Some(end) = carried_out(step) {
                return end;
            }
            pause(&vigil, attachment.heartbeat_interval).await;
        }
    };
    tokio::select! {
        end = looks => end,
        end = beats => end,
    }
}

/// Any answer shows that the JobManager lives.
async fn greet(client: &RestClient, attachment: Attachment) -> Result<()> {
    let (method, path) = match attachment.holds_lease {
        true => (Method::PUT, "/v1/millstream/lease"),
        false => (Method::GET, "/v1/config"),
    };
    client.call_once(method, path, &Content::None).await.map(drop)
}

/// Waits for the next heartbeat, which comes early once there is doubt.
async fn pause(vigil: &RefCell<Vigil>, interval: Duration) {
    let start = Instant::now();
    while start.elapsed() < interval {
        let rest = interval.saturating_sub(start.elapsed());
        sleep(rest.min(DOUBT_INTERVAL)).await;
        if vigil.borrow().is_in_doubt() {
            return;
        }
    }
}

fn carried_out(step: Step) -> Option<Result<ApplicationReportProto>> {
    match step {
        Step::Stay => None,
        Step::Say(text) => {
            console::warn(format_args!("{text}"));
            None
        }
        Step::Leave(end) => Some(end.map(|report| *report)),
    }
}

#[derive(Debug)]
enum Step {
    Stay,
    /// Stay, and say this.
    Say(String),
    /// The application is over, or is lost sight of.
    Leave(Result<Box<ApplicationReportProto>>),
}

/// See the module; pure, given the time.
#[derive(Debug)]
struct Vigil {
    id: ApplicationId,
    silence_max: Duration,
    /// When one of the two answered last.
    answered: Instant,
    /// What is wrong with YARN's answers.
    trouble: Option<Trouble>,
    /// Whether the JobManager answered the last time.
    cluster_answers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Silent,
    Unknown,
}

impl Vigil {
    fn new(id: ApplicationId, silence_max: Duration, now: Instant) -> Self {
        Self { id, silence_max, answered: now, trouble: None, cluster_answers: true }
    }

    fn is_in_doubt(&self) -> bool {
        self.trouble.is_some()
    }

    /// What YARN says about the application.
    fn on_yarn(
        &mut self,
        now: Instant,
        heard: Result<ApplicationReportProto, ClientError>,
    ) -> Step {
        let id = self.id;
        let error = match heard {
            Ok(report) => {
                self.answered = now;
                return match self.trouble.take() {
                    // If it is over, the next look finds that.
                    Some(_) => Step::Say(format!("the ResourceManager answers again about {id}")),
                    None if deployer::is_over(&report) => Step::Leave(Ok(Box::new(report))),
                    None => Step::Stay,
                };
            }
            Err(error) => error,
        };
        let trouble = if error.is_unknown() { Trouble::Unknown } else { Trouble::Silent };
        if trouble == Trouble::Unknown && !self.cluster_answers {
            return Step::Leave(Err(anyhow!("{error}; its JobManager does not answer either")));
        }
        if now.duration_since(self.answered) > self.silence_max {
            return Step::Leave(Err(anyhow!(
                "what became of {id} is unknown: for {:?} neither its JobManager nor the \
                 ResourceManager has answered ({error}); `yarn application -status {id}` tells \
                 when the ResourceManager is back",
                self.silence_max
            )));
        }
        if self.trouble.replace(trouble) == Some(trouble) {
            return Step::Stay;
        }
        Step::Say(match trouble {
            Trouble::Silent => format!(
                "the ResourceManager does not answer ({error}); {id} may go on without it, and \
                 this command stays"
            ),
            Trouble::Unknown => format!("{error}; this command stays while its JobManager answers"),
        })
    }

    /// Whether the JobManager answered.
    fn on_cluster(&mut self, now: Instant, heard: Result<()>) -> Step {
        self.cluster_answers = heard.is_ok();
        match heard {
            Ok(()) => {
                self.answered = now;
                Step::Stay
            }
            Err(error) if self.trouble == Some(Trouble::Unknown) => Step::Leave(Err(anyhow!(
                "the ResourceManager does not know {} any more, and its JobManager does not \
                 answer: {error:#}",
                self.id
            ))),
            // YARN's next word decides.
            Err(_) => Step::Stay,
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_rm_yarn::proto::yarn::YarnApplicationStateProto;

    use super::*;

    const MAX: Duration = Duration::from_secs(900);

    fn id() -> ApplicationId {
        "application_1_0001".parse().unwrap()
    }

    fn report(state: YarnApplicationStateProto) -> Result<ApplicationReportProto, ClientError> {
        Ok(ApplicationReportProto {
            yarn_application_state: Some(state.into()),
            ..ApplicationReportProto::default()
        })
    }

    fn running() -> Result<ApplicationReportProto, ClientError> {
        report(YarnApplicationStateProto::Running)
    }

    fn silence() -> Result<ApplicationReportProto, ClientError> {
        Err(ClientError::Incomplete("getApplicationReport"))
    }

    fn gone() -> Result<()> {
        Err(anyhow!("connection refused"))
    }

    fn vigil() -> (Vigil, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        (Vigil::new(id(), MAX, start), move |seconds| start + Duration::from_secs(seconds))
    }

    fn said(step: Step) -> String {
        match step {
            Step::Stay => String::new(),
            Step::Say(text) => text,
            Step::Leave(end) => panic!("left with {end:?}"),
        }
    }

    fn left(step: Step) -> String {
        match step {
            Step::Leave(Err(error)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_silent_resource_manager_is_mentioned_once_and_ends_nothing() {
        let (mut vigil, at) = vigil();
        assert_eq!(said(vigil.on_yarn(at(0), running())), "");
        let warning = said(vigil.on_yarn(at(21), silence()));
        assert!(warning.starts_with("the ResourceManager does not answer"), "{warning}");
        // The JobManager answers for hours.
        for minute in 1..600 {
            assert_eq!(said(vigil.on_cluster(at(minute * 60), Ok(()))), "");
            assert_eq!(said(vigil.on_yarn(at(minute * 60 + 1), silence())), "");
        }
        let back = said(vigil.on_yarn(at(36_060), running()));
        assert!(back.contains("answers again"), "{back}");
        assert!(!said(vigil.on_yarn(at(36_100), silence())).is_empty(), "a second outage is news");
        let finished = || report(YarnApplicationStateProto::Finished);
        let back = said(vigil.on_yarn(at(36_200), finished()));
        assert!(back.contains("answers again"), "said of the end of an outage too: {back}");
        let over = vigil.on_yarn(at(36_201), finished());
        assert!(matches!(over, Step::Leave(Ok(_))), "{over:?}");
    }

    #[test]
    fn a_job_manager_that_is_gone_waits_for_yarns_word() {
        let (mut vigil, at) = vigil();
        assert_eq!(said(vigil.on_cluster(at(10), gone())), "");
        assert_eq!(said(vigil.on_yarn(at(5_000), running())), "");
        // It has ended while the ResourceManager was away, and is still to tell it.
        assert_ne!(said(vigil.on_yarn(at(5_010), silence())), "");
        assert_eq!(said(vigil.on_cluster(at(5_020), gone())), "");
        assert_eq!(said(vigil.on_yarn(at(5_000 + 899), silence())), "");
        let unknown = left(vigil.on_yarn(at(5_000 + 901), silence()));
        assert!(unknown.contains("what became of application_1_0001 is unknown"), "{unknown}");
    }

    #[test]
    fn an_application_that_yarn_has_forgotten_lives_while_its_job_manager_answers() {
        let forgotten = || Err(ClientError::Unknown(id()));
        let (mut vigil, at) = vigil();
        let warning = said(vigil.on_yarn(at(1), forgotten()));
        assert!(warning.contains("stays while its JobManager answers"), "{warning}");
        assert_eq!(said(vigil.on_yarn(at(2), forgotten())), "");
        let end = left(vigil.on_cluster(at(3), gone()));
        assert!(end.contains("does not know application_1_0001 any more"), "{end}");
        let end = left(vigil.on_yarn(at(4), forgotten()));
        assert!(end.contains("its JobManager does not answer either"), "{end}");
    }
}
