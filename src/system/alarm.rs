//! The passing of time on one core: its tick, and the tasks that sleep.
//!
//! One timer of the kernel (`timerfd_create(2)`) expires at the next tick, or when the first
//! sleeper is due. It is one more descriptor of the core's epoll instance, so that a core that is
//! never idle sees it with every look at its sockets. The runtime's own timers are not used: its
//! own event loop is never entered.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    future::poll_fn,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::system::clock::Monotonic;

/// Time between two ticks of a core. A deadline fires at most this much late, never early.
pub const TICK: Duration = Duration::from_millis(100);

/// The alarm of one core.
pub(super) struct Alarm {
    timer: OwnedFd,
    set_for: Cell<Monotonic>,
    next_tick: Cell<Monotonic>,
    has_ticked: Cell<bool>,
    heartbeat: Cell<Option<Waker>>,
    sleepers: RefCell<BTreeMap<SleeperKey, Waker>>,
    next_number: Cell<u64>,
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm").field("next_tick", &self.next_tick).finish_non_exhaustive()
    }
}

/// The time when a sleeper is due, and its number.
type SleeperKey = (Monotonic, u64);

impl Alarm {
    /// # Errors
    /// When the kernel has no descriptors left.
    pub(super) fn new(now: Monotonic) -> io::Result<Self> {
        // SAFETY: no pointers.
        #[expect(unsafe_code, reason = "timerfd has no safe wrapper in std")]
        let timer = unsafe {
            libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC)
        };
        if timer < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
        #[expect(unsafe_code, reason = "takes ownership of the new descriptor")]
        let timer = unsafe { OwnedFd::from_raw_fd(timer) };
        let alarm = Self {
            timer,
            set_for: Cell::new(now),
            next_tick: Cell::new(now),
            has_ticked: Cell::new(false),
            heartbeat: Cell::default(),
            sleepers: RefCell::default(),
            next_number: Cell::new(0),
        };
        alarm.set(now, now);
        Ok(alarm)
    }

    /// The descriptor that reports, once each time, that the alarm rings.
    pub(super) fn raw(&self) -> RawFd {
        self.timer.as_raw_fd()
    }

    /// Wakes whoever is due, and sets the timer for who comes next.
    pub(super) fn ring(&self, now: Monotonic) {
        self.wake_due(now);
        let first = self.sleepers.borrow().first_key_value().map(|(key, _)| key.0);
        let next_tick = self.next_tick.get();
        self.set(first.map_or(next_tick, |first| first.min(next_tick)), now);
    }

    /// After a pause of the process one tick is due, not all that were missed.
    fn wake_due(&self, now: Monotonic) {
        if self.next_tick.get() <= now {
            self.next_tick.set(now.plus(TICK));
            self.has_ticked.set(true);
            self.heartbeat.take().into_iter().for_each(Waker::wake);
        }
        let mut sleepers = self.sleepers.borrow_mut();
        while sleepers.first_key_value().is_some_and(|(key, _)| key.0 <= now) {
            sleepers.pop_first().into_iter().for_each(|(_, waker)| waker.wake());
        }
    }

    /// Lets the timer expire at a point in time, or at once if that has passed. What it was set for
    /// before is forgotten.
    fn set(&self, at: Monotonic, now: Monotonic) {
        self.set_for.set(at);
        let after = Duration::from_nanos(at.since(now).max(1));
        let value = libc::timespec {
            tv_sec: libc::time_t::try_from(after.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(i32::try_from(after.subsec_nanos()).unwrap_or(0)),
        };
        let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let time = libc::itimerspec { it_interval: never, it_value: value };
        // SAFETY: the pointer is to a live itimerspec that the call only reads; null means that the
        // old one is not wanted.
        #[expect(unsafe_code, reason = "timerfd has no safe wrapper in std")]
        let _ = unsafe {
            libc::timerfd_settime(self.timer.as_raw_fd(), 0, &raw const time, std::ptr::null_mut())
        };
    }

    /// Waits for the next tick. One task may wait.
    pub(super) async fn tick(&self) {
        poll_fn(|context| {
            if self.has_ticked.replace(false) {
                return Poll::Ready(());
            }
            self.heartbeat.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Completes after `after`, or a moment later.
    pub(super) async fn sleep(&self, after: Duration) {
        let now = Monotonic::now();
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        let mut sleep = Sleep { alarm: self, key: (now.plus(after), number), sleeps: false };
        poll_fn(|context| sleep.poll(now, context)).await;
    }
}

/// One task that sleeps; is forgotten when dropped.
struct Sleep<'a> {
    alarm: &'a Alarm,
    key: SleeperKey,
    sleeps: bool,
}

impl Sleep<'_> {
    fn poll(&mut self, now: Monotonic, context: &Context<'_>) -> Poll<()> {
        let mut sleepers = self.alarm.sleepers.borrow_mut();
        if self.sleeps && !sleepers.contains_key(&self.key) {
            return Poll::Ready(());
        }
        sleepers.insert(self.key, context.waker().clone());
        if !std::mem::replace(&mut self.sleeps, true) && self.key.0 < self.alarm.set_for.get() {
            self.alarm.set(self.key.0, now);
        }
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        self.alarm.sleepers.borrow_mut().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    /// Ticks that are due at a point in time.
    fn ticks(alarm: &Alarm, now: Monotonic) -> usize {
        let mut ticks = 0;
        alarm.wake_due(now);
        while alarm.has_ticked.replace(false) {
            ticks += 1;
            alarm.wake_due(now);
        }
        ticks
    }

    #[test]
    fn missed_ticks_do_not_come_in_a_burst() {
        let start = Monotonic(1);
        let alarm = Alarm::new(start).unwrap();
        assert_eq!(ticks(&alarm, start), 1);
        assert_eq!(ticks(&alarm, start.plus(TICK / 2)), 0);
        assert_eq!(ticks(&alarm, start.plus(TICK)), 1);
        // The process was stopped meanwhile.
        assert_eq!(ticks(&alarm, start.plus(HOUR)), 1);
        assert_eq!(ticks(&alarm, start.plus(HOUR + TICK / 2)), 0);
        assert_eq!(ticks(&alarm, start.plus(HOUR + TICK)), 1);
    }

    #[test]
    fn sleepers_wake_in_their_order_and_leave_nothing_behind() {
        let alarm = Alarm::new(Monotonic::now()).unwrap();
        let mut context = Context::from_waker(Waker::noop());
        let mut sleeps: Vec<_> =
            [3, 1, 2].map(|hours| Box::pin(alarm.sleep(HOUR * hours))).into_iter().collect();
        let mut done = |now| {
            alarm.ring(now);
            sleeps.iter_mut().map(|sleep| sleep.as_mut().poll(&mut context).is_ready()).collect()
        };
        let now = Monotonic::now();
        let none: Vec<bool> = done(now);
        assert_eq!(none, [false, false, false]);
        assert!(alarm.set_for.get() <= now.plus(TICK));
        let first: Vec<bool> = done(now.plus(HOUR + TICK));
        assert_eq!(first, [false, true, false]);
        drop(sleeps);
        assert!(alarm.sleepers.borrow().is_empty());
    }
}
