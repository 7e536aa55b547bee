//! The ring of a core for its small sends.
//!
//! A send goes into it only so that the kernel completes it before the call returns
//! (`MSG_DONTWAIT`: a socket without room is an error, `EAGAIN`, and not something to wait for).
//! So between two calls nothing is under way, and no bytes belong to the kernel. Deliberately
//! absent: sends that wait for room, and anything else that goes on in the kernel.

use std::{
    fmt, io,
    os::{
        fd::{AsRawFd, RawFd},
        unix::net::UnixStream,
    },
};

use io_uring::{IoUring, opcode, types::Fd};

use crate::system::fd::SEND_FLAGS;

/// Sends that are submitted together at most. More of them gain nothing, and those that come first
/// would wait for longer.
pub(super) const SENDS_MAX: usize = 256;

/// [`SENDS_MAX`] as the size of the ring.
pub(super) const ENTRIES: u32 = 256;

const _: () = assert!(ENTRIES as usize == SENDS_MAX);

/// Calls in a row that may fail for want of memory before the ring is given up.
const FAILURES_MAX: usize = 16;

/// Events of a turn from which on its small sends go out together. A turn with fewer has few sends,
/// which cost less one by one (docs/PERFORMANCE.md).
const TURN_EVENTS_MIN: usize = 12;

/// Turns whose small sends are to go out together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendsChoice {
    /// None.
    Never,
    /// Those with so many events.
    From(usize),
}

impl SendsChoice {
    /// Reads `alone` or a number of events; anything else is the usual choice.
    pub fn parse(text: &str) -> Self {
        match text.parse() {
            Ok(events) => Self::From(events),
            Err(_) if text == "alone" => Self::Never,
            Err(_) => Self::From(TURN_EVENTS_MIN),
        }
    }
}

/// The way in which small sends leave a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// Those of one turn of the event loop are submitted together.
    Together,
    /// Each by a call of its own.
    Alone,
}

impl fmt::Display for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Together => "together",
            Self::Alone => "one by one",
        })
    }
}

/// The outcome of one send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The kernel has not seen it.
    NotSubmitted,
    /// The bytes that the socket took, or the negative number of an error.
    Completed(i32),
    /// The kernel has seen it and not said how it ended, so that the bytes may still be in use.
    Unknown,
}

/// A ring that belongs to the thread that made it.
pub struct SendRing {
    /// Events of a turn from which on it is used.
    pub(super) turn_events_min: usize,
    /// None once it has failed. Entries that were not submitted go with it.
    ring: Option<IoUring>,
    /// The way in which the next call is to fail.
    #[cfg(test)]
    failure: Option<Failure>,
}

/// A way in which a call may fail.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(super) enum Failure {
    /// The kernel does nothing, as where a filter forbids the call.
    Refused,
    /// It sends, and never says so.
    Silent,
}

impl fmt::Debug for SendRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendRing").finish_non_exhaustive()
    }
}

impl SendRing {
    /// A ring for the sends of turns with at least so many events, after a trial: a send on a
    /// socket with room, and one on the same without.
    ///
    /// # Errors
    /// The kernel does not complete sends at once, or gives no socket.
    pub(super) fn new(mut ring: IoUring, turn_events_min: usize) -> io::Result<Self> {
        let (ours, _theirs) = UnixStream::pair()?;
        socket2::SockRef::from(&ours).set_send_buffer_size(1)?;
        let bytes = vec![0; 65_536];
        let mut outcomes = [Outcome::NotSubmitted; 2];
        // Nothing is waited for here, since a kernel that is not fit for this might wait for ever.
        let messages = [&bytes[..], &bytes[..]].map(|bytes| (ours.as_raw_fd(), bytes));
        push(&mut ring, messages.into_iter());
        ring.submit()?;
        reap(&mut ring, &mut outcomes);
        match outcomes {
            [Outcome::Completed(1..), Outcome::Completed(full)] if full == -libc::EAGAIN => {
                Ok(Self {
                    turn_events_min,
                    ring: Some(ring),
                    #[cfg(test)]
                    failure: None,
                })
            }
            _ => {
                // What the kernel may still use must stay.
                bytes.leak();
                Err(io::Error::other("it does not complete sends within the call"))
            }
        }
    }

    /// Submits these sends, at most [`SENDS_MAX`], in their order, and tells how each of them
    /// ended. False if the ring has failed, from which on it submits nothing.
    ///
    /// The bytes of sends of which the outcome is unknown must never be changed or freed.
    pub(super) fn send<'m>(
        &mut self,
        messages: impl ExactSizeIterator<Item = (RawFd, &'m [u8])>,
        outcomes: &mut Vec<Outcome>,
    ) -> bool {
        outcomes.clear();
        outcomes.resize(messages.len(), Outcome::NotSubmitted);
        let Some(ring) = &mut self.ring else { return false };
        let pushed = push(ring, messages);
        let mut left = pushed;
        let mut failures = 0;
        while left > 0 {
            // They complete in this call, so that there is nothing to wait for. Waiting for all
            // makes sure of it.
            #[cfg(not(test))]
            let entered = ring.submit_and_wait(left);
            #[cfg(test)]
            let entered = enter(ring, left, self.failure.take());
            let reaped = reap(ring, outcomes);
            left -= reaped.min(left);
            match entered {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if reaped > 0 => failures = 0,
                Err(error) => {
                    failures += 1;
                    let is_passing = matches!(
                        error.raw_os_error(),
                        Some(libc::EAGAIN | libc::EBUSY | libc::ENOMEM)
                    );
                    if !is_passing || failures == FAILURES_MAX {
                        tracing::error!(%error, "sends are no longer submitted together");
                        // The kernel takes them in their order.
                        let seen = pushed - ring.submission().len().min(pushed);
                        for outcome in outcomes.iter_mut().take(seen) {
                            if *outcome == Outcome::NotSubmitted {
                                *outcome = Outcome::Unknown;
                            }
                        }
                        self.ring = None;
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Lets the next call fail.
    #[cfg(test)]
    pub(super) fn fail(&mut self, failure: Failure) {
        self.failure = Some(failure);
    }
}

/// Prepares as many as there is room for, and returns how many.
fn push<'m>(ring: &mut IoUring, messages: impl Iterator<Item = (RawFd, &'m [u8])>) -> usize {
    let mut pushed = 0;
    let mut queue = ring.submission();
    for ((fd, bytes), index) in messages.zip(0_u64..) {
        // A longer one is sent in part.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fd(fd), bytes.as_ptr(), length)
            .flags(SEND_FLAGS)
            .build()
            .user_data(index);
        // SAFETY: both callers keep the bytes until they have seen the completions, or leak those
        // of which they have not; entries that were not submitted go with the ring. The descriptor
        // is only a number here: one that is closed gives an error.
        #[expect(unsafe_code, reason = "the kernel reads the bytes")]
        if unsafe { queue.push(&entry) }.is_err() {
            break;
        }
        pushed += 1;
    }
    pushed
}

/// Takes in what was completed, and returns how many.
fn reap(ring: &mut IoUring, outcomes: &mut [Outcome]) -> usize {
    let mut reaped = 0;
    for entry in ring.completion() {
        let index = usize::try_from(entry.user_data()).unwrap_or(usize::MAX);
        if let Some(outcome) = outcomes.get_mut(index) {
            *outcome = Outcome::Completed(entry.result());
            reaped += 1;
        }
    }
    reaped
}

#[cfg(test)]
fn enter(ring: &mut IoUring, want: usize, failure: Option<Failure>) -> io::Result<usize> {
    match failure {
        None => return ring.submit_and_wait(want),
        Some(Failure::Refused) => {}
        Some(Failure::Silent) => {
            ring.submit_and_wait(want)?;
            ring.completion().for_each(drop);
        }
    }
    Err(io::Error::from_raw_os_error(libc::EPERM))
}
