//! The panes of an operator's windows, and the windows that are complete.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use millstream_state::{
    ClosedPanes, Cursor, GroupTable, InSlices, KeyedSnapshot, OpenPanes, PaneEntries, PaneSlices,
    PartSink, RestoredLists, RestoredPanes, SliceBudget, StateError,
};
use millstream_types::{Key, MaxParallelism, State, Timestamp};

use crate::grid::{Grid, clamp};

/// The panes of which records have come, and the time that the watermark has reached.
#[derive(Debug)]
pub struct Panes<K, V> {
    /// The windows.
    pub grid: Grid,
    /// A window is kept for so many milliseconds after the watermark has reached its end.
    lateness: i128,
    groups: Range<u16>,
    max_parallelism: MaxParallelism,
    /// The panes of which no window is complete.
    pub open: OpenPanes<K, V>,
    /// The others.
    pub closed: ClosedPanes<K, V>,
    /// The first times of the closed panes.
    starts: BTreeSet<i64>,
    /// Below all times before the first watermark, above all when the input has ended.
    reached: i128,
    /// All windows up to this end have been fired.
    fired: i128,
    /// The snapshot that is being written.
    slices: Option<PaneSlices>,
}

/// The place of a record among the windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In a pane with these first and last times, of which no window is complete.
    Timely(i64, i64),
    /// In a pane with this first time, of which windows are complete and some are kept.
    Delayed(i64),
    /// Only in windows that are no longer kept.
    Late,
    /// In no window.
    Gap,
}

/// The windows of one end that are being fired.
#[derive(Debug)]
pub enum Firing<K, V> {
    /// Of one pane, which is in no window to come.
    Last {
        /// The end of the windows.
        end: i128,
        /// The values that are left.
        entries: PaneEntries<K, V>,
    },
    /// Of the closed panes.
    Walk(Walk<K, V>),
}

/// A walk over all keys of the closed panes.
#[derive(Debug)]
pub struct Walk<K, V> {
    /// The end of the windows that are fired; `None` if values are forgotten only.
    pub end: Option<i128>,
    /// The panes that are closed now.
    closing: Vec<(i64, GroupTable<K, V>)>,
    /// Panes before this time are forgotten.
    pub keep_from: i128,
    /// The key at hand.
    pub cursor: Cursor,
    /// The walk is within a group.
    is_inside: bool,
}

/// A snapshot begins between two firings: while windows are fired no barrier comes.
impl<K: Key, V: State + Clone> InSlices for Panes<K, V> {
    fn begin_slices(&mut self, sink: Option<&Arc<dyn PartSink>>) -> Result<(), StateError> {
        self.drop_slices();
        self.slices = Some(PaneSlices::begin(&mut self.open, &mut self.closed, sink));
        Ok(())
    }

    fn write_slice(
        &mut self,
        budget: &mut SliceBudget,
    ) -> Result<Option<KeyedSnapshot>, StateError> {
        let Some(slices) = &self.slices else { return Ok(None) };
        let written = slices.write(&mut self.open, &mut self.closed, budget);
        if !matches!(written, Ok(None)) {
            self.drop_slices();
        }
        written
    }

    fn drop_slices(&mut self) {
        if let Some(slices) = self.slices.take() {
            slices.end(&mut self.open, &mut self.closed);
        }
    }
}

impl<K: Key, V: Clone + 'static> Panes<K, V> {
    /// No pane yet, of these key groups of `max_parallelism`.
    #[must_use]
    pub fn new(
        grid: Grid,
        lateness: i128,
        groups: Range<u16>,
        max_parallelism: MaxParallelism,
    ) -> Self {
        Self {
            grid,
            lateness,
            open: OpenPanes::new(groups.clone(), max_parallelism),
            closed: ClosedPanes::new(groups.clone(), max_parallelism),
            groups,
            max_parallelism,
            starts: BTreeSet::new(),
            reached: i128::MIN,
            fired: i128::MIN,
            slices: None,
        }
    }

    /// The watermark.
    #[must_use]
    pub fn watermark(&self) -> Timestamp {
        Timestamp::from_millis(clamp(self.reached))
    }

    /// Begins with the values and the watermark of a checkpoint, whose windows up to there have
    /// been fired.
    ///
    /// # Errors
    /// They are those of other windows, or damaged.
    pub fn restore(
        &mut self,
        keyed: Vec<KeyedSnapshot>,
        mut lists: RestoredLists,
    ) -> Result<(), StateError>
    where
        V: State,
    {
        let watermark = lists.take_watermark()?;
        if watermark > Timestamp::MIN {
            self.reached = watermark.as_millis().into();
            self.fired = self.reached + 1;
        }
        let values = RestoredPanes::of::<K, V>(keyed, &self.groups, self.max_parallelism)?;
        values.each(|hash, key, first, value| {
            match self.standing(first) {
                Standing::Timely(begin, last) => {
                    self.open.put_back((begin, last), hash, key, value);
                }
                Standing::Delayed(_) => {
                    self.closed.put_back(first, hash, &key, value);
                    self.note_closed(first);
                }
                // It was kept to be forgotten with others.
                Standing::Late => {}
                Standing::Gap => return false,
            }
            self.grid.pane(first).0 == first
        })
    }

    /// The watermark has come so far.
    pub fn reach(&mut self, time: i128) {
        self.reached = self.reached.max(time);
    }

    /// Where a record of this time stands, unless it is in a pane that is open.
    #[must_use]
    pub fn standing(&self, time: i64) -> Standing {
        let (first, last) = self.grid.pane(time);
        let Some((first_end, last_end)) = self.grid.ends(time) else { return Standing::Gap };
        if first_end - 1 > self.reached {
            Standing::Timely(first, last)
        } else if self.is_over(last_end) {
            Standing::Late
        } else {
            Standing::Delayed(first)
        }
    }

    /// Whether a window is no longer kept.
    const fn is_over(&self, end: i128) -> bool {
        end - 1 + self.lateness <= self.reached
    }

    /// Notes that a closed pane has values.
    pub fn note_closed(&mut self, first: i64) {
        self.starts.insert(first);
    }

    /// The ends of the windows with this time which have been fired and are still kept.
    pub fn kept_ends(&self, time: i64) -> impl Iterator<Item = i128> + use<K, V> {
        let (slide, reached) = (self.grid.slide(), self.reached);
        // Windows up to this end are no longer kept.
        let over = self.reached.saturating_sub(self.lateness).saturating_add(1);
        let first = self.grid.end_after(time, over);
        let last = self.grid.ends(time).map(|(_, last)| last);
        let ends = std::iter::successors(first, move |end| Some(end + slide));
        ends.take_while(move |end| end - 1 <= reached && Some(*end) <= last)
    }

    /// The next windows that are complete, or values that are no longer kept.
    pub fn next_firing(&mut self) -> Option<Firing<K, V>> {
        let open_end = self.open.earliest().and_then(|at| self.grid.end_after(at, self.fired));
        // Panes before are in no window to come.
        let from = clamp(self.grid.begin(self.fired.max(i128::from(i64::MIN))));
        let mut closed = self.starts.range(from..);
        let closed_end = closed.find_map(|at| self.grid.end_after(*at, self.fired));
        let end = open_end.into_iter().chain(closed_end).min();
        if let Some(end) = end.filter(|end| end - 1 <= self.reached) {
            self.fired = end;
            return Some(self.fire(end));
        }
        self.fired = self.fired.max(self.reached.saturating_add(1));
        let is_over = |at: &i64| self.grid.ends(*at).is_none_or(|(_, last)| self.is_over(last));
        let walk = self.starts.first().is_some_and(is_over);
        walk.then(|| Firing::Walk(self.walk(None, Vec::new())))
    }

    fn fire(&mut self, end: i128) -> Firing<K, V> {
        let begin = clamp(self.grid.begin(end));
        let has_closed = self.starts.range(begin..).next().is_some_and(|at| i128::from(*at) < end);
        let mut panes = Vec::new();
        while let Some(pane) = self.open.take_earliest(end) {
            panes.push(pane);
        }
        if !has_closed && self.lateness == 0 && panes.len() == 1 {
            let is_last = |at: &i64| self.grid.ends(*at).is_none_or(|(_, last)| last == end);
            if let Some((_, values)) = panes.pop_if(|(first, _)| is_last(first)) {
                return Firing::Last { end, entries: values.into_entries() };
            }
        }
        self.starts.extend(panes.iter().map(|(first, _)| *first));
        let closed = &self.closed;
        let closing = panes.into_iter().map(|(at, values)| (at, closed.grouped(values))).collect();
        Firing::Walk(self.walk(Some(end), closing))
    }

    fn walk(&self, end: Option<i128>, closing: Vec<(i64, GroupTable<K, V>)>) -> Walk<K, V> {
        // Later panes are in later windows.
        let is_kept = |at: &&i64| {
            let last = self.grid.ends(**at).map(|(_, last)| last);
            last.is_some_and(|last| last > self.fired || !self.is_over(last))
        };
        let keep_from = self.starts.iter().find(is_kept).map_or(i128::MAX, |at| i128::from(*at));
        Walk { end, closing, keep_from, cursor: Cursor::default(), is_inside: false }
    }

    /// Goes on to the next key of a walk; `false` at its end.
    #[inline]
    pub fn walk_on(&mut self, walk: &mut Walk<K, V>) -> bool {
        loop {
            if !walk.is_inside {
                self.closed.take_in(walk.cursor, &mut walk.closing);
                walk.is_inside = true;
            }
            if self.closed.next_entry(&mut walk.cursor) {
                return true;
            }
            walk.is_inside = false;
            if !self.closed.next_group(&mut walk.cursor) {
                match i64::try_from(walk.keep_from) {
                    Ok(from) => self.starts = self.starts.split_off(&from),
                    Err(_) => self.starts.clear(),
                }
                return false;
            }
        }
    }
}
