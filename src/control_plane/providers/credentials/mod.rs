//! Credentials that renew themselves: the sources in use, each with a thread of its own that may
//! block, and a schedule that the control thread turns.
//!
//! | file | what it knows |
//! |---|---|
//! | `renewal` | when a source is asked, without clocks |
//! | `source` | what is asked, in which order |
//! | `environment`, `profile`, `web_identity`, `container`, `imds`, `sts` | one kind of source |
//! | `document`, `shared_files` | bytes to credentials and profiles |
//! | `outside` | variables, files, services, the clock |
//!
//! Deliberately absent: an SDK, programs that print credentials, logins.

pub mod outside;
pub mod renewal;
pub mod source;

mod container;
mod document;
mod environment;
mod imds;
mod profile;
mod shared_files;
mod sts;
mod web_identity;

#[cfg(test)]
mod tests;

use std::{
    collections::{HashSet, VecDeque},
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use crossbeam_channel::Receiver;

use self::{
    document::Given,
    outside::{Chance, Outside, SourceProblem},
    renewal::{Moment, Renewal},
    source::{fetch, watched},
};
use crate::{
    config::settings::SourceSettings,
    control_plane::{
        fingerprints::{Fingerprint, Seen},
        jobs::{Failure, Finished, JobId, Purpose, Runner},
        live::LiveValues,
    },
    handoff::{credentials::SourceId, live::LiveVersion},
    system::{
        clock::{Monotonic, unix_seconds},
        process,
    },
};

/// Time between two looks while somebody waits for credentials.
const LEARN_POLL: Duration = Duration::from_millis(10);

/// Time for a fetch. The longest chain of requests takes half of it; a file system that does not
/// respond takes longer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Time between two looks at the files of a source.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Pause after a look that failed: one that hangs holds the thread of the source.
const LOOK_FAILED_PAUSE: Duration = Duration::from_secs(10);

/// Time between two lines of the log about the same failure.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Versions of which it is known when the workers were sent them.
const VERSIONS_KEPT: usize = 16;

/// Work of the thread of a source.
#[derive(Debug)]
enum Task {
    Fetch,
    Look,
}

#[derive(Debug)]
enum Done {
    Fetched(Result<Given, SourceProblem>, Seen),
    Looked(Seen),
}

/// One source in use.
struct Entry {
    id: SourceId,
    name: Arc<str>,
    runner: Runner<Task, Done>,
    done: Receiver<Finished<Done>>,
    renewal: Renewal,
    /// The files of the last fetch, as they were before it.
    files: Seen,
    /// The look at these files that is under way.
    looking: Option<JobId>,
    next_look: Monotonic,
    /// Reason why the last look failed, if it did: a change of the files is not noticed.
    blind: Option<String>,
    /// Tables of live values that brought a version.
    versions: VecDeque<(LiveVersion, u64)>,
    /// When the newest good credentials were confirmed last, and their end.
    good: Option<(Moment, Option<u64>)>,
    problem: Option<SourceProblem>,
    logged_at: Option<Monotonic>,
    successes: u64,
    failures: u64,
}

/// State of a source, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialStatus {
    /// Its name.
    pub source: Arc<str>,
    /// Version of its newest credentials; 0 before the first.
    pub version: u64,
    /// Version that each worker uses.
    pub workers: Vec<u64>,
    /// Seconds since its credentials were fetched or confirmed.
    pub age_seconds: Option<u64>,
    /// End of the credentials, in seconds since the Unix epoch.
    pub ends: Option<u64>,
    /// Failure of the last fetch, or else of the last look at its files, if it failed.
    pub last_error: Option<String>,
    /// Fetches that gave credentials.
    pub successes: u64,
    /// Fetches that did not.
    pub failures: u64,
}

/// The sources in use. Cheap to clone, used by the preparation and the control thread.
#[derive(Clone)]
pub struct CredentialSources {
    live: LiveValues,
    outside: Arc<dyn Outside>,
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl fmt::Debug for CredentialSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialSources").finish_non_exhaustive()
    }
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self { monotonic: Monotonic::now(), unix_seconds: unix_seconds() }
    }
}

impl CredentialSources {
    /// Without a source. What sources give is written into `live`.
    pub fn new(live: LiveValues, outside: Arc<dyn Outside>) -> Self {
        Self { live, outside, entries: Arc::default() }
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to use these sources, and waits until `timeout` for the credentials of those that are
    /// new. A source that cannot work until somebody changes something is not waited for. Returns
    /// warnings about sources without credentials.
    pub fn learn(&self, wanted: &[SourceSettings], timeout: Duration) -> Vec<String> {
        let mut new = HashSet::new();
        let mut warnings = Vec::new();
        for settings in wanted {
            match self.add(settings) {
                Ok(true) => {
                    new.insert(settings.id());
                }
                Ok(false) => {}
                Err(error) => warnings.push(format!(
                    "credentials[{}]: no thread can be started: {error}",
                    settings.name
                )),
            }
        }
        let deadline = Monotonic::now().plus(timeout);
        loop {
            self.check(Monotonic::now());
            self.turn(Moment::now());
            let waiting = self
                .entries()
                .iter()
                .any(|entry| new.contains(&entry.id) && entry.good.is_none() && entry.may_come());
            if !waiting || Monotonic::now() >= deadline {
                break;
            }
            thread::sleep(LEARN_POLL);
        }
        let wanted: HashSet<SourceId> = wanted.iter().map(SourceSettings::id).collect();
        let entries = self.entries();
        let lacking = entries.iter().filter(|entry| wanted.contains(&entry.id));
        warnings.extend(lacking.filter(|entry| entry.good.is_none()).map(Entry::lack));
        warnings
    }

    /// Begins to use a source. Returns true if it is new.
    fn add(&self, settings: &SourceSettings) -> io::Result<bool> {
        let id = settings.id();
        let mut entries = self.entries();
        if entries.iter().any(|entry| entry.id == id) {
            return Ok(false);
        }
        let outside = Arc::clone(&self.outside);
        let of_thread = settings.clone();
        let purpose = Purpose { name: "yt-credentials", timeout: FETCH_TIMEOUT, when_idle: || {} };
        let (runner, done) = Runner::start(purpose, move |task| {
            let paths = watched(&of_thread, &*outside);
            let seen =
                paths.into_iter().map(|path| (path.clone(), Fingerprint::of(&path))).collect();
            match task {
                Task::Look => Done::Looked(seen),
                Task::Fetch => Done::Fetched(fetch(&of_thread, &*outside), seen),
            }
        })?;
        entries.push(Entry {
            id,
            name: settings.name.as_str().into(),
            runner,
            done,
            renewal: Renewal::new(),
            files: Seen::new(),
            looking: None,
            next_look: Monotonic(0),
            blind: None,
            versions: VecDeque::new(),
            good: None,
            problem: None,
            logged_at: None,
            successes: 0,
            failures: 0,
        });
        Ok(true)
    }

    /// Forgets all sources but these, and their credentials.
    pub fn keep(&self, wanted: &HashSet<SourceId>) {
        // Held to the end: what a source gives meanwhile must not be taken from it.
        let mut entries = self.entries();
        entries.retain(|entry| wanted.contains(&entry.id));
        self.live.keep_sources(wanted);
        drop(entries);
    }

    /// Asks these sources to be fetched now. Returns their names.
    pub fn refresh(&self, wanted: &HashSet<SourceId>) -> Vec<Arc<str>> {
        let mut names = Vec::new();
        for entry in self.entries().iter_mut().filter(|entry| wanted.contains(&entry.id)) {
            entry.renewal.ask();
            names.push(Arc::clone(&entry.name));
        }
        names
    }

    /// Notes that S3 refused the credentials of this number, which may have been replaced since.
    pub fn refused(&self, source: SourceId, serial: u64) {
        let mut entries = self.entries();
        let newest = self.live.newest();
        let is_newest = newest.credentials(source).is_some_and(|newest| newest.serial == serial);
        if let Some(entry) = entries.iter_mut().find(|entry| entry.id == source && is_newest) {
            entry.renewal.want();
        }
    }

    /// Gives up fetches that take too long. To be called every now and then.
    pub fn check(&self, now: Monotonic) {
        self.entries().iter().for_each(|entry| entry.runner.check(now));
    }

    /// Takes what the threads have found, and begins what is due. To be called every now and then.
    pub fn turn(&self, now: Moment) {
        for entry in self.entries().iter_mut() {
            while let Ok(Finished { job, outcome }) = entry.done.try_recv() {
                let was_look = entry.looking.take_if(|look| *look == job).is_some();
                match outcome {
                    Ok(Done::Fetched(outcome, seen)) => {
                        entry.files = seen;
                        self.fetched(entry, outcome, now);
                    }
                    Ok(Done::Looked(seen)) => entry.looked(&seen, now.monotonic),
                    Err(failure) if was_look => entry.not_looked(&failure, now.monotonic),
                    Err(failure) => {
                        let problem = SourceProblem::may_pass(failure.to_string());
                        self.fetched(entry, Err(problem), now);
                    }
                }
            }
            if entry.renewal.begin(now) {
                entry.runner.submit(Task::Fetch);
            } else if !entry.files.is_empty()
                && entry.looking.is_none()
                && now.monotonic >= entry.next_look
            {
                entry.looking = Some(entry.runner.submit(Task::Look));
            }
        }
    }

    fn fetched(&self, entry: &mut Entry, outcome: Result<Given, SourceProblem>, now: Moment) {
        let given = match outcome {
            Ok(given) => {
                let random = process::random_number();
                entry.renewal.succeeded(given.ends, now, random).map(|()| given)
            }
            Err(problem) => {
                entry.renewal.failed(now);
                Err(problem)
            }
        };
        match given {
            Ok(given) => self.adopt(entry, given, now),
            Err(problem) => entry.failed(problem, now),
        }
    }

    fn adopt(&self, entry: &mut Entry, given: Given, now: Moment) {
        entry.successes += 1;
        entry.problem = None;
        entry.logged_at = None;
        entry.good = Some((now, given.ends));
        let table = self.live.newest();
        let is_known = table.credentials(entry.id).is_some_and(|known| {
            known.credentials == given.credentials && known.ends == given.ends
        });
        if is_known {
            return;
        }
        let at = self.live.set_credentials(entry.id, given.credentials, given.ends);
        let version = entry.version() + 1;
        if entry.versions.len() == VERSIONS_KEPT {
            entry.versions.pop_front();
        }
        entry.versions.push_back((at, version));
        tracing::info!(
            source = &*entry.name,
            version,
            seconds_left = given.ends.map(|end| end.saturating_sub(now.unix_seconds)),
            "new credentials"
        );
    }

    /// State of the sources that are in use by `wanted`, where workers have these live values.
    pub fn status(
        &self,
        wanted: &HashSet<SourceId>,
        workers: &[LiveVersion],
        now: Moment,
    ) -> Vec<CredentialStatus> {
        let entries = self.entries();
        let used = entries.iter().filter(|entry| wanted.contains(&entry.id));
        let mut all: Vec<CredentialStatus> = used.map(|entry| entry.status(workers, now)).collect();
        all.sort_by(|a, b| a.source.cmp(&b.source));
        all
    }
}

impl Entry {
    fn version(&self) -> u64 {
        self.versions.back().map_or(0, |(_, version)| *version)
    }

    /// Returns true if credentials may come without anybody doing anything.
    fn may_come(&self) -> bool {
        self.problem.as_ref().is_none_or(|problem| problem.chance == Chance::MayPass)
    }

    fn lack(&self) -> String {
        let why = self.problem.as_ref().map_or("no response yet", |problem| &problem.text);
        format!(
            "credentials[{}]: there are none ({why}); its buckets answer 502 until there are",
            self.name
        )
    }

    fn looked(&mut self, seen: &Seen, now: Monotonic) {
        self.blind = None;
        self.next_look = now.plus(LOOK_INTERVAL);
        if self.files != *seen {
            // The fetch that follows notes them as they are then.
            self.files.clone_from(seen);
            self.renewal.ask();
        }
    }

    fn not_looked(&mut self, failure: &Failure, now: Monotonic) {
        self.next_look = now.plus(LOOK_FAILED_PAUSE);
        let why = format!("the shared files cannot be looked at: {failure}");
        if self.blind.as_ref() != Some(&why) {
            tracing::warn!(source = &*self.name, error = why, "changed files are not noticed");
        }
        self.blind = Some(why);
    }

    fn failed(&mut self, problem: SourceProblem, now: Moment) {
        self.failures += 1;
        let is_news = self.problem.as_ref().is_none_or(|known| known.text != problem.text)
            || self.logged_at.is_none_or(|at| now.monotonic >= at.plus(LOG_INTERVAL));
        if is_news {
            self.logged_at = Some(now.monotonic);
            let end = self.good.and_then(|(_, end)| end);
            tracing::warn!(
                source = &*self.name,
                error = %problem,
                seconds_left = end.map(|end| end.saturating_sub(now.unix_seconds)),
                "credentials were not renewed"
            );
        }
        self.problem = Some(problem);
    }

    fn status(&self, workers: &[LiveVersion], now: Moment) -> CredentialStatus {
        let version_at = |table: &LiveVersion| {
            self.versions.iter().rev().find(|(at, _)| at <= table).map_or(0, |(_, found)| *found)
        };
        CredentialStatus {
            source: Arc::clone(&self.name),
            version: self.version(),
            workers: workers.iter().map(version_at).collect(),
            age_seconds: self.good.map(|(at, _)| now.monotonic.since(at.monotonic) / 1_000_000_000),
            ends: self.good.and_then(|(_, end)| end),
            last_error: self
                .problem
                .as_ref()
                .map(|problem| &problem.text)
                .or(self.blind.as_ref())
                .cloned(),
            successes: self.successes,
            failures: self.failures,
        }
    }
}
