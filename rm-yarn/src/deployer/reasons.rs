//! Turns YARN's diagnostics of an application into one sentence.

use crate::completion::{explain, without_java};
use crate::ids::ApplicationId;
use crate::proto::yarn::ApplicationReportProto;

/// Inserted by a restarted ResourceManager, without a blank, before later diagnostics.
const RECOVERED: &str = "Attempt recovered after RM restart";

/// YARN's diagnostics of an application, without the marks of YARN's own restart.
pub(super) fn said_by_yarn(report: &ApplicationReportProto) -> String {
    report.diagnostics().replace(RECOVERED, "").trim().to_owned()
}

/// Why an application is not running yet.
pub(super) fn waits_for(report: &ApplicationReportProto) -> String {
    let application = report.application_id.map(ApplicationId::from);
    let application = application.map_or_else(String::new, |id| id.to_string());
    let detail = &said_by_yarn(report);
    // The ResourceManager's own sentence, which names limits, without its time and its details.
    let detail = detail.lines().next_back().unwrap_or_default();
    let detail =
        detail.strip_prefix('[').and_then(|rest| rest.split_once("] ")).map_or(detail, |x| x.1);
    let ends = ["  Last Node", " Details :", "; Details"];
    let end = ends.iter().filter_map(|end| detail.find(end)).min().unwrap_or(detail.len());
    let detail = detail.get(..end).unwrap_or(detail).trim().trim_end_matches('.');
    let detail = match detail.is_empty() || detail == "N/A" {
        true => format!("queue {} has not given it a container yet", report.queue()),
        false => detail.to_owned(),
    };
    format!("waiting for {application}: {detail}")
}

/// A short reason why an application ended: the last words of its process if there are any, or else
/// YARN's.
pub(super) fn why_ended(report: &ApplicationReportProto) -> String {
    let text = &said_by_yarn(report);
    let id = report.application_id.map(ApplicationId::from);
    let hint = id.map(|id| format!("; `yarn logs -applicationId {id}` may tell more"));
    let hint = hint.unwrap_or_default();
    if text.is_empty() || text == "N/A" {
        return format!("YARN gives no reason{hint}");
    }
    if let Some(at) = text.find("changed on src filesystem") {
        let file = text.get(..at).unwrap_or_default().split_whitespace().next_back();
        let file = file.unwrap_or("a file").trim_matches([',', ':']);
        return format!("{file} changed after it was staged; deploy again");
    }
    // Before the process could start: the NodeManager says why.
    if text.contains("exitCode: -1000")
        && let Some((_, reason)) = text.split_once("Diagnostics: ")
    {
        let reason = reason.lines().next().unwrap_or_default();
        let reason = reason.split_once(']').map_or(reason, |(_, reason)| reason);
        return format!("a node could not fetch its files: {}{hint}", plain(reason));
    }
    let said = text.split_once("Last 4096 bytes of").map(|(_, said)| said);
    let last = said.and_then(|said| {
        let mut lines = said.lines().map(str::trim).rev();
        lines.find(|line| !line.is_empty() && !is_framing(line))
    });
    let code = text.split_once("exitCode: ").map(|(_, rest)| {
        rest.split(|c: char| c != '-' && !c.is_ascii_digit()).next().unwrap_or_default().to_owned()
    });
    match (last, code.as_deref()) {
        // The shell's own message does not name the cause.
        (_, Some("126")) => format!(
            "the node may not execute the engine: is its local directory mounted noexec?{hint}"
        ),
        (Some(last), _) => format!("{}{hint}", plain(last)),
        (None, Some(code)) if let Ok(status) = code.parse() => {
            format!("the JobManager's container: {}{hint}", explain(status, text).reason)
        }
        _ => format!("{}{hint}", plain(text.lines().next().unwrap_or_default())),
    }
}

/// A sentence of YARN's that ours can go on after.
fn plain(sentence: &str) -> String {
    without_java(sentence).trim_end_matches(['.', ',', ';', ':', ' ']).to_owned()
}

/// Whether YARN added this line around the output of a process.
fn is_framing(line: &str) -> bool {
    line.starts_with("For more detailed output")
        || line.starts_with(". Failing the application")
        || line.starts_with("Last 4096 bytes of")
        || line.ends_with(" :")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_explained_in_one_sentence() {
        let said = |diagnostics: &str| {
            waits_for(&ApplicationReportProto {
                diagnostics: Some(diagnostics.to_owned()),
                queue: Some("root.default".to_owned()),
                ..ApplicationReportProto::default()
            })
        };
        assert_eq!(
            said(
                "[Sat Nov 21 16:26:43 +0000 2026] Application is Activated, waiting for resources \
                 to be assigned for AM.  Last Node which was processed : localhost:1 ( x ). \
                 Details : AM Partition = <DEFAULT_PARTITION> ; Queue's capacity = 100.0 % ;"
            ),
            "waiting for : Application is Activated, waiting for resources to be assigned for AM"
        );
        assert!(said("N/A").ends_with("queue root.default has not given it a container yet"));
    }

    fn why(diagnostics: &str) -> String {
        let diagnostics = Some(diagnostics.to_owned());
        why_ended(&ApplicationReportProto { diagnostics, ..ApplicationReportProto::default() })
    }

    #[test]
    fn why_an_application_ended_is_one_sentence() {
        let launch = "Application application_1_0001 failed 1 times due to AM Container for \
            appattempt_1_0001_000001 exited with  exitCode: 1\nFailing this attempt.Diagnostics: \
            [2026-11-21 10:00:00.000]Exception from container-launch.\nContainer id: container_1\n\
            Exit code: 1\n\n[2026-11-21 10:00:00.001]Container exited with a non-zero exit code 1. \
            Error file: prelaunch.err.\nLast 4096 bytes of prelaunch.err :\n\
            Last 4096 bytes of jobmanager.stderr :\nthe port 8081 is taken\n\n\n\
            For more detailed output, check the application tracking page: http://rm";
        assert_eq!(why(launch), "the port 8081 is taken");
        let denied = launch.replace("exitCode: 1", "exitCode: 126");
        let denied = denied.replace("the port 8081 is taken", "./millstream: Permission denied");
        assert!(why(&denied).contains("noexec"), "{}", why(&denied));
        let changed = "Resource hdfs://nn:1/apps/job changed on src filesystem - expected: 1";
        assert_eq!(why(changed), "hdfs://nn:1/apps/job changed after it was staged; deploy again");
        let unfetched = "Application application_1_0001 failed 1 times due to AM Container exited \
            with  exitCode: -1000\nFailing this attempt.Diagnostics: [2026-11-21 16:23:44.258]No \
            space available in any of the local directories\nFor more detailed output, check";
        let expected = "a node could not fetch its files: No space available in any of the local \
                        directories";
        assert_eq!(why(unfetched), expected);
        let killed = "Application application_1_0001 failed 1 times due to AM Container for \
            appattempt_1_0001_000001 exited with  exitCode: 137\nFailing this attempt.";
        let expected = "the JobManager's container: killed by signal 9 (exit code 137)";
        assert_eq!(why(killed), expected);
        let exceeded = killed.replace("137", "-104").replace(
            "attempt.",
            "attempt.Diagnostics: [x]Container is running 7B beyond the 'PHYSICAL' memory limit. \
             Current usage: 1.2 GB of 1 GB physical memory used; 2 GB of 2.1 GB virtual memory \
             used. Killing container.",
        );
        let expected = "the JobManager's container: killed for exceeding its memory: 1.2 GB of 1 \
                        GB used";
        assert_eq!(why(&exceeded), expected);
        assert_eq!(why("Application killed by user"), "Application killed by user");
        let recovered = "Attempt recovered after RM restartAttempt recovered after RM restartdone";
        assert_eq!(why(recovered), "done");
        let glued = why("java.io.IOException: the queue is full. ");
        assert_eq!(glued, "the queue is full");
        assert_eq!(why(""), "YARN gives no reason");
    }
}
