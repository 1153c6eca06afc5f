//! Composes the calls to the ResourceManager, and says what follows when one is refused.

use super::*;

impl ApplicationMaster {
    /// Composes the call that is due, if one is.
    pub(super) fn next_call(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.calling || self.phase == Phase::Ended || self.due().is_some_and(|due| due > now) {
            return;
        }
        let action = match (self.phase, &self.finish) {
            (Phase::Unregistered, _) => Action::Register(RegisterApplicationMasterRequestProto {
                host: Some(self.settings.host.clone()),
                rpc_port: Some(i32::from(self.settings.rest_port)),
                tracking_url: Some(self.settings.tracking_url.clone()),
            }),
            (Phase::Registered, Some(finish)) => Action::Finish(self.last_words(finish)),
            (Phase::Registered, None) => Action::Allocate(Box::new(self.heartbeat(now))),
            (Phase::Ended, _) => return,
        };
        self.calling = true;
        self.not_before = None;
        actions.push(action);
    }

    fn last_words(&self, finish: &Finish) -> FinishApplicationMasterRequestProto {
        let status = match finish.status {
            ClusterStatus::Succeeded => FinalApplicationStatusProto::AppSucceeded,
            ClusterStatus::Failed => FinalApplicationStatusProto::AppFailed,
            ClusterStatus::Cancelled => FinalApplicationStatusProto::AppKilled,
        };
        FinishApplicationMasterRequestProto {
            diagnostics: Some(finish.diagnostics.clone()),
            tracking_url: Some(self.settings.history_url.clone()),
            final_application_status: Some(status.into()),
        }
    }

    /// Everything that the ResourceManager has not been told.
    fn heartbeat(&mut self, now: Instant) -> AllocateRequestProto {
        self.last_call = Some(now);
        let mut told = Told::default();
        let mut ask = Vec::new();
        for (id, memory_mb) in std::mem::take(&mut self.withdrawn) {
            ask.push(self.row(id, memory_mb, 0));
            told.withdrawn.push((id, memory_mb));
        }
        for (id, request) in &mut self.requests {
            if !std::mem::replace(&mut request.asked, true) {
                told.asks.push(*id);
            }
        }
        for id in &told.asks {
            let memory_mb = self.requests.get(id).map_or(0, |request| request.memory_mb);
            ask.push(self.row(*id, memory_mb, 1));
        }
        if !told.asks.is_empty() {
            self.pause = PAUSE_SHORTEST;
        }
        for (id, known) in &mut self.released {
            if !std::mem::replace(known, true) {
                told.releases.push(*id);
            }
        }
        self.blacklist.refresh(now, self.nodes);
        let release = told.releases.iter().map(|id| (*id).into()).collect();
        self.told = told;
        AllocateRequestProto {
            ask,
            release,
            blacklist_request: self.blacklist.news(),
            response_id: Some(self.response_id),
            progress: Some(self.progress()),
            tracking_url: None,
        }
    }

    fn row(&self, id: RequestId, memory_mb: i64, count: i32) -> ResourceRequestProto {
        ResourceRequestProto {
            priority: Some(PriorityProto { priority: Some(PRIORITY) }),
            resource_name: Some("*".to_owned()),
            capability: Some(ResourceProto {
                memory: Some(memory_mb),
                virtual_cores: i32::try_from(self.settings.vcores).ok(),
                ..ResourceProto::default()
            }),
            num_containers: Some(count),
            node_label_expression: self.settings.node_label.clone(),
            allocation_request_id: Some(id.number().cast_signed()),
            ..ResourceRequestProto::default()
        }
    }

    /// Ratio of workers held to workers wanted, from 0 to 1.
    fn progress(&self) -> f32 {
        let (held, open) = (self.held.len(), self.requests.len());
        #[expect(clippy::cast_precision_loss, reason = "it is shown as a bar")]
        let (held, all) = (held as f32, (held + open).max(1) as f32);
        held / all
    }

    pub(super) fn on_refused(&mut self, now: Instant, refusal: Refusal, actions: &mut Vec<Action>) {
        let limit = match &refusal {
            Refusal::Token(_) => TOKEN_REFUSED_MAX,
            _ => REFUSED_MAX,
        };
        let since = *self.refused_since.get_or_insert(now);
        if now.duration_since(since) > limit {
            return self.fail(format!("YARN refuses every call: {}", refusal.text()), actions);
        }
        let told = std::mem::take(&mut self.told);
        match refusal {
            Refusal::NotRegistered => return self.resync(now),
            Refusal::AttemptOver(text) => {
                return self.fail(format!("YARN has ended this attempt: {text}"), actions);
            }
            Refusal::Silence(text) => {
                return self.fail(format!("the ResourceManager is gone: {text}"), actions);
            }
            Refusal::ResponseId(expected) => {
                self.wrong_ids += 1;
                if self.wrong_ids > WRONG_IDS_MAX {
                    let reason = format!("YARN expects message {expected} again and again");
                    return self.fail(reason, actions);
                }
                self.response_id = expected;
            }
            Refusal::Token(text) => {
                tracing::warn!(reason = text, "YARN refuses the token; the other one is tried");
                actions.push(Action::OtherToken);
                self.not_before = Some(now + RETRY_PAUSE);
            }
            Refusal::Ask(text) => {
                for request in told.asks.iter().filter(|id| self.requests.remove(id).is_some()) {
                    let (request, reason) = (*request, format!("YARN refuses it: {text}"));
                    actions.push(Action::Post(DriverEvent::RequestFailed { request, reason }));
                }
            }
            Refusal::Release(text) => {
                tracing::warn!(reason = text, "YARN refuses to take containers back");
                self.released.retain(|id, _| !told.releases.contains(id));
            }
            Refusal::Blacklist(text) => {
                tracing::warn!(reason = text, "YARN refuses to avoid nodes");
                self.blacklist.clear();
            }
            Refusal::AlreadyRegistered => self.phase = Phase::Registered,
            Refusal::Other(text) => {
                tracing::warn!(reason = text, "YARN refuses a call; it is repeated");
                self.not_before = Some(now + RETRY_PAUSE);
            }
        }
        self.tell_again(&told);
    }

    /// Marks the content of a refused call as unsaid, so that the next heartbeat repeats it.
    fn tell_again(&mut self, told: &Told) {
        for id in &told.asks {
            if let Some(request) = self.requests.get_mut(id) {
                request.asked = false;
            } else {
                // Withdrawn meanwhile, and never on the books.
                self.withdrawn.remove(id);
            }
        }
        self.withdrawn.extend(told.withdrawn.iter().copied());
        for id in &told.releases {
            self.released.entry(*id).and_modify(|told| *told = false);
        }
        self.blacklist.unheard();
    }

    /// The ResourceManager has forgotten us, as after its restart.
    pub(super) fn resync(&mut self, now: Instant) {
        tracing::info!("the ResourceManager has forgotten this attempt; registering again");
        self.phase = Phase::Unregistered;
        self.not_before = Some(now + PAUSE_SHORTEST);
        self.untold();
    }

    pub(super) fn fail(&mut self, reason: String, actions: &mut Vec<Action>) {
        self.phase = Phase::Ended;
        actions.push(match self.finish.take() {
            None => Action::Post(DriverEvent::Fatal { reason }),
            Some(_) => {
                tracing::warn!(reason, "YARN could not be told how the cluster ended");
                Action::End
            }
        });
    }

    pub(super) fn on_finished(
        &mut self,
        now: Instant,
        answer: Result<bool, IpcError>,
        actions: &mut Vec<Action>,
    ) {
        self.calling = false;
        match answer {
            Ok(true) => {
                self.phase = Phase::Ended;
                actions.push(Action::End);
            }
            Ok(false) => self.not_before = Some(now + FINISH_PAUSE),
            Err(error) => self.on_refused(now, Refusal::from(&error), actions),
        }
    }
}
