//! `list` and `cancel`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use hyper::{Method, StatusCode};
use millstream_rest_types::jobs::{JobSummary, MultipleJobsDetails};
use millstream_types::{Escaped, JobId, JobStatus};

use crate::arguments::{CancelArguments, ListArguments};
use crate::rest::{Content, RestClient};
use crate::{console, runtime, savepoints, target};

/// Lists jobs as Flink does.
pub(crate) fn list(arguments: &ListArguments) -> Result<ExitCode> {
    let (configuration, _) = target::configuration(&arguments.cluster)?;
    let answer = runtime()?.block_on(async {
        let client = target::running_cluster(&arguments.cluster, &configuration).await?;
        console::print(format_args!("Waiting for response..."));
        client.get::<MultipleJobsDetails>("/v1/jobs/overview").await
    })?;
    console::print(format_args!("{}", render(arguments, answer.jobs, local_time).trim_end()));
    Ok(ExitCode::SUCCESS)
}

fn render(
    arguments: &ListArguments,
    mut jobs: Vec<JobSummary>,
    time: impl Fn(i64) -> String,
) -> String {
    jobs.sort_by_key(|job| job.start_time);
    let usual = !(arguments.running || arguments.scheduled || arguments.all);
    let is_scheduled = |state| state == JobStatus::Created;
    let is_running = |state: JobStatus| !is_scheduled(state) && !state.is_globally_terminal();
    let mut text = String::new();
    let mut section = |title: &str, none: &str, wanted: &dyn Fn(JobStatus) -> bool| {
        let lines: Vec<String> = jobs
            .iter()
            .filter(|job| wanted(job.state))
            .map(|job| {
                let (id, name) = (job.jid, Escaped::line(&job.name));
                format!("{} : {id} : {name} ({})\n", time(job.start_time), job.state)
            })
            .collect();
        if lines.is_empty() {
            text += none;
            text.push('\n');
        } else {
            text += &format!("{title:-^62}\n{}{:-^62}\n", lines.concat(), "");
        }
    };
    if usual || arguments.running || arguments.all {
        section(" Running/Restarting Jobs ", "No running jobs.", &is_running);
    }
    if usual || arguments.scheduled || arguments.all {
        section(" Scheduled Jobs ", "No scheduled jobs.", &is_scheduled);
    }
    if arguments.all {
        section(" Terminated Jobs ", "No terminated jobs.", &JobStatus::is_globally_terminal);
    }
    text
}

/// `dd.MM.yyyy HH:mm:ss` in this machine's time zone.
pub(crate) fn local_time(millis: i64) -> String {
    let Some(time) = broken_down(millis.div_euclid(1000)) else { return format!("{millis} ms") };
    format!(
        "{:02}.{:02}.{:04} {:02}:{:02}:{:02}",
        time.tm_mday,
        time.tm_mon + 1,
        time.tm_year + 1900,
        time.tm_hour,
        time.tm_min,
        time.tm_sec
    )
}

/// The present as `yyyyMMdd-HHmmss` in this machine's time zone, for names of files.
pub(crate) fn local_stamp() -> String {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let Some(time) = i64::try_from(now).ok().and_then(broken_down) else { return now.to_string() };
    format!(
        "{:04}{:02}{:02}-{:02}{:02}{:02}",
        time.tm_year + 1900,
        time.tm_mon + 1,
        time.tm_mday,
        time.tm_hour,
        time.tm_min,
        time.tm_sec
    )
}

fn broken_down(seconds: libc::time_t) -> Option<libc::tm> {
    // SAFETY: all fields of `tm` may be zero.
    let mut time: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call; it writes only to `time`.
    let null = unsafe { libc::localtime_r(&raw const seconds, &raw mut time) }.is_null();
    (!null).then_some(time)
}

/// Cancels a job.
pub(crate) fn cancel(arguments: &CancelArguments) -> Result<ExitCode> {
    if let Some(directory) = &arguments.with_savepoint {
        return savepoints::cancel(arguments, directory.as_deref());
    }
    let job = savepoints::job_of(arguments.job.as_deref(), "cancel")?;
    let (configuration, _) = target::configuration(&arguments.cluster)?;
    console::print(format_args!("Cancelling job {job}."));
    runtime()?.block_on(async {
        let client = target::running_cluster(&arguments.cluster, &configuration).await?;
        request_cancel(&client, job).await
    })?;
    console::print(format_args!("Cancelled job {job}."));
    Ok(ExitCode::SUCCESS)
}

/// Asks for a job's end.
pub(crate) async fn request_cancel(client: &RestClient, job: JobId) -> Result<()> {
    let path = format!("/v1/jobs/{job}?mode=cancel");
    let answer = client.call(Method::PATCH, &path, &Content::None).await?;
    match answer.status {
        StatusCode::NOT_FOUND => bail!("job {job} is not known: `millstream list -a` shows all"),
        _ => answer.accepted(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use millstream_rest_types::testing::summary;

    use super::*;
    use crate::arguments::ClusterArguments;

    fn check(options: &str, states: &[JobStatus], expected: Expect) {
        let arguments = ListArguments {
            all: options.contains('a'),
            running: options.contains('r'),
            scheduled: options.contains('s'),
            cluster: ClusterArguments::default(),
        };
        let job = |(at, state): (usize, &JobStatus)| JobSummary {
            start_time: 1_000 - i64::try_from(at).unwrap(),
            ..summary(at as u128, *state)
        };
        let jobs = states.iter().enumerate().map(job).collect();
        expected.assert_eq(&render(&arguments, jobs, |millis| format!("[{millis}]")));
    }

    #[test]
    fn jobs_are_listed_as_flink_does() {
        use JobStatus::{Created, Finished, Restarting, Running};
        let states = [Running, Finished, Created, Restarting];
        check(
            "",
            &states,
            expect![[r#"
            ------------------ Running/Restarting Jobs -------------------
            [997] : 00000000000000000000000000000003 : job 3 (RESTARTING)
            [1000] : 00000000000000000000000000000000 : job 0 (RUNNING)
            --------------------------------------------------------------
            ----------------------- Scheduled Jobs -----------------------
            [998] : 00000000000000000000000000000002 : job 2 (CREATED)
            --------------------------------------------------------------
        "#]],
        );
        check(
            "r",
            &states,
            expect![[r#"
            ------------------ Running/Restarting Jobs -------------------
            [997] : 00000000000000000000000000000003 : job 3 (RESTARTING)
            [1000] : 00000000000000000000000000000000 : job 0 (RUNNING)
            --------------------------------------------------------------
        "#]],
        );
        check(
            "a",
            &states,
            expect![[r#"
            ------------------ Running/Restarting Jobs -------------------
            [997] : 00000000000000000000000000000003 : job 3 (RESTARTING)
            [1000] : 00000000000000000000000000000000 : job 0 (RUNNING)
            --------------------------------------------------------------
            ----------------------- Scheduled Jobs -----------------------
            [998] : 00000000000000000000000000000002 : job 2 (CREATED)
            --------------------------------------------------------------
            ---------------------- Terminated Jobs -----------------------
            [999] : 00000000000000000000000000000001 : job 1 (FINISHED)
            --------------------------------------------------------------
        "#]],
        );
        check(
            "",
            &[],
            expect![[r#"
            No running jobs.
            No scheduled jobs.
        "#]],
        );
        check(
            "a",
            &[],
            expect![[r#"
            No running jobs.
            No scheduled jobs.
            No terminated jobs.
        "#]],
        );
    }

    #[test]
    fn times_are_written_as_flink_writes_them() {
        let text = local_time(1_795_218_058_373);
        assert_eq!(text.len(), "21.11.2026 09:00:00".len());
        assert!(text.contains(".2026 "), "{text}");
    }
}
