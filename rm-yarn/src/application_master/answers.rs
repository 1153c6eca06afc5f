//! Handles answers to heartbeats and outcomes of container starts.

use super::*;

impl ApplicationMaster {
    pub(super) fn on_allocated(
        &mut self,
        now: Instant,
        answer: AllocateResponseProto,
        actions: &mut Vec<Action>,
    ) {
        self.calling = false;
        self.response_id = answer.response_id();
        self.told = Told::default();
        self.wrong_ids = 0;
        self.refused_since = None;
        let command = answer.a_m_command.map(AmCommandProto::try_from);
        if let Some(token) = answer.am_rm_token {
            actions.push(Action::NewToken(token.into()));
        }
        take_node_tokens(answer.nm_tokens, actions);
        self.nodes = usize::try_from(answer.num_cluster_nodes.unwrap_or(1)).unwrap_or(1);
        let (before, allocated) = (self.requests.len(), answer.allocated_containers);
        for container in allocated {
            self.on_container(now, container, actions);
        }
        self.on_recovered(now, answer.containers_from_previous_attempts, actions);
        for status in answer.completed_container_statuses {
            self.on_completed(now, &status, actions);
        }
        for node in answer.updated_nodes {
            self.on_node(node, actions);
        }
        if let Some(message) = answer.preempt {
            self.on_preemption(message, actions);
        }
        let progress = before != self.requests.len();
        self.pace(progress, answer.limit.as_ref());
        self.explain_wait(now, progress, answer.limit.as_ref(), actions);
        match command {
            Some(Ok(AmCommandProto::AmResync)) => self.resync(now),
            Some(Ok(AmCommandProto::AmShutdown)) => {
                self.fail("YARN told this attempt to end".to_owned(), actions);
            }
            Some(Err(_)) | None => {}
        }
    }

    /// Asks again soon after progress, later after none, and as seldom as without any request when
    /// the queue has no room.
    fn pace(&mut self, progress: bool, headroom: Option<&ResourceProto>) {
        let smallest = self.requests.values().map(|request| request.memory_mb).min();
        let room = headroom.is_none_or(|it| smallest.is_none_or(|need| it.memory() >= need));
        let longest = match room {
            true => self.settings.pending_interval,
            false => self.settings.heartbeat_interval,
        };
        self.pause = match progress {
            true => PAUSE_SHORTEST,
            false => (self.pause * 2).min(longest),
        };
    }

    /// Says what keeps YARN from giving containers, as far as its answer tells.
    fn explain_wait(
        &mut self,
        now: Instant,
        progress: bool,
        headroom: Option<&ResourceProto>,
        actions: &mut Vec<Action>,
    ) {
        let Some(need) = self.requests.values().map(|request| request.memory_mb).min() else {
            (self.waits_since, self.wait_told) = (None, None);
            return;
        };
        if progress {
            (self.waits_since, self.wait_told) = (Some(now), None);
        }
        let since = *self.waits_since.get_or_insert(now);
        let told_lately = |told: Instant| now.duration_since(told) < EXPLAIN_INTERVAL;
        if now.duration_since(since) < EXPLAIN_AFTER || self.wait_told.is_some_and(told_lately) {
            return;
        }
        self.wait_told = Some(now);
        let left = headroom.map(ResourceProto::memory);
        let why = match (self.nodes, left, &self.settings.node_label) {
            (0, ..) => "no NodeManager is running".to_owned(),
            (_, Some(left), _) if left < need => {
                format!("the application's queue has {left} MB left for it")
            }
            (_, _, Some(label)) => format!("no node with the label {label} has that much free"),
            _ => "no node has that much free".to_owned(),
        };
        let vcores = self.settings.vcores;
        let (open, waited) = (self.requests.len(), now.duration_since(since).as_secs());
        let containers = if open == 1 { "a container" } else { "containers" };
        let reason = format!(
            "YARN has not given {containers} of {need} MB and {vcores} virtual cores for {waited} \
             s, {open} wanted: {why}"
        );
        actions.push(Action::Post(DriverEvent::Waiting { reason }));
    }

    fn on_container(&mut self, now: Instant, it: ContainerProto, actions: &mut Vec<Action>) {
        let id = ContainerId::from(&it.id.unwrap_or_default());
        if self.held.contains_key(&id) || self.released.contains_key(&id) {
            return;
        }
        let request = RequestId::new(it.allocation_request_id().cast_unsigned());
        let node = Node::from(it.node_id.unwrap_or_default());
        let Some(open) = self.requests.get_mut(&request) else {
            tracing::info!(container = %id, "given back: nobody waits for it");
            return self.give_back(id);
        };
        if self.blacklist.avoids(&node) {
            tracing::info!(container = %id, %node, "given back: its node is avoided");
            open.asked = false;
            return self.give_back(id);
        }
        let Some(token) = it.container_token.map(Token::from) else {
            open.asked = false;
            return self.give_back(id);
        };
        self.requests.remove(&request);
        self.blacklist.on_start(now, &node);
        self.held.insert(id, Held { node: node.clone(), since: now, draining: false });
        self.starting.insert(id, node.clone());
        actions.push(Action::Post(DriverEvent::Allocated { request, worker: worker(id) }));
        actions.push(Action::Start(Box::new(WorkerStart { container: id, node, token })));
    }

    pub(super) fn on_started(
        &mut self,
        now: Instant,
        container: ContainerId,
        outcome: Result<(), StartError>,
        actions: &mut Vec<Action>,
    ) {
        let Some(node) = self.starting.remove(&container) else { return };
        let held = self.held.contains_key(&container);
        match outcome {
            Ok(()) if !held => actions.push(Action::Stop { container, node }),
            Ok(()) => {}
            Err(error) => {
                if error.blames_node {
                    self.blacklist.on_failure(now, &node, false);
                }
                if held {
                    self.held.remove(&container);
                    self.give_back(container);
                    let (worker, reason) = (worker(container), error.reason);
                    actions.push(Action::Post(DriverEvent::Terminated { worker, reason }));
                }
            }
        }
    }

    fn on_completed(
        &mut self,
        now: Instant,
        status: &ContainerStatusProto,
        actions: &mut Vec<Action>,
    ) {
        let id = ContainerId::from(&status.container_id.unwrap_or_default());
        self.released.remove(&id);
        let Some(held) = self.held.remove(&id) else { return };
        let explained = completion::explain(status.exit_status(), status.diagnostics());
        let early = now.duration_since(held.since) < START_TIME;
        match explained.blame {
            Blame::Node => self.blacklist.on_failure(now, &held.node, true),
            Blame::Worker if early => self.blacklist.on_failure(now, &held.node, false),
            Blame::Worker | Blame::Nobody => {}
        }
        let reason = format!("container {id} on {}: {}", held.node, explained.reason);
        actions.push(Action::Post(DriverEvent::Terminated { worker: worker(id), reason }));
    }

    fn on_node(&mut self, report: NodeReportProto, actions: &mut Vec<Action>) {
        if report.node_state() != NodeStateProto::NsDecommissioning {
            return;
        }
        let time_left = report.decommissioning_timeout;
        let time_left = time_left.map(|seconds| Duration::from_secs(u64::from(seconds)));
        let node = Node::from(report.node_id.unwrap_or_default());
        let on_it: Vec<ContainerId> =
            self.held.iter().filter(|(_, held)| held.node == node).map(|(id, _)| *id).collect();
        for container in on_it {
            let reason = format!("its node {node} is being decommissioned");
            self.drain(container, reason, time_left, actions);
        }
    }

    fn on_preemption(&mut self, message: PreemptionMessageProto, actions: &mut Vec<Action>) {
        let strict = message.strict_contract.unwrap_or_default().container;
        let negotiable = message.contract.unwrap_or_default().container;
        for container in strict.into_iter().chain(negotiable) {
            let id = ContainerId::from(&container.id.unwrap_or_default());
            let reason = "YARN needs its container for others and will preempt it".to_owned();
            self.drain(id, reason, None, actions);
        }
    }

    fn drain(
        &mut self,
        container: ContainerId,
        reason: String,
        time_left: Option<Duration>,
        actions: &mut Vec<Action>,
    ) {
        let Some(held) = self.held.get_mut(&container) else { return };
        if !std::mem::replace(&mut held.draining, true) {
            let worker = worker(container);
            actions.push(Action::Post(DriverEvent::Draining { worker, reason, time_left }));
        }
    }
}
