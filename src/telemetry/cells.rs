//! Counters of one core.
//!
//! A cell has one writer, the core that owns it, and any number of readers. The writer needs no
//! read-modify-write instruction: it loads, adds and stores, all relaxed, which compiles to plain
//! moves. Two writers on one cell would lose counts silently, so the rule is: a worker
//! touches only the [`CoreCells`] and the [`BucketCells`] at its own worker index.
//!
//! Readers see each cell whole but not all cells at one instant. What must agree within a scrape
//! (a histogram and its count) is therefore derived from one reading, never from two cells.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{
    protocol::content_coding::Coding,
    telemetry::labels::{
        AuthFailure, ConnectionState, Http2GoAway, Http2Reset, Method, RejectReason, STATUS_SLOTS,
        TlsCipher, TlsFailure, UpstreamErrorReason, status_slot,
    },
};

/// A number that only grows. Single writer.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning core may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Adds one. Only the owning core may call this.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// The value, from any thread.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down. Single writer.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the value. Only the owning core may call this.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Adds one. Only the owning core may call this.
    #[inline]
    pub fn inc(&self) {
        self.set(self.get().wrapping_add(1));
    }

    /// Takes one away. Only the owning core may call this. Below zero is a bug of the caller; the
    /// value then stays at zero rather than becoming 2^64 - 1.
    #[inline]
    pub fn dec(&self) {
        let value = self.get();
        debug_assert!(value > 0, "a gauge went below zero");
        self.set(value.saturating_sub(1));
    }

    /// The value, from any thread.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

const NANOSECONDS_PER_MICROSECOND: u64 = 1_000;

/// Upper bounds of the histogram buckets, in microseconds: from an object in the memory of a
/// near S3 server to a large download, two or three for each decade.
pub(crate) const DURATION_BOUNDS_US: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000, 60_000_000,
];

/// Buckets with the last one, which has no bound.
pub(crate) const DURATION_BUCKETS: usize = DURATION_BOUNDS_US.len() + 1;

/// Distribution of durations. Single writer.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Histogram {
    buckets: [Counter; DURATION_BUCKETS],
    sum_ns: Counter,
}

impl Histogram {
    /// Counts one duration, in nanoseconds. Only the owning core may call this.
    #[inline]
    pub fn observe(&self, duration_ns: u64) {
        // Linear: nearly all durations fall into the first few buckets. A bound itself belongs
        // to its bucket (`le`).
        let bucket = DURATION_BOUNDS_US
            .iter()
            .position(|bound_us| duration_ns <= bound_us * NANOSECONDS_PER_MICROSECOND)
            .unwrap_or(DURATION_BOUNDS_US.len());
        self.buckets[bucket].inc();
        self.sum_ns.add(duration_ns);
    }

    /// Counts of each bucket (not cumulative), from any thread.
    pub(crate) fn counts(&self) -> [u64; DURATION_BUCKETS] {
        std::array::from_fn(|bucket| self.buckets[bucket].get())
    }

    /// Sum of all durations, in nanoseconds, from any thread.
    pub(crate) fn sum_ns(&self) -> u64 {
        self.sum_ns.get()
    }
}

/// A counter for each status slot.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct StatusCounters([Counter; STATUS_SLOTS]);

impl StatusCounters {
    /// Counts one response. Only the owning core may call this.
    #[inline]
    pub fn inc(&self, status: u16) {
        self.0[status_slot(status)].inc();
    }

    /// The value of a status; statuses that share a slot share the value.
    pub fn get(&self, status: u16) -> u64 {
        self.0[status_slot(status)].get()
    }

    /// All values, by slot.
    pub(crate) fn counts(&self) -> [u64; STATUS_SLOTS] {
        std::array::from_fn(|slot| self.0[slot].get())
    }
}

/// Finished requests. Laid out so that a fast 200 to a GET touches three neighbouring cache lines.
#[derive(Debug, Default)]
#[repr(C)]
pub struct RequestCells {
    duration: Histogram,
    response_bytes: Counter,
    requests: [StatusCounters; Method::COUNT],
}

impl RequestCells {
    /// Counts one finished request: its status, the time from its first byte to the last one of the
    /// response (in nanoseconds), and the body bytes sent.
    #[inline]
    pub fn record(&self, method: Method, status: u16, duration_ns: u64, bytes: u64) {
        self.requests[method.index()].inc(status);
        self.duration.observe(duration_ns);
        self.response_bytes.add(bytes);
    }

    /// Counters of one method, by status.
    pub fn requests(&self, method: Method) -> &StatusCounters {
        &self.requests[method.index()]
    }

    /// Durations of requests.
    pub fn duration(&self) -> &Histogram {
        &self.duration
    }

    /// Body bytes sent to clients.
    pub fn response_bytes(&self) -> &Counter {
        &self.response_bytes
    }
}

/// Traffic with S3 on behalf of one bucket.
#[derive(Debug, Default)]
#[repr(C)]
pub struct UpstreamCells {
    /// From the request being sent to the first byte of the response head.
    pub first_byte: Histogram,
    /// Response heads received, by status.
    pub requests: StatusCounters,
    errors: [Counter; UpstreamErrorReason::COUNT],
    connections: [Gauge; ConnectionState::COUNT],
}

impl UpstreamCells {
    /// Counter of one kind of error.
    #[inline]
    pub fn error(&self, reason: UpstreamErrorReason) -> &Counter {
        &self.errors[reason.index()]
    }

    /// Open connections in one state. Buckets with the same endpoint share connections: an idle
    /// one belongs to the bucket that used it last.
    #[inline]
    pub fn connections(&self, state: ConnectionState) -> &Gauge {
        &self.connections[state.index()]
    }
}

/// Bodies that were compressed in one coding.
#[derive(Debug, Default)]
#[repr(C)]
pub struct CodingCells {
    /// Bodies, whether the client got them to their ends or not.
    pub responses: Counter,
    /// Their bytes.
    pub read: Counter,
    /// Bytes that these were compressed into.
    pub written: Counter,
}

/// Compression for clients of one bucket.
#[derive(Debug, Default)]
#[repr(C)]
pub struct CompressionCells {
    codings: [CodingCells; Coding::ALL.len()],
    /// Bodies for whose encoders there was no memory.
    pub skipped: Counter,
}

impl CompressionCells {
    /// Counts a body of so many bytes that became so many. Only the owning core may call this.
    pub fn record(&self, coding: Coding, read: u64, written: u64) {
        let cells = self.of(coding);
        cells.responses.inc();
        cells.read.add(read);
        cells.written.add(written);
    }

    /// Counters of one coding.
    pub fn of(&self, coding: Coding) -> &CodingCells {
        &self.codings[coding as usize]
    }
}

/// Counters of one bucket on one core. They outlive a reload that keeps the bucket.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct BucketCells {
    /// Finished requests.
    pub requests: RequestCells,
    /// Traffic with S3.
    pub upstream: UpstreamCells,
    /// Compression of responses.
    pub compression: CompressionCells,
}

impl BucketCells {
    /// A fresh set for each of `workers` cores.
    pub fn for_workers(workers: usize) -> Box<[Arc<Self>]> {
        (0..workers).map(|_| Arc::new(Self::default())).collect()
    }

    /// Counts one finished request; see [`RequestCells::record`].
    #[inline]
    pub fn record_request(&self, method: Method, status: u16, duration_ns: u64, bytes: u64) {
        self.requests.record(method, status, duration_ns, bytes);
    }

    /// Counts one S3 response head: its status, and the time to its first byte, in nanoseconds.
    #[inline]
    pub fn record_upstream(&self, status: u16, first_byte_ns: u64) {
        self.upstream.requests.inc(status);
        self.upstream.first_byte.observe(first_byte_ns);
    }
}

/// Memory for one bucket on one core, in bytes: 1,000 buckets on 4 cores cost 6.4 MiB.
pub const BUCKET_CELLS_BYTES_MAX: usize = 1_664;

const _: () = assert!(size_of::<BucketCells>() <= BUCKET_CELLS_BYTES_MAX);

/// Verification keys that are counted apart; the uses of all further ones share one counter.
/// Keys are rotated one at a time, so a process rarely sees more in its life.
pub const JWT_KEY_SLOTS: usize = 32;

/// HTTP/2 towards clients, on one core.
///
/// Aligned as the cells of a core are: other cores read the open streams with each request over
/// HTTP/2, and must not slow down the counters of HTTP/1.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Http2Cells {
    /// Open connections.
    pub connections: Gauge,
    /// Open streams: requests that are being served.
    pub streams: Gauge,
    /// Requests that were started.
    pub requests: Counter,
    resets: [Counter; Http2Reset::COUNT],
    goaways: [Counter; Http2GoAway::COUNT],
}

impl Http2Cells {
    /// Counter of streams that ended before their response did, for one reason.
    pub fn resets(&self, reason: Http2Reset) -> &Counter {
        &self.resets[reason.index()]
    }

    /// Counter of connections that were told to end, for one reason.
    pub fn goaways(&self, reason: Http2GoAway) -> &Counter {
        &self.goaways[reason.index()]
    }
}

/// Counters of one core that belong to no bucket.
///
/// 128-byte alignment: Intel's adjacent-line prefetcher moves lines in pairs, and cells of
/// different cores must not share one.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct CoreCells {
    connections: [Gauge; ConnectionState::COUNT],
    /// Those of the main listeners, in any state.
    pub main_connections: Gauge,
    /// Those of the admin listener, in any state.
    pub admin_connections: Gauge,
    /// Client connections accepted.
    pub accepted: Counter,
    /// Upstream connections that were established.
    pub upstream_connects: Counter,
    /// Generation that this core serves; 0 before the first.
    pub generation: Gauge,
    /// Access-log lines dropped because the writer did not keep up.
    pub access_log_dropped: Counter,
    /// Connection tasks that panicked and were caught.
    pub panics: Counter,
    rejected: [Counter; RejectReason::COUNT],
    auth_failures: [Counter; AuthFailure::COUNT],
    jwt_key_uses: [Counter; JWT_KEY_SLOTS],
    /// Uses of all further keys.
    other_jwt_key_uses: Counter,
    /// HTTP/2 towards clients.
    pub http2: Http2Cells,
    /// Full handshakes, and those that resumed a session.
    tls_handshakes: [[Counter; 2]; TlsCipher::COUNT],
    tls_failures: [Counter; TlsFailure::COUNT],
    /// Requests that no bucket served.
    pub unrouted: RequestCells,
}

impl CoreCells {
    /// A fresh set for each of `workers` cores.
    pub fn for_workers(workers: usize) -> Box<[Arc<Self>]> {
        (0..workers).map(|_| Arc::new(Self::default())).collect()
    }

    /// Client connections in one state.
    #[inline]
    pub fn connections(&self, state: ConnectionState) -> &Gauge {
        &self.connections[state.index()]
    }

    /// All open client connections, of whichever listener. A reader on another core may be off by
    /// one for each connection that changes its state just then.
    #[inline]
    pub fn connections_open(&self) -> u64 {
        self.connections.iter().map(Gauge::get).sum()
    }

    /// Counter of connections turned away for one reason.
    #[inline]
    pub fn rejected(&self, reason: RejectReason) -> &Counter {
        &self.rejected[reason.index()]
    }

    /// Counter of requests refused for one reason.
    #[inline]
    pub fn auth_failures(&self, reason: AuthFailure) -> &Counter {
        &self.auth_failures[reason.index()]
    }

    /// Counter of TLS handshakes with clients.
    #[inline]
    pub fn tls_handshakes(&self, cipher: TlsCipher, resumed: bool) -> &Counter {
        &self.tls_handshakes[cipher.index()][usize::from(resumed)]
    }

    /// Counter of TLS handshakes with clients that failed for one reason.
    #[inline]
    pub fn tls_failures(&self, reason: TlsFailure) -> &Counter {
        &self.tls_failures[reason.index()]
    }

    /// Counter of tokens accepted with the key in `slot`
    /// (from [`KeySlots`](crate::telemetry::key_slots::KeySlots)).
    #[inline]
    pub fn jwt_key_uses(&self, slot: usize) -> &Counter {
        self.jwt_key_uses.get(slot).unwrap_or(&self.other_jwt_key_uses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_adds_up() {
        let counter = Counter::default();
        counter.inc();
        counter.add(41);
        assert_eq!(counter.get(), 42);
    }

    #[test]
    fn a_gauge_goes_up_and_down() {
        let gauge = Gauge::default();
        gauge.inc();
        gauge.inc();
        gauge.dec();
        assert_eq!(gauge.get(), 1);
        gauge.set(7);
        assert_eq!(gauge.get(), 7);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "below zero")]
    fn a_gauge_below_zero_is_a_bug() {
        Gauge::default().dec();
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        for (bucket, bound_us) in DURATION_BOUNDS_US.iter().enumerate() {
            let histogram = Histogram::default();
            histogram.observe(bound_us * 1_000);
            histogram.observe(bound_us * 1_000 + 1);
            let counts = histogram.counts();
            assert_eq!((counts[bucket], counts[bucket + 1]), (1, 1), "{bound_us}");
        }
    }

    #[test]
    fn extreme_durations_have_a_bucket() {
        let histogram = Histogram::default();
        histogram.observe(0);
        histogram.observe(u64::MAX);
        let counts = histogram.counts();
        assert_eq!((counts[0], counts[DURATION_BUCKETS - 1]), (1, 1));
    }

    #[test]
    fn bounds_ascend() {
        assert!(DURATION_BOUNDS_US.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn one_request_moves_exactly_its_own_cells() {
        let cells = BucketCells::default();
        cells.record_request(Method::Head, 206, 3_000_000, 512);
        for method in Method::ALL {
            for status in 100..600 {
                let expected = u64::from(*method == Method::Head && status == 206);
                assert_eq!(cells.requests.requests(*method).get(status), expected);
            }
        }
        assert_eq!(cells.requests.response_bytes().get(), 512);
        assert_eq!(cells.requests.duration().sum_ns(), 3_000_000);
        assert_eq!(cells.requests.duration().counts().iter().sum::<u64>(), 1);
        assert_eq!(cells.upstream.requests.counts().iter().sum::<u64>(), 0);
    }

    #[test]
    fn a_compressed_body_moves_the_cells_of_its_coding() {
        let cells = CompressionCells::default();
        cells.record(Coding::Brotli, 1_000, 200);
        for coding in Coding::ALL {
            let of = cells.of(coding);
            let counts = [of.responses.get(), of.read.get(), of.written.get()];
            let expected = if coding == Coding::Brotli { [1, 1_000, 200] } else { [0; 3] };
            assert_eq!(counts, expected, "{}", coding.name());
        }
        assert_eq!(cells.skipped.get(), 0);
    }

    #[test]
    fn keys_beyond_the_table_share_a_counter() {
        let cells = CoreCells::default();
        cells.jwt_key_uses(JWT_KEY_SLOTS).inc();
        cells.jwt_key_uses(usize::MAX).inc();
        assert_eq!(cells.jwt_key_uses(JWT_KEY_SLOTS).get(), 2);
        assert_eq!(cells.jwt_key_uses(0).get(), 0);
    }

    #[test]
    fn cores_do_not_share_a_cache_line() {
        assert_eq!(size_of::<CoreCells>() % 128, 0);
        // Cells of HTTP/2 have lines of their own.
        assert_eq!(std::mem::offset_of!(CoreCells, http2) % 128, 0);
        assert_eq!(size_of::<Http2Cells>() % 128, 0);
        assert_eq!(align_of::<BucketCells>(), 64);
        assert_eq!(size_of::<BucketCells>() % 64, 0);
    }

    #[test]
    fn a_reader_on_another_thread_never_sees_a_counter_go_back() {
        const COUNTS: u64 = 100_000;
        let cells = Arc::new(CoreCells::default());
        let reader = {
            let cells = Arc::clone(&cells);
            std::thread::spawn(move || {
                let mut last = 0;
                while last < COUNTS {
                    let now = cells.accepted.get();
                    assert!(now >= last);
                    last = now;
                }
            })
        };
        for _ in 0..COUNTS {
            cells.accepted.inc();
        }
        reader.join().unwrap();
    }
}
