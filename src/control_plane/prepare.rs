//! Everything of a reload that can fail or take long: reading, parsing, key files, TLS, names.
//! It happens on a thread of its own, which hands back a finished snapshot or the problems.

use std::{any::Any, collections::HashSet, io, path::Path, sync::Arc, time::Duration};

use crossbeam_channel::Receiver;

use crate::{
    config::{
        CONFIG_BYTES_MAX, Difference, FileReader as _, IncludedFile, Loaded, Main, Places, Problem,
        Problems, Settings, diff, parse_beside, settings::S3Settings,
    },
    control_plane::{
        compile::{CompileContext, compile},
        credential_check,
        files::{ConfigPlace, FilesBeside, ProcessEnvironment, read, read_stdin},
        fingerprints::Seen,
        jobs::{Failure, Finished, JobId, Purpose, Runner},
        learning::Learner,
        live::LiveValues,
        noted_files::{Content, Included, NotedFiles, read_unchanged},
        tls,
    },
    handoff::{
        credentials::{Signing, SourceId},
        live::HostPort,
        release::Release,
        snapshot::Snapshot,
    },
    model::Generation,
    policy::auth::spec::{KeyMaterial, KeySpec},
    protocol::s3::endpoint::Scheme,
    system::{
        clock::{Monotonic, unix_seconds},
        process,
        tls::{TicketKeys, TlsServer, has_system_roots},
    },
    telemetry::access_log::AccessLogTarget,
};

/// Time for preparing an attempt: what renews itself, which has 5 s, and credential checks, which
/// have 25, are among it.
pub(super) const PREPARE_TIMEOUT: Duration = Duration::from_mins(1);

/// A generation, with what it was made from.
#[derive(Clone, Debug)]
pub struct Running {
    /// The generation that the workers serve.
    pub release: Release,
    /// Its settings, with the restart keys of this process.
    pub settings: Arc<Settings>,
    /// Content of its files.
    pub content: Arc<Content>,
}

/// Source of the configuration of an attempt.
#[derive(Clone, Debug)]
pub enum Source {
    /// The configuration file.
    File,
    /// The content of an earlier generation.
    Content(Arc<Content>),
}

/// An attempt to make a generation.
#[derive(Debug)]
pub struct Job {
    /// The source to read.
    pub source: Source,
    /// The running configuration.
    pub running: Running,
    /// Number of workers.
    pub workers: usize,
    /// Set if nothing of it will be adopted, whatever comes of it.
    pub dry_run: bool,
}

/// Outcome of a [`Job`].
#[derive(Debug)]
pub struct Prepared {
    /// The finished generation, or why there is none.
    pub outcome: Result<Ready, Refusal>,
    /// The files that were read.
    pub seen: Seen,
}

/// Reason why an attempt makes no generation.
#[derive(Debug)]
pub struct Refusal {
    /// All that is wrong.
    pub problems: Problems,
    /// Set if the same file may be good at another time: the reason lies outside of it.
    pub may_pass: bool,
}

impl Refusal {
    fn that_may_pass(problems: Problems) -> Self {
        Self { problems, may_pass: true }
    }
}

impl From<Problems> for Refusal {
    fn from(problems: Problems) -> Self {
        Self { problems, may_pass: false }
    }
}

/// A configuration that was found good.
#[derive(Debug)]
pub struct Ready {
    /// Its difference from the running one.
    pub difference: Difference,
    /// Warnings, as sentences.
    pub warnings: Vec<String>,
    /// The new generation; none when nothing changes without a restart.
    pub next: Option<Running>,
    /// Certificates and rules of the listener for TLS, where they change.
    pub tls_server: Option<TlsServer>,
    /// The access log's new target, opened.
    pub access_log: Option<AccessLogTarget>,
}

#[derive(Debug)]
enum Task {
    Prepare(Box<Job>),
    Drop(Box<dyn Any + Send>),
}

/// The preparation thread, from the outside.
#[derive(Debug)]
pub struct Preparation {
    runner: Runner<Task, Option<Prepared>>,
    /// The attempt whose outcome is awaited.
    awaited: Option<JobId>,
}

/// Things that preparing needs for the whole life of the process.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The configuration.
    pub place: ConfigPlace,
    /// The environment as it was at start.
    pub environment: ProcessEnvironment,
    /// The values that renew themselves.
    pub live: LiveValues,
    /// Keys of the session tickets that no file gives.
    pub tickets: TicketKeys,
    /// Values that have to be asked for.
    pub learner: Learner,
}

impl Preparation {
    /// Starts the thread; outcomes arrive at the receiver, and belong to [`Preparation::finished`].
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(origin: Origin) -> io::Result<(Self, Receiver<Finished<Option<Prepared>>>)> {
        Self::start_with(move |job, seen| prepare(&origin, job, seen))
    }

    /// Starts the thread with another way of preparing.
    pub(super) fn start_with(
        prepare: impl Fn(&Job, &mut Seen) -> Result<Ready, Refusal> + Send + Sync + 'static,
    ) -> io::Result<(Self, Receiver<Finished<Option<Prepared>>>)> {
        let purpose = Purpose {
            name: "yt-prepare",
            timeout: PREPARE_TIMEOUT,
            // What a reload needed, and what it replaced, is free now.
            when_idle: process::give_back_memory,
        };
        let (runner, outcomes) = Runner::start(purpose, move |task| match task {
            Task::Prepare(job) => {
                let mut seen = Seen::new();
                let outcome = prepare(&job, &mut seen);
                Some(Prepared { outcome, seen })
            }
            Task::Drop(value) => {
                drop(value);
                None
            }
        })?;
        Ok((Self { runner, awaited: None }, outcomes))
    }

    /// Hands in a job. The outcome of an earlier one is not awaited any more.
    pub fn prepare(&mut self, job: Job) {
        self.awaited = Some(self.runner.submit(Task::Prepare(Box::new(job))));
    }

    /// Drops a value over there, where time does not matter.
    pub fn drop_there(&mut self, value: impl Any + Send) {
        self.runner.submit(Task::Drop(Box::new(value)));
    }

    /// Gives up an attempt that takes too long.
    pub fn check(&self, now: Monotonic) {
        self.runner.check(now);
    }

    /// Takes what the thread has finished. Returns the outcome of the attempt that is awaited: if
    /// preparing it panicked or took too long, it is refused.
    pub fn finished(&mut self, finished: Finished<Option<Prepared>>) -> Option<Prepared> {
        self.awaited.take_if(|job| *job == finished.job)?;
        match finished.outcome {
            Ok(prepared) => prepared,
            Err(failure) => {
                let what = format!("the configuration was not adopted: {failure}");
                Some(Prepared {
                    outcome: Err(Refusal {
                        problems: Problem::of_file(what).into(),
                        may_pass: failure != Failure::Panicked,
                    }),
                    seen: Seen::new(),
                })
            }
        }
    }
}

/// Reads and checks a configuration, as the successor of what runs if anything does, and notes what
/// its files and those that they name were just before they were read.
///
/// # Errors
/// All problems of the configuration.
pub fn load(
    place: &ConfigPlace,
    environment: &ProcessEnvironment,
    running: Option<&Settings>,
    seen: &mut Seen,
) -> Result<(Arc<Content>, Loaded), Problems> {
    let main = match place.path() {
        Some(path) => read_file(path, seen)?,
        None => Arc::from(read_stdin()?),
    };
    let (included, loaded) = parse_noting(&main, None, place, environment, running, seen)?;
    Ok((Arc::new(Content { main, included }), loaded))
}

/// Reads and checks the configuration again, as the successor of what runs.
fn load_again(
    origin: &Origin,
    running: &Settings,
    seen: &mut Seen,
) -> Result<(Arc<Content>, Loaded), Problems> {
    if origin.place.is_stdin() {
        let message = "the configuration came from standard input, which cannot be read again; \
                       start the process anew, or start it with a file";
        return Err(Problem::of_file(message).into());
    }
    load(&origin.place, &origin.environment, Some(running), seen)
}

/// Does to a configuration what a start does before the first socket is opened, and nothing that
/// stays.
///
/// # Errors
/// Problems that would stop the start.
pub fn rehearse(loaded: &Loaded) -> Result<(), Problems> {
    first(loaded, 1)?;
    tls::check(&loaded.settings.server)?;
    check_access_log(loaded)
}

/// Opens the access log, if there is to be one, only to see whether it can be.
///
/// # Errors
/// It cannot.
pub fn check_access_log(loaded: &Loaded) -> Result<(), Problems> {
    open_access_log(None, &loaded.settings, &loaded.places)?
        .into_iter()
        .for_each(AccessLogTarget::discard);
    Ok(())
}

fn read_file(path: &Path, seen: &mut Seen) -> Result<Arc<[u8]>, Problems> {
    let changes = "the configuration file changes all the time while it is read";
    let content = read_unchanged(path, seen, || read(path));
    let content = content.unwrap_or_else(|| Err(Problem::of_file(changes)))?;
    Ok(Arc::from(content))
}

/// Parses a configuration whose included files are those that were kept, or else those on disk.
fn parse_noting(
    content: &[u8],
    kept: Option<&Included>,
    place: &ConfigPlace,
    environment: &ProcessEnvironment,
    running: Option<&Settings>,
    seen: &mut Seen,
) -> Result<(Included, Loaded), Problems> {
    let files = NotedFiles::new(place, std::mem::take(seen), kept);
    let name = place.to_string();
    let main = Main { name: Some(&name), bytes: content };
    let loaded = parse_beside(main, environment, &files, running);
    let included;
    (*seen, included) = files.into_parts();
    let mut loaded = loaded?;
    loaded.warnings.extend(without_roots(&loaded.settings));
    loaded.warnings.extend(tls::warnings(&loaded.settings.server, unix_seconds()));
    Ok((included, loaded))
}

/// Warning about https endpoints on a machine without root certificates, such as an image made from
/// `scratch`. Another machine may have them, so nothing is wrong with the file.
fn without_roots(settings: &Settings) -> Option<Problem> {
    let needs_roots = |s3: &S3Settings| {
        let scheme = s3.endpoint.as_ref().map_or(Scheme::Https, |endpoint| endpoint.scheme);
        scheme == Scheme::Https && s3.ca.is_none()
    };
    let mut buckets = settings.buckets.iter().filter(|bucket| needs_roots(&bucket.s3));
    let first = buckets.next()?;
    if has_system_roots() {
        return None;
    }
    let others = match buckets.count() {
        0 => String::new(),
        others => format!(" and of {others} more"),
    };
    Some(Problem::of_key(
        format!("buckets[{}].s3", first.name),
        format!(
            "no root certificates were found on this machine, so the https endpoint of this \
             bucket{others} is not trusted and responses are 502; install the package \
             ca-certificates, name a bundle in SSL_CERT_FILE, or write s3.ca_file"
        ),
    ))
}

pub(super) fn prepare(origin: &Origin, job: &Job, seen: &mut Seen) -> Result<Ready, Refusal> {
    let running = &job.running;
    let (content, loaded) = match &job.source {
        Source::File => load_again(origin, &running.settings, seen)?,
        Source::Content(content) => {
            let Origin { place, environment, .. } = origin;
            let beside = Some(&*running.settings);
            let Content { main, included } = &**content;
            let kept = Some(included);
            let (_, loaded) = parse_noting(main, kept, place, environment, beside, seen)?;
            (Arc::clone(content), loaded)
        }
    };
    let difference = diff(&running.settings, &loaded.settings);
    let mut warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    if let Source::Content(content) = &job.source {
        warnings.extend(of_going_back(&origin.place, content, running, &loaded.settings));
    }
    if !difference.hot_changed {
        let (next, tls_server, access_log) = (None, None, None);
        return Ok(Ready { difference, warnings, next, tls_server, access_log });
    }
    let settings = loaded.settings.with_restart_keys_of(&running.settings);
    let tls_server = tls::successor(&running.settings.server, &settings.server, &origin.tickets)?;
    warnings.extend(origin.learner.learn(&settings, &loaded.policies.auth));
    let release = compile(
        &settings,
        &CompileContext {
            generation: running.release.generation.next(),
            workers: job.workers,
            policies: &loaded.policies,
            previous: Some(&running.release),
        },
    )?;
    credential_check::verify(
        &running.settings,
        &settings,
        &loaded.places,
        &release,
        &origin.live.newest(),
        &mut warnings,
    )
    .map_err(Refusal::that_may_pass)?;
    // Last, since it may make a file, which nothing that is refused may leave behind.
    let mut access_log = open_access_log(Some(&running.settings), &settings, &loaded.places)
        .map_err(Refusal::that_may_pass)?;
    if job.dry_run {
        access_log.take().into_iter().for_each(AccessLogTarget::discard);
    }
    let next = Running { release, settings: Arc::new(settings), content };
    Ok(Ready { difference, warnings, next: Some(next), tls_server, access_log })
}

fn is_on_disk(place: &ConfigPlace, path: &Path, content: &Content) -> bool {
    let files = FilesBeside::new(place.directory());
    let same = |(pattern, kept): (&String, &Vec<IncludedFile>)| {
        files.included(pattern, CONFIG_BYTES_MAX).is_ok_and(|on_disk| on_disk == *kept)
    };
    read(path).is_ok_and(|on_disk| *on_disk == *content.main) && content.included.iter().all(same)
}

/// Warnings for an operator who goes back to an earlier configuration.
fn of_going_back(
    place: &ConfigPlace,
    content: &Content,
    running: &Running,
    settings: &Settings,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if !place.path().is_none_or(|path| is_on_disk(place, path, content)) {
        warnings.push(
            "the configuration file on disk differs from what is adopted here: the next reload \
             adopts the file again, unless this content is written to it"
                .to_owned(),
        );
    }
    let Some(then) = settings.auth.as_ref().filter(|auth| auth.enforced) else { return warnings };
    // The same content brings back nothing: files that it names are others now.
    if *content == *running.content {
        return warnings;
    }
    let now = running.settings.auth.as_ref().filter(|auth| auth.enforced);
    let accepted = |key: &KeySpec| {
        now.is_some_and(|now| now.all_keys().any(|known| known.material == key.material))
    };
    for key in then.all_keys().filter(|key| !accepted(key)) {
        let what = match key.material {
            KeyMaterial::Secret(_) => "a JWT secret",
            KeyMaterial::PublicPem(_) => "a JWT public key",
        };
        warnings.push(format!(
            "{}: {what} that the running configuration does not accept is accepted again; if it \
             has leaked, remove it from the file and reload",
            key.path
        ));
    }
    for (path, set) in then.all_sets() {
        if now.is_some_and(|now| now.all_sets().any(|(_, known)| known == set)) {
            continue;
        }
        warnings.push(format!(
            "{path}.jwks_file: a key set that the running configuration does not accept is \
             accepted again; if a key of it has leaked, replace the file and reload"
        ));
    }
    warnings
}

/// The target to switch to. While the log is off its file is not touched, so the writer may hold
/// another one when it is switched on.
fn open_access_log(
    running: Option<&Settings>,
    new: &Settings,
    places: &Places,
) -> Result<Option<AccessLogTarget>, Problems> {
    let wanted = &new.logging.access_log;
    let is_held = running.is_some_and(|running| {
        let held = &running.logging.access_log;
        held.enabled && held.path == wanted.path
    });
    if !wanted.enabled || is_held {
        return Ok(None);
    }
    AccessLogTarget::open(&wanted.path).map(Some).map_err(|error| {
        let message = format!(
            "cannot be opened: {error}; name a file that this process's user may write, in a \
             directory that is there"
        );
        places.access_log_problem(message).into()
    })
}

/// The hosts of a snapshot's endpoints.
pub fn hosts_of(snapshot: &Snapshot) -> Vec<HostPort> {
    snapshot.endpoints.iter().map(|endpoint| endpoint.host_port()).collect()
}

/// The sources of credentials that a snapshot's buckets name.
pub fn sources_of(snapshot: &Snapshot) -> HashSet<SourceId> {
    let of = |signing: &Signing| match signing {
        Signing::Source(source) => Some(source.id),
        Signing::Anonymous | Signing::Keys(_) => None,
    };
    snapshot.buckets.iter().filter_map(|bucket| of(&bucket.signing)).collect()
}

/// Generation 1, for a process that starts.
///
/// # Errors
/// All problems of the configuration.
pub fn first(loaded: &Loaded, workers: usize) -> Result<Release, Problems> {
    let policies = &loaded.policies;
    let context =
        CompileContext { generation: Generation::FIRST, workers, policies, previous: None };
    compile(&loaded.settings, &context)
}
