//! Wires both planes together: start, wait, stop.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use crossbeam_channel::{Sender, unbounded};

use crate::{
    cli::Arguments,
    config::{Difference, Loaded, Problems, Settings, diff},
    control_plane::{
        admin,
        control::{Control, End, Inputs, Retry, level},
        files::ProcessEnvironment,
        history::{GoodGeneration, History, Trigger},
        live,
        prepare::{self, Origin, Preparation, Running, load},
        reload::Queue,
        report::{Outcome, Report},
        resolver::{self, REFRESH},
        scrapes::Scrapes,
        sd_notify::ServiceManager,
        signals,
        watcher::{Seen, Watcher},
        workers::Workers,
    },
    data_plane::worker::{self, Assignment},
    handoff::{
        message::{FromWorker, ToWorker},
        snapshot::Snapshot,
    },
    model::Generation,
    policy::auth::install_crypto,
    protocol::http1::Pseudonym,
    system::{
        clock::{Monotonic, unix_seconds},
        cpu, listener,
        mailbox::{Sending, Unclaimed, mailbox},
        process,
    },
    telemetry::{access_log, cells::CoreCells, log, render::ReloadMetrics},
};

/// End of the process, with an exit code for each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A clean stop, or a configuration that is good.
    Clean,
    /// The configuration was refused.
    Refused,
    /// Wrong usage.
    Usage,
    /// The port is in use, something is not permitted, no event loop can be built.
    CouldNotStart,
}

impl Exit {
    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::CouldNotStart => 3,
        }
    }
}

/// Messages that may wait for one worker. Reloads coalesce and addresses repeat, so a worker
/// that is this far behind is stalled.
const MAILBOX_MESSAGES: usize = 256;

/// Nice value of the control thread, so that workers run before it.
const CONTROL_NICE: i32 = 5;

/// Time that the last log lines may take to be written.
const LOG_GRACE: Duration = Duration::from_secs(1);

/// Descriptors that the process needs besides connections: logs, rings, mailboxes, pipes.
const SPARE_DESCRIPTORS: u64 = 128;

/// Does what the arguments ask for.
pub fn run(arguments: &Arguments) -> Exit {
    install_crypto();
    let environment = ProcessEnvironment::capture();
    if arguments.validate {
        return validate(&arguments.config, &environment);
    }
    if let Some(old) = &arguments.diff {
        return compare(old, &arguments.config, &environment);
    }
    // Caught before anything that takes time: a SIGHUP during start is a reload afterwards.
    let signals = match signals::catch() {
        Ok(signals) => signals,
        Err(error) => return could_not_start(&format!("signals cannot be caught: {error}")),
    };
    let mut seen = Seen::new();
    let (content, loaded) = match load(&arguments.config, &environment, None, &mut seen) {
        Ok(found) => found,
        Err(problems) => return refused(&arguments.config, &problems),
    };
    let log = match log::init(level(loaded.settings.logging.level.as_str())) {
        Ok(log) => log,
        Err(error) => return could_not_start(&format!("the log cannot be started: {error}")),
    };
    let exit = match start(arguments, environment, signals, &content, loaded, log.clone()) {
        Ok((mut control, inputs)) => {
            control.watcher.read_file(seen, true);
            control.watcher.watch(control.running.settings.reload.watch);
            control.service.ready("serving generation 1");
            serve(control, inputs)
        }
        Err(Failure::Refused(problems)) => refused(&arguments.config, &problems),
        Err(Failure::CouldNotStart(why)) => {
            tracing::error!("could not start: {why}");
            Exit::CouldNotStart
        }
    };
    log.flush(LOG_GRACE);
    exit
}

fn validate(path: &Path, environment: &ProcessEnvironment) -> Exit {
    let warnings = match load(path, environment, None, &mut Seen::new()) {
        Ok((_, loaded)) => match prepare::rehearse(&loaded) {
            Ok(()) => loaded.warnings,
            Err(problems) => return refused(path, &problems),
        },
        Err(problems) => return refused(path, &problems),
    };
    let mut problems = Problems::default();
    problems.warnings = warnings;
    say(&mut io::stdout(), &format!("{problems}{}: the configuration is valid\n", path.display()));
    Exit::Clean
}

fn compare(old: &Path, new: &Path, environment: &ProcessEnvironment) -> Exit {
    let load = |path: &Path, running: Option<&Settings>| {
        let (_, loaded) = load(path, environment, running, &mut Seen::new())?;
        prepare::rehearse(&loaded).map(|()| loaded)
    };
    let running = match load(old, None) {
        Ok(loaded) => loaded.settings,
        Err(problems) => return refused(old, &problems),
    };
    let loaded = match load(new, Some(&running)) {
        Ok(loaded) => loaded,
        Err(problems) => return refused(new, &problems),
    };
    let Difference { applied, restart_required, hot_changed } = diff(&running, &loaded.settings);
    let report = Report {
        outcome: Outcome::WouldSucceed,
        generation: Generation(0),
        unix_seconds: unix_seconds(),
        changed: hot_changed,
        workers: 0,
        duration_ms: 0.0,
        applied,
        restart_required,
        warnings: loaded.warnings.iter().map(ToString::to_string).collect(),
    };
    let mut json = report.json();
    // Those are about a process, and none was asked.
    for absent in ["config_generation", "timestamp", "workers", "duration_ms"] {
        json.remove(absent);
    }
    let text = serde_json::to_string_pretty(&json).unwrap_or_default();
    say(&mut io::stdout(), &format!("{text}\n"));
    Exit::Clean
}

fn say(out: &mut impl Write, text: &str) {
    // A closed pipe is the reader's choice.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn refused(path: &Path, problems: &Problems) -> Exit {
    say(
        &mut io::stderr(),
        &format!("{problems}{}: the configuration is refused\n", path.display()),
    );
    Exit::Refused
}

fn could_not_start(why: &str) -> Exit {
    say(&mut io::stderr(), &format!("error: could not start: {why}\n"));
    Exit::CouldNotStart
}

enum Failure {
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

fn start(
    arguments: &Arguments,
    environment: ProcessEnvironment,
    signals: crossbeam_channel::Receiver<signals::Signal>,
    content: &Arc<[u8]>,
    loaded: Loaded,
    log: log::LogLevel,
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
    let snapshot = Arc::new(prepare::first(&loaded, workers)?);
    check_descriptors(open_file_limit, settings, &snapshot, workers);
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
            snapshot: Arc::clone(&snapshot),
            live: Arc::clone(&first_values),
            mailbox,
            to_control: to_control.clone(),
            fleet: Arc::clone(&counters),
            access_log: sinks.sink(Arc::clone(&counters[worker])),
        };
        spawn(assignment, to_control.clone()).map_err(because("a worker thread"))?;
    }
    drop(to_control);
    await_workers(&from_workers, workers)?;

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
        auth_enforced: snapshot.auth.enforced(),
        ..ReloadMetrics::default()
    };
    let control = Control {
        workers: Workers::new(mailboxes, Generation::FIRST, first_values.version()),
        cores: counters,
        running: Running {
            snapshot,
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

/// Descriptors that a connection may take: the client's, the upstream's, and the two ends of a pipe
/// while a large object is moved inside the kernel.
const DESCRIPTORS_PER_CONNECTION: u64 = 4;

fn check_descriptors(
    limit: io::Result<u64>,
    settings: &Settings,
    snapshot: &Snapshot,
    workers: usize,
) {
    let connections = settings.server.max_connections as u64;
    let idle_upstream = idle_upstream(snapshot, workers).min(connections);
    let wanted = connections * DESCRIPTORS_PER_CONNECTION + idle_upstream + SPARE_DESCRIPTORS;
    match limit {
        Ok(limit) if limit < wanted => tracing::warn!(
            open_file_limit = limit,
            wanted,
            max_connections = connections,
            idle_upstream,
            "the limit on open files is too low for server.max_connections"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit on open files cannot be raised"),
    }
}

/// Idle connections that the pools of all cores and endpoints may keep.
fn idle_upstream(snapshot: &Snapshot, workers: usize) -> u64 {
    let mut most = vec![0; snapshot.endpoints.len()];
    for bucket in &snapshot.buckets {
        if let Some(most) = most.get_mut(bucket.endpoint) {
            *most = bucket.max_idle_connections.max(*most);
        }
    }
    most.into_iter().sum::<usize>() as u64 * workers as u64
}

fn spawn(assignment: Assignment, to_control: Sender<FromWorker>) -> io::Result<()> {
    let worker = assignment.worker;
    thread::Builder::new().name(format!("yt-worker-{worker}")).spawn(move || {
        let error = why_it_ended(|| worker::run(assignment));
        let _ = to_control.send(FromWorker::Failed { worker, error });
    })?;
    Ok(())
}

/// Runs a worker to its end, a panic outside of its connections included: a process that lost a
/// core must not go on as if it had it.
fn why_it_ended(run: impl FnOnce() -> Result<(), String>) -> String {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => "the event loop ended".to_owned(),
        Ok(Err(error)) => error,
        Err(_) => "it panicked".to_owned(),
    }
}

/// Waits until every worker runs: only then is the address announced.
fn await_workers(
    messages: &crossbeam_channel::Receiver<FromWorker>,
    workers: usize,
) -> Result<(), Failure> {
    let mut running = 0;
    while running < workers {
        match messages.recv() {
            Ok(FromWorker::Running { worker, io, refused, core }) => {
                running += 1;
                tracing::info!(worker, io = %io, core, "worker running");
                if let Some(refused) = refused {
                    tracing::warn!(worker, io = %io, refused, "a better event loop was refused");
                }
            }
            Ok(FromWorker::Failed { worker, error }) => {
                return Err(Failure::CouldNotStart(format!("worker {worker}: {error}")));
            }
            Ok(_) => {}
            Err(_) => return Err(Failure::CouldNotStart("no worker runs".to_owned())),
        }
    }
    Ok(())
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

fn serve(mut control: Control, mut inputs: Inputs) -> Exit {
    let end = control.run(&mut inputs);
    control.access_log.stop(LOG_GRACE);
    match end {
        End::Stopped => {
            tracing::info!("stopped");
            Exit::Clean
        }
        End::StoppedAtOnce => Exit::Clean,
        End::WorkerFailed(why) => {
            tracing::error!("a worker ended: {why}");
            Exit::CouldNotStart
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Read as _},
        net::{Ipv4Addr, TcpStream},
        time::Instant,
    };

    use super::*;

    /// Longest wait for something that is known to come.
    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn a_worker_that_panics_is_reported_like_one_that_fails() {
        assert_eq!(why_it_ended(|| panic!("a bug")), "it panicked");
        assert_eq!(why_it_ended(|| Err("no ring".to_owned())), "no ring");
        assert_eq!(why_it_ended(|| Ok(())), "the event loop ended");
    }

    /// An origin that answers each request with `body`, and then closes the connection.
    fn origin(body: &'static str) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut line = String::new();
                while stream.read_line(&mut line).is_ok_and(|length| length > 2) {
                    line.clear();
                }
                let length = body.len();
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close");
                let _ = write!(stream.get_mut(), "{head}\r\n\r\n{body}");
            }
        });
        address
    }

    /// Head and body of the response to a GET on a new connection.
    fn get(address: SocketAddr, target: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn unused(ip: [u8; 4]) -> SocketAddr {
        TcpListener::bind((Ipv4Addr::from(ip), 0)).unwrap().local_addr().unwrap()
    }

    /// A process that has started, but for its control thread.
    struct Started {
        main: SocketAddr,
        control: Control,
        inputs: Inputs,
        signals: Sender<signals::Signal>,
        _directory: tempfile::TempDir,
    }

    impl Started {
        /// With one worker and one open bucket under `/a` at this port of localhost.
        fn with_origin_at(port: u16) -> Self {
            install_crypto();
            // On an address that nothing else here listens on, so the port stays free.
            let main = unused([127, 77, 0, 1]);
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("config.yaml");
            let text = format!(
                "server: {{ address: {}, port: {}, threads: 1 }}\n\
                 logging: {{ access_log: {{ enabled: false }} }}\n\
                 buckets:\n\
                 - name: a\n  path_prefix: /a\n  s3: {{ bucket: aaa, region: r, endpoint: 'http://localhost:{port}', anonymous: true }}\n",
                main.ip(),
                main.port(),
            );
            std::fs::write(&path, text).unwrap();
            let environment = ProcessEnvironment::capture();
            let (content, loaded) = load(&path, &environment, None, &mut Seen::new()).unwrap();
            let arguments = Arguments { config: path, validate: false, diff: None };
            let (signals, signalled) = unbounded();
            // The start lowers the priority of its thread, which is to be none of the tests'.
            let starting = thread::spawn(move || {
                start(&arguments, environment, signalled, &content, loaded, log::nowhere()).ok()
            });
            let (control, inputs) = starting.join().unwrap().expect("a start");
            Self { main, control, inputs, signals, _directory: directory }
        }
    }

    /// From the resolver's table over the control thread and a worker's mailbox to the addresses
    /// that the next connection is opened to: each step is the real one.
    #[test]
    fn addresses_that_change_are_those_that_the_next_connection_goes_to() {
        let (first, second, third) = (origin("first"), origin("second"), origin("third"));
        let refused = unused([127, 0, 0, 1]);
        let started = Started::with_origin_at(first.port());
        let Started { main, mut control, mut inputs, signals, _directory } = started;
        let live = control.live.clone();
        let running = thread::spawn(move || control.run(&mut inputs));

        let host = ("localhost".into(), first.port());
        let comes = |body: &str| {
            let start = Instant::now();
            while !get(main, "/a/x").ends_with(body) {
                assert!(start.elapsed() < PATIENCE, "{body} never came");
            }
        };
        comes("first");
        assert!(live.set_addresses(&host, vec![second]));
        comes("second");
        // One that refuses is passed over.
        assert!(live.set_addresses(&host, vec![refused, third]));
        comes("third");
        assert!(live.set_addresses(&host, vec![refused]));
        comes("}\n");
        assert!(get(main, "/a/x").starts_with("HTTP/1.1 502 "));

        signals.send(signals::Signal::Stop).unwrap();
        assert_eq!(running.join().unwrap(), End::Stopped);
    }

    #[test]
    fn workers_serve_and_say_so_while_the_control_thread_stands_still() {
        let mut started = Started::with_origin_at(origin("object").port());
        let main = started.main;
        for _ in 0..20 {
            assert!(get(main, "/a/x").ends_with("object"));
            for path in ["/health", "/ready"] {
                let answer = get(main, path);
                assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
            }
        }
        // What only the control thread knows comes when it goes on.
        let scrape = thread::spawn(move || get(main, "/metrics"));
        let waiting = Instant::now();
        while started.inputs.workers.is_empty() {
            assert!(waiting.elapsed() < PATIENCE, "nobody asks");
        }
        assert!(get(main, "/health").starts_with("HTTP/1.1 200 "));
        assert!(!scrape.is_finished());
        let running = thread::spawn(move || started.control.run(&mut started.inputs));
        assert!(scrape.join().unwrap().contains("config_generation 1"));
        started.signals.send(signals::Signal::Stop).unwrap();
        assert_eq!(running.join().unwrap(), End::Stopped);
    }
}
