//! The job of the rows on the start of large jobs: four vertices, each connected with all subtasks
//! of the next. Its source makes nothing and does not end, so that all that it costs is its start.

use millstream::connectors::{
    DiscardSink, NoEnumerator, Polled, ReaderContext, ReaderOutput, Source, SourceReader,
};
use millstream::{Boundedness, Environment, Result};

/// The number of its vertices.
pub const VERTICES: u32 = 4;

/// Adds the job to an environment.
pub fn build(env: &mut Environment) {
    env.source("nothing", Nothing)
        .rebalance()
        .map(|number| Ok(number + 1))
        .rebalance()
        .map(|number| Ok(number + 1))
        .rebalance()
        .sink("nowhere", DiscardSink::new());
}

struct Nothing;

impl Source for Nothing {
    type Out = u64;
    type Split = ();
    type Reader = Self;
    type Enumerator = NoEnumerator<()>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Unbounded
    }

    fn reader(&self, _ctx: &ReaderContext) -> Result<Self> {
        Ok(Self)
    }
}

impl SourceReader for Nothing {
    type Out = u64;
    type Split = ();

    fn add_splits(&mut self, _splits: Vec<()>) -> Result<()> {
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Vec<()>> {
        Ok(Vec::new())
    }

    fn poll(&mut self, _out: &mut ReaderOutput<'_, u64>) -> Result<Polled> {
        Ok(Polled::Pending(None))
    }
}
