//! The timers of keys, which an operator's function sets and an operator fires.

use millstream_types::Key;

use crate::backend::{KeyedBackend, KeyedContext};
use crate::error::StateError;
use crate::timer_queue::{Alarm, TimeDomain, Timer, Timers};

impl Timers {
    /// Sets a timer of the current key, in milliseconds since 1970.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    #[inline]
    pub fn set<C: KeyedContext>(&self, ctx: &mut C, millis: i64) -> Result<(), StateError> {
        ctx.backend_mut().change_timer(*self, millis, true)
    }

    /// Deletes a timer of the current key, if it is set.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    #[inline]
    pub fn delete<C: KeyedContext>(&self, ctx: &mut C, millis: i64) -> Result<(), StateError> {
        ctx.backend_mut().change_timer(*self, millis, false)
    }
}

impl<K: Key> KeyedBackend<K> {
    /// Declares timers under a name that no state or timer of this operator has.
    ///
    /// # Errors
    /// [`StateError::Duplicate`] or [`StateError::TooMany`], or those of a snapshot are others.
    pub fn timers(&mut self, name: &'static str, domain: TimeDomain) -> Result<Timers, StateError> {
        self.ensure_new(name)?;
        let number = u16::try_from(self.timers.names.len()).map_err(|_| StateError::TooMany)?;
        let timers = Timers { domain, number, name };
        self.timers.names.push(timers);
        self.restore_timers(timers)?;
        Ok(timers)
    }

    fn change_timer(&mut self, timers: Timers, millis: i64, set: bool) -> Result<(), StateError> {
        if self.set_or_delete(timers, millis, set)? {
            self.on_undo(move |backend| backend.set_or_delete(timers, millis, !set).map(|_| ()));
        }
        Ok(())
    }

    /// Whether this changes the current key's timers.
    fn set_or_delete(
        &mut self,
        timers: Timers,
        millis: i64,
        set: bool,
    ) -> Result<bool, StateError> {
        let known = self.timers.names.get(usize::from(timers.number));
        let (Some((key, hash)), true) = (&self.current, known == Some(&timers)) else {
            return Err(StateError::Foreign(timers.name));
        };
        let queue = self.timers.queue_mut(timers.domain);
        let at = Alarm { millis, number: timers.number, hash: *hash };
        Ok(if set { queue.set(at, key) } else { queue.delete(at, key) })
    }

    /// The earliest time for which a timer is set.
    #[inline]
    #[must_use]
    pub fn next_timer(&self, domain: TimeDomain) -> Option<i64> {
        self.timers.queue(domain).first()
    }

    /// Number of timers that are set.
    #[must_use]
    pub fn timers_set(&self, domain: TimeDomain) -> usize {
        self.timers.queue(domain).len()
    }

    /// Takes the earliest timer up to a time, and makes its key the current one. Timers of one time
    /// come in no order.
    ///
    /// # Errors
    /// As [`KeyedBackend::set_key`].
    pub fn take_timer(
        &mut self,
        domain: TimeDomain,
        until_millis: i64,
    ) -> Result<Option<Timer>, StateError> {
        if self.next_timer(domain).is_none_or(|millis| millis > until_millis) {
            return Ok(None);
        }
        let Some((at, key)) = self.timers.queue_mut(domain).take_first() else { return Ok(None) };
        self.set_key(key, at.hash)?;
        let timers = self.timers.names.get(usize::from(at.number)).copied();
        Ok(timers.map(|timers| Timer { timers, millis: at.millis }))
    }

    /// From now on timers of this kind that are set are forgotten: none of them will ever be due.
    pub fn close_timers(&mut self, domain: TimeDomain) {
        self.timers.queue_mut(domain).is_closed = true;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use millstream_types::MaxParallelism;
    use proptest::prelude::*;

    use super::*;

    fn backend() -> KeyedBackend<u8> {
        KeyedBackend::new(0..128, MaxParallelism::DEFAULT)
    }

    #[derive(Debug, Clone, Copy)]
    enum Act {
        Set(u8, usize, i64),
        Delete(u8, usize, i64),
        /// Set and deleted, and then taken back.
        Refused(u8, usize, i64),
        Take(i64),
    }

    fn act() -> impl Strategy<Value = Act> {
        let times = prop_oneof![-8..8_i64, Just(i64::MIN), Just(i64::MAX)];
        let of = (0..6_u8, 0..2_usize, times.clone());
        prop_oneof![
            3 => of.clone().prop_map(|(key, name, time)| Act::Set(key, name, time)),
            2 => of.clone().prop_map(|(key, name, time)| Act::Delete(key, name, time)),
            1 => of.prop_map(|(key, name, time)| Act::Refused(key, name, time)),
            1 => times.prop_map(Act::Take),
        ]
    }

    proptest! {
        #[test]
        fn timers_are_a_set_that_is_taken_in_order_of_time(
            acts in prop::collection::vec(act(), 0..400),
        ) {
            let mut backend = backend();
            backend.keep_undo();
            let event = TimeDomain::Event;
            let names = [backend.timers("a", event).unwrap(), backend.timers("b", event).unwrap()];
            let mut set = BTreeSet::new();
            for act in acts {
                match act {
                    Act::Set(key, name, time) => {
                        backend.set_key(key, key.stable_hash()).unwrap();
                        names[name].set(&mut backend, time).unwrap();
                        set.insert((time, key, name));
                    }
                    Act::Delete(key, name, time) => {
                        backend.set_key(key, key.stable_hash()).unwrap();
                        names[name].delete(&mut backend, time).unwrap();
                        set.remove(&(time, key, name));
                    }
                    Act::Refused(key, name, time) => {
                        backend.set_key(key, key.stable_hash()).unwrap();
                        names[name].set(&mut backend, time).unwrap();
                        names[1 - name].delete(&mut backend, time).unwrap();
                        names[name].delete(&mut backend, time).unwrap();
                        backend.take_back().unwrap();
                    }
                    Act::Take(until) => {
                        let mut before = i64::MIN;
                        while let Some(timer) = backend.take_timer(event, until).unwrap() {
                            prop_assert!(before <= timer.time() && timer.time() <= until);
                            before = timer.time();
                            let name = usize::from(timer.is_of(&names[1]));
                            prop_assert!(set.remove(&(timer.time(), *backend.key(), name)));
                        }
                    }
                }
                prop_assert_eq!(backend.timers_set(event), set.len());
                prop_assert_eq!(backend.next_timer(event), set.first().map(|first| first.0));
            }
        }
    }

    #[test]
    fn deleted_timers_do_not_pile_up() {
        let mut backend = backend();
        let timers = backend.timers("timeout", TimeDomain::Processing).unwrap();
        backend.set_key(1, 1_u8.stable_hash()).unwrap();
        timers.set(&mut backend, 0).unwrap();
        for time in 1..10_000 {
            timers.set(&mut backend, time + 1).unwrap();
            timers.delete(&mut backend, time).unwrap();
        }
        let queue = backend.timers.queue(TimeDomain::Processing);
        assert_eq!((queue.len(), queue.slab.len() <= 3), (2, true));
        assert!(queue.heap.len() <= 66, "{} in the heap", queue.heap.len());
    }

    #[test]
    fn kinds_of_timers_and_operators_are_kept_apart() {
        let (mut one, mut other) = (backend(), backend());
        let event = one.timers("timer", TimeDomain::Event).unwrap();
        let processing = one.timers("other", TimeDomain::Processing).unwrap();
        assert!(matches!(one.timers("timer", TimeDomain::Event), Err(StateError::Duplicate(_))));
        assert!(matches!(one.value::<u8>("timer"), Err(StateError::Duplicate(_))));
        assert!(matches!(event.set(&mut one, 1), Err(StateError::Foreign("timer"))), "no key");
        one.set_key(1, 1_u8.stable_hash()).unwrap();
        other.set_key(1, 1_u8.stable_hash()).unwrap();
        assert!(matches!(event.set(&mut other, 1), Err(StateError::Foreign("timer"))));
        event.set(&mut one, 5).unwrap();
        processing.set(&mut one, 7).unwrap();
        one.close_timers(TimeDomain::Processing);
        processing.set(&mut one, 6).unwrap();
        assert_eq!(one.next_timer(TimeDomain::Event), Some(5));
        assert_eq!(one.next_timer(TimeDomain::Processing), Some(7));
        assert_eq!(one.take_timer(TimeDomain::Event, 4).unwrap(), None);
        let timer = one.take_timer(TimeDomain::Event, 5).unwrap().unwrap();
        assert!(timer.is_of(&event) && !timer.is_of(&processing));
    }
}
