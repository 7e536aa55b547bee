//! One connection to an S3 endpoint.

use std::{io, sync::Arc, time::Duration};

use crate::{
    data_plane::upstream::addresses::{Address, ToAddress},
    system::{clock::Monotonic, reactor::CloseReason, stream::Stream},
    telemetry::{cells::BucketCells, labels::ConnectionState},
};

/// Bytes of a body over TLS that are let come together, at most. The kernel wakes up a reader for
/// every record or two otherwise, which costs more than decrypting them.
const COALESCED_BYTES_MAX: usize = 131_072;

/// The same at least: for less, the two calls that it takes cost more than they save.
const COALESCED_BYTES_MIN: usize = 24_576;

/// Connections to an address that the resolver no longer gives are left within this time, not all
/// at once: S3's own names give some of many addresses, and others each time.
const LEFT_WITHIN: Duration = Duration::from_secs(10);

/// Connections that were opened together are replaced one after another: each within the last
/// tenth of its time.
const AGE_PARTS: u64 = 10;

/// An open connection, in use or idle. It is handed on several times a request, so it is kept in a
/// box.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    to: ToAddress,
    opened: Monotonic,
    /// Its share of such times, in 65,536ths, so that not all connections end at once.
    lot: u16,
    /// The bucket that it is counted for.
    cells: Arc<BucketCells>,
    /// The state that it is counted in.
    state: ConnectionState,
    /// True once a request has been answered on it.
    reused: bool,
}

impl Connection {
    /// A connection that was established just now, on which nothing was sent yet.
    pub(crate) fn new(
        stream: Stream,
        to: ToAddress,
        opened: Monotonic,
        lot: u16,
        cells: &Arc<BucketCells>,
    ) -> Self {
        let state = ConnectionState::Active;
        cells.upstream.connections(state).inc();
        Self { stream, to, opened, lot, cells: Arc::clone(cells), state, reused: false }
    }

    /// Begins to serve another request, of this bucket.
    pub(crate) fn take_for(&mut self, cells: &Arc<BucketCells>) {
        self.cells.upstream.connections(self.state).dec();
        if !Arc::ptr_eq(&self.cells, cells) {
            self.cells = Arc::clone(cells);
        }
        self.state = ConnectionState::Active;
        self.cells.upstream.connections(self.state).inc();
        self.reused = true;
    }

    /// Waits for the next request from now on.
    pub(crate) fn rest(&mut self) {
        self.cells.upstream.connections(self.state).dec();
        self.state = ConnectionState::Idle;
        self.cells.upstream.connections(self.state).inc();
        let registration = self.stream.registration();
        registration.coalesce(1);
        registration.waits_for(None);
    }

    /// Returns true if it has served a request before the present one.
    pub(crate) fn is_reused(&self) -> bool {
        self.reused
    }

    /// The address that it leads to.
    pub(crate) fn address(&self) -> &Address {
        &self.to
    }

    /// Returns true if it serves no further request: it is older than `max_age`, or the resolver no
    /// longer gives its address.
    pub(crate) fn is_over(&self, max_age: Duration, now: Monotonic) -> bool {
        let max_age = u64::try_from(max_age.as_nanos()).unwrap_or(u64::MAX);
        let sooner = self.part_of(max_age / AGE_PARTS);
        if now.since(self.opened) >= max_age - sooner {
            return true;
        }
        let left_within = u64::try_from(LEFT_WITHIN.as_nanos()).unwrap_or(u64::MAX);
        self.to.gone_since().is_some_and(|since| now.since(since) >= self.part_of(left_within))
    }

    fn part_of(&self, nanos: u64) -> u64 {
        let part = (u128::from(nanos) * u128::from(self.lot)) >> 16;
        u64::try_from(part).unwrap_or(u64::MAX)
    }

    /// Returns true if it is open and nothing has arrived on it since its last response.
    pub(crate) fn is_quiet(&self) -> bool {
        self.stream.is_quiet()
    }

    /// Returns true if memory holds something that arrived behind the last response: decrypted
    /// bytes, or a part of a record.
    pub(crate) fn has_leftover(&self) -> bool {
        self.stream.has_leftover()
    }

    /// The stream, for its deadline and for splicing.
    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The reason why it was ended from this side, if it was.
    pub(crate) fn ended(&self) -> CloseReason {
        self.stream.registration().close_reason()
    }

    /// Sends a request, which it may empty. A failure may be that of the first read only.
    pub(crate) fn send(&self, request: &mut Vec<u8>) -> impl Future<Output = io::Result<()>> {
        async move { self.stream.write_soon(request).await }
    }

    /// Waits until [`Connection::recv`] is likely to return at once, without holding a buffer.
    pub(crate) fn wait(&self) -> impl Future<Output = ()> {
        async move {
            self.stream.readable().await;
        }
    }

    /// The same, where `left` bytes of a body are known to follow: lets some come together, so that
    /// waking up for them is worth it.
    pub(crate) async fn wait_for_body(&self, left: u64) {
        if self.stream.splice_fd().is_none() {
            // A record is longer than its plaintext, so at least so many bytes are still to come.
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            let to_come = left.saturating_sub(self.stream.held_bytes());
            let bytes = to_come.min(COALESCED_BYTES_MAX);
            self.stream.registration().coalesce(if bytes < COALESCED_BYTES_MIN {
                1
            } else {
                bytes
            });
        }
        self.wait().await;
    }

    /// Reads at least one byte, or 0 at the end.
    pub(crate) fn recv(&self, into: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        async move { self.stream.read(into).await }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.cells.upstream.connections(self.state).dec();
        // Closing a plain socket says the same.
        if self.stream.splice_fd().is_none() && self.ended() == CloseReason::Open {
            self.stream.finish();
        }
    }
}
