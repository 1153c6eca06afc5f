//! The state of a job, read from its details.

use serde_json::Value;

/// The state of the job at one look.
pub(super) struct Status {
    /// Its name as Flink's.
    pub(super) state: String,
    /// Number of failures so far: each of them restarted tasks, or committers alone.
    pub(super) failures: u64,
    /// All tasks run at this moment.
    pub(super) all_run: bool,
    /// All tasks run or have run to their end.
    pub(super) all_ran: bool,
    /// Number of records that all tasks have emitted since the last restart.
    pub(super) emitted: u64,
}

impl Status {
    /// Reads the details of a job that has failed so often.
    pub(super) fn of(details: &Value, failures: usize) -> Self {
        let vertices = details["vertices"].as_array().map_or(&[][..], Vec::as_slice);
        let count = |vertex: &Value, path: &str| vertex.pointer(path).and_then(Value::as_u64);
        let tasks = |vertex: &Value, states: &[&str]| {
            let counts = states.iter().map(|state| count(vertex, &format!("/tasks/{state}")));
            Some(counts.flatten().sum()) == count(vertex, "/parallelism")
        };
        let all = |states: &[&str]| {
            !vertices.is_empty() && vertices.iter().all(|vertex| tasks(vertex, states))
        };
        let emitted = vertices.iter().map(|vertex| count(vertex, "/metrics/write-records"));
        Self {
            state: details["state"].as_str().unwrap_or_default().to_owned(),
            failures: failures as u64,
            all_run: all(&["RUNNING"]),
            all_ran: all(&["RUNNING", "FINISHED"]),
            emitted: emitted.flatten().sum(),
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.state == "FINISHED"
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(running: [u64; 2], finished: u64) -> Status {
        let vertex = |running: u64| {
            json!({"parallelism": 2, "tasks": {"RUNNING": running, "FINISHED": finished},
                "metrics": {"write-records": 10 * running}})
        };
        let vertices = running.map(vertex);
        Status::of(&json!({"state": "RUNNING", "vertices": vertices}), 3)
    }

    #[test]
    fn the_state_of_a_job_is_read_from_its_details() {
        let all = status([2, 2], 0);
        assert_eq!((all.state.as_str(), all.failures, all.emitted), ("RUNNING", 3, 40));
        assert!(all.all_run && all.all_ran && !all.is_finished());
        let some = status([2, 1], 0);
        assert!(!some.all_run && !some.all_ran);
        let ending = status([1, 1], 1);
        assert!(!ending.all_run && ending.all_ran);
        let nothing = Status::of(&json!({"state": "FINISHED"}), 0);
        assert!(!nothing.all_run && !nothing.all_ran && nothing.is_finished());
    }
}
