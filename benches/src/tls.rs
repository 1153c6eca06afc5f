//! Clusters whose TaskManagers speak TLS to each other, of either engine.
//!
//! Flink does it with key stores. Our standalone clusters have no TLS, only those on YARN do: their
//! daemons are run here by the program `secured`, with an authority of the run, so that nothing
//! else of YARN is in the figure.

use crate::process::check;
use anyhow::{Context, Result};
use millstream_security::{Authority, Credentials, Role};
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
const AUTHORITY: &str = "authority";
/// Flink compares the name of a peer with its certificate.
const NAMES: &str = "SAN=dns:localhost,ip:127.0.0.1";

/// Makes Flink's key store in a run's directory, and says what its configuration needs.
pub fn flink_settings(run: &Path) -> Result<String> {
    let store = run.join("internal.p12").display().to_string();
    let mut keytool = Command::new("keytool");
    keytool.args(["-genkeypair", "-alias", "flink", "-dname", "CN=flink", "-keyalg", "RSA"]);
    keytool.args(["-keysize", "2048", "-storetype", "PKCS12", "-storepass", "benches"]);
    keytool.args(["-validity", "2", "-keystore", &store, "-ext", NAMES]);
    check(keytool)?;
    let internal = "security.ssl.internal";
    Ok(format!(
        "{internal}.enabled: true\n{internal}.keystore: {store}\n{internal}.truststore: {store}\n\
         {internal}.keystore-password: benches\n{internal}.key-password: benches\n\
         {internal}.truststore-password: benches\n"
    ))
}

/// Makes the authority of a cluster of ours in the run's directory; returns a client's credentials.
pub fn make_authority(run: &Path) -> Result<Credentials> {
    let authority = Authority::generate("benches")?;
    let file = fs::File::options().write(true).create_new(true).mode(0o600).open(path(run));
    std::io::Write::write_all(&mut file?, authority.to_secret().expose())?;
    Ok(authority.issue(Role::Client, "paired", DAY)?)
}

/// The authority that was made there.
pub fn authority(run: &Path) -> Result<Authority> {
    let bytes = fs::read(path(run)).context("the run has no authority")?;
    Ok(Authority::from_secret(&bytes)?)
}

/// The credentials of this TaskManager.
pub fn worker(run: &Path, name: &str) -> Result<Credentials> {
    Ok(authority(run)?.issue(Role::Worker, name, DAY)?)
}

/// A daemon of ours with TLS: `jobmanager` or `taskmanager`, numbered.
pub fn daemon(run: &Path, role: &str, number: u32) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?.with_file_name("secured"));
    command.arg(role).arg(run).arg(number.to_string());
    Ok(command)
}

fn path(run: &Path) -> std::path::PathBuf {
    run.join(AUTHORITY)
}
