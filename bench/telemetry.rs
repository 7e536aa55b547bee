//! What counting and logging one request costs a core, and what a scrape costs the control thread.

use std::{
    hint::black_box,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use yatagarasu::{
    model::Generation,
    telemetry::{
        access_log::{self, AccessLogRules, AccessRecord, BATCH_BYTES, Second, write_record},
        cells::{BucketCells, CoreCells},
        key_slots::KeySlots,
        labels::Method,
        process::ProcessInfo,
        render::{
            BucketRow, BuildInfo, CertificateMetrics, LostLines, ReloadMetrics, Scrape, render,
        },
    },
};

fn record() -> AccessRecord<'static> {
    let address = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 9), 51_234)).into();
    AccessRecord {
        unix_ms: 1_772_323_199_999,
        request_id: b"01JABCDEFGHJKMNPQRSTVWXYZ0",
        trace_id: b"4bf92f3577b34da6a3ce929d0e0e4736",
        parent_id: None,
        client: address,
        peer: address,
        tls: None,
        protocol: Some("HTTP/1.1"),
        method: b"GET",
        path: b"/products/2026/02/images/a%20photo-1920x1080.jpg",
        bucket: "products",
        credentials: "",
        status: 200,
        code: "",
        auth_reason: "",
        bytes: 1_048_576,
        duration_us: 12_345,
        upstream_us: Some(9_876),
        generation: 42,
        sub: Some("user-12345"),
        aborted: None,
        more: None,
    }
}

fn counting(criterion: &mut Criterion) {
    let cells = BucketCells::default();
    criterion.bench_function("record_request", |bencher| {
        bencher.iter(|| {
            black_box(&cells).record_request(
                black_box(Method::Get),
                black_box(200),
                black_box(1_700_000),
                black_box(1_024),
            );
        });
    });
}

fn logging(criterion: &mut Criterion) {
    let mut second = Second::default();
    let mut out = Vec::with_capacity(BATCH_BYTES);
    criterion.bench_function("write_record", |bencher| {
        bencher.iter(|| {
            out.clear();
            write_record(black_box(&record()), &mut second, &mut out);
        });
    });

    let Ok((handle, sinks)) = access_log::start("/dev/null") else { return };
    let mut sink = sinks.sink(Arc::default());
    criterion.bench_function("access_log_push", |bencher| {
        let rules = AccessLogRules::default();
        bencher.iter(|| sink.push(black_box(&rules), black_box(&record())));
    });
    drop(sink);
    handle.stop(std::time::Duration::from_secs(1));
}

fn scraping(criterion: &mut Criterion) {
    const BUCKETS: usize = 1_000;
    const WORKERS: usize = 4;
    let buckets: Vec<_> = (0..BUCKETS)
        .map(|bucket| (format!("bucket-{bucket}"), BucketCells::for_workers(WORKERS)))
        .collect();
    for cells in buckets.iter().flat_map(|(_, cells)| cells) {
        for status in [200, 206, 304, 403, 404] {
            cells.record_request(Method::Get, status, 1_700_000, 1_024);
            cells.record_upstream(status, 1_000_000);
        }
    }
    let rows: Vec<_> = buckets.iter().map(|(name, cells)| BucketRow { name, cells }).collect();
    let cores = CoreCells::for_workers(WORKERS);
    let reload = ReloadMetrics { generation: Generation::FIRST, ..ReloadMetrics::default() };
    let scrape = Scrape {
        key_sets: &[],
        reload: &reload,
        cores: &cores,
        buckets: &rows,
        jwt_keys: &KeySlots::default(),
        certificates: &CertificateMetrics::default(),
        lost: LostLines::default(),
        credentials: &[],
        process: &ProcessInfo::default(),
        build: BuildInfo { version: "0", revision: "" },
    };
    let mut group = criterion.benchmark_group("render");
    group.sample_size(20);
    group.throughput(Throughput::Bytes(render(&scrape).len() as u64));
    group.bench_function("1000_buckets", |bencher| bencher.iter(|| render(black_box(&scrape))));
    group.finish();
    criterion.bench_function("process_info", |bencher| bencher.iter(ProcessInfo::read));
}

criterion_group!(benches, counting, logging, scraping);
criterion_main!(benches);
