//! The reactor of one core: what the kernel reports of its sockets, and their deadlines without a
//! timer each.
//!
//! Every socket has a cell that says until when the present wait may last (`registered.rs`), and
//! its owner a [`Registration`]. One task per core looks at each tick at the sockets that may be
//! due (`wheel.rs`); where a deadline has passed it wakes whatever waits for the socket, which
//! reads the reason in its cell. Setting a deadline is one store, and nothing is ever cancelled.
//! The deadline of a send moves on for as long as the peer acknowledges something.

use std::{cell::RefCell, io, rc::Rc, time::Duration};

use slab::Slab;

use crate::system::{
    alarm::Alarm,
    clock::{CoreClock, Monotonic},
    event_loop::{self, Sockets},
    fd,
    lasting::LastingWaits,
    pauses::{Pauses, PausesChoice, Plan},
    poller::{Event, Poller},
    send_ring::SendRing,
    sends::Sends,
    turn::Turns,
    wheel::{Place, Wheel},
};
pub use crate::system::{
    alarm::TICK,
    registered::{CloseReason, Presence, Registered},
    registration::{OnDemand, Registration},
};

/// Pause of the whole core after a wait for sockets that failed: long enough not to flood the log.
const FAILED_PAUSE: Duration = Duration::from_millis(10);

/// The sockets of one core, what is known of them, and its time.
#[derive(Debug)]
pub struct Reactor {
    pub(super) poller: Poller,
    pub(super) all: RefCell<Slab<Rc<Registered>>>,
    alarm: Alarm,
    wheel: Wheel,
    pub(super) sends: Sends,
    pub(super) lasting: LastingWaits,
    /// The tasks that let others go first.
    pub turns: Turns,
    /// The pauses instead of sleeps that the next event would end.
    pauses: Pauses,
    /// The core's clock, refreshed at each tick.
    pub clock: CoreClock,
}

impl Reactor {
    /// Starts on the event loop of the calling thread. Each send goes out by itself.
    ///
    /// # Errors
    /// When the kernel has no descriptors left.
    pub fn start() -> io::Result<Rc<Self>> {
        Self::start_with(None, PausesChoice::Never)
    }

    /// The same, with small sends of a turn of the event loop going out together if there is a ring
    /// for them, and with these pauses.
    ///
    /// # Errors
    /// When the kernel has no descriptors left.
    pub fn start_with(ring: Option<SendRing>, pauses: PausesChoice) -> io::Result<Rc<Self>> {
        let poller = Poller::new()?;
        let clock = CoreClock::default();
        let alarm = Alarm::new(clock.coarse())?;
        poller.add_alarm(alarm.raw())?;
        let reactor = Rc::new(Self {
            turns: Turns::default(),
            pauses: Pauses::new(pauses),
            poller,
            all: RefCell::default(),
            alarm,
            wheel: Wheel::new(clock.coarse()),
            sends: ring.map(Sends::through).unwrap_or_default(),
            lasting: LastingWaits::default(),
            clock,
        });
        event_loop::wait_for(Rc::<Self>::clone(&reactor));
        Ok(reactor)
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
    pub(super) fn list(&self, slot: usize, registered: &Registered) {
        let Some(due) = registered.due().filter(|due| registered.place.is_later_than(*due)) else {
            return;
        };
        if let Ok(member) = u32::try_from(slot) {
            self.wheel.list(member, due, &place_in(&self.all.borrow()));
        }
    }

    /// Forgets a socket.
    pub(super) fn leave(&self, slot: usize) {
        let mut all = self.all.borrow_mut();
        if let Ok(member) = u32::try_from(slot) {
            self.wheel.leave(member, &place_in(&all));
        }
        all.remove(slot);
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

    /// Bytes that were sent to this peer and that it has not acknowledged. A system call.
    pub fn unacknowledged_bytes(&self, peer: Presence) -> Option<u64> {
        let fd = self.all.borrow().get(peer.slot)?.fd;
        fd::unacknowledged_bytes(fd)
    }

    /// Ends all that is under way, because the process does. The sockets are left as they are for
    /// their owners to decide: an orderly end would make a body that ends with the connection look
    /// whole.
    pub fn end_all(&self) {
        for (_, registered) in self.all.borrow().iter() {
            registered.end(CloseReason::ClientGone);
        }
    }

    /// Lets the small sends that were handed over go out before something that takes its time.
    pub fn let_sends_go(&self) {
        self.sends.submit();
    }

    /// Lets go of memory that is not needed, for a core that has nothing to do.
    pub fn shrink(&self) {
        self.sends.shrink();
    }

    /// Number of sockets registered.
    pub fn len(&self) -> usize {
        self.all.borrow().len()
    }

    /// Returns true if no socket is registered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes what has happened, and returns the number of events. Waits for one if it may.
    fn look_once(&self, may_wait: bool) -> usize {
        let all = self.all.borrow();
        let looked = self.poller.look(may_wait, |event| match event {
            Event::Alarm => self.alarm.ring(Monotonic::now()),
            Event::Of { key, events } => {
                if let Some(registered) = usize::try_from(key).ok().and_then(|slot| all.get(slot)) {
                    events.note(&registered.readiness);
                }
            }
        });
        looked.unwrap_or_else(|error| {
            tracing::error!(%error, "the event loop can't wait for sockets");
            std::thread::sleep(FAILED_PAUSE);
            0
        })
    }

    /// Looks, pauses if there is nothing to do, looks again, and sleeps only then.
    fn look_and_pause(&self, pause: Duration) -> usize {
        let events = self.look_once(false);
        if events > 0 {
            return events;
        }
        self.pauses.make(pause, event_loop::runs());
        let events = self.look_once(false);
        if events > 0 {
            return events;
        }
        // What ends the sleep was not brought by the pause.
        self.pauses.end_turn(event_loop::runs());
        self.look_once(true)
    }

    /// Returns true if the core pauses where that is worth it.
    pub fn may_pause(&self) -> bool {
        self.pauses.are_made()
    }

    /// Notes that S3 has begun a response to a request that was sent then. Returns the nanoseconds
    /// in between.
    #[inline]
    pub fn first_byte_after(&self, sent: Monotonic) -> u64 {
        let now = self.clock.refresh();
        let after_ns = now.since(sent);
        self.pauses.note_first_byte(now, after_ns);
        after_ns
    }
}

impl Sockets for Reactor {
    fn look(&self, may_wait: bool) {
        self.pauses.end_turn(event_loop::runs());
        let may_wait = may_wait && !self.turns.are_awaited();
        debug_assert!(!may_wait || !self.sends.are_queued(), "sends wait for an event");
        let plan = if may_wait { self.pauses.plan_look() } else { Plan::Sleep };
        let events = match plan {
            Plan::Sleep => self.look_once(may_wait),
            Plan::Pause(pause) => self.look_and_pause(pause),
        };
        self.sends.begin_turn(events);
        self.turns.begin(events);
    }

    fn submit_sends(&self) -> bool {
        self.sends.submit()
    }
}

fn place_in<'a>(all: &'a Slab<Rc<Registered>>) -> impl Fn(u32) -> Option<&'a Place> {
    |member| all.get(usize::try_from(member).ok()?).map(|registered| &registered.place)
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, io::Write, os::unix::net::UnixStream};

    use super::*;
    use crate::system::{process, socket::Socket};

    /// Runs `test` on a core that pauses whenever it has nothing to do.
    fn with_pauses<F: Future>(test: impl FnOnce(Rc<Reactor>) -> F) -> F::Output {
        event_loop::run(|| async {
            test(Reactor::start_with(None, PausesChoice::Always(1)).unwrap()).await
        })
        .unwrap()
    }

    /// Both ends of a connection, which has nothing more to report than what is to come.
    async fn quiet_pair(reactor: &Rc<Reactor>) -> (Socket, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let socket = Socket::new(ours.into(), reactor).unwrap();
        reactor.turns.next().await;
        (socket, theirs)
    }

    /// Tells in the flag if there is a pause.
    fn watch_pause(reactor: &Reactor) -> Rc<Cell<bool>> {
        let paused = Rc::new(Cell::new(false));
        let flag = Rc::clone(&paused);
        reactor.pauses.in_next(move || flag.set(true));
        paused
    }

    #[test]
    fn what_happens_in_a_pause_is_seen_without_a_wait() {
        with_pauses(|reactor| async move {
            let mut pairs = Vec::new();
            for _ in 0..20 {
                pairs.push(quiet_pair(&reactor).await);
            }
            let (sockets, peers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            let before = reactor.poller.waits();
            let most = reactor.turns.spliced_bytes();
            reactor.pauses.in_next(move || {
                for mut peer in peers {
                    peer.write_all(b"x").unwrap();
                }
            });
            for socket in sockets {
                assert_eq!(socket.recv(&mut [0; 8]).await.unwrap(), 1);
                // The turn knows how many events it has.
                assert!(reactor.turns.spliced_bytes() < most);
            }
            assert_eq!(reactor.poller.waits(), before);
        });
    }

    #[test]
    fn a_core_learns_how_long_s3_takes() {
        event_loop::run(|| async {
            let reactor = Reactor::start_with(None, PausesChoice::Usual).unwrap();
            for _ in 0..1_000 {
                let sent = Monotonic(Monotonic::now().0 - 1_000_000);
                assert!(reactor.first_byte_after(sent) >= 1_000_000);
            }
            assert!(reactor.pauses.first_byte().as_micros() > 900);
        })
        .unwrap();
    }

    /// A core on which pauses are worth it.
    fn settled() -> Rc<Reactor> {
        let reactor = Reactor::start_with(None, PausesChoice::Usual).unwrap();
        reactor.pauses.settle(Duration::from_millis(1));
        reactor
    }

    /// Runs so many tasks in the present turn.
    async fn run_tasks(reactor: &Reactor, number: usize) {
        let tasks: Vec<_> = (0..number).map(|_| event_loop::spawn(async {})).collect();
        reactor.turns.next().await;
        for task in tasks {
            task.await;
        }
    }

    #[test]
    fn a_core_sleeps_after_a_pause_that_brought_nothing_and_judges_it_by_that() {
        event_loop::run(|| async {
            let reactor = settled();
            let (socket, mut theirs) = quiet_pair(&reactor).await;
            let before = reactor.poller.waits();
            reactor.pauses.in_next(move || {
                // Written by another thread once this one sleeps in epoll, as the kernel shows it.
                let sleeper = process::thread_number();
                std::thread::spawn(move || {
                    let call = format!("/proc/self/task/{sleeper}/syscall");
                    let waits = format!("{} ", libc::SYS_epoll_pwait);
                    while !std::fs::read_to_string(&call).unwrap().starts_with(&waits) {
                        std::thread::yield_now();
                    }
                    theirs.write_all(b"x").unwrap();
                });
            });
            assert_eq!(socket.recv(&mut [0; 8]).await.unwrap(), 1);
            assert!(reactor.poller.waits() > before);
            // What comes now was not brought by the pause.
            run_tasks(&reactor, 100).await;
            assert_eq!(reactor.pauses.plan_look(), Plan::Sleep);
        })
        .unwrap();
    }

    #[test]
    fn a_core_does_not_pause_while_something_is_to_be_done() {
        with_pauses(|reactor| async move {
            let (socket, mut theirs) = quiet_pair(&reactor).await;
            let paused = watch_pause(&reactor);
            for _ in 0..10 {
                reactor.turns.next().await;
            }
            theirs.write_all(b"x").unwrap();
            socket.readable().await;
            assert!(!paused.get());
        });
    }

    #[test]
    fn a_pause_that_brought_little_is_not_repeated_at_once() {
        event_loop::run(|| async {
            let reactor = settled();
            let (socket, mut theirs) = quiet_pair(&reactor).await;
            // What was before it does not count.
            run_tasks(&reactor, 100).await;
            reactor.pauses.in_next(move || theirs.write_all(b"x").unwrap());
            assert_eq!(socket.recv(&mut [0; 8]).await.unwrap(), 1);
            reactor.turns.next().await;
            assert_eq!(reactor.pauses.plan_look(), Plan::Sleep);
        })
        .unwrap();
    }
}
