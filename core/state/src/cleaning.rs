//! Deletes expired entries, a few with each record, wherever they are.
//!
//! Records pay for looking at entries: each adds to a credit, each value that is looked at takes
//! from it. A long list or map is looked at as a whole and overdraws the credit, which many records
//! then pay back. A round through a table of `n` entries takes about `n / 4` records: if every
//! record adds a key, about a fifth of a large table has expired.

use std::fmt;

use millstream_types::{Key, State};

use crate::error::StateError;
use crate::expiry::{Expire, Expired};
use crate::keyed::{Table, VisitedAt};
use crate::store::{Live, Visited};

/// The number of values or empty places that each record has looked at.
const LOOKS_PER_RECORD: i64 = 8;

/// The most that is looked at after one batch, but for the list or map that comes last.
const CREDIT_MAX: i64 = 1 << 14;

/// The cleaning of one table.
pub(crate) struct Cleaning<V> {
    is_live: fn(&V, i64) -> bool,
    expire: fn(&mut V, i64) -> Expired,
    at: VisitedAt,
    credit: i64,
}

impl<V: Expire> Cleaning<V> {
    pub(crate) fn new() -> Self {
        Self { is_live: V::is_live, expire: V::expire, at: VisitedAt::default(), credit: 0 }
    }
}

impl<V: State> Cleaning<V> {
    /// Says what is live at a time.
    pub(crate) const fn live(&self, now: i64) -> Live<V> {
        (self.is_live, now)
    }

    /// Looks at as many entries as so many records pay for; at the end of the table it stops.
    pub(crate) fn clean<K: Key>(
        &mut self,
        table: &mut Table<K, V>,
        now: i64,
        records: usize,
    ) -> Result<(), StateError> {
        let records = i64::try_from(records).unwrap_or(CREDIT_MAX);
        let credit = self.credit.saturating_add(records.saturating_mul(LOOKS_PER_RECORD));
        self.credit = credit.min(CREDIT_MAX);
        let expire = self.expire;
        while self.credit > 0 {
            let mut looks = 0_i64;
            let visit = |value: &mut V| {
                let Expired { looked_at, left } = expire(value, now);
                looks = looks.saturating_add(i64::try_from(looked_at).unwrap_or(i64::MAX));
                match left {
                    0 => Visited::Gone,
                    left if left < looked_at => Visited::Changed,
                    _ => Visited::Unchanged,
                }
            };
            if !table.visit(&mut self.at, visit)? {
                self.credit = 0;
                break;
            }
            self.credit = self.credit.saturating_sub(looks.max(1));
        }
        Ok(())
    }
}

impl<V> fmt::Debug for Cleaning<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cleaning").field("credit", &self.credit).finish_non_exhaustive()
    }
}
