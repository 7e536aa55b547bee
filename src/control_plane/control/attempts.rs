//! Attempts to change the configuration, from the request to the report.

use std::{sync::Arc, time::Duration};

use super::{Control, level, log};
use crate::{
    config::Difference,
    control_plane::{
        certificates::paths,
        history::{GoodGeneration, Trigger},
        prepare::{Job, Prepared, Ready, Refusal, Running, Source},
        reload::{Attempt, Change, Phase, ReloadRequest, Requester, Started},
        report::{Outcome, Report},
    },
    handoff::message::IfMatch,
    system::clock::{Monotonic, unix_seconds},
};

impl Control {
    pub(super) fn request_reload(&mut self, change: Change, trigger: Trigger) {
        self.request(change, trigger, None);
    }

    /// Asks for a change whose reason is what runs now. An attempt that is under way may adopt
    /// something else first, and then it must not be made.
    pub(super) fn request_while_this_runs(&mut self, change: Change) {
        let this = IfMatch::only(self.running.release.generation);
        self.request(change, Trigger::Watch, Some(this));
    }

    fn request(&mut self, change: Change, trigger: Trigger, if_match: Option<IfMatch>) {
        self.queue.push(ReloadRequest {
            change,
            trigger,
            if_match,
            requester: Requester::Nobody,
            at: Monotonic::now(),
        });
    }

    /// Starts the next attempt, if one is asked for and none is under way.
    pub(super) fn start_attempt(&mut self) {
        loop {
            if self.drain.is_some() {
                for request in self.queue.take_all() {
                    let report = self.report(Outcome::Stopping, request.at);
                    self.reply(&[request.requester], &report);
                }
                return;
            }
            match self.queue.start(self.running.release.generation) {
                Started::Nothing => return,
                Started::PreconditionFailed(request) => {
                    let report = self.report(Outcome::PreconditionFailed, request.at);
                    self.reply(&[request.requester], &report);
                }
                Started::Attempt => {
                    let Some(attempt) = &self.queue.current else { return };
                    self.retry.begins(&attempt.change);
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

    pub(super) fn prepared(&mut self, prepared: Prepared) {
        let is_watching = self.is_watching();
        let Some(attempt) = &mut self.queue.current else { return };
        let dry = attempt.change == Change::DryRun;
        if !dry && let Ok(Ready { next, .. }) = &prepared.outcome {
            let settings = next.as_ref().map_or(&self.running.settings, |next| &next.settings);
            self.watcher.watch_certificates(paths(&self.config, settings), &prepared.seen);
            self.certificates.read_by_reload(Monotonic::now());
        }
        match &attempt.change {
            Change::File => self.watcher.read_file(prepared.seen, prepared.outcome.is_ok()),
            Change::Rollback(_) if prepared.outcome.is_ok() => {
                self.watcher.read_running_content(prepared.seen);
            }
            Change::DryRun | Change::Rollback(_) => {}
        }
        let refusal = prepared.outcome.as_ref().err();
        let noted = (&attempt.change, attempt.trigger);
        self.retry.note(noted, refusal, is_watching, Monotonic::now());
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
            Ok(Ready { difference, warnings, next: Some(next), tls_server, access_log }) => {
                let timeout = next.settings.admin.reload_timeout;
                attempt.phase = Phase::Awaiting {
                    until: Monotonic::now().plus(timeout),
                    difference: difference.clone(),
                    warnings,
                };
                let trigger = attempt.trigger;
                self.note_restart_keys(&difference);
                if let Some(target) = access_log {
                    self.access_log.switch(target);
                }
                // Part of the live values that the generation is sent with.
                if let Some(server) = tls_server {
                    self.live.set_tls_server(server);
                }
                self.commit(next, trigger, difference.applied);
            }
        }
    }

    /// The point of no return: nothing in here can fail.
    fn commit(&mut self, mut next: Running, trigger: Trigger, applied: Vec<String>) {
        // Nobody else has it yet.
        if let Some(counters) = Arc::get_mut(&mut next.release.counters) {
            let cores = &self.cores;
            counters
                .jwt_keys
                .begin(|slot| cores.iter().map(|core| core.jwt_key_uses(slot).get()).sum());
        }
        self.workers.adopt(&next.release, &self.live.newest(), Monotonic::now());
        self.key_sets.take_times(&next.release.auth);
        self.log.set(level(next.settings.logging.level));
        // What came from standard input has no file that could change.
        self.watcher.watch(next.settings.reload.watch && !self.config.is_stdin());
        self.metrics.generation = next.release.generation;
        self.metrics.auth_enforced = next.release.auth.enforced();
        self.history.push(GoodGeneration {
            generation: next.release.generation,
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
    pub(super) fn check_acknowledgements(&mut self) {
        let Some(Attempt { phase: Phase::Awaiting { until, difference, warnings }, .. }) =
            &mut self.queue.current
        else {
            return;
        };
        let lagging = self.workers.lagging(self.running.release.generation);
        if !lagging.is_empty() && Monotonic::now() < *until {
            return;
        }
        let (difference, warnings) = (std::mem::take(difference), std::mem::take(warnings));
        let outcome = if lagging.is_empty() { Outcome::Success } else { Outcome::Partial(lagging) };
        self.end(outcome, difference, warnings);
    }

    /// Ends the attempt under way: counts it, logs it, and replies to the requesters.
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
        log::write(&report, attempt.trigger);
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
        let generation = self.running.release.generation;
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
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
fn seconds(unix: u64) -> f64 {
    unix as f64
}
