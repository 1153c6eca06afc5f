//! The ends of channels in one process, each of the newest generation that was seen.

use std::collections::HashMap;

use crate::channel_id::{ChannelId, Generation};

/// Channel ends by channel. An end that is forgotten leaves its generation behind, so that frames
/// that are still on their way are known to be of the past; the number of entries is that of the
/// job's channels.
#[derive(Debug)]
pub(crate) struct Ends<T>(HashMap<u64, End<T>>);

#[derive(Debug)]
struct End<T> {
    generation: Generation,
    /// None once it was forgotten.
    end: Option<T>,
}

/// A channel in one of its generations, as far as it is known.
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

    pub(crate) fn contains(&self, channel: ChannelId) -> bool {
        self.0.contains_key(&channel.number())
    }

    pub(crate) fn find(&self, channel: ChannelId) -> Known<'_, T> {
        match self.0.get(&channel.number()) {
            None => Known::New,
            Some(known) if channel.generation > known.generation => Known::New,
            Some(known) if channel.generation < known.generation => Known::Past,
            Some(known) => known.end.as_ref().map_or(Known::Forgotten, Known::Here),
        }
    }

    /// Adds an end in place of an earlier one; not if this one is forgotten or of the past.
    pub(crate) fn insert(&mut self, channel: ChannelId, end: T) {
        if matches!(self.find(channel), Known::Here(_) | Known::New) {
            let end = End { generation: channel.generation, end: Some(end) };
            self.0.insert(channel.number(), end);
        }
    }

    /// Drops an end, unless a newer one is in its place.
    pub(crate) fn forget(&mut self, channel: ChannelId) {
        if let Some(known) = self.0.get_mut(&channel.number())
            && known.generation == channel.generation
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

    fn channel(epoch: u64, attempt: u32) -> ChannelId {
        let generation = Generation { epoch: LeaderEpoch::new(epoch), attempt };
        ChannelId { edge: 1, from: 2, to: 3, generation }
    }

    #[test]
    fn a_newer_generation_takes_the_place_of_an_older_one_and_never_the_reverse() {
        let mut ends = Ends::new();
        // A new leader may begin with attempts that the one before has used, and a subtask may be
        // elsewhere for many attempts.
        let generations = [(1, 3), (1, 4), (1, 40_005), (1, u32::MAX), (2, 0), (2, 4), (9, 1)];
        for pair in generations.windows(2) {
            let [older, newer] = [pair[0], pair[1]].map(|(epoch, number)| channel(epoch, number));
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
        let of = |attempt| channel(1, attempt);
        ends.insert(of(5), ());
        ends.forget(of(4));
        assert_eq!(ends.find(of(5)), Known::Here(&()));
        ends.forget(of(5));
        assert_eq!((ends.find(of(5)), ends.find(of(6))), (Known::Forgotten, Known::New));
        ends.insert(of(5), ());
        assert_eq!(ends.iter().count(), 0);
    }
}
