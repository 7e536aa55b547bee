//! Facts and settings of this process.

use std::io;

use crate::system::clock;

/// The soft and hard limit on open files after the soft one was raised to the hard one.
pub fn raise_open_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live rlimit that the call only writes.
    #[expect(unsafe_code, reason = "getrlimit has no safe wrapper in std")]
    let got = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the pointer is to a live rlimit that the call only reads.
        #[expect(unsafe_code, reason = "setrlimit has no safe wrapper in std")]
        let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// Time by which the kernel may prolong a sleep of a worker to save wake-ups, in nanoseconds; 50
/// microseconds is usual.
const TIMER_SLACK_NS: libc::c_ulong = 1_000;

/// Lets sleeps of the calling thread end when they are to. Returns false where that cannot be: the
/// kernel has no such setting (`PR_SET_TIMERSLACK(2const)`), or its timers are no finer than its
/// tick (`time(7)`, "High-resolution timers").
pub(super) fn let_sleeps_end_in_time() -> bool {
    let mut finest = libc::timespec { tv_sec: 1, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec that the call only writes; prctl gets none.
    #[expect(unsafe_code, reason = "neither has a safe wrapper in std")]
    unsafe {
        libc::clock_getres(libc::CLOCK_MONOTONIC, &raw mut finest) == 0
            && libc::prctl(libc::PR_SET_TIMERSLACK, TIMER_SLACK_NS) == 0
            && finest.tv_sec == 0
            && finest.tv_nsec <= libc::c_long::from(1_000_i32)
    }
}

/// Ignores signals whose default action would end the process although nothing is wrong: SIGHUP and
/// SIGUSR1, until they are caught, and SIGXFSZ for good, so that a file at `RLIMIT_FSIZE` is a
/// failed write (`EFBIG`, `setrlimit(2)`). What a SIGHUP asks for is not lost: no configuration was
/// read before it.
pub fn ignore_signals() {
    for number in [libc::SIGHUP, libc::SIGUSR1, libc::SIGXFSZ] {
        // SAFETY: no pointers and no handler of ours; nothing else has set one for these yet.
        #[expect(unsafe_code, reason = "signal has no safe wrapper in std")]
        let _ = unsafe { libc::signal(number, libc::SIG_IGN) };
    }
}

/// Free memory of the allocator, in bytes, below which giving it back is not worth the system
/// calls.
const FREE_BYTES_KEPT: usize = 16 * 1_048_576;

/// Gives freed memory back to the system (`malloc_trim(3)`). The allocator keeps what lies below
/// the top of a heap, and after a peak that may be most of the process. Takes a lock on each
/// thread's heap in turn, so call it on a thread that no request waits for, after an event that is
/// rare.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: no pointers; both calls take the allocator's own locks.
        #[expect(unsafe_code, reason = "mallinfo2 and malloc_trim have no safe wrapper")]
        unsafe {
            if libc::mallinfo2().fordblks > FREE_BYTES_KEPT {
                libc::malloc_trim(0);
            }
        }
    }
}

/// Longest time, in nanoseconds, that a thread of lower priority runs before a worker that woke up
/// meanwhile gets its processor back: the least that the kernel takes.
const SLICE_NS: u64 = 100_000;

/// Gives the calling thread a lower priority than the workers have: this nice value, 0 to 19, and
/// from Linux 6.12 on the shortest slice there is (`sched_setattr(2)`). The nice value alone makes
/// its share small, but lets it keep a processor for milliseconds that a worker has woken up for.
///
/// Not `SCHED_IDLE`: a machine whose processors are all busy would let it wait for minutes.
pub fn lower_priority(nice: i32) {
    let Ok(size) = u32::try_from(size_of::<libc::sched_attr>()) else { return };
    let attributes = libc::sched_attr {
        size,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: SLICE_NS,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the pointer is to a live sched_attr of the size that it says, which the call only
    // reads; 0 means the calling thread.
    #[expect(unsafe_code, reason = "sched_setattr has no wrapper")]
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if set != 0 {
        // SAFETY: no pointers; on Linux a `who` of 0 means the calling thread only.
        #[expect(unsafe_code, reason = "setpriority has no safe wrapper in std")]
        let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    }
}

/// Fills at most 256 `bytes` with random bytes from the kernel. A library's generator would first
/// gather entropy of its own, which takes longer than the rest of a start.
pub fn random(bytes: &mut [u8]) -> io::Result<()> {
    // SAFETY: the pointer and length are those of a live mutable slice.
    #[expect(unsafe_code, reason = "getrandom has no safe wrapper in std")]
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    // Up to 256 bytes come whole (getrandom(2)).
    if usize::try_from(got) == Ok(bytes.len()) { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A number that no other process has, most likely: random, or else the time.
pub fn random_number() -> u64 {
    let mut bytes = [0; 8];
    match random(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => clock::unix_millis(),
    }
}

/// The kernel's number for the calling thread.
#[cfg(test)]
pub(super) fn thread_number() -> libc::pid_t {
    // SAFETY: no pointers.
    #[expect(unsafe_code, reason = "gettid has no safe wrapper in std")]
    unsafe {
        libc::gettid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nice value and slice of the calling thread.
    fn priority() -> (i32, u64) {
        // SAFETY: zeroes are a valid sched_attr, and the kernel writes at most its size.
        #[expect(unsafe_code, reason = "sched_getattr has no wrapper")]
        let (got, attributes) = unsafe {
            let mut attributes: libc::sched_attr = std::mem::zeroed();
            let size = size_of::<libc::sched_attr>();
            let got = libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0);
            (got, attributes)
        };
        assert_eq!(got, 0, "{}", io::Error::last_os_error());
        (attributes.sched_nice, attributes.sched_runtime)
    }

    #[test]
    fn sleeps_of_the_thread_that_asks_are_not_prolonged() {
        let slack = || {
            let path = format!("/proc/{}/timerslack_ns", thread_number());
            std::fs::read_to_string(path).unwrap().trim().parse::<libc::c_ulong>().unwrap()
        };
        let before = slack();
        let after = std::thread::spawn(move || {
            assert!(let_sleeps_end_in_time());
            slack()
        });
        assert_eq!(after.join().unwrap(), TIMER_SLACK_NS);
        assert_eq!(slack(), before);
    }

    #[test]
    fn only_the_thread_that_asks_gets_a_lower_priority() {
        let before = priority();
        let lowered = std::thread::spawn(|| {
            lower_priority(19);
            priority()
        });
        let (nice, slice) = lowered.join().unwrap();
        assert_eq!(nice, 19);
        // Kernels before 6.12 have one slice for all, and say nothing of it.
        assert!(slice == SLICE_NS || slice == 0, "{slice}");
        assert_eq!(priority(), before);
    }
}
