//! The `millstream` binary: Flink's verbs for people and scripts, and the daemons' entry points.
//!
//! A verb does as little as it can before it talks: no logging, no thread pool, one connection per
//! call. Every failure is one sentence on standard error and exit code 1, or 130 after an
//! interruption.

mod arguments;
mod client_path;
mod console;
mod daemon;
mod drivers;
mod flows;
mod job_end;
mod jobs;
mod log_lines;
mod operations;
mod plan;
mod program;
mod progress;
mod recovery;
mod rest;
mod run;
mod savepoints;
mod settings;
mod signals;
mod standalone;
mod state;
mod submission;
mod target;
mod yarn_session;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::arguments::{CommandLine, Verb, normalized, version};

fn main() -> ExitCode {
    let code = execute(std::env::args_os()).unwrap_or_else(|error| {
        console::complain(format_args!("{error:#}"));
        ExitCode::FAILURE
    });
    match console::output_error() {
        None => code,
        Some(error) => {
            console::complain(format_args!("failed to write to standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn execute(arguments: impl Iterator<Item = OsString>) -> anyhow::Result<ExitCode> {
    // JobManagers keep the checkpoints of jobs there.
    #[cfg(feature = "hdfs")]
    millstream_storage_hdfs::register(millstream_storage::FileSystems::of_process());
    let arguments: Vec<OsString> = arguments.collect();
    if let Some((_, [verb, script @ ..])) = arguments.split_first()
        && verb == standalone::VERB
    {
        return standalone::run(script);
    }
    if let Some(code) = drivers::run_entry_point(&arguments)? {
        return Ok(code);
    }
    let command_line = match CommandLine::try_parse_from(normalized(arguments)) {
        Ok(command_line) => command_line,
        Err(error) if error.use_stderr() => {
            let _ = error.print();
            // Flink's tools exit with 1 where clap would with 2.
            return Ok(ExitCode::FAILURE);
        }
        Err(help) => {
            let flushed = help.print().and_then(|()| std::io::Write::flush(&mut std::io::stdout()));
            console::note(flushed);
            return Ok(ExitCode::SUCCESS);
        }
    };
    if command_line.version {
        console::print(format_args!("{}", version()));
        return Ok(ExitCode::SUCCESS);
    }
    match command_line.verb {
        None => {
            console::print(format_args!("{}", CommandLine::command().render_help()));
            anyhow::bail!("please specify an action, such as run or list");
        }
        Some(Verb::Run(arguments)) => run::run(&arguments),
        Some(Verb::RunApplication(arguments)) => run::run_application(&arguments),
        Some(Verb::YarnSession(arguments)) => yarn_session::run(&arguments),
        Some(Verb::Info(arguments)) => plan::info(&arguments),
        Some(Verb::List(arguments)) => jobs::list(&arguments),
        Some(Verb::Cancel(arguments)) => jobs::cancel(&arguments),
        Some(Verb::Stop(arguments)) => savepoints::stop(&arguments),
        Some(Verb::Savepoint(arguments)) => savepoints::savepoint(&arguments),
        Some(Verb::Checkpoint(arguments)) => savepoints::checkpoint(&arguments),
        Some(Verb::State(arguments)) => state::run(&arguments),
        Some(Verb::JobManager(arguments)) => standalone::daemons::job_manager(&arguments),
        Some(Verb::TaskManager(arguments)) => standalone::daemons::task_manager(&arguments),
        Some(Verb::StandaloneJob(arguments)) => standalone::daemons::standalone_job(&arguments),
    }
}

/// A runtime for one command: this thread alone.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
