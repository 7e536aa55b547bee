//! Moving body bytes between two sockets inside the kernel (`splice(2)`).

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use crate::system::{clock::Monotonic, fd::would_block_is_none, socket::Socket};

/// Size asked of the kernel for the first pipes of a core, in bytes:
/// `/proc/sys/fs/pipe-max-size` by default.
const PIPE_BYTES: usize = 1_048_576;

/// Pipes in use on a core up to which they are of that size. More of them are as small as is worth
/// using, so that four times as many fit an unprivileged user's `pipe-user-pages-soft` (`pipe(7)`),
/// 64 MiB by default.
const LARGE_PIPES_MAX: usize = 16;

/// The smallest pipe worth using, in bytes. An unprivileged user over its `pipe-user-pages-soft`
/// gets smaller ones without an error (`pipe(7)`); copying is faster than those.
const PIPE_BYTES_MIN: usize = 262_144;

/// Free pipes kept per core. Each pins at most `PIPE_BYTES` of kernel memory, and only while full.
const PIPES_FREE_MAX: usize = 16;

/// Length of a body, in bytes, from which on it is worth a pipe of its own, where those that are
/// kept are in use: to make one and to close it takes five system calls.
const NEW_PIPE_BYTES_MIN: u64 = 524_288;

/// A pipe, with the number of bytes in it.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// Capacity in bytes, as the kernel reports it.
    pub capacity: usize,
    /// Bytes that were moved in and not yet out.
    pub filled: usize,
}

/// Time without asking the kernel for a pipe after it gave none that is large enough: asking costs
/// five system calls, for each wait of each body that is copied instead.
const REFUSED_PAUSE_NS: u64 = 1_000_000_000;

/// Pipes of one core.
#[derive(Debug, Default)]
pub struct Pipes {
    free: RefCell<Vec<Pipe>>,
    in_use: Cell<usize>,
    refused: Cell<Option<Monotonic>>,
}

impl Pipes {
    /// An empty pipe for so many bytes. None when the kernel gives none that is large enough, or
    /// gave none lately, or when a pipe made for these bytes alone would cost more than to copy
    /// them.
    pub fn take(&self, bytes: u64, now: Monotonic) -> Option<Pipe> {
        if bytes < NEW_PIPE_BYTES_MIN && self.in_use.get() >= PIPES_FREE_MAX {
            return None;
        }
        let size = if self.in_use.get() < LARGE_PIPES_MAX { PIPE_BYTES } else { PIPE_BYTES_MIN };
        let pipe = self.take_or_make(now, || Pipe::new(size).ok().flatten())?;
        self.in_use.set(self.in_use.get() + 1);
        Some(pipe)
    }

    fn take_or_make(&self, now: Monotonic, make: impl FnOnce() -> Option<Pipe>) -> Option<Pipe> {
        if let Some(pipe) = self.free.borrow_mut().pop() {
            return Some(pipe);
        }
        if self.refused.get().is_some_and(|at| now.since(at) < REFUSED_PAUSE_NS) {
            return None;
        }
        let pipe = make();
        self.refused.set(pipe.is_none().then_some(now));
        pipe
    }

    /// Takes an empty pipe back; one that holds bytes is closed.
    pub fn give_back(&self, pipe: Pipe) {
        self.in_use.set(self.in_use.get().saturating_sub(1));
        let mut free = self.free.borrow_mut();
        if pipe.filled == 0 && free.len() < PIPES_FREE_MAX {
            free.push(pipe);
        }
    }

    /// Closes the free pipes.
    pub fn shrink(&self) {
        self.free.borrow_mut().clear();
    }
}

impl Pipe {
    /// A pipe of `size` bytes, or at least of [`PIPE_BYTES_MIN`], if the kernel gives one.
    fn new(size: usize) -> io::Result<Option<Self>> {
        let mut fds: [RawFd; 2] = [-1; 2];
        // SAFETY: the pointer is to two live integers, which is what pipe2 writes.
        #[expect(unsafe_code, reason = "pipe2 with O_NONBLOCK has no safe wrapper in std")]
        let made = unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) };
        if made != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us both descriptors; nobody else owns them.
        #[expect(unsafe_code, reason = "takes ownership of the new descriptors")]
        let (read, write) = unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) };
        let capacity = resize(&write, size)
            .filter(|capacity| *capacity >= PIPE_BYTES_MIN)
            .or_else(|| resize(&write, PIPE_BYTES_MIN))
            .unwrap_or(0);
        Ok((capacity >= PIPE_BYTES_MIN).then_some(Self { read, write, capacity, filled: 0 }))
    }

    /// Moves up to `most` bytes from the socket into the pipe: `None` when the socket has none or
    /// the pipe is full, `Some(0)` at the end of the stream.
    pub fn fill(&mut self, from: &Socket, most: u64) -> io::Result<Option<usize>> {
        let room = self.capacity - self.filled.min(self.capacity);
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(room);
        let moved = splice(from.raw(), self.write.as_raw_fd(), most)?;
        from.registration().readiness.spliced(moved, self.filled);
        self.filled += moved.unwrap_or(0);
        Ok(moved)
    }

    /// Moves bytes from the pipe into the socket: `None` when the socket takes none now. Moving
    /// less than the pipe holds does not mean that the socket is full.
    pub fn empty(&mut self, to: &Socket) -> io::Result<Option<usize>> {
        to.registration().let_sends_go();
        if !to.settle()? {
            return Ok(None);
        }
        let moved = splice(self.read.as_raw_fd(), to.raw(), self.filled)?;
        self.filled -= moved.unwrap_or(0).min(self.filled);
        to.registration().readiness.wrote(moved);
        Ok(moved)
    }
}

/// Asks for a size of `bytes`; the size that the pipe has then.
fn resize(pipe: &OwnedFd, bytes: usize) -> Option<usize> {
    let wanted = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    // SAFETY: no pointers; both calls act on a descriptor that is open.
    #[expect(unsafe_code, reason = "fcntl on pipes has no safe wrapper in std")]
    let got = unsafe {
        libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, wanted);
        libc::fcntl(pipe.as_raw_fd(), libc::F_GETPIPE_SZ)
    };
    usize::try_from(got).ok()
}

fn splice(from: RawFd, to: RawFd, most: usize) -> io::Result<Option<usize>> {
    // SAFETY: no offsets are passed (null is allowed for sockets and pipes), and both descriptors
    // are open for as long as their owners, which the callers borrow.
    #[expect(unsafe_code, reason = "splice has no safe wrapper in std")]
    let call = || unsafe {
        libc::splice(
            from,
            std::ptr::null_mut(),
            to,
            std::ptr::null_mut(),
            most,
            libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK,
        )
    };
    would_block_is_none(call)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_kernel_that_gives_no_pipe_is_asked_again_after_a_pause() {
        let pipes = Pipes::default();
        let asked = Cell::new(0);
        let refuse = || {
            asked.set(asked.get() + 1);
            None
        };
        let start = Monotonic(1);
        let pause = Duration::from_nanos(REFUSED_PAUSE_NS);
        for now in [start, start, start.plus(pause / 2)] {
            assert!(pipes.take_or_make(now, refuse).is_none());
        }
        assert_eq!(asked.get(), 1);
        assert!(pipes.take_or_make(start.plus(pause), refuse).is_none());
        assert_eq!(asked.get(), 2);
        let later = start.plus(pause * 2);
        let pipe = pipes.take_or_make(later, || Pipe::new(PIPE_BYTES).unwrap()).unwrap();
        pipes.give_back(pipe);
        // A free one is taken whatever happened before.
        assert!(pipes.take_or_make(later, || panic!("there is a free one")).is_some());
    }

    #[test]
    fn only_the_first_pipes_in_use_are_large() {
        let pipes = Pipes::default();
        let now = Monotonic(1);
        let taken: Vec<_> =
            (0..=LARGE_PIPES_MAX).map(|_| pipes.take(u64::MAX, now).unwrap()).collect();
        let (last, first) = taken.split_last().unwrap();
        assert_eq!(last.capacity, PIPE_BYTES_MIN);
        assert!(first.iter().all(|pipe| pipe.capacity >= PIPE_BYTES_MIN));
        for pipe in taken {
            pipes.give_back(pipe);
        }
        assert_eq!(pipes.in_use.get(), 0);
    }

    #[test]
    fn a_short_body_gets_no_pipe_of_its_own() {
        let pipes = Pipes::default();
        let now = Monotonic(1);
        let short = NEW_PIPE_BYTES_MIN - 1;
        let mut taken: Vec<_> =
            (0..PIPES_FREE_MAX).map(|_| pipes.take(short, now).unwrap()).collect();
        assert!(pipes.take(short, now).is_none());
        taken.push(pipes.take(NEW_PIPE_BYTES_MIN, now).unwrap());
        for pipe in taken.drain(..2) {
            pipes.give_back(pipe);
        }
        assert!(pipes.take(short, now).is_some());
        assert!(pipes.take(short, now).is_none());
    }
}
