//! Which descriptors of one core can be read or written, as far as the kernel has told.
//!
//! Each descriptor is registered once in its life, edge-triggered, with one epoll instance, and the
//! event loop waits for that instance alone. A wait of a task then costs no system call and no entry
//! in the ring: what the kernel said is remembered, and forgotten when a call finds the socket
//! empty or full. See `epoll(7)`, "Level-triggered and edge-triggered".

use std::{
    cell::{Cell, RefCell},
    fmt, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    ptr,
    task::{Context, Poll, Waker},
};

use monoio::net::UnixStream;

/// Events taken from the kernel at once. What is left over is taken in the next turn.
const EVENTS_PER_TURN: usize = 1_024;

/// The key under which the bell reports.
const BELL: u64 = u64::MAX;

const HANG_UP_EVENTS: u32 = flag(libc::EPOLLHUP) | flag(libc::EPOLLERR);
const END_EVENTS: u32 = flag(libc::EPOLLRDHUP) | HANG_UP_EVENTS;
const READ_EVENTS: u32 = flag(libc::EPOLLIN) | END_EVENTS;
const WRITE_EVENTS: u32 = flag(libc::EPOLLOUT) | flag(libc::EPOLLHUP) | flag(libc::EPOLLERR);

#[expect(clippy::cast_sign_loss, reason = "a set of bits, of which the highest is one too")]
const fn flag(event: libc::c_int) -> u32 {
    event as u32
}

/// What is known of one descriptor, and who waits to know more.
pub(super) struct Readiness {
    readable: Cell<bool>,
    writable: Cell<bool>,
    /// The peer has ended its side, or the connection failed: reading never blocks again.
    ended: Cell<bool>,
    /// The connection failed, or both sides have ended it.
    hung_up: Cell<bool>,
    reader: Cell<Option<Waker>>,
    writer: Cell<Option<Waker>>,
    /// Waits for something else on behalf of the peer of this descriptor.
    on_behalf: Cell<Option<Waker>>,
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
            reader: Cell::default(),
            writer: Cell::default(),
            on_behalf: Cell::default(),
        }
    }
}

impl Readiness {
    /// Ready once reading is worth a try. One task at a time may wait.
    pub(super) fn poll_readable(&self, context: &Context<'_>) -> Poll<()> {
        poll(&self.readable, &self.reader, context)
    }

    /// Ready once writing is worth a try. One task at a time may wait.
    pub(super) fn poll_writable(&self, context: &Context<'_>) -> Poll<()> {
        poll(&self.writable, &self.writer, context)
    }

    /// Ready once the peer is gone: it has reset the connection, or ended its side where it may not
    /// (`may_finish`). One task at a time may wait.
    pub(super) fn poll_gone(&self, may_finish: bool, context: &Context<'_>) -> Poll<()> {
        let is_gone = if may_finish { &self.hung_up } else { &self.ended };
        poll(is_gone, &self.on_behalf, context)
    }

    /// Whether something may have arrived that was not read: bytes, or the end.
    pub(super) fn may_read(&self) -> bool {
        self.readable.get()
    }

    /// Notes that a read took everything that had arrived. What arrives later is reported.
    pub(super) fn drained(&self) {
        if !self.ended.get() {
            self.readable.set(false);
        }
    }

    /// Notes that a read took some of what had arrived, and perhaps not all.
    pub(super) fn may_have_more(&self) {
        self.readable.set(true);
    }

    /// Notes that a read would have blocked.
    pub(super) fn would_block_reading(&self) {
        self.readable.set(false);
    }

    /// Notes that a write would have blocked.
    pub(super) fn would_block_writing(&self) {
        self.writable.set(false);
    }

    /// Lets everybody look: this side has ended the descriptor.
    pub(super) fn end(&self) {
        self.note(END_EVENTS);
    }

    /// Lets everybody look: their time is over, and nothing has happened to the descriptor. The next
    /// call finds out whether it blocks.
    pub(super) fn wake(&self) {
        self.note(flag(libc::EPOLLIN) | flag(libc::EPOLLOUT));
    }

    fn note(&self, events: u32) {
        if events & END_EVENTS != 0 {
            self.ended.set(true);
            self.hung_up.set(self.hung_up.get() || events & HANG_UP_EVENTS != 0);
            self.on_behalf.take().into_iter().for_each(Waker::wake);
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

fn poll(ready: &Cell<bool>, waiting: &Cell<Option<Waker>>, context: &Context<'_>) -> Poll<()> {
    if ready.get() {
        return Poll::Ready(());
    }
    let known = waiting.take().filter(|waker| waker.will_wake(context.waker()));
    waiting.set(Some(known.unwrap_or_else(|| context.waker().clone())));
    Poll::Pending
}

/// What one look at the kernel brought.
pub(super) enum Event {
    /// Something happened to the descriptor that was added under this key.
    Of { key: u64, events: Events },
    /// [`Poller::ring`] was called since the last look.
    Bell,
}

/// What happened to one descriptor.
#[derive(Clone, Copy)]
pub(super) struct Events(u32);

impl Events {
    /// Passes them on to the descriptor's waiters.
    pub(super) fn note(self, readiness: &Readiness) {
        readiness.note(self.0);
    }
}

/// The epoll instance of one core. Belongs to the event loop of the thread that made it.
pub(super) struct Poller {
    epoll: OwnedFd,
    /// The same instance, as something that the event loop can wait for. Nothing is read from it.
    waited_for: UnixStream,
    /// Always readable, and reported once each time that it is asked for.
    bell: OwnedFd,
    events: RefCell<Vec<libc::epoll_event>>,
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
        };
        poller.control(libc::EPOLL_CTL_ADD, poller.bell.as_raw_fd(), libc::EPOLLONESHOT, BELL)?;
        Ok(poller)
    }

    /// Reports what happens to `fd` under `key` until it is closed. It must not be duplicated.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` reports.
    pub(super) fn add(&self, fd: RawFd, key: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, EVERYTHING, key)
    }

    /// Reports nothing of a descriptor that was added until it is asked for.
    pub(super) fn pause(&self, fd: RawFd, key: u64) {
        let _ = self.control(libc::EPOLL_CTL_MOD, fd, libc::EPOLLONESHOT, key);
    }

    /// Reports once when a paused descriptor can be read, or is readable already.
    pub(super) fn report_readable(&self, fd: RawFd, key: u64) {
        let once = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLONESHOT;
        let _ = self.control(libc::EPOLL_CTL_MOD, fd, once, key);
    }

    /// Reports everything of a paused descriptor again, what it holds already included.
    pub(super) fn resume(&self, fd: RawFd, key: u64) {
        let _ = self.control(libc::EPOLL_CTL_MOD, fd, EVERYTHING, key);
    }

    /// Makes the next look find [`Event::Bell`], and the event loop go round once without waiting.
    pub(super) fn ring(&self) {
        let once = libc::EPOLLIN | libc::EPOLLONESHOT;
        let _ = self.control(libc::EPOLL_CTL_MOD, self.bell.as_raw_fd(), once, BELL);
    }

    fn control(
        &self,
        operation: libc::c_int,
        fd: RawFd,
        events: libc::c_int,
        key: u64,
    ) -> io::Result<()> {
        let mut event = libc::epoll_event { events: flag(events), u64: key };
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
    pub(super) async fn changed(&self) -> io::Result<()> {
        self.waited_for.readable(false).await
    }

    /// Hands what has happened since the last look to `each`, without waiting. `each` must not look
    /// itself.
    pub(super) fn look(&self, mut each: impl FnMut(Event)) {
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
                key => each(Event::Of { key, events: Events(event.events) }),
            }
        }
    }
}

const EVERYTHING: libc::c_int = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;

const BELL_FLAGS: libc::c_int = libc::EFD_CLOEXEC | libc::EFD_NONBLOCK;

fn owned(fd: libc::c_int) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    #[expect(unsafe_code, reason = "takes ownership of the new descriptor")]
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
