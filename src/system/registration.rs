//! Membership of one socket in its core's reactor: waits for the socket, and their deadlines.

use std::{
    future::poll_fn,
    io,
    os::fd::RawFd,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use crate::system::{
    outgoing::State,
    reactor::Reactor,
    registered::{CloseReason, Presence, Registered},
};

/// Membership of one socket in its core's [`Reactor`]; leaves it when dropped.
#[derive(Debug)]
pub struct Registration {
    pub(super) reactor: Rc<Reactor>,
    slot: usize,
    pub(super) registered: Rc<Registered>,
}

impl Registration {
    /// Registers `fd`, which must stay open until the value is dropped, and be closed then.
    ///
    /// # Errors
    /// When the kernel can't register it.
    pub fn new(reactor: &Rc<Reactor>, fd: RawFd) -> io::Result<Self> {
        let member = Self::unwatched(reactor, fd);
        if u32::try_from(member.slot).is_err() {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        reactor.poller.add(fd, member.key())?;
        Ok(member)
    }

    /// A membership of which the kernel reports nothing.
    pub(super) fn unwatched(reactor: &Rc<Reactor>, fd: RawFd) -> Self {
        let registered = Rc::new(Registered::new(fd));
        let slot = reactor.all.borrow_mut().insert(Rc::clone(&registered));
        Self { reactor: Rc::clone(reactor), slot, registered }
    }

    /// Ready once reading is worth a try. One task at a time may wait.
    pub fn poll_readable(&self, context: &Context<'_>) -> Poll<()> {
        let ready = self.registered.readiness.poll_readable(context);
        self.unless_client_is_gone(ready, context)
    }

    /// Ready once writing is worth a try. One task at a time may wait.
    pub fn poll_writable(&self, context: &Context<'_>) -> Poll<()> {
        let ready = self.registered.readiness.poll_writable(context);
        self.unless_client_is_gone(ready, context)
    }

    /// Waits until reading is worth a try.
    pub async fn readable(&self) {
        poll_fn(|context| self.poll_readable(context)).await;
    }

    /// Waits until writing is worth a try.
    pub async fn writable(&self) {
        poll_fn(|context| self.poll_writable(context)).await;
    }

    fn unless_client_is_gone(&self, ready: Poll<()>, context: &Context<'_>) -> Poll<()> {
        if ready.is_pending() {
            self.reactor.lasting.begin(self.slot, &self.registered.readiness);
        }
        match self.registered.waits_for.get() {
            Some(client) if ready.is_pending() => self.poll_client(client, context),
            _ => ready,
        }
    }

    fn poll_client(&self, client: Presence, context: &Context<'_>) -> Poll<()> {
        let all = self.reactor.all.borrow();
        let readiness = all.get(client.slot).map(|registered| &registered.readiness);
        let gone = readiness.map(|client_is| client_is.poll_gone(client.may_finish, context));
        if gone.is_some_and(|gone| gone.is_pending()) {
            return Poll::Pending;
        }
        self.registered.end(CloseReason::ClientGone);
        Poll::Ready(())
    }

    /// The peer of this socket, for another socket to wait on its behalf. `may_finish`: it said
    /// that it sends nothing more after this request (`Connection: close`, HTTP/1.0), so that the
    /// end of its stream does not mean that it is gone (RFC 9112 section 9.6); only a reset does.
    pub fn presence(&self, may_finish: bool) -> Presence {
        Presence { slot: self.slot, may_finish }
    }

    /// Hears of the descriptor only what it waits for, until the value is dropped. Where bytes keep
    /// arriving while others are still being sent, being told of each of them would cost more than
    /// asking, which is one system call for each wait.
    pub fn on_demand(&self) -> OnDemand<'_> {
        self.reactor.poller.mute(self.registered.fd, self.key());
        OnDemand(self)
    }

    fn key(&self) -> u64 {
        self.slot as u64
    }

    /// Ends the wait when `after` has passed.
    pub fn arm(&self, after: Duration) {
        self.registered.arm(self.reactor.clock.coarse(), after);
        self.list();
    }

    /// Ends the wait when the peer takes nothing of what is sent for `after`.
    pub fn arm_sending(&self, after: Duration) {
        self.registered.arm_sending(self.reactor.clock.coarse(), after);
        self.list();
    }

    /// The same as [`Registration::arm`], for as long as the value lives.
    pub fn deadline(&self, after: Duration) -> Deadline<'_> {
        self.arm(after);
        Deadline(self)
    }

    /// The same as [`Registration::arm_sending`], for as long as the value lives.
    pub fn sending_deadline(&self, after: Duration) -> Deadline<'_> {
        self.arm_sending(after);
        Deadline(self)
    }

    /// Lets the sends that others have handed over go out before something that takes its time.
    pub fn let_sends_go(&self) {
        self.reactor.let_sends_go();
    }

    /// Lets the core's other tasks go first.
    pub async fn take_turn(&self) {
        self.reactor.turns.next().await;
    }

    /// Lets `bytes` come together before reading is reported, or what came within two ticks; 1 ends
    /// that. A source that was too slow for it is not waited for so again before that.
    pub fn coalesce(&self, bytes: usize) {
        self.registered.coalesce(bytes);
        self.list();
    }

    fn list(&self) {
        self.reactor.list(self.slot, &self.registered);
    }
}

/// The deadline of a socket. Dropping it takes the deadline away.
#[derive(Debug)]
#[must_use = "the deadline is taken away with it"]
pub struct Deadline<'r>(&'r Registration);

impl Deadline<'_> {
    /// Ends the wait when `after` has passed from now on, instead.
    pub fn restart(&self, after: Duration) {
        self.0.arm(after);
    }
}

impl Drop for Deadline<'_> {
    fn drop(&mut self) {
        self.0.disarm();
    }
}

/// A descriptor of which only what is waited for is reported.
#[derive(Debug)]
pub struct OnDemand<'w>(&'w Registration);

impl OnDemand<'_> {
    /// Waits until reading does not block.
    pub async fn readable(&self) {
        let Registered { fd, readiness, ended, .. } = &**self.0;
        if ended.get() == CloseReason::Open {
            readiness.asked_to_report();
            self.0.reactor.poller.report_readable(*fd, self.0.key());
        }
        self.0.readable().await;
    }
}

impl Drop for OnDemand<'_> {
    fn drop(&mut self) {
        self.0.reactor.poller.resume(self.0.registered.fd, self.0.key());
    }
}

impl std::ops::Deref for Registration {
    type Target = Registered;

    fn deref(&self) -> &Registered {
        &self.registered
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // While the descriptor is open: it is closed after this.
        if self.registered.outgoing.state() == State::Queued {
            self.reactor.sends.send_last(&self.registered);
        }
        self.reactor.leave(self.slot);
    }
}
