//! A job as REST shows it.

use std::time::Duration;

use serde_json::Value;

use crate::rest::Rest;
use crate::wait::until;
use millstream_soak::scale;

/// Time limits for a job's next step in a test, in CI and in the long run.
const DEADLINES: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));

/// A submitted job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// Where its cluster answers.
    pub rest: Rest,
}

impl Job {
    /// `/jobs/:jobid`.
    ///
    /// # Panics
    /// The cluster does not know it.
    #[must_use]
    pub fn details(&self) -> Value {
        let answer = self.rest.get(&format!("/v1/jobs/{}", self.id));
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json
    }

    /// Its state by Flink's name.
    #[must_use]
    pub fn status(&self) -> String {
        self.details()["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until it is in a state.
    ///
    /// # Panics
    /// It is not, or it has ended in another.
    pub fn wait_for(&self, wanted: &str) {
        until(&format!("job {} is {wanted}", self.id), scale(DEADLINES.0, DEADLINES.1), || {
            let status = self.status();
            if status == wanted {
                return Some(());
            }
            let ended = ["FINISHED", "FAILED", "CANCELED"].contains(&status.as_str());
            assert!(!ended, "job {} is {status}, not {wanted}: {:?}", self.id, self.causes());
            None
        });
    }

    /// Waits until all its tasks run, or have run.
    ///
    /// # Panics
    /// They do not.
    pub fn wait_for_tasks(&self) {
        until(
            &format!("all tasks of job {} run", self.id),
            scale(DEADLINES.0, DEADLINES.1),
            || {
                let details = self.details();
                let vertices = details["vertices"].as_array()?;
                let count =
                    |vertex: &Value, state: &str| vertex["tasks"][state].as_u64().unwrap_or(0);
                let run = |vertex: &Value| {
                    let reached = count(vertex, "RUNNING") + count(vertex, "FINISHED");
                    Some(reached) == vertex["parallelism"].as_u64()
                };
                vertices.iter().all(run).then_some(())
            },
        );
    }

    /// The first lines of its failures, the newest first.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        let exceptions = self.rest.get(&format!("/v1/jobs/{}/exceptions", self.id)).json;
        let entries = exceptions.pointer("/exceptionHistory/entries").and_then(Value::as_array);
        let line = |entry: &Value| entry["stacktrace"].as_str()?.lines().next().map(str::to_owned);
        entries.into_iter().flatten().filter_map(line).collect()
    }

    /// Its vertices' names and ids.
    #[must_use]
    pub fn vertices(&self) -> Vec<(String, String)> {
        let details = self.details();
        let text =
            |vertex: &Value, field: &str| vertex[field].as_str().unwrap_or_default().to_owned();
        let vertices = details["vertices"].as_array().into_iter().flatten();
        vertices.map(|vertex| (text(vertex, "name"), text(vertex, "id"))).collect()
    }

    /// All subtasks, as `/jobs/:jobid/vertices/:vertexid` shows them.
    #[must_use]
    pub fn subtasks(&self) -> Vec<Value> {
        let of = |(_, id): (String, String)| {
            let answer = self.rest.get(&format!("/v1/jobs/{}/vertices/{id}", self.id));
            answer.json["subtasks"].as_array().cloned().unwrap_or_default()
        };
        self.vertices().into_iter().flat_map(of).collect()
    }

    /// The subtasks' attempts.
    #[must_use]
    pub fn attempts(&self) -> Vec<u64> {
        self.subtasks().iter().filter_map(|subtask| subtask["attempt"].as_u64()).collect()
    }
}
