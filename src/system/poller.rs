//! The epoll instance of one core: which descriptors have changed, as the kernel reports it.
//!
//! Each descriptor is registered once in its life, edge-triggered, and the event loop waits for
//! this one instance alone. A wait of a task then costs no system call and no entry in the ring.
//! See `epoll(7)`, "Level-triggered and edge-triggered".

use std::{
    cell::RefCell,
    fmt,
    future::{Future, poll_fn},
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    pin::pin,
    ptr,
};

use monoio::net::UnixStream;

use crate::system::readiness::{Events, Level, flag};

/// Events taken from the kernel at once. What is left over is taken in the next turn.
const EVENTS_PER_TURN: usize = 1_024;

/// The key under which the bell reports.
const BELL: u64 = u64::MAX;

/// The key under which the alarm reports.
const ALARM: u64 = u64::MAX - 1;

/// Something that one look at the kernel brought.
pub(super) enum Event {
    /// Something happened to the descriptor that was added under this key.
    Of { key: u64, events: Events },
    /// [`Poller::ring`] was called since the last look.
    Bell,
    /// The alarm's timer has expired.
    Alarm,
}

/// The moment at which a look became worth it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// Before anything was waited for, so that nothing else has run. That is so with epoll only: a
    /// ring answers when it is entered.
    AtOnce,
    /// While others ran.
    Meanwhile,
}

/// The epoll instance of one core. Belongs to the event loop of the thread that made it.
pub(super) struct Poller {
    epoll: OwnedFd,
    /// The same instance, as something that the event loop can wait for. Nothing is read from it.
    waited_for: UnixStream,
    /// Always readable, and reported once each time that it is asked for.
    bell: OwnedFd,
    events: RefCell<Vec<libc::epoll_event>>,
    /// Waits that are to fail.
    #[cfg(test)]
    failures: std::cell::Cell<usize>,
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
        let (epoll, bell) =
            unsafe { (libc::epoll_create1(libc::EPOLL_CLOEXEC), libc::eventfd(1, BELL_FLAGS)) };
        let (epoll, bell) = (owned(epoll), owned(bell));
        let epoll = epoll?;
        let waited_for = std::os::unix::net::UnixStream::from(epoll.try_clone()?);
        let poller = Self {
            waited_for: UnixStream::from_std(waited_for)?,
            epoll,
            bell: bell?,
            events: RefCell::new(Vec::with_capacity(EVENTS_PER_TURN)),
            #[cfg(test)]
            failures: std::cell::Cell::default(),
        };
        poller.control(libc::EPOLL_CTL_ADD, poller.bell.as_raw_fd(), ONCE, BELL)?;
        Ok(poller)
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

    /// Reports nothing of a descriptor that was added until it is asked for.
    pub(super) fn pause(&self, fd: RawFd, key: u64) {
        let _ = self.control(libc::EPOLL_CTL_MOD, fd, ONCE, key);
    }

    /// Reports once when a paused descriptor can be read, or is readable already.
    pub(super) fn report_readable(&self, fd: RawFd, key: u64) {
        let once = Events::ARRIVAL | ONCE;
        let _ = self.control(libc::EPOLL_CTL_MOD, fd, once, key);
    }

    /// Reports everything of a paused descriptor again, what it holds already included.
    pub(super) fn resume(&self, fd: RawFd, key: u64) {
        let _ = self.control(libc::EPOLL_CTL_MOD, fd, Events::EVERYTHING, key);
    }

    /// Makes the next look find [`Event::Bell`], and the event loop go round once without waiting.
    pub(super) fn ring(&self) {
        let once = Events::ARRIVAL | ONCE;
        let _ = self.control(libc::EPOLL_CTL_MOD, self.bell.as_raw_fd(), once, BELL);
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

    /// Waits, in the event loop, until a look would find something.
    ///
    /// # Errors
    /// When the event loop can't wait.
    pub(super) async fn changed(&self) -> io::Result<Changed> {
        #[cfg(test)]
        if let Some(left) = self.failures.get().checked_sub(1) {
            self.failures.set(left);
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let mut readable = pin!(self.waited_for.readable(false));
        let mut when = Changed::AtOnce;
        poll_fn(|context| {
            let polled = readable.as_mut().poll(context);
            if polled.is_pending() {
                when = Changed::Meanwhile;
            }
            polled
        })
        .await?;
        Ok(when)
    }

    /// Hands what has happened since the last look to `each`, without waiting, and returns how many
    /// events that were. `each` must not look itself.
    pub(super) fn look(&self, mut each: impl FnMut(Event)) -> usize {
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
                0,
                ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        let count = usize::try_from(count).unwrap_or(0).min(events.capacity());
        // SAFETY: the kernel has just filled in so many, within the capacity.
        #[expect(unsafe_code, reason = "the kernel writes the events")]
        unsafe {
            events.set_len(count);
        }
        for event in events.iter() {
            match event.u64 {
                BELL => each(Event::Bell),
                ALARM => each(Event::Alarm),
                key => each(Event::Of { key, events: Events::of(event.events) }),
            }
        }
        count
    }
}

const ONCE: u32 = libc::EPOLLONESHOT as u32;

const BELL_FLAGS: libc::c_int = libc::EFD_CLOEXEC | libc::EFD_NONBLOCK;

fn owned(fd: libc::c_int) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    #[expect(unsafe_code, reason = "takes ownership of the new descriptor")]
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
