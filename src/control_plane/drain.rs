//! Stopping without losing a request: not ready, then no new connections, then the end.

use std::time::Duration;

use crate::{handoff::message::DrainStep, system::clock::Monotonic};

/// Time for responses on the admin listener once nothing else is left.
const ADMIN_GRACE: Duration = Duration::from_secs(1);

/// Progress of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    step: DrainStep,
    until: Monotonic,
    grace: Duration,
}

/// Next action of the control thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait at most so long for something to happen.
    Wait(Duration),
    /// Tell the workers to take this step.
    Step(DrainStep),
    /// End the process.
    Exit,
}

impl Drain {
    /// Starts at `now`; the workers have been told to be not ready.
    pub fn start(now: Monotonic, delay: Duration, grace: Duration) -> Self {
        Self { step: DrainStep::NotReady, until: now.plus(delay), grace }
    }

    /// Returns the next action at `now`; `busy` says that clients are left.
    pub fn next(&mut self, now: Monotonic, busy: bool) -> Next {
        let left = Duration::from_nanos(self.until.since(now));
        match self.step {
            DrainStep::Serving | DrainStep::NotReady if !left.is_zero() => Next::Wait(left),
            DrainStep::Serving | DrainStep::NotReady => {
                self.step = DrainStep::Closing;
                self.until = now.plus(self.grace);
                Next::Step(DrainStep::Closing)
            }
            DrainStep::Closing | DrainStep::AdminClosing if busy && !left.is_zero() => {
                Next::Wait(left)
            }
            DrainStep::Closing => {
                self.step = DrainStep::AdminClosing;
                self.until = now.plus(ADMIN_GRACE);
                Next::Step(DrainStep::AdminClosing)
            }
            DrainStep::AdminClosing | DrainStep::Ending => Next::Exit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn steps_come_in_order_and_in_time() {
        let start = Monotonic(1);
        let mut drain = Drain::start(start, SECOND, 2 * SECOND);
        assert_eq!(drain.next(start, true), Next::Wait(SECOND));
        let after_delay = start.plus(SECOND);
        assert_eq!(drain.next(after_delay, true), Next::Step(DrainStep::Closing));
        assert_eq!(drain.next(after_delay, true), Next::Wait(2 * SECOND));
        let later = after_delay.plus(2 * SECOND);
        assert_eq!(drain.next(later, true), Next::Step(DrainStep::AdminClosing));
        assert_eq!(drain.next(later, true), Next::Wait(ADMIN_GRACE));
        assert_eq!(drain.next(later.plus(ADMIN_GRACE), true), Next::Exit);
    }

    #[test]
    fn nobody_is_waited_for_when_nobody_is_there() {
        let mut drain = Drain::start(Monotonic(1), Duration::ZERO, SECOND);
        assert_eq!(drain.next(Monotonic(1), false), Next::Step(DrainStep::Closing));
        assert_eq!(drain.next(Monotonic(1), false), Next::Step(DrainStep::AdminClosing));
        assert_eq!(drain.next(Monotonic(1), false), Next::Exit);
    }
}
