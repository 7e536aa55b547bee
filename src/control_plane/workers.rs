//! The workers as the control thread sees them: messages go out, acknowledgements come back.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{
    handoff::{
        live::{LiveTable, LiveVersion},
        message::{CallReply, DrainStep, Ticket, ToWorker},
        release::Release,
    },
    model::Generation,
    system::{clock::Monotonic, inbox::InboxSender},
};

/// Least time between two tables of live values for one worker. A name server that gives a thousand
/// names other addresses at once would make a table for each of them.
pub(super) const RENEW_INTERVAL: Duration = Duration::from_millis(20);

/// One worker.
#[derive(Debug)]
struct Member {
    inbox: InboxSender<ToWorker>,
    adopted: Generation,
    /// Its inbox was full when a generation was sent: it gets the newest one later.
    behind: bool,
    /// Responses that its inbox had no room for, oldest first. There are no more of them than its
    /// clients wait for.
    unsent: VecDeque<(Ticket, CallReply)>,
    /// The live values that it was sent last, and when.
    sent: (LiveVersion, Monotonic),
    /// The live values that it uses.
    renewed: LiveVersion,
    /// The last step of stopping that it was sent.
    sent_step: DrainStep,
    /// The last step of stopping that it has come to the end of.
    done: DrainStep,
}

impl Member {
    /// Sends responses for as long as there is room; what is left is tried again with the next
    /// turn.
    fn send_responses(&mut self) {
        while let Some((ticket, reply)) = self.unsent.pop_front() {
            let message = ToWorker::Reply { ticket, reply };
            if let Err(ToWorker::Reply { ticket, reply }) = self.inbox.send(message) {
                self.unsent.push_front((ticket, reply));
                return;
            }
        }
    }

    fn adopt(&mut self, release: &Release, live: &Arc<LiveTable>, now: Monotonic) {
        let message = ToWorker::Adopt { release: release.clone(), live: Arc::clone(live) };
        self.behind = self.inbox.send(message).is_err();
        if !self.behind {
            self.sent = (live.version(), now);
        }
    }
}

/// All workers.
#[derive(Debug)]
pub struct Workers {
    members: Vec<Member>,
    step: DrainStep,
}

impl Workers {
    /// Workers that start with `generation` and `live`.
    pub fn new(
        inboxes: Vec<InboxSender<ToWorker>>,
        generation: Generation,
        live: LiveVersion,
    ) -> Self {
        let members = inboxes
            .into_iter()
            .map(|inbox| Member {
                inbox,
                adopted: generation,
                behind: false,
                unsent: VecDeque::new(),
                sent: (live, Monotonic(0)),
                renewed: live,
                sent_step: DrainStep::Serving,
                done: DrainStep::Serving,
            })
            .collect();
        Self { members, step: DrainStep::Serving }
    }

    /// Number of workers.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Sends a generation to every worker, with the live values of the moment. One whose inbox is
    /// full gets it in [`Workers::retry`].
    pub fn adopt(&mut self, release: &Release, live: &Arc<LiveTable>, now: Monotonic) {
        for member in &mut self.members {
            member.adopt(release, live, now);
        }
    }

    /// Sends the newest generation, responses and the present step of stopping to the workers that
    /// missed them.
    pub fn retry(&mut self, newest: &Release, live: &Arc<LiveTable>, now: Monotonic) {
        self.drain(self.step);
        self.members.iter_mut().for_each(Member::send_responses);
        for member in self.members.iter_mut().filter(|member| member.behind) {
            member.adopt(newest, live, now);
        }
    }

    /// Sends live values to the workers that were sent older ones, at most one table at a time: who
    /// has not acknowledged the last one would only let them pile up, and gets the newest then.
    pub fn renew(&mut self, live: &Arc<LiveTable>, now: Monotonic) {
        for member in &mut self.members {
            let (version, at) = member.sent;
            let is_due = version < live.version()
                && member.renewed >= version
                && now >= at.plus(RENEW_INTERVAL);
            if is_due && member.inbox.send(ToWorker::Renew(Arc::clone(live))).is_ok() {
                member.sent = (live.version(), now);
            }
        }
    }

    /// Notes that a worker uses live values of a version.
    pub fn renewed(&mut self, worker: usize, version: LiveVersion) {
        if let Some(member) = self.members.get_mut(worker) {
            member.renewed = member.renewed.max(version);
        }
    }

    /// The live values that each worker uses.
    pub fn live_versions(&self) -> Vec<LiveVersion> {
        self.members.iter().map(|member| member.renewed).collect()
    }

    /// Wakes the workers that have not acknowledged `generation` or the last live values once more:
    /// a wake-up that got lost must not leave one behind until somebody else has news for it.
    pub fn nudge(&self, generation: Generation) {
        let lags = |member: &&Member| member.adopted < generation || member.renewed < member.sent.0;
        for member in self.members.iter().filter(lags) {
            member.inbox.ring();
        }
    }

    /// Responses that some inbox had no room for.
    #[cfg(test)]
    pub(super) fn unsent(&self) -> usize {
        self.members.iter().map(|member| member.unsent.len()).sum()
    }

    /// Notes that a worker serves a generation.
    pub fn adopted(&mut self, worker: usize, generation: Generation) {
        if let Some(member) = self.members.get_mut(worker) {
            member.adopted = member.adopted.max(generation);
        }
    }

    /// The generation of each worker, by its index.
    pub fn generations(&self) -> Vec<Generation> {
        self.members.iter().map(|member| member.adopted).collect()
    }

    /// The workers that do not serve `generation` or a later one yet.
    pub fn lagging(&self, generation: Generation) -> Vec<usize> {
        let behind = |member: &&Member| member.adopted < generation;
        self.members.iter().enumerate().filter(|(_, m)| behind(m)).map(|(i, _)| i).collect()
    }

    /// Sends the reply to a call of one worker.
    pub fn reply(&mut self, worker: usize, ticket: Ticket, reply: CallReply) {
        if let Some(member) = self.members.get_mut(worker) {
            member.unsent.push_back((ticket, reply));
            member.send_responses();
        }
    }

    /// Sends every worker a step of stopping.
    pub fn drain(&mut self, step: DrainStep) {
        self.step = step;
        for member in self.members.iter_mut().filter(|member| member.sent_step < step) {
            if member.inbox.send(ToWorker::Drain(step)).is_ok() {
                member.sent_step = step;
            }
        }
    }

    /// Notes that a worker has come to the end of a step.
    pub fn drained(&mut self, worker: usize, step: DrainStep) {
        if let Some(member) = self.members.get_mut(worker) {
            member.done = member.done.max(step);
        }
    }

    /// The workers that are not at the end of the present step.
    pub fn busy(&self) -> BTreeSet<usize> {
        self.members
            .iter()
            .enumerate()
            .filter(|(_, m)| m.done < self.step)
            .map(|(i, _)| i)
            .collect()
    }
}
