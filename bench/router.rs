//! CPU time of routing with ten and with ten thousand buckets: the two must be alike.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use yatagarasu::policy::router::{HostPattern, Place, Router};

fn route(c: &mut Criterion) {
    for count in [10_usize, 10_000] {
        let prefixes: Vec<String> = (0..count).map(|n| format!("/tenant-{n:05}/assets")).collect();
        let places = prefixes.iter().map(|prefix| Place { hosts: &[], prefix });
        let router = Router::build(places.zip(0..)).unwrap_or_default();
        let hostile = "/".repeat(8_000);
        for (name, path) in [
            ("hit", "/tenant-00007/assets/images/2024/05/cat.jpg"),
            ("miss", "/tenant-00007/other/images/2024/05/cat.jpg"),
            ("slashes", &hostile),
        ] {
            c.bench_function(&format!("route_{name}_{count}"), |b| {
                b.iter(|| router.route(|| b"", black_box(path.as_bytes())));
            });
        }
        let hosts: Vec<_> = (0..count)
            .filter_map(|n| HostPattern::parse(&format!("tenant-{n:05}.example.com")).ok())
            .map(|host| [host])
            .collect();
        let places = hosts.iter().map(|hosts| Place { hosts, prefix: "/" });
        let router = Router::build(places.zip(0..)).unwrap_or_default();
        c.bench_function(&format!("route_host_{count}"), |b| {
            let host = || black_box(b"Tenant-00007.example.com");
            b.iter(|| router.route(|| host(), black_box(b"/images/2024/05/cat.jpg")));
        });
    }
}

criterion_group!(benches, route);
criterion_main!(benches);
