//! The times of a connection, each of which runs by itself. What begins one and what ends it is
//! noted in every turn, so that nothing which happens in between puts it off.

use std::time::Duration;

use crate::{
    model::limits::Timeouts,
    system::{clock::Monotonic, reactor::TICK},
};

/// Something that a connection's deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// The first bytes of the client.
    Preface,
    /// The client's first frame.
    Settings,
    /// The rest of a field section, or of what may be one, by its first frame.
    Fields(u64),
    /// The client, which takes nothing.
    Room,
    /// A stream.
    Stream,
    /// Requests that were on their way when the client was told that the process stops.
    Last,
    /// Streams, which have deadlines of their own.
    Nothing,
}

/// Something that a client has begun and not completed.
#[derive(Clone, Copy, Debug)]
struct Begun {
    what: Waits,
    since: Monotonic,
    until: Monotonic,
}

/// The times of one connection. A time that has begun is not changed by a reload.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    begun: Option<Begun>,
    /// The end of the time without a stream.
    idle: Option<Monotonic>,
    /// The end of the time in which a request is still served.
    last: Option<Monotonic>,
}

impl Deadlines {
    /// Notes what the client has begun and not completed, and if there is no stream.
    pub(super) fn note(
        &mut self,
        now: Monotonic,
        begun: Option<Waits>,
        is_idle: bool,
        timeouts: &Timeouts,
    ) {
        // The present time may be one tick old.
        if self.begun.map(|begun| begun.what) != begun {
            let until = now.plus(timeouts.client_header + TICK);
            self.begun = begun.map(|what| Begun { what, since: now, until });
        }
        if !is_idle {
            self.idle = None;
        } else if self.idle.is_none() {
            self.idle = Some(now.plus(timeouts.client_idle + TICK));
        }
    }

    /// Notes that the client was told that the process stops: what it asks for is served for as
    /// long as `most`.
    pub(super) fn stop(&mut self, now: Monotonic, most: Duration) {
        self.last = Some(now.plus(most + TICK));
    }

    /// Returns true once nothing new is to be served, whatever the client has said to that.
    pub(super) fn is_stopped(&self, now: Monotonic) -> bool {
        self.last.is_some_and(|last| last <= now)
    }

    /// Returns what ends first, and when. `is_request`: what was begun is a field section for
    /// certain.
    /// `is_last`: the client was told already that nothing new is served.
    pub(super) fn first(&self, is_request: bool, is_last: bool) -> (Waits, Option<Monotonic>) {
        let (waits, until) = self.of_client(is_request);
        match self.last {
            Some(last) if !is_last && until.is_none_or(|until| last < until) => {
                (Waits::Last, Some(last))
            }
            _ => (waits, until),
        }
    }

    fn of_client(&self, is_request: bool) -> (Waits, Option<Monotonic>) {
        match (self.begun, self.idle) {
            (None, None) => (Waits::Nothing, None),
            (Some(begun), None) => (begun.what, Some(begun.until)),
            // A request that begins in time has the time of any head. A few bytes may be of any
            // frame, and one that begins later comes too late.
            (Some(begun), Some(idle))
                if begun.until <= idle || (is_request && begun.since < idle) =>
            {
                (begun.what, Some(begun.until))
            }
            (_, idle) => (Waits::Stream, idle),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_mins(1);

    fn timeouts() -> Timeouts {
        Timeouts { client_header: HEADER, client_idle: IDLE, ..Timeouts::default() }
    }

    #[test]
    fn what_begins_and_ends_puts_off_neither_its_own_end_nor_that_of_the_idle_time() {
        let start = Monotonic(1);
        let idle = Some(start.plus(IDLE + TICK));
        let mut deadlines = Deadlines::default();
        for second in 0..60 {
            let now = start.plus(Duration::from_secs(second));
            deadlines.note(now, Some(Waits::Fields(second / 7)), true, &timeouts());
            // The frame of which a few bytes are there began up to 7 s ago.
            let began = start.plus(Duration::from_secs(second / 7 * 7));
            let end = Some(began.plus(HEADER + TICK));
            let first = (Waits::Fields(second / 7), end);
            let expected = if end <= idle { first } else { (Waits::Stream, idle) };
            assert_eq!(deadlines.first(false, false), expected, "{second}");
            assert_eq!(deadlines.first(true, false), first, "{second}");
        }
        let late = start.plus(IDLE + TICK);
        deadlines.note(late, Some(Waits::Fields(9)), true, &timeouts());
        assert_eq!(deadlines.first(true, false), (Waits::Stream, idle));
        deadlines.note(late, None, false, &timeouts());
        assert_eq!(deadlines.first(false, false), (Waits::Nothing, None));
    }

    #[test]
    fn the_last_requests_have_their_time_whatever_else_is_waited_for() {
        let start = Monotonic(1);
        let end = start.plus(Duration::from_secs(1) + TICK);
        let mut deadlines = Deadlines::default();
        deadlines.note(start, None, false, &timeouts());
        deadlines.stop(start, Duration::from_secs(1));
        assert_eq!(deadlines.first(false, false), (Waits::Last, Some(end)));
        deadlines.note(start, Some(Waits::Fields(1)), true, &timeouts());
        assert_eq!(deadlines.first(true, false), (Waits::Last, Some(end)));
        assert!(!deadlines.is_stopped(start) && deadlines.is_stopped(end));
        assert_eq!(deadlines.first(true, true).0, Waits::Fields(1));
    }
}
