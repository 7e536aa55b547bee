//! Idle connections of one core to one endpoint, newest first.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use crate::{
    data_plane::upstream::connection::Connection,
    handoff::{
        live::{LiveTable, LiveVersion},
        snapshot::Endpoint,
    },
    system::{clock::Monotonic, tls::TlsClient},
    telemetry::cells::BucketCells,
};

/// How long an idle connection is kept. S3 itself closes after about 20 s of silence; a server of
/// one's own may keep it for longer, and then reuse is worth having.
const IDLE_MAX: Duration = Duration::from_mins(1);

/// How long an idle connection over the limit is kept.
const SPARE_MAX: Duration = Duration::from_secs(1);

/// The idle connections and the addresses of one endpoint.
#[derive(Debug)]
pub(crate) struct Pool {
    endpoint: RefCell<Arc<Endpoint>>,
    addresses: RefCell<Arc<[SocketAddr]>>,
    learned: RefCell<Learned>,
    idle: RefCell<Vec<Idle>>,
    retired: Cell<bool>,
    /// When a warning about the endpoint was last logged.
    warned: Cell<Option<Monotonic>>,
    /// Whether the last object of this endpoint was large.
    large: Cell<bool>,
    /// Idle connections wanted at rest, as the bucket that gave one back last says.
    most: Cell<usize>,
}

/// Time between two warnings about the same endpoint.
const WARN_INTERVAL_NS: u64 = 60_000_000_000;

/// What a pool took over from the live values.
#[derive(Debug, Default)]
struct Learned {
    version: LiveVersion,
    addresses: Option<Arc<[SocketAddr]>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Monotonic,
}

impl Pool {
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self {
            endpoint: RefCell::new(endpoint),
            addresses: RefCell::new(Arc::from([])),
            learned: RefCell::default(),
            idle: RefCell::default(),
            retired: Cell::new(false),
            warned: Cell::new(None),
            large: Cell::new(false),
            most: Cell::new(0),
        }
    }

    /// Takes over what a newer generation says about the same endpoint.
    pub(crate) fn refresh(&self, endpoint: &Arc<Endpoint>) {
        self.retired.set(false);
        *self.endpoint.borrow_mut() = Arc::clone(endpoint);
    }

    pub(crate) fn key(&self) -> Arc<str> {
        Arc::clone(&self.endpoint.borrow().key)
    }

    pub(crate) fn tls(&self) -> Option<Arc<TlsClient>> {
        self.endpoint.borrow().tls.clone()
    }

    pub(crate) fn addresses(&self) -> Arc<[SocketAddr]> {
        Arc::clone(&self.addresses.borrow())
    }

    /// Takes over the addresses that the live values have for the endpoint, if they are others than
    /// those that were taken over last. A host without any keeps what it had.
    pub(crate) fn learn(&self, live: &LiveTable) {
        let mut learned = self.learned.borrow_mut();
        if learned.version == live.version() {
            return;
        }
        learned.version = live.version();
        let Some(now) = live.addresses(&self.endpoint.borrow().host_port()) else { return };
        if !learned.addresses.as_ref().is_some_and(|before| Arc::ptr_eq(before, now)) {
            learned.addresses = Some(Arc::clone(now));
            self.set_addresses(Arc::clone(now));
        }
    }

    pub(crate) fn set_addresses(&self, addresses: Arc<[SocketAddr]>) {
        *self.addresses.borrow_mut() = addresses;
    }

    /// Tries this address first from now on: the ones before it did not answer.
    pub(crate) fn prefer(&self, address: SocketAddr) {
        let mut addresses = self.addresses().to_vec();
        if let Some(at) = addresses.iter().position(|known| *known == address) {
            addresses.rotate_left(at);
            self.set_addresses(addresses.into());
        }
    }

    /// Whether a warning about the endpoint is due, so that clients can't flood the log.
    pub(crate) fn may_warn(&self, now: Monotonic) -> bool {
        let is_due = self.warned.get().is_none_or(|at| now.since(at) >= WARN_INTERVAL_NS);
        if is_due {
            self.warned.set(Some(now));
        }
        is_due
    }

    /// Whether the next object is likely to be as large as the last one was.
    pub(crate) fn expects_large(&self) -> bool {
        self.large.get()
    }

    /// Notes whether an object was large.
    pub(crate) fn expect_large(&self, large: bool) {
        self.large.set(large);
    }

    /// Closes the idle connections, and later each busy one as it comes back.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
        self.drop_all(self.idle.take());
    }

    /// The idle connection that was used last and is still usable.
    pub(crate) fn take(&self, cells: &Arc<BucketCells>) -> Option<Connection> {
        loop {
            let mut idle = self.idle.borrow_mut().pop()?;
            if idle.connection.is_quiet() {
                idle.connection.taken_for(cells);
                return Some(idle.connection);
            }
            // Closed by the server, or bytes arrived that nobody asked for: it can't be trusted.
            idle.connection.leave_idle();
        }
    }

    /// Keeps a connection whose answer was complete. More than `most` are kept only until a
    /// [`Pool::sweep`] finds that they were not needed for a while: under load, connections are
    /// idle for microseconds between two requests, and closing them there would mean connecting
    /// again at once.
    pub(crate) fn give_back(&self, connection: Connection, most: usize, now: Monotonic) {
        if self.retired.get() || most == 0 {
            return;
        }
        self.most.set(most);
        let mut idle = self.idle.borrow_mut();
        connection.given_back();
        connection.socket().watch().disarm();
        connection.socket().watch().gather(1);
        connection.socket().watch().waits_for_client(None);
        idle.push(Idle { connection, since: now });
    }

    /// Closes idle connections that are too old, were closed by the server, or received bytes.
    pub(crate) fn sweep(&self, now: Monotonic) {
        let mut kept = Vec::new();
        let mut ended = Vec::new();
        let all = self.idle.take();
        // The oldest come first, so those over the limit are the ones that were needed least.
        let mut over = all.len().saturating_sub(self.most.get());
        for mut idle in all {
            let age = Duration::from_nanos(now.since(idle.since));
            let spare = over > 0 && age >= SPARE_MAX;
            if age < IDLE_MAX && !spare && idle.connection.is_quiet() {
                kept.push(idle);
            } else {
                over = over.saturating_sub(1);
                ended.push(idle);
            }
        }
        *self.idle.borrow_mut() = kept;
        self.drop_all(ended);
    }

    #[expect(clippy::unused_self, reason = "reads as part of the pool's bookkeeping")]
    fn drop_all(&self, ended: Vec<Idle>) {
        for idle in ended {
            idle.connection.leave_idle();
        }
    }
}
