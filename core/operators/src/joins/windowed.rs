//! Joins in windows: the records of two streams are one stream whose windows have both.

use std::marker::PhantomData;

use millstream_event_time::{Window, WindowFold};
use millstream_network::Data;
use millstream_state::{KeySelector, KeyedBackend, StateError};
use millstream_types::State;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::collector::Collector;
use crate::late::LateRecords;
use crate::side::OutputTag;
use crate::windows::WindowFunction;

/// A record of one of two streams.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Sided<A, B> {
    /// A record of the left one.
    Left(A),
    /// A record of the right one.
    Right(B),
}

impl<A: Data, B: Data> Sided<A, B> {
    /// A policy for late records of both sides.
    #[must_use]
    pub fn late(left: LateRecords<A>, right: LateRecords<B>) -> LateRecords<Self> {
        LateRecords::of_two([left.tag_name(), right.tag_name()], |record, names, emit| {
            let [left, right] = names;
            match record {
                Self::Left(record) => emit.emit(left.map(OutputTag::new), record),
                Self::Right(record) => emit.emit(right.map(OutputTag::new), record),
            }
        })
    }
}

/// Finds the keys of records of two streams.
#[derive(Debug, Clone)]
pub struct BySide<S, U>(pub S, pub U);

impl<A, B, S, U> KeySelector<Sided<A, B>> for BySide<S, U>
where
    S: KeySelector<A>,
    U: KeySelector<B, Key = S::Key>,
{
    type Key = S::Key;

    #[inline]
    fn with<R>(&self, record: &Sided<A, B>, f: impl FnOnce(&S::Key) -> R) -> R {
        match record {
            Sided::Left(record) => self.0.with(record, f),
            Sided::Right(record) => self.1.with(record, f),
        }
    }

    #[inline]
    fn owned(&self, record: &Sided<A, B>) -> S::Key {
        match record {
            Sided::Left(record) => self.0.owned(record),
            Sided::Right(record) => self.1.owned(record),
        }
    }

    #[inline]
    fn make_current(
        &self,
        record: &Sided<A, B>,
        hash: u64,
        states: &mut KeyedBackend<S::Key>,
    ) -> Result<(), StateError> {
        match record {
            Sided::Left(record) => self.0.make_current(record, hash, states),
            Sided::Right(record) => self.1.make_current(record, hash, states),
        }
    }
}

/// Keeps all records of both sides.
#[derive(Debug, Clone, Copy)]
pub struct BothListed;

impl<A: State + Clone, B: State + Clone> WindowFold<Sided<A, B>> for BothListed {
    type Value = (Vec<A>, Vec<B>);

    const REFUSES: bool = false;

    fn first(&mut self, record: Sided<A, B>) -> Result<(Vec<A>, Vec<B>)> {
        Ok(match record {
            Sided::Left(record) => (vec![record], Vec::new()),
            Sided::Right(record) => (Vec::new(), vec![record]),
        })
    }

    fn add(&mut self, value: &mut (Vec<A>, Vec<B>), record: Sided<A, B>) -> Result<()> {
        match record {
            Sided::Left(record) => value.0.push(record),
            Sided::Right(record) => value.1.push(record),
        }
        Ok(())
    }

    fn merge(&mut self, value: &mut (Vec<A>, Vec<B>), mut later: (Vec<A>, Vec<B>)) -> Result<()> {
        value.0.append(&mut later.0);
        value.1.append(&mut later.1);
        Ok(())
    }
}

/// A [`WindowFunction`] that makes a result of each pair of a left and a right record.
pub struct EachPair<F, O> {
    function: F,
    results: PhantomData<fn() -> O>,
}

impl<F, O> EachPair<F, O> {
    /// Calls the function for each pair.
    pub const fn new(function: F) -> Self {
        Self { function, results: PhantomData }
    }
}

impl<K, A, B, O, F> WindowFunction<K, (Vec<A>, Vec<B>)> for EachPair<F, O>
where
    O: Data,
    F: FnMut(&A, &B) -> Result<O> + Send,
{
    type Out = O;

    fn process(
        &mut self,
        _key: K,
        _window: Window,
        (lefts, rights): (Vec<A>, Vec<B>),
        out: &mut Collector<'_, O>,
    ) -> Result<()> {
        for left in &lefts {
            for right in &rights {
                out.emit((self.function)(left, right)?);
            }
        }
        Ok(())
    }
}
