//! What a reload costs before the workers hear of it: reading the YAML, comparing, and making the
//! snapshot, for files of several sizes. All of it happens on the preparation thread.

use std::{collections::BTreeMap, fmt::Write as _, hint::black_box, path::PathBuf};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use yatagarasu::{
    config::{Policies, Settings, diff, parse},
    control_plane::compile::{CompileContext, compile},
    handoff::release::Release,
    model::Generation,
    policy::auth::install_crypto,
};

const SIZES: [usize; 3] = [10, 1_000, 10_000];

fn file(buckets: usize, secret: &str) -> String {
    let mut text = String::from("buckets:\n");
    for bucket in 0..buckets {
        let _ = write!(
            text,
            "- name: bucket-{bucket}\n  path_prefix: /bucket-{bucket}\n  s3:\n    bucket: bucket-{bucket}\n    \
             region: us-east-1\n    endpoint: http://127.0.0.1:9000\n    access_key: AKIDBENCH\n    \
             secret_key: {secret}-{bucket}\n  auth: {{ enabled: true }}\n"
        );
    }
    text.push_str("jwt: { secret: a-secret-of-more-than-enough-characters }\n");
    text
}

fn settings(text: &str) -> Option<Settings> {
    let nothing = BTreeMap::<String, String>::new();
    let no_files = BTreeMap::<PathBuf, Vec<u8>>::new();
    parse(text.as_bytes(), &nothing, &no_files).ok().map(|loaded| loaded.settings)
}

fn snapshot(settings: &Settings, previous: Option<&Release>) -> Option<Release> {
    let policies = &Policies::compile(settings).0?;
    let context = CompileContext { generation: Generation(2), workers: 2, policies, previous };
    compile(settings, &context).ok()
}

fn reload(criterion: &mut Criterion) {
    install_crypto();
    let mut group = criterion.benchmark_group("reload");
    group.sample_size(20);
    for buckets in SIZES {
        let (old, new) = (file(buckets, "old"), file(buckets, "new"));
        let (Some(running), Some(next)) = (settings(&old), settings(&new)) else {
            unreachable!("the files are good");
        };
        let before = snapshot(&running, None);
        group.bench_function(BenchmarkId::new("parse", buckets), |bencher| {
            bencher.iter(|| settings(black_box(&new)));
        });
        group.bench_function(BenchmarkId::new("diff", buckets), |bencher| {
            bencher.iter(|| diff(black_box(&running), black_box(&next)));
        });
        group.bench_function(BenchmarkId::new("compile", buckets), |bencher| {
            // The drop of a snapshot is not part of making one.
            bencher.iter_batched(
                || (),
                |()| snapshot(black_box(&next), before.as_ref()),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, reload);
criterion_main!(benches);
