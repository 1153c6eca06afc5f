//! The records of a window as its state keeps them: added up to one value, or as a list that an
//! evictor takes records out of.

use std::marker::PhantomData;

use millstream_types::State;

use crate::Result;
use crate::evictor::{Evictor, EvictorContext};
use crate::window_fold::WindowFold;

/// Keeps the records of windows, and makes a value of them when a window fires.
pub trait Contents<T>: Send {
    /// The part of a window that is kept.
    type Kept: State + Clone;
    /// The value of a window that fires.
    type Value;

    /// Adds a record with its time.
    ///
    /// # Errors
    /// The fold refuses it.
    fn add(&mut self, kept: &mut Option<Self::Kept>, record: &T, time: i64) -> Result<()>;

    /// Adds the records of a later session.
    ///
    /// # Errors
    /// The fold refuses them.
    fn merge(&mut self, kept: &mut Self::Kept, later: Self::Kept) -> Result<()>;

    /// The value of a window that fires, if there is one; the records are forgotten if `purges`.
    ///
    /// # Errors
    /// The evictor or the fold fails.
    fn value(
        &mut self,
        kept: &mut Option<Self::Kept>,
        purges: bool,
        ctx: &EvictorContext,
    ) -> Result<Option<Self::Value>>;
}

/// The value of a fold.
#[derive(Debug, Clone)]
pub struct Folded<W>(pub W);

impl<T: Clone, W: WindowFold<T>> Contents<T> for Folded<W> {
    type Kept = W::Value;
    type Value = W::Value;

    fn add(&mut self, kept: &mut Option<W::Value>, record: &T, _time: i64) -> Result<()> {
        match kept {
            Some(value) => self.0.add(value, record.clone())?,
            None => *kept = Some(self.0.first(record.clone())?),
        }
        Ok(())
    }

    fn merge(&mut self, value: &mut W::Value, later: W::Value) -> Result<()> {
        self.0.merge(value, later)
    }

    fn value(
        &mut self,
        kept: &mut Option<W::Value>,
        purges: bool,
        _ctx: &EvictorContext,
    ) -> Result<Option<W::Value>> {
        Ok(if purges { kept.take() } else { kept.clone() })
    }
}

/// A list of records with their times, which are folded when the window fires.
#[derive(Debug)]
pub struct Evicted<T, E, W> {
    evictor: E,
    fold: W,
    records: PhantomData<fn(T)>,
}

impl<T, E, W> Evicted<T, E, W> {
    /// Those that this evictor leaves, folded.
    pub const fn new(evictor: E, fold: W) -> Self {
        Self { evictor, fold, records: PhantomData }
    }
}

impl<T, E: Clone, W: Clone> Clone for Evicted<T, E, W> {
    fn clone(&self) -> Self {
        Self::new(self.evictor.clone(), self.fold.clone())
    }
}

impl<T, E, W> Contents<T> for Evicted<T, E, W>
where
    T: State + Clone,
    E: Evictor<T>,
    W: WindowFold<T>,
{
    type Kept = Vec<(T, i64)>;
    type Value = W::Value;

    fn add(&mut self, kept: &mut Option<Self::Kept>, record: &T, time: i64) -> Result<()> {
        kept.get_or_insert_default().push((record.clone(), time));
        Ok(())
    }

    fn merge(&mut self, records: &mut Self::Kept, mut later: Self::Kept) -> Result<()> {
        records.append(&mut later);
        Ok(())
    }

    fn value(
        &mut self,
        kept: &mut Option<Self::Kept>,
        purges: bool,
        ctx: &EvictorContext,
    ) -> Result<Option<W::Value>> {
        let Some(records) = kept else { return Ok(None) };
        self.evictor.before(records, ctx)?;
        let mut value = None;
        for (record, _) in records.iter() {
            match &mut value {
                Some(value) => self.fold.add(value, record.clone())?,
                None => value = Some(self.fold.first(record.clone())?),
            }
        }
        self.evictor.after(records, ctx)?;
        if purges || records.is_empty() {
            *kept = None;
        }
        Ok(value)
    }
}
