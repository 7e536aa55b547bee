//! The reactor of one core: what the kernel reports of its sockets, and their deadlines without a
//! timer each.
//!
//! Every socket has a [`Registered`], a cell that says until when the present wait may last. One
//! task per core looks at each tick at those that may be due (`wheel.rs`); where a deadline has
//! passed it wakes whatever waits for the socket, which reads the reason here. Setting a deadline
//! is one store, and nothing is ever cancelled. The deadline of a send moves on for as long as the
//! peer acknowledges something.
//!
//! A deadline leaves its socket alone: what had arrived just before can still be used, and the
//! owner decides whether the peer gets a response, an orderly end or a reset.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    os::fd::RawFd,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use slab::Slab;

pub use crate::system::alarm::TICK;
use crate::system::{
    alarm::Alarm,
    clock::{CoreClock, Monotonic},
    fd,
    lasting::LastingWaits,
    poller::{Changed, Event, Poller},
    readiness::Readiness,
    turn::Turns,
    wheel::{Place, Wheel},
};

/// Pause after a wait of the event loop that failed: long enough not to flood the log.
const FAILED_PAUSE: Duration = Duration::from_millis(10);

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
    fd: RawFd,
    pub(super) readiness: Readiness,
    deadline: Cell<u64>,
    /// Nanoseconds that each step of progress of a send may take; 0 for a deadline of another kind.
    sending: Cell<u64>,
    /// Bytes that the peer had not acknowledged when that was last looked at.
    unacknowledged: Cell<Option<u64>>,
    ended: Cell<CloseReason>,
    idle: Cell<bool>,
    waits_for: Cell<Option<Presence>>,
    coalescing: Cell<Coalescing>,
    place: Place,
}

/// The state of letting bytes come together before the kernel reports them (`SO_RCVLOWAT`,
/// `socket(7)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Coalescing {
    #[default]
    Off,
    /// Since the last tick or later.
    Started,
    /// For at least a tick.
    Lasting,
    /// It took too long.
    GivenUp,
}

/// A client socket on whose behalf another socket of the same core waits. It must stay open for as
/// long as it is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Presence {
    slot: usize,
    may_finish: bool,
}

impl Registered {
    fn new(fd: RawFd) -> Self {
        Self {
            fd,
            readiness: Readiness::default(),
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
    fn arm(&self, now: Monotonic, after: Duration) {
        self.deadline.set(now.plus(after + TICK).0);
        self.sending.set(0);
        if self.ended.get() == CloseReason::Deadline {
            self.ended.set(CloseReason::Open);
        }
    }

    /// Ends the wait, and nothing else, when for `after` the peer has not acknowledged anything
    /// that was sent. To be writable again takes more: the kernel waits until a third of the send
    /// buffer is free.
    fn arm_sending(&self, now: Monotonic, after: Duration) {
        self.arm(now, after);
        self.sending.set(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        self.unacknowledged.set(None);
    }

    /// The time when the sweep has to look at it next, if it has to. 0 is the next time.
    fn due(&self) -> Option<Monotonic> {
        let deadline = self.deadline.get();
        let coalesces = matches!(self.coalescing.get(), Coalescing::Started | Coalescing::Lasting);
        let begins_to_send = self.sending.get() != 0 && self.unacknowledged.get().is_none();
        if coalesces || (begins_to_send && deadline != 0) {
            return Some(Monotonic(0));
        }
        (deadline != 0).then_some(Monotonic(deadline))
    }

    /// Returns true if the peer has taken something of what is being sent since the last look,
    /// which moves the deadline. Looks only when it has passed, or at the first tick of a wait.
    fn has_progressed(&self, now: Monotonic) -> bool {
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

    fn coalesce(&self, bytes: usize) {
        let then = match (self.coalescing.get(), bytes > 1) {
            (Coalescing::Off, false) | (Coalescing::GivenUp, true) => return,
            (Coalescing::Started | Coalescing::Lasting, true) => Coalescing::Started,
            (Coalescing::GivenUp, false) => Coalescing::Off,
            (Coalescing::Off, true) => {
                fd::set_receive_low_water(self.fd, bytes);
                Coalescing::Started
            }
            (Coalescing::Started | Coalescing::Lasting, false) => {
                fd::set_receive_low_water(self.fd, 1);
                Coalescing::Off
            }
        };
        self.coalescing.set(then);
    }

    /// A tick has passed.
    fn coalesce_on(&self) {
        match self.coalescing.get() {
            Coalescing::Off | Coalescing::GivenUp => {}
            Coalescing::Started => self.coalescing.set(Coalescing::Lasting),
            Coalescing::Lasting => {
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

    fn end(&self, why: CloseReason) {
        self.deadline.set(0);
        // A client that is gone, and the end of the process, are not forgotten for a deadline.
        if self.ended.get() != CloseReason::ClientGone {
            self.ended.set(why);
        }
        self.readiness.wake();
    }
}

/// The sockets of one core, what is known of them, and its time.
#[derive(Debug)]
pub struct Reactor {
    pub(super) poller: Rc<Poller>,
    all: RefCell<Slab<Rc<Registered>>>,
    alarm: Alarm,
    wheel: Wheel,
    lasting: LastingWaits,
    /// The tasks that let others go first.
    pub turns: Turns,
    /// The core's clock, refreshed at each tick.
    pub clock: CoreClock,
}

/// Membership of one socket in its core's [`Reactor`]; leaves it when dropped.
#[derive(Debug)]
pub struct Registration {
    pub(super) reactor: Rc<Reactor>,
    slot: usize,
    registered: Rc<Registered>,
}

impl Registration {
    /// Starts watching `fd`, which must stay open until the value is dropped, and be closed then.
    ///
    /// # Errors
    /// When the kernel can't registered it.
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
        self.reactor.poller.pause(self.registered.fd, self.key());
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

    /// Lets the core's other tasks go first.
    pub async fn take_turn(&self) {
        self.reactor.turns.next().await;
    }

    /// Ends the wait when the peer takes nothing of what is sent for `after`.
    pub fn arm_sending(&self, after: Duration) {
        self.registered.arm_sending(self.reactor.clock.coarse(), after);
        self.list();
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
        let mut all = self.reactor.all.borrow_mut();
        if let Ok(member) = u32::try_from(self.slot) {
            self.reactor.wheel.leave(member, &place_in(&all));
        }
        all.remove(self.slot);
    }
}

impl Reactor {
    /// Starts watching on the event loop of the calling thread.
    ///
    /// # Errors
    /// When the kernel has no descriptors left.
    pub fn start() -> io::Result<Rc<Self>> {
        let poller = Rc::new(Poller::new()?);
        let clock = CoreClock::default();
        let alarm = Alarm::new(clock.coarse())?;
        poller.add_alarm(alarm.raw())?;
        let reactor = Rc::new(Self {
            turns: Turns::new(Rc::clone(&poller)),
            poller,
            all: RefCell::default(),
            alarm,
            wheel: Wheel::new(clock.coarse()),
            lasting: LastingWaits::default(),
            clock,
        });
        monoio::spawn(serve(Rc::clone(&reactor)));
        Ok(reactor)
    }

    /// Wakes whoever waits for something that has happened.
    fn look(&self) {
        let all = self.all.borrow();
        self.poller.look(|event| match event {
            Event::Bell => self.turns.begin(),
            Event::Alarm => self.alarm.ring(Monotonic::now()),
            Event::Of { key, events } => {
                if let Some(registered) = usize::try_from(key).ok().and_then(|slot| all.get(slot)) {
                    events.note(&registered.readiness);
                }
            }
        });
    }

    /// Looks at the deadlines that may be due. Call it each [`TICK`].
    pub fn tick(&self) {
        let now = self.clock.refresh();
        self.check_lasting_waits();
        let all = self.all.borrow();
        self.wheel.sweep(now, &place_in(&all), |member| {
            let registered = all.get(usize::try_from(member).ok()?)?;
            registered.coalesce_on();
            let deadline = registered.deadline.get();
            if deadline != 0 && !registered.has_progressed(now) && deadline <= now.0 {
                registered.end(CloseReason::Deadline);
            }
            registered.due()
        });
    }

    /// Makes the sweep look at a socket in time.
    fn list(&self, slot: usize, registered: &Registered) {
        let Some(due) = registered.due().filter(|due| registered.place.is_later_than(*due)) else {
            return;
        };
        if let Ok(member) = u32::try_from(slot) {
            self.wheel.list(member, due, &place_in(&self.all.borrow()));
        }
    }

    /// Calls `each` at every [`TICK`], for ever. The core's heartbeat; one task may have it.
    pub async fn every_tick(&self, mut each: impl FnMut()) {
        loop {
            self.alarm.tick().await;
            each();
        }
    }

    /// Completes after `after`.
    pub async fn sleep(&self, after: Duration) {
        self.alarm.sleep(after).await;
    }

    /// Compares what is known of sockets that somebody has waited for during a whole tick with what
    /// the kernel says now, once for each wait: no conclusion about readiness, however wrong, may
    /// cost more than two ticks.
    fn check_lasting_waits(&self) {
        let all = self.all.borrow();
        let due = self.lasting.due(|slot| all.get(slot).map(|registered| &registered.readiness));
        let descriptors = due.iter().filter_map(|slot| Some((all.get(*slot)?.fd, *slot as u64)));
        self.poller.levels(descriptors, |key, level| {
            if let Some(registered) = usize::try_from(key).ok().and_then(|slot| all.get(slot)) {
                registered.readiness.correct(level);
            }
        });
    }

    /// Lets connections that wait for their next request wait for `most` from now on, unless less
    /// is left to them.
    pub fn shorten_idle(&self, most: Duration) {
        let now = self.clock.coarse();
        let latest = now.plus(most + TICK);
        for (slot, registered) in self.all.borrow().iter() {
            let deadline = registered.deadline.get();
            if registered.idle.get() && (deadline == 0 || deadline > latest.0) {
                registered.arm(now, most);
                self.list(slot, registered);
            }
        }
    }

    /// Ends all that is under way, because the process does. The sockets are left as they are for
    /// their owners to decide: an orderly end would make a body that ends with the connection look
    /// whole.
    pub fn end_all(&self) {
        for (_, registered) in self.all.borrow().iter() {
            registered.end(CloseReason::ClientGone);
        }
    }

    /// Number of sockets registered.
    pub fn len(&self) -> usize {
        self.all.borrow().len()
    }

    /// Returns true if no socket is registered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn place_in<'a>(all: &'a Slab<Rc<Registered>>) -> impl Fn(u32) -> Option<&'a Place> {
    |member| all.get(usize::try_from(member).ok()?).map(|registered| &registered.place)
}

/// Passes on what the kernel tells, turn after turn.
async fn serve(reactor: Rc<Reactor>) {
    loop {
        match reactor.poller.changed().await {
            // Those who were woken by the last look come first, however much has happened since.
            Ok(Changed::AtOnce) => monoio::spawn(std::future::ready(())).await,
            Ok(Changed::Meanwhile) => {}
            Err(error) => {
                // Nothing is lost: what has happened is still there to be seen.
                tracing::error!(%error, "the event loop can't wait for sockets");
                // The whole thread pauses: a sleeper is woken by the look that comes next.
                std::thread::sleep(FAILED_PAUSE);
                monoio::spawn(std::future::ready(())).await;
            }
        }
        reactor.look();
    }
}
