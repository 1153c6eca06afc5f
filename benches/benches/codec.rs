//! Question: what does encoding and decoding a batch cost, per record, for the shapes that the
//! paired rows send between processes?
//!
//! Method: one full batch at a time through bitcode's serde interface, the codec of the exchange.
//!
//! Machine: any; figures are comparable on one machine only.
//!
//! Bound on paper: copying the bytes out and in at 10 GB/s: 3 ns for 16 bytes, 20 ns for 100.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use millstream_benches::records::{Wide, scramble};
use millstream_benches::rows::SEED;
use millstream_network::{Data, batch_capacity};

fn codec<T: Data>(criterion: &mut Criterion, name: &str, make: impl Fn(u64) -> T) {
    let records: Vec<T> = (0..batch_capacity::<T>() as u64).map(make).collect();
    let encoded = bitcode::serialize(&records).expect("the type serializes");
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(records.len() as u64));
    group.bench_function(format!("{name}/encode"), |bencher| {
        bencher.iter(|| bitcode::serialize(black_box(&records)));
    });
    group.bench_function(format!("{name}/decode"), |bencher| {
        bencher.iter(|| bitcode::deserialize::<Vec<T>>(black_box(&encoded)));
    });
    group.finish();
}

fn all(criterion: &mut Criterion) {
    codec(criterion, "pair", |index| (scramble(SEED, index), index));
    codec(criterion, "wide", |index| Wide::new(SEED, index));
    codec(criterion, "word", |index| (format!("word{}", index % 97), index));
}

criterion_group!(benches, all);
criterion_main!(benches);
