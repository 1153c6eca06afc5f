//! The windows of a key that a record replaces by one, so that they come back if it is refused.

use std::collections::VecDeque;
use std::ops::Range;

/// Windows that stood side by side in a key's list, before one took their place or none.
#[derive(Debug)]
pub struct Replaced<W> {
    at: usize,
    windows: Vec<W>,
    /// The number of windows in the list.
    of: usize,
}

impl<W: Clone> Replaced<W> {
    /// Copies these windows of a list.
    #[must_use]
    pub fn of(list: Option<&VecDeque<W>>, range: Range<usize>) -> Self {
        let (at, of) = (range.start, list.map_or(0, VecDeque::len));
        let windows = list.map_or_else(Vec::new, |list| list.range(range).cloned().collect());
        Self { at, windows, of }
    }

    /// Puts them back in the place of what stands there now.
    pub fn put_back_in(self, list: &mut VecDeque<W>) {
        let new = (list.len() + self.windows.len()).saturating_sub(self.of);
        let end = (self.at + new).min(list.len());
        list.drain(self.at.min(end)..end);
        for (at, window) in (self.at..).zip(self.windows) {
            list.insert(at.min(list.len()), window);
        }
    }

    /// As [`Replaced::put_back_in`]; a list that becomes empty is forgotten.
    pub fn put_back(self, list: &mut Option<VecDeque<W>>) {
        let all = list.get_or_insert_default();
        self.put_back_in(all);
        if all.is_empty() {
            *list = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_come_back_whether_one_took_their_place_or_none() {
        let before = VecDeque::from([1, 2, 3, 4]);
        for range in [0..0, 1..1, 1..2, 1..3, 0..4, 4..4] {
            for new in [None, Some(9)] {
                let replaced = Replaced::of(Some(&before), range.clone());
                let mut list = before.clone();
                list.drain(range.clone());
                new.into_iter().for_each(|new| list.insert(range.start, new));
                let mut list = Some(list);
                replaced.put_back(&mut list);
                assert_eq!(list.as_ref(), Some(&before), "{range:?} by {new:?}");
            }
        }
        for mut list in [None, Some(VecDeque::new()), Some(VecDeque::from([9]))] {
            Replaced::of(None, 0..0).put_back(&mut list);
            assert_eq!(list, None);
        }
    }
}
