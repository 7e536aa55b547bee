//! Waits that have lasted for a tick: what is known of their sockets is checked against the kernel.

use std::cell::RefCell;

use crate::system::readiness::Readiness;

/// Sockets that somebody waits for, each listed once, by the tick in which the wait began.
#[derive(Debug, Default)]
pub(super) struct LastingWaits {
    of_this_tick: RefCell<Vec<Wait>>,
    of_last_tick: RefCell<Vec<Wait>>,
}

#[derive(Debug)]
struct Wait {
    slot: usize,
    /// Which of the socket's waits it is.
    number: u32,
}

impl LastingWaits {
    /// Lists a wait for the socket at `slot` that has just started, unless the socket is listed.
    pub(super) fn begin(&self, slot: usize, readiness: &Readiness) {
        if !readiness.listed.replace(true) {
            self.of_this_tick.borrow_mut().push(Wait { slot, number: readiness.waits.get() });
        }
    }

    /// Slots of the sockets for which one and the same wait has lasted for a tick. Each wait is
    /// named once. Call it each tick.
    pub(super) fn due<'r>(&self, of: impl Fn(usize) -> Option<&'r Readiness>) -> Vec<usize> {
        let started = self.of_this_tick.take();
        let lasted = self.of_last_tick.replace(started);
        let mut of_this_tick = self.of_this_tick.borrow_mut();
        let mut due = Vec::new();
        for Wait { slot, number } in lasted {
            let Some(readiness) = of(slot) else { continue };
            if !readiness.is_awaited() {
                readiness.listed.set(false);
            } else if readiness.waits.get() == number {
                readiness.listed.set(false);
                due.push(slot);
            } else {
                of_this_tick.push(Wait { slot, number: readiness.waits.get() });
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    fn wait(waits: &LastingWaits, readiness: &Readiness) {
        let context = Context::from_waker(Waker::noop());
        assert!(readiness.poll_readable(&context).is_pending());
        waits.begin(0, readiness);
    }

    #[test]
    fn a_wait_is_due_once_after_a_whole_tick() {
        let (waits, readiness) = (LastingWaits::default(), Readiness::default());
        let due = || waits.due(|_| Some(&readiness));
        wait(&waits, &readiness);
        // The tick in which it began was over sooner than a whole one.
        assert!(due().is_empty());
        assert_eq!(due(), [0]);
        for _ in 0..5 {
            assert!(due().is_empty());
        }
    }

    #[test]
    fn a_socket_that_is_waited_for_again_and_again_is_not_due() {
        let (waits, readiness) = (LastingWaits::default(), Readiness::default());
        for _ in 0..5 {
            wait(&waits, &readiness);
            readiness.end();
            readiness.spliced(None, 0);
            wait(&waits, &readiness);
            assert!(waits.due(|_| Some(&readiness)).is_empty());
        }
        // The last of these waits goes on.
        let due: Vec<_> = (0..3).map(|_| waits.due(|_| Some(&readiness))).collect();
        assert_eq!(due.iter().filter(|due| !due.is_empty()).count(), 1, "{due:?}");
    }

    #[test]
    fn a_socket_that_nobody_waits_for_any_more_is_not_due() {
        let (waits, readiness) = (LastingWaits::default(), Readiness::default());
        wait(&waits, &readiness);
        readiness.end();
        assert!(waits.due(|_| Some(&readiness)).is_empty());
        assert!(waits.due(|_| Some(&readiness)).is_empty());
    }
}
