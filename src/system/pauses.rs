//! Going to sleep less often.
//!
//! Each time that a sleeping core is woken costs it some microseconds: more than it then needs for
//! what woke it. Under load its sockets are quiet for a few microseconds at a time, many thousand
//! times a second. A core that finds them so may pause instead: it sleeps for a while in which
//! nothing wakes it, and then finds many events at once. Network cards moderate their interrupts
//! for the same reason (`ethtool(8)`, `rx-usecs`).
//!
//! What a pause costs is time. So it is short against the time that S3 takes to begin a response,
//! and a core on which pauses do not bring events together stops making them.

use std::{cell::Cell, fmt, time::Duration};

use crate::system::process;

/// A pause takes at most this part of the time that S3 takes to begin a response.
const PART_OF_FIRST_BYTE: u64 = 4;

/// The longest pause, in nanoseconds.
const LONGEST_NS: u64 = 200_000;

/// A pause that would be shorter, in nanoseconds, costs as much as it saves.
const SHORTEST_NS: u64 = 40_000;

/// The longest time to a first byte that counts, in nanoseconds, so that a single slow response
/// does not make up for many fast ones.
const FIRST_BYTE_MAX_NS: u64 = 2 * PART_OF_FIRST_BYTE * LONGEST_NS;

/// A new time to a first byte counts for this part of the mean.
const PART_OF_MEAN: u64 = 16;

/// Sleeps without a response of S3 after which what is known of S3 no longer counts.
const SLEEPS_KNOWN: u32 = 64;

/// Tasks that must run after a pause for it to be worth its cost. An event of a listener is one
/// event, and a task for each connection.
const RUNS_MIN: u64 = 5;

/// Ordinary sleeps after a pause that was not worth it: at least and at most.
const ORDINARY_MIN: u32 = 4;
const ORDINARY_MAX: u32 = 1_024;

/// Which pauses a core makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PausesChoice {
    /// Those that bring events together.
    #[default]
    Usual,
    /// None.
    Never,
    /// One of this length whenever there is nothing to do, in microseconds.
    Always(u32),
}

impl PausesChoice {
    /// Reads `never` or a number of microseconds; anything else is the usual choice.
    pub fn parse(text: &str) -> Self {
        match text.parse() {
            Ok(micros) => Self::Always(micros),
            Err(_) if text == "never" => Self::Never,
            Err(_) => Self::Usual,
        }
    }
}

/// The pauses of one core.
pub struct Pauses {
    choice: PausesChoice,
    /// Mean time that S3 takes to begin a response, in nanoseconds.
    first_byte_ns: Cell<u64>,
    /// Sleeps for which that still counts.
    known: Cell<u32>,
    /// Sleeps that are to be ordinary before the next pause.
    ordinary: Cell<u32>,
    /// The same after the next pause that is not worth it.
    penalty: Cell<u32>,
    /// Runs of tasks before the present turn, if it is the first one after a pause.
    runs_before: Cell<Option<u64>>,
    /// What happens in the next pause, instead of it.
    #[cfg(test)]
    meanwhile: Cell<Option<Box<dyn FnOnce()>>>,
}

impl fmt::Debug for Pauses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pauses").field("choice", &self.choice).finish_non_exhaustive()
    }
}

impl Pauses {
    /// The pauses of the calling thread. None are made if the kernel does not end them in time.
    pub(super) fn new(choice: PausesChoice) -> Self {
        let are_kept = choice == PausesChoice::Never || process::let_sleeps_end_in_time();
        Self {
            choice: if are_kept { choice } else { PausesChoice::Never },
            first_byte_ns: Cell::new(0),
            known: Cell::new(0),
            ordinary: Cell::new(0),
            penalty: Cell::new(ORDINARY_MIN),
            runs_before: Cell::new(None),
            #[cfg(test)]
            meanwhile: Cell::new(None),
        }
    }

    /// Notes that S3 took so long to begin a response, in nanoseconds.
    #[inline]
    pub fn note_first_byte(&self, after_ns: u64) {
        let mean = self.first_byte_ns.get();
        let new = after_ns.min(FIRST_BYTE_MAX_NS);
        self.first_byte_ns.set(mean - mean / PART_OF_MEAN + new / PART_OF_MEAN);
        self.known.set(SLEEPS_KNOWN);
    }

    /// Whether the core may pause when it finds nothing to do.
    pub(super) fn are_possible(&self) -> bool {
        match self.choice {
            PausesChoice::Usual => self.length_ns() >= SHORTEST_NS,
            PausesChoice::Never => false,
            PausesChoice::Always(_) => true,
        }
    }

    /// The core has nothing to do and is about to sleep. Returns how long it is to pause first.
    pub(super) fn next(&self) -> Option<Duration> {
        if let PausesChoice::Always(micros) = self.choice {
            return Some(Duration::from_micros(micros.into()));
        }
        // A core that answers without S3 has nothing to measure a pause by.
        self.known.set(self.known.get().checked_sub(1)?);
        if let Some(left) = self.ordinary.get().checked_sub(1) {
            self.ordinary.set(left);
            return None;
        }
        Some(Duration::from_nanos(self.length_ns()))
    }

    /// Makes a pause, after so many runs of tasks.
    pub(super) fn make(&self, pause: Duration, runs: u64) {
        self.runs_before.set(Some(runs));
        #[cfg(test)]
        if let Some(meanwhile) = self.meanwhile.take() {
            return meanwhile();
        }
        std::thread::sleep(pause);
    }

    /// Does this instead of the next pause.
    #[cfg(test)]
    pub(super) fn in_next(&self, meanwhile: impl FnOnce() + 'static) {
        self.meanwhile.set(Some(Box::new(meanwhile)));
    }

    /// A turn is over, after so many runs of tasks. Judges by them the pause before it, if there
    /// was one.
    #[inline]
    pub(super) fn end_turn(&self, runs: u64) {
        if let Some(before) = self.runs_before.take() {
            self.judge(runs.wrapping_sub(before));
        }
    }

    fn judge(&self, runs: u64) {
        let penalty = self.penalty.get();
        if runs >= RUNS_MIN {
            self.penalty.set((penalty / 2).max(ORDINARY_MIN));
        } else {
            self.ordinary.set(penalty);
            self.penalty.set((penalty * 2).min(ORDINARY_MAX));
        }
    }

    fn length_ns(&self) -> u64 {
        (self.first_byte_ns.get() / PART_OF_FIRST_BYTE).min(LONGEST_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual() -> Pauses {
        Pauses::new(PausesChoice::Usual)
    }

    /// Lets S3 begin responses after so long until nothing else counts.
    fn settle(pauses: &Pauses, after: Duration) {
        for _ in 0..1_000 {
            pauses.note_first_byte(u64::try_from(after.as_nanos()).unwrap());
        }
    }

    /// Sleeps so often, each time after a response of S3. Each pause makes so many tasks run.
    /// Returns the number of pauses.
    fn sleep(pauses: &Pauses, times: usize, runs: u64) -> usize {
        let each = |_| {
            settle(pauses, Duration::from_millis(1));
            let Some(pause) = pauses.next() else { return false };
            assert!(pause > Duration::ZERO);
            pauses.in_next(|| ());
            pauses.make(pause, 0);
            pauses.end_turn(runs);
            true
        };
        (0..times).filter(|time| each(*time)).count()
    }

    #[test]
    fn a_pause_is_short_against_the_time_that_s3_takes() {
        for (first_byte_us, pause_us) in [(200, 50), (400, 100), (700, 175), (5_000, 200)] {
            let pauses = usual();
            settle(&pauses, Duration::from_micros(first_byte_us));
            assert!(pauses.are_possible());
            let pause = pauses.next().unwrap();
            let most = Duration::from_micros(pause_us);
            assert!(pause <= most && pause > most - Duration::from_micros(1), "{pause:?}");
        }
    }

    #[test]
    fn there_is_no_pause_where_s3_is_fast_or_unknown() {
        let pauses = usual();
        assert!(!pauses.are_possible());
        settle(&pauses, Duration::from_micros(150));
        assert!(!pauses.are_possible());
        settle(&pauses, Duration::from_millis(1));
        assert!(pauses.are_possible());
        settle(&pauses, Duration::from_micros(150));
        assert!(!pauses.are_possible());
    }

    #[test]
    fn one_slow_response_does_not_make_up_for_fast_ones() {
        let pauses = usual();
        settle(&pauses, Duration::from_micros(150));
        pauses.note_first_byte(u64::MAX);
        assert!(pauses.next().unwrap() < Duration::from_micros(70));
    }

    #[test]
    fn pauses_that_bring_little_get_rare_and_come_back() {
        let pauses = usual();
        assert_eq!(sleep(&pauses, 1_000, RUNS_MIN), 1_000);
        assert!(sleep(&pauses, 10_000, RUNS_MIN - 1) < 20);
        assert!(sleep(&pauses, 3_000, RUNS_MIN) > 0);
        assert_eq!(sleep(&pauses, 1_000, RUNS_MIN), 1_000);
    }

    #[test]
    fn a_core_that_answers_without_s3_does_not_pause() {
        let pauses = usual();
        settle(&pauses, Duration::from_millis(1));
        let made = (0..1_000).filter(|_| pauses.next().is_some()).count();
        assert!((1..100).contains(&made), "{made}");
    }

    #[test]
    fn the_choice_is_obeyed() {
        let never = Pauses::new(PausesChoice::parse("never"));
        settle(&never, Duration::from_millis(1));
        assert!(!never.are_possible());
        let always = Pauses::new(PausesChoice::parse("70"));
        assert!(always.are_possible());
        for _ in 0..1_000 {
            always.end_turn(0);
            assert_eq!(always.next(), Some(Duration::from_micros(70)));
        }
        assert_eq!(PausesChoice::parse(""), PausesChoice::Usual);
    }
}
