//! Attempts to change the configuration, one at a time: prepare, then commit or abort.
//!
//! A request that comes while an attempt is under way gets an attempt that starts after it, so that
//! no report is about an older state of the file. Requests for the same share one.

use std::collections::VecDeque;

use crate::{
    config::Difference,
    control_plane::history::Trigger,
    handoff::message::{IfMatch, Ticket},
    model::Generation,
    system::clock::Monotonic,
};

/// Change that an attempt is to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adopt the file.
    File,
    /// Report on the file, adopt nothing.
    DryRun,
    /// Adopt the content of an earlier generation.
    Rollback(Generation),
}

/// Receiver of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requester {
    /// Nobody but the log.
    Nobody,
    /// A client that waits on a worker.
    Client {
        /// Index of the worker.
        worker: usize,
        /// The call's ticket.
        ticket: Ticket,
        /// The request's id.
        request_id: Box<str>,
    },
}

/// Request for a change of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadRequest {
    /// The change.
    pub change: Change,
    /// Its origin.
    pub trigger: Trigger,
    /// Only if this generation runs.
    pub if_match: Option<IfMatch>,
    /// Receiver of the report.
    pub requester: Requester,
    /// Time of its arrival.
    pub at: Monotonic,
}

/// Progress of an attempt.
#[derive(Debug)]
pub enum Phase {
    /// Being prepared.
    Preparing,
    /// Sent to the workers, whose acknowledgements are awaited until then.
    Awaiting {
        /// The deadline.
        until: Monotonic,
        /// The difference from the generation before.
        difference: Difference,
        /// Warnings, as sentences.
        warnings: Vec<String>,
    },
}

/// The attempt under way.
#[derive(Debug)]
pub struct Attempt {
    /// The change.
    pub change: Change,
    /// Origin of its first request.
    pub trigger: Trigger,
    /// Receivers of the report, all of whom asked before it started.
    pub requesters: Vec<Requester>,
    /// Time at which the first of them asked.
    pub at: Monotonic,
    /// Its progress.
    pub phase: Phase,
}

/// Reload requests that wait, and the attempt under way.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<ReloadRequest>,
    /// The attempt under way.
    pub current: Option<Attempt>,
}

/// Outcome of [`Queue::start`].
#[derive(Debug, PartialEq, Eq)]
pub enum Started {
    /// Nothing to do, or an attempt is under way.
    Nothing,
    /// A new attempt is in [`Queue::current`].
    Attempt,
    /// A request whose `If-Match` does not hold.
    PreconditionFailed(ReloadRequest),
}

impl Queue {
    /// Adds a request.
    pub fn push(&mut self, request: ReloadRequest) {
        self.waiting.push_back(request);
    }

    /// Returns true if an attempt is under way, or asked for, that may change what runs.
    pub fn may_adopt(&self) -> bool {
        let current = self.current.iter().map(|attempt| &attempt.change);
        let waiting = self.waiting.iter().map(|request| &request.change);
        current.chain(waiting).any(|change| *change != Change::DryRun)
    }

    /// Takes all waiting requests, for a process that stops.
    pub fn take_all(&mut self) -> Vec<ReloadRequest> {
        self.waiting.drain(..).collect()
    }

    /// Starts the next attempt if there is none: the first request, with the others that want the
    /// same. Those that came behind a request for another change wait, as that would undo theirs.
    pub fn start(&mut self, running: Generation) -> Started {
        if self.current.is_some() {
            return Started::Nothing;
        }
        let Some(first) = self.waiting.pop_front() else {
            return Started::Nothing;
        };
        if !first.if_match.as_ref().is_none_or(|condition| condition.holds(running)) {
            return Started::PreconditionFailed(first);
        }
        let mut requesters = vec![first.requester];
        let mut others = VecDeque::new();
        let mut is_behind_another = false;
        for request in self.waiting.drain(..) {
            let is_same = request.change == first.change;
            is_behind_another |= !is_same && request.change != Change::DryRun;
            // A request with a condition is its own attempt: whether it holds is known when it
            // begins.
            let is_free = request.if_match.is_none() && first.if_match.is_none();
            if is_same && is_free && !is_behind_another {
                requesters.push(request.requester);
            } else {
                others.push_back(request);
            }
        }
        self.waiting = others;
        self.current = Some(Attempt {
            change: first.change,
            trigger: first.trigger,
            requesters,
            at: first.at,
            phase: Phase::Preparing,
        });
        Started::Attempt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(change: Change, if_match: Option<IfMatch>) -> ReloadRequest {
        ReloadRequest {
            change,
            trigger: Trigger::Api,
            if_match,
            requester: Requester::Nobody,
            at: Monotonic(0),
        }
    }

    fn tags(tags: &[&str]) -> IfMatch {
        IfMatch::Tags(tags.iter().map(|tag| tag.as_bytes().into()).collect())
    }

    #[test]
    fn equal_requests_are_one_attempt() {
        let mut queue = Queue::default();
        queue.push(request(Change::File, None));
        queue.push(request(Change::DryRun, None));
        queue.push(request(Change::File, None));
        assert_eq!(queue.start(Generation(1)), Started::Attempt);
        assert_eq!(queue.current.as_ref().unwrap().requesters.len(), 2);
        assert_eq!(queue.start(Generation(1)), Started::Nothing);
        queue.current = None;
        assert_eq!(queue.start(Generation(1)), Started::Attempt);
        assert_eq!(queue.current.as_ref().unwrap().change, Change::DryRun);
    }

    #[test]
    fn a_request_does_not_overtake_another_change() {
        let mut queue = Queue::default();
        let (file, old) = (Change::File, Change::Rollback(Generation(1)));
        for change in [&file, &old, &file, &old] {
            queue.push(request(change.clone(), None));
        }
        for change in [file.clone(), old.clone(), file, old] {
            assert_eq!(queue.start(Generation(2)), Started::Attempt);
            let attempt = queue.current.take().unwrap();
            assert_eq!((attempt.change, attempt.requesters.len()), (change, 1));
        }
        assert_eq!(queue.start(Generation(2)), Started::Nothing);
    }

    #[test]
    fn a_request_with_a_condition_shares_its_attempt_with_nobody() {
        let mut queue = Queue::default();
        let old = Change::Rollback(Generation(1));
        for if_match in [Some(IfMatch::only(Generation(2))), None, None] {
            queue.push(request(old.clone(), if_match));
        }
        for requesters in [1, 2] {
            assert_eq!(queue.start(Generation(2)), Started::Attempt);
            assert_eq!(queue.current.take().unwrap().requesters.len(), requesters);
        }
        assert!(!queue.may_adopt());
        queue.push(request(Change::DryRun, None));
        assert!(!queue.may_adopt());
        queue.push(request(old, None));
        assert!(queue.may_adopt());
        assert_eq!(queue.start(Generation(2)), Started::Attempt);
        assert!(queue.may_adopt(), "behind the dry run");
    }

    #[test]
    fn a_request_that_comes_later_gets_an_attempt_of_its_own() {
        let mut queue = Queue::default();
        queue.push(request(Change::File, None));
        assert_eq!(queue.start(Generation(1)), Started::Attempt);
        queue.push(request(Change::File, None));
        assert_eq!(queue.current.as_ref().unwrap().requesters.len(), 1);
        queue.current = None;
        assert_eq!(queue.start(Generation(1)), Started::Attempt);
    }

    #[test]
    fn a_condition_is_checked_when_its_turn_comes() {
        let mut queue = Queue::default();
        queue.push(request(Change::File, Some(tags(&["1"]))));
        assert!(matches!(queue.start(Generation(2)), Started::PreconditionFailed(_)));
        queue.push(request(Change::File, Some(IfMatch::Any)));
        assert_eq!(queue.start(Generation(2)), Started::Attempt);
        queue.current = None;
        queue.push(request(Change::File, Some(tags(&["1", "2"]))));
        assert_eq!(queue.start(Generation(2)), Started::Attempt);
        queue.current = None;
        queue.push(request(Change::File, Some(tags(&["02"]))));
        assert!(matches!(queue.start(Generation(2)), Started::PreconditionFailed(_)));
    }
}
