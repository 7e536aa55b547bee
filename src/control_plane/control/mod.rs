//! The control thread: it waits for signals, workers and the preparation thread, and never blocks
//! on anything else.

mod attempts;
mod log;
mod renewal;
mod retry;

use std::{sync::Arc, time::Duration};

use crossbeam_channel::{Receiver, never, select};
use tracing::Level;

use crate::{
    config::settings,
    control_plane::{
        admin::{self, HostStatus, StatusPage},
        certificates::{Certificates, Reading},
        drain::{Drain, Next},
        files::ConfigPlace,
        history::{History, Trigger},
        jobs::Finished,
        key_sets::KeyFetcher,
        live::LiveValues,
        prepare::{Preparation, Prepared, Running, hosts_of, sources_of},
        providers::credentials::{CredentialSources, CredentialStatus, renewal::Moment},
        reload::{Change, Phase, Queue, ReloadRequest, Requester},
        report::{Report, listed},
        resolver::{LastLookUp, REFRESH, Resolver},
        scrapes::{ScrapeJob, Scraper, Scrapes},
        sd_notify::ServiceManager,
        signals::Signal,
        watcher::{Changed, Look, News, Watcher},
        workers::Workers,
    },
    handoff::{
        live::HostPort,
        message::{Call, CallReply, Command, DrainStep, FromWorker, Ticket},
    },
    system::clock::{Monotonic, unix_seconds},
    telemetry::{
        access_log::AccessLogHandle,
        cells::CoreCells,
        log::LogLevel,
        render::{LostLines, ReloadMetrics},
    },
};

pub use self::retry::Retry;

/// Time between two looks of the control thread when nothing happens: for workers that missed a
/// generation and for names to refresh.
const TICK: Duration = Duration::from_millis(100);

/// Time for the workers at the end to record what they cut short.
const ENDING_GRACE: Duration = Duration::from_secs(1);

/// Everything that the control thread listens to.
#[derive(Debug)]
pub struct Inputs {
    /// Workers.
    pub workers: Receiver<FromWorker>,
    /// Signals.
    pub signals: Receiver<Signal>,
    /// The preparation thread.
    pub prepared: Receiver<Finished<Option<Prepared>>>,
    /// The live values' bell.
    pub live: Receiver<()>,
    /// Finished metrics pages.
    pub rendered: Receiver<Finished<CallReply>>,
    /// Looks at the files that are watched.
    pub looked: Receiver<Finished<Look>>,
    /// Certificates that were read again.
    pub read: Receiver<Finished<Reading>>,
}

/// Everything that the control thread owns.
#[derive(Debug)]
pub struct Control {
    /// The configuration.
    pub config: ConfigPlace,
    /// The workers.
    pub workers: Workers,
    /// All cores' counters.
    pub cores: Arc<[Arc<CoreCells>]>,
    /// The running configuration.
    pub running: Running,
    /// The preparation thread.
    pub preparation: Preparation,
    /// The values that renew themselves.
    pub live: LiveValues,
    /// The resolver.
    pub resolver: Resolver,
    /// Key sets from the network.
    pub key_sets: KeyFetcher,
    /// The sources of credentials.
    pub credentials: CredentialSources,
    /// The files that are watched.
    pub watcher: Watcher,
    /// Certificates that are read again when their files change.
    pub certificates: Certificates,
    /// The service manager, if one started the process.
    pub service: ServiceManager,
    /// The requests for the metrics page.
    pub scrapes: Scrapes,
    /// The access log's writer.
    pub access_log: AccessLogHandle,
    /// The process log's level.
    pub log: LogLevel,
    /// Reload requests and the attempt under way.
    pub queue: Queue,
    /// The last good generations.
    pub history: History,
    /// The reload series.
    pub metrics: ReloadMetrics,
    /// Keys of the file that wait for a restart.
    pub restart_required: Vec<String>,
    /// The last attempt and its trigger.
    pub last: Option<(Report, &'static str)>,
    /// Time of the start of the process.
    pub started: Monotonic,
    /// Time of the next look-up of all names.
    pub refresh_at: Monotonic,
    /// Another attempt after a refusal that may pass.
    pub retry: Retry,
    /// The stop under way.
    pub drain: Option<Drain>,
}

/// Reason why the control thread ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The process was asked to stop, and every request was finished or out of time.
    Stopped,
    /// It was asked twice.
    StoppedAtOnce,
    /// A worker could not start or ended.
    WorkerFailed(String),
}

impl Control {
    /// Runs until the process is to end.
    pub fn run(&mut self, inputs: &mut Inputs) -> End {
        let end = loop {
            if let Some(end) = self.turn(inputs, TICK) {
                break end;
            }
        };
        self.end_workers(inputs);
        end
    }

    /// Lets the workers record what is still in flight and hand over their access log.
    fn end_workers(&mut self, inputs: &Inputs) {
        let until = Monotonic::now().plus(ENDING_GRACE);
        loop {
            self.workers.drain(DrainStep::Ending);
            let left = Duration::from_nanos(until.since(Monotonic::now()));
            let busy = self.workers.busy();
            if busy.is_empty() {
                return;
            }
            if left.is_zero() {
                let workers = listed(&busy);
                tracing::warn!(workers, "the last records of these workers are lost");
                return;
            }
            match inputs.workers.recv_timeout(left.min(TICK)) {
                Ok(FromWorker::Drained { worker, step }) => self.workers.drained(worker, step),
                // Its event loop is gone, and with it what it knew.
                Ok(FromWorker::Failed { worker, .. }) => {
                    self.workers.drained(worker, DrainStep::Ending);
                }
                _ => {}
            }
        }
    }

    /// Takes one message, or none when nothing comes within `timeout`, and does what is due.
    fn turn(&mut self, inputs: &mut Inputs, timeout: Duration) -> Option<End> {
        let wait = match self.stop_step() {
            Ok(wait) => wait.min(timeout),
            Err(end) => return Some(end),
        };
        let mut end = None;
        select! {
            recv(inputs.workers) -> message => if let Ok(message) = message {
                end = self.worker_says(message);
            } else {
                // Each of them sends why it ended, so this comes after the end.
                inputs.workers = never();
            },
            recv(inputs.signals) -> signal => if let Ok(signal) = signal {
                end = self.signal(signal);
            } else {
                tracing::error!("signals are not seen any more: their thread has ended");
                inputs.signals = never();
            },
            recv(inputs.prepared) -> finished => {
                if let Some(prepared) = finished.ok().and_then(|job| self.preparation.finished(job)) {
                    self.prepared(prepared);
                }
            }
            // The table is looked at below, whatever woke this thread.
            recv(inputs.live) -> _ => {}
            recv(inputs.rendered) -> finished => {
                let page = finished.ok().and_then(|finished| self.scrapes.finish(finished));
                if let Some((page, scrapers)) = page {
                    for Scraper { worker, ticket } in scrapers {
                        self.workers.reply(worker, ticket, page.clone());
                    }
                }
                self.render_metrics();
            }
            recv(inputs.looked) -> look => {
                let news = look.ok().map(|look| self.watcher.looked(look, Monotonic::now()));
                self.looked(news.unwrap_or_default());
            }
            recv(inputs.read) -> reading => if let Ok(reading) = reading {
                self.certificates_read(reading);
            },
            default(wait) => {
                self.service.flush();
                self.workers.nudge(self.running.release.generation);
            }
        }
        self.supervise();
        self.hand_out();
        self.check_acknowledgements();
        self.start_attempt();
        self.refresh_names();
        end
    }

    fn looked(&mut self, news: News) {
        if news.certificates {
            self.certificates_changed();
        }
        match news.changed {
            None => {}
            Some(Changed::File) => self.request_reload(Change::File, Trigger::Watch),
            Some(Changed::RunningContent) => {
                let running = self.running.release.generation;
                self.request_while_this_runs(Change::Rollback(running));
            }
        }
    }

    /// Gives up jobs that take too long, and begins those whose time has come.
    fn supervise(&mut self) {
        let now = Monotonic::now();
        let generation = self.running.release.generation;
        let is_preparing = self.is_preparing();
        self.certificates.turn(&self.running.settings, generation, is_preparing, now);
        self.preparation.check(now);
        self.scrapes.check(now);
        self.watcher.turn(now);
        self.credentials.check(now);
        self.credentials.turn(Moment::now());
        // What is adopted meanwhile may take the place of the file.
        if !self.queue.may_adopt() && self.retry.is_due(now) {
            self.request_reload(Change::File, Trigger::Watch);
        }
    }

    /// Sends what workers miss: a generation, a step of stopping, live values.
    fn hand_out(&mut self) {
        let (live, now) = (self.live.newest(), Monotonic::now());
        self.workers.retry(&self.running.release, &live, now);
        self.workers.renew(&live, now);
    }

    /// One step of a stop that is under way. The time until the next one, or the end.
    fn stop_step(&mut self) -> Result<Duration, End> {
        loop {
            let busy = !self.workers.busy().is_empty();
            match self.drain.as_mut().map(|drain| drain.next(Monotonic::now(), busy)) {
                None => return Ok(TICK),
                Some(Next::Wait(wait)) => return Ok(wait),
                Some(Next::Step(step)) => {
                    tracing::info!(step = step.as_str(), "stopping");
                    self.workers.drain(step);
                }
                Some(Next::Exit) => return Err(End::Stopped),
            }
        }
    }

    fn signal(&mut self, signal: Signal) -> Option<End> {
        match signal {
            Signal::Reopen => self.access_log.reopen(),
            Signal::Reload => self.request_reload(Change::File, Trigger::Signal),
            Signal::Stop if self.drain.is_some() => {
                tracing::warn!("stopping at once: asked twice");
                return Some(End::StoppedAtOnce);
            }
            Signal::Stop => {
                let timeouts = self.running.settings.server.timeouts;
                tracing::info!(
                    drain_delay_s = timeouts.drain_delay.as_secs_f64(),
                    drain_idle_s = timeouts.drain_idle.as_secs_f64(),
                    drain_s = timeouts.drain.as_secs_f64(),
                    "stopping: not ready from now on"
                );
                self.service.stopping();
                self.workers.drain(DrainStep::NotReady);
                self.drain =
                    Some(Drain::start(Monotonic::now(), timeouts.drain_delay, timeouts.drain));
            }
        }
        None
    }

    fn worker_says(&mut self, message: FromWorker) -> Option<End> {
        match message {
            // The start has waited for them.
            FromWorker::Running { .. } => {}
            FromWorker::Failed { worker, error } => {
                self.workers.drained(worker, DrainStep::Ending);
                return Some(End::WorkerFailed(format!("worker {worker}: {error}")));
            }
            FromWorker::Adopted { worker, generation } => self.workers.adopted(worker, generation),
            FromWorker::UnknownKey { source } => self.key_sets.want(&source),
            FromWorker::RefusedCredentials { source, serial } => {
                self.credentials.refused(source, serial);
            }
            FromWorker::Renewed { worker, version } => self.workers.renewed(worker, version),
            FromWorker::Retired(release) => self.preparation.drop_there(release),
            FromWorker::Drained { worker, step } => self.workers.drained(worker, step),
            FromWorker::Call { worker, ticket, call } => self.call(worker, ticket, call),
        }
        None
    }

    fn call(&mut self, worker: usize, ticket: Ticket, call: Call) {
        match call {
            Call::Metrics => {
                self.scrapes.add(Scraper { worker, ticket });
                self.render_metrics();
            }
            Call::Command { command, request_id, subject, client } => {
                let subject = subject.as_deref();
                tracing::info!(%command, subject, %client, request_id, "admin command");
                self.command(worker, ticket, command, request_id);
            }
        }
    }

    fn render_metrics(&mut self) {
        if self.scrapes.begin() {
            self.scrapes.render(ScrapeJob {
                counters: Arc::clone(&self.running.release.counters),
                reload: self.metrics,
                key_sets: self.key_sets.status(&self.running.release.auth),
                cores: Arc::clone(&self.cores),
                certificates: self.certificate_metrics(),
                lost: LostLines {
                    access_log: self.access_log.lost_lines(),
                    log: self.log.lost_lines(),
                },
                credentials: self.credentials_status(),
            });
        }
    }

    fn credentials_status(&self) -> Vec<CredentialStatus> {
        let wanted = sources_of(&self.running.release);
        let workers = self.workers.live_versions();
        self.credentials.status(&wanted, &workers, Moment::now())
    }

    fn command(&mut self, worker: usize, ticket: Ticket, command: Command, request_id: Box<str>) {
        let running = self.running.release.generation;
        let (change, trigger, if_match) = match command {
            Command::Status => {
                let page = StatusPage {
                    snapshot: &self.running.release,
                    live: &self.live.newest(),
                    workers: &self.workers.generations(),
                    live_versions: &self.workers.live_versions(),
                    key_sets: &self.key_sets.status(&self.running.release.auth),
                    cores: &self.cores,
                    uptime_seconds: Monotonic::now().since(self.started) / 1_000_000_000,
                    last_reload: self.last.as_ref(),
                    certificates: &self.certificate_status(),
                    certificates_age_seconds: self.certificates.age(Monotonic::now()).as_secs(),
                    unix_seconds: unix_seconds(),
                    hosts: &self.host_status(),
                    restart_required: &self.restart_required,
                    credentials: &self.credentials_status(),
                };
                return self.workers.reply(worker, ticket, admin::status(&page, &request_id));
            }
            Command::RefreshCredentials => {
                let wanted = sources_of(&self.running.release);
                let page = admin::refreshed(&self.credentials.refresh(&wanted), &request_id);
                return self.workers.reply(worker, ticket, page);
            }
            Command::History => {
                let page = admin::history(&self.history, running, &request_id);
                return self.workers.reply(worker, ticket, page);
            }
            Command::RefreshKeys => {
                let page = admin::refreshing_keys(
                    &self.key_sets.demand(&self.running.release.auth),
                    &request_id,
                );
                return self.workers.reply(worker, ticket, page);
            }
            Command::Reload { dry_run: true, if_match } => (Change::DryRun, Trigger::Api, if_match),
            Command::Reload { dry_run: false, if_match } => (Change::File, Trigger::Api, if_match),
            Command::Rollback { to, if_match } => {
                (Change::Rollback(to), Trigger::Rollback, if_match)
            }
        };
        let requester = Requester::Client { worker, ticket, request_id };
        self.queue.push(ReloadRequest {
            change,
            trigger,
            if_match,
            requester,
            at: Monotonic::now(),
        });
    }

    fn host_status(&self) -> Vec<HostStatus> {
        let now = Monotonic::now();
        let status = |host: HostPort| {
            let LastLookUp { succeeded, error } = self.resolver.last(&host);
            let age_seconds = succeeded.map(|at| now.since(at) / 1_000_000_000);
            HostStatus { host, age_seconds, error }
        };
        hosts_of(&self.running.release).into_iter().map(status).collect()
    }

    /// Returns true if a changed file is read without anybody asking.
    fn is_watching(&self) -> bool {
        self.running.settings.reload.watch && !self.config.is_stdin()
    }

    fn is_preparing(&self) -> bool {
        let current = self.queue.current.as_ref();
        current.is_some_and(|attempt| matches!(attempt.phase, Phase::Preparing))
    }

    fn refresh_names(&mut self) {
        let now = Monotonic::now();
        if now < self.refresh_at {
            return;
        }
        self.refresh_at = now.plus(REFRESH);
        let hosts = hosts_of(&self.running.release);
        // What an attempt has just learned belongs to no running generation yet, and a worker that
        // lags still serves with what an older one names.
        let is_behind = !self.workers.lagging(self.running.release.generation).is_empty();
        if !self.is_preparing() && !is_behind {
            self.live.keep_hosts(&hosts);
            self.key_sets.keep(&self.running.release.auth);
            self.credentials.keep(&sources_of(&self.running.release));
        }
        self.resolver.refresh(&hosts);
    }
}

/// The level of the process log that is configured.
pub const fn level(configured: settings::LogLevel) -> Level {
    match configured {
        settings::LogLevel::Error => Level::ERROR,
        settings::LogLevel::Warn => Level::WARN,
        settings::LogLevel::Info => Level::INFO,
        settings::LogLevel::Debug => Level::DEBUG,
        settings::LogLevel::Trace => Level::TRACE,
    }
}

#[cfg(test)]
mod tests;
