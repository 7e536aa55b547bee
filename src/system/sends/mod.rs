//! The sends of one core that go out together, at the end of each turn of its event loop.
//!
//! A small send costs the kernel more than its bytes: it enters, wakes the peer, and gives the
//! processor to the peer if that runs on it. Sends that are submitted together are one call, and
//! one such change. So a task hands its bytes over ([`Sends::push`]) and waits, or goes on, and the
//! event loop submits what has come together when no task can run any more, and after a few rounds
//! of tasks at the latest.
//!
//! The queue owns the bytes from then until the kernel has completed the send, whoever waits for it
//! or has stopped to. A socket settles what it has queued before anything else is sent on it and
//! before it is closed ([`Sends::submit`]). What the kernel did not take goes back to the socket
//! ([`Left`]), whose owner sends the rest in its own time, or finds the error.

use std::{
    cell::{Cell, RefCell},
    fmt,
    os::fd::RawFd,
    rc::Rc,
    task::Waker,
};

use crate::system::{
    buffers::{SCRATCH_BYTES, SMALL_BYTES},
    fd,
    outgoing::{Left, State},
    registered::Registered,
    send_ring::{Outcome, SENDS_MAX, SendRing},
};

/// Longest send, in bytes, that goes out with others: larger ones cost so much that sharing the
/// call saves little, and would let the others wait.
const BYTES_MAX: usize = SMALL_BYTES;

/// One send.
struct Queued {
    registered: Rc<Registered>,
    bytes: Vec<u8>,
    /// The task that waits for it.
    waiting: Option<Waker>,
}

/// The sends of one core that go out together.
#[derive(Default)]
pub(super) struct Sends {
    /// None where each goes out by itself, at once.
    ring: RefCell<Option<SendRing>>,
    is_on: Cell<bool>,
    /// Events of a turn from which on its sends go out together.
    turn_events_min: usize,
    /// Set in a turn with fewer.
    is_small_turn: Cell<bool>,
    queued: RefCell<Vec<Queued>>,
    outcomes: RefCell<Vec<Outcome>>,
    /// Buffers for those that come, in exchange for theirs. One is taken for each that is queued,
    /// so there are never more of both than [`SENDS_MAX`].
    spare: RefCell<Vec<Vec<u8>>>,
    /// Sends of each call to the ring.
    #[cfg(test)]
    calls: RefCell<Vec<usize>>,
}

impl fmt::Debug for Sends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sends").field("is_on", &self.is_on).finish_non_exhaustive()
    }
}

impl Sends {
    /// Submits through this ring.
    pub(super) fn through(ring: SendRing) -> Self {
        Self {
            turn_events_min: ring.turn_events_min,
            ring: RefCell::new(Some(ring)),
            is_on: Cell::new(true),
            ..Self::default()
        }
    }

    /// Begins a turn with so many events.
    pub(super) fn begin_turn(&self, events: usize) {
        self.is_small_turn.set(events < self.turn_events_min);
    }

    /// Returns true if sends of this turn go out by themselves.
    pub(super) fn are_alone(&self) -> bool {
        !self.is_on.get() || self.is_small_turn.get()
    }

    /// Takes the bytes, to be sent at the end of the turn, and leaves an empty buffer in exchange.
    /// False, with nothing done, if they are to be sent in another way. `waiting` is woken when the
    /// outcome is known; without it, whoever waits for the socket is woken if not all was sent.
    pub(super) fn push(
        &self,
        registered: &Rc<Registered>,
        bytes: &mut Vec<u8>,
        waiting: Option<&Waker>,
    ) -> bool {
        let outgoing = &registered.outgoing;
        if self.are_alone() || bytes.len() > BYTES_MAX || outgoing.state() != State::Settled {
            return false;
        }
        let spare = self.spare.borrow_mut().pop();
        let empty = spare.unwrap_or_else(|| Vec::with_capacity(SCRATCH_BYTES));
        outgoing.state.set(State::Queued);
        let count = {
            let mut all = self.queued.borrow_mut();
            // Made in its place. `push` copies it there from where it was just written in parts,
            // and waits for all of them (`perf annotate`).
            all.extend((0..1).map(|_| Queued {
                waiting: waiting.cloned(),
                registered: Rc::clone(registered),
                bytes: std::mem::take(bytes),
            }));
            all.len()
        };
        *bytes = empty;
        if count == SENDS_MAX {
            self.submit();
        }
        true
    }

    /// Returns true if something is to be submitted.
    pub(super) fn are_queued(&self) -> bool {
        !self.queued.borrow().is_empty()
    }

    /// Submits all that has come together, which is then queued no more. Returns true if that was
    /// anything.
    pub(super) fn submit(&self) -> bool {
        if !self.are_queued() {
            return false;
        }
        let mut queued = self.queued.take();
        let mut outcomes = self.outcomes.take();
        outcomes.clear();
        // One alone costs less without the ring.
        if queued.len() > 1
            && let Some(ring) = self.ring.borrow_mut().as_mut()
        {
            let messages = queued.iter().map(|send| (send.registered.fd, &*send.bytes));
            self.is_on.set(ring.send(messages, &mut outcomes));
            #[cfg(test)]
            self.calls.borrow_mut().push(queued.len());
        }
        if !self.is_on.get() {
            *self.ring.borrow_mut() = None;
        }
        outcomes.resize(queued.len(), Outcome::NotSubmitted);
        // All are sent before anybody hears of it, so that every descriptor is still open.
        for (send, outcome) in queued.iter().zip(&mut outcomes) {
            if *outcome == Outcome::NotSubmitted {
                *outcome = Outcome::Completed(send_alone(send.registered.fd, &send.bytes));
            }
        }
        for (send, outcome) in queued.drain(..).zip(&outcomes) {
            self.settle(send, *outcome);
        }
        // Both keep their memory for the next turn.
        *self.outcomes.borrow_mut() = outcomes;
        let mut next = self.queued.borrow_mut();
        if next.is_empty() {
            *next = queued;
        }
        true
    }

    /// Sends what this socket has handed over by itself, without a word to anybody: it is closed
    /// then, be it by a panic or at the end of the event loop.
    pub(super) fn send_last(&self, registered: &Rc<Registered>) {
        let mut all = self.queued.borrow_mut();
        let Some(place) = all.iter().position(|send| Rc::ptr_eq(&send.registered, registered))
        else {
            return;
        };
        let send = all.remove(place);
        drop(all);
        let _ = send_alone(registered.fd, &send.bytes);
        registered.outgoing.state.set(State::Settled);
        self.keep(send.bytes);
    }

    fn settle(&self, send: Queued, outcome: Outcome) {
        let Queued { registered, mut bytes, waiting } = send;
        let result = match outcome {
            Outcome::Completed(result) => result,
            Outcome::NotSubmitted | Outcome::Unknown => {
                // The kernel may still read them.
                std::mem::take(&mut bytes).leak();
                -libc::EIO
            }
        };
        let taken = usize::try_from(result).unwrap_or(0);
        let outgoing = &registered.outgoing;
        if result >= 0 && taken == bytes.len() {
            outgoing.state.set(State::Settled);
            self.keep(bytes);
        } else {
            let is_full = result == -libc::EAGAIN;
            let error = (result < 0 && !is_full && result != -libc::EINTR).then_some(-result);
            outgoing.leave(Box::new(Left { bytes, taken, error }));
            if waiting.is_none() {
                registered.readiness.wake();
            }
            if is_full {
                registered.readiness.wrote(None);
            }
        }
        waiting.into_iter().for_each(Waker::wake);
    }

    fn keep(&self, mut bytes: Vec<u8>) {
        if bytes.capacity() <= SMALL_BYTES {
            bytes.clear();
            self.spare.borrow_mut().push(bytes);
        }
    }

    /// Lets go of free buffers, for a core that has nothing to do.
    pub(super) fn shrink(&self) {
        self.spare.borrow_mut().clear();
    }
}

/// The bytes that the socket took, or the negative number of the error.
fn send_alone(fd: RawFd, bytes: &[u8]) -> i32 {
    match fd::send(fd, bytes) {
        Ok(Some(count)) => i32::try_from(count).unwrap_or(i32::MAX),
        Ok(None) => -libc::EAGAIN,
        Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
    }
}

#[cfg(test)]
mod tests;
