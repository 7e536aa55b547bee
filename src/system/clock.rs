//! Time. The only module that reads a clock.

use std::{
    cell::Cell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A point in time by `CLOCK_MONOTONIC` (`clock_gettime(2)`), in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// Now.
    pub fn now() -> Self {
        Self(read(libc::CLOCK_MONOTONIC))
    }

    /// Nanoseconds since an earlier point; 0 if it is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// A later point.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Reads a clock of the system, in nanoseconds (`clock_gettime(2)`).
#[inline]
fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec that the call only writes. It cannot fail: the
    // clock exists, and the pointer is good.
    #[expect(unsafe_code, reason = "std has no number for a point in time")]
    let _ = unsafe { libc::clock_gettime(clock, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(NANOS_PER_SECOND).saturating_add(rest)
}

/// Processor time of the calling thread (`CLOCK_THREAD_CPUTIME_ID`), in nanoseconds. A system call.
pub(super) fn thread_processor_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Milliseconds since the Unix epoch, by the system's clock.
pub fn unix_millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// Seconds since the Unix epoch, by the system's clock.
pub fn unix_seconds() -> u64 {
    unix_millis() / 1_000
}

/// `CLOCK_MONOTONIC` in microseconds, as systemd's `MONOTONIC_USEC` wants it (`sd_notify(3)`).
pub fn monotonic_micros() -> u64 {
    Monotonic::now().0 / 1_000
}

/// A clock that a core reads once per request and refreshes at each tick.
#[derive(Debug)]
pub struct CoreClock {
    coarse: Cell<Monotonic>,
}

impl Default for CoreClock {
    fn default() -> Self {
        Self { coarse: Cell::new(Monotonic::now()) }
    }
}

impl CoreClock {
    /// The time when the core last looked: at most one tick old.
    pub fn coarse(&self) -> Monotonic {
        self.coarse.get()
    }

    /// Reads the clock and remembers it.
    pub fn refresh(&self) -> Monotonic {
        let now = Monotonic::now();
        self.coarse.set(now);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Works until the processor time of this thread is so many nanoseconds more.
    fn work_for(nanos: u64) {
        let end = thread_processor_ns() + nanos;
        while thread_processor_ns() < end {}
    }

    #[test]
    fn processor_time_is_that_of_the_thread_that_asks() {
        const WORK_NS: u64 = 20_000_000;
        let before = thread_processor_ns();
        std::thread::spawn(|| work_for(WORK_NS)).join().unwrap();
        let meanwhile = thread_processor_ns() - before;
        assert!(meanwhile < WORK_NS, "{meanwhile}");
        let before = Monotonic::now();
        work_for(WORK_NS);
        let passed = Monotonic::now().since(before);
        // That clock may be slewed.
        assert!(passed >= WORK_NS * 9 / 10, "{passed}");
    }
}
