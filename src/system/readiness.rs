//! The readiness of one descriptor, as far as it is known: whether it can be read or written.
//!
//! What the kernel said is remembered until a call finds the descriptor empty or full. "Empty" and
//! "full" are concluded here and nowhere else, each with the reason why nothing can be missed: with
//! edge-triggered reports (`epoll(7)`), a wrong conclusion would make a task wait for an event that
//! never comes. For whatever was overlooked all the same, a wait that lasts is checked against the
//! level once ([`Readiness::correct`]).

use std::{
    cell::Cell,
    fmt,
    task::{Context, Poll, Waker},
};

#[expect(clippy::cast_sign_loss, reason = "a set of bits, of which the highest is one too")]
pub(super) const fn flag(event: libc::c_int) -> u32 {
    event as u32
}

const HANG_UP_EVENTS: u32 = flag(libc::EPOLLHUP) | flag(libc::EPOLLERR);
const END_EVENTS: u32 = flag(libc::EPOLLRDHUP) | HANG_UP_EVENTS;
const READ_EVENTS: u32 = flag(libc::EPOLLIN) | flag(libc::EPOLLPRI) | END_EVENTS;
const WRITE_EVENTS: u32 = flag(libc::EPOLLOUT) | flag(libc::EPOLLHUP) | flag(libc::EPOLLERR);

/// The readiness of one descriptor, as far as it is known, and who waits to know more.
pub(super) struct Readiness {
    readable: Cell<bool>,
    writable: Cell<bool>,
    /// The peer has ended its side, or the connection failed: reading never blocks again.
    ended: Cell<bool>,
    /// The connection failed, or both sides have ended it.
    hung_up: Cell<bool>,
    /// The peer has sent urgent data, so that reads may stop short with more behind.
    urgent: Cell<bool>,
    reader: Cell<Option<Waker>>,
    writer: Cell<Option<Waker>>,
    /// Waits for something else on behalf of the peer of this descriptor.
    on_behalf: Cell<Option<Waker>>,
    /// Waits that have started so far.
    pub(super) waits: Cell<u32>,
    /// True if the present wait is listed, to be checked if it lasts.
    pub(super) listed: Cell<bool>,
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness")
            .field("readable", &self.readable)
            .field("writable", &self.writable)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl Default for Readiness {
    /// Nothing has arrived and everything may be sent, as on a new connection.
    fn default() -> Self {
        Self {
            readable: Cell::new(false),
            writable: Cell::new(true),
            ended: Cell::new(false),
            hung_up: Cell::new(false),
            urgent: Cell::new(false),
            reader: Cell::default(),
            writer: Cell::default(),
            on_behalf: Cell::default(),
            waits: Cell::new(0),
            listed: Cell::new(false),
        }
    }
}

impl Readiness {
    /// Ready once reading is worth a try. One task at a time may wait.
    pub(super) fn poll_readable(&self, context: &Context<'_>) -> Poll<()> {
        self.poll(&self.readable, &self.reader, context)
    }

    /// Ready once writing is worth a try. One task at a time may wait.
    pub(super) fn poll_writable(&self, context: &Context<'_>) -> Poll<()> {
        self.poll(&self.writable, &self.writer, context)
    }

    /// Ready once the peer is gone: it has reset the connection, or ended its side where it may not
    /// (`may_finish`). One task at a time may wait.
    pub(super) fn poll_gone(&self, may_finish: bool, context: &Context<'_>) -> Poll<()> {
        let is_gone = if may_finish { &self.hung_up } else { &self.ended };
        poll(is_gone, &self.on_behalf, context).0
    }

    /// Returns true if something may have arrived that was not read: bytes, or the end.
    pub(super) fn may_read(&self) -> bool {
        self.readable.get()
    }

    fn poll(
        &self,
        ready: &Cell<bool>,
        waiting: &Cell<Option<Waker>>,
        context: &Context<'_>,
    ) -> Poll<()> {
        let (ready, began) = poll(ready, waiting, context);
        if began {
            self.waits.set(self.waits.get().wrapping_add(1));
        }
        ready
    }

    /// Concludes from a read of at most `room` bytes what is left.
    ///
    /// - It would have blocked (`EAGAIN`): the kernel says that nothing is left, and the next
    ///   arrival is an edge.
    /// - It gave less than there was room for: `tcp_recvmsg` goes on until its queue is empty, so
    ///   nothing was left when it returned, and what arrives afterwards is an edge. There are two
    ///   exceptions. The end of the stream comes after the last bytes without an edge of its own,
    ///   so nothing is concluded once an end was reported. And a read stops short at an urgent mark
    ///   (`tcp(7)`, "Sockets API"), with bytes behind it: urgent data is reported (`EPOLLPRI`),
    ///   from which on only `EAGAIN` counts. If it is still to be reported, that report sets
    ///   "readable" again after this conclusion.
    /// - It was the end, of which there may be no report yet: reading never blocks again.
    /// - It filled the room: nothing is known.
    pub(super) fn read(&self, received: Option<usize>, room: usize) {
        match received {
            None => self.readable.set(false),
            // The end stays, whether it was reported before it was read or will be.
            Some(0) if room > 0 => self.readable.set(true),
            Some(count) if count < room && !self.ended.get() && !self.urgent.get() => {
                self.readable.set(false);
            }
            Some(_) => {}
        }
    }

    /// Concludes from a look at the next byte (`MSG_PEEK`) whether there is one: only `EAGAIN` says
    /// that there is none.
    pub(super) fn peeked(&self, found: Option<usize>) {
        if found.is_none() {
            self.readable.set(false);
        }
    }

    /// The connection was just accepted: bytes may have arrived before it was registered, so the
    /// first read is worth a try at once.
    pub(super) fn just_accepted(&self) {
        self.readable.set(true);
    }

    /// Concludes from `accept(2)` whether connections wait: only `EAGAIN` says that none does.
    pub(super) fn accepted(&self, one: bool) {
        if !one {
            self.readable.set(false);
        }
    }

    /// Concludes from a splice of this descriptor into a pipe that held `held` bytes what is left.
    ///
    /// A short splice says nothing: it ends at the pipe's free slots and at interruptions. `EAGAIN`
    /// may come from either side; an empty pipe has room, so then it is the socket that has
    /// nothing.
    pub(super) fn spliced(&self, moved: Option<usize>, held: usize) {
        match moved {
            Some(_) => self.readable.set(true),
            None if held == 0 => self.readable.set(false),
            None => {}
        }
    }

    /// Concludes from a send, or a splice into this descriptor, whether there is room.
    ///
    /// Only `EAGAIN` says that there is none: then the kernel has set `SOCK_NOSPACE`, without which
    /// it reports no room later (`tcp_check_space`). A call that took a part may have been
    /// interrupted, by a signal or by work of the ring, with room left and the flag not set.
    pub(super) fn wrote(&self, taken: Option<usize>) {
        if taken.is_none() {
            self.writable.set(false);
        }
    }

    /// A connection is being established (`EINPROGRESS`, `connect(2)`): the socket becomes writable
    /// when that has succeeded or failed. Registering it afterwards reports what was missed.
    pub(super) fn connecting(&self) {
        self.writable.set(false);
    }

    /// The kernel was just asked to report once when there is something to read, or at once if
    /// there is already (`EPOLLONESHOT` with `EPOLL_CTL_MOD`), so that waiting for it misses
    /// nothing.
    pub(super) fn asked_to_report(&self) {
        self.readable.set(false);
    }

    /// Returns true if somebody waits, and for what this descriptor is not known to be ready.
    pub(super) fn is_awaited(&self) -> bool {
        let waits = |waker: &Cell<Option<Waker>>| {
            let found = waker.take();
            let any = found.is_some();
            waker.set(found);
            any
        };
        waits(&self.reader) || waits(&self.writer)
    }

    /// Takes over what `poll(2)` says at the moment.
    pub(super) fn correct(&self, level: Level) {
        let readable = if level.readable { flag(libc::EPOLLIN) } else { 0 };
        let writable = if level.writable { flag(libc::EPOLLOUT) } else { 0 };
        self.note(readable | writable);
    }

    /// Lets everybody look: the descriptor has ended.
    pub(super) fn end(&self) {
        self.note(END_EVENTS);
    }

    /// Forgets that there is something to look at, where no descriptor is behind this: what is to
    /// be seen is elsewhere, and is looked at before the next wait.
    pub(super) fn seen(&self) {
        self.readable.set(false);
    }

    /// Lets everybody look: their time is over, and nothing has happened to the descriptor. The
    /// next call finds out whether it blocks.
    pub(super) fn wake(&self) {
        self.note(flag(libc::EPOLLIN) | flag(libc::EPOLLOUT));
    }

    fn note(&self, events: u32) {
        if events & END_EVENTS != 0 {
            self.ended.set(true);
            self.hung_up.set(self.hung_up.get() || events & HANG_UP_EVENTS != 0);
            self.on_behalf.take().into_iter().for_each(Waker::wake);
        }
        if events & flag(libc::EPOLLPRI) != 0 {
            self.urgent.set(true);
        }
        if events & READ_EVENTS != 0 {
            self.readable.set(true);
            self.reader.take().into_iter().for_each(Waker::wake);
        }
        if events & WRITE_EVENTS != 0 {
            self.writable.set(true);
            self.writer.take().into_iter().for_each(Waker::wake);
        }
    }
}

/// Returns true if it is ready, and whether a wait began that nobody was waiting in before.
fn poll(
    ready: &Cell<bool>,
    waiting: &Cell<Option<Waker>>,
    context: &Context<'_>,
) -> (Poll<()>, bool) {
    if ready.get() {
        return (Poll::Ready(()), false);
    }
    let known = waiting.take();
    let began = known.is_none();
    let known = known.filter(|waker| waker.will_wake(context.waker()));
    waiting.set(Some(known.unwrap_or_else(|| context.waker().clone())));
    (Poll::Pending, began)
}

/// Events of one descriptor.
#[derive(Clone, Copy)]
pub(super) struct Events(u32);

impl Events {
    /// Everything that is reported of a connection, by edges.
    pub(super) const EVERYTHING: u32 = flag(libc::EPOLLIN)
        | flag(libc::EPOLLPRI)
        | flag(libc::EPOLLOUT)
        | flag(libc::EPOLLRDHUP)
        | flag(libc::EPOLLET);

    /// Bytes, or their end.
    pub(super) const ARRIVAL: u32 = flag(libc::EPOLLIN) | flag(libc::EPOLLRDHUP);

    pub(super) fn of(bits: u32) -> Self {
        Self(bits)
    }

    /// Passes them on to the descriptor's waiters.
    pub(super) fn note(self, readiness: &Readiness) {
        readiness.note(self.0);
    }
}

/// The readiness of a descriptor at one moment, as `poll(2)` says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    readable: bool,
    writable: bool,
}

impl Level {
    /// The events to ask `poll(2)` for.
    pub(super) const ASKED: libc::c_short = libc::POLLIN | libc::POLLOUT;

    pub(super) fn of(events: libc::c_short) -> Self {
        let ended = libc::POLLHUP | libc::POLLERR;
        Self {
            readable: events & (libc::POLLIN | ended) != 0,
            writable: events & (libc::POLLOUT | ended) != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_is_read_before_it_is_reported_is_not_forgotten() {
        let readiness = Readiness::default();
        readiness.readable.set(true);
        readiness.read(Some(0), 10);
        assert!(readiness.may_read());
        readiness.read(Some(5), 10);
        assert!(!readiness.may_read());
        // A call may try before anything is reported.
        readiness.read(Some(0), 10);
        assert!(readiness.may_read());
    }
}
