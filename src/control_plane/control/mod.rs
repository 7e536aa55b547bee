//! The control thread: it waits for signals, workers and the preparation thread, and never blocks
//! on anything else.

mod log;
mod retry;

use std::{sync::Arc, time::Duration};

use crossbeam_channel::{Receiver, never, select};
use tracing::Level;

use crate::{
    config::Difference,
    control_plane::{
        admin::{self, StatusPage},
        drain::{Drain, Next},
        history::{GoodGeneration, History, Trigger},
        jobs::Finished,
        live::LiveValues,
        prepare::{Job, Preparation, Prepared, Ready, Refusal, Running, Source, hosts_of},
        reload::{Attempt, Change, Phase, Queue, ReloadRequest, Requester, Started},
        report::{Outcome, Report},
        resolver::{REFRESH, Resolver},
        scrapes::{ScrapeJob, Scraper, Scrapes},
        sd_notify::ServiceManager,
        signals::Signal,
        watcher::{Changed, Look, Watcher},
        workers::Workers,
    },
    handoff::message::{Call, CallReply, Command, DrainStep, FromWorker, Ticket},
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
}

/// Everything that the control thread owns.
#[derive(Debug)]
pub struct Control {
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
    /// The files that are watched.
    pub watcher: Watcher,
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
                tracing::warn!(workers = ?busy, "the last records of these workers are lost");
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

    /// Takes one message, or none when nothing comes within `patience`, and does what is due.
    fn turn(&mut self, inputs: &mut Inputs, patience: Duration) -> Option<End> {
        let wait = match self.stop_step() {
            Ok(wait) => wait.min(patience),
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
                let changed = look.ok().and_then(|look| self.watcher.looked(look, Monotonic::now()));
                match changed {
                    None => {}
                    Some(Changed::File) => self.request_reload(Change::File, Trigger::Watch),
                    Some(Changed::RunningContent) => {
                        let running = self.running.snapshot.generation;
                        self.request_reload(Change::Rollback(running), Trigger::Watch);
                    }
                }
            }
            default(wait) => {
                self.service.flush();
                self.workers.nudge(self.running.snapshot.generation);
            }
        }
        self.supervise();
        self.hand_out();
        self.check_acknowledgements();
        self.start_attempt();
        self.refresh_names();
        end
    }

    /// Gives up jobs that take too long, and begins those whose time has come.
    fn supervise(&mut self) {
        let now = Monotonic::now();
        self.preparation.check(now);
        self.scrapes.check(now);
        self.watcher.turn(now);
        if self.retry.is_due(now) {
            self.request_reload(Change::File, Trigger::Watch);
        }
    }

    /// Sends what workers miss: a generation, a step of stopping, live values.
    fn hand_out(&mut self) {
        let (live, now) = (self.live.newest(), Monotonic::now());
        self.workers.retry(&self.running.snapshot, &live, now);
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
                    tracing::info!(step = ?step, "stopping");
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

    fn request_reload(&mut self, change: Change, trigger: Trigger) {
        self.queue.push(ReloadRequest {
            change,
            trigger,
            if_match: None,
            requester: Requester::Nobody,
            at: Monotonic::now(),
        });
    }

    fn worker_says(&mut self, message: FromWorker) -> Option<End> {
        match message {
            FromWorker::Running { worker, io, refused, core } => {
                tracing::info!(worker, io = %io, core, "worker running");
                if let Some(refused) = refused {
                    tracing::warn!(worker, io = %io, refused, "a better event loop was refused");
                }
            }
            FromWorker::Failed { worker, error } => {
                self.workers.drained(worker, DrainStep::Ending);
                return Some(End::WorkerFailed(format!("worker {worker}: {error}")));
            }
            FromWorker::Adopted { worker, generation } => self.workers.adopted(worker, generation),
            FromWorker::Renewed { worker, version } => self.workers.renewed(worker, version),
            FromWorker::Retired(snapshot) => self.preparation.drop_there(snapshot),
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
            Call::Command { command, request_id, subject } => {
                // A terminal that shows the log must not obey the token's text.
                let subject = subject.as_deref().map(|text| text.escape_debug().to_string());
                tracing::info!(?command, subject, request_id, "admin command");
                self.command(worker, ticket, command, request_id);
            }
        }
    }

    fn render_metrics(&mut self) {
        if self.scrapes.begin() {
            self.scrapes.render(ScrapeJob {
                snapshot: Arc::clone(&self.running.snapshot),
                reload: self.metrics,
                cores: Arc::clone(&self.cores),
                lost: LostLines {
                    access_log: self.access_log.lost_lines(),
                    log: self.log.lost_lines(),
                },
            });
        }
    }

    fn command(&mut self, worker: usize, ticket: Ticket, command: Command, request_id: Box<str>) {
        let running = self.running.snapshot.generation;
        let (change, trigger, if_match) = match command {
            Command::Status => {
                let page = StatusPage {
                    snapshot: &self.running.snapshot,
                    live: &self.live.newest(),
                    workers: &self.workers.generations(),
                    live_versions: &self.workers.live_versions(),
                    cores: &self.cores,
                    uptime_seconds: Monotonic::now().since(self.started) / 1_000_000_000,
                    last_reload: self.last.as_ref(),
                    restart_required: &self.restart_required,
                };
                return self.workers.reply(worker, ticket, admin::status(&page, &request_id));
            }
            Command::History => {
                let page = admin::history(&self.history, running, &request_id);
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

    /// Starts the next attempt, if one is asked for and none is under way.
    fn start_attempt(&mut self) {
        loop {
            if self.drain.is_some() {
                for request in self.queue.take_all() {
                    let report = self.report(Outcome::Stopping, request.at);
                    self.reply(&[request.requester], &report);
                }
                return;
            }
            match self.queue.start(self.running.snapshot.generation) {
                Started::Nothing => return,
                Started::PreconditionFailed(request) => {
                    let report = self.report(Outcome::PreconditionFailed, request.at);
                    self.reply(&[request.requester], &report);
                }
                Started::Attempt => {
                    let Some(attempt) = &self.queue.current else { return };
                    let number = attempt.number;
                    let dry_run = attempt.change == Change::DryRun;
                    if !dry_run {
                        self.service.reloading();
                    }
                    let source = match &attempt.change {
                        Change::File | Change::DryRun => Some(Source::File),
                        Change::Rollback(to) => self
                            .history
                            .get(*to)
                            .map(|entry| Source::Content(Arc::clone(&entry.content))),
                    };
                    match source {
                        Some(source) => {
                            return self.preparation.prepare(Job {
                                attempt: number,
                                source,
                                running: self.running.clone(),
                                workers: self.workers.len(),
                                dry_run,
                            });
                        }
                        None => self.end(Outcome::UnknownGeneration, Difference::default(), vec![]),
                    }
                }
            }
        }
    }

    fn prepared(&mut self, prepared: Prepared) {
        let Some(attempt) = &mut self.queue.current else { return };
        if attempt.number != prepared.attempt {
            return;
        }
        let dry = attempt.change == Change::DryRun;
        match &attempt.change {
            Change::File => self.watcher.read_file(prepared.seen, prepared.outcome.is_ok()),
            Change::Rollback(_) if prepared.outcome.is_ok() => {
                self.watcher.read_running_content(prepared.seen);
            }
            Change::DryRun | Change::Rollback(_) => {}
        }
        let is_watching = self.running.settings.reload.watch;
        let refusal = prepared.outcome.as_ref().err();
        self.retry.note(&attempt.change, refusal, is_watching, Monotonic::now());
        match prepared.outcome {
            Err(Refusal { problems, .. }) => {
                let warnings = problems.warnings.iter().map(ToString::to_string).collect();
                self.end(Outcome::Refused(problems.errors), Difference::default(), warnings);
            }
            Ok(Ready { difference, warnings, .. }) if dry => {
                self.end(Outcome::WouldSucceed, difference, warnings);
            }
            Ok(Ready { difference, warnings, next: None, .. }) => {
                self.note_restart_keys(&difference);
                self.end(Outcome::Success, difference, warnings);
            }
            Ok(Ready { difference, warnings, next: Some(next), access_log }) => {
                let patience = next.settings.admin.reload_timeout;
                attempt.phase = Phase::Awaiting {
                    until: Monotonic::now().plus(patience),
                    difference: difference.clone(),
                    warnings,
                };
                let trigger = attempt.trigger;
                self.note_restart_keys(&difference);
                if let Some(target) = access_log {
                    self.access_log.switch(target);
                }
                self.commit(next, trigger, difference.applied);
            }
        }
    }

    /// The point of no return: nothing in here can fail.
    fn commit(&mut self, mut next: Running, trigger: Trigger, applied: Vec<String>) {
        // Nobody else has it yet.
        if let Some(snapshot) = Arc::get_mut(&mut next.snapshot) {
            let cores = &self.cores;
            snapshot
                .jwt_keys
                .begin(|slot| cores.iter().map(|core| core.jwt_key_uses(slot).get()).sum());
        }
        self.workers.adopt(&next.snapshot, &self.live.newest(), Monotonic::now());
        self.log.set(level(next.settings.logging.level.as_str()));
        self.watcher.watch(next.settings.reload.watch);
        self.metrics.generation = next.snapshot.generation;
        self.metrics.auth_enforced = next.snapshot.auth.enforced();
        self.history.push(GoodGeneration {
            generation: next.snapshot.generation,
            unix_seconds: unix_seconds(),
            trigger,
            applied,
            content: Arc::clone(&next.content),
        });
        let old = std::mem::replace(&mut self.running, next);
        self.preparation.drop_there(old);
    }

    fn note_restart_keys(&mut self, difference: &Difference) {
        self.restart_required.clone_from(&difference.restart_required);
        self.metrics.restart_required = !difference.restart_required.is_empty();
        for key in &difference.restart_required {
            tracing::warn!(key, "this change waits for a restart");
        }
    }

    /// Ends the attempt under way when every worker has acknowledged, or when time is up.
    fn check_acknowledgements(&mut self) {
        let Some(Attempt { phase: Phase::Awaiting { until, difference, warnings }, .. }) =
            &mut self.queue.current
        else {
            return;
        };
        let lagging = self.workers.lagging(self.running.snapshot.generation);
        if !lagging.is_empty() && Monotonic::now() < *until {
            return;
        }
        let (difference, warnings) = (std::mem::take(difference), std::mem::take(warnings));
        let outcome = if lagging.is_empty() { Outcome::Success } else { Outcome::Partial(lagging) };
        self.end(outcome, difference, warnings);
    }

    /// Ends the attempt under way: counts it, logs it, and tells who asked.
    fn end(&mut self, outcome: Outcome, difference: Difference, warnings: Vec<String>) {
        let Some(attempt) = self.queue.current.take() else { return };
        let mut report = self.report(outcome, attempt.at);
        report.changed = difference.hot_changed;
        report.applied = difference.applied;
        report.restart_required = difference.restart_required;
        report.warnings = warnings;
        let dry = attempt.change == Change::DryRun;
        match &report.outcome {
            _ if dry => {}
            Outcome::Success => {
                self.metrics.success_total += 1;
                self.metrics.last_reload_successful = true;
                self.metrics.last_reload_timestamp_seconds = seconds(report.unix_seconds);
            }
            Outcome::Refused(_) | Outcome::Partial(_) | Outcome::UnknownGeneration => {
                self.metrics.failure_total += 1;
                self.metrics.last_reload_successful = false;
            }
            Outcome::WouldSucceed | Outcome::PreconditionFailed | Outcome::Stopping => {}
        }
        log::tell(&report, attempt.trigger);
        self.reply(&attempt.requesters, &report);
        if !dry {
            // Who stops is not ready again.
            if self.drain.is_none() {
                self.service.reloaded(&report);
            }
            self.last = Some((report, attempt.trigger.as_str()));
        }
    }

    fn report(&self, outcome: Outcome, since: Monotonic) -> Report {
        let generation = self.running.snapshot.generation;
        let nanos = Duration::from_nanos(Monotonic::now().since(since));
        Report {
            outcome,
            generation,
            unix_seconds: unix_seconds(),
            changed: false,
            workers: self.workers.len() - self.workers.lagging(generation).len(),
            duration_ms: (nanos.as_secs_f64() * 1e6).round() / 1e3,
            applied: Vec::new(),
            restart_required: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn reply(&mut self, requesters: &[Requester], report: &Report) {
        for requester in requesters {
            if let Requester::Client { worker, ticket, request_id } = requester {
                self.workers.reply(*worker, ticket.clone(), report.reply(request_id));
            }
        }
    }

    fn refresh_names(&mut self) {
        let now = Monotonic::now();
        if now < self.refresh_at {
            return;
        }
        self.refresh_at = now.plus(REFRESH);
        let hosts = hosts_of(&self.running.snapshot);
        // What an attempt has just learned belongs to no running generation yet.
        let preparing =
            self.queue.current.as_ref().is_some_and(|a| matches!(a.phase, Phase::Preparing));
        if !preparing {
            self.live.keep_hosts(&hosts);
        }
        self.resolver.refresh(&hosts);
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
fn seconds(unix: u64) -> f64 {
    unix as f64
}

/// The level of a name that the configuration has checked.
pub fn level(name: &str) -> Level {
    crate::telemetry::log::parse_level(name).unwrap_or(Level::INFO)
}

#[cfg(test)]
mod tests;
