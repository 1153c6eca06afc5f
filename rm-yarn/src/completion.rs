//! Why containers end, in words: NodeManagers and the ResourceManager give a number and a text made
//! for themselves.

/// The cause of an end, for the choice of the next node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Neither: the cluster's owner or we ended the container on purpose.
    Nobody,
    /// The worker's, or the node's when it happens there again and again.
    Worker,
    /// The node's.
    Node,
}

/// An end explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// In one sentence.
    pub reason: String,
    /// The worker, the node, or neither.
    pub blame: Blame,
}

/// Limit on the length of a container's last output, in bytes.
const LAST_WORDS_MAX: usize = 400;
/// Limit on the number of its lines.
const LAST_LINES_MAX: usize = 3;

/// Explains an exit status of YARN.
#[must_use]
pub fn explain(status: i32, diagnostics: &str) -> Completion {
    let (reason, blame) = match status {
        -104 => (exceeded("memory", "physical", diagnostics), Blame::Worker),
        -103 => (
            format!(
                "{}: this limit is yarn.nodemanager.vmem-pmem-ratio times the container's \
                 memory, and yarn.nodemanager.vmem-check-enabled=false turns it off",
                exceeded("virtual memory", "virtual", diagnostics)
            ),
            Blame::Worker,
        ),
        -100 if diagnostics.contains("lost") => ("its node was lost".to_owned(), Blame::Nobody),
        -100 if diagnostics.contains("expired") => {
            ("its container was not started in time".to_owned(), Blame::Nobody)
        }
        -100 => (with_details("its container was given back", diagnostics), Blame::Nobody),
        -101 => ("the disks of its node are bad".to_owned(), Blame::Node),
        -102 => ("preempted: YARN needed its container for others".to_owned(), Blame::Nobody),
        -105 => ("stopped on our request".to_owned(), Blame::Nobody),
        -106 => (with_details("killed by the ResourceManager", diagnostics), Blame::Nobody),
        -107 => ("killed because its application has ended".to_owned(), Blame::Nobody),
        -108 => ("killed by its node to make room".to_owned(), Blame::Nobody),
        -109 => ("killed because its logs are too large".to_owned(), Blame::Worker),
        -1000 => (with_details("its container could not be set up", diagnostics), Blame::Worker),
        0 => ("it ended by itself (exit code 0)".to_owned(), Blame::Worker),
        // The NodeManager found it gone when it looked for the containers of its former self.
        154 => (
            "it has ended, and its NodeManager, which has restarted since, does not know how (exit \
             code 154)"
                .to_owned(),
            Blame::Worker,
        ),
        129..=192 => {
            let signal = status - 128;
            let what = format!("killed by signal {signal} (exit code {status})");
            (with_last_words(what, diagnostics), Blame::Worker)
        }
        1..=255 => (
            with_last_words(format!("it ended with exit code {status}"), diagnostics),
            Blame::Worker,
        ),
        _ => (with_details(&format!("ended with status {status}"), diagnostics), Blame::Worker),
    };
    Completion { reason, blame }
}

/// The figures of `… Current usage: 1.2 GB of 1 GB physical memory used; 3 GB of 2.1 GB virtual
/// memory used. Killing container.`
fn exceeded(what: &str, kind: &str, diagnostics: &str) -> String {
    let figures = || {
        let (_, usage) = diagnostics.split_once("Current usage: ")?;
        let (before, _) = usage.split_once(&format!(" {kind} memory used"))?;
        let figures = before.rsplit("; ").next()?;
        (figures.len() < 64).then_some(figures)
    };
    match figures() {
        Some(figures) => format!("killed for exceeding its {what}: {figures} used"),
        None => with_details(&format!("killed for exceeding its {what}"), diagnostics),
    }
}

/// Appends the container's own last output, if its node has read that.
fn with_last_words(what: String, diagnostics: &str) -> String {
    // Before the process could start, the launch script's own errors say why.
    let said = [".stderr :\n", "prelaunch.err :\n"].iter().find_map(|head| {
        let (_, said) = diagnostics.rsplit_once(head)?;
        let said = said.split("\n\n[").next().unwrap_or(said);
        let said = said.split("Last 4096 bytes of").next().unwrap_or(said);
        (!said.trim().is_empty()).then_some(said)
    });
    let Some(said) = said else { return what };
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(LAST_LINES_MAX)..).unwrap_or_default();
    match last.is_empty() {
        true => what,
        false => format!("{what}; it said: {}", shortened(&last.join(" / "))),
    }
}

fn with_details(what: &str, diagnostics: &str) -> String {
    let details = without_java(diagnostics);
    match details.is_empty() || details == "N/A" {
        true => what.to_owned(),
        false => format!("{what}: {}", shortened(&details)),
    }
}

/// The text on one line, without the leading names of Java classes.
pub(crate) fn without_java(text: &str) -> String {
    let is_class = |word: &&str| {
        let Some(name) = word.strip_suffix(':') else { return false };
        let mut parts = name.split('.');
        let last = parts.next_back().unwrap_or_default();
        last.starts_with(|c: char| c.is_ascii_uppercase())
            && name.split('.').count() > 2
            && parts.all(|part| part.starts_with(|c: char| c.is_ascii_lowercase()))
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._$".contains(&byte))
    };
    text.split_whitespace().filter(|word| !is_class(word)).collect::<Vec<_>>().join(" ")
}

/// The end of a text that is too long: that is where the reason stands.
fn shortened(text: &str) -> String {
    let cut = text.len().saturating_sub(LAST_WORDS_MAX);
    match (cut..text.len()).find(|at| text.is_char_boundary(*at)) {
        Some(at) if cut > 0 => format!("…{}", text.get(at..).unwrap_or_default()),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: &str = "[2026-01-01 00:00:00.000]Container [pid=1,containerID=container_1_1_01] \
        is running 7B beyond the 'PHYSICAL' memory limit. Current usage: 164.3 MB of 128 MB \
        physical memory used; 2.5 GB of 268.8 MB virtual memory used. Killing container.\nDump of \
        the process-tree for container_1_1_01_2 :\n";

    #[test]
    fn too_much_memory_says_how_much_of_how_much() {
        let killed = explain(-104, MEMORY);
        assert_eq!(killed.reason, "killed for exceeding its memory: 164.3 MB of 128 MB used");
        let killed = explain(-103, MEMORY).reason;
        let expected = "killed for exceeding its virtual memory: 2.5 GB of 268.8 MB used: this";
        assert!(killed.starts_with(expected), "{killed}");
        assert!(killed.contains("yarn.nodemanager.vmem-check-enabled"), "{killed}");
    }

    #[test]
    fn an_exit_repeats_what_the_worker_said_last() {
        let diagnostics = "[2026]Exception from container-launch.\nContainer id: c\nExit code: 3\n\
            \n[2026]Container exited with a non-zero exit code 3. Error file: prelaunch.err.\n\
            Last 4096 bytes of prelaunch.err :\nLast 4096 bytes of taskmanager.stderr :\na\nb\nc\nd\
            \n\n\n[2026]Container exited with a non-zero exit code 3. Error file: prelaunch.err.\n\
            Last 4096 bytes of prelaunch.err :\nLast 4096 bytes of taskmanager.stderr :\na\nb\nc\nd\
            \n\n\n";
        let ended = explain(3, diagnostics);
        assert_eq!(ended.reason, "it ended with exit code 3; it said: b / c / d");
        assert_eq!(explain(137, "").reason, "killed by signal 9 (exit code 137)");
    }

    #[test]
    fn what_kept_a_process_from_starting_is_repeated() {
        let diagnostics = "[2026]Exception from container-launch.\nExit code: 1\n\n\
            [2026]Container exited with a non-zero exit code 1. Error file: prelaunch.err.\n\
            Last 4096 bytes of prelaunch.err :\n/x/launch_container.sh: line 9: export: `A-B=c': not \
            a valid identifier\n\n\n[2026]Container exited with a non-zero exit code 1.\n";
        let reason = explain(1, diagnostics).reason;
        assert!(reason.ends_with("export: `A-B=c': not a valid identifier"), "{reason}");
    }

    #[test]
    fn an_end_that_no_node_manager_saw_is_not_called_a_restart() {
        let reason = explain(154, "").reason;
        assert!(reason.starts_with("it has ended, and its NodeManager"), "{reason}");
        assert!(reason.contains("does not know how (exit code 154)"), "{reason}");
    }

    #[test]
    fn java_is_left_out() {
        let text = "java.io.IOException: org.apache.hadoop.a.B$InvalidToken: x 1.2:3 caused by:\n\
                    org.apache.hadoop.yarn.exceptions.YarnRuntimeException: no: disk.Error left";
        assert_eq!(without_java(text), "x 1.2:3 caused by: no: disk.Error left");
    }

    #[test]
    fn every_status_has_a_blame_and_a_sentence() {
        let blamed = |status, diagnostics| explain(status, diagnostics).blame;
        for status in [-100, -102, -105, -106, -107, -108] {
            assert_eq!(blamed(status, ""), Blame::Nobody, "{status}");
        }
        for status in [-1000, -109, -104, -103, 0, 1, 137, 143, 154, 255, 4711, -4711] {
            assert_eq!(blamed(status, ""), Blame::Worker, "{status}");
        }
        assert_eq!(blamed(-101, ""), Blame::Node);
        assert_eq!(
            explain(-100, "Container released on a *lost* node").reason,
            "its node was lost"
        );
        let invalid = explain(-1000, "a\n\tb  c");
        assert_eq!(invalid.reason, "its container could not be set up: a b c");
    }

    #[test]
    fn long_and_foreign_texts_are_cut() {
        let text = "é".repeat(1000);
        let reason = explain(-1000, &text).reason;
        assert!(reason.len() < 2 * LAST_WORDS_MAX && reason.contains("…é"), "{reason}");
        for text in
            ["Current usage: ", "physical memory used", "Current usage: \n physical memory used"]
        {
            let reason = explain(-104, text).reason;
            assert!(reason.starts_with("killed for exceeding its memory"), "{reason}");
        }
    }
}
