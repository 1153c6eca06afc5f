//! The world's store: it fails, it does not know, and it checks what is written and deleted.

use super::*;

impl World {
    pub(super) fn on_store(
        &mut self,
        id: CheckpointId,
        metadata: Arc<Metadata>,
        directory: Option<String>,
    ) {
        if metadata.kind == Kind::Final {
            self.oracle.on_final(id, self.plan.subtasks().count());
        }
        let mut stored = Metadata::clone(&metadata);
        if self.faulty(Fault::ForgetsAborted) {
            stored.committables.retain(|one| one.checkpoint == id);
        }
        self.oracle.on_store(id, &stored);
        assert_eq!(directory.is_some(), metadata.kind.is_savepoint());
        let bytes = metadata.encode().expect("it contradicts itself");
        assert_eq!(Metadata::decode("m", &bytes).as_ref(), Ok(&*metadata));
        match if self.bad_luck(1) { self.random.below(8) } else { 0 } {
            0..=4 => {
                self.point(metadata);
                self.send(Event::Stored(id));
            }
            5 => {
                self.seen.one("store failed");
                if metadata.kind == Kind::Final {
                    self.seen.one("final failed");
                }
                self.send(Event::StoreFailed { id, reason: "full".to_owned() });
            }
            other => {
                self.seen.one("unknown");
                if other == 6 {
                    self.point(metadata);
                }
                self.send(Event::StoreUnknown { id, reason: "away".to_owned() });
            }
        }
    }

    fn point(&mut self, metadata: Arc<Metadata>) {
        let (id, kind) = (metadata.checkpoint, metadata.kind);
        if kind.commits() {
            let owned = !kind.is_savepoint();
            self.store.pointers.insert(id, Completed { metadata, owned, directory: None });
        } else {
            self.store.savepoints.insert(id, metadata);
        }
    }

    pub(super) fn has_pointer(&self, id: CheckpointId) -> bool {
        self.store.pointers.contains_key(&id) || self.store.savepoints.contains_key(&id)
    }

    pub(super) fn on_read_back(&mut self, id: CheckpointId) {
        self.seen.one("read back");
        let reason = "not there".to_owned();
        let answer = if self.random.one_in(3) && !self.calm {
            Event::StoreUnknown { id, reason }
        } else if self.has_pointer(id) {
            Event::Stored(id)
        } else {
            Event::StoreFailed { id, reason }
        };
        self.send(answer);
    }

    pub(super) fn on_discard(&mut self, id: CheckpointId) {
        let newest = self.store.pointers.keys().next_back().copied();
        assert_ne!(newest, Some(id), "the newest checkpoint is removed");
        let is_owned = self.store.pointers.get(&id).is_none_or(|one| one.owned);
        assert!(is_owned, "{id} is the user's");
        let mut bases = self.oracle.tracked.values().filter_map(|tracked| tracked.base);
        assert!(bases.all(|base| base != id), "{id} is the base of a pending one");
        let luck = if self.calm { 0 } else { self.random.below(6) };
        if luck < 5 {
            self.store.pointers.remove(&id);
        }
        if luck < 4 {
            self.seen.one("discarded");
            self.send(Event::Discarded(id));
        } else {
            self.seen.one("not discarded");
            self.send(Event::NotDiscarded(id));
        }
    }

    pub(super) fn on_delete(&mut self, checkpoint: Option<CheckpointId>, mut files: Vec<String>) {
        let kept = |id| self.store.pointers.contains_key(&id);
        assert!(!checkpoint.is_some_and(kept), "metadata goes before its pointer");
        if self.faulty(Fault::DeletesLive)
            && let Some((_, newest)) = self.store.pointers.iter().next_back()
        {
            files.extend(newest.metadata.files().map(str::to_owned));
        }
        let in_flight: BTreeSet<&String> = self.oracle.files_in_flight().collect();
        for file in &files {
            assert!(!in_flight.contains(file), "{file} is deleted, and is in flight");
            let is_first = self.store.files.remove(file);
            assert!(is_first || self.oracle.late_files.contains(file), "{file} is deleted twice");
        }
        self.seen.one("deleted");
    }
}
