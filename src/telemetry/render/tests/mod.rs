use super::*;
use crate::telemetry::key_slots::KeySlots;
use exposition::Exposition;

mod exposition;

const WORKERS: usize = 2;

/// Owns everything that a scrape borrows.
struct Fixture {
    reload: ReloadMetrics,
    cores: Box<[Arc<CoreCells>]>,
    buckets: Vec<(String, Box<[Arc<BucketCells>]>)>,
    jwt_keys: KeySlots,
    key_sets: Vec<KeySetRow<'static>>,
    certificates: CertificateMetrics,
    lost: LostLines,
    sources: Vec<SourceRow<'static>>,
    process: ProcessInfo,
}

impl Fixture {
    fn new(buckets: &[&str]) -> Self {
        let cells = |name: &&str| ((*name).to_owned(), BucketCells::for_workers(WORKERS));
        Self {
            reload: ReloadMetrics::default(),
            cores: CoreCells::for_workers(WORKERS),
            buckets: buckets.iter().map(cells).collect(),
            jwt_keys: KeySlots::default(),
            key_sets: Vec::new(),
            certificates: CertificateMetrics::default(),
            lost: LostLines::default(),
            sources: Vec::new(),
            process: ProcessInfo::read(),
        }
    }

    fn text(&self) -> String {
        let rows: Vec<_> =
            self.buckets.iter().map(|(name, cells)| BucketRow { name, cells }).collect();
        let scrape = Scrape {
            reload: &self.reload,
            cores: &self.cores,
            buckets: &rows,
            jwt_keys: &self.jwt_keys,
            key_sets: &self.key_sets,
            certificates: &self.certificates,
            lost: self.lost,
            credentials: &self.sources,
            process: &self.process,
            build: BuildInfo { version: "1.2.3", revision: "abc" },
        };
        String::from_utf8(render(&scrape)).unwrap()
    }

    fn page(&self) -> Exposition {
        let text = self.text();
        Exposition::parse(&text).unwrap_or_else(|problem| panic!("{problem}\n{text}"))
    }

    fn bucket(&self, index: usize, worker: usize) -> &BucketCells {
        &self.buckets[index].1[worker]
    }
}

/// A fixture in which no series is left out.
fn everything() -> Fixture {
    let mut fixture = Fixture::new(&["products", "images"]);
    let source = |name, ends| SourceRow { name, ends, successes: 3, failures: 2 };
    fixture.sources = vec![source("prod", Some(1_700_000_000)), source("permanent", None)];
    fixture.jwt_keys.assign(["primary"].into_iter());
    fixture.key_sets.push(KeySetRow {
        provider: "corp",
        age_seconds: Some(1.5),
        results: [("renewed", 1), ("unchanged", 2), ("failed", 3)],
    });
    fixture.certificates.ends.push(("a.test".into(), 1_800_000_000));
    for (_, cells) in &fixture.buckets {
        for cells in cells {
            for method in Method::ALL {
                for status in 100..600 {
                    cells.record_request(*method, status, u64::from(status) * 1_000_000, 10);
                    cells.record_upstream(status, u64::from(status) * 10_000);
                }
            }
            for reason in UpstreamErrorReason::ALL {
                cells.upstream.error(*reason).inc();
            }
            for coding in Coding::ALL {
                cells.compression.record(coding, 1_000, 200);
            }
            cells.compression.skipped.inc();
        }
    }
    fixture
}

#[test]
fn the_page_has_exactly_the_defined_metrics_in_their_order() {
    let page = everything().page();
    let expected: Vec<_> = definitions::ALL.iter().map(|definition| definition.name).collect();
    assert_eq!(page.order, expected);
    for definition in definitions::ALL {
        let family = &page.families[definition.name];
        assert_eq!(family.kind, definition.kind.name(), "{}", definition.name);
        assert_eq!(family.help, definition.help, "{}", definition.name);
        let mut expected: Vec<_> = definition.labels.to_vec();
        expected.sort_unstable();
        for (name, labels, _) in &family.samples {
            let labels: Vec<_> = labels.keys().filter(|label| *label != "le").collect();
            assert_eq!(labels, expected, "{name}");
        }
    }
}

#[test]
fn fixed_series_exist_at_zero_from_the_start() {
    let mut fixture = Fixture::new(&["products"]);
    fixture.jwt_keys.assign(["primary"].into_iter());
    let page = fixture.page();
    let zero = |name: &str, labels: &[(&str, &str)]| {
        assert_eq!(page.value(name, labels), Some(0.0), "{name} {labels:?}");
    };
    for name in [
        "config_reload_success_total",
        "config_reload_failure_total",
        "yatagarasu_connections_accepted_total",
        "yatagarasu_upstream_connects_total",
        "yatagarasu_access_log_dropped_total",
        "yatagarasu_log_dropped_total",
        "yatagarasu_worker_panics_total",
        "yatagarasu_auth_enforced",
    ] {
        zero(name, &[]);
    }
    for reason in RejectReason::ALL {
        zero("yatagarasu_connections_rejected_total", &[("reason", reason.label())]);
    }
    for reason in TlsFailure::ALL {
        zero("yatagarasu_tls_handshake_failures_total", &[("reason", reason.label())]);
    }
    for cipher in TlsCipher::ALL {
        for resumed in ["false", "true"] {
            let labels =
                [("version", cipher.version()), ("cipher", cipher.label()), ("resumed", resumed)];
            zero("yatagarasu_tls_handshakes_total", &labels);
        }
    }
    for reason in AuthFailure::ALL {
        zero("yatagarasu_auth_failures_total", &[("reason", reason.label())]);
    }
    for state in ["active", "idle"] {
        zero("yatagarasu_connections", &[("state", state)]);
        zero("yatagarasu_upstream_connections", &[("bucket", "products"), ("state", state)]);
    }
    zero("yatagarasu_http_response_bytes_total", &[("bucket", "products")]);
    zero("yatagarasu_jwt_key_uses_total", &[("key", "primary")]);
    zero("config_worker_generation", &[("worker", "1")]);
    assert_eq!(
        page.value("yatagarasu_build_info", &[("version", "1.2.3"), ("revision", "abc")]),
        Some(1.0)
    );
}

#[test]
fn unused_buckets_have_no_status_reason_or_histogram_series() {
    let page = Fixture::new(&["products"]).page();
    for name in [
        "yatagarasu_http_requests_total",
        "yatagarasu_http_request_duration_seconds",
        "yatagarasu_upstream_requests_total",
        "yatagarasu_upstream_first_byte_seconds",
        "yatagarasu_upstream_errors_total",
    ] {
        assert!(!page.families.contains_key(name), "{name}");
    }
}

#[test]
fn cores_are_added_up() {
    let fixture = Fixture::new(&["a", "b"]);
    fixture.bucket(0, 0).record_request(Method::Get, 200, 700_000, 100);
    fixture.bucket(0, 1).record_request(Method::Get, 200, 2_000_000_000, 50);
    fixture.bucket(1, 1).record_request(Method::Head, 404, 1, 0);
    fixture.bucket(0, 0).upstream.connections(ConnectionState::Idle).inc();
    fixture.bucket(0, 1).upstream.connections(ConnectionState::Idle).set(4);
    fixture.bucket(0, 1).record_upstream(503, 1_500_000);
    fixture.bucket(1, 0).upstream.error(UpstreamErrorReason::Credentials).inc();
    let page = fixture.page();
    let value = |name: &str, labels: &[(&str, &str)]| page.value(name, labels);
    let requests = |bucket, method, status| {
        value(
            "yatagarasu_http_requests_total",
            &[("bucket", bucket), ("method", method), ("status", status)],
        )
    };
    assert_eq!(requests("a", "GET", "200"), Some(2.0));
    assert_eq!(requests("b", "HEAD", "404"), Some(1.0));
    assert_eq!(requests("b", "GET", "200"), None);
    assert_eq!(value("yatagarasu_http_response_bytes_total", &[("bucket", "a")]), Some(150.0));
    let duration = |suffix: &str, labels: &[(&str, &str)]| {
        value(&format!("yatagarasu_http_request_duration_seconds{suffix}"), labels)
    };
    assert_eq!(duration("_bucket", &[("bucket", "a"), ("le", "0.0005")]), Some(0.0));
    assert_eq!(duration("_bucket", &[("bucket", "a"), ("le", "0.001")]), Some(1.0));
    assert_eq!(duration("_bucket", &[("bucket", "a"), ("le", "2.5")]), Some(2.0));
    assert_eq!(duration("_bucket", &[("bucket", "a"), ("le", "+Inf")]), Some(2.0));
    assert_eq!(duration("_sum", &[("bucket", "a")]), Some(2.0007));
    assert_eq!(duration("_count", &[("bucket", "a")]), Some(2.0));
    let idle = &[("bucket", "a"), ("state", "idle")];
    assert_eq!(value("yatagarasu_upstream_connections", idle), Some(5.0));
    let upstream = &[("bucket", "a"), ("status", "503")];
    assert_eq!(value("yatagarasu_upstream_requests_total", upstream), Some(1.0));
    let errors = &[("bucket", "b"), ("reason", "credentials")];
    assert_eq!(value("yatagarasu_upstream_errors_total", errors), Some(1.0));
}

#[test]
fn values_of_cores_and_the_control_thread_arrive() {
    let mut fixture = Fixture::new(&[]);
    fixture.reload = ReloadMetrics {
        success_total: 3,
        failure_total: 2,
        generation: Generation(42),
        last_reload_successful: true,
        last_reload_timestamp_seconds: 1_699_564_800.25,
        restart_required: true,
        auth_enforced: true,
    };
    fixture.lost = LostLines { access_log: 5, log: 6 };
    let slot = fixture.jwt_keys.assign(["k2"].into_iter())[0];
    for (worker, core) in fixture.cores.iter().enumerate() {
        core.generation.set(41 + worker as u64);
        core.access_log_dropped.add(10);
        core.panics.inc();
        core.accepted.add(7);
        core.upstream_connects.add(2);
        core.connections(ConnectionState::Active).set(8);
        core.rejected(RejectReason::FdExhausted).inc();
        core.auth_failures(AuthFailure::Expired).add(4);
        core.tls_handshakes(TlsCipher::Aes128, true).add(5);
        core.tls_failures(TlsFailure::NotTls).add(6);
        core.jwt_key_uses(slot).add(9);
        core.unrouted.record(Method::Other, 405, 1, 1);
    }
    let page = fixture.page();
    for (name, labels, expected) in [
        ("config_reload_success_total", &[][..], 3.0),
        ("config_reload_failure_total", &[], 2.0),
        ("config_generation", &[], 42.0),
        ("config_last_reload_successful", &[], 1.0),
        ("config_last_reload_timestamp_seconds", &[], 1_699_564_800.25),
        ("config_restart_required", &[], 1.0),
        ("yatagarasu_auth_enforced", &[], 1.0),
        ("config_worker_generation", &[("worker", "0")], 41.0),
        ("config_worker_generation", &[("worker", "1")], 42.0),
        ("yatagarasu_access_log_dropped_total", &[], 25.0),
        ("yatagarasu_log_dropped_total", &[], 6.0),
        ("yatagarasu_worker_panics_total", &[], 2.0),
        ("yatagarasu_connections_accepted_total", &[], 14.0),
        ("yatagarasu_upstream_connects_total", &[], 4.0),
        ("yatagarasu_connections", &[("state", "active")], 16.0),
        ("yatagarasu_connections_rejected_total", &[("reason", "fd_exhausted")], 2.0),
        ("yatagarasu_auth_failures_total", &[("reason", "expired")], 8.0),
        (
            "yatagarasu_tls_handshakes_total",
            &[("version", "1.3"), ("cipher", "TLS_AES_128_GCM_SHA256"), ("resumed", "true")],
            10.0,
        ),
        ("yatagarasu_tls_handshake_failures_total", &[("reason", "not_tls")], 12.0),
        ("yatagarasu_jwt_key_uses_total", &[("key", "k2")], 18.0),
        ("yatagarasu_http_response_bytes_total", &[("bucket", NO_BUCKET)], 2.0),
    ] {
        assert_eq!(page.value(name, labels), Some(expected), "{name} {labels:?}");
    }
    let labels = &[("bucket", "-"), ("method", "OTHER"), ("status", "405")];
    assert_eq!(page.value("yatagarasu_http_requests_total", labels), Some(2.0));
}

#[test]
fn any_bucket_name_is_escaped() {
    let names = ["quote\"", "back\\slash", "line\nbreak", "ünïcode", "a=\"b\",c", "}"];
    let fixture = Fixture::new(&names);
    let page = fixture.page();
    for name in names {
        let labels = &[("bucket", name)];
        assert_eq!(
            page.value("yatagarasu_http_response_bytes_total", labels),
            Some(0.0),
            "{name:?}"
        );
    }
}

#[test]
fn shared_cells_are_counted_once_and_a_bucket_called_dash_makes_no_duplicate() {
    let mut fixture = Fixture::new(&["_all", "-"]);
    let shared = fixture.buckets[0].1.clone();
    fixture.buckets.push(("_all".to_owned(), shared));
    fixture.bucket(0, 1).record_request(Method::Get, 200, 1, 7);
    fixture.bucket(1, 0).record_request(Method::Get, 200, 1, 3);
    fixture.cores[0].unrouted.record(Method::Get, 404, 1, 2);
    let page = fixture.page();
    let bytes = |bucket| page.value("yatagarasu_http_response_bytes_total", &[("bucket", bucket)]);
    assert_eq!(bytes("_all"), Some(7.0));
    assert_eq!(bytes("-"), Some(5.0));
}

#[test]
fn a_removed_bucket_leaves_the_page() {
    let mut fixture = Fixture::new(&["stays", "goes"]);
    fixture.bucket(1, 0).record_request(Method::Get, 200, 1, 7);
    assert!(fixture.text().contains("goes"));
    fixture.buckets.truncate(1);
    assert!(!fixture.text().contains("goes"));
}

#[test]
fn what_proc_does_not_say_is_left_out() {
    let mut fixture = Fixture::new(&[]);
    fixture.process = ProcessInfo::default();
    assert!(!fixture.page().families.keys().any(|name| name.starts_with("process_")));
}

#[test]
fn a_thousand_buckets_make_a_valid_page() {
    let names: Vec<_> = (0..1_000).map(|n| format!("bucket-{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let fixture = Fixture::new(&names);
    for (bucket, (_, cells)) in fixture.buckets.iter().enumerate() {
        cells[bucket % WORKERS].record_request(Method::Get, 200, 1_000, 1);
    }
    let page = fixture.page();
    let samples = page.families["yatagarasu_http_requests_total"].samples.len();
    assert_eq!(samples, 1_000);
}

/// Writers go on while the page is made: histograms must still agree with their counts, which
/// the reader of the page checks.
#[test]
fn a_page_made_under_load_is_consistent() {
    let fixture = Fixture::new(&["a"]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (fixture, stop) = (&fixture, &stop);
            scope.spawn(move || {
                let mut n = 0_u64;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    fixture.bucket(0, worker).record_request(Method::Get, 200, n >> 30, 1);
                }
            });
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..100 {
                fixture.page();
            }
        }));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(result.is_ok());
    });
}

#[test]
fn of_certificates_with_one_name_the_first_to_end_is_shown() {
    let mut fixture = Fixture::new(&[]);
    let text = fixture.text();
    assert!(text.contains("yatagarasu_tls_certificate_renewals_total{result=\"failure\"} 0\n"));
    assert!(!text.contains("yatagarasu_tls_certificate_expiry_timestamp_seconds{"));
    fixture.certificates = CertificateMetrics {
        ends: vec![("a.test".into(), 30), ("b.test".into(), 20), ("a.test".into(), 10)],
        renewed: 3,
        failed: 4,
    };
    fixture.page();
    let text = fixture.text();
    for line in [
        "yatagarasu_tls_certificate_expiry_timestamp_seconds{name=\"a.test\"} 10",
        "yatagarasu_tls_certificate_expiry_timestamp_seconds{name=\"b.test\"} 20",
        "yatagarasu_tls_certificate_renewals_total{result=\"success\"} 3",
        "yatagarasu_tls_certificate_renewals_total{result=\"failure\"} 4",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
}
