//! The suite of [`EpochSource`].

use std::collections::BTreeSet;

use futures::future::join_all;
use millstream_types::LeaderEpoch;

use crate::EpochSource;

/// Number of masters of one cluster that the suite starts, one after another and at once.
const MASTERS: usize = 20;

/// Runs the suite of [`EpochSource`]; `make` makes the source of the next master of one cluster,
/// which no process has led yet.
///
/// # Panics
/// The source breaks the contract.
pub async fn epochs<S: EpochSource + 'static>(mut make: impl FnMut() -> S) {
    let mut last = LeaderEpoch::new(0);
    for _ in 0..MASTERS {
        let epoch = issued(make()).await;
        assert!(epoch > last, "{epoch} came after {last}");
        last = epoch;
    }
    // A source that is never asked, as of a master that ends before it leads.
    drop(make());
    let at_once: Vec<S> = (0..MASTERS).map(|_| make()).collect();
    let given = join_all(at_once.into_iter().map(|source| tokio::spawn(issued(source)))).await;
    let given: Vec<LeaderEpoch> = given.into_iter().map(|it| it.expect("it was given")).collect();
    let distinct: BTreeSet<LeaderEpoch> = given.iter().copied().collect();
    assert_eq!(distinct.len(), given.len(), "two masters have one epoch: {given:?}");
    assert!(distinct.iter().all(|epoch| *epoch > last), "{given:?} came after {last}");
    let next = issued(make()).await;
    assert!(distinct.iter().all(|epoch| *epoch < next), "{next} came after {given:?}");
}

async fn issued<S: EpochSource>(source: S) -> LeaderEpoch {
    let epoch = Box::new(source).issue().await;
    epoch.unwrap_or_else(|error| unreachable!("no epoch: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KnownEpoch;

    #[tokio::test]
    async fn attempts_that_are_counted_keep_the_contract_of_epochs() {
        let mut attempt = 0;
        epochs(|| {
            attempt += 1;
            KnownEpoch(LeaderEpoch::new(attempt))
        })
        .await;
    }
}
