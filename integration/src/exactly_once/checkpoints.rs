//! The counts of a job's checkpoints, as REST tells them again and again.

use serde_json::Value;

/// Counts of completed checkpoints and of restores, gathered over all answers of
/// `/jobs/:jobid/checkpoints`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoints {
    /// Number of checkpoints that were complete.
    pub completed: u64,
    /// Number of restores from a checkpoint with a number above 0.
    pub restores: u64,
    /// The reason why none has completed so far, as the last answer says it.
    pub hindrance: Option<String>,
    /// `counts.restored` of the last answer.
    restored: u64,
}

impl Checkpoints {
    /// The counts of a job that starts from a savepoint, which is no restore.
    pub fn of_resumed() -> Self {
        Self { restored: 1, ..Self::default() }
    }

    /// Takes an answer in: its status and body. Any status but 200 says that the job takes no
    /// checkpoints.
    pub fn on_answer(&mut self, status: u16, body: &Value) {
        if status != 200 {
            let error = body.pointer("/errors/0").and_then(Value::as_str);
            self.hindrance = error.map(str::to_owned);
            return;
        }
        let number = |path: &str| body.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        self.completed = self.completed.max(number("/counts/completed"));
        let restored = number("/counts/restored");
        if number("/latest/restored/id") > 0 {
            self.restores += restored.saturating_sub(self.restored);
        }
        self.restored = restored;
        self.hindrance = match self.completed {
            0 => hindrance(body).or(self.hindrance.take()),
            _ => None,
        };
    }
}

/// The reason why no checkpoint completes: the last failure, the pending ones, and why none starts.
fn hindrance(body: &Value) -> Option<String> {
    let text = |path: &str| body.pointer(path).and_then(Value::as_str);
    let failed =
        text("/latest/failed/failure_message").map(|why| format!("the last failed: {why}"));
    let pending = body.pointer("/millstream/pending").and_then(Value::as_array);
    let pending = pending.into_iter().flatten().filter_map(|pending| {
        let (id, reason) = (pending["id"].as_u64()?, pending["waiting_for"].as_str()?);
        Some(format!("chk-{id} is pending: {reason}"))
    });
    let blocked = text("/millstream/blocked").map(|why| format!("none starts: {why}"));
    let reasons: Vec<String> = failed.into_iter().chain(pending).chain(blocked).collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(completed: u64, restored: u64, latest: &Value) -> Value {
        let counts = json!({"restored": restored, "total": 20, "in_progress": 1,
            "completed": completed, "failed": 0});
        json!({"counts": counts, "latest": {"restored": latest}})
    }

    fn restored(id: u64) -> Value {
        json!({"id": id, "restore_timestamp": 1, "is_savepoint": false, "external_path": "a"})
    }

    #[test]
    fn completed_checkpoints_and_restores_are_counted_as_they_come() {
        let mut checkpoints = Checkpoints::default();
        checkpoints.on_answer(200, &answer(4, 0, &Value::Null));
        checkpoints.on_answer(200, &answer(5, 1, &restored(4)));
        checkpoints.on_answer(200, &answer(5, 1, &restored(4)));
        checkpoints.on_answer(200, &answer(12, 3, &restored(11)));
        assert_eq!((checkpoints.completed, checkpoints.restores), (12, 3));
    }

    #[test]
    fn a_restore_from_nothing_is_no_restore() {
        let mut checkpoints = Checkpoints::default();
        checkpoints.on_answer(200, &answer(0, 1, &restored(0)));
        checkpoints.on_answer(200, &answer(0, 2, &Value::Null));
        assert_eq!(checkpoints.restores, 0);
        checkpoints.on_answer(200, &answer(3, 3, &restored(2)));
        assert_eq!(checkpoints.restores, 1);
    }

    #[test]
    fn a_job_without_checkpoints_has_none() {
        let mut checkpoints = Checkpoints::default();
        checkpoints.on_answer(404, &json!({"errors": ["Checkpointing is not enabled"]}));
        let hindrance = Some("Checkpointing is not enabled".to_owned());
        assert_eq!(checkpoints, Checkpoints { hindrance, ..Checkpoints::default() });
    }

    #[test]
    fn the_reason_why_none_completes_is_kept_until_one_does() {
        let mut checkpoints = Checkpoints::default();
        let mut body = answer(0, 0, &Value::Null);
        body["millstream"] = json!({"blocked": "1 of 1 checkpoints are pending",
            "pending": [{"id": 2, "waiting_for": "sums (1/2) waits for its barrier"}]});
        body["latest"]["failed"] = json!({"failure_message": "it took too long"});
        checkpoints.on_answer(200, &body);
        let reason = "the last failed: it took too long; chk-2 is pending: sums (1/2) waits for \
                      its barrier; none starts: 1 of 1 checkpoints are pending";
        assert_eq!(checkpoints.hindrance.as_deref(), Some(reason));
        checkpoints.on_answer(200, &answer(0, 0, &Value::Null));
        assert_eq!(checkpoints.hindrance.as_deref(), Some(reason));
        checkpoints.on_answer(200, &answer(1, 0, &Value::Null));
        assert_eq!(checkpoints.hindrance, None);
    }
}
