//! Moving body bytes between two sockets inside the kernel (`splice(2)`).

use std::{
    cell::RefCell,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use crate::system::socket::{Socket, would_block_is_none};

/// Size asked of the kernel for each pipe, in bytes: `/proc/sys/fs/pipe-max-size` by default.
const PIPE_BYTES: usize = 1_048_576;

/// The smallest pipe worth using, in bytes. An unprivileged user over its `pipe-user-pages-soft`
/// gets smaller ones without an error (`pipe(7)`); copying is faster than those.
const PIPE_BYTES_MIN: usize = 262_144;

/// Free pipes kept per core. Each pins at most `PIPE_BYTES` of kernel memory, and only while full.
const PIPES_FREE_MAX: usize = 16;

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

/// Pipes of one core.
#[derive(Debug, Default)]
pub struct Pipes {
    free: RefCell<Vec<Pipe>>,
}

impl Pipes {
    /// An empty pipe, or none when the kernel gives none that is large enough.
    pub fn take(&self) -> Option<Pipe> {
        let free = self.free.borrow_mut().pop();
        free.or_else(|| Pipe::new().ok().flatten())
    }

    /// Takes an empty pipe back; one that holds bytes is closed.
    pub fn give_back(&self, pipe: Pipe) {
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
    fn new() -> io::Result<Option<Self>> {
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
        let wanted = libc::c_int::try_from(PIPE_BYTES).unwrap_or(libc::c_int::MAX);
        // SAFETY: no pointers; both calls act on a descriptor that is open.
        #[expect(unsafe_code, reason = "fcntl on pipes has no safe wrapper in std")]
        let got = unsafe {
            libc::fcntl(write.as_raw_fd(), libc::F_SETPIPE_SZ, wanted);
            libc::fcntl(write.as_raw_fd(), libc::F_GETPIPE_SZ)
        };
        let capacity = usize::try_from(got).unwrap_or(0);
        Ok((capacity >= PIPE_BYTES_MIN).then_some(Self { read, write, capacity, filled: 0 }))
    }

    /// Moves up to `most` bytes from the socket into the pipe: `None` when the socket has none or
    /// the pipe is full, `Some(0)` at the end of the stream.
    pub fn fill(&mut self, from: &Socket, most: u64) -> io::Result<Option<usize>> {
        let room = self.capacity - self.filled.min(self.capacity);
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(room);
        let moved = splice(from.raw(), self.write.as_raw_fd(), most)?;
        match moved {
            Some(n) => {
                self.filled += n;
                // What is behind these bytes is unknown until a call finds nothing.
                from.watch().readiness.may_have_more();
            }
            // An empty pipe has room, so it is the socket that has nothing.
            None if self.filled == 0 => from.watch().readiness.would_block_reading(),
            None => {}
        }
        Ok(moved)
    }

    /// Moves bytes from the pipe into the socket: `None` when the socket takes none now.
    pub fn drain(&mut self, to: &Socket) -> io::Result<Option<usize>> {
        let moved = splice(self.read.as_raw_fd(), to.raw(), self.filled)?;
        self.filled -= moved.unwrap_or(0).min(self.filled);
        if self.filled > 0 {
            // It takes all that it has room for.
            to.watch().readiness.would_block_writing();
        }
        Ok(moved)
    }
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
