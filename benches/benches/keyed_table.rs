//! Question: what does one probe of keyed heap state cost, hash included, when every record changes
//! the value of its key?
//!
//! Method: a running sum over 65,536 generated keys per iteration, tables of 1,000 keys (all of
//! them in the cache) and of 1,000,000 keys (few), filled before the clock starts.
//!
//! Machine: any; figures are comparable on one machine only.
//!
//! Bound on paper: hashing is two multiplications, about 2 ns; a probe that stays in the cache
//! reads two lines of it, about 3 ns; one that does not waits for two lines of memory, about 80 ns
//! each, of which the processor overlaps four to eight: 20 to 40 ns. So 5 and 25 ns per record.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millstream_benches::records::key;
use millstream_benches::rows::SEED;
use millstream_state::GroupTable;
use millstream_types::{Key, MaxParallelism};

const RECORDS: u64 = 65_536;

fn running_sum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("keyed_table");
    group.throughput(Throughput::Elements(RECORDS));
    for keys in [1_000, 1_000_000] {
        let mut table = GroupTable::<u64, u64>::new(0..128, MaxParallelism::DEFAULT);
        (0..keys).for_each(|key: u64| table.insert(key.stable_hash(), &key, 0));
        let mut next = 0;
        group.bench_function(BenchmarkId::new("running_sum", keys), |bencher| {
            bencher.iter(|| {
                for index in next..next + RECORDS {
                    let key = key(SEED, index, keys);
                    let (sum, _) = table.get_or_insert_with(key.stable_hash(), &key, || 0);
                    *sum += 1;
                    black_box(*sum);
                }
                next += RECORDS;
            });
        });
    }
    group.finish();
}

criterion_group!(benches, running_sum);
criterion_main!(benches);
