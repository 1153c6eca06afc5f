//! Starting and stopping on other hosts, through ssh and the scripts that lie there.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::places::Places;
use super::processes::NAP;

/// A script that runs on another host.
#[derive(Debug)]
pub(super) struct Remote {
    host: String,
    what: String,
    child: Child,
}

impl Remote {
    /// Runs script `name` on `host`.
    pub(super) fn start(places: &Places, host: &str, name: &str, action: &str) -> Result<Self> {
        let mut command = Command::new("ssh");
        command.arg("-n").args(&places.ssh_options).args([host, "--"]);
        command.arg(remote_command(&places.conf_dir, &places.bin_dir.join(name), action)?);
        let child = command.stdin(Stdio::null()).spawn();
        let child = child.with_context(|| format!("failed to run ssh, to reach {host}"))?;
        Ok(Self { host: host.to_owned(), what: format!("{name} {action}"), child })
    }

    /// Waits for its end.
    pub(super) async fn finish(mut self) -> Result<()> {
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{} failed on {}: {status}", self.what, self.host),
                None => tokio::time::sleep(NAP).await,
            }
        }
    }
}

/// The command line for the shell on the other host, as one word for ssh.
fn remote_command(conf_dir: &Path, script: &Path, action: &str) -> Result<String> {
    let quoted = |path: &Path| {
        let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
        anyhow::Ok(format!("'{}'", text.replace('\'', "'\\''")))
    };
    Ok(format!("env MILLSTREAM_CONF_DIR={} {} {action}", quoted(conf_dir)?, quoted(script)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_paths_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("it's a \"$(touch x)\" `y`\n; z.sh");
        std::fs::write(&script, "#!/bin/sh\nprintf '%s|%s' \"$MILLSTREAM_CONF_DIR\" \"$1\"\n")
            .unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, mode).unwrap();
        let conf = Path::new("/a b/$HOME'\n\"c");
        let line = remote_command(conf, &script, "start").unwrap();
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "/a b/$HOME'\n\"c|start");
    }
}
