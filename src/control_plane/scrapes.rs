//! The metrics page: rendered on a thread of its own, once for all who wait for it.

use std::{io, sync::Arc, time::Duration};

use crossbeam_channel::Receiver;

use crate::{
    control_plane::{
        admin::{REVISION, VERSION},
        jobs::{Finished, Purpose, Runner},
        key_sets::SourceStatus,
        providers::credentials::CredentialStatus,
    },
    handoff::{
        message::{CallReply, Ticket},
        release::Counters,
    },
    system::clock::Monotonic,
    telemetry::{
        cells::CoreCells,
        process::ProcessInfo,
        render::{
            BucketRow, BuildInfo, CONTENT_TYPE, CertificateMetrics, KeySetRow, LostLines,
            ReloadMetrics, Scrape, SourceRow, render,
        },
    },
};

/// Time for one page. The largest one, of a thousand buckets, takes milliseconds.
const RENDER_TIMEOUT: Duration = Duration::from_secs(10);

/// Contents of the page.
#[derive(Debug)]
pub struct ScrapeJob {
    /// The counters of the running generation.
    pub counters: Arc<Counters>,
    /// The reload series.
    pub reload: ReloadMetrics,
    /// State of the sources of key sets.
    pub key_sets: Vec<SourceStatus>,
    /// All cores' counters.
    pub cores: Arc<[Arc<CoreCells>]>,
    /// Certificates for clients.
    pub certificates: CertificateMetrics,
    /// Log lines that were lost.
    pub lost: LostLines,
    /// The sources of credentials in use.
    pub credentials: Vec<CredentialStatus>,
}

/// A request for the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scraper {
    /// The worker that has the client.
    pub worker: usize,
    /// The call's ticket.
    pub ticket: Ticket,
}

/// The requests for the page and the thread that renders it, so that a thousand buckets do not keep
/// the control thread busy. One page is rendered at a time; requests that arrive meanwhile share
/// the next one, which is newer than each of them.
#[derive(Debug)]
pub struct Scrapes {
    pages: Runner<ScrapeJob, CallReply>,
    /// Those who get the page that is being rendered.
    rendering: Vec<Scraper>,
    /// Those who came since.
    waiting: Vec<Scraper>,
}

impl Scrapes {
    /// Starts the thread; pages arrive at the receiver, and belong to [`Scrapes::finish`].
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start() -> io::Result<(Self, Receiver<Finished<CallReply>>)> {
        Self::start_with(|job| scrape(&job))
    }

    /// Starts the thread with another way of rendering.
    pub(super) fn start_with(
        render: impl Fn(ScrapeJob) -> CallReply + Send + Sync + 'static,
    ) -> io::Result<(Self, Receiver<Finished<CallReply>>)> {
        let purpose = Purpose { name: "yt-metrics", timeout: RENDER_TIMEOUT, when_idle: || {} };
        let (pages, rendered) = Runner::start(purpose, render)?;
        Ok((Self { pages, rendering: Vec::new(), waiting: Vec::new() }, rendered))
    }

    /// Adds a request. The workers bound how many there are.
    pub fn add(&mut self, scraper: Scraper) {
        self.waiting.push(scraper);
    }

    /// Returns true if the next page is to be rendered now: somebody waits for one and none is
    /// under way. [`Scrapes::render`] must follow then.
    pub fn begin(&mut self) -> bool {
        if !self.rendering.is_empty() || self.waiting.is_empty() {
            return false;
        }
        self.rendering = std::mem::take(&mut self.waiting);
        true
    }

    /// Renders a page.
    pub fn render(&mut self, job: ScrapeJob) {
        self.pages.submit(job);
    }

    /// Gives up a page that takes too long.
    pub fn check(&self, now: Monotonic) {
        self.pages.check(now);
    }

    /// The page that has just come, and those who get it. Where there is none they are told so by
    /// the end of their tickets.
    pub fn finish(&mut self, finished: Finished<CallReply>) -> Option<(CallReply, Vec<Scraper>)> {
        let scrapers = std::mem::take(&mut self.rendering);
        match finished.outcome {
            Ok(page) => Some((page, scrapers)),
            Err(failure) => {
                tracing::error!("there is no metrics page: {failure}");
                None
            }
        }
    }
}

pub(super) fn scrape(job: &ScrapeJob) -> CallReply {
    let buckets: Vec<BucketRow<'_>> = job
        .counters
        .buckets
        .iter()
        .map(|bucket| BucketRow { name: &bucket.label, cells: &bucket.cells })
        .collect();
    let key_sets: Vec<KeySetRow<'_>> = job
        .key_sets
        .iter()
        .map(|source| KeySetRow {
            provider: &source.provider,
            age_seconds: source.age.map(|age| age.as_secs_f64()),
            results: [
                ("renewed", source.results.renewed),
                ("unchanged", source.results.unchanged),
                ("failed", source.results.failed),
            ],
        })
        .collect();
    let credentials: Vec<SourceRow<'_>> = job
        .credentials
        .iter()
        .map(|source| SourceRow {
            name: &source.source,
            ends: source.ends,
            successes: source.successes,
            failures: source.failures,
        })
        .collect();
    let body = render(&Scrape {
        reload: &job.reload,
        cores: &job.cores,
        buckets: &buckets,
        jwt_keys: &job.counters.jwt_keys,
        key_sets: &key_sets,
        certificates: &job.certificates,
        lost: job.lost,
        credentials: &credentials,
        process: &ProcessInfo::read(),
        build: BuildInfo { version: VERSION, revision: REVISION },
    });
    CallReply { status: 200, content_type: CONTENT_TYPE, code: "", body: body.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::jobs::JobId;

    #[test]
    fn those_who_come_while_a_page_is_rendered_share_the_next_one() {
        let (mut scrapes, _pages) = Scrapes::start().unwrap();
        let add = |scrapes: &mut Scrapes, number| {
            let ticket = Ticket::new(number);
            scrapes.add(Scraper { worker: 0, ticket });
        };
        let finish = |scrapes: &mut Scrapes| -> Vec<u64> {
            let body = Vec::new().into();
            let page = CallReply { status: 200, content_type: CONTENT_TYPE, code: "", body };
            let finished = Finished { job: JobId::default(), outcome: Ok(page) };
            let (_, waiting) = scrapes.finish(finished).unwrap();
            waiting.iter().map(|scraper| scraper.ticket.number()).collect()
        };
        assert!(!scrapes.begin(), "nobody waits");
        add(&mut scrapes, 1);
        assert!(scrapes.begin());
        add(&mut scrapes, 2);
        add(&mut scrapes, 3);
        assert!(!scrapes.begin(), "one at a time");
        assert_eq!(finish(&mut scrapes), [1]);
        assert!(scrapes.begin());
        assert_eq!(finish(&mut scrapes), [2, 3]);
        assert!(!scrapes.begin(), "all have theirs");
    }
}
