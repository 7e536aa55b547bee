//! The state of one socket: until when the present wait may last, on whose behalf it is, and why
//! it was ended.
//!
//! A deadline leaves its socket alone: what had arrived just before can still be used, and the
//! owner decides whether the peer gets a response, an orderly end or a reset.

use std::{cell::Cell, io, os::fd::RawFd, time::Duration};

use crate::system::{
    alarm::TICK, clock::Monotonic, fd, outgoing::Outgoing, readiness::Readiness, wheel::Place,
};

/// The reason why the wait for a socket was ended from this side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CloseReason {
    /// It was not.
    #[default]
    Open,
    /// Its deadline passed.
    Deadline,
    /// The client on whose behalf it waited is gone, or the process ends and waits for nobody.
    ClientGone,
}

/// The state of one socket: readiness, deadline, and on whose behalf it is waited for.
#[derive(Debug)]
pub struct Registered {
    pub(super) fd: RawFd,
    pub(super) readiness: Readiness,
    pub(super) outgoing: Outgoing,
    pub(super) deadline: Cell<u64>,
    /// Nanoseconds that each step of progress of a send may take; 0 for a deadline of another kind.
    sending: Cell<u64>,
    /// Bytes that the peer had not acknowledged when that was last looked at.
    unacknowledged: Cell<Option<u64>>,
    pub(super) ended: Cell<CloseReason>,
    pub(super) idle: Cell<bool>,
    pub(super) waits_for: Cell<Option<Presence>>,
    coalescing: Cell<Coalescing>,
    pub(super) place: Place,
}

/// The state of letting bytes come together before the kernel reports them (`SO_RCVLOWAT`,
/// `socket(7)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Coalescing {
    #[default]
    Off,
    /// So many bytes, since the last tick or later.
    Started(usize),
    /// So many bytes, for at least a tick.
    Lasting(usize),
    /// It took too long.
    GivenUp,
}

/// A client socket on whose behalf another socket of the same core waits. It must stay open for as
/// long as it is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Presence {
    pub(super) slot: usize,
    pub(super) may_finish: bool,
}

impl Registered {
    pub(super) fn new(fd: RawFd) -> Self {
        Self {
            fd,
            readiness: Readiness::default(),
            outgoing: Outgoing::default(),
            deadline: Cell::new(0),
            sending: Cell::new(0),
            unacknowledged: Cell::new(None),
            ended: Cell::new(CloseReason::Open),
            idle: Cell::new(false),
            waits_for: Cell::new(None),
            coalescing: Cell::default(),
            place: Place::default(),
        }
    }

    /// Ends the wait when `after` has passed since `now`, which may be one tick old. An earlier
    /// deadline is forgotten, passed or not; a client that is gone, and the end of the process, are
    /// not.
    pub(super) fn arm(&self, now: Monotonic, after: Duration) {
        self.deadline.set(now.plus(after + TICK).0);
        self.sending.set(0);
        if self.ended.get() == CloseReason::Deadline {
            self.ended.set(CloseReason::Open);
        }
    }

    /// Ends the wait, and nothing else, when for `after` the peer has not acknowledged anything
    /// that was sent. To be writable again takes more: the kernel waits until a third of the send
    /// buffer is free.
    pub(super) fn arm_sending(&self, now: Monotonic, after: Duration) {
        self.arm(now, after);
        self.sending.set(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        self.unacknowledged.set(None);
    }

    /// The time when the sweep has to look at it next, if it has to. 0 is the next time.
    pub(super) fn due(&self) -> Option<Monotonic> {
        let deadline = self.deadline.get();
        let coalesces =
            matches!(self.coalescing.get(), Coalescing::Started(_) | Coalescing::Lasting(_));
        let begins_to_send = self.sending.get() != 0 && self.unacknowledged.get().is_none();
        if coalesces || (begins_to_send && deadline != 0) {
            return Some(Monotonic(0));
        }
        (deadline != 0).then_some(Monotonic(deadline))
    }

    /// Returns true if the peer has taken something of what is being sent since the last look,
    /// which moves the deadline. Looks only when it has passed, or at the first tick of a wait.
    pub(super) fn has_progressed(&self, now: Monotonic) -> bool {
        let after = self.sending.get();
        let before = self.unacknowledged.get();
        let is_over = self.deadline.get() <= now.0;
        if after == 0 || (before.is_some() && !is_over) {
            return false;
        }
        let left = fd::unacknowledged_bytes(self.fd);
        self.unacknowledged.set(left.or(Some(0)));
        let progressed = is_over && before.zip(left).is_some_and(|(before, left)| left < before);
        if progressed {
            self.deadline.set(now.plus(Duration::from_nanos(after)).0);
        }
        progressed
    }

    /// Takes the deadline away.
    pub fn disarm(&self) {
        self.deadline.set(0);
    }

    /// Marks whether the connection waits for its next request, so that a stop may shorten that.
    pub fn set_idle(&self, idle: bool) {
        self.idle.set(idle);
    }

    /// While set, a wait for the socket ends it when the client is gone.
    pub fn waits_for(&self, client: Option<Presence>) {
        self.waits_for.set(client);
    }

    pub(super) fn coalesce(&self, bytes: usize) {
        let then = match (self.coalescing.get(), bytes > 1) {
            (Coalescing::Off, false) | (Coalescing::GivenUp, true) => return,
            (Coalescing::Started(now) | Coalescing::Lasting(now), true) if now == bytes => {
                Coalescing::Started(bytes)
            }
            (Coalescing::GivenUp, false) => Coalescing::Off,
            (Coalescing::Off | Coalescing::Started(_) | Coalescing::Lasting(_), true) => {
                fd::set_receive_low_water(self.fd, bytes);
                Coalescing::Started(bytes)
            }
            (Coalescing::Started(_) | Coalescing::Lasting(_), false) => {
                fd::set_receive_low_water(self.fd, 1);
                Coalescing::Off
            }
        };
        self.coalescing.set(then);
    }

    /// A tick has passed.
    pub(super) fn coalesce_on(&self) {
        match self.coalescing.get() {
            Coalescing::Off | Coalescing::GivenUp => {}
            Coalescing::Started(bytes) => self.coalescing.set(Coalescing::Lasting(bytes)),
            Coalescing::Lasting(_) => {
                self.coalescing.set(Coalescing::GivenUp);
                // The kernel reports at once what has come together.
                fd::set_receive_low_water(self.fd, 1);
            }
        }
    }

    /// The reason why the wait was ended from this side, if it was.
    pub fn close_reason(&self) -> CloseReason {
        self.ended.get()
    }

    /// Checks that a wait may go on. To be asked when a call found that it would block, for what
    /// has arrived comes first.
    ///
    /// # Errors
    /// `TimedOut` once the deadline has passed, `ConnectionAborted` once the client on whose behalf
    /// is waited is gone, or the process ends.
    pub fn check_open(&self) -> io::Result<()> {
        match self.ended.get() {
            CloseReason::Open => Ok(()),
            CloseReason::Deadline => Err(io::ErrorKind::TimedOut.into()),
            CloseReason::ClientGone => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    pub(super) fn end(&self, why: CloseReason) {
        self.deadline.set(0);
        // A client that is gone, and the end of the process, are not forgotten for a deadline.
        if self.ended.get() != CloseReason::ClientGone {
            self.ended.set(why);
        }
        self.readiness.wake();
    }
}
