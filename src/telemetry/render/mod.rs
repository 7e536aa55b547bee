//! The `/metrics` page: reads every core's cells and writes the Prometheus text format 0.0.4.
//!
//! Series whose labels are all known in advance exist from the start, at zero; per-status,
//! per-reason and histogram series of a bucket appear with their first event, to keep the page of
//! 1,000 buckets small.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use prometheus::{
    Encoder, TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use crate::{
    model::Generation,
    protocol::content_coding::Coding,
    telemetry::{
        NO_BUCKET,
        cells::{
            BucketCells, CodingCells, CompressionCells, CoreCells, Counter as Cell,
            DURATION_BOUNDS_US, DURATION_BUCKETS, Histogram as Durations, RequestCells,
            UpstreamCells,
        },
        definitions::{self, Definition, MetricKind},
        key_slots::KeySlots,
        labels::{
            AuthFailure, ConnectionState, Http2GoAway, Http2Reset, Method, RejectReason,
            STATUS_SLOTS, TlsCipher, TlsFailure, UpstreamErrorReason, status_label,
        },
        process::ProcessInfo,
    },
};

/// `Content-Type` of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const MICROSECONDS_PER_SECOND: f64 = 1e6;
const NANOSECONDS_PER_SECOND: f64 = 1e9;

/// The control thread's own numbers, as they were when it asked for the page.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReloadMetrics {
    /// Reloads that succeeded.
    pub success_total: u64,
    /// Reloads that failed.
    pub failure_total: u64,
    /// Generation of the running configuration.
    pub generation: Generation,
    /// Set if the last attempt succeeded.
    pub last_reload_successful: bool,
    /// Time of the last success, in seconds since 1970. A failure does not move it.
    pub last_reload_timestamp_seconds: f64,
    /// Set if the file differs from the process in keys that need a restart.
    pub restart_required: bool,
    /// Set if JWT authentication is switched on.
    pub auth_enforced: bool,
}

/// Cells of the bucket with this name, one set for each core. Rows with the same name are added up,
/// and cells that several rows share are counted once.
#[derive(Clone, Copy, Debug)]
pub struct BucketRow<'a> {
    /// Label value.
    pub name: &'a str,
    /// One set for each worker.
    pub cells: &'a [Arc<BucketCells>],
}

/// State of the key set of one provider. Rows with the same provider are of one that has moved.
#[derive(Clone, Copy, Debug)]
pub struct KeySetRow<'a> {
    /// Label value.
    pub provider: &'a str,
    /// Seconds since the provider was last known to publish it; none if it never came.
    pub age_seconds: Option<f64>,
    /// Renewals by their result, which is a label value.
    pub results: [(&'static str, u64); 3],
}

/// Counts of a source of credentials.
#[derive(Clone, Copy, Debug)]
pub struct SourceRow<'a> {
    /// Label value.
    pub name: &'a str,
    /// End of its credentials, in seconds since 1970; none when they have none.
    pub ends: Option<u64>,
    /// Fetches that gave credentials.
    pub successes: u64,
    /// Fetches that did not.
    pub failures: u64,
}

/// Version of the binary.
#[derive(Clone, Copy, Debug)]
pub struct BuildInfo<'a> {
    /// Version of the package.
    pub version: &'a str,
    /// Source revision; empty when unknown.
    pub revision: &'a str,
}

/// Lines that were lost outside the cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostLines {
    /// By the access-log writer
    /// ([`AccessLogHandle::lost_lines`](crate::telemetry::access_log::AccessLogHandle::lost_lines)).
    pub access_log: u64,
    /// By the process log ([`LogLevel::lost_lines`](crate::telemetry::log::LogLevel::lost_lines)).
    pub log: u64,
}

/// Certificates for clients, of which the control thread alone knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateMetrics {
    /// Name of each, and the end of its validity in seconds since 1970.
    pub ends: Vec<(Box<str>, i64)>,
    /// Renewals that were put to use.
    pub renewed: u64,
    /// Readings of which a part could not be used.
    pub failed: u64,
}

/// Everything that a page is made from.
#[derive(Clone, Copy, Debug)]
pub struct Scrape<'a> {
    /// The control thread's numbers.
    pub reload: &'a ReloadMetrics,
    /// Cells of each core, by worker index.
    pub cores: &'a [Arc<CoreCells>],
    /// Cells of each bucket of the running generation.
    pub buckets: &'a [BucketRow<'a>],
    /// Assignment of counters to JWT keys.
    pub jwt_keys: &'a KeySlots,
    /// Key sets that are fetched, by provider.
    pub key_sets: &'a [KeySetRow<'a>],
    /// Certificates for clients.
    pub certificates: &'a CertificateMetrics,
    /// Lines lost outside the cells.
    pub lost: LostLines,
    /// Sources of credentials in use.
    pub credentials: &'a [SourceRow<'a>],
    /// The kernel's view of the process.
    pub process: &'a ProcessInfo,
    /// Version of the binary.
    pub build: BuildInfo<'a>,
}

/// Renders the page.
pub fn render(scrape: &Scrape<'_>) -> Vec<u8> {
    let mut page = Page::default();
    reload(scrape.reload, scrape.cores, &mut page);
    let rows = rows(scrape);
    requests(&rows, &mut page);
    compression(&rows, &mut page);
    clients(scrape, &mut page);
    tokens(scrape, &mut page);
    upstream(&rows, scrape.cores, &mut page);
    certificates(scrape.certificates, &mut page);
    credentials(scrape.credentials, &mut page);
    losses(scrape, &mut page);
    process(scrape, &mut page);

    let mut text = Vec::with_capacity(PAGE_BYTES_GUESS + rows.len() * ROW_BYTES_GUESS);
    if let Err(error) = TextEncoder::new().encode(&page.families, &mut text) {
        // It refuses families without a metric, which `Page` does not keep, and a Vec takes all.
        debug_assert!(false, "{error}");
        tracing::error!(%error, "the metrics page is incomplete");
    }
    text
}

/// Size of a page without buckets, in bytes, to allocate once.
const PAGE_BYTES_GUESS: usize = 16_384;

/// Part of the page for a bucket in use, in bytes.
const ROW_BYTES_GUESS: usize = 4_096;

/// Everything counted under one `bucket` label.
#[derive(Default)]
struct Row<'a> {
    requests: Vec<&'a RequestCells>,
    upstream: Vec<&'a UpstreamCells>,
    compression: Vec<&'a CompressionCells>,
}

type Rows<'a> = BTreeMap<&'a str, Row<'a>>;

fn rows<'a>(scrape: &Scrape<'a>) -> Rows<'a> {
    let mut rows = Rows::new();
    for core in scrape.cores {
        rows.entry(NO_BUCKET).or_default().requests.push(&core.unrouted);
    }
    let mut seen = HashSet::with_capacity(scrape.buckets.len() * scrape.cores.len());
    for bucket in scrape.buckets {
        let row = rows.entry(bucket.name).or_default();
        for cells in bucket.cells.iter().filter(|cells| seen.insert(Arc::as_ptr(cells))) {
            row.requests.push(&cells.requests);
            row.upstream.push(&cells.upstream);
            row.compression.push(&cells.compression);
        }
    }
    rows
}

fn reload(reload: &ReloadMetrics, cores: &[Arc<CoreCells>], page: &mut Page) {
    page.one(&definitions::CONFIG_RELOAD_SUCCESS, count(reload.success_total));
    page.one(&definitions::CONFIG_RELOAD_FAILURE, count(reload.failure_total));
    page.one(&definitions::CONFIG_GENERATION, count(reload.generation.0));
    page.one(&definitions::CONFIG_LAST_RELOAD_SUCCESSFUL, flag(reload.last_reload_successful));
    page.one(&definitions::CONFIG_LAST_RELOAD_TIMESTAMP, reload.last_reload_timestamp_seconds);
    page.one(&definitions::CONFIG_RESTART_REQUIRED, flag(reload.restart_required));
    page.add(&definitions::CONFIG_WORKER_GENERATION, |series| {
        for (worker, core) in cores.iter().enumerate() {
            series.value(&[&worker.to_string()], count(core.generation.get()));
        }
    });
}

fn certificates(certificates: &CertificateMetrics, page: &mut Page) {
    // Of several with one name, that of the first to end.
    let mut ends: BTreeMap<&str, i64> = BTreeMap::new();
    for (name, end) in &certificates.ends {
        let first = ends.entry(name).or_insert(*end);
        *first = (*first).min(*end);
    }
    page.add(&definitions::TLS_CERTIFICATE_EXPIRY, |series| {
        for (name, end) in &ends {
            series.value(&[name], seconds_since_1970(*end));
        }
    });
    page.add(&definitions::TLS_CERTIFICATE_RENEWALS, |series| {
        series.value(&["success"], count(certificates.renewed));
        series.value(&["failure"], count(certificates.failed));
    });
}

#[expect(clippy::cast_precision_loss, reason = "dates are far below 2^52")]
fn seconds_since_1970(seconds: i64) -> f64 {
    seconds as f64
}

fn requests(rows: &Rows<'_>, page: &mut Page) {
    page.add(&definitions::HTTP_REQUESTS, |series| {
        for (name, row) in rows {
            for method in Method::ALL {
                let counts: [u64; STATUS_SLOTS] =
                    sum(row.requests.iter().map(|cells| cells.requests(*method).counts()));
                for (slot, value) in nonzero(&counts) {
                    series.value(&[name, method.label(), &status_label(slot)], count(value));
                }
            }
        }
    });
    page.add(&definitions::HTTP_REQUEST_DURATION, |series| {
        for (name, row) in rows {
            series.durations(name, row.requests.iter().map(|cells| cells.duration()));
        }
    });
    page.add(&definitions::HTTP_RESPONSE_BYTES, |series| {
        for (name, row) in rows {
            let bytes = row.requests.iter().map(|cells| cells.response_bytes().get()).sum();
            series.value(&[name], count(bytes));
        }
    });
}

/// One of the counters of a coding.
type OfCoding = fn(&CodingCells) -> &Cell;

fn compression(rows: &Rows<'_>, page: &mut Page) {
    let families: [(_, OfCoding); 3] = [
        (&definitions::COMPRESSED_RESPONSES, |cells| &cells.responses),
        (&definitions::COMPRESSION_INPUT_BYTES, |cells| &cells.read),
        (&definitions::COMPRESSION_OUTPUT_BYTES, |cells| &cells.written),
    ];
    for (definition, cell) in families {
        page.add(definition, |series| {
            for (name, row) in rows {
                for coding in Coding::ALL {
                    let cells = row.compression.iter().map(|cells| cell(cells.of(coding)).get());
                    series.above_zero(&[name, coding.name()], cells.sum());
                }
            }
        });
    }
    page.add(&definitions::COMPRESSION_SKIPPED, |series| {
        for (name, row) in rows {
            let skipped = row.compression.iter().map(|cells| cells.skipped.get()).sum();
            series.above_zero(&[name], skipped);
        }
    });
}

fn clients(scrape: &Scrape<'_>, page: &mut Page) {
    let total = |cell: &dyn Fn(&CoreCells) -> u64| -> f64 {
        count(scrape.cores.iter().map(|core| cell(core)).sum())
    };
    page.add(&definitions::CONNECTIONS, |series| {
        for state in ConnectionState::ALL {
            series.value(&[state.label()], total(&|core| core.connections(*state).get()));
        }
    });
    page.one(&definitions::CONNECTIONS_ACCEPTED, total(&|core| core.accepted.get()));
    page.add(&definitions::CONNECTIONS_REJECTED, |series| {
        for reason in RejectReason::ALL {
            series.value(&[reason.label()], total(&|core| core.rejected(*reason).get()));
        }
    });
    page.add(&definitions::TLS_HANDSHAKES, |series| {
        for cipher in TlsCipher::ALL {
            for (resumed, label) in [(false, "false"), (true, "true")] {
                let labels = [cipher.version(), cipher.label(), label];
                let value = total(&|core| core.tls_handshakes(*cipher, resumed).get());
                series.value(&labels, value);
            }
        }
    });
    page.add(&definitions::TLS_HANDSHAKE_FAILURES, |series| {
        for reason in TlsFailure::ALL {
            series.value(&[reason.label()], total(&|core| core.tls_failures(*reason).get()));
        }
    });
    page.add(&definitions::CLIENT_CONNECTIONS, |series| {
        let all = total(&CoreCells::connections_open);
        let http2 = total(&|core| core.http2.connections.get());
        // Read one after the other, so one that opens between is not less than none.
        series.value(&["http1"], (all - http2).max(0.0));
        series.value(&["http2"], http2);
    });
    page.one(&definitions::HTTP2_STREAMS, total(&|core| core.http2.streams.get()));
    page.one(&definitions::HTTP2_REQUESTS, total(&|core| core.http2.requests.get()));
    page.add(&definitions::HTTP2_RESETS, |series| {
        for reason in Http2Reset::ALL {
            series.value(&[reason.label()], total(&|core| core.http2.resets(*reason).get()));
        }
    });
    page.add(&definitions::HTTP2_GOAWAYS, |series| {
        for reason in Http2GoAway::ALL {
            series.value(&[reason.label()], total(&|core| core.http2.goaways(*reason).get()));
        }
    });
}

fn tokens(scrape: &Scrape<'_>, page: &mut Page) {
    let total = |cell: &dyn Fn(&CoreCells) -> u64| scrape.cores.iter().map(|core| cell(core)).sum();
    page.add(&definitions::AUTH_FAILURES, |series| {
        for reason in AuthFailure::ALL {
            series
                .value(&[reason.label()], count(total(&|core| core.auth_failures(*reason).get())));
        }
    });
    page.one(&definitions::AUTH_ENFORCED, flag(scrape.reload.auth_enforced));
    page.add(&definitions::JWT_KEY_USES, |series| {
        for (slot, label, start) in scrape.jwt_keys.iter() {
            let uses: u64 = total(&|core| core.jwt_key_uses(slot).get());
            series.value(&[label], count(uses.saturating_sub(start)));
        }
    });
    // The last row of a provider is that of its present source, or as good as it.
    let rows: BTreeMap<&str, &KeySetRow<'_>> =
        scrape.key_sets.iter().map(|row| (row.provider, row)).collect();
    page.add(&definitions::JWKS_AGE, |series| {
        for (provider, row) in &rows {
            if let Some(age) = row.age_seconds {
                series.value(&[provider], age);
            }
        }
    });
    page.add(&definitions::JWKS_REFRESH, |series| {
        for (provider, row) in &rows {
            for (result, number) in row.results {
                series.value(&[provider, result], count(number));
            }
        }
    });
}

fn upstream(rows: &Rows<'_>, cores: &[Arc<CoreCells>], page: &mut Page) {
    page.add(&definitions::UPSTREAM_REQUESTS, |series| {
        for (name, row) in rows {
            let counts: [u64; STATUS_SLOTS] =
                sum(row.upstream.iter().map(|cells| cells.requests.counts()));
            for (slot, value) in nonzero(&counts) {
                series.value(&[name, &status_label(slot)], count(value));
            }
        }
    });
    page.add(&definitions::UPSTREAM_FIRST_BYTE, |series| {
        for (name, row) in rows {
            series.durations(name, row.upstream.iter().map(|cells| &cells.first_byte));
        }
    });
    page.add(&definitions::UPSTREAM_ERRORS, |series| {
        for (name, row) in rows {
            for reason in UpstreamErrorReason::ALL {
                let value = row.upstream.iter().map(|cells| cells.error(*reason).get()).sum();
                series.above_zero(&[name, reason.label()], value);
            }
        }
    });
    page.add(&definitions::UPSTREAM_CONNECTIONS, |series| {
        for (name, row) in rows.iter().filter(|(_, row)| !row.upstream.is_empty()) {
            for state in ConnectionState::ALL {
                let value = row.upstream.iter().map(|cells| cells.connections(*state).get()).sum();
                series.value(&[name, state.label()], count(value));
            }
        }
    });
    let connects = cores.iter().map(|core| core.upstream_connects.get()).sum();
    page.one(&definitions::UPSTREAM_CONNECTS, count(connects));
}

fn credentials(sources: &[SourceRow<'_>], page: &mut Page) {
    page.add(&definitions::CREDENTIALS_EXPIRY, |series| {
        for source in sources {
            if let Some(end) = source.ends {
                series.value(&[source.name], count(end));
            }
        }
    });
    page.add(&definitions::CREDENTIALS_REFRESH, |series| {
        for source in sources {
            series.value(&[source.name, "success"], count(source.successes));
            series.value(&[source.name, "failure"], count(source.failures));
        }
    });
}

fn losses(scrape: &Scrape<'_>, page: &mut Page) {
    let dropped: u64 = scrape.cores.iter().map(|core| core.access_log_dropped.get()).sum();
    page.one(&definitions::ACCESS_LOG_DROPPED, count(dropped + scrape.lost.access_log));
    page.one(&definitions::LOG_DROPPED, count(scrape.lost.log));
    let panics = scrape.cores.iter().map(|core| core.panics.get()).sum();
    page.one(&definitions::WORKER_PANICS, count(panics));
}

fn process(scrape: &Scrape<'_>, page: &mut Page) {
    let process = scrape.process;
    let values = [
        (&definitions::PROCESS_CPU, process.cpu_seconds),
        (&definitions::PROCESS_RESIDENT_MEMORY, process.resident_bytes.map(count)),
        (&definitions::PROCESS_VIRTUAL_MEMORY, process.virtual_bytes.map(count)),
        (&definitions::PROCESS_OPEN_FDS, process.open_fds.map(count)),
        (&definitions::PROCESS_MAX_FDS, process.max_fds.map(count)),
        (&definitions::PROCESS_START_TIME, process.start_time_seconds),
        (&definitions::PROCESS_THREADS, process.threads.map(count)),
    ];
    for (definition, value) in values {
        if let Some(value) = value {
            page.one(definition, value);
        }
    }
    page.add(&definitions::BUILD_INFO, |series| {
        series.value(&[scrape.build.version, scrape.build.revision], 1.0);
    });
}

/// Prometheus values are doubles: exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "the text format knows doubles only")]
fn count(value: u64) -> f64 {
    value as f64
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn sum<const N: usize>(rows: impl Iterator<Item = [u64; N]>) -> [u64; N] {
    rows.fold([0; N], |mut total, row| {
        for (total, value) in total.iter_mut().zip(row) {
            *total += value;
        }
        total
    })
}

fn nonzero(counts: &[u64]) -> impl Iterator<Item = (usize, u64)> {
    counts.iter().copied().enumerate().filter(|(_, value)| *value > 0)
}

/// The families of a page, in the order they were added.
#[derive(Default)]
struct Page {
    families: Vec<MetricFamily>,
}

impl Page {
    /// Adds a family with the series that `fill` adds to it, or nothing if there are none.
    fn add(&mut self, definition: &'static Definition, fill: impl FnOnce(&mut Series)) {
        let mut series = Series { definition, metrics: Vec::new() };
        fill(&mut series);
        if series.metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(definition.name.to_owned());
        family.set_help(definition.help.to_owned());
        family.set_field_type(match definition.kind {
            MetricKind::Counter => MetricType::COUNTER,
            MetricKind::Gauge => MetricType::GAUGE,
            MetricKind::Histogram => MetricType::HISTOGRAM,
        });
        family.set_metric(series.metrics);
        self.families.push(family);
    }

    /// Adds a family of one series without labels.
    fn one(&mut self, definition: &'static Definition, value: f64) {
        self.add(definition, |series| series.value(&[], value));
    }
}

/// The series of one family.
struct Series {
    definition: &'static Definition,
    metrics: Vec<Metric>,
}

impl Series {
    fn metric(&self, labels: &[&str]) -> Metric {
        debug_assert_eq!(labels.len(), self.definition.labels.len(), "{}", self.definition.name);
        let pairs = self.definition.labels.iter().zip(labels).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        Metric::from_label(pairs.collect())
    }

    /// Adds a counter or a gauge.
    fn value(&mut self, labels: &[&str], value: f64) {
        let mut metric = self.metric(labels);
        match self.definition.kind {
            MetricKind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            MetricKind::Gauge | MetricKind::Histogram => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.metrics.push(metric);
    }

    /// Adds a counter whose series appears with its first event.
    fn above_zero(&mut self, labels: &[&str], value: u64) {
        if value > 0 {
            self.value(labels, count(value));
        }
    }

    /// Adds the sum of some cores' histograms, unless all are empty. The count is that of the
    /// buckets as they were read, so it agrees with them whatever the writers do meanwhile.
    fn durations<'a>(
        &mut self,
        bucket: &str,
        histograms: impl Iterator<Item = &'a Durations> + Clone,
    ) {
        let counts: [u64; DURATION_BUCKETS] = sum(histograms.clone().map(Durations::counts));
        let total = counts.iter().sum();
        if total == 0 {
            return;
        }
        let mut cumulative = 0;
        let buckets = DURATION_BOUNDS_US.iter().zip(counts).map(|(bound_us, in_bucket)| {
            cumulative += in_bucket;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(count(*bound_us) / MICROSECONDS_PER_SECOND);
            bucket.set_cumulative_count(cumulative);
            bucket
        });
        let sum_ns: u64 = histograms.map(Durations::sum_ns).sum();
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(total);
        histogram.set_sample_sum(count(sum_ns) / NANOSECONDS_PER_SECOND);
        let mut metric = self.metric(&[bucket]);
        metric.set_histogram(histogram);
        self.metrics.push(metric);
    }
}

#[cfg(test)]
mod tests;
