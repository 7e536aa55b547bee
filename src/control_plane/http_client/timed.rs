//! A socket with one deadline for everything.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::system::clock::Monotonic;

/// A blocking socket that gives up at its deadline, however slowly bytes drip in: a timeout of the
/// socket alone would start anew with each of them.
#[derive(Debug)]
pub(super) struct Timed {
    stream: TcpStream,
    deadline: Monotonic,
}

impl Timed {
    pub(super) const fn new(stream: TcpStream, deadline: Monotonic) -> Self {
        Self { stream, deadline }
    }

    fn left(&self) -> io::Result<Duration> {
        let left = Duration::from_nanos(self.deadline.since(Monotonic::now()));
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(into)
    }
}

impl Write for Timed {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
