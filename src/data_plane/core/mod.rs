//! Everything that one core owns.

pub(crate) mod commands;
pub(crate) mod credentials;
pub(crate) mod dates;
pub(crate) mod deferred_drop;
pub(crate) mod encoders;
pub(crate) mod generation;
pub(crate) mod listings;
pub(crate) mod metrics_pages;
pub(crate) mod open;
pub(crate) mod recall;
pub(crate) mod recent;
pub(crate) mod request_ids;

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::Arc,
};

use crossbeam_channel::Sender;

use crate::{
    data_plane::{
        core::{
            commands::Commands, credentials::NewestCredentials, dates::Dates,
            deferred_drop::DeferredDrop, encoders::Encoders, generation::Local, listings::Listings,
            metrics_pages::MetricsPages, open::Open, recent::Recent, request_ids::RequestIds,
        },
        upstream::endpoint::EndpointState,
    },
    handoff::{
        credentials::SourceId,
        live::LiveTable,
        message::{DrainStep, FromWorker},
        release::Release,
        snapshot::{Endpoint, Snapshot},
    },
    protocol::http1::Pseudonym,
    system::{buffers::Buffers, clock::Monotonic, reactor::Reactor, splice::Pipes},
    telemetry::{access_log::AccessLogSink, cells::CoreCells},
};

/// Everything that belongs to one core. Lives as long as the process.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) worker: usize,
    pub(crate) current: RefCell<Rc<Local>>,
    /// Values that renew themselves, at the newest version that arrived here.
    pub(crate) live: RefCell<Arc<LiveTable>>,
    /// The credentials of these values.
    pub(crate) credentials: NewestCredentials,
    pub(crate) reactor: Rc<Reactor>,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) pipes: Pipes,
    pub(crate) encoders: Encoders,
    pub(crate) endpoints: RefCell<HashMap<Arc<str>, Rc<EndpointState>>>,
    /// This core's counters; nobody else writes them.
    pub(crate) cells: Arc<CoreCells>,
    /// Every core's counters, to be read only.
    pub(crate) all_cells: Arc<[Arc<CoreCells>]>,
    /// Connections to the main listeners that all cores together may have, and as many requests
    /// over HTTP/2.
    pub(crate) max_connections: u64,
    pub(crate) admin_elsewhere: bool,
    /// Set if connections of clients begin with a PROXY protocol header.
    pub(crate) proxy_headers: bool,
    /// Port of the TLS listener; 0 without one.
    pub(crate) tls_port: u16,
    /// Name of this process in the `Via` of its requests.
    pub(crate) pseudonym: Pseudonym,
    /// Open connections and listeners, and the step of stopping.
    pub(crate) open: Rc<Open>,
    /// Commands to the control thread that wait for their reply.
    pub(crate) commands: Commands,
    /// Requests for the metrics page that wait for it.
    pub(crate) scrapes: Cell<usize>,
    /// Metrics pages that clients read.
    pub(crate) metrics_pages: MetricsPages,
    /// Listings that are held in memory.
    pub(crate) listings: Listings,
    pub(crate) to_control: Sender<FromWorker>,
    /// Parts of generations that are over.
    pub(crate) deferred: Rc<DeferredDrop>,
    pub(crate) access_log: Rc<RefCell<AccessLogSink>>,
    pub(crate) ids: RequestIds,
    pub(crate) dates: Dates,
    /// When a warning was last logged, by topic.
    pub(crate) warned: RefCell<HashMap<WarnTopic, Monotonic>>,
    /// When keys of a source were last asked for, by its id.
    wanted_keys: Recent<Arc<str>>,
    /// Sources of credentials that were asked for others.
    wanted_credentials: Recent<SourceId>,
    /// Ticks so far, and how many of the last ones had no connection.
    pub(crate) ticks: Cell<(u64, u64)>,
}

/// Everything that a core is made of.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) worker: usize,
    /// The generation to start with.
    pub(crate) release: Release,
    /// The live values to start with.
    pub(crate) live: Arc<LiveTable>,
    pub(crate) reactor: Rc<Reactor>,
    /// This core's counters.
    pub(crate) cells: Arc<CoreCells>,
    /// Every core's counters, by worker.
    pub(crate) all_cells: Arc<[Arc<CoreCells>]>,
    pub(crate) max_connections: u64,
    pub(crate) admin_elsewhere: bool,
    pub(crate) proxy_headers: bool,
    pub(crate) tls_port: u16,
    pub(crate) pseudonym: Pseudonym,
    pub(crate) to_control: Sender<FromWorker>,
    pub(crate) access_log: AccessLogSink,
}

/// Something that a client can cause as often as it likes, and that is worth a warning. Each has
/// its own, so that one which goes on for hours hides no other. Buckets are numbers, so there are
/// no more topics than the largest configuration brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum WarnTopic {
    /// Requests for the bucket with this index that came back.
    Loop(usize),
    /// The source of this bucket's credentials, which has none that are good.
    NoCredentials(usize),
    /// Refusals of this bucket's credentials by S3.
    Credentials(usize),
    /// Refusals of the clock by the S3 of this bucket.
    Clock(usize),
    /// Connections without a good PROXY protocol header.
    ProxyHeader,
}

/// Time between two warnings about the same topic.
const WARN_INTERVAL_NS: u64 = 60_000_000_000;

/// Time between two messages about unknown keys, or refused credentials, of the same source.
/// Clients can cause them as fast as they like, and the control thread asks every 30 s at most.
const WANT_INTERVAL_NS: u64 = 1_000_000_000;

impl Core {
    /// A core that serves its first generation.
    pub(crate) fn new(setup: Setup) -> Self {
        let Setup { worker, release, live, reactor, cells, to_control, .. } = setup;
        let deferred = Rc::new(DeferredDrop::default());
        let access_log = Rc::new(RefCell::new(setup.access_log));
        let open =
            Open::new(worker, Arc::clone(&cells), Rc::clone(&access_log), to_control.clone());
        let local =
            Local::new(release.clone(), Vec::new(), to_control.clone(), Rc::clone(&deferred));
        let core = Self {
            worker,
            current: RefCell::new(Rc::new(local)),
            credentials: NewestCredentials::of_table(&live),
            live: RefCell::new(live),
            reactor,
            buffers: Rc::default(),
            pipes: Pipes::default(),
            encoders: Encoders::default(),
            endpoints: RefCell::default(),
            cells,
            all_cells: setup.all_cells,
            max_connections: setup.max_connections,
            admin_elsewhere: setup.admin_elsewhere,
            proxy_headers: setup.proxy_headers,
            tls_port: setup.tls_port,
            pseudonym: setup.pseudonym,
            open: Rc::new(open),
            commands: Commands::default(),
            scrapes: Cell::new(0),
            metrics_pages: MetricsPages::default(),
            listings: Listings::default(),
            to_control,
            deferred,
            access_log,
            ids: RequestIds::new(),
            dates: Dates::new(),
            warned: RefCell::default(),
            wanted_keys: Recent::within(WANT_INTERVAL_NS),
            wanted_credentials: Recent::within(WANT_INTERVAL_NS),
            ticks: Cell::default(),
        };
        core.adopt(release);
        core
    }

    /// This core's copy of the newest generation that it has adopted.
    pub(crate) fn current(&self) -> Rc<Local> {
        Rc::clone(&self.current.borrow())
    }

    /// Open HTTP/2 streams of clients on all cores. Each holds a connection to S3 at most, and a
    /// client opens many on one connection, so the limit on connections does not bound them by
    /// itself. Exact for one core; others may open theirs at the same time.
    pub(crate) fn http2_streams(&self) -> u64 {
        self.all_cells.iter().map(|cells| cells.http2.streams.get()).sum()
    }

    /// Returns true if responses must end their connection because the process stops.
    pub(crate) fn is_closing(&self) -> bool {
        self.open.step() >= DrainStep::Closing
    }

    /// Returns true if a warning about this is due: one per topic and interval, so that a client
    /// can't flood the log.
    pub(crate) fn may_warn(&self, topic: WarnTopic) -> bool {
        let now = self.reactor.clock.coarse();
        let mut warned = self.warned.borrow_mut();
        match warned.get(&topic) {
            Some(at) if now.since(*at) < WARN_INTERVAL_NS => false,
            _ => {
                warned.insert(topic, now);
                true
            }
        }
    }

    /// Tells the control thread that a token named a key that the set of a source does not have,
    /// unless it was told a moment ago.
    pub(crate) fn want_keys(&self, source: &Arc<str>) {
        if self.wanted_keys.note(source, self.reactor.clock.coarse()) {
            let source = Arc::clone(source);
            let _ = self.to_control.try_send(FromWorker::UnknownKey { source });
        }
    }

    /// Tells the control thread that S3 refused the credentials of this number, unless it was told
    /// of the source a moment ago.
    pub(crate) fn want_credentials(&self, source: SourceId, serial: u64) {
        if self.wanted_credentials.note(&source, self.reactor.clock.coarse()) {
            let message = FromWorker::RefusedCredentials { source, serial };
            let _ = self.to_control.try_send(message);
        }
    }

    /// Uses live values from now on, unless newer ones came before them.
    pub(crate) fn renew(&self, live: Arc<LiveTable>) {
        let mut held = self.live.borrow_mut();
        let version = LiveTable::renew(&mut held, live);
        self.credentials.renew(&held);
        drop(held);
        let _ = self.to_control.try_send(FromWorker::Renewed { worker: self.worker, version });
    }

    /// Makes a generation the one that every request from now on uses. Endpoints that both
    /// generations name keep their connections; the idle connections of the others are closed.
    pub(crate) fn adopt(&self, release: Release) {
        let generation = release.generation;
        let start = Monotonic::now();
        let by_index = self.endpoints_of(&release);
        let local = Rc::new(Local::new(
            release,
            by_index,
            self.to_control.clone(),
            Rc::clone(&self.deferred),
        ));
        self.current.replace(local).give_up_tokens();
        self.cells.generation.set(generation.0);
        let _ = self.to_control.try_send(FromWorker::Adopted { worker: self.worker, generation });
        let micros = Monotonic::now().since(start) / 1_000;
        tracing::debug!(
            worker = self.worker,
            generation = generation.0,
            micros,
            "generation adopted"
        );
    }

    /// Closes idle connections to S3 and free pipes, because descriptors are needed elsewhere;
    /// whether there were any connections.
    pub(crate) fn evict_idle(&self) -> bool {
        self.pipes.shrink();
        self.endpoints.borrow().values().fold(false, |any, endpoint| endpoint.evict() | any)
    }

    /// The state of a snapshot's endpoints, by index. What did not change costs a comparison of
    /// pointers: with thousands of endpoints, hashing all their keys would hold requests up.
    fn endpoints_of(&self, snapshot: &Snapshot) -> Vec<Rc<EndpointState>> {
        let before = self.current();
        let mut known = self.endpoints.borrow_mut();
        let mut by_index = Vec::with_capacity(snapshot.endpoints.len());
        let mut moved = HashSet::new();
        let unchanged = |index: usize, endpoint: &Arc<Endpoint>| {
            let old = before.endpoints.get(index)?;
            before.endpoint_states.get(index).filter(|_| Arc::ptr_eq(old, endpoint))
        };
        for (index, endpoint) in snapshot.endpoints.iter().enumerate() {
            if let Some(state) = unchanged(index, endpoint) {
                by_index.push(Rc::clone(state));
                continue;
            }
            moved.insert(Arc::clone(&endpoint.key));
            let state = known
                .entry(Arc::clone(&endpoint.key))
                .or_insert_with(|| Rc::new(EndpointState::new(Arc::clone(endpoint))));
            state.refresh(endpoint);
            by_index.push(Rc::clone(state));
        }
        for (index, old) in before.endpoints.iter().enumerate() {
            let stays = snapshot.endpoints.get(index).is_some_and(|new| Arc::ptr_eq(old, new));
            if stays || moved.contains(&old.key) {
                continue;
            }
            if let Some(orphan) = known.remove(&old.key) {
                orphan.retire();
            }
        }
        by_index
    }
}
