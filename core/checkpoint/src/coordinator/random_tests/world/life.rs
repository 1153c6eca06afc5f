//! The world's steps: tasks live, messages arrive, committers work, faults happen.

use super::*;

impl World {
    pub(in super::super) fn step(&mut self) {
        if self.finished {
            return;
        }
        if self.completions > 0 {
            self.seen.one(simulation::STEPS);
        }
        match self.random.below(24) {
            0..=6 => self.deliver(),
            7..=12 => self.task_lives(),
            13 | 14 => self.time_passes(),
            15 | 16 => self.commits(),
            17 => self.host_changes(),
            18 if self.restarts => self.restart(),
            19 if self.random.one_in(4) => self.task_ends(),
            20 if self.random.one_in(3) => self.somebody_asks(),
            21 if self.random.one_in(30) => self.take_over(),
            22 if self.have_finished() => self.lose_finished(),
            22 if self.random.one_in(25) => self.finish_all(),
            23 if self.random.one_in(40) => self.late_task_runs(),
            _ => self.deliver(),
        }
    }

    fn deliver(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        let at = self.random.below(self.messages.len());
        let message = self.messages.remove(at);
        let may_be_lost = matches!(message, Event::Acknowledged { .. } | Event::Progress { .. });
        if may_be_lost && self.bad_luck(15) {
            return;
        }
        self.time.ms += 1;
        self.event(message);
    }

    fn time_passes(&mut self) {
        match self.coordinator.next_time() {
            Some(at) if self.calm || self.random.one_in(4) => {
                self.seen.one("late");
                self.time.advance_to(at);
            }
            Some(_) | None => self.time.ms += self.random.below(20) as u64,
        }
        self.event(Event::Tick);
    }

    /// Some task takes a barrier, hears of a completion, or says what it waits for.
    fn task_lives(&mut self) {
        let subtasks: Vec<Subtask> = self.tasks.keys().copied().collect();
        if subtasks.is_empty() {
            return;
        }
        let subtask = subtasks[self.random.below(subtasks.len())];
        let task = self.tasks.get_mut(&subtask).unwrap();
        let name = subtask.attempt(task.attempt);
        // Completions come on another way than barriers, and may overtake them.
        let is_complete = |order: &Order| matches!(order, Order::Complete(_));
        let complete = task.orders.iter().position(is_complete);
        let at = if self.random.one_in(2) { complete } else { None };
        match task.orders.remove(at.unwrap_or(0)) {
            Some(Order::Complete(id)) => {
                let carried = task.carried.remove(&id).unwrap_or_default();
                task.kept.retain(|key, _| !carried.contains(key));
                task.carried = task.carried.split_off(&id);
            }
            Some(Order::Barrier(id, base)) => self.take_barrier(subtask, id, base),
            None => {
                let few = self.messages.len() < 20 && !self.calm;
                if let Some(id) = self.oracle.tracked.keys().next().copied().filter(|_| few) {
                    let waits_for = WaitsFor::Upload;
                    self.send(Event::Progress { id, task: name, waits_for });
                }
            }
        }
    }

    fn take_barrier(&mut self, subtask: Subtask, id: CheckpointId, base: Option<CheckpointId>) {
        let mut files = Vec::new();
        let task = self.tasks.get_mut(&subtask).unwrap();
        let name = subtask.attempt(task.attempt);
        task.last_barrier = Some(id);
        if self.plan.vertices.last().is_some_and(|last| last.id == subtask.vertex) {
            let one = committables(name, id.get());
            task.kept.insert(key_of(&one), one);
        }
        task.carried.insert(id, task.kept.keys().copied().collect());
        let committables = task.kept.values().cloned().collect();
        if self.bad_luck(20) {
            self.seen.one("declined");
            let reason = "the disk is full".to_owned();
            return self.send(Event::Declined { id, task: name, reason });
        }
        // Files of the base may be used again, if it is there for this task still.
        if let Some(base) = base.and_then(|base| self.store.pointers.get(&base)) {
            let operator = operator_id(place_of(subtask.vertex));
            let stored = base.metadata.operators.iter().find(|one| one.id == operator);
            let part = stored.map(|one| &one.subtasks[subtask.index as usize]);
            let old = part.into_iter().flat_map(|part| part.files()).map(str::to_owned);
            files = old.filter(|_| self.random.one_in(2)).collect();
        }
        files.push(self.new_file());
        let snapshots = vec![snapshot(name, &files)];
        let ack = Ack { snapshots, committables, ..Ack::default() };
        self.send(Event::Acknowledged { id, task: name, ack: Box::new(ack) });
    }

    fn new_file(&mut self) -> String {
        self.next_file += 1;
        let file = format!("file-{}", self.next_file);
        self.store.files.insert(file.clone());
        file
    }

    /// A task finishes or fails.
    fn task_ends(&mut self) {
        let subtasks: Vec<Subtask> = self.tasks.keys().copied().collect();
        if subtasks.is_empty() || self.restarts {
            return;
        }
        let subtask = subtasks[self.random.below(subtasks.len())];
        // The last one ends seldom: little happens after that.
        if self.random.one_in(if subtasks.len() == 1 { 40 } else { 2 }) {
            return self.finish_task(subtask);
        }
        if self.bad_luck(3) {
            self.seen.one("task failed");
            let task = self.tasks.remove(&subtask).unwrap();
            self.send(Event::TaskFailed(subtask.attempt(task.attempt)));
            self.restarts = true;
            self.failed.insert(subtask);
        }
    }

    /// A part of the job is to run again although all have finished: what it made is lost.
    fn lose_finished(&mut self) {
        if !self.ended && !self.restarts && self.bad_luck(1) {
            self.seen.one("final restarted");
            self.restarts = true;
        }
    }

    /// The input ends: all tasks that run finish, one soon after the other.
    fn finish_all(&mut self) {
        if !self.restarts {
            let subtasks: Vec<Subtask> = self.tasks.keys().copied().collect();
            subtasks.into_iter().for_each(|subtask| self.finish_task(subtask));
        }
    }

    fn finish_task(&mut self, subtask: Subtask) {
        self.seen.one("task finished");
        let mut task = self.tasks.remove(&subtask).unwrap();
        let name = subtask.attempt(task.attempt);
        if self.plan.vertices.last().is_some_and(|last| last.id == subtask.vertex) {
            let last = task.last_barrier.map_or(0, CheckpointId::get).max(task.restored);
            let one = committables(name, last + 1);
            task.kept.insert(key_of(&one), one);
        }
        // None is needed, and some leave one.
        let leaves_state = self.random.one_in(2);
        let snapshots =
            if leaves_state { vec![snapshot(name, &[self.new_file()])] } else { vec![] };
        let report = FinalReport {
            last_barrier: task.last_barrier,
            snapshots,
            committables: task.kept.into_values().collect(),
        };
        self.send(Event::TaskFinished { task: name, report: Box::new(report) });
    }

    /// A message of an attempt that is over by now, or of the present one once more.
    fn late_task_runs(&mut self) {
        let subtasks: Vec<Subtask> = self.plan.subtasks().collect();
        let subtask = subtasks[self.random.below(subtasks.len())];
        let present = self.tasks.get(&subtask).map_or(self.attempt, |task| task.attempt);
        let attempt = u32::try_from(self.random.below(present as usize + 1)).unwrap();
        if attempt < present {
            self.send(Event::TaskRunning(subtask.attempt(attempt)));
        }
    }

    /// All tasks restart, or those that have failed with some others.
    fn restart(&mut self) {
        self.restarts = false;
        self.attempt += 1;
        let mut regions = std::mem::take(&mut self.failed);
        if !regions.is_empty() && !self.ended && self.random.one_in(2) {
            let others = self.plan.subtasks().filter(|_| self.random.one_in(4));
            regions.extend(others);
            self.tasks.retain(|subtask, _| !regions.contains(subtask));
            self.away.extend(regions.iter().copied());
            let tasks = regions.into_iter().collect();
            return self.event(Event::RegionsRestarting { tasks, attempt: self.attempt });
        }
        self.away.clear();
        self.tasks.clear();
        if self.oracle.tracked.values().any(|tracked| tracked.is_stored) {
            self.seen.one("restored in doubt");
        }
        self.event(Event::Restarting { attempt: self.attempt });
    }

    fn commits(&mut self) {
        if !self.host {
            return;
        }
        let Some((commit, committables)) = self.orders.pop_front() else { return };
        let keys = keys_of(&committables);
        assert!(keys.is_subset(&self.oracle.due), "results of no complete checkpoint appear");
        self.published.extend(keys);
        self.seen.one("committed");
        self.send(Event::Committed(commit));
    }

    fn host_changes(&mut self) {
        if !self.host {
            self.host = true;
            self.event(Event::CoordinatorHostReady);
        } else if self.bad_luck(8) {
            self.seen.one("host lost");
            self.lose_host();
            self.event(Event::CoordinatorHostLost);
        }
    }

    fn lose_host(&mut self) {
        self.host = false;
        self.orders.clear();
        let of_host = |event: &Event| {
            matches!(
                event,
                Event::Committed(_)
                    | Event::CoordinatorsSnapshot { .. }
                    | Event::CoordinatorsDeclined { .. }
            )
        };
        self.messages.retain(|event| !of_host(event));
    }

    fn somebody_asks(&mut self) {
        self.next_trigger += 1;
        let trigger = TriggerId::from_u128(self.next_trigger);
        let directory = format!("savepoint-{trigger}");
        let request = match self.random.below(12) {
            0 if self.random.one_in(4) => Request::Stop { directory, drain: self.random.one_in(2) },
            0..=5 => Request::Savepoint { directory },
            _ => Request::Checkpoint,
        };
        self.requests.insert(trigger);
        self.event(Event::Request { trigger, request: request.clone() });
        if self.requests.contains(&trigger) && self.random.one_in(3) {
            self.event(Event::Request { trigger, request });
        }
    }

    /// Another master takes over; all tasks end with the old one. It knows what is stored.
    fn take_over(&mut self) {
        self.seen.one("takeover");
        self.replaces = false;
        self.lose_host();
        let from_tasks = |event: &Event| {
            matches!(
                event,
                Event::TaskRunning(_)
                    | Event::TaskFinished { .. }
                    | Event::TaskFailed(_)
                    | Event::Acknowledged { .. }
                    | Event::Declined { .. }
                    | Event::Progress { .. }
            )
        };
        self.messages.retain(from_tasks);
        self.requests.clear();
        self.failed.clear();
        let completed: Vec<Completed> = self.store.pointers.values().cloned().collect();
        let newest = completed.last();
        let committables = newest.map_or(&[][..], |one| &one.metadata.committables);
        let carried = keys_of(committables);
        self.oracle.tracked.clear();
        self.oracle.orders.clear();
        self.oracle.told_files.clear();
        self.oracle.due.extend(carried.iter().copied());
        let lost = self.oracle.unconfirmed.iter().find(|key| !carried.contains(*key));
        assert_eq!(lost, None, "the newest checkpoint does not carry what is not confirmed");
        self.oracle.unconfirmed = carried;
        self.oracle.last_complete = newest.map_or(0, |one| one.id().get());
        self.oracle.last_triggered = self.oracle.last_reserved.min(self.store.counter);
        let has_ended = newest.is_some_and(|one| one.metadata.kind.is_last());
        self.ended = has_ended;
        let counter = (!self.faulty(Fault::ReusesIds)).then_some(id(self.store.counter));
        // An id whose counter is not stored was not told to anybody.
        self.oracle.last_reserved = self.store.counter;
        let known = Known { last_id: counter, completed, has_ended };
        self.coordinator = Coordinator::new(self.settings.clone(), self.plan.clone(), known);
        self.restart();
    }

    /// The faults are over: a checkpoint completes, everything is published, all are answered.
    pub(in super::super) fn recover(&mut self) {
        self.calm = true;
        let mut rounds = 0;
        let goal = self.completions + 2;
        while !self.finished && !self.is_settled(goal) {
            rounds += 1;
            assert!(rounds < 3_000, "nothing completes any more: {:?}", self.status());
            if self.restarts {
                self.restart();
            }
            if !self.host {
                self.host_changes();
            }
            if self.messages.is_empty() && self.tasks.values().all(|task| task.orders.is_empty()) {
                self.time_passes();
            }
            (0..4).for_each(|_| self.deliver());
            (0..4).for_each(|_| self.task_lives());
            self.commits();
        }
        self.seen.many("virtual seconds", self.time.ms / 1_000);
        assert_eq!(self.published, self.oracle.due, "results are lost");
        assert!(self.requests.is_empty(), "{:?} were not answered", self.requests);
        self.check_inventory();
    }

    /// No file is left that the present master knew of and nothing refers to.
    fn check_inventory(&mut self) {
        if !self.oracle.tracked.is_empty() || self.coordinator.retention.removals() > 0 {
            return;
        }
        self.seen.one("inventory");
        let pointers = self.store.pointers.values().map(|one| &one.metadata);
        let stored = pointers.chain(self.store.savepoints.values());
        let mut used: BTreeSet<&str> = stored.flat_map(|metadata| metadata.files()).collect();
        used.extend(self.oracle.files_in_flight().map(String::as_str));
        let known = self.oracle.told_files.intersection(&self.store.files);
        let left: Vec<_> = known.filter(|file| !used.contains(file.as_str())).collect();
        assert!(left.is_empty(), "{left:?} are left behind");
    }

    fn is_settled(&self, goal: u64) -> bool {
        if self.tasks.is_empty() {
            return false; // The final checkpoint is to come, or a restore.
        }
        let may_complete = !self.ended
            && (self.settings.after_tasks_finished || self.oracle.attempts.finished.is_empty());
        let completed = self.completions >= goal || !may_complete;
        let quiet = self.oracle.unconfirmed.is_empty() && self.requests.is_empty();
        completed && quiet && !self.ended && !self.restarts
    }

    fn status(&self) -> impl std::fmt::Debug {
        let failed = self.coordinator.report().latest_failed.map(|stats| stats.outcome.clone());
        (self.coordinator.status(self.time.now().instant), self.coordinator.next_time(), failed)
    }
}
