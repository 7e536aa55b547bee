use std::{
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    rc::Rc,
};

use super::*;
use crate::{
    handoff::live::HostPort,
    system::{
        buffers::Buffers,
        event_loop,
        reactor::{Presence, Reactor},
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
        self.state_with(None)
    }

    fn state_with(&self, tls: Option<Arc<TlsClient>>) -> EndpointState {
        let (host, port) = self.host();
        let key = format!("http://{host}:{port}").into();
        EndpointState::new(Arc::new(Endpoint { key, host, port, tls }))
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
    event_loop::run(|| async {
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
    async fn open(&self, state: &EndpointState) -> Result<Box<Connection>, UpstreamError> {
        let client = self.client.registration().presence(false);
        self.open_for(Some(client), Duration::from_secs(20), state).await
    }

    async fn open_for(
        &self,
        client: Option<Presence>,
        timeout: Duration,
        state: &EndpointState,
    ) -> Result<Box<Connection>, UpstreamError> {
        let connector = Connector {
            reactor: &self.reactor,
            buffers: &self.buffers,
            client,
            cells: &self.cells,
            timeout,
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
fn opening_a_connection_ends_with_the_client_or_if_there_is_none_with_its_timeout() {
    with_core(&async |core| {
        let ticking = Rc::clone(&core.reactor);
        event_loop::spawn(async move { ticking.every_tick(|| ticking.tick()).await });
        let servers = Servers::start(1);
        // It does not shake hands.
        let tls = Some(Arc::new(TlsClient::new("localhost", None).unwrap()));
        let state = servers.state_with(tls);
        state.learn(&servers.live(&[1], 1), core.now());
        let (client, theirs) = pair().unwrap();
        let client = Socket::new(client, &core.reactor).unwrap();
        drop(theirs);
        let presence = client.registration().presence(false);
        let opened = core.open_for(Some(presence), Duration::from_mins(1), &state).await;
        assert!(opened.unwrap_err().is_client_gone());
        let opened = core.open_for(None, Duration::from_millis(1), &state).await;
        assert_eq!(opened.unwrap_err().fault(), Some(crate::model::Fault::UpstreamTimeout));
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
        let started = core.now();
        state.learn(&servers.live(&[1], 1), started);
        let idle = core.open(&state).await.unwrap();
        let busy = core.open(&state).await.unwrap();
        state.give_back(idle, KEEPING, started);
        assert_eq!(core.counts(), (1, 1));
        state.learn(&servers.live(&[2], 2), started);
        // Within ten seconds.
        let later = started.plus(Duration::from_secs(10));
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
        let started = core.now();
        state.learn(&servers.live(&[1], 1), started);
        let age = |seconds| started.plus(Duration::from_secs(seconds));
        let at_rest = core.open(&state).await.unwrap();
        state.give_back(at_rest, KEEPING, started);
        let young = state.take(KEEPING.max_age, age(50), &core.cells).unwrap();
        assert!(young.is_reused());
        // Not given back,
        state.give_back(young, KEEPING, age(400));
        assert_eq!(core.counts(), (0, 0));
        // not taken,
        let old = core.open(&state).await.unwrap();
        state.give_back(old, KEEPING, started);
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
        let started = core.now();
        state.learn(&servers.live(&[1], 1), started);
        let mut all = Vec::new();
        for _ in 0..64 {
            all.push(core.open(&state).await.unwrap());
        }
        let over_at = |seconds| {
            let now = started.plus(Duration::from_secs(seconds));
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

#[test]
fn objects_that_alternate_are_taken_for_small() {
    let guesses = |sizes: &str| {
        let expected = Expectation::default();
        let mut guesses = String::new();
        for size in sizes.chars() {
            guesses.push(if expected.is_large() { 'L' } else { 's' });
            expected.learn(size == 'L');
        }
        guesses
    };
    assert_eq!(guesses("LLLL"), "sLLL");
    assert_eq!(guesses("ssLLLLL"), "sssssLL");
    assert_eq!(guesses("LsLsLsLs"), "sLssssss");
    assert_eq!(guesses("LLLsLLLs"), "sLLLssLL");
}
