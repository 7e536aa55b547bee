//! The start: from a configuration that was accepted to planes that run.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::{
    descriptors::check_descriptors,
    exit::{Failure, because},
    listeners::{Addresses, Listeners},
    workers::{SharedSetup, start_workers},
};
use crate::{
    config::{Loaded, Settings, settings::ProxyProtocol},
    control_plane::{
        admin,
        certificates::Certificates,
        control::{Control, Inputs, Retry},
        files::{ConfigPlace, ProcessEnvironment},
        history::{GoodGeneration, History, Trigger},
        key_sets,
        learning::Learner,
        live,
        noted_files::Content,
        prepare::{self, Origin, Preparation, Running},
        providers::credentials::{CredentialSources, outside::RealWorld},
        reload::Queue,
        resolver::{self, REFRESH},
        scrapes::Scrapes,
        sd_notify::ServiceManager,
        signals::{self, Signal},
        tls,
        watcher::Watcher,
        workers::Workers,
    },
    handoff::release::Release,
    model::Generation,
    protocol::http1::Pseudonym,
    system::{
        clock::{Monotonic, unix_seconds},
        cpu,
        pauses::PausesChoice,
        process,
        send_ring::SendsChoice,
        tls::TicketKeys,
    },
    telemetry::{
        access_log::{self, AccessLogHandle, AccessLogSinks},
        cells::CoreCells,
        log::LogLevel,
        render::ReloadMetrics,
    },
};

/// Nice value of the control thread, so that workers run before it.
const CONTROL_NICE: i32 = 5;

/// Environment variable that says in which turns small sends leave together, for tests and
/// measurements.
const SENDS_VARIABLE: &str = "YATAGARASU_SENDS";

/// Environment variable that says when workers pause, for tests and measurements.
const PAUSES_VARIABLE: &str = "YATAGARASU_PAUSES";

pub(super) fn start(
    place: &ConfigPlace,
    environment: ProcessEnvironment,
    signals: Receiver<Signal>,
    content: &Arc<Content>,
    loaded: Loaded,
    log: LogLevel,
) -> Result<(Control, Inputs), Failure> {
    let started = Monotonic::now();
    let settings = &loaded.settings;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if place.is_stdin() {
        let watch = if settings.reload.watch { ", and reload.watch has no effect" } else { "" };
        tracing::warn!(
            "the configuration came from standard input: reloads are refused, as it cannot be read \
             again{watch}"
        );
    }
    prepare::check_access_log(&loaded)?;
    let open_file_limit = process::raise_open_file_limit();

    // Asked before any thread is pinned.
    let cores = cpu::available();
    let workers = settings.server.threads.unwrap_or_else(|| cpu::usable(&cores));
    let listeners = Listeners::open(settings, workers)?;
    let addresses = listeners.addresses();
    let (access_log, sinks) = start_access_log(settings)?;

    let (live, bell) = live::start();
    let outside = Arc::new(RealWorld::new(environment.clone()));
    let learner = Learner {
        resolver: resolver::start(live.clone()),
        key_sets: key_sets::start(live.clone()),
        credentials: CredentialSources::new(live.clone(), outside),
    };
    for warning in learner.learn(settings, &loaded.policies.auth) {
        tracing::warn!("{warning}");
    }
    let tickets = TicketKeys::of_process().map_err(Failure::CouldNotStart)?;
    if let Some(server) = tls::server(&settings.server, &tickets)? {
        live.set_tls_server(server);
    }
    let release = prepare::first(&loaded, workers)?;
    check_descriptors(open_file_limit, settings, &release, workers);
    let first_values = live.newest();
    let counters: Arc<[Arc<CoreCells>]> = CoreCells::for_workers(workers).into_vec().into();
    let shared = SharedSetup {
        io: settings.server.io,
        sends: SendsChoice::parse(&std::env::var(SENDS_VARIABLE).unwrap_or_default()),
        pauses: PausesChoice::parse(&std::env::var(PAUSES_VARIABLE).unwrap_or_default()),
        proxy_headers: settings.server.proxy_protocol == ProxyProtocol::Require,
        max_connections: settings.server.max_connections as u64,
        pseudonym: Pseudonym::new(process::random_number()),
        release: &release,
        live: &first_values,
        all_cells: &counters,
        sinks: &sinks,
    };
    let (inboxes, from_workers) = start_workers(&shared, &cores, listeners)?;

    let origin = Origin {
        place: place.clone(),
        environment,
        live: live.clone(),
        tickets: tickets.clone(),
        learner: learner.clone(),
    };
    let (preparation, prepared) =
        Preparation::start(origin).map_err(because("the preparation thread"))?;
    let (watcher, looked) = Watcher::start().map_err(because("the watching thread"))?;
    let (certificates, read) = Certificates::start(place.clone(), tickets)
        .map_err(because("the thread for certificates"))?;
    let service = ServiceManager::open(std::env::var_os("NOTIFY_SOCKET").as_deref())
        .unwrap_or_else(|error| {
            tracing::warn!(%error, "NOTIFY_SOCKET cannot be used; the service manager is not told");
            ServiceManager::default()
        });
    let (scrapes, rendered) = Scrapes::start().map_err(because("the metrics thread"))?;
    // After the workers, which must not inherit it.
    process::lower_priority(CONTROL_NICE);
    announce(settings, addresses, workers);

    let control = Control {
        config: place.clone(),
        workers: Workers::new(inboxes, Generation::FIRST, first_values.version()),
        cores: counters,
        history: first_history(content),
        metrics: first_metrics(&release),
        running: Running {
            release,
            settings: Arc::new(loaded.settings),
            content: Arc::clone(content),
        },
        preparation,
        live,
        resolver: learner.resolver,
        key_sets: learner.key_sets,
        credentials: learner.credentials,
        watcher,
        certificates,
        service,
        scrapes,
        access_log,
        log,
        queue: Queue::default(),
        restart_required: Vec::new(),
        last: None,
        started,
        refresh_at: started.plus(REFRESH),
        retry: Retry::default(),
        drain: None,
    };
    let inputs =
        Inputs { workers: from_workers, signals, prepared, live: bell, rendered, looked, read };
    Ok((control, inputs))
}

/// A log that is off asks for no file; the reload that switches it on opens its own.
fn start_access_log(settings: &Settings) -> Result<(AccessLogHandle, AccessLogSinks), Failure> {
    let log = &settings.logging.access_log;
    let path = if log.enabled { log.path.as_str() } else { "-" };
    access_log::start(path).map_err(because("logging.access_log.path cannot be opened"))
}

fn first_history(content: &Arc<Content>) -> History {
    let mut history = History::default();
    history.push(GoodGeneration {
        generation: Generation::FIRST,
        unix_seconds: unix_seconds(),
        trigger: Trigger::Start,
        applied: Vec::new(),
        content: Arc::clone(content),
    });
    history
}

fn first_metrics(release: &Release) -> ReloadMetrics {
    ReloadMetrics {
        generation: Generation::FIRST,
        last_reload_successful: true,
        last_reload_timestamp_seconds: f64::from(u32::try_from(unix_seconds()).unwrap_or(u32::MAX)),
        auth_enforced: release.auth.enforced(),
        ..ReloadMetrics::default()
    }
}

fn announce(settings: &Settings, addresses: Addresses, workers: usize) {
    if settings.auth.as_ref().is_some_and(|auth| !auth.enforced) {
        tracing::warn!(
            "jwt.enabled is false: no bucket asks for a token, and the admin API is closed"
        );
    }
    tracing::info!(signals = signals::EXPLAINED, "signals");
    if let Some(address) = addresses.admin {
        tracing::info!(%address, "admin listening");
    }
    if let Some(address) = addresses.tls {
        tracing::info!(%address, "TLS listening");
    }
    if let Some(address) = addresses.main {
        tracing::info!(
            %address,
            workers,
            buckets = settings.buckets.len(),
            version = admin::VERSION,
            "listening"
        );
    }
}
