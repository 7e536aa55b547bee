//! Whole lines to a file, pipe or terminal that may fail in the middle of one.

use std::{
    io::{self, ErrorKind, Write},
    thread,
    time::Duration,
};

/// Pause before another attempt when a descriptor that somebody else made non-blocking (a shared
/// terminal or pipe) takes nothing.
const RETRY_DELAY: Duration = Duration::from_millis(5);

/// A failed write: the number of bytes that arrived, and the error.
pub(super) type Partial = (usize, io::Error);

/// Destination of lines. Remembers if the last line there is incomplete.
#[derive(Debug)]
pub(super) struct LineOutput<W> {
    inner: W,
    torn: bool,
}

impl<W: Write> LineOutput<W> {
    pub(super) const fn new(inner: W) -> Self {
        Self { inner, torn: false }
    }

    /// Writes whole lines; blocks as long as the other end does. After a failure in the middle of
    /// a line, the next call first ends that line.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Partial> {
        if self.torn {
            write_all(&mut self.inner, b"\n").map_err(|(_, error)| (0, error))?;
            self.torn = false;
        }
        write_all(&mut self.inner, lines).inspect_err(|(written, _)| {
            self.torn = *written > 0 && lines[written - 1] != b'\n';
        })
    }
}

/// Does what [`Write::write_all`] does, but waits for non-blocking descriptors, and returns the
/// number of bytes written with an error.
fn write_all(output: &mut impl Write, bytes: &[u8]) -> Result<(), Partial> {
    let mut written = 0;
    while written < bytes.len() {
        match output.write(&bytes[written..]) {
            Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => {}
                ErrorKind::WouldBlock => thread::sleep(RETRY_DELAY),
                _ => return Err((written, error)),
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Takes as many bytes as each step says, or fails.
    struct Script {
        steps: VecDeque<Result<usize, ErrorKind>>,
        taken: Vec<u8>,
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = match self.steps.pop_front() {
                Some(step) => step?.min(bytes.len()),
                None => bytes.len(),
            };
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn output(steps: &[Result<usize, ErrorKind>]) -> LineOutput<Script> {
        LineOutput::new(Script { steps: steps.iter().copied().collect(), taken: Vec::new() })
    }

    #[test]
    fn short_writes_and_interruptions_lose_nothing() {
        let mut output =
            output(&[Ok(1), Err(ErrorKind::Interrupted), Ok(2), Err(ErrorKind::WouldBlock)]);
        output.write(b"one\ntwo\n").unwrap();
        assert_eq!(output.inner.taken, b"one\ntwo\n");
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next() {
        let mut output = output(&[Ok(5), Err(ErrorKind::StorageFull), Err(ErrorKind::StorageFull)]);
        assert_eq!(output.write(b"one\ntwo\n").unwrap_err().0, 5);
        assert_eq!(output.write(b"lost\n").unwrap_err().0, 0);
        output.write(b"three\n").unwrap();
        assert_eq!(output.inner.taken, b"one\nt\nthree\n");
    }

    #[test]
    fn a_failure_between_lines_tears_nothing() {
        let mut output = output(&[Ok(4), Err(ErrorKind::BrokenPipe)]);
        assert_eq!(output.write(b"one\ntwo\n").unwrap_err().0, 4);
        output.write(b"three\n").unwrap();
        assert_eq!(output.inner.taken, b"one\nthree\n");
    }

    #[test]
    fn an_output_that_takes_nothing_is_an_error() {
        assert_eq!(output(&[Ok(0)]).write(b"x\n").unwrap_err().1.kind(), ErrorKind::WriteZero);
    }
}
