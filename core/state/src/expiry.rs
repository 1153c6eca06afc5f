//! Time-to-live: values that expire so long after they were written or read.
//!
//! Handles are made for states without expiry ([`NoTtl`]) and with it ([`Ttl`]) from one text:
//! [`Keeps`] says in which form a state keeps a value, and does nothing for [`NoTtl`]. With a
//! [`Ttl`] the time at which the value expires stands beside it ([`Expiring`]).

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use millstream_types::schema::{Kind, SchemaBuilder};
use millstream_types::{Clock, Key, State};
use serde::{Deserialize, Serialize};

use crate::error::StateError;
use crate::keyed::Table;

/// The time for which a state keeps a value: its time-to-live.
///
/// Time is that of the wall clock. An expired value is never returned. It is deleted when its key
/// is next changed or when cleaning comes by: each record has a few entries looked at, wherever
/// they are. In a list each element expires on its own, in a map each entry.
///
/// ```
/// # use std::time::Duration;
/// # use millstream_state::*;
/// # use millstream_types::{Key, ManualClock, MaxParallelism};
/// # let clock = ManualClock::new();
/// # let mut states = KeyedBackend::<u32>::new(0..128, MaxParallelism::DEFAULT);
/// # states.set_clock(clock.clock());
/// let hour = Ttl::after(Duration::from_secs(3600));
/// let seen: ValueState<u64, Ttl> = states.with_ttl(hour).value("seen")?;
/// # let ctx = &mut states;
/// # ctx.set_key(7, 7u32.stable_hash())?;
/// // In a keyed function, for the key of the record at hand:
/// seen.set(ctx, 1)?;
/// assert_eq!(seen.get(ctx)?, Some(&1));
/// # clock.advance(Duration::from_secs(3600));
/// // An hour later:
/// assert_eq!(seen.get(ctx)?, None);
/// # Ok::<(), StateError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl {
    after_ms: i64,
    renewed: Renewed,
}

/// The uses of a value after which its time-to-live starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewed {
    Never,
    OnWrite,
    OnReadAndWrite,
}

impl Ttl {
    /// A value expires so long after it was last written; `after` is rounded up to milliseconds
    /// and is at least one.
    #[must_use]
    pub fn after(after: Duration) -> Self {
        let after_ms = after.as_nanos().div_ceil(1_000_000).max(1);
        let after_ms = i64::try_from(after_ms).unwrap_or(i64::MAX);
        Self { after_ms, renewed: Renewed::OnWrite }
    }

    /// A value expires so long after it was first written: while it is there, writing it again does
    /// not prolong its life.
    #[must_use]
    pub const fn on_creation(self) -> Self {
        Self { renewed: Renewed::Never, ..self }
    }

    /// A value expires so long after it was last read or written. Reading then costs a write.
    #[must_use]
    pub const fn on_read_and_write(self) -> Self {
        Self { renewed: Renewed::OnReadAndWrite, ..self }
    }

    const fn until(self, now: i64) -> i64 {
        now.saturating_add(self.after_ms)
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renewed = match self.renewed {
            Renewed::Never => "creation",
            Renewed::OnWrite => "the last write",
            Renewed::OnReadAndWrite => "the last read or write",
        };
        write!(f, "expires {} ms after {renewed}", self.after_ms)
    }
}

/// The values of a state never expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoTtl;

/// Whether the values of a state expire: [`NoTtl`] or a [`Ttl`].
pub trait Expiry: Keeps {}

impl Expiry for NoTtl {}

impl Expiry for Ttl {}

/// The form in which a state keeps values; see [`Expiry`].
pub trait Keeps: Copy + fmt::Debug + Send + Sync + 'static {
    /// A value as it is kept.
    type Kept<V: State>: State;

    /// The time, if it matters.
    type Now: Copy;

    /// The time.
    fn now(ages: &Ages) -> Self::Now;

    /// A value to keep, in the place of the one that `before` finds.
    ///
    /// # Errors
    /// Those of `before`.
    fn keep<'a, V: State, E>(
        self,
        value: V,
        now: Self::Now,
        before: impl FnOnce() -> Result<Option<&'a Self::Kept<V>>, E>,
    ) -> Result<Self::Kept<V>, E>;

    /// Elements to keep, none of which takes the place of another.
    fn keep_all<V: State>(self, values: Vec<V>, now: Self::Now) -> Vec<Self::Kept<V>>;

    /// The value, unless it has expired.
    fn live<V: State>(kept: &Self::Kept<V>, now: Self::Now) -> Option<&V>;

    /// The value, unless it has expired.
    fn into_live<V: State>(kept: Self::Kept<V>, now: Self::Now) -> Option<V>;

    /// The elements that have not expired.
    fn all_live<V: State>(kept: Vec<Self::Kept<V>>, now: Self::Now) -> Vec<V>;

    /// The value, which is written now. It must not have expired.
    fn write<V: State>(self, kept: &mut Self::Kept<V>, now: Self::Now) -> &mut V;

    /// The value of a key to write, made by `vacant` if there is none that has not expired.
    ///
    /// # Errors
    /// The store fails.
    fn get_or_insert_with<'a, K: Key, V: State>(
        self,
        table: &'a mut Table<K, Self::Kept<V>>,
        at: (u64, &K),
        vacant: impl FnOnce() -> V,
        now: Self::Now,
    ) -> Result<&'a mut V, StateError>;

    /// Whether reading prolongs the life of a value.
    fn renews_on_read(self) -> bool;

    /// Prolongs the life of a value that is read, unless it has expired; the time at which it
    /// would have expired, if that changes.
    fn read<V: State>(self, kept: &Self::Kept<V>, now: Self::Now) -> Option<i64>;

    /// Takes back what [`Keeps::read`] did.
    fn unread<V: State>(kept: &Self::Kept<V>, until: i64);
}

impl Keeps for NoTtl {
    type Kept<V: State> = V;
    type Now = ();

    #[inline(always)]
    fn now(_: &Ages) {}

    #[inline(always)]
    fn keep<'a, V: State, E>(
        self,
        value: V,
        (): (),
        _: impl FnOnce() -> Result<Option<&'a V>, E>,
    ) -> Result<V, E> {
        Ok(value)
    }

    #[inline(always)]
    fn keep_all<V: State>(self, values: Vec<V>, (): ()) -> Vec<V> {
        values
    }

    #[inline(always)]
    fn live<V: State>(kept: &V, (): ()) -> Option<&V> {
        Some(kept)
    }

    #[inline(always)]
    fn into_live<V: State>(kept: V, (): ()) -> Option<V> {
        Some(kept)
    }

    #[inline(always)]
    fn all_live<V: State>(kept: Vec<V>, (): ()) -> Vec<V> {
        kept
    }

    #[inline(always)]
    fn write<V: State>(self, kept: &mut V, (): ()) -> &mut V {
        kept
    }

    #[inline(always)]
    fn get_or_insert_with<'a, K: Key, V: State>(
        self,
        table: &'a mut Table<K, V>,
        (hash, key): (u64, &K),
        vacant: impl FnOnce() -> V,
        (): (),
    ) -> Result<&'a mut V, StateError> {
        table.get_or_insert_with(hash, key, vacant)
    }

    #[inline(always)]
    fn renews_on_read(self) -> bool {
        false
    }

    #[inline(always)]
    fn read<V: State>(self, _: &V, (): ()) -> Option<i64> {
        None
    }

    #[inline(always)]
    fn unread<V: State>(_: &V, _: i64) {}
}

impl Keeps for Ttl {
    type Kept<V: State> = Expiring<V>;
    type Now = i64;

    fn now(ages: &Ages) -> i64 {
        ages.now()
    }

    fn keep<'a, V: State, E>(
        self,
        value: V,
        now: i64,
        before: impl FnOnce() -> Result<Option<&'a Expiring<V>>, E>,
    ) -> Result<Expiring<V>, E> {
        let mut until = self.until(now);
        if self.renewed == Renewed::Never
            && let Some(before) = before()?.filter(|before| before.is_live(now))
        {
            until = before.until.get();
        }
        Ok(Expiring { until: Cell::new(until), value })
    }

    fn keep_all<V: State>(self, values: Vec<V>, now: i64) -> Vec<Expiring<V>> {
        let until = self.until(now);
        values.into_iter().map(|value| Expiring { until: Cell::new(until), value }).collect()
    }

    fn live<V: State>(kept: &Expiring<V>, now: i64) -> Option<&V> {
        kept.is_live(now).then_some(&kept.value)
    }

    fn into_live<V: State>(kept: Expiring<V>, now: i64) -> Option<V> {
        kept.is_live(now).then_some(kept.value)
    }

    fn all_live<V: State>(kept: Vec<Expiring<V>>, now: i64) -> Vec<V> {
        kept.into_iter().filter_map(|kept| Self::into_live(kept, now)).collect()
    }

    fn write<V: State>(self, kept: &mut Expiring<V>, now: i64) -> &mut V {
        if self.renewed != Renewed::Never {
            kept.until.set(self.until(now));
        }
        &mut kept.value
    }

    fn get_or_insert_with<'a, K: Key, V: State>(
        self,
        table: &'a mut Table<K, Expiring<V>>,
        (hash, key): (u64, &K),
        vacant: impl FnOnce() -> V,
        now: i64,
    ) -> Result<&'a mut V, StateError> {
        if table.get_mut(hash, key)?.is_some_and(|kept| !kept.is_live(now)) {
            table.set(hash, key, None)?;
        }
        let until = Cell::new(self.until(now));
        let kept = table.get_or_insert_with(hash, key, || Expiring { until, value: vacant() })?;
        Ok(self.write(kept, now))
    }

    fn renews_on_read(self) -> bool {
        self.renewed == Renewed::OnReadAndWrite
    }

    fn read<V: State>(self, kept: &Expiring<V>, now: i64) -> Option<i64> {
        let (before, until) = (kept.until.get(), self.until(now));
        if !kept.is_live(now) || before == until {
            return None;
        }
        kept.until.set(until);
        Some(before)
    }

    fn unread<V: State>(kept: &Expiring<V>, until: i64) {
        kept.until.set(until);
    }
}

/// A value and the time at which it expires.
#[derive(Debug, Serialize, Deserialize)]
pub struct Expiring<V> {
    /// A reader prolongs the life of a value that it shares with others.
    until: Cell<i64>,
    value: V,
}

impl<V> Expiring<V> {
    const fn is_live(&self, now: i64) -> bool {
        now < self.until.get()
    }
}

impl<V: State> State for Expiring<V> {
    fn schema(builder: &mut SchemaBuilder) -> Kind {
        builder.kind_of::<(i64, V)>()
    }
}

/// Everything that a state with a [`Ttl`] keeps for a key.
pub(crate) trait Expire: State {
    /// Whether anything has not expired.
    fn is_live(&self, now: i64) -> bool;

    /// Drops what has expired.
    fn expire(&mut self, now: i64) -> Expired;
}

/// The counts of values of an entry that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expired {
    /// The number of values that were looked at.
    pub(crate) looked_at: usize,
    /// The number of those that have not expired. With none the entry goes.
    pub(crate) left: usize,
}

impl<V: State> Expire for Expiring<V> {
    fn is_live(&self, now: i64) -> bool {
        self.is_live(now)
    }

    fn expire(&mut self, now: i64) -> Expired {
        Expired { looked_at: 1, left: usize::from(self.is_live(now)) }
    }
}

impl<V: State> Expire for Vec<Expiring<V>> {
    fn is_live(&self, now: i64) -> bool {
        self.iter().any(|element| element.is_live(now))
    }

    fn expire(&mut self, now: i64) -> Expired {
        let looked_at = self.len();
        self.retain(|element| element.is_live(now));
        if self.len() < self.capacity() / 4 {
            self.shrink_to(self.len() * 2);
        }
        Expired { looked_at, left: self.len() }
    }
}

impl<M: Key + Hash, V: State, S> Expire for HashMap<M, Expiring<V>, S>
where
    S: BuildHasher + Default + Send + 'static,
{
    fn is_live(&self, now: i64) -> bool {
        self.values().any(|value| value.is_live(now))
    }

    fn expire(&mut self, now: i64) -> Expired {
        let looked_at = self.len();
        self.retain(|_, value| value.is_live(now));
        if self.len() < self.capacity() / 4 {
            self.shrink_to(self.len() * 2);
        }
        Expired { looked_at, left: self.len() }
    }
}

/// The time by which values age: that of the wall clock, which it follows forward only. When the
/// wall clock is set back, values age on from where they were: none of them comes to life again,
/// and none waits until the wall clock is where it was.
#[derive(Debug, Default)]
pub struct Ages {
    clock: Clock,
    /// The wall clock's time when it was asked last.
    asked: Cell<Option<i64>>,
    /// The time is so far ahead of the wall clock.
    ahead: Cell<i64>,
}

impl Ages {
    pub(crate) fn of(clock: Clock) -> Self {
        Self { clock, ..Self::default() }
    }

    /// The time in milliseconds.
    pub(crate) fn now(&self) -> i64 {
        let wall = self.clock.wall().as_millis();
        let back = self.asked.replace(Some(wall)).map_or(0, |asked| asked.saturating_sub(wall));
        self.ahead.set(self.ahead.get().saturating_add(back.max(0)));
        wall.saturating_add(self.ahead.get())
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::ManualClock;

    use super::*;

    #[test]
    fn a_lifetime_is_rounded_up_and_never_zero() {
        for (after, expected) in [
            (Duration::ZERO, "expires 1 ms after the last write"),
            (Duration::from_nanos(1), "expires 1 ms after the last write"),
            (Duration::from_micros(1_001), "expires 2 ms after the last write"),
            (Duration::MAX, "expires 9223372036854775807 ms after the last write"),
        ] {
            assert_eq!(Ttl::after(after).to_string(), expected);
        }
        let ttl = Ttl::after(Duration::from_secs(1));
        assert_eq!(ttl.on_creation().to_string(), "expires 1000 ms after creation");
        let read = ttl.on_read_and_write().to_string();
        assert_eq!(read, "expires 1000 ms after the last read or write");
    }

    #[test]
    fn values_age_on_when_the_wall_clock_is_set_back() {
        let manual = ManualClock::new();
        let ages = Ages::of(manual.clock());
        let start = ages.now();
        for (set, advance, expected) in
            [(0, 5, 5), (-1_000, 0, 5), (0, 3, 8), (-1_000, 2, 8), (3_000, 0, 3_008)]
        {
            manual.set_wall(set);
            manual.advance(Duration::from_millis(advance));
            assert_eq!(ages.now() - start, expected);
        }
    }
}
