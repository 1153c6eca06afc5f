//! One process of a cluster: a JobManager, a TaskManager, a daemon of Hadoop.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::command_line::{dies_with_us, kill};
use crate::wait::until;

/// Time limit for a process to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// A daemon that the harness started; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    /// Its kind and number, as in its log's name.
    pub name: String,
    /// Its log.
    pub log: PathBuf,
    child: Child,
}

impl Daemon {
    /// Starts `command`, which is the whole command line, with its output beside the log.
    pub(crate) fn start(name: String, log: PathBuf, mut command: Command) -> Self {
        let out = File::options().create(true).append(true).open(log.with_extension("out"));
        let out = out.unwrap();
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        dies_with_us(&mut command);
        let child = command.spawn().unwrap();
        Self { name, log, child }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with signal 9 and waits until it is gone.
    ///
    /// # Panics
    /// It cannot be waited for.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Stops it where it is, as a machine that hangs; [`Daemon::resume`] lets it go on.
    ///
    /// # Panics
    /// It does not stop.
    pub fn pause(&self) {
        kill(self.pid(), libc::SIGSTOP);
        // Threads that run go on for a moment, long enough to answer a request.
        until(&format!("{} has stopped", self.name), STOP_DEADLINE, || {
            self.thread_states().iter().all(|state| matches!(state, 'T' | 'Z' | 'X')).then_some(())
        });
    }

    fn thread_states(&self) -> Vec<char> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten();
        let state = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
            stat.rsplit_once(") ")?.1.chars().next()
        };
        tasks.flatten().filter_map(state).collect()
    }

    /// Lets it go on after a pause.
    pub fn resume(&self) {
        kill(self.pid(), libc::SIGCONT);
    }

    /// Asks it to end and waits until it has.
    ///
    /// # Panics
    /// It did not end within half a minute.
    pub fn stop(&mut self) -> ExitStatus {
        kill(self.pid(), libc::SIGTERM);
        self.ended(Duration::from_secs(30))
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It did not end within the deadline.
    pub fn ended(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("{} has ended", self.name);
        until(&what, deadline, || self.child.try_wait().unwrap())
    }

    /// Its exit status, if it has ended.
    ///
    /// # Panics
    /// It cannot be asked.
    pub fn exit(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Its log and output so far.
    #[must_use]
    pub fn logged(&self) -> String {
        let read = |path: &Path| std::fs::read(path).unwrap_or_default();
        let mut text = read(&self.log);
        text.extend(read(&self.log.with_extension("out")));
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
