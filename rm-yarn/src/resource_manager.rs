//! The ResourceManager as one server, however many of it there are.
//!
//! With high availability a standby does not listen at all, so a caller goes round the
//! ResourceManagers until one answers: at once through the whole circle, then after growing pauses,
//! for as long as the caller is patient. Every call that goes through here may be carried out
//! twice; YARN's calls are made for that.

use std::time::Duration;

use millstream_hadoop_config::{HadoopConfigError, HadoopConfiguration};
use prost::Message;
use tokio::time::Instant;

use crate::ipc::{Connection, Identity, IpcError, Options, Protocol};

/// The pause after a whole circle without an answer, growing from the first to the second.
const PAUSE_SHORTEST: Duration = Duration::from_millis(200);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);

/// The least time for an answer, however impatient the caller is.
const CALL_SHORTEST: Duration = Duration::from_secs(1);
/// Time limit for an answer to an ApplicationMaster's call before the next ResourceManager is
/// asked: one that listens may be frozen.
const SCHEDULER_SILENCE_MAX: Duration = Duration::from_secs(20);

/// A service of the ResourceManager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// For clients.
    Client,
    /// For ApplicationMasters.
    Scheduler,
}

impl Service {
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Client => "yarn.resourcemanager.address",
            Self::Scheduler => "yarn.resourcemanager.scheduler.address",
        }
    }

    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Client => 8032,
            Self::Scheduler => 8030,
        }
    }

    fn protocol(self) -> Protocol {
        match self {
            Self::Client => Protocol::APPLICATION_CLIENT,
            Self::Scheduler => Protocol::APPLICATION_MASTER,
        }
    }
}

/// The `host:port` of a property of the ResourceManager, of each one if there are several: from
/// `KEY.ID`, or else from `yarn.resourcemanager.hostname.ID` and the default port.
///
/// # Errors
/// Neither an address nor a host name is known.
pub fn addresses(
    hadoop: &HadoopConfiguration,
    key: &str,
    port: u16,
) -> Result<Vec<String>, HadoopConfigError> {
    let ids = match hadoop.truth("yarn.resourcemanager.ha.enabled", false) {
        true => hadoop.list("yarn.resourcemanager.ha.rm-ids"),
        false => Vec::new(),
    };
    let suffixes: Vec<String> = match ids.is_empty() {
        true => vec![String::new()],
        false => ids.iter().map(|id| format!(".{id}")).collect(),
    };
    let one = |suffix: &String| {
        let named = hadoop.get(&format!("{key}{suffix}"));
        let host = || hadoop.get(&format!("yarn.resourcemanager.hostname{suffix}"));
        let address = named.or_else(host).ok_or_else(|| HadoopConfigError::Value {
            key: format!("{key}{suffix}"),
            value: String::new(),
            expected: "set it, or yarn.resourcemanager.hostname, in yarn-site.xml",
        })?;
        let has_port =
            address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Ok(if has_port { address } else { format!("{address}:{port}") })
    };
    suffixes.iter().map(one).collect()
}

/// The ResourceManagers, of which one is asked until it does not answer.
#[derive(Debug)]
pub(crate) struct Circle {
    addresses: Vec<String>,
    at: usize,
    patience: Duration,
}

/// One question's way round the circle.
pub(crate) struct Round {
    end: Instant,
    pause: Duration,
    asked: usize,
}

impl Circle {
    /// The first is asked first; a question ends without an answer after `patience`.
    pub(crate) fn new(addresses: Vec<String>, patience: Duration) -> Self {
        Self { addresses, at: 0, patience }
    }

    /// The address of the ResourceManager to ask next.
    pub(crate) fn address(&self) -> &str {
        self.addresses.get(self.at).map_or("", String::as_str)
    }

    /// A new question.
    pub(crate) fn round(&self) -> Round {
        Round { end: Instant::now() + self.patience, pause: PAUSE_SHORTEST, asked: 0 }
    }

    /// Turns to the next, after a pause if all were asked. False: patience has ended, and each was
    /// asked once at least.
    pub(crate) async fn turn(&mut self, round: &mut Round) -> bool {
        let count = self.addresses.len().max(1);
        self.at = (self.at + 1) % count;
        round.asked += 1;
        if Instant::now() >= round.end && round.asked >= count {
            return false;
        }
        if round.asked.is_multiple_of(count) {
            tokio::time::sleep_until((Instant::now() + round.pause).min(round.end)).await;
            round.pause = (round.pause * 2).min(PAUSE_LONGEST);
        }
        true
    }
}

/// Time limit for one answer, at most half of the caller's patience: enough remains to ask a silent
/// ResourceManager again, or another one.
pub(crate) fn call_timeout(usual: Duration, patience: Duration) -> Duration {
    usual.min((patience / 2).max(CALL_SHORTEST))
}

/// A way to one service of the ResourceManager, as one identity.
#[derive(Debug)]
pub struct ResourceManager {
    circle: Circle,
    service: Service,
    identity: Identity,
    options: Options,
    connection: Option<Connection>,
}

impl ResourceManager {
    /// Connects with the first call only. A call ends without an answer after `patience`.
    ///
    /// # Errors
    /// The configuration names no address.
    pub fn new(
        hadoop: &HadoopConfiguration,
        service: Service,
        identity: Identity,
        mut options: Options,
        patience: Duration,
    ) -> Result<Self, HadoopConfigError> {
        options.call_timeout = call_timeout(options.call_timeout, patience);
        options.connect_timeout = call_timeout(options.connect_timeout, patience);
        if service == Service::Scheduler {
            options.call_timeout = options.call_timeout.min(SCHEDULER_SILENCE_MAX);
        }
        let addresses = addresses(hadoop, service.key(), service.port())?;
        let circle = Circle::new(addresses, patience);
        Ok(Self { circle, service, identity, options, connection: None })
    }

    /// Where it is, or may be.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.circle.addresses
    }

    /// The identity that new connections show.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Shows this from the next connection on; the present one stays as it is.
    pub fn identify_as(&mut self, identity: Identity) {
        self.identity = identity;
    }

    /// Calls a method, at whichever ResourceManager answers. Cancel-safe in that the next call
    /// is sound; this one may have been carried out.
    ///
    /// # Errors
    /// The server refused the call or the identity; or none answered in time, and then the
    /// newest reason.
    pub async fn call<Q, A>(&mut self, method: &str, request: &Q) -> Result<A, IpcError>
    where
        Q: Message,
        A: Message + Default,
    {
        let mut round = self.circle.round();
        loop {
            let error = match self.call_once(method, request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if !another_may_answer(&error) {
                return Err(error);
            }
            self.connection = None;
            tracing::debug!(method, %error, "the ResourceManager does not answer");
            if !self.circle.turn(&mut round).await {
                return Err(error);
            }
        }
    }

    async fn call_once<Q, A>(&mut self, method: &str, request: &Q) -> Result<A, IpcError>
    where
        Q: Message,
        A: Message + Default,
    {
        let connection = match &self.connection {
            Some(connection) => connection,
            None => {
                let address = self.circle.address();
                let (protocol, identity) = (self.service.protocol(), self.identity.clone());
                let opened = Connection::open(address, protocol, identity, &self.options).await?;
                self.connection.insert(opened)
            }
        };
        connection.call(method, request).await
    }
}

/// Whether the same call may get an answer later or elsewhere.
fn another_may_answer(error: &IpcError) -> bool {
    match error {
        IpcError::Connect { .. } | IpcError::Timeout { .. } | IpcError::Broken { .. } => true,
        IpcError::Remote(remote) => {
            remote.is("StandbyException") || remote.is("RetriableException")
        }
        IpcError::Foreign { .. } | IpcError::Identify { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hadoop(pairs: &[(&str, &str)]) -> HadoopConfiguration {
        let mut hadoop = HadoopConfiguration::new();
        for (key, value) in pairs {
            hadoop.set(*key, *value);
        }
        hadoop
    }

    fn clients(pairs: &[(&str, &str)]) -> Result<Vec<String>, HadoopConfigError> {
        addresses(&hadoop(pairs), Service::Client.key(), Service::Client.port())
    }

    #[test]
    fn an_address_comes_from_its_key_or_from_the_hosts_name() {
        let named = clients(&[("yarn.resourcemanager.address", "rm:1")]).unwrap();
        assert_eq!(named, ["rm:1"]);
        let host = ("yarn.resourcemanager.hostname", "rm");
        assert_eq!(clients(&[host]).unwrap(), ["rm:8032"]);
        let error = clients(&[]).unwrap_err().to_string();
        assert!(error.contains("yarn.resourcemanager.hostname, in yarn-site.xml"), "{error}");
    }

    #[test]
    fn with_high_availability_there_is_one_for_each_id() {
        let found = clients(&[
            ("yarn.resourcemanager.ha.enabled", "true"),
            ("yarn.resourcemanager.ha.rm-ids", "rm1,rm2"),
            ("yarn.resourcemanager.address.rm1", "a:1"),
            ("yarn.resourcemanager.hostname.rm2", "b"),
        ]);
        assert_eq!(found.unwrap(), ["a:1", "b:8032"]);
    }

    #[tokio::test]
    async fn impatience_ends_with_the_reason() {
        let hadoop = hadoop(&[("yarn.resourcemanager.address", "localhost:1")]);
        let identity = Identity::User("alice".to_owned());
        let mut closed = ResourceManager::new(
            &hadoop,
            Service::Client,
            identity,
            Options::default(),
            Duration::from_millis(1),
        )
        .unwrap();
        let request = crate::proto::yarn::GetClusterMetricsRequestProto {};
        let call =
            closed.call::<_, crate::proto::yarn::GetClusterMetricsResponseProto>("x", &request);
        let error = call.await.unwrap_err().to_string();
        assert!(error.starts_with("failed to connect to localhost:1"), "{error}");
    }
}
