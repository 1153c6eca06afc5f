//! Restarts of regions: their tasks begin again together, once, and when coordinators know of it.

use super::*;

impl World {
    pub(super) fn check_deployment(&mut self, deploy: &host::Deploy) {
        for task in &deploy.tasks {
            let name = (task.vertex.clone(), task.subtask, task.attempt);
            assert!(self.deployed_ever.insert(name), "{task:?} is deployed twice");
            let is_known = self.restarts_known.contains(&task.attempt);
            let is_told = self.restarts_told.contains(&task.attempt);
            assert!(is_known || !is_told, "coordinators do not know of {task:?}");
        }
    }

    /// Subtasks of one number begin again together, and nothing else does.
    pub(super) fn check_regions(&self, attempts: &[u32]) {
        assert!(
            self.has_regions,
            "all tasks are connected: {attempts:?} follow {:?}",
            self.attempts
        );
        let (old, new) = (&self.attempts, attempts);
        let parallelism = self.parallelism;
        for (at, other) in (0..new.len()).map(|at| (at, at % parallelism)) {
            assert_eq!((old[at], new[at]), (old[other], new[other]), "of one region");
            assert!(old[at] <= new[at], "{old:?} {new:?}");
        }
        let kept = self.takes_checkpoints || !self.coordinated;
        assert!(kept, "sources and sinks without checkpoints begin again alone");
    }
}
