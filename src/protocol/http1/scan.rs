//! Search for the end of a head, resumed where it stopped: a head that dribbles in costs linear
//! time.

use memchr::memchr;

/// Progress of the search for the empty line that ends a head.
///
/// A head that arrives whole never needs it. Any other is parsed only when its end has been
/// found; until then each byte is looked at once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeadScan {
    searched: usize,
    line_start: usize,
    lines: usize,
    empty_lines: usize,
}

/// Result of [`HeadScan::advance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scanned {
    /// The empty line that ends the head is in the buffer.
    Terminated,
    /// It is not there yet.
    Partial,
}

impl HeadScan {
    /// Returns true once bytes of an unfinished head have been seen.
    pub(super) const fn is_started(&self) -> bool {
        self.searched > 0
    }

    /// Finished lines so far: the start line and the fields.
    pub(super) const fn lines(&self) -> usize {
        self.lines
    }

    /// Offset of the line that is not finished yet.
    pub(super) const fn line_start(&self) -> usize {
        self.line_start
    }

    /// Looks at the bytes that are new since the last call. `buf` holds the head from its
    /// first byte. Up to `empty_lines_max` empty lines may come before the start line.
    ///
    /// # Errors
    /// The reason, if a line ends in a bare LF or too many empty lines come first.
    pub(super) fn advance(
        &mut self,
        buf: &[u8],
        empty_lines_max: usize,
    ) -> Result<Scanned, &'static str> {
        while let Some(found) = memchr(b'\n', buf.get(self.searched..).unwrap_or_default()) {
            let line_feed = self.searched + found;
            if line_feed == self.line_start || buf[line_feed - 1] != b'\r' {
                return Err("a line ends in LF alone");
            }
            let is_empty = line_feed - self.line_start == 1;
            if is_empty && self.lines > 0 {
                return Ok(Scanned::Terminated);
            }
            if is_empty {
                self.empty_lines += 1;
                if self.empty_lines > empty_lines_max {
                    return Err("more than one empty line is before the start line");
                }
            } else {
                self.lines += 1;
            }
            self.searched = line_feed + 1;
            self.line_start = self.searched;
        }
        self.searched = self.searched.max(buf.len());
        Ok(Scanned::Partial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_looked_at_once_and_the_end_is_found() {
        let head = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut scan = HeadScan::default();
        for end in 1..head.len() {
            assert_eq!(scan.advance(&head[..end], 1), Ok(Scanned::Partial));
            assert_eq!(scan.searched, end);
        }
        assert_eq!(scan.advance(head, 1), Ok(Scanned::Terminated));
        assert_eq!(scan.lines(), 2);
    }

    #[test]
    fn a_bare_line_feed_is_refused_as_soon_as_it_arrives() {
        assert!(HeadScan::default().advance(b"GET / HTTP/1.1\n", 1).is_err());
        assert!(HeadScan::default().advance(b"\n", 1).is_err());
    }

    #[test]
    fn only_so_many_empty_lines_may_come_first() {
        assert_eq!(HeadScan::default().advance(b"\r\nGET", 1), Ok(Scanned::Partial));
        assert!(HeadScan::default().advance(b"\r\n\r\nGET", 1).is_err());
        assert!(HeadScan::default().advance(b"\r\nHTTP", 0).is_err());
    }
}
