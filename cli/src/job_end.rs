//! Reports on a job that has ended: the cause of its failure, and the records missing in its
//! results.

use std::collections::BTreeMap;

use anyhow::Result;
use millstream_rest_types::jobs::{JobDetailsInfo, JobExceptionsInfoWithHistory};
use millstream_rest_types::metrics::AggregatedMetric;
use millstream_types::{CauseKind, Escaped, counters};

use crate::rest::RestClient;

/// Failures whose detail is the last output of the process.
const ENDS_OF_PROCESSES: [CauseKind; 5] =
    [CauseKind::Signal, CauseKind::Exit, CauseKind::Memory, CauseKind::Start, CauseKind::Stuck];
/// So many of those lines are shown.
const LINES_SHOWN_MAX: usize = 10;

/// The records that sources and functions have left out of a job's results; a line for each sort.
pub(crate) async fn left_out(client: &RestClient, details: &JobDetailsInfo) -> Vec<String> {
    let names = counters::LEFT_OUT.map(|(name, _)| name);
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for vertex in &details.vertices {
        let (job, vertex) = (details.jid, vertex.id);
        let path = format!("/v1/jobs/{job}/vertices/{vertex}/subtasks/metrics");
        let query = format!("{path}?get={}&agg=sum", names.join(","));
        // The job's end is known; a number that is not there changes nothing about it.
        let metrics: Result<Vec<AggregatedMetric>> = client.get(&query).await;
        for metric in metrics.unwrap_or_default() {
            let total = sums.entry(metric.id).or_default();
            *total = total.saturating_add(whole(metric.sum.unwrap_or(0.0)));
        }
    }
    counters::left_out(|name| sums.get(name).copied().unwrap_or(0)).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
const fn whole(number: f64) -> u64 {
    number as u64
}

/// The newest failure: what, in which task on which worker, and the last that a process wrote.
pub(crate) fn cause(exceptions: &JobExceptionsInfoWithHistory) -> String {
    let Some(newest) = exceptions.exception_history.entries.first() else {
        return "no cause is known; the JobManager's log may tell".to_owned();
    };
    let mut lines = newest.stacktrace.lines();
    let first = lines.next().unwrap_or_default();
    let kind = newest.exception_name.as_str();
    let sentence = first.strip_prefix(&format!("{kind}: ")).unwrap_or(first);
    let task = newest.task_name.as_deref().unwrap_or_default();
    let worker = newest.task_manager_id.as_deref().unwrap_or_default();
    let mut place = Vec::new();
    match task {
        "" => {}
        task if task.starts_with("one of ") => place.push(task.to_owned()),
        task => place.push(format!("task {task}")),
    }
    if !worker.is_empty() && !sentence.contains(worker) {
        place.push(format!("on TaskManager {worker}"));
    }
    let mut sentence = Escaped::line(sentence).to_string();
    if !place.is_empty() {
        sentence += &format!(" ({})", Escaped::line(&place.join(" ")));
    }
    if ENDS_OF_PROCESSES.iter().any(|it| it.as_str() == kind) {
        sentence += &last_lines(lines);
    }
    sentence
}

/// The end of a process's output, under a title.
fn last_lines<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    const TITLE: &str = "last lines of standard error:";
    let lines = lines.map(str::trim_end).filter(|line| !line.trim().is_empty());
    let lines: Vec<&str> = lines.filter(|line| line.trim() != TITLE).collect();
    let shown = lines.get(lines.len().saturating_sub(LINES_SHOWN_MAX)..).unwrap_or_default();
    if shown.is_empty() {
        return String::new();
    }
    let line = |line: &&str| format!("\n  {}", Escaped::line(line.trim_start_matches('\t')));
    format!("\n{TITLE}{}", shown.iter().map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use millstream_rest_types::jobs::RootExceptionInfo;
    use millstream_rest_types::testing::{exceptions, failure};

    use super::*;

    #[test]
    fn a_cause_is_one_sentence() {
        let trace = "UserPanic: map panicked at src/main.rs:7: boom\n\tat somewhere";
        let newest = failure("UserPanic", trace);
        let newest = RootExceptionInfo { task_name: Some("map (2/4)".to_owned()), ..newest };
        let older = failure("UserError", "UserError: older");
        let told = cause(&exceptions(vec![newest, older]));
        assert_eq!(told, "map panicked at src/main.rs:7: boom (task map (2/4))");
        assert!(cause(&exceptions(vec![])).starts_with("no cause is known"));
    }

    #[test]
    fn the_end_of_a_process_is_told_with_its_place_and_its_last_lines() {
        let said: String = (1..=12).map(|at| format!("\n\tline {at}")).collect();
        let trace = format!("HostKilled: signal SIGKILL ended the process{said}\u{1b}[2J");
        let told = cause(&exceptions(vec![RootExceptionInfo {
            task_name: Some("one of map (1/2), sink (1/2)".to_owned()),
            task_manager_id: Some("tm-1".to_owned()),
            ..failure("HostKilled", &trace)
        }]));
        let lines: Vec<&str> = told.lines().collect();
        let expected = "signal SIGKILL ended the process (one of map (1/2), sink (1/2) on \
                        TaskManager tm-1)";
        assert_eq!(lines[..2], [expected, "last lines of standard error:"]);
        assert_eq!((lines.len(), lines[2]), (12, "  line 3"));
        assert!(told.ends_with("  line 12\\u{1b}[2J"), "{told}");
    }
}
