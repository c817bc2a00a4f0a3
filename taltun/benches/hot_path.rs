//! What a packet costs, piece by piece: `cargo bench -p taltun --bench hot_path`.
//!
//! Times depend on the machine and its neighbours; compare two runs on one machine, see
//! `cargo xtask instructions` for counts that don't, and `cargo xtask bench` for what the
//! whole reaches.

mod work;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use work::{Counters, Cutting, Joining, PACKETS, Prefixes, Relaying, Sealing};

fn batches(criterion: &mut Criterion) {
    for len in [64, 1420] {
        let mut group = criterion.benchmark_group(format!("{PACKETS} packets of {len} bytes"));
        group.throughput(Throughput::Bytes((PACKETS * len) as u64));
        let works = [
            ("", Sealing::of(len), Relaying::of(len)),
            (
                " beside limits",
                Sealing::beside_limits(len),
                Relaying::beside_limits(len),
            ),
        ];
        for (beside, sealing, relaying) in works {
            group.bench_function(format!("seal{beside}"), |bencher| {
                bencher.iter_batched_ref(
                    || sealing.plain(),
                    |batch| sealing.seal(batch),
                    BatchSize::LargeInput,
                );
            });
            group.bench_function(format!("open{beside}"), |bencher| {
                bencher.iter_batched_ref(
                    || sealing.sealed(),
                    |batch| sealing.open(batch),
                    BatchSize::LargeInput,
                );
            });
            group.bench_function(format!("relay{beside}"), |bencher| {
                bencher.iter_batched_ref(
                    || relaying.sealed(),
                    |batch| relaying.relay(batch),
                    BatchSize::LargeInput,
                );
            });
        }
        let hopping = Sealing::hopping(len);
        group.bench_function("seal to another port each batch", |bencher| {
            bencher.iter_batched_ref(
                || hopping.plain(),
                |batch| hopping.seal(batch),
                BatchSize::LargeInput,
            );
        });
        group.finish();
    }
}

fn longest_prefix(criterion: &mut Criterion) {
    let mut prefixes = Prefixes::new();
    criterion.bench_function("longest prefix among 100,000", |bencher| {
        bencher.iter(|| prefixes.look_up());
    });
}

fn replay(criterion: &mut Criterion) {
    let mut counters = Counters::default();
    criterion.bench_function("replay check", |bencher| {
        bencher.iter(|| counters.accept());
    });
}

fn offloads(criterion: &mut Criterion) {
    let (mut cutting, mut joining) = (Cutting::new(), Joining::new());
    let mut group = criterion.benchmark_group("offloads");
    group.throughput(Throughput::Bytes(cutting.len() as u64));
    group.bench_function("cut a piece of a stream", |bencher| {
        bencher.iter(|| cutting.cut());
    });
    group.bench_function("join the segments of a stream", |bencher| {
        bencher.iter(|| joining.join());
    });
    group.finish();
}

criterion_group!(benches, batches, longest_prefix, replay, offloads);
criterion_main!(benches);
