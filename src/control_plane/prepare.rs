//! Everything of a reload that can fail or take long: reading, parsing, key files, TLS, names.
//! It happens on a thread of its own, which hands back a finished snapshot or the problems.

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::{
    control_plane::{
        config::{
            CompileContext, Difference, FilesBeside, Problem, Problems, ProcessEnvironment,
            Settings, compile, diff, parse, read,
        },
        resolver::{HostPort, PATIENCE, Resolver},
    },
    handoff::snapshot::Snapshot,
    model::Generation,
    protocol::s3::address,
    telemetry::access_log::AccessLogTarget,
};

/// A generation, with what it was made from.
#[derive(Clone, Debug)]
pub struct Running {
    /// What the workers serve.
    pub snapshot: Arc<Snapshot>,
    /// What it says, with the restart keys of this process.
    pub settings: Arc<Settings>,
    /// The file's bytes.
    pub content: Arc<[u8]>,
}

/// Where the configuration of an attempt comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// The configuration file.
    File,
    /// The content of an earlier generation.
    Content(Arc<[u8]>),
}

/// An attempt to make a generation.
#[derive(Debug)]
pub struct Job {
    /// Number of the attempt, repeated in the outcome.
    pub attempt: u64,
    /// Where to read.
    pub source: Source,
    /// What runs now.
    pub running: Running,
    /// How many workers there are.
    pub workers: usize,
}

/// What came of a [`Job`].
#[derive(Debug)]
pub struct Prepared {
    /// Number of the attempt.
    pub attempt: u64,
    /// The finished generation, or why there is none.
    pub outcome: Result<Ready, Problems>,
}

/// A configuration that was found good.
#[derive(Debug)]
pub struct Ready {
    /// What differs from the running one.
    pub difference: Difference,
    /// Warnings, as sentences.
    pub warnings: Vec<String>,
    /// The new generation; none when nothing changes without a restart.
    pub next: Option<Running>,
    /// The access log's new target, opened.
    pub access_log: Option<AccessLogTarget>,
}

enum Order {
    Prepare(Box<Job>),
    Drop(Box<dyn Any + Send>),
}

/// The preparation thread, from the outside.
#[derive(Debug)]
pub struct Preparation {
    orders: Sender<Order>,
}

/// What preparing needs to know for the whole life of the process.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The configuration file.
    pub path: PathBuf,
    /// The environment as it was at start.
    pub environment: ProcessEnvironment,
    /// Names to addresses.
    pub resolver: Resolver,
}

impl Preparation {
    /// Starts the thread; outcomes arrive at the receiver.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(origin: Origin) -> io::Result<(Self, Receiver<Prepared>)> {
        let (orders, todo) = unbounded();
        let (done, outcomes) = unbounded();
        thread::Builder::new().name("yt-prepare".to_owned()).spawn(move || {
            while let Ok(order) = todo.recv() {
                match order {
                    Order::Prepare(job) => {
                        let attempt = job.attempt;
                        let prepared = catch_unwind(AssertUnwindSafe(|| prepare(&origin, &job)));
                        let outcome = prepared.unwrap_or_else(|_| {
                            let mut problems = Problems::default();
                            problems.error(Problem::of_file(
                                "an internal error; the configuration was not adopted",
                            ));
                            Err(problems)
                        });
                        if done.send(Prepared { attempt, outcome }).is_err() {
                            return;
                        }
                    }
                    Order::Drop(value) => drop(value),
                }
            }
        })?;
        Ok((Self { orders }, outcomes))
    }

    /// Hands in a job.
    pub fn prepare(&self, job: Job) {
        let _ = self.orders.send(Order::Prepare(Box::new(job)));
    }

    /// Drops a value over there, where time does not matter.
    pub fn drop_there(&self, value: impl Any + Send) {
        let _ = self.orders.send(Order::Drop(Box::new(value)));
    }
}

fn prepare(origin: &Origin, job: &Job) -> Result<Ready, Problems> {
    let content = match &job.source {
        Source::File => read_file(&origin.path)?,
        Source::Content(content) => Arc::clone(content),
    };
    let running = &job.running;
    let files = FilesBeside::new(&origin.path);
    let loaded = parse(&content, &origin.environment, &files)?;
    refuse_to_forget_tokens(&running.settings, &loaded.settings)?;
    let difference = diff(&running.settings, &loaded.settings);
    let mut warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    if !difference.hot_changed {
        return Ok(Ready { difference, warnings, next: None, access_log: None });
    }
    let settings = loaded.settings.with_restart_keys_of(&running.settings);
    let access_log = open_access_log(&running.settings, &settings)?;
    warnings.extend(learn_names(&origin.resolver, &settings));
    let snapshot = compile(
        &settings,
        &CompileContext {
            generation: running.snapshot.generation.next(),
            workers: job.workers,
            previous: Some(&running.snapshot),
            resolve: &|host, port| origin.resolver.addresses(host, port),
        },
    )?;
    let next = Running { snapshot: Arc::new(snapshot), settings: Arc::new(settings), content };
    Ok(Ready { difference, warnings, next: Some(next), access_log })
}

/// A file without a `jwt` section and without any `auth` is one of public buckets. As the successor
/// of one that asked for tokens it is more likely a mistake, such as a half-written or wrong file:
/// what opens a bucket is written down.
fn refuse_to_forget_tokens(running: &Settings, new: &Settings) -> Result<(), Problems> {
    let protects = running.auth.enforced && running.buckets.iter().any(|b| b.auth.enabled);
    if !protects || new.jwt_written {
        return Ok(());
    }
    let mut problems = Problems::default();
    problems.error(Problem {
        path: "jwt".to_owned(),
        line: None,
        message: "is missing, but buckets of the running configuration ask for tokens; to let \
                  everybody in, write jwt.enabled: false"
            .to_owned(),
    });
    Err(problems)
}

fn read_file(path: &Path) -> Result<Arc<[u8]>, Problems> {
    read(path).map(Arc::from).map_err(|problem| {
        let mut problems = Problems::default();
        problems.error(problem);
        problems
    })
}

fn open_access_log(
    running: &Settings,
    new: &Settings,
) -> Result<Option<AccessLogTarget>, Problems> {
    let wanted = &new.logging.access_log;
    if !wanted.enabled || running.logging.access_log.target == wanted.target {
        return Ok(None);
    }
    AccessLogTarget::open(&wanted.target.path().to_string_lossy()).map(Some).map_err(|error| {
        let mut problems = Problems::default();
        problems.error(Problem {
            path: "logging.access_log.path".to_owned(),
            line: None,
            message: format!("cannot be opened: {error}"),
        });
        problems
    })
}

/// Resolves the names that are new and tells which ones could not be.
pub fn learn_names(resolver: &Resolver, settings: &Settings) -> Vec<String> {
    let hosts = hosts(settings);
    resolver
        .learn(&hosts, PATIENCE)
        .into_iter()
        .map(|(host, _)| {
            format!(
                "the endpoint host '{host}' does not resolve; its buckets answer 502 until it does"
            )
        })
        .collect()
}

/// The hosts of all endpoints, each once.
fn hosts(settings: &Settings) -> Vec<HostPort> {
    let mut hosts: Vec<HostPort> = settings
        .buckets
        .iter()
        .map(|bucket| {
            let s3 = &bucket.s3;
            let endpoint = s3.endpoint.as_ref();
            let url = address(endpoint, &s3.region, &s3.bucket, &s3.key_prefix, s3.addressing).url;
            (url.host.into(), url.port)
        })
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// The hosts of a snapshot's endpoints.
pub fn hosts_of(snapshot: &Snapshot) -> Vec<HostPort> {
    snapshot.endpoints.iter().map(|endpoint| (endpoint.host.clone(), endpoint.port)).collect()
}

/// Generation 1, for a process that starts.
///
/// # Errors
/// All problems of the configuration.
pub fn first(
    settings: &Settings,
    workers: usize,
    resolver: &Resolver,
) -> Result<Snapshot, Problems> {
    compile(
        settings,
        &CompileContext {
            generation: Generation::FIRST,
            workers,
            previous: None,
            resolve: &|host, port| resolver.addresses(host, port),
        },
    )
}
