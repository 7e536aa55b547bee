//! Idle connections of one core to one endpoint, newest first.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use crate::{
    data_plane::upstream::connection::Connection,
    handoff::snapshot::Endpoint,
    system::{clock::Monotonic, tls::TlsClient},
    telemetry::cells::BucketCells,
};

/// How long an idle connection is kept. S3 itself closes after about 20 s of silence; a server of
/// one's own may keep it for longer, and then reuse is worth having.
const IDLE_MAX: Duration = Duration::from_mins(1);

/// The idle connections and the addresses of one endpoint.
#[derive(Debug)]
pub(crate) struct Pool {
    endpoint: RefCell<Arc<Endpoint>>,
    addresses: RefCell<Arc<[SocketAddr]>>,
    idle: RefCell<Vec<Idle>>,
    retired: Cell<bool>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Monotonic,
}

impl Pool {
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        let addresses = RefCell::new(Arc::clone(&endpoint.addresses));
        Self {
            endpoint: RefCell::new(endpoint),
            addresses,
            idle: RefCell::default(),
            retired: Cell::new(false),
        }
    }

    /// Takes over what a newer generation says about the same endpoint.
    pub(crate) fn refresh(&self, endpoint: &Arc<Endpoint>) {
        self.retired.set(false);
        if !endpoint.addresses.is_empty() {
            self.set_addresses(Arc::clone(&endpoint.addresses));
        }
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

    pub(crate) fn set_addresses(&self, addresses: Arc<[SocketAddr]>) {
        *self.addresses.borrow_mut() = addresses;
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

    /// Keeps a connection whose answer was complete, unless there are enough.
    pub(crate) fn give_back(&self, connection: Connection, most: usize, now: Monotonic) {
        let mut idle = self.idle.borrow_mut();
        if self.retired.get() || idle.len() >= most {
            return;
        }
        connection.given_back();
        connection.socket().watch().disarm();
        connection.socket().watch().waits_for_client(None);
        idle.push(Idle { connection, since: now });
    }

    /// Closes idle connections that are too old, were closed by the server, or received bytes.
    pub(crate) fn sweep(&self, now: Monotonic) {
        let mut kept = Vec::new();
        let mut ended = Vec::new();
        for mut idle in self.idle.take() {
            let young =
                now.since(idle.since) < u64::try_from(IDLE_MAX.as_nanos()).unwrap_or(u64::MAX);
            if young && idle.connection.is_quiet() {
                kept.push(idle);
            } else {
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
