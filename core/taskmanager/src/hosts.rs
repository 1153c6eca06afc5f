//! Common settings of the hosts of this process: directories, output files, limits.
//!
//! Standard output goes straight to the process's `.out` file, where users look for the output of a
//! job. Standard error goes to a file of the host's own, so that the cause of its end can quote it;
//! when the host has ended, the file's last part moves to the `.out` file.

use std::any::Any;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::Duration;

use millstream_launcher::{HostLaunch, HostOutput, HostSpec};
use millstream_protocol::host::{Begin, ToHost, to_host};
use millstream_types::{ByteSize, HostId, JobId};

use crate::{LogDirectory, TempDirs};

/// So much of a host's standard error is kept when it has ended.
const STDERR_KEPT_BYTES_MAX: u64 = 256 << 10;

/// Settings of all hosts of one process.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// Where hosts, in turn, get a directory of their own.
    pub temp_dirs: TempDirs,
    /// Where output goes.
    pub logs: LogDirectory,
    /// Variables that hosts get beside the clean environment.
    pub variables: Vec<(OsString, OsString)>,
    /// Time limit for a host until its `Hello`.
    pub start_timeout: Duration,
    /// Time for which a host may leave a message unread.
    pub drain_timeout: Duration,
}

impl HostSettings {
    /// A host that is to be started and told `begin`.
    pub(crate) fn launch(
        &self,
        host: HostId,
        executable: PathBuf,
        lease: Box<dyn Any + Send>,
        memory_limit: Option<ByteSize>,
        mut begin: Begin,
    ) -> HostLaunch {
        let name = host.to_string();
        let stderr_name = format!("{}-host-{name:.12}.err", self.logs.out_name);
        let files = HostFiles {
            stderr: self.logs.dir.join(stderr_name),
            out: self.logs.dir.join(&self.logs.out_name),
            title: match JobId::try_from(begin.job_id.as_slice()) {
                Ok(job) => format!("standard error of host {name} of job {job}"),
                Err(_) => format!("standard error of host {name}"),
            },
        };
        let temp_dir = self.temp_dirs.next().join(format!("host-{name}"));
        begin.temp_dir = temp_dir.display().to_string();
        let spec = HostSpec {
            variables: self.variables.clone(),
            temp_dir: Some(temp_dir),
            output: HostOutput::Files { stdout: files.out.clone(), stderr: files.stderr.clone() },
            memory_limit,
            start_timeout: self.start_timeout,
            drain_timeout: self.drain_timeout,
            ..HostSpec::new(host, executable)
        };
        let first = ToHost { message: Some(to_host::Message::Begin(begin)) };
        HostLaunch { spec, first, lease: Box::new((files, lease)) }
    }
}

/// Moves a host's standard error to the common file when dropped.
struct HostFiles {
    stderr: PathBuf,
    out: PathBuf,
    title: String,
}

impl HostFiles {
    fn fold(&self) -> io::Result<()> {
        let mut stderr = File::open(&self.stderr)?;
        let size = stderr.metadata()?.len();
        if size > 0 {
            stderr.seek(SeekFrom::Start(size.saturating_sub(STDERR_KEPT_BYTES_MAX)))?;
            let mut text = format!("--- {}\n", self.title).into_bytes();
            stderr.take(STDERR_KEPT_BYTES_MAX).read_to_end(&mut text)?;
            text.push(b'\n');
            OpenOptions::new().create(true).append(true).open(&self.out)?.write_all(&text)?;
        }
        std::fs::remove_file(&self.stderr)
    }
}

impl Drop for HostFiles {
    fn drop(&mut self) {
        match self.fold() {
            // It was never started.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let file = self.stderr.display();
                tracing::warn!(%file, %error, "standard error was not kept");
                let _ = std::fs::remove_file(&self.stderr);
            }
            Ok(()) => {}
        }
    }
}
