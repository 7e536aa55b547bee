//! The metrics page: rendered on a thread of its own, once for all who wait for it.

use std::{io, sync::Arc, thread};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::{
    control_plane::{
        admin::{REVISION, VERSION},
        prepare::BACKGROUND_NICE,
    },
    handoff::{
        message::{Answer, Ticket},
        snapshot::Snapshot,
    },
    system::process,
    telemetry::{
        cells::CoreCells,
        process::ProcessInfo,
        render::{BucketRow, BuildInfo, CONTENT_TYPE, LostLines, ReloadMetrics, Scrape, render},
    },
};

/// What the page is made from.
#[derive(Debug)]
pub struct ScrapeJob {
    /// The running generation.
    pub snapshot: Arc<Snapshot>,
    /// The reload series.
    pub reload: ReloadMetrics,
    /// All cores' counters.
    pub cores: Arc<[Arc<CoreCells>]>,
    /// Log lines that were lost.
    pub lost: LostLines,
}

/// A request for the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requester {
    /// The worker that has the client.
    pub worker: usize,
    /// The call's ticket.
    pub ticket: Ticket,
}

/// The requests for the page and the thread that renders it, so that a thousand buckets do not keep
/// the control thread busy. One page is rendered at a time; requests that arrive meanwhile share the
/// next one, which is newer than each of them.
#[derive(Debug)]
pub struct Scrapes {
    jobs: Sender<ScrapeJob>,
    /// Those who get the page that is being rendered.
    rendering: Vec<Requester>,
    /// Those who came since.
    waiting: Vec<Requester>,
}

impl Scrapes {
    /// Starts the thread; pages arrive at the receiver.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start() -> io::Result<(Self, Receiver<Answer>)> {
        let (jobs, todo) = unbounded::<ScrapeJob>();
        let (done, rendered) = unbounded();
        thread::Builder::new().name("yt-metrics".to_owned()).spawn(move || {
            process::lower_priority(BACKGROUND_NICE);
            while let Ok(job) = todo.recv() {
                if done.send(scrape(&job)).is_err() {
                    return;
                }
            }
        })?;
        Ok((Self { jobs, rendering: Vec::new(), waiting: Vec::new() }, rendered))
    }

    /// Adds a request. The workers bound how many there are.
    pub fn add(&mut self, requester: Requester) {
        self.waiting.push(requester);
    }

    /// Whether the next page is to be rendered now: somebody waits for one and none is under way.
    /// [`Scrapes::render`] must follow then.
    pub fn begin(&mut self) -> bool {
        if !self.rendering.is_empty() || self.waiting.is_empty() {
            return false;
        }
        self.rendering = std::mem::take(&mut self.waiting);
        true
    }

    /// Renders a page.
    pub fn render(&self, job: ScrapeJob) {
        let _ = self.jobs.send(job);
    }

    /// Those who get the page that has just come.
    pub fn finish(&mut self) -> Vec<Requester> {
        std::mem::take(&mut self.rendering)
    }
}

fn scrape(job: &ScrapeJob) -> Answer {
    let buckets: Vec<BucketRow<'_>> = job
        .snapshot
        .buckets
        .iter()
        .map(|bucket| BucketRow { name: &bucket.label, cells: &bucket.cells })
        .collect();
    let body = render(&Scrape {
        reload: &job.reload,
        cores: &job.cores,
        buckets: &buckets,
        jwt_keys: &job.snapshot.jwt_keys,
        lost: job.lost,
        process: &ProcessInfo::read(),
        build: BuildInfo { version: VERSION, revision: REVISION },
    });
    Answer { status: 200, content_type: CONTENT_TYPE, code: "", body: body.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_come_while_a_page_is_rendered_share_the_next_one() {
        let (jobs, _todo) = unbounded();
        let mut scrapes = Scrapes { jobs, rendering: Vec::new(), waiting: Vec::new() };
        let requester = |ticket| Requester { worker: 0, ticket: Ticket::new(ticket) };
        assert!(!scrapes.begin(), "nobody waits");
        scrapes.add(requester(1));
        assert!(scrapes.begin());
        scrapes.add(requester(2));
        scrapes.add(requester(3));
        assert!(!scrapes.begin(), "one at a time");
        assert_eq!(scrapes.finish(), [requester(1)]);
        assert!(scrapes.begin());
        assert_eq!(scrapes.finish(), [requester(2), requester(3)]);
        assert!(!scrapes.begin(), "all have theirs");
    }
}
