//! Attempts to change the configuration, one at a time: prepare, then commit or abort.
//!
//! Who asks while an attempt is under way is answered by one that began after the question, so
//! that no answer is about an older state of the file. Those who ask for the same are answered
//! together.

use std::collections::VecDeque;

use crate::{
    config::Difference,
    control_plane::history::Trigger,
    handoff::message::{IfMatch, Ticket},
    model::Generation,
    system::clock::Monotonic,
};

/// What an attempt is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Adopt the file.
    File,
    /// Report on the file, adopt nothing.
    DryRun,
    /// Adopt the content of an earlier generation.
    Rollback(Generation),
}

/// Who is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
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

/// A wish for a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// What for.
    pub kind: Kind,
    /// Where it comes from.
    pub trigger: Trigger,
    /// Only if this generation runs.
    pub if_match: Option<IfMatch>,
    /// Who is to be told.
    pub asker: Asker,
    /// When it came.
    pub at: Monotonic,
}

/// Where an attempt is.
#[derive(Debug)]
pub enum Phase {
    /// Being prepared.
    Preparing,
    /// Sent to the workers, whose acknowledgements are awaited until then.
    Gathering {
        /// The deadline.
        until: Monotonic,
        /// What changed.
        difference: Difference,
        /// What is worth a look.
        warnings: Vec<String>,
    },
}

/// The attempt under way.
#[derive(Debug)]
pub struct Attempt {
    /// Its number.
    pub number: u64,
    /// What it is to do.
    pub kind: Kind,
    /// What made it.
    pub trigger: Trigger,
    /// Who is to be told, all of them having asked before it began.
    pub askers: Vec<Asker>,
    /// When the first of them asked.
    pub at: Monotonic,
    /// Where it is.
    pub phase: Phase,
}

/// Wishes that wait, and the attempt under way.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Wish>,
    /// The attempt under way.
    pub current: Option<Attempt>,
    count: u64,
}

/// What [`Queue::begin`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Begun {
    /// Nothing to do, or an attempt is under way.
    Nothing,
    /// A new attempt is in [`Queue::current`].
    Attempt,
    /// A wish whose `If-Match` does not hold.
    PreconditionFailed(Wish),
}

impl Queue {
    /// Adds a wish.
    pub fn push(&mut self, wish: Wish) {
        self.waiting.push_back(wish);
    }

    /// Takes all waiting wishes, for a process that stops.
    pub fn take_all(&mut self) -> Vec<Wish> {
        self.waiting.drain(..).collect()
    }

    /// Begins the next attempt if there is none: the first wish, with all others that want the
    /// same.
    pub fn begin(&mut self, running: Generation) -> Begun {
        if self.current.is_some() {
            return Begun::Nothing;
        }
        let Some(first) = self.waiting.pop_front() else {
            return Begun::Nothing;
        };
        if !first.if_match.as_ref().is_none_or(|condition| condition.holds(running)) {
            return Begun::PreconditionFailed(first);
        }
        let mut askers = vec![first.asker];
        // A wish with a condition is its own attempt: whether it holds is known when it begins.
        let (same, others) = self
            .waiting
            .drain(..)
            .partition(|wish| wish.kind == first.kind && wish.if_match.is_none());
        self.waiting = others;
        askers.extend(Vec::from(same).into_iter().map(|wish: Wish| wish.asker));
        self.count += 1;
        self.current = Some(Attempt {
            number: self.count,
            kind: first.kind,
            trigger: first.trigger,
            askers,
            at: first.at,
            phase: Phase::Preparing,
        });
        Begun::Attempt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(kind: Kind, if_match: Option<IfMatch>) -> Wish {
        Wish { kind, trigger: Trigger::Api, if_match, asker: Asker::Nobody, at: Monotonic(0) }
    }

    fn tags(tags: &[&str]) -> IfMatch {
        IfMatch::Tags(tags.iter().map(|tag| tag.as_bytes().into()).collect())
    }

    #[test]
    fn equal_wishes_are_one_attempt() {
        let mut queue = Queue::default();
        queue.push(wish(Kind::File, None));
        queue.push(wish(Kind::DryRun, None));
        queue.push(wish(Kind::File, None));
        assert_eq!(queue.begin(Generation(1)), Begun::Attempt);
        assert_eq!(queue.current.as_ref().unwrap().askers.len(), 2);
        assert_eq!(queue.begin(Generation(1)), Begun::Nothing);
        queue.current = None;
        assert_eq!(queue.begin(Generation(1)), Begun::Attempt);
        assert_eq!(queue.current.as_ref().unwrap().kind, Kind::DryRun);
    }

    #[test]
    fn a_wish_that_comes_later_gets_an_attempt_of_its_own() {
        let mut queue = Queue::default();
        queue.push(wish(Kind::File, None));
        assert_eq!(queue.begin(Generation(1)), Begun::Attempt);
        queue.push(wish(Kind::File, None));
        assert_eq!(queue.current.as_ref().unwrap().askers.len(), 1);
        queue.current = None;
        assert_eq!(queue.begin(Generation(1)), Begun::Attempt);
        assert_eq!(queue.current.as_ref().unwrap().number, 2);
    }

    #[test]
    fn a_condition_is_checked_when_its_turn_comes() {
        let mut queue = Queue::default();
        queue.push(wish(Kind::File, Some(tags(&["1"]))));
        assert!(matches!(queue.begin(Generation(2)), Begun::PreconditionFailed(_)));
        queue.push(wish(Kind::File, Some(IfMatch::Any)));
        assert_eq!(queue.begin(Generation(2)), Begun::Attempt);
        queue.current = None;
        queue.push(wish(Kind::File, Some(tags(&["1", "2"]))));
        assert_eq!(queue.begin(Generation(2)), Begun::Attempt);
        queue.current = None;
        queue.push(wish(Kind::File, Some(tags(&["02"]))));
        assert!(matches!(queue.begin(Generation(2)), Begun::PreconditionFailed(_)));
    }
}
