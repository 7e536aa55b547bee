//! Deadlines of sockets without a timer each.
//!
//! Every socket has a [`Watch`], a cell that says until when the present wait may last. One task
//! per core looks at each tick at those that may be due (`wheel.rs`); where a deadline has passed it
//! wakes whatever waits for the socket, which reads the reason here. Setting a deadline is one store,
//! and nothing is ever cancelled. The deadline of a send moves on for as long as the peer
//! acknowledges something.
//!
//! A deadline leaves its socket alone: what had arrived just before can still be used, and the owner
//! decides whether the peer gets a response, an orderly end or a reset.

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

/// Why the wait for a socket was ended from this side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ended {
    /// It was not.
    #[default]
    No,
    /// Its deadline passed.
    Deadline,
    /// The client on whose behalf it waited is gone, or the process ends and waits for nobody.
    ClientGone,
}

/// The deadline of one socket.
#[derive(Debug)]
pub struct Watch {
    fd: RawFd,
    pub(super) readiness: Readiness,
    deadline: Cell<u64>,
    /// Nanoseconds that each step of progress of a send may take; 0 for a deadline of another kind.
    sending: Cell<u64>,
    /// Bytes that the peer had not acknowledged when that was last looked at.
    unacknowledged: Cell<Option<u64>>,
    ended: Cell<Ended>,
    idle: Cell<bool>,
    waits_for: Cell<Option<Client>>,
    gathering: Cell<Gathering>,
    place: Place,
}

/// Whether the kernel lets bytes come together before it reports them (`SO_RCVLOWAT`, `socket(7)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Gathering {
    #[default]
    Off,
    /// Since the last tick or later.
    Begun,
    /// For at least a tick.
    Lasting,
    /// It took too long.
    GivenUp,
}

/// A client socket on whose behalf another socket of the same core waits. It must stay open for as
/// long as it is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    slot: usize,
    may_finish: bool,
}

impl Watch {
    fn new(fd: RawFd) -> Self {
        Self {
            fd,
            readiness: Readiness::default(),
            deadline: Cell::new(0),
            sending: Cell::new(0),
            unacknowledged: Cell::new(None),
            ended: Cell::new(Ended::No),
            idle: Cell::new(false),
            waits_for: Cell::new(None),
            gathering: Cell::default(),
            place: Place::default(),
        }
    }

    /// Ends the wait when `after` has passed since `now`, which may be one tick old. An earlier
    /// deadline is forgotten, passed or not; a client that is gone, and the end of the process, are
    /// not.
    fn arm(&self, now: Monotonic, after: Duration) {
        self.deadline.set(now.plus(after + TICK).0);
        self.sending.set(0);
        if self.ended.get() == Ended::Deadline {
            self.ended.set(Ended::No);
        }
    }

    /// Ends the wait, and nothing else, when for `after` the peer has not acknowledged anything that
    /// was sent. To be writable again takes more: the kernel waits until a third of the send buffer
    /// is free.
    fn arm_sending(&self, now: Monotonic, after: Duration) {
        self.arm(now, after);
        self.sending.set(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        self.unacknowledged.set(None);
    }

    /// When the sweep has to look at it next, if it has to. 0 is the next time.
    fn due(&self) -> Option<Monotonic> {
        let deadline = self.deadline.get();
        let gathers = matches!(self.gathering.get(), Gathering::Begun | Gathering::Lasting);
        let begins_to_send = self.sending.get() != 0 && self.unacknowledged.get().is_none();
        if gathers || (begins_to_send && deadline != 0) {
            return Some(Monotonic(0));
        }
        (deadline != 0).then_some(Monotonic(deadline))
    }

    /// Whether the peer has taken something of what is being sent since the last look, which moves
    /// the deadline. Looks only when it has passed, or at the first tick of a wait.
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
    pub fn waits_for_client(&self, client: Option<Client>) {
        self.waits_for.set(client);
    }

    fn gather(&self, bytes: usize) {
        let then = match (self.gathering.get(), bytes > 1) {
            (Gathering::Off, false) | (Gathering::GivenUp, true) => return,
            (Gathering::Begun | Gathering::Lasting, true) => Gathering::Begun,
            (Gathering::GivenUp, false) => Gathering::Off,
            (Gathering::Off, true) => {
                fd::set_receive_low_water(self.fd, bytes);
                Gathering::Begun
            }
            (Gathering::Begun | Gathering::Lasting, false) => {
                fd::set_receive_low_water(self.fd, 1);
                Gathering::Off
            }
        };
        self.gathering.set(then);
    }

    /// A tick has passed.
    fn gather_on(&self) {
        match self.gathering.get() {
            Gathering::Off | Gathering::GivenUp => {}
            Gathering::Begun => self.gathering.set(Gathering::Lasting),
            Gathering::Lasting => {
                self.gathering.set(Gathering::GivenUp);
                // The kernel reports at once what has come together.
                fd::set_receive_low_water(self.fd, 1);
            }
        }
    }

    /// Why the wait was ended from this side, if it was.
    pub fn ended(&self) -> Ended {
        self.ended.get()
    }

    /// Whether a wait may go on. To be asked when a call found that it would block, for what has
    /// arrived comes first.
    ///
    /// # Errors
    /// `TimedOut` once the deadline has passed, `ConnectionAborted` once the client on whose behalf
    /// is waited is gone, or the process ends.
    pub fn check_open(&self) -> io::Result<()> {
        match self.ended.get() {
            Ended::No => Ok(()),
            Ended::Deadline => Err(io::ErrorKind::TimedOut.into()),
            Ended::ClientGone => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    fn end(&self, why: Ended) {
        self.deadline.set(0);
        self.ended.set(why);
        self.readiness.wake();
    }
}

/// All watches of one core.
#[derive(Debug)]
pub struct Watches {
    pub(super) poller: Rc<Poller>,
    all: RefCell<Slab<Rc<Watch>>>,
    alarm: Alarm,
    wheel: Wheel,
    lasting: LastingWaits,
    /// The tasks that let others go first.
    pub turns: Turns,
    /// The core's clock, refreshed at each tick.
    pub clock: CoreClock,
}

/// Membership of one socket in its core's [`Watches`]; leaves it when dropped.
#[derive(Debug)]
pub struct Watched {
    pub(super) watches: Rc<Watches>,
    slot: usize,
    watch: Rc<Watch>,
}

impl Watched {
    /// Starts watching `fd`, which must stay open until the value is dropped, and be closed then.
    ///
    /// # Errors
    /// When the kernel can't watch it.
    pub fn new(watches: &Rc<Watches>, fd: RawFd) -> io::Result<Self> {
        let watch = Rc::new(Watch::new(fd));
        let slot = watches.all.borrow_mut().insert(Rc::clone(&watch));
        let member = Self { watches: Rc::clone(watches), slot, watch };
        if u32::try_from(slot).is_err() {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        watches.poller.add(fd, member.key())?;
        Ok(member)
    }

    /// Waits until reading is worth a try.
    pub async fn readable(&self) {
        poll_fn(|context| {
            let ready = self.watch.readiness.poll_readable(context);
            self.unless_client_is_gone(ready, context)
        })
        .await;
    }

    /// Waits until writing is worth a try.
    pub async fn writable(&self) {
        poll_fn(|context| {
            let ready = self.watch.readiness.poll_writable(context);
            self.unless_client_is_gone(ready, context)
        })
        .await;
    }

    fn unless_client_is_gone(&self, ready: Poll<()>, context: &Context<'_>) -> Poll<()> {
        if ready.is_pending() {
            self.watches.lasting.begin(self.slot, &self.watch.readiness);
        }
        match self.watch.waits_for.get() {
            Some(client) if ready.is_pending() => self.poll_client(client, context),
            _ => ready,
        }
    }

    fn poll_client(&self, client: Client, context: &Context<'_>) -> Poll<()> {
        let all = self.watches.all.borrow();
        let readiness = all.get(client.slot).map(|watch| &watch.readiness);
        let gone = readiness.map(|client_is| client_is.poll_gone(client.may_finish, context));
        if gone.is_some_and(|gone| gone.is_pending()) {
            return Poll::Pending;
        }
        self.watch.end(Ended::ClientGone);
        Poll::Ready(())
    }

    /// The peer of this socket, for another socket to wait on its behalf. `may_finish`: it said that
    /// it sends nothing more after this request (`Connection: close`, HTTP/1.0), so that the end of
    /// its stream does not mean that it is gone (RFC 9112 section 9.6); only a reset does.
    pub fn client(&self, may_finish: bool) -> Client {
        Client { slot: self.slot, may_finish }
    }

    /// Hears of the descriptor only what it waits for, until the value is dropped. Where bytes keep
    /// arriving while others are still being sent, being told of each of them would cost more than
    /// asking, which is one system call for each wait.
    pub fn on_demand(&self) -> OnDemand<'_> {
        self.watches.poller.pause(self.watch.fd, self.key());
        OnDemand(self)
    }

    fn key(&self) -> u64 {
        self.slot as u64
    }

    /// Ends the wait when `after` has passed.
    pub fn arm(&self, after: Duration) {
        self.watch.arm(self.watches.clock.coarse(), after);
        self.list();
    }

    /// Lets the core's other tasks go first.
    pub async fn take_turn(&self) {
        self.watches.turns.next().await;
    }

    /// Ends the wait when the peer takes nothing of what is sent for `after`.
    pub fn arm_sending(&self, after: Duration) {
        self.watch.arm_sending(self.watches.clock.coarse(), after);
        self.list();
    }

    /// Lets `bytes` come together before reading is reported, or what came within two ticks; 1 ends
    /// that. A source that was too slow for it is not waited for so again before that.
    pub fn gather(&self, bytes: usize) {
        self.watch.gather(bytes);
        self.list();
    }

    fn list(&self) {
        self.watches.list(self.slot, &self.watch);
    }
}

/// A descriptor of which only what is waited for is reported.
#[derive(Debug)]
pub struct OnDemand<'w>(&'w Watched);

impl OnDemand<'_> {
    /// Waits until reading does not block.
    pub async fn readable(&self) {
        let Watch { fd, readiness, ended, .. } = &**self.0;
        if ended.get() == Ended::No {
            readiness.asked_to_report();
            self.0.watches.poller.report_readable(*fd, self.0.key());
        }
        self.0.readable().await;
    }
}

impl Drop for OnDemand<'_> {
    fn drop(&mut self) {
        self.0.watches.poller.resume(self.0.watch.fd, self.0.key());
    }
}

impl std::ops::Deref for Watched {
    type Target = Watch;

    fn deref(&self) -> &Watch {
        &self.watch
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut all = self.watches.all.borrow_mut();
        if let Ok(member) = u32::try_from(self.slot) {
            self.watches.wheel.leave(member, &place_in(&all));
        }
        all.remove(self.slot);
    }
}

impl Watches {
    /// Starts watching on the event loop of the calling thread.
    ///
    /// # Errors
    /// When the kernel has no descriptors left.
    pub fn start() -> io::Result<Rc<Self>> {
        let poller = Rc::new(Poller::new()?);
        let clock = CoreClock::default();
        let alarm = Alarm::new(clock.coarse())?;
        poller.add_alarm(alarm.raw())?;
        let watches = Rc::new(Self {
            turns: Turns::new(Rc::clone(&poller)),
            poller,
            all: RefCell::default(),
            alarm,
            wheel: Wheel::new(clock.coarse()),
            lasting: LastingWaits::default(),
            clock,
        });
        monoio::spawn(serve(Rc::clone(&watches)));
        Ok(watches)
    }

    /// Wakes whoever waits for something that has happened.
    fn look(&self) {
        let all = self.all.borrow();
        self.poller.look(|event| match event {
            Event::Bell => self.turns.begin(),
            Event::Alarm => self.alarm.ring(Monotonic::now()),
            Event::Of { key, events } => {
                if let Some(watch) = usize::try_from(key).ok().and_then(|slot| all.get(slot)) {
                    events.note(&watch.readiness);
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
            let watch = all.get(usize::try_from(member).ok()?)?;
            watch.gather_on();
            let deadline = watch.deadline.get();
            if deadline != 0 && !watch.has_progressed(now) && deadline <= now.0 {
                watch.end(Ended::Deadline);
            }
            watch.due()
        });
    }

    /// Makes the sweep look at a socket in time.
    fn list(&self, slot: usize, watch: &Watch) {
        let Some(due) = watch.due().filter(|due| watch.place.is_later_than(*due)) else { return };
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
        let due = self.lasting.due(|slot| all.get(slot).map(|watch| &watch.readiness));
        let descriptors = due.iter().filter_map(|slot| Some((all.get(*slot)?.fd, *slot as u64)));
        self.poller.levels(descriptors, |key, level| {
            if let Some(watch) = usize::try_from(key).ok().and_then(|slot| all.get(slot)) {
                watch.readiness.correct(level);
            }
        });
    }

    /// Lets connections that wait for their next request wait for `most` from now on, unless less is
    /// left to them.
    pub fn shorten_idle(&self, most: Duration) {
        let now = self.clock.coarse();
        let latest = now.plus(most + TICK);
        for (slot, watch) in self.all.borrow().iter() {
            let deadline = watch.deadline.get();
            if watch.idle.get() && (deadline == 0 || deadline > latest.0) {
                watch.arm(now, most);
                self.list(slot, watch);
            }
        }
    }

    /// Ends all that is under way, because the process does. The sockets are left as they are for
    /// their owners to decide: an orderly end would make a body that ends with the connection look
    /// whole.
    pub fn end_all(&self) {
        for (_, watch) in self.all.borrow().iter() {
            watch.end(Ended::ClientGone);
        }
    }

    /// Number of sockets watched.
    pub fn len(&self) -> usize {
        self.all.borrow().len()
    }

    /// Whether no socket is watched.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn place_in<'a>(all: &'a Slab<Rc<Watch>>) -> impl Fn(u32) -> Option<&'a Place> {
    |member| all.get(usize::try_from(member).ok()?).map(|watch| &watch.place)
}

/// Passes on what the kernel tells, turn after turn.
async fn serve(watches: Rc<Watches>) {
    loop {
        match watches.poller.changed().await {
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
        watches.look();
    }
}
