//! Bytes that one socket has handed over to be sent with others, as far as they are not settled.

use std::{cell::Cell, fmt, io};

/// The state of what a socket has handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing, or all of it was taken.
    #[default]
    Settled,
    /// It goes out at the end of the turn.
    Queued,
    /// The kernel has not taken all.
    Left,
}

/// Bytes that a socket has handed over, as far as they are not settled.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) state: Cell<State>,
    left: Cell<Option<Box<Left>>>,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("state", &self.state).finish_non_exhaustive()
    }
}

/// Bytes of a send that the kernel did not take.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) bytes: Vec<u8>,
    /// Number of bytes that it did take, of all.
    pub(super) taken: usize,
    /// The number of the error that ended it, if it was one.
    pub(super) error: Option<i32>,
}

impl Left {
    /// Notes that the socket failed.
    pub(super) fn fail(&mut self, error: &io::Error) {
        self.error = Some(error.raw_os_error().unwrap_or(libc::EIO));
    }

    /// Bytes that are to be sent still.
    ///
    /// # Errors
    /// The socket failed.
    pub(super) fn rest(&self) -> io::Result<&[u8]> {
        match self.error {
            None => Ok(self.bytes.get(self.taken..).unwrap_or_default()),
            Some(error) => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

impl Outgoing {
    pub(super) fn state(&self) -> State {
        self.state.get()
    }

    /// Takes what is left; then there is nothing.
    pub(super) fn take_left(&self) -> Option<Box<Left>> {
        if self.state.get() == State::Left {
            self.state.set(State::Settled);
        }
        self.left.take()
    }

    /// Puts back what is left.
    pub(super) fn leave(&self, left: Box<Left>) {
        self.left.set(Some(left));
        self.state.set(State::Left);
    }
}
