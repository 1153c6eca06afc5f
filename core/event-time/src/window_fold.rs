//! The functions that add the records of a window to a value.

use millstream_types::State;

use crate::Result;

/// Makes one value of the records of a key in a window, as they come.
pub trait WindowFold<T>: Send {
    /// The value.
    type Value: State + Clone;

    /// Whether it may refuse a record.
    const REFUSES: bool = true;

    /// The value of the first record.
    ///
    /// # Errors
    /// The record is refused.
    fn first(&mut self, record: T) -> Result<Self::Value>;

    /// Adds a record to the value.
    ///
    /// # Errors
    /// The record is refused.
    fn add(&mut self, value: &mut Self::Value, record: T) -> Result<()>;

    /// Adds the value of later records.
    ///
    /// # Errors
    /// There is no value for all of them; the task fails.
    fn merge(&mut self, value: &mut Self::Value, later: Self::Value) -> Result<()>;
}

/// Combines records into one of their type.
#[derive(Clone)]
pub struct Reduced<F>(pub F);

impl<T, F> WindowFold<T> for Reduced<F>
where
    T: State + Clone,
    F: FnMut(&mut T, T) -> Result<()> + Send,
{
    type Value = T;

    #[inline]
    fn first(&mut self, record: T) -> Result<T> {
        Ok(record)
    }

    #[inline(always)]
    fn add(&mut self, value: &mut T, record: T) -> Result<()> {
        (self.0)(value, record)
    }

    #[inline]
    fn merge(&mut self, value: &mut T, later: T) -> Result<()> {
        (self.0)(value, later)
    }
}

/// Adds records to a value of another type.
#[derive(Clone)]
pub struct Aggregated<N, A, M> {
    /// Makes the value that the first record is added to.
    pub init: N,
    /// Adds a record.
    pub add: A,
    /// Adds the value of later records.
    pub merge: M,
}

impl<T, V, N, A, M> WindowFold<T> for Aggregated<N, A, M>
where
    V: State + Clone,
    N: Fn() -> V + Send,
    A: FnMut(&mut V, T) -> Result<()> + Send,
    M: FnMut(&mut V, V) -> Result<()> + Send,
{
    type Value = V;

    #[inline]
    fn first(&mut self, record: T) -> Result<V> {
        let mut value = (self.init)();
        (self.add)(&mut value, record)?;
        Ok(value)
    }

    #[inline(always)]
    fn add(&mut self, value: &mut V, record: T) -> Result<()> {
        (self.add)(value, record)
    }

    #[inline]
    fn merge(&mut self, value: &mut V, later: V) -> Result<()> {
        (self.merge)(value, later)
    }
}

/// As [`Aggregated`], with functions that only look at a record and need no value before the first.
#[derive(Clone)]
pub struct Summed<N, A, M> {
    /// The value of the first record.
    pub first: N,
    /// Adds a record.
    pub add: A,
    /// Adds the value of later records.
    pub merge: M,
}

impl<T, V, N, A, M> WindowFold<T> for Summed<N, A, M>
where
    V: State + Clone,
    N: FnMut(&T) -> Result<V> + Send,
    A: FnMut(&mut V, &T) -> Result<()> + Send,
    M: FnMut(&mut V, V) -> Result<()> + Send,
{
    type Value = V;

    #[inline]
    fn first(&mut self, record: T) -> Result<V> {
        (self.first)(&record)
    }

    #[inline(always)]
    fn add(&mut self, value: &mut V, record: T) -> Result<()> {
        (self.add)(value, &record)
    }

    #[inline]
    fn merge(&mut self, value: &mut V, later: V) -> Result<()> {
        (self.merge)(value, later)
    }
}

/// Keeps all records.
#[derive(Debug, Clone, Copy)]
pub struct Listed;

impl<T: State + Clone> WindowFold<T> for Listed {
    type Value = Vec<T>;

    const REFUSES: bool = false;

    fn first(&mut self, record: T) -> Result<Vec<T>> {
        Ok(vec![record])
    }

    fn add(&mut self, value: &mut Vec<T>, record: T) -> Result<()> {
        value.push(record);
        Ok(())
    }

    fn merge(&mut self, value: &mut Vec<T>, mut later: Vec<T>) -> Result<()> {
        value.append(&mut later);
        Ok(())
    }
}
