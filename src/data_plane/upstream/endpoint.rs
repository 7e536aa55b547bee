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
    /// True if the last object of this endpoint was large.
    large: Cell<bool>,
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
            large: Cell::new(false),
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
    ) -> Option<Connection> {
        self.pool.take(max_age, now, cells)
    }

    /// Keeps a connection whose response was complete.
    pub(crate) fn give_back(&self, connection: Connection, keeping: Keeping, now: Monotonic) {
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
    ) -> Result<Connection, UpstreamError> {
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
            endpoint = &*self.endpoint.borrow().key,
            address = error.address().map(tracing::field::display),
            reason = reason.label(),
            errno = error.errno(),
            %error,
            "a request to S3 failed; this is logged once a minute"
        );
    }

    /// Returns true if the next object is likely to be large, as the last one was.
    pub(crate) fn expects_large(&self) -> bool {
        self.large.get()
    }

    /// Notes the size of an object: large or not.
    pub(crate) fn expect_large(&self, large: bool) {
        self.large.set(large);
    }

    fn tls(&self) -> Option<Arc<TlsClient>> {
        self.endpoint.borrow().tls.clone()
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
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
        rc::Rc,
    };

    use super::*;
    use crate::{
        handoff::live::HostPort,
        system::{
            buffers::Buffers,
            reactor::Reactor,
            ring::{self, IoChoice},
            socket::{Socket, pair},
        },
        telemetry::labels::ConnectionState,
    };

    const KEEPING: Keeping = Keeping { most: 64, max_age: Duration::from_mins(5) };

    /// Servers at several addresses of one host name.
    struct Servers {
        listeners: Vec<TcpListener>,
        port: u16,
    }

    impl Servers {
        fn start(count: u8) -> Self {
            // The port that is free at the first address may be taken at another.
            let found = (0..100).find_map(|_| {
                let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                let port = first.local_addr().unwrap().port();
                let mut listeners = vec![first];
                for last in 2..=count {
                    // The whole of 127.0.0.0/8 is the loopback (RFC 1122 section 3.2.1.3).
                    let address = Ipv4Addr::new(127, 0, 0, last);
                    listeners.push(TcpListener::bind((address, port)).ok()?);
                }
                Some(Self { listeners, port })
            });
            let servers = found.unwrap();
            for listener in &servers.listeners {
                listener.set_nonblocking(true).unwrap();
            }
            servers
        }

        fn address(&self, last: u8) -> SocketAddr {
            SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), self.port)
        }

        fn host(&self) -> HostPort {
            ("s3.test".into(), self.port)
        }

        fn state(&self) -> EndpointState {
            let (host, port) = self.host();
            let key = format!("http://{host}:{port}").into();
            EndpointState::new(Arc::new(Endpoint { key, host, port, tls: None }))
        }

        fn live(&self, lasts: &[u8], version: u64) -> LiveTable {
            let mut live = LiveTable::default();
            let given: Arc<[_]> = lasts.iter().map(|last| self.address(*last)).collect();
            for _ in 0..version {
                live.set_addresses(self.host(), Arc::clone(&given));
            }
            live
        }

        /// Connections that each server has got since it was asked last.
        fn accepted(&self) -> Vec<Vec<TcpStream>> {
            let accept = |listener: &TcpListener| {
                std::iter::from_fn(|| Some(listener.accept().ok()?.0)).collect()
            };
            self.listeners.iter().map(accept).collect()
        }
    }

    /// Runs `test` with a function that opens a connection.
    fn with_core(test: &impl AsyncFn(&Core)) {
        ring::run(IoChoice::Auto, |_, _| async {
            let reactor = Reactor::start().unwrap();
            let (ours, _theirs) = pair().unwrap();
            let core = Core {
                client: Socket::new(ours, &reactor).unwrap(),
                buffers: Rc::new(Buffers::default()),
                cells: Arc::default(),
                reactor,
            };
            test(&core).await;
            assert_eq!(core.counts(), (0, 0), "every connection was counted to its end");
        })
        .unwrap();
    }

    struct Core {
        reactor: Rc<Reactor>,
        buffers: Rc<Buffers>,
        cells: Arc<BucketCells>,
        client: Socket,
    }

    impl Core {
        async fn open(&self, state: &EndpointState) -> Result<Connection, UpstreamError> {
            let connector = Connector {
                reactor: &self.reactor,
                buffers: &self.buffers,
                client: self.client.registration().presence(false),
                cells: &self.cells,
                timeout: Duration::from_secs(20),
            };
            state.open(&connector).await
        }

        fn now(&self) -> Monotonic {
            self.reactor.clock.refresh()
        }

        /// Connections in use and idle.
        fn counts(&self) -> (u64, u64) {
            let count = |state| self.cells.upstream.connections(state).get();
            (count(ConnectionState::Active), count(ConnectionState::Idle))
        }
    }

    #[test]
    fn connections_are_spread_over_the_addresses_of_an_endpoint() {
        with_core(&async |core| {
            let servers = Servers::start(3);
            let state = servers.state();
            state.learn(&servers.live(&[1, 2, 3], 1), core.now());
            let mut held = Vec::new();
            for _ in 0..12 {
                held.push(core.open(&state).await.unwrap());
            }
            let counts: Vec<_> = servers.accepted().iter().map(Vec::len).collect();
            assert_eq!(counts, [4, 4, 4]);
        });
    }

    #[test]
    fn not_all_cores_begin_with_the_same_address() {
        let servers = Servers::start(2);
        let live = servers.live(&[1, 2], 1);
        let firsts: Vec<_> = (0..64)
            .map(|_| {
                let state = servers.state();
                state.learn(&live, Monotonic(1));
                state.addresses.in_order(Monotonic(1))[0].socket_address()
            })
            .collect();
        assert!(firsts.iter().any(|first| *first != firsts[0]), "{firsts:?}");
    }

    #[test]
    fn an_address_that_refuses_costs_one_attempt_and_not_the_request() {
        with_core(&async |core| {
            let mut servers = Servers::start(2);
            let state = servers.state();
            state.learn(&servers.live(&[1, 2], 1), core.now());
            servers.listeners.remove(0);
            let mut held = Vec::new();
            for _ in 0..10 {
                held.push(core.open(&state).await.unwrap());
            }
            assert_eq!(servers.accepted()[0].len(), 10);
            servers.listeners.clear();
            let error = core.open(&state).await.unwrap_err();
            assert_eq!(error.fault(), Some(crate::model::Fault::UpstreamRefused));
            assert!(error.address().is_some() && error.errno().is_some(), "{error}");
        });
    }

    #[test]
    fn an_address_that_takes_connections_and_gives_no_response_stays_avoided() {
        with_core(&async |core| {
            let servers = Servers::start(2);
            let state = servers.state();
            state.learn(&servers.live(&[1], 1), core.now());
            let silent = core.open(&state).await.unwrap();
            silent.address().fails(core.now());
            drop(silent);
            // Another one is taken, but that is no response.
            drop(core.open(&state).await.unwrap());
            state.learn(&servers.live(&[1, 2], 2), core.now());
            let first = || state.addresses.in_order(core.now())[0].socket_address();
            assert_eq!([first(), first()], [servers.address(2); 2]);
        });
    }

    #[test]
    fn connections_to_an_address_that_is_no_longer_given_are_left() {
        with_core(&async |core| {
            let servers = Servers::start(2);
            let state = servers.state();
            let begun = core.now();
            state.learn(&servers.live(&[1], 1), begun);
            let idle = core.open(&state).await.unwrap();
            let busy = core.open(&state).await.unwrap();
            state.give_back(idle, KEEPING, begun);
            assert_eq!(core.counts(), (1, 1));
            state.learn(&servers.live(&[2], 2), begun);
            // Within ten seconds.
            let later = begun.plus(Duration::from_secs(10));
            state.sweep(later);
            assert_eq!(core.counts(), (1, 0));
            state.give_back(busy, KEEPING, later);
            assert_eq!(core.counts(), (0, 0));
            let fresh = core.open(&state).await.unwrap();
            assert_eq!(fresh.address().socket_address(), servers.address(2));
            state.give_back(fresh, KEEPING, later);
            state.sweep(later);
            assert_eq!(core.counts(), (0, 1));
            state.retire();
        });
    }

    #[test]
    fn a_connection_serves_no_request_beyond_its_age() {
        with_core(&async |core| {
            let servers = Servers::start(1);
            let state = servers.state();
            let begun = core.now();
            state.learn(&servers.live(&[1], 1), begun);
            let age = |seconds| begun.plus(Duration::from_secs(seconds));
            let at_rest = core.open(&state).await.unwrap();
            state.give_back(at_rest, KEEPING, begun);
            let young = state.take(KEEPING.max_age, age(50), &core.cells).unwrap();
            assert!(young.is_reused());
            // Not given back,
            state.give_back(young, KEEPING, age(400));
            assert_eq!(core.counts(), (0, 0));
            // not taken,
            let old = core.open(&state).await.unwrap();
            state.give_back(old, KEEPING, begun);
            assert!(state.take(KEEPING.max_age, age(400), &core.cells).is_none());
            assert_eq!(core.counts(), (0, 0));
            // not kept, though it was used a moment ago.
            let old = core.open(&state).await.unwrap();
            state.give_back(old, KEEPING, age(269));
            state.sweep(age(269));
            assert_eq!(core.counts(), (0, 1));
            state.sweep(age(400));
            assert_eq!(core.counts(), (0, 0));
        });
    }

    #[test]
    fn connections_of_one_moment_do_not_end_in_one_moment() {
        with_core(&async |core| {
            let servers = Servers::start(1);
            let state = servers.state();
            let begun = core.now();
            state.learn(&servers.live(&[1], 1), begun);
            let mut all = Vec::new();
            for _ in 0..64 {
                all.push(core.open(&state).await.unwrap());
            }
            let over_at = |seconds| {
                let now = begun.plus(Duration::from_secs(seconds));
                all.iter().filter(|connection| connection.is_over(KEEPING.max_age, now)).count()
            };
            assert_eq!(over_at(269), 0);
            assert!((1..64).contains(&over_at(285)), "{}", over_at(285));
            // The last of them was opened a little later than the first.
            assert_eq!(over_at(320), 64);
        });
    }

    #[test]
    fn descriptors_are_made_free_by_closing_what_is_idle() {
        with_core(&async |core| {
            let servers = Servers::start(1);
            let state = servers.state();
            state.learn(&servers.live(&[1], 1), core.now());
            let connection = core.open(&state).await.unwrap();
            state.give_back(connection, KEEPING, core.now());
            assert!(state.evict());
            assert_eq!(core.counts(), (0, 0));
            assert!(!state.evict());
        });
    }
}
