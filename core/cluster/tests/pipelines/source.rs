//! Sources of numbers, some at a time, by a clock that the world moves.

use std::ops::Range;
use std::time::Duration;

use millstream_api::{
    Boundedness, NextSplit, NoEnumerator, Polled, ReaderContext, ReaderOutput, Result, Source,
    SourceReader, SplitEnumerator,
};
use millstream_types::Clock;
use serde::{Deserialize, Serialize};

/// The splits of a source that has no enumerator: each has every eighth number.
const SPLITS: u64 = 8;

/// The numbers of a split in an enumerator's hands.
const CHUNK: u64 = 40;

/// The numbers `next`, `next + step` and so on below `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    next: u64,
    step: u64,
    end: u64,
}

/// The pace of each reader.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Numbers of one poll.
    pub per_poll: usize,
    /// The time between two polls that have some.
    pub pause: Duration,
    pub clock: Clock,
}

/// The numbers below a count in splits that are known from the start.
pub struct Listed(pub u64, pub Pace);

impl Source for Listed {
    type Out = u64;
    type Split = Split;
    type Reader = Reader;
    type Enumerator = NoEnumerator<Split>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn splits(&self) -> Result<Vec<Split>> {
        Ok((0..SPLITS).map(|next| Split { next, step: SPLITS, end: self.0 }).collect())
    }

    fn reader(&self, _ctx: &ReaderContext) -> Result<Reader> {
        Ok(Reader { splits: Vec::new(), pace: self.1.clone(), rests: false })
    }
}

/// The numbers of a range in splits that an enumerator finds one after the other, and which may
/// restart alone.
pub struct Handed<const ALONE: bool>(pub Range<u64>, pub Pace);

impl<const ALONE: bool> Source for Handed<ALONE> {
    type Out = u64;
    type Split = Split;
    type Reader = Reader;
    type Enumerator = Chunks<ALONE>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn reader(&self, _ctx: &ReaderContext) -> Result<Reader> {
        Ok(Reader { splits: Vec::new(), pace: self.1.clone(), rests: false })
    }

    fn enumerator(&self, restored: Option<Found>) -> Result<Chunks<ALONE>> {
        let Range { start, end } = self.0;
        let first = Found { known: start, handed: start, returned: Vec::new() };
        Ok(Chunks { end, found: restored.unwrap_or(first) })
    }
}

/// The part of an enumerator that checkpoints keep.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Found {
    /// Splits that begin below this number are known.
    known: u64,
    /// Splits that begin below this number are handed out.
    handed: u64,
    returned: Vec<Split>,
}

pub struct Chunks<const ALONE: bool> {
    /// The number behind the last one.
    end: u64,
    found: Found,
}

impl<const ALONE: bool> Chunks<ALONE> {
    /// The next numbers.
    fn cut(&mut self) -> Split {
        let next = self.found.handed;
        self.found.handed = (next + CHUNK).min(self.end);
        Split { next, step: 1, end: self.found.handed }
    }
}

impl<const ALONE: bool> SplitEnumerator for Chunks<ALONE> {
    type Split = Split;
    type State = Found;
    const RESTARTS_ALONE: bool = ALONE;

    fn discover(&mut self) -> Result<Option<Duration>> {
        self.found.known = (self.found.known + 5 * CHUNK).min(self.end);
        Ok((self.found.known < self.end).then_some(Duration::from_millis(6)))
    }

    fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<Split>> {
        if let Some(split) = self.found.returned.pop() {
            return Ok(NextSplit::Split(split));
        }
        if self.found.handed >= self.found.known {
            let is_all = self.found.known == self.end;
            return Ok(if is_all { NextSplit::NoMore } else { NextSplit::Later });
        }
        Ok(NextSplit::Split(self.cut()))
    }

    fn give_back(&mut self, _subtask: u32, splits: Vec<Split>) -> Result<()> {
        self.found.returned.extend(splits);
        Ok(())
    }

    /// Splits between them may have been given back and not handed out again.
    fn was_handed_out(&mut self, splits: Vec<(u32, Split)>) -> Result<()> {
        for (_, split) in splits {
            while self.found.handed < split.end {
                let between = self.cut();
                self.found.returned.push(between);
            }
            self.found.returned.retain(|returned| returned.end != split.end);
        }
        self.found.known = self.found.known.max(self.found.handed);
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Found> {
        Ok(self.found.clone())
    }
}

/// Reads the split with the least number first.
pub struct Reader {
    splits: Vec<Split>,
    pace: Pace,
    /// The last poll had numbers.
    rests: bool,
}

impl SourceReader for Reader {
    type Out = u64;
    type Split = Split;

    fn add_splits(&mut self, splits: Vec<Split>) -> Result<()> {
        self.splits.extend(splits);
        Ok(())
    }

    fn poll(&mut self, out: &mut ReaderOutput<'_, u64>) -> Result<Polled> {
        if std::mem::take(&mut self.rests) && !self.pace.pause.is_zero() {
            return Ok(Polled::Pending(Some(self.pace.clock.now() + self.pace.pause)));
        }
        for _ in 0..self.pace.per_poll {
            let splits = self.splits.iter_mut().filter(|split| split.next < split.end);
            let Some(split) = splits.min_by_key(|split| split.next) else { break };
            out.push(split.next)?;
            split.next += split.step;
        }
        self.splits.retain(|split| split.next < split.end);
        self.rests = !out.is_empty();
        Ok(if out.is_empty() { Polled::NeedSplit } else { Polled::Ready })
    }

    fn snapshot(&mut self) -> Result<Vec<Split>> {
        Ok(self.splits.clone())
    }
}
