//! The files `masters` and `workers` of the configuration: one host a line, `#` starts a comment.
//!
//! Start and stop read them here, so that they mean the same hosts.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, TcpListener};
use std::path::Path;

use anyhow::{Result, bail};

/// A line of one of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    /// A name or address, an IPv6 address without brackets.
    pub(super) name: String,
    /// Only in `masters`.
    pub(super) port: Option<u16>,
    /// Whether it is this machine.
    pub(super) local: bool,
}

/// The one line of `masters`.
pub(super) fn master(conf_dir: &Path, hostname: &str) -> Result<Host> {
    let path = conf_dir.join("masters");
    let mut hosts = read(&path, hostname)?;
    match (hosts.pop(), hosts.len()) {
        (Some(host), 0) => Ok(host),
        (_, others) => bail!(
            "{} names {} hosts, but there is no high availability yet: leave one",
            path.display(),
            others + 1
        ),
    }
}

/// The lines of `workers`, each of which stands for one TaskManager.
pub(super) fn workers(conf_dir: &Path, hostname: &str) -> Result<Vec<Host>> {
    let path = conf_dir.join("workers");
    let hosts = read(&path, hostname)?;
    if let Some(Host { name, port: Some(port), .. }) = hosts.iter().find(|host| host.port.is_some())
    {
        bail!(
            "{}: {name}:{port} has a port, which a TaskManager chooses itself (or finds in \
             taskmanager.data.port): write {name}",
            path.display()
        );
    }
    Ok(hosts)
}

fn read(path: &Path, hostname: &str) -> Result<Vec<Host>> {
    let file = path.display();
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("there is no {file}: write one host a line into it, `localhost` for this machine")
        }
        Err(error) => bail!("failed to read {file}: {error}"),
    };
    let Ok(text) = String::from_utf8(bytes) else { bail!("{file} is not UTF-8 text") };
    let mut hosts = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let Some((name, port)) = parse(line) else {
            bail!("{file} line {}: {line:?} is not a host: write a name or an address", index + 1);
        };
        let local = is_local(&name, hostname);
        hosts.push(Host { name, port, local });
    }
    if hosts.is_empty() {
        bail!(
            "{file} names no host: write one a line, `localhost` for this machine, or start single \
             daemons with jobmanager.sh and taskmanager.sh"
        );
    }
    Ok(hosts)
}

/// `host`, `host:port`, `::1`, `[::1]` or `[::1]:port`; `user@host` for ssh.
fn parse(line: &str) -> Option<(String, Option<u16>)> {
    if let Some(rest) = line.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        let IpAddr::V6(address) = address.parse().ok()? else { return None };
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':')?.parse().ok()?),
        };
        return Some((address.to_string(), port));
    }
    if let Ok(address) = line.parse::<IpAddr>() {
        return (!address.is_unspecified()).then(|| (line.to_owned(), None));
    }
    let (name, port) = match line.split_once(':') {
        Some((name, port)) => (name, Some(port.parse().ok()?)),
        None => (line, None),
    };
    if name.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified()) {
        return None;
    }
    // A name that starts with a dash would be an option of ssh.
    let usual = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '@');
    let good = !name.is_empty() && !name.starts_with(['-', '@']) && name.chars().all(usual);
    good.then(|| (name.to_owned(), port))
}

fn is_local(name: &str, hostname: &str) -> bool {
    if let Ok(address) = name.parse::<IpAddr>() {
        // An address is this machine's if one can listen on it.
        return address.is_loopback() || TcpListener::bind((address, 0)).is_ok();
    }
    let (name, hostname) = (name.to_ascii_lowercase(), hostname.to_ascii_lowercase());
    let short = hostname.split('.').next().unwrap_or_default();
    name == "localhost"
        || name.starts_with("localhost.")
        || !name.is_empty() && (name == hostname || name == short)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, port: Option<u16>, local: bool) -> Host {
        Host { name: name.to_owned(), port, local }
    }

    fn with(file: &str, bytes: &[u8]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(file), bytes).unwrap();
        directory
    }

    fn read_workers(bytes: &[u8]) -> Result<Vec<Host>> {
        workers(with("workers", bytes).path(), "me.example.org")
    }

    #[test]
    fn one_line_is_one_worker() {
        let text = "\u{feff}# all\r\nlocalhost\r\n\r\n  localhost  # again\r\n::1\r\n[::1]\n\
                    127.0.0.5\nME\nme.example.org\nother-host.example.org\nbob@far\n\
                    LocalHost.localdomain";
        let expected = [
            host("localhost", None, true),
            host("localhost", None, true),
            host("::1", None, true),
            host("::1", None, true),
            host("127.0.0.5", None, true),
            host("ME", None, true),
            host("me.example.org", None, true),
            host("other-host.example.org", None, false),
            host("bob@far", None, false),
            host("LocalHost.localdomain", None, true),
        ];
        assert_eq!(read_workers(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_worker_has_no_port() {
        for line in ["localhost:8081", "[::1]:8081", "127.0.0.1:1"] {
            let error = read_workers(line.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("has a port, which a TaskManager chooses"), "{error}");
        }
    }

    #[test]
    fn lines_that_name_no_host_are_refused() {
        for line in [
            "-oProxyCommand=touch",
            "a b",
            "a;b",
            "$(x)",
            "a/b",
            "0.0.0.0",
            "::",
            "[::1",
            "[1.2.3.4]",
            "host:port",
            "host:70000",
            "::1:8081:x",
            "@x",
            "a,b",
            "http://x:1",
        ] {
            let error = read_workers(format!("ok\n{line}\n").as_bytes()).unwrap_err().to_string();
            assert!(error.contains("line 2") && error.contains("is not a host"), "{line}: {error}");
        }
        for nothing in ["", "\n\n", "# x\n", "\u{feff}"] {
            let error = read_workers(nothing.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("names no host"), "{error}");
        }
        assert!(read_workers(b"\xff\n").unwrap_err().to_string().contains("not UTF-8"));
        let missing = workers(Path::new("/nowhere"), "me").unwrap_err().to_string();
        assert!(missing.starts_with("there is no /nowhere/workers"), "{missing}");
    }

    #[test]
    fn there_is_one_master() {
        let read = |text: &str| master(with("masters", text.as_bytes()).path(), "me");
        assert_eq!(read("localhost:8081\n").unwrap(), host("localhost", Some(8081), true));
        assert_eq!(read("[::1]:8081").unwrap(), host("::1", Some(8081), true));
        assert_eq!(read("far").unwrap(), host("far", None, false));
        let error = read("a\nb\n").unwrap_err().to_string();
        assert!(error.contains("names 2 hosts"), "{error}");
    }
}
