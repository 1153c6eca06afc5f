//! The barriers that must come of those of several channels, and the records before each.

use super::probe::Item;

/// A barrier that a channel has sent: the number of items of each output that come before it.
#[derive(Debug)]
struct Sent {
    checkpoint: u64,
    places: Vec<usize>,
}

/// The barriers of all channels, which grow in each.
#[derive(Debug)]
pub(super) struct Barriers {
    channels: Vec<Vec<Sent>>,
    has_ended: bool,
    /// Whether a channel was held back until others ended.
    held_to_the_end: bool,
}

impl Barriers {
    pub(super) fn of(channels: usize) -> Self {
        let channels = (0..channels).map(|_| Vec::new()).collect();
        Self { channels, has_ended: false, held_to_the_end: false }
    }

    /// A channel is to send a barrier behind so many items of each output; whether it may.
    pub(super) fn send(&mut self, channel: usize, checkpoint: u64, places: Vec<usize>) -> bool {
        let sent = &mut self.channels[channel];
        let grows = sent.last().is_none_or(|last| last.checkpoint < checkpoint);
        if grows {
            sent.push(Sent { checkpoint, places });
        }
        grows
    }

    /// All channels end.
    pub(super) fn end(&mut self) {
        self.held_to_the_end = self.hold();
        self.has_ended = true;
    }

    /// Whether every channel has this barrier, or has ended before it; `None` if one has left it
    /// out.
    fn is_complete(&self, checkpoint: u64) -> Option<bool> {
        let mut complete = true;
        for sent in &self.channels {
            if sent.iter().any(|sent| sent.checkpoint == checkpoint) {
                continue;
            }
            if sent.iter().any(|sent| sent.checkpoint > checkpoint) {
                return None;
            }
            complete &= self.has_ended;
        }
        Some(complete)
    }

    /// The checkpoint and the number of a channel's items behind which it is held back.
    fn held(&self, channel: usize, output: usize) -> Option<usize> {
        let sent = self.channels[channel].iter();
        let mut waits = sent.filter(|sent| self.is_complete(sent.checkpoint) == Some(false));
        waits.next().map(|sent| sent.places[output])
    }

    /// Whether a channel is held back, or was until there was no time for its watermarks.
    pub(super) fn hold(&self) -> bool {
        self.held_to_the_end
            || (0..self.channels.len()).any(|channel| self.held(channel, 0).is_some())
    }

    /// The number of a channel's `expected` items that an output may see.
    pub(super) fn allowed(&self, channel: usize, output: usize, expected: usize) -> usize {
        self.held(channel, output).unwrap_or(expected)
    }

    /// Checks the barriers that an output has seen, each of them with the numbers of items of each
    /// channel before it, of all that are `expected` there; if `all` is there, none may be missing.
    pub(super) fn check(
        &self,
        output: usize,
        expected: &[Vec<Vec<Item>>],
        seen: &[(u64, Vec<usize>)],
        all: bool,
    ) -> Result<(), String> {
        let sent = self.channels.iter().flatten().map(|sent| sent.checkpoint);
        let mut complete: Vec<u64> =
            sent.filter(|checkpoint| self.is_complete(*checkpoint) == Some(true)).collect();
        complete.sort_unstable();
        complete.dedup();
        let told: Vec<u64> = seen.iter().map(|(checkpoint, _)| *checkpoint).collect();
        let should = if all { &complete[..] } else { complete.get(..told.len()).unwrap_or(&[]) };
        if told != should {
            return Err(format!("output {output} saw the barriers {told:?}, not {should:?}"));
        }
        for (checkpoint, places) in seen {
            for (channel, place) in places.iter().enumerate() {
                let mut sent = self.channels[channel].iter();
                let cut = sent.find(|sent| sent.checkpoint == *checkpoint);
                // One without the barrier has ended before it.
                let all = expected[channel][output].len();
                let should = cut.map_or(all, |cut| cut.places[output]);
                if *place != should {
                    return Err(format!(
                        "output {output} saw {place} items of channel {channel} before the \
                         barrier {checkpoint}, not {should}"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The number of the checkpoint, if this is a barrier.
pub(super) const fn barrier(item: Item) -> Option<u64> {
    match item {
        Item::Event(1, checkpoint) => Some(checkpoint.cast_unsigned()),
        Item::Event(..) | Item::Record(_) | Item::Timed(..) => None,
    }
}
