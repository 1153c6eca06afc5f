//! Connectors that break their contract: the job fails and says how, it does not hang or lose.

use super::*;

/// The connector's breach of its contract.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    LaterForEver,
    NoEnumeratorAfterAll,
    SplitsWithoutEnumerator,
}

struct Faulty(Fault);

struct FaultyReader;

struct LaterForEver;

impl Source for Faulty {
    type Out = u64;
    type Split = ();
    type Reader = FaultyReader;
    type Enumerator = LaterForEver;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn reader(&self, _ctx: &ReaderContext) -> Result<FaultyReader> {
        Ok(FaultyReader)
    }

    fn enumerator(&self) -> Result<Option<LaterForEver>> {
        Ok((self.0 == Fault::LaterForEver).then_some(LaterForEver))
    }

    fn has_enumerator(&self) -> bool {
        self.0 != Fault::SplitsWithoutEnumerator
    }
}

impl SourceReader for FaultyReader {
    type Out = u64;
    type Split = ();

    fn add_split(&mut self, (): ()) -> Result<()> {
        Ok(())
    }

    fn poll(&mut self, _batch: &mut Batch<u64>) -> Result<Polled> {
        Ok(Polled::NeedSplit)
    }
}

impl SplitEnumerator for LaterForEver {
    type Split = ();

    fn discover(&mut self) -> Result<Option<Duration>> {
        Ok(None)
    }

    fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<()>> {
        Ok(NextSplit::Later)
    }
}

#[test]
fn a_source_that_waits_for_what_cannot_come_fails() {
    for (fault, said) in [
        (Fault::LaterForEver, "its discover() has answered None"),
        (Fault::NoEnumeratorAfterAll, "has_enumerator()"),
        (Fault::SplitsWithoutEnumerator, "answer Polled::Finished"),
    ] {
        let (result, ..) = run_with(JobSettings::default(), |env| {
            env.source("faulty", Faulty(fault)).sink("out", Collect::new());
            Ok(())
        });
        let error = format!("{:#}", result.unwrap_err());
        assert!(error.contains(said), "{error}");
    }
}

/// Its writers give what nothing commits.
struct Forgotten;

impl Sink<u64> for Forgotten {
    type Committable = u64;
    type Writer = Forgotten;
    type Committer = NoCommitter<u64>;

    fn writer(&self, _info: &WriterInfo) -> Result<Forgotten> {
        Ok(Forgotten)
    }

    fn committer(&self, _info: &CommitterInfo) -> Result<Option<NoCommitter<u64>>> {
        Ok(None)
    }

    fn has_committer(&self) -> bool {
        false
    }
}

impl SinkWriter<u64> for Forgotten {
    type Committable = u64;

    fn write(&mut self, _batch: Batch<u64>) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<u64>> {
        Ok(vec![7])
    }
}

#[test]
fn committables_that_nothing_commits_fail_the_job() {
    let (result, ..) = run_with(JobSettings::default(), |env| {
        env.source("numbers", Numbers(1)).sink("out", Forgotten);
        Ok(())
    });
    let error = format!("{:#}", result.unwrap_err());
    assert!(error.contains("has_committer() is false"), "{error}");
}
