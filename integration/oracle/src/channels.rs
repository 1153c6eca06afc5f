//! The channels of an operator, some of which fall silent for a while.
//!
//! The watermark of the operator is the least of the channels that are not idle, or the largest of
//! all channels if each is idle. A channel is idle when no record has come on it for some time, and
//! is so until the next one.

use crate::{Input, Random, Record};

/// One thing that happens to an operator with several channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// A record comes on a channel, with the watermark that is right behind it, if one is.
    Record(usize, Record, Option<i64>),
    /// The clock goes on by so many milliseconds.
    Passed(u64),
}

/// Everything that happens to an operator with several channels. The end of all follows.
#[derive(Debug)]
pub struct Channels {
    /// The number of the channels.
    pub count: usize,
    /// A channel is idle after so many milliseconds without a record.
    pub idle_after: u64,
    /// Everything that happens, in order.
    pub happenings: Vec<Happening>,
}

impl Channels {
    /// The inputs of a case on two to five channels. For a while some of them have all records,
    /// then others; meanwhile the clock goes on, often so far that those without records are idle.
    pub fn random(inputs: &[Input], random: &mut Random) -> Self {
        let (count, idle_after) = (2 + random.below(4) as usize, 100);
        let passes = 2 + random.below(12);
        let changes = 5 + random.below(40);
        let mut speaking: Vec<usize> = (0..count).collect();
        let mut happenings = Vec::new();
        for input in inputs {
            match (input, happenings.last_mut()) {
                (Input::Watermark(at), Some(Happening::Record(_, _, watermark))) => {
                    *watermark = Some(*at);
                }
                (Input::Watermark(_), _) => {}
                (Input::Record(record), _) => {
                    if random.one_in(changes) {
                        let first = random.below(count as u64) as usize;
                        speaking = (0..count).filter(|_| random.one_in(3)).collect();
                        speaking.push(first);
                    }
                    if random.one_in(passes) {
                        happenings.push(Happening::Passed(random.below(idle_after)));
                    }
                    let at = random.below(speaking.len() as u64) as usize;
                    let channel = speaking.get(at).copied().unwrap_or_default();
                    happenings.push(Happening::Record(channel, *record, None));
                }
            }
        }
        happenings.push(Happening::Passed(random.below(2 * idle_after)));
        Self { count, idle_after, happenings }
    }

    /// The inputs of the operator, and how many of them have come when each thing has happened.
    #[must_use]
    pub fn inputs(&self) -> (Vec<Input>, Vec<usize>) {
        let silent = Channel { watermark: i64::MIN, silent_for: 0 };
        let mut channels = vec![silent; self.count];
        let (mut inputs, mut counts) = (Vec::new(), Vec::new());
        for happening in &self.happenings {
            match *happening {
                Happening::Record(channel, record, watermark) => {
                    inputs.push(Input::Record(record));
                    if let Some(channel) = channels.get_mut(channel) {
                        channel.silent_for = 0;
                        channel.watermark = channel.watermark.max(watermark.unwrap_or(i64::MIN));
                    }
                }
                Happening::Passed(millis) => {
                    for channel in &mut channels {
                        channel.silent_for += millis;
                    }
                }
            }
            inputs.extend(self.watermark(&channels).map(Input::Watermark));
            counts.push(inputs.len());
        }
        (inputs, counts)
    }

    /// The watermark of these channels, unless one that it waits for has none.
    fn watermark(&self, channels: &[Channel]) -> Option<i64> {
        let active = channels.iter().filter(|channel| channel.silent_for < self.idle_after);
        let least = active.map(|channel| channel.watermark).min();
        let largest = channels.iter().map(|channel| channel.watermark).max();
        least.or(largest).filter(|watermark| *watermark > i64::MIN)
    }
}

#[derive(Debug, Clone, Copy)]
struct Channel {
    /// The first of all times if there was none.
    watermark: i64,
    /// The time since the last record or the start, in milliseconds.
    silent_for: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The watermarks that the operator has after each thing that happens.
    fn watermarks(happenings: &[Happening]) -> Vec<Option<i64>> {
        let happenings = happenings.to_vec();
        let (inputs, counts) = Channels { count: 2, idle_after: 100, happenings }.inputs();
        let watermark = |count: &usize| match inputs.get(count - 1)? {
            Input::Watermark(watermark) => Some(*watermark),
            Input::Record(_) => None,
        };
        counts.iter().map(watermark).collect()
    }

    fn record(channel: usize, watermark: i64) -> Happening {
        Happening::Record(channel, Record { key: 0, value: 0, time: 0 }, Some(watermark))
    }

    #[test]
    fn the_channel_that_is_behind_decides_while_it_is_not_idle() {
        let happenings = [
            record(0, 50),
            record(1, 10),
            Happening::Passed(60),
            record(0, 70),
            Happening::Passed(39),
            Happening::Passed(1),
            record(1, 20),
        ];
        let expected = [None, Some(10), Some(10), Some(10), Some(10), Some(70), Some(20)];
        assert_eq!(watermarks(&happenings), expected);
    }

    #[test]
    fn when_all_are_idle_the_one_that_is_ahead_decides() {
        let happenings = [record(0, 50), Happening::Passed(60), Happening::Passed(60)];
        assert_eq!(watermarks(&happenings), [None, None, Some(50)]);
        let happenings = [record(0, 50), record(1, 10), Happening::Passed(200)];
        assert_eq!(watermarks(&happenings), [None, Some(10), Some(50)]);
    }
}
