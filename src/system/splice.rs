//! Moving body bytes between two sockets inside the kernel (`splice(2)`).

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use crate::system::{clock::Monotonic, fd::would_block_is_none, socket::Socket};

/// Size asked of the kernel for the first pipes of a core for long bodies, in bytes:
/// `/proc/sys/fs/pipe-max-size` by default.
const PIPE_BYTES: usize = 1_048_576;

/// Such pipes in use on a core up to which they are of that size. More of them are as small as is
/// worth using, so that four times as many fit an unprivileged user's `pipe-user-pages-soft`
/// (`pipe(7)`), 64 MiB by default.
const LARGE_PIPES_MAX: usize = 16;

/// The smallest pipe worth using, in bytes. An unprivileged user over its `pipe-user-pages-soft`
/// gets smaller ones without an error (`pipe(7)`); copying is faster than those.
const PIPE_BYTES_MIN: usize = 262_144;

/// Free pipes kept per core for long bodies, and pipes for short ones. Each pins at most its size
/// of kernel memory, and only while full.
const PIPES_FREE_MAX: usize = 16;

/// Descriptors of pipes that a core may keep though no body is moved.
pub const IDLE_DESCRIPTORS_MAX: usize = 2 * 2 * PIPES_FREE_MAX;

/// Bytes from which on what is left of a body is long: worth a pipe that is made for it if none is
/// free, which takes five system calls with its end, and other calls that only pay off when much is
/// to come. Short ones share a few pipes of a core.
pub const LONG_BYTES_MIN: u64 = 524_288;

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
    long: Pool,
    short: Pool,
    refused: Cell<Option<Monotonic>>,
}

/// Pipes for bodies of one kind.
#[derive(Debug, Default)]
struct Pool {
    free: RefCell<Vec<Pipe>>,
    in_use: Cell<usize>,
}

impl Pipes {
    /// An empty pipe for so many bytes. None when the kernel gives none that is large enough, or
    /// gave none lately, and when the bytes are few and the pipes for such are in use.
    pub fn take(&self, bytes: u64, now: Monotonic) -> Option<PipeInUse<'_>> {
        let is_long = bytes >= LONG_BYTES_MIN;
        let pool = if is_long { &self.long } else { &self.short };
        let in_use = pool.in_use.get();
        if !is_long && in_use >= PIPES_FREE_MAX {
            return None;
        }
        let size = if is_long && in_use < LARGE_PIPES_MAX { PIPE_BYTES } else { PIPE_BYTES_MIN };
        let pipe = self.take_or_make(pool, now, || Pipe::new(size).ok().flatten())?;
        pool.in_use.set(in_use + 1);
        Some(PipeInUse { pipe: Some(pipe), pool })
    }

    fn take_or_make(
        &self,
        pool: &Pool,
        now: Monotonic,
        make: impl FnOnce() -> Option<Pipe>,
    ) -> Option<Pipe> {
        if let Some(pipe) = pool.free.borrow_mut().pop() {
            return Some(pipe);
        }
        if self.refused.get().is_some_and(|at| now.since(at) < REFUSED_PAUSE_NS) {
            return None;
        }
        let pipe = make();
        self.refused.set(pipe.is_none().then_some(now));
        pipe
    }

    /// Closes the free pipes.
    pub fn shrink(&self) {
        self.long.free.borrow_mut().clear();
        self.short.free.borrow_mut().clear();
    }
}

/// A pipe that goes back to its core when dropped, or is closed if it holds bytes.
#[derive(Debug)]
pub struct PipeInUse<'p> {
    /// None only while it is dropped.
    pipe: Option<Pipe>,
    pool: &'p Pool,
}

impl PipeInUse<'_> {
    /// The pipe.
    pub fn pipe(&mut self) -> Option<&mut Pipe> {
        self.pipe.as_mut()
    }
}

impl Drop for PipeInUse<'_> {
    fn drop(&mut self) {
        self.pool.in_use.set(self.pool.in_use.get().saturating_sub(1));
        let mut free = self.pool.free.borrow_mut();
        if let Some(pipe) = self.pipe.take().filter(|pipe| pipe.filled == 0)
            && free.len() < PIPES_FREE_MAX
        {
            free.push(pipe);
        }
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
            assert!(pipes.take_or_make(&pipes.long, now, refuse).is_none());
        }
        assert_eq!(asked.get(), 1);
        assert!(pipes.take_or_make(&pipes.short, start.plus(pause), refuse).is_none());
        assert_eq!(asked.get(), 2);
        let later = start.plus(pause * 2);
        drop(pipes.take(u64::MAX, later).unwrap());
        // A free one is taken whatever happened before.
        let none = || panic!("there is a free one");
        assert!(pipes.take_or_make(&pipes.long, later, none).is_some());
    }

    #[test]
    fn only_the_first_pipes_of_long_bodies_are_large() {
        let pipes = Pipes::default();
        let now = Monotonic(1);
        let mut taken: Vec<_> =
            (0..=LARGE_PIPES_MAX).map(|_| pipes.take(LONG_BYTES_MIN, now).unwrap()).collect();
        let mut short = pipes.take(LONG_BYTES_MIN - 1, now).unwrap();
        assert_eq!(short.pipe().unwrap().capacity, PIPE_BYTES_MIN);
        let (last, first) = taken.split_last_mut().unwrap();
        assert_eq!(last.pipe().unwrap().capacity, PIPE_BYTES_MIN);
        // Less where the user has used up its pages.
        let most = Pipe::new(PIPE_BYTES).unwrap().unwrap().capacity;
        assert!(first.iter_mut().all(|pipe| pipe.pipe().unwrap().capacity >= most));
        drop(taken);
        assert_eq!((pipes.long.in_use.get(), pipes.short.in_use.get()), (0, 1));
        assert_eq!(pipes.long.free.borrow().len(), PIPES_FREE_MAX);
    }

    #[test]
    fn short_bodies_share_a_few_pipes_whatever_long_ones_use() {
        let pipes = Pipes::default();
        let now = Monotonic(1);
        let short = LONG_BYTES_MIN - 1;
        let long: Vec<_> =
            (0..=PIPES_FREE_MAX).map(|_| pipes.take(LONG_BYTES_MIN, now).unwrap()).collect();
        let mut taken: Vec<_> =
            (0..PIPES_FREE_MAX).map(|_| pipes.take(short, now).unwrap()).collect();
        assert!(pipes.take(short, now).is_none());
        drop(long);
        assert!(pipes.take(short, now).is_none());
        taken.pop();
        assert!(pipes.take(short, now).is_some());
        // What is left in one is not for another body.
        let mut last = pipes.take(short, now).unwrap();
        last.pipe().unwrap().filled = 1;
        drop(last);
        assert_eq!(pipes.short.free.borrow().len(), 0);
        assert!(pipes.take(short, now).is_some());
    }
}
