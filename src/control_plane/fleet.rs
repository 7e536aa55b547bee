//! The workers as the control thread sees them: orders are scattered, acknowledgements gathered.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    handoff::{
        message::{Answer, DrainStep, ToWorker},
        snapshot::Snapshot,
    },
    model::Generation,
    system::mailbox::Sending,
};

/// One worker.
#[derive(Debug)]
struct Member {
    mailbox: Sending<ToWorker>,
    adopted: Generation,
    /// Its mailbox was full when a generation was sent: it gets the newest one later.
    behind: bool,
    /// The last step of stopping that it was told of.
    told: DrainStep,
    /// The last step of stopping that it has come to the end of.
    done: DrainStep,
}

/// All workers.
#[derive(Debug)]
pub struct Fleet {
    members: Vec<Member>,
    step: DrainStep,
}

impl Fleet {
    /// A fleet whose workers start with `generation`.
    pub fn new(mailboxes: Vec<Sending<ToWorker>>, generation: Generation) -> Self {
        let members = mailboxes
            .into_iter()
            .map(|mailbox| Member {
                mailbox,
                adopted: generation,
                behind: false,
                told: DrainStep::Serving,
                done: DrainStep::Serving,
            })
            .collect();
        Self { members, step: DrainStep::Serving }
    }

    /// Number of workers.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are no workers.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Sends a generation to every worker. One whose mailbox is full gets it in [`Fleet::retry`].
    pub fn adopt(&mut self, snapshot: &Arc<Snapshot>) {
        for member in &mut self.members {
            member.behind = member.mailbox.send(ToWorker::Adopt(Arc::clone(snapshot))).is_err();
        }
    }

    /// Sends the newest generation and the present step of stopping to the workers that missed
    /// them.
    pub fn retry(&mut self, newest: &Arc<Snapshot>) {
        self.drain(self.step);
        for member in self.members.iter_mut().filter(|member| member.behind) {
            member.behind = member.mailbox.send(ToWorker::Adopt(Arc::clone(newest))).is_err();
        }
    }

    /// Wakes the workers that do not serve `generation` yet once more: a wake-up that got lost must
    /// not leave one behind until somebody else has news for it.
    pub fn nudge(&self, generation: Generation) {
        for member in self.members.iter().filter(|member| member.adopted < generation) {
            member.mailbox.ring();
        }
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

    /// Answers a call of one worker.
    pub fn answer(&self, worker: usize, ticket: u64, answer: Answer) {
        if let Some(member) = self.members.get(worker) {
            // A full mailbox means a stalled worker, whose clients do not wait any more.
            let _ = member.mailbox.send(ToWorker::Answer { ticket, answer });
        }
    }

    /// Tells every worker an endpoint's addresses.
    pub fn addresses(&self, endpoint: &Arc<str>, addresses: &Arc<[std::net::SocketAddr]>) {
        for member in &self.members {
            let _ = member.mailbox.send(ToWorker::Addresses {
                endpoint: Arc::clone(endpoint),
                addresses: Arc::clone(addresses),
            });
        }
    }

    /// Tells every worker to take a step of stopping.
    pub fn drain(&mut self, step: DrainStep) {
        self.step = step;
        for member in self.members.iter_mut().filter(|member| member.told < step) {
            if member.mailbox.send(ToWorker::Drain(step)).is_ok() {
                member.told = step;
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
