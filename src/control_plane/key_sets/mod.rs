//! JWK sets from the network: fetched when a source is new, renewed from then on, and the last good
//! one kept while they cannot be.
//!
//! Threads of their own do the asking, so that an identity provider that is slow holds up nothing
//! but tokens that cannot be checked yet. The sets are in the live values: one that changes is no
//! reload. Everything that decides is in parts without I/O and clock: `schedule` knows when a set
//! is renewed, `round` what is asked and what is made of the answer, `book` all sources.
//!
//! Deliberately absent: redirects (where keys come from is configured), proxies of the environment,
//! and a copy of the sets on disk: a process that starts asks anew.

mod book;
mod round;
mod schedule;
mod wire;

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

pub use self::book::{Results, SourceStatus};
use self::{
    book::{AT_ONCE_MAX, Book, Change, Ended, Missing, Task},
    round::{Answer, Ask, Next, Round},
};
use crate::{
    control_plane::{jobs, live::LiveValues},
    model::CaBundle,
    policy::auth::{AuthPolicy, KeySource},
    system::{clock::Monotonic, process},
};

/// Time for one renewal, metadata and set together.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Failures of a new source after which nobody waits for its set any longer.
const FAILURES_ENOUGH: u32 = 2;

/// Longest pause between two looks at what is due, for a wake-up that got lost.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// Asks a question before the deadline.
type Asking = dyn Fn(&Ask, Option<&CaBundle>, Monotonic) -> Result<Answer, String> + Send + Sync;

struct Shared {
    live: LiveValues,
    asking: Box<Asking>,
    book: Mutex<Book>,
    /// Rung when a renewal has ended or may be due.
    changed: Condvar,
    threads: AtomicUsize,
}

/// The fetcher: cheap to clone, used by the preparation and the control thread. What it finds is in
/// the live values.
#[derive(Clone)]
pub struct KeyFetcher(Arc<Shared>);

impl std::fmt::Debug for KeyFetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyFetcher").field("book", &self.0.book).finish_non_exhaustive()
    }
}

/// A fetcher that writes into `live`. Its threads start with the first source.
pub fn start(live: LiveValues) -> KeyFetcher {
    start_with(live, wire::ask)
}

/// A fetcher with another way of asking.
fn start_with(
    live: LiveValues,
    asking: impl Fn(&Ask, Option<&CaBundle>, Monotonic) -> Result<Answer, String>
    + Send
    + Sync
    + 'static,
) -> KeyFetcher {
    KeyFetcher(Arc::new(Shared {
        live,
        asking: Box::new(asking),
        book: Mutex::default(),
        changed: Condvar::new(),
        threads: AtomicUsize::new(0),
    }))
}

impl KeyFetcher {
    /// Fetches the sets of sources that are new, all at once, and waits for them until `timeout`,
    /// or until those that are missing have failed twice. Returns a sentence for each of these. A
    /// set that comes later is used by itself; until then tokens of its provider are refused.
    pub fn learn(&self, policy: &AuthPolicy, timeout: Duration) -> Vec<String> {
        let sources = policy.key_sources();
        if sources.clone().next().is_none() {
            return Vec::new();
        }
        let deadline = Monotonic::now().plus(timeout);
        let mut book = self.0.book();
        book.add(sources.clone(), Monotonic::now());
        self.staff(sources.clone().count());
        self.0.changed.notify_all();
        loop {
            let missing = book.missing(sources.clone());
            let left = Duration::from_nanos(deadline.since(Monotonic::now()));
            let is_hopeless = missing.iter().all(|one| one.failures >= FAILURES_ENOUGH);
            if is_hopeless || left.is_zero() {
                return missing.into_iter().map(not_there).collect();
            }
            let waited = self.0.changed.wait_timeout(book, left.min(LOOK_PAUSE));
            book = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes the times of a policy that runs from now on.
    pub fn take_times(&self, policy: &AuthPolicy) {
        self.0.book().take_times(policy.key_sources(), Monotonic::now());
        self.0.changed.notify_all();
    }

    /// Drops the sources that the running policy does not have, and their sets.
    pub fn keep(&self, policy: &AuthPolicy) {
        let mut book = self.0.book();
        let changes = book.keep(policy.key_sources());
        self.0.hand_over(&mut book, changes);
    }

    /// Notes that a token named a key that the set of a source does not have.
    pub fn want(&self, source: &str) {
        self.0.book().want(source);
        self.0.changed.notify_all();
    }

    /// Renews the sets of a policy now. Returns the names of their providers.
    pub fn demand(&self, policy: &AuthPolicy) -> Vec<Box<str>> {
        let names = self.0.book().demand(policy.key_sources(), Monotonic::now());
        self.0.changed.notify_all();
        names
    }

    /// State of the sources of a policy, by provider. Others belong to a reload that is prepared,
    /// or to none.
    pub fn status(&self, policy: &AuthPolicy) -> Vec<SourceStatus> {
        self.0.book().status(policy.key_sources(), Monotonic::now())
    }

    /// Starts threads until there are enough for `sources`.
    fn staff(&self, sources: usize) {
        let threads = &self.0.threads;
        while threads.load(Ordering::Relaxed) < sources.min(AT_ONCE_MAX) {
            let number = threads.fetch_add(1, Ordering::Relaxed);
            let shared = Arc::clone(&self.0);
            if let Err(error) = jobs::keep(format!("yt-jwks-{number}"), move || shared.serve()) {
                threads.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!(%error, "a thread that renews key sets could not be started");
                return;
            }
        }
    }
}

fn not_there(Missing { provider, why, .. }: Missing) -> String {
    let why = why.unwrap_or_else(|| "it has not responded yet".to_owned());
    format!(
        "the key set of provider '{provider}' is not there ({why}); its tokens are refused until it \
         is"
    )
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews what is due, for ever.
    fn serve(&self) {
        loop {
            let task = self.next_task();
            let mut ending = Ending { shared: self, task: &task, ended: None };
            ending.ended = Some(self.renew(&task));
        }
    }

    /// Waits for a renewal to be due.
    fn next_task(&self) -> Task {
        let mut book = self.book();
        loop {
            let now = Monotonic::now();
            let stale = book.expire(now);
            self.hand_over(&mut book, stale);
            if let Some(task) = book.begin(now) {
                return task;
            }
            let pause =
                book.next().map_or(LOOK_PAUSE, |next| Duration::from_nanos(next.since(now)));
            let waited = self.changed.wait_timeout(book, pause.min(LOOK_PAUSE));
            book = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn renew(&self, task: &Task) -> Ended {
        let source: &KeySource = &task.source;
        let deadline = Monotonic::now().plus(RENEWAL_TIMEOUT);
        let (mut round, mut ask) = Round::begin(source, task.known.as_ref());
        loop {
            let answered = (self.asking)(&ask, source.settings.ca.as_ref(), deadline);
            let next = answered.and_then(|answer| {
                round.answer(answer).map_err(|why| format!("{}: {why}", ask.url))
            });
            match next {
                Ok(Next::Ask(further)) => ask = further,
                Ok(Next::Unchanged { fresh }) => return Ended::Unchanged(fresh),
                Ok(Next::Renewed { known, unused, fresh }) => {
                    let provider = &*source.provider;
                    for why in unused {
                        tracing::info!(provider, "{why}");
                    }
                    return Ended::Renewed(known, fresh);
                }
                Err(why) => return Ended::Failed(why),
            }
        }
    }

    /// Gives sets that changed to the workers.
    fn hand_over(&self, book: &mut Book, changes: impl IntoIterator<Item = Change>) {
        for Change { id, keys } in changes {
            let version = self.live.set_keys(&id, keys);
            book.sent(&id, version);
        }
    }
}

/// A renewal under way. One that panics has failed: the source must be asked again.
struct Ending<'e> {
    shared: &'e Shared,
    task: &'e Task,
    ended: Option<Ended>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let failed = || Ended::Failed("an internal error, which the log describes".to_owned());
        let ended = self.ended.take().unwrap_or_else(failed);
        let mut book = self.shared.book();
        let now = Monotonic::now();
        let change = book.end(&self.task.source.id, ended, now, process::random_number());
        self.shared.hand_over(&mut book, change);
        drop(book);
        self.shared.changed.notify_all();
    }
}
