//! CPU time of routing with ten and with ten thousand buckets: the two must be alike.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use yatagarasu::policy::router::Router;

fn route(c: &mut Criterion) {
    for count in [10_usize, 10_000] {
        let prefixes: Vec<String> = (0..count).map(|n| format!("/tenant-{n:05}/assets")).collect();
        let router =
            Router::build(prefixes.iter().map(String::as_str).zip(0..)).unwrap_or_default();
        let hostile = "/".repeat(8_000);
        for (name, path) in [
            ("hit", "/tenant-00007/assets/images/2024/05/cat.jpg"),
            ("miss", "/tenant-00007/other/images/2024/05/cat.jpg"),
            ("slashes", &hostile),
        ] {
            c.bench_function(&format!("route_{name}_{count}"), |b| {
                b.iter(|| router.route(black_box(path.as_bytes())));
            });
        }
    }
}

criterion_group!(benches, route);
criterion_main!(benches);
