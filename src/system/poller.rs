//! The epoll instance of one core: which descriptors have changed, as the kernel reports it.
//!
//! Each descriptor is registered once in its life, edge-triggered, and the event loop waits for
//! this one instance alone. A wait of a task then costs no system call.
//! See `epoll(7)`, "Level-triggered and edge-triggered".

use std::{
    cell::RefCell,
    fmt, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use crate::system::readiness::{Events, Level, flag};

/// Events taken from the kernel at once. What is left over is taken in the next turn.
const EVENTS_PER_TURN: usize = 1_024;

/// The key under which the alarm reports.
const ALARM: u64 = u64::MAX;

/// Something that one look at the kernel brought.
pub(super) enum Event {
    /// Something happened to the descriptor that was added under this key.
    Of { key: u64, events: Events },
    /// The alarm's timer has expired.
    Alarm,
}

/// The epoll instance of one core. Belongs to the event loop of the thread that made it.
pub(super) struct Poller {
    epoll: OwnedFd,
    events: RefCell<Vec<libc::epoll_event>>,
    /// Waits that are to fail.
    #[cfg(test)]
    failures: std::cell::Cell<usize>,
    /// Looks so far that could wait.
    #[cfg(test)]
    waits: std::cell::Cell<usize>,
    /// All looks so far.
    #[cfg(test)]
    looks: std::cell::Cell<usize>,
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").field("epoll", &self.epoll).finish_non_exhaustive()
    }
}

impl Poller {
    /// # Errors
    /// When the kernel has no descriptors left.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: no pointers.
        #[expect(unsafe_code, reason = "epoll has no safe wrapper in std")]
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
        #[expect(unsafe_code, reason = "takes ownership of the new descriptor")]
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        Ok(Self {
            epoll,
            events: RefCell::new(Vec::with_capacity(EVENTS_PER_TURN)),
            #[cfg(test)]
            failures: std::cell::Cell::default(),
            #[cfg(test)]
            waits: std::cell::Cell::default(),
            #[cfg(test)]
            looks: std::cell::Cell::default(),
        })
    }

    /// Reports what happens to `fd` under `key` until it is closed. It must not be duplicated.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` reports.
    pub(super) fn add(&self, fd: RawFd, key: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, Events::EVERYTHING, key)
    }

    /// Reports each time that the timer expires.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` reports.
    pub(super) fn add_alarm(&self, timer: RawFd) -> io::Result<()> {
        let edges = flag(libc::EPOLLIN) | flag(libc::EPOLLET);
        self.control(libc::EPOLL_CTL_ADD, timer, edges, ALARM)
    }

    /// Reports a descriptor that always has room at every look, as a flood of events would be.
    #[cfg(test)]
    pub(super) fn flood(&self, always_writable: RawFd) {
        self.control(libc::EPOLL_CTL_ADD, always_writable, flag(libc::EPOLLOUT), ALARM - 1)
            .unwrap();
    }

    /// Lets so many waits fail, as when the kernel has no memory for them.
    #[cfg(test)]
    pub(super) fn fail(&self, waits: usize) {
        self.failures.set(waits);
    }

    /// Looks so far that could wait.
    #[cfg(test)]
    pub(super) fn waits(&self) -> usize {
        self.waits.get()
    }

    /// All looks so far.
    #[cfg(test)]
    pub(super) fn looks(&self) -> usize {
        self.looks.get()
    }

    /// Reports nothing of a descriptor that was added until it is asked for.
    pub(super) fn mute(&self, fd: RawFd, key: u64) {
        let _ = self.control(libc::EPOLL_CTL_MOD, fd, ONCE, key);
    }

    /// Reports once when a muted descriptor can be read, or is readable already.
    pub(super) fn report_readable(&self, fd: RawFd, key: u64) {
        let once = Events::ARRIVAL | ONCE;
        let _ = self.control(libc::EPOLL_CTL_MOD, fd, once, key);
    }

    /// Reports everything of a muted descriptor again, what it holds already included.
    pub(super) fn resume(&self, fd: RawFd, key: u64) {
        let _ = self.control(libc::EPOLL_CTL_MOD, fd, Events::EVERYTHING, key);
    }

    /// Asks what each of these descriptors is ready for now, whatever was reported before: one
    /// system call for all of them (`poll(2)`). Unreliable results are left out.
    #[expect(clippy::unused_self, reason = "asks about descriptors of this instance")]
    pub(super) fn levels(
        &self,
        descriptors: impl Iterator<Item = (RawFd, u64)>,
        mut each: impl FnMut(u64, Level),
    ) {
        let (mut asked, keys): (Vec<_>, Vec<_>) = descriptors
            .map(|(fd, key)| (libc::pollfd { fd, events: Level::ASKED, revents: 0 }, key))
            .unzip();
        if asked.is_empty() {
            return;
        }
        let count = libc::nfds_t::try_from(asked.len()).unwrap_or(0);
        // SAFETY: the pointer is to so many live entries, of which the call writes `revents` only.
        #[expect(unsafe_code, reason = "poll has no safe wrapper in std")]
        let ready = unsafe { libc::poll(asked.as_mut_ptr(), count, 0) };
        if ready > 0 {
            for (entry, key) in asked.iter().zip(keys) {
                if entry.revents != 0 {
                    each(key, Level::of(entry.revents));
                }
            }
        }
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, events: u32, key: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: key };
        // SAFETY: the pointer is to a live event that the call only reads.
        #[expect(unsafe_code, reason = "epoll has no safe wrapper in std")]
        let done =
            unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &raw mut event) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Hands what has happened since the last look to `each`, and returns the number of events.
    /// Waits until there is one if it may. `each` must not look itself.
    ///
    /// # Errors
    /// What `epoll_pwait(2)` reports, but for an interruption, which is a look that found nothing.
    /// Nothing is lost: what has happened is still there to be seen.
    pub(super) fn look(&self, may_wait: bool, mut each: impl FnMut(Event)) -> io::Result<usize> {
        #[cfg(test)]
        {
            self.waits.set(self.waits.get() + usize::from(may_wait));
            self.looks.set(self.looks.get() + 1);
        }
        #[cfg(test)]
        if let Some(left) = self.failures.get().checked_sub(1) {
            self.failures.set(left);
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let mut events = self.events.borrow_mut();
        let most = libc::c_int::try_from(events.capacity()).unwrap_or(libc::c_int::MAX);
        // SAFETY: the pointer is to room for `most` events, and the call writes no more than that.
        #[expect(unsafe_code, reason = "epoll has no safe wrapper in std")]
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait,
                self.epoll.as_raw_fd(),
                events.as_mut_ptr(),
                most,
                if may_wait { -1 } else { 0 },
                ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            let interrupted = error.kind() == io::ErrorKind::Interrupted;
            return if interrupted { Ok(0) } else { Err(error) };
        };
        let count = count.min(events.capacity());
        // SAFETY: the kernel has just filled in so many, within the capacity.
        #[expect(unsafe_code, reason = "the kernel writes the events")]
        unsafe {
            events.set_len(count);
        }
        for event in events.iter() {
            match event.u64 {
                ALARM => each(Event::Alarm),
                key => each(Event::Of { key, events: Events::of(event.events) }),
            }
        }
        Ok(count)
    }
}

const ONCE: u32 = libc::EPOLLONESHOT as u32;
