//! The ends of channels in one process, each of the newest generation that was seen.

use std::collections::HashMap;

use crate::channel_id::{EndId, Generation};

/// Ends of channels: for each subtask and exchange that of all its channels. An end that is
/// forgotten leaves its generation behind, so that frames that are still on their way are known to
/// be of the past; the number of entries is that of the job's subtasks and exchanges.
#[derive(Debug)]
pub(crate) struct Ends<T>(HashMap<(u32, u32), End<T>>);

#[derive(Debug)]
struct End<T> {
    generation: Generation,
    /// None once it was forgotten.
    end: Option<T>,
}

/// An end in one of its generations, as far as it is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known<'a, T> {
    /// Its end is here.
    Here(&'a T),
    /// Its end was here and is forgotten.
    Forgotten,
    /// A newer generation is here, or was.
    Past,
    /// Nothing, or only generations before it.
    New,
}

impl<T> Ends<T> {
    pub(crate) fn new() -> Self {
        Self(HashMap::new())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn find(&self, id: EndId) -> Known<'_, T> {
        match self.0.get(&(id.edge, id.subtask)) {
            None => Known::New,
            Some(known) if id.generation > known.generation => Known::New,
            Some(known) if id.generation < known.generation => Known::Past,
            Some(known) => known.end.as_ref().map_or(Known::Forgotten, Known::Here),
        }
    }

    /// Adds an end in place of an earlier one; not if this one is forgotten or of the past.
    pub(crate) fn insert(&mut self, id: EndId, end: T) {
        if matches!(self.find(id), Known::Here(_) | Known::New) {
            let end = End { generation: id.generation, end: Some(end) };
            self.0.insert((id.edge, id.subtask), end);
        }
    }

    /// Drops an end, unless a newer one is in its place.
    pub(crate) fn forget(&mut self, id: EndId) {
        if let Some(known) = self.0.get_mut(&(id.edge, id.subtask))
            && known.generation == id.generation
        {
            known.end = None;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.values().filter_map(|known| known.end.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::LeaderEpoch;

    use super::*;

    fn end(epoch: u64, attempt: u32) -> EndId {
        let generation = Generation { epoch: LeaderEpoch::new(epoch), attempt };
        EndId { edge: 1, subtask: 2, generation }
    }

    #[test]
    fn a_newer_generation_takes_the_place_of_an_older_one_and_never_the_reverse() {
        let mut ends = Ends::new();
        // A new leader may begin with attempts that the one before has used, and a subtask may be
        // elsewhere for many attempts.
        let generations = [(1, 3), (1, 4), (1, 40_005), (1, u32::MAX), (2, 0), (2, 4), (9, 1)];
        for pair in generations.windows(2) {
            let [older, newer] = [pair[0], pair[1]].map(|(epoch, number)| end(epoch, number));
            ends.insert(older, pair[0]);
            assert_eq!(ends.find(older), Known::Here(&pair[0]));
            assert_eq!(ends.find(newer), Known::New);
            ends.insert(newer, pair[1]);
            ends.insert(older, pair[0]);
            assert_eq!(ends.find(older), Known::Past);
            assert_eq!(ends.find(newer), Known::Here(&pair[1]));
            assert_eq!(ends.len(), 1);
        }
    }

    #[test]
    fn an_end_that_was_forgotten_does_not_come_back() {
        let mut ends = Ends::new();
        let of = |attempt| end(1, attempt);
        ends.insert(of(5), ());
        ends.forget(of(4));
        assert_eq!(ends.find(of(5)), Known::Here(&()));
        ends.forget(of(5));
        assert_eq!((ends.find(of(5)), ends.find(of(6))), (Known::Forgotten, Known::New));
        ends.insert(of(5), ());
        assert_eq!(ends.iter().count(), 0);
    }
}
