//! The state of one S3 endpoint on one core: its addresses, its idle connections, and the size that
//! its next object is likely to have.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

pub(crate) use crate::data_plane::upstream::pool::Keeping;
use crate::{
    data_plane::upstream::{
        addresses::Addresses,
        connect::Connector,
        connection::Connection,
        error::{Kind, Phase, UpstreamError},
        pool::Pool,
    },
    handoff::{
        live::{LiveTable, LiveVersion},
        snapshot::Endpoint,
    },
    system::{clock::Monotonic, process, tls::TlsClient},
    telemetry::cells::BucketCells,
};

/// Time between two warnings about the same endpoint.
const WARN_INTERVAL_NS: u64 = 60_000_000_000;

/// The state of one endpoint on one core.
#[derive(Debug)]
pub(crate) struct EndpointState {
    endpoint: RefCell<Arc<Endpoint>>,
    learned: RefCell<Learned>,
    addresses: Addresses,
    pool: Pool,
    /// Time of the last warning about the endpoint.
    warned: Cell<Option<Monotonic>>,
    expects: Expectation,
    random: Random,
}

/// Live values that were taken over.
#[derive(Debug, Default)]
struct Learned {
    version: LiveVersion,
    addresses: Option<Arc<[SocketAddr]>>,
}

impl EndpointState {
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        let random = Random::new();
        Self {
            endpoint: RefCell::new(endpoint),
            learned: RefCell::default(),
            addresses: Addresses::new(usize::from(random.next())),
            pool: Pool::default(),
            warned: Cell::new(None),
            expects: Expectation::default(),
            random,
        }
    }

    /// Takes over what a newer generation says about the same endpoint.
    pub(crate) fn refresh(&self, endpoint: &Arc<Endpoint>) {
        self.pool.revive();
        *self.endpoint.borrow_mut() = Arc::clone(endpoint);
    }

    /// Closes the idle connections, and later each busy one as it comes back.
    pub(crate) fn retire(&self) {
        self.pool.retire();
    }

    /// Closes the idle connections, because descriptors are needed elsewhere. Returns true if there
    /// were any.
    pub(crate) fn evict(&self) -> bool {
        self.pool.evict()
    }

    /// Takes over the addresses that the live values have for the endpoint, if they are others than
    /// those that were taken over last. A host without any keeps what it had.
    pub(crate) fn learn(&self, live: &LiveTable, now: Monotonic) {
        let mut learned = self.learned.borrow_mut();
        if learned.version == live.version() {
            return;
        }
        learned.version = live.version();
        let Some(given) = live.addresses(&self.endpoint.borrow().host_port()) else { return };
        if !learned.addresses.as_ref().is_some_and(|before| Arc::ptr_eq(before, given)) {
            learned.addresses = Some(Arc::clone(given));
            self.addresses.replace(given, now);
        }
    }

    /// The idle connection that was used last and is still usable.
    pub(crate) fn take(
        &self,
        max_age: Duration,
        now: Monotonic,
        cells: &Arc<BucketCells>,
    ) -> Option<Box<Connection>> {
        self.pool.take(max_age, now, cells)
    }

    /// Keeps a connection whose response was complete.
    pub(crate) fn give_back(&self, connection: Box<Connection>, keeping: Keeping, now: Monotonic) {
        self.pool.give_back(connection, keeping, now);
    }

    /// Closes the idle connections whose time is over.
    pub(crate) fn sweep(&self, now: Monotonic) {
        self.pool.sweep(now);
    }

    /// Opens a connection to the address that is best, or to the next one that takes it, within the
    /// connector's timeout altogether, TLS handshake included.
    pub(crate) async fn open(
        &self,
        connector: &Connector<'_>,
    ) -> Result<Box<Connection>, UpstreamError> {
        let clock = &connector.reactor.clock;
        let mut now = clock.refresh();
        let deadline = now.plus(connector.timeout);
        let order = self.addresses.in_order(now);
        let tls = self.tls();
        let mut last = UpstreamError::new(Kind::NoAddress, Phase::Connect);
        for (number, address) in order.iter().enumerate() {
            // One that is silent must leave time for those behind it.
            let behind = u64::try_from(order.len() - number).unwrap_or(u64::MAX);
            let share = Duration::from_nanos(deadline.since(now) / behind.max(1));
            address.is_tried(now);
            let within = (now.plus(share), deadline);
            match connector.connect(address, tls.as_deref(), self.random.next(), within).await {
                // That it takes connections says nothing of a server that hangs: a response does.
                Ok(connection) => return Ok(connection),
                Err(error) if error.is_client_gone() || error.is_out_of_descriptors() => {
                    return Err(error);
                }
                Err(error) => {
                    now = clock.refresh();
                    address.fails(now);
                    last = error;
                }
            }
            if deadline <= now {
                break;
            }
        }
        Err(last)
    }

    /// Logs a failure, once per interval, so that clients can't flood the log.
    pub(crate) fn warn(&self, bucket: &str, error: &UpstreamError, now: Monotonic) {
        let Some(reason) = error.reason() else { return };
        if self.warned.get().is_some_and(|at| now.since(at) < WARN_INTERVAL_NS) {
            return;
        }
        self.warned.set(Some(now));
        tracing::warn!(
            bucket,
            endpoint = self.endpoint.borrow().url(),
            address = error.address().map(tracing::field::display),
            reason = reason.label(),
            errno = error.errno(),
            %error,
            "a request to S3 failed; this is logged once a minute"
        );
    }

    /// The size of objects to expect.
    pub(crate) fn expects(&self) -> &Expectation {
        &self.expects
    }

    fn tls(&self) -> Option<Arc<TlsClient>> {
        self.endpoint.borrow().tls.clone()
    }
}

/// The guess whether the next object of an endpoint is large. To take a small one for a large one
/// costs two calls, and the reverse a copy.
#[derive(Debug)]
pub(crate) struct Expectation(Cell<u8>);

impl Expectation {
    /// The surest guess that the next one is large, and the only one that is acted on.
    const LARGE: u8 = 3;

    /// Steps back for each small object, so that objects that alternate are taken for small.
    const BACK: u8 = 2;

    /// Returns true if the next object is likely to be large.
    pub(crate) fn is_large(&self) -> bool {
        self.0.get() == Self::LARGE
    }

    /// Learns from an object.
    pub(crate) fn learn(&self, large: bool) {
        let known = self.0.get();
        let next = if large { known + 1 } else { known.saturating_sub(Self::BACK) };
        self.0.set(next.min(Self::LARGE));
    }
}

impl Default for Expectation {
    /// One large object is enough in the beginning.
    fn default() -> Self {
        Self(Cell::new(Self::LARGE - 1))
    }
}

/// Numbers that differ from core to core, for spreading (xorshift; they need not be secret).
#[derive(Debug)]
struct Random(Cell<u64>);

impl Random {
    fn new() -> Self {
        let mut seed = [0; 8];
        if process::random(&mut seed).is_err() {
            seed = Monotonic::now().0.to_le_bytes();
        }
        // Zero would stay zero.
        Self(Cell::new(u64::from_le_bytes(seed) | 1))
    }

    fn next(&self) -> u16 {
        let mut x = self.0.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.set(x);
        let [.., a, b] = x.to_le_bytes();
        u16::from_le_bytes([a, b])
    }
}

#[cfg(test)]
mod tests;
