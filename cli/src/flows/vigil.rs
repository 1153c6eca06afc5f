//! Decides how long a command stays with the cluster that it is attached to.
//!
//! Two parties tell of a cluster: the external manager (YARN's ResourceManager, say) and the
//! cluster's JobManager. Only the manager's report that the cluster is over ends the vigil. A
//! silent manager is mentioned once, and the command stays as long as the JobManager answers. When
//! neither of them has answered for the deployer's time limit, the command ends and says that the
//! fate of the cluster is unknown. The lease is renewed all the while, even if the manager is
//! silent.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use hyper::Method;
use millstream_rm_driver::{
    ClusterDeployer, ClusterEnd, ClusterId, ClusterReport, DeployError, ManagerWords,
};
use tokio::time::{sleep, timeout};

use crate::console;
use crate::rest::{Content, RestClient};

/// Longest interval between probes of the JobManager while the manager is silent.
const DOUBT_INTERVAL: Duration = Duration::from_secs(2);
/// Time limit for the JobManager's answer to a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

/// The manner in which a command is attached to a cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attachment {
    /// Interval of polling the manager.
    pub(crate) look_interval: Duration,
    /// Interval of heartbeats to the JobManager.
    pub(crate) heartbeat_interval: Duration,
    /// Whether the cluster ends without us.
    pub(crate) holds_lease: bool,
}

/// Waits until the manager says that a cluster is over.
///
/// # Errors
/// What became of it is unknown.
pub(crate) async fn until_over(
    deployer: &mut dyn ClusterDeployer,
    client: &RestClient,
    id: &ClusterId,
    attachment: Attachment,
) -> Result<ClusterEnd> {
    let (words, silence_max) = (deployer.words(), deployer.silence_max());
    let vigil = RefCell::new(Vigil::new(id.clone(), words, silence_max, Instant::now()));
    let looks = async {
        loop {
            let heard = deployer.report(id).await;
            let step = vigil.borrow_mut().on_manager(Instant::now(), heard);
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

fn carried_out(step: Step) -> Option<Result<ClusterEnd>> {
    match step {
        Step::Stay => None,
        Step::Say(text) => {
            console::warn(format_args!("{text}"));
            None
        }
        Step::Leave(end) => Some(end.map(|end| *end)),
    }
}

#[derive(Debug)]
enum Step {
    Stay,
    /// Stay, and say this.
    Say(String),
    /// The cluster is over, or is lost sight of.
    Leave(Result<Box<ClusterEnd>>),
}

/// See the module; pure, given the time.
#[derive(Debug)]
struct Vigil {
    id: ClusterId,
    words: ManagerWords,
    silence_max: Duration,
    /// When one of the two answered last.
    answered: Instant,
    /// The fault of the manager's last answers, if any.
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
    fn new(id: ClusterId, words: ManagerWords, silence_max: Duration, now: Instant) -> Self {
        Self { id, words, silence_max, answered: now, trouble: None, cluster_answers: true }
    }

    fn is_in_doubt(&self) -> bool {
        self.trouble.is_some()
    }

    /// Handles the manager's answer about the cluster.
    fn on_manager(&mut self, now: Instant, heard: Result<ClusterReport, DeployError>) -> Step {
        let (id, ManagerWords { manager, status_command, .. }) = (&self.id, self.words);
        let error = match heard {
            Ok(report) => {
                self.answered = now;
                return match (self.trouble.take(), report) {
                    // If it is over, the next look finds that.
                    (Some(_), _) => Step::Say(format!("{manager} answers again about {id}")),
                    (None, ClusterReport::Over(end)) => Step::Leave(Ok(Box::new(end))),
                    (None, ClusterReport::Alive) => Step::Stay,
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
                "what became of {id} is unknown: for {:?} neither its JobManager nor {manager} has \
                 answered ({error}); `{status_command} {id}` tells when {manager} is back",
                self.silence_max
            )));
        }
        if self.trouble.replace(trouble) == Some(trouble) {
            return Step::Stay;
        }
        Step::Say(match trouble {
            Trouble::Silent => format!(
                "{manager} does not answer ({error}); {id} may go on without it, and this command \
                 stays"
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
                "{} does not know {} any more, and its JobManager does not answer: {error:#}",
                self.words.manager,
                self.id
            ))),
            // The manager's next word decides.
            Err(_) => Step::Stay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(900);
    const WORDS: ManagerWords = ManagerWords {
        system: "YARN",
        manager: "the ResourceManager",
        cluster: "application",
        status_command: "yarn application -status",
        kill_command: "yarn application -kill",
    };

    type Heard = Result<ClusterReport, DeployError>;

    fn id() -> ClusterId {
        ClusterId::new("application_1_0001")
    }

    fn running() -> Heard {
        Ok(ClusterReport::Alive)
    }

    fn ended() -> Heard {
        let (state, said, why) = ("FINISHED".to_owned(), String::new(), String::new());
        Ok(ClusterReport::Over(ClusterEnd { succeeded: true, state, said, why }))
    }

    fn silence() -> Heard {
        Err(DeployError::Unheard("no answer".into()))
    }

    fn gone() -> Result<()> {
        Err(anyhow!("connection refused"))
    }

    fn vigil() -> (Vigil, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        (Vigil::new(id(), WORDS, MAX, start), move |seconds| start + Duration::from_secs(seconds))
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
    fn a_silent_manager_is_mentioned_once_and_ends_nothing() {
        let (mut vigil, at) = vigil();
        assert_eq!(said(vigil.on_manager(at(0), running())), "");
        let warning = said(vigil.on_manager(at(21), silence()));
        assert!(warning.starts_with("the ResourceManager does not answer"), "{warning}");
        // The JobManager answers for hours.
        for minute in 1..600 {
            assert_eq!(said(vigil.on_cluster(at(minute * 60), Ok(()))), "");
            assert_eq!(said(vigil.on_manager(at(minute * 60 + 1), silence())), "");
        }
        let back = said(vigil.on_manager(at(36_060), running()));
        assert!(back.contains("answers again"), "{back}");
        assert!(
            !said(vigil.on_manager(at(36_100), silence())).is_empty(),
            "a second outage is news"
        );
        let back = said(vigil.on_manager(at(36_200), ended()));
        assert!(back.contains("answers again"), "said of the end of an outage too: {back}");
        let over = vigil.on_manager(at(36_201), ended());
        assert!(matches!(over, Step::Leave(Ok(_))), "{over:?}");
    }

    #[test]
    fn a_job_manager_that_is_gone_waits_for_the_managers_word() {
        let (mut vigil, at) = vigil();
        assert_eq!(said(vigil.on_cluster(at(10), gone())), "");
        assert_eq!(said(vigil.on_manager(at(5_000), running())), "");
        // It has ended while the ResourceManager was away, and is still to tell it.
        assert_ne!(said(vigil.on_manager(at(5_010), silence())), "");
        assert_eq!(said(vigil.on_cluster(at(5_020), gone())), "");
        assert_eq!(said(vigil.on_manager(at(5_000 + 899), silence())), "");
        let unknown = left(vigil.on_manager(at(5_000 + 901), silence()));
        assert!(unknown.contains("what became of application_1_0001 is unknown"), "{unknown}");
    }

    #[test]
    fn a_cluster_that_the_manager_has_forgotten_lives_while_its_job_manager_answers() {
        let forgotten = || Err(DeployError::Unknown("it does not know it".into()));
        let (mut vigil, at) = vigil();
        let warning = said(vigil.on_manager(at(1), forgotten()));
        assert!(warning.contains("stays while its JobManager answers"), "{warning}");
        assert_eq!(said(vigil.on_manager(at(2), forgotten())), "");
        let end = left(vigil.on_cluster(at(3), gone()));
        assert!(end.contains("does not know application_1_0001 any more"), "{end}");
        let end = left(vigil.on_manager(at(4), forgotten()));
        assert!(end.contains("its JobManager does not answer either"), "{end}");
    }
}
