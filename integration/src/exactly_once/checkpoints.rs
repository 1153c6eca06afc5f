//! The counts of a job's checkpoints, as REST tells them again and again.

use serde_json::Value;

/// Counts of completed checkpoints and of restores, gathered over all answers of
/// `/jobs/:jobid/checkpoints`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checkpoints {
    /// Number of checkpoints that were complete.
    pub completed: u64,
    /// Number of restores from a checkpoint with a number above 0.
    pub restores: u64,
    /// `counts.restored` of the last answer.
    restored: u64,
}

impl Checkpoints {
    /// Takes an answer in: its status and body. Any status but 200 says that the job takes no
    /// checkpoints.
    pub fn on_answer(&mut self, status: u16, body: &Value) {
        if status != 200 {
            return;
        }
        let number = |path: &str| body.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        self.completed = self.completed.max(number("/counts/completed"));
        let restored = number("/counts/restored");
        if number("/latest/restored/id") > 0 {
            self.restores += restored.saturating_sub(self.restored);
        }
        self.restored = restored;
    }
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
        assert_eq!(checkpoints, Checkpoints::default());
    }
}
