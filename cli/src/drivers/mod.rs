//! The drivers that the command line knows. A driver is one file here and one line in [`ALL`]; by
//! that line every verb and daemon knows the driver's options ([`options`]). Its session script has
//! a verb of its own (`yarn_session`), and Flink's old command line has options for YARN; no other
//! file of the command line names a driver.
//!
//! The flows of a session, of a cluster for one job and of an application are in `flows`, once for
//! all drivers. A driver says here how its targets are called, makes its deployer, remembers its
//! sessions, and runs the processes that its clusters consist of.

pub(crate) mod yarn;

use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;
use std::sync::LazyLock;

use anyhow::Result;
use clap::Parser as _;
use millstream_config::{ConfigOption, Configuration, KnownOptions, OptionTable};
use millstream_rm_driver::{ClusterDeployer, ClusterId, DeployError};
use millstream_rm_standalone::options as standalone;

use crate::arguments::ContainerArguments;

/// Every driver that can deploy.
pub(crate) const ALL: &[&dyn Driver] = &[&yarn::Yarn];

/// The options of this binary: the engine's and its drivers'. The standalone driver is not in
/// [`ALL`], because it deploys nothing.
pub(crate) fn options() -> KnownOptions {
    static TABLES: LazyLock<Vec<OptionTable>> = LazyLock::new(|| {
        let deploying = ALL.iter().map(|driver| driver.options());
        std::iter::once(standalone::TABLE).chain(deploying).collect()
    });
    KnownOptions::with_drivers(&TABLES)
}

/// Runs a process of a cluster.
pub(crate) type EntryPoint = fn(&ContainerArguments) -> Result<ExitCode>;

/// A driver, as the command line needs it.
pub(crate) trait Driver: Sync + fmt::Debug {
    /// The beginning of its targets: `NAME-session`, `NAME-per-job` and `NAME-application`. A
    /// script `NAME-session.sh` starts its sessions.
    fn name(&self) -> &'static str;

    /// Its options. A key that is not Flink's begins with `millstream.` or with the driver's name.
    fn options(&self) -> OptionTable;

    /// The option that names a cluster which runs already.
    fn id_option(&self) -> &'static ConfigOption<Option<String>>;

    /// An id of a cluster as an example, shortened.
    fn id_example(&self) -> &'static str;

    /// Reads a cluster's id as a user wrote it.
    fn cluster_id(&self, text: &str) -> Result<ClusterId>;

    /// A deployer for this configuration. With a cluster, one that uses the directory where the
    /// cluster's files were staged.
    fn deployer(
        &self,
        configuration: &Configuration,
        cluster: Option<&ClusterId>,
    ) -> Result<Box<dyn ClusterDeployer>>;

    /// The sessions that this user has started.
    fn sessions(&self, configuration: &Configuration) -> Result<Box<dyn Sessions>>;

    /// The processes of its clusters, by the verb that starts each.
    fn entry_points(&self) -> &'static [(&'static str, EntryPoint)];
}

impl PartialEq for dyn Driver {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn Driver {}

/// Where a driver remembers the sessions of a user, so that later commands find them by themselves.
/// `Display` names the place to people.
pub(crate) trait Sessions: fmt::Display {
    /// The session that a command means which names none.
    fn last(&self) -> Result<Option<ClusterId>>;

    /// Makes a session the last one. It runs, so a failure is only told.
    fn remember(&self, session: &ClusterId);

    /// Takes out a session that is over; the last one after that, if it was the last.
    fn forget(&self, session: &ClusterId) -> Option<ClusterId>;

    /// Why a session that stands here is unknown to the external manager that was asked.
    fn explain_unknown(&self, session: &ClusterId, error: DeployError) -> anyhow::Error;
}

/// Runs the process of a cluster if the first of these arguments is a verb for one; otherwise none.
pub(crate) fn run_entry_point(arguments: &[OsString]) -> Result<Option<ExitCode>> {
    let Some((_, words)) = arguments.split_first() else { return Ok(None) };
    let verb = words.first().and_then(|verb| verb.to_str()).unwrap_or_default();
    let mut points = ALL.iter().flat_map(|driver| driver.entry_points());
    let Some((_, point)) = points.find(|(name, _)| *name == verb) else {
        return Ok(None);
    };
    match ContainerArguments::try_parse_from(words) {
        Ok(arguments) => point(&arguments).map(Some),
        Err(error) => {
            let _ = error.print();
            Ok(Some(if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }))
        }
    }
}

#[cfg(test)]
mod every_option;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_options_and_verbs_are_each_drivers_own() {
        let names: BTreeSet<&str> = ALL.iter().map(|driver| driver.name()).collect();
        let options: BTreeSet<&str> = ALL.iter().map(|driver| driver.id_option().key()).collect();
        assert_eq!((names.len(), options.len()), (ALL.len(), ALL.len()));
        for driver in ALL {
            for (verb, _) in driver.entry_points() {
                assert!(verb.starts_with(&format!("{}-", driver.name())), "{verb}");
            }
        }
    }
}
