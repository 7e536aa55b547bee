//! The start: from a configuration that was accepted to planes that run.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use crossbeam_channel::{Receiver, unbounded};

use super::{
    descriptors::check_descriptors,
    workers::{await_workers, spawn},
};
use crate::{
    cli::Arguments,
    config::{Loaded, Problems, Settings},
    control_plane::{
        admin,
        control::{Control, Inputs, Retry},
        files::ProcessEnvironment,
        history::{GoodGeneration, History, Trigger},
        live,
        prepare::{self, Origin, Preparation, Running},
        reload::Queue,
        resolver::{self, REFRESH},
        scrapes::Scrapes,
        sd_notify::ServiceManager,
        signals::{self, Signal},
        watcher::Watcher,
        workers::Workers,
    },
    data_plane::worker::Assignment,
    handoff::message::ToWorker,
    model::Generation,
    protocol::http1::Pseudonym,
    system::{
        clock::{Monotonic, unix_seconds},
        cpu, listener,
        mailbox::{Sending, Unclaimed, mailbox},
        process,
    },
    telemetry::{access_log, cells::CoreCells, log::LogLevel, render::ReloadMetrics},
};

/// Messages that may wait for one worker. Reloads coalesce and addresses repeat, so a worker
/// that is this far behind is stalled.
const MAILBOX_MESSAGES: usize = 256;

/// Nice value of the control thread, so that workers run before it.
const CONTROL_NICE: i32 = 5;

pub(super) enum Failure {
    Refused(Problems),
    CouldNotStart(String),
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Refused(problems)
    }
}

fn because(what: &str) -> impl Fn(io::Error) -> Failure + '_ {
    move |error| Failure::CouldNotStart(format!("{what}: {error}"))
}

pub(super) fn start(
    arguments: &Arguments,
    environment: ProcessEnvironment,
    signals: Receiver<Signal>,
    content: &Arc<[u8]>,
    loaded: Loaded,
    log: LogLevel,
) -> Result<(Control, Inputs), Failure> {
    let started = Monotonic::now();
    let settings = &loaded.settings;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    prepare::check_access_log(settings)?;
    let open_file_limit = process::raise_open_file_limit();

    // Asked before any thread is pinned.
    let cores = cpu::available();
    let workers = settings.server.threads.unwrap_or_else(|| cpu::usable(&cores));
    let main = SocketAddr::new(settings.server.address, settings.server.port);
    let listeners =
        listener::open(main, workers).map_err(because(&format!("cannot listen on {main}")))?;
    let admin_listeners = match settings.admin.listen {
        None => Vec::new(),
        Some(address) => listener::open(address, workers)
            .map_err(because(&format!("cannot listen on admin.listen {address}")))?,
    };
    // A log that is off asks for no file; the reload that switches it on opens its own.
    let target = match &settings.logging.access_log {
        log if log.enabled => log.target.path().to_string_lossy(),
        _ => "-".into(),
    };
    let (access_log, sinks) =
        access_log::start(&target).map_err(because("logging.access_log.path cannot be opened"))?;

    let (live, bell) = live::start();
    let resolver = resolver::start(live.clone());
    for warning in prepare::learn_names(&resolver, settings) {
        tracing::warn!("{warning}");
    }
    let release = prepare::first(&loaded, workers)?;
    check_descriptors(open_file_limit, settings, &release, workers);
    let first_values = live.newest();
    let counters: Arc<[Arc<CoreCells>]> = CoreCells::for_workers(workers).into_vec().into();
    let (to_control, from_workers) = unbounded();
    let pseudonym = Pseudonym::new(process::random_number());
    let mut mailboxes: Vec<Sending<ToWorker>> = Vec::with_capacity(workers);
    let addresses = (listeners.first().and_then(local), admin_listeners.first().and_then(local));
    let mut admin_listeners = admin_listeners.into_iter();
    for (worker, listener) in listeners.into_iter().enumerate() {
        let (sending, mailbox): (_, Unclaimed<ToWorker>) =
            mailbox(MAILBOX_MESSAGES).map_err(because("no mailbox for a worker"))?;
        mailboxes.push(sending);
        let assignment = Assignment {
            worker,
            core: (!cores.is_empty()).then(|| cores[worker % cores.len()]),
            io: settings.server.io,
            listener,
            admin_listener: admin_listeners.next(),
            max_connections: settings.server.max_connections as u64,
            pseudonym,
            release: release.clone(),
            live: Arc::clone(&first_values),
            mailbox,
            to_control: to_control.clone(),
            fleet: Arc::clone(&counters),
            access_log: sinks.sink(Arc::clone(&counters[worker])),
        };
        spawn(assignment, to_control.clone()).map_err(because("a worker thread"))?;
    }
    drop(to_control);
    await_workers(&from_workers, workers).map_err(Failure::CouldNotStart)?;

    let origin = Origin {
        path: arguments.config.clone(),
        environment,
        live: live.clone(),
        resolver: resolver.clone(),
    };
    let (preparation, prepared) =
        Preparation::start(origin).map_err(because("the preparation thread"))?;
    let (watcher, looked) = Watcher::start().map_err(because("the watching thread"))?;
    let service = ServiceManager::open(std::env::var_os("NOTIFY_SOCKET").as_deref())
        .unwrap_or_else(|error| {
            tracing::warn!(%error, "NOTIFY_SOCKET cannot be used; the service manager is not told");
            ServiceManager::default()
        });
    let (scrapes, rendered) = Scrapes::start().map_err(because("the metrics thread"))?;
    // After the workers, which must not inherit it.
    process::lower_priority(CONTROL_NICE);
    announce(settings, addresses, workers);

    let mut history = History::default();
    history.push(GoodGeneration {
        generation: Generation::FIRST,
        unix_seconds: unix_seconds(),
        trigger: Trigger::Start,
        applied: Vec::new(),
        content: Arc::clone(content),
    });
    let metrics = ReloadMetrics {
        generation: Generation::FIRST,
        last_reload_successful: true,
        last_reload_timestamp_seconds: f64::from(u32::try_from(unix_seconds()).unwrap_or(u32::MAX)),
        auth_enforced: release.auth.enforced(),
        ..ReloadMetrics::default()
    };
    let control = Control {
        workers: Workers::new(mailboxes, Generation::FIRST, first_values.version()),
        cores: counters,
        running: Running {
            release,
            settings: Arc::new(loaded.settings),
            content: Arc::clone(content),
        },
        preparation,
        live,
        resolver,
        watcher,
        service,
        scrapes,
        access_log,
        log,
        queue: Queue::default(),
        history,
        metrics,
        restart_required: Vec::new(),
        last: None,
        started,
        refresh_at: started.plus(REFRESH),
        retry: Retry::default(),
        drain: None,
    };
    let inputs = Inputs { workers: from_workers, signals, prepared, live: bell, rendered, looked };
    Ok((control, inputs))
}

fn local(listener: &TcpListener) -> Option<SocketAddr> {
    listener.local_addr().ok()
}

fn announce(
    settings: &Settings,
    (main, admin): (Option<SocketAddr>, Option<SocketAddr>),
    workers: usize,
) {
    if settings.auth.as_ref().is_some_and(|auth| !auth.enforced) {
        tracing::warn!(
            "jwt.enabled is false: no bucket asks for a token, and the admin API is closed"
        );
    }
    tracing::info!(signals = signals::EXPLAINED, "signals");
    if let Some(address) = admin {
        tracing::info!(%address, "admin listening");
    }
    if let Some(address) = main {
        tracing::info!(
            %address,
            workers,
            buckets = settings.buckets.len(),
            version = admin::VERSION,
            "listening"
        );
    }
}
