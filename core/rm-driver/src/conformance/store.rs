//! The suite of [`ClusterStore`].

use millstream_types::{LeaderEpoch, TaskManagerId};

use crate::{ClusterStore, StoreError, StoreKey, StoreKind};

/// Runs the suite; `store` is empty and has seen no epoch.
///
/// # Panics
/// The store breaks the contract.
pub async fn store(store: &dyn ClusterStore) {
    entries_are_read_as_they_were_written(store).await;
    a_lower_epoch_changes_nothing(store).await;
}

fn epoch(number: u64) -> LeaderEpoch {
    LeaderEpoch::new(number)
}

fn worker(name: &str) -> StoreKey {
    StoreKey::Worker(TaskManagerId::new(name))
}

async fn entries_are_read_as_they_were_written(store: &dyn ClusterStore) {
    let token = StoreKey::TokenHash(TaskManagerId::new("a"));
    let id = StoreKey::Id("framework".to_owned());
    for key in [&worker("a"), &token, &id] {
        assert_eq!(get(store, key).await, None);
        store.remove(epoch(1), key.clone()).await.expect("what is not there can be removed");
    }
    for (key, value) in [(worker("b"), 2), (worker("a"), 1), (token.clone(), 3), (id.clone(), 4)] {
        put(store, 1, &key, value).await;
    }
    // Keys of different kinds are different, and a list has one kind in the order of its keys.
    assert_eq!(get(store, &worker("a")).await, Some(vec![1]));
    assert_eq!(get(store, &token).await, Some(vec![3]));
    let workers = [(worker("a"), vec![1]), (worker("b"), vec![2])];
    assert_eq!(store.list(StoreKind::Workers).await.expect("it answers"), workers);
    assert_eq!(store.list(StoreKind::Ids).await.expect("it answers"), [(id.clone(), vec![4])]);
    put(store, 1, &worker("a"), 5).await;
    assert_eq!(get(store, &worker("a")).await, Some(vec![5]));
    store.put(epoch(1), id.clone(), Vec::new()).await.expect("an empty value is a value");
    assert_eq!(get(store, &id).await, Some(Vec::new()));
    store.remove(epoch(1), token.clone()).await.expect("it is removed");
    assert_eq!(get(store, &token).await, None);
    assert!(store.list(StoreKind::TokenHashes).await.expect("it answers").is_empty());
}

async fn a_lower_epoch_changes_nothing(store: &dyn ClusterStore) {
    // A later leader writes any entry, and the earlier one is out for all of them.
    put(store, 7, &worker("c"), 9).await;
    let refused = [
        store.put(epoch(6), worker("d"), vec![0]).await,
        store.put(epoch(1), worker("a"), vec![0]).await,
        store.remove(epoch(6), worker("c")).await,
    ];
    for (outcome, by) in refused.into_iter().zip([6, 1, 6]) {
        let Err(StoreError::Fenced { epoch: refused, newer }) = outcome else {
            unreachable!("a write of an earlier leader: {outcome:?}");
        };
        assert_eq!((refused, newer), (epoch(by), epoch(7)));
    }
    assert_eq!(get(store, &worker("a")).await, Some(vec![5]));
    assert_eq!(get(store, &worker("c")).await, Some(vec![9]));
    assert_eq!(get(store, &worker("d")).await, None);
    // The same leader goes on, and so does the next one.
    put(store, 7, &worker("c"), 8).await;
    put(store, 8, &worker("c"), 7).await;
    assert_eq!(get(store, &worker("c")).await, Some(vec![7]));
}

async fn get(store: &dyn ClusterStore, key: &StoreKey) -> Option<Vec<u8>> {
    store.get(key).await.expect("the store answers")
}

async fn put(store: &dyn ClusterStore, by: u64, key: &StoreKey, value: u8) {
    store.put(epoch(by), key.clone(), vec![value]).await.expect("the store writes");
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn the_store_in_memory_keeps_the_contract() {
        super::store(&crate::MemoryStore::default()).await;
    }
}
