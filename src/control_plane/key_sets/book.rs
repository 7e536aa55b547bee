//! All sources of key sets and the state of each. It does no I/O and reads no clock.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{round::Known, schedule::Schedule};
use crate::{
    handoff::{
        key_sets::{GoodUntil, LiveKeys},
        live::LiveVersion,
    },
    policy::auth::KeySource,
    system::clock::Monotonic,
};

/// Renewals that may be under way at a time, each on a thread of its own.
pub(super) const AT_ONCE_MAX: usize = 8;

/// Counts of one provider's renewals, by result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// Another set came.
    pub renewed: u64,
    /// The set is still the same.
    pub unchanged: u64,
    /// No usable set came.
    pub failed: u64,
}

/// A renewal to do.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) source: Arc<KeySource>,
    pub(super) known: Option<Known>,
}

/// A source that has no set.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) provider: Box<str>,
    /// Reason of the last failure, if it has failed.
    pub(super) why: Option<String>,
    /// Failures since the last success.
    pub(super) failures: u32,
}

/// A set that changes for the workers.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) id: Arc<str>,
    pub(super) keys: Option<LiveKeys>,
}

/// End of a renewal.
#[derive(Debug)]
pub(super) enum Ended {
    /// The set is still the provider's.
    Unchanged(Option<Duration>),
    /// There is another one.
    Renewed(Known, Option<Duration>),
    /// There is none; a sentence says why.
    Failed(String),
}

#[derive(Debug)]
struct Entry {
    source: Arc<KeySource>,
    schedule: Schedule,
    known: Option<Known>,
    /// Set while the workers may use the set.
    is_served: bool,
    /// Time until which they may, whatever happens here.
    good_until: Arc<GoodUntil>,
    /// Version of the live values with which the set came.
    live_version: LiveVersion,
    last_error: Option<String>,
}

impl Entry {
    /// Tells the workers the end of the set that there is.
    fn move_end(&self) {
        if let Some(end) = self.schedule.stale_at() {
            self.good_until.set(end);
        }
    }
}

/// State of one source, for operators.
#[derive(Clone, Debug)]
pub struct SourceStatus {
    /// Name of the provider.
    pub provider: Box<str>,
    /// The URL that is asked first, without a query.
    pub url: String,
    /// Version and number of the keys that are used, if any.
    pub set: Option<(u64, usize)>,
    /// Version of the live values with which they came.
    pub live_version: LiveVersion,
    /// Time since the provider was last known to publish them.
    pub age: Option<Duration>,
    /// Time until they are too old; none while there are none.
    pub stale_in: Option<Duration>,
    /// Reason for which the last renewal failed, if it did.
    pub last_error: Option<String>,
    /// Renewals by result.
    pub results: Results,
}

fn between(from: Monotonic, to: Monotonic) -> Duration {
    Duration::from_nanos(to.since(from))
}

/// All sources.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// By id.
    entries: HashMap<Arc<str>, Entry>,
    /// By provider, as a source that moves is counted on.
    results: BTreeMap<Box<str>, Results>,
}

impl Book {
    /// Adds the sources that are new. The others keep their times: what is prepared may not come
    /// to run.
    pub(super) fn add<'s>(
        &mut self,
        sources: impl Iterator<Item = &'s Arc<KeySource>>,
        now: Monotonic,
    ) {
        for source in sources {
            self.results.entry(source.provider.clone()).or_default();
            if self.entries.contains_key(&source.id) {
                continue;
            }
            let entry = Entry {
                source: Arc::clone(source),
                schedule: Schedule::new(now, &source.settings),
                known: None,
                is_served: false,
                good_until: Arc::new(GoodUntil::new(now)),
                live_version: LiveVersion::default(),
                last_error: None,
            };
            self.entries.insert(Arc::clone(&source.id), entry);
        }
    }

    /// Takes the times of these sources, which run from now on.
    pub(super) fn take_times<'s>(
        &mut self,
        sources: impl Iterator<Item = &'s Arc<KeySource>>,
        now: Monotonic,
    ) {
        for source in sources {
            if let Some(entry) = self.entries.get_mut(&source.id)
                && entry.source.settings != source.settings
            {
                entry.schedule.change(now, &source.settings);
                entry.move_end();
                entry.source = Arc::clone(source);
            }
        }
    }

    /// Drops all other sources.
    pub(super) fn keep<'s>(
        &mut self,
        sources: impl Iterator<Item = &'s Arc<KeySource>>,
    ) -> Vec<Change> {
        let sources: Vec<&Arc<KeySource>> = sources.collect();
        let is_kept = |id: &str| sources.iter().any(|source| *source.id == *id);
        let gone: Vec<Arc<str>> =
            self.entries.keys().filter(|id| !is_kept(id)).map(Arc::clone).collect();
        for id in &gone {
            self.entries.remove(id);
        }
        let has_provider = |name: &str| sources.iter().any(|source| *source.provider == *name);
        self.results.retain(|provider, _| has_provider(provider));
        gone.into_iter().map(|id| Change { id, keys: None }).collect()
    }

    /// The sources that have no set.
    pub(super) fn missing<'s>(
        &self,
        sources: impl Iterator<Item = &'s Arc<KeySource>>,
    ) -> Vec<Missing> {
        let missing = |source: &'s Arc<KeySource>| {
            let entry = self.entries.get(&source.id)?;
            (!entry.is_served).then(|| Missing {
                provider: source.provider.clone(),
                why: entry.last_error.clone(),
                failures: entry.schedule.failures(),
            })
        };
        sources.filter_map(missing).collect()
    }

    /// Notes that a token named a key that the set of a source does not have.
    pub(super) fn want(&mut self, id: &str) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.schedule.want();
        }
    }

    /// Makes the renewal of these sources due. Returns the names of their providers.
    pub(super) fn demand<'s>(
        &mut self,
        sources: impl Iterator<Item = &'s Arc<KeySource>>,
        now: Monotonic,
    ) -> Vec<Box<str>> {
        let mut names = Vec::new();
        for source in sources {
            if let Some(entry) = self.entries.get_mut(&source.id) {
                entry.schedule.demand(now);
                names.push(source.provider.clone());
            }
        }
        names.sort_unstable();
        names
    }

    /// Begins the renewal that is due for longest, if one is.
    pub(super) fn begin(&mut self, now: Monotonic) -> Option<Task> {
        let is_due = |entry: &&mut Entry| entry.schedule.next().is_some_and(|next| next <= now);
        let due = self.entries.values_mut().filter(is_due).min_by_key(|e| e.schedule.next())?;
        due.schedule.begin(now);
        Some(Task { source: Arc::clone(&due.source), known: due.known.clone() })
    }

    /// Time at which something is due: a renewal, or a set that becomes too old.
    pub(super) fn next(&self) -> Option<Monotonic> {
        let of_entry = |entry: &Entry| {
            let stale = entry.schedule.stale_at().filter(|_| entry.is_served);
            entry.schedule.next().into_iter().chain(stale).min()
        };
        self.entries.values().filter_map(of_entry).min()
    }

    /// Takes away the sets that are too old.
    pub(super) fn expire(&mut self, now: Monotonic) -> Vec<Change> {
        let mut changes = Vec::new();
        for (id, entry) in &mut self.entries {
            let is_stale = entry.schedule.stale_at().is_some_and(|stale| stale <= now);
            if entry.is_served && is_stale {
                entry.is_served = false;
                tracing::error!(
                    provider = &*entry.source.provider,
                    max_stale_s = entry.source.settings.max_stale.as_secs_f64(),
                    last_error = entry.last_error.as_deref().unwrap_or("none"),
                    "the key set could not be renewed for jwt.jwks.max_stale and is not used any \
                     more: tokens of this provider are refused until it can"
                );
                changes.push(Change { id: Arc::clone(id), keys: None });
            }
        }
        changes
    }

    /// Ends a renewal. Returns the set if it is another one for the workers.
    pub(super) fn end(
        &mut self,
        id: &Arc<str>,
        ended: Ended,
        now: Monotonic,
        random: u64,
    ) -> Option<Change> {
        let entry = self.entries.get_mut(id)?;
        let provider = &*entry.source.provider;
        let mut uncounted = Results::default();
        let results = self.results.get_mut(provider).unwrap_or(&mut uncounted);
        let before = entry.known.as_ref().map(|known| known.keys.version());
        match ended {
            Ended::Failed(why) => {
                results.failed += 1;
                // A provider that is down would repeat it every few seconds.
                if entry.last_error.as_deref() != Some(&*why) {
                    let used =
                        if entry.is_served { "the last good one is used" } else { "there is none" };
                    tracing::warn!(provider, why, used, "the key set cannot be renewed");
                }
                entry.last_error = Some(why);
                entry.schedule.failed(now);
                return None;
            }
            Ended::Unchanged(fresh) => {
                results.unchanged += 1;
                entry.schedule.succeeded(now, fresh, random);
            }
            Ended::Renewed(known, fresh) => {
                if before == Some(known.keys.version()) {
                    results.unchanged += 1;
                } else {
                    results.renewed += 1;
                }
                entry.known = Some(known);
                entry.schedule.succeeded(now, fresh, random);
            }
        }
        entry.move_end();
        if entry.last_error.take().is_some() && before.is_some() {
            tracing::info!(provider, "the key set can be renewed again");
        }
        let keys = &entry.known.as_ref()?.keys;
        let is_news = before != Some(keys.version()) || !entry.is_served;
        entry.is_served = true;
        let set = || LiveKeys { keys: Arc::clone(keys), good_until: Arc::clone(&entry.good_until) };
        is_news.then(|| Change { id: Arc::clone(id), keys: Some(set()) })
    }

    /// Notes the version of the live values with which a set came.
    pub(super) fn sent(&mut self, id: &str, version: LiveVersion) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.live_version = version;
        }
    }

    /// State of these sources, by provider.
    pub(super) fn status<'s>(
        &self,
        sources: impl Iterator<Item = &'s Arc<KeySource>>,
        now: Monotonic,
    ) -> Vec<SourceStatus> {
        let mut all: Vec<SourceStatus> = sources
            .filter_map(|source| self.entries.get(&source.id))
            .map(|entry| {
                let keys =
                    entry.known.as_ref().filter(|_| entry.is_served).map(|known| &known.keys);
                let stale = entry.schedule.stale_at().filter(|_| entry.is_served);
                let provider = entry.source.provider.clone();
                SourceStatus {
                    url: entry.source.place.first_url().to_string(),
                    set: keys.map(|keys| (keys.version(), keys.len())),
                    live_version: entry.live_version,
                    age: entry.schedule.confirmed().map(|at| between(at, now)),
                    stale_in: stale.map(|at| between(now, at)),
                    last_error: entry.last_error.clone(),
                    results: self.results.get(&provider).copied().unwrap_or_default(),
                    provider,
                }
            })
            .collect();
        all.sort_by(|a, b| (&a.provider, &a.url).cmp(&(&b.provider, &b.url)));
        all
    }
}
