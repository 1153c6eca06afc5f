//! The windows of a key that are kept each by itself, in order of their ends.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Range;

use millstream_types::State;
use millstream_types::schema::{Kind, SchemaBuilder};
use serde::{Deserialize, Serialize};

use crate::grid::Window;
use crate::trigger::Asked;

/// A window of a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OpenWindow<V, S> {
    /// The first millisecond.
    pub start: i64,
    /// The last millisecond, and the time of the results if the window is of event time.
    pub last: i64,
    /// Its records or their value; `None` when they have been purged.
    pub kept: Option<V>,
    /// The state of its trigger.
    pub state: S,
    /// The times that its trigger has asked for.
    pub times: Asked,
}

impl<V: State, S: State> State for OpenWindow<V, S> {
    fn schema(builder: &mut SchemaBuilder) -> Kind {
        builder.kind_of::<(i64, i64, Option<V>, S, (Vec<i64>, Vec<i64>))>()
    }
}

impl<V, S> OpenWindow<V, S> {
    /// Its bounds.
    #[must_use]
    pub const fn window(&self) -> Window {
        Window { start: self.start, end: self.last.saturating_add(1) }
    }

    /// Whether it asks for another time of its clock than its last one and the one at which it is
    /// forgotten.
    pub fn asks_others(&self, gone_at: impl Fn(i64) -> i64, is_processing: bool) -> bool {
        let asked = self.times.of(!is_processing);
        asked.iter().any(|time| *time != self.last && *time != gone_at(self.last))
    }
}

/// The windows of a key, in order of their last milliseconds and then of their first ones.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OpenWindows<V, S> {
    /// The windows.
    pub windows: VecDeque<OpenWindow<V, S>>,
    /// Whether one of them has ever asked for other times than its ends; see
    /// [`OpenWindow::asks_others`].
    pub asks_others: bool,
}

impl<V: State, S: State> State for OpenWindows<V, S> {
    fn schema(builder: &mut SchemaBuilder) -> Kind {
        builder.kind_of::<(VecDeque<OpenWindow<V, S>>, bool)>()
    }
}

impl<V, S> OpenWindows<V, S> {
    /// No window.
    #[must_use]
    pub const fn new() -> Self {
        Self { windows: VecDeque::new(), asks_others: false }
    }

    /// The place of the window with these bounds; the error is the place for it.
    ///
    /// # Errors
    /// There is none.
    pub fn place(&self, start: i64, last: i64) -> Result<usize, usize> {
        // Mostly the window is later than all others, or the last one.
        let key = (last, start);
        match self.windows.back().map(|back| (back.last, back.start).cmp(&key)) {
            None | Some(Ordering::Less) => Err(self.windows.len()),
            Some(Ordering::Equal) => Ok(self.windows.len() - 1),
            Some(Ordering::Greater) => {
                self.windows.binary_search_by_key(&key, |one| (one.last, one.start))
            }
        }
    }

    /// The places of the windows that one with these bounds touches, if no two of them touch each
    /// other; an empty range is the place for it.
    #[must_use]
    pub fn touched(&self, start: i64, last: i64) -> Range<usize> {
        let first = self.windows.partition_point(|other| other.last.saturating_add(1) < start);
        let touches = |other: &&OpenWindow<V, S>| other.start <= last.saturating_add(1);
        first..first + self.windows.range(first..).take_while(touches).count()
    }

    /// The places of the windows that may have asked for a time, of their clock or of another one:
    /// all, or those that end then or are forgotten then if none has asked for other times. A place
    /// may come twice.
    pub fn that_may_ask<F: Fn(i64) -> i64>(
        &self,
        time: i64,
        is_their_clock: bool,
        gone_at: F,
    ) -> impl Iterator<Item = usize> + use<V, S, F> {
        let (gone, ended) = if is_their_clock && !self.asks_others {
            (self.of_time(time, gone_at), self.of_time(time, |last| last))
        } else {
            (0..self.windows.len(), 0..0)
        };
        gone.chain(ended)
    }

    /// The places of the windows whose last millisecond `of` turns into this time; `of` keeps the
    /// order of times.
    fn of_time(&self, time: i64, of: impl Fn(i64) -> i64) -> Range<usize> {
        let first = self.windows.partition_point(|one| of(one.last) < time);
        let these = self.windows.range(first..).take_while(|one| of(one.last) == time);
        first..first + these.count()
    }
}

impl<V, S> Default for OpenWindows<V, S> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The windows with these bounds.
    fn windows(bounds: impl IntoIterator<Item = (i64, i64)>) -> OpenWindows<(), ()> {
        let mut all = OpenWindows::new();
        for (start, last) in bounds {
            if let Err(at) = all.place(start, last) {
                let window =
                    OpenWindow { start, last, kept: None, state: (), times: Asked::default() };
                all.windows.insert(at, window);
            }
        }
        all
    }

    fn of_those(all: &OpenWindows<(), ()>, is: impl Fn(i64, i64) -> bool) -> Vec<usize> {
        let places = (0..all.windows.len()).zip(&all.windows);
        places.filter(|(_, one)| is(one.start, one.last)).map(|(at, _)| at).collect()
    }

    proptest! {
        #[test]
        fn windows_are_found_as_a_look_at_each_finds_them(
            bounds in prop::collection::vec((-20..20_i64, 0..9_i64), 0..30),
            time in -20..30_i64,
            lateness in prop_oneof![0..9_i64, Just(i64::MAX)],
        ) {
            let all = windows(bounds.iter().map(|(start, length)| (*start, start + length)));
            let order: Vec<_> = all.windows.iter().map(|one| (one.last, one.start)).collect();
            prop_assert!(order.is_sorted_by(|one, next| one < next));
            for (start, length) in bounds {
                let found = all.place(start, start + length).map(|at| order[at]);
                prop_assert_eq!(found, Ok((start + length, start)));
            }
            let gone_at = |last: i64| last.saturating_add(lateness);
            let ended: Vec<_> = all.of_time(time, |last| last).collect();
            prop_assert_eq!(ended, of_those(&all, |_, last| last == time));
            for time in [time, i64::MAX] {
                let gone: Vec<_> = all.of_time(time, gone_at).collect();
                prop_assert_eq!(gone, of_those(&all, |_, last| gone_at(last) == time));
            }
        }

        #[test]
        fn windows_that_touch_are_found_as_a_look_at_each_finds_them(
            gaps in prop::collection::vec((2..6_i64, 0..5_i64), 0..12),
            start in -5..60_i64,
            length in 0..9_i64,
        ) {
            let mut end = 0;
            let bounds: Vec<_> = gaps
                .into_iter()
                .map(|(gap, length)| {
                    let start = end + gap;
                    end = start + length;
                    (start, end)
                })
                .collect();
            let (all, last) = (windows(bounds), start + length);
            let touches = |first: i64, end: i64| first <= last + 1 && start <= end + 1;
            let touched = all.touched(start, last);
            prop_assert_eq!(touched.clone().collect::<Vec<_>>(), of_those(&all, touches));
            if touched.is_empty() {
                prop_assert_eq!(all.place(start, last), Err(touched.start));
            }
        }
    }
}
